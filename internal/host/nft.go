package host

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// ownTable has nothing but the masquerading. It is of the family ip because chains
// for NAT in inet need a newer kernel.
const ownTable = "scalehook_nat"

// ownRules is the input for nft: the table is made anew in one transaction.
func (w Way) ownRules() string {
	return fmt.Sprintf(`table ip %[1]s
delete table ip %[1]s
table ip %[1]s {
	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		ip saddr %[2]v oifname "%[3]s" masquerade comment "%[4]s"
	}
}
`, ownTable, w.Network, w.Uplink, mark)
}

// ownExpression is our rule as nft prints it.
func (w Way) ownExpression() any {
	var want any
	text := fmt.Sprintf(`[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":%q,"len":%d}}}},
		{"match":{"op":"==","left":{"meta":{"key":"oifname"}},"right":%q}},{"masquerade":null}]`, w.Network.Addr(), w.Network.Bits(), w.Uplink)
	if json.Unmarshal([]byte(text), &want) != nil {
		return nil // cannot be: nothing in a name needs escaping
	}
	return want
}

// nftRuleset is what nft -j list ruleset prints.
type nftRuleset struct {
	Objects []struct {
		Table *struct{ Family, Name string }
		Chain *struct {
			Family, Table, Name, Type, Hook, Policy string
			Prio                                    int
		}
		Rule *struct {
			Family, Table, Chain, Comment string
			Expr                          []map[string]any
		}
		Set, Map *struct {
			Family, Table, Name string
			Elem                []any
		}
	} `json:"nftables"`
}

func readNFT(ctx context.Context) (nftRuleset, error) {
	text, err := run(ctx, "", "nft", "-j", "list", "ruleset")
	if err != nil {
		return nftRuleset{}, fmt.Errorf("read the rules of nftables: %w", err)
	}
	return parseNFT(text)
}

func parseNFT(text string) (nftRuleset, error) {
	var rules nftRuleset
	if err := json.Unmarshal([]byte(text), &rules); err != nil {
		return rules, fmt.Errorf("read the rules of nftables: %w", err)
	}
	return rules, nil
}

// own tells whether our table is there, and whether it is as it should be.
func (r nftRuleset) own(w Way) (there, right bool) {
	chains, rules := 0, 0
	right = true
	for _, o := range r.Objects {
		switch {
		case o.Table != nil && o.Table.Family == "ip" && o.Table.Name == ownTable:
			there = true
		case o.Chain != nil && o.Chain.Family == "ip" && o.Chain.Table == ownTable:
			chains++
			right = right && o.Chain.Name == "postrouting" && o.Chain.Type == "nat" && o.Chain.Hook == "postrouting" && o.Chain.Prio == 100 && o.Chain.Policy == "accept"
		case o.Rule != nil && o.Rule.Family == "ip" && o.Rule.Table == ownTable:
			rules++
			var expr []any
			for _, e := range o.Rule.Expr {
				expr = append(expr, e)
			}
			right = right && o.Rule.Comment == mark && reflect.DeepEqual(any(expr), w.ownExpression())
		}
	}
	return there, there && right && chains == 1 && rules == 1
}

// tables returns the chains that IPv4 packets can come to, without those of
// tables in skip, which are read by other means.
func (r nftRuleset) tables(skip map[string]bool) []*table {
	type place struct{ family, name string }
	byPlace := map[place]*table{}
	var order []*table
	lists := map[place]map[string][]any{}
	for _, o := range r.Objects {
		if l := o.Set; l != nil {
			setElements(lists, place{l.Family, l.Table}, l.Name, l.Elem)
		}
		if l := o.Map; l != nil {
			setElements(lists, place{l.Family, l.Table}, l.Name, l.Elem)
		}
		c := o.Chain
		if c == nil || c.Family != "ip" && c.Family != "inet" || c.Family == "ip" && skip[c.Table] {
			continue
		}
		at := place{c.Family, c.Table}
		if byPlace[at] == nil {
			byPlace[at] = &table{}
			order = append(order, byPlace[at])
		}
		byPlace[at].add(&chain{
			family: c.Family, table: c.Table, name: c.Name, tool: toolNFT,
			forward: c.Hook == "forward", policyDrop: c.Policy == "drop",
		})
	}
	for _, o := range r.Objects {
		if o.Rule == nil {
			continue
		}
		at := place{o.Rule.Family, o.Rule.Table}
		if t := byPlace[at]; t != nil && t.chains[o.Rule.Chain] != nil {
			c := t.chains[o.Rule.Chain]
			c.rules = append(c.rules, parseExpressions(o.Rule.Expr, o.Rule.Comment, lists[at])...)
		}
	}
	return order
}

func setElements[K comparable](lists map[K]map[string][]any, at K, name string, elements []any) {
	if lists[at] == nil {
		lists[at] = map[string][]any{}
	}
	lists[at][name] = elements
}

// parseExpressions makes one rule of a rule, or one of each element of a verdict map.
func parseExpressions(exprs []map[string]any, comment string, lists map[string][]any) []rule {
	r := rule{comment: comment, text: describe(exprs)}
	for _, e := range exprs {
		for key, v := range e {
			switch key {
			case "match":
				r.tests = append(r.tests, parseMatch(v, lists))
			case "accept", "drop", "reject", "return", "jump", "goto", "queue":
				r.verb, r.target = parseVerdict(key, v)
			case "vmap":
				return verdictMap(r, v, lists)
			case "counter", "log", "mangle", "notrack", "flow", "dup", "comment", "ct helper", "tproxy":
			default:
				r.tests = append(r.tests, test{key: keyOther})
			}
		}
	}
	return []rule{r}
}

// describe names a rule for people: a bare verdict by its name, the rest as nft -j
// prints it.
func describe(exprs []map[string]any) string {
	if len(exprs) == 1 {
		for key := range exprs[0] {
			return key
		}
	}
	text, err := json.Marshal(exprs)
	if err != nil {
		return "a rule"
	}
	return string(text)
}

func parseVerdict(key string, v any) (verb, string) {
	switch key {
	case "accept":
		return accept, ""
	case "drop", "reject":
		return drop, ""
	case "return":
		return leave, ""
	case "continue":
		return nothing, ""
	case "jump", "goto":
		target, _ := dig(v, "target").(string)
		if key == "jump" {
			return jump, target
		}
		return goTo, target
	}
	return unclear, ""
}

// verdictMap is a rule for each element; they exclude each other.
func verdictMap(r rule, v any, lists map[string][]any) []rule {
	key := testKey(dig(v, "key"))
	data, known := elements(dig(v, "data"), lists)
	if !known {
		r.verb = unclear
		return []rule{r}
	}
	var rules []rule
	for _, element := range data {
		pair, ok := element.([]any)
		if !ok || len(pair) != 2 {
			r.verb = unclear
			return []rule{r}
		}
		one := r
		one.tests = append(append([]test{}, r.tests...), test{key: key, values: []string{value(pair[0])}})
		one.verb, one.target = unclear, ""
		if verdict, ok := pair[1].(map[string]any); ok {
			for name, target := range verdict {
				one.verb, one.target = parseVerdict(name, target)
			}
		}
		rules = append(rules, one)
	}
	return rules
}

// testKey names what an expression on the left of a test reads.
func testKey(left any) string {
	if meta, ok := dig(left, "meta").(map[string]any); ok {
		switch meta["key"] {
		case "iifname", "iif":
			return keyIn
		case "oifname", "oif":
			return keyOut
		case "l4proto":
			return keyProto
		}
		return keyOther
	}
	if ct, ok := dig(left, "ct").(map[string]any); ok && ct["key"] == "state" {
		return keyState
	}
	if payload, ok := dig(left, "payload").(map[string]any); ok {
		switch payload["protocol"] {
		case "ip6", "icmpv6", "icmp", "udp", "sctp":
			return keyNever // the packets are TCP over IPv4
		case "ip":
			switch payload["field"] {
			case "protocol":
				return keyProto
			case "saddr":
				return keyFrom
			case "daddr":
				return keyTo
			}
		}
	}
	return keyOther
}

func parseMatch(v any, lists map[string][]any) test {
	left := dig(v, "left")
	t := test{key: testKey(left), not: dig(v, "op") == "!="}
	if meta, ok := dig(left, "meta").(map[string]any); ok && (meta["key"] == "nfproto" || meta["key"] == "protocol") {
		if right, ok := dig(v, "right").(string); ok {
			is4 := right == "ipv4" || right == "ip"
			if is4 == t.not {
				return test{key: keyNever}
			}
			return test{key: keyNever, not: true}
		}
	}
	if ct, ok := dig(left, "ct").(map[string]any); ok && ct["key"] == "status" && dig(v, "right") == "dnat" && !t.not {
		return test{key: keyNever}
	}
	if t.key == keyNever {
		return test{key: keyNever}
	}
	if t.key == keyOther {
		return t
	}
	if list, known := elements(dig(v, "right"), lists); known {
		for _, e := range list {
			t.values = append(t.values, value(e))
		}
	} else {
		t.values = []string{unknownValue}
	}
	return t
}

// elements are those of a set, a named set, a list, or a single value.
func elements(v any, lists map[string][]any) (list []any, known bool) {
	switch v := v.(type) {
	case string:
		if name, named := strings.CutPrefix(v, "@"); named {
			list, known = lists[name]
			return list, known
		}
		return []any{v}, true
	case []any:
		return v, true
	case map[string]any:
		if set, ok := v["set"]; ok {
			return elements(set, lists)
		}
		return []any{v}, true
	}
	return nil, false
}

// value is an element as text.
func value(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case map[string]any:
		if e, ok := v["elem"].(map[string]any); ok {
			return value(e["val"])
		}
		if p, ok := v["prefix"].(map[string]any); ok {
			addr, _ := p["addr"].(string)
			bits, _ := p["len"].(float64)
			return addr + "/" + strconv.Itoa(int(bits))
		}
	}
	return unknownValue
}

// dig returns a member, nil if there is none.
func dig(v any, key string) any {
	m, _ := v.(map[string]any)
	return m[key]
}
