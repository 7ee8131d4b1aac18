package webpage

import (
	"net"
	"net/http"
	"sync"
)

// seats bounds the pages that are told of changes. When all are taken, an address
// that holds fewer than another takes the oldest of the one that holds most; so no
// client keeps the others out, and pages of one address do not drive out each other.
type seats struct {
	most int

	mu    sync.Mutex
	next  uint64
	taken map[*seat]struct{}
}

// seat is one page's. lost is closed when another has it.
type seat struct {
	address string
	order   uint64 // of arrival
	lost    chan struct{}
}

func newSeats(most int) *seats { return &seats{most: most, taken: map[*seat]struct{}{}} }

// take returns a seat, nil if there is none for this address.
func (l *seats) take(address string) *seat {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.taken) >= l.most && !l.free(address) {
		return nil
	}
	l.next++
	s := &seat{address: address, order: l.next, lost: make(chan struct{})}
	l.taken[s] = struct{}{}
	return s
}

// free takes a seat from the address that holds most, unless the other would then
// hold more than it.
func (l *seats) free(address string) bool {
	held := map[string]int{}
	for s := range l.taken {
		held[s.address]++
	}
	var worst *seat
	for s := range l.taken {
		if worst == nil || held[s.address] > held[worst.address] ||
			held[s.address] == held[worst.address] && s.order < worst.order {
			worst = s
		}
	}
	if worst == nil || held[worst.address]-1 < held[address]+1 {
		return false
	}
	delete(l.taken, worst)
	close(worst.lost)
	return true
}

// leave gives a seat back, unless another has it already.
func (l *seats) leave(s *seat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.taken, s)
}

// addressOf is a client's, without its port.
func addressOf(r *http.Request) string {
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return address
}
