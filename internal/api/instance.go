package api

import "time"

// Instance is one member of a group.
type Instance struct {
	ID     string `json:"id"`
	Group  string `json:"group"`
	Name   string `json:"name"` // the VM's
	Number int    `json:"number,omitempty"`
	// UUID is the VM's own; left out until known.
	UUID    string    `json:"uuid,omitempty"`
	Address string    `json:"address,omitempty"`
	State   string    `json:"state"`
	Since   time.Time `json:"since,omitzero"` // of State
	Power   string    `json:"power,omitempty"`
	Primary bool      `json:"primary"`
	Warm    bool      `json:"warm"`
	Adopted bool      `json:"adopted"`
	// Protected instances are never chosen by a scale-in.
	Protected bool `json:"protected"`
	// Suspect says why it is unwell, SuspectSince since when; past the group's grace
	// time it is replaced.
	Suspect      string    `json:"suspect,omitempty"`
	SuspectSince time.Time `json:"suspect_since,omitzero"`
	CreatedAt    time.Time `json:"created_at,omitzero"`
	InServiceAt  time.Time `json:"in_service_at,omitzero"`
	Deadline     time.Time `json:"deadline,omitzero"` // of State
	Activity     string    `json:"activity,omitempty"`
	Failure      string    `json:"failure,omitempty"`
	// Reading is its CPU utilisation; left out: none, which is not zero.
	Reading *Reading `json:"reading,omitempty"`
	// Member is how the balancer last had it; left out: not in the pool, or not known.
	Member *Member `json:"member,omitempty"`
}

// Reading is a CPU utilisation, 0..1 of the VM's own vCPUs.
type Reading struct {
	Utilization float64   `json:"utilization"`
	At          time.Time `json:"at"` // of the newest sample behind it
}

// Member is an instance as its balancer has it.
type Member struct {
	Server   string `json:"server"` // its name at the balancer
	Address  string `json:"address,omitempty"`
	State    string `json:"state"`    // joining | ready | draining | leaving
	Health   string `json:"health"`   // unknown | up | down
	Sessions int    `json:"sessions"` // in flight; -1: the balancer cannot tell
}
