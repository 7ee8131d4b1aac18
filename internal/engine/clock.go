package engine

import (
	"log/slog"
	"sync"
	"time"
)

// clock is the engine's time. It holds the wall clock against one that nobody
// can set; where they part, the wall clock was stepped, or the machine slept.
//
// Steady time is wall time without the steps that were seen: it never jumps.
// What a group keeps durably is in wall time, of the moment at which the group
// last took a step in; see group.absorb.
type clock struct {
	wall    func() time.Time
	elapsed func() time.Duration
	log     *slog.Logger

	mu      sync.Mutex
	start   time.Time     // wall time at elapsed zero, drift included, steps not
	stepped time.Duration // the sum of all steps
	since   time.Time     // steady time of the last step, or of the start
}

// step is what the wall clock may differ by between two readings before it is
// taken for a step and not for drift.
const step = 2 * time.Second

func newClock(wall func() time.Time, elapsed func() time.Duration, log *slog.Logger) *clock {
	if wall == nil {
		wall = time.Now
	}
	if elapsed == nil {
		begun := time.Now()
		elapsed = func() time.Duration { return time.Since(begun) }
	}
	now := wall().Round(0)
	return &clock{wall: wall, elapsed: elapsed, log: log, start: now.Add(-elapsed()), since: now}
}

// read returns the steady time, the sum of the steps so far, and the steady time
// since when the wall clock has not been stepped.
func (c *clock) read() (steady time.Time, stepped time.Duration, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	expected := c.start.Add(c.elapsed())
	steady = c.wall().Round(0).Add(-c.stepped)
	off := steady.Sub(expected)
	if off.Abs() < step {
		c.start = c.start.Add(off)
		return steady, c.stepped, c.since
	}
	c.stepped += off
	c.since = expected
	c.log.Error("the clock was stepped: deadlines go on as if it was not, conditions are unknown until they are confirmed again", "step", off)
	return expected, c.stepped, c.since
}

func (c *clock) steady() time.Time {
	t, _, _ := c.read()
	return t
}
