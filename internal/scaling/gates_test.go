package scaling_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Every gate that failed says what would change it, and compares numbers where it
// has some.
func TestAFailedGateSaysWhatWouldChangeIt(t *testing.T) {
	low := func(n int) *world { return serving(n).confirmed(scaling.Low, 180) }
	high := func(n int) *world { return serving(n).confirmed(scaling.High, 180) }
	state := func(f func(s *scaling.State)) func(*scaling.Input, *scaling.State) {
		return func(_ *scaling.Input, s *scaling.State) { f(s) }
	}
	const none = math.MaxFloat64
	tests := map[string]struct {
		w            *world
		gate         string
		change       string  // part of it
		value, bound float64 // none: there is none
		until        int     // 0: does not pass by itself
		detail       string  // part of it
	}{
		"no high names the threshold":                        {w: serving(2), gate: "scale_out/condition", change: "would scale-out once the alert says an average over 70 %", value: 0.1, bound: 0.7, detail: "high does not stand; average 10 % of 2, 0 missing"},
		"no low names the threshold":                         {w: serving(2), gate: "scale_in/condition", change: "would scale-in once the alert says an average under 20 %", value: 0.1, bound: 0.2},
		"one that is not warm is not in the average of high": {w: serving(2).reading("i1", 0.3).with(state(func(s *scaling.State) { s.Instance("i2").InServiceAt = at(181) })), gate: "scale_out/condition", change: "70 %", value: 0.3, bound: 0.7, detail: "of 1"},
		"one that is just warm is":                           {w: serving(2).reading("i1", 0.3).with(state(func(s *scaling.State) { s.Instance("i2").InServiceAt = at(180) })), gate: "scale_out/condition", change: "70 %", value: 0.2, bound: 0.7, detail: "of 2"},
		"one that boots is in no average":                    {w: serving(2).state("i2", scaling.StateBooting), gate: "scale_in/condition", change: "20 %", value: 0.1, bound: 0.2, detail: "of 1"},
		"a missing reading is 0 on the way up":               {w: serving(2).reading("i1", math.NaN()).reading("i2", 0.6), gate: "scale_out/condition", change: "70 %", value: 0.3, bound: 0.7, detail: "1 missing"},
		"a missing reading is 1 on the way down":             {w: serving(2).reading("i1", math.NaN()).reading("i2", 0.6), gate: "scale_in/condition", change: "20 %", value: 0.8, bound: 0.2, detail: "1 missing"},
		"a reading over 1 counts as 1":                       {w: serving(1).reading("i1", 7), gate: "scale_in/condition", change: "20 %", value: 1, bound: 0.2},
		"a reading under 0 counts as 0":                      {w: serving(1).reading("i1", -7), gate: "scale_in/condition", change: "20 %", value: 0, bound: 0.2},
		"a reading just inside the window is fresh": {w: serving(1).with(func(in *scaling.Input, _ *scaling.State) {
			in.Lookup.Readings["ui1"] = scaling.Reading{Utilization: 0.5, At: at(170)}
		}), gate: "scale_in/condition", change: "20 %", value: 0.5, bound: 0.2, detail: "0 missing"},
		"a reading just outside it is stale": {w: serving(1).with(func(in *scaling.Input, _ *scaling.State) {
			in.Lookup.Readings["ui1"] = scaling.Reading{Utilization: 0.5, At: at(170).Add(-1)}
		}), gate: "scale_in/condition", change: "20 %", value: 1, bound: 0.2, detail: "1 missing"},
		"a reading a little ahead of the clock counts": {w: serving(1).with(func(in *scaling.Input, _ *scaling.State) {
			in.Lookup.Readings["ui1"] = scaling.Reading{Utilization: 0.5, At: at(210)}
		}), gate: "scale_in/condition", change: "20 %", value: 0.5, bound: 0.2},
		"a reading far ahead of the clock is missing": {w: serving(1).with(func(in *scaling.Input, _ *scaling.State) {
			in.Lookup.Readings["ui1"] = scaling.Reading{Utilization: 0.5, At: at(210).Add(1)}
		}), gate: "scale_in/condition", change: "20 %", value: 1, bound: 0.2},
		"an instance without a uuid has no reading": {w: serving(1).with(func(in *scaling.Input, s *scaling.State) {
			s.Instances[0].UUID = ""
			in.Lookup.Readings[""] = scaling.Reading{Utilization: 0.5, At: at(199)}
		}), gate: "scale_in/condition", change: "20 %", value: 1, bound: 0.2},
		"nobody in service has no average":   {w: serving(1).state("i1", scaling.StateStandby).set(func(g *scaling.Group) { g.Min = 0 }), gate: "scale_out/condition", change: "70 %", value: none, detail: "high does not stand"},
		"a cooldown tells when it ends":      {w: high(1).with(state(func(s *scaling.State) { s.CooldownUntil = at(241) })), gate: "scale_out/cooldown", change: "cooldown ends in 41s", value: none, until: 241},
		"a short time is told to the tenth":  {w: high(1).with(state(func(s *scaling.State) { s.CooldownUntil = at(202).Add(340 * time.Millisecond) })), gate: "scale_out/cooldown", change: "ends in 2.3s", value: none, until: -1},
		"ten seconds are told to the second": {w: high(1).with(state(func(s *scaling.State) { s.CooldownUntil = at(210).Add(340 * time.Millisecond) })), gate: "scale_out/cooldown", change: "ends in 10s", value: none, until: -1},
		"a hold time tells when it is over":  {w: high(1).set(func(g *scaling.Group) { g.HighHold = 2 * time.Minute }), gate: "scale_out/hold", change: "ends in 20s", value: none, until: 220},
		"a hold time of low too":             {w: low(2).set(func(g *scaling.Group) { g.LowHold = 2 * time.Minute }), gate: "scale_in/hold", change: "ends in 20s", value: none, until: 220},
		"a back-off tells after how many":    {w: high(1).with(state(func(s *scaling.State) { s.Failures, s.BackoffUntil = 3, at(205) })), gate: "scale_out/backoff", change: "3 failed launches in a row ends in 5s", value: none, until: 205},
		"a pause without an end":             {w: high(1).with(state(func(s *scaling.State) { s.Pause = &scaling.Pause{Out: true} })), gate: "scale_out/pause", change: "resume the group", value: none, detail: "paused by somebody: no reason given"},
		"a pause tells by whom and why":      {w: high(1).with(state(func(s *scaling.State) { s.Pause = &scaling.Pause{Out: true, By: "ops", Reason: "disks"} })), gate: "scale_out/pause", change: "resume", value: none, detail: "paused by ops: disks"},
		"a pause with an end":                {w: high(1).with(state(func(s *scaling.State) { s.Pause = &scaling.Pause{Out: true, By: "ops", Until: at(230)} })), gate: "scale_out/pause", change: "the pause by ops ends in 30s", value: none, until: 230},
		"a hold of a manual action":          {w: high(1).with(state(func(s *scaling.State) { s.HoldUntil = at(230) })), gate: "scale_out/pause", change: "the hold of a manual action ends in 30s", value: none, until: 230},
		"a maintenance window": {w: high(1).with(func(in *scaling.Input, _ *scaling.State) {
			in.Maintenance = &scaling.Maintenance{Name: "night", Out: true, Until: at(230)}
		}), gate: "scale_out/pause", change: "the maintenance window night ends in 30s", value: none, until: 230},
		"max":       {w: high(3), gate: "scale_out/bounds", change: "a larger max", value: 3, bound: 3},
		"the limit": {w: high(3).state("i3", scaling.StateFailed).with(func(in *scaling.Input, _ *scaling.State) { in.Orphans = 1 }), gate: "scale_out/limit", change: "fewer owned", value: 5, bound: 3, detail: "4 owned in whatever state (1 of them orphans), at most 3 (max 3 and surge 0)"},
		"the budget of creations": {w: high(1).with(func(in *scaling.Input, s *scaling.State) {
			in.Group.CreationsPerHour, s.Creations = 2, []time.Time{at(-100), at(-3000), at(-5000)}
		}), gate: "scale_out/budget", change: "the oldest of the hour is out of the budget in 6m40s", value: 3, bound: 2, until: 600},
		"the budget of removals": {w: low(2).with(func(in *scaling.Input, s *scaling.State) {
			in.Group.RemovalsPerHour, s.Removals = 1, []time.Time{at(-100)}
		}), gate: "scale_in/budget", change: "in 55m0s", value: 2, bound: 1, until: 3500},
		"an hour old is out of the budget's reckoning": {w: high(1).with(func(in *scaling.Input, s *scaling.State) {
			in.Group.CreationsPerHour, s.Creations = 1, []time.Time{at(-3400), at(-3399)}
		}), gate: "scale_out/budget", change: "in 1s", value: 2, bound: 1, until: 201},
		"launches under way":                  {w: high(2).state("i2", scaling.StateCreating), gate: "scale_out/activity", change: "the end of the launches under way", value: 1, bound: 0},
		"launches and removals under way":     {w: low(3).state("i2", scaling.StateRequested).state("i3", scaling.StateDraining), gate: "scale_in/activity", change: "the end of what is under way", value: 2, bound: 0},
		"min":                                 {w: low(1), gate: "scale_in/bounds", change: "2 in service of which 1 stay healthy", value: 0, bound: 1, detail: "1 in service, 0 healthy ones would be left; min is 1"},
		"min 0 still leaves one that answers": {w: low(2).unwell(0, "i1").set(func(g *scaling.Group) { g.Min, g.Victim = 0, scaling.VictimNewest }).with(state(func(s *scaling.State) { s.Instance("i1").Protected = true })), gate: "scale_in/bounds", change: "2 in service of which 1", value: 0, bound: 1},
		"a projection over high":              {w: low(2).reading("i1", 0.4).reading("i2", 0.5), gate: "scale_in/projection", change: "projection 0.90 ≥ 0.70: would pass under an average of 35 %", value: 0.9, bound: 0.7},
		"a projection at high":                {w: low(2).reading("i1", 0.5).reading("i2", 0.25).set(func(g *scaling.Group) { g.High = 0.75 }), gate: "scale_in/projection", change: "projection 0.75 ≥ 0.75", value: 0.75, bound: 0.75},
		"the last one without a reading":      {w: low(1).reading("i1", math.NaN()).set(func(g *scaling.Group) { g.Min = 0 }), gate: "scale_in/projection", change: "a reading of the last one", value: none},
		"a contradiction":                     {w: low(2).lease(scaling.High, 100), gate: "scale_in/contradiction", change: "the end of high", value: none, detail: "high stands too"},
		"a contradiction by a source":         {w: low(2).says("alertmanager", scaling.High, scaling.EvidenceFiring, 180), gate: "scale_in/contradiction", change: "the end of high", value: none, detail: "alertmanager says that high is firing"},
		"a mode":                              {w: low(2).set(func(g *scaling.Group) { g.Mode = scaling.ModeScaleOutOnly }), gate: "scale_in/mode", change: "mode: full", value: none},
		"what was not read yet":               {w: low(2).with(func(in *scaling.Input, _ *scaling.State) { in.Known = scaling.Known{Pool: true} }), gate: "scale_in/started", change: "a complete listing, an observation of the pool and an answer of each source", value: none, detail: "provider false, pool true, signals false"},
		"a provider not listed yet":           {w: serving(1).set(func(g *scaling.Group) { g.Min, g.Provider = 2, "host1" }).with(func(in *scaling.Input, _ *scaling.State) { in.Known.Listing = false }), gate: "fill/started", change: `the first complete listing of provider "host1"`, value: none, detail: "was not yet listed"},
		"a silence":                           {w: high(1).says("alertmanager", scaling.High, scaling.EvidenceSuppressed, 180), gate: "scale_out/suppressed", change: "the end of the silence", value: none},
		"evidence that is too old":            {w: serving(1).lease(scaling.High, 10).says("prometheus", scaling.High, scaling.EvidenceFiring, settle).says("alertmanager", scaling.High, scaling.EvidenceFiring, 20), gate: "scale_out/confirmation", change: "evidence past 12:00:55.000Z", value: none, detail: "must be past 12:00:55.000Z (end of the last action and settle 55s)"},
		"evidence that was used":              {w: high(1).with(state(func(s *scaling.State) { s.Consumed[scaling.High] = at(185) })), gate: "scale_out/confirmation", change: "evidence past 12:03:05.000Z", value: none, detail: "prometheus has no newer evidence than the one used at 12:03:05.000Z"},
		"evidence ahead of the clock":         {w: serving(2).lease(scaling.Low, 100).says("prometheus", scaling.Low, scaling.EvidenceFiring, 211).says("alertmanager", scaling.Low, scaling.EvidenceFiring, 180), gate: "scale_in/confirmation", change: "evidence past", value: none, detail: "one of the clocks is wrong"},
		"a source that was not asked":         {w: serving(2).lease(scaling.Low, 100).with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked = nil }), gate: "scale_in/confirmation", change: "evidence past", value: none, detail: "prometheus was not asked yet; alertmanager was not asked yet"},
		"a source that is unreachable":        {w: serving(2).lease(scaling.Low, 100).says("prometheus", scaling.Low, scaling.EvidenceUnreachable, 0), gate: "scale_in/confirmation", change: "evidence past", value: none, detail: "prometheus is unreachable (why); alertmanager does not know it as firing"},
		"no source at all":                    {w: serving(2).lease(scaling.Low, 100).set(func(g *scaling.Group) { g.Confirm = nil }), gate: "scale_in/confirmation", change: "evidence past", value: none, detail: "no source is configured that could confirm it"},
		"what was heard before the start":     {w: serving(1).lease(scaling.High, 100).with(func(in *scaling.Input, _ *scaling.State) { in.Since, in.Lookup.Asked = at(191), nil }), gate: "scale_out/heard", change: "a notification, or a source that says that it is firing", value: none, detail: "12:03:10.000Z, before the start or the setting of the clock at 12:03:11.000Z; no source says"},
		"a grace time":                        {w: serving(2).unwell(171, "i2"), gate: "replace/grace", change: "ends in 1s", value: none, until: 201, detail: "the grace time of web-2, which is unknown (its checks fail) until 12:03:21.000Z"},
		"a brake":                             {w: serving(3).unwell(100, "i2", "i3"), gate: "replace/brake", change: "at most 1 unwell at once, or an order for each", value: 2, bound: 1, detail: "2 of 3 in service are unwell; more than 1 at once"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v := tt.w.decide()
			g, ok := gate(v, tt.gate)
			if !ok || g.Passed {
				t.Fatalf("gate %s: asked %t, passed %t; %+v", tt.gate, ok, g.Passed, v.Gates)
			}
			if !strings.Contains(g.Change, tt.change) {
				t.Errorf("change %q, want %q in it", g.Change, tt.change)
			}
			if !strings.Contains(g.Detail, tt.detail) {
				t.Errorf("detail %q, want %q in it", g.Detail, tt.detail)
			}
			number(t, "value", g.Value, tt.value)
			if tt.value == none {
				tt.bound = none
			}
			number(t, "bound", g.Bound, tt.bound)
			switch {
			case tt.until == 0 && !g.Until.IsZero():
				t.Errorf("until %s, want none", g.Until)
			case tt.until > 0 && !g.Until.Equal(at(tt.until)):
				t.Errorf("until %s, want %s", g.Until, at(tt.until))
			}
		})
	}
}

func number(t *testing.T, what string, got *float64, want float64) {
	t.Helper()
	switch {
	case want == math.MaxFloat64:
		if got != nil {
			t.Errorf("%s %v, want none", what, *got)
		}
	case got == nil:
		t.Errorf("no %s, want %v", what, want)
	case math.Abs(*got-want) > 1e-9:
		t.Errorf("%s %v, want %v", what, *got, want)
	}
}

// What is true of the gates of every verdict.
func checkGates(v scaling.Verdict, now time.Time) error {
	for _, g := range v.Gates {
		switch {
		case g.Name == "" || g.Detail == "" || g.Action == "":
			return fmt.Errorf("a gate without its name, action or detail: %+v", g)
		case g.Passed && (g.Change != "" || !g.Until.IsZero()):
			return fmt.Errorf("a gate that passed names what would change it: %+v", g)
		case !g.Passed && g.Change == "" && v.OrderRefused == "" && g.Name != "victim":
			return fmt.Errorf("a gate that failed does not say what would change it: %+v", g)
		case (g.Value == nil) != (g.Bound == nil):
			return fmt.Errorf("a number without the one it is held against: %+v", g)
		case !g.Until.IsZero() && !g.Until.After(now):
			return fmt.Errorf("a gate passes by itself at a time that is over: %+v", g)
		}
	}
	if v.Reason == "" {
		return fmt.Errorf("a verdict without a reason: %+v", v)
	}
	return nil
}

func TestAVerdictSaysWhy(t *testing.T) {
	low := func(n int) *world { return serving(n).confirmed(scaling.Low, 180) }
	tests := map[string]struct {
		w    *world
		want string
	}{
		"quiet":                              {serving(2), "no signal stands"},
		"high at max":                        {serving(3).confirmed(scaling.High, 180), "no scale-out although high stands: bounds: 3 of at most 3 instances"},
		"low at min":                         {low(1), "no scale-in although low stands: bounds: 1 in service"},
		"high before low":                    {low(3).confirmed(scaling.High, 180), "no scale-out although high stands"},
		"a fill that waits":                  {serving(1).set(func(g *scaling.Group) { g.Min = 2 }).with(func(_ *scaling.Input, s *scaling.State) { s.BackoffUntil = at(201) }), "no fill: backoff"},
		"a replacement that waits":           {serving(2).unwell(171, "i2"), "no replace: grace"},
		"a launch":                           {serving(1).confirmed(scaling.High, 180), "launch 1: high stands, confirmed by prometheus"},
		"a removal":                          {low(2), "remove web-2 since low stands, confirmed by prometheus"},
		"a removal of the primary":           {low(2).set(func(g *scaling.Group) { g.Victim = scaling.VictimOldest }), "hand web-1 over to web-2 since low stands, confirmed by prometheus"},
		"a shrink":                           {serving(3).set(func(g *scaling.Group) { g.Max = 2 }), "remove web-3 since max is 2"},
		"a fill":                             {serving(1).set(func(g *scaling.Group) { g.Min = 2 }), "launch 1 to fill the group up to 2 (min 2)"},
		"a replacement":                      {serving(2).unwell(100, "i2"), "replace web-2: its checks fail since 12:01:40.000Z"},
		"an adoption":                        {serving(1).set(func(g *scaling.Group) { g.Adopt = []string{"vm-test"} }), "adopt vm-test"},
		"a drain that is cancelled":          {serving(3).drains("i3").confirmed(scaling.High, 180), "put web-3 back into service: high is confirmed"},
		"an order to launch":                 {serving(1).order(scaling.OrderScaleOut, 2, ""), "launch 2 by order"},
		"an order to remove":                 {serving(2).order(scaling.OrderScaleIn, 1, ""), "remove web-2 by order"},
		"an order to hand over":              {serving(2).order(scaling.OrderHandover, 0, ""), "hand web-1 over to a new instance by order"},
		"an order to hand over at the limit": {serving(3).order(scaling.OrderHandover, 0, ""), "hand web-1 over to web-2 by order"},
		"an order that is refused":           {serving(1).order(scaling.OrderScaleIn, 1, ""), "order refused: bounds: 1 in service"},
		"an order that waited too long":      {serving(1).order(scaling.OrderScaleIn, 1, "").with(func(_ *scaling.Input, s *scaling.State) { s.Orders[0].At = at(-3500) }), "order scale_in could not be followed within 1h0m0s"},
		"an order that is followed already":  {serving(2).order(scaling.OrderSetDesired, 2, ""), "the group has 2 instances as ordered"},
		"what only would be done":            {serving(1).confirmed(scaling.High, 180).set(func(g *scaling.Group) { g.Mode = scaling.ModeObserve }), "would launch 1: high stands"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v := tt.w.decide()
			if !strings.HasPrefix(v.Reason, tt.want) {
				t.Errorf("reason %q, want %q", v.Reason, tt.want)
			}
			if v.Group != "web" || !v.At.Equal(at(200)) {
				t.Errorf("group %q at %s", v.Group, v.At)
			}
			if err := checkGates(v, at(200)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStatuses(t *testing.T) {
	state := func(f func(s *scaling.State)) func(*scaling.Input, *scaling.State) {
		return func(_ *scaling.Input, s *scaling.State) { f(s) }
	}
	tests := map[string]struct {
		w    *world
		want string
	}{
		"between min and max":           {serving(2), "[]"},
		"at min":                        {serving(1), "[at_min]"},
		"at max":                        {serving(3), "[at_max]"},
		"over max":                      {serving(3).set(func(g *scaling.Group) { g.Max = 2 }), "[at_max]"},
		"under min":                     {serving(1).set(func(g *scaling.Group) { g.Min = 2 }), "[at_min]"},
		"paused":                        {serving(2).with(state(func(s *scaling.State) { s.Pause = &scaling.Pause{Out: true} })), "[paused]"},
		"paused until later":            {serving(2).with(state(func(s *scaling.State) { s.Pause = &scaling.Pause{Until: at(201)} })), "[paused]"},
		"a pause that is over":          {serving(2).with(state(func(s *scaling.State) { s.Pause = &scaling.Pause{Until: at(200)} })), "[]"},
		"held":                          {serving(2).with(state(func(s *scaling.State) { s.HoldUntil = at(201) })), "[paused]"},
		"a hold that is over":           {serving(2).with(state(func(s *scaling.State) { s.HoldUntil = at(200) })), "[]"},
		"maintenance":                   {serving(2).with(func(in *scaling.Input, _ *scaling.State) { in.Maintenance = &scaling.Maintenance{} }), "[paused]"},
		"no room":                       {serving(2).with(func(in *scaling.Input, _ *scaling.State) { in.NoCapacity = "full" }), "[no_capacity]"},
		"a failed launch":               {serving(2).with(state(func(s *scaling.State) { s.Failures = 1 })), "[degraded]"},
		"an instance that failed to go": {serving(3).state("i3", scaling.StateFailed), "[degraded]"},
		"an orphan":                     {serving(2).with(func(in *scaling.Input, _ *scaling.State) { in.Orphans = 1 }), "[degraded]"},
		"one unwell":                    {serving(2).unwell(190, "i2"), "[degraded]"},
		"observe":                       {serving(2).set(func(g *scaling.Group) { g.Mode = scaling.ModeObserve }), "[observe]"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := fmt.Sprint(tt.w.decide().Statuses); got != tt.want {
				t.Errorf("statuses %s, want %s", got, tt.want)
			}
		})
	}
}
