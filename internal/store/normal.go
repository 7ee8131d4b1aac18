package store

import (
	"reflect"
	"slices"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// normalState returns a copy of the state as it would come back from the database:
// times in UTC without a monotonic part, no aliases of the caller's memory. What
// is cached after a commit is therefore what the next process would load.
func (t *tables) normalState(s *scaling.State) scaling.State {
	c := s.Clone()
	times(&c.HoldUntil, &c.LastActionEnd, &c.CooldownUntil, &c.BackoffUntil, &c.LastNotification)
	for i := range c.AdoptedNames {
		c.AdoptedNames[i] = validText(c.AdoptedNames[i])
	}
	t.state.normal(&c)
	if c.Pause != nil {
		times(&c.Pause.Until, &c.Pause.At)
		t.pause.normal(c.Pause)
	}
	for i := range c.Instances {
		c.Instances[i].Group = c.Group
		t.instances.normal(&c.Instances[i])
	}
	for i := range c.Open {
		c.Open[i].Group = c.Group
		t.activities.normal(&c.Open[i])
	}
	for i := range c.Leases {
		t.leases.normal(&c.Leases[i])
	}
	for i := range c.Orders {
		t.orders.normal(&c.Orders[i])
	}
	for i := range c.Answers {
		t.answers.normal(&c.Answers[i])
	}
	for signal, at := range c.Consumed {
		c.Consumed[signal] = normalTime(at)
	}
	for i := range c.Creations {
		times(&c.Creations[i])
	}
	for i := range c.Removals {
		times(&c.Removals[i])
	}
	// Budgets are sets of moments; sorted is the order in which they come back.
	slices.SortFunc(c.Creations, time.Time.Compare)
	slices.SortFunc(c.Removals, time.Time.Compare)
	return c
}

func normalSteps(a *scaling.Activity) {
	if len(a.Steps) == 0 {
		a.Steps = nil
	}
	for i := range a.Steps {
		s := &a.Steps[i]
		normalValue(reflect.ValueOf(s).Elem())
	}
}

func times(list ...*time.Time) {
	for _, t := range list {
		*t = normalTime(*t)
	}
}
