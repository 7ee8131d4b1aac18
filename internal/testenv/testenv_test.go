package testenv_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder notes how the code under test ended its test.
type recorder struct {
	testing.TB

	ended string
}

func (r *recorder) Helper()                   {}
func (r *recorder) Skipf(f string, a ...any)  { r.ended = "skip: " + fmt.Sprintf(f, a...) }
func (r *recorder) Fatalf(f string, a ...any) { r.ended = "fail: " + fmt.Sprintf(f, a...) }

func TestNeed(t *testing.T) {
	missing := func() error { return errors.New("needs a thing") }
	present := func() error { return nil }
	noRoot := func() error { return fmt.Errorf("%w", testenv.ErrNeedsRoot) }
	tests := map[string]struct {
		ci, noSkip   string
		rootLater    string
		requirements []testenv.Requirement
		want         string
	}{
		"runs when all is there": {requirements: []testenv.Requirement{present, testenv.Program("sh"), testenv.Library("libc.so.6")}},
		"skips and says every reason": {
			requirements: []testenv.Requirement{missing, present, testenv.Program("no-such-program"), testenv.Library("libnone.so.9")},
			want:         "skip: skipped: needs a thing; needs the program no-such-program; needs the library libnone.so.9",
		},
		"fails in continuous integration": {
			ci: "true", requirements: []testenv.Requirement{missing},
			want: "fail: cannot run here, and nothing may be skipped: needs a thing",
		},
		"fails where skips are forbidden": {
			noSkip: "1", requirements: []testenv.Requirement{testenv.File("/no/such/file", "the image")},
			want: "fail: cannot run here, and nothing may be skipped: needs /no/such/file (the image)",
		},
		"leaves what needs root to the run as root": {
			ci: "true", rootLater: "1", requirements: []testenv.Requirement{missing, noRoot},
			want: "skip: left for the run as root: needs a thing; needs root",
		},
		"fails for another reason than root": {
			ci: "true", rootLater: "1", requirements: []testenv.Requirement{missing},
			want: "fail: cannot run here, and nothing may be skipped: needs a thing",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CI", test.ci)
			t.Setenv("SCALEHOOK_NO_SKIP", test.noSkip)
			t.Setenv("SCALEHOOK_ROOT_LATER", test.rootLater)
			r := &recorder{TB: t}
			testenv.Need(r, test.requirements...)
			if r.ended != test.want {
				t.Errorf("ended with %q, want %q", r.ended, test.want)
			}
		})
	}
}

func TestEventuallyReportsTheLastError(t *testing.T) {
	calls := 0
	testenv.Eventually(t, 10*time.Second, "the third call", func() error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if calls != 3 {
		t.Errorf("called %d times, want 3", calls)
	}
	r := &recorder{TB: t}
	testenv.Eventually(r, time.Millisecond, "a miracle", func() error { return errors.New("no miracle") })
	if want := "fail: waiting for a miracle, 1ms: no miracle"; r.ended != want {
		t.Errorf("ended with %q, want %q", r.ended, want)
	}
}

func TestStartEndsTheWholeGroup(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	var child int
	t.Run("a shell that ignores SIGTERM, with a child", func(t *testing.T) {
		script := `trap "" TERM; sleep 300 & echo $! >"$0.part"; mv "$0.part" "$0"; echo up; wait`
		process := testenv.Start(t, exec.CommandContext(t.Context(), "sh", "-c", script, pidFile), func() error {
			text, err := os.ReadFile(pidFile)
			if err != nil {
				return err
			}
			child, err = strconv.Atoi(strings.TrimSpace(string(text)))
			return err
		})
		testenv.Eventually(t, 10*time.Second, "its output", func() error {
			if got := process.Output(); got != "up\n" {
				return fmt.Errorf("output is %q", got)
			}
			return nil
		})
		process.Kill(t)
		process.Kill(t)
	})
	testenv.Eventually(t, 10*time.Second, "the end of the child", func() error {
		if err := syscall.Kill(child, 0); !errors.Is(err, syscall.ESRCH) && !zombie(child) {
			return fmt.Errorf("pid %d is alive: %w", child, err)
		}
		return nil
	})
}

// zombie reports whether the process is dead and only waits to be reaped.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func TestStartSeesAnEarlyEnd(t *testing.T) {
	if os.Getenv("TESTENV_EARLY_END") == "1" {
		testenv.Start(t, exec.CommandContext(t.Context(), "sh", "-c", "echo broken configuration; exit 3"),
			func() error { return errors.New("never ready") })
		return
	}
	began := time.Now()
	self := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStartSeesAnEarlyEnd$", "-test.v")
	self.Env = append(os.Environ(), "TESTENV_EARLY_END=1")
	output, err := self.CombinedOutput()
	if err == nil {
		t.Fatalf("the test passed although its daemon ended:\n%s", output)
	}
	for _, want := range []string{"sh ended before it was ready: exit status 3", "broken configuration"} {
		if !strings.Contains(string(output), want) {
			t.Errorf("output lacks %q:\n%s", want, output)
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v: waited for a daemon that was gone", took)
	}
}

func TestFreePortCanBeListenedOn(t *testing.T) {
	address := testenv.FreeAddress(t)
	if err := testenv.Listening(address)(); err == nil {
		t.Errorf("%s is said to be free, but something listens there", address)
	}
}
