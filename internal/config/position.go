package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// positions finds the line of a key, for problems that only the whole file shows.
type positions struct {
	file string
	root *yaml.Node
}

// line returns the line of the deepest part of the path that is in the file; list
// elements are named by their index.
func (p positions) line(path []string) int {
	node, line := p.root, 1
	if node != nil && node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	for _, key := range path {
		next := child(node, key)
		if next == nil {
			break
		}
		node, line = next.value, next.line
	}
	return line
}

type found struct {
	value *yaml.Node
	line  int
}

func child(node *yaml.Node, key string) *found {
	if node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node == nil {
		return nil
	}
	if node.Kind == yaml.SequenceNode {
		for i, v := range node.Content {
			if strconv.Itoa(i) == key {
				return &found{value: v, line: v.Line}
			}
		}
		return nil
	}
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == key {
				return &found{value: node.Content[i+1], line: node.Content[i].Line}
			}
		}
	}
	return nil
}

// A Problem is something wrong at a place of a file.
type Problem struct { //nolint:errname // check-config lists them
	File string
	Line int
	// Key is the path of what it is about, like groups.web.max; empty where only the line
	// says it.
	Key string
	// Text says what is wrong.
	Text string
}

// Error is the line for people: file:line: key: what is wrong.
func (p Problem) Error() string {
	text := p.Text
	if p.Key != "" {
		text = p.Key + ": " + text
	}
	if p.File == "" {
		return text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, text)
}

// Problems takes apart what Load, Build and Check say is wrong. What is at no place of a
// file is a Problem that has only a text.
func Problems(err error) []Problem {
	var out []Problem
	for _, one := range parts(err) {
		said := Problem{Text: one.text}
		if p, ok := errors.AsType[*Problem](one.err); ok && one.text == p.Error() {
			said = *p
		}
		out = append(out, said)
	}
	return out
}

// problem is a Problem of the one file.
type problem struct {
	line      int
	key, text string
}

// problems are all that is wrong with one file.
type problems struct {
	at   positions
	list []problem
}

// add notes a problem at the path. Of a joined error each part is one.
func (p *problems) add(path []string, err error) {
	if err == nil {
		return
	}
	// Only the outermost error is taken apart.
	if joined, ok := err.(interface{ Unwrap() []error }); ok && isJoin(err) {
		for _, e := range joined.Unwrap() {
			p.add(path, e)
		}
		return
	}
	p.list = append(p.list, problem{line: p.at.line(path), key: strings.Join(path, "."), text: err.Error()})
}

// isJoin tells errors.Join from an fmt.Errorf with several %w, whose text says
// more than its parts do.
func isJoin(err error) bool {
	return fmt.Sprintf("%T", err) == fmt.Sprintf("%T", errors.Join(errors.New("a")))
}

func (p *problems) addf(path []string, format string, args ...any) {
	p.add(path, fmt.Errorf(format, args...))
}

// err returns all problems in the order of the file, each as file:line: text.
func (p *problems) err() error {
	slices.SortStableFunc(p.list, func(a, b problem) int { return a.line - b.line })
	errs := make([]error, len(p.list))
	for i, one := range p.list {
		errs[i] = p.placed(one)
	}
	return errors.Join(errs...)
}

func (p *problems) placed(one problem) *Problem {
	return &Problem{File: p.at.file, Line: one.line, Key: withoutUserinfo(one.key), Text: withoutUserinfo(one.text)}
}

// warnings are problems that do not keep a server from starting, each with its place.
func (p *problems) warnings() []*Problem {
	var out []*Problem
	for _, one := range p.list {
		out = append(out, p.placed(one))
	}
	return out
}
