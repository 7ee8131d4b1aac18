package engine_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// sharedPool is one server's view of a pool that another uses too: members that
// the other made are foreign, and an Apply leaves them as they are.
type sharedPool struct {
	mu   *sync.Mutex // of the pool
	pool scaling.Balancer
	mine map[string]bool
}

func (p *sharedPool) Capabilities() scaling.Capabilities { return p.pool.Capabilities() }

func (p *sharedPool) Observe(ctx context.Context) (scaling.PoolStatus, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st, err := p.pool.Observe(ctx)
	for k := range st.Members {
		if m := &st.Members[k]; !p.mine[m.ID] {
			m.ID, m.Foreign = "", true
		}
	}
	return st, err
}

func (p *sharedPool) Apply(ctx context.Context, want scaling.Pool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range want.Members {
		p.mine[m.ID] = true
	}
	st, err := p.pool.Observe(ctx)
	if err != nil {
		return err
	}
	want.Members = slices.Clone(want.Members)
	for _, m := range st.Members {
		if !p.mine[m.ID] {
			want.Members = append(want.Members, scaling.Member{ID: m.ID, Addr: m.Addr, State: m.State})
		}
	}
	return p.pool.Apply(ctx, want)
}

// neighbour is a second server over the same world, with another owner and
// otherwise the same configuration.
func (r *rig) neighbour(pool func(scaling.Balancer) scaling.Balancer) *rig {
	r.t.Helper()
	n := &rig{
		t: r.t, world: r.world, prov: r.world.Provider("neighbour", nil), src: &sources{}, db: filepath.Join(r.t.TempDir(), "n.db"),
		group: r.group, wrap: pool,
	}
	n.src.world = n.prov
	n.start()
	r.t.Cleanup(n.halt)
	return n
}

// owns lists the VMs with the server's valid mark, by name.
func (r *rig) owns() string {
	r.t.Helper()
	vms, err := r.prov.List(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for _, vm := range vms {
		names = append(names, vm.Name)
	}
	return strings.Join(names, " ")
}

// awaitCount waits until so many serve, and what serves is what the server owns.
func (r *rig) awaitCount(n int) {
	r.t.Helper()
	r.await("as many as are wished serve", func() bool {
		return len(strings.Fields(r.serving())) == n && r.serving() == r.owns() && len(r.view().State.Open) == 0
	})
}

// grow orders launches until so many serve: one that meets a name which somebody
// else gave away fails, and the next gets another.
func (r *rig) grow(n int) {
	r.t.Helper()
	r.await("it grew", func() bool {
		v := r.view()
		if len(v.State.Open)+len(v.State.Orders) == 0 && v.State.Capacity() < n {
			// Between the look and the order the group may have begun by itself.
			_, err := r.eng.Order(context.Background(), "web", scaling.Order{Kind: scaling.OrderScaleOut, Count: 1, By: "test"})
			if err != nil && !errors.Is(err, scaling.ErrRefused) {
				r.t.Fatal(err)
			}
		}
		return len(strings.Fields(r.serving())) == n
	})
	r.awaitCount(n)
}

// healthy fails if a server sees anything that is not its own.
func (r *rig) healthy() {
	r.t.Helper()
	if v := r.view(); slices.Contains(v.Statuses, scaling.StatusDegraded) {
		r.t.Errorf("statuses %v, problems %v", v.Statuses, v.Problems)
	}
	for o := range strings.SplitSeq(r.orphans(), ", ") {
		if o != "" && !strings.HasPrefix(o, "unmarked ") {
			r.t.Errorf("orphans: %s", r.orphans())
		}
	}
}

func (r *rig) readyMembers() int {
	r.t.Helper()
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

func TestTwoServersWithTheSameGroup(t *testing.T) {
	pools := map[string]func(r *rig) (mine, theirs func(scaling.Balancer) scaling.Balancer){
		"and balancers of their own": func(r *rig) (mine, theirs func(scaling.Balancer) scaling.Balancer) {
			return nil, func(scaling.Balancer) scaling.Balancer { return r.world.Pool("elsewhere") }
		},
		"and one pool for both": func(r *rig) (mine, theirs func(scaling.Balancer) scaling.Balancer) {
			var mu sync.Mutex
			view := func() func(scaling.Balancer) scaling.Balancer {
				p := &sharedPool{mu: &mu, pool: r.world.Pool("web"), mine: map[string]bool{}}
				return func(scaling.Balancer) scaling.Balancer { return p }
			}
			return view(), view()
		},
	}
	for name, views := range pools {
		var theirs func(scaling.Balancer) scaling.Balancer
		scenario(t, "the same names of VMs "+name+" never harm each other", func(r *rig) { r.wrap, theirs = views(r) }, func(r *rig) {
			n := r.neighbour(theirs)
			shared := strings.Contains(name, "one pool")
			// Both want web-1, web-2 and so on at the same host; who comes second gets
			// the next number.
			r.awaitCount(1)
			n.awaitCount(1)
			r.order(scaling.OrderScaleOut, 2)
			n.order(scaling.OrderScaleOut, 1)
			r.grow(3)
			n.grow(2)
			if shared {
				r.await("5 members serve in the pool", func() bool { return r.readyMembers() == 5 })
			}
			theirsNow := n.owns()
			r.order(scaling.OrderScaleIn, 2)
			r.awaitCount(1)
			r.healthy()
			n.healthy()
			if got := n.serving(); got != theirsNow {
				t.Errorf("the neighbour serves with %q, and had %q", got, theirsNow)
			}
			// One of them is killed in mid-removal, and loses its store.
			r.grow(2)
			r.order(scaling.OrderScaleIn, 1)
			r.await("a drain", func() bool { return r.names(scaling.StateDraining) != "" })
			r.halt()
			r.db = filepath.Join(t.TempDir(), "lost.db")
			r.start()
			r.await("its VMs are quarantined", func() bool { return strings.Count(r.orphans(), "quarantined ") == 2 })
			if got := n.orphans(); got != "" && !strings.HasPrefix(got, "unmarked") {
				t.Errorf("the neighbour's orphans: %s", got)
			}
			if err := r.eng.Resume(context.Background(), "web", "ops"); err != nil {
				t.Fatal(err)
			}
			list, err := r.eng.Orphans(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range list {
				if o.Status == scaling.OrphanQuarantined {
					if res := r.cleanup(scaling.Cleanup{IDs: []string{o.ID}, Serving: true}); res.Activity == "" {
						t.Errorf("%+v", res)
					}
				}
			}
			// What the neighbour has is not reachable by its id either.
			vms, err := n.prov.List(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			r.refused(scaling.Cleanup{IDs: []string{vms[0].ID}, Serving: true}, "no such orphan")
			r.awaitCount(1)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			n.healthy()
			r.healthy()
			if got := n.owns(); got != theirsNow || n.serving() != theirsNow {
				t.Errorf("the neighbour has %q and serves with %q, and had %q", got, n.serving(), theirsNow)
			}
			if got := r.readyMembers(); shared && got != 3 {
				t.Errorf("%d members serve in the pool, want 3", got)
			}
		})
	}
}

func TestAClonedDefinition(t *testing.T) {
	scenario(t, "a clone of a marked VM is not ours: not counted, not served, never deleted, and the original still is", nil, func(r *rig) {
		r.awaitTwo()
		for name, of := range map[string]string{"copy": "web-2", "web-3": "web-1"} {
			if _, err := r.world.CloneVM(name, of); err != nil {
				t.Fatal(err)
			}
			if err := r.world.SetPower(name, scaling.PowerRunning); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		r.healthy()
		if got := r.orphans(); got != "unmarked web-3" {
			t.Errorf("orphans: %s", got)
		}
		r.refused(scaling.Cleanup{IDs: []string{r.id("web-2")}, Serving: true}, "no such orphan")
		// There is room for one more: the clones do not count. The name web-3 is taken.
		r.order(scaling.OrderScaleOut, 1)
		r.await("web-3 could not be made", func() bool { return r.view().State.Failures > 0 })
		time.Sleep(time.Minute)
		r.order(scaling.OrderScaleOut, 1)
		r.awaitServing("web-1 web-2 web-4")
		// The originals go, their clones stay.
		r.order(scaling.OrderScaleIn, 2)
		r.awaitServing("web-1")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		r.healthy()
		for _, name := range []string{"copy", "web-3"} {
			if err := r.world.SetPower(name, scaling.PowerRunning); err != nil {
				t.Errorf("the clone %s: %v", name, err)
			}
		}
		if got := r.readyMembers(); got != 1 {
			t.Errorf("%d members serve, want 1", got)
		}
	})
	scenario(t, "after a lost store a clone is no orphan, and cleaning up the original leaves it alone", nil, func(r *rig) {
		r.awaitServing("web-1")
		if _, err := r.world.CloneVM("copy", "web-1"); err != nil {
			t.Fatal(err)
		}
		r.halt()
		r.db = filepath.Join(t.TempDir(), "lost.db")
		r.start()
		r.await("web-1 is quarantined", func() bool { return r.orphans() == "quarantined web-1" })
		if err := r.eng.Resume(context.Background(), "web", "ops"); err != nil {
			t.Fatal(err)
		}
		list, err := r.eng.Orphans(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if res := r.cleanup(scaling.Cleanup{IDs: []string{list[0].ID}, Serving: true}); res.Activity == "" {
			t.Fatalf("%+v", res)
		}
		r.await("web-1 is gone", func() bool { return !r.exists("web-1") })
		time.Sleep(10 * time.Minute)
		if err := r.world.SetPower("copy", scaling.PowerRunning); err != nil {
			t.Errorf("the clone: %v", err)
		}
	})
}
