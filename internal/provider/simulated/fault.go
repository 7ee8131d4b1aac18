package simulated

import (
	"context"
	"fmt"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// FaultFunc is asked at every fault point and may fail the call with an error of
// any class, block until ctx ends, or end the process. At a point before the
// effect nothing was done yet; at one after it, it was done and saved, and an
// error only hides that. ref names the instance; for the calls of a pool it has
// the group alone.
type FaultFunc func(ctx context.Context, point string, ref scaling.Ref) error

// FaultPoints lists the fault points in the order in which a call passes them.
func FaultPoints() []string {
	return []string{
		"create.before", "create.disk", "create.define", "create.after",
		"get.before", "get.after", "list.before", "list.after",
		"shutdown.before", "shutdown.after",
		"delete.before", "delete.stop", "delete.undefine", "delete.after",
		"snapshot.before", "snapshot.after", "adopt.before", "adopt.after", "release.before", "release.after",
		"let_go.before", "let_go.after",
		"observe.before", "observe.after", "apply.before", "apply.joined", "apply.after",
	}
}

// Hang is a fault that blocks until the caller gives up.
func Hang(ctx context.Context) error {
	<-ctx.Done()
	return scaling.WithClass(scaling.Unknown, fmt.Errorf("a simulated call hung: %w", context.Cause(ctx)))
}

// enter passes the first point of a call: the time it takes, a context that has
// ended, a fault. Nothing was changed when it fails, unless the fault says so.
func (w *World) enter(ctx context.Context, point string, ref scaling.Ref) error {
	if w.cfg.CallTime > 0 {
		timer := time.NewTimer(w.cfg.CallTime)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return scaling.WithClass(scaling.Temporary, fmt.Errorf("%s %s: %w", point, ref.Name, err))
	}
	return w.fault(ctx, point, ref)
}

// fault passes a point. The lock is not held, so that a hanging call holds up
// nobody else.
func (w *World) fault(ctx context.Context, point string, ref scaling.Ref) error {
	w.mu.Lock()
	f := w.faults
	w.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(ctx, point, ref)
}

// effect changes the World, brought to the present, and saves it.
func (w *World) effect(change func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.advance()
	if err := change(); err != nil {
		return err
	}
	return w.save()
}
