package report_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/report"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/doctor"
)

var (
	begun = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	proof = begun.Add(-10 * time.Second)
)

func fill() api.Activity {
	return api.Activity{ID: "a1", Kind: "fill", Status: "done", Cause: api.Cause{Kind: "bounds"}, Created: begun.Add(time.Second), Ended: begun.Add(3 * time.Second)}
}

func out(id string, evidence time.Time) api.Activity {
	return api.Activity{ID: id, Kind: "scale_out", Status: "done", Cause: api.Cause{Kind: "alert", Signal: "high", Fingerprint: "f", EvidenceAt: evidence}, Created: begun}
}

func TestAPhaseComesByExactlyTheActivityThatIsExpected(t *testing.T) {
	high := report.Expect{Kind: "scale_out", Cause: "alert", Signal: "high"}
	for name, test := range map[string]struct {
		all  []api.Activity // after the first, which an earlier phase accounts for
		want string
	}{
		"on evidence of its own":          {[]api.Activity{out("a2", proof.Add(time.Second))}, ""},
		"no activity was begun":           {nil, "0 activities were begun, want 1: "},
		"two were begun":                  {[]api.Activity{out("a2", proof.Add(time.Second)), fill()}, "2 activities were begun, want 1: scale_out (alert high), fill (bounds )"},
		"another kind":                    {[]api.Activity{fill()}, "came by fill (bounds ), want scale_out (alert high)"},
		"an alert without evidence":       {[]api.Activity{out("a2", time.Time{})}, "the activity has no alert or no evidence time"},
		"on evidence that was used twice": {[]api.Activity{out("a2", proof)}, "was used by a1 before"},
	} {
		s := report.New("").Begin("x")
		first := out("a1", proof)
		if err := s.Came("one", begun, []api.Activity{first}, high); err != nil {
			t.Fatal(err)
		}
		err := s.Came("two", begun, append([]api.Activity{first}, test.all...), high)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if phases := len(s.Phases); (phases == 2) != (err == nil) {
			t.Errorf("%s: %d phases", name, phases)
		}
	}
}

func TestAnActivityThatNoPhaseAccountsForFailsTheRun(t *testing.T) {
	for name, test := range map[string]struct {
		all      []api.Activity
		complete bool
		want     []string
	}{
		"one after the last phase":          {[]api.Activity{fill(), out("a2", proof)}, true, []string{"1 activities beside those of the phases: scale_out (alert high)"}},
		"all are accounted for":             {[]api.Activity{fill()}, true, []string{}},
		"a run that stopped in mid-phase":   {[]api.Activity{fill(), out("a2", proof)}, false, []string{}},
		"one is not in the list any longer": {nil, true, []string{"-1 activities beside those of the phases: "}},
		"one failed":                        {[]api.Activity{{ID: "a1", Kind: "fill", Status: "failed", Outcome: "no room"}}, true, []string{"activity a1 (fill) is failed: no room"}},
	} {
		s := report.New("").Begin("x")
		if err := s.Came("filled", begun, []api.Activity{fill()}, report.Expect{Kind: "fill", Cause: "bounds"}); err != nil {
			t.Fatal(err)
		}
		s.Ended(test.all, test.complete)
		if diff := cmp.Diff(test.want, s.Failures); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestAReportTellsWhatWentWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	r := report.New("no-drain")
	r.Accelerator = "kvm"
	well, ill := r.Begin("well"), r.Begin("ill")
	well.Doctor([]doctor.Check{{Part: "server", OK: true}})
	ill.Doctor([]doctor.Check{{Part: "server", OK: true}, {Part: "balancers", What: "pool", Detail: "no such backend"}})
	ill.Requests = &report.Requests{Sent: 3, Answered: 2, Lost: 1, PerVM: map[string]int{"b": 1, "a": 1}}
	ill.Handovers = []report.Gap{{From: "a", To: "b", Gap: 12}}
	err := r.Verdict()
	if err == nil || !strings.Contains(err.Error(), "ill: scalehook doctor: ") || !strings.Contains(err.Error(), "balancers: pool: no such backend") || strings.Contains(err.Error(), "well: ") {
		t.Errorf("the verdict: %v", err)
	}
	r.Finish(err)
	if err := r.Write(file); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got report.Run
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if got.Passed || got.Error == "" || got.Fault != "no-drain" || !got.Scenarios[0].Passed || got.Scenarios[1].Passed || got.Scenarios[1].Requests.Lost != 1 {
		t.Errorf("written: %s", raw)
	}
	var shown strings.Builder
	r.Print(&shown, "all is well")
	for _, want := range []string{"requests: 3 sent, 2 answered, 1 lost", "split: a 1, b 1", "a to b    12 ms", "FAILED: scalehook doctor", "\nFAILED (", " s, VMs under kvm)"} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("no %q in\n%s", want, shown.String())
		}
	}
	if strings.Contains(shown.String(), "all is well") {
		t.Error("a run that failed is shown as one that passed")
	}
}
