package scaling_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/scaling"
)

// asked sets when a source was asked.
func (w *world) asked(src string, sec int) *world { w.in.Lookup.Asked[src] = at(sec); return w }

func (w *world) neverAsked(src string) *world { delete(w.in.Lookup.Asked, src); return w }

func (w *world) saysAt(src string, sig scaling.Signal, t time.Time) *world {
	w.in.Lookup.Evidence = append(w.in.Lookup.Evidence, scaling.Evidence{Source: src, Signal: sig, State: scaling.EvidenceFiring, At: t})
	return w
}

func TestProof(t *testing.T) {
	skew := at(200).Add(scaling.MaxSkew)
	fresh := func() *world { return serving(1).lease(scaling.High, settle+5) }
	low := func() *world {
		return serving(2).lease(scaling.Low, 100).says("prometheus", scaling.Low, scaling.EvidenceFiring, 180)
	}
	byNotification := wanted{action: scaling.ActionScaleOut, count: 1, source: "notification"}
	byPrometheus := wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus"}
	none := wanted{failed: "scale_out/confirmation"}
	stays := wanted{failed: "scale_in/confirmation"}
	runDecisions(t, map[string]struct {
		w    *world
		want wanted
	}{
		"a silence of the other signal is none":                            {serving(2).confirmed(scaling.Low, 180).says("alertmanager", scaling.High, scaling.EvidenceSuppressed, 180), wanted{action: scaling.ActionScaleIn, victim: "i2", source: "prometheus"}},
		"a denial counts although the other source was not asked":          {fresh().neverAsked("alertmanager"), none},
		"a denial counts although the other source is unreachable":         {fresh().says("alertmanager", scaling.High, scaling.EvidenceUnreachable, 0), none},
		"a denial counts although the other was asked too early":           {fresh().asked("alertmanager", 180), none},
		"a denial counts although the other is of the future":              {fresh().says("alertmanager", scaling.High, scaling.EvidenceFiring, 900), none},
		"a denial of the second counts too":                                {fresh().says("prometheus", scaling.High, scaling.EvidenceFiring, 180), none},
		"a source that was asked as the notification came denies nothing":  {fresh().asked("prometheus", 190).asked("alertmanager", 190), byNotification},
		"a source that was asked just after it does":                       {fresh().asked("prometheus", 190).with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked["alertmanager"] = at(190).Add(1) }), none},
		"one source of two that cannot be asked is enough for high":        {fresh().says("prometheus", scaling.High, scaling.EvidenceUnreachable, 0).says("alertmanager", scaling.High, scaling.EvidenceFiring, 180), wanted{action: scaling.ActionScaleOut, count: 1, source: "alertmanager"}},
		"the first source is the one whose time counts":                    {fresh().says("alertmanager", scaling.High, scaling.EvidenceFiring, 185).says("prometheus", scaling.High, scaling.EvidenceFiring, 180), byPrometheus},
		"high evidence just ahead of what is let pass counts for nothing":  {serving(1).lease(scaling.High, 10).saysAt("prometheus", scaling.High, skew.Add(1)).says("alertmanager", scaling.High, scaling.EvidenceUnreachable, 0), none},
		"low evidence just ahead of what is let pass removes nothing":      {low().with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Evidence = nil }).saysAt("prometheus", scaling.Low, skew.Add(1)).says("alertmanager", scaling.Low, scaling.EvidenceFiring, 180), stays},
		"the second source just ahead of it keeps low from removing":       {low().saysAt("alertmanager", scaling.Low, skew.Add(1)), stays},
		"the second source not asked keeps low from removing":              {low().neverAsked("alertmanager"), stays},
		"the second source unreachable keeps low from removing":            {low().says("alertmanager", scaling.Low, scaling.EvidenceUnreachable, 0), stays},
		"the second source that does not know it keeps low from removing":  {low().asked("alertmanager", 180), stays},
		"the second source may be older than what was used":                {low().says("alertmanager", scaling.Low, scaling.EvidenceFiring, 10), wanted{action: scaling.ActionScaleIn, victim: "i2", source: "prometheus"}},
		"a start that was used proves nothing":                             {fresh().neverAsked("prometheus").neverAsked("alertmanager").with(func(_ *scaling.Input, s *scaling.State) { s.Consumed[scaling.High] = at(settle + 5) }), none},
		"a start just after what was used does":                            {fresh().neverAsked("prometheus").neverAsked("alertmanager").with(func(_ *scaling.Input, s *scaling.State) { s.Consumed[scaling.High] = at(settle + 5).Add(-1) }), byNotification},
		"a start at the end of the settle time proves nothing":             {serving(1).lease(scaling.High, settle).with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked = nil }), none},
		"a start as the notification came counts":                          {serving(1).lease(scaling.High, 190).with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked = nil }), byNotification},
		"without any source a notification is proof of high":               {fresh().set(func(g *scaling.Group) { g.Confirm = nil }), byNotification},
		"old evidence of both with a fresh start is proof by notification": {fresh().says("prometheus", scaling.High, scaling.EvidenceFiring, 10).says("alertmanager", scaling.High, scaling.EvidenceFiring, 10), byNotification},
	})
}

// Which alert it was goes into the cause: the source's own fingerprint, else that
// of the lease that was renewed last.
func TestTheCauseNamesTheAlert(t *testing.T) {
	w := func() *world {
		w := serving(1)
		for k, l := range []scaling.Lease{
			{Signal: scaling.Low, Fingerprint: "other signal", LastSeen: at(199), Expires: at(370)},
			{Signal: scaling.High, Fingerprint: "old", StartsAt: at(60), LastSeen: at(180), Expires: at(360)},
			{Signal: scaling.High, Fingerprint: "newest", StartsAt: at(70), LastSeen: at(190), Expires: at(370)},
			{Signal: scaling.High, Fingerprint: "as new", StartsAt: at(80), LastSeen: at(190), Expires: at(370)},
			{Signal: scaling.High, Fingerprint: "older", StartsAt: at(90), LastSeen: at(170), Expires: at(350)},
			{Signal: scaling.High, Fingerprint: "over", StartsAt: at(90), LastSeen: at(195), Expires: at(200)},
		} {
			l.FirstSeen = at(100 + k)
			w.st.Leases = append(w.st.Leases, l)
		}
		return w
	}
	cause := func(w *world) string {
		v := w.decide()
		return fmt.Sprintf("%s %s %s", v.Cause.Source, v.Cause.Fingerprint, v.Cause.EvidenceAt.Sub(t0))
	}
	if got := cause(w().with(func(in *scaling.Input, _ *scaling.State) { in.Lookup.Asked = nil })); got != "notification newest 1m10s" {
		t.Errorf("by notification: %s", got)
	}
	if got := cause(w().says("prometheus", scaling.High, scaling.EvidenceFiring, 180).says("alertmanager", scaling.High, scaling.EvidenceFiring, 180)); got != "prometheus newest 3m0s" {
		t.Errorf("by a source that names none: %s", got)
	}
	named := w().says("prometheus", scaling.High, scaling.EvidenceFiring, 180).says("alertmanager", scaling.High, scaling.EvidenceFiring, 180)
	named.in.Lookup.Evidence[0].Fingerprint = "its own"
	if got := cause(named); got != "prometheus its own 3m0s" {
		t.Errorf("by a source that names one: %s", got)
	}
}

func TestWhoGoesFirst(t *testing.T) {
	// who is asked for with two candidates that are not the primary.
	pair := func(policy scaling.VictimPolicy, f func(a, b *scaling.Instance, in *scaling.Input)) *world {
		w := serving(3).order(scaling.OrderScaleIn, 1, "").set(func(g *scaling.Group) { g.Victim = policy })
		w.st.Primary = "i1"
		w.st.Instance("i1").Protected = true
		f(w.st.Instance("i2"), w.st.Instance("i3"), &w.in)
		return w
	}
	same := func(a, b *scaling.Instance, _ *scaling.Input) { a.InServiceAt = b.InServiceAt }
	later := func(a, b *scaling.Instance, _ *scaling.Input) { a.InServiceAt = b.InServiceAt.Add(1) }
	busy := func(a, b float64) func(x, y *scaling.Instance, in *scaling.Input) {
		return func(_, _ *scaling.Instance, in *scaling.Input) {
			in.Lookup.Readings = map[string]scaling.Reading{}
			if a >= 0 {
				in.Lookup.Readings["ui2"] = scaling.Reading{Utilization: a, At: in.Now}
			}
			if b >= 0 {
				in.Lookup.Readings["ui3"] = scaling.Reading{Utilization: b, At: in.Now}
			}
		}
	}
	unwell := func(a, _ *scaling.Instance, in *scaling.Input) { in.Unhealthy = map[string]string{a.ID: "down"} }
	suspect := func(a, _ *scaling.Instance, _ *scaling.Input) { a.SuspectSince = at(100) }
	tests := map[string]struct {
		w    *world
		want string
	}{
		"newest":                          {pair(scaling.VictimNewest, func(*scaling.Instance, *scaling.Instance, *scaling.Input) {}), "i3"},
		"newest by the time in service":   {pair(scaling.VictimNewest, later), "i2"},
		"newest of the same time":         {pair(scaling.VictimNewest, same), "i3"},
		"oldest":                          {pair(scaling.VictimOldest, func(*scaling.Instance, *scaling.Instance, *scaling.Input) {}), "i2"},
		"oldest by the time in service":   {pair(scaling.VictimOldest, later), "i3"},
		"oldest of the same time":         {pair(scaling.VictimOldest, same), "i2"},
		"least busy":                      {pair(scaling.VictimLeastBusy, busy(0.1, 0.2)), "i2"},
		"least busy, the other way":       {pair(scaling.VictimLeastBusy, busy(0.2, 0.1)), "i3"},
		"equally busy: the newest":        {pair(scaling.VictimLeastBusy, busy(0.1, 0.1)), "i3"},
		"no reading of one: the newest":   {pair(scaling.VictimLeastBusy, busy(0.1, -1)), "i3"},
		"no reading of the other":         {pair(scaling.VictimLeastBusy, busy(-1, 0.1)), "i3"},
		"no reading of any":               {pair(scaling.VictimLeastBusy, busy(-1, -1)), "i3"},
		"the unwell one":                  {pair(scaling.VictimNewest, unwell), "i2"},
		"the unwell one, when least busy": {pair(scaling.VictimLeastBusy, func(a, b *scaling.Instance, in *scaling.Input) { busy(0.2, 0.1)(a, b, in); unwell(a, b, in) }), "i2"},
		"the one that was unwell":         {pair(scaling.VictimNewest, suspect), "i2"},
		"by order of the instances in a state with the newest first": {pair(scaling.VictimNewest, func(a, b *scaling.Instance, _ *scaling.Input) {
			a.InServiceAt, b.InServiceAt = b.InServiceAt, a.InServiceAt
		}), "i2"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if v := tt.w.decide(); v.Victim != tt.want {
				t.Errorf("victim %q, want %q: %s", v.Victim, tt.want, v.Reason)
			}
			// The order in which the state has them does not matter.
			x := tt.w.st.Instances
			x[1], x[2] = x[2], x[1]
			if v := tt.w.decide(); v.Victim != tt.want {
				t.Errorf("the other way round: victim %q, want %q: %s", v.Victim, tt.want, v.Reason)
			}
		})
	}
	t.Run("who takes over is healthy and longest in service, the first of the same time", func(t *testing.T) {
		for want, f := range map[string]func(s *scaling.State){
			"i2": func(*scaling.State) {},
			"i3": func(s *scaling.State) { s.Instance("i3").InServiceAt = at(-2000) },
			"i4": func(s *scaling.State) {
				s.Instance("i2").SuspectSince = at(1)
				s.Instance("i3").State = scaling.StateFailed
			},
		} {
			w := serving(4).order(scaling.OrderHandover, 0, "").set(func(g *scaling.Group) { g.Max = 4 })
			f(&w.st)
			if v := w.decide(); v.Successor != want {
				t.Errorf("successor %q, want %q: %s", v.Successor, want, v.Reason)
			}
		}
		w := serving(4).order(scaling.OrderHandover, 0, "").set(func(g *scaling.Group) { g.Max = 4 })
		w.st.Instance("i3").InServiceAt = w.st.Instance("i2").InServiceAt
		if v := w.decide(); v.Successor != "i2" {
			t.Errorf("of the same time: %q", v.Successor)
		}
	})
	t.Run("none is left and it says how many are protected", func(t *testing.T) {
		w := serving(3).order(scaling.OrderScaleIn, 1, "").state("i3", scaling.StateFailed)
		w.st.Instances[0].Protected, w.st.Instances[1].Protected, w.st.Instances[2].Protected = true, true, true
		v := w.decide()
		if g, _ := gate(v, "scale_in/victim"); g.Detail != "none in service that is not protected (2 protected)" {
			t.Errorf("%+v", g)
		}
	})
}

func TestCornersOfTheGates(t *testing.T) {
	low := func(n int) *world { return serving(n).confirmed(scaling.Low, 180) }
	high := func(n int) *world { return serving(n).confirmed(scaling.High, 180) }
	state := func(f func(s *scaling.State)) func(*scaling.Input, *scaling.State) {
		return func(_ *scaling.Input, s *scaling.State) { f(s) }
	}
	adopting := func(n int) *world { return serving(n).set(func(g *scaling.Group) { g.Adopt = []string{"vm-test"} }) }
	orderedAt := func(t time.Time) *world {
		return serving(1).order(scaling.OrderScaleOut, 1, "").with(state(func(s *scaling.State) { s.Orders[0].At = t }))
	}
	open := func(a scaling.Activity) *world {
		return serving(2).unwell(100, "i2").set(func(g *scaling.Group) { g.RemovalsPerHour = 1 }).with(state(func(s *scaling.State) { s.Open = []scaling.Activity{a} }))
	}
	out := wanted{action: scaling.ActionScaleOut, count: 1, source: "prometheus"}
	replaced := wanted{action: scaling.ActionReplace, victim: "i2"}
	runDecisions(t, map[string]struct {
		w    *world
		want wanted
	}{
		"nothing is adopted before the provider was listed": {adopting(1).with(func(in *scaling.Input, _ *scaling.State) { in.Known.Listing = false }), wanted{failed: "adopt/started"}},
		"nothing is adopted in the back-off":                {adopting(1).with(state(func(s *scaling.State) { s.BackoffUntil = at(201) })), wanted{failed: "adopt/backoff"}},
		"one is adopted where there is room for one":        {adopting(2), wanted{action: scaling.ActionAdopt, count: 1}},
		"none is adopted at the limit":                      {adopting(3), wanted{failed: "adopt/limit"}},
		"an order of an hour ago is followed":               {orderedAt(at(200 - 3600)), wanted{action: scaling.ActionScaleOut, count: 1}},
		"one of a moment more is not":                       {orderedAt(at(200 - 3600).Add(-1)), wanted{refused: "within"}},
		"surge is no room for an order":                     {serving(2).order(scaling.OrderScaleOut, 2, "").set(func(g *scaling.Group) { g.Surge = 1 }), wanted{action: scaling.ActionScaleOut, count: 1, refused: "1 of 2"}},
		"a handover with just the budget for it": {serving(1).order(scaling.OrderHandover, 0, "").with(func(in *scaling.Input, s *scaling.State) {
			in.Group.CreationsPerHour, s.Creations = 2, []time.Time{at(0)}
		}), wanted{action: scaling.ActionHandover, victim: "i1", count: 1}},
		"without a budget nothing is filled":  {serving(1).set(func(g *scaling.Group) { g.Min, g.CreationsPerHour = 2, 1 }).with(state(func(s *scaling.State) { s.Creations = []time.Time{at(0)} })), wanted{failed: "fill/budget"}},
		"with a budget of one, one is filled": {serving(1).set(func(g *scaling.Group) { g.Min, g.CreationsPerHour = 3, 1 }), wanted{action: scaling.ActionFill, count: 1}},
		"a lowered max finds all protected": {serving(3).set(func(g *scaling.Group) { g.Max = 2 }).with(state(func(s *scaling.State) {
			for k := range s.Instances {
				s.Instances[k].Protected = true
			}
		})), wanted{failed: "scale_in/victim"}},
		"a lowered max waits for the cooldown": {serving(3).set(func(g *scaling.Group) { g.Max = 2 }).with(state(func(s *scaling.State) { s.CooldownUntil = at(201) })), wanted{failed: "scale_in/cooldown"}},
		"the cooldown holds a scale-in back":   {low(2).with(state(func(s *scaling.State) { s.CooldownUntil = at(201) })), wanted{failed: "scale_in/cooldown"}},
		"a hold that is over hides no pause":   {high(1).with(state(func(s *scaling.State) { s.HoldUntil, s.Pause = at(200), &scaling.Pause{Out: true} })), wanted{failed: "scale_out/pause"}},
		"a hold that is over holds nothing":    {high(1).with(state(func(s *scaling.State) { s.HoldUntil = at(200) })), out},
		"a window of the other direction hides no pause": {high(1).with(func(in *scaling.Input, s *scaling.State) {
			in.Maintenance = &scaling.Maintenance{In: true, Until: at(300)}
			s.Pause = &scaling.Pause{Out: true}
		}), wanted{failed: "scale_out/pause"}},
		"a pause of no direction holds nothing":     {high(1).with(state(func(s *scaling.State) { s.Pause = &scaling.Pause{} })), out},
		"a handover that is over needs no budget":   {open(scaling.Activity{Kind: scaling.ActivityHandover, Status: scaling.ActivityUndone, Remove: "i1"}), replaced},
		"another activity needs none":               {open(scaling.Activity{Kind: scaling.ActivityStandby, Status: scaling.ActivityRunning, Remove: "i1"}), replaced},
		"a handover of one that is gone needs none": {open(scaling.Activity{Kind: scaling.ActivityHandover, Status: scaling.ActivityRunning, Remove: "x"}), replaced},
		"a handover of one that drains needs none": {open(scaling.Activity{Kind: scaling.ActivityHandover, Status: scaling.ActivityRunning, Remove: "i3"}).with(state(func(s *scaling.State) {
			s.Instances = append(s.Instances, scaling.Instance{ID: "i3", State: scaling.StateDraining})
		})), replaced},
		"a handover of one in service needs it":                  {open(scaling.Activity{Kind: scaling.ActivityHandover, Status: scaling.ActivityRunning, Remove: "i1"}), wanted{failed: "replace/budget"}},
		"min 0 removes the last one":                             {low(1).set(func(g *scaling.Group) { g.Min = 0 }), wanted{action: scaling.ActionScaleIn, victim: "i1", source: "prometheus"}},
		"a name of one that is gone is the newer one's":          {serving(3).state("i2", scaling.StateGone).order(scaling.OrderScaleIn, 1, "web-3").with(state(func(s *scaling.State) { s.Instance("i2").Name = "web-3" })), wanted{action: scaling.ActionScaleIn, victim: "i3"}},
		"what drains for an alert and what by order: the former": {serving(3).drains("i3").state("i2", scaling.StateDraining).confirmed(scaling.High, 180), wanted{action: scaling.ActionCancelDrain, victim: "i3", source: "prometheus"}},
		"what drains for an activity that is over goes on":       {serving(3).state("i3", scaling.StateDraining).confirmed(scaling.High, 180).set(func(g *scaling.Group) { g.Max = 4 }), out},
		"a group just under max may take a drain back":           {serving(3).drains("i3").confirmed(scaling.High, 180), wanted{action: scaling.ActionCancelDrain, victim: "i3", source: "prometheus"}},
	})
	numbers := map[string]struct {
		w            *world
		gate, detail string
		value, bound float64
	}{
		"one that is cold is in the average of low": {serving(2).with(state(func(s *scaling.State) { s.Instance("i2").InServiceAt = at(199) })), "scale_in/condition", "of 2", 0.1, 0.2},
		"nobody to remove leaves one fewer":         {low(2).with(state(func(s *scaling.State) { s.Instances[0].Protected, s.Instances[1].Protected = true, true })), "scale_in/bounds", "2 in service, 1 healthy ones would be left", 1, 1},
		"nobody healthy leaves nobody":              {low(2).unwell(0, "i1", "i2").with(state(func(s *scaling.State) { s.Instances[0].Protected, s.Instances[1].Protected = true, true })), "scale_in/bounds", "0 healthy ones", 0, 1},
		"three share the work of one":               {low(3).reading("i1", 0.4).reading("i2", 0.5).reading("i3", 0.6), "scale_in/projection", "0.75", 0.75, 0.7},
		"the oldest in the hour counts, in any order": {high(1).with(func(in *scaling.Input, s *scaling.State) {
			in.Group.CreationsPerHour, s.Creations = 2, []time.Time{at(-3000), at(-100)}
		}), "scale_out/budget", "2 creations", 3, 2},
	}
	for name, tt := range numbers {
		t.Run(name, func(t *testing.T) {
			g, ok := gate(tt.w.decide(), tt.gate)
			if !ok || !strings.Contains(g.Detail, tt.detail) {
				t.Errorf("%+v", g)
			}
			number(t, "value", g.Value, tt.value)
			number(t, "bound", g.Bound, tt.bound)
		})
	}
	g, _ := gate(numbers["three share the work of one"].w.decide(), "scale_in/projection")
	if want := "projection 0.75 ≥ 0.70: would pass under an average of 47 %"; g.Change != want {
		t.Errorf("%q, want %q", g.Change, want)
	}
	if g, _ := gate(numbers["the oldest in the hour counts, in any order"].w.decide(), "scale_out/budget"); !g.Until.Equal(at(600)) {
		t.Errorf("until %s", g.Until)
	}
	if g, _ := gate(serving(2).lease(scaling.Low, 100).with(state(func(s *scaling.State) { s.LastActionEnd = time.Time{} })).decide(), "scale_in/confirmation"); g.Change != "evidence past never" {
		t.Errorf("%q", g.Change)
	}
}

func TestCheck(t *testing.T) {
	o := func(kind scaling.OrderKind, n int, who string) scaling.Order {
		return scaling.Order{Kind: kind, Count: n, Instance: who}
	}
	full := func(n int) *world {
		w := serving(2)
		for range n {
			w.order(scaling.OrderScaleOut, 1, "")
		}
		return w
	}
	none := serving(2)
	none.st.Primary = ""
	protected := serving(2)
	protected.st.Instance("i2").Protected = true
	tests := map[string]struct {
		w       *world
		o       scaling.Order
		want    string // what it will do, or why not
		refused error
	}{
		"one more":                      {serving(2), o(scaling.OrderScaleOut, 1, ""), "will launch 1", nil},
		"none more":                     {serving(2), o(scaling.OrderScaleOut, 0, ""), "count must be at least 1, not 0", scaling.ErrRefused},
		"more than max":                 {serving(2), o(scaling.OrderScaleOut, 2, ""), "2 and 2 more are over max 3", scaling.ErrRefused},
		"one fewer":                     {serving(2), o(scaling.OrderScaleIn, 1, ""), "will drain and remove 1", nil},
		"two fewer":                     {serving(3), o(scaling.OrderScaleIn, 2, ""), "will drain and remove 2", nil},
		"none fewer":                    {serving(2), o(scaling.OrderScaleIn, 0, ""), "count must be at least 1, and 1 with an instance, not 0", scaling.ErrRefused},
		"under min":                     {serving(2), o(scaling.OrderScaleIn, 2, ""), "2 and 2 fewer are under min 1", scaling.ErrRefused},
		"this one":                      {serving(2), o(scaling.OrderScaleIn, 1, "web-2"), "will drain and remove 1", nil},
		"this one twice":                {serving(3), o(scaling.OrderScaleIn, 2, "web-2"), "1 with an instance, not 2", scaling.ErrRefused},
		"nobody known":                  {serving(2), o(scaling.OrderScaleIn, 1, "web-9"), `"web-9"`, scaling.ErrUnknownInstance},
		"one that boots":                {serving(2).state("i2", scaling.StateBooting), o(scaling.OrderScaleIn, 1, "web-2"), "web-2 is booting, not in_service", scaling.ErrRefused},
		"a protected one":               {protected, o(scaling.OrderScaleIn, 1, "i2"), "web-2 is protected", scaling.ErrRefused},
		"handover":                      {serving(2), o(scaling.OrderHandover, 0, ""), "will make sure of a successor, then drain and remove the old one", nil},
		"handover without a primary":    {none, o(scaling.OrderHandover, 0, ""), "the group has no primary", scaling.ErrRefused},
		"handover of a named one":       {none, o(scaling.OrderHandover, 0, "web-2"), "will make sure of a successor", nil},
		"desired min":                   {serving(2), o(scaling.OrderSetDesired, 1, ""), "will go from 2 to 1", nil},
		"desired max":                   {serving(2), o(scaling.OrderSetDesired, 3, ""), "will go from 2 to 3", nil},
		"desired under min":             {serving(2), o(scaling.OrderSetDesired, 0, ""), "0 is outside min 1 and max 3", scaling.ErrRefused},
		"desired over max":              {serving(2), o(scaling.OrderSetDesired, 4, ""), "4 is outside min 1 and max 3", scaling.ErrRefused},
		"something else":                {serving(2), o("dance", 1, ""), `unknown kind of order "dance"`, scaling.ErrRefused},
		"one more order than may wait":  {full(16), o(scaling.OrderScaleOut, 1, ""), "16 orders are waiting already", scaling.ErrRefused},
		"the last order that may wait":  {full(15), o(scaling.OrderScaleOut, 1, ""), "will launch 1", nil},
		"a launch under way is counted": {serving(3).state("i3", scaling.StateCreating), o(scaling.OrderScaleOut, 1, ""), "3 and 1 more are over max 3", scaling.ErrRefused},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.w.st.Check(tt.o, tt.w.in.Group)
			if !errors.Is(err, tt.refused) {
				t.Fatalf("%q, %v", got, err)
			}
			if err != nil {
				if got != "" {
					t.Errorf("refused and yet %q", got)
				}
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q in it", got, tt.want)
			}
		})
	}
}

// A copy shares nothing with what it was made from.
func TestACloneSharesNothing(t *testing.T) {
	full := func() scaling.State {
		w := serving(2).lease(scaling.High, 100).order(scaling.OrderScaleIn, 1, "")
		s := w.st
		s.AdoptedNames = []string{"a", "b"}
		s.Open = []scaling.Activity{{ID: "a", Steps: []scaling.Step{{Name: "x"}}}}
		s.Pause = &scaling.Pause{Reason: "r"}
		s.Consumed = map[scaling.Signal]time.Time{scaling.High: at(1)}
		s.Creations, s.Removals = []time.Time{at(1)}, []time.Time{at(2)}
		s.Answers = []scaling.Answer{{Key: "k"}}
		return s
	}
	s := full()
	c := s.Clone()
	if diff := cmp.Diff(full(), c, equate); diff != "" {
		t.Errorf("the copy is another (-want +got):\n%s", diff)
	}
	c.AdoptedNames[0], c.Instances[0].ID, c.Open[0].Steps[0].Name, c.Open[0].ID = "x", "x", "y", "x"
	c.Leases[0].Fingerprint, c.Orders[0].ID, c.Pause.Reason, c.Answers[0].Key = "x", "x", "x", "x"
	c.Consumed[scaling.High], c.Creations[0], c.Removals[0] = at(9), at(9), at(9)
	if diff := cmp.Diff(full(), s, equate); diff != "" {
		t.Errorf("writing to the copy changed the original (-want +got):\n%s", diff)
	}
}
