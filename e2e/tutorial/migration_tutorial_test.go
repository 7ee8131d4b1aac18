//go:build tutorial

package tutorial

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/testenv"
)

const (
	migrationPath = "../../docs/migration/kvm-autoscaler.md"
	configPath    = "/etc/scalehook/scalehook.yml"
)

// TestTheMigrationFromAScript does what the page says to somebody whose script made a
// VM, beside the tutorial's stack.
func TestTheMigrationFromAScript(t *testing.T) {
	needs(t)
	packages := pack(t)
	b := newSite(t)
	stopNice := lab.KeepNice(b.PID(), -5, -10)
	defer stopNice()
	b.furnish(t)
	b.offer(t, packages)
	b.script(t)
	was := b.Run(t, "virsh", "dumpxml", "--inactive", "autoscale-1")

	blocks := doc.Read(t, pagePath)
	blocks = blocks[:slices.IndexFunc(blocks, func(block doc.Block) bool { return strings.Contains(block.Text, "template import") })]
	group := groupOfThePage(t)
	err := doc.Runner{
		Command: b.Session(t.Context(), "/root/scalehook"),
		Each:    3 * time.Minute,
		Done: func(block doc.Block, since time.Time, output string) {
			t.Logf("line %d took %.1f s\n%s%s", block.Line, time.Since(since).Seconds(), block.Text, tail(output))
			if strings.Contains(block.Text, "scalehook example kvm") {
				before, _, found := strings.Cut(b.Read(t, configPath), "\ngroups:\n")
				if !found {
					t.Fatal("the example has no groups")
				}
				b.Write(t, configPath, before+"\n"+group, 0o644)
			}
		},
	}.Run(t.Context(), append(blocks, doc.Read(t, migrationPath)...))
	if err != nil {
		t.Logf("scalehook's log ends:\n%s", b.tailOf("/run/units/scalehook.log"))
		t.Fatalf("%s: %v", migrationPath, err)
	}
	testenv.Eventually(t, time.Minute, "the marks to be taken off", func() error {
		for _, vm := range []string{"autoscale-1", "autoscale-2"} {
			if text := b.Run(t, "virsh", "dumpxml", "--inactive", vm); strings.Contains(text, "xmlns/instance") {
				return fmt.Errorf("%s has its mark", vm)
			}
		}
		return nil
	})
	// libvirt itself leaves the element that the mark was in.
	is := strings.Replace(b.Run(t, "virsh", "dumpxml", "--inactive", "autoscale-1"), "  <metadata/>\n", "", 1)
	if diff := cmp.Diff(was, is); diff != "" {
		t.Errorf("the script's VM is not as it was (-before +after):\n%s", diff)
	}
	running := strings.Fields(b.Run(t, "virsh", "list", "--name"))
	slices.Sort(running)
	if diff := cmp.Diff([]string{"autoscale-1", "autoscale-2", "web-1"}, running); diff != "" {
		t.Errorf("running VMs (-want +got):\n%s", diff)
	}
}

// script leaves what the script would: its base VM, off, and a clone of it that runs.
func (b site) script(t *testing.T) {
	t.Helper()
	img, err := guest.Build(t.Context(), guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.Put(t, img.Path, images+"base-template.qcow2", 0o644)
	b.define(t, "base-template", "20")
	b.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", images+"base-template.qcow2", "-F", "qcow2", images+"autoscale-1.qcow2")
	b.define(t, "autoscale-1", "21")
	b.Run(t, "virsh", "start", "autoscale-1")
	b.Run(t, "virsh", "pool-refresh", "default")
}

var yamlBlock = regexp.MustCompile("(?s)\n   ```yaml\n(.*?)\n   ```\n")

// groupOfThePage is the configuration that the page's reader writes: the group, with
// the VM that is taken over.
func groupOfThePage(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(migrationPath)
	if err != nil {
		t.Fatal(err)
	}
	var group strings.Builder
	found := yamlBlock.FindAllStringSubmatch(string(text), -1)
	if len(found) != 2 {
		t.Fatalf("the page has %d pieces of configuration, want the group and what is adopted", len(found))
	}
	for _, m := range found {
		for line := range strings.Lines(m[1] + "\n") {
			group.WriteString(strings.TrimPrefix(line, "   "))
		}
	}
	return group.String()
}
