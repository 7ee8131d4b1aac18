package engine_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// hung is an Alertmanager whose API takes the connection and says nothing; the
// driver's own time limit is the 5 s of its default.
type hung struct{}

func (hung) Source() string { return "alertmanager" }
func (hung) Confirm(ctx context.Context) ([]scaling.Evidence, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	<-ctx.Done()
	return nil, scaling.Errorf(scaling.Temporary, "no answer")
}

func TestAHungAlertmanagerLosesNoNotification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, err := simulated.NewWorld(simulated.DefaultConfig(), simulated.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		st, err := store.Open(ctx, filepath.Join(t.TempDir(), "s.db"), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		eng, err := engine.New(ctx, engine.Options{
			Store: st, Logger: slog.New(slog.DiscardHandler), Confirmers: []scaling.Confirmer{hung{}},
			Groups: []engine.GroupConfig{{Group: scaling.Group{Name: "web", Mode: scaling.ModeFull, Max: 3, LeaseTTL: time.Hour, CallDeadline: time.Second, NamePattern: "w", Provider: "p", Port: 80}, Provider: w.Provider("test", nil), Balancer: w.Pool("web")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- eng.Run(ctx) }()
		time.Sleep(time.Minute)
		call, done := context.WithTimeout(ctx, 5*time.Second) // webhook's callTimeout
		defer done()
		if _, err := eng.Notify(call, []scaling.Notification{
			{Group: "web", Signal: scaling.High, Firing: true, Fingerprint: "f", StartsAt: time.Now(), Receiver: "alertmanager"},
			{Group: "web", Signal: scaling.High, Firing: true, Fingerprint: "g", StartsAt: time.Now(), Receiver: "alertmanager"},
		}); err != nil {
			t.Errorf("not stored, although an unreachable source is no denial: %v", err)
		}
		cancel()
		<-ended
		_ = st.Close()
	})
}

func TestAHostThatHangsStopsOnlyItsGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		st, err := store.Open(ctx, filepath.Join(t.TempDir(), "s.db"), store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		opts := engine.Options{Store: st, Logger: slog.New(slog.DiscardHandler), ListTick: time.Second}
		for _, name := range []string{"hung", "well"} {
			w, err := simulated.NewWorld(simulated.DefaultConfig(), simulated.Options{})
			if err != nil {
				t.Fatal(err)
			}
			g := scaling.Group{
				Name: name, Mode: scaling.ModeFull, Min: 1, Max: 3, LeaseTTL: time.Hour, NamePattern: name + "-{n}", Provider: "host-" + name, Balancer: "pool-" + name, Port: 80,
				LaunchDeadline: 30 * time.Second, DrainDeadline: 10 * time.Second, ShutdownDeadline: 10 * time.Second, CallDeadline: 20 * time.Second,
				BackoffMin: time.Second, BackoffMax: time.Minute,
			}
			if name == "hung" {
				w.SetFaults(func(ctx context.Context, _ string, _ scaling.Ref) error { return simulated.Hang(ctx) })
			}
			opts.Groups = append(opts.Groups, engine.GroupConfig{Group: g, Provider: w.Provider("test", nil), Balancer: w.Pool(name)})
		}
		eng, err := engine.New(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- eng.Run(ctx) }()
		time.Sleep(10 * time.Second) // a launch takes 5 s here
		if _, err := eng.Order(ctx, "well", scaling.Order{Kind: scaling.OrderScaleOut, Count: 1}); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		for name, want := range map[string]int{"hung": 0, "well": 2} {
			v, err := eng.Group(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if got := v.State.Count(scaling.StateInService); got != want {
				t.Errorf("group %s has %d in service, want %d: %s", name, got, want, v.Verdict.Reason)
			}
			if name == "well" && slices.Contains(v.Statuses, scaling.StatusDegraded) {
				t.Errorf("the other group: statuses %v, problems %v", v.Statuses, v.Problems)
			}
		}
		cancel()
		<-ended
		_ = st.Close()
	})
}

// A guest that hangs holds up the call that asks it to stop, and the provider then
// makes no call for it but the one that cuts its power.
func TestTheLossOfAHungGuestsCallDoesNotKeepItsPowerOn(t *testing.T) {
	scenario(t, "it is removed past the deadline of its shutdown", nil, func(r *rig) {
		r.awaitTwo()
		var calls, asked atomic.Int32
		r.world.SetFaults(func(ctx context.Context, point string, _ scaling.Ref) error {
			switch {
			case point == "shutdown.before" && asked.Add(1) == 1:
				return simulated.Hang(ctx)
			case point == "get.before" && asked.Load() == 1:
				calls.Add(1)
				return scaling.Errorf(scaling.Temporary, "an earlier call has not returned yet")
			}
			return nil
		})
		r.order(scaling.OrderScaleIn, 1)
		r.awaitServing("web-1")
		r.await("web-2 is gone", func() bool { return r.find("web-2") == nil })
		if calls.Load() == 0 || asked.Load() != 2 {
			t.Errorf("%d calls were refused and %d shutdowns asked for: this proves nothing", calls.Load(), asked.Load())
		}
	})
}
