package simulated

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Provider is a World as one owner's scaling.Provider.
type Provider struct {
	w     *World
	owner string

	mu        sync.Mutex
	templates map[string]Template
}

var (
	_ scaling.Provider    = (*Provider)(nil)
	_ scaling.Shutdowner  = (*Provider)(nil)
	_ scaling.Adopter     = (*Provider)(nil)
	_ scaling.Releaser    = (*Provider)(nil)
	_ scaling.Snapshotter = (*Provider)(nil)
	_ scaling.Addresser   = (*Provider)(nil)
)

// Provider returns the World as seen by an owner. templates are the groups'; a
// group without one gets the World's defaults.
func (w *World) Provider(owner string, templates map[string]Template) *Provider {
	return &Provider{w: w, owner: owner, templates: maps.Clone(templates)}
}

// SetTemplates replaces the groups' templates. VMs that exist stay as they are.
func (p *Provider) SetTemplates(templates map[string]Template) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.templates = maps.Clone(templates)
}

func (p *Provider) template(group string) Template {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.templates[group]
}

func (s spec) ref() scaling.Ref {
	return scaling.Ref{ID: s.ID, Group: s.Group, Name: s.Name, UUID: uuidOf(s.ID)}
}

type spec scaling.LaunchSpec

// Create implements scaling.Provider: a disk, a definition, a start, each of which
// may be the last thing that a call does.
func (p *Provider) Create(ctx context.Context, ls scaling.LaunchSpec) (scaling.VM, error) {
	ref := spec(ls).ref()
	var out scaling.VM
	steps := []struct {
		before string
		do     func() error
	}{
		{"", func() error { return p.makeDisk(ref) }},
		{"create.disk", func() error {
			if p.w.marked(p.owner, ref.ID) == nil {
				if err := p.free(ref); err != nil {
					return err
				}
				v := p.w.define(ref.Name, ref.UUID, p.template(ref.Group).VCPUs)
				v.Mark = &mark{Owner: p.owner, ID: ref.ID, Group: ref.Group, UUID: v.UUID, At: p.w.s.At}
			}
			return nil
		}},
		{"create.define", func() error {
			v := p.w.marked(p.owner, ref.ID)
			if v == nil {
				return scaling.Errorf(scaling.Conflict, "create VM %s: it was removed while it was made", ref.Name)
			}
			if v.Power == scaling.PowerStopped || v.Power == scaling.PowerCrashed {
				p.w.power(v)
			}
			out = p.w.show(v, p.owner)
			return nil
		}},
	}
	if err := p.w.enter(ctx, "create.before", ref); err != nil {
		return scaling.VM{}, err
	}
	for _, s := range steps {
		if s.before != "" {
			if err := p.w.fault(ctx, s.before, ref); err != nil {
				return scaling.VM{}, err
			}
		}
		if err := p.w.effect(s.do); err != nil {
			return scaling.VM{}, err
		}
	}
	if err := p.w.fault(ctx, "create.after", ref); err != nil {
		return scaling.VM{}, err
	}
	return out, nil
}

func (p *Provider) makeDisk(ref scaling.Ref) error {
	if p.w.marked(p.owner, ref.ID) != nil {
		return nil
	}
	if err := p.free(ref); err != nil {
		return err
	}
	if len(p.w.s.VMs) >= p.w.cfg.Capacity {
		return scaling.Errorf(scaling.Quota, "create VM %s: %w (capacity %d)", ref.Name, errFull, p.w.cfg.Capacity)
	}
	p.w.s.Disks[ref.ID] = disk{Owner: p.owner, Group: ref.Group, Name: ref.Name, At: p.w.s.At}
	return nil
}

// free returns a conflict if the name is taken.
func (p *Provider) free(ref scaling.Ref) error {
	if v := p.w.named(ref.Name); v != nil {
		return scaling.Errorf(scaling.Conflict, "create VM %s: a VM of that name (uuid %s) exists and is not instance %s", ref.Name, v.UUID, ref.ID)
	}
	return nil
}

// Get implements scaling.Provider.
func (p *Provider) Get(ctx context.Context, ref scaling.Ref) (out scaling.VM, err error) {
	err = p.call(ctx, "get", ref, func() error {
		v := p.w.marked(p.owner, ref.ID)
		if v == nil {
			return scaling.Errorf(scaling.NotFound, "no VM of instance %s (%s)", ref.ID, ref.Name)
		}
		out = p.w.show(v, p.owner)
		return nil
	})
	return out, err
}

// List implements scaling.Provider; VMs come by name.
func (p *Provider) List(ctx context.Context) (out []scaling.VM, err error) {
	err = p.call(ctx, "list", scaling.Ref{}, func() error {
		for _, v := range p.w.sorted() {
			if v.ours(p.owner) {
				out = append(out, p.w.show(v, p.owner))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Delete implements scaling.Provider.
func (p *Provider) Delete(ctx context.Context, ref scaling.Ref) error {
	if err := p.w.enter(ctx, "delete.before", ref); err != nil {
		return err
	}
	if err := p.w.effect(func() error {
		v := p.w.marked(p.owner, ref.ID)
		if v == nil {
			if other := p.w.s.VMs[ref.UUID]; other != nil {
				return scaling.Errorf(scaling.Conflict, "delete VM %s (uuid %s): it has no valid mark of instance %s", other.Name, ref.UUID, ref.ID)
			}
			return nil
		}
		v.Power = scaling.PowerStopped
		return nil
	}); err != nil {
		return err
	}
	if err := p.w.fault(ctx, "delete.stop", ref); err != nil {
		return err
	}
	if err := p.w.effect(func() error {
		if v := p.w.marked(p.owner, ref.ID); v != nil {
			delete(p.w.s.VMs, v.UUID)
		}
		return nil
	}); err != nil {
		return err
	}
	if err := p.w.fault(ctx, "delete.undefine", ref); err != nil {
		return err
	}
	if err := p.w.effect(func() error {
		delete(p.w.s.Disks, ref.ID)
		return nil
	}); err != nil {
		return err
	}
	return p.w.fault(ctx, "delete.after", ref)
}

// Shutdown implements scaling.Shutdowner. A guest that still boots, is paused or
// was made stubborn does not hear the request.
func (p *Provider) Shutdown(ctx context.Context, ref scaling.Ref, force bool) error {
	return p.call(ctx, "shutdown", ref, func() error {
		v := p.w.marked(p.owner, ref.ID)
		if v == nil {
			return scaling.Errorf(scaling.NotFound, "shut down: no VM of instance %s (%s)", ref.ID, ref.Name)
		}
		switch {
		case force:
			v.Power, v.Stops = scaling.PowerStopped, time.Time{}
		case p.w.booted(v, p.w.s.At) && !v.Stubborn && v.Stops.IsZero():
			v.Stops = p.w.s.At.Add(p.w.cfg.ShutdownTime)
		}
		return nil
	})
}

// Adopt implements scaling.Adopter.
func (p *Provider) Adopt(ctx context.Context, ls scaling.LaunchSpec) (out scaling.VM, err error) {
	err = p.call(ctx, "adopt", spec(ls).ref(), func() error {
		v := p.w.named(ls.Name)
		switch {
		case v == nil:
			return scaling.Errorf(scaling.NotFound, "adopt VM %s: there is none", ls.Name)
		case ls.UUID != "" && v.UUID != ls.UUID:
			return scaling.Errorf(scaling.Conflict, "adopt VM %s: it is %s, and the one to adopt is %s", ls.Name, v.UUID, ls.UUID)
		case v.Mark != nil && v.Mark.UUID == v.UUID && (v.Mark.Owner != p.owner || v.Mark.ID != ls.ID):
			return scaling.Errorf(scaling.Conflict, "adopt VM %s: it belongs to instance %s of group %s (owner %s)",
				ls.Name, v.Mark.ID, v.Mark.Group, v.Mark.Owner)
		case !v.ours(p.owner):
			v.Mark = &mark{Owner: p.owner, ID: ls.ID, Group: ls.Group, UUID: v.UUID, Adopted: true, At: p.w.s.At}
		}
		out = p.w.show(v, p.owner)
		return nil
	})
	return out, err
}

// Release implements scaling.Adopter.
func (p *Provider) Release(ctx context.Context, ref scaling.Ref) error {
	return p.call(ctx, "release", ref, func() error {
		p.unmark(ref.ID)
		return nil
	})
}

// LetGo implements scaling.Releaser.
func (p *Provider) LetGo(ctx context.Context, ref scaling.Ref) error {
	return p.call(ctx, "let_go", ref, func() error {
		p.unmark(ref.ID)
		return nil
	})
}

// unmark takes the mark off the VM of an instance, if there is one.
func (p *Provider) unmark(id string) {
	if v := p.w.marked(p.owner, id); v != nil {
		v.Mark = nil
		delete(p.w.s.Disks, id) // the disk stays with its VM and is nobody's now
	}
}

// Snapshot implements scaling.Snapshotter.
func (p *Provider) Snapshot(ctx context.Context, ref scaling.Ref, name string) error {
	return p.call(ctx, "snapshot", ref, func() error {
		v := p.w.marked(p.owner, ref.ID)
		if v == nil {
			return scaling.Errorf(scaling.NotFound, "snapshot: no VM of instance %s (%s)", ref.ID, ref.Name)
		}
		made := snapshot{Owner: p.owner, Group: v.Mark.Group, VM: v.UUID, Name: name, At: p.w.s.At}
		if !slices.ContainsFunc(p.w.s.Snapshots, func(s snapshot) bool { return s.VM == made.VM && s.Name == name }) {
			p.w.s.Snapshots = append(p.w.s.Snapshots, made)
		}
		return nil
	})
}

// PruneSnapshots implements scaling.Snapshotter.
func (p *Provider) PruneSnapshots(ctx context.Context, group string, keep int, from time.Time) error {
	return p.call(ctx, "prune_snapshots", scaling.Ref{Group: group}, func() error {
		extra := -keep
		counts := func(s snapshot) bool { return s.Owner == p.owner && s.Group == group && !s.At.Before(from) }
		for _, s := range p.w.s.Snapshots {
			if counts(s) {
				extra++
			}
		}
		p.w.s.Snapshots = slices.DeleteFunc(p.w.s.Snapshots, func(s snapshot) bool {
			old := extra > 0 && counts(s)
			if old {
				extra--
			}
			return old
		})
		return nil
	})
}

// HasAddress implements scaling.Addresser.
func (p *Provider) HasAddress(group string) bool { return p.template(group).PublicAddress.IsValid() }

// Address implements scaling.Addresser. The address is there from the start, and
// leads nowhere once its VM is gone.
func (p *Provider) Address(ctx context.Context, group string) (out scaling.PublicAddress, err error) {
	err = p.call(ctx, "address", scaling.Ref{Group: group}, func() error {
		out.Addr = p.template(group).PublicAddress
		if !out.Addr.IsValid() {
			return scaling.Errorf(scaling.NotFound, "group %s has no public address", group)
		}
		if uuid := p.w.s.Public[out.Addr.String()]; p.w.s.VMs[uuid] != nil {
			out.UUID = uuid
		}
		return nil
	})
	return out, err
}

// MoveAddress implements scaling.Addresser.
func (p *Provider) MoveAddress(ctx context.Context, ref scaling.Ref) error {
	return p.call(ctx, "move_address", ref, func() error {
		v := p.w.marked(p.owner, ref.ID)
		addr := p.template(ref.Group).PublicAddress
		switch {
		case v == nil:
			return scaling.Errorf(scaling.NotFound, "move the public address of group %s: no VM of instance %s (%s)", ref.Group, ref.ID, ref.Name)
		case !addr.IsValid():
			return scaling.Errorf(scaling.NotFound, "move the public address: group %s has none", ref.Group)
		}
		if now := p.w.s.VMs[p.w.s.Public[addr.String()]]; now != nil && (!now.ours(p.owner) || now.Mark.Group != ref.Group) {
			return scaling.Errorf(scaling.Conflict, "move the public address %s of group %s: it leads to %s, which is not of this group", addr, ref.Group, now.Name)
		}
		if p.w.s.Public == nil {
			p.w.s.Public = map[string]string{}
		}
		p.w.s.Public[addr.String()] = v.UUID
		return nil
	})
}

// call runs one effect between the points before and after it.
func (p *Provider) call(ctx context.Context, name string, ref scaling.Ref, do func() error) error {
	if err := p.w.enter(ctx, name+".before", ref); err != nil {
		return err
	}
	if err := p.w.effect(do); err != nil {
		return err
	}
	return p.w.fault(ctx, name+".after", ref)
}
