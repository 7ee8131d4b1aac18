package engine

import (
	"context"
	"maps"
	"sync/atomic"
	"time"
)

// ends knows when the loops of a group are over, and which released groups still
// have some. The engine's lock guards it.
type ends struct {
	running  map[*group]<-chan struct{}
	released map[string]<-chan struct{} // by name
}

// begin notes that a group gets so many loops. Each calls what is returned when it
// ends; that needs no lock.
func (n *ends) begin(g *group, loops int32) (over func()) {
	ended := make(chan struct{})
	if n.running == nil {
		n.running, n.released = map[*group]<-chan struct{}{}, map[string]<-chan struct{}{}
	}
	n.running[g] = ended
	var left atomic.Int32
	left.Store(loops)
	return func() {
		if left.Add(-1) == 0 {
			close(ended)
		}
	}
}

// release notes that the loops of a group were told to end.
func (n *ends) release(g *group) {
	if ended := n.running[g]; ended != nil {
		n.released[g.name] = ended
		delete(n.running, g)
	}
}

// releasing returns what is closed once the loops of a released group are over; nil
// if they are.
func (n *ends) releasing(name string) <-chan struct{} {
	maps.DeleteFunc(n.released, func(_ string, ended <-chan struct{}) bool {
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	return n.released[name]
}

// releaseWait bounds how long a reload waits for the calls of released groups.
const releaseWait = 10 * time.Second

// awaitReleased waits, without the lock, for the loops of groups that are to begin
// anew: two workers for one instance must never run side by side.
func (e *Engine) awaitReleased(ctx context.Context, groups []GroupConfig) {
	ctx, cancel := context.WithTimeout(ctx, releaseWait)
	defer cancel()
	for _, gc := range groups {
		e.mu.Lock()
		ended := e.ends.releasing(gc.Group.Name)
		e.mu.Unlock()
		if ended == nil {
			continue
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return
		}
	}
}
