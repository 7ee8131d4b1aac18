package engine

import (
	"context"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// addressView is what is known of a group's public address.
type addressView struct {
	scaling.PublicAddress

	// seen is when the provider was last asked with success, in steady time.
	seen  time.Time
	err   error
	asked time.Time // when the last asking ended, in steady time
	tries int       // that failed in a row
	busy  bool
}

// The address is looked at this often while it leads where it should, and while it
// does not.
const (
	addressTick  = 15 * time.Second
	addressRetry = 250 * time.Millisecond
)

// addresser returns the group's provider if the group has a public address there.
func (g *group) addresser(gc GroupConfig) (scaling.Addresser, bool) {
	a, ok := gc.Provider.(scaling.Addresser)
	return a, ok && a.HasAddress(g.name)
}

// holder returns the instance that the public address is to lead to: the primary,
// or while that is unwell the one longest in service that is not. Nil: none serves.
func holder(s *scaling.State) *scaling.Instance {
	primary := s.Instance(s.Primary)
	if primary == nil || primary.State != scaling.StateInService {
		return nil
	}
	if primary.SuspectSince.IsZero() {
		return primary
	}
	best := primary
	for k := range s.Instances {
		i := &s.Instances[k]
		if i.State == scaling.StateInService && i.SuspectSince.IsZero() && (best == primary || i.InServiceAt.Before(best.InServiceAt)) {
			best = i
		}
	}
	return best
}

// keepAddress looks where the public address leads, if that is due, and moves it to
// its holder. Who holds it follows from the durable state alone, so a move that was
// interrupted is made good by the next look. It waits for nobody: the provider is
// asked by a goroutine of wg, one at a time.
func (g *group) keepAddress(ctx context.Context, gc GroupConfig, s *scaling.State, wg *sync.WaitGroup) {
	a, has := g.addresser(gc)
	distrusted := s.Pause != nil && s.Pause.By == scaling.Self
	if !has || distrusted || g.idle() {
		return
	}
	to := holder(s)
	now := g.eng.clock.steady()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state.Release != nil {
		return // since it was looked at; see settling
	}
	v := &g.address
	wrong := v.err != nil || (to != nil && to.UUID != v.UUID)
	for _, i := range s.Instances {
		// Its drain waits to see that the address does not lead to it.
		wrong = wrong || i.State == scaling.StateDraining && i.Deadline.IsZero() && !v.seen.After(i.Since.Add(-g.offset))
	}
	pause := addressTick
	if wrong {
		pause = min(addressRetry<<min(v.tries, 6), addressTick)
	}
	if v.busy || (!v.asked.IsZero() && now.Before(v.asked.Add(pause))) {
		return
	}
	v.busy = true
	var ref scaling.Ref
	if to != nil {
		ref = to.Ref()
	}
	wg.Go(func() { g.settleAddress(ctx, gc, a, ref) })
}

// settling reports whether a call for the public address is under way, which may
// still move or mark it.
func (g *group) settling() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.address.busy
}

// settleAddress asks where the address leads, moves it to the VM of ref if it leads
// elsewhere, and notes what came of it. A ref without an instance moves nothing.
func (g *group) settleAddress(ctx context.Context, gc GroupConfig, a scaling.Addresser, ref scaling.Ref) {
	begun := g.eng.clock.steady()
	call := func(name string, fn func(context.Context) error) error {
		cctx, cancel := context.WithTimeout(ctx, gc.Group.CallDeadline)
		defer cancel()
		return g.eng.metrics.call(gc.Group.Provider, name, func() error { return fn(cctx) })
	}
	var at scaling.PublicAddress
	look := func(ctx context.Context) (err error) {
		at, err = a.Address(ctx, g.name)
		return err
	}
	err := call("address", look)
	var from string
	moved := false
	if (err == nil || scaling.IsNotFound(err)) && ref.ID != "" && at.UUID != ref.UUID {
		from = at.UUID
		if err = call("move_address", func(ctx context.Context) error { return a.MoveAddress(ctx, ref) }); err == nil {
			moved = true
			begun = g.eng.clock.steady()
			err = call("address", look)
		}
	}
	if scaling.IsNotFound(err) && ref.ID == "" {
		err = nil // it is made with the first instance
	}
	if ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	v := &g.address
	switch {
	case err != nil && v.err == nil:
		g.log.Warn("the public address is not where it should be; trying again", "address", at.Addr, "instance", ref.Name, "err", err)
	case err == nil && moved:
		g.log.Info("the public address leads to another instance", "address", at.Addr, "instance", ref.Name, "uuid", at.UUID, "was", from)
	case err == nil && v.err != nil:
		g.log.Info("the public address is where it should be again", "address", at.Addr)
	}
	v.busy, v.err, v.asked = false, err, g.eng.clock.steady()
	v.tries++
	if err == nil {
		v.PublicAddress, v.seen, v.tries = at, begun, 0
	}
	g.broadcast()
	poke(g.poolWake)
}

// addressed reports whether the public address leads, or may still lead, to an
// instance that is on its way out although another one is there to have it.
func (g *group) addressed(gc GroupConfig, s *scaling.State, i *scaling.Instance) bool {
	if _, has := g.addresser(gc); !has {
		return false
	}
	to := holder(s)
	if to == nil || to.ID == i.ID || i.UUID == "" {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.address.seen.After(i.Since.Add(-g.offset)) || g.address.UUID == i.UUID
}
