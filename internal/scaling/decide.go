package scaling

import (
	"fmt"
	"slices"
	"time"
)

// Lookup is what the sources said when they were last asked.
type Lookup struct {
	// Evidence has one entry per configured source and signal of the group; a
	// source that could not be asked says unreachable.
	Evidence []Evidence
	// Asked is when each source was asked; a source that has not been asked since
	// the start is missing.
	Asked map[string]time.Time
	// Readings are keyed by the VM's uuid. Nil: the meter could not be read.
	Readings map[string]Reading
}

// Known says what was read at least once since the start. Until all of it was,
// nothing is removed.
type Known struct {
	Listing bool // the provider was listed
	Pool    bool // the pool was observed, and still can be
	Signals bool // every configured source was asked
}

// Input is all that a decision depends on.
type Input struct {
	Group  Group
	State  *State // read, never written
	Lookup Lookup
	Known  Known
	// Observe holds for all groups at once (--observe).
	Observe bool
	// Unhealthy says of instances in service why they do not serve: their checks
	// fail, or their VM does not run. What is not in it is taken for healthy.
	Unhealthy map[string]string
	// Orphans counts the VMs that carry the group's mark and that the state does
	// not know.
	Orphans int
	// NoCapacity is why the provider has no room at present; empty if it has.
	NoCapacity string
	// Maintenance is the window that is open now; nil if none is.
	Maintenance *Maintenance
	// Since is when the process began to listen, or when its clock was set; what
	// was heard before is unknown until it is confirmed.
	Since time.Time
	Now   time.Time
}

// Maintenance is an open maintenance window: until it ends nothing is begun by
// itself in the directions that it names.
type Maintenance struct {
	Name    string // as configured, for people
	Out, In bool
	Until   time.Time
}

// MaxSkew is how far a sample's time may lie ahead of the clock here. One that
// lies farther ahead comes from a clock that is wrong, there or here, and proves
// nothing.
const MaxSkew = 10 * time.Second

// Decide returns what to begin now, with every gate that was passed or failed. It
// is a pure function: it reads no clock, asks nobody and changes nothing. At most
// one action comes out of it; the next is decided after this one was recorded.
//
// The order is: adoption, orders of people, cancelling a drain, replacing what is
// unwell, filling up to what is desired, shrinking down to max, the high signal,
// the low signal. High is asked before low, and low never acts while high stands. A group that only observes
// asks the signals first: it stays empty, and what it would do about load is
// what an operator wants to see.
func Decide(in Input) Verdict {
	d := decision{in: in, g: in.Group, s: in.State, now: in.Now}
	v := d.decide()
	v.Group, v.At = in.Group.Name, in.Now
	v.Statuses = d.statuses()
	if v.Action != ActionNone && d.observing() {
		v.Would = true
		v.Reason = "would " + v.Reason
		if v.Order != "" {
			v.OrderRefused = "the group observes and touches nothing"
		}
	}
	return v
}

type decision struct {
	in  Input
	g   Group
	s   *State
	now time.Time
	all []Gate
}

func (d *decision) observing() bool { return d.in.Observe || d.g.Mode == ModeObserve }

// note records the gates of an action for the verdict and reports whether all
// were passed.
func (d *decision) note(a Action, gs gates) bool {
	for _, g := range gs {
		g.Action = a
		d.all = append(d.all, g)
	}
	_, bad := gs.failed()
	return !bad
}

func (d *decision) decide() Verdict {
	tries := []func() (Verdict, bool){d.adopt, d.order, d.cancelDrain, d.replace, d.fill, d.shrink, d.scaleOut, d.scaleIn}
	if d.s.Failures > 0 {
		tries = append(tries[1:], d.adopt) // a baseline that cannot be adopted keeps the group from nothing else
	}
	if d.observing() {
		tries = []func() (Verdict, bool){d.order, d.scaleOut, d.scaleIn, d.adopt, d.fill, d.shrink}
	}
	for _, try := range tries {
		if v, ok := try(); ok {
			v.Gates = d.all
			return v
		}
	}
	return Verdict{Action: ActionNone, Gates: d.all, Reason: d.whyNothing()}
}

// whyNothing names the gate that an operator most likely asks about: the first
// failed one of a signal that stands.
func (d *decision) whyNothing() string {
	for _, sig := range []struct {
		s Signal
		a Action
	}{{High, ActionScaleOut}, {Low, ActionScaleIn}} {
		if !d.s.Condition(sig.s, d.now).Standing {
			continue
		}
		for _, g := range d.all {
			if g.Action == sig.a && !g.Passed {
				return fmt.Sprintf("no %s although %s stands: %s: %s", sig.a.words(), sig.s, g.Name, g.Detail)
			}
		}
	}
	for _, a := range []Action{ActionFill, ActionReplace} {
		for _, g := range d.all {
			if g.Action == a && !g.Passed {
				return fmt.Sprintf("no %s: %s: %s", a.words(), g.Name, g.Detail)
			}
		}
	}
	return "no signal stands"
}

func (d *decision) statuses() []Status {
	var out []Status
	if p := d.s.Pause; (p != nil && (p.Until.IsZero() || d.now.Before(p.Until))) || d.now.Before(d.s.HoldUntil) || d.in.Maintenance != nil {
		out = append(out, StatusPaused)
	}
	c := d.s.Capacity()
	if c >= d.g.Max {
		out = append(out, StatusAtMax)
	}
	if c <= d.g.Min {
		out = append(out, StatusAtMin)
	}
	if d.in.NoCapacity != "" {
		out = append(out, StatusNoCapacity)
	}
	if d.s.Failures > 0 || d.s.Count(StateFailed) > 0 || d.in.Orphans > 0 || len(d.in.Unhealthy) > 0 {
		out = append(out, StatusDegraded)
	}
	if d.observing() {
		out = append(out, StatusObserve)
	}
	return out
}

// adopt takes in the first configured baseline that never was in the group.
func (d *decision) adopt() (Verdict, bool) {
	for _, name := range d.g.Adopt {
		if slices.Contains(d.s.AdoptedNames, name) {
			continue
		}
		var gs gates
		d.startedGate(&gs)
		d.pauseGate(&gs, true)
		d.limitGate(&gs, 1)
		d.backoffGate(&gs)
		if !d.note(ActionAdopt, gs) {
			return Verdict{}, false
		}
		return Verdict{
			Action: ActionAdopt, Adopt: name, Count: 1,
			Cause:  Cause{Kind: CauseConfig, Detail: "adopt: " + name},
			Reason: fmt.Sprintf("adopt %s", name),
		}, true
	}
	return Verdict{}, false
}

// order follows the oldest order as far as it can be followed now.
func (d *decision) order() (Verdict, bool) {
	if len(d.s.Orders) == 0 {
		return Verdict{}, false
	}
	o := d.s.Orders[0]
	v := Verdict{Order: o.ID, Cause: Cause{Kind: CauseManual, Order: o.ID, By: o.By}}
	if age := d.now.Sub(o.At); age > OrderTTL {
		v.OrderRefused = fmt.Sprintf("could not be followed within %s", OrderTTL)
		v.Reason = "order " + string(o.Kind) + " " + v.OrderRefused
		v.Action = ActionNone
		return v, true
	}
	switch o.Kind {
	case OrderScaleOut:
		return d.orderOut(v, o.Count, true)
	case OrderScaleIn:
		return d.orderIn(v, o, o.Count <= 1)
	case OrderHandover:
		return d.orderHandover(v, o)
	case OrderSetDesired:
		c := d.s.Capacity()
		switch {
		case c < o.Count:
			return d.orderOut(v, o.Count-c, true)
		case c > o.Count:
			return d.orderIn(v, Order{}, c-1 <= o.Count)
		}
		v.Action, v.OrderDone, v.Reason = ActionNone, true, fmt.Sprintf("the group has %d instances as ordered", c)
		return v, true
	}
	v.Action, v.OrderRefused, v.Reason = ActionNone, "unknown kind of order", "unknown kind of order "+string(o.Kind)
	return v, true
}

func (d *decision) refuse(v Verdict, a Action, gs gates) (Verdict, bool) {
	d.note(a, gs)
	g, _ := gs.failed()
	v.Action, v.OrderRefused = ActionNone, g.Name+": "+g.Detail
	v.Reason = fmt.Sprintf("order refused: %s", v.OrderRefused)
	return v, true
}

func (d *decision) orderOut(v Verdict, count int, done bool) (Verdict, bool) {
	var gs gates
	owned := d.s.Owned() + d.in.Orphans
	n := min(count, d.g.Max-d.s.Capacity(), d.g.Limit()-owned)
	gs.add("bounds", n > 0, "%d of at most %d instances, %d owned of at most %d", d.s.Capacity(), d.g.Max, owned, d.g.Limit())
	d.creationBudgetGate(&gs, max(n, 1))
	if _, bad := gs.failed(); bad {
		return d.refuse(v, ActionScaleOut, gs)
	}
	d.note(ActionScaleOut, gs)
	v.Action, v.Count, v.OrderDone = ActionScaleOut, n, done
	if n < count {
		v.OrderRefused = fmt.Sprintf("%d of %d: max is %d", n, count, d.g.Max)
	}
	v.Reason = fmt.Sprintf("launch %d by order", n)
	return v, true
}

func (d *decision) orderIn(v Verdict, o Order, done bool) (Verdict, bool) {
	if n := d.s.Count(StateDraining) + d.launching(); n > 0 {
		return Verdict{}, false // one at a time; asked again when that is over
	}
	var gs gates
	if !d.known() {
		return Verdict{}, false // taken, and followed when everything was read
	}
	victim, why := d.victim(o.Instance)
	if n := d.s.Count(StateInService); victim != nil && d.unwell(*victim) {
		// A person may take out one after the other what the brake keeps.
		gs.add("bounds", n-1 >= d.g.Min, "%d in service, and %s is unwell; min is %d", n, victim.Name, d.g.Min).count(n-1, d.g.Min)
	} else {
		d.restGate(&gs, victim)
	}
	gs.add("victim", victim != nil, "%s", why)
	d.removalBudgetGate(&gs)
	if _, bad := gs.failed(); bad {
		return d.refuse(v, ActionScaleIn, gs)
	}
	d.note(ActionScaleIn, gs)
	v.OrderDone = done
	return d.remove(v, victim, "by order"), true
}

func (d *decision) orderHandover(v Verdict, o Order) (Verdict, bool) {
	if n := d.s.Count(StateDraining) + d.launching(); n > 0 {
		return Verdict{}, false
	}
	if !d.known() {
		return Verdict{}, false
	}
	name := o.Instance
	if name == "" {
		name = d.s.Primary
	}
	var gs gates
	victim, why := d.victim(name)
	gs.add("victim", victim != nil && victim.State == StateInService, "%s", why)
	d.removalBudgetGate(&gs)
	room := d.s.Owned()+d.in.Orphans < d.g.Limit()
	var successor *Instance
	if victim != nil {
		successor = d.successor(victim.ID)
	}
	switch {
	case room:
		d.creationBudgetGate(&gs, 1)
	default:
		d.restGate(&gs, victim)
		gs.add("bounds", successor != nil, "%d owned of at most %d, so an instance in service has to take over: there is no healthy one",
			d.s.Owned(), d.g.Limit())
	}
	if _, bad := gs.failed(); bad {
		return d.refuse(v, ActionHandover, gs)
	}
	d.note(ActionHandover, gs)
	v.Action, v.Victim, v.OrderDone = ActionHandover, victim.ID, true
	if !room {
		v.Successor = successor.ID
		v.Reason = fmt.Sprintf("hand %s over to %s by order", victim.Name, successor.Name)
		return v, true
	}
	v.Count = 1
	v.Reason = fmt.Sprintf("hand %s over to a new instance by order", victim.Name)
	return v, true
}

// cancelDrain puts a draining instance back when high is confirmed, without
// cooldown. A drain that a person ordered goes on.
func (d *decision) cancelDrain() (Verdict, bool) {
	var victim *Instance
	for i := range d.s.Instances {
		x := &d.s.Instances[i]
		if x.State != StateDraining {
			continue
		}
		if a := d.s.Activity(x.Activity); a == nil || a.Cause.Kind != CauseAlert {
			continue // ordered, or over max: putting it back would only begin it again
		}
		victim = x
	}
	if victim == nil || d.s.Capacity() >= d.g.Max {
		return Verdict{}, false
	}
	var gs gates
	d.conditionGate(&gs, High)
	ev := d.proof(&gs, High, victim.Since, false)
	if !d.note(ActionCancelDrain, gs) {
		return Verdict{}, false
	}
	return Verdict{
		Action: ActionCancelDrain, Victim: victim.ID, Cause: d.cause(High, ev),
		Reason: fmt.Sprintf("put %s back into service: high is confirmed", victim.Name),
	}, true
}

// replace takes out an instance that has been unwell for longer than the grace
// time. What is missing then is filled up, at once where there is room and else
// when it is gone.
func (d *decision) replace() (Verdict, bool) {
	var victim *Instance
	serving, unwell := 0, 0
	for k := range d.s.Instances {
		i := &d.s.Instances[k]
		if i.State != StateInService {
			continue
		}
		serving++
		if _, bad := d.in.Unhealthy[i.ID]; !bad {
			continue
		}
		unwell++
		if !i.SuspectSince.IsZero() && !i.Protected && (victim == nil || i.SuspectSince.Before(victim.SuspectSince)) {
			victim = i
		}
	}
	if victim == nil || d.g.Grace <= 0 {
		return Verdict{}, false
	}
	why := d.in.Unhealthy[victim.ID]
	var gs gates
	gs.timer("grace", fmt.Sprintf("the grace time of %s, which is unknown (%s)", victim.Name, why), victim.SuspectSince.Add(d.g.Grace), d.now)
	most := max(1, int(d.g.MaxUnhealthy*float64(serving)))
	gs.add("brake", unwell <= most, "%d of %d in service are unwell; more than %d at once look like a fault elsewhere", unwell, serving, most).
		count(unwell, most).change("at most %d unwell at once, or an order for each, or a larger max_unhealthy", most)
	d.trustGates(&gs)
	d.pauseGate(&gs, false)
	d.removalBudgetGate(&gs)
	if !d.note(ActionReplace, gs) {
		return Verdict{}, false
	}
	return Verdict{
		Action: ActionReplace, Victim: victim.ID, Cause: Cause{Kind: CauseHealth, Detail: why},
		Reason: fmt.Sprintf("replace %s: %s since %s", victim.Name, why, clock(victim.SuspectSince)),
	}, true
}

// fill brings the group up to what is desired, with no alert at all: to min, and
// to where it was before instances were lost.
func (d *decision) fill() (Verdict, bool) {
	wish := min(max(d.g.Min, d.s.Desired), d.g.Max)
	missing := wish - d.s.Capacity()
	if missing <= 0 {
		return Verdict{}, false
	}
	var gs gates
	d.startedGate(&gs)
	d.pauseGate(&gs, true)
	d.limitGate(&gs, 1)
	n := min(missing, d.g.Limit()-d.s.Owned()-d.in.Orphans)
	d.creationBudgetGate(&gs, 1)
	if d.g.CreationsPerHour > 0 {
		n = min(n, d.g.CreationsPerHour-recent(d.s.Creations, d.now))
	}
	d.backoffGate(&gs)
	if !d.note(ActionFill, gs) {
		return Verdict{}, false
	}
	return Verdict{
		Action: ActionFill, Count: n,
		Cause:  Cause{Kind: CauseBounds, Detail: fmt.Sprintf("%d of %d desired, min %d", d.s.Capacity(), wish, d.g.Min)},
		Reason: fmt.Sprintf("launch %d to fill the group up to %d (min %d)", n, wish, d.g.Min),
	}, true
}

// shrink brings a group whose max was lowered down, one drained step at a time.
func (d *decision) shrink() (Verdict, bool) {
	if d.s.Capacity() <= d.g.Max {
		return Verdict{}, false
	}
	var gs gates
	d.removalGates(&gs)
	d.cooldownGate(&gs)
	victim, why := d.victim("")
	d.restGate(&gs, victim)
	gs.add("victim", victim != nil, "%s", why)
	if !d.note(ActionScaleIn, gs) {
		return Verdict{}, false
	}
	v := Verdict{Cause: Cause{Kind: CauseBounds, Detail: fmt.Sprintf("%d of max %d", d.s.Capacity(), d.g.Max)}}
	return d.remove(v, victim, fmt.Sprintf("since max is %d", d.g.Max)), true
}

func (d *decision) scaleOut() (Verdict, bool) {
	var gs gates
	c := d.conditionGate(&gs, High)
	if c.Standing {
		d.holdGate(&gs, c, d.g.HighHold)
	}
	ev := Evidence{}
	if c.Standing {
		ev = d.proof(&gs, High, d.s.LastActionEnd.Add(d.settle()), d.s.LastActionEnd.IsZero())
	}
	d.startedGate(&gs)
	gs.add("activity", d.launching() == 0, "%d launches under way", d.launching()).
		count(d.launching(), 0).change("the end of the launches under way")
	d.cooldownGate(&gs)
	d.pauseGate(&gs, true)
	gs.add("bounds", d.s.Capacity() < d.g.Max, "%d of at most %d instances", d.s.Capacity(), d.g.Max).
		count(d.s.Capacity(), d.g.Max).change("a larger max")
	d.limitGate(&gs, 1)
	d.creationBudgetGate(&gs, 1)
	d.backoffGate(&gs)
	if !d.note(ActionScaleOut, gs) {
		return Verdict{}, false
	}
	return Verdict{
		Action: ActionScaleOut, Count: 1, Cause: d.cause(High, ev),
		Reason: fmt.Sprintf("launch 1: high stands, confirmed by %s", ev.Source),
	}, true
}

func (d *decision) scaleIn() (Verdict, bool) {
	var gs gates
	c := d.conditionGate(&gs, Low)
	high := d.s.Condition(High, d.now)
	against := d.firing(High)
	gs.add("contradiction", !high.Standing && against == "", "%s", contradiction(high, against)).change("the end of high")
	ev := Evidence{}
	if c.Standing {
		d.holdGate(&gs, c, d.g.LowHold)
		ev = d.proof(&gs, Low, d.s.LastActionEnd.Add(d.settle()), false)
	}
	d.removalGates(&gs)
	d.cooldownGate(&gs)
	victim, why := d.victim("")
	d.restGate(&gs, victim)
	gs.add("victim", victim != nil, "%s", why)
	if victim != nil {
		d.projectionGate(&gs)
	}
	if !d.note(ActionScaleIn, gs) {
		return Verdict{}, false
	}
	v := Verdict{Cause: d.cause(Low, ev)}
	return d.remove(v, victim, "since low stands, confirmed by "+ev.Source), true
}

// remove fills in the verdict for taking the victim out; taking out the primary
// is a handover to an instance in service.
func (d *decision) remove(v Verdict, victim *Instance, why string) Verdict {
	v.Action, v.Victim = ActionScaleIn, victim.ID
	v.Reason = fmt.Sprintf("remove %s %s", victim.Name, why)
	if s := d.successor(victim.ID); victim.ID == d.s.Primary && s != nil {
		v.Action, v.Successor = ActionHandover, s.ID
		v.Reason = fmt.Sprintf("hand %s over to %s %s", victim.Name, s.Name, why)
	}
	return v
}

// removalGates are those that every automatic removal has to pass.
func (d *decision) removalGates(gs *gates) {
	d.trustGates(gs)
	leaving := d.s.Count(StateDraining, StateRemoving)
	gs.add("activity", d.launching() == 0 && leaving == 0, "%d launches and %d removals under way", d.launching(), leaving).
		count(d.launching()+leaving, 0).change("the end of what is under way")
	d.pauseGate(gs, false)
	d.removalBudgetGate(gs)
}

// trustGates ask whether the group may remove by itself, and knows enough to.
func (d *decision) trustGates(gs *gates) {
	gs.add("mode", d.g.Mode != ModeScaleOutOnly, "mode is %s", d.g.Mode).change("mode: full")
	k := d.in.Known
	gs.add("started", d.known(), "read: provider %t, pool %t, signals %t", k.Listing, k.Pool, k.Signals).
		change("a complete listing, an observation of the pool and an answer of each source")
}

func (d *decision) launching() int {
	return d.s.Count(StateRequested, StateCreating, StateBooting, StateJoining)
}

// OrderTTL is how long an order waits before it is given up.
const OrderTTL = time.Hour
