// Package loadgen judges whether requests are lost. It sends all the time,
// through the load balancer, from many independent clients, and says of every
// single request what became of it.
//
// A request is lost when no complete, expected answer came within the time
// limit on its first transmission. So the client repeats nothing: it writes
// HTTP/1.1 on its own connections (net/http's client repeats a GET on a reused
// connection by itself). A connection that the other side closes between two
// requests loses nothing, and the client opens another; but a request that was
// written on a connection is lost if that connection then ends without the
// answer, also when the close was already under way (RFC 9112, 9.6 lets a
// server close an idle connection at any time, and leaves it to clients to
// repeat). The balancer under test must therefore not close idle connections of
// its own accord while the test runs: a keep-alive timeout well above the
// clients' pauses and, for HAProxy, `option idle-close-on-response`.
package loadgen

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Options describe the load. The counts are of clients; each sends one request
// at a time.
type Options struct {
	// Target is the balancer's address, "127.0.0.1:8080".
	Target string
	// Dial opens connections. Nil: a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Log gets each lost request as a warning. Nil: nothing is logged.
	Log *slog.Logger

	// Steady clients send small GETs and POSTs, half of them on fresh
	// connections. Zero: 4.
	Steady int
	// Pause is the mean pause of a steady client. Zero: 250 ms.
	Pause time.Duration
	// Sleepers send requests that the guest answers after 3 to 10 s, so that
	// some are always in flight. Zero: 4; negative: none.
	Sleepers int
	// SleepMin and SleepMax bound what sleepers ask for. Zero: 3 s and 10 s.
	SleepMin, SleepMax time.Duration
	// MaxBusy is the largest value for SetLoad. Zero: 16.
	MaxBusy int
	// WorkUnits is the CPU work that a busy client asks for per request. Zero: 2000.
	WorkUnits int
	// TimeLimit for a request, from its first byte, or the start of its
	// connection, to the last byte of the answer. Zero: 30 s.
	TimeLimit time.Duration
}

func (o *Options) setDefaults() error {
	if _, _, err := net.SplitHostPort(o.Target); err != nil {
		return fmt.Errorf("load target %q: %w", o.Target, err)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, d := range []struct {
		value *int
		def   int
	}{{&o.Steady, 4}, {&o.Sleepers, 4}, {&o.MaxBusy, 16}, {&o.WorkUnits, 2000}} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{{&o.Pause, 250 * time.Millisecond}, {&o.SleepMin, 3 * time.Second}, {&o.SleepMax, 10 * time.Second}, {&o.TimeLimit, 30 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	if o.SleepMin > o.SleepMax || o.SleepMax >= o.TimeLimit {
		return fmt.Errorf("load: want SleepMin %s <= SleepMax %s < TimeLimit %s", o.SleepMin, o.SleepMax, o.TimeLimit)
	}
	return nil
}

// Outcome is what became of a request.
type Outcome string

// The outcomes. All but OK are lost requests.
const (
	OK          Outcome = "ok"
	Unconnected Outcome = "unconnected" // no connection could be opened
	Closed      Outcome = "closed"      // the connection ended before the first byte of an answer
	Truncated   Outcome = "truncated"   // it ended within the answer
	Status      Outcome = "status"      // a complete answer with another status than 200
	Wrong       Outcome = "wrong"       // not the answer to this request
	Cut         Outcome = "cut"         // the time limit came first
)

// Kinds of requests.
const (
	KindEcho  = "echo"
	KindSleep = "sleep"
	KindWork  = "work"
)

// Record says what became of one request.
type Record struct {
	ID       string        `json:"id"`
	Kind     string        `json:"kind"`   // echo, sleep or work
	Method   string        `json:"method"` // GET or POST
	Reused   bool          `json:"reused"` // sent on a connection that had served another before
	Start    time.Time     `json:"start"`
	Duration time.Duration `json:"duration_ns"`
	Asked    time.Duration `json:"asked_ns,omitempty"` // time the guest was asked to sleep
	Server   string        `json:"server,omitempty"`
	Outcome  Outcome       `json:"outcome"`
	Problem  string        `json:"problem,omitempty"` // what was seen, when lost
}

// Lost reports whether the request counts as lost.
func (r Record) Lost() bool { return r.Outcome != OK }

// Latency is the time the answer took beyond the sleep that was asked for.
func (r Record) Latency() time.Duration { return r.Duration - r.Asked }

// Totals are running counts. Sent = OK + Lost + InFlight; Cut is part of Lost.
type Totals struct {
	Sent, OK, Lost, Cut, InFlight int64
	// IdleClosed counts connections that the other side closed between two requests.
	IdleClosed int64
}

// Generator sends the load. Make it with New, start it with Run, once.
type Generator struct {
	opts  Options
	runID string

	seq, sent, ok, lost, cut, idleClosed atomic.Int64

	mu      sync.Mutex
	records []Record
	load    int
	changed chan struct{} // closed and replaced when load changes
}

// New prepares a generator.
func New(opts Options) (*Generator, error) {
	if err := opts.setDefaults(); err != nil {
		return nil, err
	}
	raw := make([]byte, 4)
	if _, err := rand.Read(raw); err != nil {
		return nil, fmt.Errorf("choose a run id: %w", err)
	}
	return &Generator{opts: opts, runID: hex.EncodeToString(raw), changed: make(chan struct{})}, nil
}

// RunID starts the id of every request of this generator.
func (g *Generator) RunID() string { return g.runID }

// SetLoad sets how many busy clients work in a closed loop, from 0 to MaxBusy;
// other values are brought into that range. It takes effect at once, except
// that requests in flight are finished.
func (g *Generator) SetLoad(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.load = min(max(n, 0), g.opts.MaxBusy)
	close(g.changed)
	g.changed = make(chan struct{})
}

// Load is the number of busy clients.
func (g *Generator) Load() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.load
}

// Totals returns the counts so far.
func (g *Generator) Totals() Totals {
	t := Totals{OK: g.ok.Load(), Lost: g.lost.Load(), Cut: g.cut.Load(), IdleClosed: g.idleClosed.Load()}
	t.Sent = max(g.sent.Load(), t.OK+t.Lost)
	t.InFlight = t.Sent - t.OK - t.Lost
	return t
}

// Records returns a copy of the records of all finished requests, in the order
// in which they finished.
func (g *Generator) Records() []Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Record(nil), g.records...)
}

// Run sends until ctx ends, then waits for what is in flight: at most
// TimeLimit. So no request is ever left without an outcome.
func (g *Generator) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range g.opts.Steady {
		wg.Go(func() { g.steady(ctx, i) })
	}
	for i := range max(g.opts.Sleepers, 0) {
		wg.Go(func() { g.sleeper(ctx, i) })
	}
	for i := range g.opts.MaxBusy {
		wg.Go(func() { g.busy(ctx, i) })
	}
	wg.Wait()
}

// steady sends small requests with pauses.
func (g *Generator) steady(ctx context.Context, i int) {
	c := g.newClient(i%2 == 0)
	defer c.close()
	for n := i; pause(ctx, jitter(g.opts.Pause)); n++ {
		c.send(ctx, request{kind: KindEcho, path: "/echo", post: n%4 >= 2})
	}
}

// sleeper sends long requests, one after the other.
func (g *Generator) sleeper(ctx context.Context, i int) {
	c := g.newClient(i%2 == 0)
	defer c.close()
	for n := i; pause(ctx, jitter(g.opts.Pause)); n++ {
		spread := g.opts.SleepMax - g.opts.SleepMin
		d := (g.opts.SleepMin + time.Duration(mathrand.Int64N(int64(spread)+1))).Round(10 * time.Millisecond)
		path := "/sleep?s=" + strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
		c.send(ctx, request{kind: KindSleep, path: path, post: n%4 >= 2, asked: d})
	}
}

// busy keeps a guest's CPU busy while its number is below the load.
func (g *Generator) busy(ctx context.Context, i int) {
	c := g.newClient(i%4 != 3)
	defer c.close()
	path := "/work?n=" + strconv.Itoa(g.opts.WorkUnits)
	for n := i; g.awaitLoad(ctx, i); n++ {
		c.send(ctx, request{kind: KindWork, path: path, post: n%4 == 3})
	}
}

// awaitLoad blocks while client i is not wanted. Its first request after a
// pause is staggered: clients in step would leave gaps that prove nothing.
func (g *Generator) awaitLoad(ctx context.Context, i int) bool {
	for waited := false; ; waited = true {
		g.mu.Lock()
		wanted, changed := i < g.load, g.changed
		g.mu.Unlock()
		if ctx.Err() != nil {
			return false
		}
		if wanted {
			return !waited || pause(ctx, jitter(200*time.Millisecond))
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
		}
	}
}

// afterLoss keeps a client from losing thousands of requests in the second
// that a balancer is away: each client still notices, and keeps trying.
const afterLoss = 200 * time.Millisecond

func (g *Generator) finish(ctx context.Context, r Record) {
	if r.Lost() {
		g.lost.Add(1)
		if r.Outcome == Cut {
			g.cut.Add(1)
		}
		g.opts.Log.Warn("request lost", "id", r.ID, "kind", r.Kind, "method", r.Method, "reused", r.Reused,
			"after", r.Duration.Round(time.Millisecond), "server", r.Server, "outcome", string(r.Outcome), "problem", r.Problem)
	} else {
		g.ok.Add(1)
	}
	g.mu.Lock()
	g.records = append(g.records, r)
	g.mu.Unlock()
	if r.Lost() {
		pause(ctx, afterLoss)
	}
}

// pause waits and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// jitter spreads a mean over half to one and a half of it.
func jitter(mean time.Duration) time.Duration {
	return mean/2 + time.Duration(mathrand.Int64N(int64(mean)+1))
}

var errNotAnswer = errors.New("not the answer to this request")
