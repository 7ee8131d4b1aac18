package scaling_test

import (
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// What must hold after every step of every history, worked out from the model's
// own knowledge and not from the gates of the verdict.

// healthy counts those in service, without one, that are not known to be unwell:
// neither seen to be now, nor seen to be once and never well again.
func (h *history) healthy(bad map[string]string, without string) (serving, healthy int) {
	for _, i := range h.st.Instances {
		if i.State != scaling.StateInService || i.ID == without {
			continue
		}
		serving++
		if bad[i.ID] == "" && i.SuspectSince.IsZero() {
			healthy++
		}
	}
	return serving, healthy
}

func (h *history) everythingKnown() bool { return h.known.Listing && h.known.Pool && h.known.Signals }

// verdict holds a verdict against what is known, before it is begun.
func (h *history) verdict(v scaling.Verdict, bad map[string]string) {
	if v.Would || v.Action == scaling.ActionNone {
		return
	}
	if h.idle() {
		h.fail("observe", "%s in a group that observes", v.Action)
	}
	removes := v.Action == scaling.ActionScaleIn || v.Action == scaling.ActionReplace || (v.Action == scaling.ActionHandover && v.Successor != "")
	creates := v.Action == scaling.ActionScaleOut || v.Action == scaling.ActionFill || v.Action == scaling.ActionAdopt
	manual := v.Cause.Kind == scaling.CauseManual
	if removes {
		h.removal(v, bad, manual)
	}
	if creates && !manual && h.held(true) {
		h.fail("paused", "%s although the direction out is paused", v.Action)
	}
	if v.Cause.Kind == scaling.CauseAlert {
		h.alert(v)
	}
}

func (h *history) removal(v scaling.Verdict, bad map[string]string, manual bool) {
	victim := h.st.Instance(v.Victim)
	if victim == nil || victim.State != scaling.StateInService {
		h.fail("victim", "%s of %q, which is not in service", v.Action, v.Victim)
		return
	}
	if victim.Protected {
		h.fail("protected", "%s of the protected %s", v.Action, v.Victim)
	}
	if !h.everythingKnown() {
		h.fail("started", "%s before everything was read", v.Action)
	}
	serving, rest := h.healthy(bad, v.Victim)
	if bad[v.Victim] == "" && victim.SuspectSince.IsZero() && (rest < h.g.Min || (rest == 0 && serving > 0)) {
		h.fail("min", "%s of the healthy %s leaves %d healthy of %d", v.Action, v.Victim, rest, serving)
	}
	if v.Action != scaling.ActionReplace && serving < h.g.Min {
		h.fail("min", "%s leaves %d in service", v.Action, serving)
	}
	if v.Successor != "" && bad[v.Successor] != "" {
		h.fail("successor", "%s is unwell", v.Successor)
	}
	if !manual && h.g.Mode != scaling.ModeFull {
		h.fail("mode", "%s in mode %s", v.Action, h.g.Mode)
	}
	if !manual && h.held(false) {
		h.fail("paused", "%s although the direction in is paused", v.Action)
	}
	if v.Action == scaling.ActionReplace {
		h.replacement(v, bad)
	}
	if v.Cause.Kind == scaling.CauseBounds && h.now.Before(h.st.CooldownUntil) {
		h.fail("cooldown", "%s in the cooldown", v.Action)
	}
}

// replacement: only what was unwell for the grace time, never when too many are.
func (h *history) replacement(v scaling.Verdict, bad map[string]string) {
	i := h.st.Instance(v.Victim)
	serving, unwell := 0, 0
	for _, o := range h.st.Instances {
		if o.State != scaling.StateInService {
			continue
		}
		serving++
		if bad[o.ID] != "" {
			unwell++
		}
	}
	most := max(1, int(h.g.MaxUnhealthy*float64(serving)))
	switch {
	case bad[v.Victim] == "":
		h.fail("replace", "%s is well", v.Victim)
	case h.g.Grace <= 0 || i.SuspectSince.IsZero() || h.now.Sub(i.SuspectSince) < h.g.Grace:
		h.fail("replace", "%s is unwell since %s, and the grace time is %s", v.Victim, i.SuspectSince, h.g.Grace)
	case unwell > most:
		h.fail("replace", "%d of %d are unwell", unwell, serving)
	}
}

// held reports whether a person or a window holds automatic steps.
func (h *history) held(out bool) bool {
	if h.now.Before(h.st.HoldUntil) {
		return true
	}
	if p := h.st.Pause; p != nil && (p.Until.IsZero() || h.now.Before(p.Until)) && ((out && p.Out) || (!out && p.In)) {
		return true
	}
	m := h.window
	return m != nil && h.now.Before(m.Until) && ((out && m.Out) || (!out && m.In))
}

// alert: a step by a signal stands on evidence that was not used, is past the
// settle time, is not contradicted, and whose lease stands.
func (h *history) alert(v scaling.Verdict) {
	sig, at := v.Cause.Signal, v.Cause.EvidenceAt
	if h.used[sig][at] {
		h.fail("evidence", "%s on evidence of %s, which was used before", v.Action, at.Sub(t0))
	}
	if !at.After(h.st.Consumed[sig]) {
		h.fail("evidence", "%s on evidence of %s, and up to %s it is used", v.Action, at.Sub(t0), h.st.Consumed[sig].Sub(t0))
	}
	h.used[sig][at] = true
	if at.After(h.now.Add(scaling.MaxSkew)) {
		h.fail("skew", "%s on evidence of the future", v.Action)
	}
	stands := false
	for _, l := range h.st.Leases {
		stands = stands || (l.Signal == sig && h.now.Before(l.Expires))
	}
	if !stands {
		h.fail("lease", "%s and %s does not stand", v.Action, sig)
	}
	for _, e := range h.look.Evidence {
		if e.Signal == sig && e.State == scaling.EvidenceSuppressed {
			h.fail("silence", "%s although %s is silenced", v.Action, sig)
		}
	}
	if v.Action == scaling.ActionCancelDrain {
		return
	}
	if h.now.Before(h.st.CooldownUntil) {
		h.fail("cooldown", "%s in the cooldown", v.Action)
	}
	if e := h.st.LastActionEnd; !e.IsZero() && !at.After(e.Add(h.g.Settle())) {
		h.fail("settle", "%s on evidence of %s, and the last action ended at %s", v.Action, at.Sub(t0), e.Sub(t0))
	}
	for _, i := range h.st.Instances {
		if i.State.Launching() {
			h.fail("activity", "%s while %s is %s", v.Action, i.Name, i.State)
		}
	}
	if sig == scaling.Low {
		h.low(v)
	}
}

// low: every source was asked and says that low fires, the first of them on a
// sample that is fresh; nobody says that high does; and the rest can carry it.
func (h *history) low(v scaling.Verdict) {
	if len(h.g.Confirm) == 0 {
		h.fail("low", "%s without any source", v.Action)
	}
	for k, src := range h.g.Confirm {
		fires := false
		for _, e := range h.look.Evidence {
			if e.Source == src && e.Signal == scaling.Low {
				fires = e.State == scaling.EvidenceFiring && (k > 0 || e.At.Equal(v.Cause.EvidenceAt))
				break
			}
		}
		if _, asked := h.look.Asked[src]; !asked || !fires {
			h.fail("low", "%s although %s does not say that low fires", v.Action, src)
		}
	}
	for _, e := range h.look.Evidence {
		if e.Signal == scaling.High && e.State == scaling.EvidenceFiring {
			h.fail("contradiction", "%s although %s says that high fires", v.Action, e.Source)
		}
	}
	for _, l := range h.st.Leases {
		if l.Signal == scaling.High && h.now.Before(l.Expires) {
			h.fail("contradiction", "%s although high stands", v.Action)
		}
	}
	sum, n := 0.0, 0.0
	for _, i := range h.st.Instances {
		if i.State != scaling.StateInService {
			continue
		}
		n++
		r, ok := h.look.Readings[i.UUID]
		if !ok || h.now.Sub(r.At) > 30*time.Second || r.At.After(h.now.Add(scaling.MaxSkew)) {
			sum++
			continue
		}
		sum += r.Utilization
	}
	if n > 1 && sum/(n-1) >= h.g.High {
		h.fail("projection", "%s and the rest would carry %.2f", v.Action, sum/(n-1))
	}
}

// begun holds the state after Begin against the one before it.
func (h *history) begun(before scaling.State, v scaling.Verdict) {
	h.changed(before, "decide")
	s := &h.st
	if v.Would {
		if s.Desired != before.Desired || len(s.Instances) != len(before.Instances) || len(s.Open) != len(before.Open) ||
			!s.HoldUntil.Equal(before.HoldUntil) || len(s.Removals) != len(before.Removals) {
			h.fail("observe", "a verdict that only would act changed the state")
		}
		return
	}
	switch v.Action { //nolint:exhaustive // the others wish for nothing
	case scaling.ActionScaleOut, scaling.ActionFill, scaling.ActionAdopt, scaling.ActionScaleIn, scaling.ActionCancelDrain:
		if s.Desired < h.g.Min || s.Desired > h.g.Max {
			h.fail("desired", "%d after %s", s.Desired, v.Action)
		}
	case scaling.ActionReplace:
		if s.Desired != before.Desired {
			h.fail("desired", "%d after %s, %d before", s.Desired, v.Action, before.Desired)
		}
	}
	for sig, t := range before.Consumed {
		if s.Consumed[sig].Before(t) {
			h.fail("evidence", "what was used of %s falls from %s to %s", sig, t, s.Consumed[sig])
		}
	}
}

// changed holds any change of the state against the one before it.
func (h *history) changed(before scaling.State, by string) {
	s := &h.st
	decided := by == "decide"
	for _, i := range s.Instances {
		old := before.Instance(i.ID)
		switch {
		case old == nil:
			if !decided {
				h.fail("created", "%s by %s", i.Name, by)
			}
			if !i.Adopted {
				h.created = append(h.created, h.now)
			}
		case old.State == scaling.StateInService && i.State == scaling.StateDraining:
			h.drained(before, i, by)
		case old.State == scaling.StateInService && i.State != scaling.StateInService && i.State != scaling.StateStandby:
			h.fail("drain", "%s went from in_service to %s by %s", i.Name, i.State, by)
		case old.State == scaling.StateGone && i.State != scaling.StateGone:
			h.fail("gone", "%s is %s again", i.Name, i.State)
		}
		if a := s.Activity(i.Activity); (i.State.Launching() || i.State.Leaving()) && (a == nil || a.Status.Ended()) {
			h.fail("activity", "%s is %s without an activity that is open", i.Name, i.State)
		}
	}
	if len(s.Instances) > len(before.Instances) {
		if s.Owned()+h.orphans > h.g.Limit() {
			h.fail("limit", "%d owned and %d orphans after a creation", s.Owned(), h.orphans)
		}
		if s.Capacity() > h.g.Max && !h.handing() && s.Instances[len(s.Instances)-1].Adopted == false {
			h.fail("limit", "%d of max %d after a creation", s.Capacity(), h.g.Max)
		}
		if n := h.lastHour(h.created); h.g.CreationsPerHour > 0 && n > h.g.CreationsPerHour {
			h.fail("budget", "%d creations in an hour", n)
		}
	}
	if p := s.Instance(s.Primary); s.Primary != "" && (p == nil || p.State != scaling.StateInService) {
		h.fail("primary", "it is not in service after %s", by)
	}
	if s.Primary == "" && s.Count(scaling.StateInService) > 0 {
		h.fail("primary", "there is none after %s, and %d are in service", by, s.Count(scaling.StateInService))
	}
	if s.NextNumber < before.NextNumber {
		h.fail("number", "it falls from %d to %d", before.NextNumber, s.NextNumber)
	}
}

// handing reports whether a handover waits for a successor that comes beside the
// old one.
func (h *history) handing() bool {
	for _, a := range h.st.Open {
		if a.Kind == scaling.ActivityHandover && !a.Status.Ended() {
			return true
		}
	}
	return false
}

func (h *history) drained(before scaling.State, i scaling.Instance, by string) {
	if by != "decide" && by != "advance" {
		h.fail("drain", "%s by %s", i.Name, by)
	}
	if before.Instance(i.ID).Protected {
		h.fail("protected", "%s drains", i.Name)
	}
	h.removed = append(h.removed, h.now)
	if n := h.lastHour(h.removed); h.g.RemovalsPerHour > 0 && n > h.g.RemovalsPerHour {
		h.fail("budget", "%d removals in an hour", n)
	}
	if by != "advance" {
		return
	}
	bad, _ := h.health()
	wasBad := before.Instance(i.ID).Suspect != ""
	if serving, rest := h.healthy(bad, i.ID); !wasBad && (rest < h.g.Min || rest == 0) {
		h.fail("min", "a handover drains the healthy %s and leaves %d healthy of %d", i.Name, rest, serving)
	}
}

func (h *history) lastHour(ts []time.Time) int {
	n := 0
	for _, t := range ts {
		if h.now.Sub(t) < time.Hour {
			n++
		}
	}
	return n
}

// fewer holds the verdict against the one that would have come out if some of the
// repeats of an alert had been lost: whatever it would begin, the one with all
// repeats begins too, unless a signal that now stands goes before it.
func (h *history) fewer(v scaling.Verdict, bad map[string]string) {
	s := h.st.Clone()
	s.Leases = h.thin.Leases
	lost := scaling.Decide(h.input(&s, bad))
	if lost.Action == scaling.ActionNone || (lost.Action == v.Action && lost.Victim == v.Victim && lost.Count == v.Count) {
		return
	}
	if lost.Cause.Kind == scaling.CauseAlert && lost.Cause.Signal == scaling.High {
		h.fail("repeats", "%s if repeats are lost, and else %s (%s)", lost.Action, v.Action, v.Reason)
	}
	high := h.st.Condition(scaling.High, h.now).Standing
	if v.Action == scaling.ActionNone && !high {
		h.fail("repeats", "%s if repeats are lost, and else nothing (%s)", lost.Action, v.Reason)
	}
	if v.Action != scaling.ActionNone && v.Cause.Kind != scaling.CauseAlert {
		h.fail("repeats", "%s if repeats are lost, and else %s", lost.Action, v.Action)
	}
}
