package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
	"github.com/scalehook/scalehook/webhook"
)

// rest is what many groups cost while nothing happens.
type rest struct {
	groups, instances int
	cpu               time.Duration // per second
	drivers           time.Duration // of it inside the simulated drivers, wall
	resident, scraped int           // resident memory before and after the scrapes
	lookups           float64
	writes            int64
	scrape            time.Duration
	bytes             int
}

// sources answers for all groups at once and counts how often it is asked.
type sources struct {
	readings map[string]scaling.Reading
	asked    atomic.Int64
}

func (s *sources) Source() string { return "prometheus" }

func (s *sources) Confirm(context.Context) ([]scaling.Evidence, error) {
	s.asked.Add(1)
	return nil, nil
}

func (s *sources) Readings(context.Context) (map[string]scaling.Reading, error) {
	s.asked.Add(1)
	return s.readings, nil
}

// counted counts the changes of a store.
type counted struct {
	scaling.Store
	changes atomic.Int64
}

func (c *counted) Change(ctx context.Context, group string, fn func(*scaling.State) error) error {
	return c.Store.Change(ctx, group, func(s *scaling.State) error {
		if err := fn(s); err != nil {
			return err
		}
		c.changes.Add(1)
		return nil
	})
}

// timed adds up the time that a balancer takes.
type timed struct {
	scaling.Balancer
	spent *atomic.Int64
}

func (t timed) Observe(ctx context.Context) (scaling.PoolStatus, error) {
	defer t.since(time.Now())
	return t.Balancer.Observe(ctx)
}

func (t timed) Apply(ctx context.Context, want scaling.Pool) error {
	defer t.since(time.Now())
	return t.Balancer.Apply(ctx, want)
}

func (t timed) since(begun time.Time) { t.spent.Add(int64(time.Since(begun))) }

func groupOf(name, provider string, instances int) scaling.Group {
	return scaling.Group{
		Name: name, Mode: scaling.ModeFull, Min: 1, Max: 2 * instances, High: 0.7, Low: 0.2, LeaseTTL: 3 * time.Minute,
		Cooldown: time.Minute, WarmUp: 30 * time.Second,
		Windows:        scaling.Windows{Scrape: 15 * time.Second, Evaluation: 15 * time.Second, Rate: time.Minute},
		LaunchDeadline: 5 * time.Minute, DrainDeadline: time.Minute, ShutdownDeadline: time.Minute, CallDeadline: 30 * time.Second,
		CreationsPerHour: 20, RemovalsPerHour: 20, BackoffMin: 10 * time.Second, BackoffMax: 10 * time.Minute,
		Grace: 5 * time.Minute, MaxUnhealthy: 0.5, Victim: scaling.VictimNewest, OnRemove: scaling.OnRemoveKeep,
		NamePattern: name + "-{n}", Provider: provider, Balancer: "pool-of-" + provider, Port: 80, Confirm: []string{"prometheus"},
	}
}

// fleet makes groups with instances that are in service since long: in their
// worlds, in their pools and in the store.
func fleet(ctx context.Context, f flags, st scaling.Store, src *sources, n int, spent *atomic.Int64) ([]engine.GroupConfig, error) {
	var out []engine.GroupConfig
	src.readings = map[string]scaling.Reading{}
	cfg := simulated.DefaultConfig()
	cfg.Capacity, cfg.BootTime = 4*f.shared*f.instances, 0
	cfg.Network = netip.MustParsePrefix("198.18.0.0/15")
	now := time.Now()
	var world *simulated.World
	var provider *simulated.Provider
	states := map[string]*scaling.State{}
	for k := range n {
		if k%f.shared == 0 {
			var err error
			if world, err = simulated.NewWorld(cfg, simulated.Options{}); err != nil {
				return nil, err
			}
			provider = world.Provider("bench", nil)
		}
		name := fmt.Sprintf("group-%05d", k)
		g := groupOf(name, fmt.Sprintf("provider-%05d", k/f.shared), f.instances)
		s := &scaling.State{Provider: g.Provider, Balancer: g.Balancer, NextNumber: f.instances + 1, Desired: f.instances}
		want := scaling.Pool{Group: name}
		for i := range f.instances {
			id := fmt.Sprintf("%08x-%04x-4000-8000-000000000000", k, i)
			vm, err := provider.Create(ctx, scaling.LaunchSpec{ID: id, Group: name, Name: g.VMName(i + 1), Number: i + 1})
			if err != nil {
				return nil, err
			}
			since := now.Add(-time.Hour)
			s.Instances = append(s.Instances, scaling.Instance{
				ID: id, Group: name, Name: vm.Name, Number: i + 1, State: scaling.StateInService, Since: since, CreatedAt: since,
				InServiceAt: since, UUID: vm.UUID, Address: vm.Addresses[0],
			})
			want.Members = append(want.Members, scaling.Member{ID: id, Name: vm.Name, Addr: netip.AddrPortFrom(vm.Addresses[0], 80), State: scaling.MemberReady})
			src.readings[vm.UUID] = scaling.Reading{Utilization: 0.45, At: now.Add(time.Hour)}
		}
		s.Primary = s.Instances[0].ID
		if err := world.Pool(name).Apply(ctx, want); err != nil {
			return nil, err
		}
		states[name] = s
		out = append(out, engine.GroupConfig{Group: g, Provider: provider, Balancer: timed{world.Pool(name), spent}})
	}
	return out, write(ctx, st, states)
}

func write(ctx context.Context, st scaling.Store, states map[string]*scaling.State) error {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	room := make(chan struct{}, 64)
	for name, s := range states {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			err := st.Change(ctx, name, func(x *scaling.State) error {
				s.Group = x.Group
				*x = s.Clone()
				return nil
			})
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func atRest(ctx context.Context, f flags, n int) (r rest, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	file, err := store.Open(ctx, filepath.Join(f.dir, fmt.Sprintf("rest-%d.db", n)), store.Options{})
	if err != nil {
		return r, err
	}
	defer file.Close()
	st := &counted{Store: file}
	src := &sources{}
	var spent atomic.Int64
	groups, err := fleet(ctx, f, st, src, n, &spent)
	if err != nil {
		return r, err
	}
	reg := prometheus.NewRegistry()
	log := slog.New(slog.DiscardHandler)
	eng, err := engine.New(ctx, engine.Options{
		Store: st, Groups: groups, Meter: src, Confirmers: []scaling.Confirmer{src}, Logger: log, Registerer: reg,
	})
	if err != nil {
		return r, err
	}
	srv, err := webhook.New(webhook.Options{Intake: eng, Operator: eng, Viewer: eng, Logger: log, Registry: reg, Build: api.BuildInfo{}}) //nolint:contextcheck // a handler has its request's
	if err != nil {
		return r, err
	}
	ended := make(chan error, 1)
	go func() { ended <- eng.Run(ctx) }()
	if err := wait(ctx, f.settle); err != nil {
		return r, err
	}
	runtime.GC()
	cpu0, asked0, writes0, spent0, begun := cpu(), src.asked.Load(), st.changes.Load(), spent.Load(), time.Now()
	if err := wait(ctx, f.measure); err != nil {
		return r, err
	}
	seconds := time.Since(begun).Seconds()
	r = rest{
		groups: n, instances: n * f.instances, cpu: time.Duration(float64(cpu()-cpu0) / seconds),
		drivers: time.Duration(float64(spent.Load()-spent0) / seconds), lookups: float64(src.asked.Load()-asked0) / seconds,
		writes: st.changes.Load() - writes0, resident: resident(),
	}
	if f.heap != "" {
		if err := writeHeap(f.heap); err != nil {
			return r, err
		}
	}
	for range 3 {
		begun := time.Now()
		w := &page{header: http.Header{}, status: http.StatusOK}
		req := httptest.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1/metrics", nil)
		req.RemoteAddr = "127.0.0.1:1"
		srv.Handler().ServeHTTP(w, req)
		if w.status != http.StatusOK {
			return r, fmt.Errorf("/metrics answered %d", w.status)
		}
		r.bytes = w.bytes
		if took := time.Since(begun); r.scrape == 0 || took < r.scrape {
			r.scrape = took
		}
	}
	r.scraped = resident()
	cancel()
	return r, <-ended
}

// page counts an answer's bytes and keeps none: the memory is to be the server's.
type page struct {
	header        http.Header
	status, bytes int
}

func (p *page) Header() http.Header { return p.header }

func (p *page) WriteHeader(status int) { p.status = status }

func (p *page) Write(b []byte) (int, error) {
	p.bytes += len(b)
	return len(b), nil
}

// SetWriteDeadline is what the server asks of a connection.
func (p *page) SetWriteDeadline(time.Time) error { return nil }

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
