package prometheus_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/prometheus"
)

// ranges answers every query_range with one series of a value that says which query it
// was, at every step but those that skip names.
func ranges(t *testing.T, asked *[]int, skip func(query string, at int64) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		number := func(key string) int64 {
			f, err := strconv.ParseFloat(r.FormValue(key), 64)
			if err != nil {
				t.Errorf("%s: %v", key, err)
			}
			return int64(f)
		}
		query, value := r.FormValue("query"), 0.0
		switch {
		case r.URL.Path != "/api/v1/query_range":
			t.Errorf("asked %s", r.URL.Path)
		case strings.Contains(query, "missing_as_0"):
			value = 0.25
		case strings.Contains(query, "missing_as_1"):
			value = 0.5
		case strings.Contains(query, "cpu_utilization:ratio"):
			value = 2
		default:
			value = 3
		}
		var points []string
		for at := number("start"); at <= number("end"); at += number("step") {
			if skip == nil || !skip(query, at) {
				points = append(points, fmt.Sprintf(`[%d,"%g"]`, at, value))
			}
		}
		*asked = append(*asked, len(points))
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[%s]}]}}`, strings.Join(points, ","))
	}
}

func TestHistoryIsAskedForInPieces(t *testing.T) {
	var asked []int
	begin := time.Unix(1_700_000_000, 0)
	s := source(t, ranges(t, &asked, func(query string, at int64) bool {
		return at == begin.Add(30*time.Minute).Unix() && strings.Contains(query, "missing_as_1")
	}))
	got, err := s.History(t.Context(), `we"b`, begin, begin.Add(4999*time.Minute), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{2000, 1999, 2000, 2000, 2000, 2000, 2000, 2000, 1000, 1000, 1000, 1000}, asked); diff != "" {
		t.Errorf("points of each answer: %s", diff)
	}
	// One moment lacks an average and is left out.
	if len(got) != 4999 || !got[30].At.Equal(begin.Add(31*time.Minute)) {
		t.Fatalf("%d moments, the 31st of %s", len(got), got[30].At)
	}
	if diff := cmp.Diff(prometheus.Group{At: begin.Add(4999 * time.Minute), High: 0.25, Low: 0.5, InService: 3, Read: 2}, got[4998]); diff != "" {
		t.Error(diff)
	}
}

func TestHistoryThatCannotBeHad(t *testing.T) {
	for _, test := range []struct {
		name, answer, want string
		status             int
	}{
		{"refused", `{"status":"error","error":"exceeded maximum resolution"}`, "400 Bad Request: exceeded maximum resolution", 400},
		{"a page", `<html>`, "502 Bad Gateway: <html>", 502},
		{"something else", `{"status":"success","data":{"resultType":"vector","result":[]}}`, `type "vector"`, 200},
		{"cut off", `{"status":"success","data":{"resultType":"matrix","result":[{"values":3}]}}`, "not a range", 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := source(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.answer)
			})
			_, err := s.History(t.Context(), "web", time.Unix(0, 0), time.Unix(600, 0), time.Minute)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "look up what was recorded of group web") {
				t.Errorf("got %v", err)
			}
			if test.status == 400 && scaling.ClassOf(err) != scaling.Permanent {
				t.Errorf("%v is no refusal", err)
			}
		})
	}
}
