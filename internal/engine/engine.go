// Package engine is the reconciler: it folds notifications into conditions, asks
// the sources, lets the pure decision of package scaling choose, records the
// intent and carries it out step by step against providers and balancers.
//
// It is crash-only. Every effect is written down in the Store before it happens,
// every effect can be run again, and a start does nothing but read the store and
// go on. Each group has a loop that decides, a loop that keeps its pool as
// wished, and one worker per instance that is on its way in or out; each provider
// has a loop that lists. A part that hangs therefore slows nothing but itself.
package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/scaling"
)

// GroupConfig is one group with the drivers it uses.
type GroupConfig struct {
	Group    scaling.Group
	Provider scaling.Provider
	Balancer scaling.Balancer
	// Maintenance tells which maintenance window is open; nil: there are none.
	Maintenance Maintenance
}

// Maintenance knows the maintenance windows of a group.
type Maintenance interface {
	// Open returns the window that is open at now, nil if none is.
	Open(now time.Time) *scaling.Maintenance
}

// Options configures an Engine. Store, Logger and Groups are required.
type Options struct {
	Store  scaling.Store
	Groups []GroupConfig
	// Meter and Confirmers may be nil or empty: then nothing is ever removed by
	// itself and only fresh notifications scale out.
	Meter      scaling.Meter
	Confirmers []scaling.Confirmer
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	IDs        scaling.IDs           // nil: random
	// Now reads the wall clock, Elapsed one that nobody can set; nil: the machine's.
	Now     func() time.Time
	Elapsed func() time.Duration
	// Observe makes every group observe, whatever its mode.
	Observe bool
	// Tick is how often a group decides without being woken while anything is to be
	// expected of it, and at rest about as often as LookupTick; PoolTick how often a
	// pool is observed and applied, LookupTick how often the sources are asked,
	// ListTick how often providers are listed.
	Tick, PoolTick, LookupTick, ListTick time.Duration
}

func (o *Options) defaults() error {
	if o.Store == nil || o.Logger == nil {
		return errors.New("engine: a store and a logger are required")
	}
	if o.IDs == nil {
		o.IDs = randomIDs{}
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.Tick, time.Second}, {&o.PoolTick, time.Second}, {&o.LookupTick, 5 * time.Second}, {&o.ListTick, 15 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	return nil
}

// calmTick is how often a group decides at rest: as often as the sources are
// asked, and more than once for each listing, of which it counts those in a row.
func (o *Options) calmTick() time.Duration { return min(o.LookupTick, o.ListTick/2) }

// Engine runs groups. It is an Intake, an Operator and a Viewer. Create it with
// New, then Run it once.
type Engine struct {
	opts     Options
	log      *slog.Logger
	clock    *clock
	metrics  *metrics
	lookups  *lookups
	thoughts chan func() // what the thinkers compute; see think
	laps     laps

	mu        sync.RWMutex
	groups    map[string]*group
	providers map[string]*inventory
	run       context.Context // nil until Run
	ends      ends
	wg        sync.WaitGroup
}

var (
	_ scaling.Intake   = (*Engine)(nil)
	_ scaling.Operator = (*Engine)(nil)
	_ scaling.Viewer   = (*Engine)(nil)
)

// New returns an engine that has touched nothing but the store: it reads the
// state of every group, so that a broken store fails the start.
func New(ctx context.Context, opts Options) (*Engine, error) {
	if err := opts.defaults(); err != nil {
		return nil, err
	}
	e := &Engine{
		opts: opts, log: opts.Logger, clock: newClock(opts.Now, opts.Elapsed, opts.Logger), metrics: newMetrics(opts.Registerer),
		groups: map[string]*group{}, providers: map[string]*inventory{},
		thoughts: make(chan func()),
	}
	e.lookups = newLookups(e)
	if opts.Registerer != nil {
		opts.Registerer.MustRegister(newOrphanCollector(e))
	}
	for _, gc := range opts.Groups {
		g, err := newGroup(ctx, e, gc)
		if err != nil {
			return nil, err
		}
		e.groups[gc.Group.Name] = g
		e.provider(gc)
	}
	e.assign()
	if err := forgetReleases(ctx, opts.Store, func(name string) bool { return e.groups[name] != nil }); err != nil {
		return nil, err
	}
	return e, nil
}

// assign tells every inventory which groups have its provider. The caller holds mu
// or is the only one yet.
func (e *Engine) assign() {
	users := map[string][]*group{}
	for _, g := range e.groups {
		name := g.config().Group.Provider
		users[name] = append(users[name], g)
	}
	for name, inv := range e.providers {
		inv.use(users[name])
	}
}

// provider returns the inventory of a group's provider, made on first use.
func (e *Engine) provider(gc GroupConfig) *inventory {
	inv := e.providers[gc.Group.Provider]
	if inv == nil {
		inv = newInventory(e, gc.Group.Provider, gc.Provider)
		e.providers[gc.Group.Provider] = inv
	}
	inv.set(gc.Provider)
	return inv
}

// Run reconciles until ctx ends, then waits for everything it started. Stopping
// changes nothing in the world: VMs serve and members stay.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	if e.run != nil {
		e.mu.Unlock()
		return errors.New("engine: run twice")
	}
	e.run = ctx
	e.laps.done(e.clock.elapsed())
	e.start(ctx, e.lookups.loop)
	for range thinkers() {
		e.start(ctx, e.thinker)
	}
	for _, inv := range e.providers {
		e.startInventory(ctx, inv)
	}
	for _, g := range e.groups {
		e.startGroup(ctx, g)
	}
	e.mu.Unlock()

	<-ctx.Done()
	e.wg.Wait()
	return nil
}

// thinkers is how many groups decide at the same time: half of the processors.
func thinkers() int { return max(1, runtime.GOMAXPROCS(0)/2) }

// thinker computes until ctx ends.
func (e *Engine) thinker(ctx context.Context) {
	for {
		select {
		case f := <-e.thoughts:
			f()
		case <-ctx.Done():
			return
		}
	}
}

// think has f, which computes and waits for nobody, run by one of a few thinkers,
// and reports whether it ran: not once ctx has ended. When thousands of groups are
// woken at once whoever posts meanwhile is still answered, and the stack that a
// decision takes is there once for each thinker and not for each group.
func (e *Engine) think(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	select {
	case e.thoughts <- func() { defer close(done); f() }:
		<-done
		return true
	case <-ctx.Done():
		return false
	}
}

func (e *Engine) start(ctx context.Context, f func(context.Context)) {
	e.wg.Go(func() { f(ctx) })
}

func (e *Engine) startInventory(ctx context.Context, inv *inventory) {
	ctx, cancel := context.WithCancel(ctx)
	inv.cancel = cancel
	e.start(ctx, inv.loop)
}

func (e *Engine) startGroup(ctx context.Context, g *group) {
	ctx, cancel := context.WithCancel(ctx)
	g.cancel = cancel
	over := e.ends.begin(g, 2)
	e.start(ctx, func(ctx context.Context) { defer over(); g.loop(ctx) })
	e.start(ctx, func(ctx context.Context) { defer over(); g.poolLoop(ctx) })
}

// SetSources replaces the meter and the confirmers; see Options. Until the new
// ones were asked, nothing is removed.
func (e *Engine) SetSources(m scaling.Meter, cs []scaling.Confirmer) { e.lookups.replace(m, cs) }

// Reload replaces the groups. Groups that stay keep what they are doing
// and decide by the new values; new ones begin; those that are gone are released:
// their loops stop, their VMs and members stay as they are. A group that was
// released a moment ago and is back begins once the calls for it have ended; where
// that takes too long Reload fails and has changed nothing.
func (e *Engine) Reload(ctx context.Context, groups []GroupConfig) error {
	e.awaitReleased(ctx, groups)
	if err := e.replace(ctx, groups); err != nil {
		return err
	}
	// Without the lock, which every request needs: the store may keep its caller waiting.
	cctx, cancel := context.WithTimeout(ctx, storeDeadline)
	defer cancel()
	err := forgetReleases(cctx, e.opts.Store, func(name string) bool { _, err := e.group(name); return err == nil })
	if err != nil {
		e.log.Warn("a release is not ended; the next reload or start does it", "err", err)
	}
	return nil
}

// replace is Reload for what is in memory.
func (e *Engine) replace(ctx context.Context, groups []GroupConfig) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var added []*group
	keep := map[string]bool{}
	for _, gc := range groups {
		keep[gc.Group.Name] = true
		if e.groups[gc.Group.Name] != nil {
			continue
		}
		if e.ends.releasing(gc.Group.Name) != nil {
			return fmt.Errorf("group %q was released and a call for it is still under way: reload again once it has ended (it has a deadline); nothing was changed", gc.Group.Name)
		}
		g, err := newGroup(ctx, e, gc)
		if err != nil {
			return err
		}
		added = append(added, g)
	}
	for _, gc := range groups {
		if g := e.groups[gc.Group.Name]; g != nil {
			g.configure(gc)
		}
		isNew := e.providers[gc.Group.Provider] == nil
		if inv := e.provider(gc); isNew && e.run != nil {
			e.startInventory(e.run, inv) //nolint:contextcheck // lives as long as Run, not as this call
		}
	}
	for _, g := range added {
		e.groups[g.name] = g
		if e.run != nil {
			e.startGroup(e.run, g) //nolint:contextcheck // as above
		}
	}
	for name, g := range e.groups {
		if keep[name] {
			continue
		}
		if g.cancel != nil {
			g.cancel()
		}
		e.ends.release(g)
		delete(e.groups, name)
		e.log.Info("group released: it is no longer configured; its VMs and members stay", "group", name)
	}
	used := map[string]bool{}
	for _, gc := range groups {
		used[gc.Group.Provider] = true
	}
	for name, inv := range e.providers {
		if !used[name] {
			if inv.cancel != nil {
				inv.cancel()
			}
			delete(e.providers, name)
		}
	}
	e.assign()
	return nil
}

func (e *Engine) group(name string) (*group, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	g := e.groups[name]
	if g == nil {
		return nil, fmt.Errorf("group %q: %w", name, scaling.ErrUnknownGroup)
	}
	return g, nil
}

func (e *Engine) inventory(provider string) *inventory {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.providers[provider]
}

// all returns the groups by name.
func (e *Engine) all() []*group {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make([]*group, 0, len(e.groups))
	for _, name := range slices.Sorted(maps.Keys(e.groups)) {
		out = append(out, e.groups[name])
	}
	return out
}

// sleep waits until d passed, ctx ended or one of the channels was ready, and
// reports whether ctx still runs.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-wake:
	}
	return ctx.Err() == nil
}

// poke wakes a loop; a second poke before it looks is the same one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

type randomIDs struct{}

// Instance returns a random UUID (RFC 9562, version 4).
func (randomIDs) Instance() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, as crypto/rand documents
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// Activity returns the time to the millisecond and a random tail.
func (randomIDs) Activity(now time.Time) string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return now.UTC().Format("20060102T150405.000Z") + "-" + hex.EncodeToString(b[:])
}
