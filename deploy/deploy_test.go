package deploy_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/deploy"
	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/rules"
)

// run runs a program and fails the test with its output unless it succeeds.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, testenv.Path(t, program), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func write(t *testing.T, path string, text []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// withRules puts a Prometheus configuration where it finds the rules.
func withRules(t *testing.T, config []byte) string {
	t.Helper()
	dir := t.TempDir()
	path := write(t, filepath.Join(dir, "rules.d", "scalehook.rules.yml"), rules.Default())
	write(t, filepath.Join(dir, "rules.d", "compat.rules.yml"), rules.Compat())
	config = bytes.ReplaceAll(config, []byte("/etc/prometheus/rules.d/scalehook.rules.yml"), []byte(path))
	return write(t, filepath.Join(dir, "prometheus.yml"), config)
}

func TestPrometheusAcceptsItsConfiguration(t *testing.T) {
	testenv.Need(t, testenv.Program("promtool"))
	out := run(t, "promtool", "check", "config", "--lint-fatal", withRules(t, read(t, "prometheus/prometheus.yml")))
	if strings.Count(out, "rules found") != 2 {
		t.Errorf("the rules were not found:\n%s", out)
	}
}

// routes are where alerts have to go.
func checkRoutes(t *testing.T, config, fallback string) {
	t.Helper()
	run(t, "amtool", "check-config", config)
	for _, test := range []struct{ name, want, labels string }{
		{"the high signal", "scalehook", "scalehook_signal=high scaling_group=web alertname=ScalehookCPUHigh"},
		{"the low signal", "scalehook", "scalehook_signal=low scaling_group=web alertname=ScalehookCPULow"},
		{"the heartbeat", "scalehook", "scalehook_heartbeat=true severity=none alertname=ScalehookHeartbeat"},
		{"an alert for people", fallback, "severity=critical scaling_group=web alertname=ScalehookGroupBelowMin"},
		{"something else", fallback, "severity=critical alertname=DiskFull"},
		{"a signal that is none", fallback, "scalehook_signal=sideways"},
	} {
		args := append([]string{"config", "routes", "test", "--config.file=" + config, "--verify.receivers=" + test.want}, strings.Fields(test.labels)...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		out, err := exec.CommandContext(ctx, testenv.Path(t, "amtool"), args...).CombinedOutput()
		cancel()
		if err != nil {
			t.Errorf("%s does not go to %s: %s", test.name, test.want, out)
		}
	}
}

func TestAlertmanagerAcceptsItsConfigurationAndRoutesSignalsToScalehook(t *testing.T) {
	testenv.Need(t, testenv.Program("amtool"))
	checkRoutes(t, "alertmanager/alertmanager.yml", "people")
}

func TestHAProxyAcceptsItsConfiguration(t *testing.T) {
	testenv.Need(t, testenv.Program("haproxy"))
	out := run(t, "haproxy", "-c", "-f", "haproxy/haproxy.cfg")
	if strings.Contains(out, "[WARNING]") {
		t.Errorf("with warnings:\n%s", out)
	}
	pool := "backend web\n    # A dynamic algorithm"
	if !bytes.Contains(read(t, "haproxy/haproxy.cfg"), []byte(pool)) {
		t.Error("no backend web with a dynamic algorithm")
	}
}

// HAProxy 3.3 and later refuse a frontend and a backend of one name; older ones do not
// say so, or warn.
func TestNoFrontendHasTheNameOfABackend(t *testing.T) {
	for name, text := range map[string][]byte{"haproxy/haproxy.cfg": read(t, "haproxy/haproxy.cfg"), "the example": example(t, "haproxy")} {
		sections := map[string]string{}
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			if len(words) < 2 || words[0] != "frontend" && words[0] != "backend" {
				continue
			}
			if other, taken := sections[words[1]]; taken {
				t.Errorf("%s has a %s and a %s with the name %q", name, other, words[0], words[1])
			}
			sections[words[1]] = words[0]
		}
		if len(sections) == 0 {
			t.Errorf("%s has no sections", name)
		}
	}
}

// merge adds the lists and maps of extra to those of base, as a person would.
func merge(base, extra any) any {
	switch extra := extra.(type) {
	case map[string]any:
		merged, ok := base.(map[string]any)
		if !ok {
			return extra
		}
		for key, value := range extra {
			if old, ok := merged[key]; ok {
				merged[key] = merge(old, value)
			} else {
				merged[key] = value
			}
		}
		return merged
	case []any:
		// In front, since the first matching route of Alertmanager wins.
		if list, ok := base.([]any); ok {
			return append(append([]any{}, extra...), list...)
		}
	}
	return extra
}

func mergeYAML(t *testing.T, base, extra []byte) []byte {
	t.Helper()
	var documents [2]any
	for i, text := range [][]byte{base, extra} {
		if err := yaml.Unmarshal(text, &documents[i]); err != nil {
			t.Fatal(err)
		}
	}
	text, err := yaml.Marshal(merge(documents[0], documents[1]))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func example(t *testing.T, name string) []byte {
	t.Helper()
	text, err := deploy.Example(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestThePrometheusExampleIsValidOnceMerged(t *testing.T) {
	testenv.Need(t, testenv.Program("promtool"))
	base := []byte(`
global: {scrape_interval: 1m}
rule_files: []
alerting: {alertmanagers: [{static_configs: [{targets: ['127.0.0.1:9093']}]}]}
scrape_configs: [{job_name: node, static_configs: [{targets: ['127.0.0.1:9100']}]}]
`)
	out := run(t, "promtool", "check", "config", "--lint-fatal", withRules(t, mergeYAML(t, base, example(t, "prometheus"))))
	if !strings.Contains(out, "rules found") {
		t.Errorf("the rules were not found:\n%s", out)
	}
}

func TestTheAlertmanagerExampleIsValidOnceMerged(t *testing.T) {
	testenv.Need(t, testenv.Program("amtool"))
	base := []byte(`
route:
  receiver: mail
  routes: [{matchers: ['severity=~".+"'], receiver: mail}]
receivers: [{name: mail}]
`)
	checkRoutes(t, write(t, filepath.Join(t.TempDir(), "alertmanager.yml"), mergeYAML(t, base, example(t, "alertmanager"))), "mail")
}

func TestTheHAProxyExampleIsValidOnceAppended(t *testing.T) {
	testenv.Need(t, testenv.Program("haproxy"))
	base := []byte(`
global
    log /dev/log local0
    stats socket /run/haproxy/admin.sock mode 660 level admin
    user haproxy
    group haproxy
    daemon
defaults
    log global
    mode http
    timeout connect 5000
    timeout client 50000
    timeout server 50000
frontend clients
    bind 127.0.0.1:8081
    default_backend mine
backend mine
    server one 192.0.2.1:80 check
`)
	dir := t.TempDir()
	own := write(t, filepath.Join(dir, "haproxy.cfg"), base)
	ours := write(t, filepath.Join(dir, "scalehook.cfg"), example(t, "haproxy"))
	run(t, "haproxy", "-c", "-f", own, "-f", ours)
	appended := write(t, filepath.Join(dir, "appended.cfg"), append(append([]byte{}, base...), example(t, "haproxy")...))
	if out := run(t, "haproxy", "-c", "-f", appended); strings.Contains(out, "[WARNING]") {
		t.Errorf("with warnings:\n%s", out)
	}
}

func TestExamplesSayHowToUseThem(t *testing.T) {
	names := deploy.Examples()
	for _, want := range []string{"alertmanager", "haproxy", "prometheus"} {
		found := false
		for _, name := range names {
			found = found || name == want
		}
		if !found {
			t.Errorf("no example %q in %v", want, names)
		}
	}
	for _, name := range names {
		if text := example(t, name); !bytes.HasPrefix(text, []byte("# ")) {
			t.Errorf("example %q does not begin with a comment on its use", name)
		}
	}
	_, err := deploy.Example("nginx")
	if err == nil || !strings.Contains(err.Error(), `no example "nginx": there are alertmanager, haproxy`) {
		t.Errorf("got %v", err)
	}
}
