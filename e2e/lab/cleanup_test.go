package lab

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCleanupAllRemovesOnlyDeadLabs(t *testing.T) {
	own, err := readStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	folder := func(name string, notes any) string {
		dir := filepath.Join(base, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if notes != nil {
			raw, err := json.Marshal(notes)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "lab.json"), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	kept := []string{
		folder(dirPrefix+"no-notes", nil),
		folder(dirPrefix+"alive", state{ID: dirPrefix + "alive", Owner: os.Getpid(), OwnerStarted: own.started}),
		folder(dirPrefix+"copied", state{ID: dirPrefix + "another"}),
		folder("somebody-elses", state{ID: "somebody-elses"}),
	}
	dead := []string{
		folder(dirPrefix+"dead", state{ID: dirPrefix + "dead", Owner: 1 << 30}),
		// The number of its process was given to another since.
		folder(dirPrefix+"reused", state{ID: dirPrefix + "reused", Owner: os.Getpid(), OwnerStarted: "1", Init: os.Getpid(), InitStarted: "1"}),
	}
	marked := exec.CommandContext(t.Context(), "sleep", "600")
	marked.Env = []string{markVariable + "=" + dirPrefix + "dead"}
	stranger := exec.CommandContext(t.Context(), "sleep", "600")
	stranger.Env = []string{markVariable + "=" + dirPrefix + "deadly"}
	for _, cmd := range []*exec.Cmd{marked, stranger} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- marked.Wait() }() // a zombie would still be there for CleanupAll

	removed, err := CleanupAll(context.WithoutCancel(t.Context()), base, slog.New(slog.DiscardHandler))
	if diff := cmp.Diff(dead, removed); diff != "" || err != nil {
		t.Errorf("error %v; removed (-want +got):\n%s", err, diff)
	}
	for _, dir := range kept {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("%s is gone: %v", dir, err)
		}
	}
	if err := <-ended; err == nil {
		t.Error("the dead lab's process ended by itself")
	}
	if _, err := readStat(stranger.Process.Pid); err != nil {
		t.Errorf("a process of another lab was ended: %v", err)
	}
	_ = stranger.Process.Kill()
	_ = stranger.Wait()
}

func TestSnapshotNamesWhatWasLeft(t *testing.T) {
	before := Snapshot{Domains: []string{"base"}, Volumes: []string{"images/base"}, Leases: []string{"192.0.2.1 base"}}
	after := Snapshot{
		Domains: []string{"base", "web-1"}, Volumes: []string{"images/base", "images/seed-1"}, Files: []string{"/f"},
		Leases: []string{"192.0.2.2 web-1"}, Servers: []string{"haproxy/web/web-1"}, Guests: []string{"web-1"},
	}
	want := []string{"domain web-1", "volume images/seed-1", "file /f", "server haproxy/web/web-1", "VM process web-1"}
	if diff := cmp.Diff(want, after.Left(before)); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	if left := before.Left(after); len(left) != 0 {
		t.Errorf("left %v, want nothing", left)
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	for name, opts := range map[string]Options{
		"no name":               {},
		"a name with a slash":   {Name: "a/b"},
		"a name that is long":   {Name: "a-very-long-name"},
		"a folder below /run":   {Name: "a", Dir: "/run/user/0"},
		"/run itself":           {Name: "a", Dir: "/run"},
		"a name with a capital": {Name: "Lab"},
	} {
		if err := opts.validate(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
