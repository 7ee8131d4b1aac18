package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/report"
)

func TestAHandoverOfTheAddressWithALongGapFailsTheRun(t *testing.T) {
	r := report.New("")
	res := r.Begin("bare")
	for _, ms := range []float64{0, 480, 1000} {
		handedOver(res, report.Gap{From: "bare-1", To: "bare-2", Gap: ms})
	}
	if err := r.Verdict(); err != nil || len(res.Handovers) != 3 {
		t.Errorf("%d handovers with short gaps: %v", len(res.Handovers), err)
	}
	handedOver(res, report.Gap{From: "bare-2", To: "bare-3", Gap: 1001})
	want := []string{"handover bare-2 to bare-3: no new connection was answered for 1001 ms, want at most 1000 ms"}
	if diff := cmp.Diff(want, res.Failures); diff != "" {
		t.Error(diff)
	}
	if r.Verdict() == nil || len(res.Handovers) != 4 {
		t.Errorf("%d handovers, one with a long gap, and the run passed", len(res.Handovers))
	}
}
