package top

import (
	"time"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/words"
)

// kept is how many samples of a group are kept; no terminal is much wider.
const kept = 400

// sample is the average CPU of a group at one answer of the server.
type sample struct {
	at    time.Time
	value float64
	ok    bool // false: no answer, or no reading
}

// history is what was seen of every group since the program began.
type history map[string][]sample

// add notes an answer; groups that are not in it any more are forgotten.
func (h history) add(groups []api.Group, at time.Time) {
	seen := make(map[string]bool, len(groups))
	for _, g := range groups {
		seen[g.Name] = true
		mean, n, _ := words.Average(g)
		h[g.Name] = trim(append(h[g.Name], sample{at, mean, n > 0}))
	}
	for name := range h {
		if !seen[name] {
			delete(h, name)
		}
	}
}

// gap notes that no answer came, once however long that lasts.
func (h history) gap(at time.Time) {
	for name, s := range h {
		if n := len(s); n > 0 && s[n-1].ok {
			h[name] = trim(append(s, sample{at: at}))
		}
	}
}

func trim(s []sample) []sample {
	if len(s) <= kept {
		return s
	}
	return s[:copy(s, s[len(s)-kept:])]
}

// last returns the newest n.
func last[T any](s []T, n int) []T { return s[max(0, len(s)-max(n, 0)):] }
