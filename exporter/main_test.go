package exporter

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/testenv"
)

// runtimeURI is the environment variable with the URI for StartRuntime; it is
// empty except in the process that TestEventLoopLeaksNothing starts.
const runtimeURI = "SCALEHOOK_TEST_RUNTIME_URI"

// TestMain starts libvirt's client library, once per process, around all
// tests, and looks for goroutines that they left behind.
func TestMain(m *testing.M) {
	runtime, err := StartRuntime(cmp.Or(os.Getenv(runtimeURI), DefaultURI))
	if err != nil {
		// The tests that need libvirt say so themselves, see needLibvirt.
		os.Exit(m.Run())
	}
	code := m.Run()
	runtime.Close()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// needLibvirt states that a test needs libvirt's client library with its
// in-process test driver, but no daemon and no root.
func needLibvirt(t testing.TB) {
	t.Helper()
	testenv.Need(t, func() error {
		s, err := openLibvirt("test:///default", keepAlive{Seconds: 5, Count: 2})
		if err != nil {
			return fmt.Errorf("needs libvirt's client library (package libvirt0): %w", err)
		}
		return s.Close()
	})
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
