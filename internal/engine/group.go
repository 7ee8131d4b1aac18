package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	address  addressView
	letting  letting
	workers  map[string]bool
	verdicts []scaling.Verdict // newest last
	counts   scaling.Counts
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
	// calm says that the last decision can only change by news; see thought.calm.
	calm atomic.Bool
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
// steady time. The state is the caller's own.
func (g *group) view() (scaling.State, time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Clone(), g.offset
}

// look returns the state as last committed, only to be read: what it points at is
// shared.
func (g *group) look() scaling.State {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state
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
			g.mu.Lock()
			g.counts.Finished(a)
			g.mu.Unlock()
		}
	}
}

// loop decides whenever it is woken and on every tick.
func (g *group) loop(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	for {
		again := g.tick(ctx)
		g.eng.laps.done(g.eng.clock.elapsed())
		g.startWorkers(ctx, &workers)
		if again {
			if ctx.Err() != nil {
				return
			}
			continue
		}
		pause := g.eng.opts.Tick
		if g.calm.Load() {
			pause = max(pause, g.spread(g.eng.opts.calmTick()))
		}
		if !sleep(ctx, pause, g.wake) {
			return
		}
	}
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
func (g *group) idle() bool { return g.observing() || g.misplaced() != "" || g.release() != nil }

// keep remembers a verdict; one that says the same as the last only moves its
// time.
func (g *group) keep(v scaling.Verdict) {
	// The decision's list has room to spare, which thousands of groups would keep.
	v.Gates = append(make([]scaling.Gate, 0, len(v.Gates)), v.Gates...)
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

// startWorkers makes sure that every instance on its way in or out has a worker,
// and every failed one that seems to be removed.
func (g *group) startWorkers(ctx context.Context, wg *sync.WaitGroup) {
	if g.idle() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, i := range g.state.Instances {
		if g.workers[i.ID] {
			continue
		}
		removed := i.State == scaling.StateFailed && g.missing[i.ID] >= lostListings
		if !i.State.Launching() && !i.State.Leaving() && !removed {
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
