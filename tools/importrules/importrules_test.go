// Package importrules proves that the import rules in .golangci.yml report what
// ARCHITECTURE.md forbids, and nothing else. A rule that matches no file, or a
// prefix that matches too much, would otherwise go unnoticed for ever.
package importrules

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/testenv"
)

const module = "github.com/scalehook/scalehook"

// packages are the parts of the tree that can be imported.
var packages = []string{
	"exporter", "webhook",
	"internal/scaling", "internal/scaling/scalingtest", "internal/engine", "internal/store",
	"internal/provider/libvirt", "internal/provider/openstack", "internal/provider/simulated",
	"internal/balancer/haproxy", "internal/balancer/direct", "internal/balancer/octavia",
	"internal/source/prometheus", "internal/source/alertmanager", "internal/source/ask",
	"internal/api", "internal/client", "internal/top", "internal/config", "internal/testenv", "internal/fault",
	"internal/cloud", "internal/firstboot", "internal/provision", "internal/host", "internal/delivery", "internal/suggest", "internal/doctor", "internal/manpage", "internal/schemagen", "internal/audit", "internal/words", "webhook/webpage",
}

// drivers are those of them that only the configuration and the wiring name.
var drivers = packages[6:14]

// arrows says which of them each part may import, apart from itself.
func arrows() map[string][]string {
	contracts := []string{"internal/scaling", "internal/scaling/scalingtest"}
	allowed := map[string][]string{
		"cmd/scalehook":   packages,
		"e2e/demo":        packages,
		"exporter":        nil,
		"rules":           nil,
		"grafana":         nil,
		"deploy":          nil,
		"internal/api":    nil,
		"internal/new":    nil,
		"webhook":         append([]string{"internal/api", "internal/audit", "webhook/webpage"}, contracts...),
		"webhook/webpage": append([]string{"internal/api", "internal/words"}, contracts...),
		"internal/engine": contracts,
		"internal/store":  contracts,
		"internal/client": {"internal/api"},
		"internal/top":    {"internal/api", "internal/client", "internal/words"},
		"internal/words":  {"internal/api"},
		"internal/config": append(append(slices.Clone(drivers), "internal/source/ask"), contracts...),
	}
	for _, driver := range drivers {
		allowed[driver] = append([]string{"internal/fault", "internal/cloud", "internal/firstboot"}, contracts...)
	}
	allowed["internal/cloud"] = contracts
	allowed["internal/doctor"] = []string{"internal/config", "internal/client", "internal/api", "internal/source/ask"}
	allowed["internal/suggest"] = contracts
	allowed["internal/delivery"] = append([]string{"internal/api"}, contracts...)
	allowed["internal/provision"] = append([]string{"internal/cloud", "internal/firstboot"}, contracts...)
	for _, source := range []string{"internal/source/prometheus", "internal/source/alertmanager"} {
		allowed[source] = append([]string{"internal/source/ask"}, contracts...)
	}
	allowed["internal/source/ask"] = contracts
	return allowed
}

func TestImportRulesReportExactlyTheForbiddenArrows(t *testing.T) {
	testenv.Need(t, testenv.Program("go"), testenv.Program("golangci-lint"))
	config, err := os.ReadFile("../../.golangci.yml")
	if err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	write := func(path, text string) {
		t.Helper()
		path = filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	plant := func(path, imported string) {
		t.Helper()
		write(path, fmt.Sprintf("package %s\n\nimport _ %q\n", filepath.Base(filepath.Dir(path)), imported))
	}
	write(".golangci.yml", string(config))
	write("go.mod", "module "+module+"\n\ngo 1.26.0\n\nrequire (\n\tgithub.com/labstack/echo/v4 v4.0.0\n\tgo.yaml.in/yaml/v3 v3.0.0\n)\n\n"+
		"replace (\n\tgithub.com/labstack/echo/v4 => ./stub/echo\n\tgo.yaml.in/yaml/v3 => ./stub/yaml\n)\n")
	write("stub/echo/go.mod", "module github.com/labstack/echo/v4\n")
	write("stub/echo/echo.go", "package echo\n")
	write("stub/yaml/go.mod", "module go.yaml.in/yaml/v3\n")
	write("stub/yaml/yaml.go", "package yaml\n")
	for _, name := range packages {
		write(filepath.Join(name, "doc.go"), "package "+filepath.Base(name)+"\n")
	}

	var want []string
	forbid := func(path string) { want = append(want, path) }
	// Each part imports each other part from a package below itself, which
	// nobody imports, so that no two arrows close a circle.
	allowed := arrows()
	for _, from := range slices.Sorted(maps.Keys(allowed)) {
		for _, to := range packages {
			path := filepath.Join(from, "planted", strings.ReplaceAll(to, "/", "_")+"x.go")
			plant(path, module+"/"+to)
			own := from == to && !slices.Contains(drivers, from) && from != "internal/api"
			if !own && !slices.Contains(allowed[from], to) {
				forbid(path)
			}
		}
	}
	plant("internal/scaling/standard.go", "time")
	plant("internal/scaling/yaml.go", "go.yaml.in/yaml/v3")
	plant("internal/scaling/ours.go", module+"/internal/api")
	forbid("internal/scaling/yaml.go")
	forbid("internal/scaling/ours.go")
	plant("internal/scaling/scalingtest/engine.go", module+"/internal/engine")
	forbid("internal/scaling/scalingtest/engine.go")
	plant("internal/store/exempt_test.go", module+"/internal/config")
	plant("webhook/echo.go", "github.com/labstack/echo/v4")
	plant("internal/engine/echo.go", "github.com/labstack/echo/v4")
	forbid("internal/engine/echo.go")

	command := exec.CommandContext(t.Context(), testenv.Path(t, "golangci-lint"), "run",
		"--enable-only", "depguard", "--output.json.path", "stdout", "--show-stats=false",
		"--max-issues-per-linter", "0", "--max-same-issues", "0",
		"--allow-parallel-runners", // an editor may have one, and the cache is this one's own
		"./...")
	command.Dir = tree
	command.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOLANGCI_LINT_CACHE="+t.TempDir())
	var stderr strings.Builder
	command.Stderr = &stderr
	output, _ := command.Output() // it reports by exit code that there is something to report
	var report struct {
		Issues []struct {
			FromLinter string
			Text       string
			Pos        struct{ Filename string }
		}
	}
	if err := json.Unmarshal(output, &report); err != nil {
		t.Fatalf("read the linter's report: %v\n%s%s", err, output, stderr.String())
	}
	var got []string
	for _, issue := range report.Issues {
		if issue.FromLinter != "depguard" {
			t.Errorf("%s: %s: %s", issue.Pos.Filename, issue.FromLinter, issue.Text)
			continue
		}
		got = append(got, issue.Pos.Filename)
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Compact(got)); diff != "" {
		t.Errorf("files reported (-want +got):\n%s%s", diff, stderr.String())
	}
}
