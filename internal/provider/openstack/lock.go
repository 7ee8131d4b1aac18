package openstack

import (
	"context"
	"sync"

	"github.com/scalehook/scalehook/internal/scaling"
)

// keyedLock serialises operations by key, and waiting for it ends with a context.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

func (l *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		l.mu.Lock()
		released, busy := l.held[key]
		if !busy {
			released = make(chan struct{})
			l.held[key] = released
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.held, key)
				l.mu.Unlock()
				close(released)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
			return nil, scaling.Errorf(scaling.Temporary, "wait for another call about %s: %w", key, context.Cause(ctx))
		}
	}
}
