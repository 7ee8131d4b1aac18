package client_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// seen is what a request looked like.
type seen struct {
	method, path, body, token, key, kind string
}

// serve answers every request with code and body and remembers the last.
func serve(t *testing.T, code int, body string) (*client.Client, *seen) {
	t.Helper()
	last := &seen{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		*last = seen{
			r.Method, r.URL.RequestURI(), string(b), r.Header.Get("Authorization"),
			r.Header.Get("Idempotency-Key"), r.Header.Get("Content-Type"),
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("new-token\nold-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Options{URL: s.URL + "/", TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	return c, last
}

func TestRequests(t *testing.T) {
	two := 2
	order := api.OrderRequest{Count: &two, Hold: api.Duration(time.Minute)}
	const orderBody = `{"count":2,"hold":"1m0s"}`
	tests := []struct {
		name   string
		call   func(*client.Client) error
		answer string
		want   seen
	}{
		{"groups", func(c *client.Client) error { _, err := c.Groups(t.Context()); return err }, `[]`, seen{method: "GET", path: "/api/v1/groups"}},
		{"a group with a strange name", func(c *client.Client) error { _, err := c.Group(t.Context(), "a/b"); return err }, `{}`, seen{method: "GET", path: "/api/v1/groups/a%2Fb"}},
		{"instances", func(c *client.Client) error { _, err := c.Instances(t.Context(), "web"); return err }, `[]`, seen{method: "GET", path: "/api/v1/groups/web/instances"}},
		{"verdicts", func(c *client.Client) error { _, err := c.Verdicts(t.Context(), "web"); return err }, `[]`, seen{method: "GET", path: "/api/v1/groups/web/verdicts"}},
		{"activities of all", func(c *client.Client) error { _, err := c.Activities(t.Context(), "", "", 0); return err }, `[]`, seen{method: "GET", path: "/api/v1/activities"}},
		{"activities of one", func(c *client.Client) error { _, err := c.Activities(t.Context(), "web", "a1", 5); return err }, `[]`, seen{method: "GET", path: "/api/v1/groups/web/activities?before=a1&limit=5"}},
		{"reload", func(c *client.Client) error { _, err := c.Reload(t.Context()); return err }, `{}`, seen{method: "POST", path: "/-/reload", body: `{}`}},
		{"release", func(c *client.Client) error { _, err := c.Release(t.Context(), "web", true); return err }, `{}`, seen{method: "POST", path: "/api/v1/groups/web/release", body: `{"yes":true}`}},
		{"orphans", func(c *client.Client) error { _, err := c.Orphans(t.Context()); return err }, `[]`, seen{method: "GET", path: "/api/v1/orphans"}},
		{"cleanup", func(c *client.Client) error {
			_, err := c.Cleanup(t.Context(), api.CleanupRequest{IDs: []string{"o1"}, Group: "web", Serving: true})
			return err
		}, `[]`, seen{method: "POST", path: "/api/v1/cleanup", body: `{"ids":["o1"],"group":"web","serving":true}`}},
		{"build", func(c *client.Client) error { _, err := c.BuildInfo(t.Context()); return err }, `{}`, seen{method: "GET", path: "/api/v1/status/buildinfo"}},
		{"runtime", func(c *client.Client) error { _, err := c.RuntimeInfo(t.Context()); return err }, `{}`, seen{method: "GET", path: "/api/v1/status/runtimeinfo"}},
		{"scale-out", func(c *client.Client) error { _, err := c.ScaleOut(t.Context(), "web", "k", order); return err }, `{}`, seen{method: "POST", path: "/api/v1/groups/web/scale-out", body: orderBody, key: "k"}},
		{"scale-in", func(c *client.Client) error { _, err := c.ScaleIn(t.Context(), "web", "", order); return err }, `{}`, seen{method: "POST", path: "/api/v1/groups/web/scale-in", body: orderBody}},
		{"handover", func(c *client.Client) error {
			_, err := c.Handover(t.Context(), "web", "", api.OrderRequest{})
			return err
		}, `{}`, seen{method: "POST", path: "/api/v1/groups/web/handover", body: `{}`}},
		{"desired", func(c *client.Client) error { _, err := c.SetDesired(t.Context(), "web", "", order); return err }, `{}`, seen{method: "PUT", path: "/api/v1/groups/web/desired", body: orderBody}},
		{"pause", func(c *client.Client) error {
			_, err := c.Pause(t.Context(), "web", api.PauseRequest{Direction: "in"})
			return err
		}, `{}`, seen{method: "POST", path: "/api/v1/groups/web/pause", body: `{"direction":"in"}`}},
		{"resume", func(c *client.Client) error { _, err := c.Resume(t.Context(), "web"); return err }, `{}`, seen{method: "POST", path: "/api/v1/groups/web/resume", body: `{}`}},
		{"standby", func(c *client.Client) error { _, err := c.Standby(t.Context(), "web", "web-1", true); return err }, `{}`, seen{method: "PUT", path: "/api/v1/groups/web/instances/web-1/standby", body: `{"standby":true}`}},
		{"protect", func(c *client.Client) error { _, err := c.Protect(t.Context(), "web", "web-1", false); return err }, `{}`, seen{method: "PUT", path: "/api/v1/groups/web/instances/web-1/protection", body: `{"protected":false}`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, last := serve(t, 200, `{"status":"success","data":`+tt.answer+`}`)
			if err := tt.call(c); err != nil {
				t.Fatal(err)
			}
			tt.want.token = "Bearer new-token"
			if tt.want.body != "" {
				tt.want.kind = "application/json"
			}
			if *last != tt.want {
				t.Errorf("sent %+v, want %+v", *last, tt.want)
			}
		})
	}
}

func TestAnswersThatAreNoSuccess(t *testing.T) {
	tests := []struct {
		name   string
		code   int
		body   string
		want   client.Error // zero: another error
		reason string
	}{
		{"refused", 409, `{"status":"error","errorType":"refused","error":"at max"}`, client.Error{409, api.ErrorRefused, "at max"}, "at max (refused)"},
		{"a proxy's page", 502, "<html>bad gateway</html>", client.Error{Code: 502, Reason: "Bad Gateway"}, "HTTP status 502"},
		{"a proxy's text", 503, "no server\nmore", client.Error{Code: 503, Reason: "no server"}, "no server"},
		{"basic authentication in front", 401, "Unauthorized", client.Error{Code: 401, Reason: "Unauthorized"}, "401"},
		{"a redirect", 302, "", client.Error{Code: 302, Reason: "Found"}, "302"},
		{"something else on that port", 200, `{"hello":1}`, client.Error{}, "is the URL right?"},
		{"data of another shape", 200, `{"status":"success","data":{}}`, client.Error{}, "read scalehook's answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := serve(t, tt.code, tt.body)
			_, err := c.Groups(t.Context())
			var got *client.Error
			if errors.As(err, &got) != (tt.want.Code != 0) || got != nil && *got != tt.want {
				t.Errorf("error %#v, want %#v", err, tt.want)
			}
			if err == nil || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("error %v, want it to hold %q", err, tt.reason)
			}
		})
	}
}

func TestTheServersClockIsTold(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", "Sun, 22 Nov 2026 12:03:04 GMT")
		_, _ = io.WriteString(w, `{"status":"success","data":[]}`)
	}))
	defer s.Close()
	var got time.Time
	c, err := client.New(client.Options{URL: s.URL, Dated: func(at time.Time) { got = at }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Groups(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 11, 22, 12, 3, 4, 0, time.UTC); !got.Equal(want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

func TestBackup(t *testing.T) {
	c, last := serve(t, 200, "SQLite format 3")
	var b bytes.Buffer
	if err := c.Backup(t.Context(), &b); err != nil || b.String() != "SQLite format 3" {
		t.Errorf("got %q, %v", b.String(), err)
	}
	if last.method != "POST" || last.path != "/api/v1/backup" {
		t.Errorf("sent %+v", last)
	}
	c, _ = serve(t, 403, `{"status":"error","errorType":"forbidden","error":"no"}`)
	b.Reset()
	if err := c.Backup(t.Context(), &b); err == nil || b.Len() != 0 {
		t.Errorf("got %q, %v, want an error and nothing", b.String(), err)
	}
}

func TestNewRefusesWhatIsNoURL(t *testing.T) {
	for _, u := range []string{"", "localhost:10070", "ftp://x", "http://", "http://a b"} {
		if _, err := client.New(client.Options{URL: u}); err == nil {
			t.Errorf("%q is taken", u)
		}
	}
}

func TestTLSFiles(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"success","data":[]}`)
	}))
	defer s.Close()
	dir := t.TempDir()
	ca, empty := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "empty.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := errors.Join(os.WriteFile(ca, block, 0o600), os.WriteFile(empty, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Options{URL: s.URL, CAFile: ca})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Groups(t.Context()); err != nil {
		t.Errorf("with the server's authority: %v", err)
	}
	if c, err = client.New(client.Options{URL: s.URL}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Groups(t.Context()); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("without it: %v", err)
	}
	for _, opts := range []client.Options{{CAFile: empty}, {CAFile: filepath.Join(dir, "none")}, {CertFile: ca}, {KeyFile: ca}} {
		opts.URL = s.URL
		if _, err := client.New(opts); err == nil {
			t.Errorf("%+v is taken", opts)
		}
	}
}

// answers is a way to a server.
type answers func(*http.Request) (*http.Response, error)

func (f answers) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTheCallersDeadlineBoundsTheWait(t *testing.T) {
	for name, tt := range map[string]struct {
		deadline, took, want time.Duration // deadline 0: none
		answered             bool
	}{
		"longer than the client's own": {2 * time.Minute, time.Minute, time.Minute, true},
		"shorter":                      {5 * time.Second, time.Minute, 5 * time.Second, false},
		"none, and it takes too long":  {0, time.Minute, 30 * time.Second, false},
		"none, and it takes its time":  {0, 29 * time.Second, 29 * time.Second, true},
	} {
		for what, ask := range map[string]func(context.Context, *client.Client) error{
			"a question": func(ctx context.Context, c *client.Client) error { _, err := c.Groups(ctx); return err },
			"an order":   func(ctx context.Context, c *client.Client) error { _, err := c.Reload(ctx); return err },
			"health":     func(ctx context.Context, c *client.Client) error { return c.Healthy(ctx, false) },
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, err := client.New(client.Options{URL: "http://127.0.0.1:1", HTTP: &http.Client{Transport: answers(func(r *http.Request) (*http.Response, error) {
						select {
						case <-time.After(tt.took):
						case <-r.Context().Done():
							return nil, r.Context().Err()
						}
						return &http.Response{StatusCode: http.StatusOK, Request: r, Body: io.NopCloser(strings.NewReader(`{"status":"success","data":null}`))}, nil
					})}})
					if err != nil {
						t.Fatal(err)
					}
					ctx := t.Context()
					if tt.deadline > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, tt.deadline)
						defer cancel()
					}
					begun := time.Now()
					err = ask(ctx, c)
					if took := time.Since(begun); took != tt.want || (err == nil) != tt.answered || err != nil && !errors.Is(err, client.ErrUnreachable) {
						t.Errorf("after %s: %v", took, err)
					}
				})
			})
		}
	}
}

func TestAMissingTokenFileIsSaid(t *testing.T) {
	c, err := client.New(client.Options{URL: "http://127.0.0.1:1", TokenFile: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Groups(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
