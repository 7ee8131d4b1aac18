// Package prometheus asks Prometheus, over its HTTP API, what scalehook must not
// take from a notification: the CPU readings of the VMs, and whether a scaling
// signal still fires. Both come with the time of the newest sample behind them, as
// recorded by the rules in the same evaluation, so that an answer is never younger
// than what it rests on. It changes nothing at Prometheus.
package prometheus

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Name is the name of the source in configuration, causes and metrics.
const Name = "prometheus"

// What is asked, all of it recorded by rules/scalehook.rules.yml.
const (
	readingRecord = "uuid:libvirt_domain_cpu_utilization:ratio"
	sampleRecord  = "uuid:libvirt_domain_cpu_sample_timestamp_seconds:max"
	groupRecord   = "group:scalehook_cpu_sample_timestamp_seconds:min"

	readingsQuery = `{__name__=~"` + readingRecord + `|` + sampleRecord + `"}`
	// timestamp() gives the evaluation at which the alert fired last. A recorded
	// signal that nobody evaluates any more grows old by it.
	confirmQuery = `timestamp(ALERTS{alertstate="firing", scalehook_signal=~"high|low", scaling_group!=""}) or ` + groupRecord
)

// Source is a Prometheus. It may be used by several goroutines at once.
type Source struct {
	cfg    Config
	client *http.Client
}

var (
	_ scaling.Meter     = (*Source)(nil)
	_ scaling.Confirmer = (*Source)(nil)
)

// New prepares a source and connects to nothing. Errors name what is wrong with the
// configuration, files of certificates included.
func New(cfg Config) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	client, err := promconfig.NewClientFromConfig(cfg.HTTPClient, "scalehook_prometheus", promconfig.WithUserAgent("scalehook"))
	if err != nil {
		return nil, fmt.Errorf("http_client: %w", err)
	}
	return &Source{cfg: cfg, client: client}, nil
}

// Close closes idle connections. Look-ups under way end by themselves.
func (s *Source) Close() { s.client.CloseIdleConnections() }

// Source returns Name.
func (s *Source) Source() string { return Name }

// Readings returns the reading of every VM that has one, by uuid. A reading whose
// newest sample is unknown or older than MaxAge is missing. It changes nothing, may
// be repeated, and blocks for at most Timeout or until ctx ends.
func (s *Source) Readings(ctx context.Context) (map[string]scaling.Reading, error) {
	got, err := s.query(ctx, readingsQuery)
	if err != nil {
		return nil, fmt.Errorf("look up the readings: %w", err)
	}
	times := map[string]time.Time{}
	for _, sample := range got.samples {
		if sample.Metric[model.MetricNameLabel] != sampleRecord {
			continue
		}
		if at, ok := seconds(sample.Value); ok {
			times[string(sample.Metric["uuid"])] = at
		}
	}
	readings := map[string]scaling.Reading{}
	for _, sample := range got.samples {
		uuid := string(sample.Metric["uuid"])
		value := float64(sample.Value)
		at, dated := times[uuid]
		if sample.Metric[model.MetricNameLabel] != readingRecord || uuid == "" || !dated ||
			math.IsNaN(value) || value < 0 || value > 1 || s.age(got.now, at) != nil {
			continue
		}
		readings[uuid] = scaling.Reading{Utilization: value, At: at}
	}
	return readings, nil
}

// Confirm returns the evidence for every signal that fires. Its time is that of the
// oldest reading behind the group's average, or of the evaluation if that is older.
// A signal that cannot be dated, or is older than MaxAge, is unreachable: it is
// known to have fired, and not known to fire. It changes nothing, may be repeated,
// and blocks for at most Timeout or until ctx ends.
func (s *Source) Confirm(ctx context.Context) ([]scaling.Evidence, error) {
	got, err := s.query(ctx, confirmQuery)
	if err != nil {
		return nil, fmt.Errorf("look up the signals: %w", err)
	}
	groups := map[string]time.Time{}
	for _, sample := range got.samples {
		if sample.Metric[model.MetricNameLabel] != groupRecord {
			continue
		}
		if at, ok := seconds(sample.Value); ok {
			groups[string(sample.Metric["scaling_group"])] = at
		}
	}
	best := map[key]scaling.Evidence{}
	for _, sample := range got.samples {
		if _, ok := sample.Metric[model.MetricNameLabel]; ok {
			continue
		}
		k := key{string(sample.Metric["scaling_group"]), scaling.Signal(sample.Metric["scalehook_signal"])}
		if k.group == "" || !k.signal.Valid() {
			continue
		}
		evidence := scaling.Evidence{Source: Name, Group: k.group, Signal: k.signal, State: scaling.EvidenceFiring, Fingerprint: fingerprint(sample.Metric)}
		evaluated, ok := seconds(sample.Value)
		read, dated := groups[k.group]
		switch {
		case !ok || !dated:
			evidence.State, evidence.Detail = scaling.EvidenceUnreachable, "the signal fires and no reading behind it has a time"
		default:
			evidence.At = read
			if evaluated.Before(read) {
				evidence.At = evaluated
			}
			if err := s.age(got.now, evidence.At); err != nil {
				evidence.State, evidence.Detail = scaling.EvidenceUnreachable, err.Error()
			}
		}
		// Several alerts may carry the same signal; the youngest proof is the best.
		if old, ok := best[k]; !ok || old.State != scaling.EvidenceFiring || evidence.State == scaling.EvidenceFiring && evidence.At.After(old.At) {
			best[k] = evidence
		}
	}
	all := make([]scaling.Evidence, 0, len(best))
	for _, evidence := range best {
		all = append(all, evidence)
	}
	slices.SortFunc(all, func(a, b scaling.Evidence) int {
		return strings.Compare(a.Group+"\x00"+string(a.Signal), b.Group+"\x00"+string(b.Signal))
	})
	return all, nil
}

type key struct {
	group  string
	signal scaling.Signal
}

// age says why a time cannot be evidence, by Prometheus's own clock.
func (s *Source) age(now, at time.Time) error {
	switch age := now.Sub(at); {
	case age > s.cfg.MaxAge:
		return fmt.Errorf("the newest sample behind it is %v old, more than %v", age.Round(time.Second), s.cfg.MaxAge)
	case age < -s.cfg.MaxClockSkew:
		return fmt.Errorf("the newest sample behind it is of a time %v ahead", -age.Round(time.Second))
	}
	return nil
}

// fingerprint is the one that Alertmanager computes for the alert, as long as
// Prometheus adds no external labels to it.
func fingerprint(metric model.Metric) string {
	labels := model.LabelSet{}
	for name, value := range metric {
		if name != "alertstate" {
			labels[name] = value
		}
	}
	return labels.Fingerprint().String()
}
