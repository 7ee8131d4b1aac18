package suggest_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/suggest"
)

var (
	begin = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	model = suggest.Model{Launch: time.Minute}
)

// group is web as the defaults have it: settle is 30s + 1m + 2 × 15s + 15s = 135s.
func group(change ...func(*scaling.Group)) scaling.Group {
	g := scaling.Group{
		Name: "web", Mode: scaling.ModeObserve, Min: 1, Max: 4, High: 0.7, Low: 0.3,
		Cooldown: time.Minute, WarmUp: 30 * time.Second, LaunchDeadline: 10 * time.Minute, LeaseTTL: time.Hour,
		Windows:          scaling.Windows{Scrape: 15 * time.Second, Evaluation: 15 * time.Second, Rate: time.Minute},
		CreationsPerHour: 60, RemovalsPerHour: 60, NamePattern: "web-{n}", Victim: scaling.VictimNewest,
	}
	for _, c := range change {
		c(&g)
	}
	return g
}

// phase is a time with the same average of the same number of instances; with 0
// instances nothing is recorded.
type phase struct {
	lasts     time.Duration
	average   float64
	instances int
}

func history(phases ...phase) suggest.History {
	h := suggest.History{From: begin, To: begin, Step: time.Minute}
	for _, p := range phases {
		for end := h.To.Add(p.lasts); h.To.Before(end); h.To = h.To.Add(h.Step) {
			if p.instances > 0 {
				h.Samples = append(h.Samples, suggest.Sample{At: h.To, High: p.average, Low: p.average, InService: p.instances, Read: p.instances})
			}
		}
	}
	h.To = h.To.Add(-h.Step)
	return h
}

func TestAReplayTakesTheStepsThatTheGroupWouldHaveTaken(t *testing.T) {
	for _, test := range []struct {
		name      string
		group     scaling.Group
		history   suggest.History
		outs, ins int
		// per day
		outsDay, insDay, mean float64
	}{
		{
			"between the thresholds nothing happens", group(),
			history(phase{24 * time.Hour, 0.5, 2}), 0, 0, 0, 0, 2,
		},
		{
			// 0.4 of a VM leave one of two; 1.8 need three. The mean: 2 samples of two,
			// 719 of one (the first out is in service a sample later, at 12h01m), 3 of
			// two (the evidence for the next has to be past 12h01m and 135s: 12h04m; in
			// service at 12h05m, so 4 samples), the rest three.
			"work is shared out among the instances that there would be", group(),
			history(phase{12 * time.Hour, 0.2, 2}, phase{12 * time.Hour, 0.9, 2}), 2, 1, 2, 1,
			float64(2*2+719*1+4*2+715*3) / 1440,
		},
		{
			"over half a day the steps of a day are twice as many", group(),
			history(phase{6 * time.Hour, 0.2, 2}, phase{6 * time.Hour, 0.9, 2}), 2, 1, 4, 2,
			float64(2*2+359*1+4*2+355*3) / 720,
		},
		{
			"no further than max", group(func(g *scaling.Group) { g.Max = 2 }),
			history(phase{24 * time.Hour, 0.9, 2}), 0, 0, 0, 0, 2,
		},
		{
			"no further than min", group(func(g *scaling.Group) { g.Min = 2 }),
			history(phase{24 * time.Hour, 0.1, 2}), 0, 0, 0, 0, 2,
		},
		{
			// At 2 % of each of two the projection has nothing against it. One sample is
			// pending only, so a dip of one sample removes nobody.
			"one low sample is not low", group(),
			history(phase{12 * time.Hour, 0.5, 2}, phase{time.Minute, 0.02, 2}, phase{12*time.Hour - time.Minute, 0.5, 2}), 0, 0, 0, 0, 2,
		},
		{
			"two are", group(),
			history(phase{12 * time.Hour, 0.3, 2}, phase{2 * time.Minute, 0.02, 2}, phase{12*time.Hour - 2*time.Minute, 0.3, 2}), 0, 1, 0, 1,
			// to the second low sample, then one at 0.6
			float64(722*2+718) / 1440,
		},
		{
			// Low 40 % of 70 % is refused by the configuration; the decision's projection
			// keeps such a pair from flapping: 39 % of two are 78 % of one.
			"the projection refuses what would flap", group(func(g *scaling.Group) { g.Low = 0.4 }),
			history(phase{24 * time.Hour, 0.39, 2}), 0, 0, 0, 0, 2,
		},
		{
			"a hold is waited for", group(func(g *scaling.Group) { g.HighHold = 20 * time.Minute }),
			history(phase{12 * time.Hour, 0.5, 2}, phase{19 * time.Minute, 0.9, 2}, phase{12*time.Hour - 19*time.Minute, 0.5, 2}), 0, 0, 0, 0, 2,
		},
		{
			"budgets count", group(func(g *scaling.Group) { g.RemovalsPerHour, g.Max = 1, 10 }),
			history(phase{30 * time.Minute, 0.05, 4}), 0, 1, 0, 48, float64(2*4+28*3) / 30,
		},
		{
			// What was low before a gap is not known to have been low in it.
			"nothing is decided over a gap", group(),
			history(phase{12*time.Hour - time.Minute, 0.5, 2}, phase{time.Minute, 0.02, 2}, phase{time.Hour, 0, 0}, phase{time.Minute, 0.02, 2}, phase{11 * time.Hour, 0.5, 2}),
			0, 0, 0, 0, 2,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := suggest.Run(test.group, test.history, model)
			want := suggest.Replay{
				High: test.group.High, Low: test.group.Low, ScaleOuts: test.outs, ScaleIns: test.ins,
				ScaleOutsPerDay: test.outsDay, ScaleInsPerDay: test.insDay, Instances: test.mean,
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9), cmpopts.IgnoreFields(suggest.Replay{}, "AtMax", "Short")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	got := suggest.Bounds(group(func(g *scaling.Group) { g.Low = 0.34 }))
	want := []suggest.Bound{
		{Instances: 2, Limit: 0.35, Safe: 0.315, After: 0.68, Close: true},
		{Instances: 3, Limit: 0.7 * 2 / 3, Safe: 0.42, After: 0.51},
		{Instances: 4, Limit: 0.525, Safe: 0.4725, After: 0.34 * 4 / 3},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Error(diff)
	}
	if b := suggest.Bounds(group(func(g *scaling.Group) { g.Low = 0.35 }))[0]; !b.Flaps {
		t.Errorf("35 %% of two is 70 %% of one: %+v", b)
	}
	if b := suggest.Bounds(group(func(g *scaling.Group) { g.Min, g.Max = 3, 3 })); len(b) != 0 {
		t.Errorf("a group that never shrinks: %+v", b)
	}
}

func TestWhatIsSuggested(t *testing.T) {
	quiet := history(phase{24 * time.Hour, 0.5, 2})
	for _, test := range []struct {
		name      string
		group     scaling.Group
		history   suggest.History
		high, low float64 // suggested; 0 for none
		remarks   []string
	}{
		{"a pair that does is kept", group(), quiet, 0.7, 0.3, []string{"nothing would have happened"}},
		{
			"a low that is close comes down to a tenth of high below it", group(func(g *scaling.Group) { g.Low = 0.34 }), quiet, 0.7, 0.31,
			[]string{"low 34 % at 2 instances: one fewer would have 68 %, closer to high 70 % than a tenth of it; keep low at 31.5 % or less"},
		},
		{
			"a low that would flap too, and it is said what would happen", group(func(g *scaling.Group) { g.Low = 0.4 }), quiet, 0.7, 0.31,
			[]string{"low 40 % at 2 instances: one fewer would have 80 %, which is not under high 70 %. The projection gate refuses such a step, so the group would stay at 2 until its average is under 35 %"},
		},
		{
			"with a larger min low may be closer", group(func(g *scaling.Group) { g.Min, g.Low = 3, 0.5 }), history(phase{24 * time.Hour, 0.5, 3}), 0.7, 0.47, nil,
		},
		{
			// Every hour the work jumps from 0.72 to 1.8 of a VM. One VM alone is saturated
			// for the minute until the second has come: 1.7 % of the time. With 70 % the
			// second has come at 0.72 already.
			"a high that leaves no room for the rise comes down", group(func(g *scaling.Group) { g.High = 0.85 }),
			jumps(), 0.7, 0.3, nil,
		},
		{
			"under an hour nothing is concluded", group(), history(phase{59 * time.Minute, 0.5, 2}), 0, 0,
			[]string{"too little to conclude anything: 59m0s with all readings, and 1h0m0s are needed", "less than a day was recorded"},
		},
		{"an hour is enough", group(), history(phase{60 * time.Minute, 0.5, 2}), 0.7, 0.3, []string{"extrapolated from 1h0m0s"}},
		{
			"gaps are said", group(), history(phase{24 * time.Hour, 0.5, 2}, phase{3 * time.Hour, 0, 0}, phase{24 * time.Hour, 0.5, 2}), 0.7, 0.3,
			[]string{"nothing was recorded for 3h0m0s of 50h59m0s (1 gaps, the longest 3h0m0s): all figures are about the rest"},
		},
		{
			"nothing at all", group(),
			suggest.History{From: begin, To: begin.Add(24 * time.Hour), Step: time.Minute},
			0, 0,
			[]string{"nothing was recorded of group web"},
		},
		{"one size", group(func(g *scaling.Group) { g.Min, g.Max = 2, 2 }), quiet, 0, 0, []string{"min and max are both 2"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := suggest.Look(test.group, test.history, model)
			high, low := 0.0, 0.0
			if got.Suggested != nil {
				high, low = got.Suggested.High, got.Suggested.Low
			}
			if math.Abs(high-test.high) > 1e-9 || math.Abs(low-test.low) > 1e-9 {
				t.Errorf("suggested %.2f and %.2f, want %.2f and %.2f; %q", high, low, test.high, test.low, got.Remarks)
			}
			all := strings.Join(got.Remarks, "\n")
			for _, want := range test.remarks {
				if !strings.Contains(all, want) {
					t.Errorf("no %q in:\n%s", want, all)
				}
			}
		})
	}
}

// jumps is a day of which every hour has 0.5, 0.72 and 1.8 VMs to do, for twenty
// minutes each, recorded of four instances.
func jumps() suggest.History {
	var hours []phase
	for range 24 {
		hours = append(hours, phase{20 * time.Minute, 0.5 / 4, 4}, phase{20 * time.Minute, 0.72 / 4, 4}, phase{20 * time.Minute, 1.8 / 4, 4})
	}
	return history(hours...)
}

func TestSpreadAndMissingReadings(t *testing.T) {
	h := suggest.History{From: begin, To: begin.Add(101 * time.Minute), Step: time.Minute}
	for k := range 100 {
		h.Samples = append(h.Samples, suggest.Sample{At: begin.Add(time.Duration(k) * time.Minute), High: float64(k+1) / 200, Low: float64(k+1) / 200, InService: 1 + k%3, Read: 1 + k%3})
	}
	// Readings are missing: 1 for low, 0 for high, and neither is a percentile.
	for k := 100; k < 102; k++ {
		h.Samples = append(h.Samples, suggest.Sample{At: begin.Add(time.Duration(k) * time.Minute), High: 0, Low: 1, InService: 3, Read: 2})
	}
	got := suggest.Look(group(), h, model)
	if diff := cmp.Diff(&suggest.Spread{P50: 0.25, P95: 0.475, Max: 0.5}, got.CPU); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&suggest.Spread{P50: 2, P95: 3, Max: 3}, got.Instances); diff != "" {
		t.Error(diff)
	}
	if got.Incomplete != 2 || got.Samples != 102 || got.Expected != 102 || len(got.Gaps) != 0 {
		t.Errorf("%d incomplete of %d of %d, gaps %v", got.Incomplete, got.Samples, got.Expected, got.Gaps)
	}
}

// TestTheSuggestedPairNeverFlaps: at a constant load, from any size, the group goes
// one way and stays. The thresholds alone see to it, with no projection behind them.
func TestTheSuggestedPairNeverFlaps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := group()
		g.Min = rapid.IntRange(0, 5).Draw(rt, "min")
		g.Max = g.Min + rapid.IntRange(1, 6).Draw(rt, "more")
		g.High = float64(rapid.IntRange(10, 95).Draw(rt, "high")) / 100
		g.Low = float64(rapid.IntRange(1, 94).Draw(rt, "low")) / 100
		work := float64(rapid.IntRange(0, 1000*g.Max).Draw(rt, "work")) / 1000
		serving := max(1, int(math.Ceil(work)))
		h := history(phase{time.Hour, work / float64(serving), serving})
		r := suggest.Look(g, h, model)
		if r.Suggested == nil {
			rt.Fatalf("nothing is suggested: %q", r.Remarks)
		}
		g.High, g.Low = r.Suggested.High, r.Suggested.Low
		for n := max(1, g.Min); n <= g.Max; n++ {
			each := work / float64(n)
			if n < g.Max && each > g.High && work/float64(n+1) < g.Low {
				rt.Errorf("%.3f VMs: out from %d and in again, high %v low %v", work, n, g.High, g.Low)
			}
			if n > max(1, g.Min) && each < g.Low && work/float64(n-1) > g.High {
				rt.Errorf("%.3f VMs: in from %d and out again, high %v low %v", work, n, g.High, g.Low)
			}
			if work > float64(n) {
				continue // could not have been recorded at this size
			}
			if got := suggest.Run(g, history(phase{time.Hour, each, n}), model); got.ScaleOuts > 0 && got.ScaleIns > 0 {
				rt.Errorf("%.3f VMs from %d: %+v", work, n, got)
			}
		}
	})
}
