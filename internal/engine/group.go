package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// keptVerdicts is how many different verdicts are kept per group.
const keptVerdicts = 64

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
	// missing counts, per instance in service, the complete listings in a row that
	// did not have it; counted is the newest of them.
	missing map[string]int
	counted time.Time
}

func newGroup(ctx context.Context, e *Engine, gc GroupConfig) (*group, error) {
	if gc.Provider == nil || gc.Balancer == nil {
		return nil, fmt.Errorf("group %q has no provider or no balancer", gc.Group.Name)
	}
	st, err := e.opts.Store.View(ctx, gc.Group.Name)
	if err != nil {
		return nil, fmt.Errorf("read the state of group %q: %w", gc.Group.Name, err)
	}
	return &group{
		name: gc.Group.Name, eng: e, log: e.log.With("group", gc.Group.Name), cfg: gc, state: st,
		wake: make(chan struct{}, 1), poolWake: make(chan struct{}, 1), changed: make(chan struct{}),
		workers: map[string]bool{}, missing: map[string]int{},
	}, nil
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

// view returns the state as last committed.
func (g *group) view() scaling.State {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Clone()
}

// change commits a change of the state and tells everybody. What happened to
// instances and activities is logged and counted here, once for all of them.
func (g *group) change(ctx context.Context, fn func(*scaling.State) error) error {
	var before, after scaling.State
	var number int64
	refused := false
	err := g.eng.opts.Store.Change(ctx, g.name, func(s *scaling.State) error {
		before = s.Clone()
		if err := fn(s); err != nil {
			refused = true
			return err
		}
		after = s.Clone()
		number = g.seq.Add(1) // changes are serialised here, not after the commit
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
	if why := g.misplaced(); why != "" {
		g.keep(scaling.Verdict{Group: g.name, At: g.eng.now(), Action: scaling.ActionNone, Statuses: []scaling.Status{scaling.StatusDegraded}, Reason: why})
		return false
	}
	var v scaling.Verdict
	now := g.eng.now()
	inv := g.eng.inventory(gc.Group.Provider)
	in := g.input(gc, inv, now)
	lost := g.lostStore(inv, in.Known.Listing)
	gone, cleared := g.compare(inv)
	cctx, cancel := context.WithTimeout(ctx, storeDeadline)
	defer cancel()
	moved := false
	err := g.change(cctx, func(s *scaling.State) error {
		was := s.Clone()
		s.Housekeep(now)
		if lost != "" {
			s.Pause = &scaling.Pause{Out: true, In: true, By: "scalehook", Reason: lost, At: now}
			moved = true
		}
		for _, id := range gone {
			s.Lost(id, "the VM is gone", now, g.eng.opts.IDs)
			moved = true
		}
		for _, id := range cleared {
			s.Cleared(id, now)
			moved = true
		}
		moved = s.Advance(gc.Group, now) || moved
		in.State = s
		v = scaling.Decide(in)
		s.Begin(v, gc.Group, now, g.eng.opts.IDs)
		if v.Action != scaling.ActionNone && !v.Would {
			s.Provider, s.Balancer = gc.Group.Provider, gc.Group.Balancer
		}
		if v.Action == scaling.ActionNone && v.Order == "" && !moved && sameShape(was, *s) {
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
	if in.Known.Listing {
		g.mu.Lock()
		g.checked = true
		g.mu.Unlock()
	}
	g.keep(v)
	acted := v.Action != scaling.ActionNone && !v.Would
	if acted {
		g.eng.metrics.verdict(g.name, v.Action)
	}
	if acted || moved {
		poke(g.poolWake) // a handover's drain begins here without a verdict
	}
	return acted || v.Order != ""
}

// input gathers what the decision has to know.
func (g *group) input(gc GroupConfig, inv *inventory, now time.Time) scaling.Input {
	in := scaling.Input{
		Group: gc.Group, Observe: g.eng.opts.Observe, Now: now, Lookup: g.eng.lookups.of(g.name),
		Known: scaling.Known{Listing: inv != nil && inv.seenOnce(), Signals: g.eng.lookups.complete()},
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	in.NoCapacity = g.noRoom
	in.Known.Pool = !g.pool.seen.IsZero() && g.pool.err == nil
	in.Unhealthy = map[string]string{}
	for _, i := range g.state.Instances {
		if i.State != scaling.StateInService {
			continue
		}
		if m, ok := g.pool.status.Member(i.ID); ok && in.Known.Pool && g.pool.seen.After(i.Since) && m.Health == scaling.HealthDown {
			in.Unhealthy[i.ID] = "its checks fail"
		}
		if inv == nil {
			continue
		}
		if vm, ok := inv.vm(i.ID); ok && inv.after(i.Since) && vm.Power != scaling.PowerRunning && vm.Power != scaling.PowerUnknown {
			in.Unhealthy[i.ID] = "its VM is " + string(vm.Power)
		}
	}
	return in
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
	return ""
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

// lostListings is in how many complete listings in a row a VM must be missing
// before its instance is given up.
const lostListings = 2

// compare holds the state against the newest complete listing: instances in
// service without a VM, and failed ones of which a person removed the rest.
func (g *group) compare(inv *inventory) (gone, cleared []string) {
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
	for _, i := range g.state.Instances {
		_, there := inv.vm(i.ID)
		if there || !seen.After(i.Since) || (i.State != scaling.StateInService && i.State != scaling.StateFailed) {
			delete(g.missing, i.ID)
			continue
		}
		if g.missing[i.ID]++; g.missing[i.ID] < lostListings {
			continue
		}
		delete(g.missing, i.ID)
		if i.State == scaling.StateFailed {
			cleared = append(cleared, i.ID)
			continue
		}
		gone = append(gone, i.ID)
	}
	return gone, cleared
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
	g.verdicts = append(g.verdicts, v)
	if n := len(g.verdicts); n > keptVerdicts {
		g.verdicts = append(g.verdicts[:0:0], g.verdicts[n-keptVerdicts:]...)
	}
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
