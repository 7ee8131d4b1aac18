package debian_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
)

// unit is a service's file: its settings by name, in order.
type unit map[string][]string

func readUnit(t *testing.T, b host, name string) unit {
	t.Helper()
	u := unit{}
	for line := range strings.Lines(b.Read(t, "/lib/systemd/system/"+name+".service")) {
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

// duration is a span of systemd's, such as 2min; def is what an absent one means.
func (u unit) duration(t *testing.T, key string, def time.Duration) time.Duration {
	t.Helper()
	if len(u[key]) == 0 {
		return def
	}
	d, err := time.ParseDuration(strings.ReplaceAll(u.one(t, key), "min", "m"))
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return d
}

// service is a unit's program, run as systemd would: by its ExecStart, as its user
// with that one's own groups, without capabilities, on a system that is read-only but
// for the unit's own folders, and with a socket to be told at. What the unit does not
// say it does not get.
type service struct {
	*testenv.Process
	name string
	unit unit
	cmd  *exec.Cmd
	told chan string
	fed  time.Duration // what systemd waits for at most between two signs of life
}

// faster is by how much the watchdog's time runs faster here.
const faster = 60

// The calls stay as they are: filters of system calls are the one part of the unit
// that only systemd sets up.
const serviceScript = `set -e
name=$1 user=$2 group=$3 mask=$4 state=$5 mode=$6 runtime=$7
shift 7
echo $$ >"/run/$name.pid"
for dir in $state; do
	install -d -m "$mode" -o "$user" -g "$group" "/var/lib/$dir"
	mount --bind "/var/lib/$dir" "/var/lib/$dir"
	export STATE_DIRECTORY="/var/lib/$dir"
done
for dir in $runtime; do
	install -d -m 755 -o "$user" -g "$group" "/run/$dir"
	mount --bind "/run/$dir" "/run/$dir"
	export RUNTIME_DIRECTORY="/run/$dir"
done
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -o remount,bind,ro /
mount -o remount,bind,ro /run
umask "$mask"
if [ -n "${WATCHDOG_USEC:-}" ]; then export WATCHDOG_PID=$$; fi
exec setpriv --reuid="$user" --regid="$group" --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- "$@"
`

// startService starts a service that is there until the test whole ends.
func startService(t, whole *testing.T, b host, name string) *service {
	t.Helper()
	u := readUnit(t, b, name)
	// The harness does these always.
	for key, want := range map[string]string{
		"Type": "notify", "ProtectSystem": "strict", "PrivateTmp": "yes", "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "AmbientCapabilities": "",
	} {
		if got := u.one(t, key); got != want {
			t.Fatalf("%s: %s=%s, which this harness does not do", name, key, got)
		}
	}
	socket := "/run/notify-" + name
	_ = os.Remove(b.Path(socket))
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: b.Path(socket), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	whole.Cleanup(func() { _ = conn.Close() })
	if err := os.Chmod(b.Path(socket), 0o666); err != nil {
		t.Fatal(err)
	}
	mode := "0755"
	if len(u["StateDirectoryMode"]) > 0 {
		mode = u.one(t, "StateDirectoryMode")
	}
	args := []string{
		"unshare", "--mount", "sh", "-c", serviceScript, "sh", name, u.one(t, "User"), u.one(t, "Group"), u.one(t, "UMask"),
		strings.Join(u["StateDirectory"], " "), mode, strings.Join(u["RuntimeDirectory"], " "),
	}
	for word := range strings.FieldsSeq(u.one(t, "ExecStart")) {
		if word == "$ARGS" {
			args = append(args, defaultArgs(t, b, strings.TrimPrefix(u.one(t, "EnvironmentFile"), "-"))...)
			continue
		}
		args = append(args, word)
	}
	s := &service{name: name, unit: u, told: hear(conn), fed: u.duration(t, "WatchdogSec", 0) / faster}
	s.cmd = b.Command(context.WithoutCancel(whole.Context()), args...)
	s.cmd.Env = append(s.cmd.Env, "NOTIFY_SOCKET="+socket)
	if s.fed > 0 {
		s.cmd.Env = append(s.cmd.Env, fmt.Sprintf("WATCHDOG_USEC=%d", s.fed.Microseconds()))
	}
	s.Process = testenv.Start(whole, s.cmd, nil)
	return s
}

// ready waits until the service is, as long as its unit gives it and a minute at most.
func (s *service) ready(t *testing.T) {
	t.Helper()
	s.within(t, min(time.Minute, s.unit.duration(t, "TimeoutStartSec", 90*time.Second)), "READY=1")
}

// watched wants signs of life, and one within half of the time that the unit gives.
// That the slowest comes in time depends on what else the machine does.
func (s *service) watched(t *testing.T) {
	t.Helper()
	if s.fed == 0 {
		t.Fatalf("%s has no WatchdogSec", s.name)
	}
	s.await(t, "WATCHDOG=1")
	shortest := time.Hour
	for range 3 {
		before := time.Now()
		s.await(t, "WATCHDOG=1")
		shortest = min(shortest, time.Since(before))
	}
	if shortest > s.fed/2 {
		t.Errorf("%s: %s between two signs of life, want %s at most, of WatchdogSec=%s", s.name, shortest*faster, s.fed*faster/2, s.unit.one(t, "WatchdogSec"))
	}
}

// defaultArgs is ARGS of an environment file.
func defaultArgs(t *testing.T, b host, file string) []string {
	t.Helper()
	for line := range strings.Lines(b.Read(t, file)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "ARGS="); ok {
			return strings.Fields(strings.Trim(value, `"`))
		}
	}
	return nil
}

// await waits until the service has told a state, or one that begins like that where
// it ends with an equals sign.
func (s *service) await(t *testing.T, state string) {
	t.Helper()
	s.within(t, time.Minute, state)
}

func (s *service) within(t *testing.T, limit time.Duration, state string) {
	t.Helper()
	over, late := s.Done(), time.After(limit)
	for {
		select {
		case told := <-s.told:
			if told == state || (strings.HasSuffix(state, "=") && strings.HasPrefix(told, state)) {
				return
			}
		case <-over: // what it told before is on its way
			over, late = nil, time.After(time.Second)
		case <-late:
			t.Fatalf("waiting for %s:\n%s", state, s.Output())
		}
	}
}

// hear takes what a service tells as it comes: one that is not heard stands still once
// the socket is full.
func hear(conn *net.UnixConn) chan string {
	const enough = 1 << 14 // signs of life, one a second, in a test of minutes
	told := make(chan string, enough)
	go func() {
		for buf := make([]byte, 4096); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			for said := range strings.FieldsSeq(string(buf[:n])) {
				told <- said
			}
		}
	}()
	return told
}

// stop ends the service, which has to say so and to end well.
func (s *service) stop(t *testing.T, b host) {
	t.Helper()
	b.Run(t, "/bin/kill", "-TERM", strings.TrimSpace(b.Read(t, "/run/"+s.name+".pid")))
	s.stopped(t)
}

// stopped waits for the end that somebody asked for.
func (s *service) stopped(t *testing.T) {
	t.Helper()
	s.await(t, "STOPPING=1")
	s.ended(t)
}

// refused waits for the end of a service that cannot start, and returns what it said.
func (s *service) refused(t *testing.T) string {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(time.Minute):
		t.Fatalf("it does not end:\n%s", s.Output())
	}
	if s.cmd.ProcessState.Success() {
		t.Errorf("it ended well:\n%s", s.Output())
	}
	return s.Output()
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
