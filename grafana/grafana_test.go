package grafana_test

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/grafana"
)

var update = flag.Bool("update", false, "rewrite the files in dashboards/")

type dashboard struct {
	ID            *int
	UID           string
	Title         string
	Description   string
	SchemaVersion int
	Templating    struct {
		List []variable
	}
	Annotations struct {
		List []struct {
			Name, Expr      string
			UseValueForTime bool
			Datasource      datasource
		}
	}
	Links  []struct{ Title, Tooltip, Type, URL string }
	Panels []panel

	text string
}

type variable struct {
	Name, Label, Type, Description, Definition string
	Datasource                                 *datasource
}

type datasource struct{ Type, UID string }

type panel struct {
	ID              int
	Type            string
	Title           string
	Description     string
	Datasource      datasource
	GridPos         struct{ X, Y, W, H int }
	Targets         []target
	Transformations []json.RawMessage
	FieldConfig     struct {
		Defaults struct {
			Unit     string
			Mappings []mapping
		}
		Overrides []struct {
			Properties []struct {
				ID    string
				Value json.RawMessage
			}
		}
	}
}

type mapping struct {
	Options map[string]struct {
		Text  string
		Index int
	}
}

type target struct {
	RefID        string
	Expr         string
	LegendFormat string
	Datasource   datasource
}

// load returns the committed dashboards.
func load(t *testing.T) []dashboard {
	t.Helper()
	files, err := grafana.Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	var out []dashboard
	for _, name := range slices.Sorted(maps.Keys(files)) {
		d := dashboard{text: string(files[name])}
		if err := json.Unmarshal(files[name], &d); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, d)
	}
	return out
}

// panels returns the panels that ask something; what is between them are rows.
func (d dashboard) panels() []panel {
	return slices.DeleteFunc(slices.Clone(d.Panels), func(p panel) bool { return p.Type == "row" })
}

func TestTheCommittedFilesAreTheRendering(t *testing.T) {
	rendered, err := grafana.Render()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		for name, text := range rendered {
			if err := os.WriteFile(filepath.Join("dashboards", name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	committed, err := grafana.Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(committed)), slices.Sorted(maps.Keys(rendered))); diff != "" {
		t.Errorf("files (-committed +rendered):\n%s", diff)
	}
	for name, text := range rendered {
		if diff := cmp.Diff(string(committed[name]), string(text)); diff != "" {
			t.Errorf("%s: run `go test ./grafana -update` (-committed +rendered):\n%s", name, diff)
		}
	}
}

func TestTheDashboardsBelongToNoGrafana(t *testing.T) {
	uids, titles := map[string]bool{}, map[string]bool{}
	for _, d := range load(t) {
		if d.UID == "" || d.Title == "" || d.Description == "" || d.SchemaVersion == 0 {
			t.Errorf("%q: uid, title %q, description %q or schema version %d is missing", d.UID, d.Title, d.Description, d.SchemaVersion)
		}
		if uids[d.UID] || titles[d.Title] {
			t.Errorf("%s: uid or title is not unique", d.UID)
		}
		uids[d.UID], titles[d.Title] = true, true
		if d.ID != nil {
			t.Errorf("%s has an id, which belongs to one Grafana", d.UID)
		}
	}
	// They are in bookmarks and in other people's links.
	want := map[string]bool{"scalehook-overview": true, "scalehook-group": true}
	if diff := cmp.Diff(want, uids); diff != "" {
		t.Errorf("uids (-want +got):\n%s", diff)
	}
}

func TestEveryDatasourceIsTheVariable(t *testing.T) {
	own := datasource{Type: "prometheus", UID: "${datasource}"}
	for _, d := range load(t) {
		for _, p := range d.panels() {
			if p.Datasource != own {
				t.Errorf("%s: panel %q: data source %+v", d.UID, p.Title, p.Datasource)
			}
			for _, target := range p.Targets {
				if target.Datasource != own {
					t.Errorf("%s: panel %q, %s: data source %+v", d.UID, p.Title, target.RefID, target.Datasource)
				}
			}
		}
		for _, a := range d.Annotations.List {
			if a.Datasource != own {
				t.Errorf("%s: annotation %q: data source %+v", d.UID, a.Name, a.Datasource)
			}
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" && (v.Datasource == nil || *v.Datasource != own) {
				t.Errorf("%s: variable %s: data source %+v", d.UID, v.Name, v.Datasource)
			}
		}
		// Wherever else one may be named.
		for _, found := range regexp.MustCompile(`"uid": "([^"]*)"|"datasource": "([^"]*)"`).FindAllStringSubmatch(d.text, -1) {
			if uid := found[1] + found[2]; uid != "${datasource}" && uid != d.UID {
				t.Errorf("%s: %s", d.UID, found[0])
			}
		}
	}
}

func TestEveryPanelExplainsItself(t *testing.T) {
	for _, d := range load(t) {
		ids, titles := map[int]bool{}, map[string]bool{}
		for _, p := range d.Panels {
			if ids[p.ID] || p.ID == 0 || titles[p.Title] || p.Title == "" {
				t.Errorf("%s: panel %d %q: id or title is missing or not unique", d.UID, p.ID, p.Title)
			}
			ids[p.ID], titles[p.Title] = true, true
		}
		for _, p := range d.panels() {
			if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
				t.Errorf("%s: panel %q lacks a description, a unit or a query", d.UID, p.Title)
			}
			refs := map[string]bool{}
			for _, target := range p.Targets {
				if refs[target.RefID] || target.RefID == "" || target.LegendFormat == "" || target.Expr == "" {
					t.Errorf("%s: panel %q: query %q is not unique, empty or has no legend", d.UID, p.Title, target.RefID)
				}
				refs[target.RefID] = true
			}
		}
		for _, v := range d.Templating.List {
			if v.Label == "" || v.Description == "" {
				t.Errorf("%s: variable %s has no label or no description", d.UID, v.Name)
			}
		}
		for _, l := range d.Links {
			if l.Title == "" || l.Tooltip == "" {
				t.Errorf("%s: link %q has no title or no tooltip", d.UID, l.URL)
			}
		}
	}
}

// TestUnitsSuitTheirMetrics holds the unit of a panel against what its metrics are of.
func TestUnitsSuitTheirMetrics(t *testing.T) {
	for _, d := range load(t) {
		for _, p := range d.panels() {
			for _, target := range p.Targets {
				unit := p.FieldConfig.Defaults.Unit
				switch expr := target.Expr; {
				case p.Type == "table": // a unit for each column
				case strings.Contains(expr, "histogram_quantile"), strings.Contains(expr, "time()"), strings.Contains(expr, "_duration_seconds{"):
					if unit != "s" {
						t.Errorf("%s: panel %q shows seconds as %s: %s", d.UID, p.Title, unit, expr)
					}
				case strings.Contains(expr, ":ratio"), strings.Contains(expr, "_ratio{"):
					if unit != "percentunit" {
						t.Errorf("%s: panel %q shows a ratio as %s: %s", d.UID, p.Title, unit, expr)
					}
				case strings.Contains(expr, "increase("):
					if unit != "short" {
						t.Errorf("%s: panel %q shows a count as %s: %s", d.UID, p.Title, unit, expr)
					}
				case strings.Contains(expr, "rate(") && !strings.Contains(expr, "/"):
					if unit != "ops" && unit != "reqps" {
						t.Errorf("%s: panel %q shows a rate as %s: %s", d.UID, p.Title, unit, expr)
					}
				}
			}
		}
	}
}

func TestNoPanelsOverlap(t *testing.T) {
	for _, d := range load(t) {
		taken := map[[2]int]string{}
		for _, p := range d.Panels {
			if p.GridPos.W <= 0 || p.GridPos.H <= 0 || p.GridPos.X < 0 || p.GridPos.Y < 0 || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: panel %q is outside of the 24 columns: %+v", d.UID, p.Title, p.GridPos)
				continue
			}
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" {
						t.Fatalf("%s: panels %q and %q overlap", d.UID, other, p.Title)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
	}
}

var (
	// used finds $name and ${name}, not ${__value.text} and other parts of a field.
	used = regexp.MustCompile(`\$(?:\{([a-z]+)(?::[a-z]+)?\}|([a-z]+))`)
	// ofGrafana are the variables that are always there.
	ofGrafana = regexp.MustCompile(`\$(?:\{__(?:url_time_range|value\.text|field\.labels\.[a-z_]+)\}|__(?:rate_interval|range))`)
)

func TestEveryVariableIsDefinedAndUsed(t *testing.T) {
	for _, d := range load(t) {
		defined := map[string]bool{}
		for _, v := range d.Templating.List {
			if defined[v.Name] {
				t.Errorf("%s: variable %s is defined twice", d.UID, v.Name)
			}
			defined[v.Name] = true
		}
		seen := map[string]bool{}
		rest := strings.ReplaceAll(ofGrafana.ReplaceAllString(d.text, ""), `"$__all"`, "")
		for _, found := range used.FindAllStringSubmatch(rest, -1) {
			name := found[1] + found[2]
			seen[name] = true
			if !defined[name] {
				t.Errorf("%s: nobody defines $%s", d.UID, name)
			}
		}
		if left := used.ReplaceAllString(rest, ""); strings.Contains(strings.ReplaceAll(strings.ReplaceAll(left, `max$/`, ""), `min$/`, ""), "$") {
			t.Errorf("%s: a variable that this test does not know", d.UID)
		}
		for name := range defined {
			if !seen[name] {
				t.Errorf("%s: nobody uses $%s", d.UID, name)
			}
		}
	}
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	variables := map[string]map[string]bool{}
	for _, d := range load(t) {
		variables[d.UID] = map[string]bool{}
		for _, v := range d.Templating.List {
			variables[d.UID][v.Name] = true
		}
	}
	url := regexp.MustCompile(`"url": "([^"]*)"`)
	to := regexp.MustCompile(`^/d/([a-z-]+)(?:\?(.*))?$`)
	for _, d := range load(t) {
		reached := map[string]bool{}
		for _, found := range url.FindAllStringSubmatch(d.text, -1) {
			link := found[1]
			reached[link] = true
			parts := to.FindStringSubmatch(link)
			switch {
			case link == "${scheme}://${server}/":
			case parts == nil || variables[parts[1]] == nil:
				t.Errorf("%s: the link %s leads nowhere", d.UID, link)
			default:
				reached[parts[1]] = true
				for value := range strings.SplitSeq(parts[2], "&") {
					name, ok := strings.CutPrefix(value, "var-")
					name, _, _ = strings.Cut(name, "=")
					if ok && !variables[parts[1]][name] {
						t.Errorf("%s: the link %s sets a variable that is not there", d.UID, link)
					}
				}
			}
		}
		if !reached["${scheme}://${server}/"] {
			t.Errorf("%s: no link to the server's page", d.UID)
		}
		for other := range variables {
			if other != d.UID && !reached[other] {
				t.Errorf("%s: no link to %s", d.UID, other)
			}
		}
	}
}

func TestEveryExpressionFollowsTheGroupAndTheInterval(t *testing.T) {
	// Selectors of metrics that have the label scaling_group.
	selector := regexp.MustCompile(`(?:scalehook_(?:group|instance|condition|member|activities|verdicts|webhook_last)[a-z_]*|group:[a-z0-9_]+:[a-z_]+)(\{[^}]*\})?`)
	window := regexp.MustCompile(`(?:rate|increase)\([^\[]*\[([^\]]*)\]`)
	for _, d := range load(t) {
		chosen := `scaling_group=~"$group"`
		if d.UID == grafana.GroupUID {
			chosen = `scaling_group="$group"`
		}
		// Grafana chooses the step of a mark by the time range, and in some versions does
		// not fill variables in there as in panels: a window misses or doubles what happened.
		for _, a := range d.Annotations.List {
			if strings.Contains(a.Expr, "[") || strings.Contains(a.Expr, "$__") {
				t.Errorf("%s: the marks %q depend on a window: %s", d.UID, a.Name, a.Expr)
			}
			if moment := strings.Contains(a.Expr, "_timestamp_seconds"); a.UseValueForTime != moment || moment != strings.HasPrefix(a.Expr, "1000 * ") {
				t.Errorf("%s: the marks %q are put at the values %v: %s", d.UID, a.Name, a.UseValueForTime, a.Expr)
			}
		}
		for _, p := range d.panels() {
			for _, target := range p.Targets {
				for _, found := range selector.FindAllStringSubmatch(target.Expr, -1) {
					if !strings.Contains(found[1], chosen) {
						t.Errorf("%s: panel %q ignores $group: %s", d.UID, p.Title, found[0])
					}
				}
				for _, found := range window.FindAllStringSubmatch(target.Expr, -1) {
					if found[1] != "$__rate_interval" && found[1] != "$__range" {
						t.Errorf("%s: panel %q has the window %s", d.UID, p.Title, found[1])
					}
				}
			}
		}
	}
}

// TestEveryNumberHasItsText: an expression that weighs what holds gives numbers up to
// the greatest weight, and each of them has a text.
func TestEveryNumberHasItsText(t *testing.T) {
	weight := regexp.MustCompile(`\} ?\)? \* ([0-9]+)`)
	for _, d := range load(t) {
		for _, p := range d.panels() {
			mappings := p.FieldConfig.Defaults.Mappings
			for _, o := range p.FieldConfig.Overrides {
				for _, property := range o.Properties {
					if property.ID == "mappings" {
						if err := json.Unmarshal(property.Value, &mappings); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			for _, target := range p.Targets {
				greatest := "0"
				if p.Type == "state-timeline" {
					greatest = "1"
				}
				for _, found := range weight.FindAllStringSubmatch(target.Expr, -1) {
					greatest = max(greatest, found[1])
				}
				if greatest == "0" {
					continue
				}
				if len(mappings) != 1 || mappings[0].Options[greatest].Text == "" || int(greatest[0]-'0') != len(mappings[0].Options)-1 {
					t.Errorf("%s: panel %q: numbers up to %s, texts %v", d.UID, p.Title, greatest, mappings)
				}
			}
		}
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
			Datasources []struct{ Name, Type, Access, URL, UID string }
			Providers   []struct {
				Name, Type string
				Options    struct{ Path string }
			}
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		if file.APIVersion != 1 || len(file.Datasources)+len(file.Providers) != 1 {
			t.Errorf("%s: %+v", path, file)
		}
		for _, s := range file.Datasources {
			if s.Type != "prometheus" || s.URL == "" || s.UID != "" {
				t.Errorf("%s: %+v", path, s)
			}
		}
		// The page says to put the dashboards there, and compose's set-up puts another folder in its place.
		for _, p := range file.Providers {
			for _, other := range []string{"../deploy/compose/setup", "../docs/grafana.md"} {
				text, err := os.ReadFile(other)
				if err != nil {
					t.Fatal(err)
				}
				if p.Type != "file" || p.Options.Path == "" || !strings.Contains(string(text), p.Options.Path) {
					t.Errorf("%s: %+v, and %s says otherwise", path, p, other)
				}
			}
		}
	}
}
