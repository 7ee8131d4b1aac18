package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// CollectorPort is where the guests look for the collector, on the address of
// their DHCP server.
const CollectorPort = 9099

// Record notes one request that a guest answered.
type Record struct {
	ID   string `json:"id"`
	Kind string `json:"kind"` // work, sleep or echo
}

// Counts is what one run of a guest received and answered, by kind. A kind's
// difference is what was in flight, or was cut when the guest went away.
type Counts struct {
	Host       string           `json:"host"`
	InstanceID string           `json:"instance_id"`
	Boot       string           `json:"boot"` // differs for every start of the guest
	Received   map[string]int64 `json:"received"`
	Answered   map[string]int64 `json:"answered"`
	Noted      int              `json:"noted"` // answered requests that carried an id
}

// Report is what a guest sends: its counts and the records from number From on.
type Report struct {
	Counts
	From    int      `json:"from"`
	Records []Record `json:"records"`
	Final   bool     `json:"final"` // nothing will be answered after this report
}

// Book is what the collector knows of one run of a guest.
type Book struct {
	Counts
	Records []Record
	Final   bool      // the guest stopped in order and reported everything
	Last    time.Time // when it last reported
}

// Collector receives the guests' reports and keeps them when the guests are
// gone. The zero value is not usable; use NewCollector. Safe for concurrent use.
type Collector struct {
	mu    sync.Mutex
	books map[string]*Book // by boot
}

// NewCollector returns an empty collector.
func NewCollector() *Collector { return &Collector{books: map[string]*Book{}} }

// ServeHTTP takes a Report and answers the number of the next record wanted,
// so that a report that is repeated or lost does no harm.
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var rep Report
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<20)).Decode(&rep); err != nil || rep.Boot == "" || rep.From < 0 {
		http.Error(w, "not a report", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, "{\"next\":%d}\n", c.take(rep))
}

func (c *Collector) take(rep Report) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.books[rep.Boot]
	if b == nil {
		b = &Book{}
		c.books[rep.Boot] = b
	}
	have := len(b.Records)
	if rep.From <= have && rep.From+len(rep.Records) >= have {
		b.Records = append(b.Records, rep.Records[have-rep.From:]...)
		b.Counts, b.Last = rep.Counts, time.Now()
		b.Final = b.Final || rep.Final
	}
	return len(b.Records)
}

// Books returns a copy of all that is known, ordered by host and boot.
func (c *Collector) Books() []Book {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Book, 0, len(c.books))
	for _, b := range c.books {
		cp := *b
		cp.Records = slices.Clone(b.Records)
		cp.Received, cp.Answered = maps.Clone(b.Received), maps.Clone(b.Answered)
		out = append(out, cp)
	}
	slices.SortFunc(out, func(a, b Book) int { return strings.Compare(a.Host+"\x00"+a.Boot, b.Host+"\x00"+b.Boot) })
	return out
}

// AwaitFinal waits until host has sent its final report, or ctx ends: then the
// error says what is known of it. A guest that was cut off never sends one.
func (c *Collector) AwaitFinal(ctx context.Context, host string) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var seen bool
		for _, b := range c.Books() {
			if b.Host != host {
				continue
			}
			seen = true
			if b.Final {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the final report of guest %s (has reported before: %t): %w", host, seen, context.Cause(ctx))
		}
	}
}

// AwaitNoted waits until the guests have reported at least n answered requests
// in total, or ctx ends.
func (c *Collector) AwaitNoted(ctx context.Context, n int) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		have := c.noted()
		if have >= n {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %d reported requests, have %d: %w", n, have, context.Cause(ctx))
		}
	}
}

func (c *Collector) noted() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, b := range c.books {
		n += len(b.Records)
	}
	return n
}
