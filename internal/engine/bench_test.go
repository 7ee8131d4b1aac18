package engine_test

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// BenchmarkPostToProviderCall measures the time from a post that is stored to the
// first call to the provider, when nothing else holds the group. It reports the
// median and the 99th percentile in milliseconds.
func BenchmarkPostToProviderCall(b *testing.B) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	called := make(chan time.Time, 1)
	cfg := simulated.DefaultConfig()
	cfg.Capacity, cfg.BootTime, cfg.Network = 10000, 0, netip.MustParsePrefix("198.18.0.0/15")
	w, err := simulated.NewWorld(cfg, simulated.Options{Faults: func(_ context.Context, point string, _ scaling.Ref) error {
		if point == "create.before" {
			called <- time.Now()
		}
		return nil
	}})
	if err != nil {
		b.Fatal(err)
	}
	st, err := store.Open(ctx, filepath.Join(b.TempDir(), "s.db"), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	e, err := engine.New(ctx, engine.Options{
		Store: st, Logger: slog.New(slog.DiscardHandler),
		Groups: []engine.GroupConfig{{
			Group: scaling.Group{
				Name: "web", Mode: scaling.ModeFull, Max: 10000, High: 0.7, Low: 0.2, LeaseTTL: time.Minute, NamePattern: "web-{n}",
				LaunchDeadline: time.Minute, DrainDeadline: time.Minute, ShutdownDeadline: time.Minute, CallDeadline: time.Minute,
				Provider: "sim", Balancer: "pool", Port: 80,
			},
			Provider: w.Provider("bench", nil), Balancer: w.Pool("web"),
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	var took []time.Duration
	k := 0
	for b.Loop() {
		k++
		if _, err := e.Notify(ctx, []scaling.Notification{{
			Group: "web", Signal: scaling.High, Firing: true, Fingerprint: strconv.Itoa(k), StartsAt: time.Now(),
		}}); err != nil {
			b.Fatal(err)
		}
		stored := time.Now()
		took = append(took, max(0, (<-called).Sub(stored)))
		for {
			v, err := e.Group(ctx, "web")
			if err != nil {
				b.Fatal(err)
			}
			if v.State.Count(scaling.StateInService) == k && len(v.State.Open) == 0 {
				break
			}
			time.Sleep(time.Millisecond) // a benchmark's own polling, outside of what is reported
		}
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	slices.Sort(took)
	ms := func(p int) float64 { return float64(took[min(len(took)-1, len(took)*p/100)].Microseconds()) / 1000 }
	b.ReportMetric(ms(50), "p50-ms")
	b.ReportMetric(ms(99), "p99-ms")
	b.ReportMetric(0, "ns/op")
}
