package provision

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

func groupResource() resource {
	return resource{
		kind:   KindGroup,
		wanted: func(f *File) bool { return f.SecurityGroup != nil },
		name:   func(f *File) string { return f.SecurityGroup.Name },
		find: func(p *planner) *Object {
			p.group = one(p, "security_group.name", KindGroup, mine(p.world, p.world.Groups), p.file.SecurityGroup.Name)
			if p.group == nil {
				return nil
			}
			return &p.group.Object
		},
		compare: func(p *planner, it *Item) {
			wanted := p.rules()
			for _, r := range wanted {
				if !slices.ContainsFunc(p.group.Rules, r.same) {
					it.steps = append(it.steps, p.openRule(r))
				}
			}
			for _, r := range p.group.Rules {
				if slices.ContainsFunc(wanted, r.same) || r.Egress {
					continue
				}
				if r.Description == p.mark.text() {
					it.steps = append(it.steps, p.closeRule(r))
					continue
				}
				it.Details = append(it.Details, "also open, and not by this file: "+r.String())
			}
		},
		make: func(p *planner, it *Item) []step {
			it.Details = append(it.Details, "make it")
			for _, r := range p.rules() {
				it.Details = append(it.Details, "open "+r.String())
			}
			return []step{{
				what: "make security group " + it.Name, touches: []Kind{KindGroup},
				do: func(ctx context.Context, c *client) error {
					return c.makeGroup(ctx, p.file.SecurityGroup.Name, p.mark.text())
				},
			}}
		},
		mark: tagging(KindGroup, collGroups),
	}
}

func (p *planner) openRule(r Rule) step {
	r.Description = p.mark.text()
	return step{
		what: "open " + r.String(), touches: []Kind{KindGroup},
		do: func(ctx context.Context, c *client) error { return c.makeRule(ctx, p.group.ID, r) },
	}
}

// closeRule takes away a rule that was made for this file and is not in it any more:
// another balancer, another host.
func (p *planner) closeRule(r Rule) step {
	return step{
		what: "close " + r.String(), touches: []Kind{KindGroup},
		do: func(ctx context.Context, c *client) error { return c.removeRule(ctx, r) },
	}
}

// rules are those that the file asks for, with its words put into addresses.
func (p *planner) rules() []Rule {
	var out []Rule
	add := func(path string, r Rule, from string) {
		prefix, ok := p.from(path, from)
		if !ok {
			return
		}
		r.From = prefix
		if !slices.ContainsFunc(out, r.same) {
			out = append(out, r)
		}
	}
	for i, spec := range p.file.SecurityGroup.Rules {
		r := Rule{Protocol: spec.Protocol}
		if spec.Protocol != "icmp" {
			r.Low, r.High, _ = spec.ports() // validated
		}
		add(fmt.Sprintf("security_group.rules.%d", i), r, spec.From)
	}
	if s := p.file.Service; s != nil && s.Balancer != "" {
		add("service.balancer", Rule{Protocol: "tcp", Low: int(s.Port), High: int(s.Port)}, s.Balancer)
	}
	return out
}

// from puts an address, a range or one of the words into a range.
func (p *planner) from(path, word string) (netip.Prefix, bool) {
	switch word {
	case fromAny:
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), true
	case fromSubnet:
		return p.file.Network.Subnet.CIDR, true
	case fromHost:
		if !p.world.Here.IsValid() || !p.world.Here.Is4() || p.world.Here.IsLoopback() {
			p.wrongf(path, "\"host\": the address from which this machine reaches the cloud cannot be told from here: write it")
			return netip.Prefix{}, false
		}
		return netip.PrefixFrom(p.world.Here, 32), true
	}
	if r, err := netip.ParsePrefix(word); err == nil {
		return r.Masked(), true
	}
	a, err := netip.ParseAddr(word)
	return netip.PrefixFrom(a, 32), err == nil
}

// same reports whether two rules open the same.
func (r Rule) same(other Rule) bool {
	return r.Egress == other.Egress && r.IPv6 == other.IPv6 && r.Protocol == other.Protocol && r.Low == other.Low && r.High == other.High &&
		r.FromGroup == other.FromGroup && r.everyone() == other.everyone() && (r.everyone() || r.From.Masked() == other.From.Masked())
}

// everyone reports whether the rule names no range, which the cloud says by none at
// all or by all of them.
func (r Rule) everyone() bool {
	return r.FromGroup == "" && (!r.From.IsValid() || r.From.Bits() == 0)
}

// String is the rule for people.
func (r Rule) String() string {
	text := r.Protocol
	if text == "" {
		text = "everything"
	}
	switch {
	case r.Low == 0 && r.High == 0:
	case r.Low == r.High:
		text += " port " + strconv.Itoa(r.Low)
	default:
		text += fmt.Sprintf(" ports %d to %d", r.Low, r.High)
	}
	switch {
	case r.FromGroup != "":
		text += " from security group " + r.FromGroup
	case r.everyone():
		text += " from anywhere"
	default:
		text += " from " + r.From.String()
	}
	if r.IPv6 {
		text += " (IPv6)"
	}
	return text
}
