package suggest

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Least is how much has to be recorded for anything to be concluded.
const Least = time.Hour

// shortest is the part of the time that a group may be short of instances with the
// suggested pair.
const shortest = 0.01

// Report is what a history says about a group's thresholds.
type Report struct {
	Group       string    `json:"group"`
	From        time.Time `json:"from"`
	To          time.Time `json:"to"`
	StepSeconds float64   `json:"step_seconds"`
	// Samples were recorded, of Expected; Incomplete of them lacked a reading.
	Samples    int   `json:"samples"`
	Expected   int   `json:"samples_expected"`
	Incomplete int   `json:"samples_incomplete"`
	Gaps       []Gap `json:"gaps"`
	// Enough says that there is enough of it; without it nothing is replayed and
	// nothing suggested.
	Enough bool `json:"enough"`
	// CPU is the group's average, over the complete samples; Instances are those in
	// service. Nil where nothing was recorded.
	CPU       *Spread `json:"cpu"`
	Instances *Spread `json:"instances"`
	// SaturatedRatio is the part of the complete samples in which the VMs may have had
	// more to do than they could.
	SaturatedRatio float64 `json:"saturated_ratio"`

	LaunchSeconds float64 `json:"launch_seconds"` // assumed
	High          float64 `json:"high"`
	Low           float64 `json:"low"`
	Bounds        []Bound `json:"bounds"`
	// Configured and Suggested are the replays; Suggested may be the configured pair.
	Configured *Replay  `json:"configured"`
	Suggested  *Replay  `json:"suggested"`
	Remarks    []string `json:"remarks"`
}

// Look makes the report for a group, whose High and Low are the pair asked about.
func Look(g scaling.Group, h History, m Model) Report {
	r := Report{
		Group: g.Name, From: h.From, To: h.To, StepSeconds: h.Step.Seconds(), Samples: len(h.Samples),
		Expected: int(h.To.Sub(h.From)/h.Step) + 1, Gaps: h.gaps(), LaunchSeconds: m.Launch.Seconds(),
		High: g.High, Low: g.Low, Bounds: Bounds(g), Remarks: []string{},
	}
	if r.Gaps == nil {
		r.Gaps = []Gap{}
	}
	var cpu, instances []float64
	saturated, counted := 0, 0
	for _, s := range h.Samples {
		if s.InService > 0 {
			counted++
			instances = append(instances, float64(s.InService))
		}
		if !s.whole() {
			r.Incomplete++
			continue
		}
		cpu = append(cpu, s.Low)
		if s.Low >= Saturated {
			saturated++
		}
	}
	r.CPU, r.Instances = spread(cpu), spread(instances)
	if len(cpu) > 0 {
		r.SaturatedRatio = float64(saturated) / float64(len(cpu))
	}
	r.coverage(h)
	r.bounds(g)
	complete := time.Duration(len(cpu)) * h.Step
	switch {
	case len(h.Samples) == 0:
		r.remark("nothing was recorded of group %s: does Prometheus load the rules (scalehook rules) and scrape scalehook, and was it this Prometheus?", g.Name)
	case counted == 0:
		r.remark("the number of instances was not recorded (group_uuid:scalehook_instance_in_service:max): no step can be replayed")
	case complete < Least:
		r.remark("too little to conclude anything: %s with all readings, and %s are needed", complete, Least)
	case g.Max <= g.Min:
		r.remark("min and max are both %d: no threshold does anything", g.Min)
		r.Enough = true
	default:
		r.Enough = true
		r.pairs(g, h, m)
	}
	return r
}

func (r *Report) remark(format string, args ...any) {
	r.Remarks = append(r.Remarks, fmt.Sprintf(format, args...))
}

// coverage says what of the time is missing.
func (r *Report) coverage(h History) {
	if len(h.Samples) == 0 {
		return
	}
	var missing, longest time.Duration
	for _, g := range r.Gaps {
		missing += g.To.Sub(g.From)
		longest = max(longest, g.To.Sub(g.From))
	}
	if missing > 0 {
		r.remark("nothing was recorded for %s of %s (%d gaps, the longest %s): all figures are about the rest", missing, h.To.Sub(h.From), len(r.Gaps), longest)
	}
	if r.Incomplete > 0 {
		r.remark("%d of %d samples lack the reading of an instance: they are in no percentile, and count as the rules count them in the replay", r.Incomplete, r.Samples)
	}
	if covered := time.Duration(r.Samples) * h.Step; covered < 24*time.Hour {
		r.remark("less than a day was recorded: its rhythm is not in these figures, and steps per day are extrapolated from %s", covered)
	}
	if r.SaturatedRatio > 0 {
		r.remark("for %s of the time the average was at or over %s: the VMs may have had more to do than they could, and a larger group would have had more to do than the replay gives it",
			Percent(r.SaturatedRatio), Percent(Saturated))
	}
}

// bounds says where low is too close to high.
func (r *Report) bounds(g scaling.Group) {
	for _, b := range r.Bounds {
		switch {
		case b.Flaps:
			r.remark("low %s at %d instances: one fewer would have %s, which is not under high %s. The projection gate refuses such a step, so the group would stay at %d until its average is under %s",
				Percent(g.Low), b.Instances, Percent(b.After), Percent(g.High), b.Instances, Percent(b.Limit))
		case b.Close:
			r.remark("low %s at %d instances: one fewer would have %s, closer to high %s than a tenth of it; keep low at %s or less",
				Percent(g.Low), b.Instances, Percent(b.After), Percent(g.High), Percent(b.Safe))
		}
	}
}

// pairs replays the pair that is configured and finds the one that would be right.
// It changes only what is wrong: low where it is too close to high, high where the
// group would have been short of instances too often.
func (r *Report) pairs(g scaling.Group, h History, m Model) {
	configured := Run(g, h, m)
	r.Configured = &configured
	best := configured
	right := func(high float64) scaling.Group {
		c := g
		c.High = high
		c.Low = min(g.Low, safeLow(c))
		return c
	}
	if c := right(g.High); c.Low != g.Low {
		best = Run(c, h, m)
	}
	// Down in steps of five points from the next lower one, to 30 %.
	for points := int(math.Ceil(g.High*20-tiny)) - 1; best.Short > shortest && points >= 6; points-- {
		if next := Run(right(float64(points)/20), h, m); next.Short < best.Short {
			best = next
		}
	}
	r.Suggested = &best
	if best.Short > shortest {
		r.remark("with any high down to 30 %% the group would have been short of instances for %s of the time: load rises faster than instances come; a larger min, or a shorter rate window, helps, and no threshold does",
			Percent(best.Short))
	}
	if best.AtMax > shortest {
		r.remark("the group would have been at max %d for %s of the time", g.Max, Percent(best.AtMax))
	}
	if configured.ScaleOuts+configured.ScaleIns == 0 && r.CPU != nil {
		r.remark("with these thresholds nothing would have happened: the load asks for neither a step out nor one in")
	}
}

// Percent writes a ratio with one decimal where it needs one.
func Percent(v float64) string {
	return strconv.FormatFloat(math.Round(v*1000)/10, 'f', -1, 64) + " %"
}
