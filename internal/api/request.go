package api

import "time"

// IdempotencyKey is the header that makes an order safe to send twice: within
// 24 h the same request with the same key is answered as the first was.
const IdempotencyKey = "Idempotency-Key"

// MaxKey is how long an Idempotency-Key may be, in bytes.
const MaxKey = 128

// OrderRequest is the body of scale-out, scale-in, handover and desired. An empty
// body asks for the defaults.
type OrderRequest struct {
	// Count is how many instances to add or remove (1 if left out); for desired it
	// is the wished number and must be there.
	Count *int `json:"count,omitempty"`
	// Instance names the one to remove (scale-in, handover) by id or VM name;
	// left out: by the group's policy.
	Instance string `json:"instance,omitempty"`
	// Hold suspends automatic steps for that long after the order.
	Hold Duration `json:"hold,omitempty"`
}

// OrderResult answers an order that was taken.
type OrderResult struct {
	ID       string `json:"id"`
	Replayed bool   `json:"replayed"` // the same request came before with the same key
	Message  string `json:"message"`
}

// PauseRequest is the body of pause. An empty body pauses both directions until
// the group is resumed.
type PauseRequest struct {
	// Direction is out, in or both (the default).
	Direction string `json:"direction,omitempty"`
	// For ends the pause after that time; left out: until resumed.
	For    Duration `json:"for,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

// ProtectRequest is the body of protection.
type ProtectRequest struct {
	Protected *bool `json:"protected"`
}

// StandbyRequest is the body of standby.
type StandbyRequest struct {
	Standby *bool `json:"standby"`
}

// Effect is one thing that another configuration changes for a group.
type Effect struct {
	Group string `json:"group"`
	Kind  string `json:"kind"` // added, released, renamed, placement, mode, launch, remove, adopt, bounds, template or settings
	Text  string `json:"text"`
}

// Reloaded answers reload.
type Reloaded struct {
	Message string `json:"message"`
	// Effects are what the new configuration changed.
	Effects []Effect `json:"effects"`
}

// Done answers pause, resume, protection and standby.
type Done struct {
	Message string `json:"message"`
}

// IntakeResult answers a notification.
type IntakeResult struct {
	Results []AlertResult `json:"results"` // one per alert, in the payload's order
	// TruncatedAlerts is how many alerts the sender left out.
	TruncatedAlerts uint64 `json:"truncated_alerts,omitempty"`
}

// AlertResult is what became of one alert.
type AlertResult struct {
	Fingerprint  string `json:"fingerprint"`
	ScalingGroup string `json:"scaling_group"`
	Signal       string `json:"signal"`
	Status       string `json:"status"` // firing | resolved
	Result       string `json:"result"`
	Message      string `json:"message"`
}

// BuildInfo says which scalehook answers.
type BuildInfo struct {
	Version   string `json:"version"`
	Revision  string `json:"revision"`
	Branch    string `json:"branch"`
	BuildDate string `json:"build_date"`
	GoVersion string `json:"go_version"`
}

// ConfigInfo is the configuration in force.
type ConfigInfo struct {
	// YAML is the file as it was loaded, without comments, with <secret> for secrets.
	YAML string `json:"yaml"`
}

// RuntimeInfo says how it does.
type RuntimeInfo struct {
	StartTime time.Time `json:"start_time"`
	Ready     bool      `json:"ready"`
	// NotReady is why it is not.
	NotReady string `json:"not_ready,omitempty"`
	Groups   int    `json:"groups"`
}

// Whoami says what a token allows.
type Whoami struct {
	// Name is the token's; left out where none is needed (--web.insecure-operator).
	Name string `json:"name,omitempty"`
	Role string `json:"role"` // alerts | operator
	// Groups are those that it is limited to; left out: all.
	Groups []string `json:"groups,omitempty"`
}
