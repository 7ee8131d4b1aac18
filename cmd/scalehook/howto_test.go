package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/internal/testenv"
)

const howtoServer = `owner: test
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

const howtoLibvirt = `owner: test
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

// howto is a machine as a page of docs/howto assumes it: its folders lie in dir.
type howto struct {
	t      *testing.T
	dir    string
	env    []string
	server *testenv.Process
	listen string
	flags  []string
}

func newHowto(t *testing.T) *howto {
	t.Helper()
	h := &howto{t: t, dir: t.TempDir(), listen: testenv.FreeAddress(t)}
	for _, dir := range []string{"etc/scalehook", "etc/alertmanager", "etc/haproxy", "var/lib", "var/backups", "work"} {
		if err := os.MkdirAll(filepath.Join(h.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	h.write("etc/scalehook/alerts.token", "alerts-token-0123456789\n")
	h.write("etc/scalehook/operator.token", "operator-token-0123456789\n")
	h.write("etc/scalehook/scalehook.yml", fmt.Sprintf(howtoServer, "", ""))
	h.env = append(os.Environ(), "SCALEHOOK_URL=http://"+h.listen,
		"SCALEHOOK_TOKEN_FILE="+filepath.Join(h.dir, "etc/scalehook/operator.token"), "TZ=UTC")
	return h
}

func (h *howto) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(filepath.Join(h.dir, name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// serve starts the server and waits for its group.
func (h *howto) serve() {
	cmd := exec.Command("scalehook", append([]string{
		"serve", "--config.file", filepath.Join(h.dir, "etc/scalehook/scalehook.yml"),
		"--storage.path", filepath.Join(h.dir, "var/lib/scalehook"), "--web.listen-address", h.listen, "--web.enable-lifecycle",
	}, h.flags...)...)
	cmd.Dir = filepath.Join(h.dir, "work")
	ready := testenv.OK("http://" + h.listen + "/-/ready")
	if len(h.flags) > 0 {
		ready = nil // over TLS; the page's next command waits
	}
	h.server = testenv.Start(h.t, cmd, ready)
}

// run runs the commands of a page. What stands in /etc, /var and /run is in the
// machine's folder, and nobody needs to be root there.
func (h *howto) run(page string) {
	h.t.Helper()
	text, err := os.ReadFile("../../" + page)
	if err != nil {
		h.t.Fatal(err)
	}
	blocks, err := doc.Blocks(string(text))
	if err != nil {
		h.t.Fatalf("%s: %v", page, err)
	}
	ran := 0
	for k := range blocks {
		blocks[k].Text = strings.NewReplacer("sudo ", "", " /etc/", " "+h.dir+"/etc/", "=/etc/", "="+h.dir+"/etc/", " /var/", " "+h.dir+"/var/", "localhost:10070", strings.Replace(h.listen, "127.0.0.1", "localhost", 1)).Replace(blocks[k].Text)
		if blocks[k].NotRun == "" {
			ran++
		}
	}
	if ran == 0 {
		h.t.Errorf("%s: nothing of it is run", page)
	}
	bash := exec.CommandContext(h.t.Context(), "bash")
	bash.Dir, bash.Env = filepath.Join(h.dir, "work"), h.env
	r := doc.Runner{Command: bash, Each: 30 * time.Second, Instead: map[string]func(context.Context) error{
		"serve": func(context.Context) error {
			h.flags = []string{"--web.config.file", "web.yml", "--web.external-url", "https://localhost:10070"}
			h.serve()
			return nil
		},
		"stop":  func(context.Context) error { return h.server.Stop() },
		"start": func(context.Context) error { h.serve(); return nil },
	}}
	if err := r.Run(h.t.Context(), blocks); err != nil {
		h.t.Errorf("%s: %v", page, err)
	}
}

// inService waits for the group's first instance.
func (h *howto) inService() {
	h.t.Helper()
	testenv.Eventually(h.t, 30*time.Second, "an instance in service", func() error {
		cmd := exec.CommandContext(h.t.Context(), "scalehook", "instances", "web")
		cmd.Env = h.env
		out, err := cmd.CombinedOutput()
		if err == nil && !strings.Contains(string(out), "in_service") {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
}

// TestTheHowTosDoWhatTheySay runs the commands of the pages.
func TestTheHowTosDoWhatTheySay(t *testing.T) {
	testenv.Need(t, testenv.Program("bash"), testenv.Program("patch"))
	for page, prepare := range map[string]func(t *testing.T, h *howto){
		"docs/howto/routes.md": func(t *testing.T, h *howto) {
			testenv.Need(t, testenv.Program("amtool"))
			h.write("etc/alertmanager/scalehook.token", "alerts-token-0123456789\n")
			h.write("etc/alertmanager/alertmanager.yml", "route:\n  receiver: people\n  routes:\n    - matchers: ['severity=\"none\"']\n      receiver: nobody\nreceivers:\n  - name: people\n  - name: nobody\n")
		},
		"docs/howto/haproxy.md": func(t *testing.T, h *howto) {
			testenv.Need(t, testenv.Program("haproxy"))
			h.env = append(h.env, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
			h.write("etc/haproxy/haproxy.cfg", "global\n    maxconn 100\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client 50s\n    timeout server 50s\n")
		},
		"docs/howto/tls.md": func(t *testing.T, h *howto) {
			testenv.Need(t, testenv.Program("openssl"), testenv.Program("curl"))
			h.listen = fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t)) // the certificate has that name
		},
		"docs/howto/cloud-init.md": func(_ *testing.T, h *howto) { h.write("etc/scalehook/scalehook.yml", howtoLibvirt) },
		"docs/howto/adopt-a-vm.md": func(_ *testing.T, h *howto) {
			h.serve()
			h.inService()
			h.write("etc/scalehook/scalehook.yml", fmt.Sprintf(howtoServer, "", ", adopt: [web-base]"))
		},
		"docs/howto/thresholds.md": func(t *testing.T, h *howto) {
			h.write("etc/scalehook/scalehook.yml", fmt.Sprintf(howtoServer, "prometheus: {url: http://"+recordedDays(t, 2)+"}", ""))
		},
		"docs/howto/backup.md":    func(_ *testing.T, h *howto) { h.serve(); h.inService() },
		"docs/howto/upgrade.md":   func(_ *testing.T, h *howto) { h.serve(); h.inService() },
		"docs/howto/uninstall.md": func(_ *testing.T, h *howto) { h.serve(); h.inService() },
	} {
		t.Run(filepath.Base(page), func(t *testing.T) {
			t.Parallel()
			h := newHowto(t)
			prepare(t, h)
			h.run(page)
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
	text.WriteString("# EOF\n")
	dir := t.TempDir()
	for name, content := range map[string]string{"recorded.om": text.String(), "prometheus.yml": "global: {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	out, err := exec.CommandContext(t.Context(), testenv.Path(t, "promtool"), "tsdb", "create-blocks-from", "openmetrics", filepath.Join(dir, "recorded.om"), data).CombinedOutput()
	if err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	address := testenv.FreeAddress(t)
	cmd := exec.Command(testenv.Path(t, "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+data, "--web.listen-address="+address)
	cmd.Stderr = io.Discard
	testenv.Start(t, cmd, testenv.OK("http://"+address+"/-/ready"))
	return address
}
