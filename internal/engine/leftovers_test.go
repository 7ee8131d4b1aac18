package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
)

// addressed is a provider with a public address that was made for a group.
type addressed struct {
	*simulated.Provider

	address scaling.Leftover
	removed int
}

// HasAddress is false: the configuration asks for no address any more.
func (*addressed) HasAddress(string) bool { return false }

func (a *addressed) Leftovers(ctx context.Context) ([]scaling.Leftover, error) {
	all, err := a.Provider.Leftovers(ctx)
	if a.removed == 0 {
		all = append(all, a.address)
	}
	return all, err
}

func (a *addressed) RemoveLeftover(_ context.Context, l scaling.Leftover) error {
	if l.Kind != scaling.KindAddress || l.ID != a.address.ID || l.Group != a.address.Group {
		return scaling.Errorf(scaling.Conflict, "not ours: %+v", l)
	}
	a.removed++
	return nil
}

// halfMade leaves the parts of a VM that was never defined.
func (r *rig) halfMade(group string) {
	r.t.Helper()
	r.world.SetFaults(refusing(scaling.Temporary, "create.disk"))
	defer r.world.SetFaults(nil)
	if _, err := r.prov.Create(context.Background(), scaling.LaunchSpec{ID: strayID, Group: group, Name: "stray", Number: 99}); err == nil {
		r.t.Fatal("it was made")
	}
}

func TestLeftovers(t *testing.T) {
	scenario(t, "the parts of a VM that is not there and that nobody knows are listed, and removed by order as an activity", func(r *rig) { r.group.Max = 2 }, func(r *rig) {
		r.awaitServing("web-1")
		r.halfMade("web")
		if got := r.orphans(); got != "quarantined stray" {
			r.t.Fatalf("orphans: %s", got)
		}
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2") // parts are no VM and do not count
		if res := r.cleanup(scaling.Cleanup{}); res.Activity == "" || res.Name != "stray" || res.Removed {
			r.t.Fatalf("%+v", res)
		}
		r.awaitRemoved("web-1 web-2")
	})
	scenario(t, "the parts of an instance that is being made are nobody's leftovers", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.world.SetFaults(refusing(scaling.Temporary, "create.disk"))
		r.order(scaling.OrderScaleOut, 1)
		r.await("its disk is there", func() bool {
			i := r.find("web-2")
			return i != nil && strings.Contains(strings.Join(r.world.Leftovers(), ", "), "disk of "+i.ID)
		})
		if got := r.orphans(); got != "" {
			r.t.Errorf("orphans: %s", got)
		}
		r.refused(scaling.Cleanup{IDs: []string{r.id("web-2")}}, "no such orphan")
	})
	scenario(t, "parts are refused while the group is paused for removals, or observes, or is not configured", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.halfMade("web")
		if err := r.eng.Pause(context.Background(), "web", scaling.Pause{In: true, By: "kim"}); err != nil {
			r.t.Fatal(err)
		}
		r.refused(scaling.Cleanup{}, "paused by kim")
		g := r.group
		g.Mode = scaling.ModeObserve
		r.reload(g)
		r.refused(scaling.Cleanup{}, "observes")
		g.Name = "api"
		r.reload(g)
		if got := r.orphans(); !strings.Contains(got, "released stray") {
			r.t.Errorf("orphans: %s", got)
		}
		r.refused(scaling.Cleanup{}, "group web is not configured")
	})
	scenario(t, "snapshots past those that are kept are listed and removed at once, and no others", func(r *rig) {
		r.group.Snapshot = true
	}, func(r *rig) {
		r.awaitServing("web-1")
		for n := range 3 {
			r.order(scaling.OrderScaleOut, 1)
			r.awaitServing(fmt.Sprintf("web-1 web-%d", n+2))
			r.order(scaling.OrderScaleIn, 1)
			r.awaitServing("web-1")
			time.Sleep(time.Minute)
		}
		if got := r.orphans(); got != "" {
			r.t.Errorf("all are kept, and orphans are %s", got)
		}
		g := r.group
		g.SnapshotsKeep = 1
		r.reload(g)
		list, err := r.eng.Orphans(context.Background())
		if err != nil || len(list) != 2 || list[0].Kind != scaling.KindSnapshot || !strings.HasPrefix(list[0].Name, "web-2-") {
			r.t.Fatalf("%v, %+v", err, list)
		}
		before := r.begun(scaling.ActivityCleanup)
		if res := r.cleanup(scaling.Cleanup{IDs: []string{list[0].ID}}); !res.Removed || res.Activity != "" || res.Refused != "" {
			r.t.Errorf("%+v", res)
		}
		left := r.world.Snapshots("web")
		if len(left) != 2 || !strings.HasPrefix(left[0], "web-3-") || !strings.HasPrefix(left[1], "web-4-") {
			r.t.Errorf("left: %q", left)
		}
		if after := r.begun(scaling.ActivityCleanup); after != before {
			r.t.Errorf("%d activities began", after-before)
		}
		r.world.SetFaults(refusing(scaling.Temporary, "remove_leftover.before"))
		r.refused(scaling.Cleanup{IDs: []string{list[1].ID}}, "fault at remove_leftover")
		if left := r.world.Snapshots("web"); len(left) != 2 {
			r.t.Errorf("left: %q", left)
		}
	})
	for _, inUse := range []bool{false, true} {
		scenario(t, fmt.Sprintf("a public address that the group has no more, in use %t", inUse), nil, func(r *rig) {
			r.awaitServing("web-1")
			p := &addressed{Provider: r.prov, address: scaling.Leftover{
				Kind: scaling.KindAddress, ID: "a1", Group: "web", Name: "203.0.113.9", InUse: inUse, Consists: "leads to port 7",
			}}
			err := r.eng.Reload(context.Background(), []engine.GroupConfig{{Group: r.group, Provider: p, Balancer: r.world.Pool("web")}})
			if err != nil {
				r.t.Fatal(err)
			}
			r.await("it is listed", func() bool { return strings.HasSuffix(r.orphans(), "203.0.113.9") })
			if inUse {
				r.refused(scaling.Cleanup{IDs: []string{"a1"}}, "take it off there first")
			} else if res := r.cleanup(scaling.Cleanup{IDs: []string{"a1"}}); !res.Removed {
				r.t.Errorf("%+v", res)
			}
			if want := map[bool]int{false: 1, true: 0}[inUse]; p.removed != want {
				r.t.Errorf("removed %d times, want %d", p.removed, want)
			}
		})
	}
	scenario(t, "a provider that cannot list what is left of VMs lists nothing, and nothing is removed", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.halfMade("web")
		r.world.SetFaults(refusing(scaling.Temporary, "list.before"))
		if got := r.orphans(); got != "" {
			r.t.Errorf("orphans: %s", got)
		}
		r.refused(scaling.Cleanup{}, "no such orphan")
	})
}
