package schemagen

import (
	"bytes"
	"fmt"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// Compile makes a schema's text ready, after it was checked itself.
func Compile(text []byte) (*validator.Schema, error) {
	doc, err := validator.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read the schema: %w", err)
	}
	c := validator.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		return nil, err
	}
	return c.Compile("schema.json")
}

// Check holds a file of YAML against a schema.
func Check(s *validator.Schema, file []byte) error {
	var root yaml.Node
	if err := yaml.Unmarshal(file, &root); err != nil {
		return err
	}
	v, err := Value(&root)
	if err != nil {
		return err
	}
	return s.Validate(v)
}

// Value is what an editor's schema check sees of a node.
func Value(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.DocumentNode:
		return Value(n.Content[0])
	case yaml.AliasNode:
		return Value(n.Alias)
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if _, twice := out[key]; twice {
				return nil, fmt.Errorf("line %d: key %q is there twice", n.Content[i].Line, key)
			}
			v, err := Value(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			out[key] = v
		}
		return out, nil
	case yaml.SequenceNode:
		out := []any{}
		for _, c := range n.Content {
			v, err := Value(c)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case yaml.ScalarNode:
		var v any
		if n.ShortTag() == "!!timestamp" {
			return n.Value, nil
		}
		err := n.Decode(&v)
		return v, err
	}
	return nil, nil //nolint:nilnil // an empty file has no value
}
