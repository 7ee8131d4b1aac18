package engine_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

func failing(points ...string) simulated.FaultFunc {
	return func(_ context.Context, point string, _ scaling.Ref) error {
		for _, p := range points {
			if p == point {
				return scaling.Errorf(scaling.Temporary, "fault at %s", p)
			}
		}
		return nil
	}
}

// drainedBeforeGone watches the pool until the member with sessions is gone and
// reports whether it was ever seen draining.
func (r *rig) drainedBeforeGone(id string) bool {
	seen := false
	for range 20000 {
		st, err := r.world.Pool("web").Observe(context.Background())
		if err == nil {
			m, ok := st.Member(id)
			if !ok {
				return seen
			}
			seen = seen || m.State == scaling.MemberDraining
		}
		time.Sleep(time.Millisecond)
	}
	r.t.Fatal("the member never left")
	return false
}

func (r *rig) id(name string) string {
	st := r.view().State
	return st.Find(name).ID
}

func TestDrainDeadline(t *testing.T) {
	scenario(t, "a balancer that could not be told of the drain until its deadline does not cut a serving member", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		id := r.id("web-2")
		r.world.SetFaults(failing("apply.before"))
		r.order(scaling.OrderScaleIn, 1)
		time.Sleep(r.group.DrainDeadline + 2*time.Second)
		r.world.SetFaults(nil)
		if !r.drainedBeforeGone(id) {
			t.Error("web-2 went from ready to removed without any drain")
		}
	})
	scenario(t, "a restart that takes longer than the drain deadline does not cut a serving member", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		id := r.id("web-2")
		r.world.SetFaults(failing("apply.before")) // killed between the commit and the pool
		r.order(scaling.OrderScaleIn, 1)
		r.await("draining", func() bool { return r.names(scaling.StateDraining) == "web-2" })
		r.halt()
		r.world.SetFaults(nil)
		time.Sleep(r.group.DrainDeadline + time.Second)
		r.start()
		if !r.drainedBeforeGone(id) {
			t.Error("web-2 went from ready to removed without any drain")
		}
	})
}

func TestProviderChanged(t *testing.T) {
	scenario(t, "a reload that names another provider does not forget the VMs of the old one", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		w2, err := simulated.NewWorld(simulated.DefaultConfig(), simulated.Options{})
		if err != nil {
			t.Fatal(err)
		}
		g := r.group
		g.Provider = "sim2"
		if err := r.eng.Reload(context.Background(), []engine.GroupConfig{{Group: g, Provider: w2.Provider("test", nil), Balancer: r.world.Pool("web")}}); err != nil {
			t.Fatal(err)
		}
		r.order(scaling.OrderScaleIn, 1)
		r.passes(10*time.Minute, "web-1 web-2")
		if v := r.view(); !slices.Contains(v.Statuses, scaling.StatusDegraded) || !strings.Contains(v.Verdict.Reason, "sim2") {
			t.Errorf("statuses %v, reason %q", v.Statuses, v.Verdict.Reason)
		}
		if err := r.eng.Reload(context.Background(), []engine.GroupConfig{{Group: r.group, Provider: r.prov, Balancer: r.world.Pool("web")}}); err != nil {
			t.Fatal(err)
		}
		r.awaitServing("web-1")
		if left := strings.Join(r.world.Leftovers(), " "); strings.Contains(left, "web-2") {
			t.Errorf("web-2 is gone by the state and lives at the old provider: %s; %v", left, r.activities())
		}
	})
}

func TestDeadInstances(t *testing.T) {
	scenario(t, "an instance whose VM is gone is replaced", nil, func(r *rig) {
		r.awaitServing("web-1")
		if err := r.world.RemoveVM("web-1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if s := r.serving(); s == "web-1" {
			t.Errorf("ten minutes later still in service: %s; verdict %s", s, r.view().Verdict.Reason)
		}
	})
	scenario(t, "a scale-in does not take the last healthy member", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		if err := r.world.SetPower("web-1", scaling.PowerStopped); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if m := r.view().Instances[0].Member; m == nil || m.Health != scaling.HealthDown {
			t.Fatalf("web-1 should be down: %+v", m)
		}
		r.alert(scaling.Low, 0.05) // the app on web-1 is dead, its guest idles
		time.Sleep(5 * time.Minute)
		if s := r.serving(); s == "web-1" {
			t.Errorf("in service: %s, which is down at the balancer; the healthy one was removed: %v", s, r.activities())
		}
	})
}

func TestObserveInMidActivity(t *testing.T) {
	scenario(t, "observe switched on in mid-activity creates nothing any more", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.world.SetFaults(failing("create.before"))
		r.order(scaling.OrderScaleOut, 1)
		r.await("creating", func() bool { return r.names(scaling.StateCreating) == "web-2" })
		g := r.group
		g.Mode = scaling.ModeObserve
		if err := r.eng.Reload(context.Background(), []engine.GroupConfig{{Group: g, Provider: r.prov, Balancer: r.world.Pool("web")}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		r.world.SetFaults(nil)
		time.Sleep(10 * time.Second)
		if left := strings.Join(r.world.Leftovers(), " "); strings.Contains(left, "web-2") {
			t.Errorf("created while observing: %s", left)
		}
	})
}

func TestLostStoreAndRestart(t *testing.T) {
	scenario(t, "a lost store pauses also when the first start ended before the first listing", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.halt()
		r.db = filepath.Join(t.TempDir(), "other.db")
		r.world.SetFaults(failing("list.before"))
		r.start()
		time.Sleep(5 * time.Second)
		r.halt()
		r.world.SetFaults(nil)
		r.start()
		time.Sleep(2 * time.Minute)
		if r.view().State.Pause == nil {
			t.Errorf("not paused; %v; world: %v", r.activities(), r.world.Leftovers())
		}
	})
}

// heldStore lets a change commit and holds its return.
type heldStore struct {
	scaling.Store
	release chan struct{}
}

type heldKey struct{}

func (s *heldStore) Change(ctx context.Context, group string, fn func(*scaling.State) error) error {
	err := s.Store.Change(ctx, group, fn)
	if ctx.Value(heldKey{}) != nil {
		<-s.release
	}
	return err
}

func TestStalePublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := simulated.NewWorld(simulated.DefaultConfig(), simulated.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		st, err := store.Open(ctx, filepath.Join(t.TempDir(), "s.db"), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		held := &heldStore{Store: st, release: make(chan struct{})}
		r := &rig{t: t, src: &sources{}}
		r.group = scaling.Group{
			Name: "web", Mode: scaling.ModeFull, Min: 0, Max: 3, High: 0.7, Low: 0.2, LeaseTTL: time.Hour,
			LaunchDeadline: 30 * time.Second, DrainDeadline: 20 * time.Second, ShutdownDeadline: 10 * time.Second, CallDeadline: 5 * time.Second,
			CreationsPerHour: 100, RemovalsPerHour: 100, NamePattern: "web-{n}", Provider: "sim", Balancer: "pool", Port: 80,
		}
		r.eng, err = engine.New(ctx, engine.Options{
			Store: held, Logger: slog.New(slog.DiscardHandler),
			Groups: []engine.GroupConfig{{Group: r.group, Provider: w.Provider("test", nil), Balancer: w.Pool("web")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- r.eng.Run(ctx) }()
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1")
		// A notification commits; before its goroutine goes on, a protection commits.
		go func() {
			_, _ = r.eng.Notify(context.WithValue(ctx, heldKey{}, true), []scaling.Notification{{Group: "web", Signal: scaling.Low, Firing: true, Fingerprint: "f", StartsAt: time.Now()}})
		}()
		synctest.Wait()
		if err := r.eng.Protect(ctx, "web", "web-1", true, "test"); err != nil {
			t.Fatal(err)
		}
		close(held.release)
		synctest.Wait()
		time.Sleep(time.Minute)
		truth, err := st.View(ctx, "web")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := r.view().State.Instances[0].Protected, truth.Instances[0].Protected; got != want {
			t.Errorf("a minute later the engine works on protected=%t, the store has %t", got, want)
		}
		cancel()
		<-ended
		_ = st.Close()
	})
}
