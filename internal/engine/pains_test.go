package engine_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// The twenty ways in which other autoscalers fail their users; docs/safety.md has
// them with their sources, the rule and the tests beside these. Each test here
// fails on what those programs do.

// vms counts what exists in the world of the group, whatever its state.
func (r *rig) vms() int {
	r.t.Helper()
	n := 0
	for _, l := range r.world.Leftovers() {
		if strings.HasPrefix(l, "VM ") {
			n++
		}
	}
	return n
}

func (r *rig) firing(sig scaling.Signal, starts time.Time) {
	r.t.Helper()
	if _, err := r.eng.Notify(context.Background(), []scaling.Notification{{Group: "web", Signal: sig, Firing: true, Fingerprint: "f-" + string(sig), StartsAt: starts}}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) begun(kind scaling.ActivityKind) int {
	r.t.Helper()
	n := 0
	for _, a := range r.activities() {
		if strings.HasPrefix(a, string(kind)+" ") {
			n++
		}
	}
	return n
}

func TestPain01FailedVMsAreCountedAndMaxHolds(t *testing.T) {
	scenario(t, "a provider whose VMs fail and cannot be deleted: three hours of high never make more than max", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.world.SetFaults(func(_ context.Context, point string, ref scaling.Ref) error {
			switch point {
			case "create.after":
				return scaling.Errorf(scaling.Permanent, "the VM of %s is in error", ref.Name)
			case "delete.before":
				return scaling.Errorf(scaling.Permanent, "%s is locked", ref.Name)
			}
			return nil
		})
		r.alert(scaling.High, 1)
		for range 3 * 60 {
			time.Sleep(time.Minute)
			r.post(scaling.High, true)
			if n := r.vms(); n > r.group.Max {
				t.Fatalf("%d VMs, max is %d", n, r.group.Max)
			}
		}
		if n := r.vms(); n != r.group.Max {
			t.Errorf("%d VMs in the end: the test did not get as far as max %d", n, r.group.Max)
		}
	})
}

func TestPain02ASecondStepNeedsNoSecondNotification(t *testing.T) {
	scenario(t, "one notification and sources that go on to say high: every step up to max", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.awaitServing("web-1 web-2 web-3")
	})
}

func TestPain03ALostResolvedEndsWithItsLease(t *testing.T) {
	scenario(t, "a high whose end is never told stands no longer than its lease, and then low may act", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.awaitServing("web-1 web-2")
		begun := time.Now()
		r.src.set(scaling.Low, scaling.EvidenceFiring, 0.01)
		for r.serving() != "web-1" && time.Since(begun) < 10*time.Minute {
			r.post(scaling.Low, true)
			time.Sleep(time.Second)
		}
		if took := time.Since(begun); took < r.group.LeaseTTL/2 || took > r.group.LeaseTTL+2*time.Minute {
			t.Errorf("it took %s until the low was followed, the lease of the high is %s", took, r.group.LeaseTTL)
		}
	})
}

func TestPain04FlapsAndFalseResolvesAreNoTransitions(t *testing.T) {
	scenario(t, "firing and resolved in any order and number are one state, not so many steps", nil, func(r *rig) {
		r.awaitServing("web-1")
		time.Sleep(time.Minute)
		r.src.set(scaling.High, scaling.EvidenceFiring, 1)
		start := time.Now()
		for k := range 40 {
			r.post(scaling.High, k%3 != 1)
			r.post(scaling.High, false)
			r.firing(scaling.High, start)
		}
		r.await("web-2", func() bool { return r.serving() == "web-1 web-2" })
		if n := r.begun(scaling.ActivityScaleOut); n != 1 {
			t.Errorf("%d scale-outs, want 1: %v", n, r.activities())
		}
	})
}

func TestPain05DuplicatesAfterAnOutageAreOneAction(t *testing.T) {
	scenario(t, "two peers send what piled up in an hour, twice, out of order: one step", func(r *rig) { r.group.Max = 10 }, func(r *rig) {
		r.awaitServing("web-1")
		time.Sleep(time.Hour)
		start := time.Now().Add(-30 * time.Minute)
		for k := range 200 {
			r.firing(scaling.High, start.Add(-time.Duration(k%7)*time.Second))
		}
		r.await("web-2", func() bool { return r.serving() == "web-1 web-2" })
		r.passes(2*time.Minute, "web-1 web-2")
	})
}

func TestPain06AFalseResolvedChangesNothing(t *testing.T) {
	scenario(t, "resolved for one evaluation, then firing again: nothing is removed, nothing is added twice", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.awaitServing("web-1 web-2")
		r.src.set("", "", 0.6)
		r.post(scaling.High, false)
		time.Sleep(time.Second)
		r.post(scaling.High, true) // the notification alone, Prometheus says no more
		r.passes(3*time.Minute, "web-1 web-2")
	})
}

func TestPain07TheSameAlertDoesNotActTwice(t *testing.T) {
	scenario(t, "evidence from before the end of the last action is not used for the next", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.await("web-2", func() bool { return r.serving() == "web-1 web-2" })
		// The rule goes on to fire on samples of before: its clock stands still.
		stale, start := time.Now(), time.Now().Add(-30*time.Second)
		r.src.mu.Lock()
		r.src.now = func() time.Time { return stale }
		r.src.mu.Unlock()
		for range 60 {
			r.firing(scaling.High, start)
			time.Sleep(time.Second)
		}
		r.passes(time.Minute, "web-1 web-2")
		if !failedGate(r.view().Verdict, "scale_out", "confirmation") {
			t.Errorf("the verdict does not say so: %s", r.view().Verdict.Reason)
		}
	})
}

func TestPain08ResolvedIsNotLow(t *testing.T) {
	scenario(t, "the end of high leaves the group as large as it is", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.awaitServing("web-1 web-2 web-3")
		r.src.set("", "", 0.4)
		r.post(scaling.High, false)
		r.passes(time.Hour, "web-1 web-2 web-3")
	})
}

func TestPain09ASourceThatIsDownNeitherShrinksNorFreezes(t *testing.T) {
	scenario(t, "Prometheus is gone: low removes nothing, high still adds", nil, func(r *rig) {
		r.awaitTwo()
		time.Sleep(time.Minute)
		r.src.silence(true)
		r.post(scaling.Low, true)
		r.passes(2*time.Minute, "web-1 web-2")
		r.post(scaling.Low, false)
		r.firing(scaling.High, time.Now())
		r.awaitServing("web-1 web-2 web-3")
	})
	scenario(t, "an answer without any series is not zero load: nothing is removed", nil, func(r *rig) {
		r.awaitTwo()
		r.src.mu.Lock()
		r.src.blank = true
		r.src.mu.Unlock()
		r.alert(scaling.Low, 0)
		r.passes(5*time.Minute, "web-1 web-2")
		if !failedGate(r.view().Verdict, "scale_in", "projection") {
			t.Errorf("the verdict does not name the missing readings: %s", r.view().Verdict.Reason)
		}
	})
}

func TestPain10ABootIsNoLoad(t *testing.T) {
	scenario(t, "a high that only the newcomer's boot causes has passed when it may count", func(r *rig) { r.group.WarmUp = time.Minute }, func(r *rig) {
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.await("web-2", func() bool { return r.serving() == "web-1 web-2" })
		time.Sleep(30 * time.Second) // it goes on to fire while web-2 warms up
		r.src.set("", "", 0.4)
		r.post(scaling.High, false)
		r.passes(5*time.Minute, "web-1 web-2")
	})
}

func TestPain11AConstantLoadDoesNotFlap(t *testing.T) {
	scenario(t, "a low whose removal would make a high removes nothing", func(r *rig) { r.group.Low = 0.4; r.group.High = 0.7 }, func(r *rig) {
		r.awaitTwo()
		r.alert(scaling.Low, 0.38)
		r.passes(10*time.Minute, "web-1 web-2")
		if !failedGate(r.view().Verdict, "scale_in", "projection") {
			t.Errorf("the verdict does not name the projection: %s", r.view().Verdict.Reason)
		}
	})
	scenario(t, "a draining instance is not missed: nothing is launched in its place", func(r *rig) {
		r.group.DrainDeadline = 10 * time.Minute
		r.wrap = func(b scaling.Balancer) scaling.Balancer { return &loyal{b} }
	}, func(r *rig) {
		r.awaitTwo()
		r.order(scaling.OrderScaleIn, 1)
		r.await("draining", func() bool { return r.names(scaling.StateDraining) == "web-2" })
		time.Sleep(5 * time.Minute)
		if n := len(r.view().Instances); n != 2 {
			t.Errorf("%d instances while one drains, want 2", n)
		}
	})
}

func TestPain12ARestartForgetsNoTimer(t *testing.T) {
	scenario(t, "cooldown, back-off and what was begun are kept over a restart", func(r *rig) { r.group.Cooldown = 10 * time.Minute }, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.await("booting", func() bool { return r.names(scaling.StateBooting) == "web-2" })
		r.halt()
		r.start()
		r.awaitServing("web-1 web-2")
		r.halt()
		r.start()
		r.alert(scaling.High, 1)
		time.Sleep(time.Second)
		r.passes(9*time.Minute, "web-1 web-2")
		for range 3 {
			r.post(scaling.High, true)
			time.Sleep(time.Minute)
		}
		r.awaitServing("web-1 web-2 web-3")
	})
}

func TestPain13ARestartInMidRemovalBlocksNothing(t *testing.T) {
	scenario(t, "a removal that was cut off is finished, and the next step comes", nil, func(r *rig) {
		r.awaitTwo()
		r.world.SetFaults(failing("delete.undefine"))
		r.order(scaling.OrderScaleIn, 1)
		r.await("removing", func() bool { return r.names(scaling.StateRemoving) == "web-2" })
		time.Sleep(5 * time.Second)
		r.halt()
		r.world.SetFaults(nil)
		r.start()
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.awaitServing("web-1 web-3")
	})
	scenario(t, "one instance that cannot be removed blocks only itself", nil, func(r *rig) {
		r.awaitTwo()
		r.world.SetFaults(func(_ context.Context, point string, ref scaling.Ref) error {
			if point == "delete.before" && ref.Name == "web-2" {
				return scaling.Errorf(scaling.Permanent, "locked")
			}
			return nil
		})
		r.order(scaling.OrderScaleIn, 1)
		r.await("failed", func() bool { return r.names(scaling.StateFailed) == "web-2" })
		r.alert(scaling.High, 1)
		r.await("web-3 serves", func() bool { return r.serving() == "web-1 web-3" })
	})
}

func TestPain14NothingIsDrainedThatMayNotGo(t *testing.T) {
	scenario(t, "with the removal budget used up no member is drained", func(r *rig) { r.group.RemovalsPerHour, r.group.Max = 1, 4 }, func(r *rig) {
		r.awaitTwo()
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2 web-3")
		r.order(scaling.OrderScaleIn, 1)
		r.awaitServing("web-1 web-2")
		r.alert(scaling.Low, 0.01)
		for range 600 {
			time.Sleep(time.Second)
			r.post(scaling.Low, true)
			if r.ready() < 2 {
				t.Fatalf("%d members take traffic although nothing may be removed", r.ready())
			}
		}
	})
	scenario(t, "min and protection are asked before the drain", nil, func(r *rig) {
		r.awaitTwo()
		for _, name := range []string{"web-1", "web-2"} {
			if err := r.eng.Protect(context.Background(), "web", name, true, "test"); err != nil {
				t.Fatal(err)
			}
		}
		r.alert(scaling.Low, 0.01)
		r.passes(2*time.Minute, "web-1 web-2")
	})
}

func TestPain15VictimsAreOursAndBrokenOnesFirst(t *testing.T) {
	scenario(t, "the stopped one goes, the stranger in the same pool stays", func(r *rig) { r.group.Grace = time.Hour }, func(r *rig) {
		r.awaitTwo()
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2 web-3")
		if err := r.world.SetPower("web-2", scaling.PowerCrashed); err != nil {
			t.Fatal(err)
		}
		r.await("web-2 is suspect", func() bool { return r.find("web-2").Suspect != "" })
		r.order(scaling.OrderScaleIn, 1)
		r.awaitServing("web-1 web-3")
		if err := r.world.SetPower("vm-test", scaling.PowerRunning); err != nil {
			t.Errorf("the stranger is gone: %v", err)
		}
	})
}

func TestPain16ABusyInstanceIsNotKilled(t *testing.T) {
	scenario(t, "a member with a session is waited for as long as the drain deadline", func(r *rig) {
		r.group.DrainDeadline = 5 * time.Minute
		r.wrap = func(b scaling.Balancer) scaling.Balancer { return &loyal{b} }
	}, func(r *rig) {
		r.awaitTwo()
		r.order(scaling.OrderScaleIn, 1)
		r.await("draining", func() bool { return r.names(scaling.StateDraining) == "web-2" })
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if r.names(scaling.StateDraining) != "web-2" {
			t.Error("it was removed with its session")
		}
	})
	scenario(t, "a high that is confirmed in mid-drain puts it back", func(r *rig) {
		r.group.DrainDeadline = 5 * time.Minute
		r.wrap = func(b scaling.Balancer) scaling.Balancer { return &loyal{b} }
	}, func(r *rig) {
		r.awaitTwo()
		time.Sleep(time.Minute)
		r.alert(scaling.Low, 0.01)
		r.await("draining", func() bool { return r.names(scaling.StateDraining) == "web-2" })
		r.post(scaling.Low, false)
		r.alert(scaling.High, 1)
		r.await("back in service", func() bool { return strings.HasPrefix(r.serving(), "web-1 web-2") })
	})
}

func TestPain17TheCollectorDeletesNoHealthyVM(t *testing.T) {
	scenario(t, "a provider that lists nothing, or nothing at all, makes nothing be deleted or doubled", nil, func(r *rig) {
		r.awaitTwo()
		r.world.SetFaults(failing("list.before"))
		time.Sleep(time.Hour)
		r.world.SetFaults(nil)
		r.passes(10*time.Minute, "web-1 web-2")
	})
	scenario(t, "a listing that is complete and empty is a fault elsewhere: the brake holds", func(r *rig) { r.group.Max, r.group.Surge = 2, 2 }, func(r *rig) {
		r.awaitTwo()
		r.blank.Store(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		if r.vms() != 2 || r.serving() != "web-1 web-2" {
			t.Errorf("%d VMs, in service %q", r.vms(), r.serving())
		}
		r.blank.Store(false)
		r.passes(10*time.Minute, "web-1 web-2")
	})
	scenario(t, "after a lost store what carries the mark is kept and the group is paused", nil, func(r *rig) {
		r.awaitTwo()
		r.halt()
		r.db = filepath.Join(t.TempDir(), "new.db")
		r.start()
		time.Sleep(time.Hour)
		synctest.Wait()
		if r.vms() != 2 || r.view().State.Pause == nil {
			t.Errorf("%d VMs, want 2; pause %v", r.vms(), r.view().State.Pause)
		}
	})
}

func TestPain18MembersAreWhatTheInstancesAre(t *testing.T) {
	scenario(t, "a balancer that forgot its pool gets it back, and what has no VM leaves it", nil, func(r *rig) {
		r.awaitTwo()
		if err := r.world.ForgetPool("web"); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		r.await("both are back", func() bool { return r.ready() == 2 })
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
		stale := scaling.Member{ID: "0b3f6f9e-4bd5-4a7b-8a3b-1d4fbb0d2f10", Name: "gone", State: scaling.MemberReady}
		stale.Addr = r.view().Instances[0].Member.Addr
		want := scaling.Pool{Group: "web", Members: []scaling.Member{stale}}
		for _, i := range r.view().Instances {
			want.Members = append(want.Members, scaling.Member{ID: i.ID, Name: i.Name, Addr: i.Member.Addr, State: scaling.MemberReady})
		}
		if err := r.world.Pool("web").Apply(context.Background(), want); err != nil {
			t.Fatal(err)
		}
		r.await("the member without a VM is gone", func() bool {
			st, err := r.world.Pool("web").Observe(context.Background())
			return err == nil && len(st.Members) == 2
		})
	})
}

func TestPain19AFailedLaunchIsToldAndSticksNowhere(t *testing.T) {
	scenario(t, "a VM that never answers is undone, said to be, and the next one comes", nil, func(r *rig) {
		r.awaitServing("web-1")
		var bad atomic.Bool
		bad.Store(true)
		r.wrapHealth(func(m *scaling.MemberStatus) {
			if bad.Load() && m.State == scaling.MemberJoining {
				m.Health = scaling.HealthDown
			}
		})
		r.halt()
		r.start()
		r.alert(scaling.High, 1)
		r.await("the first launch is undone", func() bool { return slices.Contains(r.activities(), "scale_out alert undone") })
		bad.Store(false)
		for range 120 {
			r.post(scaling.High, true)
			time.Sleep(time.Second)
		}
		r.await("another serves", func() bool { return len(strings.Fields(r.serving())) >= 2 })
		if slices.Contains(r.activities(), "scale_out alert failed") {
			t.Errorf("activities: %v", r.activities())
		}
	})
}

func TestPain20AHangingProviderDelaysNoOtherGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const groups = 200
		ctx, cancel := context.WithCancel(context.Background())
		st, err := store.Open(ctx, filepath.Join(t.TempDir(), "s.db"), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		opts := engine.Options{Store: st, Logger: slog.New(slog.DiscardHandler), ListTick: time.Second}
		for k := range groups {
			w, err := simulated.NewWorld(simulated.DefaultConfig(), simulated.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if k%10 == 0 {
				w.SetFaults(func(ctx context.Context, _ string, _ scaling.Ref) error { return simulated.Hang(ctx) })
			}
			name := fmt.Sprintf("g%d", k)
			opts.Groups = append(opts.Groups, engine.GroupConfig{Provider: w.Provider("test", nil), Balancer: w.Pool(name), Group: scaling.Group{
				Name: name, Mode: scaling.ModeFull, Min: 1, Max: 3, LeaseTTL: time.Hour, NamePattern: name + "-{n}", Provider: "host-" + name, Balancer: "pool-" + name, Port: 80,
				LaunchDeadline: time.Minute, DrainDeadline: 10 * time.Second, ShutdownDeadline: 10 * time.Second, CallDeadline: 20 * time.Second, BackoffMin: time.Second, BackoffMax: time.Minute,
			}})
		}
		eng, err := engine.New(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- eng.Run(ctx) }()
		time.Sleep(15 * time.Second) // a launch takes 5 s here
		views, err := eng.Groups(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range views {
			var n int
			if _, err := fmt.Sscanf(v.Group.Name, "g%d", &n); err != nil {
				t.Fatal(err)
			}
			want := 1
			if n%10 == 0 {
				want = 0 // its provider hangs
			}
			if got := v.State.Count(scaling.StateInService); got != want {
				t.Errorf("group %s has %d in service, want %d: %s", v.Group.Name, got, want, v.Verdict.Reason)
			}
		}
		cancel()
		<-ended
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
}
