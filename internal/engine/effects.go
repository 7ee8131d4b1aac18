package engine

import (
	"context"
	"fmt"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Effects says what a Reload with these groups would change; it changes nothing.
func (e *Engine) Effects(ctx context.Context, groups []scaling.Group) ([]scaling.Effect, error) {
	states := map[string]*scaling.State{}
	var old []scaling.Group
	for _, g := range e.all() {
		st, _ := g.view()
		states[g.name] = &st
		old = append(old, e.asRun(g.config().Group))
	}
	next := make([]scaling.Group, 0, len(groups))
	for _, g := range groups {
		next = append(next, e.asRun(g))
		if states[g.Name] != nil {
			continue
		}
		st, err := e.opts.Store.View(ctx, g.Name)
		if err != nil {
			return nil, fmt.Errorf("read the state of group %q: %w", g.Name, err)
		}
		states[g.Name] = &st
	}
	return scaling.Effects(old, next, states), nil
}

// asRun is the group as this engine runs it: with --observe it only observes.
func (e *Engine) asRun(g scaling.Group) scaling.Group {
	if e.opts.Observe {
		g.Mode = scaling.ModeObserve
	}
	return g
}
