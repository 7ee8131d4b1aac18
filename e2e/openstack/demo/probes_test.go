package main

import (
	"testing"
	"time"
)

func TestAGapIsFromTheFirstLostConnectionToTheNextAnswer(t *testing.T) {
	at := func(ms int, server string) probe { return probe{time.UnixMilli(int64(ms)), server} }
	for name, test := range map[string]struct {
		probes []probe
		length time.Duration
		lost   int
		fails  bool
	}{
		"nothing was lost":           {[]probe{at(0, "a"), at(20, "b")}, 0, 0, false},
		"three in a row":             {[]probe{at(0, "a"), at(20, ""), at(40, ""), at(60, ""), at(80, "b")}, 60 * time.Millisecond, 3, false},
		"the longer one of two":      {[]probe{at(0, ""), at(20, "a"), at(40, ""), at(60, ""), at(80, "b")}, 40 * time.Millisecond, 2, false},
		"it has not ended":           {[]probe{at(0, "a"), at(20, "")}, 0, 0, true},
		"there was no probe at all":  {nil, 0, 0, false},
		"old and new answer by turn": {[]probe{at(0, "a"), at(20, "b"), at(40, "a"), at(60, "b")}, 0, 0, false},
	} {
		got, err := longestHole(test.probes)
		if (err != nil) != test.fails || !test.fails && (got.length != test.length || got.lost != test.lost) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
