package grafana_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/grafana"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/rules"
)

// queries returns every query of the dashboards with Grafana's variables filled in.
func queries(t *testing.T) map[string]string {
	t.Helper()
	all, err := grafana.Queries()
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	out := map[string]string{}
	for _, q := range all {
		expr, err := q.Fill(grafana.Choice{Group: "web", Scrape: 15 * time.Second, Begin: end.Add(-time.Hour), End: end})
		if err != nil {
			t.Error(err)
		}
		if out[q.Where] != "" {
			t.Errorf("two queries are %q", q.Where)
		}
		out[q.Where] = expr
	}
	return out
}

// published are the metrics that anybody publishes, and their labels where they are
// known. The server's list is held against a running server in package rules, the
// exporter's exposition against the exporter in its own.
func published(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{"up": nil, "ALERTS": nil}
	for _, series := range rules.ServerSeries() {
		name := series.Name
		if series.Kind == rules.Histogram {
			name += "_bucket"
		}
		out[name] = series.Labels
	}
	file, err := os.Open("../exporter/testdata/exposition.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) == 4 && fields[1] == "TYPE" {
			out[fields[2]] = nil
		}
	}
	var recorded struct {
		Groups []struct{ Rules []struct{ Record string } }
	}
	if err := yaml.Unmarshal(rules.Default(), &recorded); err != nil {
		t.Fatal(err)
	}
	for _, group := range recorded.Groups {
		for _, rule := range group.Rules {
			if rule.Record != "" {
				out[rule.Record] = nil
			}
		}
	}
	return out
}

var (
	quoted   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	selected = regexp.MustCompile(`([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}`)
	braces   = regexp.MustCompile(`\{[^}]*\}`)
	windows  = regexp.MustCompile(`\[[^\]]*\]`)
	lists    = regexp.MustCompile(`\b(?:by|on|without|ignoring|group_left|group_right) *\([^)]*\)`)
	words    = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*( *\()?`)
	matcher  = regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"([^"]*)"`)
)

// metrics returns the names of metrics in an expression: the words that are neither
// functions, operators nor labels.
func metrics(expr string) []string {
	rest := lists.ReplaceAllString(windows.ReplaceAllString(braces.ReplaceAllString(quoted.ReplaceAllString(expr, `""`), ""), ""), "")
	var out []string
	for _, word := range words.FindAllString(rest, -1) {
		if !strings.HasSuffix(word, "(") && !slices.Contains([]string{"or", "and", "unless", "bool", "offset", "by", "on"}, word) {
			out = append(out, word)
		}
	}
	return out
}

func TestEveryMetricOfTheDashboardsIsPublished(t *testing.T) {
	known := published(t)
	seen := 0
	for where, expr := range queries(t) {
		found := metrics(expr)
		if len(found) == 0 {
			t.Errorf("%s names no metric: %s", where, expr)
		}
		for _, name := range found {
			seen++
			if _, ok := known[name]; !ok {
				t.Errorf("%s names %s, which nobody publishes", where, name)
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d names of metrics were found", seen)
	}
}

// TestEveryLabelOfTheDashboardsIsThere holds the labels in selectors, and the values of
// those with fixed values, against what is published.
func TestEveryLabelOfTheDashboardsIsThere(t *testing.T) {
	values := map[string][]string{
		"status": texts(scaling.Statuses()), "activity": texts(scaling.ActivityKinds()),
		"step": texts(scaling.InstanceStates()), "signal": {"high", "low"},
	}
	states := map[string][]string{
		"scalehook_member_state": texts([]scaling.MemberState{scaling.MemberJoining, scaling.MemberReady, scaling.MemberDraining, scaling.MemberLeaving}),
	}
	known := published(t)
	for where, expr := range queries(t) {
		for _, found := range selected.FindAllStringSubmatch(expr, -1) {
			name := found[1]
			for _, m := range matcher.FindAllStringSubmatch(found[2], -1) {
				label, value := m[1], m[2]
				if labels := known[name]; labels != nil && !slices.Contains(labels, label) && label != "instance" {
					t.Errorf("%s: %s has no label %s", where, name, label)
				}
				allowed := values[label]
				if label == "state" {
					if allowed = states[name]; allowed == nil {
						allowed = texts(scaling.InstanceStates())
					}
				}
				for one := range strings.SplitSeq(value, "|") {
					if allowed != nil && !slices.Contains(allowed, one) {
						t.Errorf("%s: %s is never %s=%q", where, name, label, one)
					}
				}
			}
		}
	}
}

func texts[T ~string](all []T) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = string(v)
	}
	return out
}

func TestPrometheusParsesEveryQuery(t *testing.T) {
	testenv.Need(t, testenv.Program("promtool"))
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var found []rule
	for _, expr := range queries(t) {
		found = append(found, rule{Record: fmt.Sprintf("panel:expression:%d", len(found)), Expr: expr})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboards", "rules": found}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dashboards.yml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, testenv.Path(t, "promtool"), "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
