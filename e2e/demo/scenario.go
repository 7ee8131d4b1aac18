package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/api"
)

// scenario is one story that the demo tells and checks.
type scenario struct {
	title     string
	group     groupConfig
	baselines []string
	run       func(context.Context, *world, *result) error
}

// Time limits of a phase. They are wide, since the machine may be busy; the
// report has the real times.
const (
	launchLimit = 4 * time.Minute
	removeLimit = 3 * time.Minute
)

func scenarios() []scenario {
	return []scenario{
		{
			title: "70 / 20 %, min 1, max 3: load makes 1, 2, 3 VMs, its end 3, 2, 1, newest first",
			group: groupConfig{
				name: "kvm-autoscaler", high: "70%", low: "20%", min: 1, max: 3, victim: "newest",
				vmName: "autoscale-{n}", onRemove: "keep",
			},
			run: runAutoscaler,
		},
		{
			title: "60 / 20 %, baseline vm-test: load adds its clone, the end of load hands the baseline over to it",
			group: groupConfig{
				name: "handover", high: "60%", low: "20%", min: 1, max: 2, victim: "oldest",
				vmName: "vm-test-clone", adopt: []string{"vm-test"}, onRemove: "delete",
			},
			baselines: []string{"vm-test"},
			run:       runHandover,
		},
	}
}

func names(want ...string) func(api.Group) bool {
	return func(g api.Group) bool { return slices.Equal(serving(g), want) }
}

// settled adds to a condition that nothing is under way any more.
func settled(cond func(api.Group) bool) func(api.Group) bool {
	return func(g api.Group) bool {
		return cond(g) && len(g.Activities) == 0 && !slices.ContainsFunc(g.Instances, func(i api.Instance) bool {
			return i.State != "in_service"
		})
	}
}

func runAutoscaler(ctx context.Context, w *world, res *result) error {
	if err := res.phase(ctx, w, "filled up to min without an alert", launchLimit, settled(names("autoscale-1")), expect{kind: "fill", cause: "bounds"}); err != nil {
		return err
	}
	if err := w.startLoad(ctx, res); err != nil {
		return err
	}
	w.load.busy(true)
	if err := res.phase(ctx, w, "load: 1 to 2", launchLimit, names("autoscale-1", "autoscale-2"), expect{kind: "scale_out", cause: "alert", signal: "high"}); err != nil {
		return err
	}
	if err := res.phase(ctx, w, "still busy: 2 to 3", launchLimit, settled(names("autoscale-1", "autoscale-2", "autoscale-3")), expect{kind: "scale_out", cause: "alert", signal: "high"}); err != nil {
		return err
	}
	err := w.stays(ctx, "holds at max", 15*time.Second, func(g api.Group) error {
		if len(g.Instances) > 3 {
			return fmt.Errorf("%d instances, max is 3", len(g.Instances))
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.load.busy(false)
	if err := res.phase(ctx, w, "load ends: 3 to 2, the newest goes", removeLimit, settled(names("autoscale-1", "autoscale-2")), expect{kind: "scale_in", cause: "alert", signal: "low"}); err != nil {
		return err
	}
	if err := res.phase(ctx, w, "2 to 1", removeLimit, settled(names("autoscale-1")), expect{kind: "scale_in", cause: "alert", signal: "low"}); err != nil {
		return err
	}
	return w.stays(ctx, "holds at min", 10*time.Second, func(g api.Group) error {
		if got := serving(g); !slices.Equal(got, []string{"autoscale-1"}) {
			return fmt.Errorf("in service: %s", strings.Join(got, ", "))
		}
		return nil
	})
}

func runHandover(ctx context.Context, w *world, res *result) error {
	if err := res.phase(ctx, w, "the baseline is adopted and serves", launchLimit, settled(names("vm-test")), expect{kind: "adopt", cause: "config"}); err != nil {
		return err
	}
	if err := w.startLoad(ctx, res); err != nil {
		return err
	}
	w.load.busy(true)
	if err := res.phase(ctx, w, "load: the clone joins, both serve", launchLimit, settled(names("vm-test", "vm-test-clone")), expect{kind: "scale_out", cause: "alert", signal: "high"}); err != nil {
		return err
	}
	if err := w.stays(ctx, "both serve", 5*time.Second, func(api.Group) error { return nil }); err != nil {
		return err
	}
	w.load.busy(false)
	if err := res.phase(ctx, w, "load ends: the baseline is handed over to its clone", removeLimit, settled(names("vm-test-clone")), expect{kind: "handover", cause: "alert", signal: "low"}); err != nil {
		return err
	}
	g, err := w.view(ctx)
	if err != nil {
		return err
	}
	if !isPrimary(g, "vm-test-clone") {
		return errors.New("vm-test-clone should be primary")
	}
	if w.fault == faultNone {
		w.beside(ctx, func(ctx context.Context) { w.reloadMidDrain(ctx, res) })
	}
	if _, err := operator[any](ctx, w, http.MethodPost, "/groups/"+w.group.name+"/handover", struct{}{}); err != nil {
		return fmt.Errorf("manual handover: %w", err)
	}
	if err := res.phase(ctx, w, "one more handover, by a manual POST; HAProxy is reloaded in mid-drain", launchLimit+removeLimit, settled(names("vm-test-clone-2")), expect{kind: "handover", cause: "manual"}); err != nil {
		return err
	}
	if g, err = w.view(ctx); err != nil {
		return err
	}
	if w.fault == faultNone && !w.reloaded.Load() {
		return errors.New("HAProxy was not reloaded in mid-drain")
	}
	if !isPrimary(g, "vm-test-clone-2") {
		return errors.New("vm-test-clone-2 should be primary")
	}
	return nil
}

func isPrimary(g api.Group, name string) bool {
	return slices.ContainsFunc(g.Instances, func(i api.Instance) bool { return i.Name == name && i.Primary })
}
