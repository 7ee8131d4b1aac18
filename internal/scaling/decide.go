package scaling

import (
	"fmt"
	"math"
	"slices"
	"strings"
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
	// NoCapacity is why the provider has no room at present; empty if it has.
	NoCapacity string
	Now        time.Time
}

// gate is one test on the way to an action, in the order of asking.
type gate struct {
	name   string
	passed bool
	detail string
}

type gates []gate

func (gs *gates) add(name string, passed bool, format string, args ...any) {
	*gs = append(*gs, gate{name, passed, fmt.Sprintf(format, args...)})
}

func (gs *gates) failed() (gate, bool) {
	for _, g := range *gs {
		if !g.passed {
			return g, true
		}
	}
	return gate{}, false
}

// Decide returns what to begin now, with every gate that was passed or failed. It
// is a pure function: it reads no clock, asks nobody and changes nothing. At most
// one action comes out of it; the next is decided after this one was recorded.
//
// The order is: adoption, orders of people, cancelling a drain, filling up to
// min, shrinking down to max, the high signal, the low signal. High is asked
// before low, and low never acts while high stands. A group that only observes
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
		d.all = append(d.all, Gate{Action: a, Name: g.name, Passed: g.passed, Detail: g.detail})
	}
	_, bad := gs.failed()
	return !bad
}

func (d *decision) decide() Verdict {
	tries := []func() (Verdict, bool){d.adopt, d.order, d.cancelDrain, d.fill, d.shrink, d.scaleOut, d.scaleIn}
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
				return fmt.Sprintf("no %s although %s stands: %s: %s", sig.a, sig.s, g.Name, g.Detail)
			}
		}
	}
	for _, g := range d.all {
		if g.Action == ActionFill && !g.Passed {
			return fmt.Sprintf("not filled up to min: %s: %s", g.Name, g.Detail)
		}
	}
	return "no signal stands"
}

func (d *decision) statuses() []Status {
	var out []Status
	if p := d.s.Pause; p != nil && (p.Until.IsZero() || d.now.Before(p.Until)) {
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
	if d.s.Failures > 0 || d.s.Count(StateFailed) > 0 {
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
		gs.add("started", d.in.Known.Listing, "the provider %s listed since the start", hasOr(d.in.Known.Listing, "was", "was not yet"))
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
	v.Action, v.OrderRefused = ActionNone, g.name+": "+g.detail
	v.Reason = fmt.Sprintf("order refused: %s", v.OrderRefused)
	return v, true
}

func (d *decision) orderOut(v Verdict, count int, done bool) (Verdict, bool) {
	var gs gates
	n := min(count, d.g.Max-d.s.Capacity(), d.g.Limit()-d.s.Owned())
	gs.add("bounds", n > 0, "%d of at most %d instances, %d owned of at most %d", d.s.Capacity(), d.g.Max, d.s.Owned(), d.g.Limit())
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
	d.restGate(&gs, victim)
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
	room := d.s.Owned() < d.g.Limit() && d.s.Capacity() < d.g.Limit()
	var successor *Instance
	if victim != nil {
		successor = d.successor(victim.ID)
	}
	switch {
	case room:
		d.creationBudgetGate(&gs, 1)
	default:
		serving := d.s.Count(StateInService)
		gs.add("bounds", successor != nil && serving-1 >= max(d.g.Min, 1),
			"%d owned of at most %d, so an instance in service has to take over: %d in service, min is %d",
			d.s.Owned(), d.g.Limit(), serving, d.g.Min)
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
	c := d.s.Condition(High, d.now)
	gs.add("condition", c.Standing, "high %s", standing(c, d.now))
	ev := d.proof(&gs, High, victim.Since, false)
	if !d.note(ActionCancelDrain, gs) {
		return Verdict{}, false
	}
	return Verdict{
		Action: ActionCancelDrain, Victim: victim.ID, Cause: d.cause(High, ev),
		Reason: fmt.Sprintf("put %s back into service: high is confirmed", victim.Name),
	}, true
}

// fill brings the group up to min, with no alert at all.
func (d *decision) fill() (Verdict, bool) {
	missing := d.g.Min - d.s.Capacity()
	if missing <= 0 {
		return Verdict{}, false
	}
	var gs gates
	gs.add("started", d.in.Known.Listing, "the provider %s listed since the start", hasOr(d.in.Known.Listing, "was", "was not yet"))
	d.pauseGate(&gs, true)
	d.limitGate(&gs, 1)
	n := min(missing, d.g.Limit()-d.s.Owned())
	d.creationBudgetGate(&gs, 1)
	if d.g.CreationsPerHour > 0 {
		n = min(n, d.g.CreationsPerHour-recent(d.s.Creations, d.now))
	}
	d.backoffGate(&gs)
	if !d.note(ActionFill, gs) {
		return Verdict{}, false
	}
	return Verdict{
		Action: ActionFill, Count: n, Cause: Cause{Kind: CauseBounds, Detail: fmt.Sprintf("%d of min %d", d.s.Capacity(), d.g.Min)},
		Reason: fmt.Sprintf("launch %d to fill the group up to min %d", n, d.g.Min),
	}, true
}

// shrink brings a group whose max was lowered down, one drained step at a time.
func (d *decision) shrink() (Verdict, bool) {
	if d.s.Capacity() <= d.g.Max {
		return Verdict{}, false
	}
	var gs gates
	d.removalGates(&gs)
	gs.add("cooldown", !d.now.Before(d.s.CooldownUntil), "%s", until("cooldown ends", d.s.CooldownUntil, d.now))
	victim, why := d.victim("")
	gs.add("victim", victim != nil, "%s", why)
	if !d.note(ActionScaleIn, gs) {
		return Verdict{}, false
	}
	v := Verdict{Cause: Cause{Kind: CauseBounds, Detail: fmt.Sprintf("%d of max %d", d.s.Capacity(), d.g.Max)}}
	return d.remove(v, victim, fmt.Sprintf("since max is %d", d.g.Max)), true
}

func (d *decision) scaleOut() (Verdict, bool) {
	var gs gates
	c := d.s.Condition(High, d.now)
	gs.add("condition", c.Standing, "high %s", standing(c, d.now))
	if c.Standing {
		d.holdGate(&gs, c, d.g.HighHold)
	}
	ev := Evidence{}
	if c.Standing {
		ev = d.proof(&gs, High, d.s.LastActionEnd.Add(d.settle()), d.s.LastActionEnd.IsZero())
	}
	gs.add("activity", d.launching() == 0, "%d launches under way", d.launching())
	gs.add("cooldown", !d.now.Before(d.s.CooldownUntil), "%s", until("cooldown ends", d.s.CooldownUntil, d.now))
	d.pauseGate(&gs, true)
	gs.add("bounds", d.s.Capacity() < d.g.Max, "%d of at most %d instances", d.s.Capacity(), d.g.Max)
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
	c := d.s.Condition(Low, d.now)
	gs.add("condition", c.Standing, "low %s", standing(c, d.now))
	high := d.s.Condition(High, d.now)
	against := d.firing(High)
	gs.add("contradiction", !high.Standing && against == "", "%s", contradiction(high, against))
	ev := Evidence{}
	if c.Standing {
		d.holdGate(&gs, c, d.g.LowHold)
		ev = d.proof(&gs, Low, d.s.LastActionEnd.Add(d.settle()), false)
	}
	d.removalGates(&gs)
	gs.add("cooldown", !d.now.Before(d.s.CooldownUntil), "%s", until("cooldown ends", d.s.CooldownUntil, d.now))
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
	gs.add("mode", d.g.Mode != ModeScaleOutOnly, "mode is %s", d.g.Mode)
	k := d.in.Known
	gs.add("started", d.known(), "read: provider %t, pool %t, signals %t", k.Listing, k.Pool, k.Signals)
	leaving := d.s.Count(StateDraining, StateRemoving)
	gs.add("activity", d.launching() == 0 && leaving == 0, "%d launches and %d removals under way", d.launching(), leaving)
	d.pauseGate(gs, false)
	d.removalBudgetGate(gs)
}

// known reports whether everything was read that a removal has to know.
func (d *decision) known() bool {
	return d.in.Known.Listing && d.in.Known.Pool && d.in.Known.Signals
}

// restGate asks what would serve without the victim. Only healthy instances count:
// the last one that answers is never removed as long as others are meant to.
func (d *decision) restGate(gs *gates, victim *Instance) {
	serving, healthy := 0, 0
	for _, i := range d.s.Instances {
		if i.State != StateInService {
			continue
		}
		serving++
		if _, bad := d.in.Unhealthy[i.ID]; !bad && (victim == nil || i.ID != victim.ID) {
			healthy++
		}
	}
	if victim == nil {
		healthy--
	}
	need := max(d.g.Min, min(1, serving-1))
	gs.add("bounds", serving-1 >= d.g.Min && healthy >= need,
		"%d in service, %d healthy ones would be left; min is %d", serving, max(healthy, 0), d.g.Min)
}

// proof finds the evidence on which a step may be taken and adds the gates that
// say which, or why there is none. It must lie past after and past what was
// consumed. With alone, a standing notification is proof enough by itself.
func (d *decision) proof(gs *gates, sig Signal, after time.Time, alone bool) Evidence {
	consumed := d.s.Consumed[sig]
	lease := d.newestLease(sig)
	best := Evidence{}
	// Alertmanager knows of silences: an operator's word outweighs every number.
	for _, e := range d.in.Lookup.Evidence {
		if e.Signal == sig && e.State == EvidenceSuppressed {
			gs.add("suppressed", false, "%s says suppressed (%s): end the silence to let it act", e.Source, e.Detail)
			return best
		}
	}
	var why []string
	refuted := false
	for k, src := range d.g.Confirm {
		e, asked := d.evidence(src, sig)
		switch {
		case !asked:
			why = append(why, src+" was not asked yet")
			refuted = refuted || sig == Low
		case e.State == EvidenceUnreachable:
			why = append(why, fmt.Sprintf("%s is unreachable (%s)", src, e.Detail))
			// A source that cannot be asked never removes anything.
			refuted = refuted || sig == Low
		case e.State == EvidenceAbsent:
			why = append(why, src+" does not know it as firing")
			// An answer from before the notification says nothing about it.
			refuted = refuted || sig == Low || d.in.Lookup.Asked[src].After(lease.LastSeen)
		case e.State == EvidenceFiring && !e.At.After(consumed):
			why = append(why, fmt.Sprintf("%s has no newer evidence than the one used at %s", src, clock(consumed)))
		case e.State == EvidenceFiring && !e.At.After(after):
			why = append(why, fmt.Sprintf("evidence of %s is of %s and must be past %s (end of the last action and settle %s)",
				src, clock(e.At), clock(after), d.settle()))
		case e.State == EvidenceFiring && (k == 0 || sig == High) && best.Source == "":
			// The first source is the one whose evidence time counts. For a removal no
			// other may stand in for it: what Alertmanager holds is younger than the
			// samples that it was made from.
			best = e
		}
	}
	if best.Source == "" && sig == High && lease.Fingerprint != "" && !refuted {
		// When the alert began to fire is when Prometheus saw it. A start that lies
		// after the notification comes from a wrong clock and proves nothing.
		at := lease.StartsAt
		if at.After(consumed) && !at.After(lease.LastSeen) && (alone || at.After(after)) {
			best = Evidence{Source: "notification", Signal: sig, State: EvidenceFiring, At: at, Fingerprint: lease.Fingerprint}
		}
	}
	if refuted {
		best = Evidence{}
	}
	if len(d.g.Confirm) == 0 && best.Source == "" {
		why = append(why, "no source is configured that could confirm it")
	}
	if best.Source != "" {
		if best.Fingerprint == "" {
			best.Fingerprint = lease.Fingerprint
		}
		gs.add("confirmation", true, "%s, evidence of %s", best.Source, clock(best.At))
		return best
	}
	gs.add("confirmation", false, "%s", strings.Join(why, "; "))
	return best
}

// evidence returns what a source last said; a source that was asked and did not
// name the signal says absent.
func (d *decision) evidence(src string, sig Signal) (Evidence, bool) {
	if _, ok := d.in.Lookup.Asked[src]; !ok {
		return Evidence{}, false
	}
	for _, e := range d.in.Lookup.Evidence {
		if e.Source == src && e.Signal == sig {
			return e, true
		}
	}
	return Evidence{Source: src, Signal: sig, State: EvidenceAbsent}, true
}

// firing names a source that says the signal stands, or "".
func (d *decision) firing(sig Signal) string {
	for _, e := range d.in.Lookup.Evidence {
		if e.Signal == sig && e.State == EvidenceFiring {
			return e.Source
		}
	}
	return ""
}

func (d *decision) newestLease(sig Signal) Lease {
	var out Lease
	for _, l := range d.s.Leases {
		if l.Signal == sig && d.now.Before(l.Expires) && (out.Fingerprint == "" || l.LastSeen.After(out.LastSeen)) {
			out = l
		}
	}
	return out
}

// settle is nothing before the first action.
func (d *decision) settle() time.Duration {
	if d.s.LastActionEnd.IsZero() {
		return 0
	}
	return d.g.Settle()
}

func (d *decision) cause(sig Signal, ev Evidence) Cause {
	return Cause{Kind: CauseAlert, Signal: sig, Fingerprint: ev.Fingerprint, Source: ev.Source, EvidenceAt: ev.At}
}

func (d *decision) launching() int {
	return d.s.Count(StateRequested, StateCreating, StateBooting, StateJoining)
}

func (d *decision) holdGate(gs *gates, c Condition, hold time.Duration) {
	if hold <= 0 {
		return
	}
	end := c.Since.Add(hold)
	gs.add("hold", !d.now.Before(end), "%s", until(string(c.Signal)+" has to stand for "+hold.String()+", which ends", end, d.now))
}

func (d *decision) pauseGate(gs *gates, out bool) {
	if d.now.Before(d.s.HoldUntil) {
		gs.add("pause", false, "%s", until("a manual action holds automatic steps, which ends", d.s.HoldUntil, d.now))
		return
	}
	p := d.s.Pause
	if p == nil || (!p.Until.IsZero() && !d.now.Before(p.Until)) || (out && !p.Out) || (!out && !p.In) {
		gs.add("pause", true, "not paused")
		return
	}
	if p.Until.IsZero() {
		gs.add("pause", false, "paused by %s until resumed", orUnknown(p.By))
		return
	}
	gs.add("pause", false, "%s", until("paused by "+orUnknown(p.By)+", which ends", p.Until, d.now))
}

func (d *decision) limitGate(gs *gates, n int) {
	gs.add("limit", d.s.Owned()+n <= d.g.Limit(), "%d owned in whatever state, at most %d (max %d and surge %d)",
		d.s.Owned(), d.g.Limit(), d.g.Max, d.g.Surge)
}

func (d *decision) creationBudgetGate(gs *gates, n int) {
	budgetGate(gs, "creations", d.s.Creations, d.g.CreationsPerHour, n, d.now)
}

func (d *decision) removalBudgetGate(gs *gates) {
	budgetGate(gs, "removals", d.s.Removals, d.g.RemovalsPerHour, 1, d.now)
}

func budgetGate(gs *gates, what string, done []time.Time, per, n int, now time.Time) {
	used := recent(done, now)
	if per <= 0 || used+n <= per {
		gs.add("budget", true, "%d %s in the last hour, at most %d", used, what, per)
		return
	}
	gs.add("budget", false, "%d %s in the last hour, at most %d; the oldest counts until %s", used, what, per, clock(oldest(done, now).Add(time.Hour)))
}

func (d *decision) backoffGate(gs *gates) {
	if d.now.Before(d.s.BackoffUntil) {
		gs.add("backoff", false, "%s", until(fmt.Sprintf("%d launches failed in a row; the pause ends", d.s.Failures), d.s.BackoffUntil, d.now))
		return
	}
	gs.add("backoff", true, "%d launches failed in a row", d.s.Failures)
}

// projectionGate asks what the rest would carry if one left: its work goes to
// them, so which one leaves makes no difference. A missing or stale reading
// counts as 1.
func (d *decision) projectionGate(gs *gates) {
	sum, n, missing := 0.0, 0, 0
	fresh := d.g.Windows.Rate + 2*d.g.Windows.Scrape
	for _, i := range d.s.Instances {
		if i.State != StateInService {
			continue
		}
		n++
		r, ok := d.in.Lookup.Readings[i.UUID]
		if !ok || i.UUID == "" || d.now.Sub(r.At) > fresh || math.IsNaN(r.Utilization) {
			missing++
			sum++
			continue
		}
		sum += min(max(r.Utilization, 0), 1)
	}
	if n <= 1 {
		gs.add("projection", missing == 0, "the last one, %d of %d readings missing", missing, n)
		return
	}
	p := sum / float64(n-1)
	gs.add("projection", p < d.g.High, "the rest would carry %.2f, must be under %.2f (%d of %d readings missing, each counts as 1)",
		p, d.g.High, missing, n)
}

// victim chooses whom a removal takes: the named instance, else by policy among
// those in service that are not protected.
func (d *decision) victim(name string) (*Instance, string) {
	if name != "" {
		i := d.s.Find(name)
		switch {
		case i == nil:
			return nil, fmt.Sprintf("no instance %q", name)
		case i.State != StateInService:
			return nil, fmt.Sprintf("%s is %s, not in_service", i.Name, i.State)
		case i.Protected:
			return nil, i.Name + " is protected"
		}
		return i, i.Name
	}
	var best *Instance
	protected := 0
	for k := range d.s.Instances {
		i := &d.s.Instances[k]
		if i.State != StateInService {
			continue
		}
		if i.Protected {
			protected++
			continue
		}
		if best == nil || d.before(i, best) {
			best = i
		}
	}
	if best == nil {
		return nil, fmt.Sprintf("none in service that is not protected (%d protected)", protected)
	}
	return best, fmt.Sprintf("%s (%s)", best.Name, d.g.Victim)
}

// before reports whether a is rather removed than b.
func (d *decision) before(a, b *Instance) bool {
	_, badA := d.in.Unhealthy[a.ID]
	_, badB := d.in.Unhealthy[b.ID]
	if badA != badB {
		return badA // what does not serve anyway goes first
	}
	switch d.g.Victim {
	case VictimOldest:
		if !a.InServiceAt.Equal(b.InServiceAt) {
			return a.InServiceAt.Before(b.InServiceAt)
		}
		return a.Number < b.Number
	case VictimLeastBusy:
		ra, oka := d.in.Lookup.Readings[a.UUID]
		rb, okb := d.in.Lookup.Readings[b.UUID]
		if oka && okb && ra.Utilization != rb.Utilization {
			return ra.Utilization < rb.Utilization
		}
	case VictimNewest:
	}
	if !a.InServiceAt.Equal(b.InServiceAt) {
		return a.InServiceAt.After(b.InServiceAt)
	}
	return a.Number > b.Number
}

// successor is the healthy instance longest in service besides the victim.
func (d *decision) successor(victim string) *Instance {
	var best *Instance
	for k := range d.s.Instances {
		i := &d.s.Instances[k]
		if _, bad := d.in.Unhealthy[i.ID]; bad || i.State != StateInService || i.ID == victim {
			continue
		}
		if best == nil || i.InServiceAt.Before(best.InServiceAt) {
			best = i
		}
	}
	return best
}

// OrderTTL is how long an order waits before it is given up.
const OrderTTL = time.Hour

func recent(ts []time.Time, now time.Time) int {
	n := 0
	for _, t := range ts {
		if now.Sub(t) < time.Hour {
			n++
		}
	}
	return n
}

func oldest(ts []time.Time, now time.Time) time.Time {
	out := now
	for _, t := range ts {
		if now.Sub(t) < time.Hour && t.Before(out) {
			out = t
		}
	}
	return out
}

func standing(c Condition, now time.Time) string {
	if !c.Standing {
		return "does not stand"
	}
	return fmt.Sprintf("stands for %s, last seen %s ago", now.Sub(c.Since).Round(time.Second), now.Sub(c.LastSeen).Round(time.Second))
}

func contradiction(high Condition, source string) string {
	switch {
	case high.Standing:
		return "high stands too"
	case source != "":
		return source + " says that high is firing"
	}
	return "high does not stand"
}

func until(what string, t, now time.Time) string {
	if !now.Before(t) {
		return what + ": over"
	}
	return fmt.Sprintf("%s in %s", what, t.Sub(now).Round(time.Second))
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("15:04:05.000Z")
}

func hasOr(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func orUnknown(s string) string {
	if s == "" {
		return "somebody"
	}
	return s
}
