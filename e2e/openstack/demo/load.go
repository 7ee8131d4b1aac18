package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/internal/api"
)

// busyClients keep two guests of one vCPU busy in a closed loop, and workUnits make
// a request cost the guest so much CPU under TCG that it is busy, however long the way.
const (
	busyClients = 6
	workUnits   = 60000
)

// load is the generator at work. Nil is none.
type load struct {
	gen    *loadgen.Generator
	cancel context.CancelFunc
	ended  chan struct{}
}

func startLoad(ctx context.Context, opts loadgen.Options) (*load, error) {
	gen, err := loadgen.New(opts)
	if err != nil {
		return nil, fmt.Errorf("load generator: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &load{gen: gen, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		gen.Run(ctx)
	}()
	return l, nil
}

func (l *load) busy(on bool) {
	if on {
		l.gen.SetLoad(busyClients)
		return
	}
	l.gen.SetLoad(0)
}

func (l *load) stop() {
	if l != nil {
		l.cancel()
		<-l.ended
	}
}

func (l *load) status() string {
	if l == nil {
		return "no load yet"
	}
	t := l.gen.Totals()
	return fmt.Sprintf("%d requests, %d lost, %d in flight", t.Sent, t.Lost, t.InFlight)
}

// bookLimit bounds the wait for the guests' last reports.
const bookLimit = 15 * time.Second

// judge ends the load, waits for what is in flight, and holds every request against
// the guests' own books.
func (w *world) judge(ctx context.Context, res *result, all []api.Activity) {
	l := w.load
	l.stop()
	cctx, cancel := context.WithTimeout(ctx, bookLimit)
	defer cancel()
	_ = w.collector.AwaitNoted(cctx, int(l.gen.Totals().OK)) // what is missing then is found by the comparison
	var changes []loadgen.Interval
	for _, a := range all {
		changes = append(changes, loadgen.Interval{Name: a.Kind, From: a.Created, To: a.Ended})
	}
	records := l.gen.Records()
	s := loadgen.Summarize(records, changes)
	c := l.gen.Compare(w.collector.Books())
	res.Requests = &requests{
		Sent: s.Sent, Answered: s.OK, Lost: s.Lost, Cut: s.Cut, PerVM: s.Servers, GuestsCounted: c.Noted,
		DuringChanges: milliseconds(s.During), Otherwise: milliseconds(s.Outside),
	}
	for _, r := range records {
		if r.Lost() && len(res.Requests.Examples) < 20 {
			res.Requests.Examples = append(res.Requests.Examples, fmt.Sprintf("%s %s %s %s after %s: %s: %s",
				r.Start.UTC().Format("15:04:05.000"), r.Method, r.Kind, r.Server, r.Duration.Round(time.Millisecond), r.Outcome, r.Problem))
		}
	}
	if crashes, err := w.cloud.SwitchCrashes(); err != nil || len(crashes) > 0 {
		res.note("the lab's network: %s %v", strings.Join(crashes, "; "), err)
	}
	if s.Sent == 0 {
		res.fail("no request was sent")
	}
	if s.Lost > 0 {
		res.fail("%d of %d requests were lost, the first: %s", s.Lost, s.Sent, res.Requests.Examples[0])
	}
	if err := c.Err(); err != nil {
		res.fail("%v", err)
	}
	w.load = nil
}

func milliseconds(l loadgen.Latencies) latency {
	return latency{Count: l.Count, P50: float64(l.P50.Microseconds()) / 1000, P99: float64(l.P99.Microseconds()) / 1000}
}
