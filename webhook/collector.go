package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/scalehook/scalehook/internal/scaling"
)

// collectTimeout bounds how long a scrape waits for the groups.
const collectTimeout = 5 * time.Second

// collector turns the groups as they are into series at every scrape, so that
// the series of what is gone are gone too, and puts them beside those of the
// registry. The scaling rules join on these.
type collector struct {
	viewer   scaling.Viewer
	metrics  *metrics
	registry prometheus.Gatherer
	log      *slog.Logger

	specs []spec
	names labelNames
	// The labels whose values are fixed, in order of the values.
	signals    []fixed[scaling.Signal]
	states     []fixed[scaling.InstanceState]
	statuses   []fixed[scaling.Status]
	activities []fixed[scaling.ActivityKind]
	actions    []fixed[scaling.Action]
	phases     []fixed[scaling.InstanceState]
	usual      []fateLabels
}

// labelNames are what pages point at.
type labelNames struct{ group, signal, state, status, result, activity, action, uuid, vm, provider, address, pool, phase string }

// fixed is a label with one of a few values, and which of them it is in the order
// that they were given in.
type fixed[T ~string] struct {
	is    T
	index int
	pair  *dto.LabelPair
}

func fix[T ~string](p *page, name *string, all []T) []fixed[T] {
	out := make([]fixed[T], len(all))
	for k, v := range all {
		out[k] = fixed[T]{v, k, p.pair(name, string(v))}
	}
	slices.SortFunc(out, func(a, b fixed[T]) int { return cmp.Compare(a.is, b.is) })
	return out
}

func newCollector(viewer scaling.Viewer, m *metrics, registry prometheus.Gatherer, log *slog.Logger) *collector {
	c := &collector{
		viewer: viewer, metrics: m, registry: registry, log: log, specs: specs(),
		names: labelNames{labelGroup, labelKind, labelState, labelStatus, labelResult, labelActivity, labelAction, labelUUID, labelVM, labelProvider, labelAddress, labelPool, labelPhase},
	}
	p := newPage()
	c.signals = fix(p, &c.names.signal, []scaling.Signal{scaling.High, scaling.Low})
	// What is gone is no instance any more and would be counted for ever.
	c.states = fix(p, &c.names.state, slices.DeleteFunc(scaling.InstanceStates(), func(s scaling.InstanceState) bool {
		return s == scaling.StateGone
	}))
	c.statuses = fix(p, &c.names.status, scaling.Statuses())
	c.activities = fix(p, &c.names.activity, scaling.ActivityKinds())
	c.actions = fix(p, &c.names.action, scaling.Actions())
	c.phases = fix(p, &c.names.phase, scaling.LaunchPhases())
	for _, f := range usual() {
		c.usual = append(c.usual, fateLabels{f, c.fatePairs(p, f)})
	}
	return c
}

// gathered is what a scrape found: the groups' rows, of which the families are
// made one after the other, and the families of everything else.
type gathered struct {
	rows []row
	rest []*dto.MetricFamily
	err  error
}

// gather looks at the groups and the registry. Without an answer about the groups
// there is an error and what there is beside them: the rules then know nothing of
// the groups, which is the truth.
func (c *collector) gather(ctx context.Context) gathered {
	var (
		rest    []*dto.MetricFamily
		restErr error
		both    sync.WaitGroup
	)
	both.Go(func() { rest, restErr = c.registry.Gather() })
	rows, err := c.rows(ctx)
	if err == nil {
		c.metrics.alerts.keep(rows)
	}
	both.Wait()
	return gathered{rows, rest, errors.Join(err, restErr)}
}

// all returns every family, by name.
func (c *collector) all(g gathered) ([]*dto.MetricFamily, error) {
	var own []*dto.MetricFamily
	for i := range c.specs {
		if made := c.family(&c.specs[i], g.rows); made != nil {
			own = append(own, made)
		}
	}
	families, err := merge(own, g.rest)
	return families, errors.Join(g.err, err)
}

// merge returns all families by name. A registry refuses a second family of the
// groups' names, so one is a mistake; the groups' own then stands.
func merge(own, rest []*dto.MetricFamily) ([]*dto.MetricFamily, error) {
	all := slices.Concat(own, rest)
	slices.SortStableFunc(all, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	var err error
	all = slices.CompactFunc(all, func(a, b *dto.MetricFamily) bool {
		same := a.GetName() == b.GetName()
		if same {
			err = errors.Join(err, fmt.Errorf("the family %s is in the registry too", a.GetName()))
		}
		return same
	})
	return all, err
}

// family makes one family of all rows; nil if it has no sample. A page of many
// groups is so never in memory as a whole.
func (c *collector) family(s *spec, rows []row) *dto.MetricFamily {
	p := newPage()
	p.counters = s.kind == dto.MetricType_COUNTER
	if s.beside != nil {
		s.beside(c, p)
	}
	for i := range rows {
		s.write(c, p, &rows[i])
	}
	if len(p.metrics) == 0 {
		return nil
	}
	return &dto.MetricFamily{Name: &s.name, Help: &s.help, Type: s.kind.Enum(), Metric: p.metrics}
}

// state returns the label of an instance's state.
func (c *collector) state(p *page, s scaling.InstanceState) *dto.LabelPair {
	for _, known := range c.states {
		if known.is == s {
			return known.pair
		}
	}
	return p.pair(&c.names.state, string(s))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time as Prometheus has it, 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
