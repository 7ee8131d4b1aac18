package scaling_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/scaling"
)

// t0 is an arbitrary moment; nothing depends on the real clock.
var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }

// world is a decision's input, made readable.
type world struct {
	in scaling.Input
	st scaling.State
}

func group() scaling.Group {
	return scaling.Group{
		Name: "web", Mode: scaling.ModeFull, Min: 1, Max: 3, High: 0.7, Low: 0.2,
		LeaseTTL: 3 * time.Minute, Cooldown: 30 * time.Second, WarmUp: 20 * time.Second,
		Windows:        scaling.Windows{Scrape: 5 * time.Second, Evaluation: 5 * time.Second, Rate: 20 * time.Second},
		LaunchDeadline: time.Minute, DrainDeadline: time.Minute, ShutdownDeadline: time.Minute, CallDeadline: 10 * time.Second,
		CreationsPerHour: 20, RemovalsPerHour: 20, BackoffMin: 10 * time.Second, BackoffMax: 5 * time.Minute,
		Victim: scaling.VictimNewest, OnRemove: scaling.OnRemoveKeep, NamePattern: "web-{n}",
		Confirm: []string{"prometheus", "alertmanager"},
	}
}

// settle of group: warm-up 20 + rate 20 + 2 × scrape 5 + evaluation 5.
const settle = 55

// serving is a group with n instances in service since long, and an action that
// ended at 0; the time is 200.
func serving(n int) *world {
	w := &world{}
	w.in = scaling.Input{
		Group: group(), Now: at(200), Known: scaling.Known{Listing: true, Pool: true, Signals: true},
		Lookup: scaling.Lookup{
			Asked:    map[string]time.Time{"prometheus": at(199), "alertmanager": at(199)},
			Readings: map[string]scaling.Reading{},
		},
	}
	w.st = scaling.State{Group: "web", LastActionEnd: at(0), NextNumber: n + 1, Primary: "i1", Consumed: map[scaling.Signal]time.Time{}}
	for k := 1; k <= n; k++ {
		id := fmt.Sprintf("i%d", k)
		w.st.Instances = append(w.st.Instances, scaling.Instance{
			ID: id, Group: "web", Name: fmt.Sprintf("web-%d", k), Number: k, State: scaling.StateInService, Since: at(-1000 + k),
			InServiceAt: at(-1000 + k), UUID: "u" + id,
		})
		w.reading(id, 0.1)
	}
	return w
}

func (w *world) reading(id string, u float64) *world {
	w.in.Lookup.Readings["u"+id] = scaling.Reading{Utilization: u, At: w.in.Now.Add(-5 * time.Second)}
	return w
}

// lease lets a notification's lease stand that was last seen at 190 and whose
// alert began to fire at the given second.
func (w *world) lease(sig scaling.Signal, starts int) *world {
	w.st.Leases = append(w.st.Leases, scaling.Lease{
		Signal: sig, Fingerprint: "f-" + string(sig), StartsAt: at(starts), FirstSeen: at(starts), LastSeen: at(190), Expires: at(370),
	})
	return w
}

// says adds what a source says, with its evidence time.
func (w *world) says(source string, sig scaling.Signal, st scaling.EvidenceState, sec int) *world {
	w.in.Lookup.Evidence = append(w.in.Lookup.Evidence, scaling.Evidence{Source: source, Group: "web", Signal: sig, State: st, At: at(sec), Detail: "why"})
	return w
}

// confirmed is a lease and both sources that confirm it with evidence of sec.
func (w *world) confirmed(sig scaling.Signal, sec int) *world {
	return w.lease(sig, 100).says("prometheus", sig, scaling.EvidenceFiring, sec).says("alertmanager", sig, scaling.EvidenceFiring, sec)
}

func (w *world) with(f func(*scaling.Input, *scaling.State)) *world {
	f(&w.in, &w.st)
	return w
}

func (w *world) state(id string, st scaling.InstanceState) *world {
	i := w.st.Instance(id)
	i.State, i.Since = st, at(150)
	return w
}

// drains lets an instance drain for an alert since 150.
func (w *world) drains(id string) *world {
	w.state(id, scaling.StateDraining)
	w.st.Instance(id).Activity = "a"
	w.st.Open = []scaling.Activity{{ID: "a", Cause: scaling.Cause{Kind: scaling.CauseAlert, Signal: scaling.Low}}}
	return w
}

func (w *world) order(kind scaling.OrderKind, count int, instance string) *world {
	w.st.Orders = append(w.st.Orders, scaling.Order{ID: "o1", Kind: kind, Count: count, Instance: instance, At: at(199), By: "ops"})
	return w
}

type wanted struct {
	action  scaling.Action
	count   int
	victim  string
	heir    string
	source  string // of the evidence
	failed  string // the gate that must have failed, "action/name"
	refused string // part of why an order was refused
	would   bool
}

func TestDecide(t *testing.T) {
	low := func(n int) *world { return serving(n).confirmed(scaling.Low, 180) }
	tests := map[string]struct {
		w    *world
		want wanted
	}{
		"a quiet group does nothing":                                            {serving(2), wanted{action: scaling.ActionNone, failed: "scale_out/condition"}},
		"a confirmed high launches one":                                         {serving(2).confirmed(scaling.High, 180), wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus"}},
		"the first step needs no look-up":                                       {serving(1).lease(scaling.High, 190).with(func(in *scaling.Input, s *scaling.State) { s.LastActionEnd = time.Time{}; in.Lookup.Asked = nil }), wanted{action: scaling.ActionScaleOut, count: 1, source: "notification"}},
		"an alert that began to fire after the settle time is proof by itself":  {serving(1).lease(scaling.High, settle+1).with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked = nil }), wanted{action: scaling.ActionScaleOut, count: 1, source: "notification"}},
		"an alert from before the last action proves nothing":                   {serving(1).lease(scaling.High, -10).with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked = nil }), wanted{action: scaling.ActionNone, failed: "scale_out/confirmation"}},
		"evidence inside the settle time is not enough":                         {serving(1).lease(scaling.High, 10).says("prometheus", scaling.High, scaling.EvidenceFiring, settle).says("alertmanager", scaling.High, scaling.EvidenceFiring, settle), wanted{action: scaling.ActionNone, failed: "scale_out/confirmation"}},
		"one piece of evidence is used once":                                    {serving(1).confirmed(scaling.High, 180).with(func(_ *scaling.Input, s *scaling.State) { s.Consumed[scaling.High] = at(180) }), wanted{action: scaling.ActionNone, failed: "scale_out/confirmation"}},
		"an unreachable source does not stop a scale-out that another confirms": {serving(1).lease(scaling.High, 100).says("prometheus", scaling.High, scaling.EvidenceFiring, 180).says("alertmanager", scaling.High, scaling.EvidenceUnreachable, 0), wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus"}},
		"a source that denies the signal refutes it":                            {serving(1).lease(scaling.High, 100).says("alertmanager", scaling.High, scaling.EvidenceFiring, 180), wanted{action: scaling.ActionNone, failed: "scale_out/confirmation"}},
		"a denial from before the notification says nothing of it": {serving(1).lease(scaling.High, 100).with(func(in *scaling.Input, _ *scaling.State) {
			in.Lookup.Asked["prometheus"] = at(180)
			in.Lookup.Asked["alertmanager"] = at(180)
		}), wanted{action: scaling.ActionScaleOut, count: 1, source: "notification"}},
		"a silence pauses the group out":                                 {serving(1).confirmed(scaling.High, 180).says("alertmanager", scaling.High, scaling.EvidenceSuppressed, 180), wanted{action: scaling.ActionNone, failed: "scale_out/suppressed"}},
		"a silence pauses the group in":                                  {serving(2).confirmed(scaling.Low, 180).says("alertmanager", scaling.Low, scaling.EvidenceSuppressed, 180), wanted{action: scaling.ActionNone, failed: "scale_in/suppressed"}},
		"evidence without any notification starts nothing":               {serving(1).says("prometheus", scaling.High, scaling.EvidenceFiring, 180), wanted{action: scaling.ActionNone, failed: "scale_out/condition"}},
		"an expired lease is unknown and neither high nor low":           {serving(2).confirmed(scaling.High, 180).with(func(in *scaling.Input, _ *scaling.State) { in.Now = at(370) }), wanted{action: scaling.ActionNone, failed: "scale_out/condition"}},
		"a high has to stand for its hold time":                          {serving(1).confirmed(scaling.High, 180).with(func(in *scaling.Input, _ *scaling.State) { in.Group.HighHold = 101 * time.Second }), wanted{action: scaling.ActionNone, failed: "scale_out/hold"}},
		"the cooldown holds the next step back":                          {serving(1).confirmed(scaling.High, 180).with(func(_ *scaling.Input, s *scaling.State) { s.CooldownUntil = at(201) }), wanted{action: scaling.ActionNone, failed: "scale_out/cooldown"}},
		"a launch under way is capacity, and the next step waits for it": {serving(2).state("i2", scaling.StateBooting).confirmed(scaling.High, 180), wanted{action: scaling.ActionNone, failed: "scale_out/activity"}},
		"max stops a scale-out":                                          {serving(3).confirmed(scaling.High, 180), wanted{action: scaling.ActionNone, failed: "scale_out/bounds"}},
		"an instance that could not be removed counts against max":       {serving(3).state("i3", scaling.StateFailed).confirmed(scaling.High, 180), wanted{action: scaling.ActionNone, failed: "scale_out/limit"}},
		"a pause of the direction out stops a scale-out":                 {serving(1).confirmed(scaling.High, 180).with(func(_ *scaling.Input, s *scaling.State) { s.Pause = &scaling.Pause{Out: true, By: "ops"} }), wanted{action: scaling.ActionNone, failed: "scale_out/pause"}},
		"a pause of the direction in lets a scale-out pass":              {serving(1).confirmed(scaling.High, 180).with(func(_ *scaling.Input, s *scaling.State) { s.Pause = &scaling.Pause{In: true, By: "ops"} }), wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus"}},
		"a pause that is over holds nothing":                             {serving(1).confirmed(scaling.High, 180).with(func(_ *scaling.Input, s *scaling.State) { s.Pause = &scaling.Pause{Out: true, Until: at(200)} }), wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus"}},
		"the creation budget stops a scale-out": {serving(1).confirmed(scaling.High, 180).with(func(in *scaling.Input, s *scaling.State) {
			in.Group.CreationsPerHour = 1
			s.Creations = []time.Time{at(-3000)}
		}), wanted{action: scaling.ActionNone, failed: "scale_out/budget"}},
		"a creation older than an hour is out of the budget": {serving(1).confirmed(scaling.High, 180).with(func(in *scaling.Input, s *scaling.State) {
			in.Group.CreationsPerHour = 1
			s.Creations = []time.Time{at(-3400)}
		}), wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus"}},
		"failed launches are backed off":                       {serving(1).confirmed(scaling.High, 180).with(func(_ *scaling.Input, s *scaling.State) { s.Failures = 1; s.BackoffUntil = at(201) }), wanted{action: scaling.ActionNone, failed: "scale_out/backoff"}},
		"a group that observes only would":                     {serving(1).confirmed(scaling.High, 180).with(func(in *scaling.Input, _ *scaling.State) { in.Group.Mode = scaling.ModeObserve }), wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus", would: true}},
		"--observe holds for every group":                      {low(2).with(func(in *scaling.Input, _ *scaling.State) { in.Observe = true }), wanted{action: scaling.ActionScaleIn, victim: "i2", source: "prometheus", would: true}},
		"a confirmed low removes the newest":                   {low(3), wanted{action: scaling.ActionScaleIn, victim: "i3", source: "prometheus"}},
		"oldest as victim is the primary, so it is a handover": {low(2).with(func(in *scaling.Input, _ *scaling.State) { in.Group.Victim = scaling.VictimOldest }), wanted{action: scaling.ActionHandover, victim: "i1", heir: "i2", source: "prometheus"}},
		"least busy as victim asks the readings":               {low(3).reading("i2", 0.01).with(func(in *scaling.Input, _ *scaling.State) { in.Group.Victim = scaling.VictimLeastBusy }), wanted{action: scaling.ActionScaleIn, victim: "i2", source: "prometheus"}},
		"a protected instance is passed over":                  {low(3).with(func(_ *scaling.Input, s *scaling.State) { s.Instance("i3").Protected = true }), wanted{action: scaling.ActionScaleIn, victim: "i2", source: "prometheus"}},
		"all protected means no victim": {low(2).with(func(_ *scaling.Input, s *scaling.State) {
			s.Instances[0].Protected, s.Instances[1].Protected = true, true
		}), wanted{action: scaling.ActionNone, failed: "scale_in/victim"}},
		"a low by notification alone removes nothing":                    {serving(2).lease(scaling.Low, 100).with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked = nil }), wanted{action: scaling.ActionNone, failed: "scale_in/confirmation"}},
		"a low that Prometheus does not confirm removes nothing":         {serving(2).lease(scaling.Low, 100).says("alertmanager", scaling.Low, scaling.EvidenceFiring, 180), wanted{action: scaling.ActionNone, failed: "scale_in/confirmation"}},
		"a low removes nothing while a source is unreachable":            {serving(2).lease(scaling.Low, 100).says("prometheus", scaling.Low, scaling.EvidenceFiring, 180).says("alertmanager", scaling.Low, scaling.EvidenceUnreachable, 0), wanted{action: scaling.ActionNone, failed: "scale_in/confirmation"}},
		"a low removes nothing without any source to confirm it":         {serving(2).lease(scaling.Low, 100).with(func(in *scaling.Input, _ *scaling.State) { in.Group.Confirm = nil }), wanted{action: scaling.ActionNone, failed: "scale_in/confirmation"}},
		"a fresh word of Alertmanager does not stand in for old samples": {serving(2).lease(scaling.Low, 100).says("prometheus", scaling.Low, scaling.EvidenceFiring, settle).says("alertmanager", scaling.Low, scaling.EvidenceFiring, 180), wanted{action: scaling.ActionNone, failed: "scale_in/confirmation"}},
		"low evidence inside the settle time removes nothing":            {serving(2).confirmed(scaling.Low, settle), wanted{action: scaling.ActionNone, failed: "scale_in/confirmation"}},
		"low evidence that was used removes nothing more":                {low(3).with(func(_ *scaling.Input, s *scaling.State) { s.Consumed[scaling.Low] = at(180) }), wanted{action: scaling.ActionNone, failed: "scale_in/confirmation"}},
		"a standing high contradicts low": {low(2).with(func(in *scaling.Input, s *scaling.State) {
			s.Leases = append(s.Leases, scaling.Lease{Signal: scaling.High, Fingerprint: "x", LastSeen: at(10), Expires: at(300)})
			in.Lookup.Asked = map[string]time.Time{"prometheus": at(199), "alertmanager": at(199)}
		}), wanted{action: scaling.ActionNone, failed: "scale_in/contradiction"}},
		"a high that a source says is firing contradicts low": {low(2).says("prometheus", scaling.High, scaling.EvidenceFiring, 180), wanted{action: scaling.ActionNone, failed: "scale_in/contradiction"}},
		"min stops a scale-in":                                {low(1), wanted{action: scaling.ActionNone, failed: "scale_in/bounds"}},
		"min healthy counts those in service only":            {low(2).state("i2", scaling.StateFailed), wanted{action: scaling.ActionNone, failed: "scale_in/bounds"}},
		"nothing is removed while a launch is under way":      {low(3).state("i3", scaling.StateJoining), wanted{action: scaling.ActionNone, failed: "scale_in/activity"}},
		"nothing is removed while another one leaves":         {low(3).state("i3", scaling.StateRemoving), wanted{action: scaling.ActionNone, failed: "scale_in/activity"}},
		"nothing is removed before the provider was listed":   {low(2).with(func(in *scaling.Input, _ *scaling.State) { in.Known.Listing = false }), wanted{action: scaling.ActionNone, failed: "scale_in/started"}},
		"nothing is removed before the pool was observed":     {low(2).with(func(in *scaling.Input, _ *scaling.State) { in.Known.Pool = false }), wanted{action: scaling.ActionNone, failed: "scale_in/started"}},
		"scale_out_only removes nothing":                      {low(2).with(func(in *scaling.Input, _ *scaling.State) { in.Group.Mode = scaling.ModeScaleOutOnly }), wanted{action: scaling.ActionNone, failed: "scale_in/mode"}},
		"the rest would be over high":                         {low(2).reading("i1", 0.4).reading("i2", 0.3), wanted{action: scaling.ActionNone, failed: "scale_in/projection"}},
		"the rest would be under high":                        {low(2).reading("i1", 0.39).reading("i2", 0.3), wanted{action: scaling.ActionScaleIn, victim: "i2", source: "prometheus"}},
		"a missing reading counts as busy":                    {low(2).with(func(in *scaling.Input, _ *scaling.State) { delete(in.Lookup.Readings, "ui1") }), wanted{action: scaling.ActionNone, failed: "scale_in/projection"}},
		"a stale reading is a missing one": {low(2).with(func(in *scaling.Input, _ *scaling.State) {
			in.Lookup.Readings["ui1"] = scaling.Reading{Utilization: 0, At: at(160)}
		}), wanted{action: scaling.ActionNone, failed: "scale_in/projection"}},
		"the removal budget stops a scale-in": {low(2).with(func(in *scaling.Input, s *scaling.State) {
			in.Group.RemovalsPerHour = 1
			s.Removals = []time.Time{at(100)}
		}), wanted{action: scaling.ActionNone, failed: "scale_in/budget"}},
		"a group below min is filled without any alert":        {serving(1).with(func(in *scaling.Input, _ *scaling.State) { in.Group.Min = 3 }), wanted{action: scaling.ActionFill, count: 2}},
		"a group is not filled before the provider was listed": {serving(1).with(func(in *scaling.Input, _ *scaling.State) { in.Group.Min = 2; in.Known.Listing = false }), wanted{action: scaling.ActionNone, failed: "fill/started"}},
		"filling respects max over everything owned":           {serving(3).state("i2", scaling.StateFailed).state("i3", scaling.StateFailed).with(func(in *scaling.Input, _ *scaling.State) { in.Group.Min = 2 }), wanted{action: scaling.ActionNone, failed: "fill/limit"}},
		"a lowered max shrinks by one":                         {serving(3).with(func(in *scaling.Input, _ *scaling.State) { in.Group.Max = 1 }), wanted{action: scaling.ActionScaleIn, victim: "i3"}},
		"a configured baseline is adopted first":               {serving(1).with(func(in *scaling.Input, _ *scaling.State) { in.Group.Adopt = []string{"vm-test"} }), wanted{action: scaling.ActionAdopt, count: 1}},
		"a baseline that was let go is not adopted again": {serving(1).with(func(in *scaling.Input, s *scaling.State) {
			in.Group.Adopt = []string{"vm-test"}
			s.AdoptedNames = []string{"vm-test"}
		}), wanted{action: scaling.ActionNone}},
		"a confirmed high cancels a drain at once, in spite of the cooldown": {serving(3).drains("i3").confirmed(scaling.High, 180).with(func(_ *scaling.Input, s *scaling.State) { s.CooldownUntil = at(500) }), wanted{action: scaling.ActionCancelDrain, victim: "i3", source: "prometheus"}},
		"a high from before the drain does not cancel it":                    {serving(3).drains("i3").confirmed(scaling.High, 140), wanted{action: scaling.ActionNone, failed: "cancel_drain/confirmation"}},
		"a drain down to a lowered max is not cancelled":                     {serving(3).drains("i3").confirmed(scaling.High, 180).with(func(in *scaling.Input, _ *scaling.State) { in.Group.Max = 2 }), wanted{action: scaling.ActionNone}},
		"an unhealthy instance is the first victim":                          {low(3).with(func(in *scaling.Input, _ *scaling.State) { in.Unhealthy = map[string]string{"i2": "down"} }), wanted{action: scaling.ActionScaleIn, victim: "i2", source: "prometheus"}},
		"the last healthy instance is not removed":                           {serving(2).order(scaling.OrderScaleIn, 1, "web-2").with(func(in *scaling.Input, _ *scaling.State) { in.Unhealthy = map[string]string{"i1": "down"} }), wanted{action: scaling.ActionNone, refused: "0 healthy ones would be left"}},
		"an unhealthy instance is no successor":                              {serving(3).order(scaling.OrderHandover, 0, "").with(func(in *scaling.Input, _ *scaling.State) { in.Unhealthy = map[string]string{"i2": "down"} }), wanted{action: scaling.ActionHandover, victim: "i1", heir: "i3"}},
		"an order to remove waits until everything was read":                 {serving(3).order(scaling.OrderScaleIn, 1, "").with(func(in *scaling.Input, _ *scaling.State) { in.Known.Signals = false }), wanted{action: scaling.ActionNone}},
		"an alert that begins after its notification proves nothing":         {serving(1).lease(scaling.High, 195).with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked = nil }), wanted{action: scaling.ActionNone, failed: "scale_out/confirmation"}},
		"a pause holds an adoption": {serving(1).with(func(in *scaling.Input, s *scaling.State) {
			in.Group.Adopt = []string{"vm-test"}
			s.Pause = &scaling.Pause{Out: true}
		}), wanted{action: scaling.ActionNone, failed: "adopt/pause"}},
		"a group that observes would follow the load before it would fill itself": {serving(1).confirmed(scaling.High, 180).with(func(in *scaling.Input, _ *scaling.State) { in.Observe = true; in.Group.Adopt = []string{"vm-test"} }), wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus", would: true}},
		"an order in a group that observes is refused":                            {serving(3).order(scaling.OrderSetDesired, 1, "").with(func(in *scaling.Input, _ *scaling.State) { in.Observe = true }), wanted{action: scaling.ActionScaleIn, victim: "i3", would: true, refused: "observes"}},
		"a drain that a person ordered is not cancelled": {serving(3).state("i3", scaling.StateDraining).confirmed(scaling.High, 180).with(func(in *scaling.Input, s *scaling.State) {
			in.Group.Max = 4
			s.Instance("i3").Activity = "a"
			s.Open = []scaling.Activity{{ID: "a", Cause: scaling.Cause{Kind: scaling.CauseManual}}}
		}), wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus"}},
		"an order launches in spite of cooldown and back-off": {serving(1).order(scaling.OrderScaleOut, 2, "").with(func(_ *scaling.Input, s *scaling.State) { s.CooldownUntil = at(500); s.BackoffUntil = at(500) }), wanted{action: scaling.ActionScaleOut, count: 2}},
		"an order never goes over max":                        {serving(3).order(scaling.OrderScaleOut, 1, ""), wanted{action: scaling.ActionNone, refused: "3 of at most 3"}},
		"an order launches what fits and says what does not":  {serving(2).order(scaling.OrderScaleOut, 2, ""), wanted{action: scaling.ActionScaleOut, count: 1, refused: "1 of 2"}},
		"an order never goes under min":                       {serving(1).order(scaling.OrderScaleIn, 1, ""), wanted{action: scaling.ActionNone, refused: "min is 1"}},
		"an order removes the named instance":                 {serving(3).order(scaling.OrderScaleIn, 1, "web-2"), wanted{action: scaling.ActionScaleIn, victim: "i2"}},
		"an order never removes a protected instance":         {serving(3).order(scaling.OrderScaleIn, 1, "web-2").with(func(_ *scaling.Input, s *scaling.State) { s.Instance("i2").Protected = true }), wanted{action: scaling.ActionNone, refused: "protected"}},
		"removing the primary by order is a handover":         {serving(2).order(scaling.OrderScaleIn, 1, "web-1"), wanted{action: scaling.ActionHandover, victim: "i1", heir: "i2"}},
		"an order respects the removal budget": {serving(3).order(scaling.OrderScaleIn, 1, "").with(func(in *scaling.Input, s *scaling.State) {
			in.Group.RemovalsPerHour = 1
			s.Removals = []time.Time{at(100)}
		}), wanted{action: scaling.ActionNone, refused: "budget"}},
		"a handover with room launches a successor":                                  {serving(1).order(scaling.OrderHandover, 0, ""), wanted{action: scaling.ActionHandover, count: 1, victim: "i1"}},
		"a handover at the limit uses an instance in service":                        {serving(3).order(scaling.OrderHandover, 0, ""), wanted{action: scaling.ActionHandover, victim: "i1", heir: "i2"}},
		"a handover at the limit that would go under min is refused with the reason": {serving(3).order(scaling.OrderHandover, 0, "").with(func(in *scaling.Input, _ *scaling.State) { in.Group.Min = 3 }), wanted{action: scaling.ActionNone, refused: "min is 3"}},
		"set-desired launches what is missing":                                       {serving(1).order(scaling.OrderSetDesired, 3, ""), wanted{action: scaling.ActionScaleOut, count: 2}},
		"set-desired removes one at a time":                                          {serving(3).order(scaling.OrderSetDesired, 1, ""), wanted{action: scaling.ActionScaleIn, victim: "i3"}},
		"set-desired that is reached is done":                                        {serving(2).order(scaling.OrderSetDesired, 2, ""), wanted{action: scaling.ActionNone}},
		"an order that waited for more than an hour is given up":                     {serving(1).order(scaling.OrderScaleOut, 1, "").with(func(_ *scaling.Input, s *scaling.State) { s.Orders[0].At = at(-3500) }), wanted{action: scaling.ActionNone, refused: "within"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := tt.w.st.Clone()
			tt.w.in.State = &tt.w.st
			v := scaling.Decide(tt.w.in)
			got := wanted{action: v.Action, count: v.Count, victim: v.Victim, heir: v.Successor, source: v.Cause.Source, would: v.Would}
			want := tt.want
			want.failed, want.refused = "", ""
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(wanted{})); diff != "" {
				t.Errorf("verdict (-want +got):\n%s\nreason: %s\ngates: %+v", diff, v.Reason, v.Gates)
			}
			if tt.want.failed != "" && !hasFailed(v, tt.want.failed) {
				t.Errorf("gate %s did not fail; gates: %+v", tt.want.failed, v.Gates)
			}
			if !strings.Contains(v.OrderRefused, tt.want.refused) || (tt.want.refused == "") != (v.OrderRefused == "") {
				t.Errorf("order refused with %q, want %q", v.OrderRefused, tt.want.refused)
			}
			if v.Reason == "" {
				t.Error("the verdict has no reason")
			}
			if diff := cmp.Diff(before, tt.w.st, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Decide wrote to the state:\n%s", diff)
			}
		})
	}
}

func hasFailed(v scaling.Verdict, gate string) bool {
	for _, g := range v.Gates {
		if string(g.Action)+"/"+g.Name == gate && !g.Passed {
			return true
		}
	}
	return false
}
