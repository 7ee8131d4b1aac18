//go:build e2e

package crash_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
)

// watchdog is what systemd waits for at most between two signs of life.
const watchdog = time.Second

// TestSystemdsWatchdog lets the real program stand still at one of its points for
// ever, and counts the signs of life that systemd would get.
func TestSystemdsWatchdog(t *testing.T) {
	program := buildServer(t)
	const times = 6
	for _, c := range []struct {
		name, point string
		fed         bool
	}{
		{"is fed by a server that is well", "", true},
		{"is fed while the provider hangs in its listing", "provider.list.before", true},
		{"is fed while the provider hangs in a launch", "provider.create.after", true},
		{"is fed while the balancer hangs", "balancer.observe.before", true},
		{"is not fed once a change of the store hangs", "step.requested.before", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			file := filepath.Join(dir, "scalehook.yml")
			if err := os.WriteFile(file, []byte(`owner: test
providers: {sim: {simulated: {boot_time: 100ms}}}
balancers: {pool: {simulated: {provider: sim}}}
groups:
  web: {mode: scale_out_only, min: 1, max: 3}
`), 0o600); err != nil {
				t.Fatal(err)
			}
			passed := filepath.Join(dir, "passed")
			cmd := exec.CommandContext(t.Context(), program, "serve", "--config.file", file, "--storage.path", filepath.Join(dir, "data"),
				"--web.listen-address", testenv.FreeAddress(t), "--web.insecure-operator")
			cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+filepath.Join(dir, "notify"), "WATCHDOG_USEC=1000000",
				"SCALEHOOK_FAULT_HANG="+c.point, "SCALEHOOK_FAULT_LOG="+passed)
			server := testenv.Start(t, cmd, func() error {
				text, err := os.ReadFile(passed)
				if err == nil && !bytes.Contains(text, []byte(c.point)) {
					err = errors.New(c.point + " was not passed yet")
				}
				return err
			})
			defer server.Kill(t) // one that hangs does not end by itself

			// From here on it is fed for as long as it likes, or once more at most: a look
			// that was under way.
			fed := 0
			end := time.Now().Add(times * watchdog)
			for buf := make([]byte, 1024); fed < times; {
				if err := conn.SetReadDeadline(end); err != nil {
					t.Fatal(err)
				}
				n, err := conn.Read(buf)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				fed += strings.Count(string(buf[:n]), "WATCHDOG=1")
			}
			if c.fed && fed < times {
				t.Errorf("fed %d times in %s although only a driver hangs\n%s", fed, times*watchdog, server.Output())
			}
			if !c.fed && fed > 1 {
				t.Errorf("fed %d times although the engine stands still\n%s", fed, server.Output())
			}
			if !c.fed && !strings.Contains(server.Output(), "systemd's watchdog is not fed") {
				t.Errorf("the log does not say why:\n%s", server.Output())
			}
		})
	}
}
