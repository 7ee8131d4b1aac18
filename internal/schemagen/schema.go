package schemagen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// Module is the path of ours.
const Module = "github.com/scalehook/scalehook"

// Options say what reflection cannot know.
type Options struct {
	// Root is the module's folder, for the comments.
	Root string
	// Name is the name of a type's definition.
	Name func(reflect.Type) string
	// Map is the schema of a type that is not read as it is declared, or nil.
	Map func(reflect.Type) *jsonschema.Schema
	// Text explains a key whose field has no comment.
	Text func(of reflect.Type, key string) string
	// More are types that no field leads to and that are defined nevertheless.
	More []reflect.Type
}

// Reflect makes the schema of a file that is decoded into the type. No key is
// required yet and every word is as good as another.
func Reflect(of reflect.Type, o Options) (*jsonschema.Schema, error) {
	var failed error
	r := &jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		Anonymous:                  true,
		ExpandedStruct:             true,
		Namer:                      o.Name,
		Mapper: func(t reflect.Type) *jsonschema.Schema {
			if s := o.Map(t); s != nil {
				return s
			}
			return basic(t)
		},
		LookupComment: comments(o.Root, "yaml", o.Text, &failed),
	}
	s := r.ReflectFromType(of)
	for _, t := range o.More {
		one := *r
		one.ExpandedStruct = false // a definition like the others
		maps.Copy(s.Definitions, one.ReflectFromType(t).Definitions)
	}
	maps.Copy(s.Definitions, shared())
	return s, failed
}

// comments looks up what the sources say of a field, or for JSON of a type too. What
// fails is kept.
func comments(root, tag string, other func(of reflect.Type, key string) string, failed *error) func(reflect.Type, string) string {
	type about struct {
		doc  string
		keys []Key
	}
	read := map[reflect.Type]about{}
	return func(t reflect.Type, field string) string {
		dir, ours := strings.CutPrefix(t.PkgPath(), Module+"/")
		if !ours || field == "" && tag == "yaml" {
			return ""
		}
		known, is := read[t]
		if !is {
			var err error
			if known.doc, known.keys, err = documented(filepath.Join(root, dir), t.Name(), tag); err != nil {
				*failed = err
			}
			read[t] = known
		}
		if field == "" {
			return known.doc
		}
		for _, k := range known.keys {
			if k.Field == field && k.Text != "" {
				return plain(k.Text)
			}
			if k.Field == field {
				return plain(other(t, k.Name))
			}
		}
		return ""
	}
}

// ReflectJSON makes the schemas of types as encoding/json writes them, by the types'
// names. A field that may be left out is not required.
func ReflectJSON(o Options, of ...reflect.Type) (jsonschema.Definitions, error) {
	var failed error
	all := jsonschema.Definitions{}
	for _, t := range of {
		r := &jsonschema.Reflector{Anonymous: true, Mapper: o.Map, LookupComment: comments(o.Root, "json", o.Text, &failed)}
		maps.Copy(all, r.ReflectFromType(t).Definitions)
	}
	return all, failed
}

// plain takes Markdown's marks off.
func plain(text string) string {
	return strings.NewReplacer("\\|", "|", "`", "").Replace(text)
}

// Word is any scalar: the decoder takes numbers and yes or no for words as they are
// written.
func Word() *jsonschema.Schema {
	return &jsonschema.Schema{Extras: map[string]any{"type": []string{"string", "number", "boolean"}}}
}

// Ref refers to a definition.
func Ref(name string) *jsonschema.Schema { return &jsonschema.Schema{Ref: "#/$defs/" + name} }

func basic(t reflect.Type) *jsonschema.Schema {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return Ref("duration")
	case t == reflect.TypeFor[netip.Addr]():
		return Ref("address")
	case t == reflect.TypeFor[netip.Prefix]():
		return Ref("network")
	case t.Kind() == reflect.String:
		return Word()
	case t.Kind() == reflect.Uint16:
		return &jsonschema.Schema{Type: "integer", Minimum: "0", Maximum: "65535"}
	case strings.HasPrefix(t.Kind().String(), "uint"):
		return &jsonschema.Schema{Type: "integer", Minimum: "0"}
	}
	return nil
}

// shared are the definitions of what is written the same way everywhere.
func shared() map[string]*jsonschema.Schema {
	return map[string]*jsonschema.Schema{
		"duration": {
			Type: "string", Pattern: `^(0|\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`,
			Description: "A time with its unit, like 90s, 5m or 1h30m.",
		},
		"address": {Type: "string", Pattern: `^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$`, Description: "An IP address."},
		"network": {Type: "string", Pattern: `^[0-9A-Fa-f:.]+/[0-9]{1,3}$`, Description: "A network, like 192.168.100.0/24."},
	}
}

// Edit changes a schema by the names of its definitions and keys. What does not
// exist is an error, so that a renamed key cannot lose what is said of it.
type Edit struct {
	Schema *jsonschema.Schema
	Errs   []error
}

// Object returns a definition; the empty name is the file itself.
func (e *Edit) Object(name string) *jsonschema.Schema {
	if name == "" {
		return e.Schema
	}
	if d := e.Schema.Definitions[name]; d != nil {
		return d
	}
	e.Errs = append(e.Errs, fmt.Errorf("there is no definition %q", name))
	return &jsonschema.Schema{Properties: jsonschema.NewProperties()}
}

// Key returns the schema of "definition.key", with [] for the elements of its list
// and {} for the values of its mapping.
func (e *Edit) Key(path string) *jsonschema.Schema {
	name, key := "", path
	if i := strings.LastIndex(path, "."); i >= 0 {
		name, key = path[:i], path[i+1:]
	}
	key, list := strings.CutSuffix(key, "[]")
	key, mapping := strings.CutSuffix(key, "{}")
	s, ok := e.Object(name).Properties.Get(key)
	if ok && list {
		s = s.Items
	}
	if ok && mapping {
		s = s.AdditionalProperties
	}
	if !ok || s == nil {
		e.Errs = append(e.Errs, fmt.Errorf("there is no key %q", path))
		return &jsonschema.Schema{}
	}
	return s
}

// Require makes keys of a definition required. They have to exist.
func (e *Edit) Require(name string, keys ...string) {
	o := e.Object(name)
	for _, k := range keys {
		if _, ok := o.Properties.Get(k); !ok {
			e.Errs = append(e.Errs, fmt.Errorf("there is no key %q in %q", k, name))
		}
	}
	o.Required = append(o.Required, keys...)
}

// Enum restricts a word to some.
func (e *Edit) Enum(path string, values ...string) {
	s := e.Key(path)
	s.Extras = nil
	s.Type, s.Enum = "string", nil
	for _, v := range values {
		s.Enum = append(s.Enum, v)
	}
}

// Range restricts a number; an empty bound is none.
func (e *Edit) Range(path string, least, most json.Number) {
	s := e.Key(path)
	s.Minimum, s.Maximum = least, most
}

// OneOf makes a definition have exactly one of its keys.
func (e *Edit) OneOf(name string) {
	o := e.Object(name)
	for p := o.Properties.Oldest(); p != nil; p = p.Next() {
		o.OneOf = append(o.OneOf, &jsonschema.Schema{Required: []string{p.Key}})
	}
}

// OrWord lets a mapping be written as a word alone.
func (e *Edit) OrWord(name string) {
	o := *e.Object(name)
	*e.Object(name) = jsonschema.Schema{AnyOf: []*jsonschema.Schema{Word(), &o}}
}

// Text is the schema as it is committed.
func Text(s *jsonschema.Schema) ([]byte, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
