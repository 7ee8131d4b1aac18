package scaling_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/scaling"
)

// What the histories found, each as the shortest story that shows it.

// The last one of a group with min 0 drains: the group has no primary any more.
func TestAPrimaryThatDrainsIsNone(t *testing.T) {
	w := serving(1).set(func(g *scaling.Group) { g.Min = 0 }).confirmed(scaling.Low, 180)
	if v := w.act(200, &seqIDs{}); v.Action != scaling.ActionScaleIn || w.st.Primary != "" {
		t.Errorf("%s, primary %q: %s", v.Action, w.st.Primary, v.Reason)
	}
}

// A lowered max takes the newest one away; where the others are unwell and
// protected that would be the last healthy one.
func TestALoweredMaxKeepsTheLastHealthyOne(t *testing.T) {
	w := serving(3).unwell(0, "i1", "i2").set(func(g *scaling.Group) { g.Max = 2 })
	w.st.Instance("i1").Protected, w.st.Instance("i2").Protected = true, true
	if v := w.act(200, &seqIDs{}); v.Action != scaling.ActionNone || !hasFailed(v, "scale_in/bounds") {
		t.Errorf("%s: %s", v.Action, v.Reason)
	}
}

// At the limit a handover takes one away; those that are unwell do not count.
func TestAHandoverAtTheLimitLeavesMinHealthyOnes(t *testing.T) {
	w := serving(3).unwell(0, "i3").order(scaling.OrderHandover, 0, "").set(func(g *scaling.Group) { g.Min = 2 })
	if v := w.act(200, &seqIDs{}); v.Action != scaling.ActionNone || v.OrderRefused == "" {
		t.Errorf("%s: %s", v.Action, v.Reason)
	}
	w = serving(3).unwell(0, "i2", "i3").order(scaling.OrderHandover, 0, "").set(func(g *scaling.Group) { g.Min = 0 })
	if v := w.act(200, &seqIDs{}); v.Action != scaling.ActionNone || v.OrderRefused == "" {
		t.Errorf("without a successor: %s: %s", v.Action, v.Reason)
	}
}

// handing is a handover of i1 to an instance that is launched.
func handing(t *testing.T, n int) (w *world, next string) {
	t.Helper()
	w = serving(n).order(scaling.OrderHandover, 0, "").set(func(g *scaling.Group) { g.Max = 4 })
	if v := w.act(200, &seqIDs{}); v.Action != scaling.ActionHandover || v.Successor != "" {
		t.Fatalf("%s: %s", v.Action, v.Reason)
	}
	return w, w.st.Instances[n].ID
}

func (w *world) advance(sec int) bool { return w.st.Advance(w.in.Group, at(sec)) }

// A launched successor is moved by the handover's steps: as long as it is on its
// way, or its launch is being undone, the handover is not over. Without the
// activity its removal would never come to an end.
func TestAHandoverIsNotOverWhileItsSuccessorIsOnItsWay(t *testing.T) {
	spoilt := map[string]func(w *world){
		"the old one is gone":         func(w *world) { w.st.Enter("i1", scaling.StateGone, time.Time{}, at(205)) },
		"the old one is protected":    func(w *world) { w.st.Instance("i1").Protected = true },
		"the old one could not leave": func(w *world) { w.st.Enter("i1", scaling.StateFailed, time.Time{}, at(205)) },
	}
	for name, spoil := range spoilt {
		t.Run(name, func(t *testing.T) {
			w, next := handing(t, 2)
			spoil(w)
			if w.advance(210); w.st.Open[0].Status.Ended() {
				t.Fatalf("over: %s", w.st.Open[0].Outcome)
			}
			w.st.Enter(next, scaling.StateCreating, time.Time{}, at(211))
			w.st.FailLaunch(next, "no room", w.in.Group, at(212))
			if w.advance(213); w.st.Open[0].Status.Ended() {
				t.Fatalf("over while its launch is undone: %s", w.st.Open[0].Outcome)
			}
			w.st.Gone(next, w.in.Group, "removed", at(214))
			if !w.advance(215) || !w.st.Open[0].Status.Ended() {
				t.Errorf("not over: %+v", w.st.Open[0])
			}
			if w.advance(216) {
				t.Error("an activity that is over is advanced again")
			}
		})
	}
}

// A successor that turned unwell does not take over, nor is the old one taken away
// when others died meanwhile and fewer than min healthy ones would be left.
func TestAHandoverWaitsForAHealthySuccessor(t *testing.T) {
	tests := map[string]struct {
		min    int
		unwell func(w *world, next string)
		drains bool
	}{
		"all are well":                       {1, func(*world, string) {}, true},
		"the successor is unwell":            {1, func(w *world, next string) { w.st.Suspect(next, "its checks fail", at(211)) }, false},
		"another one died, and min is left":  {1, func(w *world, _ string) { w.st.Suspect("i2", "its VM is not found", at(211)) }, true},
		"another one died, and min is not":   {2, func(w *world, _ string) { w.st.Suspect("i2", "its VM is not found", at(211)) }, false},
		"the old one is unwell itself":       {2, func(w *world, _ string) { w.st.Suspect("i1", "its checks fail", at(211)) }, true},
		"the old one is protected meanwhile": {1, func(w *world, _ string) { w.st.Instance("i1").Protected = true }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w, next := handing(t, 2)
			w.in.Group.Min = tt.min
			w.launched(210)
			tt.unwell(w, next)
			w.advance(212)
			if got := w.st.Instance("i1").State == scaling.StateDraining; got != tt.drains {
				t.Errorf("drains %t, want %t", got, tt.drains)
			}
			if want := map[bool]string{true: next, false: "i1"}[tt.drains]; w.st.Primary != want {
				t.Errorf("primary %s, want %s", w.st.Primary, want)
			}
		})
	}
}

// A successor that serves no more, before it took over, ends the handover.
func TestAHandoverWithoutItsSuccessorIsOver(t *testing.T) {
	for _, st := range []scaling.InstanceState{scaling.StateDraining, scaling.StateGone} {
		w, next := handing(t, 2)
		w.launched(210)
		w.st.Enter(next, st, time.Time{}, at(211))
		if !w.advance(212) || w.st.Open[0].Status != scaling.ActivityUndone || w.st.Open[0].Outcome != "no successor: it serves no more" {
			t.Errorf("%s: %+v", st, w.st.Open[0])
		}
		if w.st.Instance("i1").State != scaling.StateInService || !w.st.LastActionEnd.Equal(at(212)) {
			t.Errorf("%s: i1 is %s, the last action ended at %s", st, w.st.Instance("i1").State, w.st.LastActionEnd)
		}
	}
}

// A handover under way will remove too: what is replaced meanwhile leaves room in
// the budget for it.
func TestAReplacementLeavesTheBudgetOfAHandover(t *testing.T) {
	for budget, want := range map[int]scaling.Action{1: scaling.ActionNone, 2: scaling.ActionReplace} {
		w, _ := handing(t, 2)
		w.unwell(100, "i2").in.Group.RemovalsPerHour = budget
		if v := w.act(201, &seqIDs{n: 100}); v.Action != want {
			t.Errorf("budget %d: %s: %s", budget, v.Action, v.Reason)
		}
	}
}

// An instance that was seen to be unwell and of which nothing is known at present
// (its provider cannot be listed, its pool not be observed) is not healthy again.
func TestWhatIsNotKnownIsNotHealthyAgain(t *testing.T) {
	suspect := func(n int, id string) *world {
		w := serving(n).unwell(190, id)
		w.in.Unhealthy = nil
		return w
	}
	runDecisions(t, map[string]struct {
		w    *world
		want wanted
	}{
		"it is not the one that is left":          {suspect(2, "i1").confirmed(scaling.Low, 180).with(func(_ *scaling.Input, s *scaling.State) { s.Instance("i1").Protected = true }), wanted{failed: "scale_in/bounds"}},
		"it goes before a healthy one":            {suspect(3, "i2").confirmed(scaling.Low, 180), wanted{action: scaling.ActionScaleIn, victim: "i2", source: "prometheus"}},
		"it takes over from nobody":               {suspect(3, "i2").order(scaling.OrderHandover, 0, ""), wanted{action: scaling.ActionHandover, victim: "i1", heir: "i3"}},
		"it is not replaced on what is not known": {suspect(2, "i2").with(func(_ *scaling.Input, s *scaling.State) { s.Instance("i2").SuspectSince = at(0) }), wanted{}},
	})
}

// A baseline that somebody deleted is tried for ever; in between, the group is
// filled and follows its load.
func TestABaselineThatIsGoneKeepsTheGroupFromNothing(t *testing.T) {
	failed := func(w *world) *world {
		w.in.Group.Adopt = []string{"vm-test"}
		w.st.Failures, w.st.BackoffUntil = 1, at(200)
		return w
	}
	runDecisions(t, map[string]struct {
		w    *world
		want wanted
	}{
		"it is filled":                 {failed(serving(1)).set(func(g *scaling.Group) { g.Min = 2 }), wanted{action: scaling.ActionFill, count: 1}},
		"it scales out":                {failed(serving(1)).confirmed(scaling.High, 180), wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus"}},
		"and the baseline tried again": {failed(serving(1)), wanted{action: scaling.ActionAdopt, count: 1}},
	})
}

// An order that is refused since the group observes begins no hold.
func TestARefusedOrderHoldsNothing(t *testing.T) {
	w := serving(1).order(scaling.OrderScaleOut, 1, "").set(func(g *scaling.Group) { g.Mode = scaling.ModeObserve })
	w.st.Orders[0].Hold = time.Minute
	if w.act(200, &seqIDs{}); !w.st.HoldUntil.IsZero() || len(w.st.Orders) != 0 {
		t.Errorf("held until %s, orders %v", w.st.HoldUntil, w.st.Orders)
	}
}

// Too many are unwell at once: the brake says "an order for each", and so an
// order takes one out although nobody healthy is left; never below min.
func TestAnOrderTakesOutWhatTheBrakeKeeps(t *testing.T) {
	ids := &seqIDs{}
	w := serving(2).unwell(100, "i1", "i2")
	if v := w.act(200, ids); !hasFailed(v, "replace/brake") {
		t.Fatalf("%s: %s", v.Action, v.Reason)
	}
	w.order(scaling.OrderScaleIn, 1, "web-2")
	if v := w.act(201, ids); v.Action != scaling.ActionScaleIn || v.Victim != "i2" {
		t.Fatalf("%s: %s", v.Action, v.Reason)
	}
	w.st.Drained("i2", w.in.Group, at(202))
	w.st.Gone("i2", w.in.Group, "removed", at(203))
	w.order(scaling.OrderScaleIn, 1, "web-1")
	v := w.act(204, ids)
	if v.OrderRefused == "" {
		t.Errorf("below min: %s: %s", v.Action, v.Reason)
	}
	g, _ := gate(v, "scale_in/bounds")
	number(t, "value", g.Value, 0)
	number(t, "bound", g.Bound, 1)
	if v := w.act(205, ids); v.Action != scaling.ActionReplace || v.Victim != "i1" {
		t.Errorf("the last one is replaced without the brake: %s: %s", v.Action, v.Reason)
	}
}

// Found by a million histories: a handover went on while the group only observed,
// where nobody looks who is well, and drained the last healthy instance.
func TestAGroupThatObservesHandsNothingOver(t *testing.T) {
	w, next := handing(t, 1)
	w.st.Enter(next, scaling.StateCreating, time.Time{}, at(201))
	w.st.Enter(next, scaling.StateBooting, time.Time{}, at(202))
	w.st.Enter(next, scaling.StateJoining, time.Time{}, at(203))
	w.st.InService(next, w.in.Group, at(204))
	mode := w.in.Group.Mode
	w.in.Group.Mode = scaling.ModeObserve
	if w.advance(210) || w.st.Instance("i1").State != scaling.StateInService {
		t.Errorf("i1 is %s", w.st.Instance("i1").State)
	}
	w.in.Group.Mode = mode
	if !w.advance(211) || w.st.Instance("i1").State != scaling.StateDraining {
		t.Errorf("i1 is %s once the group acts again", w.st.Instance("i1").State)
	}
}

// The drain itself begins once it is known that nothing leads to the instance any
// more: after its address was moved, that is a step of its own again.
func TestADrainGoesOnAfterItsAddressWasMoved(t *testing.T) {
	w, next := handing(t, 1)
	for k, s := range []scaling.InstanceState{scaling.StateCreating, scaling.StateBooting, scaling.StateJoining} {
		w.st.Enter(next, s, time.Time{}, at(201+k))
	}
	w.st.InService(next, w.in.Group, at(204))
	w.advance(210)
	w.st.Step("i1", "move_address", at(211))
	w.st.Draining("i1", w.in.Group, at(212))
	var steps []string
	for _, s := range w.st.Open[0].Steps {
		steps = append(steps, s.Name)
	}
	want := []string{"draining", "move_address", "draining"}
	if diff := cmp.Diff(want, steps[max(0, len(steps)-3):]); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if got := w.st.Instance("i1").Deadline; !got.Equal(at(212).Add(w.in.Group.DrainDeadline)) {
		t.Errorf("the drain's deadline is %s", got)
	}
}
