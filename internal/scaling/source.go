package scaling

import "context"

// Meter reads CPU utilisation.
type Meter interface {
	// Readings returns the utilisation of every VM known to the source, keyed by
	// the VM's uuid, in one look-up for all groups. A VM without an entry has no
	// reading, which is not a reading of zero. Errors are Temporary (unreachable)
	// or Permanent (refused); on an error nothing may be concluded.
	Readings(ctx context.Context) (map[string]Reading, error)
}

// Confirmer says which signals stand, by its own knowledge.
type Confirmer interface {
	// Source is the name used in configuration, causes and metrics.
	Source() string
	// Confirm returns the evidence for every signal that the source knows of, in
	// one look-up for all groups: firing or suppressed, or unreachable where it
	// knows of one and cannot vouch for it. A (group, signal) that is not in the
	// answer is absent. With an error it is unreachable instead, which refutes
	// nothing: evidence may come together with an error, as when one of several
	// peers cannot be asked, and what is in it counts.
	Confirm(ctx context.Context) ([]Evidence, error)
}
