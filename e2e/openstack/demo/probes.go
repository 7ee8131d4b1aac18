package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/scalehook/scalehook/e2e/report"
)

// probeEvery is how often a new connection is opened, and so how finely a gap is
// measured. Each is on its own, whatever became of those before.
const probeEvery = 20 * time.Millisecond

// A connection has to be there within connectLimit: the kernel repeats a lost SYN
// after a second, and a client that waits so long has noticed the gap. The answer
// may take longer, since guests are emulated.
const (
	connectLimit = 900 * time.Millisecond
	answerLimit  = 4 * time.Second
)

// probe is one new connection with one request.
type probe struct {
	start  time.Time
	server string // who answered; empty: nobody
}

// probes opens new connections to one address all the time.
type probes struct {
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	target string
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	done []probe
}

func startProbes(target string, dial func(ctx context.Context, network, address string) (net.Conn, error)) *probes {
	ctx, cancel := context.WithCancel(context.Background())
	p := &probes{dial: dial, target: target, cancel: cancel}
	p.wg.Go(func() {
		tick := time.NewTicker(probeEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				p.wg.Go(func() { p.one(ctx) })
			}
		}
	})
	return p
}

func (p *probes) stop() {
	p.cancel()
	p.wg.Wait()
}

func (p *probes) one(ctx context.Context) {
	got := probe{start: time.Now()}
	server, err := p.ask(ctx)
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		got.server = server
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done = append(p.done, got)
}

// ask opens a connection and asks who is there.
func (p *probes) ask(ctx context.Context) (string, error) {
	cctx, cancel := context.WithTimeout(ctx, connectLimit)
	conn, err := p.dial(cctx, "tcp", p.target)
	cancel()
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(conn, "GET /echo HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if server := response.Header.Get("X-Guest"); server != "" {
		return server, nil
	}
	return "", errors.New("nobody's name in the answer: " + response.Status)
}

// hole is a time in which no new connection got an answer.
type hole struct {
	length time.Duration
	lost   int
}

// within returns the probes that began in a time, in order of their beginning.
func (p *probes) within(from, to time.Time) []probe {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []probe
	for _, one := range p.done {
		if one.start.After(from) && one.start.Before(to) {
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b probe) int { return a.start.Compare(b.start) })
	return out
}

// around is how far from a move a hole is the move's.
const around = 5 * time.Second

// gap returns when in a time the address first led to the new server, and the longest
// hole around that moment.
func (p *probes) gap(from, to time.Time, server string) (hole, time.Time, error) {
	all := p.within(from, to)
	at := slices.IndexFunc(all, func(one probe) bool { return one.server == server })
	if at < 0 {
		return hole{}, time.Time{}, fmt.Errorf("of %d new connections none was answered by %s", len(all), server)
	}
	moved := all[at].start
	longest, err := longestHole(slices.DeleteFunc(all, func(one probe) bool {
		return one.start.Before(moved.Add(-around)) || one.start.After(moved.Add(around))
	}))
	return longest, moved, err
}

// longestHole is from a probe that failed to the next one that did not. Probes at
// the end that have not ended yet do not count.
func longestHole(all []probe) (hole, error) {
	var longest hole
	for i := 0; i < len(all); {
		if all[i].server != "" {
			i++
			continue
		}
		end := i
		for end < len(all) && all[end].server == "" {
			end++
		}
		if end == len(all) {
			return longest, fmt.Errorf("the last %d of %d new connections got no answer", end-i, len(all))
		}
		if h := (hole{all[end].start.Sub(all[i].start), end - i}); h.length > longest.length {
			longest = h
		}
		i = end
	}
	return longest, nil
}

// settleTime is how long the new server has to be the only one that answers.
const settleTime = time.Second

// await waits until, for a while, every new connection was answered by the server.
func (p *probes) await(ctx context.Context, server string, begun time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		now := time.Now()
		last := p.within(now.Add(-settleTime-connectLimit), now)
		good := len(last) > 0 && now.Sub(begun) > settleTime+connectLimit
		for _, one := range last {
			good = good && one.server == server
		}
		if good {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the address does not lead to %s: %w", server, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// summarize tells the distribution of gaps and of the calls that made them.
func summarize(gaps, calls []time.Duration) *report.Moves {
	m := &report.Moves{Count: len(gaps)}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	for _, g := range gaps {
		m.Gaps = append(m.Gaps, ms(g))
	}
	slices.Sort(gaps)
	slices.Sort(calls)
	rank := func(d []time.Duration, p int) float64 { return ms(d[max(0, (len(d)*p+99)/100-1)]) } // nearest rank
	m.P50, m.P99, m.Max = rank(gaps, 50), rank(gaps, 99), ms(gaps[len(gaps)-1])
	m.Call = report.Latency{Count: len(calls), P50: rank(calls, 50), P99: rank(calls, 99)}
	return m
}
