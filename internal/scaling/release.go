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

// LetGo is an instance that was let go. Its member stays in the pool as it stands, until
// its VM was adopted again and is in service.
type LetGo struct {
	ID         string
	Name, UUID string // the VM's
	// Address is where it served; invalid: it did not, or that is not known.
	Address netip.Addr
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
	// Before says that the group was let go before, and how far that is; nil: it was
	// not.
	Before *Release
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
	// under way, or where the marks cannot be taken off. A group that was let go
	// before is success.
	Release(ctx context.Context, group string, sure bool, by string) (ReleasePlan, error)
	// Retake resumes the group even while its marks are being taken off, for a release
	// that can never end, as at a host that is gone for good. Marks that are on stay on:
	// such a VM is an orphan that nothing removes. by says who wants it.
	Retake(ctx context.Context, group, by string) error
}

// BeginRelease begins to let the group go, from now on nothing else is done for it. What was
// ordered is dropped. ErrRefused while something is under way.
func (s *State) BeginRelease(g Group, by string, now time.Time, ids IDs) error {
	if s.Release != nil {
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
	s.Release = &Release{By: by, At: now, Activity: a.ID}
	for _, i := range s.Instances {
		if i.State == StateGone {
			continue
		}
		was := LetGo{ID: i.ID, Name: i.Name, UUID: i.UUID}
		if i.State == StateInService {
			was.Address = i.Address
		}
		s.letGo(was)
	}
	return nil
}

// letGo notes an instance whose member stays.
func (s *State) letGo(was LetGo) {
	if !s.IsLetGo(was.ID) {
		s.LetGo = append(s.LetGo, was)
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
		was := LetGo{ID: vm.ID, Name: vm.Name, UUID: vm.UUID}
		if len(vm.Addresses) > 0 {
			was.Address = vm.Addresses[0]
		}
		s.letGo(was)
	}
	return len(s.LetGo) > n
}

// EndRelease records that no mark of the group is left. The group forgets its
// instances and where they were; a resumed group begins anew.
func (s *State) EndRelease(now time.Time) {
	if s.Release == nil || !s.Release.Done.IsZero() {
		return
	}
	n := s.leave(now)
	if a := s.Activity(s.Release.Activity); a != nil {
		a.End(ActivityDone, fmt.Sprintf("%d instances were let go: no VM carries the group's mark, and the members stay", n), now)
	}
}

// leave has the group forget its instances and where they were, and says how many.
func (s *State) leave(now time.Time) (n int) {
	s.Release.Done, s.SnapshotsFrom = now, s.Release.At
	for k := range s.Instances {
		if i := &s.Instances[k]; i.State != StateGone {
			i.State, i.Since, i.Suspect, i.SuspectSince = StateGone, now, "", time.Time{}
			n++
		}
	}
	s.AdoptedNames, s.Leases = nil, nil
	s.Primary, s.Desired = "", 0
	s.Provider, s.Balancer, s.Place = "", "", ""
	s.Failures, s.BackoffUntil = 0, time.Time{}
	return n
}

// Abandon ends a release whatever marks are left, so that the group can be retaken. It
// reports whether there was one under way.
func (s *State) Abandon(by string, now time.Time) bool {
	if s.Release == nil || !s.Release.Done.IsZero() {
		return false
	}
	a := s.Activity(s.Release.Activity)
	n := s.leave(now)
	if a != nil {
		a.End(ActivityFailed, fmt.Sprintf("ended by force by %s: of the marks of %d instances some may be left", orUnknown(by), n), now)
	}
	return true
}

// Retake ends a release. While marks are still being taken off it is refused
// (ErrRefused): a VM would be half ours.
func (s *State) Retake() error {
	if s.Release == nil {
		return nil
	}
	if s.Release.Done.IsZero() {
		return fmt.Errorf("%w: the group is being let go: wait until activity %s has ended", ErrRefused, s.Release.Activity)
	}
	s.Release = nil
	// Nothing of them is to be found under these ids any more, unless one is adopted.
	s.Instances = slices.DeleteFunc(s.Instances, func(i Instance) bool { return i.State == StateGone })
	return nil
}

// errLetGo refuses what a group that was let go does not do.
func (s *State) errLetGo() error {
	if s.Release == nil {
		return nil
	}
	return fmt.Errorf("%w: the group was let go by %s at %s: resume it first", ErrRefused, orUnknown(s.Release.By), clock(s.Release.At))
}

// adopted is the id for a VM that is adopted: that of its member if it was let go, so
// that the member in the pool is its own again. Then the VM has to be that one, which is
// told by its uuid: another one may have its name by now.
func (s *State) adopted(name string, ids IDs) (id, uuid string) {
	k := slices.IndexFunc(s.LetGo, func(l LetGo) bool {
		i := s.Instance(l.ID)
		return l.Name == name && l.UUID != "" && (i == nil || i.State == StateGone)
	})
	if k < 0 {
		return ids.Instance(), ""
	}
	was := s.LetGo[k]
	// It is that of a try before that failed. The entry stays until the VM is in service:
	// if that fails too, its member stays.
	s.Instances = slices.DeleteFunc(s.Instances, func(i Instance) bool { return i.ID == was.ID })
	return was.ID, was.UUID
}

// Mistaken notes that the VM that was to be adopted is not the one that was let go under
// its name: the member stays that one's, and the next try has an id of its own.
func (s *State) Mistaken(id string) {
	for k := range s.LetGo {
		if s.LetGo[k].ID == id {
			s.LetGo[k].UUID = ""
		}
	}
}

// retaken notes that an instance that was let go is in service again.
func (s *State) retaken(id string) {
	s.LetGo = slices.DeleteFunc(s.LetGo, func(l LetGo) bool { return l.ID == id })
}
