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
	alerts   *prometheus.Registry // of the metrics that follow the groups
	log      *slog.Logger

	specs [familyCount]spec
	names labelNames
	// The labels whose values are fixed, in order of the values.
	signals  []fixed[scaling.Signal]
	states   []fixed[scaling.InstanceState]
	statuses []fixed[scaling.Status]

	mu    sync.Mutex
	known map[string]bool // groups of the last scrape
}

// labelNames are what pages point at.
type labelNames struct{ group, signal, state, status, uuid, vm, provider, address, pool string }

// fixed is a label with one of a few values.
type fixed[T ~string] struct {
	is   T
	pair *dto.LabelPair
}

func fix[T ~string](p *page, name *string, all []T) []fixed[T] {
	var out []fixed[T]
	for _, v := range slices.Sorted(slices.Values(all)) {
		out = append(out, fixed[T]{v, p.pair(name, string(v))})
	}
	return out
}

func newCollector(viewer scaling.Viewer, m *metrics, registry prometheus.Gatherer, log *slog.Logger) *collector {
	c := &collector{
		viewer: viewer, metrics: m, registry: registry, alerts: prometheus.NewRegistry(), log: log,
		specs: specs(), known: map[string]bool{},
		names: labelNames{labelGroup, labelKind, labelState, labelStatus, labelUUID, labelVM, labelProvider, labelAddress, labelPool},
	}
	c.alerts.MustRegister(m.alerts)
	p := newPage()
	c.signals = fix(p, &c.names.signal, []scaling.Signal{scaling.High, scaling.Low})
	// What is gone is no instance any more and would be counted for ever.
	c.states = fix(p, &c.names.state, slices.DeleteFunc(scaling.InstanceStates(), func(s scaling.InstanceState) bool {
		return s == scaling.StateGone
	}))
	c.statuses = fix(p, &c.names.status, scaling.Statuses())
	return c
}

// gather returns the groups' families and the registry's, by name. Without an
// answer about the groups it returns an error and what there is beside them:
// the rules then know nothing of the groups, which is the truth.
func (c *collector) gather(ctx context.Context) ([]*dto.MetricFamily, error) {
	var (
		rest    []*dto.MetricFamily
		restErr error
		both    sync.WaitGroup
	)
	both.Go(func() { rest, restErr = c.registry.Gather() })
	own, err := c.groups(ctx)
	both.Wait()
	families, mergeErr := merge(own, rest)
	return families, errors.Join(err, restErr, mergeErr)
}

// groups returns the groups' families and the counters of alerts.
func (c *collector) groups(ctx context.Context) ([]*dto.MetricFamily, error) {
	views, err := c.views(ctx)
	if err == nil {
		c.remember(views)
	}
	own := c.page(views).families(&c.specs)
	alerts, alertsErr := c.alerts.Gather()
	return append(own, alerts...), errors.Join(err, alertsErr)
}

// views asks for the groups once. A panic is an error: it must not stop the process.
func (c *collector) views(ctx context.Context) (views []scaling.GroupView, err error) {
	defer func() {
		if v := recover(); v != nil {
			views, err = nil, fmt.Errorf("look up the groups: panic: %v", v)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, collectTimeout, fmt.Errorf("no answer within %s", collectTimeout))
	defer cancel()
	if views, err = c.viewer.Groups(ctx); err != nil {
		return nil, fmt.Errorf("look up the groups: %w", err)
	}
	return views, nil
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

// remember makes the counters of new groups exist and drops those of gone ones.
func (c *collector) remember(views []scaling.GroupView) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := make(map[string]bool, len(views))
	for i := range views {
		name := views[i].Group.Name
		now[name] = true
		if !c.known[name] {
			c.metrics.touch(name)
		}
	}
	for name := range c.known {
		if !now[name] {
			c.metrics.forget(name)
		}
	}
	c.known = now
}

// page writes all groups, by name, and the instances of each by UUID.
func (c *collector) page(views []scaling.GroupView) *page {
	p := newPage()
	order := make([]*scaling.GroupView, len(views))
	members := 0
	for i := range views {
		order[i] = &views[i]
		members += len(views[i].Instances)
	}
	slices.SortStableFunc(order, func(a, b *scaling.GroupView) int { return cmp.Compare(a.Group.Name, b.Group.Name) })
	c.reserve(p, len(views), members)
	var last string
	for i, v := range order {
		name := valid(v.Group.Name)
		if i > 0 && name == last {
			c.log.Warn("two groups have the same name", "scaling_group", name)
			continue
		}
		last = name
		group := p.pair(&c.names.group, name)
		c.group(p, group, v)
		c.members(p, group, v)
	}
	return p
}

// reserve makes room for the families that every group or instance is in.
func (c *collector) reserve(p *page, groups, members int) {
	for _, f := range []family{familyCooldown, familyHigh, familyLow, familyDesired, familyMaximum, familyMinimum, familyNotified} {
		p.reserve(f, groups)
	}
	p.reserve(familyConditionActive, groups*len(c.signals))
	p.reserve(familyInstances, groups*len(c.states))
	p.reserve(familyStatus, groups*len(c.statuses))
	for f := familyInstanceCreated; f <= familyMemberState; f++ {
		p.reserve(f, members)
	}
}

func (c *collector) group(p *page, group *dto.LabelPair, v *scaling.GroupView) {
	l := p.labels(group)
	p.add(familyHigh, l, v.Group.High)
	p.add(familyLow, l, v.Group.Low)
	p.add(familyDesired, l, float64(v.State.Desired))
	p.add(familyMinimum, l, float64(v.Group.Min))
	p.add(familyMaximum, l, float64(v.Group.Max))
	p.add(familyCooldown, l, seconds(v.State.CooldownUntil))
	p.add(familyNotified, l, seconds(v.State.LastNotification))

	for _, s := range c.states {
		n := 0
		for i := range v.Instances {
			if v.Instances[i].State == s.is {
				n++
			}
		}
		p.add(familyInstances, p.labels(group, s.pair), float64(n))
	}
	for _, s := range c.statuses {
		p.add(familyStatus, p.labels(group, s.pair), truth(slices.Contains(v.Statuses, s.is)))
	}
	for _, s := range c.signals {
		c.signal(p, p.labels(group, s.pair), v, s.is)
	}
}

func (c *collector) signal(p *page, l labels, v *scaling.GroupView, signal scaling.Signal) {
	var newest time.Time
	for _, e := range v.Evidence {
		if e.Signal == signal && e.At.After(newest) {
			newest = e.At
		}
	}
	if !newest.IsZero() {
		p.add(familyEvidence, l, seconds(newest))
	}
	var standing scaling.Condition
	for _, cond := range v.Conditions {
		if cond.Signal == signal {
			standing = cond
		}
	}
	p.add(familyConditionActive, l, truth(standing.Standing))
	if standing.Standing {
		p.add(familyConditionExpiry, l, seconds(standing.Expires))
	}
}

// members writes the series that carry a uuid. One VM in two records (adopted
// twice, say) must not make the whole scrape fail, so a uuid is written once.
func (c *collector) members(p *page, group *dto.LabelPair, v *scaling.GroupView) {
	order := make([]*scaling.InstanceView, 0, len(v.Instances))
	for i := range v.Instances {
		if x := &v.Instances[i]; x.UUID != "" && x.State != scaling.StateGone {
			order = append(order, x)
		}
	}
	slices.SortStableFunc(order, func(a, b *scaling.InstanceView) int { return cmp.Compare(valid(a.UUID), valid(b.UUID)) })
	provider := p.pair(&c.names.provider, v.Group.Provider)
	pool := p.pair(&c.names.pool, v.Group.Balancer)
	var last string
	for n, i := range order {
		uuid := p.pair(&c.names.uuid, i.UUID)
		if n > 0 && uuid.GetValue() == last {
			c.log.Warn("two instances of a group have the same VM", labelGroup, group.GetValue(), "uuid", last)
			continue
		}
		last = uuid.GetValue()
		address := ""
		if i.Address.IsValid() {
			address = i.Address.String()
		}
		l := p.labels(group, uuid)
		p.add(familyInstanceInfo, p.labels(p.pair(&c.names.address, address), provider, group, uuid, p.pair(&c.names.vm, i.Name)), 1)
		p.add(familyInstanceState, p.labels(group, c.state(p, i.State), uuid), 1)
		p.add(familyInstanceWarm, l, truth(i.Warm))
		p.add(familyInstancePrimary, l, truth(i.Primary))
		p.add(familyInstanceCreated, l, seconds(i.CreatedAt))
		if m := i.Member; m != nil {
			p.add(familyMemberState, p.labels(pool, group, p.pair(&c.names.state, string(m.State)), uuid), 1)
			if m.Sessions >= 0 {
				p.add(familyMemberSessions, p.labels(pool, group, uuid), float64(m.Sessions))
			}
		}
	}
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
