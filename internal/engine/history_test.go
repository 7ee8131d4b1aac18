package engine_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// -histories and -seed choose how many random histories the real engine lives
// through and where they begin; make test-chaos takes more of them.
var (
	histories = flag.Int("histories", 12, "random histories of TestHistories")
	firstSeed = flag.Uint64("seed", 1, "seed of the first of them")
)

// quiet is the context of the observer: no fault meets it.
type quiet struct{}

func quietly() context.Context { return context.WithValue(context.Background(), quiet{}, true) }

// past is one engine over one simulated world, watched from outside.
type past struct {
	t     *testing.T
	rnd   *rand.Rand // what happens
	odds  *rand.Rand // which call fails, and how
	world *simulated.World
	prov  *simulated.Provider
	db    string

	store *store.Store
	eng   *engine.Engine
	stop  context.CancelFunc
	ended chan error

	mu    sync.Mutex
	group scaling.Group
	said  map[string]bool // "signal time" of every evidence that was given
	// What the sources say, and how busy the VMs are.
	signal   scaling.Signal
	util     float64
	down     bool
	faulty   float64  // how likely a call fails
	points   []string // where; none: everywhere
	empty    bool     // a listing says that there is nothing
	hidden   string   // a VM that listings do not show
	created  map[string]time.Time
	drained  []time.Time
	failed   map[string]bool
	log      []string
	problems []string
	// kept are VMs that are nobody's, or were adopted: they outlive everything but
	// somebody who removes them by hand.
	kept map[string]bool
}

func (p *past) logf(format string, args ...any) {
	p.log = append(p.log, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// wrong notes a violation. Callers hold mu.
func (p *past) wrong(format string, args ...any) {
	p.problems = append(p.problems, fmt.Sprintf(format, args...))
	p.logf("WRONG: "+format, args...)
}

// fault is the simulated world's hook.
func (p *past) fault(ctx context.Context, point string, _ scaling.Ref) error {
	if ctx.Value(quiet{}) != nil {
		return nil
	}
	p.mu.Lock()
	hit := p.odds.Float64() < p.faulty && (len(p.points) == 0 || slices.Contains(p.points, point))
	class := scaling.Class(p.odds.IntN(7))
	p.mu.Unlock()
	switch {
	case !hit:
		return nil
	case class > scaling.Permanent:
		return simulated.Hang(ctx)
	case class == scaling.NotFound && (strings.HasPrefix(point, "delete") || strings.HasPrefix(point, "release")):
		class = scaling.Temporary // "it is gone" about what is there would be a broken driver
	}
	return scaling.Errorf(class, "fault at %s", point)
}

// watched is the provider as the engine sees it: lies about listings, and every
// call that changes something is held against what is true.
type watched struct {
	*simulated.Provider
	p *past
}

func (w watched) List(ctx context.Context) ([]scaling.VM, error) {
	vms, err := w.Provider.List(ctx)
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	// An instance that failed to go and is not listed any more was cleared up by a
	// person: there the listing is taken at its word, and so it does not lie.
	return slices.DeleteFunc(vms, func(v scaling.VM) bool { return !w.p.failed[v.ID] && (w.p.empty || v.Name == w.p.hidden) }), err
}

func (w watched) Create(ctx context.Context, s scaling.LaunchSpec) (scaling.VM, error) {
	w.p.mu.Lock()
	if _, again := w.p.created[s.ID]; !again {
		w.p.created[s.ID] = time.Now()
		n := 0
		for _, t := range w.p.created {
			if time.Since(t) < time.Hour {
				n++
			}
		}
		if n > w.p.group.CreationsPerHour {
			w.p.wrong("%d creations in an hour", n)
		}
	}
	w.p.logf("create %s", s.Name)
	w.p.mu.Unlock()
	vm, err := w.Provider.Create(ctx, s)
	all, lerr := w.Provider.List(quietly()) //nolint:contextcheck // the observer asks for itself
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if lerr != nil || len(all) > w.p.group.Limit() {
		w.p.wrong("%d VMs exist after %s was created, %v; at most %d", len(all), s.Name, lerr, w.p.group.Limit())
	}
	return vm, err
}

// leaves checks that what is shut down or deleted takes no traffic any more.
func (w watched) leaves(what string, ref scaling.Ref) {
	st, err := w.p.world.Pool("web").Observe(quietly())
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.logf("%s %s", what, ref.Name)
	if m, ok := st.Member(ref.ID); err != nil || (ok && m.State == scaling.MemberReady) {
		w.p.wrong("%s of %s, which takes traffic: %+v, %v", what, ref.Name, m, err)
	}
}

func (w watched) Shutdown(ctx context.Context, ref scaling.Ref, force bool) error {
	w.leaves("shutdown", ref) //nolint:contextcheck // the observer asks for itself
	return w.Provider.Shutdown(ctx, ref, force)
}

func (w watched) Delete(ctx context.Context, ref scaling.Ref) error {
	w.leaves("delete", ref)          //nolint:contextcheck // the observer asks for itself
	vm, err := w.Get(quietly(), ref) //nolint:contextcheck // as above
	w.p.mu.Lock()
	if ref.Adopted || vm.Adopted {
		w.p.wrong("delete of %s, which was adopted and is to be kept", ref.Name)
	}
	if err == nil && vm.ID != ref.ID {
		w.p.wrong("delete of %s, which carries the mark of %s", ref.Name, vm.ID)
	}
	w.p.mu.Unlock()
	return w.Provider.Delete(ctx, ref)
}

// audited is the store: every change is held against the state before it.
type audited struct {
	scaling.Store
	p *past
}

func (a audited) Change(ctx context.Context, group string, fn func(*scaling.State) error) error {
	var before, after scaling.State
	err := a.Store.Change(ctx, group, func(s *scaling.State) error {
		before = s.Clone()
		err := fn(s)
		after = s.Clone()
		return err
	})
	if err == nil {
		a.p.mu.Lock()
		defer a.p.mu.Unlock()
		a.p.audit(&before, &after)
	}
	return err
}

func (p *past) audit(before, after *scaling.State) {
	g := p.group
	for _, i := range after.Instances {
		old := before.Instance(i.ID)
		if old == nil || old.State == i.State {
			continue
		}
		p.logf("%s %s -> %s %s", i.Name, old.State, i.State, i.Failure)
		if i.State == scaling.StateFailed {
			p.failed[i.ID] = true
		}
		if old.State != scaling.StateInService || i.State == scaling.StateStandby {
			continue
		}
		if i.State != scaling.StateDraining {
			p.wrong("%s went from in_service to %s", i.Name, i.State)
		}
		if old.Protected {
			p.wrong("the protected %s drains", i.Name)
		}
		rest := 0
		for _, o := range after.Instances {
			if o.ID != i.ID && o.State == scaling.StateInService && o.SuspectSince.IsZero() {
				rest++
			}
		}
		if i.SuspectSince.IsZero() && rest < g.Min {
			p.wrong("the healthy %s drains and leaves %d healthy of min %d", i.Name, rest, g.Min)
		}
		p.drained = append(p.drained, time.Now())
		n := 0
		for _, t := range p.drained {
			if time.Since(t) < time.Hour {
				n++
			}
		}
		if n > g.RemovalsPerHour {
			p.wrong("%d removals in an hour", n)
		}
	}
	if len(after.Instances) > len(before.Instances) && after.Owned() > g.Limit() {
		p.wrong("%d owned of at most %d after a creation", after.Owned(), g.Limit())
	}
	if after.Primary != "" {
		if i := after.Instance(after.Primary); i == nil || i.State != scaling.StateInService {
			p.wrong("the primary %s is not in service: %+v", after.Primary, i)
		}
	}
	for sig, t := range before.Consumed {
		if after.Consumed[sig].Before(t) {
			p.wrong("what was used of %s falls", sig)
		}
	}
	for _, a := range after.Open {
		if before.Activity(a.ID) != nil || a.Cause.Kind != scaling.CauseAlert {
			continue
		}
		p.logf("%s by %s of %s", a.Kind, a.Cause.Signal, a.Cause.EvidenceAt.Format("15:04:05.000"))
		if !a.Cause.EvidenceAt.After(before.Consumed[a.Cause.Signal]) {
			p.wrong("%s on evidence of %s, which was used", a.Kind, a.Cause.EvidenceAt)
		}
		if a.Cause.Signal == scaling.Low && !p.said["low "+a.Cause.EvidenceAt.UTC().String()] {
			p.wrong("%s on low evidence of %s, which nobody gave", a.Kind, a.Cause.EvidenceAt)
		}
		if e := before.LastActionEnd; !e.IsZero() && !a.Cause.EvidenceAt.After(e.Add(g.Settle())) {
			p.wrong("%s on evidence of %s, and the last action ended at %s", a.Kind, a.Cause.EvidenceAt, e)
		}
		if a.Cause.Signal == scaling.Low && p.signal == scaling.High && time.Since(a.Cause.EvidenceAt) < time.Second {
			p.wrong("%s by low while high fires", a.Kind)
		}
	}
}

func (p *past) Source() string { return "prometheus" }

func (p *past) Confirm(context.Context) ([]scaling.Evidence, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return nil, scaling.Errorf(scaling.Temporary, "connection refused")
	}
	if p.signal == "" {
		return nil, nil
	}
	at := time.Now().Add(-time.Second)
	p.said[string(p.signal)+" "+at.UTC().String()] = true
	return []scaling.Evidence{{Group: "web", Signal: p.signal, State: scaling.EvidenceFiring, At: at}}, nil
}

func (p *past) Readings(ctx context.Context) (map[string]scaling.Reading, error) {
	vms, err := p.prov.List(context.WithValue(ctx, quiet{}, true))
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]scaling.Reading{}
	for _, vm := range vms {
		if vm.Power == scaling.PowerRunning {
			out[vm.UUID] = scaling.Reading{Utilization: p.util, At: time.Now().Add(-time.Second)}
		}
	}
	return out, err
}

func newPast(t *testing.T, seed uint64) *past {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 2))
	cfg := simulated.DefaultConfig()
	cfg.VMs = []simulated.ForeignVM{{Name: "vm-test", VCPUs: 1}}
	p := &past{
		t: t, rnd: rnd, odds: rand.New(rand.NewPCG(seed, 3)),
		db: filepath.Join(t.TempDir(), "s.db"), said: map[string]bool{}, created: map[string]time.Time{}, failed: map[string]bool{}, kept: map[string]bool{"vm-test": true},
	}
	w, err := simulated.NewWorld(cfg, simulated.Options{Faults: p.fault})
	if err != nil {
		t.Fatal(err)
	}
	p.world, p.prov = w, w.Provider("test", nil)
	least := rnd.IntN(3)
	p.group = scaling.Group{
		Name: "web", Mode: scaling.ModeFull, Min: least, Max: max(2, least+rnd.IntN(3)), Surge: rnd.IntN(2), High: 0.7, Low: 0.2,
		LeaseTTL: time.Minute, Cooldown: 5 * time.Second, WarmUp: 3 * time.Second,
		Windows:        scaling.Windows{Scrape: time.Second, Evaluation: time.Second, Rate: 4 * time.Second},
		LaunchDeadline: 30 * time.Second, DrainDeadline: 20 * time.Second, ShutdownDeadline: 10 * time.Second, CallDeadline: 5 * time.Second,
		CreationsPerHour: 20, RemovalsPerHour: 20, BackoffMin: 5 * time.Second, BackoffMax: 30 * time.Second, Grace: 20 * time.Second, MaxUnhealthy: 0.5,
		Victim:   []scaling.VictimPolicy{scaling.VictimNewest, scaling.VictimOldest, scaling.VictimLeastBusy}[rnd.IntN(3)],
		OnRemove: scaling.OnRemoveKeep, NamePattern: "web-{n}", Provider: "sim", Balancer: "pool", Port: 80, Confirm: []string{"prometheus"},
	}
	if rnd.IntN(3) == 0 {
		p.group.Adopt = []string{"vm-test"}
	}
	p.start()
	return p
}

func (p *past) configs() []engine.GroupConfig {
	return []engine.GroupConfig{{Group: p.group, Provider: watched{p.prov, p}, Balancer: p.world.Pool("web")}}
}

func (p *past) start() {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	st, err := store.Open(ctx, p.db, store.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	p.eng, err = engine.New(ctx, engine.Options{
		Store: audited{st, p}, Logger: slog.New(slog.DiscardHandler), Meter: p, Confirmers: []scaling.Confirmer{p}, Groups: p.configs(),
		LookupTick: time.Second, ListTick: time.Second,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.store, p.stop, p.ended = st, cancel, make(chan error, 1)
	go func() { p.ended <- p.eng.Run(ctx) }()
}

func (p *past) halt() {
	p.stop()
	if err := <-p.ended; err != nil {
		p.t.Errorf("run: %v", err)
	}
	if err := p.store.Close(); err != nil {
		p.t.Errorf("close the store: %v", err)
	}
}

// n is a random number under k.
func (p *past) n(k int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rnd.IntN(k)
}

func (p *past) with(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *past) state() scaling.State {
	v, err := p.eng.Group(quietly(), "web")
	if err != nil {
		p.t.Fatal(err)
	}
	return v.State
}

// anybody is the name of an instance, if there is one.
func (p *past) anybody() string {
	st := p.state()
	if len(st.Instances) == 0 {
		return "nobody"
	}
	return st.Instances[p.n(len(st.Instances))].Name
}

// happen lets something happen.
func (p *past) happen() {
	ctx := quietly()
	what := p.n(16)
	p.with(func() { p.logf("event %d", what) })
	switch what {
	case 0, 1, 2, 3:
		sig := []scaling.Signal{scaling.High, scaling.Low}[what%2]
		p.with(func() { p.signal, p.util = sig, map[scaling.Signal]float64{scaling.High: 0.95, scaling.Low: 0.05}[sig] })
		n := scaling.Notification{Group: "web", Signal: sig, Firing: true, Fingerprint: "f-" + string(sig), StartsAt: time.Now().Add(-time.Second)}
		for range 1 + p.n(4) {
			_, _ = p.eng.Notify(ctx, []scaling.Notification{n, n})
		}
	case 4:
		p.with(func() { p.signal = "" })
		_, _ = p.eng.Notify(ctx, []scaling.Notification{{Group: "web", Signal: scaling.High, Fingerprint: "f-high", StartsAt: time.Now()}})
	case 5, 6:
		points := simulated.FaultPoints()
		k, rate := p.n(len(points)), []float64{0.1, 0.5, 1}[p.n(3)]
		p.with(func() {
			p.faulty, p.points = rate, nil
			if rate > 0.4 {
				p.points = points[k : k+1]
			}
		})
	case 7:
		p.with(func() { p.faulty = 0 })
	case 8:
		name, power := p.anybody(), []scaling.Power{scaling.PowerStopped, scaling.PowerPaused, scaling.PowerRunning, scaling.PowerCrashed}[p.n(4)]
		_ = p.world.SetPower(name, power)
	case 9:
		name := p.anybody()
		delete(p.kept, name)
		_ = p.world.RemoveVM(name)
	case 10:
		name := p.anybody()
		p.with(func() { p.empty, p.hidden = p.rnd.IntN(3) == 0, name })
	case 11:
		if name := fmt.Sprintf("copy-%d", len(p.kept)); p.n(2) == 0 && len(p.kept) < 4 {
			// Somebody clones a VM by hand, and its mark with it.
			if _, err := p.world.CloneVM(name, p.anybody()); err == nil {
				p.kept[name] = true
			}
			return
		}
		_ = p.world.ForgetPool("web")
	case 12:
		p.halt()
		time.Sleep(time.Duration(p.n(40)) * time.Second)
		p.start()
	case 13:
		o := scaling.Order{Kind: []scaling.OrderKind{scaling.OrderScaleOut, scaling.OrderScaleIn, scaling.OrderHandover, scaling.OrderSetDesired}[p.n(4)], Count: p.n(4), By: "ops"}
		_, _ = p.eng.Order(ctx, "web", o)
	case 14:
		switch p.n(4) {
		case 0:
			_ = p.eng.Standby(ctx, "web", p.anybody(), p.n(2) == 0, "ops")
		case 1:
			_ = p.eng.Protect(ctx, "web", p.anybody(), p.n(2) == 0, "ops")
		case 2:
			_ = p.eng.Pause(ctx, "web", scaling.Pause{Out: true, In: p.n(2) == 0, Until: time.Now().Add(time.Minute), By: "ops"})
		case 3:
			_ = p.eng.Resume(ctx, "web", "ops")
		}
	case 15:
		p.with(func() { p.down = !p.down })
	}
}

// calm ends every fault and lie, and lets a person clear up what only a person may.
func (p *past) calm() {
	p.with(func() { p.faulty, p.empty, p.hidden, p.signal, p.down = 0, false, "", "", false })
	if err := p.eng.Resume(quietly(), "web", "ops"); err != nil {
		p.t.Error(err)
	}
	// More unwell at once than one half is what a person has to say a word to.
	p.group.MaxUnhealthy = 1
	if err := p.eng.Reload(quietly(), p.configs()); err != nil {
		p.t.Error(err)
	}
	for _, i := range p.state().Instances {
		_ = p.eng.Protect(quietly(), "web", i.ID, false, "ops")
		_ = p.eng.Standby(quietly(), "web", i.ID, false, "ops")
		if i.State == scaling.StateFailed {
			delete(p.kept, i.Name)
			_ = p.world.RemoveVM(i.Name)
		}
		_ = p.world.SetPower(i.Name, scaling.PowerRunning)
	}
}

// settled says what keeps the world from being as the state wants it; empty: nothing.
func (p *past) settled() string {
	st := p.state()
	vms, err := p.prov.List(quietly())
	pool, perr := p.world.Pool("web").Observe(quietly())
	if err := errors.Join(err, perr); err != nil {
		return err.Error()
	}
	if n := st.Count(scaling.StateInService); n < p.group.Min || n != st.Owned() || n > p.group.Max {
		return fmt.Sprintf("%d in service of %d owned", n, st.Owned())
	}
	for _, i := range st.Instances {
		if i.State != scaling.StateInService {
			continue
		}
		if m, ok := pool.Member(i.ID); !ok || m.State != scaling.MemberReady || m.Health != scaling.HealthUp {
			return fmt.Sprintf("%s is %+v in the pool", i.Name, m)
		}
		if !slices.ContainsFunc(vms, func(v scaling.VM) bool { return v.ID == i.ID && v.Power == scaling.PowerRunning }) {
			return i.Name + " has no VM that runs"
		}
	}
	if len(vms) != st.Owned() || len(pool.Members) != st.Owned() || len(st.Open) != 0 {
		return fmt.Sprintf("%d VMs, %d members, %d owned, activities %+v", len(vms), len(pool.Members), st.Owned(), st.Open)
	}
	p.mu.Lock()
	failed := maps.Clone(p.failed)
	p.mu.Unlock()
	for _, left := range p.world.Leftovers() {
		id, disk := strings.CutPrefix(left, "disk of ")
		if i := st.Instance(id); disk && !failed[id] && (i == nil || i.State == scaling.StateGone) {
			return left
		}
	}
	return ""
}

// Whatever fails, lies, hangs or is ordered, and whenever the engine is stopped and
// started: what its provider, its pool and its store are asked to do keeps to the
// rules, and once all is calm the world is as the state wants it, with nothing
// left over.
func TestHistories(t *testing.T) {
	began, events := time.Now(), 0
	for k := range *histories {
		seed := *firstSeed + uint64(k)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPast(t, seed)
				for range 30 {
					p.happen()
					events++
					time.Sleep([]time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, 20 * time.Second, time.Minute}[p.n(5)])
					if len(p.problems) > 0 {
						break
					}
				}
				p.calm()
				why := p.settled()
				for n := 0; why != "" && n < 160 && len(p.problems) == 0; n++ {
					time.Sleep(30 * time.Second)
					if n%4 == 3 {
						p.calm()
					}
					why = p.settled()
				}
				synctest.Wait()
				p.halt()
				for name := range p.kept {
					if err := p.world.SetPower(name, scaling.PowerRunning); err != nil {
						p.problems = append(p.problems, name+" is gone, which was not ours to delete")
					}
				}
				if why != "" {
					p.problems = append(p.problems, "it never settled: "+why)
				}
				if len(p.problems) > 0 {
					t.Errorf("%s\nthe group: %+v\nthe state: %v\n%s", strings.Join(p.problems, "\n"), p.group, slices.Collect(maps.Keys(p.created)), strings.Join(p.log, "\n"))
				}
			})
		})
	}
	t.Logf("%d histories of %d events in %s", *histories, events, time.Since(began).Round(time.Millisecond))
}

// The observer can find something: each of these changes breaks a rule.
func TestTheObserverSees(t *testing.T) {
	base := func() scaling.State {
		s := scaling.State{Primary: "a", LastActionEnd: time.Unix(1000, 0), Consumed: map[scaling.Signal]time.Time{scaling.Low: time.Unix(1100, 0)}}
		for _, id := range []string{"a", "b"} {
			s.Instances = append(s.Instances, scaling.Instance{ID: id, Name: id, State: scaling.StateInService})
		}
		return s
	}
	acts := func(sig scaling.Signal, at int64) func(_, after *scaling.State) {
		return func(_, after *scaling.State) {
			after.Open = []scaling.Activity{{ID: "x", Kind: scaling.ActivityScaleIn, Cause: scaling.Cause{Kind: scaling.CauseAlert, Signal: sig, EvidenceAt: time.Unix(at, 0)}}}
		}
	}
	tests := map[string]struct {
		change func(before, after *scaling.State)
		want   string
	}{
		"nothing happens":   {func(_, _ *scaling.State) {}, ""},
		"one of two drains": {func(_, after *scaling.State) { after.Instances[1].State = scaling.StateDraining }, ""},
		"one of two drains, one is unwell": {func(_, after *scaling.State) {
			after.Instances[1].State = scaling.StateDraining
			after.Instances[0].SuspectSince = time.Unix(1, 0)
		}, "leaves 0 healthy"},
		"a protected one drains": {func(before, after *scaling.State) {
			before.Instances[1].Protected = true
			after.Instances[1].State = scaling.StateDraining
		}, "protected"},
		"one is removed without a drain": {func(_, after *scaling.State) { after.Instances[1].State = scaling.StateRemoving }, "went from in_service"},
		"the primary drains":             {func(_, after *scaling.State) { after.Instances[0].State = scaling.StateDraining }, "primary"},
		"there are more than max": {func(_, after *scaling.State) {
			after.Instances = append(after.Instances, scaling.Instance{ID: "c"}, scaling.Instance{ID: "d"})
		}, "4 owned of at most 3"},
		"evidence is used again":          {acts(scaling.Low, 1100), "was used"},
		"evidence that nobody gave":       {acts(scaling.Low, 1200), "nobody gave"},
		"evidence from before the settle": {acts(scaling.High, 1001), "last action ended"},
		"what was used falls":             {func(_, after *scaling.State) { after.Consumed = nil }, "falls"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := &past{t: t, said: map[string]bool{}, failed: map[string]bool{}, group: scaling.Group{Min: 1, Max: 3, Cooldown: time.Minute, RemovalsPerHour: 5}}
			before, after := base(), base()
			tt.change(&before, &after)
			p.audit(&before, &after)
			if got := strings.Join(p.problems, "; "); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}
