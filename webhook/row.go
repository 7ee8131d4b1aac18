package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/scalehook/scalehook/internal/scaling"
)

// row is what the series show of one group. It holds nothing of the group's view,
// so that ten thousand of those are not in memory at the same time.
type row struct {
	name                                 string
	group, provider, pool                *dto.LabelPair
	high, low, desired, minimum, maximum float64
	cooldown, notified                   float64
	verdicts                             []uint64        // in the order of scaling.Actions; empty: none yet
	ended, failed, flying                []uint64        // of scaling.ActivityKinds; empty: none yet
	failedAt                             []time.Time     // of scaling.ActivityKinds; empty: none yet
	launch                               []time.Duration // of scaling.LaunchPhases; empty: none yet
	alerts                               fates
	states                               []int  // in the order of collector.states
	statuses                             []bool // of collector.statuses
	signals                              [2]signalRow
	instances                            []instanceRow // by UUID
}

// signalRow is what there is to say of a group's signal.
type signalRow struct {
	standing          bool
	expires, evidence float64 // 0 for none
}

// instanceRow is an instance whose VM is known.
type instanceRow struct {
	uuid          *dto.LabelPair
	name          string
	address       netip.Addr
	state         scaling.InstanceState
	warm, primary bool
	created       float64
	member        bool // of the pool
	pooled        scaling.MemberState
	sessions      int
}

// rows asks for the groups, one after the other, and returns them by name. A panic
// is an error: it must not stop the process.
func (c *collector) rows(ctx context.Context) (out []row, err error) {
	defer func() {
		if v := recover(); v != nil {
			out, err = nil, fmt.Errorf("look up the groups: panic: %v", v)
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, collectTimeout, fmt.Errorf("no answer within %s", collectTimeout))
	defer cancel()
	names, err := c.viewer.GroupNames(ctx)
	if err != nil {
		return nil, fmt.Errorf("look up the groups: %w", err)
	}
	maker := &rowMaker{c: c, page: newPage(), shared: map[[2]string]*dto.LabelPair{}}
	out = make([]row, 0, len(names))
	for _, name := range names {
		v, err := c.viewer.Group(ctx, name)
		switch {
		case errors.Is(err, scaling.ErrUnknownGroup): // released a moment ago
		case err != nil:
			return nil, fmt.Errorf("look up group %q: %w", name, err)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("look up the groups: %w", context.Cause(ctx))
		default:
			out = append(out, maker.row(&v))
		}
	}
	slices.SortStableFunc(out, func(a, b row) int { return cmp.Compare(a.group.GetValue(), b.group.GetValue()) })
	return slices.CompactFunc(out, func(a, b row) bool {
		same := a.group.GetValue() == b.group.GetValue()
		if same {
			c.log.Warn("two groups have the same name", labelGroup, a.group.GetValue())
		}
		return same
	}), nil
}

// rowMaker makes rows and what they share.
type rowMaker struct {
	c      *collector
	page   *page
	shared map[[2]string]*dto.LabelPair // labels of drivers, by name and value
}

func (m *rowMaker) driver(name *string, value string) *dto.LabelPair {
	key := [2]string{*name, value}
	if m.shared[key] == nil {
		m.shared[key] = m.page.pair(name, value)
	}
	return m.shared[key]
}

func (m *rowMaker) row(v *scaling.GroupView) row {
	c := m.c
	r := row{
		name: v.Group.Name, group: m.page.pair(&c.names.group, v.Group.Name),
		provider: m.driver(&c.names.provider, v.Group.Provider), pool: m.driver(&c.names.pool, v.Group.Balancer),
		high: v.Group.High, low: v.Group.Low, desired: float64(v.State.Desired), minimum: float64(v.Group.Min), maximum: float64(v.Group.Max),
		cooldown: seconds(v.State.CooldownUntil), notified: seconds(v.State.LastNotification),
		verdicts: v.Counts.Verdicts, ended: v.Counts.Ended, failed: v.Counts.Failed, failedAt: v.Counts.FailedAt, flying: v.State.UnderWay(), launch: v.Counts.Launch,
		alerts: c.metrics.alerts.of(v.Group.Name),
		states: make([]int, len(c.states)), statuses: make([]bool, len(c.statuses)),
	}
	for k, s := range c.states {
		for i := range v.Instances {
			if v.Instances[i].State == s.is {
				r.states[k]++
			}
		}
	}
	for k, s := range c.statuses {
		r.statuses[k] = slices.Contains(v.Statuses, s.is)
	}
	for k, s := range c.signals {
		r.signals[k] = signalOf(v, s.is)
	}
	r.instances = m.instances(v)
	return r
}

func signalOf(v *scaling.GroupView, signal scaling.Signal) (s signalRow) {
	var newest time.Time
	for _, e := range v.Evidence {
		if e.Signal == signal && e.At.After(newest) {
			newest = e.At
		}
	}
	s.evidence = seconds(newest)
	for _, cond := range v.Conditions {
		if cond.Signal == signal && cond.Standing {
			s.standing, s.expires = true, seconds(cond.Expires)
		}
	}
	return s
}

// instances returns what carries a uuid. One VM in two records (adopted twice,
// say) must not make the whole scrape fail, so a uuid is there once.
func (m *rowMaker) instances(v *scaling.GroupView) []instanceRow {
	out := make([]instanceRow, 0, len(v.Instances))
	for i := range v.Instances {
		x := &v.Instances[i]
		if x.UUID == "" || x.State == scaling.StateGone {
			continue
		}
		r := instanceRow{
			uuid: m.page.pair(&m.c.names.uuid, x.UUID), name: x.Name, address: x.Address, state: x.State, warm: x.Warm, primary: x.Primary,
			created: seconds(x.CreatedAt),
		}
		if x.Member != nil {
			r.member, r.pooled, r.sessions = true, x.Member.State, x.Member.Sessions
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b instanceRow) int { return cmp.Compare(a.uuid.GetValue(), b.uuid.GetValue()) })
	return slices.CompactFunc(out, func(a, b instanceRow) bool {
		same := a.uuid.GetValue() == b.uuid.GetValue()
		if same {
			m.c.log.Warn("two instances of a group have the same VM", labelGroup, v.Group.Name, "uuid", a.uuid.GetValue())
		}
		return same
	})
}
