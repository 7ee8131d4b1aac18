package api

import "time"

// Group is a scaling group: its settings, its durable state and what was last
// observed of it, of one moment.
type Group struct {
	Name string `json:"name"`
	// Mode is observe, scale_out_only or full.
	Mode     string   `json:"mode"`
	Settings Settings `json:"settings"`

	// Desired is what the group is being brought to; Owned counts all instances
	// that exist or may exist, InService those that take traffic.
	Desired   int `json:"desired"`
	Owned     int `json:"owned"`
	InService int `json:"in_service"`

	// Primary is the id of the primary instance; empty while there is none.
	Primary string `json:"primary,omitempty"`
	// PublicAddress is the group's own, PublicUUID the VM that it leads to; left out
	// where there is none.
	PublicAddress string `json:"public_address,omitempty"`
	PublicUUID    string `json:"public_uuid,omitempty"`
	// Adopted names the VMs that were ever adopted, also those that were let go.
	Adopted  []string `json:"adopted,omitempty"`
	Statuses []string `json:"statuses"`
	// Problems stand in the way at present, in words.
	Problems []string `json:"problems"`

	Pause *Pause `json:"pause,omitempty"`
	// Release says that the group was let go: nothing is done for it until it is
	// resumed.
	Release *Release `json:"release,omitempty"`
	// HoldUntil is until when an order suspended automatic steps.
	HoldUntil        time.Time `json:"hold_until,omitzero"`
	CooldownUntil    time.Time `json:"cooldown_until,omitzero"`
	BackoffUntil     time.Time `json:"backoff_until,omitzero"`
	Failures         int       `json:"failures,omitempty"` // launches that failed in a row
	LastActionEnd    time.Time `json:"last_action_end,omitzero"`
	LastNotification time.Time `json:"last_notification,omitzero"`
	// ProviderSeen and PoolSeen are when the provider was last listed and the pool
	// last observed; left out: not since the start.
	ProviderSeen time.Time `json:"provider_seen,omitzero"`
	PoolSeen     time.Time `json:"pool_seen,omitzero"`

	Conditions []Condition `json:"conditions"`
	Evidence   []Evidence  `json:"evidence"`
	Instances  []Instance  `json:"instances"`
	// Activities are those under way.
	Activities []Activity `json:"activities"`
	// Orders wait for the reconciler.
	Orders []Order `json:"orders"`
	// Verdict is the newest.
	Verdict Verdict `json:"verdict"`
}

// Settings is what is configured for a group, with the defaults filled in.
type Settings struct {
	Min   int `json:"min"`
	Max   int `json:"max"`
	Surge int `json:"surge,omitempty"`
	// High and Low are the thresholds of the CPU utilisation, 0..1.
	High     float64  `json:"high"`
	Low      float64  `json:"low"`
	HighHold Duration `json:"high_hold"`
	LowHold  Duration `json:"low_hold"`
	LeaseTTL Duration `json:"lease_ttl"`
	Cooldown Duration `json:"cooldown"`
	WarmUp   Duration `json:"warm_up"`
	// Settle is how far evidence must lie past the end of the last action.
	Settle           Duration `json:"settle"`
	LaunchDeadline   Duration `json:"launch_deadline"`
	DrainDeadline    Duration `json:"drain_deadline"`
	ShutdownDeadline Duration `json:"shutdown_deadline"`
	CreationsPerHour int      `json:"creations_per_hour"`
	RemovalsPerHour  int      `json:"removals_per_hour"`
	Victim           string   `json:"victim"`
	OnRemove         string   `json:"on_remove"`
	Provider         string   `json:"provider"`
	Balancer         string   `json:"balancer,omitempty"`
	Port             uint16   `json:"port,omitempty"`
	// Confirm names the sources that must confirm a condition before a step.
	Confirm []string `json:"confirm,omitempty"`

	ScrapeInterval     Duration `json:"scrape_interval,omitempty"`
	EvaluationInterval Duration `json:"evaluation_interval,omitempty"`
	RateWindow         Duration `json:"rate_window,omitempty"`
	CallDeadline       Duration `json:"call_deadline,omitempty"`
	BackoffMin         Duration `json:"backoff_min,omitempty"`
	BackoffMax         Duration `json:"backoff_max,omitempty"`
	Grace              Duration `json:"grace,omitempty"`
	MaxUnhealthy       float64  `json:"max_unhealthy,omitempty"` // 0..1
	Snapshot           bool     `json:"snapshot,omitempty"`
	SnapshotsKeep      int      `json:"snapshots_keep,omitempty"`
	Name               string   `json:"name,omitempty"` // the pattern of new VMs' names
	Adopt              []string `json:"adopt,omitempty"`
	// Template, Pool and Place stand for the settings of new VMs, of the pool and for
	// where the provider leads: two that differ were configured differently.
	Template string `json:"template,omitempty"`
	Pool     string `json:"pool,omitempty"`
	Place    string `json:"place,omitempty"`
}

// Pause says which automatic steps do not begin, and why.
type Pause struct {
	Out    bool      `json:"out"`
	In     bool      `json:"in"`
	Until  time.Time `json:"until,omitzero"` // left out: until resumed
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Condition is a signal of a group as it stands.
type Condition struct {
	Signal       string    `json:"signal"` // high | low
	Standing     bool      `json:"standing"`
	Since        time.Time `json:"since,omitzero"`
	LastSeen     time.Time `json:"last_seen,omitzero"`
	Expires      time.Time `json:"expires,omitzero"`
	Fingerprints []string  `json:"fingerprints,omitempty"`
}

// Evidence is a source's last word on a signal.
type Evidence struct {
	Source      string    `json:"source"`
	Signal      string    `json:"signal"`
	State       string    `json:"state"` // firing | suppressed | absent | unreachable
	At          time.Time `json:"at,omitzero"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Detail      string    `json:"detail,omitempty"`
}

// Order is a manual action that waits for the reconciler.
type Order struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"`
	Count    int       `json:"count,omitempty"`
	Instance string    `json:"instance,omitempty"`
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at"`
	Hold     Duration  `json:"hold,omitempty"`
}
