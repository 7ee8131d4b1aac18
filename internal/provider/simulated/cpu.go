package simulated

import (
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// advance brings the World to the present: it goes from event to event, a boot
// that ends, a guest that stops, a step of the load, a drain that ends, and adds
// up the CPU time between them. The caller holds the lock.
func (w *World) advance() {
	now := w.now()
	for w.s.At.Before(now) {
		next := w.nextEvent(now)
		w.burn(next.Sub(w.s.At).Seconds())
		w.s.At = next
		for _, v := range w.s.VMs {
			if !v.Stops.IsZero() && !next.Before(v.Stops) {
				v.Power, v.Stops = scaling.PowerStopped, time.Time{}
			}
		}
	}
}

// nextEvent is the first moment after At at which somebody's CPU use changes, at
// most now.
func (w *World) nextEvent(now time.Time) time.Time {
	next := now
	consider := func(t time.Time) {
		if t.After(w.s.At) && t.Before(next) {
			next = t
		}
	}
	for _, v := range w.s.VMs {
		if v.Power == scaling.PowerRunning {
			consider(v.Started.Add(w.cfg.BootTime))
			consider(v.Stops)
		}
	}
	for _, steps := range w.cfg.Load {
		for _, s := range steps {
			consider(w.s.Began.Add(s.After))
		}
	}
	return next
}

// loadOf is the load offered to a group at the moment At.
func (w *World) loadOf(group string) float64 {
	if load, ok := w.s.Loads[group]; ok {
		return load
	}
	load := 0.0
	for _, s := range w.cfg.Load[group] {
		if w.s.At.Before(w.s.Began.Add(s.After)) {
			break
		}
		load = s.VCPUs
	}
	return load
}

// burn adds the CPU time of so many seconds in which nothing changes.
func (w *World) burn(seconds float64) {
	share := w.shares()
	for _, v := range w.s.VMs {
		if v.Power != scaling.PowerRunning {
			continue
		}
		use := w.cfg.IdleBurn + share[v.UUID]
		if !w.booted(v, w.s.At) {
			use = w.cfg.BootBurn
		}
		v.CPU += min(use, float64(v.VCPUs)) * seconds
	}
}

// shares divides each group's load evenly over those that serve it: the ready
// members of its pool that run, or all its VMs that run where no pool was ever
// applied.
func (w *World) shares() map[string]float64 {
	groups := map[string]bool{}
	for g := range w.cfg.Load {
		groups[g] = true
	}
	for g := range w.s.Loads {
		groups[g] = true
	}
	share := map[string]float64{}
	for g := range groups {
		serving := w.serving(g)
		for _, v := range serving {
			share[v.UUID] = w.loadOf(g) / float64(len(serving))
		}
	}
	return share
}

func (w *World) serving(group string) []*vm {
	var list []*vm
	p, pooled := w.s.Pools[group]
	for _, v := range w.s.VMs {
		if !w.booted(v, w.s.At) {
			continue
		}
		if pooled {
			if m := p.byAddress(v.Address); m != nil && m.State == scaling.MemberReady {
				list = append(list, v)
			}
		} else if v.Mark != nil && v.Mark.Group == group {
			list = append(list, v)
		}
	}
	return list
}
