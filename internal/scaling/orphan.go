package scaling

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// OrphanStatus is what is known of a VM or a member that no state knows.
type OrphanStatus string

// The statuses of an orphan. Only what is quarantined can be cleaned up.
const (
	// OrphanSeen: a VM with a valid mark that the state of its group does not know,
	// so far in fewer complete listings in a row than it takes to be sure.
	OrphanSeen OrphanStatus = "seen"
	// OrphanQuarantined: seen in enough of them. It counts against the group's limit
	// and nothing is done to it.
	OrphanQuarantined OrphanStatus = "quarantined"
	// OrphanReleased: a VM with a valid mark of a group that is not configured at
	// this provider. It is nobody's to remove until the group is configured again.
	OrphanReleased OrphanStatus = "released"
	// OrphanMember: a member of a group's pool that we made and that has no VM. The
	// engine takes it out by itself.
	OrphanMember OrphanStatus = "member"
	// OrphanUnmarked: a VM without a valid mark whose name a group would give. It is
	// not ours and is only listed.
	OrphanUnmarked OrphanStatus = "unmarked"
)

// OrphanStatuses lists all statuses.
func OrphanStatuses() []OrphanStatus {
	return []OrphanStatus{OrphanSeen, OrphanQuarantined, OrphanReleased, OrphanMember, OrphanUnmarked}
}

// OrphanKind is what sort of thing an orphan is.
type OrphanKind string

// The kinds of orphans.
const (
	KindVM     OrphanKind = "vm"
	KindMember OrphanKind = "member" // of a pool
	// KindParts: what was made for an instance of which no VM is there: disks, ports,
	// addresses of its own.
	KindParts OrphanKind = "parts"
	// KindSnapshot: a copy of a VM's disks that is older than those that are kept.
	KindSnapshot OrphanKind = "snapshot"
	// KindAddress: a public address that was made for a group which has none any more.
	KindAddress OrphanKind = "public_address"
)

// Orphan is a VM or another thing that nobody answers for.
type Orphan struct {
	Kind     OrphanKind
	Status   OrphanStatus
	Provider string // its configured name; empty for a member
	// Group and ID are those of the mark, or of the pool; the ID of an unmarked VM
	// is empty, and that of a snapshot or address is its own.
	Group, ID  string
	Name, UUID string
	Power      Power
	Adopted    bool      // by the mark
	CreatedAt  time.Time // by the mark, else zero
	// Sightings counts the complete listings in a row that had it, as far as that
	// matters.
	Sightings int
	// Member is how the group's pool has it; nil: not in the pool, or not known.
	Member *MemberStatus
	// Note says, for people, what keeps it from being cleaned up or what comes of it.
	Note string
}

// Cleanup asks for orphans to be removed.
type Cleanup struct {
	// IDs are those of the orphans that somebody was shown.
	IDs []string
	// Groups limits it to the orphans of these groups; empty: all.
	Groups []string
	// Serving removes also what takes traffic, after a drain.
	Serving bool
	By      string
}

// CleanupResult is what became of one of the orphans.
type CleanupResult struct {
	ID, Group, Name string
	// Activity removes it; empty: Removed is set, or it is refused for the reason in
	// Refused.
	Activity, Refused string
	// Removed: it is gone already, as snapshots and addresses are.
	Removed bool
}

// Cleaner shows and removes what nobody answers for. The engine is one.
type Cleaner interface {
	// Orphans lists, by the last complete listing of every provider, and asks those
	// that can tell for what is no VM.
	Orphans(ctx context.Context) ([]Orphan, error)
	// Cleanup begins to remove quarantined orphans, VMs and parts each by an activity
	// of its own that survives a restart, the others at once, and says of every ID
	// what became of it. What was
	// begun before is refused as not listed any more. An error means that nothing
	// more was begun.
	Cleanup(ctx context.Context, c Cleanup) ([]CleanupResult, error)
}

// Surveyor is a Provider that can also name the VMs that are not ours.
type Surveyor interface {
	// Unmarked returns the VMs without a valid mark of this owner. ID and Group are
	// empty.
	Unmarked(ctx context.Context) ([]VM, error)
}

// Leftover is something with a valid mark of ours that is no VM.
type Leftover struct {
	Kind OrphanKind // parts, snapshot or public address
	// ID is the instance's for parts, and the thing's own otherwise.
	ID, Group, Name string
	CreatedAt       time.Time // zero where it is not known
	// Consists says, for people, of what, or where an address leads.
	Consists string
	InUse    bool // an address that leads to something
}

// Keeper is a Provider that makes more than VMs, some of which outlives them.
type Keeper interface {
	// Leftovers returns the parts of instances of which there is no VM, all whole
	// snapshots and all public addresses that were made for groups. A partial listing
	// is an error. Which of them is needed, the engine knows.
	Leftovers(ctx context.Context) ([]Leftover, error)
	// RemoveLeftover deletes a snapshot or a public address; gone already is success.
	// What does not carry our valid mark for that group (any more), or an address
	// that leads to something, is a Conflict. Parts are Delete's.
	RemoveLeftover(ctx context.Context, l Leftover) error
}

// Clean takes an orphan into the state, on its way out: one that is a member of
// the pool is drained first, at the address given. ErrRefused with the reason if
// the group is paused for removals, its budget is used up, or the VM is known.
func (s *State) Clean(vm VM, member netip.Addr, g Group, by string, now time.Time, ids IDs) (activity string, err error) {
	if err := s.errLetGo(); err != nil {
		return "", err
	}
	if s.IsLetGo(vm.ID) {
		return "", fmt.Errorf("%w: it was let go, and its mark could not be taken off: release the group again", ErrRefused)
	}
	if i := s.Instance(vm.ID); i != nil {
		return "", fmt.Errorf("%w: it is known as %s, which is %s", ErrRefused, i.Name, i.State)
	}
	if p := s.Pause; p != nil && p.In && (p.Until.IsZero() || now.Before(p.Until)) {
		return "", fmt.Errorf("%w: the group is paused by %s (%s). If its store was lost or restored, this VM may be one that it forgot: "+
			"restore a newer copy, or make sure that it is needed no more and resume the group first", ErrRefused, orUnknown(p.By), orNone(p.Reason))
	}
	if n := recent(s.Removals, now); g.RemovalsPerHour > 0 && n >= g.RemovalsPerHour {
		return "", fmt.Errorf("%w: budget: %d removals in the last hour, at most %d; the next at %s", ErrRefused, n, g.RemovalsPerHour,
			clock(oldest(s.Removals, now).Add(time.Hour)))
	}
	a := Activity{
		ID: ids.Activity(now), Group: g.Name, Kind: ActivityCleanup, Status: ActivityPending, Created: now,
		Cause: Cause{Kind: CauseManual, By: by, Detail: "orphan " + vm.Name}, Remove: vm.ID,
	}
	i := Instance{
		ID: vm.ID, Group: g.Name, Name: vm.Name, UUID: vm.UUID, Adopted: vm.Adopted, CreatedAt: vm.CreatedAt,
		State: StateRemoving, Since: now, Address: member, Activity: a.ID,
	}
	if member.IsValid() {
		i.State = StateDraining
	}
	a.Enter(string(i.State), now)
	s.Open, s.Instances, s.Removals = append(s.Open, a), append(s.Instances, i), append(s.Removals, now)
	s.Provider, s.Balancer, s.Place = g.Provider, g.Balancer, g.Place
	return a.ID, nil
}

// Names reports whether a VM of that name may be one that the group made.
func (g Group) Names(vm string) bool {
	if g.NamePattern == "" {
		return false
	}
	before, after, found := strings.Cut(g.NamePattern, "{n}")
	if !found {
		if vm == g.NamePattern {
			return true
		}
		before, after = g.NamePattern+"-", ""
	}
	rest, ok := strings.CutPrefix(vm, before)
	if !ok {
		return false
	}
	digits, ok := strings.CutSuffix(rest, after)
	n, err := strconv.ParseUint(digits, 10, 32)
	return ok && err == nil && n > 0
}
