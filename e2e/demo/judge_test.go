package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/doctor"
)

func TestHoldingAtMaxIsProvedByTheBoundsGate(t *testing.T) {
	look := func(standing, bounds bool, action string) api.Group {
		return api.Group{Verdict: api.Verdict{Action: action, Reason: "3 of at most 3", Gates: []api.Gate{
			{Action: "scale_out", Name: "condition", Passed: standing},
			{Action: "scale_out", Name: "bounds", Passed: bounds},
			{Action: "scale_in", Name: "condition", Passed: true},
		}}}
	}
	for name, test := range map[string]struct {
		looks []api.Group
		want  string // of the note, or of the error
		fails bool
	}{
		"high stands and the bounds fail": {[]api.Group{look(true, false, "none"), look(false, false, "none")}, "high stood in 1 of 2 looks", false},
		"high never stands":               {[]api.Group{look(false, false, "none")}, "high did not stand", false},
		"high stands and nothing holds":   {[]api.Group{look(true, false, "none"), look(true, true, "none")}, "only in 1 of them", true},
		"a fourth is launched":            {[]api.Group{look(true, false, "scale_out")}, "only in 0 of them", true},
	} {
		var m max3
		for _, g := range test.looks {
			if err := m.look(g); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		got, err := m.judge()
		if err != nil {
			got = err.Error()
		}
		if (err != nil) != test.fails || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	var m max3
	if err := m.look(api.Group{Instances: make([]api.Instance, 4)}); err == nil {
		t.Error("four instances were not noticed")
	}
}

func TestSharesAreOfAnswersInTheWindow(t *testing.T) {
	at := time.Unix(1000, 0)
	got := shares([]loadgen.Record{
		{Server: "vm-test", Outcome: loadgen.OK, Start: at.Add(-time.Second)},
		{Server: "vm-test", Outcome: loadgen.OK, Start: at},
		{Server: "vm-test-clone", Outcome: loadgen.Cut, Start: at.Add(time.Second)},
	}, at)
	if diff := cmp.Diff(map[string]int{"vm-test": 1}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestDoctorHasToHaveLookedAtEveryPart(t *testing.T) {
	var checks []doctor.Check
	for _, part := range []string{"configuration", "server", "prometheus", "alertmanager", "providers"} {
		checks = append(checks, doctor.Check{Part: part, OK: true})
	}
	if err := examined(checks); err == nil || !strings.Contains(err.Error(), "did not look at balancers") {
		t.Errorf("got %v", err)
	}
	checks = append(checks, doctor.Check{Part: "balancers", What: "edge, pool of web", Detail: "no such backend"})
	if err := examined(checks); err != nil {
		t.Error(err)
	}
}
