package api

import "time"

// Orphan is a VM, a pool member or another thing that nobody answers for.
type Orphan struct {
	// Kind is vm, member, parts, snapshot or public_address.
	Kind string `json:"kind"`
	// Status is seen, quarantined, released, member or unmarked. Only what is
	// quarantined can be cleaned up.
	Status   string `json:"status"`
	Provider string `json:"provider,omitempty"`
	Group    string `json:"group"`
	ID       string `json:"id,omitempty"` // left out without a valid mark
	Name     string `json:"name"`         // the VM's, or the member's at the balancer
	UUID     string `json:"uuid,omitempty"`
	Power    string `json:"power,omitempty"`
	Adopted  bool   `json:"adopted"`
	// CreatedAt is of the mark.
	CreatedAt time.Time `json:"created_at,omitzero"`
	// Sightings counts complete listings in a row.
	Sightings int     `json:"sightings,omitempty"`
	Member    *Member `json:"member,omitempty"`
	// Note says what keeps it from being cleaned up, or what comes of it.
	Note string `json:"note,omitempty"`
}

// CleanupRequest is the body of cleanup.
type CleanupRequest struct {
	// IDs are those of the orphans that were shown; at least one.
	IDs []string `json:"ids"`
	// Group limits it to one group's; empty: all.
	Group string `json:"group,omitempty"`
	// Serving removes also what takes traffic, after a drain.
	Serving bool `json:"serving,omitempty"`
}

// CleanupResult is what became of one orphan.
type CleanupResult struct {
	ID    string `json:"id"`
	Group string `json:"group,omitempty"`
	Name  string `json:"name,omitempty"`
	// Activity removes it; left out: it is removed already, or refused for the reason
	// in Refused.
	Activity string `json:"activity,omitempty"`
	Removed  bool   `json:"removed,omitempty"`
	Refused  string `json:"refused,omitempty"`
}
