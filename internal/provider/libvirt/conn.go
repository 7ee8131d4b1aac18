package libvirt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/scaling"
)

// startEventLoop registers libvirt's own event loop and runs it for as long as
// the process lives. It is state of the whole process because libvirt's is:
// without it there is no keep-alive, and it cannot be taken back.
var startEventLoop = sync.OnceValue(func() error {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return fmt.Errorf("register libvirt's event loop: %w", err)
	}
	go runEventLoop()
	return nil
})

func runEventLoop() {
	for {
		if err := libvirt.EventRunDefaultImpl(); err != nil {
			// It fails only where poll(2) does; an error each round must not spin.
			time.Sleep(time.Second)
		}
	}
}

// callKind says what a call may wait for.
type callKind int

const (
	// hostCall waits for libvirtd only.
	hostCall callKind = iota
	// guestCall may wait for one QEMU process, or for an agent inside its guest,
	// for as long as that hangs. Cutting the VM's power ends the wait.
	guestCall
)

// manager hands out connections, one per operation, so that a call that hangs
// holds up no other instance.
type manager struct {
	uri       string
	interval  int
	count     uint
	log       *slog.Logger
	slots     chan struct{}
	calls     sync.WaitGroup
	maxIdle   int
	closeWait time.Duration

	mu     sync.Mutex
	closed bool
	idle   []*libvirt.Connect
	// dialing is set while an attempt to connect was left behind.
	dialing bool
	// lost counts, per key, the calls that were left behind and still run.
	lost map[string]*lostCalls
}

type lostCalls struct {
	host, guest int
	what        string
}

func newManager(cfg Config, log *slog.Logger) *manager {
	return &manager{
		uri:       cfg.URI,
		interval:  int(cfg.KeepAliveInterval / time.Second),
		count:     uint(cfg.KeepAliveCount),
		log:       log,
		slots:     make(chan struct{}, cfg.MaxConnections),
		maxIdle:   4,
		closeWait: 5 * time.Second,
		lost:      map[string]*lostCalls{},
	}
}

// session is one operation's use of one connection. It is not for concurrent use.
type session struct {
	m    *manager
	key  string
	conn *libvirt.Connect
	// left is set once a call was left behind; the connection is then its.
	left bool
	// touched is set once a call that changes something was begun.
	touched bool
}

// session takes a connection for calls about key, an instance's id or a name for
// what is asked of the host. With power set it may run beside a guest call that
// was left behind: it is about to end what that one waits for.
func (m *manager) session(ctx context.Context, key string, power bool) (*session, error) {
	if err := m.ready(key, power); err != nil {
		return nil, err
	}
	select {
	case m.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, scaling.Errorf(scaling.Temporary, "libvirt %s: all %d connections are busy: %w", m.uri, cap(m.slots), context.Cause(ctx))
	}
	conn, err := m.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("libvirt %s: %w", m.uri, err)
	}
	return &session{m: m, key: key, conn: conn}, nil
}

// ready reports why no call may be made for key now.
func (m *manager) ready(key string, power bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return scaling.Errorf(scaling.Temporary, "libvirt %s: closed", m.uri)
	}
	if lost := m.lost[key]; lost != nil && (lost.host > 0 || !power) {
		return scaling.Errorf(scaling.Temporary, "libvirt %s: an earlier call (%s) has not returned yet", m.uri, lost.what)
	}
	return nil
}

// connect takes an idle connection or opens one. The caller has a slot; on an
// error it is given back, at once or when the attempt ends.
func (m *manager) connect(ctx context.Context) (*libvirt.Connect, error) {
	m.mu.Lock()
	for len(m.idle) > 0 {
		conn := m.idle[len(m.idle)-1]
		m.idle = m.idle[:len(m.idle)-1]
		if alive(conn) {
			m.mu.Unlock()
			return conn, nil
		}
		m.discard(conn)
	}
	dialing := m.dialing
	m.mu.Unlock()
	if dialing {
		<-m.slots
		return nil, scaling.Errorf(scaling.Temporary, "an earlier attempt to connect has not ended yet")
	}
	if err := startEventLoop(); err != nil {
		<-m.slots
		return nil, scaling.WithClass(scaling.Permanent, err)
	}

	type opened struct {
		conn *libvirt.Connect
		err  error
	}
	done := make(chan opened, 1)
	m.calls.Go(func() {
		conn, err := m.dial()
		done <- opened{conn, err}
	})
	select {
	case o := <-done:
		if o.err != nil {
			<-m.slots
			return nil, o.err
		}
		return o.conn, nil
	case <-ctx.Done():
	}
	m.mu.Lock()
	m.dialing = true
	m.mu.Unlock()
	m.calls.Go(func() {
		o := <-done
		m.mu.Lock()
		m.dialing = false
		m.mu.Unlock()
		if o.err == nil {
			m.put(o.conn)
		}
		<-m.slots
	})
	return nil, scaling.Errorf(scaling.Temporary, "connect: %w", context.Cause(ctx))
}

func (m *manager) dial() (*libvirt.Connect, error) {
	conn, err := libvirt.NewConnect(m.uri)
	if err != nil {
		class := scaling.Temporary
		if hasCode(err, libvirt.ERR_AUTH_FAILED) || hasCode(err, libvirt.ERR_AUTH_CANCELLED) || hasCode(err, libvirt.ERR_AUTH_UNAVAILABLE) {
			class = scaling.Permanent
		}
		return nil, scaling.WithClass(class, fmt.Errorf("connect: %w%s", err, rights(m.uri, err)))
	}
	// Connections inside this process (test:///) know no keep-alive.
	if err := conn.SetKeepAlive(m.interval, m.count); err != nil && !hasCode(err, libvirt.ERR_NO_SUPPORT) {
		m.discard(conn)
		return nil, scaling.Errorf(scaling.Temporary, "turn on keep-alive: %w", err)
	}
	return conn, nil
}

// rights says what would be right where the user may not use the daemon's socket,
// or polkit does not let it. The daemon gives this no code of its own.
func rights(uri string, err error) string {
	if u, bad := url.Parse(uri); bad != nil || u.Host != "" {
		return "" // another machine's
	}
	text := strings.ToLower(err.Error())
	for _, refused := range []string{"permission denied", "access denied", "authentication", "authenticate"} {
		if strings.Contains(text, refused) {
			return fmt.Sprintf(" (this is user id %d: one that is not root has to be in the group of libvirt's socket, libvirt on most systems, and be started again after that)", os.Getuid())
		}
	}
	return ""
}

func alive(conn *libvirt.Connect) bool {
	ok, err := conn.IsAlive()
	return err == nil && ok
}

// put keeps a connection for the next session, or closes it.
func (m *manager) put(conn *libvirt.Connect) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || len(m.idle) >= m.maxIdle || !alive(conn) {
		m.discard(conn)
		return
	}
	m.idle = append(m.idle, conn)
}

// discard closes a connection in the background, since closing says goodbye to
// libvirtd and may wait for it.
func (m *manager) discard(conn *libvirt.Connect) {
	m.calls.Go(func() {
		if _, err := conn.Close(); err != nil {
			m.log.Debug("close a libvirt connection", "uri", m.uri, "err", err)
		}
	})
}

// release ends the session. A connection with a call left behind follows when
// that call returns.
func (s *session) release() {
	if s.left {
		return
	}
	s.left = true
	s.m.put(s.conn)
	<-s.m.slots
}

// close stops handing out connections, closes the idle ones and waits a moment
// for what still runs.
func (m *manager) close() error {
	m.mu.Lock()
	m.closed = true
	for _, conn := range m.idle {
		m.discard(conn)
	}
	m.idle = nil
	m.mu.Unlock()
	done := make(chan struct{})
	go func() {
		m.calls.Wait()
		close(done)
	}()
	timer := time.NewTimer(m.closeWait)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return fmt.Errorf("libvirt %s: calls are still running after %v", m.uri, m.closeWait)
	}
}

// query runs a call that changes nothing.
func query[T any](ctx context.Context, s *session, what string, f func(context.Context, *libvirt.Connect) (T, error)) (T, error) {
	return call(ctx, s, hostCall, false, what, f)
}

// change runs a call that changes something at the host.
func change(ctx context.Context, s *session, kind callKind, what string, f func(context.Context, *libvirt.Connect) error) error {
	passPoint(what, "before")
	_, err := call(ctx, s, kind, true, what, func(ctx context.Context, conn *libvirt.Connect) (struct{}, error) {
		return struct{}{}, f(ctx, conn)
	})
	passPoint(what, "after")
	return err
}

// call runs f on the session's connection and returns when it did or when ctx
// ends. In the latter case f is left behind: its outcome is unknown, and until
// it returned the manager lets nobody make another call for this key. f may
// make several calls to libvirt; it returns plain values only, frees what it
// got, and looks at its context before a call that changes something.
func call[T any](ctx context.Context, s *session, kind callKind, changes bool, what string, f func(context.Context, *libvirt.Connect) (T, error)) (T, error) {
	var zero T
	if s.left {
		return zero, scaling.Errorf(scaling.Temporary, "%s: not begun, since an earlier call has not returned", what)
	}
	if err := context.Cause(ctx); err != nil {
		class := scaling.Temporary
		if s.touched {
			class = scaling.Unknown
		}
		return zero, scaling.Errorf(class, "%s: not begun: %w", what, err)
	}
	s.touched = s.touched || changes
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	conn := s.conn
	s.m.calls.Go(func() {
		value, err := f(ctx, conn)
		done <- result{value, err}
	})
	select {
	case r := <-done:
		return r.value, s.classify(what, changes, r.err)
	case <-ctx.Done():
	}
	select {
	case r := <-done: // an answer that came at the same moment is an answer
		return r.value, s.classify(what, changes, r.err)
	default:
	}
	s.left = true
	s.m.leave(s.key, kind, what)
	s.m.log.Warn("left a libvirt call behind", "uri", s.m.uri, "key", s.key, "call", what, "err", context.Cause(ctx))
	s.m.calls.Go(func() {
		<-done
		s.m.returned(s.key, kind)
		s.m.put(conn)
		<-s.m.slots
	})
	return zero, scaling.Errorf(scaling.Unknown, "%s: left behind: %w", what, context.Cause(ctx))
}

// classify wraps the error of a call that returned.
func (s *session) classify(what string, changes bool, err error) error {
	if err == nil {
		return nil
	}
	wrapped := fmt.Errorf("%s: %w", what, err)
	if _, ok := errors.AsType[libvirt.Error](err); !ok {
		if scaling.ClassOf(err) == scaling.Unknown && !scaling.Interrupted(err) {
			// Not libvirt's, so something it said could not be read.
			return scaling.WithClass(scaling.Permanent, wrapped)
		}
		return wrapped
	}
	if !alive(s.conn) {
		// The answer may have been lost together with the connection.
		if changes {
			return scaling.WithClass(scaling.Unknown, wrapped)
		}
		return scaling.WithClass(scaling.Temporary, wrapped)
	}
	if c := scaling.ClassOf(err); c != scaling.Unknown {
		return scaling.WithClass(c, wrapped)
	}
	return scaling.WithClass(classOf(err), wrapped)
}

func (m *manager) leave(key string, kind callKind, what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	lost := m.lost[key]
	if lost == nil {
		lost = &lostCalls{}
		m.lost[key] = lost
	}
	lost.what = what
	if kind == guestCall {
		lost.guest++
	} else {
		lost.host++
	}
}

func (m *manager) returned(key string, kind callKind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	lost := m.lost[key]
	if lost == nil {
		return
	}
	if kind == guestCall {
		lost.guest--
	} else {
		lost.host--
	}
	if lost.guest+lost.host == 0 {
		delete(m.lost, key)
	}
}
