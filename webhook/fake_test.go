package webhook_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// engine stands for the real one: it remembers what it was told.
type engine struct {
	mu         sync.Mutex
	notified   [][]scaling.Notification
	orders     map[string][]scaling.Order
	pauses     []scaling.Pause
	resumed    []string
	shielded   map[string]bool
	shieldedBy string
	resting    []string

	err     error // what everything fails with
	results map[string]scaling.NotifyResult
	views   []scaling.GroupView
	wait    <-chan struct{} // Notify waits for it
	reached chan struct{}   // if not nil, told when Notify begins
	panics  bool
}

func newEngine() *engine {
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	first := scaling.Instance{
		ID: "0b7c1d9e-0000-4000-8000-000000000001", Group: "web", Name: "web-1", Number: 1, State: scaling.StateInService,
		Since: at, UUID: "uuid-1", Address: netip.MustParseAddr("192.0.2.11"), CreatedAt: at, InServiceAt: at,
	}
	second := first
	second.ID, second.Name, second.Number = "0b7c1d9e-0000-4000-8000-000000000002", "web-2", 2
	second.State, second.UUID, second.Address = scaling.StateCreating, "", netip.Addr{}
	return &engine{
		orders:   map[string][]scaling.Order{},
		shielded: map[string]bool{},
		results:  map[string]scaling.NotifyResult{},
		views: []scaling.GroupView{{
			Group: scaling.Group{
				Name: "web", Mode: scaling.ModeFull, Min: 1, Max: 3, High: 0.7, Low: 0.2,
				Cooldown: time.Minute, Provider: "kvm", Balancer: "haproxy", Port: 80,
				Victim: scaling.VictimNewest, OnRemove: scaling.OnRemoveKeep,
			},
			State: scaling.State{
				Group: "web", Desired: 2, Primary: first.ID, Instances: []scaling.Instance{first, second},
				CooldownUntil: at.Add(time.Minute), LastNotification: at,
			},
			Instances: []scaling.InstanceView{
				{
					Instance: first, Primary: true, Warm: true, Power: scaling.PowerRunning,
					Reading: &scaling.Reading{Utilization: 0.5, At: at},
					Member: &scaling.MemberStatus{
						ID: first.ID, Server: "sh-1", Addr: netip.MustParseAddrPort("192.0.2.11:80"),
						State: scaling.MemberReady, Health: scaling.HealthUp, Sessions: 4,
					},
				},
				{Instance: second},
			},
			Conditions: []scaling.Condition{
				{Signal: scaling.High, Standing: true, Since: at, LastSeen: at, Expires: at.Add(3 * time.Minute), Fingerprints: []string{"f1"}},
				{Signal: scaling.Low},
			},
			Evidence: []scaling.Evidence{{Source: "prometheus", Group: "web", Signal: scaling.High, State: scaling.EvidenceFiring, At: at}},
			Statuses: []scaling.Status{scaling.StatusDegraded},
			Verdict:  scaling.Verdict{Group: "web", At: at, Action: scaling.ActionNone, Reason: "cooldown"},
			Problems: []string{"pool: no answer"},
		}},
	}
}

func (e *engine) has(group string) bool {
	for _, v := range e.views {
		if v.Group.Name == group {
			return true
		}
	}
	return false
}

func (e *engine) Notify(ctx context.Context, ns []scaling.Notification) ([]scaling.NotifyResult, error) {
	if e.panics {
		panic("planted")
	}
	if e.reached != nil {
		e.reached <- struct{}{}
	}
	if e.wait != nil {
		select {
		case <-e.wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return nil, e.err
	}
	e.notified = append(e.notified, ns)
	var out []scaling.NotifyResult
	for _, n := range ns {
		r, given := e.results[n.Group]
		switch {
		case !e.has(n.Group):
			r = scaling.NotifyUnknownGroup
		case given:
		case n.Firing:
			r = scaling.NotifyAccepted
		default:
			r = scaling.NotifyResolved
		}
		out = append(out, r)
	}
	return out, nil
}

func (e *engine) seen() []scaling.Notification {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []scaling.Notification
	for _, ns := range e.notified {
		all = append(all, ns...)
	}
	return all
}

func (e *engine) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

func (e *engine) check(group string) error {
	if e.err != nil {
		return e.err
	}
	if !e.has(group) {
		return fmt.Errorf("group %q: %w", group, scaling.ErrUnknownGroup)
	}
	return nil
}

func (e *engine) Order(_ context.Context, group string, o scaling.Order) (scaling.OrderResult, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.check(group); err != nil {
		return scaling.OrderResult{}, err
	}
	if o.Count > 3 {
		return scaling.OrderResult{}, fmt.Errorf("%w: %d instances are more than max 3", scaling.ErrRefused, o.Count)
	}
	if o.Instance == "ghost" {
		return scaling.OrderResult{}, fmt.Errorf("instance %q: %w", o.Instance, scaling.ErrUnknownInstance)
	}
	for i, before := range e.orders[group] {
		if o.Key == "" || before.Key != o.Key {
			continue
		}
		if before.Kind != o.Kind || before.Count != o.Count {
			return scaling.OrderResult{}, scaling.ErrKeyReused
		}
		return scaling.OrderResult{ID: fmt.Sprintf("order-%d", i+1), Replayed: true, Message: "as before"}, nil
	}
	e.orders[group] = append(e.orders[group], o)
	return scaling.OrderResult{ID: fmt.Sprintf("order-%d", len(e.orders[group])), Message: "taken"}, nil
}

func (e *engine) Pause(_ context.Context, group string, p scaling.Pause) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pauses = append(e.pauses, p)
	return e.check(group)
}

func (e *engine) Resume(_ context.Context, group, by string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.resumed = append(e.resumed, group+" by "+by)
	return e.check(group)
}

func (e *engine) Standby(_ context.Context, group, instance string, on bool, by string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if instance == "last" {
		return fmt.Errorf("%w: 1 in service, and min is 1: scale out first", scaling.ErrRefused)
	}
	e.resting = append(e.resting, fmt.Sprintf("%s %t by %s", instance, on, by))
	return e.check(group)
}

func (e *engine) Protect(_ context.Context, group, instance string, on bool, by string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if instance == "ghost" {
		return fmt.Errorf("instance %q: %w", instance, scaling.ErrUnknownInstance)
	}
	e.shielded[instance] = on
	e.shieldedBy = by
	return e.check(group)
}

func (e *engine) GroupNames(context.Context) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var names []string
	for i := range e.views {
		names = append(names, e.views[i].Group.Name)
	}
	return names, e.err
}

func (e *engine) Groups(context.Context) ([]scaling.GroupView, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.views, e.err
}

func (e *engine) Group(_ context.Context, name string) (scaling.GroupView, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.check(name); err != nil {
		return scaling.GroupView{}, err
	}
	for _, v := range e.views {
		if v.Group.Name == name {
			return v, nil
		}
	}
	return scaling.GroupView{}, scaling.ErrUnknownGroup
}

func (e *engine) Activities(_ context.Context, group, before string, limit int) ([]scaling.Activity, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return []scaling.Activity{{ID: fmt.Sprintf("%s|%s|%d", group, before, limit), Group: group, Kind: scaling.ActivityScaleOut, Status: scaling.ActivityDone}}, e.err
}

func (e *engine) Verdicts(_ context.Context, group string) ([]scaling.Verdict, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.check(group); err != nil {
		return nil, err
	}
	return []scaling.Verdict{{
		Group: group, Action: scaling.ActionNone, Reason: "cooldown",
		Gates: []scaling.Gate{{Action: scaling.ActionScaleOut, Name: "cooldown", Detail: "30s left"}},
	}}, nil
}
