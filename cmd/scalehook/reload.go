package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/config"
)

// reloader holds the configuration in force and replaces it.
type reloader struct {
	file   string
	log    *slog.Logger
	good   prometheus.Gauge
	at     prometheus.Gauge
	failed prometheus.Counter

	mu      sync.Mutex
	current *config.Runtime

	// live is current for scrapes, which must not wait for a reload.
	live atomic.Pointer[config.Runtime]
}

// Describe says nothing: which series there are depends on the configuration.
func (r *reloader) Describe(chan<- *prometheus.Desc) {}

// Collect sends what the configuration in force has to show, such as the metrics
// of simulated VMs.
func (r *reloader) Collect(ch chan<- prometheus.Metric) {
	if now := r.live.Load(); now != nil {
		for _, c := range now.Collectors {
			c.Collect(ch)
		}
	}
}

// use puts a configuration in force.
func (r *reloader) use(next *config.Runtime) {
	r.current = next
	r.live.Store(next)
	r.good.Set(1)
	r.at.SetToCurrentTime()
}

func newReloader(file string, log *slog.Logger, registry prometheus.Registerer) *reloader {
	r := &reloader{
		file: file, log: log,
		good: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scalehook_config_last_reload_successful",
			Help: "Whether the last attempt to load the configuration succeeded.",
		}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scalehook_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration was loaded last.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scalehook_config_reloads_failed_total",
			Help: "Attempts to load the configuration again that left the old one in force.",
		}),
	}
	registry.MustRegister(r.good, r.at, r.failed, r)
	return r
}

// start loads the configuration for the first time.
func (r *reloader) start(ctx context.Context) (*config.Runtime, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := config.Load(r.file)
	if err != nil {
		return nil, err
	}
	next, err := c.Build(ctx, r.log)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(checkTokens(c, tokens(next.Tokens)), checkHooks(c, hooks(next.Webhooks))); err != nil {
		return nil, errors.Join(err, next.Close())
	}
	r.use(next)
	return next, nil
}

// reload loads the configuration again and hands it to apply. An error of either
// leaves the old one in force; a second reload waits for the first.
func (r *reloader) reload(ctx context.Context, apply func(*config.Runtime) error) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.good.Set(0)
	defer func() {
		if err != nil {
			r.failed.Inc()
		}
	}()
	c, err := config.Load(r.file)
	if err != nil {
		return err
	}
	next, err := r.current.Reload(ctx, c)
	if err != nil {
		return err
	}
	if err := errors.Join(checkTokens(c, tokens(next.Tokens)), checkHooks(c, hooks(next.Webhooks))); err != nil {
		return errors.Join(err, next.Close())
	}
	if err := apply(next); err != nil {
		return errors.Join(err, next.Close())
	}
	old := r.current
	r.use(next)
	if err := old.Close(); err != nil {
		r.log.Warn("a connection of the old configuration did not close", "err", err)
	}
	r.log.Info("the configuration was loaded again", "file", r.file)
	return nil
}

// redacted is the configuration in force with its secrets hidden.
func (r *reloader) redacted() (string, error) { return r.live.Load().Redacted() }

// close ends the connections of the configuration in force.
func (r *reloader) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil {
		return nil
	}
	return r.current.Close()
}
