package doctor

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/deploy"
	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/rules"
)

// expected is what the configurations in testdata are held against.
func expected(dir string) Expected {
	return Expected{
		Groups: []Group{{Name: "db", Lease: 150 * time.Second}, {Name: "web", Lease: 3 * time.Minute}},
		Rules:  rules.Options{}.WithDefaults(),
		Tokens: []Token{{Name: "am", Role: "alerts", File: filepath.Join(dir, "server.token")}},
		Leave:  Leaving([]byte("global: {external_labels: {cluster: prod, alertname: is the alert's own}}")),
	}
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	name = filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// surroundings are the files that the configurations in testdata name.
func surroundings(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, "server.token", "the-token-of-alertmanager\n")
	put(t, dir, "alerts.token", "the-token-of-alertmanager")
	put(t, dir, "other.token", "a-token-of-somebody-else\n")
	put(t, dir, "jobs/scalehook.yml", "scrape_configs: [{job_name: scalehook, static_configs: [{targets: ['127.0.0.1:10070']}]}]\n")
	text := string(rules.Default())
	five, err := rules.Render(rules.Options{ScrapeInterval: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(text, "      - alert: ScalehookAbsent\n")
	_, after, found := strings.Cut(rest, "      - alert: ScalehookReloadFailed\n")
	if !found {
		t.Fatal("the rules have changed their order")
	}
	for name, content := range map[string]string{
		"scalehook.rules.yml": text,
		"again.yml":           text,
		"five.yml":            string(five),
		"edited.yml":          strings.Replace(text, "> on (scaling_group)", ">= on (scaling_group)", 1),
		"fewer.yml":           before + "      - alert: ScalehookReloadFailed\n" + after,
		"guests.yml":          string(rules.Guests()),
		"others.yml":          "groups: [{name: others, rules: [{record: a, expr: b}]}]\n",
		"broken.yml":          "groups: [\n",
	} {
		put(t, dir, "rules/"+name, content)
	}
	return dir
}

// TestConfigurationsOfOthers examines every file in testdata. Its first lines say
// what is to be found: a state, what was looked at and a part of what is said of it;
// everything else has to be OK. Its name begins with the worst of them.
func TestConfigurationsOfOthers(t *testing.T) {
	dir := surroundings(t)
	for kind, examine := range map[string]func([]byte) []Check{
		"alertmanager": func(text []byte) []Check {
			return Alertmanager(expected(dir), AlertmanagerFile{Text: text, Dir: dir})
		},
		"prometheus": func(text []byte) []Check {
			return Prometheus(expected(dir), PrometheusFile{Text: text, Dir: dir})
		},
	} {
		files, err := filepath.Glob(filepath.Join("testdata", kind, "*.yml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%d files, %v", len(files), err)
		}
		for _, file := range files {
			t.Run(kind+"/"+filepath.Base(file), func(t *testing.T) {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				checks := examine(text)
				outcome(t, filepath.Base(file), text, checks)
				documented(t, checks)
			})
		}
	}
}

func outcome(t *testing.T, name string, text []byte, checks []Check) {
	t.Helper()
	var want []string
	for line := range strings.Lines(string(text)) {
		line, comment := strings.CutPrefix(strings.TrimSpace(line), "# ")
		if !comment {
			break
		}
		want = append(want, line)
	}
	worst := "ok"
	for _, c := range checks {
		if c.OK && !c.Warning {
			continue
		}
		state := "WRONG"
		if c.OK {
			state = "WARN"
		}
		if worst != "wrong" {
			worst = strings.ToLower(state)
		}
		i := slices.IndexFunc(want, func(w string) bool { return strings.HasPrefix(w, state+" "+c.What+": ") })
		if i < 0 {
			t.Errorf("not wanted: %s %s: %s", state, c.What, c.Detail)
			continue
		}
		if part := strings.TrimPrefix(want[i], state+" "+c.What+": "); !strings.Contains(c.Detail, part) {
			t.Errorf("%s: %q lacks %q", c.What, c.Detail, part)
		}
		want = slices.Delete(want, i, i+1)
	}
	if len(want) > 0 {
		t.Errorf("not found: %q", want)
	}
	if !strings.HasPrefix(name, worst+"-") {
		t.Errorf("%s is %s", name, worst)
	}
}

// documented holds the checks against the table of the page.
func documented(t *testing.T, checks []Check) {
	t.Helper()
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks {
		what := c.What
		switch {
		case strings.HasPrefix(what, "token ") && what != "token file":
			what = "token NAME"
		case strings.HasPrefix(what, "webhook "):
			what = "webhook NAME"
		case strings.HasPrefix(what, "group "):
			what = "group NAME"
		case c.Part == PartProviders:
			what = "NAME"
		case c.Part == PartBalancers:
			what = "NAME, pool of GROUP"
		}
		if row := fmt.Sprintf("\n| %s | %s | ", c.Part, what); !strings.Contains(string(page), row) {
			t.Errorf("docs/doctor.md lacks %s: %s", c.Part, c.What)
		}
	}
}

func TestOurOwnConfigurationsAreAllOK(t *testing.T) {
	dir := surroundings(t)
	put(t, dir, "rules.d/scalehook.rules.yml", string(rules.Default()))
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join("../../deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	e := expected(dir)
	for _, c := range append(
		Alertmanager(e, AlertmanagerFile{Text: read("alertmanager/alertmanager.yml"), Dir: dir, Peers: 1}),
		Prometheus(e, PrometheusFile{Text: read("prometheus/prometheus.yml"), Dir: dir})...) {
		if !c.OK || c.Warning {
			t.Errorf("%+v", c)
		}
	}
}

// The snippets that "scalehook example" prints are for each other.
func TestOurOwnExamplesAreAllOK(t *testing.T) {
	dir := surroundings(t)
	example := func(name, old, by string) []byte {
		text, err := deploy.Example(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte(old)) {
			t.Fatalf("the example %s lacks %q", name, old)
		}
		return bytes.Replace(text, []byte(old), []byte(by), 1)
	}
	c, err := config.Parse(filepath.Join(dir, "scalehook.yml"), example("kvm", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	e := Expect(c).At("http://127.0.0.1:10070")
	if e.Simulated || len(e.Groups) == 0 || len(e.Tokens) == 0 || e.MaxAge == 0 {
		t.Errorf("%+v", e)
	}
	// What they are merged into has a receiver for people and an Alertmanager.
	for _, c := range append(
		Alertmanager(e, AlertmanagerFile{Text: example("alertmanager", "\nroute:\n", "\nroute:\n  receiver: people\n"), Dir: dir, Peers: 1}),
		Prometheus(e, PrometheusFile{Text: append(example("prometheus", "- /etc/prometheus/rules.d/", "- rules/"),
			"\nalerting: {alertmanagers: [{static_configs: [{targets: ['127.0.0.1:9093']}]}]}\n"...), Dir: dir})...) {
		if !c.OK || c.Warning {
			t.Errorf("%+v", c)
		}
	}
}

func TestFurtherPeersMakePostsLate(t *testing.T) {
	dir := surroundings(t)
	text, err := os.ReadFile("testdata/alertmanager/ok-by-matchers.yml")
	if err != nil {
		t.Fatal(err)
	}
	checks := Alertmanager(expected(dir), AlertmanagerFile{Text: text, Dir: dir, Peers: 3})
	i := slices.IndexFunc(checks, func(c Check) bool { return c.What == whatTimings })
	if checks[i].OK || !strings.Contains(checks[i].Detail, "3m apart") || !strings.Contains(checks[i].Detail, "write repeat_interval: 45s, or lease_ttl: 3m") {
		t.Errorf("%+v", checks[i])
	}
}

func TestAReceiverThatIsNamedIsTaken(t *testing.T) {
	dir := surroundings(t)
	text, err := os.ReadFile("testdata/alertmanager/wrong-the-receiver-is-secret-and-has-no-name-of-ours.yml")
	if err != nil {
		t.Fatal(err)
	}
	e := expected(dir)
	e.Receivers = []string{"ops"}
	checks := Alertmanager(e, AlertmanagerFile{Text: text, Dir: dir})
	if i := slices.IndexFunc(checks, func(c Check) bool { return c.What == whatRoute }); i < 0 || !checks[i].OK {
		t.Errorf("%+v", checks)
	}
	e.Receivers = []string{"nobody"}
	if checks := Alertmanager(e, AlertmanagerFile{Text: text, Dir: dir}); !Failed(checks) {
		t.Errorf("%+v", checks)
	}
}

// TestTheTreeIsWalkedAsAmtoolDoes compares the receivers that alerts reach.
func TestTheTreeIsWalkedAsAmtoolDoes(t *testing.T) {
	testenv.Need(t, testenv.Program("amtool"))
	compared := 0
	for _, name := range []string{
		"ok-by-matchers", "ok-by-the-old-match-and-match_re", "ok-inherited-from-a-parent-route", "ok-after-another-route-that-goes-on",
		"wrong-another-route-takes-them", "wrong-only-the-high-signal", "warn-they-reach-people-too", "warn-posted-twice",
		"warn-everything-comes-here", "warn-a-route-brings-alerts-of-others", "warn-alerts-for-people-come-here",
	} {
		file := filepath.Join("testdata", "alertmanager", name+".yml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		x := &alertmanager{file: AlertmanagerFile{Text: text}, e: expected("")}
		x.examine()
		for _, alert := range []map[string]string{
			signal("web", "high"), signal("db", "low"),
			{"alertname": alertHeartbeat, labelHeartbeat: "true", "severity": "none"},
			{"alertname": "ScalehookGroupDegraded", labelGroup: "web", "severity": "critical", "team": "web"},
		} {
			args := []string{"config", "routes", "test", "--config.file=" + file}
			for name, value := range alert {
				args = append(args, fmt.Sprintf("%s=%s", name, value))
			}
			command := exec.CommandContext(t.Context(), testenv.Path(t, "amtool"), args...)
			var out, errs bytes.Buffer
			command.Stdout, command.Stderr = &out, &errs
			if err := command.Run(); err != nil {
				t.Fatalf("amtool of %s: %v: %s", file, err, errs.String())
			}
			var got []string
			for _, r := range x.root.match(alert) {
				got = append(got, r.receiver)
			}
			slices.Sort(got)
			want := strings.Split(strings.TrimSpace(out.String()), ",")
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v goes to %v, amtool says %v", file, alert, got, want)
			}
			compared++
		}
	}
	if compared != 44 {
		t.Errorf("%d alerts were compared", compared)
	}
}
