package engine_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

func (r *rig) standby(name string, on bool) error {
	r.t.Helper()
	return r.eng.Standby(context.Background(), "web", name, on, "test")
}

func (r *rig) awaitTwo() {
	r.t.Helper()
	r.awaitServing("web-1")
	r.order(scaling.OrderScaleOut, 1)
	r.awaitServing("web-1 web-2")
}

func (r *rig) member(name string) scaling.MemberState {
	r.t.Helper()
	for _, i := range r.view().Instances {
		if i.Name == name && i.Member != nil {
			return i.Member.State
		}
	}
	return ""
}

func TestStandby(t *testing.T) {
	scenario(t, "an instance in standby gets no traffic, keeps its VM and comes back", nil, func(r *rig) {
		r.awaitTwo()
		if err := r.standby("web-1", true); err != nil {
			t.Fatal(err)
		}
		r.await("web-1 drains", func() bool { return r.member("web-1") == scaling.MemberDraining })
		if v := r.view(); v.State.Primary == r.find("web-1").ID {
			t.Error("an instance in standby is still the primary")
		}
		// A person works on it: whatever happens to the VM is no reason to act.
		if err := r.world.SetPower("web-1", scaling.PowerStopped); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if r.serving() != "web-2" || r.names(scaling.StateStandby) != "web-1" || len(r.view().Instances) != 2 {
			t.Fatalf("in service %q, in standby %q, %d instances", r.serving(), r.names(scaling.StateStandby), len(r.view().Instances))
		}
		if err := r.world.SetPower("web-1", scaling.PowerRunning); err != nil {
			t.Fatal(err)
		}
		if err := r.standby("web-1", false); err != nil {
			t.Fatal(err)
		}
		r.awaitServing("web-1 web-2")
		r.await("web-1 is ready", func() bool { return r.member("web-1") == scaling.MemberReady })
		if err := r.standby("web-1", false); err != nil {
			t.Errorf("twice: %v", err)
		}
	})
	scenario(t, "the last one in service cannot be put into standby", nil, func(r *rig) {
		r.awaitServing("web-1")
		if err := r.standby("web-1", true); !errors.Is(err, scaling.ErrRefused) {
			t.Errorf("got %v, want a refusal", err)
		}
		if err := r.standby("nobody", true); !errors.Is(err, scaling.ErrUnknownInstance) {
			t.Errorf("got %v, want unknown instance", err)
		}
	})
	scenario(t, "standby survives a restart", nil, func(r *rig) {
		r.awaitTwo()
		if err := r.standby("web-2", true); err != nil {
			t.Fatal(err)
		}
		r.halt()
		r.start()
		r.await("web-2 drains", func() bool { return r.member("web-2") == scaling.MemberDraining })
		if r.names(scaling.StateStandby) != "web-2" {
			t.Errorf("in standby: %q", r.names(scaling.StateStandby))
		}
	})
}

func TestUnwellInstances(t *testing.T) {
	scenario(t, "a VM that is shut off by hand is unknown for the grace time, and is not replaced if it comes back", func(r *rig) { r.group.Grace = 5 * time.Minute }, func(r *rig) {
		r.awaitTwo()
		if err := r.world.SetPower("web-2", scaling.PowerStopped); err != nil {
			t.Fatal(err)
		}
		r.await("web-2 is suspect", func() bool { return r.find("web-2").Suspect != "" })
		r.passes(4*time.Minute, "web-1 web-2")
		if !failedGate(r.view().Verdict, "replace", "grace") {
			t.Errorf("the verdict does not explain the grace time: %+v", r.view().Verdict.Gates)
		}
		if err := r.world.SetPower("web-2", scaling.PowerRunning); err != nil {
			t.Fatal(err)
		}
		r.await("web-2 is well", func() bool { return r.find("web-2").Suspect == "" })
		r.passes(10*time.Minute, "web-1 web-2")
	})
	scenario(t, "one that stays shut off is replaced, and the group is as large as before", nil, func(r *rig) {
		r.awaitTwo()
		if err := r.world.SetPower("web-2", scaling.PowerStopped); err != nil {
			t.Fatal(err)
		}
		r.awaitServing("web-1 web-3")
		if !slices.Contains(r.activities(), "replace health done") {
			t.Errorf("activities: %v", r.activities())
		}
	})
	scenario(t, "a baseline that stays shut off is kept, even where the group deletes baselines", func(r *rig) {
		r.group.Adopt, r.group.OnRemove = []string{"vm-test"}, scaling.OnRemoveDelete
	}, func(r *rig) {
		r.awaitServing("vm-test")
		if err := r.world.SetPower("vm-test", scaling.PowerStopped); err != nil {
			t.Fatal(err)
		}
		r.awaitServing("web-1")
		if err := r.world.SetPower("vm-test", scaling.PowerStopped); err != nil {
			t.Errorf("the baseline is gone: %v", err)
		}
	})
	scenario(t, "when most are unwell at once nothing is replaced", func(r *rig) { r.group.Max, r.group.Min = 4, 4 }, func(r *rig) {
		r.awaitServing("web-1 web-2 web-3 web-4")
		for _, name := range []string{"web-1", "web-2", "web-3"} {
			if err := r.world.SetPower(name, scaling.PowerStopped); err != nil {
				t.Fatal(err)
			}
		}
		r.passes(10*time.Minute, "web-1 web-2 web-3 web-4")
		if !failedGate(r.view().Verdict, "replace", "brake") {
			t.Errorf("the verdict does not name the brake: %+v", r.view().Verdict.Gates)
		}
	})
}

func failedGate(v scaling.Verdict, action, name string) bool {
	return slices.ContainsFunc(v.Gates, func(g scaling.Gate) bool {
		return string(g.Action) == action && g.Name == name && !g.Passed && g.Change != ""
	})
}

func TestAnAddressThatChanges(t *testing.T) {
	scenario(t, "is followed to the pool", nil, func(r *rig) {
		r.awaitServing("web-1")
		to := netip.MustParseAddr("192.0.2.7")
		r.relocated.Store(&to)
		r.await("web-1 is a member at its new address", func() bool {
			m := r.view().Instances[0].Member
			return m != nil && m.Addr.Addr() == to
		})
	})
}

type window struct{ in, out bool }

func (w *window) Open(now time.Time) *scaling.Maintenance {
	if !w.in && !w.out {
		return nil
	}
	return &scaling.Maintenance{Name: "night", In: w.in, Out: w.out, Until: now.Add(time.Hour)}
}

func TestMaintenance(t *testing.T) {
	w := &window{out: true}
	scenario(t, "a window holds automatic steps in its direction and lets orders pass", func(r *rig) { r.windows = w }, func(r *rig) {
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(r.view().Instances); n != 0 {
			t.Fatalf("%d instances were launched in the window", n)
		}
		if v := r.view(); !slices.Contains(v.Statuses, scaling.StatusPaused) || !strings.Contains(v.Verdict.Reason, "night") {
			t.Errorf("statuses %v, reason %q", v.Statuses, v.Verdict.Reason)
		}
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1")
	})
}

// A stranger that carries the group's mark counts against the limit, and nothing
// is done to it.
func TestOrphans(t *testing.T) {
	scenario(t, "a marked VM that the state does not know counts against the limit", func(r *rig) { r.group.Max = 2 }, func(r *rig) {
		r.awaitServing("web-1")
		if _, err := r.prov.Create(context.Background(), scaling.LaunchSpec{ID: "0b3f6f9e-4bd5-4a7b-8a3b-1d4fbb0d2f10", Group: "web", Name: "stranger", Number: 99}); err != nil {
			t.Fatal(err)
		}
		r.await("the orphan counts", func() bool { return slices.Contains(r.view().Statuses, scaling.StatusDegraded) })
		r.alert(scaling.High, 1)
		r.passes(5*time.Minute, "web-1")
		if !failedGate(r.view().Verdict, "scale_out", "limit") {
			t.Errorf("the verdict does not name the limit: %s", r.view().Verdict.Reason)
		}
		if left := strings.Join(r.world.Leftovers(), " "); !strings.Contains(left, "stranger") {
			t.Errorf("the orphan was removed: %s", left)
		}
	})
}

// find returns an instance by name, or nil.
func (r *rig) find(name string) *scaling.Instance {
	r.t.Helper()
	st := r.view().State
	return st.Find(name)
}
