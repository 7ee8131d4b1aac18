package scaling

import "time"

// ActivityKind is what an activity does.
type ActivityKind string

// The kinds of an activity.
const (
	ActivityScaleOut ActivityKind = "scale_out"
	ActivityScaleIn  ActivityKind = "scale_in"
	ActivityHandover ActivityKind = "handover"
	ActivityFill     ActivityKind = "fill"    // below min, without any alert
	ActivityAdopt    ActivityKind = "adopt"   // an existing VM enters the group
	ActivityReplace  ActivityKind = "replace" // an instance that died or turned unwell is taken out
	ActivityStandby  ActivityKind = "standby" // a person takes an instance out of traffic, or puts it back
	ActivityCleanup  ActivityKind = "cleanup" // a person has an orphan removed
	ActivityRelease  ActivityKind = "release" // a person lets the group's VMs and members go
)

// ActivityKinds lists all kinds.
func ActivityKinds() []ActivityKind {
	return []ActivityKind{ActivityScaleOut, ActivityScaleIn, ActivityHandover, ActivityFill, ActivityAdopt, ActivityReplace, ActivityStandby, ActivityCleanup, ActivityRelease}
}

// ActivityStatus is how an activity stands.
type ActivityStatus string

// The statuses of an activity: pending → running → done | undone | failed.
const (
	ActivityPending ActivityStatus = "pending"
	ActivityRunning ActivityStatus = "running"
	ActivityDone    ActivityStatus = "done"
	ActivityUndone  ActivityStatus = "undone" // taken back: a launch that failed and was cleaned up, a drain that was cancelled
	ActivityFailed  ActivityStatus = "failed" // something is left that a person must see
)

// Ended reports whether the activity is over.
func (s ActivityStatus) Ended() bool {
	return s == ActivityDone || s == ActivityUndone || s == ActivityFailed
}

// CauseKind says who or what asked for an activity.
type CauseKind string

// The kinds of a cause.
const (
	CauseAlert  CauseKind = "alert"  // a condition, with its fingerprint and evidence time
	CauseManual CauseKind = "manual" // an order by API or command line
	CauseBounds CauseKind = "bounds" // fewer than min, or more than max
	CauseConfig CauseKind = "config" // adoption
	CauseHealth CauseKind = "health" // an instance died
)

// Cause is why an activity was begun.
type Cause struct {
	Kind        CauseKind `json:"kind"`
	Signal      Signal    `json:"signal,omitempty"`
	Fingerprint string    `json:"fingerprint,omitempty"`
	Source      string    `json:"source,omitempty"` // notification | prometheus | alertmanager
	// EvidenceAt is the evidence time that was consumed; zero for none.
	EvidenceAt time.Time `json:"evidence_at"`
	Order      string    `json:"order,omitempty"` // the order's id
	By         string    `json:"by,omitempty"`    // who gave the order
	Detail     string    `json:"detail,omitempty"`
}

// Step is one step of an activity as it was entered.
type Step struct {
	Name    string    `json:"name"` // an instance state, or join, leave, shutdown, power_off, delete, …
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"` // zero while it runs
	// Tries counts calls to a driver, Err is the last error of a call.
	Tries int    `json:"tries,omitempty"`
	Err   string `json:"err,omitempty"`
}

// Activity is a change of a group, under way or done.
type Activity struct {
	ID     string         `json:"id"` // sorts by time of creation
	Group  string         `json:"group"`
	Kind   ActivityKind   `json:"kind"`
	Status ActivityStatus `json:"status"`
	Cause  Cause          `json:"cause"`
	// Launch is the instance that comes, Remove the one that goes; a handover has
	// both (Launch may then be an instance that was in service already).
	Launch  string    `json:"launch,omitempty"`
	Remove  string    `json:"remove,omitempty"`
	Created time.Time `json:"created"`
	Ended   time.Time `json:"ended"`
	Steps   []Step    `json:"steps"`
	// Outcome is for people: what came of it or why it failed.
	Outcome string `json:"outcome,omitempty"`
}

// Enter ends the running step at now and begins the named one. Entering the step
// that runs already changes nothing, so a resumed activity keeps its times.
func (a *Activity) Enter(step string, now time.Time) {
	if n := len(a.Steps); n > 0 {
		if a.Steps[n-1].Name == step && a.Steps[n-1].Ended.IsZero() {
			return
		}
		if a.Steps[n-1].Ended.IsZero() {
			a.Steps[n-1].Ended = now
		}
	}
	a.Steps = append(a.Steps, Step{Name: step, Started: now})
	a.Status = ActivityRunning
}

// End closes the activity with a status and an outcome; the first end stays.
func (a *Activity) End(st ActivityStatus, outcome string, now time.Time) {
	if a.Status.Ended() {
		return
	}
	if n := len(a.Steps); n > 0 && a.Steps[n-1].Ended.IsZero() {
		a.Steps[n-1].Ended = now
	}
	a.Status, a.Outcome, a.Ended = st, outcome, now
}

// OrderKind is what a person can order by hand.
type OrderKind string

// The kinds of an order.
const (
	OrderScaleOut   OrderKind = "scale_out"
	OrderScaleIn    OrderKind = "scale_in"
	OrderHandover   OrderKind = "handover"
	OrderSetDesired OrderKind = "set_desired"
)

// Order is a manual action that is durable and waits for the reconciler. It skips
// conditions and cooldown, never bounds, protection, budgets or drain.
type Order struct {
	ID   string    `json:"id"`
	Kind OrderKind `json:"kind"`
	// Count is how many instances a scale_out or scale_in still has to begin; for
	// set_desired the wished number.
	Count int `json:"count,omitempty"`
	// Instance names the victim (scale_in, handover) by id or name; empty: by policy.
	Instance string    `json:"instance,omitempty"`
	By       string    `json:"by,omitempty"`
	At       time.Time `json:"at"`
	// Hold suspends automatic steps for that long after the order.
	Hold time.Duration `json:"hold,omitempty"`
	// Key is the Idempotency-Key it came with.
	Key string `json:"key,omitempty"`
}
