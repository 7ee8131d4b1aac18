package config_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/scaling"
)

func TestDefaultsAndStatedValuesArriveAtTheWebhook(t *testing.T) {
	c, err := config.Load("testdata/good-full.yml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Build(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Webhook{
		{
			Name: "chat", URL: "https://hooks.example/scalehook", SecretFile: filepath.Join(dir, "chat.secret"),
			Timeout: 10 * time.Second, MaxTries: 10, GiveUpAfter: 15 * time.Minute,
		},
		{
			Name: "tickets", URL: "http://127.0.0.1:8080/x?y=z", SecretFile: "/etc/scalehook/tickets.secret", Groups: []string{"web"},
			Kinds:    []scaling.ActivityKind{scaling.ActivityScaleOut, scaling.ActivityScaleIn},
			Statuses: []scaling.ActivityStatus{scaling.ActivityUndone, scaling.ActivityFailed},
			Timeout:  5 * time.Second, MaxTries: 3, GiveUpAfter: time.Minute,
		},
	}
	if diff := cmp.Diff(want, r.Webhooks, cmpopts.IgnoreFields(config.Webhook{}, "HTTPClient"), cmpopts.IgnoreUnexported(config.Webhook{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, w := range r.Webhooks {
		if w.HTTPClient.FollowRedirects || w.HTTPClient.ProxyFromEnvironment {
			t.Errorf("%s follows redirects or uses a proxy that nobody stated", w.Name)
		}
	}
	if r.Owner != "lab" {
		t.Errorf("owner %q", r.Owner)
	}
}

func TestRedirectsAreRefusedInEverySpellingOfTrue(t *testing.T) {
	for stated, refused := range map[string]bool{
		"follow_redirects: true": true, "follow_redirects: True": true, "follow_redirects: TRUE": true, "follow_redirects: yes": true,
		"follow_redirects: On": true, "follow_redirects: !!bool true": true, "follow_redirects: *yes": true, "<<: *client": true,
		"follow_redirects: false": false, "follow_redirects: No": false, "proxy_from_environment: true": false,
	} {
		text := fmt.Sprintf(`
owner: test
tokens:
  - {name: ops, role: operator, file: ops.token}
webhooks:
  - name: first
    url: https://hooks.example/
    secret_file: s
    http_client: &client {follow_redirects: &yes true}
  - {name: second, url: "https://hooks.example/", secret_file: s, http_client: {%s}}
providers: {sim: {simulated: {}}}
balancers: {pool: {simulated: {provider: sim}}}
groups: {web: {max: 3}}
`, stated)
		_, err := config.Parse("x.yml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), "webhooks.0.http_client.follow_redirects: redirects are never followed") {
			t.Fatalf("the first: %v", err)
		}
		if got := strings.Contains(err.Error(), "webhooks.1.http_client.follow_redirects: redirects are never followed"); got != refused {
			t.Errorf("%s is refused: %t, want %t: %v", stated, got, refused, err)
		}
	}
}
