package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// tick decides once and reports whether it began something, so that it should be
// asked again at once.
func (g *group) tick(ctx context.Context) bool {
	g.calm.Store(false)
	gc := g.config()
	if err := g.absorb(ctx); err != nil {
		if ctx.Err() == nil {
			g.log.Error("the store cannot be written: nothing is begun until it can", "err", err)
		}
		return false
	}
	g.settle(ctx, gc)
	if why := g.misplaced(); why != "" {
		g.keep(scaling.Verdict{Group: g.name, At: g.now(), Action: scaling.ActionNone, Statuses: []scaling.Status{scaling.StatusDegraded}, Reason: why})
		return false
	}
	if r := g.release(); r != nil {
		g.letGo(ctx, gc, *r)
		return false
	}
	var t *thought
	var st scaling.State
	var v scaling.Verdict
	changed := false
	ran := g.eng.think(ctx, func() {
		t = g.gather(gc, g.eng.inventory(gc.Group.Provider))
		// Most ticks change nothing: that is found out on a copy, and the store is left
		// alone. What is to be changed is decided again on what the store has.
		st, _ = g.view()
		v, changed = t.decide(&st)
	})
	if !ran {
		return false
	}
	if changed {
		cctx, cancel := context.WithTimeout(ctx, storeDeadline)
		defer cancel()
		err := g.change(cctx, func(s *scaling.State) error {
			if v, changed = t.decide(s); !changed {
				return errNoChange
			}
			return nil
		})
		if err != nil && !errors.Is(err, errNoChange) {
			if ctx.Err() == nil {
				g.log.Error("the store cannot be written: nothing is begun until it can", "err", err)
			}
			return false
		}
	}
	if t.in.Known.Listing {
		g.mu.Lock()
		g.checked = true
		g.mu.Unlock()
	}
	g.keep(v)
	g.calm.Store(!changed && t.calm(&st, v))
	acted := v.Action != scaling.ActionNone && !v.Would
	if acted {
		g.mu.Lock()
		g.counts.Acted(v.Action)
		g.mu.Unlock()
	}
	if acted || changed {
		poke(g.poolWake) // a handover's drain begins here without a verdict
	}
	return acted || v.Order != ""
}

// thought is one tick's knowledge: the input of the decision, and what was seen
// since the last.
type thought struct {
	g       *group
	in      scaling.Input
	lost    string                // why the store cannot be trusted; empty if it can
	suspect map[string]string     // instances that are unwell, and why
	well    []string              // instances that are seen to be well
	moved   map[string]netip.Addr // instances whose VM has another address now
}

// gather collects what is known now.
func (g *group) gather(gc GroupConfig, inv *inventory) *thought {
	t := &thought{g: g}
	t.in = g.input(gc, inv)
	t.lost = g.lostStore(inv, t.in.Known.Listing)
	t.moved = g.compare(inv)
	t.suspect, t.well = g.health(inv, gc)
	t.in.Unhealthy = t.suspect
	t.in.Orphans = g.orphans()
	return t
}

// decide folds what was seen into the state, decides, and writes down what is to
// be begun. It reports whether anything changed.
func (t *thought) decide(s *scaling.State) (v scaling.Verdict, changed bool) {
	if s.Release != nil { // since it was last looked at
		return scaling.Verdict{Group: t.g.name, At: t.in.Now, Action: scaling.ActionNone, Reason: "the group is being let go"}, false
	}
	was := *s // of which sameShape reads what a change in place leaves alone
	now, gc, ids := t.in.Now, t.in.Group, t.g.eng.opts.IDs
	s.Housekeep(now)
	if t.lost != "" {
		s.Pause = &scaling.Pause{Out: true, In: true, By: scaling.Self, Reason: t.lost, At: now}
		changed = true
	}
	if !t.g.observing() {
		for id, why := range t.suspect {
			changed = s.Suspect(id, why, now) || changed
		}
		for _, id := range t.well {
			changed = s.Well(id) || changed
		}
		for id, to := range t.moved {
			changed = s.Readdress(id, to) || changed
		}
	}
	// A handover that a start finds takes nothing away before everything was read.
	if k := t.in.Known; k.Listing && k.Pool && k.Signals && !t.g.observing() {
		changed = s.Advance(gc, now) || changed
	}
	in := t.in
	in.State = s
	v = scaling.Decide(in)
	s.Begin(v, gc, now, ids)
	if v.Action != scaling.ActionNone && !v.Would {
		s.Provider, s.Balancer, s.Place = gc.Provider, gc.Balancer, gc.Place
		changed = true
	}
	return v, changed || v.Order != "" || !sameShape(was, *s)
}

// calm reports whether the next decision can only be another one by news: a
// notification, an order, evidence, or a look at the provider or the pool that
// shows something else. Then the group is woken by those, and does not look by
// itself every moment, which is what thousands of groups at rest would cost most.
func (t *thought) calm(s *scaling.State, v scaling.Verdict) bool {
	k := t.in.Known
	return k.Listing && k.Signals && k.Pool && v.Action == scaling.ActionNone && v.Order == "" && v.OrderRefused == "" &&
		t.lost == "" && len(t.suspect) == 0 && len(t.in.Lookup.Evidence) == 0 && t.in.NoCapacity == "" &&
		len(s.Leases) == 0 && len(s.Open) == 0 && len(s.Orders) == 0 && s.Pause == nil && !s.BackoffUntil.After(t.in.Now) &&
		s.Count(scaling.StateInService) == len(s.Instances) && len(s.Instances) == s.Desired
}

// input gathers what the decision has to know but for what the provider and the
// balancer say of single instances.
func (g *group) input(gc GroupConfig, inv *inventory) scaling.Input {
	steady, _, since := g.eng.clock.read()
	g.mu.Lock()
	defer g.mu.Unlock()
	in := scaling.Input{
		Group: gc.Group, Observe: g.eng.opts.Observe, Now: steady.Add(g.offset), Since: since.Add(g.offset),
		Lookup: g.eng.lookups.of(g.name, g.offset),
		Known: scaling.Known{
			Listing: inv != nil && inv.seenOnce(), Signals: g.eng.lookups.complete(),
			Pool: !g.pool.seen.IsZero() && g.pool.err == nil,
		},
	}
	// A refusal counts as long as the launch that it ended is backed off.
	if in.Now.Before(g.state.BackoffUntil) {
		in.NoCapacity = g.noRoom
	}
	if gc.Maintenance != nil {
		in.Maintenance = gc.Maintenance.Open(in.Now)
	}
	return in
}

// health tells the instances in service that are unwell, and why, from those that
// are seen to be well. Of the others nothing is known at present: their provider
// cannot be listed, their pool not be observed, or no check has ended yet.
func (g *group) health(inv *inventory, gc GroupConfig) (suspect map[string]string, well []string) {
	listed := false
	if inv != nil {
		seen, err := inv.status()
		listed = err == nil && !seen.IsZero()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	observed := !g.pool.seen.IsZero() && g.pool.err == nil
	suspect = map[string]string{}
	for _, i := range g.state.Instances {
		if i.State != scaling.StateInService {
			continue
		}
		serves, runs := false, false
		if m, ok := g.pool.status.Member(i.ID); ok && observed && g.pool.seen.After(i.Since) {
			serves = m.Health == scaling.HealthUp || !gc.Balancer.Capabilities().Health
			if m.Health == scaling.HealthDown {
				suspect[i.ID] = "its checks fail"
			}
		}
		if listed && inv.after(i.Since.Add(-g.offset)) {
			vm, there := inv.vm(i.ID)
			switch {
			case !there && g.missing[i.ID] >= lostListings:
				suspect[i.ID] = "its VM is not found"
			case !there || vm.Power == scaling.PowerUnknown:
			case vm.Power == scaling.PowerRunning:
				runs = true
			default:
				suspect[i.ID] = "its VM is " + string(vm.Power)
			}
		}
		if serves && runs && suspect[i.ID] == "" {
			well = append(well, i.ID)
		}
	}
	return suspect, well
}

// lostStore says, after the first listing since the start, that VMs carry our mark
// for this group of which the store knows nothing: it is new, or it was restored,
// and nothing may be launched or removed on such knowledge.
func (g *group) lostStore(inv *inventory, listed bool) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !listed || g.checked {
		return ""
	}
	var names []string
	for _, vm := range inv.of(g.name) {
		if g.state.Instance(vm.ID) == nil {
			names = append(names, vm.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	why := fmt.Sprintf("the store knows nothing of %d VMs that are marked as this group's: %s", len(names), strings.Join(names, ", "))
	g.log.Error("group paused: restore the store from a backup, or resume the group", "reason", why)
	return why
}

// lostListings is in how many complete listings in a row a VM must be missing, or
// unknown, before anything is concluded from it.
const lostListings = 2

// compare holds the state against the newest complete listing, once: it counts
// for how many of them instances were missing, and VMs of this group unknown to
// the state. It returns the instances whose VM is to be reached at another address
// than they are.
func (g *group) compare(inv *inventory) (moved map[string]netip.Addr) {
	if inv == nil || g.observing() {
		return nil
	}
	seen, err := inv.status()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil || !seen.After(g.counted) {
		return nil
	}
	g.counted = seen
	missing, elsewhere := map[string]int{}, map[string]int{}
	moved = map[string]netip.Addr{}
	for _, i := range g.state.Instances {
		vm, there := inv.vm(i.ID)
		if !seen.After(i.Since.Add(-g.offset)) {
			continue
		}
		if there {
			if i.Address.IsValid() && len(vm.Addresses) > 0 && !slices.Contains(vm.Addresses, i.Address) {
				if elsewhere[i.ID] = g.elsewhere[i.ID] + 1; elsewhere[i.ID] >= lostListings {
					moved[i.ID] = vm.Addresses[0]
				}
			}
			continue
		}
		switch i.State {
		case scaling.StateInService, scaling.StateFailed:
			missing[i.ID] = g.missing[i.ID] + 1
		case scaling.StateRequested, scaling.StateCreating, scaling.StateBooting, scaling.StateJoining, scaling.StateStandby,
			scaling.StateDraining, scaling.StateRemoving, scaling.StateGone:
		}
	}
	g.missing, g.elsewhere = missing, elsewhere
	strange := map[string]int{}
	for _, vm := range inv.of(g.name) {
		if g.state.Instance(vm.ID) == nil {
			if strange[vm.ID] = g.strange[vm.ID] + 1; strange[vm.ID] == lostListings {
				g.log.Error("a VM carries this group's mark and is unknown: it counts against the limit and nothing is done to it; see scalehook cleanup", "vm", vm.Name, "id", vm.ID)
			}
		}
	}
	g.strange = strange
	return moved
}

// orphans counts the VMs with this group's mark that the state did not know in
// several complete listings in a row.
func (g *group) orphans() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, seen := range g.strange {
		if seen >= lostListings {
			n++
		}
	}
	return n
}

// sameShape reports whether housekeeping dropped nothing. It reads the lengths of
// lists and not what is in them.
func sameShape(a, b scaling.State) bool {
	return len(a.Leases) == len(b.Leases) && len(a.Instances) == len(b.Instances) && len(a.Creations) == len(b.Creations) &&
		len(a.Removals) == len(b.Removals) && len(a.Answers) == len(b.Answers) && (a.Pause == nil) == (b.Pause == nil) &&
		a.Desired == b.Desired
}

// storeDeadline bounds one change of the store.
const storeDeadline = 10 * time.Second
