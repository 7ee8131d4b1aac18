package engine_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// counting has no windows and counts how often it is asked: once per decision.
type counting struct{ asked atomic.Int64 }

func (c *counting) Open(time.Time) *scaling.Maintenance {
	c.asked.Add(1)
	return nil
}

func TestAGroupAtRest(t *testing.T) {
	var decisions *counting
	var down atomic.Bool
	atRest := func(r *rig) {
		decisions = &counting{}
		r.paces, r.windows = true, decisions
		down.Store(false)
		r.wrapHealth(func(m *scaling.MemberStatus) {
			if down.Load() {
				m.Health = scaling.HealthDown
			}
		})
	}
	// within says whether something holds after d at the latest.
	within := func(r *rig, d time.Duration, what string, cond func() bool) {
		r.t.Helper()
		for end := time.Now().Add(d); !cond(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				r.t.Errorf("%s: not within %s", what, d)
				return
			}
		}
	}
	// settle returns just after a decision, so that the next regular one is far.
	settle := func(r *rig) {
		r.awaitServing("web-1")
		time.Sleep(time.Minute)
		before := decisions.asked.Load()
		r.await("a decision", func() bool { return decisions.asked.Load() > before })
	}
	scenario(t, "decides about as often as the sources are asked", atRest, func(r *rig) {
		settle(r)
		before := decisions.asked.Load()
		time.Sleep(10 * time.Minute)
		if n := decisions.asked.Load() - before; n < 60 || n > 180 {
			t.Errorf("%d decisions in ten minutes, want about one in five seconds", n)
		}
	})
	scenario(t, "decides every second while a condition stands", atRest, func(r *rig) {
		settle(r)
		r.post(scaling.Low, true)
		before := decisions.asked.Load()
		time.Sleep(time.Minute)
		if n := decisions.asked.Load() - before; n < 55 {
			t.Errorf("%d decisions in a minute, want one each second", n)
		}
	})
	scenario(t, "notices an alert at once", atRest, func(r *rig) {
		settle(r)
		r.alert(scaling.High, 1)
		within(r, time.Second, "a launch", func() bool { return r.begun(scaling.ActivityScaleOut) == 1 })
	})
	scenario(t, "notices an order at once", atRest, func(r *rig) {
		settle(r)
		r.order(scaling.OrderScaleOut, 1)
		within(r, 100*time.Millisecond, "a launch", func() bool { return r.begun(scaling.ActivityScaleOut) == 1 })
	})
	scenario(t, "notices by the next look at the pool that a member is down", atRest, func(r *rig) {
		settle(r)
		down.Store(true)
		within(r, 1200*time.Millisecond, "the instance is unwell", func() bool { return r.find("web-1").Suspect != "" })
	})
	scenario(t, "notices in the second listing that a VM is gone", atRest, func(r *rig) {
		settle(r)
		if err := r.world.RemoveVM("web-1"); err != nil {
			t.Fatal(err)
		}
		within(r, 36*time.Second, "the instance is unwell", func() bool { return r.find("web-1").Suspect != "" })
	})
}

func TestAFloodOfPostsDoesNotFloodTheSources(t *testing.T) {
	asked := func(r *rig) int {
		r.src.mu.Lock()
		defer r.src.mu.Unlock()
		return r.src.asked
	}
	scenario(t, "the sources are asked at most five times a second", func(r *rig) { r.paces = true }, func(r *rig) {
		r.awaitServing("web-1")
		time.Sleep(time.Minute)
		before := asked(r)
		for k := range 2000 {
			r.post(scaling.Low, k%2 == 0) // begins and ends, so that each is news
			time.Sleep(5 * time.Millisecond)
		}
		if n := asked(r) - before; n < 10 || n > 51 {
			t.Errorf("asked %d times in ten seconds", n)
		}
	})
	scenario(t, "what is only renewed has them asked no more often than at rest", func(r *rig) { r.paces = true }, func(r *rig) {
		r.awaitServing("web-1")
		r.post(scaling.Low, true)
		time.Sleep(time.Minute)
		before := asked(r)
		for range 2000 {
			r.post(scaling.Low, true)
			time.Sleep(5 * time.Millisecond)
		}
		if n := asked(r) - before; n > 3 {
			t.Errorf("asked %d times in ten seconds", n)
		}
	})
}
