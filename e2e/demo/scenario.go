package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/e2e/report"
	"github.com/scalehook/scalehook/internal/api"
)

// scenario is one story that the demo tells and checks.
type scenario struct {
	title     string
	group     groupConfig
	baselines []string
	run       func(context.Context, *world, *report.Scenario) error
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

// busyClients keep guests of one vCPU busy in a closed loop: enough for three of
// them, few enough for two cores.
const busyClients = 6

// workUnits makes a busy request cost the guest some 50 ms of CPU under TCG, so
// that the guests are what is busy and not the balancer and the load generator.
const workUnits = 20000

// startLoad begins to send through HAProxy, and what --fault does wrong.
func (w *world) startLoad(ctx context.Context, res *report.Scenario) (err error) {
	if w.load, err = report.StartLoad(ctx, loadgen.Options{Target: haproxyAddr, Dial: w.lab.DialContext, WorkUnits: workUnits}); err != nil {
		return err
	}
	return w.startFault(ctx, res)
}

func runAutoscaler(ctx context.Context, w *world, res *report.Scenario) error {
	if err := w.phase(ctx, res, "filled up to min without an alert", launchLimit, settled(names("autoscale-1")), report.Expect{Kind: "fill", Cause: "bounds"}); err != nil {
		return err
	}
	if err := w.startLoad(ctx, res); err != nil {
		return err
	}
	w.load.SetLoad(busyClients)
	if err := w.phase(ctx, res, "load: 1 to 2", launchLimit, names("autoscale-1", "autoscale-2"), report.Expect{Kind: "scale_out", Cause: "alert", Signal: "high"}); err != nil {
		return err
	}
	if err := w.phase(ctx, res, "still busy: 2 to 3", launchLimit, settled(names("autoscale-1", "autoscale-2", "autoscale-3")), report.Expect{Kind: "scale_out", Cause: "alert", Signal: "high"}); err != nil {
		return err
	}
	if err := holdsAtMax(ctx, w, res); err != nil {
		return err
	}
	w.load.SetLoad(0)
	if err := w.phase(ctx, res, "load ends: 3 to 2, the newest goes", removeLimit, settled(names("autoscale-1", "autoscale-2")), report.Expect{Kind: "scale_in", Cause: "alert", Signal: "low"}); err != nil {
		return err
	}
	if err := w.phase(ctx, res, "2 to 1", removeLimit, settled(names("autoscale-1")), report.Expect{Kind: "scale_in", Cause: "alert", Signal: "low"}); err != nil {
		return err
	}
	return w.stays(ctx, "holds at min", 10*time.Second, func(g api.Group) error {
		if got := serving(g); !slices.Equal(got, []string{"autoscale-1"}) {
			return fmt.Errorf("in service: %s", strings.Join(got, ", "))
		}
		return nil
	})
}

// holdsAtMax watches that there are never more than max while the load goes on,
// and that it is max that prevents it: an order for one more is refused with it,
// and while high stands the bounds gate fails. High cannot stand where fewer cores
// than VMs are there to be busy; the report then says so.
func holdsAtMax(ctx context.Context, w *world, res *report.Scenario) error {
	const phase = "holds at max"
	var at max3
	if err := w.stays(ctx, phase, 15*time.Second, at.look); err != nil {
		return err
	}
	note, err := at.judge()
	if err != nil {
		return fmt.Errorf("%s: %w", phase, err)
	}
	res.Note("%s: %s", phase, note)
	_, err = operator[any](ctx, w, http.MethodPost, "/groups/"+w.group.name+"/scale-out", map[string]int{"count": 1})
	if err == nil {
		return fmt.Errorf("%s: an order for a fourth VM was taken", phase)
	}
	if text := err.Error(); !strings.Contains(text, "status 409") || !strings.Contains(text, "max 3") {
		return fmt.Errorf("%s: an order for a fourth VM failed, but not because of max 3: %w", phase, err)
	}
	res.Note("%s: an order for a fourth VM was refused: %v", phase, err)
	return nil
}

// max3 is what was seen of a group that is full.
type max3 struct {
	looks, high, bounded int
	reason               string
}

// look notes one look at the group, and fails if there are more than three.
func (m *max3) look(g api.Group) error {
	if len(g.Instances) > 3 {
		return fmt.Errorf("%d instances, max is 3", len(g.Instances))
	}
	m.looks++
	stands, full := false, false
	for _, gate := range g.Verdict.Gates {
		if gate.Action == "scale_out" {
			stands = stands || gate.Name == "condition" && gate.Passed
			full = full || gate.Name == "bounds" && !gate.Passed
		}
	}
	if !stands {
		return nil
	}
	m.high++
	if full && g.Verdict.Action == "none" {
		m.bounded++
		m.reason = g.Verdict.Reason
	}
	return nil
}

// judge says what kept the group at three, or what is wrong.
func (m *max3) judge() (string, error) {
	switch {
	case m.high == 0:
		return fmt.Sprintf("high did not stand: three VMs on %d cores stayed under the threshold", runtime.NumCPU()), nil
	case m.bounded < m.high:
		return "", fmt.Errorf("high stood in %d of %d looks, but only in %d of them did the verdict fail at the bounds", m.high, m.looks, m.bounded)
	}
	return fmt.Sprintf("high stood in %d of %d looks, and each time the bounds gate failed: %s", m.high, m.looks, m.reason), nil
}

func runHandover(ctx context.Context, w *world, res *report.Scenario) error {
	if err := w.phase(ctx, res, "the baseline is adopted and serves", launchLimit, settled(names("vm-test")), report.Expect{Kind: "adopt", Cause: "config"}); err != nil {
		return err
	}
	if err := w.startLoad(ctx, res); err != nil {
		return err
	}
	w.load.SetLoad(busyClients)
	if err := w.phase(ctx, res, "load: the clone joins, both serve", launchLimit, settled(names("vm-test", "vm-test-clone")), report.Expect{Kind: "scale_out", Cause: "alert", Signal: "high"}); err != nil {
		return err
	}
	begun := time.Now()
	both := []string{"vm-test", "vm-test-clone"}
	err := w.stays(ctx, "both serve", 5*time.Second, func(g api.Group) error {
		if got := serving(g); !slices.Equal(got, both) {
			return fmt.Errorf("in service: %s", strings.Join(got, ", "))
		}
		return nil
	})
	if err != nil {
		return err
	}
	share := shares(w.load.Records(), begun)
	res.Note("both serve: answered in that time: %s", report.Split(share))
	for _, vm := range both {
		if share[vm] == 0 {
			return fmt.Errorf("both serve: %s answered nothing in that time: %s", vm, report.Split(share))
		}
	}
	w.load.SetLoad(0)
	if err := w.phase(ctx, res, "load ends: the baseline is handed over to its clone", removeLimit, settled(names("vm-test-clone")), report.Expect{Kind: "handover", Cause: "alert", Signal: "low"}); err != nil {
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
	if err := w.phase(ctx, res, "one more handover, by a manual POST; HAProxy is reloaded in mid-drain", launchLimit+removeLimit, settled(names("vm-test-clone-2")), report.Expect{Kind: "handover", Cause: "manual"}); err != nil {
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

// shares counts, by VM, the answers to requests that began at or after the time.
func shares(records []loadgen.Record, since time.Time) map[string]int {
	per := map[string]int{}
	for _, r := range records {
		if !r.Lost() && !r.Start.Before(since) {
			per[r.Server]++
		}
	}
	return per
}

func isPrimary(g api.Group, name string) bool {
	return slices.ContainsFunc(g.Instances, func(i api.Instance) bool { return i.Name == name && i.Primary })
}
