package engine_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/scaling"
)

func (r *rig) effects(groups ...scaling.Group) []string {
	r.t.Helper()
	list, err := r.eng.Effects(context.Background(), groups)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Group+": "+e.Text)
	}
	return out
}

func TestEffects(t *testing.T) {
	scenario(t, "what is foreseen is what a reload does", nil, func(r *rig) {
		r.awaitServing("web-1")
		g := r.group
		g.Min = 3
		if diff := cmp.Diff([]string{"web: min 1 → 3: launches 2 to fill it up to 3"}, r.effects(g)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		r.reload(g)
		r.awaitServing("web-1 web-2 web-3")
		g.Min, g.Max = 1, 1
		if diff := cmp.Diff([]string{"web: min 3 → 1, max 3 → 1: drains and removes 2, one at a time: web-3, then web-2"}, r.effects(g)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		r.reload(g)
		r.awaitServing("web-1 web-2")
		r.awaitServing("web-1")
		if diff := cmp.Diff([]string{"web: released: 1 VM (web-1) and its member stay as they are"}, r.effects()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		r.reload()
		want := []string{"web: new group, and the store knows it: it goes on with 1 VM (web-1); it launches and removes by itself"}
		if diff := cmp.Diff(want, r.effects(g)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		r.reload(g)
		r.awaitServing("web-1")
	})
	scenario(t, "a group that is renamed leaves its VMs released, and they go on serving in the same pool", nil, func(r *rig) {
		r.awaitTwo()
		g := r.group
		g.Name, g.NamePattern = "www", "www-{n}"
		want := []string{
			"www: new group; it launches and removes by itself", "www: launches 1 to fill it up to 1",
			"www: looks like web under another name: the VMs of web do not follow, they are released and stay in the pool",
			"web: released: 2 VMs (web-1, web-2) and their members stay as they are",
		}
		if diff := cmp.Diff(want, r.effects(g)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if err := r.eng.Reload(context.Background(), []engine.GroupConfig{{Group: g, Provider: r.prov, Balancer: r.world.Pool("web")}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if got := r.owns(); got != "web-1 web-2 www-1" || r.readyMembers() != 3 {
			t.Errorf("it owns %q, and %d members serve", got, r.readyMembers())
		}
		if got := r.orphans(); got != "released web-1, released web-2" {
			t.Errorf("orphans: %s", got)
		}
		// And back.
		r.reload(r.group)
		r.order(scaling.OrderScaleIn, 1)
		r.awaitServing("web-1")
		if got := r.owns(); got != "web-1 www-1" {
			t.Errorf("it owns %q", got)
		}
	})
	scenario(t, "with --observe nothing is launched or removed", func(r *rig) { r.observe = true }, func(r *rig) {
		g := r.group
		g.Min, g.Mode = 3, scaling.ModeScaleOutOnly
		if diff := cmp.Diff([]string{"web: min 1 → 3: it has 0, and nothing comes of it now"}, r.effects(g)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
