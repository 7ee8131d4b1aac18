//go:build tutorial

package tutorial

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/box"
	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/internal/testenv"
)

// What the project promises to a new user.
const (
	filesAtMost        = 3
	firstVerdictWithin = 5 * time.Minute
	firstStepWithin    = 10 * time.Minute
)

// The load, as in the demo: some 50 ms of an emulated guest's CPU for each request,
// from as many clients as keep two of them busy.
const (
	busyClients = 6
	workUnits   = 20000
)

// needs are those of the box and of what the pages type.
func needs(t *testing.T) {
	t.Helper()
	testenv.Need(t, box.Needs(append(guest.Programs(), "setpriv", "patch", "curl", "openssl", "libvirtd", "virsh", "qemu-system-x86_64",
		"dnsmasq", "haproxy", "prometheus", "prometheus-alertmanager", "promtool", "amtool", "strip", "systemd-sysusers", "deb-systemd-helper")...)...)
}

func TestTheTutorial(t *testing.T) {
	needs(t)
	blocks := doc.Read(t, pagePath)
	packages := pack(t)
	b := newSite(t)
	// A guest that gets no CPU, of a machine with few, is not busy.
	stopNice := lab.KeepNice(b.PID(), -5, -10)
	defer stopNice()
	b.furnish(t)
	b.offer(t, packages)

	filesBefore := b.files(t)
	daemonsBefore := map[string]string{}
	for unit := range existing() {
		daemonsBefore[unit] = b.daemon(t, unit)
	}
	vmBefore, volumesBefore := b.Run(t, "virsh", "dumpxml", "web-1"), b.Run(t, "virsh", "vol-list", "default")

	gen, err := loadgen.New(loadgen.Options{Target: "127.0.0.1:80", Dial: b.Dial, WorkUnits: workUnits})
	if err != nil {
		t.Fatal(err)
	}
	loadContext, stopLoad := context.WithCancel(t.Context())
	loadEnded := make(chan struct{})
	go func() { defer close(loadEnded); gen.Run(loadContext) }()
	t.Cleanup(func() { stopLoad(); <-loadEnded })

	// The clock.
	began := time.Now()
	clock := map[string]time.Duration{}
	var order []string
	note := func(what string) {
		clock[what] = time.Since(began)
		order = append(order, what)
		t.Logf("%6.1f s  %s", clock[what].Seconds(), what)
	}
	var edited []string
	err = doc.Runner{
		Command: b.Session(t.Context(), "/root/scalehook"),
		Each:    6 * time.Minute,
		Instead: map[string]func(context.Context) error{
			"load":    func(context.Context) error { gen.SetLoad(busyClients); return nil },
			"no load": func(context.Context) error { gen.SetLoad(0); return nil },
		},
		Done: func(block doc.Block, since time.Time, output string) {
			t.Logf("%6.1f s  line %d took %.1f s\n%s%s", time.Since(began).Seconds(), block.Line, time.Since(since).Seconds(), block.Text, tail(output))
			for _, at := range []struct{ line, what string }{
				{"apt-get install", "installed"},
				{"systemctl reload prometheus ", "three files edited, three daemons reloaded"},
				{"scalehook doctor", "nothing is wrong on the whole way"},
				{"scalehook explain web", "the first verdict, in observe mode"},
				{"scalehook instances web", "the group is filled to its min"},
				{"hey ", "load"},
				{"scalehook activities web", "the first automatic scale-out"},
				{"pkill hey", "no load"},
				{"scalehook activities web", "the first automatic scale-in"},
				{"virsh list --all", "the VMs are gone"},
				{"apt-get purge", "all taken back"},
			} {
				if _, had := clock[at.what]; !had && strings.Contains(block.Text, at.line) {
					note(at.what)
					break
				}
			}
			if strings.Contains(block.Text, "systemctl reload scalehook") && edited == nil {
				edited = changed(filesBefore, b.files(t))
			}
		},
	}.Run(t.Context(), blocks)
	if err != nil {
		t.Logf("scalehook's log ends:\n%s", b.tailOf("/run/units/scalehook.log"))
		t.Fatalf("%s: %v", pagePath, err)
	}

	stopLoad()
	<-loadEnded
	total := gen.Totals()
	summary := loadgen.Summarize(gen.Records(), nil)

	if len(edited) > filesAtMost {
		t.Errorf("%d files that were there are edited, want at most %d: %q", len(edited), filesAtMost, edited)
	}
	want := []string{"/etc/haproxy/haproxy.cfg", "/etc/prometheus/alertmanager.yml", "/etc/prometheus/prometheus.yml"}
	if diff := cmp.Diff(want, edited); diff != "" {
		t.Errorf("edited files (-want +got):\n%s", diff)
	}
	for unit, before := range daemonsBefore {
		if now := b.daemon(t, unit); now != before {
			t.Errorf("%s was restarted: %s before, %s now", unit, before, now)
		}
	}
	if got := clock["the first verdict, in observe mode"]; got > firstVerdictWithin {
		t.Errorf("the first verdict took %s, want at most %s", got, firstVerdictWithin)
	}
	if got := clock["the first automatic scale-out"]; got > firstStepWithin {
		t.Errorf("the first automatic scale-out took %s, want at most %s", got, firstStepWithin)
	}
	if total.Lost > 0 || total.Sent == 0 {
		t.Errorf("%d of %d requests were lost", total.Lost, total.Sent)
		for _, r := range gen.Records() {
			if r.Lost() {
				t.Logf("%s %+v", r.Start.Sub(began).Round(time.Millisecond), r)
			}
		}
	}
	for _, server := range []string{"web-1", "autoscale-1", "autoscale-2"} {
		if summary.Servers[server] == 0 {
			t.Errorf("%s answered nothing: %v", server, summary.Servers)
		}
	}
	if diff := cmp.Diff(filesBefore, b.files(t)); diff != "" {
		t.Errorf("files that were there are not as they were (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(vmBefore, b.Run(t, "virsh", "dumpxml", "web-1")); diff != "" {
		t.Errorf("web-1 is not as it was (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(volumesBefore, b.Run(t, "virsh", "vol-list", "default")); diff != "" {
		t.Errorf("volumes (-before +after):\n%s", diff)
	}

	t.Logf("since the first command:")
	for _, what := range order {
		t.Logf("    %5.0f s  %s", clock[what].Seconds(), what)
	}
	t.Logf("files edited: %d; daemons restarted: 0; requests: %d sent, %d lost; answered by %v", len(edited), total.Sent, total.Lost, summary.Servers)
}

// pack makes the packages, as make deb does.
func pack(t *testing.T) []string {
	t.Helper()
	bin, out := t.TempDir(), t.TempDir()
	for _, args := range [][]string{
		{"go", "build", "-trimpath", "-tags", "libvirt_dlopen", "-o", bin + "/", "./cmd/..."},
		{"tools/deb", "--bin", bin, "--out", out, "--version", "1.0.0-1", "--compress", "none"},
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1790000000")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, said)
		}
	}
	files, err := filepath.Glob(filepath.Join(out, "*.deb"))
	if err != nil || len(files) != 2 {
		t.Fatalf("packages: %q %v", files, err)
	}
	return files
}

// files are what the existing stack has in /etc, by hash.
func (b site) files(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range []string{"/etc/prometheus", "/etc/haproxy", "/etc/libvirt", "/etc/default"} {
		err := filepath.WalkDir(b.Path(dir), func(file string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(file)
			sum := sha256.Sum256(text)
			out[strings.TrimPrefix(file, b.Path(""))] = hex.EncodeToString(sum[:])
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// changed are the files that were there before and are others now.
func changed(before, after map[string]string) []string {
	var out []string
	for file, hash := range before {
		if after[file] != hash {
			out = append(out, file)
		}
	}
	slices.Sort(out)
	return out
}

func (b site) tailOf(name string) string {
	text, err := os.ReadFile(b.Path(name))
	if err != nil {
		return err.Error()
	}
	return tail(string(text))
}

func tail(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > 25 {
		lines = append([]string{fmt.Sprintf("… %d lines before", len(lines)-25)}, lines[len(lines)-25:]...)
	}
	return strings.Join(lines, "\n")
}
