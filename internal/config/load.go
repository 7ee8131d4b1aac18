package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds what is read as a configuration, in bytes.
const maxFile = 4 << 20

// Load reads and checks the file. The error has every problem, one a line, each
// with the file and the line.
func Load(file string) (*Config, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	return Parse(file, content)
}

// Parse is Load for a content that was read already. file names it in messages,
// and file names in it are relative to its folder.
func Parse(file string, content []byte) (*Config, error) {
	if len(content) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes: not a configuration", file, maxFile)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(content, &root); err != nil {
		return nil, yamlProblems(positions{file: file}, err)
	}
	c := &Config{file: file, lines: positions{file: file, root: &root}}
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	err := d.Decode(c)
	if errors.Is(err, io.EOF) {
		return nil, &Problem{File: file, Line: 1, Text: "the file is empty: begin with an example (scalehook example kvm)"}
	}
	if err != nil {
		return nil, yamlProblems(c.lines, err)
	}
	var second yaml.Node
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, &Problem{File: file, Line: max(second.Line, 1), Text: "a second document: keep one"}
	}
	c.defaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// UnmarshalYAML decodes the file and then, each for the driver that its group
// names, the sections. Problems of both are reported together.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	type plainConfig Config
	var all []string
	note := func(err error) {
		var wrong *yaml.TypeError
		switch {
		case errors.As(err, &wrong):
			all = append(all, wrong.Errors...) // a copy: the decoder goes on using its own
		case err != nil:
			all = append(all, err.Error())
		}
	}
	note(unmarshal((*plainConfig)(c)))
	c.onlyOnes()
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		g := c.Groups[name]
		if g == nil {
			continue // reported by the validation
		}
		g.template, g.pool = c.Providers[g.Provider].newTemplate(), c.Balancers[g.Balancer].newPool()
		for _, s := range []struct {
			from section
			into any
		}{{g.Template, g.template}, {g.Pool, g.pool}} {
			if s.into != nil && s.from.decode != nil {
				note(s.from.decode(s.into))
			}
		}
	}
	if len(all) > 0 {
		return &yaml.TypeError{Errors: all}
	}
	return nil
}

// onlyOnes fills in the provider and the balancer where there is no choice.
func (c *Config) onlyOnes() {
	for _, g := range c.Groups {
		if g == nil {
			continue
		}
		if g.Provider == "" && len(c.Providers) == 1 {
			for name := range c.Providers {
				g.Provider = name
			}
		}
		if g.Balancer == "" && len(c.Balancers) == 1 {
			for name := range c.Balancers {
				g.Balancer = name
			}
		}
	}
}

var (
	lineRE     = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	unknownRE  = regexp.MustCompile("^field (.+) not found in type .*$")
	durationRE = regexp.MustCompile("^cannot unmarshal !!\\w+ `(.*)` into time.Duration$")
	typeRE     = regexp.MustCompile("^cannot unmarshal !!(\\w+)(?: `(.*)`)? into (.+)$")
)

// yamlProblems words the decoder's errors for people.
func yamlProblems(at positions, err error) error {
	p := problems{at: at}
	texts := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if wrong, ok := errors.AsType[*yaml.TypeError](err); ok {
		texts = wrong.Errors
	}
	for _, text := range texts {
		line := 0
		if m := lineRE.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1])
			text = m[2]
		} else {
			line = quoted(at.root, text)
		}
		p.list = append(p.list, problem{line: max(line, 1), text: reword(text)})
	}
	return p.err()
}

func reword(text string) string {
	if m := unknownRE.FindStringSubmatch(text); m != nil {
		if near := nearest(m[1], knownKeys()); near != "" {
			return fmt.Sprintf("unknown key %q: did you mean %q?", m[1], near)
		}
		return fmt.Sprintf("unknown key %q: see docs/configuration.md for the keys there are", m[1])
	}
	if m := durationRE.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%q is not a duration: write it with a unit, like 90s, 5m or 1h30m", m[1])
	}
	if m := typeRE.FindStringSubmatch(text); m != nil {
		kind := map[string]string{"seq": "a list", "map": "a mapping"}[m[1]]
		switch {
		case kind != "":
		case strings.HasPrefix(m[3], "config."): // of the Prometheus family's client: it may be a secret
			kind = "a word"
		default:
			kind = strconv.Quote(m[2])
		}
		return fmt.Sprintf("%s where %s belongs", kind, typeWord(m[3]))
	}
	return text
}

func typeWord(goType string) string {
	switch {
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.HasPrefix(goType, "map["):
		return "a mapping"
	case strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "uint"):
		return "a whole number"
	case strings.HasPrefix(goType, "float"):
		return "a number"
	case goType == "bool":
		return "true or false"
	case goType == "string", strings.HasPrefix(goType, "scaling."), strings.HasPrefix(goType, "libvirt.Domain"), strings.HasPrefix(goType, "libvirt.AddressS"):
		return "a word"
	}
	return "a mapping"
}

// quoted finds the line of the value that an error without a line quotes.
func quoted(node *yaml.Node, text string) int {
	if node == nil {
		return 0
	}
	if node.Kind == yaml.ScalarNode && node.Value != "" && strings.Contains(text, strconv.Quote(node.Value)) {
		return node.Line
	}
	for _, c := range node.Content {
		if line := quoted(c, text); line > 0 {
			return line
		}
	}
	return 0
}

// path makes a file name of the configuration absolute.
func (c *Config) path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	dir, err := filepath.Abs(filepath.Dir(c.file))
	if err != nil {
		return name
	}
	return filepath.Join(dir, name)
}
