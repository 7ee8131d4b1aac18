package engine

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// inventory lists one provider, for all groups that use it.
type inventory struct {
	eng    *Engine
	name   string
	cancel context.CancelFunc
	wake   chan struct{}

	mu       sync.Mutex
	provider scaling.Provider
	vms      map[string]*scaling.VM  // by instance id, of the last complete listing
	groups   map[string][]scaling.VM // the same by group
	users    []*group                // that have this provider
	seen     time.Time               // when that listing began, in steady time
	err      error
}

func newInventory(e *Engine, name string, p scaling.Provider) *inventory {
	return &inventory{eng: e, name: name, provider: p, wake: make(chan struct{}, 1)}
}

func (inv *inventory) set(p scaling.Provider) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if inv.provider != p {
		// What another driver listed says nothing about this one.
		inv.provider, inv.vms, inv.groups, inv.seen, inv.err = p, nil, nil, time.Time{}, nil
	}
}

func (inv *inventory) seenOnce() bool {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return !inv.seen.IsZero()
}

// vm returns the VM of an instance by the last complete listing.
func (inv *inventory) vm(id string) (scaling.VM, bool) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if vm := inv.vms[id]; vm != nil {
		return *vm, true
	}
	return scaling.VM{}, false
}

// of lists the VMs of a group by the last complete listing; they are only read.
func (inv *inventory) of(group string) []scaling.VM {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return inv.groups[group]
}

// after reports whether the last complete listing began after t, in steady time.
func (inv *inventory) after(t time.Time) bool {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return inv.seen.After(t)
}

func (inv *inventory) status() (time.Time, error) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return inv.seen, inv.err
}

// use sets the groups that have this provider.
func (inv *inventory) use(groups []*group) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	inv.users = groups
}

func (inv *inventory) using() []*group {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	return inv.users
}

// listDeadline bounds one listing.
const listDeadline = 30 * time.Second

func (inv *inventory) loop(ctx context.Context) {
	for {
		first := !inv.seenOnce()
		inv.list(ctx)
		if first && inv.seenOnce() {
			for _, g := range inv.using() {
				poke(g.wake)
			}
		}
		pause := inv.eng.opts.ListTick
		if !inv.seenOnce() {
			pause = min(pause, time.Second) // nothing is filled before the first listing
		}
		if !sleep(ctx, pause, inv.wake) {
			return
		}
	}
}

func (inv *inventory) list(ctx context.Context) {
	inv.mu.Lock()
	p := inv.provider
	inv.mu.Unlock()
	cctx, cancel := context.WithTimeout(ctx, listDeadline)
	defer cancel()
	begun := inv.eng.clock.steady()
	var vms []scaling.VM
	err := inv.eng.metrics.call(inv.name, "list", func() (err error) {
		vms, err = p.List(cctx)
		return err
	})
	if ctx.Err() != nil {
		return
	}
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if inv.provider != p {
		return // what another driver listed says nothing about this one
	}
	if err != nil {
		if inv.err == nil {
			inv.eng.log.Warn("the provider cannot be listed; trying again", "provider", inv.name, "err", err)
		}
		inv.err = err
		return
	}
	if inv.err != nil {
		inv.eng.log.Info("the provider is listed again", "provider", inv.name)
	}
	inv.err, inv.seen = nil, begun
	vms = slices.Clone(vms)
	slices.SortStableFunc(vms, func(a, b scaling.VM) int { return cmp.Compare(a.Group, b.Group) })
	inv.vms, inv.groups = make(map[string]*scaling.VM, len(vms)), map[string][]scaling.VM{}
	from := 0
	for k := range vms {
		inv.vms[vms[k].ID] = &vms[k]
		if k+1 == len(vms) || vms[k+1].Group != vms[k].Group {
			inv.groups[vms[k].Group] = vms[from : k+1 : k+1]
			from = k + 1
		}
	}
}
