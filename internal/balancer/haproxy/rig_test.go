package haproxy_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/balancer/haproxy"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

const (
	group   = "web"
	foreign = "static1"
)

// rig is a real HAProxy in master-worker mode on loopback.
type rig struct {
	t        *testing.T
	dir      string
	stats    string
	master   string
	fragment string
	template string
	front    string // where clients connect
	proc     *testenv.Process
	static   *guest // behind the foreign server
}

// rigOptions vary the HAProxy.
type rigOptions struct {
	fragment bool
	balance  string
	noStatic bool
	tcp      bool // commands come over TCP, as to a HAProxy in a VM
	level    string
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	testenv.Need(t, testenv.Program("haproxy"))
	dir, err := os.MkdirTemp("", "bal") //nolint:usetesting // the path of a socket must fit into 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &rig{
		t: t, dir: dir, stats: filepath.Join(dir, "admin.sock"), master: filepath.Join(dir, "master.sock"),
		front: testenv.FreeAddress(t),
	}
	bind := r.stats + " mode 600 level admin expose-fd listeners"
	if o.level != "" {
		bind = r.stats + " mode 600 level " + o.level
	}
	if o.tcp {
		r.stats, r.master = testenv.FreeAddress(t), testenv.FreeAddress(t)
		bind = r.stats + " level admin"
	}
	balance := o.balance
	if balance == "" {
		balance = "roundrobin"
	}
	static := ""
	if !o.noStatic {
		r.static = newGuest(t)
		static = "server " + foreign + " " + r.static.addr.String() + " check inter 200ms"
	}
	section := "backend web\n    balance " + balance + "\n    option httpchk GET /health\n    " + static + "\n"
	r.write("haproxy.cfg", fmt.Sprintf(`global
    stats socket %s
    nbthread 2
    maxconn 500
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    timeout check 1s
    retries 0
frontend front
    bind %s
    default_backend web
backend other
    server keep 127.0.0.1:9
%s`, bind, r.front, namesake(t, dir)))
	if o.fragment {
		r.template = r.write("web.tmpl", section+"{{range .Servers}}    server {{.Name}} {{.Address}} {{.Options}}\n{{end}}")
		r.fragment = filepath.Join(dir, "web.cfg")
	}
	r.write("web.cfg", section)
	r.start()
	return r
}

// namesake is a frontend with the name of the backend, which HAProxy allows before
// 3.3 and refuses from then on.
func namesake(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), testenv.Path(t, "haproxy"), "-v").Output()
	if err != nil {
		t.Fatalf("haproxy -v: %v", err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "HAProxy version %d.%d", &major, &minor); err != nil {
		t.Fatalf("read the version of haproxy from %q: %v", out, err)
	}
	if major > 3 || major == 3 && minor >= 3 {
		return ""
	}
	return "frontend web\n    bind unix@" + filepath.Join(dir, "web.sock") + "\n    default_backend web\n"
}

func (r *rig) write(name, content string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func (r *rig) start() {
	r.t.Helper()
	cmd := exec.Command(testenv.Path(r.t, "haproxy"), "-W", "-S", r.master,
		"-f", filepath.Join(r.dir, "haproxy.cfg"), "-f", filepath.Join(r.dir, "web.cfg"))
	r.proc = testenv.Start(r.t, cmd, testenv.Listening(r.front))
	// It listens for clients a moment before it listens for commands, and the master
	// after both.
	testenv.Eventually(r.t, 20*time.Second, "the sockets to answer", func() error {
		if r.pid() == "" {
			return errors.New("no answer")
		}
		network := "unix"
		if !strings.HasPrefix(r.master, "/") {
			network = "tcp"
		}
		conn, err := net.DialTimeout(network, r.master, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// restart kills HAProxy as a crash would and starts it again.
func (r *rig) restart() {
	r.t.Helper()
	r.proc.Kill(r.t)
	r.start()
}

// reload reloads HAProxy and waits until the new worker answers.
func (r *rig) reload() {
	r.t.Helper()
	was := r.pid()
	r.proc.Signal(r.t, syscall.SIGUSR2)
	testenv.Eventually(r.t, 20*time.Second, "a new worker", func() error {
		if is := r.pid(); is == was || is == "" {
			return errors.New("the old worker answers")
		}
		return nil
	})
}

func (r *rig) pid() string {
	for line := range strings.Lines(r.ask("show info")) {
		if pid, ok := strings.CutPrefix(line, "Pid: "); ok {
			return strings.TrimSpace(pid)
		}
	}
	return ""
}

// ask sends a command as an operator would; no answer is "".
func (r *rig) ask(command string) string {
	network := "tcp"
	if strings.HasPrefix(r.stats, "/") {
		network = "unix"
	}
	conn, err := net.DialTimeout(network, r.stats, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	io.WriteString(conn, command+"\n")
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func (r *rig) config() haproxy.Config {
	return haproxy.Config{Sockets: []haproxy.Socket{{Address: r.stats, MasterSocket: r.master}}}
}

func (r *rig) poolConfig() haproxy.PoolConfig {
	return haproxy.PoolConfig{
		Backend:  "web",
		Check:    haproxy.Check{Inter: 200 * time.Millisecond, FastInter: 50 * time.Millisecond, DownInter: 50 * time.Millisecond, Rise: 1, Fall: 2},
		Fragment: haproxy.Fragment{File: r.fragment, Template: r.template},
	}
}

func (r *rig) pool() *haproxy.Pool { return r.poolOf(r.config()) }

func (r *rig) poolOf(cfg haproxy.Config) *haproxy.Pool {
	r.t.Helper()
	return r.poolFor(cfg, r.poolConfig())
}

func (r *rig) poolFor(cfg haproxy.Config, pool haproxy.PoolConfig) *haproxy.Pool {
	r.t.Helper()
	b, err := haproxy.New(cfg, "test-owner", slog.New(slog.DiscardHandler))
	if err != nil {
		r.t.Fatal(err)
	}
	p, err := b.Pool(group, pool)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// guest is a real HTTP server that stands for a VM. It answers /health and
// counts every other request; ?hold=1s takes that long. While it is not healthy
// it fails whatever reaches it, as a VM that still boots.
type guest struct {
	server  *httptest.Server
	addr    netip.AddrPort
	healthy atomic.Bool
	served  atomic.Int64
	mu      sync.Mutex
	current int
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	g := &guest{}
	g.healthy.Store(true)
	g.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/health" {
			if !g.healthy.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		if !g.healthy.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		g.served.Add(1)
		g.add(1)
		defer g.add(-1)
		_, _ = io.Copy(io.Discard, q.Body)
		if hold, err := time.ParseDuration(q.URL.Query().Get("hold")); err == nil {
			select {
			case <-time.After(hold):
			case <-q.Context().Done():
				return
			}
		}
		fmt.Fprint(w, g.addr)
	}))
	g.addr = netip.MustParseAddrPort(g.server.Listener.Addr().String())
	t.Cleanup(func() {
		g.server.CloseClientConnections()
		g.server.Close()
	})
	return g
}

func (g *guest) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.current += n
}

func (g *guest) inFlight() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.current
}

func wish(members ...scaling.Member) scaling.Pool {
	return scaling.Pool{Group: group, Members: members}
}

func member(id string, g *guest, state scaling.MemberState) scaling.Member {
	return scaling.Member{ID: id, Name: "autoscale-" + id, Addr: g.addr, State: state}
}

func apply(t *testing.T, b scaling.Balancer, want scaling.Pool) {
	t.Helper()
	if err := b.Apply(t.Context(), want); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

func observe(t *testing.T, b scaling.Balancer) scaling.PoolStatus {
	t.Helper()
	status, err := b.Observe(t.Context())
	if err != nil {
		t.Fatalf("observe: %v", err)
	}
	return status
}

// settle applies the wish again and again, as the engine does, until the member
// is as awaited.
func settle(t *testing.T, b scaling.Balancer, want scaling.Pool, desc string, done func(scaling.PoolStatus) bool) {
	t.Helper()
	testenv.Eventually(t, 20*time.Second, desc, func() error {
		if err := b.Apply(t.Context(), want); err != nil {
			return err
		}
		status, err := b.Observe(t.Context())
		if err != nil {
			return err
		}
		if !done(status) {
			return fmt.Errorf("the pool is %+v", status.Members)
		}
		return nil
	})
}

func is(id string, state scaling.MemberState) func(scaling.PoolStatus) bool {
	return func(s scaling.PoolStatus) bool {
		m, ok := s.Member(id)
		return ok && m.State == state && (state != scaling.MemberReady || m.Health == scaling.HealthUp)
	}
}

func gone(id string) func(scaling.PoolStatus) bool {
	return func(s scaling.PoolStatus) bool {
		_, ok := s.Member(id)
		return !ok
	}
}
