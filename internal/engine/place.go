package engine

import (
	"context"
	"fmt"

	"github.com/scalehook/scalehook/internal/scaling"
)

// displaced says that the provider leads elsewhere, under its old name, than where
// the group's VMs were made: a host's address that was changed, say. What is not
// found there must not be taken for gone.
func displaced(s *scaling.State, g scaling.Group) string {
	if g.Place == "" || s.Place == "" || s.Place == g.Place {
		return ""
	}
	return fmt.Sprintf("provider %q leads to another place than where the group's instances are, and none of them was found there: "+
		"nothing is done until one is, or until the configuration leads to the old place again", g.Provider)
}

// settle notes where the group's VMs are: one that is found where the provider
// leads now proves that it is the same place, whatever it is called.
func (g *group) settle(ctx context.Context, gc GroupConfig) {
	place := gc.Group.Place
	if place == "" {
		return
	}
	inv := g.eng.inventory(gc.Group.Provider)
	if inv == nil {
		return
	}
	g.mu.Lock()
	known := g.state.Place == place || g.state.Owned() == 0 || (g.state.Provider != "" && g.state.Provider != gc.Group.Provider)
	found := false
	for _, i := range g.state.Instances {
		if known || i.State == scaling.StateGone {
			continue
		}
		vm, there := inv.foundBy(gc.Provider, i.ID)
		found = found || (there && vm.Group == g.name)
	}
	was := g.state.Place
	g.mu.Unlock()
	if known || !found {
		return
	}
	cctx, cancel := context.WithTimeout(ctx, storeDeadline)
	defer cancel()
	err := g.change(cctx, func(s *scaling.State) error { s.Place = place; return nil })
	switch {
	case err != nil && ctx.Err() == nil:
		g.log.Error("the store cannot be written: where the instances are is noted later", "err", err)
	case err == nil && was != "":
		g.log.Warn("the provider leads elsewhere, and the group's VMs are found there: it is the same place", "provider", gc.Group.Provider)
	}
}

// foundBy returns the VM of an instance by the last complete listing of that driver.
func (inv *inventory) foundBy(p scaling.Provider, id string) (scaling.VM, bool) {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	if inv.provider != p {
		return scaling.VM{}, false
	}
	if vm := inv.vms[id]; vm != nil {
		return *vm, true
	}
	return scaling.VM{}, false
}
