package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

var _ scaling.Leaver = (*Engine)(nil)

// letting is how the taking off of the group's marks stands.
type letting struct {
	tries int // that failed in a row
	err   error
}

// Release implements scaling.Leaver.
func (e *Engine) Release(ctx context.Context, group string, sure bool, by string) (scaling.ReleasePlan, error) {
	g, err := e.group(group)
	if err != nil {
		return scaling.ReleasePlan{}, err
	}
	plan := g.releasePlan()
	if plan.Before != nil {
		return plan, nil
	}
	if err := g.releasable(); err != nil {
		return plan, fmt.Errorf("release group %q: %w", group, err)
	}
	gc := g.config()
	var id string
	begin := func(s *scaling.State) error {
		err := s.BeginRelease(gc.Group, by, g.now(), e.opts.IDs)
		if s.Release != nil {
			id = s.Release.Activity
		}
		return err
	}
	if !sure {
		st, _ := g.view()
		if err := begin(&st); err != nil {
			return plan, fmt.Errorf("release group %q: %w", group, err)
		}
		return plan, nil
	}
	if err := g.change(ctx, begin); err != nil {
		return plan, fmt.Errorf("release group %q: %w", group, err)
	}
	plan.Activity = id
	g.log.Warn("group is let go by order: its marks are taken off, VMs and members stay", "by", by, "activity", id)
	poke(g.wake)
	return plan, nil
}

// releasePlan says what a release lets go of, by what was last seen.
func (g *group) releasePlan() scaling.ReleasePlan {
	v := g.show()
	plan := scaling.ReleasePlan{Instances: v.Instances, Port: v.Group.Port, Before: v.State.Release}
	if inv := g.eng.inventory(v.Group.Provider); inv != nil {
		for _, vm := range inv.of(g.name) {
			if v.State.Instance(vm.ID) == nil && plan.Before == nil {
				plan.Unknown = append(plan.Unknown, vm)
			}
		}
	}
	return plan
}

// releasable refuses where the marks cannot be taken off.
func (g *group) releasable() error {
	gc := g.config()
	if g.observing() {
		return fmt.Errorf("%w: the group observes and touches nothing (mode or --observe)", scaling.ErrRefused)
	}
	if why := g.misplaced(); why != "" {
		return fmt.Errorf("%w: %s", scaling.ErrRefused, why)
	}
	if _, can := gc.Provider.(scaling.Releaser); !can {
		return fmt.Errorf("%w: provider %s cannot take its marks off", scaling.ErrRefused, gc.Group.Provider)
	}
	inv := g.eng.inventory(gc.Group.Provider)
	if inv == nil || !inv.seenOnce() {
		return fmt.Errorf("%w: provider %s was not listed since the start", scaling.ErrRefused, gc.Group.Provider)
	}
	return nil
}

// release is the group's release; nil if it was not let go.
func (g *group) release() *scaling.Release {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Release
}

// letGo takes the group's marks off, as far as that is not done, and does nothing else
// for it. All of it can be run again: a mark that is off stays off, and the end is
// that a complete listing has no VM of the group any more.
func (g *group) letGo(ctx context.Context, gc GroupConfig, r scaling.Release) {
	v := scaling.Verdict{Group: g.name, At: g.now(), Action: scaling.ActionNone, Statuses: []scaling.Status{scaling.StatusPaused}}
	if !r.Done.IsZero() {
		v.Reason = fmt.Sprintf("the group was let go by %s: nothing is done for it until it is resumed", r.By)
		g.keep(v)
		g.calm.Store(true)
		return
	}
	v.Reason = "the group is being let go: its marks are taken off"
	g.keep(v)
	if g.observing() || g.settling() {
		return
	}
	g.eng.laps.away.Add(1)
	err := g.takeMarksOff(ctx, gc)
	g.eng.laps.away.Add(-1)
	if ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	if err != nil && g.letting.err == nil {
		g.log.Warn("a mark cannot be taken off; trying again", "err", err)
	}
	g.letting.err = err
	g.letting.tries++
	pause := min(250*time.Millisecond<<min(g.letting.tries, 6), 15*time.Second)
	if err == nil {
		g.letting.tries = 0
	}
	g.broadcast()
	g.mu.Unlock()
	if err != nil {
		sleep(ctx, pause, g.wake)
	}
}

// takeMarksOff lets go of the instances that the state knows, then of what else the
// provider lists of the group, and records the end once it lists nothing of it.
func (g *group) takeMarksOff(ctx context.Context, gc GroupConfig) error {
	p, can := gc.Provider.(scaling.Releaser)
	if !can {
		return fmt.Errorf("provider %s cannot take its marks off", gc.Group.Provider)
	}
	letGo := func(ref scaling.Ref) error {
		cctx, cancel := context.WithTimeout(ctx, gc.Group.CallDeadline)
		defer cancel()
		return g.eng.metrics.call(gc.Group.Provider, "let_go", func() error { return p.LetGo(cctx, ref) })
	}
	var errs []error
	st := g.look()
	for _, i := range st.Instances {
		if i.State != scaling.StateGone && ctx.Err() == nil {
			errs = append(errs, letGo(i.Ref()))
		}
	}
	listed, err := g.listed(ctx, gc)
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	unknown := slices.DeleteFunc(slices.Clone(listed), func(vm scaling.VM) bool { return st.Instance(vm.ID) != nil })
	if len(unknown) > 0 {
		// Their members are to stay too, so that is written down first.
		if err := g.note(ctx, func(s *scaling.State) bool { return s.Strange(unknown) }); err != nil {
			return err
		}
	}
	for _, vm := range unknown {
		errs = append(errs, letGo(scaling.Ref{ID: vm.ID, Group: vm.Group, Name: vm.Name, UUID: vm.UUID, Adopted: vm.Adopted}))
	}
	if len(unknown) > 0 {
		listed, err = g.listed(ctx, gc)
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return err
	}
	if len(listed) > 0 {
		return fmt.Errorf("provider %s still lists %s with the group's mark", gc.Group.Provider, listed[0].Name)
	}
	err = g.note(ctx, func(s *scaling.State) bool { s.EndRelease(g.now()); return true })
	if inv := g.eng.inventory(gc.Group.Provider); err == nil && inv != nil {
		poke(inv.wake) // what it listed before is old
	}
	return err
}

// note commits a change, if there is one.
func (g *group) note(ctx context.Context, change func(*scaling.State) bool) error {
	cctx, cancel := context.WithTimeout(ctx, storeDeadline)
	defer cancel()
	err := g.change(cctx, func(s *scaling.State) error {
		if !change(s) {
			return errNoChange
		}
		return nil
	})
	if errors.Is(err, errNoChange) {
		return nil
	}
	return err
}

// listed asks the provider which VMs carry the group's mark now.
func (g *group) listed(ctx context.Context, gc GroupConfig) (of []scaling.VM, err error) {
	cctx, cancel := context.WithTimeout(ctx, listDeadline)
	defer cancel()
	var all []scaling.VM
	err = g.eng.metrics.call(gc.Group.Provider, "list", func() (err error) {
		all, err = gc.Provider.List(cctx)
		return err
	})
	for _, vm := range all {
		if vm.Group == g.name {
			of = append(of, vm)
		}
	}
	return of, err
}

// forgetReleases ends the release of the groups that the configuration has no more, so
// that one which is configured again begins anew. What is not done goes on then.
func forgetReleases(ctx context.Context, store scaling.Store, configured func(name string) bool) error {
	names, err := store.Groups(ctx)
	if err != nil {
		return fmt.Errorf("read which groups the store has: %w", err)
	}
	for _, name := range names {
		if configured(name) {
			continue
		}
		st, err := store.View(ctx, name)
		if err != nil {
			return fmt.Errorf("read the state of group %q: %w", name, err)
		}
		if st.Release == nil || st.Release.Done.IsZero() {
			continue
		}
		if err := store.Change(ctx, name, func(s *scaling.State) error { return s.Retake() }); err != nil {
			return fmt.Errorf("end the release of group %q, which is configured no more: %w", name, err)
		}
	}
	return nil
}
