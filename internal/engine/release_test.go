package engine_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
)

// sluggish is a provider whose call to create goes on for a while after its caller
// gave up, as a call into a library does that cannot be cancelled.
type sluggish struct {
	*simulated.Provider

	lasts          atomic.Int64 // a duration
	running, worst atomic.Int32
}

func (s *sluggish) Create(ctx context.Context, spec scaling.LaunchSpec) (scaling.VM, error) {
	s.worst.Store(max(s.worst.Load(), s.running.Add(1)))
	defer s.running.Add(-1)
	time.Sleep(time.Duration(s.lasts.Load()))
	if ctx.Err() != nil {
		return scaling.VM{}, scaling.Errorf(scaling.Unknown, "given up")
	}
	return s.Provider.Create(ctx, spec)
}

func TestReleasedAndConfiguredAgain(t *testing.T) {
	hanging := func(r *rig, lasts time.Duration) (*sluggish, []engine.GroupConfig) {
		r.t.Helper()
		r.awaitServing("web-1")
		p := &sluggish{Provider: r.prov}
		p.lasts.Store(int64(lasts))
		groups := []engine.GroupConfig{{Group: r.group, Provider: p, Balancer: r.world.Pool("web")}}
		if err := r.eng.Reload(context.Background(), groups); err != nil {
			r.t.Fatal(err)
		}
		r.order(scaling.OrderScaleOut, 1)
		r.await("a call is under way", func() bool { return p.running.Load() == 1 })
		if err := r.eng.Reload(context.Background(), nil); err != nil {
			r.t.Fatal(err)
		}
		return p, groups
	}
	scenario(t, "a group that two reloads take out and put back begins once its calls have ended", nil, func(r *rig) {
		p, groups := hanging(r, 8*time.Second)
		begun := time.Now()
		if err := r.eng.Reload(context.Background(), groups); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d < 6*time.Second {
			t.Errorf("it began after %s", d)
		}
		p.lasts.Store(0)
		r.awaitServing("web-1 web-2")
		if n := p.worst.Load(); n != 1 {
			t.Errorf("%d calls side by side", n)
		}
	})
	scenario(t, "where they do not end, the reload is refused, changes nothing and works later", nil, func(r *rig) {
		p, groups := hanging(r, time.Minute)
		other := groups[0]
		other.Group.Name, other.Group.NamePattern, other.Balancer = "api", "api-{n}", r.world.Pool("api")
		err := r.eng.Reload(context.Background(), append(groups, other))
		if err == nil || !strings.Contains(err.Error(), `"web" was released and a call for it is still under way`) {
			t.Fatalf("got %v", err)
		}
		if views, err := r.eng.Groups(context.Background()); err != nil || len(views) != 0 {
			t.Errorf("%v, %d groups after a refused reload", err, len(views))
		}
		time.Sleep(time.Minute)
		p.lasts.Store(0)
		if err := r.eng.Reload(context.Background(), groups); err != nil {
			t.Fatal(err)
		}
		r.awaitServing("web-1 web-2")
		if n := p.worst.Load(); n != 1 {
			t.Errorf("%d calls side by side", n)
		}
	})
	scenario(t, "a reload that is given up while it waits changes nothing", nil, func(r *rig) {
		_, groups := hanging(r, 5*time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := r.eng.Reload(ctx, groups); err == nil {
			t.Error("it was taken")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if err := r.eng.Reload(context.Background(), groups); err != nil {
			t.Error(err)
		}
	})
}
