package scaling

import (
	"fmt"
	"math"
	"time"
)

// known reports whether everything was read that a removal has to know.
func (d *decision) known() bool {
	return d.in.Known.Listing && d.in.Known.Pool && d.in.Known.Signals
}

// startedGate asks whether the provider was listed since the start.
func (d *decision) startedGate(gs *gates) {
	gs.add("started", d.in.Known.Listing, "the provider %s listed since the start", hasOr(d.in.Known.Listing, "was", "was not yet")).
		change("the first complete listing of provider %q", d.g.Provider)
}

// conditionGate asks whether a signal stands. What was heard before the process
// began, or before its clock was set, is unknown until a source says it too.
func (d *decision) conditionGate(gs *gates, sig Signal) Condition {
	c := d.s.Condition(sig, d.now)
	average, n, missing := d.average(sig)
	threshold, over, act := d.g.High, "over", ActionScaleOut
	if sig == Low {
		threshold, over, act = d.g.Low, "under", ActionScaleIn
	}
	g := gs.add("condition", c.Standing, "%s %s", sig, standing(c, d.now))
	if n > 0 {
		g.Detail += fmt.Sprintf("; average %s of %d, %d missing", percent(average), n, missing)
		g.numbers(average, threshold)
	}
	g.change("would %s once the alert says an average %s %s", act.words(), over, percent(threshold))
	if c.Standing && c.LastSeen.Before(d.in.Since) {
		src := d.firing(sig)
		gs.add("heard", src != "", "%s was last heard of at %s, before the start or the setting of the clock at %s; %s",
			sig, clock(c.LastSeen), clock(d.in.Since), hasOr(src != "", src+" says that it is firing", "no source says that it is firing")).
			change("a notification, or a source that says that it is firing")
	}
	return c
}

// average is the mean utilisation that the signal's rule looks at: of the warm
// instances for high, of all in service for low. A missing reading counts as 0 on
// the way up and as 1 on the way down.
func (d *decision) average(sig Signal) (mean float64, n, missing int) {
	sum := 0.0
	for _, i := range d.s.Instances {
		if i.State != StateInService || (sig == High && !i.Warm(d.g.WarmUp, d.now)) {
			continue
		}
		n++
		r, ok := d.reading(i)
		if !ok {
			missing++
			if sig == Low {
				r = 1
			}
		}
		sum += r
	}
	if n > 0 {
		mean = sum / float64(n)
	}
	return mean, n, missing
}

// reading is the instance's utilisation, 0..1, if a fresh one is known.
func (d *decision) reading(i Instance) (float64, bool) {
	r, ok := d.in.Lookup.Readings[i.UUID]
	fresh := d.g.Windows.Rate + 2*d.g.Windows.Scrape
	if !ok || i.UUID == "" || d.now.Sub(r.At) > fresh || r.At.After(d.now.Add(MaxSkew)) || math.IsNaN(r.Utilization) {
		return 0, false
	}
	return min(max(r.Utilization, 0), 1), true
}

// unwell reports whether an instance is seen to be unwell, or was and has not been
// seen to be well since: that nothing is known of it at present is no health.
func (d *decision) unwell(i Instance) bool {
	_, bad := d.in.Unhealthy[i.ID]
	return bad || !i.SuspectSince.IsZero()
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
		if !d.unwell(i) && (victim == nil || i.ID != victim.ID) {
			healthy++
		}
	}
	if victim == nil {
		healthy--
	}
	healthy = max(healthy, 0)
	need := max(d.g.Min, min(1, serving-1))
	gs.add("bounds", serving-1 >= d.g.Min && healthy >= need,
		"%d in service, %d healthy ones would be left; min is %d", serving, healthy, d.g.Min).
		count(healthy, need).change("%d in service of which %d stay healthy without the victim", max(d.g.Min, need)+1, need)
}

func (d *decision) holdGate(gs *gates, c Condition, hold time.Duration) {
	if hold > 0 {
		gs.timer("hold", fmt.Sprintf("the time %s that %s has to stand", hold, c.Signal), c.Since.Add(hold), d.now)
	}
}

func (d *decision) cooldownGate(gs *gates) {
	gs.timer("cooldown", "cooldown", d.s.CooldownUntil, d.now)
}

// pauseGate asks the pause, the hold of a manual action and the maintenance
// window, for one direction.
func (d *decision) pauseGate(gs *gates, out bool) {
	if d.now.Before(d.s.HoldUntil) {
		gs.timer("pause", "the hold of a manual action", d.s.HoldUntil, d.now)
		return
	}
	if m := d.in.Maintenance; m != nil && ((out && m.Out) || (!out && m.In)) {
		gs.timer("pause", "the maintenance window "+m.Name, m.Until, d.now)
		return
	}
	p := d.s.Pause
	if p == nil || (!p.Until.IsZero() && !d.now.Before(p.Until)) || (out && !p.Out) || (!out && !p.In) {
		gs.add("pause", true, "not paused")
		return
	}
	if p.Until.IsZero() {
		gs.add("pause", false, "paused by %s: %s", orUnknown(p.By), orNone(p.Reason)).change("resume the group")
		return
	}
	gs.timer("pause", "the pause by "+orUnknown(p.By), p.Until, d.now)
}

// limitGate counts everything owned, also what carries the group's mark and is
// not known to the state.
func (d *decision) limitGate(gs *gates, n int) {
	owned := d.s.Owned() + d.in.Orphans
	gs.add("limit", owned+n <= d.g.Limit(), "%d owned in whatever state (%d of them orphans), at most %d (max %d and surge %d)",
		owned, d.in.Orphans, d.g.Limit(), d.g.Max, d.g.Surge).
		count(owned+n, d.g.Limit()).change("fewer owned: failed ones are cleared by hand, orphans by cleanup; or a larger max")
}

func (d *decision) creationBudgetGate(gs *gates, n int) {
	budgetGate(gs, "creations", d.s.Creations, d.g.CreationsPerHour, n, d.now)
}

// removalBudgetGate keeps room for the handovers under way, which will remove too.
func (d *decision) removalBudgetGate(gs *gates) {
	n := 1
	for _, a := range d.s.Open {
		if i := d.s.Instance(a.Remove); a.Kind == ActivityHandover && !a.Status.Ended() && i != nil && i.State == StateInService {
			n++
		}
	}
	budgetGate(gs, "removals", d.s.Removals, d.g.RemovalsPerHour, n, d.now)
}

func budgetGate(gs *gates, what string, done []time.Time, per, n int, now time.Time) {
	used := recent(done, now)
	if per <= 0 || used+n <= per {
		gs.add("budget", true, "%d %s in the last hour, at most %d", used, what, per)
		return
	}
	gs.add("budget", false, "%d %s in the last hour, at most %d", used, what, per).
		count(used+n, per).until("the oldest of the hour is out of the budget", oldest(done, now).Add(time.Hour), now)
}

func (d *decision) backoffGate(gs *gates) {
	gs.timer("backoff", fmt.Sprintf("the back-off after %d failed launches in a row", d.s.Failures), d.s.BackoffUntil, d.now)
}

// projectionGate asks what the rest would carry if one left: its work goes to
// them, so which one leaves makes no difference. A missing or stale reading
// counts as 1.
func (d *decision) projectionGate(gs *gates) {
	mean, n, missing := d.average(Low)
	if n <= 1 {
		gs.add("projection", missing == 0, "the last one, %d of %d readings missing", missing, n).change("a reading of the last one")
		return
	}
	p := mean * float64(n) / float64(n-1)
	gs.add("projection", p < d.g.High, "the rest would carry %.2f, must be under %.2f (%d of %d readings missing, each counts as 1)",
		p, d.g.High, missing, n).
		numbers(p, d.g.High).change("projection %.2f ≥ %.2f: would pass under an average of %s", p, d.g.High, percent(d.g.High*float64(n-1)/float64(n)))
}

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
	return fmt.Sprintf("stands for %s, last seen %s ago", short(now.Sub(c.Since)), short(now.Sub(c.LastSeen)))
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

func percent(r float64) string { return fmt.Sprintf("%.0f %%", 100*r) }

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

func orNone(s string) string {
	if s == "" {
		return "no reason given"
	}
	return s
}
