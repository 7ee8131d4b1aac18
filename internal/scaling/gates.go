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
