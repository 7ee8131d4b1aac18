package api

import "time"

// Activity is a change of a group, under way or done.
type Activity struct {
	ID      string    `json:"id"` // sorts by time of creation
	Group   string    `json:"group"`
	Kind    string    `json:"kind"`
	Status  string    `json:"status"` // pending | running | done | undone | failed
	Cause   Cause     `json:"cause"`
	Launch  string    `json:"launch,omitempty"` // the id of the instance that comes
	Remove  string    `json:"remove,omitempty"` // the id of the one that goes
	Created time.Time `json:"created"`
	Ended   time.Time `json:"ended,omitzero"`
	Steps   []Step    `json:"steps"`
	Outcome string    `json:"outcome,omitempty"`
}

// Step is one step of an activity.
type Step struct {
	Name    string    `json:"name"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended,omitzero"` // left out while it runs
	Tries   int       `json:"tries,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// Cause is why an activity was begun.
type Cause struct {
	Kind        string    `json:"kind,omitempty"` // alert | manual | bounds | config | health
	Signal      string    `json:"signal,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Source      string    `json:"source,omitempty"`
	EvidenceAt  time.Time `json:"evidence_at,omitzero"`
	Order       string    `json:"order,omitempty"`
	By          string    `json:"by,omitempty"`
	Detail      string    `json:"detail,omitempty"`
}

// Verdict is the outcome of one decision: why the group acted, or did not.
type Verdict struct {
	Group        string    `json:"group"`
	At           time.Time `json:"at,omitzero"`
	Action       string    `json:"action"`
	Count        int       `json:"count,omitempty"`
	Victim       string    `json:"victim,omitempty"`
	Successor    string    `json:"successor,omitempty"`
	Adopt        string    `json:"adopt,omitempty"`
	Order        string    `json:"order,omitempty"`
	OrderRefused string    `json:"order_refused,omitempty"`
	Cause        Cause     `json:"cause,omitzero"`
	// Would marks a verdict that is not followed: the group only observes.
	Would    bool     `json:"would,omitempty"`
	Gates    []Gate   `json:"gates"`
	Statuses []string `json:"statuses,omitempty"`
	Reason   string   `json:"reason"`
}

// Gate is one condition that an action had to pass.
type Gate struct {
	Action string `json:"action"`
	Name   string `json:"name"`
	Passed bool   `json:"passed"`
	// Value is what was measured and Bound what it was held against; left out where
	// the gate compares no numbers.
	Value *float64 `json:"value,omitempty"`
	Bound *float64 `json:"bound,omitempty"`
	// Until is when a failed gate passes by itself; left out: it does not.
	Until  time.Time `json:"until,omitzero"`
	Detail string    `json:"detail"`
	// Change is what would make a failed gate pass.
	Change string `json:"change,omitempty"`
}
