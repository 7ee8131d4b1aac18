package engine_test

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

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
	scenario(t, "with --observe nothing is launched or removed", func(r *rig) { r.observe = true }, func(r *rig) {
		g := r.group
		g.Min, g.Mode = 3, scaling.ModeScaleOutOnly
		if diff := cmp.Diff([]string{"web: min 1 → 3: it has 0, and nothing comes of it now"}, r.effects(g)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
