package engine_test

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
)

var public = netip.MustParseAddr("203.0.113.7")

// withAddress gives the group a public address.
func withAddress(r *rig) {
	r.prov.SetTemplates(map[string]simulated.Template{"web": {PublicAddress: public}})
}

// leads names the VM that the public address leads to, by the provider itself.
func (r *rig) leads() string {
	r.t.Helper()
	at, err := r.prov.Address(context.Background(), "web")
	if err != nil {
		r.t.Fatal(err)
	}
	vms, err := r.prov.List(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, vm := range vms {
		if vm.UUID == at.UUID {
			return vm.Name
		}
	}
	return at.UUID
}

func (r *rig) awaitLeads(want string) {
	r.t.Helper()
	r.await("the public address leads to "+want, func() bool { return r.leads() == want })
}

func TestThePublicAddress(t *testing.T) {
	scenario(t, "it leads to the first instance, and is shown", withAddress, func(r *rig) {
		r.awaitServing("web-1")
		r.awaitLeads("web-1")
		r.await("the view shows it", func() bool {
			v := r.view()
			return v.Public.Addr == public && v.Public.UUID == v.Instances[0].UUID
		})
	})
	scenario(t, "a handover moves it to the successor before the old instance is taken out", withAddress, func(r *rig) {
		r.awaitServing("web-1")
		r.awaitLeads("web-1")
		r.order(scaling.OrderHandover, 0)
		for begun := time.Now(); r.serving() != "web-2" && time.Since(begun) < 5*time.Minute; {
			i := r.find("web-1")
			if at := r.leads(); at != "web-1" && at != "web-2" || at == "web-1" && i.State == scaling.StateRemoving {
				r.t.Fatalf("the address leads to %q while web-1 is %s", at, i.State)
			}
			time.Sleep(20 * time.Millisecond)
		}
		r.awaitServing("web-2")
		if at := r.leads(); at != "web-2" {
			r.t.Errorf("it leads to %q", at)
		}
	})
	scenario(t, "the primary that a scale-in removes gives it up first", func(r *rig) {
		withAddress(r)
		r.group.Victim = scaling.VictimOldest
	}, func(r *rig) {
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.awaitServing("web-1 web-2 web-3")
		r.awaitLeads("web-1")
		r.post(scaling.High, false)
		r.alert(scaling.Low, 0.01)
		r.awaitServing("web-3")
		r.awaitLeads("web-3")
	})
	scenario(t, "while it cannot be moved the old instance serves on, and the group says why", withAddress, func(r *rig) {
		r.awaitServing("web-1")
		r.awaitLeads("web-1")
		var broken atomic.Bool
		broken.Store(true)
		r.world.SetFaults(func(_ context.Context, point string, _ scaling.Ref) error {
			if broken.Load() && point == "move_address.before" {
				return scaling.Errorf(scaling.Temporary, "neutron is away")
			}
			return nil
		})
		r.order(scaling.OrderHandover, 0)
		r.await("the old one waits", func() bool { return r.find("web-1").State == scaling.StateDraining })
		time.Sleep(2 * r.group.DrainDeadline)
		if i := r.find("web-1"); i.State != scaling.StateDraining || r.leads() != "web-1" {
			r.t.Errorf("web-1 is %s, the address leads to %s", i.State, r.leads())
		}
		if problems := strings.Join(r.view().Problems, "\n"); !strings.Contains(problems, "public address: ") || !strings.Contains(problems, "neutron is away") {
			r.t.Errorf("problems: %q", problems)
		}
		broken.Store(false)
		r.awaitServing("web-2")
		r.awaitLeads("web-2")
	})
	for _, point := range []string{"move_address.before", "move_address.after"} {
		scenario(t, "a stop at "+point+" is made good by the next start", withAddress, func(r *rig) {
			r.awaitServing("web-1")
			r.awaitLeads("web-1")
			reached := make(chan struct{}, 100)
			r.world.SetFaults(func(ctx context.Context, at string, _ scaling.Ref) error {
				if at != point {
					return nil
				}
				reached <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			})
			r.order(scaling.OrderHandover, 0)
			<-reached
			r.halt()
			r.world.SetFaults(nil)
			r.start()
			r.awaitServing("web-2")
			r.awaitLeads("web-2")
		})
	}
	scenario(t, "somebody else moved it: it is brought back", withAddress, func(r *rig) {
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.awaitServing("web-1 web-2 web-3")
		r.awaitLeads("web-1")
		ref := scaling.Ref{ID: r.id("web-2"), Group: "web", Name: "web-2"}
		if err := r.prov.MoveAddress(context.Background(), ref); err != nil {
			r.t.Fatal(err)
		}
		r.awaitLeads("web-1")
	})
	scenario(t, "a primary that dies gives it to one that serves, long before it is replaced", withAddress, func(r *rig) {
		r.awaitServing("web-1")
		r.alert(scaling.High, 1)
		r.awaitServing("web-1 web-2 web-3")
		r.awaitLeads("web-1")
		begun := time.Now()
		if err := r.world.SetPower("web-1", scaling.PowerCrashed); err != nil {
			r.t.Fatal(err)
		}
		r.awaitLeads("web-2")
		if took := time.Since(begun); took > r.group.Grace/2 {
			r.t.Errorf("it took %s", took)
		}
	})
	scenario(t, "a group that only observes moves nothing", func(r *rig) {
		withAddress(r)
		r.group.Mode = scaling.ModeObserve
	}, func(r *rig) {
		time.Sleep(time.Minute)
		if at := r.leads(); at != "" {
			r.t.Errorf("it leads to %q", at)
		}
	})
	scenario(t, "a group without one is asked nothing", nil, func(r *rig) {
		r.world.SetFaults(func(_ context.Context, point string, _ scaling.Ref) error {
			if strings.Contains(point, "address") {
				r.t.Errorf("%s was reached", point)
			}
			return nil
		})
		r.awaitServing("web-1")
		r.order(scaling.OrderHandover, 0)
		r.awaitServing("web-2")
	})
}

func TestADrainDoesNotWaitForTheNextLookAtTheAddress(t *testing.T) {
	scenario(t, "one that never had the address drains at once", withAddress, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		r.awaitLeads("web-1")
		begun := time.Now()
		r.order(scaling.OrderScaleIn, 1)
		r.await("drained", func() bool { return r.names(scaling.StateDraining) == "" && r.serving() == "web-1" })
		if took := time.Since(begun); took > 5*time.Second {
			r.t.Errorf("the drain took %s", took)
		}
	})
}
