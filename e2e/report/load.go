package report

import (
	"context"
	"fmt"
	"time"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/internal/api"
)

// Requests is what the load generator and the guests counted.
type Requests struct {
	Sent     int `json:"sent"`
	Answered int `json:"answered"`
	// Lost had no complete, expected answer on the first transmission; Cut are
	// those of them that a deadline ended.
	Lost int `json:"lost"`
	Cut  int `json:"cut_by_deadline"`
	// DuringChanges and Otherwise are of requests that overlapped a change of the
	// pool and of the others.
	DuringChanges Latency        `json:"during_changes_ms"`
	Otherwise     Latency        `json:"otherwise_ms"`
	PerVM         map[string]int `json:"per_vm"`
	// GuestsCounted is how many answers the guests have in their own books.
	GuestsCounted int      `json:"guests_counted"`
	Examples      []string `json:"lost_examples,omitempty"`
}

// Latency is in milliseconds.
type Latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

// Load is a generator at work. Nil is none.
type Load struct {
	*loadgen.Generator

	cancel context.CancelFunc
	ended  chan struct{}
}

// StartLoad begins to send; it does not stop before Stop, whatever happens to the VMs.
func StartLoad(ctx context.Context, opts loadgen.Options) (*Load, error) {
	gen, err := loadgen.New(opts)
	if err != nil {
		return nil, fmt.Errorf("load generator: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{Generator: gen, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		gen.Run(ctx)
	}()
	return l, nil
}

// Stop ends the load and waits for what is in flight.
func (l *Load) Stop() {
	if l != nil {
		l.cancel()
		<-l.ended
	}
}

// Cancel ends the load and waits for nothing.
func (l *Load) Cancel() {
	if l != nil {
		l.cancel()
	}
}

// Lost is how many requests are lost so far.
func (l *Load) Lost() int64 {
	if l == nil {
		return 0
	}
	return l.Totals().Lost
}

// Status tells the counts so far.
func (l *Load) Status() string {
	if l == nil {
		return "no load yet"
	}
	t := l.Totals()
	return fmt.Sprintf("%d requests, %d lost, %d in flight", t.Sent, t.Lost, t.InFlight)
}

// bookLimit bounds the wait for the guests' last reports.
const bookLimit = 15 * time.Second

// Judge stops the load and holds every request against the guests' own books.
func (s *Scenario) Judge(ctx context.Context, l *Load, guests *guest.Collector, all []api.Activity) {
	l.Stop()
	ctx, cancel := context.WithTimeout(ctx, bookLimit)
	defer cancel()
	_ = guests.AwaitNoted(ctx, int(l.Totals().OK)) // what is missing then is found by the comparison

	records := l.Records()
	sum := loadgen.Summarize(records, intervals(all))
	c := l.Compare(guests.Books())
	s.Requests = &Requests{
		Sent: sum.Sent, Answered: sum.OK, Lost: sum.Lost, Cut: sum.Cut, PerVM: sum.Servers, GuestsCounted: c.Noted,
		DuringChanges: milliseconds(sum.During), Otherwise: milliseconds(sum.Outside),
	}
	for _, r := range records {
		if r.Lost() && len(s.Requests.Examples) < 20 {
			s.Requests.Examples = append(s.Requests.Examples, fmt.Sprintf("%s %s %s %s after %s: %s: %s",
				r.Start.UTC().Format("15:04:05.000"), r.Method, r.Kind, r.Server, r.Duration.Round(time.Millisecond), r.Outcome, r.Problem))
		}
	}
	if sum.Sent == 0 {
		s.Fail("no request was sent")
	}
	if sum.Lost > 0 {
		s.Fail("%d of %d requests were lost, the first: %s", sum.Lost, sum.Sent, s.Requests.Examples[0])
	}
	if err := c.Err(); err != nil {
		s.Fail("%v", err)
	}
}

func milliseconds(l loadgen.Latencies) Latency {
	return Latency{Count: l.Count, P50: float64(l.P50.Microseconds()) / 1000, P99: float64(l.P99.Microseconds()) / 1000}
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
