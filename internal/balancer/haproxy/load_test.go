package haproxy_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is clients that send raw HTTP over their own connections and repeat
// nothing: what an HTTP library would hide is a lost request here.
type load struct {
	t    *testing.T
	addr string
	keep bool
	stop chan struct{}
	wg   sync.WaitGroup
	sent atomic.Int64
	ok   atomic.Int64
	mu   sync.Mutex
	lost []error
}

// startLoad starts n clients, staggered, GETs and POSTs, some slow. With keep half
// of them keep their connections. Without it none does: for tests that reload
// HAProxy, where a kept connection may be closed while a request is on its way,
// whatever is done to the pool.
func startLoad(t *testing.T, addr string, n int, keep bool) *load {
	t.Helper()
	l := &load{t: t, addr: addr, keep: keep, stop: make(chan struct{})}
	for i := range n {
		l.wg.Go(func() { l.client(i) })
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	select {
	case <-l.stop:
	default:
		close(l.stop)
	}
	l.wg.Wait()
}

// finish stops the clients and fails the test for each lost request.
func (l *load) finish(atLeast int64) {
	l.t.Helper()
	l.end()
	if len(l.lost) > 0 {
		l.t.Errorf("%d of %d requests were lost, first: %v", len(l.lost), l.sent.Load(), l.lost[0])
	}
	if l.sent.Load() != l.ok.Load()+int64(len(l.lost)) {
		l.t.Errorf("%d requests sent, %d answered, %d lost", l.sent.Load(), l.ok.Load(), len(l.lost))
	}
	if l.ok.Load() < atLeast {
		l.t.Errorf("only %d requests were answered: that proves nothing", l.ok.Load())
	}
	l.t.Logf("%d requests, %d lost", l.sent.Load(), len(l.lost))
}

func (l *load) client(i int) {
	keep := l.keep && i%2 == 0
	var conn net.Conn
	var in *bufio.Reader
	closeConn := func() {
		if conn != nil {
			conn.Close()
			conn = nil
		}
	}
	defer closeConn()
	for k := 0; ; k++ {
		select {
		case <-l.stop:
			return
		case <-time.After(time.Duration(rand.IntN(20)) * time.Millisecond):
		}
		if conn == nil {
			c, err := net.DialTimeout("tcp", l.addr, 5*time.Second)
			if err != nil {
				l.sent.Add(1)
				l.lose(fmt.Errorf("connect: %w", err))
				continue
			}
			conn, in = c, bufio.NewReader(c)
		}
		l.sent.Add(1)
		hold := ""
		switch {
		case k%40 == 7:
			hold = "?hold=800ms"
		case k%3 == 0:
			hold = "?hold=30ms"
		}
		again, err := exchange(conn, in, (i+k)%2 == 0, keep, hold)
		if err == nil {
			l.ok.Add(1)
		} else {
			l.lose(err)
		}
		if err != nil || !again || !keep {
			closeConn()
		}
	}
}

func (l *load) lose(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = append(l.lost, err)
}

func exchange(conn net.Conn, in *bufio.Reader, post, keep bool, query string) (again bool, err error) {
	conn.SetDeadline(time.Now().Add(15 * time.Second))
	request := "GET /" + query + " HTTP/1.1\r\nHost: x\r\n"
	if post {
		request = "POST /" + query + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
	}
	if !keep {
		request += "Connection: close\r\n"
	}
	request += "\r\n"
	if post {
		request += "hello"
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return false, fmt.Errorf("send: %w", err)
	}
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil {
		return false, fmt.Errorf("read the body: %w", err)
	}
	if answer.StatusCode != http.StatusOK || len(body) == 0 {
		return false, fmt.Errorf("answered %d %q", answer.StatusCode, body)
	}
	return !answer.Close, nil
}
