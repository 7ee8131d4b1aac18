package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/scalehook/scalehook/grafana"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/doctor"
)

// report is what a run found, as demo-report.json holds it.
type report struct {
	Started     time.Time `json:"started"`
	Seconds     float64   `json:"seconds"`
	Fault       string    `json:"fault,omitempty"`
	Accelerator string    `json:"accelerator"` // kvm or qemu (TCG)
	Passed      bool      `json:"passed"`
	Error       string    `json:"error,omitempty"`
	Scenarios   []*result `json:"scenarios"`
}

// result is one scenario's part.
type result struct {
	Name     string   `json:"name"`
	Passed   bool     `json:"passed"`
	Failures []string `json:"failures"`
	Phases   []phase  `json:"phases"`
	// Notes say what was seen in a phase that waits for no activity.
	Notes []string `json:"notes,omitempty"`
	// Activities are all that scalehook did, each with its cause and step times.
	Activities []api.Activity `json:"activities"`
	Requests   requests       `json:"requests"`

	seen     int  // activities that earlier phases accounted for
	complete bool // all phases came
}

// phase is one part of a scenario: what it waited for and what did it.
type phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	// Activity is the one that brought it about.
	Activity string `json:"activity,omitempty"`
	// UntilBegun is the time from the start of the phase to the decision,
	// UntilDone from there to the end of the activity.
	UntilBegun float64 `json:"until_begun_seconds"`
	UntilDone  float64 `json:"until_done_seconds"`
}

// requests is what the load generator and the guests counted.
type requests struct {
	Sent     int `json:"sent"`
	Answered int `json:"answered"`
	// Lost had no complete, expected answer on the first transmission; Cut are
	// those of them that a deadline ended.
	Lost int `json:"lost"`
	Cut  int `json:"cut_by_deadline"`
	// P50 and P99 are latencies in milliseconds, of requests that overlapped a
	// change of the pool and of the others.
	DuringChanges latency        `json:"during_changes_ms"`
	Otherwise     latency        `json:"otherwise_ms"`
	PerVM         map[string]int `json:"per_vm"`
	// GuestsCounted is how many answers the guests have in their own books.
	GuestsCounted int      `json:"guests_counted"`
	Examples      []string `json:"lost_examples,omitempty"`
}

type latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

func newReport(o options) *report {
	return &report{Started: time.Now().UTC().Truncate(time.Second), Fault: o.fault}
}

func (r *report) begin(s scenario) *result {
	res := &result{Name: s.group.name, Failures: []string{}}
	r.Scenarios = append(r.Scenarios, res)
	return res
}

func (r *result) fail(format string, args ...any) {
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

func (r *result) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// extra reports the activities that no phase accounts for. A run that stopped in
// mid-phase says what is wrong already.
func (r *result) extra(all []api.Activity) {
	if r.complete && len(all) != r.seen {
		r.fail("%d activities beside those of the phases: %s", len(all)-r.seen, kinds(all[min(r.seen, len(all)):]))
	}
}

// askDashboards asks Prometheus everything that the Grafana dashboards ask, about the
// time of the scenario: a panel without data in a run like this one never has any.
func (w *world) askDashboards(ctx context.Context, res *result) {
	check := grafana.Check{
		URL: "http://" + prometheusAddr, Client: w.client, Except: grafana.OnlyInTrouble(),
		Choice: grafana.Choice{Group: w.group.name, Scrape: time.Second, Begin: w.ready, End: time.Now()},
	}
	answered, err := check.Run(ctx)
	if err != nil {
		res.fail("the Grafana dashboards: %v", err)
		return
	}
	res.note("%d queries of the Grafana dashboards have data in this Prometheus", answered)
}

// doctorLimit is how long doctor may find something that is only not so yet: a VM that
// came into service just now has no reading.
const doctorLimit = 30 * time.Second

// askDoctor runs "scalehook doctor" over the whole path while all of it runs: it has to
// find nothing wrong.
func (w *world) askDoctor(ctx context.Context, res *result) {
	ctx, cancel := context.WithTimeout(ctx, doctorLimit+2*time.Minute)
	defer cancel()
	for begun := time.Now(); ; {
		checks, err := w.doctor(ctx)
		switch {
		case err != nil:
			res.fail("scalehook doctor: %v", err)
			return
		case !doctor.Failed(checks):
			res.note("scalehook doctor: %s", doctor.Summary(checks))
			return
		case time.Since(begun) > doctorLimit:
			res.fail("scalehook doctor: %s: %s", doctor.Summary(checks), wrongs(checks))
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

// wrongs are the checks that are not OK.
func wrongs(checks []doctor.Check) string {
	var all []string
	for _, c := range checks {
		if !c.OK {
			all = append(all, fmt.Sprintf("%s: %s: %s", c.Part, c.What, c.Detail))
		}
	}
	return strings.Join(all, "; ")
}

// expect is the activity that must have brought a phase about.
type expect struct{ kind, cause, signal string }

// phase waits for a condition and checks that it came by exactly the activity
// that it should come by.
func (r *result) phase(ctx context.Context, w *world, name string, limit time.Duration, done func(api.Group) bool, want expect) error {
	begun := time.Now()
	if _, err := w.await(ctx, name, limit, done); err != nil {
		return err
	}
	p := phase{Name: name, Seconds: time.Since(begun).Seconds()}
	all, err := w.activities(ctx)
	if err != nil {
		return fmt.Errorf("%s: read the activities: %w", name, err)
	}
	if n := len(all) - r.seen; n != 1 {
		return fmt.Errorf("%s: %d activities were begun, want 1: %s", name, n, kinds(all[min(r.seen, len(all)):]))
	}
	a := all[r.seen]
	r.seen++
	if a.Kind != want.kind || a.Cause.Kind != want.cause || a.Cause.Signal != want.signal {
		return fmt.Errorf("%s: came by %s (%s %s), want %s (%s %s)", name, a.Kind, a.Cause.Kind, a.Cause.Signal, want.kind, want.cause, want.signal)
	}
	if want.cause == "alert" {
		if a.Cause.Fingerprint == "" || a.Cause.EvidenceAt.IsZero() {
			return fmt.Errorf("%s: the activity has no alert or no evidence time: %+v", name, a.Cause)
		}
		for _, b := range all[:r.seen-1] {
			if b.Cause.Signal == a.Cause.Signal && !a.Cause.EvidenceAt.After(b.Cause.EvidenceAt) {
				return fmt.Errorf("%s: its evidence of %s was used by %s before", name, a.Cause.EvidenceAt, b.ID)
			}
		}
	}
	p.Activity, p.UntilBegun = a.ID, max(0, a.Created.Sub(begun).Seconds())
	if !a.Ended.IsZero() {
		p.UntilDone = a.Ended.Sub(a.Created).Seconds()
	}
	r.Phases = append(r.Phases, p)
	return nil
}

func kinds(as []api.Activity) string {
	var out []string
	for _, a := range as {
		out = append(out, a.Kind+" ("+a.Cause.Kind+" "+a.Cause.Signal+")")
	}
	return strings.Join(out, ", ")
}

// judge ends the load and checks what can be checked only at the end: no request
// lost, the guests' own books agree, nothing left behind.
func (w *world) judge(ctx context.Context, res *result) {
	if w.load != nil {
		w.load.judge(ctx, w, res)
	}
	if w.server == nil {
		return
	}
	if all, err := w.activities(ctx); err != nil {
		res.fail("read the activities: %v", err)
	} else {
		res.Activities = all
		res.extra(all)
		for _, a := range all {
			if a.Status != "done" {
				res.fail("activity %s (%s) is %s: %s", a.ID, a.Kind, a.Status, a.Outcome)
			}
		}
	}
	g, err := w.view(ctx)
	if err != nil {
		res.fail("read the group: %v", err)
		return
	}
	now, err := w.lab.Snapshot(ctx)
	if err != nil {
		res.fail("list what is left: %v", err)
		return
	}
	for _, left := range now.Left(w.before) {
		if !slices.ContainsFunc(g.Instances, func(i api.Instance) bool {
			return i.State == "in_service" && (strings.Contains(left, i.ID) || strings.HasSuffix(left, i.Name))
		}) {
			res.fail("left behind: %s", left)
		}
	}
}

func (r *report) verdict() error {
	var errs []error
	for _, s := range r.Scenarios {
		for _, f := range s.Failures {
			errs = append(errs, fmt.Errorf("%s: %s", s.Name, f))
		}
	}
	return errors.Join(errs...)
}

func (r *report) finish(err error) {
	r.Seconds = time.Since(r.Started).Seconds()
	r.Passed = err == nil
	if err != nil {
		r.Error = err.Error()
	}
	for _, s := range r.Scenarios {
		s.Passed = len(s.Failures) == 0
	}
}

// write puts the report beside its final name first, so that a reader never sees
// half of one, and gives it to whoever owns the folder when run by sudo.
func (r *report) write(file string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(file+".tmp", append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := errors.Join(ownLikeFolder(file+".tmp"), os.Rename(file+".tmp", file)); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// print shows the report as tables.
func (r *report) print(out io.Writer) {
	for _, s := range r.Scenarios {
		fmt.Fprintf(out, "\n%s\n", s.Name)
		t := tabwriter.NewWriter(out, 2, 2, 2, ' ', 0)
		fmt.Fprintln(t, "  phase\tseconds\tuntil begun\tuntil done")
		for _, p := range s.Phases {
			fmt.Fprintf(t, "  %s\t%.1f\t%.1f\t%.1f\n", p.Name, p.Seconds, p.UntilBegun, p.UntilDone)
		}
		fmt.Fprintln(t, "  activity\tcause\tstatus\tsteps (s)")
		for _, a := range s.Activities {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", a.Kind, cause(a.Cause), a.Status, steps(a))
		}
		_ = t.Flush()
		for _, n := range s.Notes {
			fmt.Fprintf(out, "  %s\n", n)
		}
		q := s.Requests
		fmt.Fprintf(out, "  requests: %d sent, %d answered, %d lost (%d cut by a deadline), %d in the guests' books\n", q.Sent, q.Answered, q.Lost, q.Cut, q.GuestsCounted)
		fmt.Fprintf(out, "  latency: p50 %.0f ms, p99 %.0f ms during changes (%d); p50 %.0f ms, p99 %.0f ms otherwise (%d)\n",
			q.DuringChanges.P50, q.DuringChanges.P99, q.DuringChanges.Count, q.Otherwise.P50, q.Otherwise.P99, q.Otherwise.Count)
		fmt.Fprintf(out, "  split: %s\n", split(q.PerVM))
		for _, f := range s.Failures {
			fmt.Fprintf(out, "  FAILED: %s\n", f)
		}
	}
	word := "PASSED: no request lost, nothing left behind"
	if !r.Passed {
		word = "FAILED"
	}
	fmt.Fprintf(out, "\n%s (%.0f s, VMs under %s)\n", word, r.Seconds, r.Accelerator)
}

func cause(c api.Cause) string {
	if c.Kind != "alert" {
		return c.Kind
	}
	return fmt.Sprintf("%s %s, evidence %s", c.Signal, c.Fingerprint, c.EvidenceAt.Format("15:04:05"))
}

func steps(a api.Activity) string {
	var out []string
	for _, s := range a.Steps {
		if !s.Ended.IsZero() {
			out = append(out, fmt.Sprintf("%s %.1f", s.Name, s.Ended.Sub(s.Started).Seconds()))
		}
	}
	return strings.Join(out, ", ")
}

func split(per map[string]int) string {
	var out []string
	for vm, n := range per {
		out = append(out, fmt.Sprintf("%s %d", vm, n))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
