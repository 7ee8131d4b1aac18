package webhook_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/webhook"
)

// noon is when the fixture is.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// world is an engine whose groups are those of a morning: one that scales out, one at
// its limit with a host that does not answer, one that only observes, calm ones.
type world struct {
	*engine

	activities []scaling.Activity
	verdicts   []scaling.Verdict
	before     func(ago time.Duration) []scaling.GroupView
}

func (w *world) Activities(_ context.Context, group, _ string, _ int) ([]scaling.Activity, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []scaling.Activity
	for _, a := range w.activities {
		if group == "" || a.Group == group {
			out = append(out, a)
		}
	}
	return out, w.err
}

func (w *world) Verdicts(_ context.Context, group string) ([]scaling.Verdict, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.check(group); err != nil {
		return nil, err
	}
	return w.verdicts, nil
}

func instanceAt(group string, n int, state scaling.InstanceState, since time.Duration, cpu float64) scaling.InstanceView {
	i := scaling.InstanceView{Instance: scaling.Instance{
		ID: fmt.Sprintf("%08x-0000-4000-8000-%012d", len(group)*7919, n), Group: group, Name: fmt.Sprintf("%s-%d", group, n), Number: n,
		State: state, Since: noon.Add(-since), UUID: fmt.Sprintf("%s-uuid-%d", group, n),
		Address: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", 10+n)), CreatedAt: noon.Add(-since - time.Minute),
	}, Power: scaling.PowerRunning}
	member := scaling.MemberStatus{ID: i.ID, Server: "sh-" + i.Name, State: scaling.MemberReady, Health: scaling.HealthUp, Sessions: int(cpu * 20)}
	switch state { //nolint:exhaustive // the others have no more to them
	case scaling.StateInService:
		i.InServiceAt, i.Warm = i.Since, since > time.Minute
		i.Reading = &scaling.Reading{Utilization: cpu, At: noon}
	case scaling.StateJoining:
		member.State, member.Health = scaling.MemberJoining, scaling.HealthDown
		i.Deadline = noon.Add(4 * time.Minute)
	case scaling.StateDraining:
		member.State = scaling.MemberDraining
		i.Deadline = noon.Add(80 * time.Second)
		i.Reading = &scaling.Reading{Utilization: cpu, At: noon}
	}
	i.Member = &member
	return i
}

func groupAt(name string, mode scaling.Mode, low, high int, instances ...scaling.InstanceView) scaling.GroupView {
	v := scaling.GroupView{
		Group: scaling.Group{
			Name: name, Mode: mode, Min: low, Max: high, High: 0.7, Low: 0.2, HighHold: 30 * time.Second, LowHold: 5 * time.Minute,
			LeaseTTL: 3 * time.Minute, Cooldown: time.Minute, WarmUp: 30 * time.Second, LaunchDeadline: 5 * time.Minute,
			DrainDeadline: 2 * time.Minute, ShutdownDeadline: time.Minute, CreationsPerHour: 12, RemovalsPerHour: 12,
			Victim: "newest", OnRemove: "delete", Provider: "kvm", Balancer: "haproxy", Port: 80, Grace: time.Minute,
			Confirm: []string{"prometheus"}, NamePattern: name + "-{n}",
			Windows: scaling.Windows{Scrape: 15 * time.Second, Evaluation: 15 * time.Second, Rate: time.Minute},
		},
		State:      scaling.State{Group: name, Desired: len(instances)},
		Instances:  instances,
		Conditions: []scaling.Condition{{Signal: scaling.High}, {Signal: scaling.Low}},
		Evidence:   []scaling.Evidence{{Source: "prometheus", Group: name, Signal: scaling.High, State: scaling.EvidenceAbsent, At: noon.Add(-5 * time.Second)}},
		Verdict:    scaling.Verdict{Group: name, At: noon, Action: scaling.ActionNone, Reason: "nothing to do: no condition stands"},
	}
	for _, i := range instances {
		v.State.Instances = append(v.State.Instances, i.Instance)
	}
	if len(instances) > 0 {
		v.State.Primary = instances[0].ID
		v.Instances[0].Primary = true
	}
	if len(instances) == low {
		v.Statuses = append(v.Statuses, scaling.StatusAtMin)
	}
	if len(instances) >= high {
		v.Statuses = append(v.Statuses, scaling.StatusAtMax)
	}
	if mode == scaling.ModeObserve {
		v.Statuses = append(v.Statuses, scaling.StatusObserve)
	}
	return v
}

// wave is a load that comes and goes.
func wave(ago time.Duration, low, high float64, phase float64) float64 {
	m := ago.Minutes()
	return low + (high-low)*(0.5+0.5*math.Sin(m/9+phase)) + 0.02*math.Sin(m*5+phase)
}

// calm are groups with nothing to report.
func calm(ago time.Duration) []scaling.GroupView {
	var out []scaling.GroupView
	for k, c := range []struct {
		name       string
		n, lo, hi  int
		from, till float64
	}{
		{"api", 2, 1, 6, 0.25, 0.6},
		{"batch", 1, 0, 4, 0.02, 0.1},
		{"cache", 3, 3, 3, 0.3, 0.5},
		{"search", 4, 2, 8, 0.35, 0.66},
		{"static", 1, 1, 3, 0.04, 0.12},
	} {
		mode := scaling.ModeFull
		if c.name == "batch" {
			mode = scaling.ModeObserve
		}
		var all []scaling.InstanceView
		for n := range c.n {
			all = append(all, instanceAt(c.name, n+1, scaling.StateInService, time.Duration(30*(n+1))*time.Hour, wave(ago, c.from, c.till, float64(k)+float64(n)/7)))
		}
		out = append(out, groupAt(c.name, mode, c.lo, c.hi, all...))
	}
	return out
}

// web is the group that scales out: its load has risen for a while.
func web(ago time.Duration) scaling.GroupView {
	load, points := 0.0, [][2]float64{{60, 0.42}, {26, 0.5}, {15, 0.93}, {13, 0.97}, {6, 1.5}, {3, 1.9}, {0, 2.5}}
	for k := 1; k < len(points); k++ {
		if from, to := points[k-1], points[k]; ago.Minutes() <= from[0] {
			load = to[1] + (from[1]-to[1])*max(0, ago.Minutes()-to[0])/(from[0]-to[0])
		}
	}
	n := 1
	switch {
	case ago < 2*time.Minute:
		n = 3
	case ago < 13*time.Minute:
		n = 2
	}
	var all []scaling.InstanceView
	for k := range n {
		all = append(all, instanceAt("web", k+1, scaling.StateInService, []time.Duration{26 * time.Hour, 13 * time.Minute, 100 * time.Second}[k],
			min(0.98, load/float64(n)+[]float64{0.03, -0.04, 0}[k]+0.02*math.Sin(ago.Minutes()*3))))
	}
	v := groupAt("web", scaling.ModeFull, 1, 5, all...)
	if ago < 15*time.Second {
		fourth := instanceAt("web", 4, scaling.StateJoining, 4*time.Second, 0)
		v.Instances = append(v.Instances, fourth)
		v.State.Instances = append(v.State.Instances, fourth.Instance)
		v.State.Desired = 4
	}
	return v
}

func newWorld() *world {
	cause := scaling.Cause{Kind: scaling.CauseAlert, Signal: scaling.High, Source: "prometheus", EvidenceAt: noon.Add(-20 * time.Second)}
	launch := scaling.Activity{
		ID: "a-0042", Group: "web", Kind: scaling.ActivityScaleOut, Status: scaling.ActivityRunning, Cause: cause, Created: noon.Add(-14 * time.Second),
		Steps: []scaling.Step{
			{Name: "requested", Started: noon.Add(-14 * time.Second), Ended: noon.Add(-14 * time.Second)},
			{Name: "creating", Started: noon.Add(-14 * time.Second), Ended: noon.Add(-11 * time.Second), Tries: 1},
			{Name: "booting", Started: noon.Add(-11 * time.Second), Ended: noon.Add(-4 * time.Second), Tries: 1},
			{Name: "joining", Started: noon.Add(-4 * time.Second), Tries: 1},
		},
	}
	w := &world{engine: newEngine(), before: func(ago time.Duration) []scaling.GroupView {
		all := append(calm(ago), checkout(ago), web(ago))
		slices.SortFunc(all, func(a, b scaling.GroupView) int { return cmp.Compare(a.Group.Name, b.Group.Name) })
		return all
	}}
	views := w.before(0)
	for i := range views {
		v := &views[i]
		if v.Group.Name != "web" {
			continue
		}
		launch.Launch = v.Instances[3].ID
		v.State.Open = []scaling.Activity{launch}
		v.State.LastActionEnd = noon.Add(-100 * time.Second)
		v.State.CooldownUntil = noon.Add(50 * time.Second)
		v.Conditions[0] = scaling.Condition{
			Signal: scaling.High, Standing: true, Since: noon.Add(-3 * time.Minute), LastSeen: noon, Expires: noon.Add(170 * time.Second), Fingerprints: []string{"f1"},
		}
		v.Evidence = []scaling.Evidence{
			{Source: "prometheus", Group: "web", Signal: scaling.High, State: scaling.EvidenceFiring, At: noon.Add(-5 * time.Second)},
			{Source: "prometheus", Group: "web", Signal: scaling.Low, State: scaling.EvidenceAbsent, At: noon.Add(-5 * time.Second)},
			{Source: "alertmanager", Group: "web", Signal: scaling.High, State: scaling.EvidenceFiring, At: noon.Add(-8 * time.Second)},
		}
		v.Instances[1].Protected = true
		three, four := 3.0, 4.0
		v.Verdict = scaling.Verdict{Group: "web", At: noon, Action: scaling.ActionNone, Reason: "launches are under way", Gates: []scaling.Gate{
			{Action: scaling.ActionScaleOut, Name: "condition", Passed: true, Detail: "high stands since 3m0s, held 30s"},
			{Action: scaling.ActionScaleOut, Name: "confirmed", Passed: true, Detail: "prometheus: firing, evidence of 11:59:55"},
			{Action: scaling.ActionScaleOut, Name: "settled", Detail: "the last action ended 1m40s ago, settle is 2m15s", Change: "35s pass, or an order", Until: noon.Add(35 * time.Second)},
			{Action: scaling.ActionScaleOut, Name: "max", Passed: true, Value: &four, Bound: &three, Detail: "4 of 5 owned"},
			{Action: scaling.ActionScaleOut, Name: "budget", Passed: true, Detail: "2 of 12 creations in the last hour"},
		}}
	}
	w.views = views
	done := func(id, group string, kind scaling.ActivityKind, ago, took time.Duration, subject, outcome string, c scaling.Cause) scaling.Activity {
		a := scaling.Activity{ID: id, Group: group, Kind: kind, Status: scaling.ActivityDone, Cause: c, Created: noon.Add(-ago), Ended: noon.Add(took - ago), Outcome: outcome}
		a.Launch = subject
		a.Steps = []scaling.Step{
			{Name: "creating", Started: a.Created, Ended: a.Created.Add(took / 4), Tries: 1},
			{Name: "booting", Started: a.Created.Add(took / 4), Ended: a.Created.Add(took / 2), Tries: 1},
			{Name: "joining", Started: a.Created.Add(took / 2), Ended: a.Ended, Tries: 1},
		}
		return a
	}
	last := views[len(views)-1].Instances
	failed := done("a-0039", "checkout", scaling.ActivityScaleOut, 22*time.Minute, 5*time.Minute, "7c0f1122-0000", "did not boot in 5m0s", cause)
	failed.Status = scaling.ActivityUndone
	w.activities = []scaling.Activity{
		launch,
		done("a-0041", "web", scaling.ActivityScaleOut, 115*time.Second, 15*time.Second, last[2].ID, "web-3 is in service", cause),
		done("a-0040", "web", scaling.ActivityScaleOut, 13*time.Minute+14*time.Second, 14*time.Second, last[1].ID, "web-2 is in service", cause),
		failed,
		done("a-0038", "api", scaling.ActivityHandover, 95*time.Minute, 48*time.Second, views[0].Instances[0].ID, "api-1 has taken over", scaling.Cause{Kind: scaling.CauseManual, By: "ops@192.0.2.7"}),
	}
	for k, reason := range []string{"launches are under way", "launch 1: high stands, confirmed by prometheus", "not yet: the last action ended 1m12s ago, settle is 2m15s", "launch 1: high stands, confirmed by prometheus", "nothing to do: no condition stands"} {
		v := scaling.Verdict{Group: "web", At: noon.Add(-time.Duration(k*k) * 14 * time.Second), Action: scaling.ActionNone, Reason: reason}
		if k == 1 || k == 3 {
			v.Action = scaling.ActionScaleOut
		}
		w.verdicts = append(w.verdicts, v)
	}
	return w
}

// checkout is at its limit, and has a problem.
func checkout(ago time.Duration) scaling.GroupView {
	v := groupAt("checkout", scaling.ModeScaleOutOnly, 2, 3,
		instanceAt("checkout", 1, scaling.StateInService, 90*time.Hour, wave(ago, 0.7, 0.86, 2)),
		instanceAt("checkout", 2, scaling.StateInService, 90*time.Hour, wave(ago, 0.66, 0.9, 2.4)),
		instanceAt("checkout", 3, scaling.StateInService, 40*time.Minute, wave(ago, 0.7, 0.84, 2.2)))
	v.Statuses = append(v.Statuses, scaling.StatusDegraded)
	v.Problems = []string{"pool haproxy: dial unix /run/haproxy/admin.sock: connect: connection refused"}
	v.Conditions[0] = scaling.Condition{Signal: scaling.High, Standing: true, Since: noon.Add(-40 * time.Minute), LastSeen: noon, Expires: noon.Add(2 * time.Minute)}
	v.Verdict.Reason = "not: 3 of 3 owned, at max; high stands since 40m0s"
	v.Instances[1].Suspect, v.Instances[1].SuspectSince = "its checks fail", noon.Add(-20*time.Second)
	return v
}

// fill gives the charts the last hour.
func (w *world) fill(s *webhook.Server) {
	for ago := time.Hour; ago >= 0; ago -= 15 * time.Second {
		s.Page().Note(noon.Add(-ago), w.before(ago))
	}
}

// worldServer serves the world.
func worldServer(t testing.TB, w *world, change func(*webhook.Options)) *webhook.Server {
	t.Helper()
	opts := options(t, w.engine)
	opts.Viewer = w
	opts.Build.Version = "1.4.0"
	opts.Now = func() time.Time { return noon }
	if change != nil {
		change(&opts)
	}
	s := newServer(t, opts)
	w.fill(s)
	return s
}
