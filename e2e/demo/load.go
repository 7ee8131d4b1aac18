package main

import (
	"context"
	"fmt"
	"time"

	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/internal/api"
)

// busyClients keep guests of one vCPU busy in a closed loop: enough for three of
// them, few enough for two cores.
const busyClients = 6

// workUnits makes a busy request cost the guest some 50 ms of CPU under TCG, so
// that the guests are what is busy and not the balancer and the load generator.
const workUnits = 20000

// load is the generator at work.
type load struct {
	gen    *loadgen.Generator
	cancel context.CancelFunc
	ended  chan struct{}
}

// startLoad begins to send through HAProxy; it does not stop before the end of
// the scenario, whatever happens to the VMs.
func (w *world) startLoad(ctx context.Context, res *result) error {
	gen, err := loadgen.New(loadgen.Options{Target: haproxyAddr, Dial: w.lab.DialContext, WorkUnits: workUnits})
	if err != nil {
		return fmt.Errorf("load generator: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	w.load = &load{gen: gen, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(w.load.ended)
		gen.Run(ctx)
	}()
	return w.startFault(ctx, res)
}

// busy switches between the load that keeps the guests' CPUs busy and the light
// one that goes on all the time.
func (l *load) busy(on bool) {
	if on {
		l.gen.SetLoad(busyClients)
		return
	}
	l.gen.SetLoad(0)
}

func (l *load) stop() {
	l.cancel()
	<-l.ended
}

func (l *load) status() string {
	if l == nil {
		return "no load yet"
	}
	t := l.gen.Totals()
	return fmt.Sprintf("%d requests, %d lost, %d in flight", t.Sent, t.Lost, t.InFlight)
}

func (l *load) lost() int64 {
	if l == nil {
		return 0
	}
	return l.gen.Totals().Lost
}

// bookLimit bounds the wait for the guests' last reports.
const bookLimit = 15 * time.Second

// judge stops the load, waits for what is in flight, and holds every request
// against the guests' own books.
func (l *load) judge(ctx context.Context, w *world, res *result) {
	l.stop()
	t := l.gen.Totals()
	cctx, cancel := context.WithTimeout(ctx, bookLimit)
	defer cancel()
	_ = w.lab.Collector().AwaitNoted(cctx, int(t.OK)) // what is missing then is found by the comparison

	var changes []loadgen.Interval
	if all, err := w.activities(ctx); err == nil {
		changes = intervals(all)
	}
	records := l.gen.Records()
	s := loadgen.Summarize(records, changes)
	c := l.gen.Compare(w.lab.Collector().Books())
	res.Requests = requests{
		Sent: s.Sent, Answered: s.OK, Lost: s.Lost, Cut: s.Cut, PerVM: s.Servers, GuestsCounted: c.Noted,
		DuringChanges: milliseconds(s.During), Otherwise: milliseconds(s.Outside),
	}
	for _, r := range records {
		if r.Lost() && len(res.Requests.Examples) < 20 {
			res.Requests.Examples = append(res.Requests.Examples, fmt.Sprintf("%s %s %s after %s: %s: %s",
				r.Start.UTC().Format("15:04:05.000"), r.Method, r.Kind, r.Duration.Round(time.Millisecond), r.Outcome, r.Problem))
		}
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
}

func milliseconds(l loadgen.Latencies) latency {
	return latency{Count: l.Count, P50: float64(l.P50.Microseconds()) / 1000, P99: float64(l.P99.Microseconds()) / 1000}
}

// intervals are the times in which an activity was under way.
func intervals(all []api.Activity) []loadgen.Interval {
	var out []loadgen.Interval
	for _, a := range all {
		to := a.Ended
		if to.IsZero() {
			to = time.Now()
		}
		out = append(out, loadgen.Interval{Name: a.Kind, From: a.Created, To: to})
	}
	return out
}
