package scaling

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Releaser is a Provider that can let go of what it made.
type Releaser interface {
	// LetGo takes our marks off the VM and off all that was made for it or leads to it
	// (disks, ports, addresses), and leaves everything as it is: nothing is stopped,
	// moved or deleted, and nothing of it is ours any more. The VM's own mark goes last,
	// so that List has the VM until all is done. No VM or no mark is success.
	LetGo(ctx context.Context, ref Ref) error
}

// Release says that a group was let go: its marks are being taken off, or are off, and
// nothing else is done for it until it is resumed or is configured no more.
type Release struct {
	By string
	At time.Time
	// Done is when no mark of the group was left; zero: they are being taken off.
	Done time.Time
	// Activity takes them off.
	Activity string
}

// LetGo is an instance that was let go. Its member stays in the pool as it stands.
type LetGo struct {
	ID   string
	Name string // the VM's
}

// ReleasePlan is what a release lets go of.
type ReleasePlan struct {
	// Instances are those that the group knows, and Unknown the VMs that carry its mark
	// besides.
	Instances []InstanceView
	Unknown   []VM
	// Port is the members'.
	Port uint16
	// Activity takes the marks off; empty: nothing was begun.
	Activity string
	// Released says that the group was released before, and how far that is; nil: it was
	// not.
	Released *Release
}

// Address is where the member of an instance is reached; invalid if it has none.
func (p ReleasePlan) Address(i InstanceView) netip.AddrPort {
	if i.Member != nil && i.Member.Addr.IsValid() {
		return i.Member.Addr
	}
	if !i.Address.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(i.Address, p.Port)
}

// Leaver lets a group's VMs and members go. The engine is one.
type Leaver interface {
	// Release says what a release of the group lets go of, and with sure begins it: an
	// activity, which a restart finishes, takes the marks off; VMs and members stay as
	// they are, and nothing is deleted. ErrRefused with the reason while something is
	// under way, or where the marks cannot be taken off. A group that was released
	// before is success.
	Release(ctx context.Context, group string, sure bool, by string) (ReleasePlan, error)
}

// Release begins to let the group go, from now on nothing else is done for it. What was
// ordered is dropped. ErrRefused while something is under way.
func (s *State) Release(g Group, by string, now time.Time, ids IDs) error {
	if s.Released != nil {
		return nil
	}
	for _, i := range s.Instances {
		if i.State.Launching() || i.State.Leaving() {
			return fmt.Errorf("%w: %s is %s: pause the group and wait until nothing is under way", ErrRefused, i.Name, i.State)
		}
	}
	for _, a := range s.Open {
		if !a.Status.Ended() {
			return fmt.Errorf("%w: activity %s (%s) is under way: pause the group and wait for its end", ErrRefused, a.ID, a.Kind)
		}
	}
	a := Activity{
		ID: ids.Activity(now), Group: g.Name, Kind: ActivityRelease, Status: ActivityPending, Created: now,
		Cause: Cause{Kind: CauseManual, By: by},
	}
	a.Enter("take_marks_off", now)
	s.Open, s.Orders = append(s.Open, a), nil
	s.Released = &Release{By: by, At: now, Activity: a.ID}
	for _, i := range s.Instances {
		if i.State != StateGone {
			s.letGo(i.ID, i.Name)
		}
	}
	return nil
}

// letGo notes an instance whose member stays.
func (s *State) letGo(id, name string) {
	if !s.IsLetGo(id) {
		s.LetGo = append(s.LetGo, LetGo{ID: id, Name: name})
	}
}

// IsLetGo reports whether the member of that instance was let go and stays.
func (s *State) IsLetGo(id string) bool {
	return slices.ContainsFunc(s.LetGo, func(l LetGo) bool { return l.ID == id })
}

// Strange notes VMs with the group's mark that it did not know, and that are let go
// with the others. It reports whether anything changed.
func (s *State) Strange(vms []VM) bool {
	n := len(s.LetGo)
	for _, vm := range vms {
		s.letGo(vm.ID, vm.Name)
	}
	return len(s.LetGo) > n
}

// ReleaseDone records that no mark of the group is left. The group forgets its
// instances and where they were; a resumed group begins anew.
func (s *State) ReleaseDone(now time.Time) {
	if s.Released == nil || !s.Released.Done.IsZero() {
		return
	}
	s.Released.Done = now
	n := 0
	for k := range s.Instances {
		if i := &s.Instances[k]; i.State != StateGone {
			i.State, i.Since, i.Suspect, i.SuspectSince = StateGone, now, "", time.Time{}
			n++
		}
	}
	if a := s.Activity(s.Released.Activity); a != nil {
		a.End(ActivityDone, fmt.Sprintf("%d instances were let go: no VM carries the group's mark, and the members stay", n), now)
	}
	s.AdoptedNames, s.Leases = nil, nil
	s.Primary, s.Desired = "", 0
	s.Provider, s.Balancer, s.Place = "", "", ""
	s.Failures, s.BackoffUntil = 0, time.Time{}
}

// Retake ends a release. While marks are still being taken off it is refused
// (ErrRefused): a VM would be half ours.
func (s *State) Retake() error {
	if s.Released == nil {
		return nil
	}
	if s.Released.Done.IsZero() {
		return fmt.Errorf("%w: the group is being released: wait until activity %s has ended", ErrRefused, s.Released.Activity)
	}
	s.Released = nil
	// Nothing of them is to be found under these ids any more, unless one is adopted.
	s.Instances = slices.DeleteFunc(s.Instances, func(i Instance) bool { return i.State == StateGone })
	return nil
}

// errReleased refuses what a released group does not do.
func (s *State) errReleased() error {
	if s.Released == nil {
		return nil
	}
	return fmt.Errorf("%w: the group was released by %s at %s: resume it first", ErrRefused, orUnknown(s.Released.By), clock(s.Released.At))
}

// adoptedID is the id for a VM that is adopted: that of its member if it was let go, so
// that the member in the pool is its own again.
func (s *State) adoptedID(name string, ids IDs) string {
	k := slices.IndexFunc(s.LetGo, func(l LetGo) bool { return l.Name == name && s.Instance(l.ID) == nil })
	if k < 0 {
		return ids.Instance()
	}
	id := s.LetGo[k].ID
	s.LetGo = slices.Delete(s.LetGo, k, k+1)
	return id
}
