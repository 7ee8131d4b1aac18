package store

import (
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// normal returns a copy of the state as it would come back from the database:
// times in UTC without a monotonic part, no aliases of the caller's memory. What
// is cached after a commit is therefore what the next process would load.
func normal(s *scaling.State) scaling.State {
	c := s.Clone()
	times(&c.HoldUntil, &c.LastActionEnd, &c.CooldownUntil, &c.BackoffUntil, &c.LastNotification)
	for i := range c.AdoptedNames {
		c.AdoptedNames[i] = strings.ToValidUTF8(c.AdoptedNames[i], "\uFFFD")
	}
	if c.Pause != nil {
		times(&c.Pause.Until, &c.Pause.At)
	}
	for i := range c.Instances {
		v := &c.Instances[i]
		v.Group = c.Group
		times(&v.Since, &v.CreatedAt, &v.InServiceAt, &v.Deadline)
	}
	for i := range c.Open {
		v := &c.Open[i]
		v.Group = c.Group
		times(&v.Cause.EvidenceAt, &v.Created, &v.Ended)
		normalSteps(v)
	}
	for i := range c.Leases {
		v := &c.Leases[i]
		times(&v.StartsAt, &v.FirstSeen, &v.LastSeen, &v.Expires)
	}
	for i := range c.Orders {
		times(&c.Orders[i].At)
	}
	for i := range c.Answers {
		times(&c.Answers[i].At)
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
		times(&s.Started, &s.Ended)
		// A driver's message may hold any bytes, JSON only text.
		s.Name = strings.ToValidUTF8(s.Name, "\uFFFD")
		s.Err = strings.ToValidUTF8(s.Err, "\uFFFD")
	}
}

func times(list ...*time.Time) {
	for _, t := range list {
		*t = normalTime(*t)
	}
}
