package debian_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
)

// unit is a service's file: its settings by name, in order.
type unit map[string][]string

func readUnit(t *testing.T, b *box, name string) unit {
	t.Helper()
	u := unit{}
	for line := range strings.Lines(b.read(t, "/lib/systemd/system/"+name+".service")) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			u[key] = append(u[key], value)
		}
	}
	return u
}

func (u unit) one(t *testing.T, key string) string {
	t.Helper()
	if len(u[key]) != 1 {
		t.Fatalf("%s: %q, want one", key, u[key])
	}
	return u[key][0]
}

// service is a unit's program, run as systemd would: by its ExecStart, as its user
// with that one's own groups, without capabilities, on a system that is read-only but
// for the unit's own folder, and with a socket to be told at.
type service struct {
	*testenv.Process
	cmd  *exec.Cmd
	conn *net.UnixConn
	told []string
}

// The calls stay as they are: filters of system calls are the one part of the unit
// that only systemd sets up.
const serviceScript = `set -e
name=$1 user=$2 state=$3
shift 3
echo $$ >"/run/$name.pid"
if [ -n "$state" ]; then
	install -d -m 700 -o "$user" -g "$user" "/var/lib/$state"
	mount --bind "/var/lib/$state" "/var/lib/$state"
fi
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -o remount,bind,ro /
mount -o remount,bind,ro /run
umask 077
exec setpriv --reuid="$user" --regid="$user" --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
`

// startService starts a service that is there until the test whole ends.
func startService(t, whole *testing.T, b *box, name string) *service {
	t.Helper()
	u := readUnit(t, b, name)
	socket := "/run/notify-" + name
	_ = os.Remove(b.path(socket))
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: b.path(socket), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	whole.Cleanup(func() { _ = conn.Close() })
	if err := os.Chmod(b.path(socket), 0o666); err != nil {
		t.Fatal(err)
	}
	args := []string{"unshare", "--mount", "sh", "-c", serviceScript, "sh", name, u.one(t, "User"), strings.Join(u["StateDirectory"], "")}
	for word := range strings.FieldsSeq(u.one(t, "ExecStart")) {
		if word == "$ARGS" {
			args = append(args, defaultArgs(t, b, strings.TrimPrefix(u.one(t, "EnvironmentFile"), "-"))...)
			continue
		}
		args = append(args, word)
	}
	cmd := b.command(context.WithoutCancel(whole.Context()), args...)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+socket, "WATCHDOG_USEC=1000000")
	s := &service{cmd: cmd, conn: conn}
	s.Process = testenv.Start(whole, cmd, nil)
	return s
}

// defaultArgs is ARGS of an environment file.
func defaultArgs(t *testing.T, b *box, file string) []string {
	t.Helper()
	for line := range strings.Lines(b.read(t, file)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "ARGS="); ok {
			return strings.Fields(strings.Trim(value, `"`))
		}
	}
	return nil
}

// await waits until the service has told a state.
func (s *service) await(t *testing.T, state string) {
	t.Helper()
	end := time.Now().Add(time.Minute)
	for buf := make([]byte, 4096); ; {
		if at := slices.Index(s.told, state); at >= 0 {
			s.told = s.told[at+1:]
			return
		}
		over := false
		select {
		case <-s.Done():
			over = true
		default:
		}
		if err := s.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, err := s.conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) && !over && time.Now().Before(end) {
			continue
		}
		if err != nil {
			t.Fatalf("waiting for %s: %v\n%s", state, err, s.Output())
		}
		s.told = append(s.told, strings.Fields(string(buf[:n]))...)
	}
}

// signal sends one by its name, as the unit's ExecReload and systemd do.
func (s *service) signal(t *testing.T, b *box, signal, name string) {
	t.Helper()
	b.run(t, "/bin/kill", "-"+signal, strings.TrimSpace(b.read(t, "/run/"+name+".pid")))
}

// ended waits for the end of the service, which has to be without an error.
func (s *service) ended(t *testing.T) {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(time.Minute):
		t.Fatalf("it does not end:\n%s", s.Output())
	}
	if !s.cmd.ProcessState.Success() {
		t.Errorf("it ended with %v:\n%s", s.cmd.ProcessState, s.Output())
	}
}
