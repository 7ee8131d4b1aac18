package loadgen

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/e2e/guest"
)

// Interval is a span of time in which something changed.
type Interval struct {
	Name     string
	From, To time.Time
}

// Latencies describe a set of answered requests. The sleep that a request
// asked for is not part of its latency.
type Latencies struct {
	Count int           `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	Max   time.Duration `json:"max_ns"`
}

// Summary is the account of a set of requests.
type Summary struct {
	Sent    int             `json:"sent"`
	OK      int             `json:"ok"`
	Lost    int             `json:"lost"`
	Cut     int             `json:"cut"` // part of Lost: the time limit came first
	ByKind  map[string]int  `json:"by_kind"`
	Servers map[string]int  `json:"servers"` // answered, by guest
	Ended   map[Outcome]int `json:"outcomes"`
	During  Latencies       `json:"during"`  // requests that overlap an interval
	Outside Latencies       `json:"outside"` // the others
}

// Summarize accounts for records. A request belongs to an interval when any
// part of it was in flight then.
func Summarize(records []Record, intervals []Interval) Summary {
	s := Summary{Sent: len(records), ByKind: map[string]int{}, Servers: map[string]int{}, Ended: map[Outcome]int{}}
	var during, outside []time.Duration
	for _, r := range records {
		s.ByKind[r.Kind]++
		s.Ended[r.Outcome]++
		if r.Lost() {
			s.Lost++
			if r.Outcome == Cut {
				s.Cut++
			}
			continue
		}
		s.OK++
		s.Servers[r.Server]++
		overlaps := slices.ContainsFunc(intervals, func(i Interval) bool {
			return r.Start.Before(i.To) && r.Start.Add(r.Duration).After(i.From)
		})
		if overlaps {
			during = append(during, r.Latency())
		} else {
			outside = append(outside, r.Latency())
		}
	}
	s.During, s.Outside = latencies(during), latencies(outside)
	return s
}

func latencies(d []time.Duration) Latencies {
	if len(d) == 0 {
		return Latencies{}
	}
	slices.Sort(d)
	rank := func(p int) time.Duration { return d[max(0, (len(d)*p+99)/100-1)] } // nearest rank
	return Latencies{Count: len(d), P50: rank(50), P99: rank(99), Max: d[len(d)-1]}
}

// Comparison holds what client and guests do not agree on.
type Comparison struct {
	OK    int `json:"ok"`    // answers the client accepted
	Noted int `json:"noted"` // answers the guests wrote down, of this client

	// Missing were accepted, but no guest wrote them down.
	Missing []string `json:"missing,omitempty"`
	// Twice were answered more than once: something repeated them.
	Twice []string `json:"twice,omitempty"`
	// Elsewhere were answered by another guest than the answer says.
	Elsewhere []string `json:"elsewhere,omitempty"`
	// Unaccepted were answered by a guest, but the client has no good answer.
	Unaccepted []string `json:"unaccepted,omitempty"`
	// Unfinished are guests, host and boot, whose book was not closed by a
	// final report: they run still, or were cut off.
	Unfinished []string `json:"unfinished,omitempty"`
}

// Compare holds the client's records against the guests' own books. Records of
// other clients in the books are ignored. Call it after Run has returned and
// the guests have reported (guest.Collector.AwaitNoted): before, what is in
// flight shows as a difference.
func (g *Generator) Compare(books []guest.Book) Comparison {
	return compare(g.runID, g.Records(), books)
}

func compare(runID string, records []Record, books []guest.Book) Comparison {
	var c Comparison
	by := map[string][]string{} // id → hosts that answered it
	for _, b := range books {
		if !b.Final {
			c.Unfinished = append(c.Unfinished, b.Host+" "+b.Boot)
		}
		for _, r := range b.Records {
			if strings.HasPrefix(r.ID, runID+"-") {
				c.Noted++
				by[r.ID] = append(by[r.ID], b.Host)
			}
		}
	}
	for _, r := range records {
		hosts := by[r.ID]
		if len(hosts) > 1 {
			c.Twice = append(c.Twice, r.ID)
		}
		switch {
		case r.Lost():
		case len(hosts) == 0:
			c.Missing = append(c.Missing, r.ID)
		case !slices.Contains(hosts, r.Server):
			c.Elsewhere = append(c.Elsewhere, r.ID)
		}
		if !r.Lost() {
			c.OK++
			delete(by, r.ID)
		}
	}
	for id := range by {
		c.Unaccepted = append(c.Unaccepted, id)
	}
	slices.Sort(c.Unaccepted)
	return c
}

// Err says what client and guests do not agree on, or nil. Unfinished guests
// alone are no error: what they answered and was accepted is in their books.
func (c Comparison) Err() error {
	var problems []string
	for _, p := range []struct {
		what string
		ids  []string
	}{
		{"accepted by the client but unknown to the guests", c.Missing},
		{"answered more than once", c.Twice},
		{"answered by another guest than the answer says", c.Elsewhere},
		{"answered by a guest but not accepted by the client", c.Unaccepted},
	} {
		if len(p.ids) > 0 {
			problems = append(problems, fmt.Sprintf("%d requests were %s (first: %s)", len(p.ids), p.what, p.ids[0]))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("client and guests disagree: %s", strings.Join(problems, "; "))
}
