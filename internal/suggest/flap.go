package suggest

import (
	"math"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Margin is how far, as a part of high, the average after a scale-in has to stay
// below high. Load is never shared out evenly, and it is never constant.
const Margin = 0.1

// Bound is what low has to keep below for a scale-in from Instances to one fewer not
// to be taken back: the others take over the work, so their average rises by
// Instances / (Instances - 1).
type Bound struct {
	Instances int `json:"instances"`
	// Limit is where the rise reaches high, Safe where it reaches high less Margin.
	Limit float64 `json:"limit"`
	Safe  float64 `json:"safe"`
	// After is the average that a scale-in at low leads to.
	After float64 `json:"after"`
	// Flaps says that low is at the limit or over it, Close that it is over Safe.
	Flaps bool `json:"flaps"`
	Close bool `json:"close"`
}

// Bounds returns the bound for every scale-in that the group's min and max allow, by
// the number of instances; the first one is the tightest. A scale-in of the last
// instance has none: nobody takes over.
func Bounds(g scaling.Group) []Bound {
	var out []Bound
	for n := max(2, g.Min+1); n <= g.Max; n++ {
		part := float64(n-1) / float64(n)
		b := Bound{Instances: n, Limit: g.High * part, Safe: g.High * (1 - Margin) * part, After: g.Low / part}
		b.Flaps = g.Low >= b.Limit-tiny
		b.Close = g.Low > b.Safe+tiny
		out = append(out, b)
	}
	return out
}

// tiny is less than any difference that somebody could configure.
const tiny = 1e-9

// safeLow is the highest low, in whole percents, that keeps the margin at every
// number of instances; at least 1 %.
func safeLow(g scaling.Group) float64 {
	limit := g.High
	if all := Bounds(g); len(all) > 0 {
		limit = all[0].Safe
	} else {
		limit *= 1 - Margin
	}
	return max(0.01, math.Floor(limit*100+tiny)/100)
}
