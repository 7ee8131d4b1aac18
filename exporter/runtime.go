package exporter

import (
	"fmt"
	"sync/atomic"

	"libvirt.org/go/libvirt"
)

// Runtime is libvirt's client library inside this process, with its event loop
// where that is needed: the loop sends and checks keep-alive messages, which
// remote connections have and local ones do without.
//
// The loop is not started needlessly because it is dear: libvirt takes a
// connection's socket away from the loop and gives it back around each call,
// which wakes the loop each time (docs/benchmarks.md has figures). It belongs
// to the whole process, and every connection that is opened after it has
// started uses it.
type Runtime struct {
	loop *eventLoop // nil without one
}

// StartRuntime loads the client library and, if uri is a remote connection,
// registers libvirt's event loop and runs it. It returns an error when
// libvirt.so cannot be loaded. Call it once, before any Exporter is used, with
// the URI that the exporters have; a second call in one process is a mistake
// that libvirt does not report.
func StartRuntime(uri string) (*Runtime, error) {
	if _, err := libvirt.GetVersion(); err != nil {
		return nil, fmt.Errorf("load libvirt's client library: %w", err)
	}
	r := &Runtime{}
	if remote(uri) {
		loop, err := startEventLoop()
		if err != nil {
			return nil, err
		}
		r.loop = loop
	}
	resolveSymbols()
	return r, nil
}

// Close stops the event loop, if there is one, and waits for it. Connections
// that are still open have no keep-alive from then on, so it belongs at the
// very end of a process.
func (r *Runtime) Close() {
	if r.loop != nil {
		r.loop.stop()
	}
}

// eventLoop is libvirt's default event loop on a goroutine of its own.
type eventLoop struct {
	timer    int
	stopping atomic.Bool
	done     chan struct{}
}

func startEventLoop() (*eventLoop, error) {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return nil, fmt.Errorf("register libvirt's event loop: %w", err)
	}
	timer, err := libvirt.EventAddTimeout(-1, func(int) {})
	if err != nil {
		return nil, fmt.Errorf("add a timer to libvirt's event loop: %w", err)
	}
	l := &eventLoop{timer: timer, done: make(chan struct{})}
	go l.run()
	return l, nil
}

func (l *eventLoop) run() {
	defer close(l.done)
	for !l.stopping.Load() {
		if err := libvirt.EventRunDefaultImpl(); err != nil {
			return
		}
	}
}

func (l *eventLoop) stop() {
	l.stopping.Store(true)
	libvirt.EventUpdateTimeout(l.timer, 0)
	<-l.done
}

// resolveSymbols calls every libvirt function that a pass uses once, on the
// in-process test driver. The binding looks symbols up lazily and without a
// lock, so the first use by two passes at once could be reported as a missing
// symbol. A library without the test driver only loses this precaution.
func resolveSymbols() {
	conn, err := libvirt.NewConnectReadOnly("test:///default")
	if err != nil {
		return
	}
	s := &libvirtSession{conn: conn}
	_ = conn.SetKeepAlive(-1, 0)
	domains, _ := s.Domains(1)
	_, _ = s.Stats(libvirt.DOMAIN_STATS_STATE)
	for i := range domains {
		_, _ = s.Describe(domains[i].UUID)
	}
	_, _ = s.Describe("00000000-0000-0000-0000-000000000000")
	_ = s.alive()
	_ = s.Close()
}
