package grafana_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/grafana"
)

// answers of a Prometheus.
const (
	labelled = `{"status":"success","data":["web"]}`
	vector   = `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"3"]}]}}`
	matrix   = `{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"NaN"],[2,"3"]]}]}}`
)

func TestCheckNamesEveryQueryWithoutData(t *testing.T) {
	all, err := grafana.Queries()
	if err != nil {
		t.Fatal(err)
	}
	const excepted, other = "scalehook-overview: annotation Alerts for people", "scalehook-group: panel Nobody's, A"
	for _, tt := range []struct {
		name   string
		answer func(path, expr string) (int, string) // "" is what has data
		except map[string]string
		want   []string // in the error; empty: none
		found  int
	}{
		{"everything has data", nil, nil, nil, len(all)},
		{"nothing of a panel", func(_, expr string) (int, string) {
			if strings.Contains(expr, "scalehook_member_sessions") {
				return 200, `{"status":"success","data":{"resultType":"matrix","result":[]}}`
			}
			return 200, ""
		}, nil, []string{"scalehook-group: panel Sessions at the balancer, A: no data:"}, len(all) - 2},
		{"a quantile of nothing", func(_, expr string) (int, string) {
			if strings.HasPrefix(expr, "histogram_quantile(0.5, sum by (le, step)") {
				return 200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}`
			}
			return 200, ""
		}, nil, []string{"scalehook-overview: panel Time to serve by phase, median, A: no data:"}, len(all) - 1},
		{"a variable without values", func(path, _ string) (int, string) {
			if path == "/api/v1/label/vm/values" {
				return 200, `{"status":"success","data":[]}`
			}
			return 200, ""
		}, nil, []string{"scalehook-group: variable instance: no data:"}, len(all) - 1},
		{"a query that is refused", func(_, expr string) (int, string) {
			if strings.HasPrefix(expr, "ALERTS") {
				return 400, `{"status":"error","errorType":"bad_data","error":"1:1: parse error"}`
			}
			return 200, ""
		}, nil, []string{"annotation Signals: it is refused, status 400: 1:1: parse error"}, len(all) - 3},
		{"an answer that is none", func(_, expr string) (int, string) {
			if strings.HasPrefix(expr, "ALERTS") {
				return 502, `<html>`
			}
			return 200, ""
		}, nil, []string{"annotation Signals: read the answer, status 502:"}, len(all) - 3},
		{"what is excepted need not have data", func(_, expr string) (int, string) {
			if strings.Contains(expr, `severity=~"warning|critical"`) && !strings.HasPrefix(expr, "count") {
				return 200, `{"status":"success","data":{"resultType":"matrix","result":[]}}`
			}
			return 200, ""
		}, map[string]string{excepted: "nothing is wrong"}, nil, len(all) - 1},
		{"an exception for what nobody asks", nil, map[string]string{other: "why not"}, []string{`an exception for "` + other + `", which nobody asks`}, len(all)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				expr := r.FormValue("query") + r.FormValue("match[]")
				if strings.Contains(expr, "$") {
					t.Errorf("a variable of Grafana's is left: %s", expr)
				}
				code, answer := http.StatusOK, ""
				if tt.answer != nil {
					code, answer = tt.answer(r.URL.Path, expr)
				}
				if answer == "" {
					switch r.URL.Path {
					case "/api/v1/query":
						answer = vector
					case "/api/v1/query_range":
						answer = matrix
					default:
						answer = labelled
					}
				}
				w.WriteHeader(code)
				fmt.Fprint(w, answer)
			}))
			defer server.Close()
			end := time.Now()
			check := grafana.Check{
				URL: server.URL + "/", Client: server.Client(), Except: tt.except,
				Choice: grafana.Choice{Group: "web", Scrape: time.Second, Begin: end.Add(-time.Minute), End: end},
			}
			found, err := check.Run(t.Context())
			if found != tt.found {
				t.Errorf("%d of %d have data, want %d", found, len(all), tt.found)
			}
			if len(tt.want) == 0 && err != nil || len(tt.want) > 0 && err == nil {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			for _, want := range tt.want {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q in it", err, want)
				}
			}
		})
	}
}

func TestFillKnowsEveryVariable(t *testing.T) {
	end := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	choice := grafana.Choice{Group: "web", Scrape: 15 * time.Second, Begin: end.Add(-time.Hour), End: end}
	for _, tt := range []struct{ where, expr, want string }{
		{grafana.GroupUID + ": panel a, A", `a{scaling_group="$group",vm=~"$instance"}`, `a{scaling_group="web",vm=~".*"}`},
		{grafana.OverviewUID + ": panel a, A", `rate(a{scaling_group=~"$group"}[$__rate_interval])`, `rate(a{scaling_group=~".*"}[60s])`},
		{grafana.OverviewUID + ": panel a, A", `increase(a[$__range])`, `increase(a[3600s])`},
		{grafana.OverviewUID + ": panel a, A", `rate(a[$__interval])`, ""},
	} {
		got, err := grafana.Query{Where: tt.where, Expr: tt.expr}.Fill(choice)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %q, %v; want %q", tt.expr, got, err, tt.want)
		}
	}
}
