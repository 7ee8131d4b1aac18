package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
)

func TestAProviderThatLeadsElsewhere(t *testing.T) {
	// lead gives the provider another address under its name.
	lead := func(r *rig, place string, p scaling.Provider) {
		r.t.Helper()
		g := r.group
		g.Place = place
		if err := r.eng.Reload(context.Background(), []engine.GroupConfig{{Group: g, Provider: p, Balancer: r.world.Pool("web")}}); err != nil {
			r.t.Fatal(err)
		}
	}
	here := func(r *rig) { r.group.Place = "here" }
	elsewhere := func(r *rig) scaling.Provider {
		r.t.Helper()
		w, err := simulated.NewWorld(simulated.DefaultConfig(), simulated.Options{})
		if err != nil {
			r.t.Fatal(err)
		}
		return w.Provider("test", nil)
	}
	scenario(t, "does not make the group forget its VMs, which it finds again when it leads back", here, func(r *rig) {
		r.awaitTwo()
		lead(r, "there", elsewhere(r))
		r.order(scaling.OrderScaleIn, 1)
		r.passes(time.Hour, "web-1 web-2") // far longer than the grace time
		if v := r.view(); !slices.Contains(v.Statuses, scaling.StatusDegraded) || !strings.Contains(v.Verdict.Reason, "another place") {
			t.Errorf("statuses %v, reason %q", v.Statuses, v.Verdict.Reason)
		}
		lead(r, "here", r.prov)
		time.Sleep(time.Minute)
		if got := r.owns(); !strings.Contains(got, "web-1") {
			t.Errorf("it owns %q", got)
		}
		r.await("it acts again", func() bool { return !strings.Contains(r.view().Verdict.Reason, "another place") })
	})
	scenario(t, "is noticed after a restart too", here, func(r *rig) {
		r.awaitTwo()
		r.halt()
		old := r.prov
		r.prov, r.group.Place = elsewhere(r).(*simulated.Provider), "there"
		r.start()
		r.passes(time.Hour, "web-1 web-2")
		r.halt()
		r.prov, r.group.Place = old, "here"
		r.start()
		r.passes(time.Minute, "web-1 web-2")
	})
	scenario(t, "is the same place if a VM of the group is found there", here, func(r *rig) {
		r.awaitTwo()
		lead(r, "here, by another name", r.world.Provider("test", nil))
		time.Sleep(10 * time.Second)
		r.order(scaling.OrderScaleIn, 1)
		r.awaitServing("web-1")
	})
	scenario(t, "a group that was made before places were kept learns its own", nil, func(r *rig) {
		r.awaitTwo()
		lead(r, "here", r.prov)
		r.await("it is noted", func() bool { return r.view().State.Place == "here" })
		lead(r, "there", elsewhere(r))
		r.passes(time.Hour, "web-1 web-2")
	})
	scenario(t, "a listing of the old place that ends after the change says nothing about the new one", here, func(r *rig) {
		r.awaitTwo()
		r.world.SetFaults(func(ctx context.Context, point string, _ scaling.Ref) error {
			if point == "list.after" {
				select {
				case <-time.After(3 * time.Second):
				case <-ctx.Done():
				}
			}
			return nil
		})
		time.Sleep(1500 * time.Millisecond) // a listing is under way
		lead(r, "there", elsewhere(r))
		r.passes(10*time.Minute, "web-1 web-2")
		if got := r.view().State.Place; got != "here" {
			t.Errorf("it took %q for its place", got)
		}
	})
}
