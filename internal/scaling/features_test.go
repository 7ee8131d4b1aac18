package scaling_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/scaling"
)

// unwell lets instances be unwell since a second each; 0 means that it was not
// written down yet.
func (w *world) unwell(since int, ids ...string) *world {
	if w.in.Unhealthy == nil {
		w.in.Unhealthy = map[string]string{}
	}
	w.in.Group.Grace, w.in.Group.MaxUnhealthy = 30*time.Second, 0.5
	for _, id := range ids {
		w.in.Unhealthy[id] = "its checks fail"
		if since != 0 {
			i := w.st.Instance(id)
			i.Suspect, i.SuspectSince = "its checks fail", at(since)
		}
	}
	return w
}

func (w *world) decide() scaling.Verdict {
	w.in.State = &w.st
	return scaling.Decide(w.in)
}

// act decides and begins at a second.
func (w *world) act(sec int, ids scaling.IDs) scaling.Verdict {
	w.in.Now = at(sec)
	return begin(w, ids)
}

// launched brings every launch under way into service at a second.
func (w *world) launched(sec int) {
	for _, i := range w.st.Clone().Instances {
		if i.State.Launching() {
			w.st.Enter(i.ID, scaling.StateJoining, time.Time{}, at(sec))
			w.st.InService(i.ID, w.in.Group, at(sec))
		}
	}
}

func (w *world) set(f func(g *scaling.Group)) *world {
	f(&w.in.Group)
	return w
}

func gate(v scaling.Verdict, name string) (scaling.Gate, bool) {
	for _, g := range v.Gates {
		if string(g.Action)+"/"+g.Name == name {
			return g, true
		}
	}
	return scaling.Gate{}, false
}

func TestWhatIsUnwellIsReplaced(t *testing.T) {
	tests := map[string]struct {
		w    *world
		want wanted
	}{
		"an instance that is unwell for the grace time is replaced": {serving(2).unwell(170, "i2"), wanted{action: scaling.ActionReplace, victim: "i2"}},
		"one that is unwell for less is unknown and not dead":       {serving(2).unwell(171, "i2"), wanted{failed: "replace/grace"}},
		"one that is unwell and was not written down as such waits": {serving(2).unwell(0, "i2"), wanted{}},
		"one that was unwell and is well again is left alone":       {serving(2).unwell(100, "i2").with(func(in *scaling.Input, _ *scaling.State) { in.Unhealthy = nil }), wanted{}},
		"a grace time of 0 means never":                             {serving(2).unwell(100, "i2").set(func(g *scaling.Group) { g.Grace = 0 }), wanted{}},
		"the one that is unwell for longest goes first":             {serving(3).unwell(120, "i3").unwell(150, "i1").set(func(g *scaling.Group) { g.MaxUnhealthy = 1 }), wanted{action: scaling.ActionReplace, victim: "i3"}},
		"the only instance is replaced, since one always may be":    {serving(1).unwell(100, "i1"), wanted{action: scaling.ActionReplace, victim: "i1"}},
		"one always may be replaced, however small the part":        {serving(3).unwell(100, "i2").set(func(g *scaling.Group) { g.MaxUnhealthy = 0.01 }), wanted{action: scaling.ActionReplace, victim: "i2"}},
		"too many that are unwell at once put the brake on":         {serving(3).unwell(100, "i2", "i3"), wanted{failed: "replace/brake"}},
		"as many as the part allows do not":                         {serving(4).unwell(100, "i2", "i3").set(func(g *scaling.Group) { g.Max = 4 }), wanted{action: scaling.ActionReplace, victim: "i2"}},
		"all unwell put the brake on":                               {serving(2).unwell(100, "i1", "i2"), wanted{failed: "replace/brake"}},
		"those in standby do not count for the brake":               {serving(3).unwell(100, "i2", "i3").state("i1", scaling.StateStandby), wanted{failed: "replace/brake"}},
		"a protected instance is never replaced":                    {serving(2).unwell(100, "i2").with(func(_ *scaling.Input, s *scaling.State) { s.Instance("i2").Protected = true }), wanted{}},
		"a protected one still counts for the brake":                {serving(3).unwell(100, "i2", "i3").with(func(_ *scaling.Input, s *scaling.State) { s.Instance("i2").Protected = true }), wanted{failed: "replace/brake"}},
		"one that drains already is not replaced":                   {serving(2).unwell(100, "i2").state("i2", scaling.StateDraining), wanted{}},
		"scale_out_only replaces nothing":                           {serving(2).unwell(100, "i2").set(func(g *scaling.Group) { g.Mode = scaling.ModeScaleOutOnly }), wanted{failed: "replace/mode"}},
		"a group that observes does not even ask":                   {serving(2).unwell(100, "i2").set(func(g *scaling.Group) { g.Mode = scaling.ModeObserve }), wanted{}},
		"a pause of the direction in replaces nothing":              {serving(2).unwell(100, "i2").with(func(_ *scaling.Input, s *scaling.State) { s.Pause = &scaling.Pause{In: true} }), wanted{failed: "replace/pause"}},
		"a pause of the direction out lets it pass":                 {serving(2).unwell(100, "i2").with(func(_ *scaling.Input, s *scaling.State) { s.Pause = &scaling.Pause{Out: true} }), wanted{action: scaling.ActionReplace, victim: "i2"}},
		"a hold of a manual action replaces nothing":                {serving(2).unwell(100, "i2").with(func(_ *scaling.Input, s *scaling.State) { s.HoldUntil = at(201) }), wanted{failed: "replace/pause"}},
		"nothing is replaced before the provider was listed":        {serving(2).unwell(100, "i2").with(func(in *scaling.Input, _ *scaling.State) { in.Known.Listing = false }), wanted{failed: "replace/started"}},
		"nothing is replaced before the pool was observed":          {serving(2).unwell(100, "i2").with(func(in *scaling.Input, _ *scaling.State) { in.Known.Pool = false }), wanted{failed: "replace/started"}},
		"nothing is replaced before every source was asked":         {serving(2).unwell(100, "i2").with(func(in *scaling.Input, _ *scaling.State) { in.Known.Signals = false }), wanted{failed: "replace/started"}},
		"the removal budget stops a replacement": {serving(2).unwell(100, "i2").with(func(in *scaling.Input, s *scaling.State) {
			in.Group.RemovalsPerHour, s.Removals = 1, []time.Time{at(10)}
		}), wanted{failed: "replace/budget"}},
		"a cooldown does not stop a replacement": {serving(2).unwell(100, "i2").with(func(_ *scaling.Input, s *scaling.State) { s.CooldownUntil = at(900) }), wanted{action: scaling.ActionReplace, victim: "i2"}},
		"a maintenance window of the direction in replaces nothing": {serving(2).unwell(100, "i2").with(func(in *scaling.Input, _ *scaling.State) {
			in.Maintenance = &scaling.Maintenance{Name: "night", In: true, Until: at(900)}
		}), wanted{failed: "replace/pause"}},
		"a maintenance window of the direction out lets a replacement pass": {serving(2).unwell(100, "i2").with(func(in *scaling.Input, _ *scaling.State) {
			in.Maintenance = &scaling.Maintenance{Name: "night", Out: true, Until: at(900)}
		}), wanted{action: scaling.ActionReplace, victim: "i2"}},
		"what is unwell is replaced before a high that stands is followed": {serving(2).unwell(100, "i2").confirmed(scaling.High, 180), wanted{action: scaling.ActionReplace, victim: "i2"}},
		"an order is followed before what is unwell is replaced":           {serving(2).unwell(100, "i2").order(scaling.OrderScaleOut, 1, ""), wanted{action: scaling.ActionScaleOut, count: 1}},
	}
	runDecisions(t, tests)
}

func runDecisions(t *testing.T, tests map[string]struct {
	w    *world
	want wanted
},
) {
	t.Helper()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v := tt.w.decide()
			want := tt.want
			if want.action == "" {
				want.action = scaling.ActionNone
			}
			want.failed, want.refused = "", ""
			got := wanted{action: v.Action, count: v.Count, victim: v.Victim, heir: v.Successor, source: v.Cause.Source, would: v.Would}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(wanted{})); diff != "" {
				t.Errorf("verdict (-want +got):\n%s\nreason: %s\ngates: %+v", diff, v.Reason, v.Gates)
			}
			if tt.want.failed != "" && !hasFailed(v, tt.want.failed) {
				t.Errorf("gate %s did not fail; gates: %+v", tt.want.failed, v.Gates)
			}
			if !strings.Contains(v.OrderRefused, tt.want.refused) || (tt.want.refused == "") != (v.OrderRefused == "") {
				t.Errorf("order refused with %q, want %q", v.OrderRefused, tt.want.refused)
			}
		})
	}
}

func TestMaintenanceClocksAndOrphans(t *testing.T) {
	window := func(out, in bool) func(*scaling.Input, *scaling.State) {
		return func(i *scaling.Input, _ *scaling.State) {
			i.Maintenance = &scaling.Maintenance{Name: "night", Out: out, In: in, Until: at(241)}
		}
	}
	since := func(sec int) func(*scaling.Input, *scaling.State) {
		return func(i *scaling.Input, _ *scaling.State) { i.Since = at(sec) }
	}
	high := func(n int) *world { return serving(n).confirmed(scaling.High, 180) }
	low := func(n int) *world { return serving(n).confirmed(scaling.Low, 180) }
	ahead := int(scaling.MaxSkew / time.Second)
	// confirmedBy has the evidence of prometheus at another second than Alertmanager's.
	confirmedBy := func(n int, sig scaling.Signal, prometheus int) *world {
		return serving(n).lease(sig, 100).says("prometheus", sig, scaling.EvidenceFiring, prometheus).says("alertmanager", sig, scaling.EvidenceFiring, 180)
	}
	out := wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus"}
	in := wanted{action: scaling.ActionScaleIn, victim: "i2", source: "prometheus"}
	orphans := func(n, surge int) func(*scaling.Input, *scaling.State) {
		return func(i *scaling.Input, _ *scaling.State) { i.Orphans, i.Group.Surge = n, surge }
	}
	runDecisions(t, map[string]struct {
		w    *world
		want wanted
	}{
		"a window of the direction out holds a scale-out":                       {high(1).with(window(true, false)), wanted{failed: "scale_out/pause"}},
		"a window of the direction in lets a scale-out pass":                    {high(1).with(window(false, true)), out},
		"a window of the direction in holds a scale-in":                         {low(2).with(window(false, true)), wanted{failed: "scale_in/pause"}},
		"a window of the direction out lets a scale-in pass":                    {low(2).with(window(true, false)), in},
		"a window of the direction out holds filling":                           {serving(1).set(func(g *scaling.Group) { g.Min = 2 }).with(window(true, false)), wanted{failed: "fill/pause"}},
		"a window of the direction out holds an adoption":                       {serving(1).set(func(g *scaling.Group) { g.Adopt = []string{"vm-test"} }).with(window(true, false)), wanted{failed: "adopt/pause"}},
		"a window holds a shrink down to a lowered max":                         {serving(3).set(func(g *scaling.Group) { g.Max = 2 }).with(window(false, true)), wanted{failed: "scale_in/pause"}},
		"a window holds no order":                                               {serving(2).order(scaling.OrderScaleIn, 1, "").with(window(true, true)), wanted{action: scaling.ActionScaleIn, victim: "i2"}},
		"a window does not keep a confirmed high from ending a drain":           {serving(3).drains("i3").confirmed(scaling.High, 180).with(window(true, true)), wanted{action: scaling.ActionCancelDrain, victim: "i3", source: "prometheus"}},
		"a hold counts before the window":                                       {high(1).with(window(true, true)).with(func(_ *scaling.Input, s *scaling.State) { s.HoldUntil = at(201) }), wanted{failed: "scale_out/pause"}},
		"high evidence a little ahead of the clock counts":                      {confirmedBy(1, scaling.High, 200+ahead), out},
		"low evidence a little ahead of the clock counts":                       {confirmedBy(2, scaling.Low, 200+ahead), in},
		"high evidence far ahead of the clock counts for nothing":               {serving(1).lease(scaling.High, -10).says("prometheus", scaling.High, scaling.EvidenceFiring, 201+ahead).says("alertmanager", scaling.High, scaling.EvidenceUnreachable, 0), wanted{failed: "scale_out/confirmation"}},
		"low evidence far ahead of the clock removes nothing":                   {confirmedBy(2, scaling.Low, 201+ahead), wanted{failed: "scale_in/confirmation"}},
		"one source far ahead of the clock is enough to remove nothing":         {serving(2).lease(scaling.Low, 100).says("prometheus", scaling.Low, scaling.EvidenceFiring, 180).says("alertmanager", scaling.Low, scaling.EvidenceFiring, 201+ahead), wanted{failed: "scale_in/confirmation"}},
		"a high heard only before the start is unknown":                         {serving(1).lease(scaling.High, 100).with(since(191)).with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked = nil }), wanted{failed: "scale_out/heard"}},
		"a high heard before the start counts once a source says that it fires": {high(1).with(since(191)), out},
		"a high heard at the start is heard":                                    {serving(1).lease(scaling.High, 100).with(since(190)).with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked = nil }), wanted{action: scaling.ActionScaleOut, count: 1, source: "notification"}},
		"a low heard only before the start is unknown":                          {serving(2).lease(scaling.Low, 100).says("alertmanager", scaling.Low, scaling.EvidenceAbsent, 180).with(since(191)), wanted{failed: "scale_in/heard"}},
		"a low heard before the start counts once a source says that it fires":  {low(2).with(since(191)), in},
		"a high heard only before the start cancels no drain":                   {serving(3).drains("i3").lease(scaling.High, 160).with(since(191)).with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked = nil }), wanted{failed: "cancel_drain/heard"}},
		"a high heard only before the start still keeps low from removing":      {low(2).lease(scaling.High, 100).with(since(191)), wanted{failed: "scale_in/contradiction"}},
		"an orphan counts against the limit of a scale-out":                     {high(2).with(orphans(1, 0)), wanted{failed: "scale_out/limit"}},
		"an orphan under the limit stops nothing":                               {high(2).with(orphans(1, 1)), out},
		"an orphan counts against the limit of filling":                         {serving(1).set(func(g *scaling.Group) { g.Min = 2 }).with(orphans(2, 0)), wanted{failed: "fill/limit"}},
		"filling leaves room for the orphans":                                   {serving(1).set(func(g *scaling.Group) { g.Min = 3 }).with(orphans(1, 0)), wanted{action: scaling.ActionFill, count: 1}},
		"an orphan counts against the limit of an adoption":                     {serving(2).set(func(g *scaling.Group) { g.Adopt = []string{"vm-test"} }).with(orphans(1, 0)), wanted{failed: "adopt/limit"}},
		"an orphan counts against the limit of an order":                        {serving(2).order(scaling.OrderScaleOut, 1, "").with(orphans(1, 0)), wanted{refused: "3 owned of at most 3"}},
		"an order launches what fits beside the orphans":                        {serving(1).order(scaling.OrderScaleOut, 2, "").with(orphans(1, 0)), wanted{action: scaling.ActionScaleOut, count: 1, refused: "1 of 2"}},
		"with an orphan at the limit a handover uses an instance in service":    {serving(2).order(scaling.OrderHandover, 0, "").with(orphans(1, 0)), wanted{action: scaling.ActionHandover, victim: "i1", heir: "i2"}},
		"with room beside the orphan a handover launches":                       {serving(2).order(scaling.OrderHandover, 0, "").with(orphans(1, 1)), wanted{action: scaling.ActionHandover, victim: "i1", count: 1}},
		"an order to hand over waits until everything was read":                 {serving(2).order(scaling.OrderHandover, 0, "").with(func(in *scaling.Input, _ *scaling.State) { in.Known.Listing = false }), wanted{}},
		"an order to hand over waits for a launch":                              {serving(2).state("i2", scaling.StateBooting).order(scaling.OrderHandover, 0, ""), wanted{}},
		"an order to hand over waits for a drain":                               {serving(2).state("i2", scaling.StateDraining).order(scaling.OrderHandover, 0, ""), wanted{}},
		"an order to remove waits for a launch":                                 {serving(2).state("i2", scaling.StateBooting).order(scaling.OrderScaleIn, 1, ""), wanted{}},
		"an order to remove waits for a drain":                                  {serving(3).state("i2", scaling.StateDraining).order(scaling.OrderScaleIn, 1, ""), wanted{}},
		"an order to hand over a protected instance is refused":                 {serving(2).order(scaling.OrderHandover, 0, "web-1").with(func(_ *scaling.Input, s *scaling.State) { s.Instance("i1").Protected = true }), wanted{refused: "protected"}},
		"an order to hand over respects the creation budget": {serving(1).order(scaling.OrderHandover, 0, "").with(func(in *scaling.Input, s *scaling.State) {
			in.Group.CreationsPerHour, s.Creations = 1, []time.Time{at(0)}
		}), wanted{refused: "1 creations in the last hour"}},
		"an order to hand over respects the removal budget": {serving(1).order(scaling.OrderHandover, 0, "").with(func(in *scaling.Input, s *scaling.State) {
			in.Group.RemovalsPerHour, s.Removals = 1, []time.Time{at(0)}
		}), wanted{refused: "1 removals in the last hour"}},
		"an order to launch two respects the creation budget as a whole": {serving(1).order(scaling.OrderScaleOut, 2, "").with(func(in *scaling.Input, s *scaling.State) {
			in.Group.CreationsPerHour, s.Creations = 2, []time.Time{at(0)}
		}), wanted{refused: "1 creations in the last hour"}},
		"an order of an unknown kind is refused":        {serving(1).order("dance", 1, ""), wanted{refused: "unknown kind"}},
		"an order that names nobody known is refused":   {serving(2).order(scaling.OrderScaleIn, 1, "web-9"), wanted{refused: `no instance "web-9"`}},
		"an order that names one that boots is refused": {serving(3).state("i2", scaling.StateFailed).order(scaling.OrderScaleIn, 1, "web-2"), wanted{refused: "web-2 is failed"}},
	})
}

func TestDesired(t *testing.T) {
	t.Run("what was lost is filled up to what is desired", func(t *testing.T) {
		ids := &seqIDs{}
		w := serving(3)
		w.st.Desired = 3
		w.state("i3", scaling.StateGone)
		if v := w.act(200, ids); v.Action != scaling.ActionFill || v.Count != 1 || w.st.Desired != 3 {
			t.Errorf("%s of %d, desired %d: %s", v.Action, v.Count, w.st.Desired, v.Reason)
		}
	})
	t.Run("what is desired never goes over a max that was lowered", func(t *testing.T) {
		w := serving(1)
		w.st.Desired, w.in.Group.Max = 3, 2
		if v := w.act(200, &seqIDs{}); v.Action != scaling.ActionFill || v.Count != 1 || w.st.Desired != 2 {
			t.Errorf("%s of %d, desired %d: %s", v.Action, v.Count, w.st.Desired, v.Reason)
		}
	})
	t.Run("filling stops at what is left of the creation budget", func(t *testing.T) {
		w := serving(1)
		w.st.Desired, w.in.Group.CreationsPerHour, w.st.Creations = 3, 2, []time.Time{at(0)}
		if v := w.act(200, &seqIDs{}); v.Action != scaling.ActionFill || v.Count != 1 {
			t.Errorf("%s of %d: %s", v.Action, v.Count, v.Reason)
		}
	})
	t.Run("without a budget filling is bounded by what is missing alone", func(t *testing.T) {
		w := serving(1)
		w.st.Desired, w.in.Group.CreationsPerHour, w.st.Creations = 3, 0, []time.Time{at(0), at(1), at(2)}
		if v := w.act(200, &seqIDs{}); v.Action != scaling.ActionFill || v.Count != 2 {
			t.Errorf("%s of %d: %s", v.Action, v.Count, v.Reason)
		}
	})
	t.Run("a replaced instance is filled up again, once it is gone or at once where there is room", func(t *testing.T) {
		for surge, rooms := range map[int]scaling.Action{0: scaling.ActionNone, 1: scaling.ActionFill} {
			w := serving(3).unwell(100, "i2")
			w.st.Desired, w.in.Group.Surge = 3, surge
			if v := w.act(200, &seqIDs{}); v.Action != scaling.ActionReplace || w.st.Desired != 3 {
				t.Fatalf("%s, desired %d", v.Action, w.st.Desired)
			}
			w.in.Unhealthy = nil
			if v := w.act(201, &seqIDs{}); v.Action != rooms {
				t.Errorf("surge %d: %s: %s", surge, v.Action, v.Reason)
			}
			w.st.Drained("i2", w.in.Group, at(202))
			w.st.Gone("i2", w.in.Group, "removed", at(203))
			if v := w.act(300, &seqIDs{}); (v.Action == scaling.ActionFill) != (surge == 0) {
				t.Errorf("surge %d, when it is gone: %s: %s", surge, v.Action, v.Reason)
			}
		}
	})
	t.Run("a scale-out that failed is not filled up again, a new evidence tries again", func(t *testing.T) {
		ids := &seqIDs{}
		w := serving(1).confirmed(scaling.High, 180)
		w.st.Desired = 1
		if v := w.act(200, ids); v.Action != scaling.ActionScaleOut || w.st.Desired != 2 {
			t.Fatalf("%s, desired %d", v.Action, w.st.Desired)
		}
		id := w.st.Instances[1].ID
		w.st.FailLaunch(id, "no room", w.in.Group, at(201))
		w.st.Gone(id, w.in.Group, "removed", at(202))
		if v := w.act(215, ids); v.Action != scaling.ActionNone || w.st.Desired != 1 {
			t.Errorf("on the same evidence: %s, desired %d: %s", v.Action, w.st.Desired, v.Reason)
		}
		w.in.Lookup.Evidence = nil
		w.says("prometheus", scaling.High, scaling.EvidenceFiring, 210).says("alertmanager", scaling.High, scaling.EvidenceFiring, 210)
		if v := w.act(216, ids); v.Action != scaling.ActionScaleOut {
			t.Errorf("on new evidence: %s: %s", v.Action, v.Reason)
		}
	})
	t.Run("a fill that failed is still wished", func(t *testing.T) {
		ids := &seqIDs{}
		w := serving(1)
		w.st.Desired = 2
		if v := w.act(200, ids); v.Action != scaling.ActionFill {
			t.Fatal(v.Reason)
		}
		id := w.st.Instances[1].ID
		w.st.FailLaunch(id, "no room", w.in.Group, at(201))
		w.st.Gone(id, w.in.Group, "removed", at(202))
		if v := w.act(205, ids); v.Action != scaling.ActionNone || !hasFailed(v, "fill/backoff") {
			t.Errorf("in the back-off: %s: %s", v.Action, v.Reason)
		}
		if v := w.act(211, ids); v.Action != scaling.ActionFill {
			t.Errorf("after it: %s: %s", v.Action, v.Reason)
		}
	})
	t.Run("an adoption that failed is wished no more", func(t *testing.T) {
		ids := &seqIDs{}
		w := serving(1).set(func(g *scaling.Group) { g.Adopt = []string{"vm-test"} })
		w.st.Desired = 1
		if v := w.act(200, ids); v.Action != scaling.ActionAdopt || w.st.Desired != 2 {
			t.Fatalf("%s, desired %d", v.Action, w.st.Desired)
		}
		w.st.FailLaunch(w.st.Instances[1].ID, "no such VM", w.in.Group, at(201))
		if w.st.Desired != 1 {
			t.Errorf("desired %d", w.st.Desired)
		}
	})
	t.Run("a handover to a launched successor leaves what is desired as it is", func(t *testing.T) {
		ids := &seqIDs{}
		w := serving(2).order(scaling.OrderHandover, 0, "")
		w.st.Desired = 2
		if v := w.act(200, ids); v.Action != scaling.ActionHandover || w.st.Desired != 2 {
			t.Fatalf("%s, desired %d", v.Action, w.st.Desired)
		}
		w.launched(210)
		w.st.Advance(w.in.Group, at(211))
		w.st.Drained("i1", w.in.Group, at(212))
		w.st.Gone("i1", w.in.Group, "removed", at(213))
		w.st.Advance(w.in.Group, at(213))
		if v := w.act(400, ids); w.st.Desired != 2 || v.Action != scaling.ActionNone || w.st.Count(scaling.StateInService) != 2 {
			t.Errorf("afterwards desired %d, %s, %d in service", w.st.Desired, v.Action, w.st.Count(scaling.StateInService))
		}
	})
	t.Run("a handover to one in service takes one away", func(t *testing.T) {
		w := serving(3).order(scaling.OrderHandover, 0, "")
		w.st.Desired = 3
		if v := w.act(200, &seqIDs{}); v.Successor != "i2" || w.st.Desired != 2 {
			t.Errorf("successor %s, desired %d", v.Successor, w.st.Desired)
		}
	})
	t.Run("set-desired to what is left of a loss is done, and nothing is filled up", func(t *testing.T) {
		ids := &seqIDs{}
		w := serving(3).state("i3", scaling.StateGone).order(scaling.OrderSetDesired, 2, "")
		w.st.Desired = 3
		if v := w.act(200, ids); v.Action != scaling.ActionNone || w.st.Desired != 2 || len(w.st.Orders) != 0 {
			t.Errorf("%s, desired %d, orders %v", v.Action, w.st.Desired, w.st.Orders)
		}
		if v := w.act(201, ids); v.Action != scaling.ActionNone {
			t.Errorf("then %s: %s", v.Action, v.Reason)
		}
	})
	t.Run("set-desired that is reached by launching is done with its launch", func(t *testing.T) {
		w := serving(1).order(scaling.OrderSetDesired, 3, "")
		if v := w.act(200, &seqIDs{}); v.Count != 2 || w.st.Desired != 3 || len(w.st.Orders) != 0 {
			t.Errorf("count %d, desired %d, orders %v", v.Count, w.st.Desired, w.st.Orders)
		}
	})
	t.Run("set-desired that cannot be reached is refused and desires what there is", func(t *testing.T) {
		w := serving(2).state("i2", scaling.StateFailed).order(scaling.OrderSetDesired, 3, "")
		w.st.Desired = 1
		if v := w.act(200, &seqIDs{}); v.Count != 1 || v.OrderRefused == "" || w.st.Desired != 2 || len(w.st.Orders) != 0 {
			t.Errorf("count %d, refused %q, desired %d, orders %v", v.Count, v.OrderRefused, w.st.Desired, w.st.Orders)
		}
	})
	t.Run("set-desired keeps its number while it removes one at a time", func(t *testing.T) {
		ids := &seqIDs{}
		w := serving(3).order(scaling.OrderSetDesired, 1, "")
		w.st.Desired = 3
		w.act(200, ids)
		if len(w.st.Orders) != 1 || w.st.Orders[0].Count != 1 || w.st.Desired != 2 {
			t.Fatalf("orders %+v, desired %d", w.st.Orders, w.st.Desired)
		}
		w.st.Drained("i3", w.in.Group, at(205))
		w.act(206, ids)
		if len(w.st.Orders) != 0 || w.st.Desired != 1 || w.st.Instance("i2").State != scaling.StateDraining {
			t.Errorf("orders %+v, desired %d, i2 %s", w.st.Orders, w.st.Desired, w.st.Instance("i2").State)
		}
	})
	t.Run("an order to remove two counts down", func(t *testing.T) {
		ids := &seqIDs{}
		w := serving(3).order(scaling.OrderScaleIn, 2, "")
		w.act(200, ids)
		if len(w.st.Orders) != 1 || w.st.Orders[0].Count != 1 {
			t.Fatalf("orders %+v", w.st.Orders)
		}
		w.st.Drained("i3", w.in.Group, at(205))
		w.act(206, ids)
		if len(w.st.Orders) != 0 || w.st.Count(scaling.StateInService) != 1 {
			t.Errorf("orders %+v, %d in service", w.st.Orders, w.st.Count(scaling.StateInService))
		}
	})
	t.Run("a hold begins with the order that is followed", func(t *testing.T) {
		w := serving(1).order(scaling.OrderScaleOut, 1, "").confirmed(scaling.High, 180)
		w.st.Orders[0].Hold = time.Minute
		w.act(200, &seqIDs{})
		if !w.st.HoldUntil.Equal(at(260)) {
			t.Errorf("hold until %s", w.st.HoldUntil)
		}
		w.launched(201)
		w.st.CooldownUntil = time.Time{}
		if v := w.act(259, &seqIDs{}); !hasFailed(v, "scale_out/pause") {
			t.Errorf("%s: %s", v.Action, v.Reason)
		}
	})
	t.Run("an order that is refused begins no hold", func(t *testing.T) {
		w := serving(1).order(scaling.OrderScaleIn, 1, "")
		w.st.Orders[0].Hold = time.Minute
		if w.act(200, &seqIDs{}); !w.st.HoldUntil.IsZero() || len(w.st.Orders) != 0 {
			t.Errorf("hold until %s, orders %+v", w.st.HoldUntil, w.st.Orders)
		}
	})
}

func TestStandby(t *testing.T) {
	on := func(w *world, name string) error {
		return w.st.Standby(name, true, w.in.Group, "ops", at(200), &seqIDs{})
	}
	t.Run("the last one in service is refused", func(t *testing.T) {
		w := serving(1).set(func(g *scaling.Group) { g.Min = 0 })
		if err := on(w, "web-1"); !errors.Is(err, scaling.ErrRefused) {
			t.Errorf("%v", err)
		}
	})
	t.Run("fewer than min is refused, min is not", func(t *testing.T) {
		w := serving(3).set(func(g *scaling.Group) { g.Min = 2 })
		if err := on(w, "web-3"); err != nil {
			t.Errorf("first: %v", err)
		}
		if err := on(w, "web-2"); !errors.Is(err, scaling.ErrRefused) {
			t.Errorf("second: %v", err)
		}
	})
	t.Run("nobody of that name", func(t *testing.T) {
		if err := on(serving(2), "web-9"); !errors.Is(err, scaling.ErrUnknownInstance) {
			t.Errorf("%v", err)
		}
	})
	t.Run("one that boots is refused with its state", func(t *testing.T) {
		err := on(serving(2).state("i2", scaling.StateBooting), "web-2")
		if !errors.Is(err, scaling.ErrRefused) || !strings.Contains(err.Error(), "booting") {
			t.Errorf("%v", err)
		}
	})
	t.Run("doing it again is success and changes nothing", func(t *testing.T) {
		w := serving(3)
		if err := on(w, "web-3"); err != nil {
			t.Fatal(err)
		}
		before := w.st.Clone()
		if err := on(w, "web-3"); err != nil {
			t.Error(err)
		}
		if err := w.st.Standby("web-2", false, w.in.Group, "ops", at(300), &seqIDs{}); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(before, w.st, equate); diff != "" {
			t.Errorf("changed:\n%s", diff)
		}
	})
	t.Run("it is an activity of a person, ends at once and is desired no more", func(t *testing.T) {
		w := serving(3)
		w.st.Desired = 3
		if err := on(w, "web-3"); err != nil {
			t.Fatal(err)
		}
		a := w.st.Open[0]
		got := []any{a.Kind, a.Status, a.Cause.Kind, a.Cause.By, a.Remove, a.Outcome, w.st.Desired, w.st.LastActionEnd, w.st.CooldownUntil}
		want := []any{
			scaling.ActivityStandby, scaling.ActivityDone, scaling.CauseManual, "ops", "i3", "web-3 is in standby", 2, at(200), at(230),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
	t.Run("the primary moves on", func(t *testing.T) {
		w := serving(3)
		if err := on(w, "web-1"); err != nil {
			t.Fatal(err)
		}
		if w.st.Primary != "i2" {
			t.Errorf("primary %s", w.st.Primary)
		}
	})
	t.Run("it counts against the limit and is no capacity", func(t *testing.T) {
		w := serving(3)
		if err := on(w, "web-3"); err != nil {
			t.Fatal(err)
		}
		w.confirmed(scaling.High, 290)
		w.in.Lookup.Asked["prometheus"], w.in.Lookup.Asked["alertmanager"] = at(299), at(299)
		v := w.act(300, &seqIDs{})
		if b, _ := gate(v, "scale_out/bounds"); !hasFailed(v, "scale_out/limit") || !b.Passed {
			t.Errorf("%s: %s", v.Action, v.Reason)
		}
	})
	t.Run("its return over max is shrunk down again", func(t *testing.T) {
		ids := &seqIDs{}
		w := serving(3).set(func(g *scaling.Group) { g.Surge = 1 })
		if err := on(w, "web-3"); err != nil {
			t.Fatal(err)
		}
		w.order(scaling.OrderScaleOut, 1, "")
		if v := w.act(210, ids); v.Action != scaling.ActionScaleOut {
			t.Fatal(v.Reason)
		}
		w.launched(220)
		if err := w.st.Standby("web-3", false, w.in.Group, "ops", at(230), ids); err != nil {
			t.Fatal(err)
		}
		if w.st.Desired != 3 || w.st.Capacity() != 4 {
			t.Errorf("desired %d of %d", w.st.Desired, w.st.Capacity())
		}
		v := w.act(400, ids)
		if v.Action != scaling.ActionScaleIn || v.Cause.Kind != scaling.CauseBounds {
			t.Errorf("%s: %s", v.Action, v.Reason)
		}
	})
	t.Run("its return is desired", func(t *testing.T) {
		w := serving(2)
		w.st.Desired = 2
		if err := on(w, "web-2"); err != nil {
			t.Fatal(err)
		}
		if w.st.Desired != 1 {
			t.Errorf("desired %d in standby", w.st.Desired)
		}
		if err := w.st.Standby("i2", false, w.in.Group, "ops", at(230), &seqIDs{}); err != nil {
			t.Fatal(err)
		}
		if i := w.st.Instance("i2"); w.st.Desired != 2 || i.State != scaling.StateInService {
			t.Errorf("desired %d, %s", w.st.Desired, i.State)
		}
	})
	t.Run("an instance that is handed over is refused", func(t *testing.T) {
		w := serving(2).order(scaling.OrderHandover, 0, "")
		w.act(200, &seqIDs{})
		if err := on(w, "web-1"); !errors.Is(err, scaling.ErrRefused) || !strings.Contains(err.Error(), "handover") {
			t.Errorf("%v", err)
		}
	})
	t.Run("what was unwell is forgotten", func(t *testing.T) {
		w := serving(3).unwell(100, "i3")
		if err := on(w, "web-3"); err != nil {
			t.Fatal(err)
		}
		if i := w.st.Instance("i3"); i.Suspect != "" || !i.SuspectSince.IsZero() {
			t.Errorf("%+v", i)
		}
	})
}

// equate compares states: no times by ==, nil and empty are the same.
var equate = cmp.Options{cmpopts.EquateEmpty(), cmpopts.EquateComparable(scaling.Instance{}.Address)}
