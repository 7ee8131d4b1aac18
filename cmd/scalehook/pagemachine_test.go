package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/internal/testenv"
)

const pageServer = `owner: test
monitoring: {scrape_interval: 15s, evaluation_interval: 15s, rate_window: 1m, repeat_interval: 1m}
%s
tokens:
  - {name: alertmanager, role: alerts, file: alerts.token}
  - {name: ops, role: operator, file: operator.token}
providers:
  sim: {simulated: {boot_time: 50ms, drain_time: 50ms, shutdown_time: 50ms, vms: [{name: web-base}]}}
balancers:
  edge: {simulated: {provider: sim}}
groups:
  web: {mode: scale_out_only, min: 1, max: 3, high: 70%%, low: 20%%, provider: sim, balancer: edge%s}
`

const pageLibvirt = `owner: test
providers: {kvm1: {libvirt: {uri: "qemu:///system"}}}
balancers: {edge: {haproxy: {sockets: [/run/haproxy/scalehook.sock]}}}
groups:
  web:
    mode: observe
    min: 1
    max: 3
    provider: kvm1
    balancer: edge
    pool: {backend: web}
    port: 80
    template:
      image: base.qcow2
      memory: 1GiB
      network: default
      cloud_init: {user_data: user-data.tmpl, keys: ["ssh-ed25519 AAAA me"]}
`

// pageMachine is a machine as the pages assume it: its folders lie in dir.
type pageMachine struct {
	t      *testing.T
	dir    string
	env    []string
	server *testenv.Process
	listen string
	flags  []string
	after  func() // looks at what the page's commands left
}

func newPageMachine(t *testing.T) *pageMachine {
	t.Helper()
	m := &pageMachine{t: t, dir: t.TempDir(), listen: testenv.FreeAddress(t)}
	for _, dir := range []string{"etc/scalehook", "etc/alertmanager", "etc/haproxy", "etc/prometheus/rules.d", "home", "var/lib", "var/backups", "work"} {
		if err := os.MkdirAll(filepath.Join(m.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	m.write("etc/scalehook/alerts.token", "alerts-token-0123456789\n")
	m.write("etc/scalehook/operator.token", "operator-token-0123456789\n")
	m.write("etc/scalehook/scalehook.yml", fmt.Sprintf(pageServer, "", ""))
	m.env = append(os.Environ(), "SCALEHOOK_URL=http://"+m.listen,
		"SCALEHOOK_TOKEN_FILE="+filepath.Join(m.dir, "etc/scalehook/operator.token"), "TZ=UTC", "HOME="+filepath.Join(m.dir, "home"))
	return m
}

func (m *pageMachine) write(name, text string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// runsIn has the machine's configurations in a folder that is there already.
func (m *pageMachine) runsIn(dir string) {
	m.t.Helper()
	for _, name := range []string{"scalehook", "prometheus", "alertmanager"} {
		at := filepath.Join(m.dir, "etc", name)
		if err := errors.Join(os.RemoveAll(at), os.Symlink(dir, at)); err != nil {
			m.t.Fatal(err)
		}
	}
}

// serve starts the server and waits for its group.
func (m *pageMachine) serve() {
	cmd := exec.Command("scalehook", append([]string{
		"serve", "--config.file", filepath.Join(m.dir, "etc/scalehook/scalehook.yml"),
		"--storage.path", filepath.Join(m.dir, "var/lib/scalehook"), "--web.listen-address", m.listen, "--web.enable-lifecycle",
	}, m.flags...)...)
	cmd.Dir = filepath.Join(m.dir, "work")
	ready := testenv.OK("http://" + m.listen + "/-/ready")
	if len(m.flags) > 0 {
		ready = nil // over TLS; the page's next command waits
	}
	m.server = testenv.Start(m.t, cmd, ready)
}

// run runs the commands of a page. What stands in /etc, /var and /run is in the
// machine's folder, and nobody needs to be root there.
func (m *pageMachine) run(page string) {
	m.t.Helper()
	blocks := doc.Read(m.t, "../../"+page)
	ran := 0
	for k := range blocks {
		blocks[k].Text = strings.NewReplacer("sudo ", "", " /etc/", " "+m.dir+"/etc/", "=/etc/", "="+m.dir+"/etc/", " /var/", " "+m.dir+"/var/",
			"scalehook doctor\n", "scalehook doctor --config.file "+m.dir+"/etc/scalehook/scalehook.yml\n", "localhost:10070", strings.Replace(m.listen, "127.0.0.1", "localhost", 1)).Replace(blocks[k].Text)
		if blocks[k].NotRun == "" {
			ran++
		}
	}
	if ran == 0 {
		m.t.Errorf("%s: nothing of it is run", page)
	}
	bash := exec.CommandContext(m.t.Context(), "bash")
	bash.Dir, bash.Env = filepath.Join(m.dir, "work"), m.env
	r := doc.Runner{Command: bash, Each: 30 * time.Second, Instead: map[string]func(context.Context) error{
		"serve": func(context.Context) error {
			m.flags = []string{"--web.config.file", "web.yml", "--web.external-url", "https://localhost:10070"}
			m.serve()
			return nil
		},
		"stop":  func(context.Context) error { return m.server.Stop() },
		"start": func(context.Context) error { m.serve(); return nil },
	}}
	if err := r.Run(m.t.Context(), blocks); err != nil {
		m.t.Errorf("%s: %v", page, err)
	}
}

// dashboardsAreWhereGrafanaLooks follows the files by which Grafana finds the others.
func (m *pageMachine) dashboardsAreWhereGrafanaLooks() {
	m.t.Helper()
	var found struct {
		Providers []struct {
			Options struct{ Path string }
		}
		Datasources []struct{ URL string }
	}
	for _, name := range []string{"dashboards/scalehook.yml", "datasources/prometheus.yml"} {
		text, err := os.ReadFile(filepath.Join(m.dir, "etc/grafana/provisioning", name))
		if err == nil {
			err = yaml.Unmarshal(text, &found)
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
	if len(found.Providers) != 1 || len(found.Datasources) != 1 {
		m.t.Fatalf("Grafana is told %+v", found)
	}
	for _, name := range []string{"overview.json", "group.json"} {
		installed, err := os.ReadFile(filepath.Join(m.dir, found.Providers[0].Options.Path, name))
		if err != nil || !json.Valid(installed) {
			m.t.Errorf("Grafana finds no %s: %v", name, err)
		}
	}
}

// inService waits for the group's first instance.
func (m *pageMachine) inService() {
	m.t.Helper()
	testenv.Eventually(m.t, 30*time.Second, "an instance in service", func() error {
		cmd := exec.CommandContext(m.t.Context(), "scalehook", "instances", "web")
		cmd.Env = m.env
		out, err := cmd.CombinedOutput()
		if err == nil && !strings.Contains(string(out), "in_service") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}

// TestThePagesDoWhatTheySay runs the commands of the pages.
func TestThePagesDoWhatTheySay(t *testing.T) {
	t.Parallel()
	testenv.Need(t, testenv.Program("bash"), testenv.Program("patch"))
	for page, prepare := range map[string]func(t *testing.T, m *pageMachine){
		"docs/howto/routes.md": func(t *testing.T, m *pageMachine) {
			testenv.Need(t, testenv.Program("amtool"))
			m.write("etc/alertmanager/scalehook.token", "alerts-token-0123456789\n")
			m.write("etc/alertmanager/alertmanager.yml", "route:\n  receiver: people\n  routes:\n    - matchers: ['severity=\"none\"']\n      receiver: nobody\nreceivers:\n  - name: people\n  - name: nobody\n")
		},
		"docs/howto/haproxy.md": func(t *testing.T, m *pageMachine) {
			testenv.Need(t, testenv.Program("haproxy"))
			m.env = append(m.env, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
			m.write("etc/haproxy/haproxy.cfg", "global\n    maxconn 100\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client 50s\n    timeout server 50s\n")
		},
		"docs/howto/tls.md": func(t *testing.T, m *pageMachine) {
			testenv.Need(t, testenv.Program("openssl"), testenv.Program("curl"))
			m.listen = fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t)) // the certificate has that name
		},
		"docs/howto/cloud-init.md": func(_ *testing.T, m *pageMachine) { m.write("etc/scalehook/scalehook.yml", pageLibvirt) },
		"docs/howto/adopt-a-vm.md": func(_ *testing.T, m *pageMachine) {
			m.serve()
			m.inService()
			m.write("etc/scalehook/scalehook.yml", fmt.Sprintf(pageServer, "", ", adopt: [web-base]"))
		},
		"docs/howto/thresholds.md": func(t *testing.T, m *pageMachine) {
			m.write("etc/scalehook/scalehook.yml", fmt.Sprintf(pageServer, "prometheus: {url: http://"+recordedDays(t, 2)+"}", ""))
		},
		"docs/cli.md": func(t *testing.T, m *pageMachine) {
			testenv.Need(t, testenv.Program("man"))
			m.write("etc/prometheus/prometheus.yml", "scrape_configs:\n  - job_name: node\n")
			m.serve()
			m.inService()
		},
		"docs/grafana.md": func(t *testing.T, m *pageMachine) {
			tree, err := filepath.Abs("../../grafana")
			if err == nil {
				err = os.Symlink(tree, filepath.Join(m.dir, "work/grafana"))
			}
			if err != nil {
				t.Fatal(err)
			}
			m.after = m.dashboardsAreWhereGrafanaLooks
		},
		"docs/rules.md":           func(t *testing.T, _ *pageMachine) { testenv.Need(t, testenv.Program("promtool")) },
		"docs/store.md":           func(_ *testing.T, m *pageMachine) { m.serve(); m.inService() },
		"docs/howto/backup.md":    func(_ *testing.T, m *pageMachine) { m.serve(); m.inService() },
		"docs/howto/upgrade.md":   func(_ *testing.T, m *pageMachine) { m.serve(); m.inService() },
		"docs/howto/uninstall.md": func(_ *testing.T, m *pageMachine) { m.serve(); m.inService() },
	} {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			m := newPageMachine(t)
			prepare(t, m)
			m.run(page)
			if m.after != nil && !t.Failed() {
				m.after()
			}
		})
	}
	files, err := filepath.Glob("../../docs/howto/*.md")
	if err != nil || len(files) != 9 {
		t.Errorf("%d pages, and nine are run: %v", len(files), err)
	}
}

// recordedDays starts a Prometheus that recorded the group web for some days up to now,
// idle by night and busy by day, and returns its address.
func recordedDays(t *testing.T, days int) string {
	t.Helper()
	testenv.Need(t, testenv.Program("prometheus"), testenv.Program("promtool"))
	end := time.Now().UTC().Truncate(time.Minute)
	var text recorded
	for at := end.AddDate(0, 0, -days); at.Before(end); at = at.Add(time.Minute) {
		average := 0.1
		if at.Hour() >= 12 {
			average = 0.6
		}
		text.at("web", at, average, 2)
	}
	return text.serve(t)
}
