package config

import (
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// wholeNumbers refuses fractions where a whole number belongs: the decoder would
// cut them off without a word.
func (c *Config) wholeNumbers(p *problems) {
	root := c.lines.root
	if root != nil && root.Kind == yaml.DocumentNode && len(root.Content) > 0 {
		root = root.Content[0]
	}
	fractions(p, root, reflect.TypeFor[Config](), 0)
	for name, g := range c.Groups {
		if g == nil {
			continue
		}
		for key, decoded := range map[string]any{"template": g.template, "pool": g.pool} {
			node := root
			for _, k := range []string{"groups", name, key} {
				if f := child(node, k); f != nil {
					node = f.value
				} else {
					node = nil
				}
			}
			if decoded != nil {
				fractions(p, node, reflect.TypeOf(decoded), 0)
			}
		}
	}
}

// maxDepth bounds the walk where an alias leads back to itself.
const maxDepth = 32

func fractions(p *problems, node *yaml.Node, t reflect.Type, depth int) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node == nil || depth > maxDepth {
		return
	}
	switch {
	case node.Kind == yaml.ScalarNode && node.ShortTag() == "!!float" && strings.Contains(t.Kind().String(), "int"):
		p.list = append(p.list, problem{line: node.Line, text: fmt.Sprintf("%q where a whole number belongs", node.Value)})
	case node.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for _, v := range node.Content {
			fractions(p, v, t.Elem(), depth+1)
		}
	case node.Kind == yaml.MappingNode && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map):
		for i := 0; i+1 < len(node.Content); i += 2 {
			if of := typeOf(t, node.Content[i].Value); of != nil {
				fractions(p, node.Content[i+1], of, depth+1)
			}
		}
	}
}

// typeOf is the type of a mapping's value.
func typeOf(t reflect.Type, key string) reflect.Type {
	if t.Kind() == reflect.Map {
		return t.Elem()
	}
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name == key {
			return f.Type
		}
	}
	return nil
}
