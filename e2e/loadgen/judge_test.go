package loadgen_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/internal/testenv"
)

const haproxyConfig = `global
  stats socket %[1]s mode 600 level admin
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 10m
  retries 0
  option idle-close-on-response
frontend fe
  bind %[2]s
  default_backend web
backend web
  balance leastconn
`

// rig is HAProxy with two of the guests' web servers behind it, on loopback.
type rig struct {
	t         *testing.T
	front     string
	socket    string
	collector *guest.Collector
	guests    map[string]*exec.Cmd
}

func newRig(t *testing.T) *rig {
	t.Helper()
	testenv.Need(t, testenv.Program("haproxy"), testenv.Program("go"))
	r := &rig{t: t, front: testenv.FreeAddress(t), collector: guest.NewCollector(), guests: map[string]*exec.Cmd{}}
	dir, err := os.MkdirTemp("", "judge-") //nolint:usetesting // a test's folder has too long a name for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	srv := httptest.NewServer(r.collector)
	t.Cleanup(srv.Close)
	bin, to := filepath.Join(dir, "guestd"), filepath.Join(dir, "collector")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../guest/guestd").CombinedOutput(); err != nil {
		t.Fatalf("build guestd: %v: %s", err, out)
	}
	if err := os.WriteFile(to, []byte(srv.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	r.socket = filepath.Join(dir, "admin.sock")
	cfg := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(cfg, fmt.Appendf(nil, haproxyConfig, r.socket, r.front), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Start(t, exec.Command(testenv.Path(t, "haproxy"), "-db", "-f", cfg), func() error { _, err := r.ask("show info"); return err })
	for _, host := range []string{"web-1", "web-2"} {
		addr := testenv.FreeAddress(t)
		cmd := exec.Command(bin, "-listen", addr, "-host", host, "-collector-file", to, "-report-every", "50ms")
		testenv.Start(t, cmd, func() error { return healthy(addr) })
		r.guests[host] = cmd
		r.must("add server web/" + host + " " + addr)
		r.must("set server web/" + host + " state ready")
	}
	return r
}

func healthy(addr string) error {
	resp, err := http.Get("http://" + addr + "/health")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (r *rig) ask(command string) (string, error) {
	conn, err := net.DialTimeout("unix", r.socket, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", err
	}
	raw, err := io.ReadAll(conn)
	return string(raw), err
}

func (r *rig) must(command string) string {
	r.t.Helper()
	out, err := r.ask(command)
	if err != nil {
		r.t.Fatalf("%s: %v", command, err)
	}
	return out
}

// sessions are those that HAProxy has open to a server.
func (r *rig) sessions(host string) string {
	for line := range strings.SplitSeq(r.must("show stat"), "\n") {
		if f := strings.Split(line, ","); len(f) > 4 && f[0] == "web" && f[1] == host {
			return f[4]
		}
	}
	return ""
}

func (r *rig) load() (*loadgen.Generator, func()) {
	r.t.Helper()
	g, err := loadgen.New(loadgen.Options{
		Target: r.front, Sleepers: 8, SleepMin: 300 * time.Millisecond, SleepMax: time.Second, Pause: 20 * time.Millisecond, WorkUnits: 100,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	stop := func() { cancel(); <-done }
	r.t.Cleanup(stop)
	g.SetLoad(2)
	testenv.Eventually(r.t, time.Minute, "both guests answer sleepers", func() error {
		if s := loadgen.Summarize(g.Records(), nil); s.Servers["web-1"] < 20 || s.Servers["web-2"] < 20 {
			return fmt.Errorf("answers so far: %v", s.Servers)
		}
		return nil
	})
	return g, stop
}

func TestADrainedRemovalIsJudgedLossless(t *testing.T) {
	r := newRig(t)
	g, stop := r.load()
	r.must("set server web/web-2 state drain")
	testenv.Eventually(t, time.Minute, "web-2 has no sessions", func() error {
		if n := r.sessions("web-2"); n != "0" {
			return fmt.Errorf("%s sessions", n)
		}
		return nil
	})
	r.must("set server web/web-2 state maint")
	if err := r.guests["web-2"].Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := r.collector.AwaitFinal(t.Context(), "web-2"); err != nil {
		t.Fatal(err)
	}
	before := g.Totals().OK
	testenv.Eventually(t, time.Minute, "the other guest goes on answering", func() error {
		if ok := g.Totals().OK; ok < before+50 {
			return fmt.Errorf("%d answers", ok-before)
		}
		return nil
	})
	stop()
	tot := g.Totals()
	if tot.Lost != 0 || tot.InFlight != 0 {
		t.Errorf("totals %+v, want nothing lost or in flight", tot)
	}
	if err := r.collector.AwaitNoted(t.Context(), int(tot.OK)); err != nil {
		t.Fatal(err)
	}
	c := g.Compare(r.collector.Books())
	if err := c.Err(); err != nil || int64(c.OK) != tot.OK || c.Noted != c.OK {
		t.Errorf("comparison %+v: %v", c, err)
	}
}

func TestARemovalWithoutDrainIsCondemned(t *testing.T) {
	r := newRig(t)
	g, stop := r.load()
	if err := r.guests["web-2"].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, "requests are lost", func() error {
		if g.Totals().Lost == 0 {
			return fmt.Errorf("totals %+v", g.Totals())
		}
		return nil
	})
	stop()
	s := loadgen.Summarize(g.Records(), nil)
	if s.Lost == 0 || s.OK+s.Lost != s.Sent {
		t.Errorf("summary %+v, want lost requests and a closed account", s)
	}
}
