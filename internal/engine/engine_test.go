package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// sources stand in for Prometheus and Alertmanager: they say what the test told
// them, with the evidence time of now minus their lag.
type sources struct {
	mu      sync.Mutex
	signals map[scaling.Signal]scaling.EvidenceState
	util    float64
	down    bool
	blank   bool             // no VM has a reading
	now     func() time.Time // their clock; nil: the bubble's
	world   *simulated.Provider
	asked   int // how often conditions were asked for
}

func (s *sources) set(sig scaling.Signal, st scaling.EvidenceState, util float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signals = map[scaling.Signal]scaling.EvidenceState{}
	if sig != "" {
		s.signals[sig] = st
	}
	s.util = util
}

func (s *sources) clock() time.Time {
	if s.now == nil {
		return time.Now()
	}
	return s.now()
}

func (s *sources) Source() string { return "prometheus" }

func (s *sources) Confirm(context.Context) ([]scaling.Evidence, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.down {
		return nil, scaling.Errorf(scaling.Temporary, "connection refused")
	}
	var out []scaling.Evidence
	for sig, st := range s.signals {
		out = append(out, scaling.Evidence{Group: "web", Signal: sig, State: st, At: s.clock().Add(-time.Second)})
	}
	return out, nil
}

func (s *sources) Readings(ctx context.Context) (map[string]scaling.Reading, error) {
	s.mu.Lock()
	util, now, blank := s.util, s.clock(), s.blank
	s.mu.Unlock() // the listing may hang, and a bubble's time stands still behind a mutex
	vms, err := s.world.List(ctx)
	out := map[string]scaling.Reading{}
	if blank {
		return out, err
	}
	for _, vm := range vms {
		out[vm.UUID] = scaling.Reading{Utilization: util, At: now.Add(-time.Second)}
	}
	return out, err
}

// rig is an engine over a simulated world, in a synctest bubble.
type rig struct {
	t       *testing.T
	world   *simulated.World
	prov    *simulated.Provider
	src     *sources
	db      string
	group   scaling.Group
	observe bool
	stepped atomic.Int64 // what the wall clock was set forward
	blank   atomic.Bool  // the provider lists nothing, completely
	// relocated is the address that every listed VM has; nil: its own
	relocated atomic.Pointer[netip.Addr]
	windows   engine.Maintenance
	wrap      func(scaling.Balancer) scaling.Balancer // nil: the simulated pool as it is
	registry  prometheus.Registerer                   // nil: no metrics
	paces     bool                                    // the engine's own paces, not those of the tests

	store *store.Store
	eng   *engine.Engine
	stop  context.CancelFunc
	ended chan error
}

func newRig(t *testing.T, change func(*rig)) *rig {
	t.Helper()
	cfg := simulated.DefaultConfig()
	cfg.VMs = []simulated.ForeignVM{{Name: "vm-test", VCPUs: 1}}
	w, err := simulated.NewWorld(cfg, simulated.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{
		t: t, world: w, prov: w.Provider("test", nil), src: &sources{}, db: filepath.Join(t.TempDir(), "s.db"),
		group: scaling.Group{
			Name: "web", Mode: scaling.ModeFull, Min: 1, Max: 3, High: 0.7, Low: 0.2, LeaseTTL: 3 * time.Minute,
			Cooldown: 5 * time.Second, WarmUp: 3 * time.Second,
			Windows:        scaling.Windows{Scrape: time.Second, Evaluation: time.Second, Rate: 4 * time.Second},
			LaunchDeadline: 30 * time.Second, DrainDeadline: 20 * time.Second, ShutdownDeadline: 10 * time.Second, CallDeadline: 5 * time.Second,
			CreationsPerHour: 100, RemovalsPerHour: 100, BackoffMin: 10 * time.Second, BackoffMax: time.Minute,
			Grace: 30 * time.Second, MaxUnhealthy: 0.5,
			Victim: scaling.VictimNewest, OnRemove: scaling.OnRemoveKeep, NamePattern: "web-{n}",
			Provider: "sim", Balancer: "pool", Port: 80, Confirm: []string{"prometheus"},
		},
	}
	r.src.world = r.prov
	if change != nil {
		change(r)
	}
	r.start()
	t.Cleanup(func() { r.halt() })
	return r
}

func (r *rig) start() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	st, err := store.Open(ctx, r.db, store.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	var pool scaling.Balancer = r.world.Pool("web")
	if r.wrap != nil {
		pool = r.wrap(pool)
	}
	opts := engine.Options{
		Store: st, Logger: slog.New(slog.DiscardHandler), Meter: r.src, Confirmers: []scaling.Confirmer{r.src},
		Groups:  []engine.GroupConfig{{Group: r.group, Provider: &forgetful{r.prov, r}, Balancer: pool, Maintenance: r.windows}},
		Now:     func() time.Time { return time.Now().Add(time.Duration(r.stepped.Load())) },
		Observe: r.observe, Registerer: r.registry,
	}
	if !r.paces {
		opts.LookupTick, opts.ListTick = time.Second, time.Second
	}
	r.eng, err = engine.New(ctx, opts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.store, r.stop, r.ended = st, cancel, make(chan error, 1)
	go func() { r.ended <- r.eng.Run(ctx) }()
}

// forgetful is a provider that may list nothing without an error.
type forgetful struct {
	*simulated.Provider

	r *rig
}

func (f *forgetful) List(ctx context.Context) ([]scaling.VM, error) {
	vms, err := f.Provider.List(ctx)
	if f.r.blank.Load() {
		vms = nil
	}
	if to := f.r.relocated.Load(); to != nil {
		for k := range vms {
			vms[k].Addresses = []netip.Addr{*to}
		}
	}
	return vms, err
}

// wrapHealth changes what the pool says of members from the next start on.
func (r *rig) wrapHealth(change func(*scaling.MemberStatus)) {
	r.wrap = func(b scaling.Balancer) scaling.Balancer { return &altered{b, change} }
}

type altered struct {
	scaling.Balancer

	change func(*scaling.MemberStatus)
}

func (a *altered) Observe(ctx context.Context) (scaling.PoolStatus, error) {
	st, err := a.Balancer.Observe(ctx)
	for k := range st.Members {
		a.change(&st.Members[k])
	}
	return st, err
}

// halt stops the engine in whatever it is doing, as a restart would.
func (r *rig) halt() {
	if r.stop == nil {
		return
	}
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Errorf("run: %v", err)
	}
	if err := r.store.Close(); err != nil {
		r.t.Errorf("close the store: %v", err)
	}
	r.stop = nil
}

func (r *rig) alert(sig scaling.Signal, util float64) {
	r.t.Helper()
	r.src.set(sig, scaling.EvidenceFiring, util)
	r.post(sig, true)
}

func (r *rig) post(sig scaling.Signal, firing bool) scaling.NotifyResult {
	r.t.Helper()
	res, err := r.eng.Notify(context.Background(), []scaling.Notification{{
		Group: "web", Signal: sig, Firing: firing, Fingerprint: "f-" + string(sig), StartsAt: time.Now().Add(-time.Second),
	}})
	if err != nil {
		r.t.Fatal(err)
	}
	return res[0]
}

func (r *rig) view() scaling.GroupView {
	r.t.Helper()
	v, err := r.eng.Group(context.Background(), "web")
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// serving lists the names in service.
func (r *rig) serving() string { return r.names(scaling.StateInService) }

func (r *rig) names(st scaling.InstanceState) string {
	var out []string
	for _, i := range r.view().Instances {
		if i.State == st {
			out = append(out, i.Name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// await lets the bubble's time pass until cond holds.
func (r *rig) await(what string, cond func() bool) {
	r.t.Helper()
	for begun := time.Now(); time.Since(begun) < 5*time.Minute; time.Sleep(100 * time.Millisecond) {
		if cond() {
			return
		}
	}
	v := r.view()
	r.t.Fatalf("never came: %s; instances: %+v\nverdict: %s\nproblems: %v\ngates: %+v", what, v.Instances, v.Verdict.Reason, v.Problems, v.Verdict.Gates)
}

func (r *rig) awaitServing(want string) {
	r.t.Helper()
	r.await("in service: "+want, func() bool {
		return r.serving() == want && len(r.view().Instances) == len(strings.Fields(want)) && len(r.view().State.Open) == 0
	})
}

// passes lets d pass and checks that nothing came of it.
func (r *rig) passes(d time.Duration, want string) {
	r.t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if got := r.serving(); got != want || len(r.view().Instances) != len(strings.Fields(want)) {
		r.t.Fatalf("in service after %s: %q of %d instances, want %q; verdict: %s", d, got, len(r.view().Instances), want, r.view().Verdict.Reason)
	}
}

func (r *rig) activities() []string {
	r.t.Helper()
	all, err := r.eng.Activities(context.Background(), "web", "", 100)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, a := range all {
		out = append(out, fmt.Sprintf("%s %s %s", a.Kind, a.Cause.Kind, a.Status))
	}
	slices.Reverse(out)
	return out
}

func (r *rig) order(kind scaling.OrderKind, count int) {
	r.t.Helper()
	if _, err := r.eng.Order(context.Background(), "web", scaling.Order{Kind: kind, Count: count, By: "test"}); err != nil {
		r.t.Fatal(err)
	}
}

// scenario runs one test in a bubble of its own.
func scenario(t *testing.T, name string, change, run func(*rig)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { run(newRig(t, change)) })
	})
}

func TestEngine(t *testing.T) {
	scenario(t, "one high after another scales out to max, the lows scale in to min, newest first", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.awaitServing("web-1 web-2")
		r.awaitServing("web-1 web-2 web-3")
		r.passes(time.Minute, "web-1 web-2 web-3")
		r.post(scaling.High, false)
		r.alert(scaling.Low, 0.01)
		r.awaitServing("web-1 web-2")
		r.awaitServing("web-1")
		r.passes(time.Minute, "web-1")
		want := []string{"fill bounds done", "scale_out alert done", "scale_out alert done", "scale_in alert done", "scale_in alert done"}
		if diff := cmp.Diff(want, r.activities()); diff != "" {
			t.Errorf("activities (-want +got):\n%s", diff)
		}
		if left := r.world.Leftovers(); len(left) > 3 {
			t.Errorf("left in the world: %v", left)
		}
	})

	scenario(t, "a notification without fresh evidence causes one step and no second", nil, func(r *rig) {
		r.awaitServing("web-1")
		time.Sleep(time.Minute)
		r.src.mu.Lock()
		r.src.down = true
		r.src.mu.Unlock()
		n := scaling.Notification{Group: "web", Signal: scaling.High, Firing: true, Fingerprint: "f", StartsAt: time.Now()}
		for range 10 {
			if _, err := r.eng.Notify(context.Background(), []scaling.Notification{n}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		r.awaitServing("web-1 web-2")
	})

	scenario(t, "10,000 identical posts are one action", func(r *rig) { r.group.Max = 20 }, func(r *rig) {
		r.awaitServing("web-1")
		time.Sleep(time.Minute)
		n := scaling.Notification{Group: "web", Signal: scaling.High, Firing: true, Fingerprint: "f", StartsAt: time.Now()}
		for range 10 {
			ns := make([]scaling.Notification, 1000)
			for k := range ns {
				ns[k] = n
			}
			if _, err := r.eng.Notify(context.Background(), ns); err != nil {
				t.Fatal(err)
			}
		}
		r.awaitServing("web-1 web-2")
		r.passes(time.Minute, "web-1 web-2")
	})

	scenario(t, "resolved and silence remove nothing", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.awaitServing("web-1 web-2")
		r.src.set("", "", 0)
		r.post(scaling.High, false)
		r.passes(10*time.Minute, "web-1 web-2")
	})

	scenario(t, "a low that only its notification knows removes nothing", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		r.src.set("", "", 0)
		r.post(scaling.Low, true)
		r.passes(2*time.Minute, "web-1 web-2")
	})

	scenario(t, "the baseline is adopted, its clone takes over, and the baseline is kept", func(r *rig) {
		r.group.Adopt, r.group.Victim, r.group.NamePattern, r.group.Max = []string{"vm-test"}, scaling.VictimOldest, "vm-test-clone", 2
	}, func(r *rig) {
		r.awaitServing("vm-test")
		r.alert(scaling.High, 1)
		r.awaitServing("vm-test vm-test-clone")
		r.post(scaling.High, false)
		r.alert(scaling.Low, 0.01)
		r.awaitServing("vm-test-clone")
		v := r.view()
		if !v.Instances[0].Primary {
			t.Error("the clone should be primary")
		}
		r.order(scaling.OrderHandover, 0)
		r.awaitServing("vm-test-clone-2")
		want := []string{"adopt config done", "scale_out alert done", "handover alert done", "handover manual done"}
		if diff := cmp.Diff(want, r.activities()); diff != "" {
			t.Errorf("activities (-want +got):\n%s", diff)
		}
	})

	scenario(t, "a group that observes touches nothing", func(r *rig) {
		r.group.Mode, r.group.Adopt = scaling.ModeObserve, []string{"vm-test"}
	}, func(r *rig) {
		r.alert(scaling.High, 1)
		time.Sleep(time.Minute)
		v := r.view()
		if len(v.Instances) != 0 || len(v.State.Instances) != 0 || !v.Verdict.Would || !strings.HasPrefix(v.Verdict.Reason, "would") {
			t.Errorf("instances %+v, verdict %+v", v.Instances, v.Verdict)
		}
		if _, err := r.eng.Order(context.Background(), "web", scaling.Order{Kind: scaling.OrderScaleOut, Count: 1}); !errors.Is(err, scaling.ErrRefused) {
			t.Errorf("order: %v, want refused", err)
		}
	})

	scenario(t, "a launch that fails is undone, backed off and leaves nothing", func(r *rig) {
		r.world.SetFaults(func(_ context.Context, point string, _ scaling.Ref) error {
			if point == "create.define" {
				return scaling.Errorf(scaling.Permanent, "template refused")
			}
			return nil
		})
	}, func(r *rig) {
		r.await("two failures", func() bool { v := r.view(); return v.State.Failures >= 2 && v.State.Owned() == 0 })
		if !slices.Contains(r.view().Statuses, scaling.StatusDegraded) {
			t.Errorf("statuses: %v", r.view().Statuses)
		}
		r.world.SetFaults(nil)
		r.await("one in service", func() bool { return len(strings.Fields(r.serving())) == 1 })
		if got := r.activities(); got[0] != "fill bounds undone" {
			t.Errorf("activities: %v", got)
		}
		if left := r.world.Leftovers(); len(left) != 3 { // vm-test, the instance and its disk, or less
			t.Logf("left in the world: %v", left)
		}
	})

	scenario(t, "a VM that never becomes healthy is replaced and blocks only itself", func(r *rig) { r.group.Min = 2 }, func(r *rig) {
		r.await("two launches", func() bool { return len(r.view().Instances) == 2 })
		if err := r.world.SetPower("web-2", scaling.PowerPaused); err != nil {
			r.await("web-2 exists", func() bool { return r.world.SetPower("web-2", scaling.PowerPaused) == nil })
		}
		r.await("web-1 serves", func() bool { return strings.HasPrefix(r.serving(), "web-1") })
		r.await("a third takes its place", func() bool { return r.serving() == "web-1 web-3" && len(r.view().Instances) == 2 })
	})

	scenario(t, "a confirmed high puts a draining instance back into service", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		time.Sleep(time.Minute)
		r.alert(scaling.Low, 0.01)
		r.await("web-2 drains", func() bool { return r.names(scaling.StateDraining) == "web-2" })
		r.post(scaling.Low, false)
		time.Sleep(1100 * time.Millisecond)
		r.alert(scaling.High, 1)
		r.await("web-2 serves again", func() bool { return strings.Contains(r.serving(), "web-2") })
		if got := r.activities(); !slices.Contains(got, "scale_in alert undone") {
			t.Errorf("activities: %v", got)
		}
	})

	scenario(t, "a balancer that forgot its members gets them back", nil, func(r *rig) {
		r.awaitServing("web-1")
		if err := r.world.ForgetPool("web"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		st, err := r.world.Pool("web").Observe(context.Background())
		if err != nil || len(st.Members) != 1 || st.Members[0].State != scaling.MemberReady {
			t.Errorf("pool after 2 s: %+v, %v", st, err)
		}
	})

	scenario(t, "a restart at any moment of a launch and a removal goes on with it", nil, func(r *rig) {
		restart := func() { r.halt(); r.start() }
		for k := range 12 {
			time.Sleep(time.Duration(k) * 500 * time.Millisecond)
			restart()
		}
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		for k := range 12 {
			time.Sleep(time.Duration(k) * 300 * time.Millisecond)
			restart()
		}
		r.awaitServing("web-1 web-2")
		r.order(scaling.OrderScaleIn, 1)
		for k := range 12 {
			time.Sleep(time.Duration(k) * 300 * time.Millisecond)
			restart()
		}
		r.awaitServing("web-1")
		if diff := cmp.Diff([]string{"fill bounds done", "scale_out manual done", "scale_in manual done"}, r.activities()); diff != "" {
			t.Errorf("activities (-want +got):\n%s", diff)
		}
	})

	scenario(t, "a lost store pauses the group and touches neither its VMs nor its pool", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		before := r.world.Leftovers()
		r.halt()
		r.db += ".new"
		r.start()
		time.Sleep(5 * time.Minute)
		if got := r.view(); got.State.Pause == nil || len(got.Instances) != 0 || !slices.Contains(got.Statuses, scaling.StatusPaused) {
			t.Errorf("pause %+v, instances %+v, statuses %v", got.State.Pause, got.Instances, got.Statuses)
		}
		st, err := r.world.Pool("web").Observe(context.Background())
		if err != nil || len(st.Members) != 2 {
			t.Errorf("pool: %+v, %v", st, err)
		}
		if diff := cmp.Diff(before, r.world.Leftovers()); diff != "" {
			t.Errorf("the world changed:\n%s", diff)
		}
	})

	scenario(t, "a reload that replaces the sources forgets what the old ones said", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		time.Sleep(time.Minute)
		silent := &sources{down: true, world: r.prov}
		r.src.set(scaling.Low, scaling.EvidenceFiring, 0.01)
		r.eng.SetSources(silent, []scaling.Confirmer{silent})
		r.post(scaling.Low, true)
		r.passes(time.Minute, "web-1 web-2")
		r.eng.SetSources(r.src, []scaling.Confirmer{r.src})
		r.post(scaling.Low, true)
		r.awaitServing("web-1")
	})

	scenario(t, "a provider that hangs is waited for without harm", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.world.SetFaults(func(ctx context.Context, point string, _ scaling.Ref) error {
			if point == "create.after" || point == "list.before" {
				return simulated.Hang(ctx)
			}
			return nil
		})
		r.order(scaling.OrderScaleOut, 1)
		time.Sleep(12 * time.Second)
		r.world.SetFaults(nil)
		r.awaitServing("web-1 web-2")
		vms, err := r.prov.List(context.Background())
		if err != nil || len(vms) != 2 {
			t.Errorf("%d VMs, %v; want 2", len(vms), err)
		}
	})

	scenario(t, "an idempotency key answers the same request once", nil, func(r *rig) {
		r.awaitServing("web-1")
		o := scaling.Order{Kind: scaling.OrderScaleOut, Count: 1, Key: "k1"}
		first, err := r.eng.Order(context.Background(), "web", o)
		if err != nil {
			t.Fatal(err)
		}
		again, err := r.eng.Order(context.Background(), "web", o)
		if err != nil || !again.Replayed || again.ID != first.ID {
			t.Errorf("again: %+v, %v", again, err)
		}
		o.Count = 2
		if _, err := r.eng.Order(context.Background(), "web", o); !errors.Is(err, scaling.ErrKeyReused) {
			t.Errorf("another request: %v", err)
		}
		r.awaitServing("web-1 web-2")
		r.passes(time.Minute, "web-1 web-2")
	})

	scenario(t, "a pause holds automatic steps and lets orders pass", nil, func(r *rig) {
		r.awaitServing("web-1")
		if err := r.eng.Pause(context.Background(), "web", scaling.Pause{Out: true, In: true, By: "ops"}); err != nil {
			t.Fatal(err)
		}
		r.src.set(scaling.High, scaling.EvidenceFiring, 1)
		if got := r.post(scaling.High, true); got != scaling.NotifyPaused {
			t.Errorf("notification: %s", got)
		}
		r.passes(time.Minute, "web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		if err := r.eng.Resume(context.Background(), "web", "ops"); err != nil {
			t.Fatal(err)
		}
		r.awaitServing("web-1 web-2 web-3")
	})
}

func TestTheGroupCountsWhatItCameTo(t *testing.T) {
	scenario(t, "a fill, a scale-out that is done and one whose VM fails are counted, by kind and outcome", nil, func(r *rig) {
		counted := func() (out []string) {
			c := r.view().Counts
			for k, a := range scaling.Actions() {
				if len(c.Verdicts) > 0 && c.Verdicts[k] > 0 {
					out = append(out, fmt.Sprintf("verdict %s %d", a, c.Verdicts[k]))
				}
			}
			for k, kind := range scaling.ActivityKinds() {
				if len(c.Ended) > 0 && c.Ended[k] > 0 {
					out = append(out, fmt.Sprintf("ended %s %d", kind, c.Ended[k]))
				}
				if len(c.Failed) > 0 && c.Failed[k] > 0 {
					out = append(out, fmt.Sprintf("failed %s %d", kind, c.Failed[k]))
				}
			}
			return out
		}
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.awaitServing("web-1 web-2")
		want := []string{"verdict scale_out 1", "verdict fill 1", "ended scale_out 1", "ended fill 1"}
		r.await("the first two are counted", func() bool { return cmp.Diff(want, counted()) == "" })
		r.world.SetFaults(func(_ context.Context, point string, ref scaling.Ref) error {
			if point == "create.before" {
				return scaling.Errorf(scaling.Permanent, "%s is refused", ref.Name)
			}
			return nil
		})
		want = []string{"verdict scale_out 2", "verdict fill 1", "ended scale_out 2", "failed scale_out 1", "ended fill 1"}
		r.await("the failed launch is counted", func() bool { return cmp.Diff(want, counted()) == "" })
	})
}
