package scaling_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

type seqIDs struct{ n int }

func (s *seqIDs) Instance() string          { s.n++; return fmt.Sprintf("new-%d", s.n) }
func (s *seqIDs) Activity(time.Time) string { s.n++; return fmt.Sprintf("act-%d", s.n) }

func begin(w *world, ids scaling.IDs) scaling.Verdict {
	w.in.State = &w.st
	v := scaling.Decide(w.in)
	w.st.Begin(v, w.in.Group, w.in.Now, ids)
	return v
}

// A drain that brings a group down to a lowered max goes on although high stands.
func TestAShrinkIsNotCancelledByHigh(t *testing.T) {
	ids := &seqIDs{}
	w := serving(3)
	w.in.Group.Max = 2
	if v := begin(w, ids); v.Action != scaling.ActionScaleIn {
		t.Fatalf("shrink: %s %s", v.Action, v.Reason)
	}
	w.in.Now = at(230)
	w.confirmed(scaling.High, 220)
	v := begin(w, ids)
	if v.Action == scaling.ActionCancelDrain || w.st.Capacity() > w.in.Group.Max {
		t.Errorf("action %s: capacity %d is over max %d", v.Action, w.st.Capacity(), w.in.Group.Max)
	}
}

// A launch that failed starts the back-off alone, not the cooldown and the settle time.
func TestAFailedLaunchStartsNoCooldown(t *testing.T) {
	ids := &seqIDs{}
	w := serving(1).confirmed(scaling.High, 180)
	v := begin(w, ids)
	if v.Action != scaling.ActionScaleOut {
		t.Fatal(v.Reason)
	}
	id := w.st.Instances[1].ID
	last := w.st.LastActionEnd
	w.st.Enter(id, scaling.StateCreating, time.Time{}, at(201))
	w.st.FailLaunch(id, "no room", w.in.Group, at(202))
	w.st.Gone(id, w.in.Group, "removed", at(203))
	if !w.st.LastActionEnd.Equal(last) || w.st.CooldownUntil.After(at(203)) {
		t.Errorf("a failed launch moved the end of the last action to %v and the cooldown to %v; only the back-off (%v) is its", w.st.LastActionEnd, w.st.CooldownUntil, w.st.BackoffUntil)
	}
}

// A notification whose alert starts in the future comes from a wrong clock and proves no step.
func TestAFutureStartProvesNothing(t *testing.T) {
	ids := &seqIDs{}
	w := serving(1).lease(scaling.High, 3600)
	w.st.Leases[0].FirstSeen = at(190)
	w.in.Lookup.Asked = nil // nobody can be asked
	n := 0
	for sec := 200; sec < 370; sec++ {
		w.in.Now = at(sec)
		if v := begin(w, ids); v.Action == scaling.ActionScaleOut {
			n++
			for k := range w.st.Instances {
				if i := w.st.Instances[k]; i.State == scaling.StateRequested {
					w.st.Enter(i.ID, scaling.StateJoining, time.Time{}, at(sec))
					w.st.InService(i.ID, w.in.Group, at(sec))
				}
			}
		}
	}
	if n > 1 {
		t.Errorf("one notification caused %d scale-outs", n)
	}
}

// "Resolved" of an earlier firing, delivered late, leaves the lease of the newer one standing.
func TestALateResolvedLeavesANewerLease(t *testing.T) {
	var s scaling.State
	n := scaling.Notification{Group: "web", Signal: scaling.High, Firing: true, Fingerprint: "f", StartsAt: at(100)}
	s.Notify(n, time.Minute, at(101))
	old := n
	old.Firing, old.StartsAt = false, at(0) // the firing that began at 0
	if got := s.Notify(old, time.Minute, at(102)); got != scaling.NotifyDuplicate {
		t.Errorf("a resolved of the firing that began at 0 ended the one that began at 100: %s", got)
	}
}

// An order that waits in a group that begins to observe is refused, so that its loop does not spin.
func TestSetDesiredInObserveIsRefused(t *testing.T) {
	ids := &seqIDs{}
	w := serving(3).order(scaling.OrderSetDesired, 1, "")
	w.in.Group.Mode = scaling.ModeObserve
	for n := range 1000 {
		if v := begin(w, ids); v.Order == "" {
			if n > 3 {
				t.Errorf("asked %d times", n)
			}
			return
		}
	}
	t.Error("after 1000 rounds the order is still there; group.tick returns true each time, so group.loop never sleeps")
}

// A pause, such as that of a lost store, holds adoption too.
func TestAPausedGroupDoesNotAdopt(t *testing.T) {
	ids := &seqIDs{}
	w := serving(1)
	w.in.Group.Adopt = []string{"vm-test"}
	w.st.Pause = &scaling.Pause{Out: true, In: true, By: "scalehook", At: at(0)}
	if v := begin(w, ids); v.Action != scaling.ActionNone {
		t.Errorf("paused, but %s", v.Action)
	}
}

// An adoption that failed is tried again after the back-off.
func TestAFailedAdoptionIsTriedAgain(t *testing.T) {
	ids := &seqIDs{}
	w := serving(1)
	w.in.Group.Adopt = []string{"vm-test"}
	begin(w, ids)
	id := w.st.Instances[1].ID
	w.st.FailLaunch(id, "the balancer was down", w.in.Group, at(202))
	w.st.Gone(id, w.in.Group, "released", at(203))
	w.in.Now = at(20000)
	if v := begin(w, ids); v.Action != scaling.ActionAdopt {
		t.Errorf("%s: %s", v.Action, v.Reason)
	}
}

// A handover of another instance than the primary leaves the primary alone.
func TestAHandoverOfAnotherLeavesThePrimary(t *testing.T) {
	for name, tt := range map[string]struct{ instance, want string }{
		"another": {"web-2", "i1"},
		"itself":  {"web-1", "i2"},
	} {
		t.Run(name, func(t *testing.T) {
			w := serving(3).order(scaling.OrderHandover, 0, tt.instance)
			if v := begin(w, &seqIDs{}); v.Action != scaling.ActionHandover {
				t.Fatal(v.Reason)
			}
			w.st.Advance(w.in.Group, at(201))
			if w.st.Primary != tt.want {
				t.Errorf("primary %q, want %q", w.st.Primary, tt.want)
			}
		})
	}
}
