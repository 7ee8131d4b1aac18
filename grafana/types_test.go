package grafana_test

import (
	"bytes"
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

	"github.com/scalehook/scalehook/grafana"
	"github.com/scalehook/scalehook/internal/testenv"
)

// typescript returns a dashboard as a program that compiles if the types have it.
func typescript(t *testing.T, name string, text []byte) string {
	t.Helper()
	kinds := map[string]string{
		"row": "Row", "stat": "StatPanel", "timeseries": "TimeseriesPanel", "state-timeline": "StateTimelinePanel", "table": "TablePanel",
	}
	var whole map[string]json.RawMessage
	var panels []json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(whole["panels"], &panels); err != nil {
		t.Fatal(err)
	}
	header, err := os.ReadFile("types/types.ts")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	out.Write(header)
	var names []string
	for i, p := range panels {
		var about struct{ Type string }
		if err := json.Unmarshal(p, &about); err != nil {
			t.Fatal(err)
		}
		if kinds[about.Type] == "" {
			t.Fatalf("%s: types.ts has no type for a %q", name, about.Type)
		}
		fmt.Fprintf(&out, "const panel%d: %s = %s;\n", i, kinds[about.Type], p)
		names = append(names, fmt.Sprintf("panel%d", i))
	}
	delete(whole, "panels")
	rest, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&out, "export const dashboard: Dashboard = %s, \"panels\": [%s]};\n", bytes.TrimSuffix(rest, []byte("}")), strings.Join(names, ", "))
	return out.String()
}

// The folders of the program for the newest Grafana whose types are looked at, and for
// the oldest, as types/package.json has them.
const (
	newest = "13"
	oldest = "11"
)

// TestGrafanasTypesAcceptTheDashboards has the TypeScript compiler hold the files
// against the types that Grafana publishes. Each mistake that is planted must be found.
func TestGrafanasTypesAcceptTheDashboards(t *testing.T) {
	testenv.Need(t, testenv.Program("node"), testenv.Program("npm"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	modules, work := testenv.Modules(ctx, t, "types", "../.cache"), t.TempDir()
	// A folder for each Grafana, in which @grafana/schema is its own.
	for folder, schema := range map[string]string{newest: "schema", oldest: "schema-11"} {
		scope := filepath.Join(work, folder, "node_modules", "@grafana")
		if err := os.MkdirAll(scope, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(modules, "@grafana", schema), filepath.Join(scope, "schema")); err != nil {
			t.Fatal(err)
		}
	}

	files, err := grafana.Dashboards()
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]string{}
	for name, text := range files {
		for _, folder := range []string{newest, oldest} {
			programs[folder+"/"+strings.TrimSuffix(name, ".json")+".ts"] = typescript(t, name, text)
		}
	}
	for name, m := range map[string]struct{ old, new string }{
		"a field that there is none":         {`"schemaVersion":`, `"schemaVersoin":`},
		"a text for a number":                {`"fiscalYearStartMonth": 0`, `"fiscalYearStartMonth": "0"`},
		"a way to refresh that there is not": {`"refresh": 2`, `"refresh": 3`},
		"a kind of variable":                 {`"type": "query"`, `"type": "querry"`},
		"a link without a title":             {`"title": "scalehook's page",`, ``},
		"an annotation without a colour":     {`"iconColor": "orange",`, ``},
		"a panel's place":                    {`"w": 4,`, `"w": "4",`},
		"a panel without a unit":             {`"unit": "percentunit"`, `"units": "percentunit"`},
		"a legend that cannot be":            {`"displayMode": "list"`, `"displayMode": "lists"`},
		"a tooltip that cannot be":           {`"mode": "multi"`, `"mode": "many"`},
		"a line that cannot be":              {`"lineInterpolation": "stepAfter"`, `"lineInterpolation": "after"`},
		"a custom field that there is none":  {`"fillOpacity": 75`, `"fillOpacty": 75`},
		"an option of a stat":                {`"graphMode": "none"`, `"graphMode": "nothing"`},
		"an option of a table":               {`"cellHeight": "sm"`, `"cellHeight": "small"`},
		"an option of a timeline":            {`"showValue": "auto"`, `"showValue": "sometimes"`},
		"a property to override":             {`"id": "custom.cellOptions"`, `"id": "custom.cellOption"`},
		"a colour mode":                      {`"mode": "palette-classic"`, `"mode": "palette"`},
		"a query's format":                   {`"format": "table"`, `"format": "tables"`},
		"a query without a name":             {`"refId": "A"`, `"refID": "A"`},
	} {
		text := strings.ReplaceAll(string(files["overview.json"]), m.old, m.new)
		if text == string(files["overview.json"]) {
			t.Errorf("the mistake %q does not apply", name)
		}
		file, program := strings.ReplaceAll(name, " ", "-")+".mistake.ts", typescript(t, name, []byte(text))
		programs[newest+"/"+file] = program
		// Some are enough to see that the other types are looked at too.
		if strings.HasPrefix(name, "a legend") || strings.HasPrefix(name, "a way") {
			programs[oldest+"/"+file] = program
		}
	}
	args := []string{
		filepath.Join(modules, "typescript", "bin", "tsc"),
		"--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", "--pretty", "false",
	}
	for name, text := range programs {
		if err := os.WriteFile(filepath.Join(work, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	tsc := exec.CommandContext(ctx, testenv.Path(t, "node"), args...)
	tsc.Dir = work
	out, err := tsc.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 2) {
		t.Fatalf("tsc: %v\n%s", err, out)
	}
	for name := range programs {
		var found []string
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, name+"(") {
				found = append(found, line)
			}
		}
		switch mistake := strings.HasSuffix(name, ".mistake.ts"); {
		case mistake && len(found) == 0:
			t.Errorf("%s is not found", name)
		case !mistake && len(found) > 0:
			t.Errorf("the types of Grafana %s refuse it:\n%s", filepath.Dir(name), strings.Join(found, ""))
		}
	}
}
