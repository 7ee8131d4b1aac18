package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/e2e/report"
	"github.com/scalehook/scalehook/grafana"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/doctor"
)

// askDashboards asks Prometheus everything that the Grafana dashboards ask, about the
// time of the scenario: a panel without data in a run like this one never has any.
func (w *world) askDashboards(ctx context.Context, res *report.Scenario) {
	check := grafana.Check{
		URL: "http://" + prometheusAddr, Client: w.client, Except: grafana.OnlyInTrouble(),
		Choice: grafana.Choice{Group: w.group.name, Scrape: time.Second, Begin: w.ready, End: time.Now()},
	}
	answered, err := check.Run(ctx)
	if err != nil {
		res.Fail("the Grafana dashboards: %v", err)
		return
	}
	res.Note("%d queries of the Grafana dashboards have data in this Prometheus", answered)
}

// doctorLimit is how long doctor may find something that is only not so yet: a VM that
// came into service just now has no reading.
const doctorLimit = 30 * time.Second

// askDoctor runs "scalehook doctor" over the whole path while all of it runs: it has to
// find nothing wrong.
func (w *world) askDoctor(ctx context.Context, res *report.Scenario) {
	ctx, cancel := context.WithTimeout(ctx, doctorLimit+2*time.Minute)
	defer cancel()
	for begun := time.Now(); ; {
		checks, err := w.doctor(ctx)
		switch {
		case err != nil:
			res.Fail("scalehook doctor: %v", err)
			return
		case !doctor.Failed(checks) || time.Since(begun) > doctorLimit:
			res.Doctor(checks)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

// doctor runs the program with the configuration of the server.
func (w *world) doctor(ctx context.Context) ([]doctor.Check, error) {
	cmd := w.lab.Command(ctx, filepath.Join(w.bin, "scalehook"), "doctor", "--config.file", w.lab.Path("scalehook.yml"),
		"--url", "http://"+serverAddr, "--token-file", w.operatorToken, "--service-user", "root", "-o", "json")
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(out) == 0 {
		return nil, fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	var checks []doctor.Check
	if err := json.Unmarshal(out, &checks); err != nil {
		return nil, fmt.Errorf("%w in %q", err, out)
	}
	return checks, examined(checks)
}

// examined reports a part of the path that doctor did not look at.
func examined(checks []doctor.Check) error {
	for _, part := range []string{
		doctor.PartConfiguration, doctor.PartServer, doctor.PartPrometheus, doctor.PartAlertmanager, doctor.PartProviders, doctor.PartBalancers,
	} {
		if !slices.ContainsFunc(checks, func(c doctor.Check) bool { return c.Part == part }) {
			return fmt.Errorf("it did not look at %s", part)
		}
	}
	return nil
}

// phase waits for a condition and checks that it came by exactly the activity
// that it should come by.
func (w *world) phase(ctx context.Context, res *report.Scenario, name string, limit time.Duration, done func(api.Group) bool, want report.Expect) error {
	begun := time.Now()
	if _, err := w.await(ctx, name, limit, done); err != nil {
		return err
	}
	all, err := w.activities(ctx)
	if err != nil {
		return fmt.Errorf("%s: read the activities: %w", name, err)
	}
	return res.Came(name, begun, all, want)
}

// judge ends the load and checks what can be checked only at the end: no request
// lost, the guests' own books agree, nothing left behind. Complete is whether all
// phases came.
func (w *world) judge(ctx context.Context, res *report.Scenario, complete bool) {
	var all []api.Activity
	var unread error
	if w.server != nil {
		all, unread = w.activities(ctx)
	}
	if w.load != nil {
		res.Judge(ctx, w.load, w.lab.Collector(), all)
	}
	if w.server == nil {
		return
	}
	if unread != nil {
		res.Fail("read the activities: %v", unread)
	} else {
		res.Ended(all, complete)
	}
	g, err := w.view(ctx)
	if err != nil {
		res.Fail("read the group: %v", err)
		return
	}
	now, err := w.lab.Snapshot(ctx)
	if err != nil {
		res.Fail("list what is left: %v", err)
		return
	}
	for _, left := range now.Left(w.before) {
		if !slices.ContainsFunc(g.Instances, func(i api.Instance) bool {
			return i.State == "in_service" && (strings.Contains(left, i.ID) || strings.HasSuffix(left, i.Name))
		}) {
			res.Fail("left behind: %s", left)
		}
	}
}
