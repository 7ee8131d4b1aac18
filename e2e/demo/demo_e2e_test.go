//go:build e2e

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/e2e/report"
	"github.com/scalehook/scalehook/internal/testenv"
)

// programs builds what the demo needs, once, into a folder of the test.
func programs(t *testing.T) string {
	t.Helper()
	need := []testenv.Requirement{testenv.Root, testenv.Program("haproxy"), testenv.Program("prometheus"), testenv.Program("prometheus-alertmanager")}
	for _, p := range lab.Programs() {
		need = append(need, testenv.Program(p))
	}
	testenv.Need(t, need...)
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "libvirt_dlopen", "-o", dir+"/", "./cmd/...", "./e2e/demo")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	return dir
}

// runDemo runs the demo and returns its report, its output and whether it passed.
func runDemo(t *testing.T, bin string, args ...string) (report.Run, string, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "demo-report.json")
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "demo"), append([]string{"--bin", bin, "--report", file}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	raw, rerr := os.ReadFile(file)
	if rerr != nil {
		t.Fatalf("no report: %v\n%s", rerr, out.String())
	}
	var rep report.Run
	if err := json.Unmarshal(raw, &rep); err != nil {
		t.Fatalf("report: %v", err)
	}
	return rep, out.String(), err == nil
}

func nothingLeft(t *testing.T) {
	t.Helper()
	left, err := lab.CleanupAll(t.Context(), os.TempDir(), nil)
	if err != nil {
		t.Errorf("look for what is left: %v", err)
	}
	for _, l := range left {
		if strings.Contains(l, "demo") {
			t.Errorf("left behind: %s", l)
		}
	}
}

func TestDemo(t *testing.T) {
	bin := programs(t)

	t.Run("both scenarios come by their alerts and lose no request", func(t *testing.T) {
		rep, out, passed := runDemo(t, bin)
		if !passed || !rep.Passed || len(rep.Scenarios) != 2 {
			t.Fatalf("the demo failed:\n%s", out)
		}
		for _, s := range rep.Scenarios {
			if s.Requests.Sent == 0 || s.Requests.Lost != 0 || s.Requests.Answered != s.Requests.GuestsCounted || len(s.Activities) < 4 || len(s.Requests.PerVM) < 3 {
				t.Errorf("%s: %+v, %d activities", s.Name, s.Requests, len(s.Activities))
			}
		}
		nothingLeft(t)
	})

	for _, fault := range faults() {
		t.Run("it turns red by "+fault, func(t *testing.T) {
			rep, out, passed := runDemo(t, bin, "--scenario", "handover", "--fault", fault)
			if passed || rep.Passed {
				t.Fatalf("the demo passed in spite of the fault:\n%s", out)
			}
			if len(rep.Scenarios) != 1 || rep.Scenarios[0].Requests.Lost == 0 {
				t.Errorf("it failed for another reason than a lost request:\n%s", out)
			}
			nothingLeft(t)
		})
	}

	t.Run("it cleans up when it is interrupted", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "demo"), "--bin", bin, "--report", filepath.Join(t.TempDir(), "r.json"))
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, 2*time.Minute, "the demo fills its group", func() error {
			raw, err := os.ReadFile(out.Name())
			if err == nil && !bytes.Contains(raw, []byte("filled up to min")) {
				err = os.ErrNotExist
			}
			return err
		})
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err == nil {
			t.Error("an interrupted demo must not pass")
		}
		nothingLeft(t)
	})
}
