package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
)

// behindHAProxy is a server with simulated VMs behind a real HAProxy, which tells
// nobody when it is restarted or reloaded.
type behindHAProxy struct {
	t                        *testing.T
	dir, front, stats, pages string
	haproxy                  *testenv.Process
}

func newBehindHAProxy(t *testing.T) *behindHAProxy {
	t.Helper()
	testenv.Need(t, testenv.Program("haproxy"))
	dir, err := os.MkdirTemp("", "shserve") //nolint:usetesting // the path of a socket must fit into 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b := &behindHAProxy{t: t, dir: dir, front: testenv.FreeAddress(t), stats: filepath.Join(dir, "admin.sock")}
	server := testenv.FreeAddress(t)
	b.pages = "http://" + server
	port := b.guests()
	b.write("haproxy.cfg", fmt.Sprintf(`global
    stats socket %s mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
    retries 0
frontend front
    bind %s
    default_backend pool
backend pool
    option httpchk GET /
`, b.stats, b.front))
	b.start()

	f := testFlags(t)
	f.listen = []string{server}
	// The pool's checks are the defaults. Orders and alerts there are none.
	if err := os.WriteFile(f.configFile, fmt.Appendf(nil, `
owner: test
providers:
  sim:
    simulated: {boot_time: 100ms, network: 127.83.17.0/24}
balancers:
  edge:
    haproxy:
      sockets: [{address: %s, master_socket: %s}]
groups:
  web:
    mode: scale_out_only
    min: 2
    max: 2
    pool: {backend: pool}
    port: %s
`, b.stats, filepath.Join(dir, "master.sock"), port), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, f, io.Discard) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	testenv.Eventually(t, 30*time.Second, "two VMs in service", func() error {
		if b.metric(`scalehook_group_instances\{scaling_group="web",state="in_service"\}`) != 2 {
			return errors.New("not yet")
		}
		return b.serves()
	})
	return b
}

// guests serves at the first addresses of the simulated network.
func (b *behindHAProxy) guests() (port string) {
	b.t.Helper()
	_, port, err := net.SplitHostPort(testenv.FreeAddress(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range 4 {
		l, err := (&net.ListenConfig{}).Listen(b.t.Context(), "tcp", net.JoinHostPort(fmt.Sprintf("127.83.17.%d", i+1), port))
		if err != nil {
			b.t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), ReadHeaderTimeout: 10 * time.Second}
		go func() { _ = server.Serve(l) }()
		b.t.Cleanup(func() { _ = server.Close() })
	}
	return port
}

func (b *behindHAProxy) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *behindHAProxy) start() {
	b.t.Helper()
	cmd := exec.CommandContext(context.Background(), testenv.Path(b.t, "haproxy"),
		"-W", "-S", filepath.Join(b.dir, "master.sock"), "-f", filepath.Join(b.dir, "haproxy.cfg"))
	b.haproxy = testenv.Start(b.t, cmd, func() error {
		if b.worker() == "" {
			return errors.New("no answer")
		}
		return nil
	})
}

// restart kills HAProxy as a crash would and starts it again.
func (b *behindHAProxy) restart() {
	b.haproxy.Kill(b.t)
	b.start()
}

func (b *behindHAProxy) reload() {
	was := b.worker()
	b.haproxy.Signal(b.t, syscall.SIGUSR2)
	testenv.Eventually(b.t, 20*time.Second, "a new worker", func() error {
		if is := b.worker(); is == was || is == "" {
			return errors.New("the old worker answers")
		}
		return nil
	})
}

// ask sends a command to HAProxy as an operator would; no answer is "".
func (b *behindHAProxy) ask(command string) string {
	conn, err := net.DialTimeout("unix", b.stats, time.Second)
	if err != nil {
		return ""
	}
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(2*time.Second)) != nil {
		return ""
	}
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return ""
	}
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

func (b *behindHAProxy) worker() string {
	if m := regexp.MustCompile(`(?m)^Pid: (\d+)`).FindStringSubmatch(b.ask("show info")); m != nil {
		return m[1]
	}
	return ""
}

// members is how many servers of ours the backend has.
func (b *behindHAProxy) members() int {
	return strings.Count(b.ask("show servers state pool"), " sh-")
}

func (b *behindHAProxy) serves() error {
	_, err := get("http://" + b.front)
	return err
}

// metric is the value of the one series of the server that matches.
func (b *behindHAProxy) metric(series string) float64 {
	b.t.Helper()
	page, err := get(b.pages + "/metrics")
	if err != nil {
		return 0 // not up yet
	}
	m := regexp.MustCompile(`(?m)^` + series + ` (\S+)$`).FindStringSubmatch(page)
	if m == nil {
		return 0
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return v
}

// applies is how often the pool was applied to HAProxy with success.
func (b *behindHAProxy) applies() float64 {
	return b.metric(`scalehook_driver_requests_total\{call="apply",driver="edge"\}`) -
		b.metric(`scalehook_driver_requests_failed_total\{call="apply",driver="edge",reason="temporary"\}`)
}

// A HAProxy that was restarted or reloaded by whomever has lost the members. The
// server notices by itself, at the next look at the pool, once a second.
func TestThePoolIsAppliedAgainWithinTwoSecondsOfARestartThatNobodyTold(t *testing.T) {
	b := newBehindHAProxy(t)
	for _, change := range []struct {
		name string
		do   func()
	}{{"restart", b.restart}, {"reload", b.reload}} {
		t.Run(change.name, func(t *testing.T) {
			orders := b.metric(`scalehook_verdicts_total\{action="fill",scaling_group="web"\}`)
			fastest := time.Hour
			// The best of three: other tests may have all of the processor for a while.
			for range 3 {
				before := b.applies()
				change.do()
				up := time.Now()
				testenv.Eventually(t, 30*time.Second, "both members in HAProxy", func() error {
					if n := b.members(); n != 2 {
						return fmt.Errorf("%d members", n)
					}
					return nil
				})
				there := time.Since(up)
				testenv.Eventually(t, 30*time.Second, "an answer through HAProxy", b.serves)
				serving := time.Since(up)
				n := b.applies() - before
				t.Logf("members there %v, traffic %v after HAProxy was up again, by %.0f applications of the pool",
					there.Round(time.Millisecond), serving.Round(time.Millisecond), n)
				// One a second, and one more for what was under way: it was the pool's tick.
				if most := serving.Seconds() + 3; n < 1 || n > most {
					t.Errorf("%.0f applications in %v, want 1 to %.0f", n, serving, most)
				}
				if fastest = min(fastest, serving); fastest <= 2*time.Second {
					break
				}
			}
			if fastest > 2*time.Second {
				t.Errorf("traffic %v after HAProxy was up again, want at most 2s", fastest)
			}
			if now := b.metric(`scalehook_verdicts_total\{action="fill",scaling_group="web"\}`); now != orders {
				t.Errorf("VMs were launched: %.0f verdicts, before %.0f", now, orders)
			}
		})
	}
}
