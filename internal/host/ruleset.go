package host

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The kinds of a rule's action.
type verb int

const (
	nothing verb = iota // counts, logs, marks: the packet goes on
	accept
	drop // and reject
	jump
	goTo
	leave   // return
	unclear // what this package does not know; the packet may go on
)

// rule is what nft or iptables-save printed, as far as it matters here.
type rule struct {
	tests   []test
	verb    verb
	target  string // of jump and goTo
	comment string
	text    string   // for people
	spec    []string // iptables' words after -A CHAIN
}

// chain is one chain, with its way into the kernel if it is a base chain.
type chain struct {
	family, table, name string
	tool                string // how it is spoken to: nft, iptables-nft or iptables-legacy
	forward             bool   // a base chain at the hook forward
	policyDrop          bool
	rules               []rule
}

// String is "ip filter FORWARD (iptables-legacy)".
func (c *chain) String() string {
	name := c.family + " " + c.table + " " + c.name
	if c.tool != toolNFT {
		name += " (" + c.tool + ")"
	}
	return name
}

// table holds the chains that can jump to each other.
type table struct {
	chains map[string]*chain
	order  []*chain
}

func (t *table) add(c *chain) {
	if t.chains == nil {
		t.chains = map[string]*chain{}
	}
	t.chains[c.name] = c
	t.order = append(t.order, c)
}

// The keys of a test.
const (
	keyIn    = "iif"
	keyOut   = "oif"
	keyFrom  = "saddr"
	keyTo    = "daddr"
	keyState = "ct state"
	keyProto = "protocol"
	keyOther = "" // anything else: it may hold or not
	keyNever = "never"
)

// test holds if one of the values does; not turns it around.
type test struct {
	key    string
	values []string
	not    bool
}

// packet is a class of packets that are forwarded: of a TCP connection to any port
// anywhere, of which only the source is translated.
type packet struct {
	in, out  string
	from, to netip.Prefix // the zero prefix is any address
	state    string
	// usual stands for most of the class: it is none of those that a test picks out by
	// what is not known here, such as a port or an address in the world.
	usual bool
}

// packets are the classes that have to pass for guests to reach the world: what
// they send, and what answers it.
func (w Way) packets() []packet {
	return []packet{
		{in: w.Bridge, out: w.Uplink, from: w.Network, state: "new"},
		{in: w.Bridge, out: w.Uplink, from: w.Network, state: "established"},
		{in: w.Uplink, out: w.Bridge, to: w.Network, state: "established"},
		{in: w.Uplink, out: w.Bridge, to: w.Network, state: "related"},
	}
}

// answer is of three values.
type answer int

const (
	no answer = iota
	maybe
	yes
)

func (t test) holds(p packet) answer {
	var a answer
	switch t.key {
	case keyIn:
		a = anyOf(t.values, p.in, sameInterface)
	case keyOut:
		a = anyOf(t.values, p.out, sameInterface)
	case keyFrom:
		a = anyOf(t.values, p.from, inNetwork)
	case keyTo:
		a = anyOf(t.values, p.to, inNetwork)
	case keyState:
		a = anyOf(t.values, p.state, func(v, state string) answer {
			if strings.EqualFold(v, state) {
				return yes
			}
			return no
		})
	case keyProto:
		a = anyOf(t.values, "tcp", func(v, proto string) answer {
			if strings.EqualFold(v, proto) || v == "6" || v == "all" || v == "0" {
				return yes
			}
			return no
		})
	case keyNever:
		a = no
	default:
		return maybe
	}
	if t.not {
		return yes - a
	}
	return a
}

func anyOf[T any](values []string, of T, same func(string, T) answer) answer {
	best := no
	for _, v := range values {
		if v == unknownValue {
			best = max(best, maybe)
			continue
		}
		best = max(best, same(v, of))
	}
	return best
}

// unknownValue stands for a value that was not understood.
const unknownValue = "?"

// sameInterface knows the wildcards of iptables (+) and nft (*).
func sameInterface(value, name string) answer {
	prefix, wild := strings.CutSuffix(value, "+")
	if !wild {
		prefix, wild = strings.CutSuffix(value, "*")
	}
	if value == name || wild && strings.HasPrefix(name, prefix) {
		return yes
	}
	return no
}

func inNetwork(value string, network netip.Prefix) answer {
	v, err := parsePrefix(value)
	switch {
	case err != nil:
		return maybe
	case v.Bits() == 0 && v.Addr().Is4():
		return yes
	case !network.IsValid():
		return maybe
	case v.Bits() <= network.Bits() && v.Contains(network.Addr()):
		return yes
	case v.Overlaps(network):
		return maybe
	}
	return no
}

// parsePrefix also takes a plain address.
func parsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("parse %q: %w", text, err)
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("parse %q: %w", text, err)
	}
	return p.Masked(), nil
}

func (r rule) matches(p packet) answer {
	a := yes
	for _, t := range r.tests {
		holds := t.holds(p)
		if holds == maybe && p.usual {
			holds = no
			if t.not {
				holds = yes
			}
		}
		a = min(a, holds)
	}
	return a
}

// fate is a set of what can become of a packet.
type fate uint8

const (
	passes  fate = 1 << iota // accepted by this base chain
	dropped                  // or rejected
	goesOn                   // reaches the next rule
	returns                  // leaves the chain for where it was called from
)

// maxDepth is above the kernel's limit of 16 jumps; goto may go in circles in a
// ruleset that was read while it changed.
const maxDepth = 20

// walk returns what can become of a packet in a chain, and the first rule that may
// drop it.
func (t *table) walk(c *chain, p packet, depth int) (all fate, why string) {
	for _, r := range c.rules {
		m := r.matches(p)
		if m == no {
			continue
		}
		here, reason := t.step(r, p, depth)
		if here&dropped != 0 && why == "" {
			why = reason
		}
		all |= here &^ goesOn
		if m == yes && here&goesOn == 0 {
			return all, why
		}
	}
	return all | returns, why
}

// step returns what one rule that matches does.
func (t *table) step(r rule, p packet, depth int) (fate, string) {
	unknown := passes | dropped | goesOn
	if p.usual {
		unknown = goesOn
	}
	switch r.verb {
	case nothing:
		return goesOn, ""
	case accept:
		return passes, ""
	case drop:
		return dropped, r.text
	case leave:
		return returns, ""
	case unclear:
		return unknown, r.text
	case jump, goTo:
		target := t.chains[r.target]
		if target == nil || depth >= maxDepth {
			return unknown, r.text
		}
		f, why := t.walk(target, p, depth+1)
		if r.verb == jump && f&returns != 0 {
			f = f&^returns | goesOn
		}
		return f, why
	}
	return goesOn, ""
}

// Verdict says whether packets pass a base chain.
type Verdict string

// The verdicts. Drops is about the most of the guests' packets; MayDrop is said where
// a rule picks out some of them, or does what this package does not know.
const (
	Passes  Verdict = "passes"
	MayDrop Verdict = "may drop"
	Drops   Verdict = "drops"
)

// judge asks for every class of packets; the worst counts.
func (t *table) judge(c *chain, w Way) (verdict Verdict, why string) {
	verdict = Passes
	for _, p := range w.packets() {
		p.usual = true
		if f, reason := t.end(c, p); f&dropped != 0 {
			return Drops, reason
		}
		p.usual = false
		if f, reason := t.end(c, p); f&dropped != 0 && verdict == Passes {
			verdict, why = MayDrop, reason
		}
	}
	return verdict, why
}

// end is the fate at the end of a base chain, with its policy.
func (t *table) end(c *chain, p packet) (fate, string) {
	f, why := t.walk(c, p, 0)
	if f&returns == 0 {
		return f, why
	}
	f &^= returns
	if !c.policyDrop {
		return f | passes, why
	}
	if why == "" {
		why = "policy drop"
	}
	return f | dropped, why
}

// mark is the comment on everything of ours.
const mark = "scalehook-host"

// marked lists the rules of ours in a chain.
func (c *chain) marked() []rule {
	return slices.DeleteFunc(slices.Clone(c.rules), func(r rule) bool { return r.comment != mark })
}
