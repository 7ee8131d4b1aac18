package webhook

import (
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// convert maps a list; the result is never null in JSON.
func convert[From, To any](list []From, f func(From) To) []To {
	out := make([]To, 0, len(list))
	for _, v := range list {
		out = append(out, f(v))
	}
	return out
}

func text[T ~string](v T) string { return string(v) }

func groupOf(v scaling.GroupView) api.Group {
	g := api.Group{
		Name:             v.Group.Name,
		Mode:             string(v.Group.Mode),
		Settings:         settingsOf(v.Group),
		Desired:          v.State.Desired,
		Owned:            v.State.Owned(),
		InService:        v.State.Count(scaling.StateInService),
		Primary:          v.State.Primary,
		Adopted:          v.State.AdoptedNames,
		Statuses:         convert(v.Statuses, text),
		Problems:         append([]string{}, v.Problems...),
		HoldUntil:        v.State.HoldUntil,
		CooldownUntil:    v.State.CooldownUntil,
		BackoffUntil:     v.State.BackoffUntil,
		Failures:         v.State.Failures,
		LastActionEnd:    v.State.LastActionEnd,
		LastNotification: v.State.LastNotification,
		ProviderSeen:     v.ProviderSeen,
		PoolSeen:         v.PoolSeen,
		Conditions:       convert(v.Conditions, conditionOf),
		Evidence:         convert(v.Evidence, evidenceOf),
		Instances:        convert(v.Instances, instanceOf),
		Activities:       convert(v.State.Open, activityOf),
		Orders:           convert(v.State.Orders, orderOf),
		Verdict:          verdictOf(v.Verdict),
	}
	if v.Public.Addr.IsValid() {
		g.PublicAddress, g.PublicUUID = v.Public.Addr.String(), v.Public.UUID
	}
	g.Release = releaseOf(v.State.Release)
	if p := v.State.Pause; p != nil {
		g.Pause = &api.Pause{Out: p.Out, In: p.In, Until: p.Until, By: p.By, Reason: p.Reason, At: p.At}
	}
	return g
}

func settingsOf(g scaling.Group) api.Settings {
	return api.Settings{
		Min: g.Min, Max: g.Max, Surge: g.Surge, High: g.High, Low: g.Low,
		HighHold: api.Duration(g.HighHold), LowHold: api.Duration(g.LowHold), LeaseTTL: api.Duration(g.LeaseTTL),
		Cooldown: api.Duration(g.Cooldown), WarmUp: api.Duration(g.WarmUp), Settle: api.Duration(g.Settle()),
		LaunchDeadline: api.Duration(g.LaunchDeadline), DrainDeadline: api.Duration(g.DrainDeadline),
		ShutdownDeadline: api.Duration(g.ShutdownDeadline),
		CreationsPerHour: g.CreationsPerHour, RemovalsPerHour: g.RemovalsPerHour,
		Victim: string(g.Victim), OnRemove: string(g.OnRemove),
		Provider: g.Provider, Balancer: g.Balancer, Port: g.Port, Confirm: g.Confirm,
		ScrapeInterval: api.Duration(g.Windows.Scrape), EvaluationInterval: api.Duration(g.Windows.Evaluation),
		RateWindow: api.Duration(g.Windows.Rate), CallDeadline: api.Duration(g.CallDeadline),
		BackoffMin: api.Duration(g.BackoffMin), BackoffMax: api.Duration(g.BackoffMax), Grace: api.Duration(g.Grace),
		MaxUnhealthy: g.MaxUnhealthy, Snapshot: g.Snapshot, SnapshotsKeep: g.SnapshotsKeep, Name: g.NamePattern, Adopt: g.Adopt,
		Template: g.Template, Pool: g.Pool, Place: g.Place,
	}
}

func conditionOf(c scaling.Condition) api.Condition {
	return api.Condition{
		Signal: string(c.Signal), Standing: c.Standing, Since: c.Since,
		LastSeen: c.LastSeen, Expires: c.Expires, Fingerprints: c.Fingerprints,
	}
}

func evidenceOf(e scaling.Evidence) api.Evidence {
	return api.Evidence{
		Source: e.Source, Signal: string(e.Signal), State: string(e.State),
		At: e.At, Fingerprint: e.Fingerprint, Detail: e.Detail,
	}
}

func orderOf(o scaling.Order) api.Order {
	return api.Order{
		ID: o.ID, Kind: string(o.Kind), Count: o.Count, Instance: o.Instance,
		By: o.By, At: o.At, Hold: api.Duration(o.Hold),
	}
}

func instanceOf(v scaling.InstanceView) api.Instance {
	i := api.Instance{
		ID: v.ID, Group: v.Group, Name: v.Name, Number: v.Number, UUID: v.UUID,
		State: string(v.State), Since: v.Since, Power: string(v.Power),
		Primary: v.Primary, Warm: v.Warm, Adopted: v.Adopted, Protected: v.Protected,
		Suspect: v.Suspect, SuspectSince: v.SuspectSince,
		CreatedAt: v.CreatedAt, InServiceAt: v.InServiceAt, Deadline: v.Deadline,
		Activity: v.Activity, Failure: v.Failure,
	}
	if v.Address.IsValid() {
		i.Address = v.Address.String()
	}
	if r := v.Reading; r != nil {
		i.Reading = &api.Reading{Utilization: r.Utilization, At: r.At}
	}
	i.Member = memberOf(v.Member)
	return i
}

func effectOf(e scaling.Effect) api.Effect {
	return api.Effect{Group: e.Group, Kind: string(e.Kind), Text: e.Text}
}

func memberOf(m *scaling.MemberStatus) *api.Member {
	if m == nil {
		return nil
	}
	out := &api.Member{Server: m.Server, State: string(m.State), Health: string(m.Health), Sessions: m.Sessions}
	if m.Addr.IsValid() {
		out.Address = m.Addr.String()
	}
	return out
}

// Activity returns an activity as the API shows it.
func Activity(a scaling.Activity) api.Activity { return activityOf(a) }

func activityOf(a scaling.Activity) api.Activity {
	return api.Activity{
		ID: a.ID, Group: a.Group, Kind: string(a.Kind), Status: string(a.Status), Cause: causeOf(a.Cause),
		Launch: a.Launch, Remove: a.Remove, Created: a.Created, Ended: a.Ended,
		Steps: convert(a.Steps, stepOf), Outcome: a.Outcome,
	}
}

func stepOf(s scaling.Step) api.Step {
	return api.Step{Name: s.Name, Started: s.Started, Ended: s.Ended, Tries: s.Tries, Error: s.Err}
}

func causeOf(c scaling.Cause) api.Cause {
	return api.Cause{
		Kind: string(c.Kind), Signal: string(c.Signal), Fingerprint: c.Fingerprint, Source: c.Source,
		EvidenceAt: c.EvidenceAt, Order: c.Order, By: c.By, Detail: c.Detail,
	}
}

func verdictOf(v scaling.Verdict) api.Verdict {
	out := api.Verdict{
		Group: v.Group, At: v.At, Action: string(v.Action), Count: v.Count, Victim: v.Victim,
		Successor: v.Successor, Adopt: v.Adopt, Order: v.Order, OrderRefused: v.OrderRefused,
		Cause: causeOf(v.Cause), Would: v.Would, Reason: v.Reason,
		Gates: convert(v.Gates, func(g scaling.Gate) api.Gate {
			return api.Gate{
				Action: string(g.Action), Name: g.Name, Passed: g.Passed, Value: g.Value, Bound: g.Bound, Until: g.Until,
				Detail: g.Detail, Change: g.Change,
			}
		}),
	}
	for _, s := range v.Statuses {
		out.Statuses = append(out.Statuses, string(s))
	}
	return out
}
