package suggest

import (
	"fmt"
	"slices"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Model is what a replay assumes beside the group's configuration.
type Model struct {
	// Launch is how long an instance takes from the decision into service.
	Launch time.Duration
}

// Saturated is the average from which VMs may have had more to do than they could:
// what was recorded then is the least that there was.
const Saturated = 0.95

// Replay is what a pair of thresholds would have made of a history.
type Replay struct {
	High float64 `json:"high"`
	Low  float64 `json:"low"`
	// ScaleOuts and ScaleIns are the steps that the signals would have caused.
	ScaleOuts       int     `json:"scale_outs"`
	ScaleIns        int     `json:"scale_ins"`
	ScaleOutsPerDay float64 `json:"scale_outs_per_day"`
	ScaleInsPerDay  float64 `json:"scale_ins_per_day"`
	// Instances is the mean number in service.
	Instances float64 `json:"instances_mean"`
	// AtMax is the part of the time at max; Short that in which the average was
	// Saturated or more although the group might still have grown.
	AtMax float64 `json:"at_max_ratio"`
	Short float64 `json:"short_ratio"`
}

// source is the one whose evidence the replay gives.
const source = "prometheus"

// replayer is a group in the past, with the state that the engine would have kept.
type replayer struct {
	g     scaling.Group
	m     Model
	s     scaling.State
	ids   ids
	since map[scaling.Signal]time.Time // from when a signal has been firing
	below bool                         // low was below at the sample before: its alert is pending
	out   Replay

	seen, serving, atMax, short int
}

// Run decides at every sample what the group would have done, with as many instances
// as it would have had by then. The work that was recorded, average × instances, is
// shared out among those. Drains end at once. Over a gap the conditions are unknown and
// nothing is done. Only samples whose number of instances is known are taken.
func Run(g scaling.Group, h History, m Model) Replay {
	g.Mode, g.Confirm, g.Adopt, g.Grace = scaling.ModeFull, []string{source}, nil, 0
	r := &replayer{g: g, m: m, since: map[scaling.Signal]time.Time{}, out: Replay{High: g.High, Low: g.Low}}
	var last time.Time
	for _, s := range h.Samples {
		if s.InService <= 0 {
			continue
		}
		if r.seen == 0 {
			r.start(s)
		} else if s.At.Sub(last) > h.Step*3/2 {
			clear(r.since)
			r.below = false
		}
		r.arrive(s.At)
		r.decide(s)
		last = s.At
	}
	if r.seen > 0 {
		days := float64(r.seen) * h.Step.Hours() / 24
		r.out.ScaleOutsPerDay, r.out.ScaleInsPerDay = float64(r.out.ScaleOuts)/days, float64(r.out.ScaleIns)/days
		share := func(n int) float64 { return float64(n) / float64(r.seen) }
		r.out.Instances, r.out.AtMax, r.out.Short = share(r.serving), share(r.atMax), share(r.short)
	}
	return r.out
}

// start has as many instances in service as there were, within the bounds, and warm.
func (r *replayer) start(s Sample) {
	n := min(max(s.InService, r.g.Min), r.g.Max)
	r.s = scaling.State{Group: r.g.Name, NextNumber: n + 1, Desired: n}
	for k := range n {
		at := s.At.Add(-r.g.WarmUp - time.Hour + time.Duration(k)*time.Second)
		id := r.ids.Instance()
		r.s.Instances = append(r.s.Instances, scaling.Instance{
			ID: id, UUID: id, Group: r.g.Name, Name: r.g.VMName(k + 1), Number: k + 1,
			State: scaling.StateInService, Since: at, CreatedAt: at, InServiceAt: at,
		})
	}
	if n > 0 {
		r.s.Primary = r.s.Instances[0].ID
	}
}

// arrive puts into service what has taken long enough by now.
func (r *replayer) arrive(now time.Time) {
	for k := range r.s.Instances {
		i := &r.s.Instances[k]
		if at := i.CreatedAt.Add(r.m.Launch); i.State.Launching() && !at.After(now) {
			i.UUID = i.ID
			r.s.Enter(i.ID, scaling.StateJoining, time.Time{}, at)
			r.s.InService(i.ID, r.g, at)
		}
	}
}

// decide gives the sample to the decision and follows it.
func (r *replayer) decide(s Sample) {
	r.s.Housekeep(s.At)
	r.s.Open = slices.DeleteFunc(r.s.Open, func(a scaling.Activity) bool { return a.Status.Ended() })
	n := r.s.Count(scaling.StateInService)
	r.seen, r.serving = r.seen+1, r.serving+n
	if n >= r.g.Max {
		r.atMax++
	}
	if n == 0 {
		return // no average, no signal: a group with min 0 waits for a person
	}
	shared := func(average float64) float64 { return min(1, average*float64(s.InService)/float64(n)) }
	high, low := shared(s.High), shared(s.Low)
	if high >= Saturated && n < r.g.Max {
		r.short++
	}
	warm := slices.ContainsFunc(r.s.Instances, func(i scaling.Instance) bool { return i.Warm(r.g.WarmUp, s.At) })
	r.fires(scaling.High, warm && high > r.g.High, s.At)
	// The rule for low waits a little less than a step: for a second sample.
	below := low < r.g.Low
	r.fires(scaling.Low, below && r.below, s.At)
	r.below = below
	if len(r.since) == 0 && r.s.Capacity() >= max(r.g.Min, min(r.s.Desired, r.g.Max)) {
		return // nothing that a decision could act on
	}
	in := scaling.Input{Group: r.g, State: &r.s, Now: s.At, Known: scaling.Known{Listing: true, Pool: true, Signals: true}}
	in.Lookup = scaling.Lookup{Asked: map[string]time.Time{source: s.At}, Readings: map[string]scaling.Reading{}}
	for _, i := range r.s.Instances {
		in.Lookup.Readings[i.UUID] = scaling.Reading{Utilization: low, At: s.At}
	}
	r.s.Leases = r.s.Leases[:0]
	for _, signal := range []scaling.Signal{scaling.High, scaling.Low} {
		if since, fires := r.since[signal]; fires {
			r.s.Leases = append(r.s.Leases, scaling.Lease{
				Signal: signal, Fingerprint: string(signal), StartsAt: since, FirstSeen: since, LastSeen: s.At, Expires: s.At.Add(time.Second),
			})
			in.Lookup.Evidence = append(in.Lookup.Evidence, scaling.Evidence{
				Source: source, Group: r.g.Name, Signal: signal, State: scaling.EvidenceFiring, At: s.At, Fingerprint: string(signal),
			})
		}
	}
	r.follow(scaling.Decide(in), s.At)
}

// fires notes whether a signal fires, and since when.
func (r *replayer) fires(signal scaling.Signal, does bool, now time.Time) {
	if !does {
		delete(r.since, signal)
	} else if _, before := r.since[signal]; !before {
		r.since[signal] = now
	}
}

// follow records what the verdict asks for, as the engine does; who is to leave is
// gone at once.
func (r *replayer) follow(v scaling.Verdict, now time.Time) {
	r.s.Begin(v, r.g, now, &r.ids)
	if v.Cause.Kind == scaling.CauseAlert {
		switch v.Action {
		case scaling.ActionScaleOut:
			r.out.ScaleOuts++
		case scaling.ActionScaleIn, scaling.ActionHandover:
			r.out.ScaleIns++
		case scaling.ActionNone, scaling.ActionFill, scaling.ActionAdopt, scaling.ActionReplace, scaling.ActionCancelDrain:
		}
	}
	r.s.Advance(r.g, now) // the primary's handover
	for _, i := range slices.Clone(r.s.Instances) {
		if i.State == scaling.StateDraining {
			r.s.Draining(i.ID, r.g, now)
			r.s.Drained(i.ID, r.g, now)
			r.s.Gone(i.ID, r.g, "removed", now)
		}
	}
	r.s.Advance(r.g, now) // and its end
}

// ids counts.
type ids struct{ n int }

// Instance returns the next id.
func (i *ids) Instance() string { i.n++; return fmt.Sprintf("i%06d", i.n) }

// Activity returns the next id.
func (i *ids) Activity(time.Time) string { i.n++; return fmt.Sprintf("a%06d", i.n) }
