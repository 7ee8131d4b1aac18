// Package report judges a run of a demo and tells it: which activities brought its
// phases about, what became of every request, and what went wrong, as JSON and as
// tables.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/doctor"
)

// Run is what one run found.
type Run struct {
	Started     time.Time   `json:"started"`
	Seconds     float64     `json:"seconds"`
	Fault       string      `json:"fault,omitempty"`
	Accelerator string      `json:"accelerator"` // kvm or qemu (TCG)
	Passed      bool        `json:"passed"`
	Error       string      `json:"error,omitempty"`
	Scenarios   []*Scenario `json:"scenarios"`
}

// Scenario is one scenario's part.
type Scenario struct {
	Name     string   `json:"name"`
	Passed   bool     `json:"passed"`
	Failures []string `json:"failures"`
	Phases   []Phase  `json:"phases"`
	// Notes say what was seen in a phase that waits for no activity.
	Notes []string `json:"notes,omitempty"`
	// Activities are all that scalehook did, each with its cause and step times.
	Activities []api.Activity `json:"activities"`
	Requests   *Requests      `json:"requests,omitempty"`
	// Handovers are those of a bare floating IP, Moves its moves alone.
	Handovers []Gap  `json:"handovers,omitempty"`
	Moves     *Moves `json:"moves,omitempty"`

	seen int // activities that phases accounted for
}

// Phase is one part of a scenario: what it waited for and what did it.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	// Activity is the one that brought it about.
	Activity string `json:"activity,omitempty"`
	// UntilBegun is the time from the start of the phase to the decision,
	// UntilDone from there to the end of the activity.
	UntilBegun float64 `json:"until_begun_seconds"`
	UntilDone  float64 `json:"until_done_seconds"`
}

// Gap is what one move of a public address did.
type Gap struct {
	From string `json:"from"`
	To   string `json:"to"`
	// Gap is from the first connection that could not be opened, or got no answer,
	// to the first one after it that did; 0 if every one did.
	Gap float64 `json:"gap_ms"`
	// Refused are the new connections in it.
	Refused int `json:"new_connections_lost"`
	// Open were requests under way when the address moved, and Cut those of them
	// that got no answer.
	Open int `json:"requests_under_way,omitempty"`
	Cut  int `json:"requests_cut,omitempty"`
}

// Moves are the gaps of many moves, in ms.
type Moves struct {
	Count int       `json:"count"`
	P50   float64   `json:"gap_p50_ms"`
	P99   float64   `json:"gap_p99_ms"`
	Max   float64   `json:"gap_max_ms"`
	Call  Latency   `json:"call_ms"` // the call that moves it
	Gaps  []float64 `json:"gaps_ms"`
}

// New begins a report. Fault is what is done wrong on purpose, if anything.
func New(fault string) *Run {
	return &Run{Started: time.Now().UTC().Truncate(time.Second), Fault: fault}
}

// Begin adds a scenario.
func (r *Run) Begin(name string) *Scenario {
	s := &Scenario{Name: name, Failures: []string{}}
	r.Scenarios = append(r.Scenarios, s)
	return s
}

// Fail notes what makes the scenario fail.
func (s *Scenario) Fail(format string, args ...any) {
	s.Failures = append(s.Failures, fmt.Sprintf(format, args...))
}

// Note notes what was seen.
func (s *Scenario) Note(format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
}

// Expect is the activity that must bring a phase about, by an order, by the
// configuration or by an alert of that signal.
type Expect struct{ Kind, Cause, Signal string }

// Came notes a phase that has come. It fails unless exactly one of all activities was
// begun in it, the expected one; an alert's has to say which, on evidence that none
// before it used.
func (s *Scenario) Came(name string, begun time.Time, all []api.Activity, want Expect) error {
	p := Phase{Name: name, Seconds: time.Since(begun).Seconds()}
	if n := len(all) - s.seen; n != 1 {
		return fmt.Errorf("%s: %d activities were begun, want 1: %s", name, n, kinds(all[min(s.seen, len(all)):]))
	}
	a := all[s.seen]
	s.seen++
	if a.Kind != want.Kind || a.Cause.Kind != want.Cause || a.Cause.Signal != want.Signal {
		return fmt.Errorf("%s: came by %s, want %s (%s %s)", name, kinds([]api.Activity{a}), want.Kind, want.Cause, want.Signal)
	}
	if want.Cause == "alert" {
		if a.Cause.Fingerprint == "" || a.Cause.EvidenceAt.IsZero() {
			return fmt.Errorf("%s: the activity has no alert or no evidence time: %+v", name, a.Cause)
		}
		for _, b := range all[:s.seen-1] {
			if b.Cause.Signal == a.Cause.Signal && !a.Cause.EvidenceAt.After(b.Cause.EvidenceAt) {
				return fmt.Errorf("%s: its evidence of %s was used by %s before", name, a.Cause.EvidenceAt, b.ID)
			}
		}
	}
	p.Activity, p.UntilBegun = a.ID, max(0, a.Created.Sub(begun).Seconds())
	if !a.Ended.IsZero() {
		p.UntilDone = a.Ended.Sub(a.Created).Seconds()
	}
	s.Phases = append(s.Phases, p)
	return nil
}

// Ended takes all activities at the end and fails the scenario if one is not done. If
// all phases came, each activity has to belong to one; a run that stopped between two
// says what is wrong already.
func (s *Scenario) Ended(all []api.Activity, complete bool) {
	s.Activities = all
	if complete && len(all) != s.seen {
		s.Fail("%d activities beside those of the phases: %s", len(all)-s.seen, kinds(all[min(s.seen, len(all)):]))
	}
	for _, a := range all {
		if a.Status != "done" {
			s.Fail("activity %s (%s) is %s: %s", a.ID, a.Kind, a.Status, a.Outcome)
		}
	}
}

// Doctor takes what "scalehook doctor" found over the whole path.
func (s *Scenario) Doctor(checks []doctor.Check) {
	if !doctor.Failed(checks) {
		s.Note("scalehook doctor: %s", doctor.Summary(checks))
		return
	}
	var wrong []string
	for _, c := range checks {
		if !c.OK {
			wrong = append(wrong, fmt.Sprintf("%s: %s: %s", c.Part, c.What, c.Detail))
		}
	}
	s.Fail("scalehook doctor: %s: %s", doctor.Summary(checks), strings.Join(wrong, "; "))
}

// Verdict is what made scenarios fail, or nil.
func (r *Run) Verdict() error {
	var errs []error
	for _, s := range r.Scenarios {
		for _, f := range s.Failures {
			errs = append(errs, fmt.Errorf("%s: %s", s.Name, f))
		}
	}
	return errors.Join(errs...)
}

// Finish ends the report of a run that ended so.
func (r *Run) Finish(err error) {
	r.Seconds = time.Since(r.Started).Seconds()
	r.Passed = err == nil
	if err != nil {
		r.Error = err.Error()
	}
	for _, s := range r.Scenarios {
		s.Passed = len(s.Failures) == 0
	}
}

// Write puts the report beside its final name first, so that a reader never sees half
// of one, and gives it to the owner of the folder, so that a run as root leaves nothing
// in the tree that the user cannot remove.
func (r *Run) Write(file string) error {
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

func ownLikeFolder(file string) error {
	st, err := os.Stat(filepath.Dir(file))
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(file, int(sys.Uid), int(sys.Gid))
}

// Print shows the report as tables; passed is what a run that passed has proved.
func (r *Run) Print(out io.Writer, passed string) {
	for _, s := range r.Scenarios {
		s.print(out)
	}
	word := "PASSED: " + passed
	if !r.Passed {
		word = "FAILED"
	}
	fmt.Fprintf(out, "\n%s (%.0f s, VMs under %s)\n", word, r.Seconds, r.Accelerator)
}

func (s *Scenario) print(out io.Writer) {
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
	if len(s.Handovers) > 0 {
		fmt.Fprintln(t, "  handover\tgap for new connections\tof them lost\tunder way\tof them cut")
		for _, h := range s.Handovers {
			fmt.Fprintf(t, "  %s to %s\t%.0f ms\t%d\t%d\t%d\n", h.From, h.To, h.Gap, h.Refused, h.Open, h.Cut)
		}
	}
	_ = t.Flush()
	if m := s.Moves; m != nil {
		fmt.Fprintf(out, "  %d moves of the address: gap for new connections p50 %.0f ms, p99 %.0f ms, longest %.0f ms; the call takes p50 %.0f ms, p99 %.0f ms\n",
			m.Count, m.P50, m.P99, m.Max, m.Call.P50, m.Call.P99)
	}
	for _, n := range s.Notes {
		fmt.Fprintf(out, "  %s\n", n)
	}
	if q := s.Requests; q != nil {
		fmt.Fprintf(out, "  requests: %d sent, %d answered, %d lost (%d cut by a deadline), %d in the guests' books\n", q.Sent, q.Answered, q.Lost, q.Cut, q.GuestsCounted)
		fmt.Fprintf(out, "  latency: p50 %.0f ms, p99 %.0f ms during changes (%d); p50 %.0f ms, p99 %.0f ms otherwise (%d)\n",
			q.DuringChanges.P50, q.DuringChanges.P99, q.DuringChanges.Count, q.Otherwise.P50, q.Otherwise.P99, q.Otherwise.Count)
		fmt.Fprintf(out, "  split: %s\n", Split(q.PerVM))
	}
	for _, f := range s.Failures {
		fmt.Fprintf(out, "  FAILED: %s\n", f)
	}
}

func kinds(all []api.Activity) string {
	var out []string
	for _, a := range all {
		out = append(out, fmt.Sprintf("%s (%s %s)", a.Kind, a.Cause.Kind, a.Cause.Signal))
	}
	return strings.Join(out, ", ")
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

// Split says who answered how many.
func Split(per map[string]int) string {
	var out []string
	for vm, n := range per {
		out = append(out, fmt.Sprintf("%s %d", vm, n))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
