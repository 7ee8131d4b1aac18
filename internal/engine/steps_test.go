package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
)

// refusing fails points with a class, until other faults are set.
func refusing(c scaling.Class, points ...string) simulated.FaultFunc {
	return func(_ context.Context, point string, _ scaling.Ref) error {
		if slices.Contains(points, point) {
			return scaling.Errorf(c, "fault at %s", point)
		}
		return nil
	}
}

func TestSnapshots(t *testing.T) {
	shrink := func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		r.order(scaling.OrderScaleIn, 1)
	}
	snapshots := func(r *rig) { r.group.Snapshot = true }
	scenario(t, "a group that asks for a copy gets it before the removal", snapshots, func(r *rig) {
		asked := 0
		r.world.SetFaults(func(_ context.Context, point string, _ scaling.Ref) error {
			switch point {
			case "snapshot.after":
				asked++
			case "delete.before":
				if asked == 0 {
					t.Error("deleted before it was copied")
				}
			}
			return nil
		})
		shrink(r)
		r.awaitServing("web-1")
		if asked != 1 {
			t.Errorf("copied %d times", asked)
		}
	})
	scenario(t, "only so many copies are kept, the newest", func(r *rig) {
		r.group.Snapshot, r.group.SnapshotsKeep = true, 2
	}, func(r *rig) {
		r.awaitServing("web-1")
		for n := range 4 {
			r.order(scaling.OrderScaleOut, 1)
			r.awaitServing(fmt.Sprintf("web-1 web-%d", n+2))
			r.order(scaling.OrderScaleIn, 1)
			r.awaitServing("web-1")
			time.Sleep(time.Minute)
		}
		left := r.world.Snapshots("web")
		if len(left) != 2 || !strings.HasPrefix(left[0], "web-4-") || !strings.HasPrefix(left[1], "web-5-") {
			r.t.Errorf("kept: %q", left)
		}
	})
	scenario(t, "copies from before the group was let go are not counted, and stay", func(r *rig) {
		r.group.Snapshot, r.group.SnapshotsKeep = true, 1
	}, func(r *rig) {
		shrink(r)
		r.awaitServing("web-1")
		old := r.world.Snapshots("web")
		r.release(true)
		r.awaitReleased()
		if err := r.eng.Resume(context.Background(), "web", "ops"); err != nil {
			t.Fatal(err)
		}
		r.await("it begins anew", func() bool { return len(strings.Fields(r.names(scaling.StateInService))) == 1 })
		time.Sleep(time.Minute)
		for range 2 {
			r.order(scaling.OrderScaleOut, 1)
			r.await("two serve", func() bool { return len(strings.Fields(r.names(scaling.StateInService))) == 2 })
			time.Sleep(time.Minute)
			r.order(scaling.OrderScaleIn, 1)
			r.await("one serves", func() bool {
				return len(strings.Fields(r.names(scaling.StateInService))) == 1 && r.names(scaling.StateDraining)+r.names(scaling.StateRemoving) == ""
			})
			time.Sleep(time.Minute)
		}
		left := r.world.Snapshots("web")
		if len(old) != 1 || len(left) != 2 || left[0] != old[0] {
			t.Errorf("before it was let go: %q, now %q", old, left)
		}
	})
	scenario(t, "old copies that cannot be deleted hold nothing up", func(r *rig) {
		r.group.Snapshot, r.group.SnapshotsKeep = true, 1
	}, func(r *rig) {
		r.world.SetFaults(refusing(scaling.Temporary, "prune_snapshots.before"))
		shrink(r)
		r.awaitServing("web-1")
	})
	scenario(t, "a copy that fails for the moment is tried again", snapshots, func(r *rig) {
		r.world.SetFaults(refusing(scaling.Temporary, "snapshot.before"))
		shrink(r)
		time.Sleep(2 * time.Minute)
		if r.names(scaling.StateRemoving) != "web-2" {
			t.Errorf("removing: %q", r.names(scaling.StateRemoving))
		}
		r.world.SetFaults(nil)
		r.awaitServing("web-1")
	})
	scenario(t, "a copy that is refused for good keeps what was to be copied", snapshots, func(r *rig) {
		r.world.SetFaults(refusing(scaling.Permanent, "snapshot.before"))
		shrink(r)
		r.await("failed", func() bool { return r.names(scaling.StateFailed) == "web-2" })
		if left := strings.Join(r.world.Leftovers(), " "); !strings.Contains(left, "VM web-2") {
			t.Errorf("left: %s", left)
		}
	})
}

func TestLettingABaselineGo(t *testing.T) {
	adopting := func(r *rig) { r.group.Adopt, r.group.Min = []string{"vm-test"}, 0 }
	scenario(t, "a mark that cannot be taken off for the moment is tried again", adopting, func(r *rig) {
		r.awaitServing("vm-test")
		r.world.SetFaults(refusing(scaling.Temporary, "release.before"))
		r.order(scaling.OrderScaleIn, 1)
		time.Sleep(2 * time.Minute)
		if r.names(scaling.StateRemoving) != "vm-test" {
			t.Errorf("removing: %q", r.names(scaling.StateRemoving))
		}
		r.world.SetFaults(nil)
		r.awaitServing("")
	})
	scenario(t, "a mark that is refused to be taken off is for a person to see", adopting, func(r *rig) {
		r.awaitServing("vm-test")
		r.world.SetFaults(refusing(scaling.Conflict, "release.before"))
		r.order(scaling.OrderScaleIn, 1)
		r.await("failed", func() bool { return r.names(scaling.StateFailed) == "vm-test" })
	})
	scenario(t, "on_remove: delete deletes it", func(r *rig) { adopting(r); r.group.OnRemove = scaling.OnRemoveDelete }, func(r *rig) {
		r.awaitServing("vm-test")
		r.order(scaling.OrderScaleIn, 1)
		r.awaitServing("")
		if err := r.world.SetPower("vm-test", scaling.PowerRunning); err == nil {
			t.Error("it is still there")
		}
	})
}

// plain is a provider that can do no more than it must.
type plain struct{ scaling.Provider }

func TestAProviderThatCanDoNoMoreThanItMust(t *testing.T) {
	scenario(t, "it deletes at once, and a baseline is refused", nil, func(r *rig) {
		r.awaitServing("web-1")
		g := r.group
		g.Min, g.Adopt = 0, []string{"vm-test"}
		if err := r.eng.Reload(context.Background(), []engine.GroupConfig{{Group: g, Provider: plain{r.prov}, Balancer: r.world.Pool("web")}}); err != nil {
			t.Fatal(err)
		}
		r.await("the adoption is refused", func() bool { return slices.Contains(r.activities(), "adopt config undone") })
		r.order(scaling.OrderScaleIn, 1)
		r.await("web-1 is gone", func() bool { return !strings.Contains(strings.Join(r.world.Leftovers(), " "), "web-1") })
	})
}

func TestWhatAnEngineDoesNotKnow(t *testing.T) {
	scenario(t, "a group that is not configured is unknown to every call", nil, func(r *rig) {
		ctx := context.Background()
		_, group := r.eng.Group(ctx, "db")
		_, verdicts := r.eng.Verdicts(ctx, "db")
		_, activities := r.eng.Activities(ctx, "db", "", 10)
		_, order := r.eng.Order(ctx, "db", scaling.Order{Kind: scaling.OrderScaleOut, Count: 1})
		for what, err := range map[string]error{
			"group": group, "verdicts": verdicts, "activities": activities, "order": order,
			"pause": r.eng.Pause(ctx, "db", scaling.Pause{}), "resume": r.eng.Resume(ctx, "db", "ops"),
			"protect": r.eng.Protect(ctx, "db", "x", true, "ops"), "standby": r.eng.Standby(ctx, "db", "x", true, "ops"),
		} {
			if !errors.Is(err, scaling.ErrUnknownGroup) {
				t.Errorf("%s: %v", what, err)
			}
		}
		r.awaitServing("web-1")
		if err := r.eng.Protect(ctx, "web", "web-9", true, "ops"); !errors.Is(err, scaling.ErrUnknownInstance) {
			t.Errorf("protect: %v", err)
		}
		ns := []scaling.Notification{
			{Group: "db", Signal: scaling.High, Firing: true, Fingerprint: "f"},
			{Group: "web", Signal: "sideways", Firing: true, Fingerprint: "f"},
			{Group: "web", Signal: scaling.High, Firing: true},
		}
		want := []scaling.NotifyResult{scaling.NotifyUnknownGroup, scaling.NotifyNoSignal, scaling.NotifyNoSignal}
		if got, err := r.eng.Notify(ctx, ns); err != nil || !slices.Equal(got, want) {
			t.Errorf("notify: %v, %v; want %v", got, err, want)
		}
	})
	scenario(t, "the newest verdict comes first", nil, func(r *rig) {
		r.awaitServing("web-1")
		time.Sleep(time.Minute)
		synctest.Wait()
		vs, err := r.eng.Verdicts(context.Background(), "web")
		fill := slices.IndexFunc(vs, func(v scaling.Verdict) bool { return v.Action == scaling.ActionFill })
		if err != nil || fill < 1 || !vs[0].At.After(vs[fill].At) || vs[0].Action != scaling.ActionNone {
			t.Errorf("%d verdicts, the launch is number %d, %v", len(vs), fill, err)
		}
	})
}

// knowing is an Alertmanager that holds one alert of a group.
type knowing struct{ sig scaling.Signal }

func (knowing) Source() string { return "alertmanager" }
func (k knowing) Confirm(context.Context) ([]scaling.Evidence, error) {
	return []scaling.Evidence{{Group: "web", Signal: k.sig, State: scaling.EvidenceFiring, At: time.Now()}}, nil
}

func TestAnAlertThatAlertmanagerDoesNotHold(t *testing.T) {
	scenario(t, "what came in Alertmanager's form and is not held there is not kept", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.eng.SetSources(r.src, []scaling.Confirmer{r.src, knowing{scaling.High}})
		n := scaling.Notification{Group: "web", Signal: scaling.High, Firing: true, Fingerprint: "f", StartsAt: time.Now(), Receiver: "alertmanager"}
		forged := n
		forged.Signal = scaling.Low
		got, err := r.eng.Notify(context.Background(), []scaling.Notification{n, forged})
		if want := []scaling.NotifyResult{scaling.NotifyAccepted, scaling.NotifyNotConfirmed}; err != nil || !slices.Equal(got, want) {
			t.Errorf("%v, %v; want %v", got, err, want)
		}
	})
}
