package rules_test

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/rules"
)

var update = flag.Bool("update", false, "rewrite scalehook.rules.yml")

type ruleFile struct {
	Groups []struct {
		Name     string
		Interval string
		Rules    []rule
	}
}

type rule struct {
	Record        string
	Alert         string
	Expr          string
	For           string
	KeepFiringFor string `yaml:"keep_firing_for"`
	Labels        map[string]string
	Annotations   map[string]string
}

func parse(t *testing.T, text []byte) ruleFile {
	t.Helper()
	var file ruleFile
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatalf("parse the rules: %v", err)
	}
	return file
}

func all(file ruleFile) []rule {
	var found []rule
	for _, group := range file.Groups {
		found = append(found, group.Rules...)
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheCommittedFileIsTheRenderingOfTheDefaults(t *testing.T) {
	rendered, err := rules.Render(rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("scalehook.rules.yml", rendered, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(rules.Default()), string(rendered)); diff != "" {
		t.Errorf("run `go test ./rules -update` (-committed +rendered):\n%s", diff)
	}
}

func TestOptionsAreRefusedWithWhatWouldBeRight(t *testing.T) {
	for _, test := range []struct {
		name    string
		options rules.Options
		want    string
	}{
		{"the zero value is fine", rules.Options{}, ""},
		{"one second is fine", rules.Options{ScrapeInterval: time.Second}, ""},
		{"a longer window is fine", rules.Options{RateWindow: 5 * time.Minute}, ""},
		{"too fast", rules.Options{ScrapeInterval: 100 * time.Millisecond}, "scrape interval 100ms: use 1s to 1m0s"},
		{"too slow", rules.Options{ScrapeInterval: 2 * time.Minute}, "scrape interval 2m0s: use 1s to 1m0s"},
		{"negative", rules.Options{ScrapeInterval: -time.Second}, "scrape interval -1s"},
		{"a window of three scrapes", rules.Options{RateWindow: 45 * time.Second}, "rate window 45s: use at least 1m0s"},
		{"an endless window", rules.Options{RateWindow: 2 * time.Hour}, "use at most 1h0m0s"},
		{"a fraction of a millisecond", rules.Options{ScrapeInterval: 1500 * time.Microsecond * 1001}, "use whole milliseconds"},
		{"several at once", rules.Options{ScrapeInterval: time.Hour, EvaluationInterval: time.Hour}, "evaluation interval 1h0m0s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := rules.Render(test.options)
			if test.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want something with %q", err, test.want)
			}
		})
	}
}

func TestIntervalsFollowTheScrapeInterval(t *testing.T) {
	for _, test := range []struct {
		scrape time.Duration
		want   []string
	}{
		{time.Second, []string{"interval: 1s\n", "seconds_total[4s])", "seconds_total[1s500ms] offset 2s500ms", "for: 3s500ms\n"}},
		{2 * time.Second, []string{"seconds_total[8s])", "rate(libvirt_domain_cpu_time_seconds_total[5s]) > 0", "for: 4s\n"}},
		{5 * time.Second, []string{"seconds_total[20s])", "seconds_total[12s500ms]) > 0", "for: 10s\n"}},
		{15 * time.Second, []string{"seconds_total[1m])", "seconds_total[37s500ms]) > 0", "for: 30s\n"}},
		{time.Minute, []string{"seconds_total[4m])", "seconds_total[2m30s]) > 0", "for: 2m\n", "for: 8m\n"}},
	} {
		t.Run(test.scrape.String(), func(t *testing.T) {
			text, err := rules.Render(rules.Options{ScrapeInterval: test.scrape})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !strings.Contains(string(text), want) {
					t.Errorf("no %q in the rules", want)
				}
			}
		})
	}
}

func TestScalingSignalsPageNobody(t *testing.T) {
	signals := map[string]string{}
	for _, r := range all(parse(t, rules.Default())) {
		signal, ok := r.Labels["scalehook_signal"]
		if !ok {
			continue
		}
		signals[r.Alert] = signal
		if r.Labels["severity"] != "" {
			t.Errorf("%s has a severity", r.Alert)
		}
		if !strings.Contains(r.Expr, "on (scaling_group)") {
			t.Errorf("%s does not keep scaling_group", r.Alert)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s has no summary or description", r.Alert)
		}
		if r.KeepFiringFor != "" {
			t.Errorf("%s fires on without a reading: keep_firing_for", r.Alert)
		}
	}
	want := map[string]string{"ScalehookCPUHigh": "high", "ScalehookCPULow": "low"}
	if diff := cmp.Diff(want, signals); diff != "" {
		t.Error(diff)
	}
}

func TestAlertsForPeopleSayWhatToDo(t *testing.T) {
	runbooks := read(t, "../docs/runbooks.md")
	for _, r := range all(parse(t, rules.Default())) {
		if r.Alert == "" || r.Labels["scalehook_signal"] != "" {
			continue
		}
		if !slices.Contains([]string{"none", "warning", "critical"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		for _, annotation := range []string{"summary", "description"} {
			if r.Annotations[annotation] == "" {
				t.Errorf("%s has no %s", r.Alert, annotation)
			}
		}
		if want := rules.RunbooksURL + "#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %q, want %q", r.Alert, r.Annotations["runbook_url"], want)
		}
		if !strings.Contains(runbooks, "\n## "+r.Alert+"\n") {
			t.Errorf("docs/runbooks.md has no heading %q", r.Alert)
		}
	}
}

func TestRecordNamesSayLevelMetricOperation(t *testing.T) {
	name := regexp.MustCompile(`^[a-z_]+:(libvirt|scalehook)_[a-z0-9_]+:[a-z0-9_]+$`)
	window := regexp.MustCompile(`\d+(ms|s|m|h)(_|$)`)
	for _, r := range all(parse(t, rules.Default())) {
		if r.Record == "" {
			continue
		}
		if !name.MatchString(r.Record) || window.MatchString(r.Record) {
			t.Errorf("record %s: want level:metric:operations, without a window", r.Record)
		}
	}
}

func TestEveryAlertHasATestInWhichItFiresAndOneInWhichItDoesNot(t *testing.T) {
	type alertTest struct {
		AlertName string `yaml:"alertname"`
		ExpAlerts []any  `yaml:"exp_alerts"`
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, path := range []string{"scaling.test.yml", "people.test.yml"} {
		var file struct {
			Tests []struct {
				Alerts []alertTest `yaml:"alert_rule_test"`
			}
		}
		if err := yaml.Unmarshal([]byte(read(t, path)), &file); err != nil {
			t.Fatal(err)
		}
		for _, test := range file.Tests {
			for _, alert := range test.Alerts {
				if len(alert.ExpAlerts) > 0 {
					fires[alert.AlertName] = true
				} else {
					quiet[alert.AlertName] = true
				}
			}
		}
	}
	// The heartbeat never stops; high is kept quiet by expressions over ALERTS.
	quiet["ScalehookHeartbeat"], quiet["ScalehookCPUHigh"] = true, true
	for _, r := range all(parse(t, rules.Default())) {
		if r.Alert == "" {
			continue
		}
		if !fires[r.Alert] {
			t.Errorf("no test in which %s fires", r.Alert)
		}
		if !quiet[r.Alert] {
			t.Errorf("no test in which %s does not fire", r.Alert)
		}
	}
}

var (
	quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	braces = regexp.MustCompile(`\{[^}]*\}`)
	lists  = regexp.MustCompile(`\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)`)
	names  = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	byName = regexp.MustCompile(`__name__=~"[^"]*"`)
	ours   = regexp.MustCompile(`(?:scalehook|libvirt)_[a-z0-9_]+`)
)

// metrics returns the metric names in an expression: the identifiers that look
// like ours or libvirt's once selectors, label lists and strings are gone.
func metrics(expr string) []string {
	var found []string
	selected := strings.Join(byName.FindAllString(expr, -1), " ")
	found = append(found, ours.FindAllString(selected, -1)...)
	rest := lists.ReplaceAllString(braces.ReplaceAllString(quoted.ReplaceAllString(expr, ""), ""), "")
	for _, name := range names.FindAllString(rest, -1) {
		if strings.HasPrefix(name, "scalehook_") || strings.HasPrefix(name, "libvirt_") || strings.Contains(name, ":") {
			found = append(found, name)
		}
	}
	return found
}

func TestEveryMetricNamedIsPublishedOrRecorded(t *testing.T) {
	known := map[string]bool{}
	for _, series := range slices.Concat(rules.ServerSeries(), rules.ExporterSeries()) {
		if known[series.Name] {
			t.Errorf("%s is listed twice", series.Name)
		}
		known[series.Name] = true
	}
	file := parse(t, rules.Default())
	for _, r := range all(file) {
		known[r.Record] = true
	}
	for _, r := range all(file) {
		for _, name := range metrics(r.Expr) {
			if !known[name] {
				t.Errorf("%s%s names %s, which nobody publishes", r.Alert, r.Record, name)
			}
		}
	}
}

// TestTheExporterPublishesTheSeriesThatAreListed holds the list against the exposition
// that the exporter's own tests compare the exporter with.
func TestTheExporterPublishesTheSeriesThatAreListed(t *testing.T) {
	exposition := read(t, "../exporter/testdata/exposition.txt")
	for _, series := range rules.ExporterSeries() {
		if !strings.Contains(exposition, "\n# TYPE "+series.Name+" "+string(series.Kind)+"\n") {
			t.Errorf("the exporter publishes no %s %s", series.Kind, series.Name)
		}
	}
}

func TestServerSeriesFollowPrometheusNaming(t *testing.T) {
	reserved := []string{"instance", "job", "group", "le", "quantile", "type", "zone", "cluster", "service", "env"}
	for _, series := range rules.ServerSeries() {
		if (series.Kind == rules.Counter) != strings.HasSuffix(series.Name, "_total") {
			t.Errorf("%s is a %s", series.Name, series.Kind)
		}
		if series.Help == "" || !strings.HasSuffix(series.Help, ".") {
			t.Errorf("%s: help %q is no sentence", series.Name, series.Help)
		}
		for _, label := range series.Labels {
			if slices.Contains(reserved, label) {
				t.Errorf("%s has the label %s, which collides with target labels", series.Name, label)
			}
		}
	}
}
