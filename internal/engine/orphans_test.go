package engine_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
)

const strayID = "0b3f6f9e-4bd5-4a7b-8a3b-1d4fbb0d2f10"

// stray makes a VM with this server's mark of which no state knows.
func (r *rig) stray(group string) {
	r.t.Helper()
	if _, err := r.prov.Create(context.Background(), scaling.LaunchSpec{ID: strayID, Group: group, Name: "stray", Number: 99}); err != nil {
		r.t.Fatal(err)
	}
}

// orphans lists "status name", in the engine's order.
func (r *rig) orphans() string {
	r.t.Helper()
	list, err := r.eng.Orphans(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, o := range list {
		out = append(out, string(o.Status)+" "+o.Name)
	}
	return strings.Join(out, ", ")
}

func (r *rig) quarantined() {
	r.t.Helper()
	r.await("the stray is quarantined", func() bool { return r.orphans() == "quarantined stray" })
}

func (r *rig) cleanup(c scaling.Cleanup) scaling.CleanupResult {
	r.t.Helper()
	if c.IDs == nil {
		c.IDs = []string{strayID}
	}
	c.By = "ops"
	res, err := r.eng.Cleanup(context.Background(), c)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(res) != 1 {
		r.t.Fatalf("results: %+v", res)
	}
	return res[0]
}

func (r *rig) refused(c scaling.Cleanup, why string) {
	r.t.Helper()
	if res := r.cleanup(c); res.Activity != "" || !strings.Contains(res.Refused, why) {
		r.t.Errorf("%+v, want a refusal that says %q", res, why)
	}
}

func (r *rig) exists(vm string) bool {
	return slices.Contains(r.world.Leftovers(), "VM "+vm)
}

func (r *rig) awaitRemoved(serving string) {
	r.t.Helper()
	r.awaitServing(serving)
	if left := strings.Join(r.world.Leftovers(), ", "); strings.Contains(left, "stray") || strings.Contains(left, strayID) {
		r.t.Errorf("left: %s", left)
	}
	if got := r.orphans(); got != "" {
		r.t.Errorf("orphans: %s", got)
	}
	if !slices.Contains(r.activities(), "cleanup manual done") {
		r.t.Errorf("activities: %v", r.activities())
	}
}

func TestCleanup(t *testing.T) {
	scenario(t, "an orphan is shown, quarantined by the second listing, and removed by order as an activity", func(r *rig) { r.group.Max = 2 }, func(r *rig) {
		r.awaitServing("web-1")
		r.stray("web")
		r.await("the first sighting", func() bool { return r.orphans() == "seen stray" })
		r.refused(scaling.Cleanup{}, "2 are needed")
		r.quarantined()
		v := r.view()
		if p := strings.Join(v.Problems, "; "); !slices.Contains(v.Statuses, scaling.StatusDegraded) || !strings.Contains(p, "stray; see scalehook cleanup") {
			t.Errorf("statuses %v, problems %s", v.Statuses, p)
		}
		r.passes(10*time.Minute, "web-1") // nothing is done to it by itself
		if !r.exists("stray") {
			t.Fatal("it was removed without an order")
		}
		res := r.cleanup(scaling.Cleanup{})
		if res.Activity == "" || res.Name != "stray" || res.Group != "web" {
			t.Fatalf("%+v", res)
		}
		r.refused(scaling.Cleanup{}, "no such orphan")
		r.awaitRemoved("web-1")
		all, err := r.eng.Activities(context.Background(), "web", "", 1)
		if err != nil || all[0].ID != res.Activity || all[0].Cause.By != "ops" || all[0].Remove != strayID {
			t.Errorf("%v, %+v", err, all)
		}
	})
	for _, point := range []string{"shutdown.before", "shutdown.after", "delete.before", "delete.stop", "delete.undefine", "delete.after"} {
		scenario(t, "a kill in mid-removal, at "+point+", is finished after the restart", nil, func(r *rig) {
			r.awaitServing("web-1")
			r.stray("web")
			r.quarantined()
			r.world.SetFaults(failing(point))
			r.cleanup(scaling.Cleanup{})
			r.await("the removal is under way", func() bool { return r.names(scaling.StateRemoving) == "stray" })
			time.Sleep(5 * time.Second)
			r.halt()
			r.world.SetFaults(nil)
			r.start()
			r.awaitRemoved("web-1")
		})
	}
	scenario(t, "an orphan that takes traffic is refused, and drained first where that is asked for", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.stray("web")
		r.quarantined()
		time.Sleep(10 * time.Second) // it boots
		r.halt()
		vm, err := r.prov.Get(context.Background(), scaling.Ref{ID: strayID})
		if err != nil {
			t.Fatal(err)
		}
		st, err := r.world.Pool("web").Observe(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		want := scaling.Pool{Group: "web", Members: []scaling.Member{{ID: strayID, Name: "stray", Addr: netip.AddrPortFrom(vm.Addresses[0], 80), State: scaling.MemberReady}}}
		for _, m := range st.Members {
			want.Members = append(want.Members, scaling.Member{ID: m.ID, Name: m.Server, Addr: m.Addr, State: m.State})
		}
		if err := r.world.Pool("web").Apply(context.Background(), want); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.quarantined()
		// The start found a VM that the store does not know: it may have been lost.
		r.refused(scaling.Cleanup{Serving: true}, "resume the group first")
		if err := r.eng.Resume(context.Background(), "web", "ops"); err != nil {
			t.Fatal(err)
		}
		r.refused(scaling.Cleanup{}, "--serving")
		if res := r.cleanup(scaling.Cleanup{Serving: true}); res.Activity == "" {
			t.Fatalf("%+v", res)
		}
		if !r.drainedBeforeGone(strayID) {
			t.Error("it went from ready to removed without any drain")
		}
		r.awaitRemoved("web-1")
	})
	scenario(t, "after a lost store nothing is cleaned up before a person resumes the group", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.halt()
		r.db = filepath.Join(t.TempDir(), "other.db")
		r.start()
		r.await("web-1 is quarantined", func() bool { return r.orphans() == "quarantined web-1" })
		list, err := r.eng.Orphans(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		r.refused(scaling.Cleanup{IDs: []string{list[0].ID}, Serving: true}, "paused by scalehook")
		time.Sleep(10 * time.Minute)
		if !r.exists("web-1") {
			t.Error("web-1 is gone")
		}
	})
	scenario(t, "after a listing that failed nothing is cleaned up", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.stray("web")
		r.quarantined()
		r.world.SetFaults(failing("list.after"))
		time.Sleep(5 * time.Second)
		r.refused(scaling.Cleanup{}, "cannot be listed")
		r.world.SetFaults(nil)
		time.Sleep(5 * time.Second)
		if res := r.cleanup(scaling.Cleanup{}); res.Activity == "" {
			t.Errorf("%+v", res)
		}
		r.awaitRemoved("web-1")
	})
	scenario(t, "of a VM that was seen and removed by hand the disk is what is left", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.stray("web")
		r.quarantined()
		if err := r.world.RemoveVM("stray"); err != nil {
			t.Fatal(err)
		}
		r.await("the VM is forgotten", func() bool {
			list, err := r.eng.Orphans(context.Background())
			return err == nil && len(list) == 1 && list[0].Kind == scaling.KindParts && list[0].Note == "its disk"
		})
		if res := r.cleanup(scaling.Cleanup{}); res.Activity == "" {
			r.t.Errorf("%+v", res)
		}
		r.awaitRemoved("web-1")
	})
	scenario(t, "the removal budget holds for a cleanup too", func(r *rig) { r.group.RemovalsPerHour = 1 }, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		r.order(scaling.OrderScaleIn, 1)
		r.awaitServing("web-1")
		r.stray("web")
		r.quarantined()
		r.refused(scaling.Cleanup{}, "budget: 1 removals in the last hour, at most 1")
		time.Sleep(time.Hour)
		if res := r.cleanup(scaling.Cleanup{}); res.Activity == "" {
			t.Errorf("%+v", res)
		}
	})
	scenario(t, "a group that observes cleans nothing up", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.stray("web")
		r.quarantined()
		g := r.group
		g.Mode = scaling.ModeObserve
		r.reload(g)
		r.refused(scaling.Cleanup{}, "observes")
	})
	scenario(t, "only orphans of the groups that were asked for, by ids that are listed", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.stray("web")
		r.quarantined()
		r.refused(scaling.Cleanup{Groups: []string{"api"}}, "not of the group")
		r.refused(scaling.Cleanup{IDs: []string{r.id("web-1")}}, "no such orphan")
		r.refused(scaling.Cleanup{IDs: []string{""}}, "no such orphan")
		res, err := r.eng.Cleanup(context.Background(), scaling.Cleanup{IDs: []string{strayID, strayID}})
		if err != nil || res[0].Activity == "" || res[1].Refused != "named twice" {
			t.Errorf("%v, %+v", err, res)
		}
	})
	scenario(t, "VMs of a group that is not configured are released: listed and never removed", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.stray("old")
		r.await("it is listed", func() bool { return r.orphans() == "released stray" })
		time.Sleep(10 * time.Second)
		r.refused(scaling.Cleanup{}, "released: group old is not configured")
		if err := r.eng.Reload(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if !r.exists("stray") || !r.exists("web-1") {
			t.Errorf("left: %v", r.world.Leftovers())
		}
	})
	scenario(t, "an adopted orphan loses its mark and runs on", nil, func(r *rig) {
		r.awaitServing("web-1")
		if _, err := r.prov.Adopt(context.Background(), scaling.LaunchSpec{ID: strayID, Group: "web", Name: "vm-test"}); err != nil {
			t.Fatal(err)
		}
		r.await("it is quarantined", func() bool { return r.orphans() == "quarantined vm-test" })
		if res := r.cleanup(scaling.Cleanup{}); res.Activity == "" {
			t.Fatalf("%+v", res)
		}
		r.awaitServing("web-1")
		if r.exists("vm-test") {
			t.Error("it still carries the mark")
		}
		other := r.world.Provider("nobody", nil)
		vm, err := other.Adopt(context.Background(), scaling.LaunchSpec{ID: "probe", Group: "x", Name: "vm-test"})
		if err != nil || vm.Power != scaling.PowerRunning {
			t.Errorf("%v, %s", err, vm.Power)
		}
	})
	scenario(t, "a VM without our mark whose name the group would give is only listed", nil, func(r *rig) {
		r.awaitServing("web-1")
		for _, name := range []string{"web-7", "webshop"} {
			if _, err := r.world.AddVM(name, 1); err != nil {
				t.Fatal(err)
			}
		}
		if got := r.orphans(); got != "unmarked web-7" {
			t.Errorf("orphans: %s", got)
		}
		time.Sleep(10 * time.Minute)
		if err := r.world.RemoveVM("web-7"); err != nil {
			t.Errorf("web-7: %v", err)
		}
	})
}

func TestMembersWithoutAVM(t *testing.T) {
	scenario(t, "a member of ours that has neither an instance nor a VM is listed as long as it cannot be taken out", nil, func(r *rig) {
		r.awaitServing("web-1")
		want := scaling.Pool{Group: "web", Members: []scaling.Member{{ID: strayID, Addr: netip.MustParseAddrPort("192.0.2.99:80"), State: scaling.MemberReady}}}
		r.halt()
		st, err := r.world.Pool("web").Observe(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range st.Members {
			want.Members = append(want.Members, scaling.Member{ID: m.ID, Addr: m.Addr, State: m.State})
		}
		if err := r.world.Pool("web").Apply(context.Background(), want); err != nil {
			t.Fatal(err)
		}
		r.world.SetFaults(failing("apply.before"))
		r.start()
		r.await("it is listed", func() bool { return r.orphans() == "member "+strayID })
		r.refused(scaling.Cleanup{}, "no such orphan")
		r.world.SetFaults(nil)
		r.await("it left by itself", func() bool { return r.orphans() == "" })
	})
}

func TestCleanupOnWhatIsNotKnown(t *testing.T) {
	scenario(t, "a pool that cannot be observed may have the orphan, so nothing is cleaned up", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.stray("web")
		r.quarantined()
		r.world.SetFaults(failing("observe.before"))
		time.Sleep(5 * time.Second)
		r.refused(scaling.Cleanup{Serving: true}, "the pool cannot be observed")
	})
	scenario(t, "a host that hangs holds up neither the list nor the refusal", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.stray("web")
		r.quarantined()
		r.world.SetFaults(func(ctx context.Context, point string, _ scaling.Ref) error {
			if strings.HasPrefix(point, "list.") {
				return simulated.Hang(ctx)
			}
			return nil
		})
		time.Sleep(time.Minute)
		begun := time.Now()
		if got := r.orphans(); got != "quarantined stray" || time.Since(begun) > 6*time.Second {
			t.Errorf("orphans %q after %s", got, time.Since(begun))
		}
		r.refused(scaling.Cleanup{}, "cannot be listed")
	})
	scenario(t, "a group whose VMs are at another provider cleans nothing up at this one", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.stray("web")
		r.quarantined()
		g := r.group
		g.Balancer = "other"
		r.reload(g)
		r.refused(scaling.Cleanup{}, `members are at balancer "pool"`)
	})
	scenario(t, "an orphan that is a member of another group's pool is refused", nil, func(r *rig) {
		r.awaitServing("web-1")
		api := r.group
		api.Name, api.Min = "api", 0
		r.reload(r.group, api)
		r.stray("web")
		r.quarantined()
		time.Sleep(10 * time.Second)
		vm, err := r.prov.Get(context.Background(), scaling.Ref{ID: strayID})
		if err != nil {
			t.Fatal(err)
		}
		want := scaling.Pool{Group: "api", Members: []scaling.Member{{ID: strayID, Addr: netip.AddrPortFrom(vm.Addresses[0], 80), State: scaling.MemberReady}}}
		if err := r.world.Pool("api").Apply(context.Background(), want); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		r.refused(scaling.Cleanup{Serving: true}, "a member of the pool of group api")
	})
}

func TestOrphansAreCounted(t *testing.T) {
	scenario(t, "per provider, also where there are none", nil, func(r *rig) {
		reg := prometheus.NewPedanticRegistry()
		r.halt()
		r.registry = reg
		r.start()
		r.awaitServing("web-1")
		count := func(n int) error {
			return testutil.GatherAndCompare(reg, strings.NewReader(fmt.Sprintf(`
# HELP scalehook_orphans VMs that carry a configured group's mark and that the store does not know; see scalehook cleanup.
# TYPE scalehook_orphans gauge
scalehook_orphans{provider="sim"} %d
`, n)), "scalehook_orphans")
		}
		if err := count(0); err != nil {
			t.Error(err)
		}
		r.stray("web")
		r.quarantined()
		if err := count(1); err != nil {
			t.Error(err)
		}
	})
}

func TestCleanupOfAnIDThatIsThereTwice(t *testing.T) {
	scenario(t, "a VM whose definition exists at two providers is refused at both", nil, func(r *rig) {
		r.awaitServing("web-1")
		other, err := simulated.NewWorld(simulated.DefaultConfig(), simulated.Options{})
		if err != nil {
			t.Fatal(err)
		}
		there := other.Provider("test", nil)
		api := r.group
		api.Name, api.Min, api.Provider = "api", 0, "sim2"
		if err := r.eng.Reload(context.Background(), []engine.GroupConfig{
			{Group: r.group, Provider: r.prov, Balancer: r.world.Pool("web")}, {Group: api, Provider: there, Balancer: other.Pool("api")},
		}); err != nil {
			t.Fatal(err)
		}
		r.stray("web")
		if _, err := there.Create(context.Background(), scaling.LaunchSpec{ID: strayID, Group: "api", Name: "stray"}); err != nil {
			t.Fatal(err)
		}
		r.await("both are quarantined", func() bool { return r.orphans() == "quarantined stray, quarantined stray" })
		r.refused(scaling.Cleanup{}, "2 VMs carry this id, at sim and sim2")
	})
}

func TestCleanupOfWhatAnotherGroupKnows(t *testing.T) {
	scenario(t, "an id that the state of another group knows is refused, be the group configured or not", nil, func(r *rig) {
		r.awaitServing("web-1")
		api := r.group
		api.Name, api.NamePattern, api.Min = "api", "api-{n}", 0
		r.reload(r.group, api)
		r.stray("web")
		r.quarantined()
		if err := r.store.Change(context.Background(), "api", func(s *scaling.State) error {
			s.Instances = append(s.Instances, scaling.Instance{ID: strayID, Group: "api", Name: "stray", State: scaling.StateInService})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		r.reload(r.group)
		r.refused(scaling.Cleanup{}, "group api knows it")
		r.reload(r.group, api)
		r.refused(scaling.Cleanup{}, "group api knows it")
	})
}

// reload puts the groups in force and waits for their providers to be listed.
func (r *rig) reload(groups ...scaling.Group) {
	r.t.Helper()
	var list []engine.GroupConfig
	for _, g := range groups {
		list = append(list, engine.GroupConfig{Group: g, Provider: r.prov, Balancer: r.world.Pool(g.Name)})
	}
	if err := r.eng.Reload(context.Background(), list); err != nil {
		r.t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	synctest.Wait()
}

func TestOrphansOfAGroupAtAnotherProvider(t *testing.T) {
	scenario(t, "a VM of a group that works at another provider now is released", nil, func(r *rig) {
		r.awaitServing("web-1")
		other, err := simulated.NewWorld(simulated.DefaultConfig(), simulated.Options{})
		if err != nil {
			t.Fatal(err)
		}
		api, moved := r.group, r.group
		api.Name, api.Min, moved.Provider = "api", 0, "sim2"
		if err := r.eng.Reload(context.Background(), []engine.GroupConfig{
			{Group: moved, Provider: other.Provider("test", nil), Balancer: r.world.Pool("web")},
			{Group: api, Provider: r.prov, Balancer: r.world.Pool("api")},
		}); err != nil {
			t.Fatal(err)
		}
		r.stray("web")
		r.await("it is listed", func() bool { return r.orphans() == "released stray" })
		list, err := r.eng.Orphans(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff("group web works at provider sim2", list[0].Note); diff != "" {
			t.Error(diff)
		}
		r.refused(scaling.Cleanup{}, "released")
	})
}
