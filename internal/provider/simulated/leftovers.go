package simulated

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

var _ scaling.Keeper = (*Provider)(nil)

// Leftovers implements scaling.Keeper: disks without a VM, and snapshots. Public
// addresses are there as long as they are configured. It is a listing and has the
// fault points of one.
func (p *Provider) Leftovers(ctx context.Context) (out []scaling.Leftover, err error) {
	err = p.call(ctx, "list", scaling.Ref{}, func() error {
		for id, d := range p.w.s.Disks {
			if d.Owner == p.owner && p.w.marked(p.owner, id) == nil {
				out = append(out, scaling.Leftover{Kind: scaling.KindParts, ID: id, Group: d.Group, Name: d.Name, CreatedAt: d.At, Consists: "its disk"})
			}
		}
		for _, s := range p.w.s.Snapshots {
			if s.Owner == p.owner {
				out = append(out, scaling.Leftover{Kind: scaling.KindSnapshot, ID: s.id(), Group: s.Group, Name: s.Name, CreatedAt: s.At})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b scaling.Leftover) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// RemoveLeftover implements scaling.Keeper.
func (p *Provider) RemoveLeftover(ctx context.Context, l scaling.Leftover) error {
	return p.call(ctx, "remove_leftover", scaling.Ref{Group: l.Group}, func() error {
		if l.Kind != scaling.KindSnapshot {
			return scaling.Errorf(scaling.Permanent, "remove %s %s: only snapshots are removed like this", l.Kind, l.Name)
		}
		at := slices.IndexFunc(p.w.s.Snapshots, func(s snapshot) bool { return s.id() == l.ID })
		switch {
		case at < 0:
			return nil
		case p.w.s.Snapshots[at].Owner != p.owner || p.w.s.Snapshots[at].Group != l.Group:
			return scaling.Errorf(scaling.Conflict, "remove snapshot %s: it is not of group %s", l.Name, l.Group)
		}
		p.w.s.Snapshots = slices.Delete(p.w.s.Snapshots, at, at+1)
		return nil
	})
}

func (s snapshot) id() string {
	return fmt.Sprintf("%s/%s/%s", s.VM, s.Name, s.At.UTC().Format(time.RFC3339Nano))
}
