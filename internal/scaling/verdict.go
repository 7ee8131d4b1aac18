package scaling

import (
	"strings"
	"time"
)

// Action is what a verdict asks the engine to begin.
type Action string

// The actions of a verdict.
const (
	ActionNone        Action = "none"
	ActionScaleOut    Action = "scale_out"
	ActionScaleIn     Action = "scale_in"
	ActionHandover    Action = "handover"
	ActionFill        Action = "fill"
	ActionAdopt       Action = "adopt"
	ActionReplace     Action = "replace"
	ActionCancelDrain Action = "cancel_drain"
)

// Actions lists all actions.
func Actions() []Action {
	return []Action{
		ActionNone, ActionScaleOut, ActionScaleIn, ActionHandover, ActionFill,
		ActionAdopt, ActionReplace, ActionCancelDrain,
	}
}

// words is the action as people write it.
func (a Action) words() string { return strings.ReplaceAll(string(a), "_", "-") }

// Status is a standing remark on a group that an operator should see.
type Status string

// The statuses of a group.
const (
	StatusPaused     Status = "paused"
	StatusAtMax      Status = "at_max"
	StatusAtMin      Status = "at_min"
	StatusNoCapacity Status = "no_capacity" // the provider has no room
	StatusDegraded   Status = "degraded"    // a provider, balancer or source cannot be used, or launches fail
	StatusObserve    Status = "observe"
)

// Statuses lists all statuses.
func Statuses() []Status {
	return []Status{StatusPaused, StatusAtMax, StatusAtMin, StatusNoCapacity, StatusDegraded, StatusObserve}
}

// Gate is one condition that an action had to pass.
type Gate struct {
	Action Action `json:"action"` // the action it stood before
	Name   string `json:"name"`   // condition, confirmation, cooldown, bounds, …
	Passed bool   `json:"passed"`
	// Value is what was measured and Bound what it was held against: instances,
	// launches or ratios of CPU, as Detail says. Both are missing where the gate
	// compares no numbers or the value is not known.
	Value *float64 `json:"value,omitempty"`
	Bound *float64 `json:"bound,omitempty"`
	// Until is when the gate passes by itself; zero: it does not.
	Until time.Time `json:"until,omitzero"`
	// Detail is the gate in words, with its numbers.
	Detail string `json:"detail"`
	// Change is what would make a failed gate pass; empty where it passed.
	Change string `json:"change,omitempty"`
}

// Verdict is the outcome of one decision, kept per group: why it acted, or why it
// did not.
type Verdict struct {
	Group  string    `json:"group"`
	At     time.Time `json:"at"`
	Action Action    `json:"action"`
	// Count is how many instances to launch (scale_out, fill).
	Count int `json:"count,omitempty"`
	// Victim is the instance to remove or to put back into service; Successor the
	// in-service one that takes over in a handover, empty if one must be launched.
	Victim    string `json:"victim,omitempty"`
	Successor string `json:"successor,omitempty"`
	// Adopt is the name of the VM to adopt.
	Adopt string `json:"adopt,omitempty"`
	// Order is the id of the order it answers; OrderDone says that nothing of the
	// order is left to do, OrderRefused why it was not or not wholly followed.
	Order        string `json:"order,omitempty"`
	OrderDone    bool   `json:"order_done,omitempty"`
	OrderRefused string `json:"order_refused,omitempty"`
	Cause        Cause  `json:"cause"`
	// Would marks a verdict of a group that only observes: the engine does nothing.
	Would    bool     `json:"would,omitempty"`
	Gates    []Gate   `json:"gates"`
	Statuses []Status `json:"statuses,omitempty"`
	// Reason is the verdict in one sentence.
	Reason string `json:"reason"`
}

// SameAs reports whether two verdicts say the same but for their time, so that a
// bounded history keeps changes and not ticks.
func (v Verdict) SameAs(o Verdict) bool {
	if v.Action != o.Action || v.Count != o.Count || v.Victim != o.Victim || v.Order != o.Order ||
		v.Would != o.Would || len(v.Gates) != len(o.Gates) {
		return false
	}
	for i, g := range v.Gates {
		if h := o.Gates[i]; g.Action != h.Action || g.Name != h.Name || g.Passed != h.Passed {
			return false
		}
	}
	return true
}
