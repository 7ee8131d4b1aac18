package scalingtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

// ProviderUnderTest is a scaling.Provider and the place that it works at.
type ProviderUnderTest struct {
	Provider scaling.Provider
	// Group is a group that the provider has a template for.
	Group string
	// Prefix begins the names of all VMs that the suite makes.
	Prefix string
	// Foreign makes a VM that carries no mark and returns its uuid. The hook takes
	// it away again at the end of the test.
	Foreign func(t *testing.T, name string) (uuid string)
	// Intact returns an error unless the VM that Foreign made is there with its
	// disks, without a mark, and as it was.
	Intact func(t *testing.T, name string) error
	// CopyMark makes a VM called name whose definition carries the mark of ref's,
	// as somebody does who clones a definition, and returns its uuid. The hook
	// takes it away again.
	CopyMark func(t *testing.T, ref scaling.Ref, name string) (uuid string)
	// Leftovers names everything of the provider's owner that exists: VMs, volumes,
	// seeds, reservations; also what no VM uses. A group's public address, which
	// outlives its VMs, is none; the hook of the test takes it away.
	Leftovers func(t *testing.T) []string
	// Discard takes away what is left of a VM called name that was let go and deleted as
	// an adopted one: what was made for it and is no part of it, like a port. Nil: nothing.
	Discard func(t *testing.T, name string)
	// Snapshots names the snapshots of the group's VMs, the oldest first. Nil where the
	// provider is no Snapshotter. The hook of the test takes them away at its end.
	Snapshots func(t *testing.T) []string
	// BootLimit is how long a VM may take to get an address, StopLimit to stop
	// when asked. A StopLimit of zero says that the guest does not heed requests.
	BootLimit, StopLimit time.Duration
}

// callLimit bounds one call of the suite to a provider.
const callLimit = time.Minute

// Provider runs the conformance suite of scaling.Provider and of the optional
// contracts that the provider fulfils. start is called once per case.
func Provider(t *testing.T, start func(t *testing.T) ProviderUnderTest) {
	cases := []struct {
		name string
		run  func(t *testing.T, p providerCase)
	}{
		{"a VM is created once, runs, is listed, gets an address and is deleted with all that it had", providerLife},
		{"creating a VM at the same time by several calls makes one", providerConcurrent},
		{"a name that belongs to somebody else is a conflict, and undoing leaves theirs alone", providerForeignName},
		{"what was never made is not found and is deleted with success", providerNothing},
		{"a VM without a mark is never listed and never deleted", providerForeign},
		{"a copied mark is not valid", providerCopiedMark},
		{"a guest is asked to stop, or its power is cut", providerShutdown},
		{"a VM is adopted, kept apart from others' and released as it was", providerAdopt},
		{"an adopted VM is deleted if that is asked for", providerAdoptDelete},
		{"a VM that is let go runs on with all that it has and is nobody's", providerLetGo},
		{"a snapshot is made once", providerSnapshot},
		{"a group's public address leads to one VM after the other and outlives them", providerAddress},
		{"an ended context changes nothing", providerCancelled},
		{"a call whose time is up can be run again", providerDeadline},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := providerCase{ProviderUnderTest: start(t)}
			c.run(t, p)
			if left := p.Leftovers(t); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

type providerCase struct{ ProviderUnderTest }

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // documented never to fail
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	t.Cleanup(cancel)
	return ctx
}

// spec asks for a new VM and makes sure that it is deleted at the end, also when
// the test fails half-way.
func (p providerCase) spec(t *testing.T, n int) (scaling.LaunchSpec, scaling.Ref) {
	t.Helper()
	id := newID()
	s := scaling.LaunchSpec{ID: id, Group: p.Group, Name: fmt.Sprintf("%s-%d", p.Prefix, n), Number: n}
	ref := scaling.Ref{ID: id, Group: s.Group, Name: s.Name}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), callLimit)
		defer cancel()
		if err := p.Provider.Delete(ctx, ref); err != nil {
			t.Errorf("delete %s at the end: %v", s.Name, err)
		}
	})
	return s, ref
}

func (p providerCase) create(t *testing.T, s scaling.LaunchSpec) (scaling.VM, scaling.Ref) {
	t.Helper()
	vm, err := p.Provider.Create(within(t), s)
	if err != nil {
		t.Fatalf("Create %s: %v (%s)", s.Name, err, scaling.ClassOf(err))
	}
	return vm, scaling.Ref{ID: s.ID, Group: s.Group, Name: s.Name, UUID: vm.UUID}
}

func (p providerCase) remove(t *testing.T, ref scaling.Ref) {
	t.Helper()
	if err := p.Provider.Delete(within(t), ref); err != nil {
		t.Errorf("Delete %s: %v (%s)", ref.Name, err, scaling.ClassOf(err))
	}
	if _, err := p.Provider.Get(within(t), ref); !scaling.IsNotFound(err) {
		t.Errorf("Get after Delete: %v, want a not_found", err)
	}
}

// listed returns the VMs in the provider's listing with the given instance id.
func (p providerCase) listed(t *testing.T, id string) []scaling.VM {
	t.Helper()
	all, err := p.Provider.List(within(t))
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	var found []scaling.VM
	for _, vm := range all {
		if vm.ID == "" {
			t.Errorf("a VM without a mark is listed: %+v", vm)
		}
		if vm.ID == id {
			found = append(found, vm)
		}
	}
	return found
}

func wantClass(t *testing.T, what string, err error, want ...scaling.Class) {
	t.Helper()
	if err == nil {
		t.Errorf("%s succeeded, want an error of class %v", what, want)
		return
	}
	for _, c := range want {
		if scaling.ClassOf(err) == c {
			return
		}
	}
	t.Errorf("%s: %v, class %s, want %v", what, err, scaling.ClassOf(err), want)
}

func (p providerCase) intact(t *testing.T, name string) {
	t.Helper()
	if err := p.Intact(t, name); err != nil {
		t.Errorf("somebody else's VM %s: %v", name, err)
	}
}

func providerLife(t *testing.T, p providerCase) {
	s, ref := p.spec(t, 1)
	vm, full := p.create(t, s)
	if vm.UUID == "" || vm.ID != s.ID || vm.Group != s.Group || vm.Name != s.Name || vm.Adopted {
		t.Errorf("Create() = %+v, want the identity of %+v", vm, s)
	}
	if vm.Power != scaling.PowerRunning {
		t.Errorf("the VM is %s after Create, want running", vm.Power)
	}
	again, _ := p.create(t, s)
	if again.UUID != vm.UUID {
		t.Errorf("Create again made another VM: %s, then %s", vm.UUID, again.UUID)
	}
	if found := p.listed(t, s.ID); len(found) != 1 || found[0].UUID != vm.UUID || found[0].Group != s.Group {
		t.Errorf("listed: %+v, want the VM once", found)
	}
	testenv.Eventually(t, p.BootLimit, "an address of "+s.Name, func() error {
		got, err := p.Provider.Get(within(t), ref) // without the uuid, as after a restart
		if err != nil {
			return err
		}
		if len(got.Addresses) == 0 {
			return fmt.Errorf("none yet, the VM is %s", got.Power)
		}
		return nil
	})
	got, err := p.Provider.Get(within(t), full)
	listed := p.listed(t, s.ID)
	if err != nil || len(listed) != 1 {
		t.Fatalf("Get: %v; listed: %+v", err, listed)
	}
	if diff := cmp.Diff(got, listed[0], cmpopts.EquateComparable(netip.Addr{})); diff != "" && len(listed[0].Addresses) > 0 {
		t.Errorf("Get and List differ (-get +list):\n%s", diff)
	}
	if got.CreatedAt.IsZero() {
		t.Error("the mark does not tell when the VM was made")
	}
	p.remove(t, full)
	if found := p.listed(t, s.ID); len(found) != 0 {
		t.Errorf("listed after Delete: %+v", found)
	}
	p.remove(t, full)
}

func providerConcurrent(t *testing.T, p providerCase) {
	s, ref := p.spec(t, 1)
	var wait sync.WaitGroup
	for range 3 {
		ctx := within(t)
		wait.Go(func() {
			if _, err := p.Provider.Create(ctx, s); err != nil {
				t.Logf("a concurrent Create: %v (%s)", err, scaling.ClassOf(err))
			}
		})
	}
	wait.Wait()
	p.create(t, s)
	if found := p.listed(t, s.ID); len(found) != 1 {
		t.Errorf("%d VMs of one instance", len(found))
	}
	p.remove(t, ref)
}

func providerForeignName(t *testing.T, p providerCase) {
	s, ref := p.spec(t, 1)
	p.Foreign(t, s.Name)
	_, err := p.Provider.Create(within(t), s)
	wantClass(t, "Create with a foreign name", err, scaling.Conflict)
	p.intact(t, s.Name)
	if err := p.Provider.Delete(within(t), ref); err != nil {
		t.Errorf("Delete of what could not be made: %v", err)
	}
	p.intact(t, s.Name)

	// Also a VM of our own under that name is somebody else's.
	s2, ref2 := p.spec(t, 2)
	p.create(t, s2)
	other, otherRef := p.spec(t, 2)
	_, err = p.Provider.Create(within(t), other)
	wantClass(t, "Create with another instance's name", err, scaling.Conflict)
	if err := p.Provider.Delete(within(t), otherRef); err != nil {
		t.Errorf("Delete of what could not be made: %v", err)
	}
	if found := p.listed(t, s2.ID); len(found) != 1 {
		t.Error("undoing removed another instance's VM")
	}
	p.remove(t, ref2)
}

func providerNothing(t *testing.T, p providerCase) {
	_, ref := p.spec(t, 1)
	_, err := p.Provider.Get(within(t), ref)
	wantClass(t, "Get of nothing", err, scaling.NotFound)
	for range 2 {
		if err := p.Provider.Delete(within(t), ref); err != nil {
			t.Errorf("Delete of nothing: %v", err)
		}
	}
	if s, ok := p.Provider.(scaling.Shutdowner); ok {
		wantClass(t, "Shutdown of nothing", s.Shutdown(within(t), ref, true), scaling.NotFound)
	}
	if r, ok := p.Provider.(scaling.Releaser); ok {
		if err := r.LetGo(within(t), ref); err != nil {
			t.Errorf("LetGo of nothing: %v", err)
		}
	}
	if a, ok := p.Provider.(scaling.Adopter); ok {
		_, err := a.Adopt(within(t), scaling.LaunchSpec{ID: ref.ID, Group: ref.Group, Name: ref.Name})
		wantClass(t, "Adopt of nothing", err, scaling.NotFound)
		if err := a.Release(within(t), ref); err != nil {
			t.Errorf("Release of nothing: %v", err)
		}
	}
}

func providerForeign(t *testing.T, p providerCase) {
	name := p.Prefix + "-foreign"
	uuid := p.Foreign(t, name)
	all, err := p.Provider.List(within(t))
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	for _, vm := range all {
		if vm.UUID == uuid {
			t.Errorf("listed: %+v", vm)
		}
	}
	ref := scaling.Ref{ID: newID(), Group: p.Group, Name: name, UUID: uuid}
	wantClass(t, "Delete of a VM without a mark", p.Provider.Delete(within(t), ref), scaling.Conflict)
	_, err = p.Provider.Get(within(t), ref)
	wantClass(t, "Get of a VM without a mark", err, scaling.NotFound)
	if s, ok := p.Provider.(scaling.Shutdowner); ok {
		wantClass(t, "Shutdown of a VM without a mark", s.Shutdown(within(t), ref, true), scaling.NotFound, scaling.Conflict)
	}
	p.intact(t, name)
}

func providerCopiedMark(t *testing.T, p providerCase) {
	s, _ := p.spec(t, 1)
	vm, ref := p.create(t, s)
	uuid := p.CopyMark(t, ref, p.Prefix+"-copy")
	if found := p.listed(t, s.ID); len(found) != 1 || found[0].UUID != vm.UUID {
		t.Errorf("listed: %+v, want the VM that was marked and not its copy", found)
	}
	wantClass(t, "Delete of the copy by its uuid",
		p.Provider.Delete(within(t), scaling.Ref{ID: newID(), Group: p.Group, Name: p.Prefix + "-copy", UUID: uuid}), scaling.Conflict)
	p.remove(t, ref)
	if found := p.listed(t, s.ID); len(found) != 0 {
		t.Errorf("the copy took the deleted VM's place: %+v", found)
	}
}

func (p providerCase) awaitStopped(t *testing.T, ref scaling.Ref, limit time.Duration) {
	t.Helper()
	testenv.Eventually(t, limit, ref.Name+" to stop", func() error {
		vm, err := p.Provider.Get(within(t), ref)
		if err == nil && vm.Power != scaling.PowerStopped {
			err = fmt.Errorf("it is %s", vm.Power)
		}
		return err
	})
}

func providerShutdown(t *testing.T, p providerCase) {
	stopper, ok := p.Provider.(scaling.Shutdowner)
	if !ok {
		return // an optional contract
	}
	s, _ := p.spec(t, 1)
	_, ref := p.create(t, s)
	if p.StopLimit > 0 {
		// A guest hears the request only once it is up; the engine asks again too.
		deadline := time.Now().Add(p.BootLimit + p.StopLimit)
		testenv.Eventually(t, time.Until(deadline), "the guest to heed a request to stop", func() error {
			if err := stopper.Shutdown(within(t), ref, false); err != nil {
				return err
			}
			vm, err := p.Provider.Get(within(t), ref)
			if err == nil && vm.Power != scaling.PowerStopped {
				err = fmt.Errorf("it is %s", vm.Power)
			}
			return err
		})
		p.create(t, s) // runs again
	}
	for range 2 {
		if err := stopper.Shutdown(within(t), ref, true); err != nil {
			t.Errorf("Shutdown by force: %v", err)
		}
		p.awaitStopped(t, ref, callLimit)
	}
	if err := stopper.Shutdown(within(t), ref, false); err != nil {
		t.Errorf("Shutdown of a stopped VM: %v", err)
	}
	if found := p.listed(t, s.ID); len(found) != 1 {
		t.Error("a stopped VM is not listed")
	}
	p.remove(t, ref)
}

func providerAdopt(t *testing.T, p providerCase) {
	adopter, ok := p.Provider.(scaling.Adopter)
	if !ok {
		return // an optional contract
	}
	name := p.Prefix + "-baseline"
	uuid := p.Foreign(t, name)
	s := scaling.LaunchSpec{ID: newID(), Group: p.Group, Name: name}
	ref := scaling.Ref{ID: s.ID, Group: s.Group, Name: name, UUID: uuid, Adopted: true}
	another := s
	another.UUID = newID()
	_, err := adopter.Adopt(within(t), another)
	wantClass(t, "Adopt of a VM of the same name", err, scaling.Conflict)
	if found := p.listed(t, s.ID); len(found) != 0 {
		t.Errorf("listed: %+v, want nothing adopted", found)
	}
	s.UUID = uuid
	for range 2 {
		vm, err := adopter.Adopt(within(t), s)
		if err != nil {
			t.Fatalf("Adopt: %v", err)
		}
		if vm.UUID != uuid || vm.ID != s.ID || !vm.Adopted {
			t.Errorf("Adopt() = %+v, want %s marked as adopted", vm, uuid)
		}
	}
	if found := p.listed(t, s.ID); len(found) != 1 || !found[0].Adopted {
		t.Errorf("listed: %+v, want the adopted VM", found)
	}
	other := s
	other.ID = newID()
	_, err = adopter.Adopt(within(t), other)
	wantClass(t, "Adopt of another instance's VM", err, scaling.Conflict)
	for range 2 {
		if err := adopter.Release(within(t), ref); err != nil {
			t.Errorf("Release: %v", err)
		}
	}
	if found := p.listed(t, s.ID); len(found) != 0 {
		t.Errorf("listed after Release: %+v", found)
	}
	p.intact(t, name)
}

func providerLetGo(t *testing.T, p providerCase) {
	releaser, ok := p.Provider.(scaling.Releaser)
	adopter, too := p.Provider.(scaling.Adopter)
	if !ok || !too {
		return // optional contracts
	}
	s, _ := p.spec(t, 1)
	vm, ref := p.create(t, s)
	other, _ := p.spec(t, 2)
	_, otherRef := p.create(t, other)
	for range 2 {
		if err := releaser.LetGo(within(t), ref); err != nil {
			t.Errorf("LetGo: %v", err)
		}
	}
	if found := p.listed(t, s.ID); len(found) != 0 {
		t.Errorf("listed after LetGo: %+v", found)
	}
	if found := p.listed(t, other.ID); len(found) != 1 {
		t.Errorf("another VM: %+v", found)
	}
	_, err := p.Provider.Get(within(t), ref)
	wantClass(t, "Get of what was let go", err, scaling.NotFound)
	wantClass(t, "Delete of what was let go", p.Provider.Delete(within(t), ref), scaling.Conflict)
	if k, keeps := p.Provider.(scaling.Keeper); keeps {
		all, err := k.Leftovers(within(t))
		if err != nil {
			t.Errorf("Leftovers: %v", err)
		}
		for _, l := range all {
			if l.ID == s.ID {
				t.Errorf("what it has is taken for left behind: %+v", l)
			}
		}
	}
	// It is there as it was: whoever takes it over finds it running.
	back, err := adopter.Adopt(within(t), scaling.LaunchSpec{ID: s.ID, Group: s.Group, Name: s.Name})
	if err != nil {
		t.Fatalf("Adopt of what was let go: %v", err)
	}
	if back.UUID != vm.UUID || back.Power != scaling.PowerRunning {
		t.Errorf("after LetGo it is %+v, want %s running", back, vm.UUID)
	}
	adopted := ref
	adopted.Adopted = true
	p.remove(t, adopted)
	p.remove(t, ref) // what was once made for it and is no disk
	if p.Discard != nil {
		p.Discard(t, s.Name)
	}
	p.remove(t, otherRef)
}

func providerAdoptDelete(t *testing.T, p providerCase) {
	adopter, ok := p.Provider.(scaling.Adopter)
	if !ok {
		return // an optional contract
	}
	name := p.Prefix + "-baseline"
	uuid := p.Foreign(t, name)
	s := scaling.LaunchSpec{ID: newID(), Group: p.Group, Name: name}
	if _, err := adopter.Adopt(within(t), s); err != nil {
		t.Fatalf("Adopt: %v", err)
	}
	p.remove(t, scaling.Ref{ID: s.ID, Group: s.Group, Name: name, UUID: uuid, Adopted: true})
	if err := p.Intact(t, name); err == nil {
		t.Error("the adopted VM is still there")
	}
}

func providerSnapshot(t *testing.T, p providerCase) {
	keeper, ok := p.Provider.(scaling.Snapshotter)
	if !ok {
		return // an optional contract
	}
	s, _ := p.spec(t, 1)
	_, ref := p.create(t, s)
	for range 2 {
		if err := keeper.Snapshot(within(t), ref, "before-removal"); err != nil {
			t.Errorf("Snapshot: %v", err)
		}
	}
	if err := keeper.Snapshot(within(t), ref, "another"); err != nil {
		t.Errorf("Snapshot: %v", err)
	}
	if diff := cmp.Diff([]string{"before-removal", "another"}, p.Snapshots(t)); diff != "" {
		t.Errorf("snapshots (-want +got):\n%s", diff)
	}
	if err := keeper.PruneSnapshots(within(t), p.Group, 0, time.Now().AddDate(1, 0, 0)); err != nil {
		t.Errorf("PruneSnapshots: %v", err)
	}
	if diff := cmp.Diff([]string{"before-removal", "another"}, p.Snapshots(t)); diff != "" {
		t.Errorf("snapshots of before the time do not stay (-want +got):\n%s", diff)
	}
	for range 2 {
		if err := keeper.PruneSnapshots(within(t), p.Group, 1, time.Time{}); err != nil {
			t.Errorf("PruneSnapshots: %v", err)
		}
		if diff := cmp.Diff([]string{"another"}, p.Snapshots(t)); diff != "" {
			t.Errorf("snapshots after all but one were deleted (-want +got):\n%s", diff)
		}
	}
	p.remove(t, ref)
	if diff := cmp.Diff([]string{"another"}, p.Snapshots(t)); diff != "" {
		t.Errorf("snapshots after the VM was deleted (-want +got):\n%s", diff)
	}
	if k, ok := p.Provider.(scaling.Keeper); ok {
		p.leftover(t, k, scaling.KindSnapshot, "another")
		if got := p.Snapshots(t); len(got) != 0 {
			t.Errorf("snapshots after all were removed: %q", got)
		}
	}
}

// leftover expects one thing of a kind to be left, and removes it.
func (p providerCase) leftover(t *testing.T, k scaling.Keeper, kind scaling.OrphanKind, name string) {
	t.Helper()
	listed := func() (of []scaling.Leftover) {
		t.Helper()
		all, err := k.Leftovers(within(t))
		if err != nil {
			t.Fatalf("Leftovers: %v", err)
		}
		for _, l := range all {
			if l.Kind == kind {
				of = append(of, l)
			}
		}
		return of
	}
	found := listed()
	if len(found) != 1 || found[0].Name != name || found[0].Group != p.Group || found[0].ID == "" {
		t.Fatalf("Leftovers() has %+v, want %s %q of group %s", found, kind, name, p.Group)
	}
	theirs := found[0]
	theirs.Group = "another"
	wantClass(t, "RemoveLeftover of another group", k.RemoveLeftover(within(t), theirs), scaling.Conflict)
	for range 2 {
		if err := k.RemoveLeftover(within(t), found[0]); err != nil {
			t.Errorf("RemoveLeftover: %v", err)
		}
	}
	if left := listed(); len(left) != 0 {
		t.Errorf("still listed after it was removed: %+v", left)
	}
}

func providerAddress(t *testing.T, p providerCase) {
	mover, ok := p.Provider.(scaling.Addresser)
	if !ok || !mover.HasAddress(p.Group) {
		return // an optional contract
	}
	s1, nothing := p.spec(t, 1)
	wantClass(t, "MoveAddress to nothing", mover.MoveAddress(within(t), nothing), scaling.NotFound)
	one, ref1 := p.create(t, s1)
	s2, _ := p.spec(t, 2)
	two, ref2 := p.create(t, s2)
	var addr netip.Addr
	leads := func(uuid string) {
		t.Helper()
		at, err := mover.Address(within(t), p.Group)
		if err != nil || at.UUID != uuid || !at.Addr.IsValid() || addr.IsValid() && at.Addr != addr {
			t.Errorf("Address() = %+v, %v; want it to lead to %q, the address to be %s", at, err, uuid, addr)
		}
		addr = at.Addr
	}
	for _, step := range []struct {
		ref  scaling.Ref
		uuid string
	}{{ref1, one.UUID}, {ref1, one.UUID}, {ref2, two.UUID}, {ref1, one.UUID}} {
		if err := mover.MoveAddress(within(t), step.ref); err != nil {
			t.Fatalf("MoveAddress to %s: %v (%s)", step.ref.Name, err, scaling.ClassOf(err))
		}
		leads(step.uuid)
	}
	p.remove(t, ref1)
	leads("")
	if err := mover.MoveAddress(within(t), ref2); err != nil {
		t.Errorf("MoveAddress after its VM was deleted: %v", err)
	}
	leads(two.UUID)
	p.remove(t, ref2)
}

func providerCancelled(t *testing.T, p providerCase) {
	s, ref := p.spec(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	calls := map[string]func() error{
		"Create": func() error { _, err := p.Provider.Create(ctx, s); return err },
		"Get":    func() error { _, err := p.Provider.Get(ctx, ref); return err },
		"List":   func() error { _, err := p.Provider.List(ctx); return err },
		"Delete": func() error { return p.Provider.Delete(ctx, ref) },
	}
	for name, call := range calls {
		start := time.Now()
		wantClass(t, name+" with an ended context", call(), scaling.Temporary, scaling.Unknown)
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s took %v with an ended context", name, took)
		}
	}
	if found := p.listed(t, s.ID); len(found) != 0 {
		t.Errorf("made with an ended context: %+v", found)
	}
}

func providerDeadline(t *testing.T, p providerCase) {
	s, ref := p.spec(t, 1)
	for _, limit := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		start := time.Now()
		_, err := p.Provider.Create(ctx, s)
		if took := time.Since(start); took > limit+10*time.Second {
			t.Errorf("Create took %v with a limit of %v", took, limit)
		}
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			wantClass(t, "Create whose time is up", err, scaling.Temporary, scaling.Unknown)
		}
	}
	// An abandoned call may still run; the provider says Temporary until it is over.
	testenv.Eventually(t, callLimit, "Create to be run again", func() error {
		_, err := p.Provider.Create(within(t), s)
		return err
	})
	if found := p.listed(t, s.ID); len(found) != 1 {
		t.Errorf("%d VMs after calls that were cut short", len(found))
	}
	p.remove(t, ref)
}
