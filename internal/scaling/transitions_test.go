package scaling_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Begin does what a verdict says as far as it fits the state, and no further.
func TestBeginDoesNotBelieveEverything(t *testing.T) {
	begins := func(w *world, v scaling.Verdict) scaling.State {
		w.st.Begin(v, w.in.Group, at(200), &seqIDs{})
		return w.st
	}
	t.Run("an order that is not there", func(t *testing.T) {
		if s := begins(serving(1).order(scaling.OrderScaleOut, 1, ""), scaling.Verdict{Action: scaling.ActionNone, Order: "o9", OrderDone: true}); len(s.Orders) != 1 {
			t.Errorf("orders %v", s.Orders)
		}
	})
	for _, action := range []scaling.Action{scaling.ActionScaleIn, scaling.ActionReplace, scaling.ActionCancelDrain} {
		for _, victim := range []string{"nobody", "i1", "i2"} {
			t.Run(fmt.Sprintf("%s of %s", action, victim), func(t *testing.T) {
				w := serving(3).state("i1", scaling.StateBooting).state("i2", scaling.StateRemoving)
				want := w.st.Clone()
				s := begins(w, scaling.Verdict{Action: action, Victim: victim})
				if diff := cmp.Diff(want.Instances, s.Instances, equate); diff != "" || len(s.Removals) != 0 || !s.LastActionEnd.Equal(want.LastActionEnd) {
					t.Errorf("removals %v, last action end %s, instances:\n%s", s.Removals, s.LastActionEnd, diff)
				}
			})
		}
	}
	t.Run("evidence that is older than what was used", func(t *testing.T) {
		w := serving(1)
		w.st.Consumed[scaling.High] = at(150)
		s := begins(w, scaling.Verdict{Action: scaling.ActionScaleOut, Count: 1, Cause: scaling.Cause{Kind: scaling.CauseAlert, Signal: scaling.High, EvidenceAt: at(100)}})
		if !s.Consumed[scaling.High].Equal(at(150)) {
			t.Errorf("used up to %s", s.Consumed[scaling.High])
		}
	})
	t.Run("evidence of what no alert asked for", func(t *testing.T) {
		s := begins(serving(1), scaling.Verdict{Action: scaling.ActionScaleOut, Count: 1, Cause: scaling.Cause{Kind: scaling.CauseManual, Signal: scaling.High, EvidenceAt: at(100)}})
		if len(s.Consumed) != 0 {
			t.Errorf("used %v", s.Consumed)
		}
	})
}

// The clones that a script has left are called as the group calls its own.
func TestANumberWhoseNameABaselineHasIsLeftOut(t *testing.T) {
	for name, tt := range map[string]struct {
		pattern        string
		adopt, adopted []string
		want           string
		next           int
	}{
		"no baseline has it":                     {"web-{n}", []string{"vm-test"}, nil, "web-2 web-3", 4},
		"one that is to be adopted has it":       {"web-{n}", []string{"web-3", "web-9"}, nil, "web-2 web-4", 5},
		"those that were adopted once have them": {"web-{n}", nil, []string{"web-2", "web-3"}, "web-4 web-5", 6},
		"names without a number":                 {"web", []string{"web"}, []string{"web-2"}, "web-3 web-4", 5},
	} {
		t.Run(name, func(t *testing.T) {
			w := serving(1).set(func(g *scaling.Group) { g.NamePattern, g.Adopt, g.Max = tt.pattern, tt.adopt, 9 })
			w.st.AdoptedNames = tt.adopted
			w.st.Begin(scaling.Verdict{Action: scaling.ActionFill, Count: 2}, w.in.Group, at(200), &seqIDs{})
			var got []string
			for _, i := range w.st.Instances[1:] {
				got = append(got, i.Name)
				if i.Name != w.in.Group.VMName(i.Number) {
					t.Errorf("%s has the number %d", i.Name, i.Number)
				}
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, " ")); diff != "" || w.st.NextNumber != tt.next {
				t.Errorf("next number %d, names (-want +got):\n%s", w.st.NextNumber, diff)
			}
		})
	}
}

func TestEnteringTheSameStateChangesNothing(t *testing.T) {
	w := serving(1).state("i1", scaling.StateRemoving)
	want := w.st.Clone()
	w.st.Enter("i1", scaling.StateRemoving, at(300), at(250))
	if diff := cmp.Diff(want, w.st, equate); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.st.Gone("i1", w.in.Group, "removed", at(260))
	want = w.st.Clone()
	w.st.Gone("i1", w.in.Group, "removed", at(270))
	if diff := cmp.Diff(want, w.st, equate); diff != "" {
		t.Errorf("gone twice (-want +got):\n%s", diff)
	}
}

func TestTried(t *testing.T) {
	w := serving(1)
	w.st.Instance("i1").Activity = "a"
	w.st.Open = []scaling.Activity{{ID: "a"}}
	w.st.Tried("i1", nil) // before the first step there is nothing to note
	w.st.Open[0].Steps = []scaling.Step{{Name: "creating"}}
	w.st.Tried("i1", nil)
	if got := w.st.Open[0].Steps[0].Tries; got != 1 {
		t.Errorf("%d tries", got)
	}
}

func TestALaunchWithoutItsActivityStillServes(t *testing.T) {
	w := serving(1).state("i1", scaling.StateJoining)
	w.st.Instance("i1").Activity = "forgotten"
	w.st.InService("i1", w.in.Group, at(210))
	if i := w.st.Instance("i1"); i.State != scaling.StateInService || !i.InServiceAt.Equal(at(210)) {
		t.Errorf("%+v", i)
	}
}

func TestManyFailuresAreBackedOffForTheLongestTime(t *testing.T) {
	w := serving(2).state("i2", scaling.StateBooting)
	w.st.Failures = 100
	w.st.FailLaunch("i2", "no room", w.in.Group, at(200))
	if want := at(200).Add(w.in.Group.BackoffMax); !w.st.BackoffUntil.Equal(want) {
		t.Errorf("backed off until %s, want %s", w.st.BackoffUntil, want)
	}
}

// Of what fails one is desired less, and not more than one.
func TestWhatFailsIsDesiredNoMore(t *testing.T) {
	for kind, want := range map[scaling.ActivityKind]int{
		scaling.ActivityScaleOut: 4, scaling.ActivityAdopt: 3, scaling.ActivityFill: 5, scaling.ActivityHandover: 5,
	} {
		w := serving(4).state("i4", scaling.StateBooting).set(func(g *scaling.Group) { g.Max = 6 })
		w.st.Desired = 5
		w.st.Instance("i4").Activity = "a"
		w.st.Open = []scaling.Activity{{ID: "a", Kind: kind}}
		w.st.FailLaunch("i4", "no room", w.in.Group, at(200))
		if w.st.Desired != want {
			t.Errorf("%s: desired %d, want %d", kind, w.st.Desired, want)
		}
	}
}

func TestAdvanceTouchesHandoversAlone(t *testing.T) {
	for _, a := range []scaling.Activity{
		{ID: "a", Kind: scaling.ActivityScaleIn, Status: scaling.ActivityRunning, Launch: "i2", Remove: "gone"},
		{ID: "a", Kind: scaling.ActivityReplace, Status: scaling.ActivityRunning, Launch: "i2", Remove: "i1"},
		{ID: "a", Kind: scaling.ActivityHandover, Status: scaling.ActivityUndone, Launch: "i2", Remove: "i1"},
	} {
		w := serving(2)
		w.st.Open = []scaling.Activity{a}
		want := w.st.Clone()
		if w.advance(210) {
			t.Errorf("%s %s was advanced", a.Kind, a.Status)
		}
		if diff := cmp.Diff(want, w.st, equate); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	w := serving(2)
	w.st.Open = []scaling.Activity{{ID: "a", Kind: scaling.ActivityHandover, Status: scaling.ActivityRunning, Launch: "nobody", Remove: "i1"}}
	if !w.advance(210) || w.st.Open[0].Outcome != "no successor: it serves no more" {
		t.Errorf("without a successor: %+v", w.st.Open[0])
	}
	w.st.Open = []scaling.Activity{{ID: "a", Kind: scaling.ActivityHandover, Status: scaling.ActivityRunning, Launch: "i2", Remove: "nobody"}}
	if !w.advance(210) || w.st.Open[0].Outcome != "the old instance is gone" {
		t.Errorf("without an old one: %+v", w.st.Open[0])
	}
}

// What is gone ends its activity, but for a handover whose launch failed: that one
// has the old instance to say something about.
func TestWhatIsGoneEndsItsActivity(t *testing.T) {
	tests := map[string]struct {
		a       scaling.Activity
		failure string
		want    string
	}{
		"a launch that failed":              {scaling.Activity{Kind: scaling.ActivityScaleOut, Launch: "i2"}, "no room", "undone no room: removed"},
		"a removal":                         {scaling.Activity{Kind: scaling.ActivityScaleIn, Remove: "i2"}, "", "done removed"},
		"a replacement with a failure":      {scaling.Activity{Kind: scaling.ActivityReplace, Remove: "i2"}, "no room", "done no room: removed"},
		"a handover's launch that failed":   {scaling.Activity{Kind: scaling.ActivityHandover, Launch: "i2", Remove: "i1"}, "no room", "running "},
		"a handover's launch that did not":  {scaling.Activity{Kind: scaling.ActivityHandover, Launch: "i2", Remove: "i1"}, "", "done removed"},
		"a handover's old one with failure": {scaling.Activity{Kind: scaling.ActivityHandover, Launch: "i1", Remove: "i2"}, "no room", "undone no room: removed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := serving(2).state("i2", scaling.StateRemoving)
			tt.a.ID, tt.a.Status = "a", scaling.ActivityRunning
			w.st.Open = []scaling.Activity{tt.a}
			w.st.Instance("i2").Activity, w.st.Instance("i2").Failure = "a", tt.failure
			w.st.Gone("i2", w.in.Group, "removed", at(210))
			if got := fmt.Sprintf("%s %s", w.st.Open[0].Status, w.st.Open[0].Outcome); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// Only a baseline whose adoption failed is tried again.
func TestWhichBaselineIsTriedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		adopted bool
		failure string
		served  bool
		again   bool
	}{
		"its adoption failed":            {true, "refused", false, true},
		"it was let go before it served": {true, "", false, false},
		"it served, and failed to go":    {true, "refused", true, false},
		"a VM of its name was made":      {false, "refused", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := serving(2).state("i2", scaling.StateRemoving)
			i := w.st.Instance("i2")
			i.Name, i.Adopted, i.Failure = "vm-test", tt.adopted, tt.failure
			if !tt.served {
				i.InServiceAt = time.Time{}
			}
			w.st.AdoptedNames = []string{"vm-test"}
			w.st.Gone("i2", w.in.Group, "released", at(210))
			if again := len(w.st.AdoptedNames) == 0; again != tt.again {
				t.Errorf("again %t, want %t", again, tt.again)
			}
		})
	}
}

func TestWhatAChangeReports(t *testing.T) {
	w := serving(2).state("i2", scaling.StateDraining)
	s := &w.st
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	var got []string
	note := func(what string, changed bool) { got = append(got, fmt.Sprintf("%s %t", what, changed)) }
	note("suspect", s.Suspect("i1", "down", at(1)))
	note("the same", s.Suspect("i1", "down", at(2)))
	note("for another reason", s.Suspect("i1", "stopped", at(3)))
	note("not in service", s.Suspect("i2", "down", at(1)))
	note("nobody", s.Suspect("x", "down", at(1)))
	note("well", s.Well("i1"))
	note("well before", s.Well("i1"))
	note("nobody well", s.Well("x"))
	note("nobody's address", s.Readdress("x", a))
	note("the first address", s.Readdress("i1", a))
	s.Instance("i1").Address, s.Instance("i2").Address = a, a
	note("the same address", s.Readdress("i1", a))
	note("another address", s.Readdress("i1", b))
	note("of one that leaves", s.Readdress("i2", b))
	s.Instance("i2").State = scaling.StateGone
	note("of one that is gone", s.Readdress("i2", b))
	want := []string{
		"suspect true", "the same false", "for another reason true", "not in service false", "nobody false", "well true", "well before false", "nobody well false",
		"nobody's address false", "the first address false", "the same address false", "another address true", "of one that leaves false", "of one that is gone false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if s.Instance("i1").Address != b || s.Instance("i2").Address != a {
		t.Errorf("addresses %s, %s", s.Instance("i1").Address, s.Instance("i2").Address)
	}
}

// Standby minds handovers under way of the instance itself, and nothing else.
func TestStandbyAndActivities(t *testing.T) {
	for name, tt := range map[string]struct {
		a       scaling.Activity
		refused bool
	}{
		"a handover takes it":         {scaling.Activity{Kind: scaling.ActivityHandover, Status: scaling.ActivityRunning, Remove: "i3"}, true},
		"a handover brings it":        {scaling.Activity{Kind: scaling.ActivityHandover, Status: scaling.ActivityRunning, Launch: "i3"}, true},
		"a handover is of others":     {scaling.Activity{Kind: scaling.ActivityHandover, Status: scaling.ActivityRunning, Launch: "i2", Remove: "i1"}, false},
		"a handover is over":          {scaling.Activity{Kind: scaling.ActivityHandover, Status: scaling.ActivityDone, Launch: "i3"}, false},
		"another activity is open":    {scaling.Activity{Kind: scaling.ActivityScaleOut, Status: scaling.ActivityRunning, Launch: "i3"}, false},
		"an activity that removes it": {scaling.Activity{Kind: scaling.ActivityScaleIn, Status: scaling.ActivityRunning, Remove: "i3"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := serving(3)
			w.st.Open = []scaling.Activity{tt.a}
			err := w.st.Standby("i3", true, w.in.Group, "ops", at(200), &seqIDs{})
			if refused := err != nil && strings.Contains(err.Error(), "handover"); refused != tt.refused || (err != nil) != tt.refused {
				t.Errorf("%v, want refused %t", err, tt.refused)
			}
			w.st.Instance("i3").State = scaling.StateStandby
			if err := w.st.Standby("i3", false, w.in.Group, "ops", at(201), &seqIDs{}); err != nil {
				t.Errorf("back: %v", err)
			}
		})
	}
}

// Without its primary a group takes the one longest in service, the first of the
// same time.
func TestThePrimaryIsTheLongestInService(t *testing.T) {
	for want, f := range map[string]func(s *scaling.State){
		"i2": func(s *scaling.State) { s.Instance("i3").InServiceAt = s.Instance("i2").InServiceAt },
		"i3": func(s *scaling.State) { s.Instance("i3").InServiceAt = at(-2000) },
		"i1": func(s *scaling.State) { s.Instance("i1").State = scaling.StateInService },
	} {
		w := serving(4).state("i1", scaling.StateRemoving).state("i4", scaling.StateRemoving)
		f(&w.st)
		w.st.Gone("i4", w.in.Group, "removed", at(210))
		if w.st.Primary != want {
			t.Errorf("primary %q, want %q", w.st.Primary, want)
		}
	}
}

func TestLeasesAreKeptByFingerprintAndBounded(t *testing.T) {
	var s scaling.State
	for k := range 66 {
		n := scaling.Notification{Signal: scaling.High, Firing: true, Fingerprint: fmt.Sprintf("f%02d", k), StartsAt: at(k)}
		if res := s.Notify(n, time.Hour, at(k)); res != scaling.NotifyAccepted {
			t.Fatalf("%d: %s", k, res)
		}
		s.Housekeep(at(k))
		first := max(0, k-63)
		if len(s.Leases) != min(k+1, 64) || s.Leases[0].Fingerprint != fmt.Sprintf("f%02d", first) {
			t.Fatalf("after %d: %d leases, the first %s", k+1, len(s.Leases), s.Leases[0].Fingerprint)
		}
	}
	s.Notify(scaling.Notification{Signal: scaling.High, Fingerprint: "f65", StartsAt: at(65)}, time.Hour, at(70))
	if len(s.Leases) != 63 {
		t.Errorf("%d leases after one ended", len(s.Leases))
	}
}

// An order is followed also after launches that failed.
func TestAnOrderIsFollowedAfterFailures(t *testing.T) {
	w := serving(1).order(scaling.OrderScaleOut, 1, "")
	w.st.Failures = 3
	if v := w.decide(); v.Action != scaling.ActionScaleOut {
		t.Errorf("%s: %s", v.Action, v.Reason)
	}
}

// What was under way when the store was lost or restored waits for a person; what
// was begun since, by order, does not, nor does anything in a person's own pause.
func TestWhatIsHeld(t *testing.T) {
	restored := &scaling.Pause{Out: true, In: true, By: scaling.Self, At: at(160)}
	for name, tt := range map[string]struct {
		pause *scaling.Pause
		state scaling.InstanceState
		since int
		want  bool
	}{
		"a launch from before":            {restored, scaling.StateBooting, 159, true},
		"a removal from before":           {restored, scaling.StateDraining, 159, true},
		"one that serves":                 {restored, scaling.StateInService, 159, false},
		"a launch since":                  {restored, scaling.StateBooting, 160, false},
		"a removal since":                 {restored, scaling.StateRemoving, 161, false},
		"without a pause":                 {nil, scaling.StateBooting, 159, false},
		"in the pause that somebody made": {&scaling.Pause{Out: true, In: true, By: "ops", At: at(160)}, scaling.StateBooting, 159, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := serving(2)
			w.st.Pause = tt.pause
			i := w.st.Instance("i2")
			i.State, i.Since = tt.state, at(tt.since)
			if got := w.st.Held(i); got != tt.want {
				t.Errorf("held %t, want %t", got, tt.want)
			}
		})
	}
	for _, created := range []int{159, 160} {
		w, _ := handing(t, 2)
		w.launched(210)
		w.st.Pause = restored
		w.st.Open[0].Created = at(created)
		if got, want := w.advance(211), created >= 160; got != want {
			t.Errorf("a handover of %d is advanced: %t, want %t", created, got, want)
		}
	}
}
