package config

import (
	"fmt"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"

	promconfig "github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"
)

// hidden stands for a secret, as in the rest of the Prometheus family.
const hidden = "<secret>"

// Redacted is the configuration as the file has it, without its comments, with
// every secret hidden. What cannot be told to be none is taken for one.
func (c *Config) Redacted() (string, error) {
	r := redactor{config: c, secrets: map[string]bool{}}
	root := r.node(c.lines.root, reflect.TypeFor[Config](), nil, 0)
	r.repeated(root)
	text, err := yaml.Marshal(root)
	if err != nil {
		return "", fmt.Errorf("write the configuration: %w", err)
	}
	return string(text), nil
}

// Redacted is that of the configuration in force.
func (r *Runtime) Redacted() (string, error) { return r.cfg.Redacted() }

type redactor struct {
	config  *Config
	secrets map[string]bool
}

// secretKey are keys that hold secrets in any section, and not the names of files.
var secretKey = regexp.MustCompile(`(?i)(pass(word|wd|phrase)?|secret|credentials?|token|private_?key|cookie|authorization)$`)

// userinfo is a name and a password in an URL, or what may be a token alone; the user
// of qemu+ssh://root@host is neither. It ends at the last @ before a slash, since a
// password may hold one, and ?, # and : as well.
var userinfo = regexp.MustCompile(`://[^/\s:]*:[^/\s]+@|(https?)://[^/\s]+@`)

// withoutUserinfo hides it.
func withoutUserinfo(text string) string {
	return userinfo.ReplaceAllString(text, "$1://"+hidden+"@")
}

// node returns a copy without secrets, comments and aliases.
func (r *redactor) node(n *yaml.Node, t reflect.Type, path []string, depth int) *yaml.Node {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || depth > maxDepth {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: hidden}
	}
	out := &yaml.Node{Kind: n.Kind, Style: n.Style, Tag: n.Tag, Value: n.Value}
	switch n.Kind {
	case yaml.DocumentNode:
		for _, v := range n.Content {
			out.Content = append(out.Content, r.node(v, t, path, depth+1))
		}
	case yaml.SequenceNode:
		var of reflect.Type
		if t != nil && t.Kind() == reflect.Slice {
			of = t.Elem()
		}
		for _, v := range n.Content {
			out.Content = append(out.Content, r.node(v, of, append(slices.Clip(path), "*"), depth+1))
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			below := slices.Concat(path, []string{key.Value})
			out.Content = append(out.Content,
				&yaml.Node{Kind: yaml.ScalarNode, Style: key.Style, Tag: key.Tag, Value: key.Value},
				r.node(n.Content[i+1], r.typeAt(t, below), below, depth+1))
		}
	case yaml.ScalarNode:
		r.scalar(out, t, path)
	case yaml.AliasNode: // of an alias; there is none
	}
	return out
}

// typeAt is the type of what is at the path, nil where it is not known.
func (r *redactor) typeAt(parent reflect.Type, path []string) reflect.Type {
	key := path[len(path)-1]
	if len(path) == 3 && path[0] == "groups" {
		if g := r.config.Groups[path[1]]; g != nil {
			switch key {
			case "template":
				return reflect.TypeOf(g.template)
			case "pool":
				return reflect.TypeOf(g.pool)
			}
		}
	}
	if parent == nil || (parent.Kind() != reflect.Struct && parent.Kind() != reflect.Map) {
		return nil
	}
	if of := typeOf(parent, key); of != nil {
		return of
	}
	// A part that is laid into its parent.
	for f := range parent.Fields() {
		if _, option, _ := strings.Cut(f.Tag.Get("yaml"), ","); option == "inline" && f.Type.Kind() == reflect.Struct {
			if of := typeOf(f.Type, key); of != nil {
				return of
			}
		}
	}
	return nil
}

func (r *redactor) scalar(n *yaml.Node, t reflect.Type, path []string) {
	if n.Value == "" {
		return
	}
	key := path[len(path)-1]
	if key == "*" && len(path) > 1 {
		key = path[len(path)-2]
	}
	switch {
	case slices.Contains(path, "endpoint_params"), t == nil, t == reflect.TypeFor[promconfig.Secret](), secretKey.MatchString(key):
		r.hide(n, hidden)
	case len(path) == 3 && path[0] == "webhooks" && key == "url":
		// The path of a receiver is as good as a password.
		if u, err := url.Parse(n.Value); err == nil && (u.Path != "" && u.Path != "/" || u.RawQuery != "") {
			r.secrets[n.Value] = true
			n.Value = u.Scheme + "://" + u.Host + "/" + hidden
		}
	case userinfo.MatchString(n.Value):
		r.secrets[n.Value] = true
		n.Value = withoutUserinfo(n.Value)
	}
}

func (r *redactor) hide(n *yaml.Node, with string) {
	r.secrets[n.Value] = true
	n.Value, n.Tag, n.Style = with, "!!str", 0
}

// repeated hides what is a secret elsewhere: an anchor may have led there.
func (r *redactor) repeated(n *yaml.Node) {
	const certain = 8 // shorter words may be anything
	if n.Kind == yaml.ScalarNode && len(n.Value) >= certain && r.secrets[n.Value] {
		r.hide(n, hidden)
	}
	for _, v := range n.Content {
		r.repeated(v)
	}
}
