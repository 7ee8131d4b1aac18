package doc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/internal/testenv"
)

var (
	target   = regexp.MustCompile(`(?m)(?:^|[\s;&|])make +([a-z][a-z0-9-]*)`)
	script   = regexp.MustCompile(`(?m)(?:^|[\s"(])((?:tools|deploy)/[\w/.-]*\w)`)
	goTool   = regexp.MustCompile(`(?m)\bgo\b\S* (test|run|build|vet) ([^#\n]+)`)
	flagName = regexp.MustCompile(`(?:^|\s)--?([a-z][a-z-]*)`)
	inFlags  = regexp.MustCompile(`make ([a-z-]+) ([A-Z]+_FLAGS)='([^']*)'`)
)

// programs are what a target's variable of flags is given to.
var programs = map[string]string{"demo": "e2e/demo", "demo-openstack": "e2e/openstack/demo", "bench-exporter": "e2e/benchexporter", "bench-engine": "e2e/benchengine", "tour": "e2e/tour"}

// typed is what a page has one type: its blocks, fenced or indented, and code in a line.
func typed(text string) string {
	var out strings.Builder
	fenced := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			fenced = !fenced
		case fenced || strings.HasPrefix(line, "    "):
			out.WriteString(strings.TrimLeft(line, " "))
		default:
			for _, span := range code.FindAllString(line, -1) {
				out.WriteString(strings.Trim(span, "` ") + "\n")
			}
		}
	}
	return out.String()
}

// TestTheTreesOwnCommandsAreThere holds what pages have one type of the tree itself
// against the tree: targets of make with their flags, scripts, and Go's tests. They
// measure, test or show everything, and are not run out of a page.
func TestTheTreesOwnCommandsAreThere(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for name, text := range pages(t) {
		text = typed(text)
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			count["targets"]++
			if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(m[1]) + `:`).Match(makefile) {
				t.Errorf("%s: there is no target %s", name, m[1])
			}
		}
		for _, m := range inFlags.FindAllStringSubmatch(text, -1) {
			count["flags"]++
			if programs[m[1]] == "" || !strings.Contains(string(makefile), "$("+m[2]+")") {
				t.Errorf("%s: make %s takes no %s", name, m[1], m[2])
				continue
			}
			for _, f := range flagName.FindAllStringSubmatch(m[3], -1) {
				if !declares(t, programs[m[1]], f[1]) {
					t.Errorf("%s: %s has no flag %s", name, programs[m[1]], f[1])
				}
			}
		}
		for _, m := range script.FindAllStringSubmatch(text, -1) {
			count["scripts"]++
			if _, err := os.Stat(filepath.Join(root, m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, m := range goTool.FindAllStringSubmatch(text, -1) {
			count["go"]++
			if problem := goCommand(t, m[1], strings.Fields(strings.ReplaceAll(m[2], "'", ""))); problem != "" {
				t.Errorf("%s: go %s %s: %s", name, m[1], m[2], problem)
			}
		}
	}
	for what, least := range map[string]int{"targets": 30, "flags": 4, "scripts": 10, "go": 12} {
		if count[what] < least {
			t.Errorf("only %d %s were found", count[what], what)
		}
	}
}

// TestPagesOfTheTreeAlone have no command but the tree's own, which the test above looks
// up: what else they had would be run by nobody.
func TestPagesOfTheTreeAlone(t *testing.T) {
	own := regexp.MustCompile(`^(sudo +)?([A-Z]+=\S+ +)*(make|go|tools/|deploy/|bin/demo-openstack --clean)`)
	all := pages(t)
	for _, name := range []string{"CONTRIBUTING.md", "docs/benchmarks.md", "docs/demo.md", "docs/demo-openstack.md", "docs/safety.md"} {
		text, there := all[name]
		if !there {
			t.Errorf("there is no page %s", name)
		}
		commands := indented.FindAllString(text, -1)
		if len(commands) == 0 && name != "docs/safety.md" {
			t.Errorf("%s has no commands", name)
		}
		for _, command := range commands {
			if !own.MatchString(strings.TrimSpace(command)) {
				t.Errorf("%s: %s is not the tree's own", name, strings.TrimSpace(command))
			}
		}
	}
}

// declares says whether the program in a folder has a flag.
func declares(t *testing.T, folder, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return regexp.MustCompile(`\b[fF]lags?\.\w+\((&?[\w.]+, )?"` + regexp.QuoteMeta(name) + `"`).Match(text)
	})
}

// goCommand looks for the packages that a command of Go's names and for the tests and
// benchmarks that it picks.
func goCommand(t *testing.T, verb string, args []string) string {
	t.Helper()
	var folders, picks []string
	for k, arg := range args {
		switch {
		case strings.HasPrefix(arg, "./"):
			folders = append(folders, arg)
			if verb == "run" {
				for _, f := range flagName.FindAllStringSubmatch(strings.Join(args[k+1:], " "), -1) {
					if !declares(t, arg, f[1]) {
						return "no flag " + f[1]
					}
				}
			}
		case (arg == "-run" || arg == "-bench" || arg == "-fuzz") && k+1 < len(args) && args[k+1] != "^$":
			picks = append(picks, args[k+1])
		}
	}
	if len(folders) == 0 {
		return "no package"
	}
	var tests strings.Builder
	for _, folder := range folders {
		at := filepath.Join(root, strings.TrimSuffix(folder, "/..."))
		if _, err := os.Stat(at); err != nil {
			return err.Error()
		}
		files, err := filepath.Glob(filepath.Join(at, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tests.Write(text)
		}
	}
	for _, pick := range picks {
		first, _, _ := strings.Cut(pick, "/")
		for name := range strings.SplitSeq(first, "|") {
			found := false
			for _, m := range regexp.MustCompile(`(?m)^func (?:Test|Benchmark|Fuzz)?(\w+)\(`).FindAllStringSubmatch(tests.String(), -1) {
				found = found || regexp.MustCompile(name).MatchString(m[0][len("func "):len(m[0])-1])
			}
			if !found {
				return "nothing is called " + name
			}
		}
	}
	return ""
}

func TestBlocksOfCommandsCanBeReadByAShell(t *testing.T) {
	testenv.Need(t, testenv.Program("bash"))
	count := 0
	for name, text := range pages(t) {
		blocks, err := doc.Blocks(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, b := range blocks {
			count++
			cmd := exec.CommandContext(t.Context(), testenv.Path(t, "bash"), "-n")
			cmd.Stdin = strings.NewReader(b.Text)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %v\n%s", name, b.Line, err, out)
			}
		}
	}
	if count < 60 {
		t.Errorf("only %d blocks were found", count)
	}
}
