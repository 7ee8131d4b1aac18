package engine_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

func (r *rig) ready() int {
	st, err := r.world.Pool("web").Observe(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	n := 0
	for _, m := range st.Members {
		if m.State == scaling.MemberReady && m.Health == scaling.HealthUp {
			n++
		}
	}
	return n
}

func TestALostStoreKeepsItsPool(t *testing.T) {
	scenario(t, "a lost store of a group with min 0 does not empty the pool that serves", func(r *rig) { r.group.Min = 0 }, func(r *rig) {
		r.order(scaling.OrderScaleOut, 2)
		r.awaitServing("web-1 web-2")
		r.halt()
		r.db = filepath.Join(t.TempDir(), "other.db")
		r.start()
		time.Sleep(30 * time.Second)
		if n := r.ready(); n != 2 {
			t.Errorf("%d members take traffic, want 2; paused: %v", n, r.view().State.Pause)
		}
	})
	scenario(t, "an order after a lost store does not take the members that serve out of the pool", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		r.halt()
		r.db = filepath.Join(t.TempDir(), "other.db")
		r.start()
		time.Sleep(5 * time.Second)
		r.order(scaling.OrderScaleOut, 1) // web-1 is taken: fails
		time.Sleep(5 * time.Second)
		r.order(scaling.OrderScaleOut, 1) // web-2 is taken: fails
		time.Sleep(5 * time.Second)
		r.order(scaling.OrderScaleOut, 1)
		worst := 2
		for range 300 {
			time.Sleep(100 * time.Millisecond)
			worst = min(worst, r.ready())
		}
		if worst < 2 {
			t.Errorf("at worst %d members took traffic, want 2 at least; now %d, paused: %v, %v", worst, r.ready(), r.view().State.Pause, r.activities())
		}
	})
	scenario(t, "a restored backup does not take the members it does not know out of the pool", nil, func(r *rig) {
		r.awaitServing("web-1")
		file := filepath.Join(t.TempDir(), "backup.db")
		if err := r.store.Backup(context.Background(), file); err != nil {
			t.Fatal(err)
		}
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2")
		r.halt()
		r.db = file
		r.start()
		time.Sleep(30 * time.Second)
		if n := r.ready(); n != 2 {
			t.Errorf("%d members take traffic, want 2; paused: %v", n, r.view().State.Pause)
		}
	})
}

// failToGo brings web-2 into the state failed: it is to go and its provider refuses.
func (r *rig) failToGo() {
	r.t.Helper()
	r.awaitServing("web-1")
	r.order(scaling.OrderScaleOut, 1)
	r.awaitServing("web-1 web-2")
	r.world.SetFaults(func(_ context.Context, point string, _ scaling.Ref) error {
		if point == "delete.before" {
			return scaling.Errorf(scaling.Conflict, "its disk is being copied")
		}
		return nil
	})
	r.order(scaling.OrderScaleIn, 1)
	r.await("failed", func() bool { return r.names(scaling.StateFailed) == "web-2" })
	r.world.SetFaults(nil)
}

func TestFailedIsNotForEver(t *testing.T) {
	scenario(t, "an instance that failed to go is looked at again once the cause is over", func(r *rig) { r.group.Max = 2 }, func(r *rig) {
		r.failToGo()
		_ = r.world.RemoveVM("web-2") // a person cleans up by hand
		r.halt()
		r.start()
		time.Sleep(time.Hour)
		r.alert(scaling.High, 1)
		time.Sleep(5 * time.Minute)
		if f := r.names(scaling.StateFailed); f != "" {
			t.Errorf("still failed: %s; in service %s; %s", f, r.serving(), r.view().Verdict.Reason)
		}
	})
}

func TestListingsThatLieClearNothing(t *testing.T) {
	scenario(t, "a failed instance that listings hide and the provider still has stays failed", func(r *rig) { r.group.Max = 2 }, func(r *rig) {
		r.failToGo()
		r.blank.Store(true)
		time.Sleep(time.Minute) // some sixty listings
		r.blank.Store(false)
		time.Sleep(10 * time.Second)
		if f := r.names(scaling.StateFailed); f != "web-2" {
			t.Errorf("failed: %q, want web-2, which is still there", f)
		}
		if err := r.world.RemoveVM("web-2"); err != nil {
			t.Fatal(err)
		}
		r.await("forgotten once it is gone", func() bool { return r.names(scaling.StateFailed) == "" })
	})
}

func TestRefusedOrderIsNoStoreError(t *testing.T) {
	scenario(t, "a refused order is no trouble of the store", nil, func(r *rig) {
		r.awaitServing("web-1")
		_, _ = r.eng.Order(context.Background(), "web", scaling.Order{Kind: scaling.OrderScaleOut, Count: 99})
		if p := r.view().Problems; len(p) > 0 {
			t.Errorf("problems: %v", p)
		}
	})
}

func TestRestartInJoining(t *testing.T) {
	scenario(t, "a restart past the launch deadline does not throw a healthy newcomer away", nil, func(r *rig) {
		r.awaitServing("web-1")
		r.world.SetFaults(failing("apply.before"))
		r.order(scaling.OrderScaleOut, 1)
		r.await("joining", func() bool { return r.names(scaling.StateJoining) == "web-2" })
		r.halt()
		r.world.SetFaults(nil)
		time.Sleep(time.Minute)
		r.start()
		time.Sleep(30 * time.Second)
		if r.serving() != "web-1 web-2" {
			t.Errorf("in service %s, %v", r.serving(), r.activities())
		}
	})
}

// listed is a balancer whose configuration already has one of the members.
type listed struct {
	scaling.Balancer
	name string
}

type listedError struct{ ids []string }

func (e listedError) Error() string     { return "listed in the balancer's own configuration" }
func (e listedError) Members() []string { return e.ids }

func (b listed) Apply(ctx context.Context, want scaling.Pool) error {
	var ids []string
	want.Members = slices.DeleteFunc(slices.Clone(want.Members), func(m scaling.Member) bool {
		twin := m.Name == b.name && (m.State == scaling.MemberJoining || m.State == scaling.MemberReady)
		if twin {
			ids = append(ids, m.ID)
		}
		return twin
	})
	if err := b.Balancer.Apply(ctx, want); err != nil {
		return err
	}
	if len(ids) > 0 {
		return scaling.WithClass(scaling.Conflict, listedError{ids})
	}
	return nil
}

func TestAMemberThatTheBalancerListsBlocksOnlyItself(t *testing.T) {
	scenario(t, "a member that cannot be added blocks only itself", func(r *rig) {
		r.group.Min = 2
		r.wrap = func(b scaling.Balancer) scaling.Balancer { return listed{b, "web-1"} }
	}, func(r *rig) {
		r.await("web-2 serves", func() bool { return strings.Contains(r.serving(), "web-2") })
		r.await("another takes the place of web-1", func() bool { return r.serving() == "web-2 web-3" })
	})
}

func TestARestoredStoreGoesOnWithNothing(t *testing.T) {
	scenario(t, "a drain that was under way in the backup does not take the member that serves now", nil, func(r *rig) {
		r.awaitTwo()
		r.world.SetFaults(failing("apply.before"))
		r.order(scaling.OrderScaleIn, 1)
		r.await("web-2 drains", func() bool { return r.names(scaling.StateDraining) == "web-2" })
		file := filepath.Join(t.TempDir(), "backup.db")
		if err := r.store.Backup(context.Background(), file); err != nil {
			t.Fatal(err)
		}
		r.halt()
		r.world.SetFaults(nil)
		// As scalehook restore does: everything is paused by scalehook itself.
		r.db = file
		r.paused(file)
		r.start()
		time.Sleep(10 * time.Minute)
		if n := r.ready(); n != 2 || r.names(scaling.StateDraining) != "web-2" {
			t.Fatalf("%d members take traffic, want 2; draining %q", n, r.names(scaling.StateDraining))
		}
		if err := r.eng.Resume(context.Background(), "web", "test"); err != nil {
			t.Fatal(err)
		}
		r.awaitServing("web-1")
	})
}

// paused pauses the group in a store that nobody has open, as a restore does.
func (r *rig) paused(file string) {
	r.t.Helper()
	st, err := store.Open(context.Background(), file, store.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	err = st.Change(context.Background(), "web", func(s *scaling.State) error {
		s.Pause = &scaling.Pause{Out: true, In: true, By: scaling.Self, Reason: "restored", At: time.Now()}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		r.t.Fatal(err)
	}
}
