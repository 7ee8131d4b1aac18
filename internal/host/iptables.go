package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The tools that rules are read and written with.
const (
	toolNFT    = "nft"
	toolXNFT   = "iptables-nft"
	toolLegacy = "iptables-legacy"
)

// iptables is one of the two kernels' ways in which iptables works.
type iptables struct {
	tool    string // toolXNFT or toolLegacy
	program string
	save    string
	tables  map[string]*table // by name: filter, mangle, …
}

// readIptables returns the back ends that this host has.
func readIptables(ctx context.Context) ([]*iptables, error) {
	var list []*iptables
	for _, tool := range []string{toolXNFT, toolLegacy} {
		if installed(tool + "-save") {
			list = append(list, &iptables{tool: tool, program: tool, save: tool + "-save"})
		}
	}
	if len(list) == 0 && installed("iptables-save") {
		tool := toolLegacy
		if version, err := run(ctx, "", "iptables", "--version"); err == nil && strings.Contains(version, "nf_tables") {
			tool = toolXNFT
		}
		list = append(list, &iptables{tool: tool, program: "iptables", save: "iptables-save"})
	}
	for _, i := range list {
		if err := i.read(ctx); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (i *iptables) read(ctx context.Context) error {
	text, err := run(ctx, "", i.save)
	if err != nil {
		return fmt.Errorf("read the rules of %s: %w", i.tool, err)
	}
	i.tables, err = parseSave(text, i.tool)
	return err
}

// parseSave reads what iptables-save prints.
func parseSave(text, tool string) (map[string]*table, error) {
	tables := map[string]*table{}
	name := ""
	for l := range strings.Lines(text) {
		l = strings.TrimSpace(l)
		switch {
		case l == "" || l[0] == '#' || l == "COMMIT":
		case l[0] == '*':
			name = l[1:]
			tables[name] = &table{}
		case tables[name] == nil:
			return nil, fmt.Errorf("read the rules of %s: no table before %q", tool, l)
		case l[0] == ':':
			words := strings.Fields(l[1:])
			if len(words) < 2 {
				return nil, fmt.Errorf("read the rules of %s: %q", tool, l)
			}
			tables[name].add(&chain{
				family: "ip", table: name, name: words[0], tool: tool,
				forward: words[0] == "FORWARD", policyDrop: words[1] == "DROP",
			})
		default:
			words := splitWords(l)
			if len(words) < 2 || words[0] != "-A" || tables[name].chains[words[1]] == nil {
				return nil, fmt.Errorf("read the rules of %s: %q", tool, l)
			}
			c := tables[name].chains[words[1]]
			c.rules = append(c.rules, parseSpec(words[2:], l))
		}
	}
	// What a jump leads to is known only now.
	for _, t := range tables {
		for _, c := range t.order {
			for n, r := range c.rules {
				if r.verb == unclear && t.chains[r.target] != nil {
					c.rules[n].verb = jump
				}
			}
		}
	}
	return tables, nil
}

// splitWords takes off the double quotes, which iptables-save puts around comments.
func splitWords(l string) []string {
	var words []string
	var b strings.Builder
	quoted, begun := false, false
	for n := 0; n < len(l); n++ {
		switch ch := l[n]; {
		case ch == '"':
			quoted, begun = !quoted, true
		case ch == '\\' && quoted && n+1 < len(l):
			n++
			b.WriteByte(l[n])
		case ch == ' ' && !quoted:
			if begun {
				words = append(words, b.String())
			}
			b.Reset()
			begun = false
		default:
			b.WriteByte(ch)
			begun = true
		}
	}
	if begun {
		words = append(words, b.String())
	}
	return words
}

// parseSpec reads the words after -A CHAIN.
func parseSpec(words []string, text string) rule {
	r := rule{text: text, spec: words}
	not := false
	for n := 0; n < len(words); n++ {
		value := func() string {
			if n+1 < len(words) {
				n++
				return words[n]
			}
			return ""
		}
		add := func(key string, values ...string) {
			r.tests = append(r.tests, test{key: key, values: values, not: not})
		}
		switch words[n] {
		case "!":
			not = true
			continue
		case "-i", "--in-interface":
			add(keyIn, value())
		case "-o", "--out-interface":
			add(keyOut, value())
		case "-s", "--source":
			add(keyFrom, value())
		case "-d", "--destination":
			add(keyTo, value())
		case "-p", "--protocol":
			add(keyProto, value())
		case "--ctstate", "--state":
			add(keyState, strings.Split(value(), ",")...)
		case "-m", "--match":
			value()
		case "--comment":
			r.comment = value()
		case "-j", "--jump":
			r.target = value()
			r.verb = targetVerb(r.target)
			return r // what follows are the target's own words
		case "-g", "--goto":
			r.target, r.verb = value(), goTo
			return r
		default:
			add(keyOther) // an option of a match: it may hold or not
			for n+1 < len(words) && !strings.HasPrefix(words[n+1], "-") && words[n+1] != "!" {
				n++
			}
		}
		not = false
	}
	return r
}

func targetVerb(target string) verb {
	switch target {
	case "ACCEPT":
		return accept
	case "DROP", "REJECT":
		return drop
	case "RETURN":
		return leave
	case "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "TCPMSS", "CT", "NOTRACK", "TRACE", "AUDIT", "SECMARK", "CONNSECMARK",
		"DSCP", "TOS", "TTL", "CLASSIFY", "CHECKSUM", "SET", "TEE", "IDLETIMER", "LED", "RATEEST", "ECN", "HL":
		return nothing
	}
	return unclear // a chain, or a target that is not known here
}

// accepts are our two rules, in iptables' words after -A CHAIN.
func (w Way) accepts() [][]string {
	network := w.Network.String()
	tail := []string{"-m", "comment", "--comment", mark, "-j", "ACCEPT"}
	return [][]string{
		append([]string{"-s", network, "-i", w.Bridge, "-o", w.Uplink}, tail...),
		append([]string{"-d", network, "-i", w.Uplink, "-o", w.Bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"}, tail...),
	}
}

// same tells whether two lists of words say the same in any order of the options.
func same(a, b []string) bool {
	key := func(words []string) []string {
		r := parseSpec(words, "")
		out := []string{fmt.Sprint(r.verb, r.target, r.comment)}
		for _, t := range r.tests {
			values := slices.Clone(t.values)
			slices.Sort(values)
			out = append(out, fmt.Sprint(t.key, values, t.not))
		}
		slices.Sort(out)
		return out
	}
	return slices.Equal(key(a), key(b))
}

// stale lists the rules of ours that are not wanted for the way, as chain and words.
func (i *iptables) stale(w *Way) [][]string {
	var out [][]string
	t := i.tables["filter"]
	if t == nil {
		return nil
	}
	for _, c := range t.order {
		for _, r := range c.marked() {
			wanted := w != nil && slices.ContainsFunc(w.accepts(), func(spec []string) bool { return same(spec, r.spec) })
			if !wanted {
				out = append(out, append([]string{c.name}, r.spec...))
			}
		}
	}
	return out
}

// insert puts our rules at the top of a chain of the table filter, those that are
// not in it yet.
func (i *iptables) insert(ctx context.Context, chainName string, w Way) error {
	c := i.tables["filter"].chains[chainName]
	for _, spec := range slices.Backward(w.accepts()) {
		if slices.ContainsFunc(c.rules, func(r rule) bool { return same(r.spec, spec) }) {
			continue
		}
		if _, err := run(ctx, "", i.program, append([]string{"-w", "-I", chainName}, spec...)...); err != nil {
			return err
		}
	}
	return i.read(ctx)
}

// remove takes out rules as stale lists them.
func (i *iptables) remove(ctx context.Context, rules [][]string) error {
	var errs []error
	for _, r := range rules {
		_, err := run(ctx, "", i.program, append([]string{"-w", "-D"}, r...)...)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, i.read(ctx))...)
}
