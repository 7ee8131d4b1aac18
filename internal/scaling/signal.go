package scaling

import "time"

// Signal is the direction that an alert asks for.
type Signal string

// The two signals.
const (
	High Signal = "high"
	Low  Signal = "low"
)

// Valid reports whether s is one of the two signals.
func (s Signal) Valid() bool { return s == High || s == Low }

// Lease is what one alert, known by its fingerprint, has proved by a
// notification: that its condition stood when it was last seen. A repeat renews
// it, "resolved" ends it, and past Expires it means unknown, never the opposite.
type Lease struct {
	Signal      Signal    `json:"signal"`
	Fingerprint string    `json:"fingerprint"`
	AlertName   string    `json:"alert_name,omitempty"`
	StartsAt    time.Time `json:"starts_at"` // as the sender gives it
	FirstSeen   time.Time `json:"first_seen"`
	LastSeen    time.Time `json:"last_seen"`
	Expires     time.Time `json:"expires"`
	// Receiver tells which sender's contract it came by: alertmanager or grafana.
	Receiver string `json:"receiver,omitempty"`
}

// Condition is a signal of a group as it stands: the union of its leases.
type Condition struct {
	Signal       Signal    `json:"signal"`
	Standing     bool      `json:"standing"`
	Since        time.Time `json:"since"`     // oldest first-seen of the standing leases
	LastSeen     time.Time `json:"last_seen"` // newest
	Expires      time.Time `json:"expires"`   // latest
	Fingerprints []string  `json:"fingerprints,omitempty"`
}

// Condition folds the leases of one signal that have not expired at now.
func (s *State) Condition(sig Signal, now time.Time) Condition {
	c := Condition{Signal: sig}
	for _, l := range s.Leases {
		if l.Signal != sig || !now.Before(l.Expires) {
			continue
		}
		if !c.Standing || l.FirstSeen.Before(c.Since) {
			c.Since = l.FirstSeen
		}
		c.Standing = true
		if l.LastSeen.After(c.LastSeen) {
			c.LastSeen = l.LastSeen
		}
		if l.Expires.After(c.Expires) {
			c.Expires = l.Expires
		}
		c.Fingerprints = append(c.Fingerprints, l.Fingerprint)
	}
	return c
}

// Notification is one alert out of a webhook's payload, reduced to what may be
// believed: names and times, never numbers.
type Notification struct {
	Group       string
	Signal      Signal
	Firing      bool // false: resolved
	Fingerprint string
	AlertName   string
	StartsAt    time.Time
	Receiver    string // alertmanager | grafana
}

// EvidenceState is what a source says of a signal.
type EvidenceState string

// The answers of a source. The zero value means that it was not asked.
const (
	EvidenceFiring      EvidenceState = "firing"
	EvidenceSuppressed  EvidenceState = "suppressed" // silenced or inhibited: an operator says pause
	EvidenceAbsent      EvidenceState = "absent"
	EvidenceUnreachable EvidenceState = "unreachable"
)

// Evidence is a source's word on one signal of one group.
type Evidence struct {
	Source string        `json:"source"` // notification | prometheus | alertmanager
	Group  string        `json:"group"`
	Signal Signal        `json:"signal"`
	State  EvidenceState `json:"state"`
	// At is the evidence time: the time of the newest sample behind it at
	// Prometheus, updatedAt at Alertmanager; never the time of receipt.
	At          time.Time `json:"at"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Detail      string    `json:"detail,omitempty"` // for people: a silence's id, an error
}

// Reading is one VM's CPU utilisation.
type Reading struct {
	Utilization float64   // 0..1 of its own vCPUs
	At          time.Time // of the newest sample behind it
}
