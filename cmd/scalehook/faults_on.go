//go:build faultpoints

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/fault"
	"github.com/scalehook/scalehook/internal/scaling"
)

// A step's boundary is a commit of the store, and every effect is a call to a
// driver; so points around the two are points at every boundary and every call.
// The points of a commit are called step.NAME.before and .after where it enters
// an instance's state or an activity's step of that name, else store.change; a
// call's are its contract's and its method's, such as provider.create.before. A
// simulated provider has more of them in the middle of its calls, and the libvirt
// provider before and after every single call that changes something there.

// faultyStore puts fault points around a store.
func faultyStore(s scaling.Store) scaling.Store { return storeWithFaults{s} }

// faultyGroups puts fault points around the groups' drivers.
func faultyGroups(r *config.Runtime, groups []engine.GroupConfig) []engine.GroupConfig {
	for _, w := range r.Worlds {
		w.SetFaults(func(_ context.Context, point string, _ scaling.Ref) error {
			// Those before and after a call are the wrapper's.
			if !strings.HasSuffix(point, ".before") && !strings.HasSuffix(point, ".after") {
				fault.Point("simulated." + point)
			}
			return nil
		})
	}
	for k := range groups {
		p, ok := groups[k].Provider.(fullProvider)
		if !ok {
			panic(fmt.Sprintf("provider %T lacks an optional contract, and its wrapper must lack it too", groups[k].Provider))
		}
		groups[k].Provider, groups[k].Balancer = providerWithFaults{p}, balancerWithFaults{groups[k].Balancer}
		if more, ok := p.(moreProvider); ok {
			groups[k].Provider = moreWithFaults{providerWithFaults{p}, more}
		}
	}
	return groups
}

// around passes the points before and after a call.
func around(name string, do func() error) error {
	fault.Point(name + ".before")
	err := do()
	fault.Point(name + ".after")
	return err
}

// result is around for a call with a result.
func result[T any](name string, do func() (T, error)) (out T, err error) {
	err = around(name, func() (err error) {
		out, err = do()
		return err
	})
	return out, err
}

type storeWithFaults struct{ scaling.Store }

// Change implements scaling.Store. A change that is refused commits nothing and
// passes no point.
func (s storeWithFaults) Change(ctx context.Context, group string, fn func(*scaling.State) error) error {
	var entered []string
	err := s.Store.Change(ctx, group, func(st *scaling.State) error {
		before := st.Clone()
		if err := fn(st); err != nil {
			return err
		}
		entered = steps(before, *st)
		for _, name := range entered {
			fault.Point(name + ".before")
		}
		return nil
	})
	if err == nil {
		fault.Step()
		for _, name := range entered {
			fault.Point(name + ".after")
		}
	}
	return err
}

// steps names the points of a commit.
func steps(before, after scaling.State) []string {
	var out []string
	for _, i := range after.Instances {
		if old := before.Instance(i.ID); old == nil || old.State != i.State {
			out = append(out, "step."+string(i.State))
		}
	}
	for _, a := range after.Open {
		old := before.Activity(a.ID)
		if n := len(a.Steps); n > 0 && (old == nil || len(old.Steps) < n) {
			if name := "step." + a.Steps[n-1].Name; len(out) == 0 || out[len(out)-1] != name {
				out = append(out, name)
			}
		}
	}
	if len(out) == 0 {
		out = append(out, "store.change")
	}
	return out
}

// View implements scaling.Store.
func (s storeWithFaults) View(ctx context.Context, group string) (scaling.State, error) {
	return result("store.view", func() (scaling.State, error) { return s.Store.View(ctx, group) })
}

// Groups implements scaling.Store.
func (s storeWithFaults) Groups(ctx context.Context) ([]string, error) {
	return result("store.groups", func() ([]string, error) { return s.Store.Groups(ctx) })
}

// Activities implements scaling.Store.
func (s storeWithFaults) Activities(ctx context.Context, group, before string, limit int) ([]scaling.Activity, error) {
	return result("store.activities", func() ([]scaling.Activity, error) { return s.Store.Activities(ctx, group, before, limit) })
}

// Backup implements scaling.Store.
func (s storeWithFaults) Backup(ctx context.Context, file string) error {
	return around("store.backup", func() error { return s.Store.Backup(ctx, file) })
}

// Close implements scaling.Store.
func (s storeWithFaults) Close() error { return around("store.close", s.Store.Close) }

// fullProvider is what every provider is.
type fullProvider interface {
	scaling.Provider
	scaling.Shutdowner
	scaling.Adopter
}

// providerWithFaults can be compared, as the engine does to tell a new driver.
type providerWithFaults struct{ p fullProvider }

// Create implements scaling.Provider.
func (w providerWithFaults) Create(ctx context.Context, spec scaling.LaunchSpec) (scaling.VM, error) {
	return result("provider.create", func() (scaling.VM, error) { return w.p.Create(ctx, spec) })
}

// Get implements scaling.Provider.
func (w providerWithFaults) Get(ctx context.Context, ref scaling.Ref) (scaling.VM, error) {
	return result("provider.get", func() (scaling.VM, error) { return w.p.Get(ctx, ref) })
}

// List implements scaling.Provider.
func (w providerWithFaults) List(ctx context.Context) ([]scaling.VM, error) {
	return result("provider.list", func() ([]scaling.VM, error) { return w.p.List(ctx) })
}

// Delete implements scaling.Provider. It refuses the VM that the environment
// names, so that a removal can be seen to fail.
func (w providerWithFaults) Delete(ctx context.Context, ref scaling.Ref) error {
	return around("provider.delete", func() error {
		if ref.Name != "" && ref.Name == os.Getenv("SCALEHOOK_FAULT_KEEP") {
			return scaling.Errorf(scaling.Permanent, "delete VM %s: refused on purpose", ref.Name)
		}
		return w.p.Delete(ctx, ref)
	})
}

// Shutdown implements scaling.Shutdowner.
func (w providerWithFaults) Shutdown(ctx context.Context, ref scaling.Ref, force bool) error {
	return around("provider.shutdown", func() error { return w.p.Shutdown(ctx, ref, force) })
}

// Adopt implements scaling.Adopter.
func (w providerWithFaults) Adopt(ctx context.Context, spec scaling.LaunchSpec) (scaling.VM, error) {
	return result("provider.adopt", func() (scaling.VM, error) { return w.p.Adopt(ctx, spec) })
}

// Release implements scaling.Adopter.
func (w providerWithFaults) Release(ctx context.Context, ref scaling.Ref) error {
	return around("provider.release", func() error { return w.p.Release(ctx, ref) })
}

// moreProvider is what the providers are that can do more than libvirt's.
type moreProvider interface {
	scaling.Snapshotter
	scaling.Addresser
	scaling.Surveyor
	scaling.Keeper
}

// moreWithFaults is a provider with the other optional contracts too.
type moreWithFaults struct {
	providerWithFaults

	more moreProvider
}

// Snapshot implements scaling.Snapshotter.
func (w moreWithFaults) Snapshot(ctx context.Context, ref scaling.Ref, name string) error {
	return around("provider.snapshot", func() error { return w.more.Snapshot(ctx, ref, name) })
}

// PruneSnapshots implements scaling.Snapshotter.
func (w moreWithFaults) PruneSnapshots(ctx context.Context, group string, keep int, from time.Time) error {
	return around("provider.prune_snapshots", func() error { return w.more.PruneSnapshots(ctx, group, keep, from) })
}

// HasAddress implements scaling.Addresser; it asks nobody.
func (w moreWithFaults) HasAddress(group string) bool { return w.more.HasAddress(group) }

// Address implements scaling.Addresser.
func (w moreWithFaults) Address(ctx context.Context, group string) (scaling.PublicAddress, error) {
	return result("provider.address", func() (scaling.PublicAddress, error) { return w.more.Address(ctx, group) })
}

// MoveAddress implements scaling.Addresser.
func (w moreWithFaults) MoveAddress(ctx context.Context, ref scaling.Ref) error {
	return around("provider.move_address", func() error { return w.more.MoveAddress(ctx, ref) })
}

// Unmarked implements scaling.Surveyor.
func (w moreWithFaults) Unmarked(ctx context.Context) ([]scaling.VM, error) {
	return result("provider.unmarked", func() ([]scaling.VM, error) { return w.more.Unmarked(ctx) })
}

// Leftovers implements scaling.Keeper.
func (w moreWithFaults) Leftovers(ctx context.Context) ([]scaling.Leftover, error) {
	return result("provider.leftovers", func() ([]scaling.Leftover, error) { return w.more.Leftovers(ctx) })
}

// RemoveLeftover implements scaling.Keeper.
func (w moreWithFaults) RemoveLeftover(ctx context.Context, l scaling.Leftover) error {
	return around("provider.remove_leftover", func() error { return w.more.RemoveLeftover(ctx, l) })
}

type balancerWithFaults struct{ b scaling.Balancer }

// Observe implements scaling.Balancer.
func (w balancerWithFaults) Observe(ctx context.Context) (scaling.PoolStatus, error) {
	return result("balancer.observe", func() (scaling.PoolStatus, error) { return w.b.Observe(ctx) })
}

// Apply implements scaling.Balancer.
func (w balancerWithFaults) Apply(ctx context.Context, want scaling.Pool) error {
	return around("balancer.apply", func() error { return w.b.Apply(ctx, want) })
}

// Capabilities implements scaling.Balancer; it asks nobody.
func (w balancerWithFaults) Capabilities() scaling.Capabilities { return w.b.Capabilities() }
