package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSummary(t *testing.T) {
	tests := map[string]struct {
		noSkips bool
		events  string
		want    string
		totals  string
		left    string
	}{
		"a package that passes is one line": {
			events: `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"pass","Package":"p","Elapsed":0.2}
`,
			want:   "ok    p (0.2s)\n",
			totals: "1 0 0\n",
		},
		"a failure shows its own output only, and counts with its package": {
			events: `{"Action":"output","Package":"p","Test":"TestGood","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"    got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestBad","Elapsed":0.1}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"fail","Package":"p","Elapsed":0.1}
`,
			want:   "FAIL  p TestBad (0.1s)\n    got 1, want 2\nFAIL  p (0.1s)\nFAIL\n",
			totals: "1 2 0\n",
		},
		"a skip is printed with its reason": {
			events: `{"Action":"output","Package":"p","Test":"TestS","Output":"=== RUN   TestS\n"}
{"Action":"output","Package":"p","Test":"TestS","Output":"    a_test.go:3: skipped: needs root\n"}
{"Action":"output","Package":"p","Test":"TestS","Output":"--- SKIP: TestS (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestS"}
{"Action":"pass","Package":"p","Elapsed":0}
`,
			want:   "skip  p TestS: a_test.go:3: skipped: needs root\nok    p (0.0s)\n",
			totals: "0 0 1\n",
		},
		"a skip is a failure where nothing may be skipped": {
			noSkips: true,
			events: `{"Action":"output","Package":"p","Test":"TestS","Output":"    a_test.go:3: not today\n"}
{"Action":"skip","Package":"p","Test":"TestS"}
`,
			want:   "FAIL  p TestS: nothing may be skipped here: a_test.go:3: not today\nFAIL  p: ended without a result\n",
			totals: "0 2 0\n",
		},
		"what is left for the run as root does not count": {
			noSkips: true,
			events: `{"Action":"output","Package":"p","Test":"TestS","Output":"    a_test.go:3: left for the run as root: needs root\n"}
{"Action":"skip","Package":"p","Test":"TestS"}
{"Action":"pass","Package":"p","Elapsed":0}
`,
			want:   "ok    p (0.0s)\n",
			totals: "0 0 0\n",
			left:   "p\n",
		},
		"what does not build fails": {
			events: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"p/a.go:1:1: expected package\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","Elapsed":0,"FailedBuild":"p [p.test]"}
`,
			want:   "p/a.go:1:1: expected package\nFAIL  p (0.0s)\nFAIL\tp [build failed]\n",
			totals: "0 1 0\n",
		},
		"a stream that breaks off fails": {
			events: `{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Output":"signal: killed\n"}
`,
			want:   "FAIL  p: ended without a result\nsignal: killed\n",
			totals: "0 1 0\n",
		},
		"a test that did not end is shown with its package": {
			events: `{"Action":"output","Package":"p","Test":"TestHangs","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"p","Elapsed":600}
`,
			want:   "FAIL  p (600.0s)\n      TestHangs did not end:\npanic: test timed out\n",
			totals: "0 1 0\n",
		},
		"other text passes through": {
			events: "warning: something\n",
			want:   "warning: something\n",
			totals: "0 0 0\n",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			s := &summary{out: &out, noSkips: tt.noSkips, output: map[test][]string{}, open: map[string]bool{}, left: map[string]bool{}}
			if err := s.read(strings.NewReader(tt.events)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Errorf("printed (-want +got):\n%s", diff)
			}
			path := filepath.Join(t.TempDir(), "totals")
			if err := s.appendTotals(path); err != nil {
				t.Fatal(err)
			}
			totals, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.writeLeft(path); err != nil {
				t.Fatal(err)
			}
			left, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(left) != tt.left {
				t.Errorf("left for the run as root: %q, want %q", left, tt.left)
			}
			if string(totals) != tt.totals {
				t.Errorf("totals are %q, want %q", totals, tt.totals)
			}
		})
	}
}
