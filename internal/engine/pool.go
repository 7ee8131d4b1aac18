package engine

import (
	"context"
	"errors"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// poolView is what is known of a group's pool.
type poolView struct {
	status scaling.PoolStatus
	// seen is when the last observation that succeeded was begun, in the group's
	// time; zero: never.
	seen time.Time
	// applied is the wish that the last observation followed: an observation shows
	// the effect only of wishes that were applied before it began.
	applied scaling.Pool
	err     error
	looked  bool // the first observation was followed up
}

// wish is who takes traffic, as a function of the instances' states and nothing
// else, so that a balancer that forgot everything is put right by the next tick.
func wish(gc GroupConfig, s *scaling.State) scaling.Pool {
	p := scaling.Pool{Group: gc.Group.Name, AllowEmpty: gc.Group.Min == 0, Members: make([]scaling.Member, 0, len(s.Instances))}
	for _, i := range s.Instances {
		m := scaling.Member{ID: i.ID, Name: i.Name, Addr: netip.AddrPortFrom(i.Address, gc.Group.Port)}
		if !i.Address.IsValid() {
			continue
		}
		switch i.State {
		case scaling.StateJoining:
			m.State = scaling.MemberJoining
		case scaling.StateInService:
			m.State = scaling.MemberReady
		case scaling.StateDraining, scaling.StateStandby:
			m.State = scaling.MemberDraining
		case scaling.StateRemoving:
			m.State = scaling.MemberLeaving
		case scaling.StateRequested, scaling.StateCreating, scaling.StateBooting, scaling.StateGone, scaling.StateFailed:
			continue
		}
		p.Members = append(p.Members, m)
	}
	return p
}

// strangers adds to the wish what the pool was seen to have of ours and the state
// does not know, as it stands: after the store was lost or restored such a member
// may well serve. Only one without a VM, by a complete listing that began after
// the pool was seen, is left out and so removed. A member of an instance that is
// held stays as it stands too, and so does one that was let go, also while its VM is
// adopted again, and if that fails: it serves, and goes on serving.
func (g *group) strangers(gc GroupConfig, want scaling.Pool, s *scaling.State) scaling.Pool {
	inv := g.eng.inventory(gc.Group.Provider)
	g.mu.Lock()
	defer g.mu.Unlock()
	held := map[string]bool{}
	for k := range s.Instances {
		if s.Held(&s.Instances[k]) {
			held[s.Instances[k].ID] = true
		}
	}
	back := map[string]bool{}
	for _, m := range g.pool.status.Members {
		if stays(s, &m) {
			back[m.ID] = true
		}
	}
	if len(held)+len(back) > 0 {
		want.Members = slices.DeleteFunc(want.Members, func(m scaling.Member) bool { return held[m.ID] || back[m.ID] })
	}
	for _, m := range g.pool.status.Members {
		if m.Foreign || m.ID == "" || (s.Instance(m.ID) != nil && !held[m.ID] && !back[m.ID]) {
			continue
		}
		if !s.IsLetGo(m.ID) && !back[m.ID] && inv != nil && inv.after(g.pool.seen.Add(-g.offset)) {
			if _, ok := inv.vm(m.ID); !ok {
				continue
			}
		}
		if m.State != scaling.MemberLeaving {
			want.Members = append(want.Members, scaling.Member{ID: m.ID, Name: m.Server, Addr: m.Addr, State: m.State})
		}
	}
	return want
}

// stays reports whether the member of an instance stays as it stands: its VM was let go,
// serves, and is adopted again, or was not in spite of a try, which may be made again.
func stays(s *scaling.State, m *scaling.MemberStatus) bool {
	i := s.Instance(m.ID)
	switch {
	case m.Foreign || i == nil || !i.Adopted:
		return false
	case i.State.Launching():
		return m.State == scaling.MemberReady
	case i.InServiceAt.IsZero() && s.IsLetGo(m.ID):
		return m.State == scaling.MemberReady || m.State == scaling.MemberDraining
	}
	return false
}

// busy reports whether somebody waits for the pool, so that it is worth asking
// often: an instance on its way in or out, or one in service that the balancer has
// lost and does not send to yet.
func (g *group) busy(s *scaling.State) bool {
	if s.Count(scaling.StateJoining, scaling.StateDraining, scaling.StateRemoving) > 0 {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, i := range s.Instances {
		m, ok := g.pool.status.Member(i.ID)
		if i.State == scaling.StateInService && ok && m.State == scaling.MemberJoining && m.Health != scaling.HealthDown {
			return true
		}
	}
	return false
}

// poolLoop keeps the pool, and the public address if there is one, as wished.
func (g *group) poolLoop(ctx context.Context) {
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		st := g.look()
		gc := g.config()
		g.keepAddress(ctx, gc, &st, &calls)
		want := g.strangers(gc, wish(gc, &st), &st)
		g.reconcilePool(ctx, gc, want)
		pause := g.spread(g.eng.opts.PoolTick)
		if g.busy(&st) || g.firstLook(ctx) {
			pause = min(pause, 200*time.Millisecond)
		}
		if !sleep(ctx, pause, g.poolWake) {
			return
		}
	}
}

// spread returns d changed by up to a tenth, for each group by another part, so
// that groups that began together do not stay in step.
func (g *group) spread(d time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(g.name))
	return d - d/10 + time.Duration(h.Sum32()%200)*d/1000
}

// firstLook reports whether the pool was just seen for the first time, so that
// the wish is worth applying at once.
func (g *group) firstLook(ctx context.Context) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	first := !g.pool.seen.IsZero() && !g.pool.looked && ctx.Err() == nil
	g.pool.looked = g.pool.looked || first
	return first
}

func (g *group) reconcilePool(ctx context.Context, gc GroupConfig, want scaling.Pool) {
	cctx, cancel := context.WithTimeout(ctx, gc.Group.CallDeadline)
	defer cancel()
	var err error
	// Nothing is applied before the pool was seen once: only then is it known what
	// it has that the state lacks. A group without any member has nothing to say.
	g.mu.Lock()
	seen := !g.pool.seen.IsZero()
	g.mu.Unlock()
	apply := seen && !g.idle() && (len(want.Members) > 0 || want.AllowEmpty)
	if apply {
		err = g.eng.metrics.call(gc.Group.Balancer, "apply", func() error { return gc.Balancer.Apply(cctx, want) })
	}
	begun := g.now()
	var st scaling.PoolStatus
	oerr := g.eng.metrics.call(gc.Group.Balancer, "observe", func() (err error) {
		st, err = gc.Balancer.Observe(cctx)
		return err
	})
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = oerr
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && (g.pool.err == nil || g.pool.err.Error() != err.Error()) {
		g.log.Warn("the pool cannot be reconciled; trying again", "pool", gc.Group.Balancer, "err", err)
	}
	if err == nil && g.pool.err != nil {
		g.log.Info("the pool is reconciled again", "pool", gc.Group.Balancer)
	}
	// What a calm group waits for may be just this.
	news := (err == nil) != (g.pool.err == nil) || oerr == nil && !sameMembers(g.pool.status, st)
	g.pool.err = err
	g.pool.applied = scaling.Pool{}
	if oerr == nil {
		g.pool.status, g.pool.seen = st, begun
		if apply {
			g.pool.applied = applied(want, err)
		}
	}
	g.broadcast()
	if news {
		poke(g.wake)
	}
}

// sameMembers reports whether two observations differ in nothing but sessions.
func sameMembers(a, b scaling.PoolStatus) bool {
	return slices.EqualFunc(a.Members, b.Members, func(x, y scaling.MemberStatus) bool {
		x.Sessions, y.Sessions = 0, 0
		return x == y
	})
}

// poolSeen is when the last observation that succeeded was begun.
func (g *group) poolSeen() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pool.seen
}

// applied returns the part of a wish that was applied in spite of an error: all of
// it without one, none with most, and all but the members that the error names
// where it says that the others are as wished.
func applied(want scaling.Pool, err error) scaling.Pool {
	if err == nil {
		return want
	}
	var part interface{ Members() []string }
	if !errors.As(err, &part) {
		return scaling.Pool{}
	}
	but := part.Members()
	want.Members = slices.DeleteFunc(slices.Clone(want.Members), func(m scaling.Member) bool { return slices.Contains(but, m.ID) })
	return want
}

// member returns what the last good observation says of an instance, and whether
// that observation followed a wish for the given state that is younger than since.
func (g *group) member(id string, wished scaling.MemberState, since time.Time) (st scaling.MemberStatus, present, current bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.pool.applied.Members {
		if m.ID == id && m.State == wished {
			current = true
		}
	}
	if !g.pool.seen.After(since) {
		current = false
	}
	st, present = g.pool.status.Member(id)
	return st, present, current
}
