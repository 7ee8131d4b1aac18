package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// maxHung bounds the calls that one connection has left behind, and so the
// operating system threads that they hold: one each, and maxReaders for a pass
// over the domains that began while none hung. Of libvirtd's workers such a pass
// holds as many as one client may have, five by default.
const maxHung = 3

// errClosed is what a pass gets once its connection was closed for good.
var errClosed = errors.New("connection closed")

// connection runs one kind of call against libvirt, one at a time, on a
// session that it opens, keeps and replaces by itself. Its zero value is not
// usable: use newConnection.
type connection[T any] struct {
	name   string
	open   func() (session, error)
	hang   time.Duration
	logger *slog.Logger

	running sync.WaitGroup

	mu      sync.Mutex
	idle    session
	current *attempt[T]
	hung    int
	closed  bool
}

// attempt is one call with, where needed, the opening of its session.
type attempt[T any] struct {
	started time.Time
	left    bool // given up as hung; guarded by connection.mu
	done    chan struct{}

	// Set before done is closed.
	value T
	err   error
}

// newConnection makes a connection that opens its sessions with open. A call
// that has been under way for longer than hang counts as hung.
func newConnection[T any](name string, open func() (session, error), hang time.Duration, logger *slog.Logger) *connection[T] {
	return &connection[T]{name: name, open: open, hang: hang, logger: logger.With("connection", name)}
}

// do makes the call or joins the one that is under way, and waits for it until
// ctx ends; the call goes on without us then.
func (c *connection[T]) do(ctx context.Context, call func(session) (T, error)) (T, error) {
	a := c.begin(c.hang, call)
	return c.wait(ctx, a, a)
}

// doAgain is do for a call that does better the second time, because libvirt
// then skips what the first one hangs on: once the first has been under way
// for half of the time that ctx leaves, it is left behind and a second one
// started. The answer is that of whichever returns first.
func (c *connection[T]) doAgain(ctx context.Context, call func(session) (T, error)) (T, error) {
	patience := c.hang
	if deadline, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(deadline)/2)
	}
	first := c.begin(patience, call)
	timer := time.NewTimer(patience - time.Since(first.started))
	defer timer.Stop()
	select {
	case <-first.done:
	case <-ctx.Done():
	case <-timer.C:
		return c.wait(ctx, first, c.begin(patience, call))
	}
	return c.wait(ctx, first, first)
}

// begin joins the call that is under way or starts one, and never blocks. A
// call that has been under way for longer than hang is left behind on its
// session and a new one started, unless maxHung calls were left already: then
// it is joined like any other.
func (c *connection[T]) begin(hang time.Duration, call func(session) (T, error)) *attempt[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.closed {
		a := &attempt[T]{started: now, done: make(chan struct{}), err: errClosed}
		close(a.done)
		return a
	}
	if a := c.current; a != nil {
		if now.Sub(a.started) < hang || c.hung >= maxHung {
			return a
		}
		c.logger.Warn("call to libvirt hangs, leaving it behind on its connection",
			"since", now.Sub(a.started), "hung", c.hung+1, "limit", maxHung)
		a.left = true
		c.hung++
		c.current = nil
	}
	a := &attempt[T]{started: now, done: make(chan struct{})}
	s := c.idle
	c.idle, c.current = nil, a
	c.running.Go(func() { c.run(a, s, call) })
	return a
}

// wait returns what the attempt that is done first returned, or an error once
// ctx ends.
func (c *connection[T]) wait(ctx context.Context, a, b *attempt[T]) (T, error) {
	select {
	case <-a.done:
		return a.value, a.err
	case <-b.done:
		return b.value, b.err
	case <-ctx.Done():
		var zero T
		return zero, fmt.Errorf("wait for libvirt on connection %q: %w", c.name, context.Cause(ctx))
	}
}

func (c *connection[T]) run(a *attempt[T], s session, call func(session) (T, error)) {
	reused := s != nil
	s, a.value, a.err = c.try(s, call)
	if reused && errors.Is(a.err, errBroken) {
		// The daemon was restarted since the last call; that is no failure yet.
		c.logger.Info("connection to libvirt was lost, opening a new one", "err", a.err)
		s, a.value, a.err = c.try(nil, call)
	}

	c.mu.Lock()
	keep := !a.left && !c.closed
	if keep {
		c.idle = s
	}
	if c.current == a {
		c.current = nil
	}
	c.mu.Unlock()
	close(a.done)

	if keep {
		return
	}
	c.end(s)
	if a.left {
		c.mu.Lock()
		c.hung--
		c.mu.Unlock()
		c.logger.Info("hung call to libvirt returned", "after", time.Since(a.started))
	}
}

// try makes one call, on a new session if it is given none, and returns the
// session that is left: nil if it broke or could not be opened.
func (c *connection[T]) try(s session, call func(session) (T, error)) (session, T, error) {
	if s == nil {
		opened, err := c.open()
		if err != nil {
			var zero T
			return nil, zero, err
		}
		s = opened
	}
	value, err := call(s)
	if errors.Is(err, errBroken) {
		c.end(s)
		s = nil
	}
	return s, value, err
}

func (c *connection[T]) end(s session) {
	if s == nil {
		return
	}
	if err := s.Close(); err != nil {
		c.logger.Debug("closing a connection to libvirt", "err", err)
	}
}

// hungCalls is the number of calls left behind that have not returned.
func (c *connection[T]) hungCalls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hung
}

// close ends the connection and waits for its calls until ctx ends. An error
// says that some call still hangs; its thread ends with the process.
func (c *connection[T]) close(ctx context.Context) error {
	c.mu.Lock()
	s := c.idle
	c.idle, c.closed = nil, true
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		c.end(s)
		c.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("close connection %q to libvirt: %w", c.name, context.Cause(ctx))
	}
}
