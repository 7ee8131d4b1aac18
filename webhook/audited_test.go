package webhook_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/audit"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/webhook"
)

// withAudit adds an audit log in a file to the options.
func withAudit(t *testing.T, opts *webhook.Options) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "audit.log")
	l, err := audit.Open(file, slog.New(slog.DiscardHandler), opts.Registry)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	opts.Audit = l
	return file
}

func entries(t *testing.T, file string) (list []audit.Entry) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var e audit.Entry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		list = append(list, e)
	}
	return list
}

// told says what entries hold, in one line each.
func told(list []audit.Entry) (lines []string) {
	for _, e := range list {
		line := fmt.Sprintf("%s %s by %s (%s %s) group %q instance %q asked %v code %d order %q activities %v: %s%s",
			e.Action, e.Outcome, e.By, e.Auth, e.Role, e.Group, e.Instance, e.Asked, e.Code, e.Order, e.Activities, e.Reason, e.Message)
		lines = append(lines, line)
	}
	return lines
}

func TestEveryChangeIsInTheAuditLogBeforeAndAfter(t *testing.T) {
	const web = "/api/v1/groups/web"
	for name, tt := range map[string]struct {
		request
		want []string
	}{
		"an order": {request{method: "POST", path: web + "/scale-out", body: `{"count":2,"hold":"10m"}`, token: operatorToken}, []string{
			`scale_out asked by ops@192.0.2.1 (token operator) group "web" instance "" asked map[count:2 hold:10m] code 0 order "" activities []: `,
			`scale_out taken by ops@192.0.2.1 (token operator) group "web" instance "" asked map[] code 202 order "order-1" activities []: taken`,
		}},
		"an order beyond bounds": {request{method: "PUT", path: web + "/desired", body: `{"count":9}`, token: operatorToken}, []string{
			`desired asked by ops@192.0.2.1 (token operator) group "web" instance "" asked map[count:9] code 0 order "" activities []: `,
			`desired refused by ops@192.0.2.1 (token operator) group "web" instance "" asked map[] code 409 order "" activities []: refused: 9 instances are more than max 3`,
		}},
		"an order that makes no sense, with a secret in the wrong place": {request{
			method: "POST", path: web + "/pause", body: `{"direction":"up","password":"hunter2"}`, token: operatorToken,
		}, []string{
			`pause asked by ops@192.0.2.1 (token operator) group "web" instance "" asked map[direction:up] code 0 order "" activities []: `,
			`pause refused by ops@192.0.2.1 (token operator) group "web" instance "" asked map[] code 400 order "" activities []: the body is not the JSON expected here: unknown field "password"`,
		}},
		"protection": {request{method: "PUT", path: web + "/instances/web-1/protection", body: `{"protected":true}`, token: operatorToken}, []string{
			`protection asked by ops@192.0.2.1 (token operator) group "web" instance "web-1" asked map[protected:true] code 0 order "" activities []: `,
			`protection taken by ops@192.0.2.1 (token operator) group "web" instance "web-1" asked map[] code 200 order "" activities []: instance web-1 of group web is protected`,
		}},
		"a reload": {request{method: "POST", path: "/-/reload", token: operatorToken}, []string{
			`reload asked by ops@192.0.2.1 (token operator) group "" instance "" asked map[] code 0 order "" activities []: `,
			`reload failed by ops@192.0.2.1 (token operator) group "" instance "" asked map[] code 500 order "" activities []: not reloaded, the old configuration stays: planted`,
		}},
		"a profile": {request{method: "GET", path: "/debug/pprof/cmdline", token: operatorToken}, []string{
			`pprof asked by ops@192.0.2.1 (token operator) group "" instance "" asked map[] code 0 order "" activities []: `,
			`pprof taken by ops@192.0.2.1 (token operator) group "" instance "" asked map[] code 200 order "" activities []: `,
		}},
		"no token": {request{method: "POST", path: web + "/resume"}, []string{
			`resume refused by 192.0.2.1 (none ) group "web" instance "" asked map[] code 401 order "" activities []: a bearer token is needed`,
		}},
		"a wrong token": {request{method: "POST", path: web + "/resume", token: "wrong-wrong-wrong-wrong"}, []string{
			`resume refused by 192.0.2.1 (none ) group "web" instance "" asked map[] code 401 order "" activities []: the bearer token is wrong`,
		}},
		"a token of another role": {request{method: "POST", path: web + "/standby-all", token: alertsToken}, nil},
		"a token of another role for an order": {request{method: "POST", path: web + "/handover", token: alertsToken}, []string{
			`handover refused by am@192.0.2.1 (token alerts) group "web" instance "" asked map[] code 403 order "" activities []: token "am" has the role alerts, and operator is needed`,
		}},
		"a token for another group": {request{method: "POST", path: web + "/scale-in", token: dbToken}, []string{
			`scale_in refused by db-ops@192.0.2.1 (token operator) group "web" instance "" asked map[] code 403 order "" activities []: token "db-ops" does not cover group "web"`,
		}},
		"another origin": {request{method: "POST", path: web + "/scale-in", token: operatorToken, header: map[string]string{"Sec-Fetch-Site": "cross-site"}}, []string{
			`scale_in refused by 192.0.2.1 (none ) group "" instance "" asked map[] code 403 order "" activities []: cross-origin request detected from Sec-Fetch-Site header`,
		}},
		"another host": {request{method: "POST", path: web + "/scale-in", host: "evil.example", token: operatorToken}, []string{
			`scale_in refused by 192.0.2.1 (none ) group "" instance "" asked map[] code 403 order "" activities []: host "evil.example" is not known here: name it with --web.external-url or --web.allowed-host`,
		}},
		"a notification": {request{method: "POST", path: "/api/v1/alertmanager", body: payload("4", firing("web", "high")), token: alertsToken}, nil},
		"a notification without a token": {request{method: "POST", path: "/api/v1/alertmanager", body: payload("4", firing("web", "high"))}, []string{
			`notification refused by 192.0.2.1 (none ) group "" instance "" asked map[] code 401 order "" activities []: a bearer token is needed`,
		}},
		"a notification for a group that its sender has no business with": {request{
			method: "POST", path: "/api/v1/alertmanager", body: payload("4", firing("db", "high")), token: webToken,
		}, []string{
			`notification refused by am-web@192.0.2.1 (token alerts) group "db" instance "" asked map[] code 200 order "" activities []: token "am-web" does not cover the group`,
		}},
		"a look": {request{method: "GET", path: "/api/v1/groups", token: operatorToken}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			opts := options(t, newEngine())
			opts.Pprof = true
			opts.Reload = func(context.Context) ([]scaling.Effect, error) { return nil, errors.New("planted") }
			file := withAudit(t, &opts)
			s := newServer(t, opts)
			send(t, s, tt.request)
			list := entries(t, file)
			if diff := cmp.Diff(tt.want, told(list)); diff != "" {
				t.Errorf("the audit log (-want +got):\n%s", diff)
			}
			if len(list) == 2 && (list[0].ID != list[1].ID || len(list[0].ID) < 16) {
				t.Errorf("the ids are %q and %q", list[0].ID, list[1].ID)
			}
			for _, secret := range []string{operatorToken, alertsToken, webToken, dbToken, "wrong-wrong", "hunter2"} {
				if data, _ := os.ReadFile(file); bytes.Contains(data, []byte(secret)) {
					t.Errorf("the audit log holds %q", secret)
				}
			}
		})
	}
}

func TestWhatCannotBeAuditedIsNotDone(t *testing.T) {
	e := newEngine()
	opts := options(t, e)
	reloads := 0
	opts.Reload = func(context.Context) ([]scaling.Effect, error) { reloads++; return nil, nil }
	file := withAudit(t, &opts)
	s := newServer(t, opts)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api/v1/groups/web/scale-out", "/api/v1/groups/web/pause", "/-/reload"} {
		w := send(t, s, request{method: "POST", path: path, token: operatorToken})
		if _, reason := errorOf(t, w); w.Code != http.StatusServiceUnavailable || !strings.Contains(reason, "nothing was done: the audit log cannot be written") {
			t.Errorf("%s: answered %d, %s", path, w.Code, reason)
		}
	}
	if err := s.Signalled("reload", func() error { reloads++; return nil }); err == nil || reloads != 0 {
		t.Errorf("SIGHUP: error %v, %d reloads", err, reloads)
	}
	if len(e.orders) != 0 || len(e.pauses) != 0 {
		t.Errorf("the engine was told %v, %v", e.orders, e.pauses)
	}
	// Alerts are not people's doing, and go on.
	if w := send(t, s, request{method: "POST", path: "/api/v1/alertmanager", body: payload("4", firing("web", "high")), token: alertsToken}); w.Code != http.StatusOK {
		t.Errorf("a notification: answered %d", w.Code)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if w := send(t, s, request{method: "POST", path: "/api/v1/groups/web/scale-out", token: operatorToken}); w.Code != http.StatusAccepted {
		t.Errorf("once it can be written: answered %d", w.Code)
	}
	if got := len(entries(t, file)); got != 2 {
		t.Errorf("%d entries, want 2", got)
	}
}

func TestAHandlerThatPanicsIsAudited(t *testing.T) {
	opts := options(t, newEngine())
	opts.Reload = func(context.Context) ([]scaling.Effect, error) { panic("planted") }
	file := withAudit(t, &opts)
	s := newServer(t, opts)
	if w := send(t, s, request{method: "POST", path: "/-/reload", token: operatorToken}); w.Code != http.StatusInternalServerError {
		t.Errorf("answered %d", w.Code)
	}
	list := entries(t, file)
	if len(list) != 2 || list[1].Outcome != audit.Failed {
		t.Errorf("the audit log has %q", told(list))
	}
}

func TestAReloadBySignalIsAudited(t *testing.T) {
	opts := options(t, newEngine())
	file := withAudit(t, &opts)
	s := newServer(t, opts)
	planted := errors.New("planted")
	if err := s.Signalled("reload", func() error { return planted }); !errors.Is(err, planted) {
		t.Errorf("error %v", err)
	}
	want := []string{
		`reload asked by SIGHUP (signal ) group "" instance "" asked map[] code 0 order "" activities []: `,
		`reload failed by SIGHUP (signal ) group "" instance "" asked map[] code 0 order "" activities []: planted`,
	}
	if diff := cmp.Diff(want, told(entries(t, file))); diff != "" {
		t.Errorf("the audit log (-want +got):\n%s", diff)
	}
}

// Whoever adds a route that changes something must not forget its entry.
func TestEveryRouteThatIsNoLookIsAudited(t *testing.T) {
	opts := options(t, newEngine())
	opts.Pprof = true
	file := withAudit(t, &opts)
	s := newServer(t, opts)
	seen := 0
	for i, r := range s.Routes() {
		method, path, _ := strings.Cut(r, " ")
		looks := method == http.MethodGet && !strings.HasPrefix(path, "/debug/") && path != "/api/v1/status/config"
		if looks || strings.Contains(method, "echo_route") {
			continue
		}
		path = strings.NewReplacer(":group", "web", ":instance", "web-1", ":profile", "heap").Replace(path)
		before := len(entries(t, file))
		// Of another address each: refusals of one are bounded.
		if w := send(t, s, request{method: method, path: path, remote: fmt.Sprintf("192.0.2.%d:1", i+1)}); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without a token: answered %d", r, w.Code)
		}
		if len(entries(t, file)) == before {
			t.Errorf("%s: no entry in the audit log", r)
		}
		seen++
	}
	if seen < 19 {
		t.Errorf("only %d routes were tried", seen)
	}
}

func TestACertificatesNameStandsForWhoHasNoToken(t *testing.T) {
	uri, err := url.Parse("spiffe://example/ops")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		leaf        *x509.Certificate
		token, want string
	}{
		"a common name":      {&x509.Certificate{Subject: pkix.Name{CommonName: "ops"}, DNSNames: []string{"other"}}, "", "cert:ops@192.0.2.1 certificate ops"},
		"a URI":              {&x509.Certificate{URIs: []*url.URL{uri}, DNSNames: []string{"other"}}, "", "cert:spiffe://example/ops@192.0.2.1 certificate spiffe://example/ops"},
		"a host's name":      {&x509.Certificate{DNSNames: []string{"ops.example"}}, "", "cert:ops.example@192.0.2.1 certificate ops.example"},
		"an address of mail": {&x509.Certificate{EmailAddresses: []string{"ops@example"}}, "", "cert:ops@example@192.0.2.1 certificate ops@example"},
		"no name at all":     {&x509.Certificate{SerialNumber: big.NewInt(255)}, "", "cert:serial ff@192.0.2.1 certificate serial ff"},
		"a name over lines":  {&x509.Certificate{Subject: pkix.Name{CommonName: "ops\nroot"}}, "", "cert:ops\uFFFDroot@192.0.2.1 certificate ops\uFFFDroot"},
		"a token beside it":  {&x509.Certificate{Subject: pkix.Name{CommonName: "laptop"}}, operatorToken, "ops@192.0.2.1 token laptop"},
		"none, and no token": {nil, "", "192.0.2.1 none "},
		"none, with a token": {nil, operatorToken, "ops@192.0.2.1 token "},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine()
			opts := options(t, e)
			opts.Insecure = true
			file := withAudit(t, &opts)
			s := newServer(t, opts)
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/api/v1/groups/web/pause", http.NoBody)
			req.Header.Set("Content-Type", "application/json")
			if tt.token != "" {
				req.Header.Set("Authorization", "Bearer "+tt.token)
			}
			req.TLS = nil
			if tt.leaf != nil {
				req.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{tt.leaf}}}
			}
			s.Handler().ServeHTTP(httptest.NewRecorder(), req)
			list := entries(t, file)
			if got := fmt.Sprintf("%s %s %s", list[0].By, list[0].Auth, list[0].Certificate); got != tt.want {
				t.Errorf("the audit log says %q, want %q", got, tt.want)
			}
			if e.pauses[0].By != list[0].By {
				t.Errorf("the pause is by %q, the audit log says %q", e.pauses[0].By, list[0].By)
			}
		})
	}
}
