package scaling

import (
	"context"
	"errors"
	"slices"
	"time"
)

// NotifyResult is what became of one alert of a webhook's payload. All of them
// are answered 200: the sender would only repeat anything else.
type NotifyResult string

// The results of a notification.
const (
	NotifyAccepted     NotifyResult = "accepted"      // a lease was begun
	NotifyRenewed      NotifyResult = "renewed"       // a lease that stood was renewed
	NotifyResolved     NotifyResult = "resolved"      // a lease was ended
	NotifyDuplicate    NotifyResult = "duplicate"     // nothing changed
	NotifyUnknownGroup NotifyResult = "unknown_group" // no such group in the configuration
	NotifyNotAllowed   NotifyResult = "not_allowed"   // the sender's token does not cover the group
	NotifyNoSignal     NotifyResult = "no_signal"     // no or an unknown scalehook_signal or scaling_group label
	NotifyHeartbeat    NotifyResult = "heartbeat"     // no signal: the alert that proves the way from Prometheus
	NotifyPaused       NotifyResult = "paused"        // kept, but the group is paused
	NotifyNotConfirmed NotifyResult = "not_confirmed" // Alertmanager does not know this alert; not kept
)

// NotifyResults lists all results.
func NotifyResults() []NotifyResult {
	return []NotifyResult{
		NotifyAccepted, NotifyRenewed, NotifyResolved, NotifyDuplicate, NotifyUnknownGroup,
		NotifyNotAllowed, NotifyNoSignal, NotifyHeartbeat, NotifyPaused, NotifyNotConfirmed,
	}
}

// Intake takes notifications. The engine is one.
type Intake interface {
	// Notify makes the notifications durable and wakes their groups; it touches no
	// VM. One result per notification, in order. An error means that not all of
	// them could be stored and the sender should try again.
	Notify(ctx context.Context, ns []Notification) ([]NotifyResult, error)
}

// Errors of an Operator. Test with errors.Is.
var (
	ErrUnknownGroup    = errors.New("no such group")
	ErrUnknownInstance = errors.New("no such instance")
	// ErrRefused wraps the reason why an order cannot be followed (bounds,
	// protection, mode).
	ErrRefused = errors.New("refused")
	// ErrKeyReused says that an Idempotency-Key came before with another request.
	ErrKeyReused = errors.New("idempotency key was used for another request")
)

// OrderResult is the answer to an order.
type OrderResult struct {
	ID string `json:"id"`
	// Replayed says that the same request came before with the same key.
	Replayed bool `json:"replayed"`
	// Message is what will be done, for people.
	Message string `json:"message"`
}

// Operator takes what people order. The engine is one.
type Operator interface {
	// Order makes an order durable and wakes the group. Bounds are checked before
	// it is taken (ErrRefused) and again when it is followed. ID and At are filled
	// in by the callee.
	Order(ctx context.Context, group string, o Order) (OrderResult, error)
	// Pause keeps automatic steps from beginning; a later one replaces it.
	Pause(ctx context.Context, group string, p Pause) error
	// Resume ends a pause and a hold; by says who wants it. Not being paused is
	// success.
	Resume(ctx context.Context, group, by string) error
	// Protect sets or takes off an instance's protection against scale-in; by says
	// who wants it.
	Protect(ctx context.Context, group, instance string, on bool, by string) error
	// Standby takes an instance out of traffic and keeps its VM as it is, or puts
	// it back; by says who wants it. Being so already is success. ErrRefused if
	// fewer than min would serve.
	Standby(ctx context.Context, group, instance string, on bool, by string) error
}

// InstanceView is an instance as shown to people and metrics.
type InstanceView struct {
	Instance

	Primary bool     `json:"primary"`
	Warm    bool     `json:"warm"`
	Power   Power    `json:"power"`
	Reading *Reading `json:"reading,omitempty"` // nil: none
	// Member is how the balancer last had it; nil: not in the pool or not known.
	Member *MemberStatus `json:"member,omitempty"`
}

// GroupView is a group as shown to people and metrics: configuration, durable
// state and what was last observed, of one moment. It is only to be read: what it
// points at is shared.
type GroupView struct {
	Group      Group
	State      State
	Instances  []InstanceView
	Conditions []Condition // high, then low
	Evidence   []Evidence  // the last look-up's, of this group
	Statuses   []Status
	Verdict    Verdict // the newest
	Counts     Counts
	// Problems are what stands in the way at present: an unreachable provider, a
	// balancer's error, a look-up that fails.
	Problems []string
	// ProviderSeen and PoolSeen are when the provider was last listed and the pool
	// last observed; zero: not since the start.
	ProviderSeen, PoolSeen time.Time
	// ProviderAsked says that the provider was asked since the start, whether it
	// answered or not.
	ProviderAsked bool
	// Public is where the group's public address leads, as last looked up; zero
	// without one.
	Public PublicAddress
}

// Counts are what a group came to since the process started. Each list is in the
// order of Actions or ActivityKinds, and empty where nothing was counted yet.
type Counts struct {
	Verdicts []uint64 // by action, those that asked for it
	Ended    []uint64 // activities by kind, whatever their outcome
	Failed   []uint64 // activities by kind that ended undone or failed
	// FailedAt is when the newest of those ended.
	FailedAt []time.Time
	// Launch is how long the newest launch that came into service was in each phase,
	// in the order of LaunchPhases; empty where there was none yet.
	Launch []time.Duration
}

// LaunchPhases are the states through which an instance comes into service.
func LaunchPhases() []InstanceState {
	return []InstanceState{StateRequested, StateCreating, StateBooting, StateJoining}
}

// Acted counts a verdict that asked for an action.
func (c *Counts) Acted(a Action) { c.Verdicts = count(c.Verdicts, Actions(), a) }

// Finished counts an activity that ended.
func (c *Counts) Finished(a Activity) {
	c.Ended = count(c.Ended, ActivityKinds(), a.Kind)
	if a.Status != ActivityDone {
		c.Failed = count(c.Failed, ActivityKinds(), a.Kind)
		c.failedAt(a)
		return
	}
	if phases := launchOf(a); phases != nil {
		c.Launch = phases
	}
}

func (c *Counts) failedAt(a Activity) {
	k := slices.Index(ActivityKinds(), a.Kind)
	if k < 0 {
		return
	}
	if c.FailedAt == nil {
		c.FailedAt = make([]time.Time, len(ActivityKinds()))
	}
	if a.Ended.After(c.FailedAt[k]) {
		c.FailedAt[k] = a.Ended
	}
}

// launchOf returns how long an activity that was done kept what it launched in each
// phase; nil if it launched nothing. An adopted VM was there before.
func launchOf(a Activity) (phases []time.Duration) {
	if a.Kind == ActivityAdopt {
		return nil
	}
	for _, s := range a.Steps {
		k := slices.Index(LaunchPhases(), InstanceState(s.Name))
		if k < 0 || s.Ended.IsZero() {
			continue
		}
		if phases == nil {
			phases = make([]time.Duration, len(LaunchPhases()))
		}
		phases[k] += s.Ended.Sub(s.Started)
	}
	return phases
}

// Clone returns a copy that shares nothing.
func (c *Counts) Clone() Counts {
	return Counts{slices.Clone(c.Verdicts), slices.Clone(c.Ended), slices.Clone(c.Failed), slices.Clone(c.FailedAt), slices.Clone(c.Launch)}
}

// UnderWay counts the activities under way by kind, in the order of ActivityKinds;
// it is empty where there are none.
func (s *State) UnderWay() (n []uint64) {
	for _, a := range s.Open {
		if !a.Status.Ended() {
			n = count(n, ActivityKinds(), a.Kind)
		}
	}
	return n
}

func count[K comparable](list []uint64, all []K, what K) []uint64 {
	if list == nil {
		list = make([]uint64, len(all))
	}
	if k := slices.Index(all, what); k >= 0 {
		list[k]++
	}
	return list
}

// Viewer shows groups and what happened. The engine is one.
type Viewer interface {
	// GroupNames returns the names of the configured groups, sorted.
	GroupNames(ctx context.Context) ([]string, error)
	// Groups returns every configured group, by name.
	Groups(ctx context.Context) ([]GroupView, error)
	// Group returns one (ErrUnknownGroup).
	Group(ctx context.Context, name string) (GroupView, error)
	// Activities returns the newest first; see Store.Activities.
	Activities(ctx context.Context, group, before string, limit int) ([]Activity, error)
	// Verdicts returns the group's kept verdicts, newest first (ErrUnknownGroup). The
	// newest has all gates, some before it those that failed, older ones none.
	Verdicts(ctx context.Context, group string) ([]Verdict, error)
}
