package doc_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/e2e/doc"
)

const root = "../.."

// page is what the ledger says of one.
type page struct {
	Run  string `yaml:"run"`
	Held string `yaml:"held"`
	Not  string `yaml:"not"`
}

// indented is a line of a block without a fence that is a command for certain; see unfenced
// for those that may be one.
var indented = regexp.MustCompile(`(?m)^ {4,}(sudo |[A-Z_]+=\S+ )*(\./)?(bin/)?(scalehook|scalehook-exporter|make|go|docker|systemctl|apt|apt-get|virsh|openstack|curl|kill|install|patch|promtool|amtool|git|snap|mkdir|man|cp|npm|openssl|ssh|tools/\S+|deploy/\S+)( |$)`)

var (
	listItem = regexp.MustCompile(`^ *([-*+]|\d{1,9}[.)]) +`)
	// data is a line that is none of a shell's: YAML, a remark, or a picture.
	data = regexp.MustCompile(`^ *(#|- |[\w.-]+:( |$))|[\x{2500}-\x{25ff}]`)
)

// unfenced are the lines of blocks without a fence that may be commands. Such a block
// follows an empty line and stands four columns further in than the text around it.
func unfenced(text string) (lines []string) {
	fenced, begins := false, true
	var items []int // where the text of the list's items stands
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		bare := strings.TrimLeft(line, " ")
		at := len(line) - len(bare)
		switch {
		case strings.HasPrefix(bare, "```"):
			fenced = !fenced
			begins = true
			continue
		case fenced:
			continue
		case bare == "":
			begins = true
			continue
		case begins:
			items = slices.DeleteFunc(items, func(item int) bool { return at < item })
		}
		around := 0
		if len(items) > 0 {
			around = items[len(items)-1]
		}
		item := listItem.FindString(line)
		switch {
		case begins && at >= around+4:
			if !data.MatchString(line) {
				lines = append(lines, line)
			}
			continue
		case item != "":
			items = append(slices.DeleteFunc(items, func(before int) bool { return at < before }), len(item))
		}
		begins = strings.HasPrefix(line, "#")
	}
	return lines
}

// pages are those that people read, by their path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, at := range []string{"README.md", "CONTRIBUTING.md", "docs", "deploy"} {
		err := filepath.WalkDir(filepath.Join(root, at), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || path.Ext(file) != ".md" {
				return err
			}
			text, err := os.ReadFile(file)
			if name, rerr := filepath.Rel(root, file); rerr == nil {
				out[name] = string(text)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d pages are found", len(out))
	}
	return out
}

func TestEveryPageWithCommandsIsRunByATestOrSaysWhyNot(t *testing.T) {
	raw, err := os.ReadFile("pages.yml")
	if err != nil {
		t.Fatal(err)
	}
	ledger := map[string]page{}
	if err := yaml.Unmarshal(raw, &ledger); err != nil {
		t.Fatal(err)
	}
	all := pages(t)
	for name, text := range all {
		blocks, err := doc.Blocks(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		entry, listed := ledger[name]
		loose := unfenced(text)
		if len(loose) > 0 && entry.Not == "" {
			t.Errorf("%s has lines that may be commands and stand in no fenced block, so that no test runs them: give commands the language sh, and other things another\n%s", name, strings.Join(loose, "\n"))
		}
		switch {
		case len(blocks) == 0 && len(loose) == 0:
			if listed {
				t.Errorf("%s has no commands, and e2e/doc/pages.yml says of some", name)
			}
			continue
		case !listed && slices.ContainsFunc(blocks, func(b doc.Block) bool { return b.NotRun == "" }):
			t.Errorf("%s has commands that no test runs: write them as blocks of sh and run them with e2e/doc, or say in e2e/doc/pages.yml why not", name)
			continue
		}
		if listed && entry.Run == "" && entry.Not == "" {
			t.Errorf("%s: e2e/doc/pages.yml names neither a test that runs it nor a reason", name)
		}
	}
	for name, entry := range ledger {
		if _, there := all[name]; !there {
			t.Errorf("e2e/doc/pages.yml: %s is not there", name)
		}
		for _, test := range []string{entry.Run, entry.Held} {
			if test != "" {
				names(t, test, name)
			}
		}
	}
}

func TestLinesThatMayBeCommandsAreFoundOutsideOfFences(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"a command of any name":               {"Then:\n\n    frobnicate --all\n", "    frobnicate --all"},
		"each line of the block":              {"Then:\n\n    a b\n\n    c d\n", "    a b,    c d"},
		"one after a heading":                 {"# Begin\n    a b\n", "    a b"},
		"one after a fenced block":            {"```yaml\na: b\n```\n    a b\n", "    a b"},
		"one in a list":                       {"1. Then:\n\n       a b\n", "       a b"},
		"one in a list in a list":             {"- x\n  - y:\n\n        a b\n", "        a b"},
		"one after a list":                    {"- x\n\nThen:\n\n    a b\n", "    a b"},
		"not a paragraph of a list":           {"10. Then:\n\n    a b\n", ""},
		"not one of a list in a list":         {"- x\n  - y:\n\n    a b\n", ""},
		"not a paragraph that goes on":        {"Then\n    a b\n", ""},
		"not what is fenced":                  {"```sh\n\n    a b\n```\n", ""},
		"not YAML":                            {"Then:\n\n    # a remark\n    a:\n      - b c\n      d: e f\n", ""},
		"not a picture":                       {"Then:\n\n    a ─► b\n", ""},
		"an address as a word is no YAML key": {"Then:\n\n    curl http://127.0.0.1\n", "    curl http://127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(unfenced(c.text), ","); got != c.want {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

// names looks whether a test is there and its package has to do with the page.
func names(t *testing.T, test, page string) {
	t.Helper()
	folder, function, _ := strings.Cut(test, " ")
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	there, reads := false, false
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		there = there || strings.Contains(string(text), "\nfunc "+function+"(t *testing.T)")
		reads = reads || strings.Contains(string(text), strings.TrimPrefix(page, folder+"/")+`"`)
	}
	if function == "" || !there {
		t.Errorf("e2e/doc/pages.yml: %s: there is no test %q in %s", page, function, folder)
	} else if !reads {
		t.Errorf("e2e/doc/pages.yml: %s: nothing in the tests of %s reads it", page, folder)
	}
}
