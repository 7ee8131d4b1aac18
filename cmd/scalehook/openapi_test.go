package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/schemagen"
	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/webhook"
)

// witness holds every exchange against the OpenAPI document.
type witness struct {
	t        *testing.T
	document *schemagen.OpenAPI
	went     map[string]bool // operations that were answered with success
}

// RoundTrip implements http.RoundTripper.
func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		sent, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	e := schemagen.Exchange{Method: r.Method, Path: r.URL.Path, Sent: sent, Code: resp.StatusCode, Header: resp.Header, Answer: answer}
	if err := w.document.Check(e); err != nil {
		w.t.Error(err)
	}
	if resp.StatusCode < 300 {
		path := strings.NewReplacer("/web-1/", "/{instance}/", "/web-2/", "/{instance}/").Replace(r.URL.Path)
		for _, group := range []string{"web", "other"} {
			path = strings.Replace(path, "/groups/"+group, "/groups/{group}", 1)
		}
		w.went[r.Method+" "+path] = true
	}
	return resp, err
}

const documentedConfig = `
owner: test
providers: {sim: {simulated: {boot_time: 50ms, drain_time: 50ms, shutdown_time: 50ms, vms: [{name: web-9}]}}}
balancers: {pool: {simulated: {provider: sim}}}
groups:
  web: {min: 2, max: 4, mode: scale_out_only, cooldown: 1s, lease_ttl: 1m}
  other: {min: 1, max: 2, mode: scale_out_only}
`

// TestTheServerAnswersAsItsDocumentSays asks the real engine over simulated VMs for
// everything that the document has.
func TestTheServerAnswersAsItsDocumentSays(t *testing.T) {
	t.Parallel()
	document, err := schemagen.NewOpenAPI(webhook.OpenAPI())
	if err != nil {
		t.Fatal(err)
	}
	f := testFlags(t)
	f.listen, f.insecure, f.lifecycle = []string{testenv.FreeAddress(t)}, true, true
	if err := os.WriteFile(f.configFile, []byte(documentedConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, f, io.Discard) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	url := "http://" + f.listen[0]
	testenv.Eventually(t, 30*time.Second, "the server", testenv.OK(url+"/-/ready"))
	w := &witness{t, document, map[string]bool{}}
	web := &http.Client{Transport: w, Timeout: 10 * time.Second}
	c, err := client.New(client.Options{URL: url, HTTP: web})
	if err != nil {
		t.Fatal(err)
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	raw := func(method, path, body string) (any, error) {
		r, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := web.Do(r)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 300 {
			return nil, fmt.Errorf("%s %s: %s", method, path, resp.Status)
		}
		return resp.StatusCode, nil
	}
	look := func() {
		t.Helper()
		must(c.Groups(ctx))
		must(c.Group(ctx, "web"))
		must(c.Instances(ctx, "web"))
		must(c.Verdicts(ctx, "web"))
		must(c.Activities(ctx, "web", "", 10))
		must(c.Activities(ctx, "", "", 0))
		must(c.Orphans(ctx))
	}
	inService := func(group string, n int) {
		t.Helper()
		testenv.Eventually(t, 30*time.Second, fmt.Sprintf("%d in service", n), func() error {
			look() // what is under way is described too
			g, err := c.Group(ctx, group)
			if err == nil && (g.InService != n || len(g.Activities) > 0 || len(g.Orders) > 0) {
				err = fmt.Errorf("%d in service", g.InService)
			}
			return err
		})
	}
	inService("web", 2)
	for _, path := range []string{"/-/healthy", "/-/ready", "/metrics", "/sd/prometheus?port=9100", "/api/v1/openapi.json", "/api/v1/status/whoami"} {
		must(raw("GET", path, ""))
	}
	must(c.BuildInfo(ctx))
	must(c.RuntimeInfo(ctx))
	must(raw("POST", "/api/v1/alertmanager", `{"version":"4","alerts":[`+
		`{"status":"firing","labels":{"scaling_group":"web","scalehook_signal":"high"},"startsAt":"`+time.Now().Format(time.RFC3339)+`","fingerprint":"a1"},`+
		`{"status":"resolved","labels":{"scaling_group":"nope","scalehook_signal":"low"}},{"status":"firing","labels":{"scalehook_heartbeat":"true"}}]}`))
	look() // with the condition
	must(c.ScaleOut(ctx, "web", "", api.OrderRequest{}))
	inService("web", 3)
	must(c.ScaleOut(ctx, "web", "k1", api.OrderRequest{Hold: api.Duration(time.Minute)}))
	must(c.ScaleOut(ctx, "web", "k1", api.OrderRequest{Hold: api.Duration(time.Minute)}))
	inService("web", 4)
	must(c.Protect(ctx, "web", "web-1", true))
	must(c.Standby(ctx, "web", "web-2", true))
	inService("web", 3)
	must(c.Standby(ctx, "web", "web-2", false))
	inService("web", 4)
	must(c.ScaleIn(ctx, "web", "", api.OrderRequest{Instance: "web-2"}))
	inService("web", 3)
	must(c.Handover(ctx, "web", "", api.OrderRequest{}))
	inService("web", 3)
	two := 2
	must(c.SetDesired(ctx, "web", "", api.OrderRequest{Count: &two}))
	inService("web", 2)
	must(c.Pause(ctx, "web", api.PauseRequest{Direction: "in", Reason: "test"}))
	look()
	must(c.Resume(ctx, "web"))
	must(nil, c.Backup(ctx, io.Discard))
	must(c.Config(ctx))
	if _, err := c.ScaleOut(ctx, "web", "", api.OrderRequest{Instance: "web-1"}); err == nil {
		t.Error("a scale-out that names an instance was taken")
	}
	if _, err := c.Group(ctx, "nope"); err == nil {
		t.Error("an unknown group was found")
	}
	if _, err := c.Cleanup(ctx, api.CleanupRequest{IDs: []string{"nothing"}}); err == nil {
		t.Error("a cleanup of nothing was taken")
	}
	must(c.Release(ctx, "other", false))
	must(c.Release(ctx, "other", true))
	must(c.Group(ctx, "other"))
	must(c.Retake(ctx, "other"))
	if err := os.WriteFile(f.configFile, []byte(strings.Replace(documentedConfig, "max: 4", "max: 3", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	must(c.Reload(ctx))
	look()

	var missed []string
	for _, op := range document.Operations() {
		if !w.went[op] {
			missed = append(missed, op)
		}
	}
	slices.Sort(missed)
	// There is no orphan that was seen twice so soon.
	if diff := cmp.Diff([]string{"POST /api/v1/cleanup"}, missed); diff != "" {
		t.Errorf("operations without success (-want +got):\n%s", diff)
	}
}
