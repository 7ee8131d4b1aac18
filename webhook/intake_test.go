package webhook_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/webhook"
)

type alert map[string]any

// firing is an alert as Alertmanager sends it.
func firing(group, signal string) alert {
	labels := map[string]string{"alertname": "ScalehookCPU", "scaling_group": group, "scalehook_signal": signal}
	maps.DeleteFunc(labels, func(_, v string) bool { return v == "" })
	return alert{
		"status": "firing", "labels": labels, "annotations": map[string]string{"summary": "busy"},
		"startsAt": "2026-11-21T11:59:00Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prometheus",
		"fingerprint": "fp-" + group + "-" + signal,
	}
}

// labelled is a firing alert with the labels, names and values in turn.
func labelled(pairs ...string) alert {
	labels := map[string]string{"alertname": "ScalehookHeartbeat"}
	for pair := range slices.Chunk(pairs, 2) {
		labels[pair[0]] = pair[1]
	}
	a := firing("", "")
	a["labels"] = labels
	return a
}

func resolved(group, signal string) alert {
	a := firing(group, signal)
	a["status"], a["endsAt"] = "resolved", "2026-11-21T12:00:00Z"
	return a
}

// payload is a message as Alertmanager sends it, with what newer releases add.
func payload(version string, alerts ...alert) string {
	b, err := json.Marshal(map[string]any{
		"version": version, "groupKey": `{}:{scaling_group="web"}`, "truncatedAlerts": 0, "status": "firing", "receiver": "scalehook",
		"groupLabels": map[string]string{}, "commonLabels": map[string]string{}, "commonAnnotations": map[string]string{},
		"routeLabels": map[string]string{}, "notification_reason": "first notification", "somethingNew": []int{1},
		"externalURL": "http://alertmanager", "alerts": alerts,
	})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func post(t testing.TB, s *webhook.Server, token, body string) api.IntakeResult {
	t.Helper()
	w := send(t, s, request{method: "POST", path: "/api/v1/alertmanager", token: token, body: body})
	if w.Code != 200 {
		t.Fatalf("answered %d: %s", w.Code, w.Body)
	}
	return dataOf[api.IntakeResult](t, w)
}

func TestIntakeAnswersEachAlert(t *testing.T) {
	strange := firing("web", "high")
	strange["status"] = "pending"
	tests := []struct {
		name   string
		token  string
		alerts []alert
		want   []string // results
		told   int      // notifications that reached the engine
	}{
		{"high is firing", alertsToken, []alert{firing("web", "high")}, []string{"accepted"}, 1},
		{"low is resolved", alertsToken, []alert{resolved("web", "low")}, []string{"resolved"}, 1},
		{"an operator may post too", operatorToken, []alert{firing("web", "high")}, []string{"accepted"}, 1},
		{"no alerts at all", alertsToken, nil, nil, 0},
		{"a group that is not configured", alertsToken, []alert{firing("nope", "high")}, []string{"unknown_group"}, 1},
		{"an alert without a group", alertsToken, []alert{firing("", "high")}, []string{"no_signal"}, 0},
		{"the heartbeat", alertsToken, []alert{labelled("scalehook_heartbeat", "true")}, []string{"heartbeat"}, 0},
		{"a heartbeat that is none", alertsToken, []alert{labelled("scalehook_heartbeat", "false")}, []string{"no_signal"}, 0},
		{"a signal is no heartbeat", alertsToken, []alert{labelled("scalehook_heartbeat", "true", "scaling_group", "web", "scalehook_signal", "high")}, []string{"accepted"}, 1},
		{"an alert without a signal", alertsToken, []alert{firing("web", "")}, []string{"no_signal"}, 0},
		{"a signal that is none", alertsToken, []alert{firing("web", "sideways")}, []string{"no_signal"}, 0},
		{"an alert without labels", alertsToken, []alert{{"status": "firing"}}, []string{"no_signal"}, 0},
		{"an alert that is nothing", alertsToken, []alert{{}}, []string{"no_signal"}, 0},
		{"a status that is none", alertsToken, []alert{strange}, []string{"no_signal"}, 0},
		{"a token for another group", webToken, []alert{firing("db", "high"), firing("web", "high")}, []string{"not_allowed", "accepted"}, 1},
		{
			"good and bad together keep their places",
			alertsToken,
			[]alert{firing("", ""), resolved("web", "high"), firing("nope", "low"), firing("web", "low")},
			[]string{"no_signal", "resolved", "unknown_group", "accepted"},
			3,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine()
			s := newServer(t, options(t, e))
			got := post(t, s, tt.token, payload("4", tt.alerts...))
			var results []string
			for _, r := range got.Results {
				results = append(results, r.Result)
				if r.Message == "" {
					t.Errorf("result %+v has no message", r)
				}
			}
			if diff := cmp.Diff(tt.want, results); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
			if n := len(e.seen()); n != tt.told {
				t.Errorf("the engine got %d notifications, want %d", n, tt.told)
			}
		})
	}
}

func TestIntakeReducesAnAlert(t *testing.T) {
	e := newEngine()
	s := newServer(t, options(t, e))
	a := firing("web", "high")
	post(t, s, alertsToken, payload("4", a))
	delete(a, "fingerprint")
	post(t, s, alertsToken, payload("4", a))
	want := scaling.Notification{
		Group: "web", Signal: scaling.High, Firing: true, Fingerprint: "fp-web-high", AlertName: "ScalehookCPU",
		StartsAt: time.Date(2026, 11, 21, 11, 59, 0, 0, time.UTC), Receiver: "alertmanager",
	}
	bare := want
	bare.Fingerprint = e.seen()[1].Fingerprint
	if diff := cmp.Diff([]scaling.Notification{want, bare}, e.seen()); diff != "" {
		t.Errorf("notifications (-want +got):\n%s", diff)
	}
	if len(bare.Fingerprint) != 16 {
		t.Errorf("fingerprint %q: want one like Alertmanager's", bare.Fingerprint)
	}
}

// The payload is the example in Grafana's documentation of its webhook with the
// scaling labels added.
func TestIntakeTakesGrafana(t *testing.T) {
	body, err := os.ReadFile("testdata/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	e := newEngine()
	s := newServer(t, options(t, e))
	got := post(t, s, alertsToken, string(body))
	if len(got.Results) != 2 || got.Results[0].Result != "accepted" || got.Results[1].Result != "resolved" {
		t.Errorf("results %+v", got.Results)
	}
	for _, n := range e.seen() {
		if n.Receiver != "grafana" {
			t.Errorf("receiver %q, want grafana", n.Receiver)
		}
	}
}

func TestIntakeIsLenient(t *testing.T) {
	for name, body := range map[string]string{
		"a version as a number":   `{"version":4,"alerts":[]}`,
		"alerts that are null":    `{"version":"4","alerts":null}`,
		"labels that are null":    `{"version":"4","alerts":[{"labels":null,"annotations":null}]}`,
		"a count that is a text":  `{"version":"4","truncatedAlerts":"many"}`,
		"a count below zero":      `{"version":"4","truncatedAlerts":-1}`,
		"a count that is null":    `{"version":"4","truncatedAlerts":null}`,
		"fields nobody knows":     `{"version":"4","brandNew":{"deep":[{}]}}`,
		"space around the object": " \n{\"version\":\"4\"}\n ",
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, options(t, newEngine()))
			if w := send(t, s, request{method: "POST", path: "/api/v1/alertmanager", token: alertsToken, body: body}); w.Code != 200 {
				t.Errorf("answered %d: %s", w.Code, w.Body)
			}
		})
	}
}

func TestAHandPostedAlertIsToldWhatToDo(t *testing.T) {
	e := newEngine()
	e.results["web"] = scaling.NotifyNotConfirmed
	s := newServer(t, options(t, e))
	got := post(t, s, alertsToken, payload("4", firing("web", "high")))
	if want := "not confirmed: use scale-out, or amtool alert add"; got.Results[0].Message != want {
		t.Errorf("message %q, want %q", got.Results[0].Message, want)
	}
}

func TestTruncatedAlertsAreSeen(t *testing.T) {
	opts := options(t, newEngine())
	s := newServer(t, opts)
	body := strings.Replace(payload("4", firing("web", "high")), `"truncatedAlerts":0`, `"truncatedAlerts":7`, 1)
	w := send(t, s, request{method: "POST", path: "/api/v1/alertmanager", token: alertsToken, body: body})
	if !strings.Contains(w.Body.String(), "max_alerts") || dataOf[api.IntakeResult](t, w).TruncatedAlerts != 7 {
		t.Errorf("answered %s", w.Body)
	}
	if got := counter(t, opts.Registry, "scalehook_webhook_truncated_alerts_total", nil); got != 7 {
		t.Errorf("counted %v, want 7", got)
	}
}

func TestUnknownGroupsMakeNoSeries(t *testing.T) {
	opts := options(t, newEngine())
	s := newServer(t, opts)
	for i := range 20 {
		post(t, s, alertsToken, payload("4", firing(fmt.Sprintf("made-up-%d", i), "high"), firing(fmt.Sprintf("x%d", i), fmt.Sprintf("y%d", i))))
	}
	groups := labelValues(t, s, "scalehook_webhook_alerts_total", "scaling_group")
	if diff := cmp.Diff([]string{"", "web"}, groups); diff != "" {
		t.Errorf("label values (-want +got):\n%s", diff)
	}
	labels := map[string]string{"scaling_group": "", "signal": "high", "status": "firing", "result": "unknown_group"}
	if got := counter(t, s, "scalehook_webhook_alerts_total", labels); got != 20 {
		t.Errorf("counted %v, want 20", got)
	}
}

// FuzzIntake holds that no body makes the intake panic, answer 5xx, hand on a
// notification that the domain would not know, or lose count of the alerts.
func FuzzIntake(f *testing.F) {
	grafana, err := os.ReadFile("testdata/grafana.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"", "{}", "[]", "null", `"4"`, `{"version":"4"}`, `{"version":4,"alerts":[{}]}`, `{"version":"4","alerts":[null]}`,
		payload("4", firing("web", "high"), resolved("web", "low")), payload("1", firing("nope", "")), payload("5"),
		payload("4", firing("web", "high")) + "x", string(grafana), `{"version":"4","alerts":{"status":"firing"}}`,
		`{"version":"4","version":"1","alerts":[{"labels":{"scaling_group":"web\u0000","scalehook_signal":"high"},"status":"firing"}]}`,
	} {
		f.Add([]byte(seed))
	}
	e := newEngine()
	opts := options(f, e)
	opts.Registry = prometheus.NewRegistry()
	s := newServer(f, opts)
	f.Fuzz(func(t *testing.T, body []byte) {
		e.notified = nil
		w := send(t, s, request{method: "POST", path: "/api/v1/alertmanager", token: alertsToken, body: string(body)})
		switch w.Code {
		case 200:
			for _, r := range dataOf[api.IntakeResult](t, w).Results {
				if !slices.Contains(scaling.NotifyResults(), scaling.NotifyResult(r.Result)) {
					t.Errorf("result %q is none of the domain's", r.Result)
				}
			}
		case 400, 413, 422:
			if _, reason := errorOf(t, w); reason == "" {
				t.Errorf("%d without a reason", w.Code)
			}
		default:
			t.Errorf("answered %d: %s", w.Code, w.Body)
		}
		for _, n := range e.seen() {
			if n.Group == "" || !n.Signal.Valid() || n.Fingerprint == "" || len(n.Fingerprint) > 64 {
				t.Errorf("the engine was handed %+v", n)
			}
		}
	})
}
