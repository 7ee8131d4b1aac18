package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/doctor"
	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/rules"
)

// stack is the whole way: a real Prometheus, Alertmanager and HAProxy, the server
// over simulated VMs, and the page of an exporter.
type stack struct {
	t                            *testing.T
	dir                          string
	server, prom, alerts, export string // addresses
	haproxy                      *testenv.Process
	silent                       atomic.Bool // the exporter
}

// alertmanagerProgram is Debian's or the project's own.
func alertmanagerProgram(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"prometheus-alertmanager", "alertmanager"} {
		if testenv.Program(name)() == nil {
			return testenv.Path(t, name)
		}
	}
	testenv.Need(t, testenv.Program("alertmanager"))
	return ""
}

func newStack(t *testing.T) *stack {
	t.Helper()
	testenv.Need(t, testenv.Program("prometheus"), testenv.Program("haproxy"))
	program := alertmanagerProgram(t)
	dir, err := os.MkdirTemp("", "shdoc") //nolint:usetesting // the path of a socket must fit into 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &stack{t: t, dir: dir, server: testenv.FreeAddress(t), prom: testenv.FreeAddress(t), alerts: testenv.FreeAddress(t)}
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if s.silent.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "libvirt_up 1")
	}))
	t.Cleanup(exporter.Close)
	s.export = strings.TrimPrefix(exporter.URL, "http://")
	text, err := rules.Render(rules.Options{ScrapeInterval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s.write("rules.yml", string(text))
	s.write("alerts.token", "alerts-token-0123456789\n")
	s.write("operator.token", "operator-token-0123456789\n")
	s.write("prometheus.yml", s.prometheusConfig(true))
	s.write("alertmanager.yml", s.alertmanagerConfig("scalehook", "10s"))
	s.write("haproxy.cfg", fmt.Sprintf(`global
    stats socket %s mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
backend spare
    option httpchk GET /
`, s.path("admin.sock")))
	s.write("scalehook.yml", s.serverConfig())

	s.haproxy = testenv.Start(t, exec.Command(testenv.Path(t, "haproxy"), "-W", "-f", s.path("haproxy.cfg")), s.there("admin.sock"))
	testenv.Start(t, exec.Command(program, "--config.file="+s.path("alertmanager.yml"), "--storage.path="+s.path("am"),
		"--web.listen-address="+s.alerts, "--cluster.listen-address="), testenv.OK("http://"+s.alerts+"/-/ready"))
	testenv.Start(t, exec.Command(testenv.Path(t, "prometheus"), "--config.file="+s.path("prometheus.yml"), "--storage.tsdb.path="+s.path("tsdb"),
		"--web.listen-address="+s.prom, "--web.enable-lifecycle", "--rules.alert.resend-delay=1s"), testenv.OK("http://"+s.prom+"/-/ready"))
	s.serve()
	// The rules for people are evaluated every 30 s only.
	s.post(s.alerts, "/api/v2/alerts", `[{"labels": {"alertname": "ScalehookHeartbeat", "scalehook_heartbeat": "true", "severity": "none"}}]`)
	return s
}

func (s *stack) path(name string) string { return filepath.Join(s.dir, name) }

func (s *stack) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stack) there(name string) func() error {
	return func() error {
		_, err := os.Stat(s.path(name))
		return err
	}
}

func (s *stack) serve() {
	f := testFlags(s.t)
	f.configFile, f.listen, f.maxConnections = s.path("scalehook.yml"), []string{s.server}, 64
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, f, io.Discard) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("serve: %v", err)
		}
	})
	testenv.Eventually(s.t, 30*time.Second, "the server", testenv.OK("http://"+s.server+"/-/ready"))
}

func (s *stack) serverConfig() string {
	return fmt.Sprintf(`
owner: test
monitoring: {scrape_interval: 1s, evaluation_interval: 1s, rate_window: 4s, repeat_interval: 10s}
prometheus: {url: "http://%s"}
alertmanagers: [{url: "http://%s"}]
tokens:
  - {name: ops, role: operator, file: operator.token}
  - {name: alertmanager, role: alerts, file: alerts.token}
providers:
  sim:
    simulated: {boot_time: 100ms, load: {web: [{after: 0s, vcpus: 0.5}]}}
balancers:
  inside: {simulated: {provider: sim}}
  edge: {haproxy: {sockets: [{address: %s}]}}
groups:
  web: {min: 1, max: 2, mode: full, balancer: inside, lease_ttl: 1m, warm_up: 1s}
  spare: {min: 0, max: 1, mode: full, balancer: edge, pool: {backend: spare}, lease_ttl: 1m}
`, s.prom, s.alerts, s.path("admin.sock"))
}

func (s *stack) prometheusConfig(withRules bool) string {
	files := "[]"
	if withRules {
		files = fmt.Sprintf("[%q]", s.path("rules.yml"))
	}
	return fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: %s
alerting:
  alertmanagers: [{static_configs: [{targets: [%q]}]}]
scrape_configs:
  - {job_name: groups, honor_labels: true, static_configs: [{targets: [%q]}]}
  - {job_name: hypervisors, static_configs: [{targets: [%q]}]}
`, files, s.alerts, s.server, s.export)
}

func (s *stack) alertmanagerConfig(receiver, repeat string) string {
	return fmt.Sprintf(`route:
  receiver: people
  group_by: [alertname]
  routes:
    - {matchers: ['scalehook_signal=~"high|low"'], receiver: %s, group_by: [scaling_group], group_wait: 0s, group_interval: 1s, repeat_interval: %s}
    - {matchers: ['scalehook_heartbeat="true"'], receiver: scalehook, group_wait: 0s, group_interval: 1s, repeat_interval: 10s}
receivers:
  - name: people
  - name: scalehook
    webhook_configs:
      - url: http://%s/api/v1/alertmanager
        send_resolved: true
        http_config: {follow_redirects: false, authorization: {type: Bearer, credentials_file: %q}}
`, receiver, repeat, s.server, s.path("alerts.token"))
}

// reload has a program of the Prometheus family read its configuration again.
func (s *stack) reload(address string) {
	s.t.Helper()
	s.post(address, "/-/reload", "")
}

func (s *stack) post(address, path, body string) {
	s.t.Helper()
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Post("http://"+address+path, "application/json", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("post to %s%s: %s: %s", address, path, resp.Status, text)
	}
}

// doctor runs the command and returns what is WRONG and what is WARN, by name.
func (s *stack) doctor() (wrong, warned map[string]string) {
	s.t.Helper()
	var out, errs bytes.Buffer
	code := execute(s.t.Context(), []string{
		"doctor", "--config", s.path("scalehook.yml"), "--url", "http://" + s.server, "--token-file", s.path("operator.token"), "-o", "json",
	}, func(string) string { return "" }, &out, &errs)
	var checks []doctor.Check
	if err := json.Unmarshal(out.Bytes(), &checks); err != nil {
		s.t.Fatalf("%v: %s%s", err, out.String(), errs.String())
	}
	wrong, warned = map[string]string{}, map[string]string{}
	for _, c := range checks {
		if c.What == "rights" {
			continue // of whoever runs the test
		}
		switch name := c.Part + ": " + c.What; {
		case !c.OK:
			wrong[name] = c.Detail
		case c.Warning:
			warned[name] = c.Detail
		}
	}
	if (code == exitOK) != (len(wrong) == 0) || code != exitOK && code != exitFailed {
		s.t.Errorf("exit code %d with %v", code, wrong)
	}
	return wrong, warned
}

// only waits until exactly one check is WRONG, or none where it has no name, and says all this.
func (s *stack) only(name string, wants ...string) {
	s.t.Helper()
	testenv.Eventually(s.t, 30*time.Second, fmt.Sprintf("only %q wrong", name), func() error {
		wrong, warned := s.doctor()
		detail, found := wrong[name]
		switch {
		case len(wrong) > 1 || len(wrong) == 1 && !found || name != "" && !found:
			return fmt.Errorf("wrong: %v", wrong)
		case name == "" && len(warned) > 0:
			return fmt.Errorf("warned of: %v", warned)
		}
		for _, want := range wants {
			if !strings.Contains(detail, want) {
				return fmt.Errorf("%q lacks %q", detail, want)
			}
		}
		return nil
	})
}

func TestDoctorFindsExactlyWhatIsBroken(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.only("")
	m := newPageMachine(t)
	m.runsIn(s.dir)
	m.env = append(m.env, "SCALEHOOK_URL=http://"+s.server)
	m.run("docs/doctor.md")

	s.write("alertmanager.yml", s.alertmanagerConfig("people", "10s"))
	s.reload(s.alerts)
	s.only("alertmanager: route of the signals", "goes to people", "never here", "receiver: scalehook")

	s.write("alertmanager.yml", s.alertmanagerConfig("scalehook", "2m"))
	s.reload(s.alerts)
	s.only("alertmanager: timings", "repeat_interval 2m", "lease_ttl of 1m", "write repeat_interval: 25s")
	s.write("alertmanager.yml", s.alertmanagerConfig("scalehook", "10s"))
	s.reload(s.alerts)

	if err := os.Chmod(s.path("alerts.token"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.only("configuration: token alertmanager", "mode 0644", "chmod 640")
	if err := os.Chmod(s.path("alerts.token"), 0o600); err != nil {
		t.Fatal(err)
	}

	s.haproxy.Kill(t)
	s.only("balancers: edge, pool of spare", "admin.sock", "does HAProxy run")
	if err := os.Remove(s.path("admin.sock")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	testenv.Start(t, exec.Command(testenv.Path(t, "haproxy"), "-W", "-f", s.path("haproxy.cfg")), s.there("admin.sock"))

	s.silent.Store(true)
	s.only("prometheus: targets", "the exporter at "+s.export, "503", "start scalehook-exporter")
	s.silent.Store(false)

	s.write("prometheus.yml", strings.Replace(s.prometheusConfig(true), "{job_name: groups,", "{job_name: groups, metric_relabel_configs: [{source_labels: [__name__], regex: 'scalehook_instance_.*', action: drop}],", 1))
	s.reload(s.prom)
	s.only("prometheus: scrape of scalehook", "action: drop", "drops scalehook_instance_state and scalehook_instance_warm")

	// Last: after a reload it takes Prometheus five seconds to know its Alertmanagers.
	s.write("prometheus.yml", s.prometheusConfig(false))
	s.reload(s.prom)
	s.only("prometheus: rules", "not loaded", "scalehook rules --scrape-interval 1s")
}
