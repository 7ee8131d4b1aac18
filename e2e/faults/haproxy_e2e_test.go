//go:build e2e

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/testenv"
)

// edge is a real HAProxy before real web servers, which stand for the services of
// simulated VMs: each has a loopback address of its own.
type edge struct {
	t       *testing.T
	dir     string
	network netip.Prefix
	port    int
	front   string
	process *testenv.Process
}

// newEdge starts web servers for the first VMs that the network gives addresses
// to, and HAProxy with an empty backend.
func newEdge(t *testing.T, network string, webs int) *edge {
	t.Helper()
	testenv.Need(t, testenv.Program("haproxy"))
	e := &edge{t: t, dir: folder(t), network: netip.MustParsePrefix(network), port: testenv.FreePort(t), front: testenv.FreeAddress(t)}
	addr := e.network.Addr().Next() // the gateway's
	for range webs {
		addr = addr.Next()
		listen := netip.AddrPortFrom(addr, uint16(e.port)).String()
		here().run(t, testenv.OK("http://"+listen+"/health"), program("guestd"), "-listen", listen, "-host", addr.String())
	}
	write(t, e.path("haproxy.cfg"), fmt.Sprintf(`global
  stats socket %s mode 600 level admin expose-fd listeners
  nbthread 1
defaults
  mode http
  timeout connect 3s
  timeout client 90s
  timeout server 90s
  timeout http-keep-alive 90s
  timeout check 5s
  option idle-close-on-response
  retries 0
  no option redispatch
frontend clients
  bind %s
  default_backend web
`, e.path("admin.sock"), e.front))
	section := "backend web\n  balance leastconn\n  option httpchk GET /health\n"
	write(t, e.path("web.cfg"), section)
	write(t, e.path("web.tmpl"), section+"{{range .Servers}}  server {{.Name}} {{.Address}} {{.Options}}\n{{end}}")
	e.start()
	return e
}

func (e *edge) path(name string) string { return filepath.Join(e.dir, name) }

// start starts HAProxy with what its files say now.
func (e *edge) start() {
	e.t.Helper()
	ready := func() error {
		_, err := e.pid()
		return err
	}
	e.process = here().run(e.t, ready, testenv.Path(e.t, "haproxy"), "-W", "-S", e.path("master.sock")+",mode,600,level,admin",
		"-f", e.path("haproxy.cfg"), "-f", e.path("web.cfg"))
}

// ask sends one command to the Runtime API.
func (e *edge) ask(command string) (string, error) {
	ctx, cancel := context.WithTimeout(e.t.Context(), 5*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", e.path("admin.sock"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	raw, err := io.ReadAll(conn)
	return string(raw), err
}

// pid is the line that tells one worker from another.
func (e *edge) pid() (string, error) {
	info, err := e.ask("show info")
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(info, "\n") {
		if strings.HasPrefix(line, "Pid: ") {
			return line, nil
		}
	}
	return "", fmt.Errorf("no process id in %q", info)
}

// reload is a reload by anybody: a new worker with what the files say.
func (e *edge) reload() {
	e.t.Helper()
	before, err := e.pid()
	if err != nil {
		e.t.Fatal(err)
	}
	e.process.Signal(e.t, syscall.SIGUSR2)
	testenv.Eventually(e.t, patience, "another worker", func() error {
		now, err := e.pid()
		if err == nil && now == before {
			err = errors.New("the old worker answers")
		}
		return err
	})
}

// statuses are those of the backend's servers, sorted: UP, DRAIN and so on.
func (e *edge) statuses() ([]string, error) {
	stat, err := e.ask("show stat")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.SplitSeq(stat, "\n") {
		f := strings.Split(line, ",")
		if len(f) > 17 && f[0] == "web" && f[1] != "BACKEND" {
			out = append(out, f[17])
		}
	}
	slices.Sort(out)
	return out, nil
}

// have holds once the backend's servers have these statuses.
func (e *edge) have(want ...string) func() error {
	return func() error {
		got, err := e.statuses()
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("the servers of the backend are %q, not %q", got, want)
		}
		return err
	}
}

// config is one group of simulated VMs in the backend.
func (e *edge) config(fragment bool, more string) string {
	pool := ""
	if fragment {
		pool = fmt.Sprintf(", fragment: {file: %q, template: %q}", e.path("web.cfg"), e.path("web.tmpl"))
	}
	return fmt.Sprintf(`owner: faults
providers:
  sim: {simulated: {directory: %q, boot_time: 200ms, shutdown_time: 100ms, network: %s}}
balancers:
  edge: {haproxy: {sockets: [{address: %q, master_socket: %q}]}}
groups:
  web:
    mode: scale_out_only
    min: 0
    max: 4
    name: "web-{n}"
    cooldown: 0s
    warm_up: 0s
    port: %d
    pool: {backend: web, check: {inter: 200ms, rise: 1, fall: 2}%s}
%s`, e.path("world"), e.network, e.path("admin.sock"), e.path("master.sock"), e.port, pool, more)
}

// startServer starts a server with two instances in service, web-2 the newest.
func (e *edge) startServer(config string) *server {
	e.t.Helper()
	s := newServer(e.t, here(), testenv.FreeAddress(e.t), config)
	s.start()
	s.desired(1)
	s.await("an instance in service", serving(1))
	s.desired(2)
	s.await("two instances in service", serving(2))
	testenv.Eventually(e.t, patience, "both to be up at HAProxy", e.have("UP", "UP"))
	return s
}

func TestHAProxyReloadedInMidDrain(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "127.77.1.0/24", 2)
	s := e.startServer(e.config(true, "    drain_deadline: 1m\n"))
	gen, err := loadgen.New(loadgen.Options{Target: e.front, Sleepers: 4, SleepMin: 10 * time.Second, SleepMax: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		gen.Run(ctx)
	}()
	defer func() { stop(); <-ended }()
	victim := instance(s.view(group), "web-2").Address
	testenv.Eventually(t, patience, "requests in flight at both", func() error {
		// Idle answers come between, so that a server has one in flight when it has more than those.
		if gen.Totals().InFlight < 4 || gen.Totals().OK < 20 {
			return fmt.Errorf("%+v", gen.Totals())
		}
		return nil
	})

	s.desired(1)
	s.await("web-2 drains", state("web-2", "draining"))
	testenv.Eventually(t, patience, "HAProxy to drain it", e.have("DRAIN", "UP"))
	e.reload()
	reloaded := time.Now()
	s.await("web-2 is removed when its last request is answered", serving(1))
	testenv.Eventually(t, patience, "the rest to be up", e.have("UP"))
	e.reload() // once more, with nothing under way
	testenv.Eventually(t, patience, "the rest to be up", e.have("UP"))

	stop()
	<-ended
	over := 0
	for _, r := range gen.Records() {
		if r.Lost() {
			t.Errorf("lost: %s %s at %s after %s: %s", r.Method, r.Kind, r.Server, r.Duration, r.Problem)
		}
		if r.Server == victim && r.Start.Before(reloaded) && r.Start.Add(r.Duration).After(reloaded) {
			over++
		}
	}
	if over == 0 {
		t.Error("no request was in flight at the victim when HAProxy was reloaded: this proves nothing")
	}
	t.Logf("%d requests, %d of them at the draining member over the reload", gen.Totals().Sent, over)
}

func TestHAProxyRestarted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, network string
		fragment      bool
	}{
		{"with its file it has the pool from the start", "127.77.2.0/24", true},
		{"without it gets the pool again", "127.77.3.0/24", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, tt.network, 2)
			s := e.startServer(e.config(tt.fragment, "    grace: 1s\n"))
			was, before := s.view(group), len(s.activities())
			e.process.Kill(t)
			e.start()
			up := time.Now()
			testenv.Eventually(t, patience, "the pool to be whole", e.have("UP", "UP"))
			took := time.Since(up)
			t.Logf("the pool is whole %v after HAProxy answered", took)
			// Two seconds is what it takes by itself; the rest is for a busy machine.
			if took > 10*time.Second {
				t.Errorf("the pool was whole after %v", took)
			}
			g := s.await("scalehook sees it too", all(serving(2), noStatus("degraded")))
			if diff := cmp.Diff(uuids(was), uuids(g)); diff != "" {
				t.Errorf("the instances are others (-before +after):\n%s", diff)
			}
			if got := s.sinceThen(before); len(got) > 0 {
				t.Errorf("a restart of HAProxy led to %v", got)
			}
		})
	}
}

func TestHAProxyGone(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "127.77.4.0/24", 4)
	s := e.startServer(e.config(false, "    drain_deadline: 6s\n    grace: 1s\n"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 2 { // one for each, by leastconn
		go hold(ctx, e.front)
	}
	testenv.Eventually(t, patience, "a request in flight at both", func() error {
		for _, i := range s.view(group).Instances {
			if i.Member == nil || i.Member.Sessions == 0 {
				return fmt.Errorf("%s has none", i.Name)
			}
		}
		return nil
	})
	s.desired(1)
	s.await("web-2 drains", state("web-2", "draining"))
	e.process.Kill(t)
	g := s.await("HAProxy is known to be gone", all(status("degraded"), problem("pool edge")))
	if err := state("web-2", "draining")(g); err != nil {
		t.Fatalf("it was gone before HAProxy was: %v", err)
	}
	s.desired(2)
	s.await("a launch waits for HAProxy", state("web-3", "joining"))
	over := time.Now().Add(8 * time.Second) // past the drain's deadline, and many times the grace
	g = s.await("the drain's deadline has passed", func(api.Group) error {
		if left := time.Until(over); left > 0 {
			return fmt.Errorf("another %s", left)
		}
		return nil
	})
	if err := all(state("web-1", "in_service"), state("web-2", "draining"), state("web-3", "joining"))(g); err != nil {
		t.Errorf("without HAProxy: %v", err)
	}
	e.start()
	g = s.await("both steps are finished", all(serving(2), noStatus("degraded")))
	if err := all(state("web-1", "in_service"), state("web-3", "in_service"))(g); err != nil {
		t.Error(err)
	}
	testenv.Eventually(t, patience, "both to be up at HAProxy", e.have("UP", "UP"))
}

// hold keeps a request in flight; HAProxy's death ends it.
func hold(ctx context.Context, front string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+front+"/sleep?s=60", http.NoBody)
	if err != nil {
		return
	}
	if resp, err := here().http.Do(req); err == nil {
		_ = resp.Body.Close()
	}
}

func TestNeverHealthyAtHAProxy(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "127.77.5.0/24", 2) // nothing serves at a third address
	s := e.startServer(e.config(true, "    launch_deadline: 5s\n    call_deadline: 2s\n    backoff_min: 1h\n    backoff_max: 1h\n"))
	before := len(s.activities())
	s.desired(3)
	s.await("the launch is given up and undone", all(serving(2), status("degraded"), func(api.Group) error {
		if len(s.activities()) <= before || s.last().Ended.IsZero() {
			return errors.New("no activity ended")
		}
		return nil
	}))
	if a := s.last(); a.Status != "undone" || !strings.Contains(a.Outcome, "launch deadline of 5s passed while joining: health is down") {
		t.Errorf("it ended as %s: %s", a.Status, a.Outcome)
	}
	if err := e.have("UP", "UP")(); err != nil {
		t.Errorf("a member is left: %v", err)
	}
}
