package engine_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// set steps the wall clock of the engine; with both also that of the sources.
func (r *rig) set(d time.Duration, both bool) {
	r.stepped.Add(int64(d))
	if both {
		r.src.mu.Lock()
		r.src.now = func() time.Time { return time.Now().Add(time.Duration(r.stepped.Load())) }
		r.src.mu.Unlock()
	}
}

// loyal is a pool whose draining members keep their one session for ever.
type loyal struct{ scaling.Balancer }

func (l *loyal) Observe(ctx context.Context) (scaling.PoolStatus, error) {
	st, err := l.Balancer.Observe(ctx)
	for k := range st.Members {
		if st.Members[k].State == scaling.MemberDraining {
			st.Members[k].Sessions = 1
		}
	}
	return st, err
}

// silence makes the sources unreachable, or ends that.
func (s *sources) silence(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = on
}

func TestTheClockIsStepped(t *testing.T) {
	for _, d := range []time.Duration{time.Hour, -time.Hour} {
		scenario(t, fmt.Sprintf("by %s in mid-drain: the drain keeps its deadline and no session is cut", d), func(r *rig) {
			r.group.DrainDeadline = 10 * time.Minute
			r.wrap = func(b scaling.Balancer) scaling.Balancer { return &loyal{b} }
		}, func(r *rig) {
			r.awaitTwo()
			r.order(scaling.OrderScaleIn, 1)
			r.await("web-2 drains", func() bool {
				i := r.find("web-2")
				return i != nil && i.State == scaling.StateDraining && !i.Deadline.IsZero()
			})
			begun := time.Now()
			r.set(d, true)
			time.Sleep(9 * time.Minute)
			synctest.Wait()
			if r.names(scaling.StateDraining) != "web-2" {
				t.Fatalf("web-2 is not draining any more: %+v", r.view().Instances)
			}
			r.awaitServing("web-1")
			if took := time.Since(begun); took < 9*time.Minute || took > 12*time.Minute {
				t.Errorf("the drain ended after %s, its deadline was ten minutes", took)
			}
		})
		scenario(t, fmt.Sprintf("by %s while high stands: it is unknown until a source confirms it, and then acts", d), func(r *rig) {
			r.group.LeaseTTL = 30 * time.Minute
		}, func(r *rig) {
			r.awaitServing("web-1")
			time.Sleep(3 * time.Minute)
			if err := r.eng.Pause(context.Background(), "web", scaling.Pause{Out: true, In: true, By: "test"}); err != nil {
				t.Fatal(err)
			}
			r.alert(scaling.High, 1)
			r.src.silence(true)
			time.Sleep(5 * time.Second)
			r.set(d, true)
			if err := r.eng.Resume(context.Background(), "web", "test"); err != nil {
				t.Fatal(err)
			}
			r.passes(time.Minute, "web-1")
			if !failedGate(r.view().Verdict, "scale_out", "heard") {
				t.Errorf("the verdict does not say that high is unknown: %+v", r.view().Verdict.Gates)
			}
			r.src.silence(false)
			r.awaitServing("web-1 web-2")
		})
		scenario(t, fmt.Sprintf("by %s here and not at Prometheus: nothing is removed", d), func(r *rig) { r.group.LeaseTTL = 3 * time.Hour }, func(r *rig) {
			r.awaitTwo()
			r.set(d, false)
			r.alert(scaling.Low, 0.01)
			r.passes(10*time.Minute, "web-1 web-2")
		})
	}
	scenario(t, "a restart after the step reads what was written in the new time", nil, func(r *rig) {
		r.awaitTwo()
		r.set(time.Hour, true)
		time.Sleep(5 * time.Second)
		r.halt()
		r.start()
		r.passes(time.Minute, "web-1 web-2")
		r.alert(scaling.Low, 0.01)
		r.awaitServing("web-1")
	})
}
