package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// keptVerdicts is how many different verdicts are kept per group: the newest with
// all its gates, explained ones before it with those that failed, and the rest with
// their reason alone. With thousands of groups the gates are what takes room.
const (
	keptVerdicts = 64
	explained    = 16
)

// group is the running side of one scaling group.
type group struct {
	name string
	eng  *Engine
	log  *slog.Logger

	wake     chan struct{} // decide now
	poolWake chan struct{} // apply the pool now
	cancel   context.CancelFunc

	mu       sync.Mutex
	cfg      GroupConfig
	state    scaling.State // as last committed
	changed  chan struct{} // closed and replaced on every change of state or pool
	pool     poolView
	workers  map[string]bool
	verdicts []scaling.Verdict // newest last
	noRoom   string
	storeErr error
	// checked says that the provider's listing was held against the store.
	checked bool
	// published is the number of the change that state is of.
	published int64
	seq       atomic.Int64
	// offset is what state's times are ahead of steady time: the steps of the clock
	// that were taken in. written is the same of the store, which is ahead of what
	// is published while a change is under way.
	offset  time.Duration
	written atomic.Int64
	// missing counts, per instance, the complete listings in a row that did not have
	// it, and strange those in a row that had a VM of this group which the state
	// does not know; counted is the newest of them, in steady time.
	missing, strange map[string]int
	// elsewhere counts those in a row whose VM has addresses, and not the one that
	// the instance is reached at.
	elsewhere map[string]int
	counted   time.Time
}

func newGroup(ctx context.Context, e *Engine, gc GroupConfig) (*group, error) {
	if gc.Provider == nil || gc.Balancer == nil {
		return nil, fmt.Errorf("group %q has no provider or no balancer", gc.Group.Name)
	}
	st, err := e.opts.Store.View(ctx, gc.Group.Name)
	if err != nil {
		return nil, fmt.Errorf("read the state of group %q: %w", gc.Group.Name, err)
	}
	_, stepped, _ := e.clock.read()
	g := &group{
		name: gc.Group.Name, eng: e, log: e.log.With("group", gc.Group.Name), cfg: gc, state: st,
		wake: make(chan struct{}, 1), poolWake: make(chan struct{}, 1), changed: make(chan struct{}),
		workers: map[string]bool{}, missing: map[string]int{}, strange: map[string]int{}, offset: stepped,
	}
	g.written.Store(int64(stepped))
	return g, nil
}

// now is the group's time as of the change that is under way, or of the last.
func (g *group) now() time.Time {
	return g.eng.clock.steady().Add(time.Duration(g.written.Load()))
}

// absorb takes a step of the clock into the state: every deadline stays as far
// away as it was.
func (g *group) absorb(ctx context.Context) error {
	_, stepped, _ := g.eng.clock.read()
	old := time.Duration(g.written.Load())
	if stepped == old {
		return nil
	}
	cctx, cancel := context.WithTimeout(ctx, storeDeadline)
	defer cancel()
	err := g.change(cctx, func(s *scaling.State) error {
		s.Shift(stepped - old)
		g.written.Store(int64(stepped))
		return nil
	})
	if err != nil {
		g.written.Store(int64(old))
		return fmt.Errorf("take in that the clock was stepped: %w", err)
	}
	return nil
}

func (g *group) config() GroupConfig {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cfg
}

func (g *group) configure(gc GroupConfig) {
	g.mu.Lock()
	g.cfg = gc
	g.mu.Unlock()
	poke(g.wake)
	poke(g.poolWake)
}

// observing reports whether the group touches nothing.
func (g *group) observing() bool {
	return g.eng.opts.Observe || g.config().Group.Mode == scaling.ModeObserve
}

// broadcast wakes everybody who waits for a change. The caller holds mu.
func (g *group) broadcast() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// watch returns a channel that is closed at the next change.
func (g *group) watch() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.changed
}

// view returns the state as last committed, and what its times are ahead of
// steady time.
func (g *group) view() (scaling.State, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Clone(), g.offset
}

// change commits a change of the state and tells everybody. What happened to
// instances and activities is logged and counted here, once for all of them.
func (g *group) change(ctx context.Context, fn func(*scaling.State) error) error {
	var before, after scaling.State
	var number int64
	var offset time.Duration
	refused := false
	err := g.eng.opts.Store.Change(ctx, g.name, func(s *scaling.State) error {
		before = s.Clone()
		if err := fn(s); err != nil {
			refused = true
			return err
		}
		after = s.Clone()
		number = g.seq.Add(1) // changes are serialised here, not after the commit
		offset = time.Duration(g.written.Load())
		return nil
	})
	if err != nil {
		if !refused && !scaling.Interrupted(err) {
			g.mu.Lock()
			g.storeErr = err
			g.mu.Unlock()
		}
		return err
	}
	g.report(before, after)
	open := after.Open[:0:0]
	for _, a := range after.Open {
		if !a.Status.Ended() {
			open = append(open, a)
		}
	}
	after.Open = open
	g.mu.Lock()
	if number > g.published {
		g.state, g.published = after, number
		if !g.pool.seen.IsZero() {
			g.pool.seen = g.pool.seen.Add(offset - g.offset)
		}
		g.offset = offset
	}
	g.storeErr = nil
	g.broadcast()
	g.mu.Unlock()
	return nil
}

// errNoChange ends a Change that found nothing to do.
var errNoChange = errors.New("nothing to change")

func (g *group) report(before, after scaling.State) {
	for _, i := range after.Instances {
		old := before.Instance(i.ID)
		if old != nil && old.Address.IsValid() && old.Address != i.Address {
			g.log.Warn("instance has another address", "instance", i.Name, "id", i.ID, "address", i.Address, "was", old.Address)
		}
		if old != nil && old.State == i.State {
			continue
		}
		attrs := []any{"instance", i.Name, "id", i.ID, "state", string(i.State), "activity", i.Activity}
		if old != nil {
			attrs = append(attrs, "was", string(old.State))
		}
		switch {
		case i.State == scaling.StateFailed:
			g.log.Error("instance could not be removed: look at it and remove what is left", append(attrs, "err", i.Failure)...)
		case i.Failure != "" && i.State == scaling.StateRemoving:
			g.log.Warn("instance is given up", append(attrs, "reason", i.Failure)...)
		default:
			g.log.Info("instance changed state", attrs...)
		}
	}
	for _, a := range after.Open {
		old := before.Activity(a.ID)
		if old == nil {
			g.log.Info("activity begun", "activity", a.ID, "kind", string(a.Kind), "cause", string(a.Cause.Kind),
				"signal", string(a.Cause.Signal), "confirmed_by", a.Cause.Source, "evidence", a.Cause.EvidenceAt, "order", a.Cause.Order)
		}
		if a.Status.Ended() && (old == nil || !old.Status.Ended()) {
			g.log.Info("activity ended", "activity", a.ID, "kind", string(a.Kind), "status", string(a.Status),
				"seconds", a.Ended.Sub(a.Created).Seconds(), "outcome", a.Outcome)
			g.eng.metrics.activityEnded(a)
		}
	}
	g.eng.metrics.inFlight(g.name, after.Open)
}

// loop decides whenever it is woken and on every tick.
func (g *group) loop(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	for {
		again := g.tick(ctx)
		g.startWorkers(ctx, &workers)
		if again {
			if ctx.Err() != nil {
				return
			}
			continue
		}
		if !sleep(ctx, g.eng.opts.Tick, g.wake) {
			return
		}
	}
}

// tick decides once and reports whether it began something, so that it should be
// asked again at once.
func (g *group) tick(ctx context.Context) bool {
	gc := g.config()
	if err := g.absorb(ctx); err != nil {
		if ctx.Err() == nil {
			g.log.Error("the store cannot be written: nothing is begun until it can", "err", err)
		}
		return false
	}
	g.settle(ctx, gc)
	if why := g.misplaced(); why != "" {
		g.keep(scaling.Verdict{Group: g.name, At: g.now(), Action: scaling.ActionNone, Statuses: []scaling.Status{scaling.StatusDegraded}, Reason: why})
		return false
	}
	inv := g.eng.inventory(gc.Group.Provider)
	t := g.gather(gc, inv)
	// Most ticks change nothing: that is found out on a copy, and the store is left
	// alone. What is to be changed is decided again on what the store has.
	st, _ := g.view()
	v, changed := t.decide(&st)
	if changed {
		cctx, cancel := context.WithTimeout(ctx, storeDeadline)
		defer cancel()
		err := g.change(cctx, func(s *scaling.State) error {
			if v, changed = t.decide(s); !changed {
				return errNoChange
			}
			return nil
		})
		if err != nil && !errors.Is(err, errNoChange) {
			if ctx.Err() == nil {
				g.log.Error("the store cannot be written: nothing is begun until it can", "err", err)
			}
			return false
		}
	}
	if t.in.Known.Listing {
		g.mu.Lock()
		g.checked = true
		g.mu.Unlock()
	}
	g.keep(v)
	acted := v.Action != scaling.ActionNone && !v.Would
	if acted {
		g.eng.metrics.verdict(g.name, v.Action)
	}
	if acted || changed {
		poke(g.poolWake) // a handover's drain begins here without a verdict
	}
	return acted || v.Order != ""
}

// thought is one tick's knowledge: the input of the decision, and what was seen
// since the last.
type thought struct {
	g       *group
	in      scaling.Input
	lost    string                // why the store cannot be trusted; empty if it can
	suspect map[string]string     // instances that are unwell, and why
	well    []string              // instances that are seen to be well
	cleared []string              // failed instances of which nothing is left
	moved   map[string]netip.Addr // instances whose VM has another address now
}

// gather collects what is known now.
func (g *group) gather(gc GroupConfig, inv *inventory) *thought {
	t := &thought{g: g}
	t.in = g.input(gc, inv)
	t.lost = g.lostStore(inv, t.in.Known.Listing)
	t.cleared, t.moved = g.compare(inv)
	t.suspect, t.well = g.health(inv, gc)
	t.in.Unhealthy = t.suspect
	t.in.Orphans = g.orphans()
	return t
}

// decide folds what was seen into the state, decides, and writes down what is to
// be begun. It reports whether anything changed.
func (t *thought) decide(s *scaling.State) (v scaling.Verdict, changed bool) {
	was := s.Clone()
	now, gc, ids := t.in.Now, t.in.Group, t.g.eng.opts.IDs
	s.Housekeep(now)
	if t.lost != "" {
		s.Pause = &scaling.Pause{Out: true, In: true, By: scaling.Self, Reason: t.lost, At: now}
		changed = true
	}
	if !t.g.observing() {
		for id, why := range t.suspect {
			changed = s.Suspect(id, why, now) || changed
		}
		for _, id := range t.well {
			changed = s.Well(id) || changed
		}
		for _, id := range t.cleared {
			s.Cleared(id, now)
			changed = true
		}
		for id, to := range t.moved {
			changed = s.Readdress(id, to) || changed
		}
	}
	// A handover that a start finds takes nothing away before everything was read.
	if k := t.in.Known; k.Listing && k.Pool && k.Signals {
		changed = s.Advance(gc, now) || changed
	}
	in := t.in
	in.State = s
	v = scaling.Decide(in)
	s.Begin(v, gc, now, ids)
	if v.Action != scaling.ActionNone && !v.Would {
		s.Provider, s.Balancer, s.Place = gc.Provider, gc.Balancer, gc.Place
		changed = true
	}
	return v, changed || v.Order != "" || !sameShape(was, *s)
}

// input gathers what the decision has to know but for what the provider and the
// balancer say of single instances.
func (g *group) input(gc GroupConfig, inv *inventory) scaling.Input {
	steady, _, since := g.eng.clock.read()
	g.mu.Lock()
	defer g.mu.Unlock()
	in := scaling.Input{
		Group: gc.Group, Observe: g.eng.opts.Observe, Now: steady.Add(g.offset), Since: since.Add(g.offset),
		Lookup: g.eng.lookups.of(g.name, g.offset),
		Known: scaling.Known{
			Listing: inv != nil && inv.seenOnce(), Signals: g.eng.lookups.complete(),
			Pool: !g.pool.seen.IsZero() && g.pool.err == nil,
		},
	}
	// A refusal counts as long as the launch that it ended is backed off.
	if in.Now.Before(g.state.BackoffUntil) {
		in.NoCapacity = g.noRoom
	}
	if gc.Maintenance != nil {
		in.Maintenance = gc.Maintenance.Open(in.Now)
	}
	return in
}

// health tells the instances in service that are unwell, and why, from those that
// are seen to be well. Of the others nothing is known at present: their provider
// cannot be listed, their pool not be observed, or no check has ended yet.
func (g *group) health(inv *inventory, gc GroupConfig) (suspect map[string]string, well []string) {
	listed := false
	if inv != nil {
		seen, err := inv.status()
		listed = err == nil && !seen.IsZero()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	observed := !g.pool.seen.IsZero() && g.pool.err == nil
	suspect = map[string]string{}
	for _, i := range g.state.Instances {
		if i.State != scaling.StateInService {
			continue
		}
		serves, runs := false, false
		if m, ok := g.pool.status.Member(i.ID); ok && observed && g.pool.seen.After(i.Since) {
			serves = m.Health == scaling.HealthUp || !gc.Balancer.Capabilities().Health
			if m.Health == scaling.HealthDown {
				suspect[i.ID] = "its checks fail"
			}
		}
		if listed && inv.after(i.Since.Add(-g.offset)) {
			vm, there := inv.vm(i.ID)
			switch {
			case !there && g.missing[i.ID] >= lostListings:
				suspect[i.ID] = "its VM is not found"
			case !there || vm.Power == scaling.PowerUnknown:
			case vm.Power == scaling.PowerRunning:
				runs = true
			default:
				suspect[i.ID] = "its VM is " + string(vm.Power)
			}
		}
		if serves && runs && suspect[i.ID] == "" {
			well = append(well, i.ID)
		}
	}
	return suspect, well
}

// misplaced says why the group cannot be worked on: its instances were made with
// another provider or balancer than the configuration names now, and what is not
// found there must not be taken for gone.
func (g *group) misplaced() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, c := &g.state, g.cfg.Group
	if s.Owned() == 0 {
		return ""
	}
	if s.Provider != "" && s.Provider != c.Provider {
		return fmt.Sprintf("the group's instances are at provider %q and the configuration says %q: nothing is done until they agree", s.Provider, c.Provider)
	}
	if s.Balancer != "" && s.Balancer != c.Balancer {
		return fmt.Sprintf("the group's members are at balancer %q and the configuration says %q: nothing is done until they agree", s.Balancer, c.Balancer)
	}
	return displaced(s, c)
}

// idle reports whether the group's workers and pool have to keep still.
func (g *group) idle() bool { return g.observing() || g.misplaced() != "" }

// lostStore says, after the first listing since the start, that VMs carry our mark
// for this group of which the store knows nothing: it is new, or it was restored,
// and nothing may be launched or removed on such knowledge.
func (g *group) lostStore(inv *inventory, listed bool) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !listed || g.checked {
		return ""
	}
	var names []string
	for _, vm := range inv.of(g.name) {
		if g.state.Instance(vm.ID) == nil {
			names = append(names, vm.Name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	why := fmt.Sprintf("the store knows nothing of %d VMs that are marked as this group's: %s", len(names), strings.Join(names, ", "))
	g.log.Error("group paused: restore the store from a backup, or resume the group", "reason", why)
	return why
}

// lostListings is in how many complete listings in a row a VM must be missing, or
// unknown, before anything is concluded from it.
const lostListings = 2

// compare holds the state against the newest complete listing, once: it counts
// for how many of them instances were missing, and VMs of this group unknown to
// the state. It returns the failed instances of which a person removed the rest,
// and those whose VM is to be reached at another address than they are.
func (g *group) compare(inv *inventory) (cleared []string, moved map[string]netip.Addr) {
	if inv == nil || g.observing() {
		return nil, nil
	}
	seen, err := inv.status()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil || !seen.After(g.counted) {
		return nil, nil
	}
	g.counted = seen
	missing, elsewhere := map[string]int{}, map[string]int{}
	moved = map[string]netip.Addr{}
	for _, i := range g.state.Instances {
		vm, there := inv.vm(i.ID)
		if !seen.After(i.Since.Add(-g.offset)) {
			continue
		}
		if there {
			if i.Address.IsValid() && len(vm.Addresses) > 0 && !slices.Contains(vm.Addresses, i.Address) {
				if elsewhere[i.ID] = g.elsewhere[i.ID] + 1; elsewhere[i.ID] >= lostListings {
					moved[i.ID] = vm.Addresses[0]
				}
			}
			continue
		}
		switch i.State {
		case scaling.StateInService:
			missing[i.ID] = g.missing[i.ID] + 1
		case scaling.StateFailed:
			if missing[i.ID] = g.missing[i.ID] + 1; missing[i.ID] >= lostListings {
				cleared = append(cleared, i.ID)
			}
		case scaling.StateRequested, scaling.StateCreating, scaling.StateBooting, scaling.StateJoining, scaling.StateStandby,
			scaling.StateDraining, scaling.StateRemoving, scaling.StateGone:
		}
	}
	g.missing, g.elsewhere = missing, elsewhere
	strange := map[string]int{}
	for _, vm := range inv.of(g.name) {
		if g.state.Instance(vm.ID) == nil {
			if strange[vm.ID] = g.strange[vm.ID] + 1; strange[vm.ID] == lostListings {
				g.log.Error("a VM carries this group's mark and is unknown: it counts against the limit and nothing is done to it; see scalehook cleanup", "vm", vm.Name, "id", vm.ID)
			}
		}
	}
	g.strange = strange
	return cleared, moved
}

// orphans counts the VMs with this group's mark that the state did not know in
// several complete listings in a row.
func (g *group) orphans() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, seen := range g.strange {
		if seen >= lostListings {
			n++
		}
	}
	return n
}

// sameShape reports whether housekeeping dropped nothing.
func sameShape(a, b scaling.State) bool {
	return len(a.Leases) == len(b.Leases) && len(a.Instances) == len(b.Instances) && len(a.Creations) == len(b.Creations) &&
		len(a.Removals) == len(b.Removals) && len(a.Answers) == len(b.Answers) && (a.Pause == nil) == (b.Pause == nil) &&
		a.Desired == b.Desired
}

// storeDeadline bounds one change of the store.
const storeDeadline = 10 * time.Second

// keep remembers a verdict; one that says the same as the last only moves its
// time.
func (g *group) keep(v scaling.Verdict) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.verdicts); n > 0 && g.verdicts[n-1].SameAs(v) {
		g.verdicts[n-1] = v
		return
	}
	if v.Action != scaling.ActionNone || v.OrderRefused != "" {
		g.log.Info("verdict", "action", string(v.Action), "would", v.Would, "reason", v.Reason)
	}
	if n := len(g.verdicts); n > 0 {
		g.verdicts[n-1].Gates = failedGates(g.verdicts[n-1].Gates)
		if n > explained {
			g.verdicts[n-1-explained].Gates = nil
		}
	}
	g.verdicts = append(g.verdicts, v)
	if n := len(g.verdicts); n > keptVerdicts {
		g.verdicts = append(g.verdicts[:0:0], g.verdicts[n-keptVerdicts:]...)
	}
}

func failedGates(all []scaling.Gate) []scaling.Gate {
	var out []scaling.Gate
	for _, g := range all {
		if !g.Passed {
			out = append(out, g)
		}
	}
	return out
}

// startWorkers makes sure that every instance on its way in or out has a worker.
func (g *group) startWorkers(ctx context.Context, wg *sync.WaitGroup) {
	if g.idle() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, i := range g.state.Instances {
		if !(i.State.Launching() || i.State.Leaving()) || g.workers[i.ID] {
			continue
		}
		g.workers[i.ID] = true
		w := &worker{g: g, id: i.ID, log: g.log.With("instance", i.Name)}
		wg.Go(func() {
			w.run(ctx)
			g.mu.Lock()
			delete(g.workers, w.id)
			g.mu.Unlock()
			poke(g.wake)
		})
	}
}
