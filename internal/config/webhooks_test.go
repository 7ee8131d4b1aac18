package config_test

import (
	"log/slog"
	"path/filepath"
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
	if diff := cmp.Diff(want, r.Webhooks, cmpopts.IgnoreFields(config.Webhook{}, "HTTPClient")); diff != "" {
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
