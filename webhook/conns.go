package webhook

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// conns bounds the open connections of a listener without ever refusing a new
// one: at the limit the oldest connection that waits for its client is closed,
// of the address that holds most. Slow and half-open clients therefore crowd out
// each other and not the one that has something to say.
type conns struct {
	most    int
	dropped prometheus.Counter

	mu   sync.Mutex
	next uint64
	open map[net.Conn]*conn
}

// conn is one connection.
type conn struct {
	owner   *conns
	address string
	order   uint64 // of arrival
	working int    // requests of it that the engine works on
}

func newConns(most int, dropped prometheus.Counter) *conns {
	return &conns{most: most, dropped: dropped, open: map[net.Conn]*conn{}}
}

// connKey is where a request's connection is kept in its context.
type connKey struct{}

// opened is http.Server's ConnContext.
func (l *conns) opened(ctx context.Context, c net.Conn) context.Context {
	address, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		address = c.RemoteAddr().String()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next++
	entry := &conn{owner: l, address: address, order: l.next}
	l.open[c] = entry
	if len(l.open) > l.most {
		l.drop()
	}
	return context.WithValue(ctx, connKey{}, entry)
}

// drop closes one connection. If the engine works for all of them the newest is
// none of those, since it has sent nothing yet, and goes.
func (l *conns) drop() {
	held := map[string]int{}
	for _, e := range l.open {
		held[e.address]++
	}
	var victim net.Conn
	var worst *conn
	for c, e := range l.open {
		if e.working > 0 {
			continue
		}
		if worst == nil || held[e.address] > held[worst.address] ||
			held[e.address] == held[worst.address] && e.order < worst.order {
			victim, worst = c, e
		}
	}
	if victim == nil {
		return
	}
	delete(l.open, victim)
	l.dropped.Inc()
	raw := victim
	if t, isTLS := victim.(*tls.Conn); isTLS {
		raw = t.NetConn() // closing the TLS layer would wait for the client
	}
	// Its own goroutine reports whatever a close on a dead connection says.
	_ = raw.Close()
}

// changed is http.Server's ConnState.
func (l *conns) changed(c net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

// working keeps the request's connection from being dropped until done is called.
func working(ctx context.Context) (done func()) {
	e, found := ctx.Value(connKey{}).(*conn)
	if !found {
		return func() {}
	}
	e.add(1)
	return func() { e.add(-1) }
}

func (e *conn) add(n int) {
	e.owner.mu.Lock()
	defer e.owner.mu.Unlock()
	e.working += n
}
