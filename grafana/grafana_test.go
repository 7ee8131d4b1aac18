package grafana_test

import (
	"context"
	"encoding/json"
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
	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/rules"
)

type dashboard struct {
	ID            *int
	UID           string
	Title         string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type, Definition string
			Datasource             *datasource
		}
	}
	Annotations struct {
		List []struct {
			Datasource datasource
			Expr       string
		}
	}
	Panels []panel
}

type datasource struct{ Type, UID string }

type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	Datasource  datasource
	GridPos     struct{ X, Y, W, H int }
	Targets     []struct {
		RefID        string
		Expr         string
		LegendFormat string
		Datasource   datasource
	}
	FieldConfig struct {
		Defaults struct{ Unit string }
	}
}

func load(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal(grafana.Dashboard(), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// expressions returns every expression with Grafana's variables filled in.
func expressions(d dashboard) []string {
	fill := strings.NewReplacer("$__rate_interval", "1m", "$__interval", "15s", "$__range", "1h", "$group", ".*")
	var found []string
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			found = append(found, fill.Replace(target.Expr))
		}
	}
	for _, annotation := range d.Annotations.List {
		found = append(found, fill.Replace(annotation.Expr))
	}
	return found
}

func TestTheDashboardIsPortable(t *testing.T) {
	d := load(t)
	if d.UID != "scalehook" || d.Title != "scalehook" || d.SchemaVersion == 0 {
		t.Errorf("uid %q, title %q, schema version %d", d.UID, d.Title, d.SchemaVersion)
	}
	if d.ID != nil {
		t.Error("the dashboard has an id, which belongs to one Grafana")
	}
	var variables []string
	for _, variable := range d.Templating.List {
		variables = append(variables, variable.Name)
	}
	if !slices.Equal(variables, []string{"datasource", "group"}) {
		t.Errorf("variables %v", variables)
	}
	own := datasource{Type: "prometheus", UID: "${datasource}"}
	for _, p := range d.Panels {
		if p.Datasource != own {
			t.Errorf("panel %q: data source %+v", p.Title, p.Datasource)
		}
		for _, target := range p.Targets {
			if target.Datasource != own {
				t.Errorf("panel %q: data source %+v", p.Title, target.Datasource)
			}
		}
	}
}

func TestEveryPanelExplainsItself(t *testing.T) {
	ids, titles := map[int]bool{}, map[string]bool{}
	for _, p := range load(t).Panels {
		if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q lacks a title, a description, a unit or a target", p.ID, p.Title)
		}
		if ids[p.ID] || titles[p.Title] {
			t.Errorf("panel %d %q: id or title is not unique", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if refs[target.RefID] || target.LegendFormat == "" {
				t.Errorf("panel %q: target %s is not unique or has no legend", p.Title, target.RefID)
			}
			refs[target.RefID] = true
		}
	}
}

func TestNoPanelsOverlap(t *testing.T) {
	taken := map[[2]int]string{}
	for _, p := range load(t).Panels {
		if p.GridPos.W <= 0 || p.GridPos.H <= 0 || p.GridPos.X < 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q is outside of the 24 columns: %+v", p.Title, p.GridPos)
			continue
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("panels %q and %q overlap", other, p.Title)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

func TestEveryExpressionFollowsTheGroupAndTheInterval(t *testing.T) {
	selector := regexp.MustCompile(`(?:scalehook_(?:group|instance|condition|member|activities|verdicts)_?[a-z_]*|group:[a-z0-9_]+:[a-z_]+)`)
	for _, p := range load(t).Panels {
		for _, target := range p.Targets {
			if selector.MatchString(target.Expr) && !strings.Contains(target.Expr, `scaling_group=~"$group"`) {
				t.Errorf("panel %q ignores $group: %s", p.Title, target.Expr)
			}
			for _, window := range regexp.MustCompile(`(?:rate|increase)\([^\[]*\[([^\]]*)\]`).FindAllStringSubmatch(target.Expr, -1) {
				if window[1] != "$__rate_interval" && window[1] != "1h" {
					t.Errorf("panel %q has the window %s", p.Title, window[1])
				}
			}
		}
	}
}

func TestEveryMetricOfTheDashboardExists(t *testing.T) {
	known := map[string]bool{}
	for _, series := range slices.Concat(rules.ServerSeries(), rules.ExporterSeries()) {
		known[series.Name] = true
		if series.Kind == rules.Histogram {
			known[series.Name+"_bucket"] = true
		}
	}
	var file struct {
		Groups []struct{ Rules []struct{ Record string } }
	}
	if err := yaml.Unmarshal(rules.Default(), &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			known[rule.Record] = true
		}
	}
	quoted := regexp.MustCompile(`"[^"]*"`)
	name := regexp.MustCompile(`[a-z_]+:[a-z0-9_]+:[a-z_]+|(?:scalehook|libvirt)_[a-z0-9_]+`)
	for _, expr := range expressions(load(t)) {
		for _, metric := range name.FindAllString(quoted.ReplaceAllString(expr, ""), -1) {
			if !known[metric] && metric != "scalehook_signal" {
				t.Errorf("%s is not published: %s", metric, expr)
			}
		}
	}
}

func TestPrometheusParsesEveryExpression(t *testing.T) {
	testenv.Need(t, testenv.Program("promtool"))
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var found []rule
	for i, expr := range expressions(load(t)) {
		found = append(found, rule{Record: fmt.Sprintf("panel:expression:%d", i), Expr: expr})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": found}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, testenv.Path(t, "promtool"), "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestProvisioningNamesWhatIsThere(t *testing.T) {
	for _, path := range []string{"provisioning/datasources/prometheus.yml", "provisioning/dashboards/scalehook.yml"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			APIVersion  int `yaml:"apiVersion"`
			Datasources []struct{ Type, URL string }
			Providers   []struct {
				Type    string
				Options struct{ Path string }
			}
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		if file.APIVersion != 1 || len(file.Datasources)+len(file.Providers) != 1 {
			t.Errorf("%s: %+v", path, file)
		}
	}
}
