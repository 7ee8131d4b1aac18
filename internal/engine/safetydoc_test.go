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
