package scaling

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// Store keeps what is wanted and what was begun, durably. One process uses it.
type Store interface {
	// Change runs fn in one serialisable transaction over the state of a group and
	// commits durably before it returns. An unknown group starts with an empty
	// state. If fn returns an error nothing is written and the error is returned.
	// fn may be run once only, must not block and must not keep the state. Changes
	// of one group are serialised; changes of different groups may wait for one
	// another only as long as a commit takes.
	Change(ctx context.Context, group string, fn func(*State) error) error
	// View returns a copy of the state of a group as last committed.
	View(ctx context.Context, group string) (State, error)
	// Groups lists the groups that have any state, also those no longer configured.
	Groups(ctx context.Context) ([]string, error)
	// Activities returns the newest activities first, of one group or of all
	// (group ""), at most limit, begun before the one with id before ("" for the
	// newest).
	Activities(ctx context.Context, group, before string, limit int) ([]Activity, error)
	// Backup writes a consistent copy to a new file while the store is in use. An
	// existing file is an error.
	Backup(ctx context.Context, file string) error
	Close() error
}

// ErrFenced says that another process has taken over the store.
var ErrFenced = errors.New("the store was taken over by another scalehook")

// Pause keeps automatic steps from beginning. Activities under way go on.
type Pause struct {
	Out, In bool      // which directions
	Until   time.Time // zero: until resumed
	By      string
	Reason  string
	At      time.Time
}

// Self is By of a pause that scalehook set itself, since its knowledge of the group
// may be behind the world: the store was lost or restored.
const Self = "scalehook"

// Held reports whether what was under way with an instance has to wait: the state
// says that it comes or goes, but that is from before scalehook paused the group
// because the state cannot be trusted. Resuming the group lets it go on.
func (s *State) Held(i *Instance) bool {
	return (i.State.Launching() || i.State.Leaving()) && s.heldSince(i.Since)
}

func (s *State) heldSince(t time.Time) bool {
	return s.Pause != nil && s.Pause.By == Self && t.Before(s.Pause.At)
}

// Answer is what a request with an Idempotency-Key was answered.
type Answer struct {
	Key    string    `json:"key"`
	Digest string    `json:"digest"` // of the request, so that a reused key is told apart
	Order  string    `json:"order"`
	At     time.Time `json:"at"`
}

// State is the durable state of one group. Only Store.Change alters it.
type State struct {
	Group string

	// Provider and Balancer are the configured names of the drivers that the
	// group's instances and members were made with.
	Provider, Balancer string
	// Place is the group's Place then; empty: not known.
	Place string

	// NextNumber is the number of the next VM; it only rises.
	NextNumber int
	// Primary is the id of the primary instance; empty while there is none.
	Primary string
	// Desired is the number of instances the group is being brought to; it is
	// kept between min and max.
	Desired int

	// AdoptedNames are the VMs that were ever adopted: one that was let go is not
	// taken in again by the next tick.
	AdoptedNames []string

	Instances []Instance
	// Open are the activities that have not ended, and within a Change those that
	// end in it.
	Open   []Activity
	Leases []Lease
	Orders []Order

	Pause     *Pause
	HoldUntil time.Time // automatic steps are suspended until then

	// LastActionEnd is when the last action ended, whoever asked for it; evidence
	// must lie past LastActionEnd plus the settle time.
	LastActionEnd time.Time
	// CooldownUntil ends the cooldown of both directions.
	CooldownUntil time.Time
	// Consumed is the newest evidence time used up, per signal.
	Consumed map[Signal]time.Time

	// Failures counts launches that failed in a row; BackoffUntil is when the next
	// may begin.
	Failures     int
	BackoffUntil time.Time

	// Creations and Removals are the begun ones of the last hour, for the budgets.
	Creations, Removals []time.Time

	// Answers remembers idempotency keys for 24 h.
	Answers []Answer

	// LastNotification is when the group last heard from a webhook.
	LastNotification time.Time

	// Release says that the group was let go, and how far that is; nil: it was not.
	Release *Release
	// LetGo are the instances that were, also after the group was resumed: their
	// members stay in the pool as they stand.
	LetGo []LetGo
	// SnapshotsFrom is since when snapshots are the group's own: earlier ones are of
	// before it was let go. Zero: all are.
	SnapshotsFrom time.Time
}

// Instance returns a pointer to the instance with the given id, or nil.
func (s *State) Instance(id string) *Instance {
	for i := range s.Instances {
		if s.Instances[i].ID == id {
			return &s.Instances[i]
		}
	}
	return nil
}

// Find returns the instance with the given id or name, or nil.
func (s *State) Find(idOrName string) *Instance {
	if i := s.Instance(idOrName); i != nil {
		return i
	}
	for i := range s.Instances {
		if s.Instances[i].Name == idOrName && s.Instances[i].State != StateGone {
			return &s.Instances[i]
		}
	}
	return nil
}

// Activity returns a pointer to the open activity with the given id, or nil.
func (s *State) Activity(id string) *Activity {
	for i := range s.Open {
		if s.Open[i].ID == id {
			return &s.Open[i]
		}
	}
	return nil
}

// Owned counts the instances that exist or may exist in any state: what max bounds.
func (s *State) Owned() int {
	n := 0
	for _, i := range s.Instances {
		if i.State != StateGone {
			n++
		}
	}
	return n
}

// Count counts the instances in one of the given states.
func (s *State) Count(states ...InstanceState) int {
	n := 0
	for _, i := range s.Instances {
		if slices.Contains(states, i.State) {
			n++
		}
	}
	return n
}

// Capacity counts what serves or is on its way to: pending launches are capacity.
func (s *State) Capacity() int {
	n := 0
	for _, i := range s.Instances {
		if i.State == StateInService || i.State.Launching() {
			n++
		}
	}
	return n
}

// Clone returns a deep copy.
func (s *State) Clone() State {
	c := *s
	c.AdoptedNames = slices.Clone(s.AdoptedNames)
	c.Instances = slices.Clone(s.Instances)
	c.Open = slices.Clone(s.Open)
	for i := range c.Open {
		c.Open[i].Steps = slices.Clone(c.Open[i].Steps)
	}
	c.Leases = slices.Clone(s.Leases)
	c.Orders = slices.Clone(s.Orders)
	if s.Pause != nil {
		p := *s.Pause
		c.Pause = &p
	}
	c.Consumed = make(map[Signal]time.Time, len(s.Consumed))
	maps.Copy(c.Consumed, s.Consumed)
	c.Creations = slices.Clone(s.Creations)
	c.Removals = slices.Clone(s.Removals)
	c.Answers = slices.Clone(s.Answers)
	if s.Release != nil {
		r := *s.Release
		c.Release = &r
	}
	c.LetGo = slices.Clone(s.LetGo)
	return c
}
