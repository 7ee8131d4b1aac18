package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	operatorToken = "operator-token-0123456789"
	alertsToken   = "alerts-token-0123456789ab"
	webToken      = "web-only-token-0123456789"
	dbToken       = "db-operator-token-0123456"
)

// writeToken makes a token file and returns its name.
func writeToken(t testing.TB, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// options are those of a server with every kind of token.
func options(t testing.TB, e *engine) webhook.Options {
	t.Helper()
	return webhook.Options{
		Intake: e, Operator: e, Viewer: e,
		Tokens: []webhook.Token{
			{Name: "ops", File: writeToken(t, operatorToken), Role: webhook.RoleOperator},
			{Name: "am", File: writeToken(t, alertsToken), Role: webhook.RoleAlerts},
			{Name: "am-web", File: writeToken(t, webToken), Role: webhook.RoleAlerts, Groups: []string{"web"}},
			{Name: "db-ops", File: writeToken(t, dbToken), Role: webhook.RoleOperator, Groups: []string{"db"}},
		},
		Logger:   slog.New(slog.DiscardHandler),
		Registry: prometheus.NewPedanticRegistry(),
		Now:      func() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) },
	}
}

func newServer(t testing.TB, opts webhook.Options) *webhook.Server {
	t.Helper()
	s, err := webhook.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// request describes one request of a test.
type request struct {
	method, path, body string
	token              string
	header             map[string]string
	host, remote       string
}

// send runs a request through the handler and holds the answer against the OpenAPI
// document.
func send(t testing.TB, s *webhook.Server, r request) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), r.method, "http://localhost:10070"+r.path, strings.NewReader(r.body))
	if r.method != http.MethodGet {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
		if v == "" {
			req.Header.Del(k)
		}
	}
	if r.host != "" {
		req.Host = r.host
	}
	if r.remote != "" {
		req.RemoteAddr = r.remote
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, req)
	holdAgainst(t, r, w)
	return w
}

// errorOf decodes an error's envelope.
func errorOf(t testing.TB, w *httptest.ResponseRecorder) (api.ErrorType, string) {
	t.Helper()
	var r api.Response[json.RawMessage]
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatalf("answer %d is no envelope: %v\n%s", w.Code, err, w.Body)
	}
	if r.Status != api.StatusError {
		t.Errorf("status %q, want %q", r.Status, api.StatusError)
	}
	return r.ErrorType, r.Error
}

// dataOf decodes a success's data.
func dataOf[T any](t testing.TB, w *httptest.ResponseRecorder) T {
	t.Helper()
	var r api.Response[T]
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatalf("answer %d is no envelope: %v\n%s", w.Code, err, w.Body)
	}
	if r.Status != api.StatusSuccess {
		t.Fatalf("status %q: %s", r.Status, w.Body)
	}
	return r.Data
}

func TestRefusals(t *testing.T) {
	const pause = "/api/v1/groups/web/pause"
	const out = "/api/v1/groups/web/scale-out"
	boom := errors.New("disk full")
	tests := []struct {
		name   string
		req    request
		err    error
		code   int
		kind   api.ErrorType
		reason string
	}{
		{"an unknown path", request{method: "GET", path: "/nothing"}, nil, 404, api.ErrorNotFound, "not found"},
		{"GET on the intake", request{method: "GET", path: "/api/v1/alertmanager"}, nil, 405, api.ErrorBadData, "method not allowed"},
		{"GET on an order", request{method: "GET", path: out}, nil, 405, api.ErrorBadData, "method not allowed"},
		{"POST on desired", request{method: "POST", path: "/api/v1/groups/web/desired"}, nil, 405, api.ErrorBadData, "method not allowed"},
		{"an order without a token", request{method: "POST", path: out}, nil, 401, api.ErrorUnauthorized, "a bearer token is needed"},
		{"an order with a wrong token", request{method: "POST", path: out, token: "wrong-token-0123456789"}, nil, 401, api.ErrorUnauthorized, "token is wrong"},
		{"an order with an empty token", request{method: "POST", path: out, header: map[string]string{"Authorization": "Bearer "}}, nil, 401, api.ErrorUnauthorized, "token is wrong"},
		{"an order with basic authentication", request{method: "POST", path: out, header: map[string]string{"Authorization": "Basic b3BzOm9wcw=="}}, nil, 401, api.ErrorUnauthorized, "bearer"},
		{"an order with the token of a sender", request{method: "POST", path: out, token: alertsToken}, nil, 403, api.ErrorForbidden, "operator is needed"},
		{"an order with a token for another group", request{method: "POST", path: out, token: dbToken}, nil, 403, api.ErrorForbidden, "does not cover"},
		{"a browser's form", request{method: "POST", path: pause, token: operatorToken, header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}, nil, 415, api.ErrorBadData, "application/json"},
		{"a browser's form as plain text", request{method: "POST", path: pause, token: operatorToken, header: map[string]string{"Content-Type": "text/plain"}}, nil, 415, api.ErrorBadData, "application/json"},
		{"a request across sites", request{method: "POST", path: pause, token: operatorToken, header: map[string]string{"Sec-Fetch-Site": "cross-site"}}, nil, 403, api.ErrorForbidden, "cross-origin"},
		{"a request from another origin", request{method: "POST", path: pause, token: operatorToken, header: map[string]string{"Origin": "https://evil.example"}}, nil, 403, api.ErrorForbidden, "cross-origin"},
		{"a rebound name", request{method: "GET", path: "/api/v1/groups", host: "evil.example:10070"}, nil, 403, api.ErrorForbidden, "--web.external-url"},
		{"a name that only looks local", request{method: "GET", path: "/api/v1/groups", host: "localhost.evil.example"}, nil, 403, api.ErrorForbidden, "not known"},
		{"an unknown group", request{method: "POST", path: "/api/v1/groups/nope/scale-out", token: operatorToken}, nil, 404, api.ErrorNotFound, "no such group"},
		{"an unknown group to show", request{method: "GET", path: "/api/v1/groups/nope"}, nil, 404, api.ErrorNotFound, "no such group"},
		{"the activities of an unknown group", request{method: "GET", path: "/api/v1/groups/nope/activities"}, nil, 404, api.ErrorNotFound, "no such group"},
		{"the verdicts of an unknown group", request{method: "GET", path: "/api/v1/groups/nope/verdicts"}, nil, 404, api.ErrorNotFound, "no such group"},
		{"a group whose name is a path", request{method: "GET", path: "/api/v1/groups/..%2f..%2fetc"}, nil, 404, api.ErrorNotFound, ""},
		{"an unknown instance", request{method: "POST", path: "/api/v1/groups/web/scale-in", body: `{"instance":"ghost"}`, token: operatorToken}, nil, 404, api.ErrorNotFound, "no such instance"},
		{"an instance that is no name", request{method: "POST", path: "/api/v1/groups/web/scale-in", body: `{"instance":"a; shutdown"}`, token: operatorToken}, nil, 400, api.ErrorBadData, "instance"},
		{"a scale-out that names an instance", request{method: "POST", path: out, body: `{"instance":"web-1"}`, token: operatorToken}, nil, 400, api.ErrorBadData, "only a scale-in"},
		{"beyond bounds", request{method: "POST", path: out, body: `{"count":9}`, token: operatorToken}, nil, 409, api.ErrorRefused, "more than max 3"},
		{"a count of zero", request{method: "POST", path: out, body: `{"count":0}`, token: operatorToken}, nil, 400, api.ErrorBadData, "between 1 and"},
		{"a negative count", request{method: "POST", path: out, body: `{"count":-1}`, token: operatorToken}, nil, 400, api.ErrorBadData, "between 1 and"},
		{"a count beyond an int", request{method: "POST", path: out, body: `{"count":1e99}`, token: operatorToken}, nil, 400, api.ErrorBadData, "JSON"},
		{"a misspelt field", request{method: "POST", path: out, body: `{"cuont":2}`, token: operatorToken}, nil, 400, api.ErrorBadData, "cuont"},
		{"a malformed order", request{method: "POST", path: out, body: `{"count":`, token: operatorToken}, nil, 400, api.ErrorBadData, "JSON"},
		{"two orders in one body", request{method: "POST", path: out, body: `{"count":1}{"count":1}`, token: operatorToken}, nil, 400, api.ErrorBadData, "goes on"},
		{"a hold without a unit", request{method: "POST", path: out, body: `{"hold":60}`, token: operatorToken}, nil, 400, api.ErrorBadData, "unit"},
		{"a negative hold", request{method: "POST", path: out, body: `{"hold":"-1s"}`, token: operatorToken}, nil, 400, api.ErrorBadData, "hold"},
		{"a handover with a count", request{method: "POST", path: "/api/v1/groups/web/handover", body: `{"count":1}`, token: operatorToken}, nil, 400, api.ErrorBadData, "handover"},
		{"desired without a number", request{method: "PUT", path: "/api/v1/groups/web/desired", body: `{}`, token: operatorToken}, nil, 400, api.ErrorBadData, "missing"},
		{"a key that is too long", request{method: "POST", path: out, token: operatorToken, header: map[string]string{"Idempotency-Key": strings.Repeat("k", 200)}}, nil, 400, api.ErrorBadData, "Idempotency-Key"},
		{"a pause of no direction", request{method: "POST", path: pause, body: `{"direction":"sideways"}`, token: operatorToken}, nil, 400, api.ErrorBadData, "sideways"},
		{"standby without a wish", request{method: "PUT", path: "/api/v1/groups/web/instances/web-1/standby", token: operatorToken}, nil, 400, api.ErrorBadData, "true or false"},
		{"standby of the last one in service", request{method: "PUT", path: "/api/v1/groups/web/instances/last/standby", token: operatorToken, body: `{"standby":true}`}, nil, 409, api.ErrorRefused, "scale out first"},
		{"protection without a wish", request{method: "PUT", path: "/api/v1/groups/web/instances/web-1/protection", token: operatorToken}, nil, 400, api.ErrorBadData, "true or false"},
		{"a limit that is none", request{method: "GET", path: "/api/v1/activities?limit=many"}, nil, 400, api.ErrorBadData, "limit"},
		{"reload by HTTP when it is off", request{method: "POST", path: "/-/reload", token: operatorToken}, nil, 403, api.ErrorForbidden, "--web.enable-lifecycle"},
		{"a back-up where there is no store", request{method: "POST", path: "/api/v1/backup", token: operatorToken}, nil, 404, api.ErrorNotFound, "back up"},
		{"an order that cannot be stored", request{method: "POST", path: out, token: operatorToken}, boom, 503, api.ErrorUnavailable, "disk full"},
		{"a body of 10 MiB", request{method: "POST", path: out, body: strings.Repeat(" ", 10<<20), token: operatorToken}, nil, 413, api.ErrorTooLarge, "1048576"},
		{"a notification of 10 MiB", request{method: "POST", path: "/api/v1/alertmanager", body: strings.Repeat(" ", 10<<20), token: alertsToken}, nil, 413, api.ErrorTooLarge, "1048576"},
		{"a notification without a token", request{method: "POST", path: "/api/v1/alertmanager", body: `{}`, remote: "127.0.0.1:4000"}, nil, 401, api.ErrorUnauthorized, "needed"},
		{"an empty notification", request{method: "POST", path: "/api/v1/alertmanager", token: alertsToken}, nil, 400, api.ErrorBadData, "empty"},
		{"a malformed notification", request{method: "POST", path: "/api/v1/alertmanager", body: `{"version":"4",`, token: alertsToken}, nil, 400, api.ErrorBadData, "JSON"},
		{"a notification that is a list", request{method: "POST", path: "/api/v1/alertmanager", body: `[]`, token: alertsToken}, nil, 400, api.ErrorBadData, "JSON"},
		{"a notification with a time that is none", request{method: "POST", path: "/api/v1/alertmanager", body: `{"version":"4","alerts":[{"startsAt":"yesterday"}]}`, token: alertsToken}, nil, 400, api.ErrorBadData, "JSON"},
		{"a notification of another version", request{method: "POST", path: "/api/v1/alertmanager", body: `{"version":"3"}`, token: alertsToken}, nil, 422, api.ErrorBadData, `version "3"`},
		{"a notification without a version", request{method: "POST", path: "/api/v1/alertmanager", body: `{"alerts":[]}`, token: alertsToken}, nil, 422, api.ErrorBadData, `version ""`},
		{"a notification as a form", request{method: "POST", path: "/api/v1/alertmanager", token: alertsToken, header: map[string]string{"Content-Type": "multipart/form-data"}}, nil, 415, api.ErrorBadData, "application/json"},
		{"a notification that cannot be stored", request{method: "POST", path: "/api/v1/alertmanager", body: payload("4", firing("web", "high")), token: alertsToken}, boom, 503, api.ErrorUnavailable, "disk full"},
		{"more alerts than are read", request{method: "POST", path: "/api/v1/alertmanager", body: `{"version":"4","alerts":[{}` + strings.Repeat(",{}", 10_000) + `]}`, token: alertsToken}, nil, 413, api.ErrorTooLarge, "at most"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine()
			e.err = tt.err
			opts := options(t, e)
			s := newServer(t, opts)
			w := send(t, s, tt.req)
			kind, reason := errorOf(t, w)
			if w.Code != tt.code || kind != tt.kind {
				t.Errorf("answered %d %s (%s), want %d %s", w.Code, kind, reason, tt.code, tt.kind)
			}
			if !strings.Contains(reason, tt.reason) {
				t.Errorf("reason %q, want it to hold %q", reason, tt.reason)
			}
			if len(e.orders) != 0 || len(e.pauses) != 0 || len(e.notified) != 0 {
				t.Errorf("the engine was told: orders %v, pauses %v, notifications %v", e.orders, e.pauses, e.notified)
			}
			if (tt.code == 401) != (w.Header().Get("WWW-Authenticate") != "") {
				t.Errorf("WWW-Authenticate %q with %d", w.Header().Get("WWW-Authenticate"), w.Code)
			}
			if got := requestsCounted(t, opts.Registry, tt.code); got != 1 {
				t.Errorf("%v requests were counted with code %d, want 1", got, tt.code)
			}
		})
	}
}

func TestOrders(t *testing.T) {
	tests := []struct {
		name string
		req  request
		want scaling.Order
	}{
		{
			"scale-out without a body adds one",
			request{method: "POST", path: "/api/v1/groups/web/scale-out"},
			scaling.Order{Kind: scaling.OrderScaleOut, Count: 1},
		},
		{
			"scale-out by two with a hold and a key",
			request{
				method: "POST", path: "/api/v1/groups/web/scale-out", body: `{"count":2,"hold":"10m"}`,
				header: map[string]string{"Idempotency-Key": "k1"},
			},
			scaling.Order{Kind: scaling.OrderScaleOut, Count: 2, Hold: 10 * time.Minute, Key: "k1"},
		},
		{
			"scale-in of a named instance",
			request{method: "POST", path: "/api/v1/groups/web/scale-in", body: `{"instance":"web-1"}`},
			scaling.Order{Kind: scaling.OrderScaleIn, Count: 1, Instance: "web-1"},
		},
		{
			"handover",
			request{method: "POST", path: "/api/v1/groups/web/handover", body: `{}`},
			scaling.Order{Kind: scaling.OrderHandover},
		},
		{
			"desired zero is a number",
			request{method: "PUT", path: "/api/v1/groups/web/desired", body: `{"count":0}`},
			scaling.Order{Kind: scaling.OrderSetDesired, Count: 0},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine()
			s := newServer(t, options(t, e))
			tt.req.token, tt.req.remote = operatorToken, "192.0.2.7:5555"
			w := send(t, s, tt.req)
			if w.Code != http.StatusAccepted {
				t.Fatalf("answered %d: %s", w.Code, w.Body)
			}
			tt.want.By = "ops@192.0.2.7"
			if diff := cmp.Diff(map[string][]scaling.Order{"web": {tt.want}}, e.orders); diff != "" {
				t.Errorf("the engine's orders (-want +got):\n%s", diff)
			}
			if got := dataOf[api.OrderResult](t, w); got.ID != "order-1" || got.Replayed {
				t.Errorf("result %+v", got)
			}
		})
	}
}

func TestARepeatedOrderIsTakenOnce(t *testing.T) {
	e := newEngine()
	s := newServer(t, options(t, e))
	req := request{
		method: "POST", path: "/api/v1/groups/web/scale-out", body: `{"count":2}`, token: operatorToken,
		header: map[string]string{"Idempotency-Key": "k1"},
	}
	first, second := send(t, s, req), send(t, s, req)
	if first.Code != 202 || second.Code != 202 || second.Header().Get("Idempotency-Replayed") != "true" {
		t.Errorf("answered %d, then %d with %v", first.Code, second.Code, second.Header())
	}
	if a, b := dataOf[api.OrderResult](t, first), dataOf[api.OrderResult](t, second); a.ID != b.ID || !b.Replayed {
		t.Errorf("results %+v and %+v", a, b)
	}
	req.body = `{"count":3}`
	third := send(t, s, req)
	if kind, _ := errorOf(t, third); third.Code != 422 || kind != api.ErrorKeyReused {
		t.Errorf("the key with another request was answered %d %s", third.Code, kind)
	}
	if len(e.orders["web"]) != 1 {
		t.Errorf("orders %v, want one", e.orders)
	}
}

func TestPauseResumeProtect(t *testing.T) {
	e := newEngine()
	opts := options(t, e)
	s := newServer(t, opts)
	for _, r := range []request{
		{method: "POST", path: "/api/v1/groups/web/pause", body: `{"direction":"in","for":"1h","reason":"release"}`},
		{method: "POST", path: "/api/v1/groups/web/pause"},
		{method: "POST", path: "/api/v1/groups/web/resume"},
		{method: "PUT", path: "/api/v1/groups/web/instances/web-1/protection", body: `{"protected":true}`},
		{method: "PUT", path: "/api/v1/groups/web/instances/web-1/standby", body: `{"standby":true}`},
		{method: "PUT", path: "/api/v1/groups/web/instances/web-1/standby", body: `{"standby":false}`},
	} {
		r.token, r.remote = operatorToken, "[::1]:9"
		if w := send(t, s, r); w.Code != 200 {
			t.Fatalf("%s %s: %d %s", r.method, r.path, w.Code, w.Body)
		}
	}
	now := opts.Now()
	want := []scaling.Pause{
		{In: true, Until: now.Add(time.Hour), By: "ops@::1", Reason: "release", At: now},
		{Out: true, In: true, By: "ops@::1", At: now},
	}
	if diff := cmp.Diff(want, e.pauses); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"web-1 true by ops@::1", "web-1 false by ops@::1"}, e.resting); diff != "" {
		t.Errorf("standby (-want +got):\n%s", diff)
	}
	if !slices.Equal(e.resumed, []string{"web by ops@::1"}) || !e.shielded["web-1"] || e.shieldedBy != "ops@::1" {
		t.Errorf("resumed %v, protected %v by %s", e.resumed, e.shielded, e.shieldedBy)
	}
}

func TestViews(t *testing.T) {
	e := newEngine()
	opts := options(t, e)
	opts.Build = api.BuildInfo{Version: "1.2.3"}
	s := newServer(t, opts)
	get := func(path string) *httptest.ResponseRecorder {
		w := send(t, s, request{method: "GET", path: path})
		if w.Code != 200 {
			t.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
		}
		return w
	}
	groups := dataOf[[]api.Group](t, get("/api/v1/groups"))
	if len(groups) != 1 || groups[0].Name != "web" || groups[0].Owned != 2 || groups[0].InService != 1 || groups[0].Settings.Cooldown != api.Duration(time.Minute) {
		t.Errorf("groups %+v", groups)
	}
	if diff := cmp.Diff(groups[0], dataOf[api.Group](t, get("/api/v1/groups/web"))); diff != "" {
		t.Errorf("the group alone differs (-list +alone):\n%s", diff)
	}
	instances := dataOf[[]api.Instance](t, get("/api/v1/groups/web/instances"))
	if len(instances) != 2 || instances[0].Member.Sessions != 4 || instances[0].Address != "192.0.2.11" || instances[1].UUID != "" || instances[1].Member != nil {
		t.Errorf("instances %+v", instances)
	}
	if vs := dataOf[[]api.Verdict](t, get("/api/v1/groups/web/verdicts")); len(vs) != 1 || vs[0].Gates[0].Name != "cooldown" {
		t.Errorf("verdicts %+v", vs)
	}
	if as := dataOf[[]api.Activity](t, get("/api/v1/groups/web/activities?limit=5&before=a7")); as[0].ID != "web|a7|5" {
		t.Errorf("activities %+v", as)
	}
	if as := dataOf[[]api.Activity](t, get("/api/v1/activities")); as[0].ID != "||50" {
		t.Errorf("activities %+v", as)
	}
	if b := dataOf[api.BuildInfo](t, get("/api/v1/status/buildinfo")); b.Version != "1.2.3" {
		t.Errorf("build %+v", b)
	}
	if r := dataOf[api.RuntimeInfo](t, get("/api/v1/status/runtimeinfo")); !r.Ready || r.Groups != 1 {
		t.Errorf("runtime %+v", r)
	}
	if !strings.Contains(get("/").Body.String(), `href="/groups/web"`) {
		t.Error("the page does not lead to the group")
	}
	get("/-/healthy")
	get("/-/ready")
}

func TestNotReadySaysWhy(t *testing.T) {
	opts := options(t, newEngine())
	opts.Ready = func() error { return errors.New("provider kvm was not listed yet") }
	s := newServer(t, opts)
	w := send(t, s, request{method: "GET", path: "/-/ready"})
	if w.Code != 503 || !strings.Contains(w.Body.String(), "not listed yet") {
		t.Errorf("answered %d %q", w.Code, w.Body)
	}
	if w := send(t, s, request{method: "GET", path: "/-/healthy"}); w.Code != 200 {
		t.Errorf("healthy: %d", w.Code)
	}
}

func TestHosts(t *testing.T) {
	opts := options(t, newEngine())
	opts.ExternalURL = &url.URL{Scheme: "https", Host: "scale.example:8443"}
	opts.AllowedHosts = []string{"scalehook"}
	s := newServer(t, opts)
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:10070": 200, "localhost.:10070": 200, "127.0.0.1": 200, "[::1]:10070": 200, "::1": 200,
		"192.0.2.1:10070": 200, "scale.example": 200, "Scale.Example:8443": 200, "scalehook:10070": 200, "web.localhost": 200,
		"other.example": 403, "notlocalhost": 403, "127.0.0.1.evil.example": 403,
	} {
		if w := send(t, s, request{method: "GET", path: "/-/healthy", host: host}); w.Code != want {
			t.Errorf("host %q: answered %d, want %d", host, w.Code, want)
		}
	}
}

func TestAnUnknownHostIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	opts := options(t, newEngine())
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := newServer(t, opts)
	for i := range 300 {
		send(t, s, request{method: "GET", path: "/metrics", host: "prometheus-knows-me-as.example:10070"})
		send(t, s, request{method: "GET", path: "/metrics", host: fmt.Sprintf("h%d.example", i)})
	}
	if n := strings.Count(log.String(), "prometheus-knows-me-as.example"); n != 1 {
		t.Errorf("the host was logged %d times, want once", n)
	}
	if n := strings.Count(log.String(), "\n"); n != 100 {
		t.Errorf("%d lines were logged, want 100", n)
	}
}

// FuzzOrder holds that no body of an order makes the server panic, answer 5xx, or
// hand on an order that is out of all bounds.
func FuzzOrder(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", "[]", `{"count":2,"hold":"10m"}`, `{"instance":"web-1"}`, `{"count":-1}`, `{"hold":"-1h"}`, `{"hold":5}`, `{"x":1}`, `{}{}`,
	} {
		f.Add([]byte(seed), "key")
	}
	e := newEngine()
	s := newServer(f, options(f, e))
	paths := []request{
		{method: "POST", path: "/api/v1/groups/web/scale-out"},
		{method: "POST", path: "/api/v1/groups/web/scale-in"},
		{method: "POST", path: "/api/v1/groups/web/handover"},
		{method: "PUT", path: "/api/v1/groups/web/desired"},
		{method: "POST", path: "/api/v1/groups/web/pause"},
	}
	f.Fuzz(func(t *testing.T, body []byte, key string) {
		for _, r := range paths {
			e.orders = map[string][]scaling.Order{}
			r.body, r.token, r.header = string(body), operatorToken, map[string]string{"Idempotency-Key": key}
			w := send(t, s, r)
			if w.Code >= 500 {
				t.Errorf("%s: answered %d: %s", r.path, w.Code, w.Body)
			}
			for _, o := range e.orders["web"] {
				if o.Count < 0 || o.Count > 10_000 || o.Hold < 0 || len(o.Key) > api.MaxKey {
					t.Errorf("%s: the engine was handed %+v", r.path, o)
				}
			}
		}
	})
}

func TestInsecureOperator(t *testing.T) {
	opts := options(t, newEngine())
	opts.Tokens, opts.Insecure = nil, true
	s := newServer(t, opts)
	const pause = "/api/v1/groups/web/pause"
	for _, tt := range []struct {
		name string
		req  request
		code int
	}{
		{"an order needs no token", request{method: "POST", path: pause}, 200},
		{"a notification from elsewhere needs none", request{method: "POST", path: "/api/v1/alertmanager", body: `{"version":"4"}`, remote: "192.0.2.9:1"}, 200},
		{"the user of the listener's basic authentication is fine", request{method: "POST", path: pause, header: map[string]string{"Authorization": "Basic b3BzOm9wcw=="}}, 200},
		{"a wrong token is still wrong", request{method: "POST", path: pause, token: "wrong-token-0123456789"}, 401},
		{"a form is still refused", request{method: "POST", path: pause, header: map[string]string{"Content-Type": "text/plain"}}, 415},
		{"another site is still refused", request{method: "POST", path: pause, header: map[string]string{"Origin": "http://evil.example"}}, 403},
		{"a rebound name is still refused", request{method: "POST", path: pause, host: "evil.example"}, 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if w := send(t, s, tt.req); w.Code != tt.code {
				t.Errorf("answered %d, want %d: %s", w.Code, tt.code, w.Body)
			}
		})
	}
}

func TestWithoutTokens(t *testing.T) {
	opts := options(t, newEngine())
	opts.Tokens = nil
	s := newServer(t, opts)
	w := send(t, s, request{method: "POST", path: "/api/v1/groups/web/pause", remote: "127.0.0.1:1"})
	if _, reason := errorOf(t, w); w.Code != 401 || !strings.Contains(reason, "--web.insecure-operator") {
		t.Errorf("an order from loopback was answered %d %q", w.Code, reason)
	}
	for remote, want := range map[string]int{"127.0.0.1:1": 200, "[::1]:1": 200, "[::ffff:127.0.0.1]:1": 200, "192.0.2.1:1": 401} {
		if w := send(t, s, request{method: "POST", path: "/api/v1/alertmanager", body: `{"version":"4"}`, remote: remote}); w.Code != want {
			t.Errorf("a notification from %s was answered %d, want %d", remote, w.Code, want)
		}
	}
}

func TestReload(t *testing.T) {
	opts := options(t, newEngine())
	var fails error
	calls := 0
	opts.Reload = func(context.Context) ([]scaling.Effect, error) {
		calls++
		return []scaling.Effect{{Group: "web", Kind: scaling.EffectLaunch, Text: "launches 2"}}, fails
	}
	s := newServer(t, opts)
	req := request{method: "POST", path: "/-/reload", token: operatorToken, header: map[string]string{"Content-Type": ""}}
	w := send(t, s, req)
	if w.Code != 200 || calls != 1 {
		t.Errorf("answered %d after %d calls: %s", w.Code, calls, w.Body)
	}
	if diff := cmp.Diff([]api.Effect{{Group: "web", Kind: "launch", Text: "launches 2"}}, dataOf[api.Reloaded](t, w).Effects); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	fails = errors.New("scalehook.yml:3: min 3 is more than max 2")
	if w := send(t, s, req); w.Code != 500 || !strings.Contains(w.Body.String(), "scalehook.yml:3") {
		t.Errorf("answered %d: %s", w.Code, w.Body)
	}
	req.token = dbToken
	if w := send(t, s, req); w.Code != 403 || calls != 2 {
		t.Errorf("a token limited to a group: %d after %d calls", w.Code, calls)
	}
	req.token = ""
	if w := send(t, s, req); w.Code != 401 || calls != 2 {
		t.Errorf("without a token: %d after %d calls", w.Code, calls)
	}
}

func TestBackup(t *testing.T) {
	opts := options(t, newEngine())
	opts.BackupDir = t.TempDir()
	opts.Backup = func(_ context.Context, file string) error { return os.WriteFile(file, []byte("copy"), 0o600) }
	s := newServer(t, opts)
	w := send(t, s, request{method: "POST", path: "/api/v1/backup", token: operatorToken})
	if body, _ := io.ReadAll(w.Body); w.Code != 200 || string(body) != "copy" {
		t.Errorf("answered %d %q", w.Code, body)
	}
	if left, err := os.ReadDir(opts.BackupDir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestPprofIsForOperators(t *testing.T) {
	opts := options(t, newEngine())
	opts.Pprof = true
	s := newServer(t, opts)
	if w := send(t, s, request{method: "GET", path: "/debug/pprof/cmdline"}); w.Code != 401 {
		t.Errorf("without a token: %d", w.Code)
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=1"} {
		if w := send(t, s, request{method: "GET", path: path, token: operatorToken}); w.Code != 200 || w.Body.Len() == 0 {
			t.Errorf("%s: %d", path, w.Code)
		}
		w := send(t, s, request{method: "GET", path: path, token: dbToken})
		if _, reason := errorOf(t, w); w.Code != 403 || !strings.Contains(reason, "limited to groups and cannot see profiles") {
			t.Errorf("%s with a token of some groups: %d %s", path, w.Code, reason)
		}
	}
	opts = options(t, newEngine())
	if w := send(t, newServer(t, opts), request{method: "GET", path: "/debug/pprof/cmdline", token: operatorToken}); w.Code != 404 {
		t.Errorf("pprof without being asked for: %d", w.Code)
	}
}

func TestAPanicIsAnAnswer(t *testing.T) {
	e := newEngine()
	e.panics = true
	s := newServer(t, options(t, e))
	w := send(t, s, request{method: "POST", path: "/api/v1/alertmanager", body: payload("4", firing("web", "high")), token: alertsToken})
	if kind, _ := errorOf(t, w); w.Code != 500 || kind != api.ErrorInternal {
		t.Errorf("answered %d %s", w.Code, kind)
	}
}

func TestNewNamesEveryProblem(t *testing.T) {
	_, err := webhook.New(webhook.Options{})
	for _, want := range []string{"intake", "logger", "registry"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want it to name the %s", err, want)
		}
	}
}
