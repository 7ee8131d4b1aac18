package rules_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/rules"
)

func TestTheDocumentedReactionIsWhatTheCodeYields(t *testing.T) {
	table, err := rules.ReactionTable()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"../docs/rules.md", "../README.md"} {
		if !strings.Contains(read(t, file), "\n\n"+table+"\n") {
			t.Errorf("%s should have this table:\n%s", strings.TrimPrefix(file, "../"), table)
		}
	}
}

func TestReactionIsThresholdTimesWindow(t *testing.T) {
	for _, test := range []struct {
		name    string
		options rules.Options
		step    rules.Step
		want    rules.Times
	}{
		{"high at 15 s", rules.Options{}, rules.HighStep(), rules.Times{Fastest: 31500 * time.Millisecond, Typical: 46500 * time.Millisecond, Slowest: 61500 * time.Millisecond}},
		{"a lower threshold is passed sooner", rules.Options{}, rules.Step{After: 1, Threshold: 0.2}, rules.Times{Fastest: 9 * time.Second, Typical: 24 * time.Second, Slowest: 39 * time.Second}},
		{"low waits for its hold", rules.Options{}, rules.Step{Before: 1, Threshold: 0.2}, rules.Times{Fastest: 66 * time.Second, Typical: 81 * time.Second, Slowest: 96 * time.Second}},
		{"a wider window is slower", rules.Options{RateWindow: 2 * time.Minute}, rules.HighStep(), rules.Times{Fastest: 73500 * time.Millisecond, Typical: 88500 * time.Millisecond, Slowest: 103500 * time.Millisecond}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := rules.Reaction(test.options, test.step)
			if err != nil {
				t.Fatal(err)
			}
			for _, pair := range [][2]time.Duration{{got.Fastest, test.want.Fastest}, {got.Typical, test.want.Typical}, {got.Slowest, test.want.Slowest}} {
				if (pair[0] - pair[1]).Abs() > time.Millisecond {
					t.Errorf("got %+v, want %+v", got, test.want)
				}
			}
		})
	}
	if _, err := rules.Reaction(rules.Options{}, rules.Step{Before: 0.1, After: 0.5, Threshold: 0.7}); err == nil {
		t.Error("a step below the threshold has a reaction time")
	}
	if _, err := rules.Reaction(rules.Options{RateWindow: time.Second}, rules.HighStep()); err == nil {
		t.Error("a window of one second was accepted")
	}
}

// rate is Prometheus's: the increase between the first and the last sample of the
// window, extrapolated to its edges where they are less than 1.1 samples away.
func rate(at, window float64, samples func(yield func(ts, value float64))) float64 {
	var n int
	var first, last, firstValue, lastValue float64
	samples(func(ts, value float64) {
		if ts <= at-window || ts > at {
			return
		}
		if n == 0 {
			first, firstValue = ts, value
		}
		last, lastValue = ts, value
		n++
	})
	if n < 2 {
		return math.NaN()
	}
	sampled := last - first
	gap := sampled / float64(n-1)
	reach := sampled
	for _, edge := range []float64{first - (at - window), at - last} {
		if edge < 1.1*gap {
			reach += edge
		} else {
			reach += gap / 2
		}
	}
	return (lastValue - firstValue) * reach / sampled / window
}

// TestReactionHoldsForEveryPhase replays steps at random phases of scrape and
// evaluation through Prometheus's own arithmetic.
func TestReactionHoldsForEveryPhase(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, test := range []struct {
		name    string
		step    rules.Step
		pending map[float64]float64 // the "for" of the rule by scrape interval
	}{
		{"high", rules.HighStep(), map[float64]float64{}},
		{"low", rules.LowStep(), map[float64]float64{1: 3.5, 5: 10, 15: 30, 60: 120}},
	} {
		for _, interval := range []float64{1, 5, 15, 60} {
			times, err := rules.Reaction(rules.Options{ScrapeInterval: time.Duration(interval) * time.Second}, test.step)
			if err != nil {
				t.Fatal(err)
			}
			least, most := math.Inf(1), 0.0
			for range 2000 {
				scrapePhase, evalPhase := random.Float64()*interval, random.Float64()*interval
				samples := func(yield func(ts, value float64)) {
					for ts := scrapePhase - 10*interval; ts < 20*interval; ts += interval {
						use := test.step.Before
						if ts > 0 {
							use = test.step.After
						}
						yield(ts, 1e6+use*ts) // the load changes at 0
					}
				}
				since := math.NaN()
				for at := evalPhase; ; at += interval {
					reading := rate(at, 4*interval, samples)
					crossed := reading > test.step.Threshold
					if test.step.After < test.step.Before {
						crossed = reading < test.step.Threshold
					}
					if crossed && math.IsNaN(since) {
						since = at
					}
					if crossed && at-since >= test.pending[interval]-1e-9 {
						least, most = math.Min(least, at), math.Max(most, at)
						break
					}
				}
			}
			fastest, slowest := times.Fastest.Seconds(), times.Slowest.Seconds()
			if least < fastest-0.001 || most > slowest+0.001 {
				t.Errorf("%s at %v s: fired after %.2f to %.2f s, stated %.2f to %.2f s", test.name, interval, least, most, fastest, slowest)
			}
			if least > fastest+interval/4 || most < slowest-interval/4 {
				t.Errorf("%s at %v s: the stated %.2f to %.2f s is wider than the %.2f to %.2f s that happen", test.name, interval, fastest, slowest, least, most)
			}
		}
	}
}
