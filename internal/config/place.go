package config

import (
	"errors"
	"io/fs"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// TokenProblem says that the token of that index cannot be used: where its file is
// named, and what would be right.
func (c *Config) TokenProblem(index int, err error) error {
	p := problems{at: c.lines}
	p.place(err, advice, []string{"tokens", strconv.Itoa(index), "file"})
	return p.err()
}

// place notes what a driver found wrong, each part where the file says what it is
// about: the first of the sections that has a value which the text names, else the
// first section itself. hint, which may be nil, adds what would be right.
func (p *problems) place(err error, hint func(path []string, err error) string, sections ...[]string) {
	for _, one := range parts(err) {
		path, text := p.at.place(one.text, sections)
		line := p.at.line(path)
		if hint != nil {
			if more := hint(path, one.err); more != "" {
				text += ": " + more
			}
		}
		p.list = append(p.list, problem{line: line, key: strings.Join(path, "."), text: text})
	}
}

// groupRE is how providers begin what is about one group's template.
var groupRE = regexp.MustCompile(`^group ("(?:[^"\\]|\\.)*"): `)

// virErrorRE is how libvirt's binding wraps what libvirt says.
var virErrorRE = regexp.MustCompile(`virError\(Code=\d+, Domain=\d+, Message='(.*)'\)`)

// place words one problem for people, with the path of what it is about.
func (p positions) place(text string, sections [][]string) (path []string, _ string) {
	text = virErrorRE.ReplaceAllString(text, "$1")
	if m := groupRE.FindStringSubmatch(text); m != nil {
		if group, err := strconv.Unquote(m[1]); err == nil {
			sections = append([][]string{{"groups", group, "template"}}, sections...)
			text = text[len(m[0]):]
		}
	}
	for _, s := range sections {
		if at := p.named(s, text); at != nil {
			return at, text
		}
	}
	return sections[0], text
}

// A part is one of several errors that were joined, with what was said before them.
type part struct {
	text string
	err  error
}

// parts takes joined errors apart, also those that were wrapped after they were
// joined: each gets the words that stood before all of them.
func parts(err error) []part {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && isJoin(err) {
		var all []part
		for _, e := range joined.Unwrap() {
			all = append(all, parts(e)...)
		}
		return all
	}
	whole := []part{{text: err.Error(), err: err}}
	inner := errors.Unwrap(err)
	if inner == nil {
		return whole
	}
	prefix, ok := strings.CutSuffix(err.Error(), inner.Error())
	if !ok {
		return whole
	}
	all := parts(inner)
	if len(all) == 1 {
		return whole
	}
	for i := range all {
		all[i].text = prefix + all[i].text
	}
	return all
}

// named returns the path of the value under the section that the text is most
// likely about: the first one that it names, one that it names by its key too
// before others. It is nil if the text names none.
func (p positions) named(section []string, text string) []string {
	node := p.root
	if node != nil && node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	for _, key := range section {
		next := child(node, key)
		if next == nil {
			return nil
		}
		node = next.value
	}
	var best []string
	bestKey, bestAt := false, 0
	scalars(node, section, func(path []string, value string) {
		at := wordIn(text, value)
		if at < 0 {
			return
		}
		key := wordIn(text, path[len(path)-1]) >= 0
		if best == nil || key && !bestKey || key == bestKey && at < bestAt {
			best, bestKey, bestAt = slices.Clone(path), key, at
		}
	})
	return best
}

// scalars visits every single value under a node.
func scalars(node *yaml.Node, path []string, visit func(path []string, value string)) {
	if node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node == nil {
		return
	}
	if node.Kind == yaml.ScalarNode {
		visit(path, node.Value)
	}
	if node.Kind == yaml.SequenceNode {
		for i, v := range node.Content {
			scalars(v, append(slices.Clone(path), strconv.Itoa(i)), visit)
		}
	}
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			scalars(node.Content[i+1], append(slices.Clone(path), node.Content[i].Value), visit)
		}
	}
}

// wordIn returns where the text has the value as a whole word, or -1. Values of one
// or two characters prove nothing.
func wordIn(text, value string) int {
	if len(value) < 3 {
		return -1
	}
	inWord := func(b byte) bool {
		return b == '_' || b == '-' || b == '.' || b == '/' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
	}
	for from := 0; ; {
		i := strings.Index(text[from:], value)
		if i < 0 {
			return -1
		}
		begin, end := from+i, from+i+len(value)
		if (begin == 0 || !inWord(text[begin-1])) && (end == len(text) || !inWord(text[end])) {
			return begin
		}
		from = begin + 1
	}
}

// advice is what would be right where the driver's words cannot know it: how the
// thing is reached is said in the file, and by whom it is run, outside.
func advice(path []string, err error) string {
	if path[0] == "groups" {
		return templateAdvice(err.Error())
	}
	dialed := false
	if op, ok := errors.AsType[*net.OpError](err); ok {
		dialed = op.Op == "dial"
	}
	last, kind := path[len(path)-1], path[0]
	switch {
	case last == "secret_file" && errors.Is(err, fs.ErrNotExist):
		return "write a key of at least 16 characters into it (openssl rand -hex 32), readable for the user that runs scalehook"
	case kind == "webhooks" && errors.Is(err, fs.ErrPermission):
		return "make it readable for the user that runs scalehook"
	case kind == "tokens" && errors.Is(err, fs.ErrNotExist):
		return "write one, of at least 16 characters (openssl rand -hex 32), readable for the user that runs scalehook"
	case kind == "tokens" && errors.Is(err, fs.ErrPermission):
		return "make it readable for the user that runs scalehook"
	case kind == "providers":
		return "does libvirtd run there (virsh -c URI version), and is the user that runs scalehook in its group (libvirt)?"
	case last == "master_socket" && dialed:
		return "start HAProxy with -S and this path (Debian's unit has /run/haproxy-master.sock) and let the user that runs scalehook use it; or leave master_socket out"
	case kind == "balancers" && dialed:
		return `does HAProxy run, has its section "global" a line "stats socket" with this address and "level admin", and may the user that runs scalehook use it (group haproxy)?`
	case dialed && (kind == "prometheus" || kind == "alertmanagers"):
		return "does it run, and is this its address as seen from here? Serving starts without it"
	}
	return ""
}

// templateAdvice is for what libvirt does not find; its words are the same in
// every version.
func templateAdvice(text string) string {
	switch {
	case strings.Contains(text, "Storage pool not found"):
		return `name one of "virsh pool-list --all" as the template's pool, or make it (deploy/kvm/setup makes "default")`
	case strings.Contains(text, "Storage volume not found"), strings.Contains(text, `" is not in pool "`):
		return `import the image under this name (scalehook template import FILE --name NAME), or name one of "virsh vol-list POOL"`
	case strings.Contains(text, "Network not found"):
		return `name one of "virsh net-list --all" as the template's network, or make it (deploy/kvm/setup makes "default")`
	}
	return ""
}
