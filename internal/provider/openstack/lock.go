package openstack

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/scalehook/scalehook/internal/scaling"
)

// keyedLock serialises operations by key, and waiting for it ends with a context.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// operation is what holds a lock. Requests that its caller does not wait for any
// more keep the lock until they are answered: what they change would otherwise
// appear behind the back of the next one.
type operation struct {
	abandoned atomic.Int32
	wait      sync.WaitGroup
}

type operationKey struct{}

// lock takes the lock of a key. The context it returns is that of the operation,
// for change.
func (l *keyedLock) lock(ctx context.Context, key string) (_ context.Context, unlock func(), err error) {
	for {
		l.mu.Lock()
		released, busy := l.held[key]
		if !busy {
			released = make(chan struct{})
			l.held[key] = released
			l.mu.Unlock()
			op := &operation{}
			free := func() {
				l.mu.Lock()
				delete(l.held, key)
				l.mu.Unlock()
				close(released)
			}
			return context.WithValue(ctx, operationKey{}, op), func() { op.end(free) }, nil
		}
		l.mu.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
			return nil, nil, scaling.Errorf(scaling.Temporary, "wait for another call about %s: %w", key, context.Cause(ctx))
		}
	}
}

func (o *operation) end(free func()) {
	if o.abandoned.Load() == 0 {
		free()
		return
	}
	go func() {
		o.wait.Wait()
		free()
	}()
}
