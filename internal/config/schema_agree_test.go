package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/schemagen"
)

func compiled(t *testing.T) *validator.Schema {
	t.Helper()
	s, err := schemagen.Compile(config.Schema())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEveryConfigurationOfTheTreePassesTheSchema looks into all files, the archives
// of the scripts, the pages' blocks and the texts inside the Go sources: whatever
// the loader takes, the schema has to take.
func TestEveryConfigurationOfTheTreePassesTheSchema(t *testing.T) {
	s, seen := compiled(t), map[string]bool{}
	err := filepath.WalkDir("../..", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if err == nil && strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 {
				return fs.SkipDir
			}
			return err
		}
		texts, err := configurations(file)
		for _, text := range texts {
			if _, err := config.Parse(file, text); err != nil {
				continue // has placeholders, is wrong on purpose, or is something else
			}
			seen[filepath.ToSlash(filepath.Dir(file))] = true
			if err := schemagen.Check(s, text); err != nil {
				t.Errorf("%s: the loader takes it and the schema does not: %v\n%s", file, err, text)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{
		"../../deploy/examples", "../../deploy/compose", "../../deploy/microstack",
		"../../internal/config/testdata", "../../cmd/scalehook/testdata/script", "../../cmd/scalehook",
	} {
		if !seen[dir] {
			t.Errorf("no configuration was found in %s", dir)
		}
	}
}

var (
	blockRE = regexp.MustCompile("(?s)```yaml\n(.*?)```")
	// begins is what every configuration has.
	begins = regexp.MustCompile(`(?m)^owner:`)
)

// configurations are the texts in a file that could be one.
func configurations(file string) ([][]byte, error) {
	switch filepath.Ext(file) {
	case ".yml", ".yaml", ".txtar", ".md", ".go":
	default:
		return nil, nil
	}
	content, err := os.ReadFile(file)
	if err != nil || !begins.Match(content) && !bytes.Contains(content, []byte("`owner:")) {
		return nil, err
	}
	var out [][]byte
	switch filepath.Ext(file) {
	case ".txtar":
		for _, f := range txtar.Parse(content).Files {
			out = append(out, f.Data)
		}
	case ".md":
		for _, m := range blockRE.FindAllSubmatch(content, -1) {
			out = append(out, m[1])
		}
	case ".go":
		parsed, err := parser.ParseFile(token.NewFileSet(), file, content, 0)
		if err != nil {
			return nil, err
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				if text, err := strconv.Unquote(l.Value); err == nil {
					out = append(out, []byte(text))
				}
			}
			return true
		})
	default:
		out = append(out, content)
	}
	return slices.DeleteFunc(out, func(text []byte) bool { return !begins.Match(text) }), nil
}

// TestThePartsInThePagesPassTheSchema tries the blocks of the pages that are a part of
// a configuration.
func TestThePartsInThePagesPassTheSchema(t *testing.T) {
	var doc map[string]any
	if err := json.Unmarshal(config.Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	optional(doc)
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	partial, err := schemagen.Compile(text)
	if err != nil {
		t.Fatal(err)
	}
	known, _ := doc["properties"].(map[string]any)
	tried := 0
	err = filepath.WalkDir("../../docs", func(file string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".md" {
			return err
		}
		page, err := os.ReadFile(file)
		for _, m := range blockRE.FindAllSubmatch(page, -1) {
			var top map[string]any
			if yaml.Unmarshal(m[1], &top) != nil || len(top) == 0 {
				continue
			}
			part := true
			for key := range top {
				_, is := known[key]
				part = part && is
			}
			if !part {
				continue
			}
			tried++
			if err := schemagen.Check(partial, m[1]); err != nil {
				t.Errorf("%s: %v\n%s", file, err, m[1])
			}
		}
		return err
	})
	if err != nil || tried < 2 {
		t.Errorf("%d parts tried: %v", tried, err)
	}
}

// optional takes out what a part may leave to the rest of its file.
func optional(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "required")
		delete(v, "oneOf") // one driver
		for key, c := range v {
			if key != "if" {
				optional(c)
			}
		}
	case []any:
		for _, c := range v {
			optional(c)
		}
	}
}

// TestBadFilesFailInTheSchemaTooUnlessItCannotTell has the reason of each that
// passes.
func TestBadFilesFailInTheSchemaTooUnlessItCannotTell(t *testing.T) {
	cannot := map[string]string{
		"bad-confirm.yml":       "a source that is named has to be configured elsewhere in the file",
		"bad-shared.yml":        "two groups are compared",
		"bad-sources.yml":       "a mode and a policy need a source elsewhere in the file",
		"bad-two-documents.yml": "a schema is for one document",
	}
	s := compiled(t)
	files, err := filepath.Glob("testdata/bad-*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		reason := cannot[filepath.Base(file)]
		delete(cannot, filepath.Base(file))
		switch err := schemagen.Check(s, text); {
		case err == nil && reason == "":
			t.Errorf("%s passes the schema: say more in restrict, or the reason here", file)
		case err != nil && reason != "":
			t.Errorf("%s fails in the schema, and should not (%s): %v", file, reason, err)
		}
	}
	for file := range maps.Keys(cannot) {
		t.Errorf("%s is not there", file)
	}
}

// structural are the loader's complaints that a schema can make as well.
var structural = regexp.MustCompile(`unknown key|where an? .*belongs|is not a duration|is not a share|^size "|use one of [a-z]|": use (observe|newest|keep|alerts|in, out|done|scale_out)|no driver: state|state one driver|ParsePrefix|ParseAddr`)

// complete are the files that have every key between them.
func complete(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/every-*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	return append(files, "testdata/good-full.yml")
}

// TestSchemaAndLoaderAgree changes each value of files that have every key in every
// way there is. What the loader takes, the schema takes; what the loader refuses for its
// shape, the schema refuses.
func TestSchemaAndLoaderAgree(t *testing.T) {
	s := compiled(t)
	files := complete(t)
	total, refused := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var root yaml.Node
		if err := yaml.Unmarshal(text, &root); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Parse(file, text); err != nil {
			t.Errorf("as it is: %v", err)
		}
		mutate(root.Content[0], "", func(what string) {
			changed, err := yaml.Marshal(&root)
			if err != nil {
				t.Fatal(err)
			}
			_, loader := config.Parse(file, changed)
			value, err := schemagen.Value(&root)
			if err != nil {
				t.Fatal(err)
			}
			schema := s.Validate(value)
			total++
			if loader != nil && schema != nil {
				refused++
			}
			switch {
			case loader == nil && schema != nil:
				t.Errorf("%s: %s: the loader takes it, the schema does not: %.400v", filepath.Base(file), what, schema)
			case loader != nil && schema == nil && shape(loader):
				t.Errorf("%s: %s: the schema takes it, the loader does not: %v", filepath.Base(file), what, loader)
			}
		})
	}
	t.Logf("%d changes, both refused %d", total, refused)
	if total < 1000 || refused < total/3 {
		t.Errorf("%d changes and %d refused: the test does not test", total, refused)
	}
}

// shape reports whether one of the complaints is about the shape.
func shape(err error) bool {
	for line := range strings.Lines(err.Error()) {
		_, text, _ := strings.Cut(line, ": ")
		if structural.MatchString(strings.TrimSpace(text)) {
			return true
		}
	}
	return false
}

// mutate calls try with each change in force, one at a time.
func mutate(n *yaml.Node, at string, try func(what string)) {
	for _, text := range []string{"nonsense", "7", "-1", "1.5", "true", "[1]", "{a: 1}"} {
		was := *n
		var other yaml.Node
		if err := yaml.Unmarshal([]byte(text), &other); err != nil {
			panic(err)
		}
		*n = *other.Content[0]
		try(at + " = " + text)
		*n = was
	}
	switch n.Kind { //nolint:exhaustive // the others have nothing inside
	case yaml.MappingNode:
		extra := []*yaml.Node{{Kind: yaml.ScalarNode, Value: "nonsense"}, {Kind: yaml.ScalarNode, Value: "7"}}
		was := n.Content
		n.Content = append(slices.Clone(was), extra...)
		try(at + " with another key")
		for i := 0; i+1 < len(was); i += 2 {
			n.Content = slices.Delete(slices.Clone(was), i, i+2)
			try(at + " without " + was[i].Value)
		}
		n.Content = was
		for i := 0; i+1 < len(was); i += 2 {
			mutate(was[i+1], at+"."+was[i].Value, try)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			mutate(c, fmt.Sprintf("%s[%d]", at, i), try)
		}
	}
}

// TestTheFilesThatAreChangedHaveEveryKey sees to it that the agreement is tried for each key.
func TestTheFilesThatAreChangedHaveEveryKey(t *testing.T) {
	exempt := regexp.MustCompile(`^http\.|^libvirt\.template\.(osinfo|domain_xml)$|user_data$`) // need files, or are others'
	var doc schemaDoc
	if err := json.Unmarshal(config.Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	files := complete(t)
	stated := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var root yaml.Node
		if err := yaml.Unmarshal(text, &root); err != nil {
			t.Fatal(err)
		}
		keysOf(root.Content[0], stated)
	}
	for name, def := range doc.Defs {
		for key := range def.keys() {
			if !stated[key] && !exempt.MatchString(name+"."+key) {
				t.Errorf("no testdata/every-*.yml states %s of %s: add it to one, so that schema and loader are compared there", key, name)
			}
		}
	}
}

type schemaDoc struct {
	Defs map[string]schemaObject `json:"$defs"`
}

type schemaObject struct {
	Properties map[string]json.RawMessage `json:"properties"`
	AnyOf      []schemaObject             `json:"anyOf"`
}

func (o schemaObject) keys() map[string]json.RawMessage {
	out := maps.Clone(o.Properties)
	for _, a := range o.AnyOf {
		if out == nil {
			out = map[string]json.RawMessage{}
		}
		maps.Copy(out, a.keys())
	}
	return out
}

func keysOf(n *yaml.Node, into map[string]bool) {
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 {
			into[c.Value] = true
			continue
		}
		keysOf(c, into)
	}
}
