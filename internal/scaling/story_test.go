package scaling_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/scaling"
)

// -update writes testdata/stories.golden anew; read the difference before it is
// committed: it is what the state does.
var update = flag.Bool("update", false, "write the golden file")

// story is a group to which one thing happens after the other. What each of them
// changes in the state is written down, line by line, and held against a file.
type story struct {
	w    *world
	ids  *seqIDs
	out  strings.Builder
	last []string
	sec  int
}

func sec(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return fmt.Sprint(t.Sub(t0).Seconds())
}

func secs(ts []time.Time) string {
	var out []string
	for _, t := range ts {
		out = append(out, sec(t))
	}
	return strings.Join(out, " ")
}

func lines(s *scaling.State) []string {
	out := []string{
		fmt.Sprintf("group   next number %d, primary %q, desired %d, failures %d, adopted %v", s.NextNumber, s.Primary, s.Desired, s.Failures, s.AdoptedNames),
		fmt.Sprintf("times   last action end %s, cooldown %s, back-off %s, hold %s, notification %s, used high %s low %s", sec(s.LastActionEnd), sec(s.CooldownUntil),
			sec(s.BackoffUntil), sec(s.HoldUntil), sec(s.LastNotification), sec(s.Consumed[scaling.High]), sec(s.Consumed[scaling.Low])),
		fmt.Sprintf("budgets creations [%s], removals [%s]", secs(s.Creations), secs(s.Removals)),
	}
	if p := s.Pause; p != nil {
		out = append(out, fmt.Sprintf("pause   out %t, in %t, until %s", p.Out, p.In, sec(p.Until)))
	}
	for _, i := range s.Instances {
		l := fmt.Sprintf("inst    %s %s #%d of %q: %s since %s, created %s, in service %s, deadline %s, activity %q", i.ID, i.Name, i.Number, i.Group, i.State, sec(i.Since),
			sec(i.CreatedAt), sec(i.InServiceAt), sec(i.Deadline), i.Activity)
		if i.Adopted {
			l += ", adopted"
		}
		if i.Protected {
			l += ", protected"
		}
		if i.Failure != "" {
			l += ", failed: " + i.Failure
		}
		if i.Suspect != "" || !i.SuspectSince.IsZero() {
			l += fmt.Sprintf(", unwell since %s: %s", sec(i.SuspectSince), i.Suspect)
		}
		if i.Address.IsValid() {
			l += ", at " + i.Address.String()
		}
		out = append(out, l)
	}
	for _, a := range s.Open {
		l := fmt.Sprintf("act     %s %s of %q: %s, launch %q, remove %q, cause %s/%s/%s/%s/%s, created %s, ended %s, %q", a.ID, a.Kind, a.Group, a.Status, a.Launch, a.Remove,
			a.Cause.Kind, a.Cause.Signal, a.Cause.Source, sec(a.Cause.EvidenceAt), a.Cause.By, sec(a.Created), sec(a.Ended), a.Outcome)
		parts := []string{l}
		for _, st := range a.Steps {
			part := fmt.Sprintf("%s %s..%s", st.Name, sec(st.Started), sec(st.Ended))
			if st.Tries > 0 {
				part += fmt.Sprintf(" %d tries %q", st.Tries, st.Err)
			}
			parts = append(parts, part)
		}
		out = append(out, strings.Join(parts, "; "))
	}
	for _, l := range s.Leases {
		out = append(out, fmt.Sprintf("lease   %s %s: starts %s, first %s, last %s, expires %s", l.Signal, l.Fingerprint, sec(l.StartsAt), sec(l.FirstSeen), sec(l.LastSeen), sec(l.Expires)))
	}
	for _, o := range s.Orders {
		out = append(out, fmt.Sprintf("order   %s %s %d %q at %s", o.ID, o.Kind, o.Count, o.Instance, sec(o.At)))
	}
	for _, a := range s.Answers {
		out = append(out, fmt.Sprintf("answer  %s at %s", a.Key, sec(a.At)))
	}
	return out
}

// subject is what a line is about.
func subject(l string) string {
	f := strings.Fields(l)
	switch f[0] {
	case "group", "times", "budgets", "pause":
		return f[0]
	case "lease":
		return strings.Join(f[:3], " ")
	}
	return strings.Join(f[:2], " ")
}

// tell notes what a step of the story changed.
func (y *story) tell(what string, args ...any) *story {
	now := lines(&y.w.st)
	fmt.Fprintf(&y.out, "%4d %s\n", y.sec, fmt.Sprintf(what, args...))
	for _, l := range y.last {
		if !slices.ContainsFunc(now, func(n string) bool { return subject(n) == subject(l) }) {
			fmt.Fprintf(&y.out, "     - %s\n", l)
		}
	}
	for _, l := range now {
		if !slices.Contains(y.last, l) {
			fmt.Fprintf(&y.out, "     + %s\n", l)
		}
	}
	y.last = now
	return y
}

func tale(w *world) *story {
	return (&story{w: w, ids: &seqIDs{}, sec: 200}).tell("once upon a time")
}

func (y *story) at(s int) *story { y.sec = s; y.w.in.Now = at(s); return y }

// decides decides and begins.
func (y *story) decides() *story {
	v := y.w.act(y.sec, y.ids)
	return y.tell("decided: %s", v.Reason)
}

// asks decides, and notes every gate with what it says.
func (y *story) asks() *story {
	v := y.w.decide()
	y.tell("asked: %s %s count %d victim %q successor %q adopt %q order %q done %t refused %q cause %q statuses %v: %s", v.Group, v.Action, v.Count, v.Victim, v.Successor, v.Adopt, v.Order,
		v.OrderDone, v.OrderRefused, v.Cause.Detail, v.Statuses, v.Reason)
	for _, g := range v.Gates {
		l := fmt.Sprintf("%s/%s %t: %s", g.Action, g.Name, g.Passed, g.Detail)
		if g.Value != nil {
			l += fmt.Sprintf(" [%.3g of %.3g]", *g.Value, *g.Bound)
		}
		if g.Change != "" {
			l += " | " + g.Change
		}
		fmt.Fprintf(&y.out, "     = %s\n", l)
	}
	return y
}

// does changes the state.
func (y *story) does(what string, f func(s *scaling.State, g scaling.Group, now time.Time)) *story {
	f(&y.w.st, y.w.in.Group, at(y.sec))
	return y.tell("%s", what)
}

func (y *story) enters(id string, st scaling.InstanceState) *story {
	return y.does(id+" enters "+string(st), func(s *scaling.State, _ scaling.Group, now time.Time) { s.Enter(id, st, time.Time{}, now) })
}

func (y *story) advances() *story {
	changed := y.w.advance(y.sec)
	return y.tell("advance: %t", changed)
}

func (y *story) inService(id string) *story {
	return y.does(id+" in service", func(s *scaling.State, g scaling.Group, now time.Time) { s.InService(id, g, now) })
}

func (y *story) failsLaunch(id string) *story {
	return y.does(id+" fails to launch", func(s *scaling.State, g scaling.Group, now time.Time) { s.FailLaunch(id, "no room", g, now) })
}

func (y *story) gone(id string) *story {
	return y.does(id+" is gone", func(s *scaling.State, g scaling.Group, now time.Time) { s.Gone(id, g, "removed", now) })
}

func (y *story) drained(id string) *story {
	return y.does(id+" is drained", func(s *scaling.State, g scaling.Group, now time.Time) { s.Draining(id, g, now) }).
		does("again", func(s *scaling.State, g scaling.Group, now time.Time) { s.Draining(id, g, now.Add(time.Second)) }).
		does("its sessions ended", func(s *scaling.State, g scaling.Group, now time.Time) { s.Drained(id, g, now) })
}

func (y *story) standby(name string, on bool) *story {
	err := y.w.st.Standby(name, on, y.w.in.Group, "ops", at(y.sec), y.ids)
	return y.tell("standby of %s %t: %v", name, on, err)
}

func (y *story) notify(n scaling.Notification) *story {
	n.Group = "web"
	res := y.w.st.Notify(n, 3*time.Minute, at(y.sec))
	return y.tell("%s firing %t starts %s: %s", n.Fingerprint, n.Firing, sec(n.StartsAt), res)
}

func TestStories(t *testing.T) {
	desired := func(w *world) *world { w.st.Desired = w.st.Capacity(); return w }
	high := func(n int) *world { return desired(serving(n).confirmed(scaling.High, 180)) }
	low := func(n int) *world { return desired(serving(n).confirmed(scaling.Low, 180)) }
	oldest := func(g *scaling.Group) { g.Victim = scaling.VictimOldest }
	asked := func(w *world) func() *story { return func() *story { return tale(w).asks() } }
	tests := []struct {
		name string
		tell func() *story
	}{
		{"what is asked of a quiet group", asked(serving(2).with(func(in *scaling.Input, _ *scaling.State) { in.Since = at(10) }))},
		{"what is asked when high stands", asked(high(2))},
		{"what is asked when low stands", asked(low(2))},
		{"what is asked when low stands at min, in a hold", asked(low(1).with(func(_ *scaling.Input, s *scaling.State) { s.HoldUntil = at(201) }))},
		{"what is asked in a window, after a pause", asked(low(2).with(func(in *scaling.Input, s *scaling.State) {
			in.Maintenance = &scaling.Maintenance{Name: "night", In: true, Until: at(300)}
			s.Pause = &scaling.Pause{In: true, Out: true, Until: at(200)}
		}))},
		{"what is asked in a pause without an end", asked(high(2).with(func(_ *scaling.Input, s *scaling.State) { s.Pause = &scaling.Pause{Out: true, By: "ops"} }))},
		{"what is asked in a pause with an end", asked(high(2).with(func(_ *scaling.Input, s *scaling.State) { s.Pause = &scaling.Pause{Out: true, Until: at(201)} }))},
		{"what is asked when nobody confirms", asked(serving(2).lease(scaling.High, 10).lease(scaling.Low, 10))},
		{"what is asked without a source", asked(serving(2).lease(scaling.Low, 10).set(func(g *scaling.Group) { g.Confirm = nil }))},
		{"what is asked in a silence", asked(serving(2).confirmed(scaling.High, 180).says("alertmanager", scaling.High, scaling.EvidenceSuppressed, 180))},
		{"what is asked before an adoption", asked(serving(1).set(func(g *scaling.Group) { g.Adopt = []string{"vm-test"} }))},
		{"what is asked before filling", asked(serving(1).set(func(g *scaling.Group) { g.Min = 3 }))},
		{"what is asked before shrinking", asked(serving(3).set(func(g *scaling.Group) { g.Max = 2 }))},
		{"what is asked before replacing", asked(serving(2).unwell(100, "i2"))},
		{"what is asked before a drain is cancelled", asked(serving(3).drains("i3").confirmed(scaling.High, 180))},
		{"what is asked of an order to launch", asked(serving(2).order(scaling.OrderScaleOut, 2, ""))},
		{"what is asked of an order to launch that is refused", asked(serving(3).order(scaling.OrderScaleOut, 2, ""))},
		{"what is asked of an order to remove", asked(serving(3).order(scaling.OrderScaleIn, 2, ""))},
		{"what is asked of an order to remove that is refused", asked(serving(1).order(scaling.OrderScaleIn, 1, ""))},
		{"what is asked of an order to hand over", asked(serving(1).order(scaling.OrderHandover, 0, ""))},
		{"what is asked of an order to hand over at the limit", asked(serving(3).order(scaling.OrderHandover, 0, ""))},
		{"what is asked of an order to hand over that is refused", asked(serving(1).order(scaling.OrderHandover, 0, "").set(func(g *scaling.Group) { g.Max = 1 }))},
		{"a scale-out", func() *story {
			return tale(high(1)).decides().at(201).enters("new-2", scaling.StateCreating).enters("new-2", scaling.StateCreating).
				does("the call fails", func(s *scaling.State, _ scaling.Group, _ time.Time) { s.Tried("new-2", errors.New("not now")) }).
				does("the call works", func(s *scaling.State, _ scaling.Group, _ time.Time) { s.Tried("new-2", nil) }).
				at(202).enters("new-2", scaling.StateBooting).inService("new-2").at(203).enters("new-2", scaling.StateJoining).at(204).inService("new-2").at(205).inService("new-2")
		}},
		{"a deadline of its own", func() *story {
			return tale(high(1)).decides().does("a state with a deadline", func(s *scaling.State, _ scaling.Group, now time.Time) {
				s.Enter("new-2", scaling.StateCreating, at(999), now)
			})
		}},
		{"nobody is nothing", func() *story {
			return tale(serving(1)).does("every step for somebody unknown", func(s *scaling.State, g scaling.Group, now time.Time) {
				s.Enter("x", scaling.StateGone, time.Time{}, now)
				s.Step("x", "leave", now)
				s.Tried("x", nil)
				s.InService("x", g, now)
				s.FailLaunch("x", "why", g, now)
				s.Draining("x", g, now)
				s.Drained("x", g, now)
				s.Gone("x", g, "why", now)
				s.Suspect("x", "why", now)
				s.Well("x")
				s.Cleared("x", now)
				s.FailRemove("x", "why", now)
				s.Readdress("x", netip.MustParseAddr("192.0.2.1"))
			}).does("every step that does not fit", func(s *scaling.State, g scaling.Group, now time.Time) {
				s.Step("i1", "leave", now)
				s.Tried("i1", nil)
				s.InService("i1", g, now)
				s.FailLaunch("i1", "why", g, now)
				s.Draining("i1", g, now)
				s.Drained("i1", g, now)
				s.Well("i1")
				s.Cleared("i1", now)
				s.FailRemove("i1", "why", now)
			})
		}},
		{"launches that fail, one after the other", func() *story {
			y := tale(high(1).set(func(g *scaling.Group) { g.BackoffMin, g.BackoffMax = 10*time.Second, 35*time.Second }))
			for n := range 4 {
				id := fmt.Sprintf("new-%d", 2*n+2)
				y.at(200 + 100*n)
				y.w.in.Lookup.Evidence = nil
				y.w.st.Leases = nil
				y.w.confirmed(scaling.High, 190+100*n)
				y.w.st.Leases[0].Expires = at(5000)
				y.w.in.Lookup.Asked["prometheus"], y.w.in.Lookup.Asked["alertmanager"] = at(195+100*n), at(195+100*n)
				y.decides().failsLaunch(id).at(201 + 100*n).gone(id).gone(id)
			}
			return y
		}},
		{"a launch that works ends the back-off", func() *story {
			w := high(1)
			w.st.Failures, w.st.BackoffUntil = 3, at(100)
			return tale(w).decides().enters("new-2", scaling.StateJoining).inService("new-2")
		}},
		{"back-off bounds the wrong way round", func() *story {
			return tale(high(1).set(func(g *scaling.Group) { g.BackoffMin, g.BackoffMax = 40*time.Second, 10*time.Second })).decides().failsLaunch("new-2")
		}},
		{"two are filled, one fails, one is in service", func() *story {
			w := serving(1).set(func(g *scaling.Group) { g.Min = 3 })
			w.st.NextNumber = 0
			return tale(w).decides().at(201).failsLaunch("new-2").gone("new-2").at(202).enters("new-4", scaling.StateJoining).inService("new-4")
		}},
		{"a baseline is adopted", func() *story {
			return tale(desired(serving(1)).set(func(g *scaling.Group) { g.Adopt = []string{"vm-test"} })).decides().at(201).
				enters("new-2", scaling.StateJoining).inService("new-2")
		}},
		{"a baseline that cannot be adopted may be later", func() *story {
			return tale(desired(serving(1)).set(func(g *scaling.Group) { g.Adopt = []string{"vm-test"} })).decides().at(201).failsLaunch("new-2").at(202).gone("new-2")
		}},
		{"a baseline that leaves after it served stays known", func() *story {
			y := tale(desired(serving(1)).set(func(g *scaling.Group) { g.Adopt = []string{"vm-test"} })).decides().enters("new-2", scaling.StateJoining).inService("new-2")
			y.w.order(scaling.OrderScaleIn, 1, "vm-test")
			return y.at(300).decides().at(301).drained("new-2").at(302).does("it cannot go", func(s *scaling.State, _ scaling.Group, now time.Time) { s.FailRemove("new-2", "refused", now) }).
				at(303).gone("new-2")
		}},
		{"a scale-in", func() *story {
			return tale(low(2)).decides().at(201).drained("i2").at(210).
				does("it leaves", func(s *scaling.State, _ scaling.Group, now time.Time) { s.Step("i2", "leave", now) }).
				at(211).does("still", func(s *scaling.State, _ scaling.Group, now time.Time) { s.Step("i2", "leave", now) }).
				at(220).gone("i2").at(221).does("late", func(s *scaling.State, _ scaling.Group, now time.Time) { s.Step("i2", "delete", now) })
		}},
		{"a removal that is refused and cleared up", func() *story {
			return tale(low(2)).decides().at(201).drained("i2").at(202).
				does("refused", func(s *scaling.State, _ scaling.Group, now time.Time) { s.FailRemove("i2", "its disk is in use", now) }).
				at(203).does("refused again", func(s *scaling.State, _ scaling.Group, now time.Time) { s.FailRemove("i2", "twice", now) }).
				at(300).does("cleared up", func(s *scaling.State, _ scaling.Group, now time.Time) { s.Cleared("i2", now) })
		}},
		{"a scale-in of the primary, cancelled", func() *story {
			y := tale(low(3).set(oldest)).decides().at(201).advances().at(202).advances()
			y.w.st.Leases, y.w.in.Lookup.Evidence = nil, nil
			y.w.confirmed(scaling.High, 210)
			return y.at(220).decides().at(221).advances()
		}},
		{"a scale-in of the primary", func() *story {
			return tale(low(3).set(oldest)).decides().at(201).advances().at(202).drained("i1").at(203).gone("i1").at(204).advances()
		}},
		{"a handover to a new one", func() *story {
			return tale(desired(serving(2)).order(scaling.OrderHandover, 0, "")).decides().at(201).advances().enters("new-2", scaling.StateJoining).at(202).inService("new-2").
				at(203).advances().at(204).drained("i1").at(205).gone("i1").at(206).advances()
		}},
		{"a handover whose successor fails", func() *story {
			return tale(desired(serving(2)).order(scaling.OrderHandover, 0, "")).decides().at(201).failsLaunch("new-2").at(202).advances().at(203).gone("new-2").at(204).advances()
		}},
		{"a handover whose successor fails and stays", func() *story {
			return tale(desired(serving(2)).order(scaling.OrderHandover, 0, "")).decides().at(201).failsLaunch("new-2").at(202).
				does("it cannot go", func(s *scaling.State, _ scaling.Group, now time.Time) { s.FailRemove("new-2", "refused", now) }).at(204).advances()
		}},
		{"a handover of one that is gone by itself", func() *story {
			return tale(desired(serving(2)).order(scaling.OrderHandover, 0, "")).decides().at(201).enters("i1", scaling.StateGone).enters("new-2", scaling.StateJoining).inService("new-2").at(202).advances()
		}},
		{"a replacement", func() *story {
			return tale(desired(serving(3).unwell(150, "i1"))).decides().at(201).drained("i1").at(202).gone("i1").at(203).decides()
		}},
		{"a replacement of a launch that once failed", func() *story {
			y := tale(desired(serving(3).unwell(150, "i1"))).decides().at(201).drained("i1")
			y.w.st.Instance("i1").Failure = "its disk is in use"
			return y.tell("it has a failure").at(202).gone("i1")
		}},
		{"standby and back", func() *story {
			return tale(desired(serving(3))).standby("web-1", true).at(201).standby("web-1", true).at(202).standby("i1", false).at(203).standby("web-9", true)
		}},
		{"unwell, for another reason, and well", func() *story {
			say := func(why string) func(s *scaling.State, _ scaling.Group, now time.Time) {
				return func(s *scaling.State, _ scaling.Group, now time.Time) { s.Suspect("i1", why, now) }
			}
			return tale(serving(2)).does("its checks fail", say("its checks fail")).at(210).does("still", say("its checks fail")).does("its VM stopped", say("its VM is stopped")).
				at(220).does("well", func(s *scaling.State, _ scaling.Group, _ time.Time) { s.Well("i1") }).does("well", func(s *scaling.State, _ scaling.Group, _ time.Time) { s.Well("i1") }).
				at(230).does("its checks fail", say("its checks fail")).enters("i1", scaling.StateRemoving).gone("i1")
		}},
		{"notifications", func() *story {
			n := scaling.Notification{Signal: scaling.High, Fingerprint: "f", Firing: true, StartsAt: at(150)}
			end := n
			end.Firing = false
			other, earlier, later := n, n, n
			other.Signal = scaling.Low
			earlier.StartsAt, later.StartsAt = at(100), at(205)
			endEarlier := end
			endEarlier.StartsAt = at(100)
			return tale(serving(1)).notify(end).notify(n).at(201).notify(n).at(202).notify(other).at(203).notify(earlier).at(206).notify(later).at(207).
				notify(end).at(208).notify(endEarlier).at(385).notify(n).at(566).notify(n).at(567).notify(end)
		}},
		{"a lease that ends as a repeat comes", func() *story {
			n := scaling.Notification{Signal: scaling.High, Fingerprint: "f", Firing: true, StartsAt: at(150)}
			return tale(serving(1)).notify(n).at(379).notify(n).at(559).notify(n)
		}},
		{"housekeeping", func() *story {
			w := serving(2).lease(scaling.High, 100).lease(scaling.Low, 100).order(scaling.OrderScaleIn, 1, "")
			w.st.Leases[0].Expires = at(200)
			w.st.Leases[1].Expires = at(200).Add(1)
			w.st.Creations = []time.Time{at(-3400), at(-3400).Add(1)}
			w.st.Removals = []time.Time{at(-3400), at(-3400).Add(1)}
			w.st.Answers = []scaling.Answer{{Key: "old", At: at(200 - 86400)}, {Key: "new", At: at(200 - 86400).Add(1)}}
			w.st.Pause = &scaling.Pause{Out: true, Until: at(200).Add(1)}
			w.state("i1", scaling.StateGone).st.Instance("i1").Since = at(-400)
			w.state("i2", scaling.StateGone).st.Instance("i2").Since = at(-400).Add(1)
			w.st.Instances = append(w.st.Instances, scaling.Instance{ID: "busy", State: scaling.StateGone, Since: at(-400), Activity: "a"}, scaling.Instance{ID: "failed", State: scaling.StateFailed, Since: at(-400)})
			w.st.Open = []scaling.Activity{{ID: "a"}}
			keep := func(s *scaling.State, _ scaling.Group, now time.Time) { s.Housekeep(now) }
			y := tale(w).does("at 200", keep)
			y.w.st.Pause.Until = at(200)
			y.tell("a pause until 200").does("again", keep)
			y.w.st.Pause = &scaling.Pause{In: true}
			return y.tell("a pause without an end").does("again", keep)
		}},
		{"the clock is set an hour ahead", func() *story {
			y := tale(high(2)).decides()
			y.w.drains("i2").lease(scaling.Low, 120).order(scaling.OrderScaleIn, 1, "").unwell(150, "i1")
			s := &y.w.st
			s.Open[0].Created, s.Open[0].Steps = at(150), []scaling.Step{{Name: "draining", Started: at(150), Ended: at(160)}, {Name: "removing", Started: at(160)}}
			s.Removals, s.Answers = []time.Time{at(150)}, []scaling.Answer{{Key: "k", At: at(140)}}
			s.Pause = &scaling.Pause{In: true, Until: at(500), At: at(100)}
			s.HoldUntil, s.CooldownUntil, s.BackoffUntil, s.LastNotification = at(300), at(310), at(320), at(190)
			s.Instance("i2").Deadline = at(260)
			s.Consumed[scaling.Low] = at(50)
			return y.tell("much is under way").does("shift", func(s *scaling.State, _ scaling.Group, _ time.Time) { s.Shift(time.Hour) })
		}},
		{"an address that changes", func() *story {
			to := func(a string) func(s *scaling.State, _ scaling.Group, _ time.Time) {
				return func(s *scaling.State, _ scaling.Group, _ time.Time) { s.Readdress("i1", netip.MustParseAddr(a)) }
			}
			return tale(serving(1)).does("192.0.2.1", to("192.0.2.1")).does("the same", to("192.0.2.1")).does("192.0.2.2", to("192.0.2.2")).
				enters("i1", scaling.StateRemoving).does("192.0.2.3", to("192.0.2.3"))
		}},
		{"a verdict that only would act", func() *story {
			return tale(high(1).set(func(g *scaling.Group) { g.Mode = scaling.ModeObserve })).decides()
		}},
		{"an order in a group that observes", func() *story {
			y := tale(serving(1).order(scaling.OrderScaleOut, 1, "").set(func(g *scaling.Group) { g.Mode = scaling.ModeObserve }))
			y.w.st.Orders[0].Hold = time.Minute
			return y.decides()
		}},
	}
	var all strings.Builder
	for _, tt := range tests {
		fmt.Fprintf(&all, "# %s\n%s\n", tt.name, tt.tell().out.String())
	}
	file := filepath.Join("testdata", "stories.golden")
	if *update {
		if err := os.WriteFile(file, []byte(all.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(all.String(), "\n")); diff != "" {
		t.Errorf("the stories (-want +got); -update writes them anew:\n%s", diff)
	}
}
