package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scalehook/scalehook/internal/testenv"
)

// topology is a guest behind br-ex, its host and the world, each a network
// namespace without a name: they go when the test does.
type topology struct {
	guest, host, world *namespace
	root               string // where the host's files are written to
}

type namespace struct{ net *os.File }

const (
	guestAddress = "10.20.20.5"
	hostAddress  = "192.0.2.1" // of ens33
	worldAddress = "192.0.2.2"
)

func newTopology(t *testing.T) *topology {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.Program("nft"), testenv.Program("ip"), testenv.Program("iptables-nft"), testenv.Program("iptables-legacy"))
	n := &topology{guest: newNamespace(t), host: newNamespace(t), world: newNamespace(t), root: t.TempDir()}
	n.host.sh(t, fmt.Sprintf(`
		ip link set lo up
		ip link add br-ex type bridge
		ip link set br-ex up
		ip addr add 10.20.20.1/24 dev br-ex
		ip link add port type veth peer name eth0 netns %s
		ip link set port master br-ex up
		ip link add ens33 type veth peer name eth0 netns %s
		ip addr add %s/24 dev ens33
		ip link set ens33 up
		ip route add default via %s dev ens33 metric 100
		echo 0 > /proc/sys/net/ipv4/ip_forward`, n.guest.path(), n.world.path(), hostAddress, worldAddress))
	n.guest.sh(t, `ip link set lo up; ip addr add `+guestAddress+`/24 dev eth0; ip link set eth0 up; ip route add default via 10.20.20.1`)
	n.world.sh(t, `ip link set lo up; ip addr add `+worldAddress+`/24 dev eth0; ip link set eth0 up; ip route add 10.20.20.0/24 via `+hostAddress)
	return n
}

func newNamespace(t *testing.T) *namespace {
	t.Helper()
	var n namespace
	onThread(t, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		n.net, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	t.Cleanup(func() { _ = n.net.Close() })
	return &n
}

func (n *namespace) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.net.Fd()) }

// onThread runs fn on a thread of its own and brings the thread home.
func onThread(t testing.TB, fn func() error) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			done <- err
			return
		}
		defer home.Close()
		err = fn()
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			done <- errors.Join(err, back) // the thread ends with its goroutine
			return
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// in runs fn inside the namespace.
func (n *namespace) in(t testing.TB, fn func() error) {
	t.Helper()
	onThread(t, func() error {
		if err := unix.Setns(int(n.net.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return fn()
	})
}

// sh runs a script inside and returns what it printed.
func (n *namespace) sh(t testing.TB, script string) string {
	t.Helper()
	var out bytes.Buffer
	n.in(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-ec", "PATH=$PATH:/usr/sbin:/sbin\n"+script)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w\n%s", script, err, out.String())
		}
		return nil
	})
	return out.String()
}

func (n *topology) config() Config { return Config{Bridge: DefaultBridge, Root: n.root} }

func (n *topology) apply(t testing.TB, c Config) (report Report, err error) {
	t.Helper()
	n.host.in(t, func() error {
		report, err = Apply(t.Context(), c, false)
		return nil
	})
	return report, err
}

func (n *topology) mustApply(t testing.TB, c Config) Report {
	t.Helper()
	report, err := n.apply(t, c)
	if err != nil {
		t.Fatalf("%v\n%+v", err, report)
	}
	return report
}

func (n *topology) mustRemove(t testing.TB) (report Report) {
	t.Helper()
	n.host.in(t, func() (err error) {
		report, err = Remove(t.Context(), n.config(), false)
		return err
	})
	return report
}

func (n *topology) show(t testing.TB) (status Status) {
	t.Helper()
	n.host.in(t, func() (err error) {
		status, err = Show(t.Context(), n.config())
		return err
	})
	return status
}

// connect dials from one namespace to a listener in another and returns who the
// listener thinks it was. Patience is for what must arrive.
func connect(t testing.TB, from, to *namespace, address string, patience time.Duration) (seen netip.Addr, err error) {
	t.Helper()
	var listener net.Listener
	to.in(t, func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp4", net.JoinHostPort(address, "0"))
		return err
	})
	defer listener.Close()
	got := make(chan netip.Addr, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		got <- netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr()
		_, _ = conn.Write([]byte("hello"))
	}()
	from.in(t, func() error {
		var conn net.Conn
		conn, err = (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp4", listener.Addr().String())
		if err != nil {
			return nil
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		answer := make([]byte, 5)
		_, err = conn.Read(answer)
		return nil
	})
	if err != nil {
		return netip.Addr{}, err
	}
	return <-got, nil
}

// ping sends one echo request from the guest to the world.
func (n *topology) ping(t testing.TB, patience time.Duration) (err error) {
	t.Helper()
	n.guest.in(t, func() error {
		var conn net.PacketConn
		conn, err = (&net.ListenConfig{}).ListenPacket(t.Context(), "ip4:icmp", guestAddress)
		if err != nil {
			return err
		}
		defer conn.Close()
		// Type 8, its checksum, id and sequence.
		if _, err = conn.WriteTo([]byte{8, 0, 0xf7, 0xfd, 0, 1, 0, 1}, &net.IPAddr{IP: net.ParseIP(worldAddress)}); err != nil {
			return nil
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		for answer := make([]byte, 64); ; {
			var size int
			size, _, err = conn.ReadFrom(answer)
			if err != nil || size > 0 && answer[0] == 0 {
				return nil
			}
		}
	})
	return err
}

const (
	patience = 10 * time.Second
	// briefly is how long is waited for what must not come.
	briefly = 250 * time.Millisecond
)

// mustPass: the guest reaches the world, which sees the host.
func (n *topology) mustPass(t testing.TB) {
	t.Helper()
	seen, err := connect(t, n.guest, n.world, worldAddress, patience)
	if err != nil {
		t.Fatalf("the guest does not reach the world: %v\n%s", err, n.ruleset(t))
	}
	if seen.String() != hostAddress {
		t.Errorf("the world sees %v, want %s", seen, hostAddress)
	}
	if err := n.ping(t, patience); err != nil {
		t.Errorf("the guest gets no answer to its ping: %v", err)
	}
}

func (n *topology) mustNotPass(t testing.TB) {
	t.Helper()
	if seen, err := connect(t, n.guest, n.world, worldAddress, briefly); err == nil {
		t.Errorf("the guest reaches the world as %v", seen)
	}
	if err := n.ping(t, briefly); err == nil {
		t.Error("the guest gets an answer to its ping")
	}
}

// mustNotBeReached: nobody from outside begins a connection to the guest.
func (n *topology) mustNotBeReached(t testing.TB) {
	t.Helper()
	if seen, err := connect(t, n.world, n.guest, guestAddress, briefly); err == nil {
		t.Errorf("the world (%v) reaches the guest", seen)
	}
}

// ruleset is all rules and the settings, without counters, handles and times.
func (n *topology) ruleset(t testing.TB) string {
	t.Helper()
	text := n.exact(t)
	for pattern, with := range map[string]string{
		`(, )?"handle": \d+`:                     "",
		`\{"counter": \{[^}]*\}\}(, )?`:          "",
		`packets \d+ bytes \d+`:                  "",
		`\[\d+:\d+\]`:                            "",
		`(?m)^# (Generated|Completed|Warning).*`: "",
	} {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, with)
	}
	return text
}

// exact is the same with all of it but times.
func (n *topology) exact(t testing.TB) string {
	t.Helper()
	text := n.host.sh(t, `nft -j list ruleset; nft list ruleset; iptables-nft-save; iptables-legacy-save
		for f in ip_forward conf/*/forwarding conf/*/accept_redirects; do echo $f $(cat /proc/sys/net/ipv4/$f); done`)
	return regexp.MustCompile(`(?m)^# (Generated|Completed).*`).ReplaceAllString(text, "")
}

// files lists what lies below the host's root.
func (n *topology) files(t testing.TB) (list []string) {
	t.Helper()
	err := filepath.WalkDir(n.root, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != "scalehook-host.lock" {
			list = append(list, strings.TrimPrefix(path, n.root+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// asJSON is for messages.
func asJSON(v any) string {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}
