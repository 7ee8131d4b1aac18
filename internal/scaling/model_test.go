package scaling_test

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// rules is the pure side as the engine calls it. A test may break one of them, to
// see that the histories find it.
type rules struct {
	decide  func(scaling.Input) scaling.Verdict
	begin   func(*scaling.State, scaling.Verdict, scaling.Group, time.Time, scaling.IDs)
	advance func(*scaling.State, scaling.Group, time.Time) bool
	notify  func(*scaling.State, scaling.Notification, time.Duration, time.Time) scaling.NotifyResult
	standby func(*scaling.State, string, bool, scaling.Group, time.Time, scaling.IDs) error
	shift   func(*scaling.State, time.Duration)
}

func theRules() rules {
	return rules{
		decide:  scaling.Decide,
		begin:   (*scaling.State).Begin,
		advance: (*scaling.State).Advance,
		notify:  (*scaling.State).Notify,
		standby: func(s *scaling.State, id string, on bool, g scaling.Group, now time.Time, ids scaling.IDs) error {
			return s.Standby(id, on, g, "ops", now, ids)
		},
		shift: (*scaling.State).Shift,
	}
}

// machine is a VM of the modelled world.
type machine struct {
	power   scaling.Power
	healthy bool
}

// history is a group that lives through random events: what the state has, what
// the world is like, and what is known of it.
type history struct {
	rules
	g   scaling.Group
	st  scaling.State
	now time.Time
	ids seqIDs

	world    map[string]*machine
	baseline bool // the VM to adopt exists

	listed          map[string]scaling.Power
	checks          map[string]bool // passed, by the last observation
	missing         map[string]int
	orphans         int
	known           scaling.Known
	look            scaling.Lookup
	since           time.Time
	window          *scaling.Maintenance
	lastEvidence    map[string]time.Time // by source
	twice, reversed bool                 // deliver every notification twice; the copies in another order
	thin            *scaling.State       // its leases are those without some of the repeats; nil: not asked

	// The log, against which the invariants are held.
	used      map[scaling.Signal]map[time.Time]bool
	created   []time.Time
	removed   []time.Time
	actions   []string
	decisions int
	err       error
}

// word is a random number that is eaten from below.
type word uint64

func (w *word) n(n int) int {
	out := int(uint64(*w) % uint64(n))
	*w /= word(n)
	return out
}

// mix spreads what the generator prefers, small numbers, over all (splitmix64).
func mix(x uint64) word {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return word(x ^ x>>31)
}

func newHistory(seed uint64, r rules) *history {
	w := mix(seed)
	h := &history{
		rules: r, now: t0, since: t0, world: map[string]*machine{}, baseline: true,
		lastEvidence: map[string]time.Time{}, missing: map[string]int{},
		used: map[scaling.Signal]map[time.Time]bool{scaling.High: {}, scaling.Low: {}},
	}
	h.st.Group = "web"
	h.forget()
	g := group()
	g.Min = w.n(3)
	g.Max = max(1, g.Min+w.n(4))
	g.Surge = w.n(2)
	g.Mode = []scaling.Mode{scaling.ModeFull, scaling.ModeFull, scaling.ModeFull, scaling.ModeFull, scaling.ModeScaleOutOnly, scaling.ModeObserve}[w.n(6)]
	g.Victim = []scaling.VictimPolicy{scaling.VictimNewest, scaling.VictimOldest, scaling.VictimLeastBusy}[w.n(3)]
	g.Confirm = [][]string{{"prometheus", "alertmanager"}, {"prometheus"}, {"alertmanager"}, nil}[[]int{0, 0, 0, 1, 1, 2, 3}[w.n(7)]]
	g.Grace = []time.Duration{0, 10 * time.Second, 30 * time.Second}[w.n(3)]
	g.MaxUnhealthy = []float64{0.3, 0.5, 1}[w.n(3)]
	g.CreationsPerHour = []int{0, 3, 8, 20}[w.n(4)]
	g.RemovalsPerHour = []int{0, 2, 5, 20}[w.n(4)]
	g.HighHold = []time.Duration{0, 0, 15 * time.Second}[w.n(3)]
	g.LowHold = []time.Duration{0, 0, 15 * time.Second}[w.n(3)]
	g.Cooldown = []time.Duration{0, 5 * time.Second, 30 * time.Second}[w.n(3)]
	g.WarmUp = []time.Duration{0, 10 * time.Second}[w.n(2)]
	if w.n(3) == 0 {
		g.Adopt = []string{"vm-test"}
	}
	h.g = g
	return h
}

// forget is a restart: the state stays, all that was known is gone.
func (h *history) forget() {
	h.since, h.known, h.listed, h.checks = h.now, scaling.Known{}, map[string]scaling.Power{}, map[string]bool{}
	h.missing, h.orphans = map[string]int{}, 0
	h.look = scaling.Lookup{Asked: map[string]time.Time{}}
}

// live lets a history happen. It returns the first invariant that did not hold.
func live(seed uint64, events []uint64, r rules, change func(*history)) *history {
	h := newHistory(seed, r)
	if change != nil {
		change(h)
	}
	h.listing(0)
	h.observe(0)
	h.ask(0)
	h.tick()
	for _, e := range events {
		if h.err != nil {
			return h
		}
		w := mix(e)
		h.event(&w)
		h.now = h.now.Add(time.Second)
		for range 4 {
			if h.err != nil || !h.tick() {
				break
			}
		}
	}
	return h
}

func (h *history) fail(invariant, format string, args ...any) {
	if h.err == nil {
		h.err = fmt.Errorf("%s: %s (at %s, group min %d max %d surge %d mode %s, after %v)", invariant, fmt.Sprintf(format, args...),
			h.now.Sub(t0), h.g.Min, h.g.Max, h.g.Surge, h.g.Mode, h.actions)
	}
}

// event is what happens next.
func (h *history) event(w *word) {
	switch k := w.n(100); {
	case k < 5:
		h.now = h.now.Add([]time.Duration{5 * time.Second, 20 * time.Second, time.Minute, 3 * time.Minute, 10 * time.Minute, time.Hour}[w.n(6)])
	case k < 30:
		h.load(w)
	case k < 38:
		h.notifications(w)
	case k < 43:
		h.ask(w.n(64))
	case k < 46:
		h.read(w)
	case k < 66:
		for range 1 + w.n(6) {
			h.workAll()
		}
	case k < 72:
		h.work(w)
	case k < 77:
		h.accident(w)
	case k < 80:
		h.listing(w.n(8))
	case k < 83:
		h.observe(w.n(4))
	case k < 88:
		h.order(w)
	case k < 90:
		h.pause(w)
	case k < 92:
		h.protect(w)
	case k < 94:
		h.putStandby(w)
	case k < 96:
		h.reload(w)
	case k < 97:
		h.forget()
		if w.n(2) == 0 {
			h.listing(0)
			h.observe(0)
			h.ask(0)
		}
	case k < 98:
		h.step([]time.Duration{time.Hour, -time.Hour, 3 * time.Second, -20 * time.Second}[w.n(4)])
	case k < 99:
		h.orphans = w.n(3)
	default:
		h.window = nil
		if w.n(2) == 0 {
			h.window = &scaling.Maintenance{Name: "night", Out: w.n(2) == 0, In: w.n(2) == 0, Until: h.now.Add(10 * time.Minute)}
		}
	}
}

// load is the whole way of a signal: the notification, both sources with fresh
// samples, readings that fit, and time enough since the last action.
func (h *history) load(w *word) {
	sig := []scaling.Signal{scaling.High, scaling.Low}[w.n(2)]
	other := scaling.High
	if sig == scaling.High {
		other = scaling.Low
	}
	if w.n(2) == 0 {
		h.now = h.now.Add(h.g.Settle() + 5*time.Second)
	}
	if w.n(4) != 0 {
		h.st.Leases = slices.DeleteFunc(h.st.Leases, func(l scaling.Lease) bool { return l.Signal == other })
		if h.thin != nil {
			h.thin.Leases = slices.DeleteFunc(h.thin.Leases, func(l scaling.Lease) bool { return l.Signal == other })
		}
	}
	h.deliver(scaling.Notification{Group: "web", Signal: sig, Firing: true, Fingerprint: "f" + string(sig), StartsAt: h.now.Add(-10 * time.Second)})
	h.look = scaling.Lookup{Asked: map[string]time.Time{}, Readings: map[string]scaling.Reading{}}
	for _, src := range h.g.Confirm {
		h.look.Asked[src] = h.now
		h.evidence(src, sig, scaling.EvidenceFiring, h.now.Add(-time.Second))
	}
	if w.n(5) == 0 && len(h.g.Confirm) > 0 {
		e := &h.look.Evidence[w.n(len(h.look.Evidence))]
		switch w.n(6) { // one of them says something else
		case 0:
			e.State = scaling.EvidenceAbsent
		case 1:
			e.State = scaling.EvidenceUnreachable
		case 2:
			e.State = scaling.EvidenceSuppressed
		case 3:
			e.At = h.now.Add(time.Hour)
		case 4:
			e.At = h.now.Add(-5 * time.Minute)
		case 5:
			h.evidence(e.Source, other, scaling.EvidenceFiring, h.now)
		}
	}
	h.known.Signals = true
	util := 0.9
	if sig == scaling.Low {
		util = 0.05
	}
	for id, m := range h.world {
		if m.power == scaling.PowerRunning {
			h.look.Readings["u"+id] = scaling.Reading{Utilization: util, At: h.now.Add(-time.Second)}
		}
	}
	if w.n(3) != 0 {
		h.listing(0)
		h.observe(0)
	}
}

func (h *history) evidence(src string, sig scaling.Signal, st scaling.EvidenceState, at time.Time) {
	h.look.Evidence = append(h.look.Evidence, scaling.Evidence{Source: src, Group: "web", Signal: sig, State: st, At: at, Detail: "says so"})
	h.lastEvidence[src] = at
}

// notifications are one post of up to three, true or made up.
func (h *history) notifications(w *word) {
	var ns []scaling.Notification
	for range 1 + w.n(3) {
		sig := []scaling.Signal{scaling.High, scaling.Low}[w.n(2)]
		starts := []time.Duration{-time.Second, -10 * time.Second, -5 * time.Minute, 0, time.Hour}[w.n(5)]
		n := scaling.Notification{
			Group: "web", Signal: sig, Firing: w.n(4) != 0, StartsAt: h.now.Add(starts),
			Fingerprint: []string{"f" + string(sig), "g" + string(sig)}[w.n(2)],
		}
		if w.n(8) == 0 {
			n.StartsAt = time.Time{}
		}
		ns = append(ns, n)
	}
	h.deliver(ns...)
}

// deliver hands notifications over, as one post. Delivered twice, the copies come
// in another order, as far as that may be: what fires and what ends the same alert
// keep theirs.
func (h *history) deliver(ns ...scaling.Notification) {
	if h.twice {
		var all []scaling.Notification
		for _, n := range ns {
			all = append(all, n, n)
		}
		if h.reversed {
			for k := 0; k+1 < len(all); k++ {
				a, b := all[k], all[k+1]
				if a.Fingerprint != b.Fingerprint || a.Firing == b.Firing {
					all[k], all[k+1] = b, a
				}
			}
		}
		ns = all
	}
	h.st.Housekeep(h.now)
	for _, n := range ns {
		if h.thin != nil {
			n.Fingerprint = "f" + string(n.Signal)
		}
		repeat := slices.ContainsFunc(h.st.Leases, func(l scaling.Lease) bool { return l.Signal == n.Signal && l.StartsAt.Equal(n.StartsAt) })
		res := h.notify(&h.st, n, h.g.LeaseTTL, h.now)
		if h.thin == nil {
			continue
		}
		h.thin.Housekeep(h.now)
		if res != scaling.NotifyRenewed || !repeat || h.now.Unix()%3 == 0 {
			h.notify(h.thin, n, h.g.LeaseTTL, h.now)
		}
	}
}

// ask lets the sources answer: firing, absent, suppressed or unreachable, with
// samples that are fresh, old, used before or of the future.
func (h *history) ask(k int) {
	w := word(k)
	h.known.Signals = true
	h.look.Evidence, h.look.Asked = nil, map[string]time.Time{}
	for n, src := range h.g.Confirm {
		h.look.Asked[src] = h.now
		if k == 0 {
			continue // knows of nothing
		}
		sig := []scaling.Signal{scaling.High, scaling.Low}[w.n(2)]
		st := []scaling.EvidenceState{scaling.EvidenceFiring, scaling.EvidenceFiring, scaling.EvidenceAbsent, scaling.EvidenceSuppressed, scaling.EvidenceUnreachable}[w.n(5)]
		at := []time.Time{h.now.Add(-time.Second), h.lastEvidence[src], h.now.Add(-5 * time.Minute), h.now.Add(time.Hour)}[(k/16+n)%4]
		h.evidence(src, sig, st, at)
	}
}

func (h *history) read(w *word) {
	h.look.Readings = nil
	if w.n(4) == 0 {
		return
	}
	h.look.Readings = map[string]scaling.Reading{}
	for _, id := range slices.Sorted(maps.Keys(h.world)) {
		if w.n(8) != 0 {
			h.look.Readings["u"+id] = scaling.Reading{Utilization: float64(w.n(5)) / 4, At: h.now.Add(-[]time.Duration{0, time.Hour}[w.n(2)])}
		}
	}
}

func (h *history) idle() bool { return h.g.Mode == scaling.ModeObserve }

// workAll lets every worker come one step further.
func (h *history) workAll() {
	for _, i := range h.st.Clone().Instances {
		h.workOn(i, 0)
		h.dropEnded()
	}
}

// work lets one worker try a step that may fail.
func (h *history) work(w *word) {
	if n := len(h.st.Instances); n > 0 {
		h.workOn(h.st.Clone().Instances[w.n(n)], w.n(5))
		h.dropEnded()
	}
}

// workOn does what engine's worker does in the instance's state. outcome: 0 well,
// 1 refused, 2 tried in vain, 3 hung after the effect, 4 the deadline passed.
func (h *history) workOn(i scaling.Instance, outcome int) {
	if h.idle() {
		return
	}
	before := h.st.Clone()
	id, s := i.ID, &h.st
	m := h.world[id]
	late := outcome == 4 || h.now.After(i.Deadline)
	switch i.State {
	case scaling.StateRequested:
		s.Enter(id, scaling.StateCreating, time.Time{}, h.now)
	case scaling.StateCreating:
		switch {
		case late:
			s.FailLaunch(id, "the launch deadline passed", h.g, h.now)
		case outcome == 1 || (i.Adopted && !h.baseline):
			s.Tried(id, scaling.Errorf(scaling.Permanent, "refused"))
			s.FailLaunch(id, "refused", h.g, h.now)
		case outcome == 2:
			s.Tried(id, scaling.Errorf(scaling.Temporary, "not now"))
		default:
			if m == nil {
				h.world[id] = &machine{power: scaling.PowerRunning, healthy: true}
			}
			if outcome == 0 {
				s.Instance(id).UUID = "u" + id
				s.Tried(id, nil)
				s.Enter(id, scaling.StateBooting, time.Time{}, h.now)
			}
		}
	case scaling.StateBooting:
		switch {
		case late:
			s.FailLaunch(id, "the launch deadline passed", h.g, h.now)
		case m == nil || m.power == scaling.PowerStopped:
			s.FailLaunch(id, "the VM vanished", h.g, h.now)
		case outcome == 0 && m.power == scaling.PowerRunning:
			s.Enter(id, scaling.StateJoining, time.Time{}, h.now)
		}
	case scaling.StateJoining:
		switch {
		case outcome == 0 && m != nil && m.healthy && m.power == scaling.PowerRunning:
			s.InService(id, h.g, h.now)
		case late:
			s.FailLaunch(id, "never healthy", h.g, h.now)
		}
	case scaling.StateDraining:
		if i.Deadline.IsZero() {
			s.Draining(id, h.g, h.now)
		} else if outcome == 0 || h.now.After(i.Deadline) {
			s.Drained(id, h.g, h.now)
		}
	case scaling.StateRemoving:
		switch outcome {
		case 1:
			s.FailRemove(id, "refused", h.now)
		case 0:
			if i.Adopted {
				h.baseline = m != nil && i.Failure != ""
			}
			delete(h.world, id)
			s.Gone(id, h.g, "removed", h.now)
		}
	case scaling.StateInService, scaling.StateStandby, scaling.StateGone, scaling.StateFailed:
	}
	h.changed(before, "a worker")
}

// accident lets a VM die, stop, hang, come back or become unwell; or a person
// clears up what failed.
func (h *history) accident(w *word) {
	ids := slices.Sorted(maps.Keys(h.world))
	if len(ids) == 0 {
		return
	}
	id := ids[w.n(len(ids))]
	m := h.world[id]
	switch w.n(6) {
	case 0:
		delete(h.world, id)
	case 1:
		m.power = scaling.PowerStopped
	case 2:
		m.power = scaling.PowerPaused
	case 3:
		m.power, m.healthy = scaling.PowerRunning, true
	case 4:
		m.healthy = false
	case 5:
		for k := range h.st.Instances {
			if i := &h.st.Instances[k]; i.State == scaling.StateFailed {
				delete(h.world, i.ID)
			}
		}
	}
	if w.n(2) == 0 { // and it is noticed
		h.listing(0)
		h.listing(0)
		h.observe(0)
		h.now = h.now.Add(time.Duration(w.n(40)) * time.Second)
	}
}

// listing reads the provider: 1 fails, 2 says that there is nothing.
func (h *history) listing(k int) {
	if k == 1 {
		return // what was listed before stays
	}
	h.known.Listing = true
	h.listed = map[string]scaling.Power{}
	if k != 2 {
		for id, m := range h.world {
			h.listed[id] = m.power
		}
	}
	missing := map[string]int{}
	for _, i := range h.st.Clone().Instances {
		if _, ok := h.listed[i.ID]; ok {
			continue
		}
		missing[i.ID] = h.missing[i.ID] + 1
		if i.State == scaling.StateFailed && missing[i.ID] >= 2 {
			h.st.Cleared(i.ID, h.now)
		}
	}
	h.missing = missing
	h.dropEnded()
}

// observe reads the pool: 1 fails.
func (h *history) observe(k int) {
	h.known.Pool = k != 1
	if k == 1 {
		return
	}
	h.checks = map[string]bool{}
	for _, i := range h.st.Instances {
		if i.State == scaling.StateInService {
			m := h.world[i.ID]
			h.checks[i.ID] = m != nil && m.healthy && m.power == scaling.PowerRunning
		}
	}
}

// health is what engine's group concludes: who is unwell, and who is seen to be well.
func (h *history) health() (bad map[string]string, well []string) {
	bad = map[string]string{}
	for _, i := range h.st.Instances {
		if i.State != scaling.StateInService {
			continue
		}
		ok, observed := h.checks[i.ID]
		observed = observed && h.known.Pool
		if observed && !ok {
			bad[i.ID] = "its checks fail"
		}
		p, there := h.listed[i.ID]
		switch {
		case h.known.Listing && !there && h.missing[i.ID] >= 2:
			bad[i.ID] = "its VM is not found"
		case there && p != scaling.PowerRunning:
			bad[i.ID] = "its VM is " + string(p)
		}
		if observed && ok && there && bad[i.ID] == "" {
			well = append(well, i.ID)
		}
	}
	return bad, well
}

func (h *history) order(w *word) {
	o := scaling.Order{
		ID: fmt.Sprintf("o%d", h.now.Unix()), At: h.now, By: "ops", Count: w.n(4),
		Kind: []scaling.OrderKind{scaling.OrderScaleOut, scaling.OrderScaleIn, scaling.OrderHandover, scaling.OrderSetDesired}[w.n(4)],
	}
	if n := len(h.st.Instances); n > 0 && w.n(2) == 0 {
		o.Instance = h.st.Instances[w.n(n)].ID
	}
	if w.n(4) == 0 {
		o.Hold = time.Minute
	}
	if _, err := h.st.Check(o, h.g); err == nil && !h.idle() {
		h.st.Orders = append(h.st.Orders, o)
	}
}

func (h *history) pause(w *word) {
	if w.n(3) == 0 {
		h.st.Pause, h.st.HoldUntil = nil, h.now
		return
	}
	h.st.Pause = &scaling.Pause{Out: w.n(2) == 0, In: w.n(2) == 0, By: "ops", At: h.now}
	if w.n(2) == 0 {
		h.st.Pause.Until = h.now.Add(5 * time.Minute)
	}
}

func (h *history) protect(w *word) {
	n := len(h.st.Instances)
	if n == 0 {
		return
	}
	i := &h.st.Instances[w.n(n)]
	for _, a := range h.st.Open {
		if old := h.st.Instance(a.Remove); a.Kind == scaling.ActivityHandover && old != nil {
			i = old
		}
	}
	i.Protected = w.n(2) == 0
}

func (h *history) putStandby(w *word) {
	n := len(h.st.Instances)
	if n == 0 || h.idle() {
		return
	}
	before, i := h.st.Clone(), h.st.Instances[w.n(n)]
	err := h.standby(&h.st, i.ID, w.n(3) != 0, h.g, h.now, &h.ids)
	if err == nil && i.State == scaling.StateInService && h.st.Instance(i.ID).State == scaling.StateStandby && h.st.Count(scaling.StateInService) < max(1, h.g.Min) {
		h.fail("standby", "%d in service are left", h.st.Count(scaling.StateInService))
	}
	h.changed(before, "standby")
	h.dropEnded()
}

func (h *history) reload(w *word) {
	g := &h.g
	switch w.n(5) {
	case 0:
		g.Min = w.n(3)
		g.Max = max(g.Max, g.Min, 1)
	case 1:
		g.Max = max(1, w.n(5))
		g.Min = min(g.Min, g.Max)
	case 2:
		g.Mode = []scaling.Mode{scaling.ModeFull, scaling.ModeFull, scaling.ModeScaleOutOnly, scaling.ModeObserve}[w.n(4)]
	case 3:
		g.Surge = w.n(3)
	case 4:
		g.Adopt = []string{"vm-test"}
	}
}

// step sets the clock. The samples of before mean nothing any more.
func (h *history) step(d time.Duration) {
	h.shift(&h.st, d)
	if h.thin != nil {
		h.shift(h.thin, d)
	}
	h.now = h.now.Add(d)
	h.since = h.now
	h.look = scaling.Lookup{Asked: map[string]time.Time{}}
	h.known.Signals = false
	for sig, used := range h.used {
		moved := map[time.Time]bool{}
		for t := range used {
			moved[t.Add(d)] = true
		}
		h.used[sig] = moved
	}
	for _, ts := range [][]time.Time{h.created, h.removed} {
		for k := range ts {
			ts[k] = ts[k].Add(d)
		}
	}
	for src := range h.lastEvidence {
		h.lastEvidence[src] = h.lastEvidence[src].Add(d)
	}
}

// dropEnded is the end of a change: activities that ended leave the state.
func (h *history) dropEnded() {
	h.st.Open = slices.DeleteFunc(h.st.Open, func(a scaling.Activity) bool { return a.Status.Ended() })
}

// input is what engine's group gathers.
func (h *history) input(s *scaling.State, bad map[string]string) scaling.Input {
	in := scaling.Input{
		Group: h.g, State: s, Lookup: h.look, Known: h.known, Unhealthy: bad, Orphans: h.orphans, Since: h.since, Now: h.now,
	}
	if h.window != nil && h.now.Before(h.window.Until) {
		in.Maintenance = h.window
	}
	return in
}

// tick is engine's: fold in what was seen, advance, decide, begin. It reports
// whether to ask again at once.
func (h *history) tick() bool {
	h.st.Housekeep(h.now)
	bad, well := h.health()
	if !h.idle() {
		for id, why := range bad {
			h.st.Suspect(id, why, h.now)
		}
		for _, id := range well {
			h.st.Well(id)
		}
	}
	if h.known.Listing && h.known.Pool && h.known.Signals {
		before := h.st.Clone()
		h.advance(&h.st, h.g, h.now)
		h.changed(before, "advance")
	}
	before := h.st.Clone()
	in := h.input(&h.st, bad)
	v := h.decide(in)
	h.decisions++
	if h.decisions%4 == 0 && !reflect.DeepEqual(before, h.st.Clone()) {
		h.fail("pure", "Decide changed the state")
	}
	if h.thin != nil {
		h.fewer(v, bad)
	}
	if err := checkGates(v, h.now); err != nil {
		h.fail("gates", "%v", err)
	}
	h.verdict(v, bad)
	h.begin(&h.st, v, h.g, h.now, &h.ids)
	h.begun(before, v)
	h.dropEnded()
	acted := v.Action != scaling.ActionNone && !v.Would
	if acted {
		h.actions = append(h.actions, fmt.Sprintf("%s/%s/%d/%s@%s", v.Action, v.Cause.Kind, v.Count, v.Victim, h.now.Sub(t0)))
	}
	return acted || v.Order != ""
}
