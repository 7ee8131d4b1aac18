package api

import "time"

// ReleaseRequest is the body of release. An empty body only asks what a release would
// let go of.
type ReleaseRequest struct {
	// Yes begins it.
	Yes bool `json:"yes,omitempty"`
}

// ResumeRequest is the body of resume.
type ResumeRequest struct {
	// Force ends a release that cannot end, whatever marks are left.
	Force bool `json:"force,omitempty"`
}

// Release is a group's: since when nothing is done for it, and whether its marks
// are off.
type Release struct {
	By string    `json:"by,omitempty"`
	At time.Time `json:"at"`
	// Done is when no VM carried the group's mark any more; left out: not yet.
	Done time.Time `json:"done,omitzero"`
	// Activity takes the marks off.
	Activity string `json:"activity"`
}

// ReleaseResult answers release.
type ReleaseResult struct {
	// VMs are what is let go; empty where the group was let go before.
	VMs []LetGoVM `json:"vms"`
	// Activity takes the marks off; left out: nothing was begun.
	Activity string `json:"activity,omitempty"`
	// Before says that the group was let go before.
	Before *Release `json:"before,omitempty"`
	// Message says what was begun, or what would be.
	Message string `json:"message"`
}

// LetGoVM is a VM that is let go, and its member in the pool, which stays.
type LetGoVM struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	UUID string `json:"uuid,omitempty"`
	// State is the instance's; left out where the group did not know the VM.
	State   string `json:"state,omitempty"`
	Adopted bool   `json:"adopted,omitempty"`
	// Member is its name at the balancer, Address where it is reached there; left out
	// where it is in no pool.
	Member  string `json:"member,omitempty"`
	Address string `json:"address,omitempty"`
}
