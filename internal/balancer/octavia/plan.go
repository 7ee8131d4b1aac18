package octavia

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/scalehook/scalehook/internal/scaling"
)

// wished is a member of the wish.
type wished struct {
	id, name string // the instance's
	server   string // the member's name
	addr     netip.AddrPort
	state    scaling.MemberState
}

// serves reports whether the member is on its way into service or in it.
func (w wished) serves() bool {
	return w.state == scaling.MemberJoining || w.state == scaling.MemberReady
}

// wish is who is wished, by the instance's id.
type wish map[string]wished

var idWord = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,200}$`)

// newWish validates everything before anything is sent.
func newWish(want scaling.Pool, group string, n namer) (wish, error) {
	if want.Group != group {
		return nil, scaling.Errorf(scaling.Permanent, "the wish is for group %q", want.Group)
	}
	if len(want.Members) == 0 && !want.AllowEmpty {
		return nil, scaling.Errorf(scaling.Permanent, "refused to empty the pool: a wish without members must say so")
	}
	out := make(wish, len(want.Members))
	at := map[netip.AddrPort]string{}
	for _, m := range want.Members {
		if !idWord.MatchString(m.ID) {
			return nil, scaling.Errorf(scaling.Permanent, "the instance id %q has characters that a member's name must not have", m.ID)
		}
		if _, twice := out[m.ID]; twice {
			return nil, scaling.Errorf(scaling.Permanent, "the wish has instance %s twice", m.ID)
		}
		w := wished{id: m.ID, name: m.Name, server: n.member(m.ID), state: m.State}
		if m.Addr.IsValid() {
			w.addr = netip.AddrPortFrom(m.Addr.Addr().Unmap().WithZone(""), m.Addr.Port())
		}
		switch m.State {
		case scaling.MemberJoining, scaling.MemberReady:
			if !m.Addr.IsValid() || m.Addr.Port() == 0 || m.Addr.Addr().Zone() != "" || m.Addr.Addr().IsUnspecified() {
				return nil, scaling.Errorf(scaling.Permanent, "instance %s is to serve at %v, which is no address and port", m.ID, m.Addr)
			}
			if other, taken := at[w.addr]; taken {
				return nil, scaling.Errorf(scaling.Permanent, "instances %s and %s are both to serve at %v", other, m.ID, m.Addr)
			}
			at[w.addr] = m.ID
		case scaling.MemberDraining, scaling.MemberLeaving:
		default:
			return nil, scaling.Errorf(scaling.Permanent, "instance %s is wished in the unknown state %q", m.ID, m.State)
		}
		out[m.ID] = w
	}
	return out, nil
}

// needs reports whether anybody is to serve.
func (w wish) needs() bool {
	for _, m := range w {
		if m.serves() {
			return true
		}
	}
	return false
}

// sorted returns the members in the order of their ids.
func (w wish) sorted() []wished {
	return slices.SortedFunc(maps.Values(w), func(a, b wished) int { return cmp.Compare(a.id, b.id) })
}

// kind is what a step does.
type kind string

const (
	add    kind = "add"
	set    kind = "set" // the weight, and switch on
	remove kind = "remove"
)

// step is one change of one member, which is ours.
type step struct {
	kind   kind
	member found  // of set and remove
	wished wished // of add
	weight int    // of add and set
}

// plan returns the changes that lead from what is there to what is wished, in the
// order in which they are to be made: those come in who may, before those go out who
// shall. It names no foreign member in any step. One that has the address of a member
// that is to serve keeps that one out: see memberError.
//
// Where weight 0 is honoured a newcomer gets it, its weight when its checks pass, and
// 0 again for its drain. Elsewhere a member of any weight would get traffic, so that
// a member is added when it is to be ready and removed when it is to drain.
//
// A change that needs two steps, such as a member that leaves without having been
// wished to, is finished by a later plan.
func plan(have []found, want wish, t traits) ([]step, memberError) {
	not := memberError{}
	p := planner{t: t, byID: map[string][]found{}, gone: map[string]bool{}}
	for _, f := range have {
		if f.ours() && !f.leaves() {
			p.byID[f.id] = append(p.byID[f.id], f)
		}
	}
	for _, w := range want.sorted() {
		if w.serves() {
			p.evict(w, have)
		}
	}
	for _, w := range want.sorted() {
		if twin, there := twinOf(w, have); there {
			not[w.id] = fmt.Sprintf("member %s (%s) is not ours and has the address %v of instance %s: it would get traffic past every drain; "+
				"remove it, and the instance is added as %s", cmp.Or(twin.name, "without a name"), twin.uuid, w.addr, w.id, w.server)
			continue
		}
		p.admit(w)
	}
	for _, f := range have {
		if f.ours() && !f.leaves() && !p.gone[f.uuid] {
			p.retire(f, want)
		}
	}
	steps := slices.Concat(p.evicted, p.added, p.raised, p.drained, p.removed)
	for _, w := range want.sorted() {
		if f, there := p.at(w); there && w.serves() && f.status == failed && !changes(steps, f) {
			not[w.id] = fmt.Sprintf("member %s (%s) is in ERROR: Octavia could not do what was asked of it, and its log says why; delete it, and it is added again", f.name, f.uuid)
		}
	}
	return steps, not
}

// changes reports whether a member is changed by the steps.
func changes(steps []step, f found) bool {
	return slices.ContainsFunc(steps, func(s step) bool { return s.member.uuid == f.uuid })
}

type planner struct {
	t                                        traits
	byID                                     map[string][]found
	gone                                     map[string]bool
	evicted, added, raised, drained, removed []step
}

// evict removes a member of another instance that has the address: that one had it
// before, and now its weight sends traffic to a newcomer that nobody checked.
// Octavia would not let two members have one address either.
func (p *planner) evict(w wished, have []found) {
	for _, f := range have {
		if !f.ours() || f.id == w.id || f.addr != w.addr || f.leaves() {
			continue
		}
		p.gone[f.uuid] = true
		p.evicted = append(p.evicted, step{kind: remove, member: f})
	}
}

// admit adds a member that is missing and lets in one that is checked.
func (p *planner) admit(w wished) {
	if !w.serves() {
		return
	}
	at, there := p.at(w)
	full := p.t.weight
	switch {
	case !p.t.zero && w.state == scaling.MemberJoining:
		// It comes when it is ready.
	case !there && (w.state == scaling.MemberJoining || p.t.zero && p.t.checked):
		p.added = append(p.added, step{kind: add, wished: w})
	case !there:
		p.added = append(p.added, step{kind: add, wished: w, weight: full})
	case w.state == scaling.MemberJoining:
		if !at.up {
			p.raised = append(p.raised, step{kind: set, member: at})
		}
	case at.up && at.weight == full:
	case p.t.zero && p.t.checked && (at.weight == 0 || !at.up) && at.health != scaling.HealthUp:
		// Its first check has not passed. One that is switched off is not checked.
		if !at.up {
			p.raised = append(p.raised, step{kind: set, member: at})
		}
	default:
		p.raised = append(p.raised, step{kind: set, member: at, weight: full})
	}
}

// at returns the member of an instance at the address where it is wished.
func (p *planner) at(w wished) (found, bool) {
	for _, f := range p.byID[w.id] {
		if f.addr == w.addr {
			return f, true
		}
	}
	return found{}, false
}

// retire takes the traffic from a member of ours, or removes it, where it is to have
// none. One that moved to another address serves at the old one until it does at the
// new: a port on which nobody listens costs no member.
func (p *planner) retire(f found, want wish) {
	w, known := want[f.id]
	drain := func() { p.drained = append(p.drained, step{kind: set, member: f}) }
	out := func() { p.removed = append(p.removed, step{kind: remove, member: f}) }
	gently := func() {
		// At weight 0 when this plan was made: a request of the last moment has arrived.
		if p.t.zero && f.serves(p.t) {
			drain()
			return
		}
		out()
	}
	switch {
	case known && w.state == scaling.MemberLeaving:
		out()
	case !known:
		gently()
	case w.state == scaling.MemberDraining:
		if !p.t.zero {
			out()
		} else if f.serves(p.t) {
			drain()
		}
	case f.addr != w.addr:
		if at, there := p.at(w); w.state == scaling.MemberJoining || there && p.replaces(at) {
			gently()
		}
	case w.state == scaling.MemberJoining:
		if !p.t.zero {
			out()
		} else if f.serves(p.t) {
			drain()
		}
	}
}

// replaces reports whether a member serves at its new address.
func (p *planner) replaces(at found) bool {
	return at.serves(p.t) && (!p.t.checked || at.health == scaling.HealthUp)
}

// twinOf finds a foreign member with the address of one that is to serve.
func twinOf(w wished, have []found) (found, bool) {
	if !w.serves() {
		return found{}, false
	}
	for _, f := range have {
		if !f.ours() && f.addr == w.addr {
			return f, true
		}
	}
	return found{}, false
}

// memberError names the members, by their instances' ids, that are to serve and are
// not as wished, with what an operator has to do about each: a foreign member has the
// address, or Octavia holds the member in ERROR. All others are as wished. Nothing of
// the kind is said of a member that drains or leaves, so that nothing hinders it.
type memberError map[string]string

// Error lists the members in order.
func (e memberError) Error() string {
	var all []string
	for _, id := range e.Members() {
		all = append(all, e[id])
	}
	return strings.Join(all, "; ")
}

// Members returns the ids of the members that are not as wished.
func (e memberError) Members() []string { return slices.Sorted(maps.Keys(e)) }

// report lists the pool as it is seen after a wish: each member of ours once, though
// one that moves has two, and where members only come when they are ready those too
// that wait outside: what is wished is then what is.
func report(have []found, last wish, t traits) []scaling.MemberStatus {
	var out []scaling.MemberStatus
	index := map[string]int{}
	for _, f := range have {
		w, known := last[f.id]
		m := scaling.MemberStatus{
			ID: f.id, Server: cmp.Or(f.name, f.uuid), Addr: f.addr, Foreign: !f.ours(),
			State: stateOf(f, t, known && w.serves()), Health: f.health, Sessions: -1,
		}
		at, twice := index[f.id]
		switch {
		case !f.ours():
			out = append(out, m)
		case !twice:
			index[f.id] = len(out)
			out = append(out, m)
		case better(m, out[at], w.addr):
			out[at] = m
		}
	}
	if t.zero {
		return out
	}
	for _, w := range last.sorted() {
		_, there := index[w.id]
		_, twin := twinOf(w, have)
		if !there && !twin && (w.state == scaling.MemberJoining || w.state == scaling.MemberDraining) {
			out = append(out, scaling.MemberStatus{
				ID: w.id, Server: w.server, Addr: w.addr, State: w.state, Health: scaling.HealthUnknown, Sessions: -1,
			})
		}
	}
	return out
}

// better reports whether a says more of an instance than b: where it serves comes
// first, then where it is wished.
func better(a, b scaling.MemberStatus, wished netip.AddrPort) bool {
	ready := func(m scaling.MemberStatus) bool { return m.State == scaling.MemberReady }
	if ready(a) != ready(b) {
		return ready(a)
	}
	return a.Addr == wished
}
