package main

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
)

// report is what a run found, as demo-openstack-report.json holds it.
type report struct {
	Started   time.Time `json:"started"`
	Seconds   float64   `json:"seconds"`
	Passed    bool      `json:"passed"`
	Error     string    `json:"error,omitempty"`
	Scenarios []*result `json:"scenarios"`
}

// result is one scenario's part.
type result struct {
	Name     string   `json:"name"`
	Passed   bool     `json:"passed"`
	Failures []string `json:"failures"`
	Phases   []phase  `json:"phases"`
	Notes    []string `json:"notes,omitempty"`
	// Activities are all that scalehook did, each with its cause and step times.
	Activities []api.Activity `json:"activities"`
	Requests   *requests      `json:"requests,omitempty"`
	// Handovers are those of the bare floating IP, Moves its moves alone.
	Handovers []gap  `json:"handovers,omitempty"`
	Moves     *moves `json:"moves,omitempty"`

	seen int // activities that phases accounted for
}

// phase is one part of a scenario.
type phase struct {
	Name       string  `json:"name"`
	Seconds    float64 `json:"seconds"`
	UntilBegun float64 `json:"until_begun_seconds"`
	UntilDone  float64 `json:"until_done_seconds"`
}

// requests is what the load generator and the guests counted.
type requests struct {
	Sent          int            `json:"sent"`
	Answered      int            `json:"answered"`
	Lost          int            `json:"lost"`
	Cut           int            `json:"cut_by_deadline"`
	DuringChanges latency        `json:"during_changes_ms"`
	Otherwise     latency        `json:"otherwise_ms"`
	PerVM         map[string]int `json:"per_vm"`
	GuestsCounted int            `json:"guests_counted"`
	Examples      []string       `json:"lost_examples,omitempty"`
}

type latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

// gap is what one move of the address did.
type gap struct {
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

// moves are the gaps of many moves, in ms.
type moves struct {
	Count int       `json:"count"`
	P50   float64   `json:"gap_p50_ms"`
	P99   float64   `json:"gap_p99_ms"`
	Max   float64   `json:"gap_max_ms"`
	Call  latency   `json:"call_ms"` // the call that moves it
	Gaps  []float64 `json:"gaps_ms"`
}

func (r *report) begin(name string) *result {
	res := &result{Name: name, Failures: []string{}}
	r.Scenarios = append(r.Scenarios, res)
	return res
}

func (r *result) fail(format string, args ...any) {
	r.Failures = append(r.Failures, fmt.Sprintf(format, args...))
}

func (r *result) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// extra reports what no phase accounts for, and what is not done.
func (r *result) extra() {
	if len(r.Activities) != r.seen {
		r.fail("%d activities beside those of the phases: %s", len(r.Activities)-r.seen, kinds(r.Activities[min(r.seen, len(r.Activities)):]))
	}
	for _, a := range r.Activities {
		if a.Status != "done" {
			r.fail("activity %s (%s) is %s: %s", a.ID, a.Kind, a.Status, a.Outcome)
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

// write puts the report beside its final name first and gives it to the owner of
// its folder, so that a run as root leaves nothing that the user cannot remove.
func (r *report) write(file string) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(file+".tmp", append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if info, err := os.Stat(filepath.Dir(file)); err == nil {
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			_ = os.Chown(file+".tmp", int(sys.Uid), int(sys.Gid))
		}
	}
	if err := os.Rename(file+".tmp", file); err != nil {
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
			fmt.Fprintf(out, "  split: %s\n", split(q.PerVM))
		}
		for _, f := range s.Failures {
			fmt.Fprintf(out, "  FAILED: %s\n", f)
		}
	}
	word := "PASSED: no request lost behind the balancer, nothing left behind"
	if !r.Passed {
		word = "FAILED"
	}
	fmt.Fprintf(out, "\n%s (%.0f s, guests under TCG)\n", word, r.Seconds)
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
