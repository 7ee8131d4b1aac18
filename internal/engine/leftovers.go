package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/scalehook/scalehook/internal/scaling"
)

// leftovers lists what our marks are on that is no VM and that nobody needs, where
// the providers can tell.
func (e *Engine) leftovers(ctx context.Context) []scaling.Orphan {
	var out []scaling.Orphan
	for _, inv := range e.inventories() {
		inv.mu.Lock()
		k, can := inv.provider.(scaling.Keeper)
		seen := inv.seen
		inv.mu.Unlock()
		if !can || seen.IsZero() {
			continue
		}
		all, err := k.Leftovers(ctx)
		if err != nil {
			e.log.Warn("what is left of VMs cannot be listed", "provider", inv.name, "err", err)
			continue
		}
		// The newest first, of each group, so that those past what is kept are known.
		slices.SortStableFunc(all, func(a, b scaling.Leftover) int { return b.CreatedAt.Compare(a.CreatedAt) })
		snapshots := map[string]int{}
		for _, l := range all {
			if l.Kind == scaling.KindSnapshot {
				snapshots[l.Group]++
			}
			if o, is := e.leftover(inv, l, snapshots[l.Group]); is {
				out = append(out, o)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b scaling.Orphan) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// leftover tells what becomes of a leftover, if nobody needs it. nth is which one of
// the group's snapshots it is, the newest being the first.
func (e *Engine) leftover(inv *inventory, l scaling.Leftover, nth int) (scaling.Orphan, bool) {
	o := scaling.Orphan{
		Kind: l.Kind, Status: scaling.OrphanReleased, Provider: inv.name, Group: l.Group, ID: l.ID, Name: l.Name,
		Power: scaling.PowerUnknown, CreatedAt: l.CreatedAt,
	}
	g, err := e.group(l.Group)
	if err != nil {
		o.Note = fmt.Sprintf("group %s is not configured; to remove it, configure the group again", l.Group)
		return o, true
	}
	gc := g.config()
	if gc.Group.Provider != inv.name {
		o.Note = fmt.Sprintf("group %s works at provider %s", l.Group, gc.Group.Provider)
		return o, true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	o.Status, o.Note = scaling.OrphanQuarantined, l.Consists
	switch l.Kind {
	case scaling.KindParts:
		if _, there := inv.vm(l.ID); there || g.state.Instance(l.ID) != nil {
			return o, false
		}
	case scaling.KindSnapshot:
		if keep := gc.Group.SnapshotsKeep; keep == 0 || nth <= keep || l.CreatedAt.Before(g.state.SnapshotsFrom) {
			return o, false
		}
		o.Note = fmt.Sprintf("older than the %d that are kept", gc.Group.SnapshotsKeep)
	case scaling.KindAddress:
		if a, ok := gc.Provider.(scaling.Addresser); ok && a.HasAddress(l.Group) {
			return o, false
		}
		if l.InUse {
			o.Status, o.Note = scaling.OrphanReleased, l.Consists+": take it off there first"
			return o, true
		}
		o.Note = "the group has no public_address any more"
	case scaling.KindVM, scaling.KindMember:
		return o, false // neither is a leftover
	}
	if why := g.untouchable(gc); why != "" {
		o.Note = why
	}
	return o, true
}

// discard removes a snapshot or an address at once. The provider looks again whether
// it carries our mark.
func (e *Engine) discard(ctx context.Context, o scaling.Orphan, c scaling.Cleanup) error {
	if err := sure(o); err != nil {
		return err
	}
	g, err := e.group(o.Group)
	if err != nil {
		return err
	}
	gc := g.config()
	g.mu.Lock()
	why := g.untouchable(gc)
	g.mu.Unlock()
	if why == "" {
		why = g.misplaced()
	}
	k, ok := gc.Provider.(scaling.Keeper)
	switch {
	case why != "":
		return fmt.Errorf("%w: %s", scaling.ErrRefused, why)
	case !ok:
		return fmt.Errorf("%w: provider %s cannot remove it", scaling.ErrRefused, gc.Group.Provider)
	}
	ctx, cancel := context.WithTimeout(ctx, gc.Group.CallDeadline)
	defer cancel()
	g.log.Warn("a leftover is removed by order", "kind", o.Kind, "name", o.Name, "id", o.ID, "by", c.By)
	err = k.RemoveLeftover(ctx, scaling.Leftover{Kind: o.Kind, ID: o.ID, Group: o.Group, Name: o.Name, CreatedAt: o.CreatedAt})
	if err != nil {
		return fmt.Errorf("%w: %w", scaling.ErrRefused, err)
	}
	return nil
}

// untouchable says what keeps the group's orphans from being removed, for people;
// empty: nothing. The caller holds mu.
func (g *group) untouchable(gc GroupConfig) string {
	now := g.eng.clock.steady().Add(g.offset)
	switch p := g.state.Pause; {
	case g.eng.opts.Observe || gc.Group.Mode == scaling.ModeObserve:
		return "the group observes and touches nothing"
	case g.state.Release != nil:
		return "the group was let go by " + g.state.Release.By
	case p != nil && p.In && (p.Until.IsZero() || now.Before(p.Until)):
		return "the group is paused by " + p.By
	}
	return ""
}
