// Package merge puts the entries of an example into an existing configuration of
// Prometheus, Alertmanager or HAProxy. It only ever adds lines, and leaves every
// other byte as it is, so that what it proposes can be read as a patch, and taken
// back as one.
package merge

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Insertion is what is put after a line of a file.
type Insertion struct {
	After int // number of the line, from 1; 0 is the beginning
	Lines []string
}

// Merge is what an example adds to a file.
type Merge struct {
	Insertions []Insertion // in the order of the file
	There      []string    // what is not added, since the file has it
}

// list is where a kind of configuration keeps entries, and what tells them apart.
type list struct {
	path []string
	same func(have, add *yaml.Node, dir string) bool
}

// Kinds are the examples that can be merged.
func Kinds() []string { return []string{"alertmanager", "haproxy", "prometheus"} }

// Into says what the example of a kind adds to a file's text. Entries of lists go
// before those that are there, since of Alertmanager's routes the first one wins.
func Into(kind, file string, text, example []byte) (Merge, error) {
	if len(text) > 0 && text[len(text)-1] != '\n' {
		return Merge{}, fmt.Errorf("%s: its last line has no end: add one", file)
	}
	var m Merge
	var err error
	switch kind {
	case "haproxy":
		m = intoHAProxy(text, example)
	case "prometheus":
		m, err = intoYAML(filepath.Dir(file), text, example,
			list{[]string{"rule_files"}, sameFile},
			list{[]string{"scrape_configs"}, sameKey("job_name")},
		)
	case "alertmanager":
		m, err = intoYAML(filepath.Dir(file), text, example,
			list{[]string{"route", "routes"}, sameKey("receiver", "matchers")},
			list{[]string{"receivers"}, sameKey("name")},
		)
	default:
		return Merge{}, fmt.Errorf("example %q goes into no file that is there already: only %s do", kind, strings.Join(Kinds(), ", "))
	}
	if err != nil {
		return Merge{}, fmt.Errorf("%s: %w", file, err)
	}
	m.inOrder()
	m.endAs(text)
	return m, nil
}

func (m Merge) inOrder() {
	slices.SortStableFunc(m.Insertions, func(a, b Insertion) int { return a.After - b.After })
}

// endAs has the lines end as most of the text's do.
func (m Merge) endAs(text []byte) {
	if 2*bytes.Count(text, []byte("\r\n")) <= bytes.Count(text, []byte("\n")) {
		return
	}
	for _, in := range m.Insertions {
		for i := range in.Lines {
			in.Lines[i] += "\r"
		}
	}
}

// Apply returns the text with the additions.
func (m Merge) Apply(text []byte) []byte {
	var b strings.Builder
	rest := m.Insertions
	put := func(after int) {
		for len(rest) > 0 && rest[0].After == after {
			b.WriteString(strings.Join(rest[0].Lines, "\n") + "\n")
			rest = rest[1:]
		}
	}
	put(0)
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		b.WriteString(line)
		put(number)
	}
	return []byte(b.String())
}

func intoYAML(dir string, text, example []byte, lists ...list) (Merge, error) {
	m, err := additions(dir, text, example, lists)
	if err != nil {
		return Merge{}, err
	}
	m.inOrder()
	left, err := additions(dir, m.Apply(text), example, lists)
	switch {
	case err != nil:
		return Merge{}, fmt.Errorf("with the additions it could not be read any more, merge by hand: %w", err)
	case len(left.Insertions) > 0:
		return Merge{}, fmt.Errorf("the additions would not be found where they are put, merge by hand: %s", strings.TrimSpace(left.Insertions[0].Lines[0]))
	}
	return m, nil
}

// additions are the entries of the example that the lists do not have.
func additions(dir string, text, example []byte, lists []list) (Merge, error) {
	end, err := lastLine(text)
	if err != nil {
		return Merge{}, err
	}
	have, err := root(text)
	if err != nil {
		return Merge{}, err
	}
	add, err := root(example)
	if err != nil {
		return Merge{}, fmt.Errorf("the example: %w", err)
	}
	exampleLines := strings.Split(string(example), "\n")
	var m Merge
	for _, l := range lists {
		_, from := find(add, l.path)
		target, err := place(have, l.path, end)
		if err != nil {
			return Merge{}, err
		}
		var lines []string
		for i, entry := range from.Content {
			if there := slices.IndexFunc(target.entries, func(e *yaml.Node) bool { return l.same(e, entry, dir) }); there >= 0 {
				m.There = append(m.There, fmt.Sprintf("line %d: %s has this entry", target.entries[there].Line, strings.Join(l.path, ".")))
				continue
			}
			end := len(exampleLines)
			if i+1 < len(from.Content) {
				end = from.Content[i+1].Line - 1
			}
			lines = append(lines, reindent(exampleLines[entry.Line-1:end], from.Column-1, target.indent)...)
		}
		if len(lines) > 0 {
			m.Insertions = append(m.Insertions, Insertion{target.after, append(target.head, lines...)})
		}
	}
	return m, nil
}

// lastLine is the number of the line that the document ends with. Of further ones the
// programs read nothing, and say nothing.
func lastLine(text []byte) (int, error) {
	marks := func(line, mark string) bool {
		rest, is := strings.CutPrefix(line, mark)
		return is && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n"))
	}
	number, end, begun := 0, -1, false
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		number++
		rest := strings.TrimSpace(line)
		switch begins := marks(line, "---"); {
		case marks(line, "..."):
			if end < 0 {
				end = number - 1
			}
		case rest == "" || !begun && strings.HasPrefix(line, "%") || !begins && strings.HasPrefix(rest, "#"):
		case end >= 0 || begins && begun:
			return 0, fmt.Errorf("line %d: a second YAML document begins here, and only the first one is read: make them one", number)
		default:
			begun = true
		}
	}
	if end < 0 {
		end = number
	}
	return end, nil
}

// root is the mapping at the top of a file; nil if the file is empty.
func root(text []byte) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("read it: %w", err)
	}
	if len(doc.Content) == 0 {
		return nil, nil //nolint:nilnil // an empty file has none, and is no error
	}
	if doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want keys with values", doc.Content[0].Line)
	}
	return doc.Content[0], nil
}

// find returns the key and the value at a path, or nil.
func find(in *yaml.Node, path []string) (key, value *yaml.Node) {
	value = in
	for _, name := range path {
		key, value = child(value, name)
		if value == nil {
			return nil, nil
		}
	}
	return key, value
}

func child(in *yaml.Node, name string) (key, value *yaml.Node) {
	if in == nil || in.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(in.Content); i += 2 {
		if in.Content[i].Value == name {
			return in.Content[i], in.Content[i+1]
		}
	}
	return nil, nil
}

// target is where entries go.
type target struct {
	after   int
	indent  int
	head    []string // keys that have to be made
	entries []*yaml.Node
}

// errInline is of a list or mapping in braces or brackets.
var errInline = errors.New("it is written on one line: write one entry a line, or merge by hand")

func place(in *yaml.Node, path []string, lines int) (target, error) {
	at := in
	for i, name := range path {
		key, value := child(at, name)
		if value == nil {
			t := target{after: lines}
			column := 0
			if i > 0 { // below the key that there is
				parent, _ := find(in, path[:i])
				t.after = parent.Line
				if column = parent.Column + 1; at.Kind == yaml.MappingNode && len(at.Content) > 0 {
					column = at.Content[0].Column - 1
				}
			}
			if at != nil && at.Kind == yaml.MappingNode && at.Style == yaml.FlowStyle && len(at.Content) > 0 {
				return target{}, fmt.Errorf("line %d: %w", at.Line, errInline)
			}
			for _, missing := range path[i:] {
				t.head = append(t.head, strings.Repeat(" ", column)+missing+":")
				column += 2
			}
			t.indent = column
			return t, nil
		}
		if i < len(path)-1 {
			if value.Kind != yaml.MappingNode || value.Style == yaml.FlowStyle {
				return target{}, fmt.Errorf("line %d: %s: %w", value.Line, name, errInline)
			}
			at = value
			continue
		}
		switch {
		case value.Kind == yaml.ScalarNode && value.Tag == "!!null" && value.Value == "":
			return target{after: key.Line, indent: key.Column + 1}, nil
		case value.Kind == yaml.SequenceNode && value.Style != yaml.FlowStyle && len(value.Content) > 0:
			return target{after: key.Line, indent: value.Column - 1, entries: value.Content}, nil
		default:
			return target{}, fmt.Errorf("line %d: %s: %w", value.Line, name, errInline)
		}
	}
	return target{}, errors.New("no path")
}

// reindent moves lines from one depth to another, and drops what follows the entry:
// empty lines, and remarks that stand less deep.
func reindent(lines []string, from, to int) []string {
	var out []string
	for _, line := range lines {
		rest := strings.TrimLeft(line, " ")
		if rest != "" && len(line)-len(rest) < from {
			break
		}
		if rest == "" {
			out = append(out, "")
			continue
		}
		out = append(out, strings.Repeat(" ", to)+line[from:])
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// sameKey takes entries for the same that have the same values of these keys.
func sameKey(keys ...string) func(have, add *yaml.Node, dir string) bool {
	return func(have, add *yaml.Node, _ string) bool {
		for _, name := range keys {
			_, a := child(have, name)
			_, b := child(add, name)
			if a == nil || b == nil || flat(a) != flat(b) {
				return false
			}
		}
		return true
	}
}

// flat is a node's value on one line, whatever way it is written.
func flat(n *yaml.Node) string {
	if n.Kind == yaml.ScalarNode {
		return n.Value
	}
	parts := make([]string, len(n.Content))
	for i, c := range n.Content {
		parts[i] = flat(c)
	}
	return strings.Join(parts, "\x00")
}

// sameFile takes a pattern that finds the file for the file.
func sameFile(have, add *yaml.Node, dir string) bool {
	pattern := have.Value
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(dir, pattern)
	}
	found, err := filepath.Match(pattern, add.Value)
	return err == nil && found
}

// section is one of HAProxy's: its first line and what follows up to the next.
type section struct {
	name string // "backend web"
	at   int    // number of its first line
	body []string
}

var beginsSection = regexp.MustCompile(`^(global|defaults|frontend|backend|listen|peers|resolvers|mailers|userlist|cache|program|http-errors|ring|log-forward|fcgi-app)\b`)

func sections(text string) []section {
	var out []section
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if beginsSection.MatchString(line) {
			out = append(out, section{name: strings.Join(strings.Fields(strings.SplitN(line, "#", 2)[0]), " "), at: number})
			continue
		}
		if len(out) > 0 {
			out[len(out)-1].body = append(out[len(out)-1].body, line)
		}
	}
	return out
}

// intoHAProxy puts what the example has under global into the first global section.
// Its other sections follow at the end, unless the backend is there already: then
// the file's own frontends lead to it.
func intoHAProxy(text, example []byte) Merge {
	have := sections(string(text))
	named := func(name string) *section {
		if i := slices.IndexFunc(have, func(s section) bool { return s.name == name }); i >= 0 {
			return &have[i]
		}
		return nil
	}
	var m Merge
	var tail []string
	add := sections(string(example))
	backend := slices.ContainsFunc(add, func(s section) bool {
		return strings.HasPrefix(s.name, "backend ") && named(s.name) != nil
	})
	for _, s := range add {
		there := named(s.name)
		switch {
		case s.name == "global" && there != nil:
			m = m.global(have, there, s.body)
		case backend && s.name != "global":
			m.There = append(m.There, s.name+" is not needed: the backend is there")
		default:
			tail = append(append(tail, "", s.name), trim(s.body)...)
		}
	}
	if len(tail) > 0 {
		m.Insertions = append(m.Insertions, Insertion{strings.Count(string(text), "\n"), tail})
	}
	return m
}

// global adds the lines that no global section has, after the last socket of the
// first one or at its top, indented as what is there.
func (m Merge) global(have []section, to *section, lines []string) Merge {
	after, indent := to.at, "    "
	for i, line := range to.body {
		if rest := strings.TrimLeft(line, " \t"); rest != "" && !strings.HasPrefix(rest, "#") && rest != line {
			indent = line[:len(line)-len(rest)]
			break
		} else if i == len(to.body)-1 {
			break
		}
	}
	for i, line := range to.body {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "stats" && f[1] == "socket" {
			after = to.at + 1 + i
		}
	}
	var out, remarks []string
	for _, line := range trim(lines) {
		rest := strings.TrimSpace(line)
		if strings.HasPrefix(rest, "#") {
			remarks = append(remarks, indent+rest)
			continue
		}
		key := strings.Join(strings.Fields(rest)[:min(3, len(strings.Fields(rest)))], " ")
		there := slices.ContainsFunc(have, func(s section) bool {
			return s.name == "global" && slices.ContainsFunc(s.body, func(l string) bool {
				return strings.HasPrefix(strings.Join(strings.Fields(l), " ")+" ", key+" ")
			})
		})
		if there {
			m.There = append(m.There, "global has "+key)
		} else {
			out = append(append(out, remarks...), indent+rest)
		}
		remarks = nil
	}
	if len(out) > 0 {
		m.Insertions = append(m.Insertions, Insertion{after, out})
	}
	return m
}

// trim takes the empty lines off the end, and the remarks before them that stand at
// the beginning of a line: those are about the section that follows.
func trim(lines []string) []string {
	end := len(lines)
	for end > 0 && (strings.TrimSpace(lines[end-1]) == "" || strings.HasPrefix(lines[end-1], "#")) {
		end--
	}
	return lines[:end]
}
