// Package rules holds the Prometheus rules of scalehook: readings, the two
// scaling signals and alerts for people. One static file serves any number of
// groups, because thresholds and membership are series that scalehook exports.
// What depends on the intervals of the monitoring is rendered here; the file
// scalehook.rules.yml is the rendering for the defaults.
package rules

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"text/template"
	"time"

	"github.com/prometheus/common/model"
)

// RunbooksURL is where the alerts for people point at.
const RunbooksURL = "https://github.com/scalehook/scalehook/blob/main/docs/runbooks.md"

// Defaults and limits of the intervals.
const (
	DefaultScrapeInterval = 15 * time.Second

	// scrapesPerWindow makes three differences out of four samples. With fewer,
	// one lost scrape would leave a window without a rate.
	scrapesPerWindow = 4
	minInterval      = time.Second
	maxInterval      = time.Minute // two scrapes must fit into Prometheus's look-back of five minutes with room to spare

	// tickWindow is the least span over which an idle guest is expected to move its
	// counter: the kernel accounts in ticks of 10 ms, so over 4 s a guest that uses
	// 0.25 % of a core still shows.
	tickWindow = 5 * time.Second
)

//go:embed scalehook.rules.yml.tmpl
var rulesTemplate string

//go:embed scalehook.rules.yml
var defaultRules []byte

//go:embed compat.yml
var compatRules []byte

//go:embed guests.yml
var guestRules []byte

// Options are the intervals of the Prometheus that loads the rules. The zero
// value means the defaults.
type Options struct {
	// ScrapeInterval is that of scalehook-exporter's job; default 15 s, 1 s to 60 s.
	ScrapeInterval time.Duration
	// EvaluationInterval is how often the signals are evaluated; default the
	// scrape interval, since a faster evaluation sees no newer samples.
	EvaluationInterval time.Duration
	// RateWindow is the span of the CPU rate; default and least 4 × ScrapeInterval.
	// Scaling reacts in proportion to it, see Reaction.
	RateWindow time.Duration
}

// WithDefaults returns the options with every unset interval filled in.
func (o Options) WithDefaults() Options {
	if o.ScrapeInterval == 0 {
		o.ScrapeInterval = DefaultScrapeInterval
	}
	if o.EvaluationInterval == 0 {
		o.EvaluationInterval = o.ScrapeInterval
	}
	if o.RateWindow == 0 {
		o.RateWindow = scrapesPerWindow * o.ScrapeInterval
	}
	return o
}

// Validate reports, all together, what is wrong with the options after defaults.
func (o Options) Validate() error {
	o = o.WithDefaults()
	var errs []error
	for _, interval := range []struct {
		name  string
		value time.Duration
	}{{"scrape interval", o.ScrapeInterval}, {"evaluation interval", o.EvaluationInterval}} {
		if interval.value < minInterval || interval.value > maxInterval {
			errs = append(errs, fmt.Errorf("%s %v: use %v to %v", interval.name, interval.value, minInterval, maxInterval))
		}
		if interval.value%time.Millisecond != 0 {
			errs = append(errs, fmt.Errorf("%s %v: use whole milliseconds", interval.name, interval.value))
		}
	}
	if least := scrapesPerWindow * o.ScrapeInterval; o.RateWindow < least {
		errs = append(errs, fmt.Errorf("rate window %v: use at least %v, four scrapes, so that a lost scrape leaves a rate", o.RateWindow, least))
	}
	if o.RateWindow > time.Hour {
		errs = append(errs, fmt.Errorf("rate window %v: use at most %v", o.RateWindow, time.Hour))
	}
	if o.RateWindow%time.Millisecond != 0 {
		errs = append(errs, fmt.Errorf("rate window %v: use whole milliseconds", o.RateWindow))
	}
	return errors.Join(errs...)
}

// moved is the span within which a counter must have moved to be a reading. Two
// and a half scrapes hold at least two samples whatever the phase and a little
// lateness; at short intervals it is longer, up to the rate window, for guests
// that use less than a tick between two scrapes.
func (o Options) moved() time.Duration {
	return max(o.ScrapeInterval*5/2, min(o.RateWindow, tickWindow))
}

// first is the oldest part of the rate window, in which a sample must lie: until
// then a rate understates, because the window it is divided by is not filled. One
// and a half scrapes hold a sample whatever the phase.
func (o Options) first() time.Duration { return o.ScrapeInterval * 3 / 2 }

// lowFor is how long the low signal has to be pending. A guest that hangs between
// two scrapes looks idle from the next scrape, one interval later at most, until
// the movement window has passed it: for less than moved − scrape. Half a scrape
// is added for lateness.
func (o Options) lowFor() time.Duration { return o.moved() - o.ScrapeInterval/2 }

// Render returns the rule file for these intervals, byte for byte the same for
// the same options.
func Render(o Options) ([]byte, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("render the rules: %w", err)
	}
	o = o.WithDefaults()
	parsed, err := template.New("rules").Delims("<<", ">>").Option("missingkey=error").Parse(rulesTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse the rule template: %w", err)
	}
	people := max(o.EvaluationInterval, 30*time.Second)
	var out bytes.Buffer
	err = parsed.Execute(&out, map[string]string{
		"Scrape":      duration(o.ScrapeInterval),
		"Evaluation":  duration(o.EvaluationInterval),
		"Rate":        duration(o.RateWindow),
		"Shorter":     duration(o.RateWindow - o.ScrapeInterval),
		"Moved":       duration(o.moved()),
		"First":       duration(o.first()),
		"FirstOffset": duration(o.RateWindow - o.first()),
		"LowFor":      duration(o.lowFor()),
		"People":      duration(people),
		// Long enough for a newcomer to fill the window several times over.
		"MissingFor": duration(max(2*time.Minute, 2*o.RateWindow)),
		"Runbooks":   RunbooksURL,
	})
	if err != nil {
		return nil, fmt.Errorf("render the rules: %w", err)
	}
	return out.Bytes(), nil
}

// Default returns the committed rule file, which is Render of the zero Options.
func Default() []byte { return bytes.Clone(defaultRules) }

// Compat returns the rules that map other libvirt exporters' series to the ones
// that the rule file reads. They are loaded beside it, only where such an
// exporter is kept.
func Compat() []byte { return bytes.Clone(compatRules) }

// Guests returns the rules that make the series that the rule file reads out of
// node-exporter's inside the VMs. They are loaded beside it, where nobody can be
// asked for the hypervisors.
func Guests() []byte { return bytes.Clone(guestRules) }

// duration writes a time as Prometheus does: 1m, 37s500ms.
func duration(d time.Duration) string { return model.Duration(d).String() }
