package main

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/rules"
)

// The documented time between two steps is worked out from the rules' options; the
// server works it out from its configuration.
func TestTheDocumentedSettleIsTheServers(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, time.Minute} {
		text := fmt.Sprintf("monitoring: {scrape_interval: %s, evaluation_interval: %s}\n%s", interval, interval, minimalConfig)
		c, err := config.Parse("scalehook.yml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		runtime, err := c.Build(t.Context(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		got, want := rules.Settle(rules.Options{ScrapeInterval: interval}), runtime.Groups[0].Settle()
		if got != want {
			t.Errorf("at %s the documents say %s, the server waits %s", interval, got, want)
		}
		if err := runtime.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
