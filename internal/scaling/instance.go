package scaling

import (
	"net/netip"
	"time"
)

// InstanceState is where an instance stands between wish and gone.
type InstanceState string

// The states of an instance, in the order of a life:
// requested → creating → booting → joining → in_service → draining → removing → gone.
// From in_service a person may put it into standby and back. A launch that fails goes to removing from wherever it was, with Failure set;
// failed is an instance whose removal did not succeed and that a person must see.
const (
	StateRequested InstanceState = "requested"  // journalled; nothing exists yet
	StateCreating  InstanceState = "creating"   // the provider may be at work
	StateBooting   InstanceState = "booting"    // exists and runs; no address yet
	StateJoining   InstanceState = "joining"    // has an address; checked by the balancer, no traffic
	StateInService InstanceState = "in_service" // takes traffic
	StateStandby   InstanceState = "standby"    // taken out of traffic by a person, kept as it is
	StateDraining  InstanceState = "draining"   // no new traffic; sessions end
	StateRemoving  InstanceState = "removing"   // leaves the pool, shuts down, is deleted
	StateGone      InstanceState = "gone"       // nothing of it is left (or it was let go)
	StateFailed    InstanceState = "failed"     // could not be removed
)

// InstanceStates lists all states in the order of a life.
func InstanceStates() []InstanceState {
	return []InstanceState{
		StateRequested, StateCreating, StateBooting, StateJoining,
		StateInService, StateStandby, StateDraining, StateRemoving, StateGone, StateFailed,
	}
}

// Launching reports whether the instance is on its way into service.
func (s InstanceState) Launching() bool {
	switch s {
	case StateRequested, StateCreating, StateBooting, StateJoining:
		return true
	case StateInService, StateStandby, StateDraining, StateRemoving, StateGone, StateFailed:
		return false
	}
	return false
}

// Leaving reports whether the instance is on its way out.
func (s InstanceState) Leaving() bool { return s == StateDraining || s == StateRemoving }

// Instance is one member of a group, from the wish for it to its end.
type Instance struct {
	// ID is chosen by us and journalled before the first call; a UUID in its
	// canonical form. Everything made for the instance carries it.
	ID    string `json:"id"`
	Group string `json:"group"`
	// Name is the VM's name, a label for people. Number is what it was made from;
	// 0 for an adopted VM.
	Name   string        `json:"name"`
	Number int           `json:"number,omitempty"`
	State  InstanceState `json:"state"`
	Since  time.Time     `json:"since"` // of State
	// Adopted instances existed before; they are kept or deleted by OnRemove.
	Adopted bool `json:"adopted,omitempty"`
	// UUID is the VM's own (libvirt's, or Nova's server id); empty until known.
	UUID string `json:"uuid,omitempty"`
	// Address is where the balancer reaches it; invalid until known.
	Address netip.Addr `json:"address"`

	CreatedAt   time.Time `json:"created_at"`
	InServiceAt time.Time `json:"in_service_at"` // zero until in service for the first time
	// Deadline ends the state it is in: a launch past it is undone, a drain past
	// it cuts what is left.
	Deadline time.Time `json:"deadline"`
	// Activity is the activity that moves it at present, or did so last.
	Activity string `json:"activity,omitempty"`
	// Failure says why a launch or a removal failed; empty if none did.
	Failure string `json:"failure,omitempty"`
	// Protected instances are never chosen by a scale-in and never replaced.
	Protected bool `json:"protected,omitempty"`
	// Suspect says why an instance in service is unwell, SuspectSince since when;
	// both are empty while it is well.
	Suspect      string    `json:"suspect,omitempty"`
	SuspectSince time.Time `json:"suspect_since,omitzero"`
	// PoweredOff is journalled once the guest is known to be stopped.
	PoweredOff bool `json:"powered_off,omitempty"`
}

// Warm reports whether the instance's CPU counts for the high signal at now.
func (i Instance) Warm(warmUp time.Duration, now time.Time) bool {
	return i.State == StateInService && !now.Before(i.InServiceAt.Add(warmUp))
}
