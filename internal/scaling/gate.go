package scaling

import (
	"fmt"
	"time"
)

// gates collects the gates of one action, in the order of asking.
type gates []Gate

// add notes a gate. What it returns may be told more until the next one is added.
func (gs *gates) add(name string, passed bool, format string, args ...any) *Gate {
	*gs = append(*gs, Gate{Name: name, Passed: passed, Detail: fmt.Sprintf(format, args...)})
	return &(*gs)[len(*gs)-1]
}

func (gs *gates) failed() (Gate, bool) {
	for _, g := range *gs {
		if !g.Passed {
			return g, true
		}
	}
	return Gate{}, false
}

// numbers notes what was measured and what it was held against.
func (g *Gate) numbers(value, bound float64) *Gate {
	g.Value, g.Bound = &value, &bound
	return g
}

// count is numbers for things that are counted.
func (g *Gate) count(value, bound int) *Gate { return g.numbers(float64(value), float64(bound)) }

// change notes what would make the gate pass, if it did not.
func (g *Gate) change(format string, args ...any) {
	if !g.Passed {
		g.Change = fmt.Sprintf(format, args...)
	}
}

// until notes when the gate passes by itself, if it did not.
func (g *Gate) until(what string, end, now time.Time) {
	if !g.Passed {
		g.Until = end
		g.Change = fmt.Sprintf("%s in %s", what, short(end.Sub(now)))
	}
}

// timer adds a gate that passes once a time has come.
func (gs *gates) timer(name, what string, end, now time.Time) {
	if !now.Before(end) {
		gs.add(name, true, "%s: over", what)
		return
	}
	gs.add(name, false, "%s until %s", what, clock(end)).until(what+" ends", end, now)
}

// short rounds a duration for people.
func short(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}
