package deploy_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/rules"
)

// service is one of docker-compose.yml.
type service struct {
	Image       string
	Profiles    []string
	Command     []string
	Build       struct{ Dockerfile string }
	Volumes     []string
	Ports       []string
	User        string
	NetworkMode string `yaml:"network_mode"`
	Privileged  bool
	Environment map[string]string
	CapDrop     []string                              `yaml:"cap_drop"`
	SecurityOpt []string                              `yaml:"security_opt"`
	Healthcheck map[string]any                        `yaml:"healthcheck"`
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
}

// setup reports whether the service runs to its end.
func (s service) setup() bool {
	return slices.Equal(s.Command, []string{"host"}) || slices.Equal(s.Command, []string{"tour"})
}

func composeServices(t *testing.T) map[string]service {
	t.Helper()
	var file struct {
		Services map[string]service
		Volumes  map[string]any
	}
	if err := yaml.Unmarshal(read(t, "../docker-compose.yml"), &file); err != nil {
		t.Fatal(err)
	}
	return file.Services
}

func TestDockerComposeAcceptsItsFile(t *testing.T) {
	testenv.Need(t, testenv.Program("docker-compose"))
	run(t, "docker-compose", "--project-directory", "..", "--file", "../docker-compose.yml", "config", "--quiet")
}

func TestComposeMountsWhatIsThere(t *testing.T) {
	for name, s := range composeServices(t) {
		paths := []string{s.Build.Dockerfile}
		for _, volume := range s.Volumes {
			host, _, _ := strings.Cut(volume, ":")
			if !strings.HasPrefix(host, "./") {
				continue
			}
			paths = append(paths, host)
			// git and most editors put a new file in the place of the old one, and the
			// container would go on with the old one.
			if info, err := os.Stat(filepath.Join("..", host)); err == nil && !info.IsDir() {
				t.Errorf("service %s mounts the file %s: mount its folder, or have setup copy it", name, host)
			}
		}
		for _, path := range paths {
			if _, err := os.Stat(filepath.Join("..", path)); err != nil {
				t.Errorf("service %s: %v", name, err)
			}
		}
	}
}

func TestEachProfileOfComposeIsWholeAndApart(t *testing.T) {
	profiles := map[string][]string{}
	services := composeServices(t)
	for name, s := range services {
		if len(s.Profiles) != 1 {
			t.Errorf("service %s has the profiles %v, want one: without any it would start with every profile", name, s.Profiles)
			continue
		}
		profiles[s.Profiles[0]] = append(profiles[s.Profiles[0]], name)
		for other := range s.DependsOn {
			if !slices.Equal(services[other].Profiles, s.Profiles) {
				t.Errorf("service %s needs %s, which is not of its profile", name, other)
			}
		}
		for _, volume := range s.Volumes {
			if s.Profiles[0] == "tour" && strings.Contains(volume, "libvirt") {
				t.Errorf("service %s of the tour needs libvirt", name)
			}
		}
	}
	for _, names := range profiles {
		slices.Sort(names)
	}
	want := map[string][]string{
		"host": {"alertmanager", "exporter", "grafana", "haproxy", "prometheus", "scalehook", "setup"},
		"tour": {"tour", "tour-alertmanager", "tour-grafana", "tour-prometheus", "tour-setup"},
	}
	if diff := cmp.Diff(want, profiles); diff != "" {
		t.Errorf("the profiles (-want +got):\n%s", diff)
	}
	if !bytes.Contains(read(t, "../.env"), []byte("\nCOMPOSE_PROFILES=host\n")) {
		t.Error(".env does not choose the profile host: docker compose up would start nothing")
	}
}

// exact is a tag that says one version, or the Debian that gets its security updates.
var exact = regexp.MustCompile(`^[a-z/]+:(v?\d+\.\d+\.\d+(-bookworm)?|bookworm-slim)$`)

func TestEachImageHasAnExactTag(t *testing.T) {
	names := []string{}
	for _, m := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(string(read(t, "compose/Dockerfile")), -1) {
		names = append(names, m[1])
	}
	if len(names) != 2 {
		t.Errorf("the Dockerfile is made of %v, want two images", names)
	}
	for _, s := range composeServices(t) {
		if s.Image != "scalehook:${SCALEHOOK_VERSION:-local}" {
			names = append(names, s.Image)
		}
	}
	for _, name := range names {
		if !exact.MatchString(name) {
			t.Errorf("image %q has no exact tag", name)
		}
	}
}

func TestContainersHaveFewRightsAndAHealthCheck(t *testing.T) {
	for name, s := range composeServices(t) {
		if s.Privileged || s.User == "root" || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("service %s: privileged %v, user %q, cap_drop %v, security_opt %v", name, s.Privileged, s.User, s.CapDrop, s.SecurityOpt)
		}
		if !s.setup() && s.Healthcheck["test"] == nil {
			t.Errorf("service %s has no health check", name)
		}
		if !s.setup() && len(s.DependsOn) == 0 && name != "exporter" {
			t.Errorf("service %s waits for nothing", name)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("service %s publishes %s on more than loopback", name, port)
			}
		}
		for other, d := range s.DependsOn {
			want := "service_healthy"
			if strings.HasSuffix(other, "setup") {
				want = "service_completed_successfully"
			}
			if d.Condition != want {
				t.Errorf("service %s waits until %s is %q, want %q", name, other, d.Condition, want)
			}
		}
	}
	dockerfile := string(read(t, "compose/Dockerfile"))
	for _, want := range []string{"\nUSER 10070:10070\n", "\nHEALTHCHECK ", "\nLABEL org.opencontainers.image.", " -trimpath "} {
		if !strings.Contains(dockerfile, want) {
			t.Errorf("the Dockerfile has no %q", strings.TrimSpace(want))
		}
	}
}

func TestNoSecretIsInWhatComposeReads(t *testing.T) {
	secret := regexp.MustCompile(`(?i)(password|secret|token|key)\w*["']?\s*[:=]\s*["']?[^\s"'/$*{]{8,}|[0-9a-f]{32}`)
	files := []string{"../docker-compose.yml", "../.env"}
	more, err := filepath.Glob("compose/*")
	if err != nil {
		t.Fatal(err)
	}
	tour, err := filepath.Glob("compose/tour/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Concat(files, more, tour) {
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			continue
		}
		if found := secret.Find(read(t, path)); found != nil {
			t.Errorf("%s has what looks like a secret: %s", path, found)
		}
	}
	for _, sample := range []string{"token: abcdefgh12345678", "GF_SECURITY_ADMIN_PASSWORD: hunter2hunter2", "0123456789abcdef0123456789abcdef"} {
		if !secret.MatchString(sample) {
			t.Errorf("a secret that would not be found: %s", sample)
		}
	}
}

func TestTheVariablesAreThoseOfTheFile(t *testing.T) {
	inFile, inEnv := map[string]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`\$\{([A-Z_]+):-([^}]*)\}`).FindAllStringSubmatch(string(read(t, "../docker-compose.yml")), -1) {
		if before, known := inFile[m[1]]; known && before != m[2] {
			t.Errorf("%s is %q here and %q there", m[1], before, m[2])
		}
		inFile[m[1]] = m[2]
	}
	for _, m := range regexp.MustCompile(`(?m)^#([A-Z_]+)=(.*)$`).FindAllStringSubmatch(string(read(t, "../.env")), -1) {
		inEnv[m[1]] = m[2]
	}
	if diff := cmp.Diff(inFile, inEnv); diff != "" {
		t.Errorf("what .env says holds (-docker-compose.yml +.env):\n%s", diff)
	}
	doc := string(read(t, "../docs/compose.md"))
	for name, value := range inFile {
		if row := fmt.Sprintf("| `%s` | `%s` |", name, value); value != "" && !strings.Contains(doc, row) {
			t.Errorf("docs/compose.md has no row %q", row)
		}
	}
}

// setUp runs the setup of the containers on a copy of the tree.
func setUp(t *testing.T, root, what string, env ...string) ([]byte, error) {
	t.Helper()
	for _, dir := range []string{"run/tokens/alerts", "run/tokens/operator", "config", "src", "bin"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"deploy", "grafana", "rules"} {
		target, err := filepath.Abs(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(root, "src", name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	// In the place of `scalehook rules`.
	write(t, filepath.Join(root, "rules.yml"), rules.Default())
	write(t, filepath.Join(root, "bin", "scalehook"), []byte("#!/bin/sh\nexec cat '"+filepath.Join(root, "rules.yml")+"'\n"))
	if err := os.Chmod(filepath.Join(root, "bin", "scalehook"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "compose/setup", what)
	cmd.Env = append(os.Environ(), append(env, "SETUP_ROOT="+root, "PATH="+filepath.Join(root, "bin")+":"+os.Getenv("PATH"))...)
	return cmd.CombinedOutput()
}

func TestTheSetupOfTheContainers(t *testing.T) {
	testenv.Need(t, testenv.Program("promtool"), testenv.Program("amtool"))
	ports := []string{"SCALEHOOK_PORT=20070", "EXPORTER_PORT=20071", "PROMETHEUS_PORT=20090", "ALERTMANAGER_PORT=20093"}
	for _, what := range []string{"host", "tour"} {
		t.Run(what, func(t *testing.T) {
			root := t.TempDir()
			if out, err := setUp(t, root, what, ports...); err != nil {
				t.Fatalf("setup %s: %v\n%s", what, err, out)
			}
			token := filepath.Join(root, "run/tokens/alerts/alerts.token")
			first := read(t, token)
			if !regexp.MustCompile(`^[0-9a-f]{64}\n$`).Match(first) || bytes.Equal(first, read(t, filepath.Join(root, "run/tokens/operator/operator.token"))) {
				t.Error("the tokens are not two of 32 bytes")
			}
			if st, err := os.Stat(token); err != nil || st.Mode().Perm() != 0o640 {
				t.Errorf("the token: %v, %v; want mode 0640", st.Mode(), err)
			}
			conf := filepath.Join(root, "config")
			out := run(t, "promtool", "check", "config", "--lint-fatal", filepath.Join(conf, "prometheus.yml"))
			if !strings.Contains(out, "rules found") {
				t.Errorf("the rules were not found:\n%s", out)
			}
			checkRoutes(t, filepath.Join(conf, "alertmanager.yml"), "people")
			if _, err := config.Parse("scalehook.yml", read(t, filepath.Join(conf, "scalehook.yml"))); err != nil {
				t.Error(err)
			}
			for _, name := range []string{"prometheus.yml", "alertmanager.yml", "scalehook.yml", "grafana/provisioning/datasources/prometheus.yml", "grafana/provisioning/dashboards/scalehook.yml"} {
				text := read(t, filepath.Join(conf, name))
				// The tour's containers see only themselves on loopback.
				old := regexp.MustCompile(`127\.0\.0\.1:(10070|10071|9090|9093)|/etc/alertmanager|/var/lib/grafana`)
				if what == "tour" {
					old = regexp.MustCompile(`127\.0\.0\.1|/var/lib/grafana`)
				}
				if found := old.Find(text); found != nil {
					t.Errorf("%s still has %s", name, found)
				}
			}
			if what == "host" && !bytes.Equal(read(t, filepath.Join(conf, "haproxy.cfg")), read(t, "compose/haproxy.cfg")) {
				t.Error("HAProxy's configuration is another")
			}
			for _, name := range []string{"overview", "group"} {
				if !bytes.Equal(read(t, filepath.Join(conf, "grafana/dashboards", name+".json")), read(t, "../grafana/dashboards/"+name+".json")) {
					t.Errorf("the dashboard %s is another", name)
				}
			}
			if out, err := setUp(t, root, what, ports...); err != nil {
				t.Fatalf("setup %s, once more: %v\n%s", what, err, out)
			}
			if !bytes.Equal(first, read(t, token)) {
				t.Error("a token that was there is another one now")
			}
		})
	}
}

// Whoever has a port has it alone, also where it is what another one was.
func TestTheSetupReplacesEachPortOnce(t *testing.T) {
	const scalehook, exporter, prometheus, alertmanager = "10070", "10071", "9090", "9093"
	for name, ports := range map[string][4]string{ // those of scalehook, exporter, Prometheus, Alertmanager
		"as they are":                  {scalehook, exporter, prometheus, alertmanager},
		"moved up by one":              {"10071", "10072", "9091", "9094"},
		"Prometheus at Alertmanager's": {"10070", "10071", "9093", "9094"},
		"exchanged":                    {"10071", "10070", "9093", "9090"},
		"in a circle":                  {"10071", "9090", "9093", "10070"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if out, err := setUp(t, root, "host", "SCALEHOOK_PORT="+ports[0], "EXPORTER_PORT="+ports[1], "PROMETHEUS_PORT="+ports[2], "ALERTMANAGER_PORT="+ports[3]); err != nil {
				t.Fatalf("setup host: %v\n%s", err, out)
			}
			port := map[string]string{scalehook: ports[0], exporter: ports[1], prometheus: ports[2], alertmanager: ports[3]}
			addresses := regexp.MustCompile(`127\.0\.0\.1:(\d+)`)
			for file, from := range map[string]string{
				"scalehook.yml":    "compose/scalehook.yml",
				"prometheus.yml":   "prometheus/prometheus.yml",
				"alertmanager.yml": "alertmanager/alertmanager.yml",
				"grafana/provisioning/datasources/prometheus.yml": "../grafana/provisioning/datasources/prometheus.yml",
			} {
				var want, got []string
				for _, m := range addresses.FindAllSubmatch(read(t, from), -1) {
					want = append(want, port[string(m[1])])
				}
				for _, m := range addresses.FindAllSubmatch(read(t, filepath.Join(root, "config", file)), -1) {
					got = append(got, string(m[1]))
				}
				if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
					t.Errorf("the ports of %s (-want +got):\n%s", file, diff)
				}
			}
		})
	}
}

func TestTheSetupSaysWhatItCannotRead(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "src", "rules"), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := setUp(t, root, "host", "SCALEHOOK_PORT=1", "EXPORTER_PORT=2", "PROMETHEUS_PORT=3", "ALERTMANAGER_PORT=4")
	if err == nil || !strings.Contains(string(out), "setup: rules/scalehook.rules.yml cannot be read by user") || !strings.Contains(string(out), "chmod -R a+rX") {
		t.Errorf("without the rules: %v\n%s", err, out)
	}
}

func TestHAProxyAcceptsTheConfigurationOfTheContainers(t *testing.T) {
	testenv.Need(t, testenv.Program("haproxy"))
	t.Setenv("HAPROXY_BIND", ":8080")
	t.Setenv("HAPROXY_STATS_PORT", "8404")
	if out := run(t, "haproxy", "-c", "-f", "compose/haproxy.cfg"); strings.Contains(out, "[WARNING]") {
		t.Errorf("with warnings:\n%s", out)
	}
}

func TestScalehookAcceptsItsConfigurations(t *testing.T) {
	for _, path := range []string{"compose/scalehook.yml", "examples/scalehook.yml", "examples/scalehook-kvm.yml"} {
		text := read(t, path)
		if _, err := config.Parse(path, text); err != nil {
			t.Errorf("%v", err)
		}
		if !bytes.Contains(text, []byte("mode: observe")) {
			t.Errorf("%s: a group that is not in mode: observe", path)
		}
	}
}
