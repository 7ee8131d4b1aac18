package engine_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// stuck is a store that takes changes and keeps those who asked for them.
type stuck struct {
	scaling.Store

	before, after func(ctx context.Context) error // of a commit; nil: it goes on
}

func (s *stuck) Change(ctx context.Context, group string, fn func(*scaling.State) error) error {
	if s.before != nil {
		if err := s.before(ctx); err != nil {
			return err
		}
	}
	err := s.Store.Change(ctx, group, fn)
	if err == nil && s.after != nil {
		return s.after(ctx)
	}
	return err
}

// TestProgress lets every part hang that can, without a look at its context, and
// asks after ten minutes. A part that hangs lets go when the gate is opened, so that
// the bubble can end.
func TestProgress(t *testing.T) {
	const no = "" // it gets on
	for name, c := range map[string]struct {
		hang func(gate <-chan struct{}, w *simulated.World, s *stuck, o *engine.Options)
		ask  func(context.Context, *engine.Engine) error // after a minute
		want string
	}{
		"a group that is filled": {},
		"every call to the provider and the balancer hangs": {hang: func(gate <-chan struct{}, w *simulated.World, _ *stuck, _ *engine.Options) {
			w.SetFaults(func(context.Context, string, scaling.Ref) error { <-gate; return nil })
		}},
		"launches hang": {hang: func(gate <-chan struct{}, w *simulated.World, _ *stuck, _ *engine.Options) {
			w.SetFaults(func(_ context.Context, point string, _ scaling.Ref) error {
				if strings.HasPrefix(point, "create") {
					<-gate
				}
				return nil
			})
		}},
		"the pool hangs": {hang: func(gate <-chan struct{}, w *simulated.World, _ *stuck, _ *engine.Options) {
			w.SetFaults(func(_ context.Context, point string, _ scaling.Ref) error {
				if strings.HasPrefix(point, "apply") || strings.HasPrefix(point, "observe") {
					<-gate
				}
				return nil
			})
		}},
		"the sources hang": {hang: func(gate <-chan struct{}, _ *simulated.World, _ *stuck, o *engine.Options) {
			o.Meter, o.Confirmers = stale(gate), []scaling.Confirmer{stale(gate)}
		}},
		"the taking off of marks hangs, which the group's own loop does": {hang: func(gate <-chan struct{}, w *simulated.World, _ *stuck, _ *engine.Options) {
			w.SetFaults(func(_ context.Context, point string, _ scaling.Ref) error {
				if strings.HasPrefix(point, "let_go") {
					<-gate
				}
				return nil
			})
		}, ask: func(ctx context.Context, e *engine.Engine) error {
			_, err := e.Release(ctx, "web", true, "test")
			return err
		}},
		"the store refuses every change": {hang: func(_ <-chan struct{}, _ *simulated.World, s *stuck, _ *engine.Options) {
			s.before = func(context.Context) error { return scaling.Errorf(scaling.Temporary, "disk full") }
		}},
		"the store takes no change": {hang: func(_ <-chan struct{}, _ *simulated.World, s *stuck, _ *engine.Options) {
			s.before = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		}, want: "the engine stands still: the store does not answer"},
		"the store hangs whatever its caller's deadline": {hang: func(gate <-chan struct{}, _ *simulated.World, s *stuck, _ *engine.Options) {
			s.before = func(context.Context) error { <-gate; return nil }
		}, want: "no answer"},
		"the loops of all groups hang": {hang: func(gate <-chan struct{}, _ *simulated.World, s *stuck, _ *engine.Options) {
			s.after = func(context.Context) error { <-gate; return nil }
		}, want: "the engine stands still: no group has decided for"},
		"a decision does not end": {hang: func(gate <-chan struct{}, _ *simulated.World, _ *stuck, o *engine.Options) {
			o.IDs = endless(gate)
		}, want: "the engine stands still: nothing is decided"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, err := simulated.NewWorld(simulated.DefaultConfig(), simulated.Options{})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				st, err := store.Open(ctx, filepath.Join(t.TempDir(), "s.db"), store.Options{})
				if err != nil {
					t.Fatal(err)
				}
				s := &stuck{Store: st}
				opts := engine.Options{Store: s, Logger: slog.New(slog.DiscardHandler), Groups: []engine.GroupConfig{{
					Group: scaling.Group{
						Name: "web", Mode: scaling.ModeFull, Min: 1, Max: 3, LeaseTTL: time.Hour, NamePattern: "web-{n}", Provider: "sim", Balancer: "pool", Port: 80,
						LaunchDeadline: 30 * time.Second, CallDeadline: 5 * time.Second, BackoffMin: time.Second, BackoffMax: time.Minute,
					}, Provider: w.Provider("test", nil), Balancer: w.Pool("web"),
				}}}
				gate := make(chan struct{})
				if c.hang != nil {
					c.hang(gate, w, s, &opts)
				}
				eng, err := engine.New(ctx, opts)
				if err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- eng.Run(ctx) }()
				time.Sleep(time.Minute)
				if c.ask != nil {
					if err := c.ask(ctx, eng); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(10 * time.Minute)

				limit, done := context.WithTimeout(ctx, 30*time.Second)
				defer done()
				answer := make(chan error, 1)
				go func() { answer <- eng.Progress(limit) }()
				got := no
				select {
				case err := <-answer:
					if err != nil {
						got = err.Error()
					}
				case <-time.After(time.Minute):
					got = "no answer"
				}
				if !strings.HasPrefix(got, c.want) || (c.want == no && got != no) {
					t.Errorf("got %q, want %q", got, c.want)
				}
				close(gate)
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if err := st.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// stale is a source that says nothing for as long as its gate is shut.
type stale <-chan struct{}

func (stale) Source() string { return "prometheus" }

func (s stale) Confirm(context.Context) ([]scaling.Evidence, error) { <-s; return nil, nil }

func (s stale) Readings(context.Context) (map[string]scaling.Reading, error) { <-s; return nil, nil }

// endless never finds an id.
type endless <-chan struct{}

func (e endless) Instance() string { <-e; return "00000000-0000-4000-8000-000000000000" }

func (e endless) Activity(time.Time) string { <-e; return "a-1" }
