package scaling

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Every change of a State is one of the methods below, run inside Store.Change.
// They write the intent before anything is done about it, take the time as an
// argument and call nobody; the engine does what they wrote down.

// IDs makes identifiers. Instance ids are UUIDs, activity ids sort by time.
type IDs interface {
	Instance() string
	Activity(now time.Time) string
}

// Begin records what a verdict asks for: the order it answers, the evidence it
// used up, the instances and the activity. A verdict that only would act changes
// nothing but an order it refuses.
func (s *State) Begin(v Verdict, g Group, now time.Time, ids IDs) {
	if v.Order != "" {
		s.followed(v, now)
	}
	if v.Would || v.Action == ActionNone {
		return
	}
	if v.Cause.Kind == CauseAlert && v.Cause.EvidenceAt.After(s.Consumed[v.Cause.Signal]) {
		if s.Consumed == nil {
			s.Consumed = map[Signal]time.Time{}
		}
		s.Consumed[v.Cause.Signal] = v.Cause.EvidenceAt
	}
	switch v.Action {
	case ActionScaleOut:
		s.launch(v, ActivityScaleOut, g, now, ids)
		s.wish(max(s.Desired, s.Capacity()), g)
	case ActionFill:
		s.launch(v, ActivityFill, g, now, ids)
		s.wish(s.Desired, g)
	case ActionAdopt:
		s.AdoptedNames = append(s.AdoptedNames, v.Adopt)
		a := Activity{ID: ids.Activity(now), Group: g.Name, Kind: ActivityAdopt, Status: ActivityPending, Cause: v.Cause, Created: now}
		id, uuid := s.adopted(v.Adopt, ids)
		i := Instance{
			ID: id, UUID: uuid, Group: g.Name, Name: v.Adopt, Adopted: true, State: StateRequested, Since: now,
			CreatedAt: now, Deadline: now.Add(g.LaunchDeadline), Activity: a.ID,
		}
		a.Launch = i.ID
		a.Enter(string(StateRequested), now)
		s.Open, s.Instances = append(s.Open, a), append(s.Instances, i)
		s.wish(max(s.Desired, s.Capacity()), g)
	case ActionScaleIn:
		a := Activity{ID: ids.Activity(now), Group: g.Name, Kind: ActivityScaleIn, Status: ActivityPending, Cause: v.Cause, Remove: v.Victim, Created: now}
		s.Open = append(s.Open, a)
		s.drain(v.Victim, a.ID, now)
		s.wish(s.Capacity(), g)
		s.electPrimary()
	case ActionReplace:
		a := Activity{ID: ids.Activity(now), Group: g.Name, Kind: ActivityReplace, Status: ActivityPending, Cause: v.Cause, Remove: v.Victim, Created: now}
		s.Open = append(s.Open, a)
		s.drain(v.Victim, a.ID, now)
		s.electPrimary()
	case ActionHandover:
		a := Activity{
			ID: ids.Activity(now), Group: g.Name, Kind: ActivityHandover, Status: ActivityPending, Cause: v.Cause,
			Launch: v.Successor, Remove: v.Victim, Created: now,
		}
		a.Enter("successor", now)
		if v.Successor == "" {
			i := s.newInstance(g, now, ids, a.ID)
			a.Launch = i.ID
			s.Instances = append(s.Instances, i)
			s.Creations = append(s.Creations, now)
		} else {
			s.wish(s.Capacity()-1, g)
		}
		s.Open = append(s.Open, a)
	case ActionCancelDrain:
		s.cancelDrain(v.Victim, g, now)
		s.wish(s.Capacity(), g)
	case ActionNone:
	}
}

// wish notes how many instances are desired. What the group loses is filled up
// again to that number; what a decision or a person takes away lowers it.
func (s *State) wish(n int, g Group) { s.Desired = min(max(n, g.Min), g.Max) }

func (s *State) followed(v Verdict, now time.Time) {
	k := slices.IndexFunc(s.Orders, func(o Order) bool { return o.ID == v.Order })
	if k < 0 {
		return
	}
	if o := s.Orders[k]; o.Kind == OrderSetDesired && v.OrderDone && v.OrderRefused == "" {
		s.Desired = o.Count
	}
	if h := s.Orders[k].Hold; h > 0 && v.Action != ActionNone && !v.Would {
		s.HoldUntil = now.Add(h)
	}
	if v.OrderDone || v.OrderRefused != "" {
		s.Orders = slices.Delete(s.Orders, k, k+1)
		return
	}
	if s.Orders[k].Kind != OrderSetDesired {
		s.Orders[k].Count--
	}
}

func (s *State) newInstance(g Group, now time.Time, ids IDs, activity string) Instance {
	n := max(s.NextNumber, 1)
	// A provider refuses a name that is there, and a baseline's is.
	for slices.Contains(g.Adopt, g.VMName(n)) || slices.Contains(s.AdoptedNames, g.VMName(n)) {
		n++
	}
	s.NextNumber = n + 1
	return Instance{
		ID: ids.Instance(), Group: g.Name, Name: g.VMName(n), Number: n, State: StateRequested, Since: now,
		CreatedAt: now, Deadline: now.Add(g.LaunchDeadline), Activity: activity,
	}
}

func (s *State) launch(v Verdict, kind ActivityKind, g Group, now time.Time, ids IDs) {
	for range v.Count {
		a := Activity{ID: ids.Activity(now), Group: g.Name, Kind: kind, Status: ActivityPending, Cause: v.Cause, Created: now}
		i := s.newInstance(g, now, ids, a.ID)
		a.Launch = i.ID
		a.Enter(string(StateRequested), now)
		s.Open, s.Instances = append(s.Open, a), append(s.Instances, i)
		s.Creations = append(s.Creations, now)
	}
}

func (s *State) drain(id, activity string, now time.Time) {
	i := s.Instance(id)
	if i == nil || i.State != StateInService {
		return
	}
	i.Activity = activity
	// The deadline begins with the drain, not with the wish for it: see Draining.
	i.Deadline = time.Time{}
	s.Removals = append(s.Removals, now)
	s.Enter(id, StateDraining, time.Time{}, now)
}

// Draining records that the balancer was seen to drain the instance; from now on
// its sessions have the drain deadline to end.
func (s *State) Draining(id string, g Group, now time.Time) {
	if i := s.Instance(id); i != nil && i.State == StateDraining && i.Deadline.IsZero() {
		i.Deadline = now.Add(g.DrainDeadline)
		s.Step(id, string(StateDraining), now) // where its address was moved away first
	}
}

// Enter moves an instance into a state and its activity into the step of that
// name. Entering the state it is in changes nothing.
func (s *State) Enter(id string, st InstanceState, deadline, now time.Time) {
	i := s.Instance(id)
	if i == nil || i.State == st {
		return
	}
	i.State, i.Since = st, now
	if !deadline.IsZero() {
		i.Deadline = deadline
	}
	if a := s.Activity(i.Activity); a != nil {
		a.Enter(string(st), now)
	}
}

// Step notes that the instance's activity entered a step that is no state.
func (s *State) Step(id, step string, now time.Time) {
	if i := s.Instance(id); i != nil {
		if a := s.Activity(i.Activity); a != nil && !a.Status.Ended() {
			a.Enter(step, now)
		}
	}
}

// Tried counts a call to a driver in the step that runs, with its error if any.
func (s *State) Tried(id string, err error) {
	i := s.Instance(id)
	if i == nil {
		return
	}
	if a := s.Activity(i.Activity); a != nil && len(a.Steps) > 0 {
		st := &a.Steps[len(a.Steps)-1]
		st.Tries++
		st.Err = ""
		if err != nil {
			st.Err = err.Error()
		}
	}
}

// InService records that a launched instance is in the pool, healthy and gets
// traffic. It starts the cooldown, unless a handover has more to do.
func (s *State) InService(id string, g Group, now time.Time) {
	i := s.Instance(id)
	if i == nil || i.State != StateJoining {
		return
	}
	i.InServiceAt = now
	s.retaken(id)
	s.Enter(id, StateInService, time.Time{}, now)
	s.Failures, s.BackoffUntil = 0, time.Time{}
	if a := s.Activity(i.Activity); a != nil && a.Kind != ActivityHandover {
		a.End(ActivityDone, i.Name+" is in service", now)
	}
	s.electPrimary()
	s.ended(g, now)
}

// FailLaunch gives a launch up: what exists of it is removed, the next launch is
// backed off. An adopted VM is let go, never removed.
func (s *State) FailLaunch(id, why string, g Group, now time.Time) {
	i := s.Instance(id)
	if i == nil || !i.State.Launching() {
		return
	}
	i.Failure = why
	s.Failures++
	back := g.BackoffMin
	for n := 1; n < s.Failures && back < g.BackoffMax; n++ {
		back *= 2
	}
	s.BackoffUntil = now.Add(min(back, max(g.BackoffMax, g.BackoffMin)))
	// A step that failed is wished no more, the next evidence decides again; what
	// was lost or is handed over is still wished.
	if a := s.Activity(i.Activity); a != nil {
		switch a.Kind {
		case ActivityScaleOut:
			s.wish(s.Desired-1, g)
		case ActivityAdopt:
			s.wish(min(s.Desired, s.Capacity()-1), g)
		case ActivityScaleIn, ActivityHandover, ActivityFill, ActivityReplace, ActivityStandby, ActivityCleanup, ActivityRelease:
		}
	}
	s.Enter(id, StateRemoving, time.Time{}, now)
}

// Drained moves an instance from draining to removing.
func (s *State) Drained(id string, g Group, now time.Time) {
	i := s.Instance(id)
	if i == nil || i.State != StateDraining {
		return
	}
	s.Enter(id, StateRemoving, time.Time{}, now)
	s.ended(g, now)
}

// cancelDrain puts a draining instance back into service.
func (s *State) cancelDrain(id string, g Group, now time.Time) {
	i := s.Instance(id)
	if i == nil || i.State != StateDraining {
		return
	}
	a := s.Activity(i.Activity)
	i.State, i.Since = StateInService, now
	if a != nil {
		a.Enter("cancel", now)
		a.End(ActivityUndone, "high was confirmed: "+i.Name+" is back in service", now)
	}
	s.electPrimary()
	s.ended(g, now)
}

// Advance moves on what waits for another instance: a handover drains the old one
// once its successor is in service, and ends without it when the successor
// failed. It reports whether anything changed. While the group only observes nothing
// is moved on: nobody would carry it out, and by the time that somebody does the
// successor may have died.
func (s *State) Advance(g Group, now time.Time) bool {
	if g.Mode == ModeObserve {
		return false
	}
	changed := false
	for k := range s.Open {
		a := &s.Open[k]
		if a.Kind != ActivityHandover || a.Status.Ended() || s.heldSince(a.Created) {
			continue
		}
		next, old := s.Instance(a.Launch), s.Instance(a.Remove)
		switch {
		case next != nil && (next.State.Launching() || (next.State.Leaving() && next.Failure != "")):
			// The steps of a launch, and of its undoing, are this activity's.
		case old == nil || old.State == StateGone || old.State == StateFailed:
			a.End(ActivityDone, "the old instance is gone", now)
			changed = true
		case old.State != StateInService:
		case old.Protected:
			a.End(ActivityUndone, old.Name+" is protected and stays", now)
			changed = true
		case next == nil || next.State != StateInService:
			a.End(ActivityUndone, "no successor: "+failureOf(next), now)
			s.ended(g, now)
			changed = true
		case old.SuspectSince.IsZero() && (!next.SuspectSince.IsZero() || s.well()-1 < g.Min):
			// The successor, or another one that serves, turned unwell meanwhile.
		default:
			if s.Primary == old.ID {
				s.Primary = next.ID
			}
			s.drain(old.ID, a.ID, now)
			changed = true
		}
	}
	return changed
}

func failureOf(i *Instance) string {
	if i == nil || i.Failure == "" {
		return "it serves no more"
	}
	return i.Failure
}

// well counts those in service that are not known to be unwell.
func (s *State) well() int {
	n := 0
	for _, i := range s.Instances {
		if i.State == StateInService && i.SuspectSince.IsZero() {
			n++
		}
	}
	return n
}

// Gone records that nothing of the instance is left, or that it was let go.
func (s *State) Gone(id string, g Group, outcome string, now time.Time) {
	i := s.Instance(id)
	if i == nil || i.State == StateGone {
		return
	}
	i.Suspect, i.SuspectSince = "", time.Time{}
	failure, adopted, name := i.Failure, i.Adopted && i.InServiceAt.IsZero(), i.Name
	aid := i.Activity
	s.Enter(id, StateGone, time.Time{}, now)
	if a := s.Activity(aid); a != nil {
		switch {
		case failure != "" && a.Launch == id && a.Kind == ActivityHandover:
			// Advance ends it, since the old instance stays.
		case failure != "" && a.Kind == ActivityReplace:
			a.End(ActivityDone, fmt.Sprintf("%s: %s", failure, outcome), now)
		case failure != "":
			a.End(ActivityUndone, fmt.Sprintf("%s: %s", failure, outcome), now)
		default:
			a.End(ActivityDone, outcome, now)
		}
	}
	if failure == "" {
		s.ended(g, now)
	}
	// A baseline that could not be adopted may be by the next try, after the back-off.
	if adopted && failure != "" {
		s.AdoptedNames = slices.DeleteFunc(s.AdoptedNames, func(n string) bool { return n == name })
	}
	s.electPrimary()
}

// Suspect records that an instance in service is unwell, and why; the first time
// since it was well counts. It reports whether anything changed.
func (s *State) Suspect(id, why string, now time.Time) bool {
	i := s.Instance(id)
	if i == nil || i.State != StateInService || i.Suspect == why {
		return false
	}
	i.Suspect = why
	if i.SuspectSince.IsZero() {
		i.SuspectSince = now
	}
	return true
}

// Well records that an instance is seen to be well. It reports whether anything
// changed.
func (s *State) Well(id string) bool {
	i := s.Instance(id)
	if i == nil || i.SuspectSince.IsZero() {
		return false
	}
	i.Suspect, i.SuspectSince = "", time.Time{}
	return true
}

// Readdress records that an instance is reached at another address now; who has
// left is not followed. It reports whether anything changed.
func (s *State) Readdress(id string, to netip.Addr) bool {
	i := s.Instance(id)
	if i == nil || !i.Address.IsValid() || i.Address == to || i.State.Leaving() || i.State == StateGone {
		return false
	}
	i.Address = to
	return true
}

// Standby takes an instance out of traffic, or puts it back: the balancer drains
// it and its VM stays as it is. It counts against the limit and is desired no
// more. Doing it again is success. ErrUnknownInstance, or ErrRefused with the
// reason: fewer than min would serve, or it is neither in service nor in standby.
func (s *State) Standby(idOrName string, on bool, g Group, by string, now time.Time, ids IDs) error {
	if err := s.errLetGo(); err != nil {
		return err
	}
	i := s.Find(idOrName)
	switch {
	case i == nil:
		return ErrUnknownInstance
	case (on && i.State == StateStandby) || (!on && i.State == StateInService):
		return nil
	case i.State != StateStandby && i.State != StateInService:
		return fmt.Errorf("%w: %s is %s", ErrRefused, i.Name, i.State)
	case on && s.Count(StateInService)-1 < max(g.Min, 1):
		return fmt.Errorf("%w: %d in service, and min is %d: scale out first", ErrRefused, s.Count(StateInService), g.Min)
	case on && s.handedOver(i.ID):
		return fmt.Errorf("%w: a handover of %s is under way", ErrRefused, i.Name)
	}
	st, word := StateStandby, " is in standby"
	if !on {
		st, word = StateInService, " is back in service"
	}
	a := Activity{
		ID: ids.Activity(now), Group: g.Name, Kind: ActivityStandby, Status: ActivityPending, Created: now,
		Cause: Cause{Kind: CauseManual, By: by}, Remove: i.ID,
	}
	s.Open = append(s.Open, a)
	i.Activity = a.ID
	s.Well(i.ID)
	name := i.Name
	s.Enter(i.ID, st, time.Time{}, now)
	s.Activity(a.ID).End(ActivityDone, name+word, now)
	if on {
		s.wish(s.Desired-1, g)
	} else {
		s.wish(max(s.Desired, s.Capacity()), g)
	}
	s.electPrimary()
	s.ended(g, now)
	return nil
}

// handedOver reports whether an open handover brings or takes the instance.
func (s *State) handedOver(id string) bool {
	return slices.ContainsFunc(s.Open, func(a Activity) bool {
		return a.Kind == ActivityHandover && !a.Status.Ended() && (a.Launch == id || a.Remove == id)
	})
}

// Cleared records that a person removed what an instance in the state failed had
// left behind.
func (s *State) Cleared(id string, now time.Time) {
	if i := s.Instance(id); i != nil && i.State == StateFailed {
		s.Enter(id, StateGone, time.Time{}, now)
	}
}

// FailRemove records that an instance could not be removed and a person must
// look: it keeps counting against max.
func (s *State) FailRemove(id, why string, now time.Time) {
	i := s.Instance(id)
	if i == nil || i.State != StateRemoving {
		return
	}
	i.Failure = why
	aid := i.Activity
	s.Enter(id, StateFailed, time.Time{}, now)
	if a := s.Activity(aid); a != nil {
		a.End(ActivityFailed, why, now)
	}
}

// ended notes the end of an action: evidence from before it proves nothing more.
func (s *State) ended(g Group, now time.Time) {
	s.LastActionEnd = now
	s.CooldownUntil = now.Add(g.Cooldown)
}

// electPrimary keeps the primary as long as it serves, else takes the one longest
// in service.
func (s *State) electPrimary() {
	if p := s.Instance(s.Primary); p != nil && p.State == StateInService {
		return
	}
	s.Primary = ""
	var best *Instance
	for k := range s.Instances {
		i := &s.Instances[k]
		if i.State == StateInService && (best == nil || i.InServiceAt.Before(best.InServiceAt)) {
			best = i
		}
	}
	if best != nil {
		s.Primary = best.ID
	}
}

// Shift moves every time that is kept by d, after the wall clock was stepped by
// it: what was to happen in a minute still does. The end of a pause stays: a
// person named the hour.
func (s *State) Shift(d time.Duration) {
	move := func(ts ...*time.Time) {
		for _, t := range ts {
			if !t.IsZero() {
				*t = t.Add(d)
			}
		}
	}
	for k := range s.Instances {
		i := &s.Instances[k]
		move(&i.Since, &i.InServiceAt, &i.Deadline, &i.SuspectSince)
	}
	for k := range s.Open {
		a := &s.Open[k]
		move(&a.Created)
		for n := range a.Steps {
			move(&a.Steps[n].Started, &a.Steps[n].Ended)
		}
	}
	for k := range s.Leases {
		l := &s.Leases[k]
		move(&l.FirstSeen, &l.LastSeen, &l.Expires)
	}
	for k := range s.Orders {
		move(&s.Orders[k].At)
	}
	for k := range s.Answers {
		move(&s.Answers[k].At)
	}
	for k := range s.Creations {
		move(&s.Creations[k])
	}
	for k := range s.Removals {
		move(&s.Removals[k])
	}
	for sig, t := range s.Consumed {
		s.Consumed[sig] = t.Add(d)
	}
	if s.Release != nil {
		move(&s.Release.At, &s.Release.Done)
	}
	move(&s.SnapshotsFrom, &s.HoldUntil, &s.LastActionEnd, &s.CooldownUntil, &s.BackoffUntil, &s.LastNotification)
}

// Notify folds one notification into the leases.
func (s *State) Notify(n Notification, ttl time.Duration, now time.Time) NotifyResult {
	s.LastNotification = now
	k := slices.IndexFunc(s.Leases, func(l Lease) bool {
		return l.Signal == n.Signal && l.Fingerprint == n.Fingerprint
	})
	if !n.Firing {
		if k < 0 || n.StartsAt.Before(s.Leases[k].StartsAt) {
			return NotifyDuplicate // it ends a firing that was over already
		}
		s.Leases = slices.Delete(s.Leases, k, k+1)
		return NotifyResolved
	}
	l := Lease{
		Signal: n.Signal, Fingerprint: n.Fingerprint, AlertName: n.AlertName, StartsAt: n.StartsAt,
		FirstSeen: now, LastSeen: now, Expires: now.Add(ttl), Receiver: n.Receiver,
	}
	if k < 0 {
		s.Leases = append(s.Leases, l)
		return NotifyAccepted
	}
	old := s.Leases[k]
	if now.Before(old.Expires) {
		// A late copy from another peer must not make the alert look older or newer
		// than it is; the start only moves forward, with a new firing.
		l.FirstSeen = old.FirstSeen
		if old.StartsAt.After(l.StartsAt) {
			l.StartsAt = old.StartsAt
		}
		s.Leases[k] = l
		return NotifyRenewed
	}
	s.Leases[k] = l
	return NotifyAccepted
}

// maxLeases bounds the leases of a group: a sender that makes up fingerprints
// must not fill the store.
const maxLeases = 64

// Housekeep forgets what no decision can need any more.
func (s *State) Housekeep(now time.Time) {
	s.Leases = slices.DeleteFunc(s.Leases, func(l Lease) bool { return !now.Before(l.Expires) })
	if n := len(s.Leases); n > maxLeases {
		s.Leases = slices.Delete(s.Leases, 0, n-maxLeases)
	}
	old := func(t time.Time) bool { return now.Sub(t) >= time.Hour }
	s.Creations = slices.DeleteFunc(s.Creations, old)
	s.Removals = slices.DeleteFunc(s.Removals, old)
	s.Answers = slices.DeleteFunc(s.Answers, func(a Answer) bool { return now.Sub(a.At) >= 24*time.Hour })
	s.Instances = slices.DeleteFunc(s.Instances, func(i Instance) bool {
		return i.State == StateGone && now.Sub(i.Since) >= goneKept && s.Activity(i.Activity) == nil
	})
	if p := s.Pause; p != nil && !p.Until.IsZero() && !now.Before(p.Until) {
		s.Pause = nil
	}
}

// goneKept is how long a gone instance stays in the state, so that people and a
// late step still find it.
const goneKept = 10 * time.Minute
