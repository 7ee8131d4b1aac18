package exporter

import (
	"fmt"
	"sync/atomic"

	"libvirt.org/go/libvirt"
)

// Runtime is libvirt's client library inside this process: its event loop,
// which is what sends and checks keep-alive messages. libvirt allows one per
// process, registered before the first connection is opened.
type Runtime struct {
	timer    int
	stopping atomic.Bool
	done     chan struct{}
}

// StartRuntime loads the client library, registers its event loop and runs it.
// It returns an error when libvirt.so cannot be loaded. Call it once, before
// any Exporter is used; a second call in one process is a mistake that libvirt
// does not report.
func StartRuntime() (*Runtime, error) {
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return nil, fmt.Errorf("register libvirt's event loop: %w", err)
	}
	timer, err := libvirt.EventAddTimeout(-1, func(int) {})
	if err != nil {
		return nil, fmt.Errorf("add a timer to libvirt's event loop: %w", err)
	}
	resolveSymbols()
	r := &Runtime{timer: timer, done: make(chan struct{})}
	go r.run()
	return r, nil
}

func (r *Runtime) run() {
	defer close(r.done)
	for !r.stopping.Load() {
		if err := libvirt.EventRunDefaultImpl(); err != nil {
			return
		}
	}
}

// Close stops the event loop and waits for it. Connections that are still open
// have no keep-alive from then on, so it belongs at the very end of a process.
func (r *Runtime) Close() {
	r.stopping.Store(true)
	libvirt.EventUpdateTimeout(r.timer, 0)
	<-r.done
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
	domains, _ := s.Domains()
	_, _ = s.Stats(libvirt.DOMAIN_STATS_STATE)
	for i := range domains {
		_, _ = s.Describe(domains[i].UUID)
	}
	_, _ = s.Describe("00000000-0000-0000-0000-000000000000")
	_ = s.alive()
	_ = s.Close()
}
