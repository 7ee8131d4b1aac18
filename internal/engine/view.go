package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/scalehook/scalehook/internal/scaling"
)

// GroupNames implements scaling.Viewer.
func (e *Engine) GroupNames(context.Context) ([]string, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Sorted(maps.Keys(e.groups)), nil
}

// Groups implements scaling.Viewer.
func (e *Engine) Groups(context.Context) ([]scaling.GroupView, error) {
	all := e.all()
	out := make([]scaling.GroupView, len(all))
	for k, g := range all {
		out[k] = g.show()
	}
	return out, nil
}

// Group implements scaling.Viewer.
func (e *Engine) Group(_ context.Context, name string) (scaling.GroupView, error) {
	g, err := e.group(name)
	if err != nil {
		return scaling.GroupView{}, err
	}
	return g.show(), nil
}

// Activities implements scaling.Viewer.
func (e *Engine) Activities(ctx context.Context, group, before string, limit int) ([]scaling.Activity, error) {
	if group != "" {
		if _, err := e.group(group); err != nil {
			return nil, err
		}
	}
	out, err := e.opts.Store.Activities(ctx, group, before, limit)
	if err != nil {
		return nil, fmt.Errorf("read activities: %w", err)
	}
	return out, nil
}

// Verdicts implements scaling.Viewer.
func (e *Engine) Verdicts(_ context.Context, group string) ([]scaling.Verdict, error) {
	g, err := e.group(group)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	out := slices.Clone(g.verdicts)
	slices.Reverse(out)
	return out, nil
}

func (g *group) show() scaling.GroupView {
	look := g.eng.lookups.of(g.name, 0)
	problems := g.eng.lookups.problems()
	inv := g.eng.inventory(g.config().Group.Provider)

	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.eng.clock.steady().Add(g.offset)
	v := scaling.GroupView{
		Group: g.cfg.Group, State: g.state, Evidence: look.Evidence, PoolSeen: g.pool.seen, Counts: g.counts.Clone(), Public: g.address.PublicAddress,
	}
	v.Conditions = []scaling.Condition{v.State.Condition(scaling.High, now), v.State.Condition(scaling.Low, now)}
	if n := len(g.verdicts); n > 0 {
		v.Verdict = g.verdicts[n-1]
		v.Statuses = slices.Clone(v.Verdict.Statuses)
	}
	if inv != nil {
		seen, err := inv.status()
		v.ProviderSeen, v.ProviderAsked = seen, err != nil || !seen.IsZero()
		if err != nil {
			problems = append(problems, fmt.Sprintf("provider %s: %v", inv.name, err))
		}
	}
	if g.pool.err != nil {
		problems = append(problems, fmt.Sprintf("pool %s: %v", g.cfg.Group.Balancer, g.pool.err))
	}
	if g.address.err != nil {
		problems = append(problems, fmt.Sprintf("public address: %v", g.address.err))
	}
	if g.letting.err != nil {
		problems = append(problems, fmt.Sprintf("release: %v", g.letting.err))
	}
	if g.storeErr != nil {
		problems = append(problems, fmt.Sprintf("store: %v", g.storeErr))
	}
	if g.noRoom != "" {
		problems = append(problems, "no room: "+g.noRoom)
	}
	problems = append(problems, g.orphanProblem(inv)...)
	v.Problems = problems
	if len(problems) > 0 && !slices.Contains(v.Statuses, scaling.StatusDegraded) {
		v.Statuses = append(v.Statuses, scaling.StatusDegraded)
	}
	v.Instances = make([]scaling.InstanceView, 0, len(v.State.Instances))
	for _, i := range v.State.Instances {
		if i.State == scaling.StateGone {
			continue
		}
		x := scaling.InstanceView{
			Instance: i, Primary: i.ID == v.State.Primary, Warm: i.Warm(g.cfg.Group.WarmUp, now), Power: scaling.PowerUnknown,
			Reading: g.eng.lookups.reading(i.UUID),
		}
		if inv != nil {
			if vm, ok := inv.vm(i.ID); ok {
				x.Power = vm.Power
			}
		}
		if m, ok := g.pool.status.Member(i.ID); ok {
			x.Member = &m
		}
		v.Instances = append(v.Instances, x)
	}
	return v
}
