package deploy_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/deploy"
	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/testenv"
)

// commands returns README's commands of the section on an own installation.
func commands(t *testing.T) string {
	t.Helper()
	_, section, found := strings.Cut(string(read(t, "../README.md")), "\n## Beside what you have\n")
	if !found {
		t.Fatal("README has no such section")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	blocks, err := doc.Blocks(section)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for _, b := range blocks {
		lines.WriteString(b.Text)
	}
	return lines.String()
}

// one returns what the only match of the pattern's group in the text is.
func one(t *testing.T, text, pattern string) string {
	t.Helper()
	found := regexp.MustCompile("(?m)"+pattern).FindAllStringSubmatch(text, -1)
	if len(found) != 1 {
		t.Fatalf("%d matches of %s, want one, in\n%s", len(found), pattern, text)
	}
	return found[0][1]
}

// The examples are used together, in the order in which README names them: what
// one of them makes is what the next one needs.
func TestTheExamplesAndREADMEFitTogether(t *testing.T) {
	readme := commands(t)
	for _, name := range []string{"prometheus", "alertmanager", "haproxy", "kvm"} {
		if !strings.Contains(readme, "scalehook example "+name) {
			t.Errorf("README does not name the example %s", name)
		}
	}
	var kvm struct {
		Monitoring struct {
			Scrape string `yaml:"scrape_interval"`
		}
		Prometheus struct{ URL string }
		Tokens     []struct{ Role, File string }
		Balancers  struct {
			Edge struct {
				HAProxy struct {
					Sockets []struct{ Address string }
				}
			}
		}
		Groups struct {
			Web struct {
				Template struct{ Image, Pool string }
				Pool     struct{ Backend string }
			}
		}
	}
	decode := func(name string, into any) string {
		text := example(t, name)
		if err := yaml.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	decode("kvm", &kvm)
	var prom struct {
		RuleFiles []string `yaml:"rule_files"`
		Scrapes   []struct {
			Job      string `yaml:"job_name"`
			Interval string `yaml:"scrape_interval"`
			Static   []struct {
				Targets []string
			} `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	decode("prometheus", &prom)
	alertmanager := decode("alertmanager", &struct{}{})
	haproxy := string(example(t, "haproxy"))

	type pair struct{ what, one, other string }
	pairs := []pair{
		{"HAProxy's socket", kvm.Balancers.Edge.HAProxy.Sockets[0].Address, one(t, haproxy, `^ *stats socket (\S+)`)},
		{"the backend", kvm.Groups.Web.Pool.Backend, one(t, haproxy, `^backend (\S+)`)},
		{"the image", kvm.Groups.Web.Template.Image, one(t, readme, `scalehook template import .* --name (\S+)`)},
		{"the image's pool", kvm.Groups.Web.Template.Pool, "default"}, // template import's default
		{"the rules' file", prom.RuleFiles[0], one(t, readme, `scalehook rules .* tee (\S+)`)},
		{"the rules' interval", kvm.Monitoring.Scrape, one(t, readme, `scalehook rules --scrape-interval (\S+)`)},
		{"the configuration that is checked", one(t, readme, `scalehook example kvm .*tee (\S+)`), one(t, readme, `check-config (\S+)`)},
		{"the configuration that is served", one(t, readme, `scalehook example kvm .*tee (\S+)`), one(t, readme, `serve --config.file (\S+)`)},
		{"Alertmanager's token", one(t, alertmanager, `credentials_file: (\S+)`), one(t, readme, `install .*alerts.token (\S+)`)},
	}
	for _, s := range prom.Scrapes {
		pairs = append(pairs, pair{"the scrape interval of " + s.Job, s.Interval, kvm.Monitoring.Scrape})
		if !strings.Contains(readme, s.Job) {
			t.Errorf("README does not start %s, which Prometheus is to scrape", s.Job)
		}
	}
	for _, p := range pairs {
		if p.one != p.other || p.one == "" {
			t.Errorf("%s: %q here, %q there", p.what, p.one, p.other)
		}
	}
	// What README makes in its loop over the names of tokens.
	names := strings.Fields(one(t, readme, `for name in ([a-z ]+);`))
	folder := strings.TrimSuffix(one(t, readme, `(\S+)\$name.token; done`), "/")
	for _, token := range kvm.Tokens {
		name := strings.TrimSuffix(filepath.Base(token.File), ".token")
		if filepath.Dir(token.File) != folder || !slices.Contains(names, name) {
			t.Errorf("README does not make %s", token.File)
		}
	}
	// The ports are the programs' defaults.
	for program, target := range map[string]string{"../docs/cli.md": ":10070", "../docs/exporter.md": ":10071"} {
		if !bytes.Contains(read(t, program), []byte(target)) {
			t.Errorf("%s does not listen at %s", program, target)
		}
		if !strings.Contains(string(example(t, "prometheus")), target) {
			t.Errorf("Prometheus does not scrape %s", target)
		}
	}
}

func TestTheExamplesOfHAProxyAndScalehookMeetAtARunningHAProxy(t *testing.T) {
	testenv.Need(t, testenv.Program("haproxy"))
	dir := t.TempDir()
	here := func(text []byte) []byte {
		text = bytes.ReplaceAll(text, []byte("/run/haproxy"), []byte(dir))
		text = bytes.ReplaceAll(text, []byte(" group haproxy"), nil) // needs root
		text = bytes.ReplaceAll(text, []byte("bind :8080"), []byte("bind "+testenv.FreeAddress(t)))
		text = bytes.ReplaceAll(text, []byte("provider: kvm1"), []byte("provider: sim"))
		text = bytes.ReplaceAll(text, []byte("  kvm1:\n    libvirt:\n      uri: qemu:///system\n"), []byte("  sim: {simulated: {}}\n"))
		return regexp.MustCompile(`(?m)^    template:\n(      .*\n)+\n`).ReplaceAll(text, []byte("    template: {}\n"))
	}
	cfg := write(t, filepath.Join(dir, "haproxy.cfg"), append([]byte("defaults\n    timeout connect 5s\n"), here(example(t, "haproxy"))...))
	socket := filepath.Join(dir, "scalehook.sock")
	testenv.Start(t, exec.CommandContext(context.Background(), testenv.Path(t, "haproxy"), "-db", "-f", cfg), func() error {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", socket)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	c, err := config.Parse(filepath.Join(dir, "scalehook.yml"), here(example(t, "kvm")))
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := c.Build(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := runtime.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := runtime.Balancers["web"].Observe(t.Context()); err != nil {
		t.Errorf("the pool of the example cannot be seen at the HAProxy of the example: %v", err)
	}
}

func TestREADMENamesOnlyExamplesThatThereAre(t *testing.T) {
	for _, found := range regexp.MustCompile(`scalehook example (\w+)`).FindAllStringSubmatch(commands(t), -1) {
		if !slices.Contains(deploy.Examples(), found[1]) {
			t.Errorf("README names the example %s", found[1])
		}
	}
}
