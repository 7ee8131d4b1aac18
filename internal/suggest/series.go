package suggest

import (
	"math"
	"slices"
	"time"
)

// Sample is a group at one moment, as the rules recorded it.
type Sample struct {
	At time.Time
	// High is the average of the warm instances with a missing reading as 0, Low that
	// of all in service with a missing reading as 1; ratios 0..1.
	High, Low float64
	// InService is how many instances they are the average of; 0: not known.
	InService int
	// Read is how many of those had a reading.
	Read int
}

// whole reports whether every instance had a reading.
func (s Sample) whole() bool { return s.InService > 0 && s.Read >= s.InService }

// History is what was recorded of a group from From to To, one sample per Step at
// the most, in order of time. What is missing was not recorded.
type History struct {
	From, To time.Time
	Step     time.Duration
	Samples  []Sample
}

// Gap is a time without samples, longer than a step.
type Gap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// gaps are the times without samples, those at both ends included.
func (h History) gaps() []Gap {
	var out []Gap
	last := h.From.Add(-h.Step)
	for _, s := range h.Samples {
		if s.At.Sub(last) > h.Step*3/2 {
			out = append(out, Gap{last.Add(h.Step), s.At})
		}
		last = s.At
	}
	if h.To.Sub(last) > h.Step*3/2 {
		out = append(out, Gap{last.Add(h.Step), h.To})
	}
	return out
}

// Spread is how a quantity was distributed over the samples.
type Spread struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	Max float64 `json:"max"`
}

// spread takes the nearest rank, so that every figure is one that was recorded; nil
// of nothing.
func spread(values []float64) *Spread {
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	rank := func(p float64) float64 { return values[max(0, int(math.Ceil(p*float64(len(values))))-1)] }
	return &Spread{P50: rank(0.5), P95: rank(0.95), Max: values[len(values)-1]}
}
