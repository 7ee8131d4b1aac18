package rules

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Step is a load that changes at once and stays: the worst case that can be
// stated exactly. All values are ratios of the vCPUs, 0..1.
type Step struct {
	Before, After, Threshold float64
}

// Times is how long after a step a signal fires in Prometheus, if every scrape
// and evaluation is on time. What comes after it, the way through Alertmanager
// and the provider, is not in it.
type Times struct {
	Fastest, Typical, Slowest time.Duration
}

// HighStep is the step of the published table: idle to all vCPUs busy, against the
// high threshold of 70 %.
func HighStep() Step { return Step{Before: 0, After: 1, Threshold: 0.7} }

// LowStep is its counterpart: all busy to idle, against a low threshold of 20 %.
func LowStep() Step { return Step{Before: 1, After: 0.02, Threshold: 0.2} }

// Reaction returns how long the rules take to fire after a step.
//
// A rate over a window with n samples is the difference between the first and the
// last, n−1 scrapes apart. After a step the share of that span with the new load
// grows with each scrape, so the reading passes the threshold at the first scrape
// that is (threshold − before) / (after − before) of the span after the step: this
// is what bounds the reaction, threshold × rate window. The phases of scrape and
// evaluation add between nothing and one interval each. The low signal then has
// to stand for its "for", and is seen at an evaluation again.
func Reaction(o Options, s Step) (Times, error) {
	if err := o.Validate(); err != nil {
		return Times{}, err
	}
	o = o.WithDefaults()
	rising := s.After > s.Before
	if (rising && (s.Threshold < s.Before || s.Threshold >= s.After)) || (!rising && (s.Threshold > s.Before || s.Threshold <= s.After)) {
		return Times{}, errors.New("the step does not cross the threshold")
	}
	samples := int64(o.RateWindow / o.ScrapeInterval)
	span := time.Duration(samples-1) * o.ScrapeInterval
	share := (s.Threshold - s.Before) / (s.After - s.Before)
	fastest := time.Duration(share * float64(span))
	slowest := fastest + o.ScrapeInterval + o.EvaluationInterval
	if rest := o.RateWindow % o.ScrapeInterval; rest > 0 {
		slowest += time.Duration(share * float64(o.ScrapeInterval)) // now and then one sample more fits in
	}
	if !rising {
		pending := (o.lowFor() + o.EvaluationInterval - 1) / o.EvaluationInterval * o.EvaluationInterval
		fastest += pending
		slowest += pending
	}
	return Times{Fastest: fastest, Typical: (fastest + slowest) / 2, Slowest: slowest}, nil
}

// The defaults of a group's cooldown and warm-up, which the table is for.
const (
	tableCooldown = time.Minute
	tableWarmUp   = 30 * time.Second
)

// Settle returns how far evidence must lie past the end of an action before it can
// prove the next step, for a group with the default cooldown and warm-up: until
// then a reading still holds samples of the time before the action, or of a
// newcomer that is not warm. It is the server's bound, stated again for the table.
func Settle(o Options) time.Duration {
	o = o.WithDefaults()
	return max(tableCooldown, tableWarmUp+o.RateWindow+2*o.ScrapeInterval+o.EvaluationInterval)
}

// ReactionTable returns the table of README and docs/rules.md: what to expect at
// the usual scrape intervals, for the first step and from the end of one step to
// the evidence for the next, beside a script that reads N VMs one after the other
// for a second each and then sleeps for three: it decides once in N + 3 s.
func ReactionTable() (string, error) {
	var b strings.Builder
	b.WriteString("| scrape interval | rate window | high: fastest | typical | slowest | low: fastest | typical | slowest | each further step, after the last |\n")
	b.WriteString("|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, interval := range []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, time.Minute} {
		o := Options{ScrapeInterval: interval}.WithDefaults()
		high, err := Reaction(o, HighStep())
		if err != nil {
			return "", err
		}
		low, err := Reaction(o, LowStep())
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", duration(interval), duration(o.RateWindow),
			seconds(high.Fastest), seconds(high.Typical), seconds(high.Slowest),
			seconds(low.Fastest), seconds(low.Typical), seconds(low.Slowest), seconds(Settle(o)))
	}
	b.WriteString("| a script's loop over N VMs | 1 s | | | N + 3 s | | | N + 3 s | N + 3 s |\n")
	return b.String(), nil
}

func seconds(d time.Duration) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", d.Seconds()), ".0") + " s"
}
