// Package schemagen makes the documents of the files that people write, their
// reference and their JSON Schema, out of the Go types that the files are decoded
// into. It reads the sources for the comments, so only tests can use it.
package schemagen

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// Key is a key of a file.
type Key struct {
	Field string // of the Go struct
	Name  string // in the file
	Text  string // what it means, in one line of Markdown; may be empty
}

// Keys reads the keys of the struct type of the package in dir, in their order.
func Keys(dir, structType string) ([]Key, error) {
	_, keys, err := documented(dir, structType, "yaml")
	return keys, err
}

// documented returns the type's comment and the keys that its fields' tags give.
func documented(dir, structType, tag string) (doc string, keys []Key, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return "", nil, err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			return "", nil, fmt.Errorf("read the comments of %s: %w", file, err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if decl, ok := n.(*ast.GenDecl); ok && len(decl.Specs) == 1 {
				if spec, ok := decl.Specs[0].(*ast.TypeSpec); ok && spec.Name.Name == structType {
					doc = strings.Join(strings.Fields(decl.Doc.Text()), " ")
				}
			}
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != structType {
				return true
			}
			if s, ok := spec.Type.(*ast.StructType); ok {
				keys = append(keys, structKeys(s, tag)...)
			}
			return false
		})
	}
	return doc, keys, nil
}

var wordRE = regexp.MustCompile(`\b[A-Z][A-Za-z]+\b`)

func structKeys(s *ast.StructType, tagName string) []Key {
	names := map[string]string{} // of keys, by Go names
	var list []Key
	last := ""
	for _, f := range s.Fields.List {
		if f.Tag == nil || len(f.Names) == 0 {
			continue
		}
		tag, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			continue
		}
		key, _, _ := strings.Cut(reflect.StructTag(tag).Get(tagName), ",")
		if key == "" || key == "-" {
			continue
		}
		text := strings.TrimSpace(f.Doc.Text())
		if text == "" {
			text = strings.TrimSpace(f.Comment.Text())
		}
		if text == "" && regexp.MustCompile(`\b`+f.Names[0].Name+`\b`).MatchString(last) {
			text = last // one comment for several fields
		} else if f.Doc != nil {
			last = text
		}
		names[f.Names[0].Name] = key
		list = append(list, Key{Field: f.Names[0].Name, Name: key, Text: text})
	}
	for i := range list {
		text := strings.Join(strings.Fields(list[i].Text), " ")
		text = wordRE.ReplaceAllStringFunc(text, func(w string) string {
			if key, ok := names[w]; ok && w != strings.ToUpper(w) && w != "VMs" && w != "Prometheus" {
				return "`" + key + "`"
			}
			return w
		})
		list[i].Text = strings.ReplaceAll(text, "|", "\\|")
	}
	return list
}
