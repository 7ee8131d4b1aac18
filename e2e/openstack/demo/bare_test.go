package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAHandoverOfTheAddressWithALongGapFailsTheRun(t *testing.T) {
	r := &report{}
	res := r.begin("bare")
	for _, ms := range []float64{0, 480, 1000} {
		res.handedOver(gap{From: "bare-1", To: "bare-2", Gap: ms})
	}
	if err := r.verdict(); err != nil || len(res.Handovers) != 3 {
		t.Errorf("%d handovers with short gaps: %v", len(res.Handovers), err)
	}
	res.handedOver(gap{From: "bare-2", To: "bare-3", Gap: 1001})
	want := []string{"handover bare-2 to bare-3: no new connection was answered for 1001 ms, want at most 1000 ms"}
	if diff := cmp.Diff(want, res.Failures); diff != "" {
		t.Error(diff)
	}
	if r.verdict() == nil || len(res.Handovers) != 4 {
		t.Errorf("%d handovers, one with a long gap, and the run passed", len(res.Handovers))
	}
}
