package audit

import (
	"sync"
	"time"
)

// How many refusals are written: a few at once, and some for ever.
const (
	burstEach = 5
	everyEach = 10 * time.Second
	burstAll  = 50
	everyAll  = time.Second
	// mostSenders bounds what is remembered.
	mostSenders = 1000
)

// bucket holds what may still be written at once; one comes back every so often.
type bucket struct {
	left float64
	at   time.Time
}

func (b *bucket) fill(now time.Time, burst float64, every time.Duration) {
	if b.at.IsZero() {
		b.left = burst
	} else if past := now.Sub(b.at); past > 0 {
		b.left = min(burst, b.left+float64(past)/float64(every))
	}
	b.at = now
}

// limiter bounds the refusals for each sender and for all.
type limiter struct {
	mu        sync.Mutex
	senders   map[string]*bucket
	all       bucket
	unwritten uint64
}

func newLimiter() limiter { return limiter{senders: map[string]*bucket{}} }

// skipped notes refusals that were allowed and not written all the same.
func (l *limiter) skipped(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unwritten += n
}

// allow reports whether a refusal may be written, and how many before it were not.
func (l *limiter) allow(from string, now time.Time) (unwritten uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all.fill(now, burstAll, everyAll)
	b := l.senders[from]
	if b == nil {
		if len(l.senders) >= mostSenders {
			clear(l.senders) // those that come back are held by the bound of all
		}
		b = &bucket{}
		l.senders[from] = b
	}
	b.fill(now, burstEach, everyEach)
	if b.left < 1 || l.all.left < 1 {
		l.unwritten++
		return 0, false
	}
	b.left--
	l.all.left--
	unwritten, l.unwritten = l.unwritten, 0
	return unwritten, true
}
