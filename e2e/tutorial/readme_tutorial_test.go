//go:build tutorial

package tutorial

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/doc"
)

// TestREADMEBesideWhatYouHave types README's short form of the tutorial: programs out
// of the tree, no packages, up to the first verdict.
func TestREADMEBesideWhatYouHave(t *testing.T) {
	needs(t)
	blocks := doc.Read(t, "../../README.md")
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "libvirt_dlopen", "-o", bin+"/", "../../cmd/...")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b := newSite(t)
	b.furnish(t)
	for _, program := range []string{"scalehook", "scalehook-exporter"} {
		b.Put(t, filepath.Join(bin, program), filepath.Join("/root/scalehook/bin", program), 0o755)
	}
	files := b.files(t)
	daemons := map[string]string{}
	for unit := range existing() {
		daemons[unit] = b.daemon(t, unit)
	}

	session := b.Session(t.Context(), "/root/scalehook")
	session.WaitDelay = time.Second // the programs in the background hold its output
	ran := 0
	err := doc.Runner{Command: session, Each: 3 * time.Minute, Done: func(block doc.Block, since time.Time, output string) {
		ran++
		t.Logf("line %d took %.1f s\n%s%s", block.Line, time.Since(since).Seconds(), block.Text, tail(output))
	}}.Run(t.Context(), blocks)
	if err != nil {
		t.Fatal(err)
	}
	if ran < 5 {
		t.Errorf("%d blocks were run", ran)
	}
	want := []string{"/etc/haproxy/haproxy.cfg", "/etc/prometheus/alertmanager.yml", "/etc/prometheus/prometheus.yml"}
	if diff := cmp.Diff(want, changed(files, b.files(t))); diff != "" {
		t.Errorf("edited files (-want +got):\n%s", diff)
	}
	for unit, before := range daemons {
		if now := b.daemon(t, unit); now != before {
			t.Errorf("%s was restarted: %s before, %s now", unit, before, now)
		}
	}
	if vms := strings.Fields(b.Run(t, "virsh", "list", "--all", "--name")); len(vms) != 1 || vms[0] != "web-1" {
		t.Errorf("in mode observe there are %q", vms)
	}
}
