package scaling

import (
	"context"
	"net/netip"
	"time"
)

// Power is whether a VM runs.
type Power string

// The power states of a VM. Only running VMs serve; only stopped and crashed ones
// are known to burn nothing.
const (
	PowerUnknown Power = "unknown"
	PowerRunning Power = "running"
	PowerPaused  Power = "paused"
	PowerStopped Power = "stopped"
	PowerCrashed Power = "crashed"
)

// VM is a virtual machine as a provider finds it.
type VM struct {
	// ID and Group come from a valid mark; both are empty for a VM without one.
	ID, Group string
	Name      string
	UUID      string // the VM's own
	Power     Power
	Addresses []netip.Addr // those usable by a balancer, best first; empty until known
	Adopted   bool         // by the mark
	CreatedAt time.Time    // by the mark, else zero
}

// LaunchSpec asks for one VM. The template (image, memory, network …) is the
// provider's own configuration for that group.
type LaunchSpec struct {
	ID     string // the instance id, a UUID; identity and the names of everything made come from it
	Group  string
	Name   string
	Number int
	// UUID is that of the VM to adopt, where it is known which one it has to be.
	UUID string
}

// Ref names a VM that a provider was asked to make or found. ID is always set;
// UUID as soon as it is known; Name helps messages and half-made VMs.
type Ref struct {
	ID, Group, Name, UUID string
	Adopted               bool
}

// Ref returns what names the instance's VM at its provider.
func (i Instance) Ref() Ref {
	return Ref{ID: i.ID, Group: i.Group, Name: i.Name, UUID: i.UUID, Adopted: i.Adopted}
}

// Provider creates and deletes VMs at one place (a libvirt host, a cloud). Every
// method may block until ctx ends and not longer: a call that cannot be cancelled
// is abandoned with an error of class Unknown, and until it returned or its
// connection closed the provider answers further calls with Temporary. Methods are
// safe for concurrent use. A provider never retries and never undoes.
type Provider interface {
	// Create makes the VM exist, marked as ours, and run; it returns without
	// waiting for its boot. It can be run again after any interruption: what is
	// there of spec.ID is taken over, never doubled and never overwritten.
	// Errors: Quota (no memory, disk, address), Conflict (the name or a file
	// belongs to somebody else), Permanent (image missing, template refused),
	// Temporary, Unknown.
	Create(ctx context.Context, spec LaunchSpec) (VM, error)
	// Get returns the VM with a valid mark for ref.ID (NotFound if there is none).
	Get(ctx context.Context, ref Ref) (VM, error)
	// List returns every VM with a valid mark of this owner, of all groups. A
	// partial listing is an error, never a short list.
	List(ctx context.Context) ([]VM, error)
	// Delete powers the VM off if it runs and removes it with everything that was
	// made for ref.ID and nothing else: volumes, seed, NVRAM, also where the VM
	// itself was never defined. Nothing left to delete is success. For an adopted
	// VM it deletes its definition and disks, which the engine asks for only with
	// OnRemoveDelete. A VM without a valid mark for ref.ID is a Conflict.
	Delete(ctx context.Context, ref Ref) error
}

// Shutdowner is a Provider that can ask a guest to stop. Without it the engine
// deletes at once.
type Shutdowner interface {
	// Shutdown asks the guest to stop, or cuts its power if force is set, and
	// returns without waiting; Get tells when it stopped. A stopped VM is success.
	Shutdown(ctx context.Context, ref Ref, force bool) error
}

// Adopter is a Provider that can take an existing VM into a group.
type Adopter interface {
	// Adopt marks the VM called spec.Name as instance spec.ID of spec.Group. Run
	// again with the same ID it changes nothing. NotFound if there is no such VM;
	// Conflict if it carries another instance's valid mark, cannot be told apart, or is
	// not the one with spec.UUID, where that is stated.
	Adopt(ctx context.Context, spec LaunchSpec) (VM, error)
	// Release takes our mark off and leaves the VM as it is. No VM or no mark is
	// success.
	Release(ctx context.Context, ref Ref) error
}

// Snapshotter is a Provider that can keep copies of VMs' disks.
type Snapshotter interface {
	// Snapshot makes a snapshot called name; one of that name that is there
	// already is success.
	Snapshot(ctx context.Context, ref Ref, name string) error
	// PruneSnapshots deletes the oldest snapshots that were made of VMs of the group
	// until keep are left. Those from before the time are not counted and stay, as do
	// others, and such as somebody else made.
	PruneSnapshots(ctx context.Context, group string, keep int, from time.Time) error
}

// PublicAddress is a group's public address and where it leads.
type PublicAddress struct {
	Addr netip.Addr
	// UUID is that of the VM that the address leads to; empty: it leads nowhere.
	UUID string
}

// Addresser is a Provider whose groups may own a public address that leads to one
// VM at a time. It outlives the VMs.
type Addresser interface {
	// HasAddress reports whether the group is configured to own one. It asks nobody.
	HasAddress(group string) bool
	// Address finds the group's public address. NotFound if there is none yet.
	Address(ctx context.Context, group string) (PublicAddress, error)
	// MoveAddress makes the group's public address lead to the VM of ref; leading
	// there already is success. It is one change at the provider: between two VMs
	// there is no moment in which the address leads nowhere because of it. Where the
	// group has no address yet one is made. Errors: NotFound (no such VM), Conflict
	// (the address leads to what is not this group's), Quota, Temporary, Unknown.
	MoveAddress(ctx context.Context, ref Ref) error
}
