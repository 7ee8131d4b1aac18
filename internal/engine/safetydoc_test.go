package engine_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const safetyDoc = "../../docs/safety.md"

// Every test that docs/safety.md names is there, and each of the twenty pains has one.
func TestTheSafetyPage(t *testing.T) {
	b, err := os.ReadFile(safetyDoc)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`(Test[A-Z][A-Za-z0-9]+)[`/]").FindAllStringSubmatch(doc, -1) {
		named[m[1]] = true
	}
	for k := 1; k <= 20; k++ {
		prefix, found := fmt.Sprintf("TestPain%02d", k), false
		for name := range named {
			found = found || strings.HasPrefix(name, prefix)
		}
		if !found {
			t.Errorf("%s names no test for pain %d (%s…)", safetyDoc, k, prefix)
		}
	}
	there := tests(t)
	for name := range named {
		if !there[name] {
			t.Errorf("%s names %s, which does not exist", safetyDoc, name)
		}
	}
}

// The last run of the long tests is on the page, with its commit, and it was green:
// a million histories, every kill, every mistake.
func TestTheSafetyPageHasTheLastLongRun(t *testing.T) {
	b, err := os.ReadFile(safetyDoc)
	if err != nil {
		t.Fatal(err)
	}
	_, run, found := strings.Cut(string(b), "\n## The last run of make test-chaos\n")
	if !found {
		t.Fatalf("%s has no section with the last run of make test-chaos", safetyDoc)
	}
	for what, pattern := range map[string]string{
		"the commit":                    `(?m)^ *commit [0-9a-f]{7,40}$`,
		"a million histories":           `(?m)[0-9]{6,} histories, [0-9]+ decisions`,
		"the histories of the engine":   `(?m)[0-9]+ histories of `,
		"no mistake left unexplained":   `(?m)[0-9]+ mistakes`,
		"the totals, without a failure": `(?m)^ *make test-chaos: [1-9][0-9]* passed, 0 failed, 0 skipped, [0-9]+ min`,
	} {
		if !regexp.MustCompile(pattern).MatchString(run) {
			t.Errorf("%s lacks %s in the last run of make test-chaos (%s)", safetyDoc, what, pattern)
		}
	}
}

// tests are the names of all test functions of the tree.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	decl := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2:
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		b, err := os.ReadFile(path)
		for _, m := range decl.FindAllStringSubmatch(string(b), -1) {
			out[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
