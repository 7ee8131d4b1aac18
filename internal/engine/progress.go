package engine

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// laps knows when one of the groups last came round to deciding, and how many of
// them cannot because a provider is called for them.
type laps struct {
	last atomic.Int64 // when, on the clock that nobody can set
	away atomic.Int64
}

func (l *laps) done(at time.Duration) { l.last.Store(int64(at)) }

// Progress says what of the engine stands still; nil: all of it gets on. It asks
// the thinkers, the store and the locks for an answer, and whether any group came
// round to deciding lately. No provider, balancer or source is asked or waited for:
// one that hangs slows only its own groups, and starting the server again would not
// help it. A store that refuses answers too.
//
// Call it where systemd's watchdog is to be fed: it may take until ctx ends, and
// where the store or a lock stands still it does not return at all.
func (e *Engine) Progress(ctx context.Context) error {
	if !e.think(ctx, func() {}) {
		return errors.New("the engine stands still: nothing is decided")
	}
	all := e.all()
	for _, g := range all {
		g.config() // takes the group's lock
	}
	if len(all) == 0 {
		return nil
	}
	err := e.opts.Store.Change(ctx, all[0].name, func(*scaling.State) error { return errNoChange })
	if ctx.Err() != nil {
		return fmt.Errorf("the engine stands still: the store does not answer: %w", err)
	}
	limit := 2*e.opts.calmTick() + 6*storeDeadline
	since := e.clock.elapsed() - time.Duration(e.laps.last.Load())
	if e.laps.away.Load() < int64(len(all)) && since > limit {
		return fmt.Errorf("the engine stands still: no group has decided for %s", since.Round(time.Second))
	}
	return nil
}
