package loadgen

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/e2e/guest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer serves each connection with fn until the test ends.
func peer(t *testing.T, fn func(conn net.Conn, r *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { ln.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); fn(conn, bufio.NewReader(conn)) }()
		}
	}()
	return ln.Addr().String()
}

// good is the answer that guestd gives.
func good(r *http.Request) string {
	n, _ := io.Copy(io.Discard, r.Body)
	return fmt.Sprintf("host=a id=%s kind=%s bytes=%d\n", r.Header.Get("X-Request-Id"), r.URL.Path[1:], n)
}

func answer(conn net.Conn, body string, extra string) {
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nX-Guest: a\r\nContent-Length: %d\r\n%s\r\n%s", len(body), extra, body)
}

func generator(t *testing.T, opts Options) *Generator {
	t.Helper()
	if opts.TimeLimit == 0 {
		opts.TimeLimit = 10 * time.Second
	}
	opts.SleepMin, opts.SleepMax = time.Millisecond, 2*time.Millisecond
	opts.Pause = time.Millisecond
	g, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestOutcomeOfOneRequest(t *testing.T) {
	for _, tc := range []struct {
		name  string
		post  bool
		limit time.Duration
		peer  func(net.Conn, *bufio.Reader)
		want  Outcome
	}{
		{"a complete answer is ok", false, 0, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				answer(c, good(req), "")
			}
		}, OK},
		{"a complete answer to a POST is ok", true, 0, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				answer(c, good(req), "")
			}
		}, OK},
		{"a delayed answer within the limit is ok", false, 0, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				time.Sleep(100 * time.Millisecond)
				answer(c, good(req), "")
			}
		}, OK},
		{"an answer in chunks is ok", false, 0, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				b := good(req)
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Guest: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(b), b)
			}
		}, OK},
		{"a close before the answer loses a GET", false, 0, func(_ net.Conn, r *bufio.Reader) { _, _ = http.ReadRequest(r) }, Closed},
		{"a close before the answer loses a POST", true, 0, func(_ net.Conn, r *bufio.Reader) { _, _ = http.ReadRequest(r) }, Closed},
		{"a head that is cut short is truncated", false, 0, func(c net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX-Gu")
		}, Truncated},
		{"a body that is cut short is truncated", false, 0, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				b := good(req)
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Guest: a\r\nContent-Length: %d\r\n\r\n%s", len(b), b[:len(b)-3])
			}
		}, Truncated},
		{"chunks without an end are truncated", false, 0, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				b := good(req)
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Guest: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(b), b)
			}
		}, Truncated},
		{"a 503 is a loss", false, 0, func(c net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		}, Status},
		{"the answer to another request is wrong", false, 0, func(c net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			answer(c, "host=a id=other-1 kind=echo bytes=0\n", "")
		}, Wrong},
		{"an answer to a POST that lost a part of its body is wrong", true, 0, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				answer(c, fmt.Sprintf("host=a id=%s kind=echo bytes=0\n", req.Header.Get("X-Request-Id")), "")
			}
		}, Wrong},
		{"an answer without a length is wrong, since its end proves nothing", false, 0, func(c net.Conn, r *bufio.Reader) {
			if req, err := http.ReadRequest(r); err == nil {
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX-Guest: a\r\nConnection: close\r\n\r\n%s", good(req))
			}
		}, Wrong},
		{"no answer within the limit is cut", false, 100 * time.Millisecond, func(_ net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			_, _ = r.ReadByte() // until the client gives up
		}, Cut},
		{"half an answer within the limit is cut", false, 100 * time.Millisecond, func(c net.Conn, r *bufio.Reader) {
			_, _ = http.ReadRequest(r)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhost")
			_, _ = r.ReadByte()
		}, Cut},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := generator(t, Options{Target: peer(t, tc.peer), TimeLimit: tc.limit})
			c := g.newClient(true)
			defer c.close()
			c.send(t.Context(), request{kind: KindEcho, path: "/echo", post: tc.post})
			r := g.Records()
			if len(r) != 1 || r[0].Outcome != tc.want {
				t.Fatalf("records %+v, want one with outcome %s", r, tc.want)
			}
			want := Totals{Sent: 1, OK: 1}
			if tc.want != OK {
				want = Totals{Sent: 1, Lost: 1}
			}
			if tc.want == Cut {
				want.Cut = 1
			}
			if diff := cmp.Diff(want, g.Totals()); diff != "" {
				t.Errorf("totals (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNobodyListeningIsALoss(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	g := generator(t, Options{Target: ln.Addr().String()})
	g.newClient(false).send(t.Context(), request{kind: KindEcho, path: "/echo"})
	if r := g.Records(); len(r) != 1 || r[0].Outcome != Unconnected {
		t.Errorf("records %+v, want one unconnected", r)
	}
}

func TestConnectionClosedBetweenRequestsLosesNothing(t *testing.T) {
	closed := make(chan struct{})
	var connections atomic.Int32
	g := generator(t, Options{Target: peer(t, func(c net.Conn, r *bufio.Reader) {
		connections.Add(1)
		if req, err := http.ReadRequest(r); err == nil {
			answer(c, good(req), "")
		}
		c.Close()
		closed <- struct{}{}
	})})
	c := g.newClient(true)
	defer c.close()
	for range 3 {
		c.send(t.Context(), request{kind: KindEcho, path: "/echo"})
		<-closed
		// Loopback delivers the end of the connection at once, but not before
		// Close has returned; wait until it can be seen.
		for c.conn != nil && !closedWhileIdle(c.conn) {
			time.Sleep(time.Millisecond)
		}
	}
	want := Totals{Sent: 3, OK: 3, IdleClosed: 2}
	if diff := cmp.Diff(want, g.Totals()); diff != "" || connections.Load() != 3 {
		t.Errorf("%d connections, want 3; totals (-want +got):\n%s", connections.Load(), diff)
	}
}

func TestRequestOnAReusedConnectionThatCloses(t *testing.T) {
	// The peer reads the second request and closes: the request was sent, so it
	// is lost, and it must not be sent again.
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run("is a lost "+method+" and is not repeated", func(t *testing.T) {
			var requests atomic.Int32
			g := generator(t, Options{Target: peer(t, func(c net.Conn, r *bufio.Reader) {
				for {
					req, err := http.ReadRequest(r)
					if err != nil || requests.Add(1) == 2 {
						return
					}
					answer(c, good(req), "")
				}
			})})
			c := g.newClient(true)
			defer c.close()
			for range 3 {
				c.send(t.Context(), request{kind: KindEcho, path: "/echo", post: method == http.MethodPost})
			}
			var got []string
			for _, r := range g.Records() {
				got = append(got, fmt.Sprintf("%s reused=%t", r.Outcome, r.Reused))
			}
			want := []string{"ok reused=false", "closed reused=true", "ok reused=false"}
			if diff := cmp.Diff(want, got); diff != "" || requests.Load() != 3 {
				t.Errorf("the peer saw %d requests, want 3; outcomes (-want +got):\n%s", requests.Load(), diff)
			}
		})
	}
}

func TestConnectionsAreKeptOrFreshAsAsked(t *testing.T) {
	for _, tc := range []struct {
		name  string
		keep  bool
		extra string
		want  int32
	}{
		{"a keeping client uses one connection", true, "", 1},
		{"a fresh client uses one per request", false, "", 5},
		{"a keeping client obeys Connection: close", true, "Connection: close\r\n", 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var connections atomic.Int32
			g := generator(t, Options{Target: peer(t, func(c net.Conn, r *bufio.Reader) {
				connections.Add(1)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					answer(c, good(req), tc.extra)
				}
			})})
			c := g.newClient(tc.keep)
			defer c.close()
			for range 5 {
				c.send(t.Context(), request{kind: KindEcho, path: "/echo", post: true})
			}
			if got := g.Totals(); got.OK != 5 || connections.Load() != tc.want {
				t.Errorf("%d connections, want %d; totals %+v", connections.Load(), tc.want, got)
			}
		})
	}
}

func TestRunSendsAllKindsFollowsTheLoadAndLeavesNothingInFlight(t *testing.T) {
	every := map[string]bool{}
	for _, kind := range []string{KindEcho, KindSleep, KindWork} {
		for _, rest := range []string{"GET reused=true", "GET reused=false", "POST reused=true", "POST reused=false"} {
			every[kind+" "+rest] = true
		}
	}
	sort := func(r Record) string { return fmt.Sprintf("%s %s reused=%t", r.Kind, r.Method, r.Reused) }
	var working atomic.Int32
	g := generator(t, Options{MaxBusy: 4, Target: peer(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.URL.Path == "/work" {
				working.Add(1)
				time.Sleep(time.Millisecond)
			}
			answer(c, good(req), "")
		}
	})})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.Run(ctx) }()
	await(t, func() bool { return g.Totals().OK > 50 })
	if n := working.Load(); n != 0 {
		t.Errorf("%d requests for work before any load was set", n)
	}
	g.SetLoad(99)
	if g.Load() != 4 {
		t.Errorf("load %d, want the maximum 4", g.Load())
	}
	seen := map[string]bool{}
	await(t, func() bool {
		for _, r := range g.Records() {
			seen[sort(r)] = true
		}
		return working.Load() > 100 && len(seen) >= len(every)
	})
	g.SetLoad(0)
	cancel()
	<-done

	tot, records := g.Totals(), g.Records()
	if tot.InFlight != 0 || tot.Lost != 0 || int(tot.Sent) != len(records) {
		t.Errorf("totals %+v with %d records, want all answered", tot, len(records))
	}
	if diff := cmp.Diff(every, seen); diff != "" {
		t.Errorf("sorts of requests that were sent (-want +got):\n%s", diff)
	}
	ids := map[string]bool{}
	for _, r := range records {
		if ids[r.ID] {
			t.Fatalf("id %s was used twice", r.ID)
		}
		ids[r.ID] = true
	}
}

func await(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal("condition does not come")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestOptionsThatCannotWork(t *testing.T) {
	for name, opts := range map[string]Options{
		"a target without a port":            {Target: "127.0.0.1"},
		"sleeps as long as the limit":        {Target: "127.0.0.1:80", SleepMax: 30 * time.Second},
		"a shortest sleep above the longest": {Target: "127.0.0.1:80", SleepMin: 20 * time.Second},
	} {
		if _, err := New(opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSummarize(t *testing.T) {
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s float64) time.Time { return t0.Add(time.Duration(s * float64(time.Second))) }
	records := []Record{
		{Kind: "echo", Start: at(0), Duration: 10 * time.Millisecond, Server: "a", Outcome: OK},
		{Kind: "sleep", Start: at(1), Duration: 3020 * time.Millisecond, Asked: 3 * time.Second, Server: "a", Outcome: OK},
		{Kind: "echo", Start: at(2.5), Duration: 30 * time.Millisecond, Server: "b", Outcome: OK},
		{Kind: "echo", Start: at(9), Duration: 40 * time.Millisecond, Server: "b", Outcome: OK},
		{Kind: "work", Start: at(2.5), Duration: time.Second, Outcome: Cut},
		{Kind: "work", Start: at(2.5), Duration: time.Second, Outcome: Closed},
	}
	got := Summarize(records, []Interval{{Name: "scale-out", From: at(2), To: at(3)}})
	want := Summary{
		Sent: 6, OK: 4, Lost: 2, Cut: 1,
		ByKind:  map[string]int{"echo": 3, "sleep": 1, "work": 2},
		Servers: map[string]int{"a": 2, "b": 2},
		Ended:   map[Outcome]int{OK: 4, Cut: 1, Closed: 1},
		During:  Latencies{Count: 2, P50: 20 * time.Millisecond, P99: 30 * time.Millisecond, Max: 30 * time.Millisecond},
		Outside: Latencies{Count: 2, P50: 10 * time.Millisecond, P99: 40 * time.Millisecond, Max: 40 * time.Millisecond},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
}

func TestCompareClientWithGuests(t *testing.T) {
	book := func(host string, final bool, ids ...string) guest.Book {
		b := guest.Book{Counts: guest.Counts{Host: host, Boot: "1"}, Final: final}
		for _, id := range ids {
			b.Records = append(b.Records, guest.Record{ID: id})
		}
		return b
	}
	ok := func(id, server string) Record { return Record{ID: id, Server: server, Outcome: OK} }
	for _, tc := range []struct {
		name    string
		records []Record
		books   []guest.Book
		want    Comparison
		fails   bool
	}{
		{
			"agreement, with another client's requests in the books",
			[]Record{ok("r-1", "a"), ok("r-2", "b")},
			[]guest.Book{book("a", true, "r-1", "other-1"), book("b", false, "r-2")},
			Comparison{OK: 2, Noted: 2, Unfinished: []string{"b 1"}},
			false,
		},
		{
			"an accepted answer that no guest knows",
			[]Record{ok("r-1", "a")},
			[]guest.Book{book("a", true)},
			Comparison{OK: 1, Missing: []string{"r-1"}},
			true,
		},
		{
			"a request that two guests answered",
			[]Record{ok("r-1", "a")},
			[]guest.Book{book("a", true, "r-1"), book("b", true, "r-1")},
			Comparison{OK: 1, Noted: 2, Twice: []string{"r-1"}},
			true,
		},
		{
			"a request that one guest answered twice",
			[]Record{ok("r-1", "a")},
			[]guest.Book{book("a", true, "r-1", "r-1")},
			Comparison{OK: 1, Noted: 2, Twice: []string{"r-1"}},
			true,
		},
		{
			"an answer under another guest's name",
			[]Record{ok("r-1", "a")},
			[]guest.Book{book("b", true, "r-1")},
			Comparison{OK: 1, Noted: 1, Elsewhere: []string{"r-1"}},
			true,
		},
		{
			"a lost request that a guest did answer",
			[]Record{{ID: "r-1", Outcome: Closed}},
			[]guest.Book{book("a", true, "r-1")},
			Comparison{Noted: 1, Unaccepted: []string{"r-1"}},
			true,
		},
		{"a lost request that no guest saw", []Record{{ID: "r-1", Outcome: Unconnected}}, nil, Comparison{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := compare("r", tc.records, tc.books)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("comparison (-want +got):\n%s", diff)
			}
			if err := got.Err(); (err != nil) != tc.fails {
				t.Errorf("error %v, want one: %t", err, tc.fails)
			}
		})
	}
}
