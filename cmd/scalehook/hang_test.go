package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/doctor"
	"github.com/scalehook/scalehook/internal/testenv"
)

// silent accepts connections and never answers. It hangs up once nobody waits any more,
// so that a command that ends need not wait for libvirt's call.
func silent(t *testing.T, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			time.AfterFunc(5*time.Second, func() { conn.Close() })
		}
	}()
	return l.Addr().String()
}

// surroundings are the addresses of what a configuration names.
type surroundings struct {
	libvirt, prometheus, alertmanager, haproxy, server string
}

// answering are those that answer: little, and at once.
func answering(t *testing.T, dir string) surroundings {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/query":
			now := float64(time.Now().UnixMilli()) / 1000
			result := ""
			if strings.Contains(r.URL.Query().Get("query"), "or vector(time())") {
				result = fmt.Sprintf(`{"metric": {}, "value": [%f, "%f"]}`, now, now)
			}
			fmt.Fprintf(w, `{"status": "success", "data": {"resultType": "vector", "result": [%s]}}`, result)
		case "/api/v1/status/runtimeinfo":
			fmt.Fprint(w, `{"status": "success", "data": {"ready": true}}`)
		case "/api/v1/status/buildinfo":
			fmt.Fprint(w, `{"status": "success", "data": {}}`)
		case "/api/v1/groups":
			fmt.Fprint(w, `{"status": "success", "data": [{"name": "kvm"}, {"name": "web"}]}`)
		case "/api/v2/alerts":
			fmt.Fprint(w, "[]")
		case "/api/v2/status":
			fmt.Fprint(w, `{"config": {"original": ""}}`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(web.Close)
	socket := filepath.Join(dir, "admin.sock")
	config := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, `global
    stats socket %s mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
backend web
    option httpchk GET /
`, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Start(t, exec.Command(testenv.Path(t, "haproxy"), "-W", "-f", config), func() error {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return surroundings{"test:///default", web.URL, web.URL, socket, web.URL}
}

// TestWhatHangsIsBlamedAlone puts one that never answers in the place of each, and of all.
func TestWhatHangsIsBlamedAlone(t *testing.T) {
	testenv.Need(t, testenv.Program("haproxy"))
	short, err := os.MkdirTemp("", "shhang") //nolint:usetesting // the path of a socket must fit into 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	well := answering(t, short)
	quiet := "http://" + silent(t, "tcp", "127.0.0.1:0")
	admin := silent(t, "unix", filepath.Join(short, "silent.sock"))
	overTCP := "qemu+tcp://" + silent(t, "tcp", "127.0.0.1:0") + "/system"
	overSocket := "qemu+unix:///system?socket=" + silent(t, "unix", filepath.Join(short, "libvirt.sock"))

	const (
		libvirt, pool, prometheus, alertmanager, server = "providers: a", "balancers: edge, pool of web", "prometheus: answers", "alertmanager: answers", "server: answers"
	)
	for _, tt := range []struct {
		name  string
		hangs func(*surroundings)
		want  []string
	}{
		{"nobody", func(*surroundings) {}, nil},
		{"libvirt over TCP", func(s *surroundings) { s.libvirt = overTCP }, []string{libvirt}},
		{"libvirt at a socket", func(s *surroundings) { s.libvirt = overSocket }, []string{libvirt}},
		{"Prometheus", func(s *surroundings) { s.prometheus = quiet }, []string{prometheus}},
		{"Alertmanager", func(s *surroundings) { s.alertmanager = quiet }, []string{alertmanager}},
		{"HAProxy", func(s *surroundings) { s.haproxy = admin }, []string{pool}},
		{"the server", func(s *surroundings) { s.server = quiet }, []string{server}},
		{"everybody but the server", func(s *surroundings) { *s = surroundings{overTCP, quiet, quiet, admin, s.server} }, []string{alertmanager, pool, prometheus, libvirt}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := well
			tt.hangs(&s)
			file := filepath.Join(t.TempDir(), "scalehook.yml")
			if err := os.WriteFile(file, fmt.Appendf(nil, `
owner: test
prometheus: {url: %q, timeout: 30s}
alertmanagers: [{url: %q, timeout: 30s}]
providers:
  a: {libvirt: {uri: %q}}
  sim: {simulated: {}}
balancers:
  edge: {haproxy: {sockets: [{address: %q}], timeout: 30s}}
  none: {direct: {}}
groups:
  kvm: {provider: a, max: 1, balancer: none, template: {image: none.qcow2}}
  web: {provider: sim, max: 1, balancer: edge, pool: {backend: web}}
`, s.prometheus, s.alertmanager, s.libvirt, s.haproxy), 0o600); err != nil {
				t.Fatal(err)
			}
			run := func(args ...string) (stdout, stderr string) {
				var out, errs bytes.Buffer
				execute(t.Context(), append(args, "--url", s.server, "--timeout", "4s"), func(string) string { return "" }, &out, &errs)
				return out.String(), errs.String()
			}

			var checked string
			var wait sync.WaitGroup
			wait.Go(func() { _, checked = run("check-config", file) })
			stdout, stderr := run("doctor", "--config", file, "-o", "json")
			wait.Wait()
			var checks []doctor.Check
			if err := json.Unmarshal([]byte(stdout), &checks); err != nil {
				t.Fatalf("%v: %s%s", err, stdout, stderr)
			}
			var got []string
			for _, c := range checks {
				name := c.Part + ": " + c.What
				switch {
				case !strings.Contains(c.Detail, "no answer within"):
				case c.OK:
					t.Errorf("%+v", c)
				default:
					got = append(got, name)
				}
				if c.What == "answers" && !c.OK && !slices.Contains(tt.want, name) || c.Part == doctor.PartBalancers && !c.OK && !slices.Contains(tt.want, name) {
					t.Errorf("blamed: %+v", c)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("the doctor blames %q, want %q:\n%s", got, tt.want, stdout)
			}

			for place, name := range map[string]string{
				"prometheus.url: ": prometheus, "alertmanagers.0.url: ": alertmanager, "providers.a.libvirt.uri: ": libvirt, "balancers.edge.haproxy.sockets.0.address: ": pool,
			} {
				lines := 0
				for line := range strings.Lines(checked) {
					if strings.Contains(line, place) && strings.Contains(line, "no answer within ") {
						lines++
					}
				}
				if want := slices.Contains(tt.want, name); want != (lines == 1) {
					t.Errorf("check-config has %d lines of %s, want one: %t\n%s", lines, place, want, checked)
				}
			}
			if n := strings.Count(checked, "no answer") + strings.Count(checked, "deadline"); n != len(tt.want) && !slices.Contains(tt.want, server) {
				t.Errorf("check-config says it of %d, want %d:\n%s", n, len(tt.want), checked)
			}
		})
	}
}
