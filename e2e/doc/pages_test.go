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

// indented is a line of a block without a fence, in the old manner, that is a command.
var indented = regexp.MustCompile(`(?m)^ {4,}(sudo |[A-Z_]+=\S+ )*(\./)?(bin/)?(scalehook|scalehook-exporter|make|go|docker|systemctl|apt|apt-get|virsh|openstack|curl|kill|install|patch|promtool|amtool|git|snap|mkdir|man|cp|npm|openssl|ssh|tools/\S+|deploy/\S+)( |$)`)

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
		switch {
		case len(blocks) == 0 && !indented.MatchString(text):
			if listed {
				t.Errorf("%s has no commands, and e2e/doc/pages.yml says of some", name)
			}
			continue
		case !listed && slices.ContainsFunc(blocks, func(b doc.Block) bool { return b.NotRun == "" }), !listed && indented.MatchString(text):
			t.Errorf("%s has commands that no test runs: write them as blocks of sh and run them with e2e/doc, or say in e2e/doc/pages.yml why not", name)
			continue
		}
		if entry.Run == "" && entry.Not == "" && listed {
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
