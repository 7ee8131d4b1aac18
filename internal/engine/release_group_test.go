package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// calls notes what is done to the provider, and may make calls fail.
type calls struct {
	mu   sync.Mutex
	all  []string
	fail func(point string, ref scaling.Ref) error
}

// watch begins to note.
func (c *calls) watch(r *rig) {
	r.world.SetFaults(func(_ context.Context, point string, ref scaling.Ref) error {
		c.mu.Lock()
		call, at, _ := strings.Cut(point, ".")
		if at == "before" && !slices.Contains([]string{"get", "list", "observe"}, call) {
			c.all = append(c.all, strings.TrimSpace(call+" "+ref.Name))
		}
		fail := c.fail
		c.mu.Unlock()
		if fail == nil {
			return nil
		}
		return fail(point, ref) // may take its time
	})
}

func (c *calls) failing(f func(point string, ref scaling.Ref) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = f
}

// applied counts the times that a pool was applied.
func (c *calls) applied() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range c.all {
		if call == "apply" {
			n++
		}
	}
	return n
}

// harmful are the calls that take something away.
func (c *calls) harmful() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.all), func(call string) bool {
		return strings.HasPrefix(call, "let_go") || strings.HasPrefix(call, "apply")
	})
}

// pool is what takes traffic, with the members' names.
func pool(r *rig) string {
	r.t.Helper()
	st, err := r.world.Pool("web").Observe(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, m := range st.Members {
		out = append(out, fmt.Sprintf("%s %s", m.ID, m.State))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// marked counts the VMs with our mark.
func marked(r *rig) int {
	r.t.Helper()
	vms, err := r.prov.List(context.Background())
	if err != nil {
		r.t.Fatal(err)
	}
	return len(vms)
}

func (r *rig) release(sure bool) scaling.ReleasePlan {
	r.t.Helper()
	plan, err := r.eng.Release(context.Background(), "web", sure, "ops")
	if err != nil {
		r.t.Fatal(err)
	}
	return plan
}

// ordered orders a scale-out and returns what is said against it.
func (r *rig) ordered() error {
	_, err := r.eng.Order(context.Background(), "web", scaling.Order{Kind: scaling.OrderScaleOut, Count: 1})
	return err
}

func (r *rig) awaitReleased() {
	r.t.Helper()
	r.await("the release is done", func() bool {
		rel := r.view().State.Release
		return rel != nil && !rel.Done.IsZero()
	})
}

// deaf is a provider that takes no mark off and says that it did.
type deaf struct {
	*simulated.Provider

	on atomic.Bool
}

func (d *deaf) LetGo(ctx context.Context, ref scaling.Ref) error {
	if d.on.Load() {
		return nil
	}
	return d.Provider.LetGo(ctx, ref)
}

// homeless is a provider whose VMs have no address.
type homeless struct {
	*simulated.Provider

	on atomic.Bool
}

func (h *homeless) Get(ctx context.Context, ref scaling.Ref) (scaling.VM, error) {
	vm, err := h.Provider.Get(ctx, ref)
	if h.on.Load() {
		vm.Addresses = nil
	}
	return vm, err
}

// onlooker counts how often a member is wished in another state than serving.
type onlooker struct {
	scaling.Balancer

	id             string
	applied, other atomic.Int64
}

func (w *onlooker) Apply(ctx context.Context, p scaling.Pool) error {
	w.applied.Add(1)
	if !slices.ContainsFunc(p.Members, func(m scaling.Member) bool { return m.ID == w.id && m.State == scaling.MemberReady }) {
		w.other.Add(1)
	}
	return w.Balancer.Apply(ctx, p)
}

// two brings the group to web-1 and web-2.
func two(r *rig) {
	r.group.Min, r.group.Adopt = 2, nil
}

func TestReleaseOfAGroup(t *testing.T) {
	scenario(t, "VMs and members stay as they are, nothing is done for the group any more, also after a restart", two, func(r *rig) {
		var c calls
		r.awaitServing("web-1 web-2")
		before := pool(r)
		c.watch(r)
		plan := r.release(false)
		if len(plan.Instances) != 2 || plan.Activity != "" || plan.Before != nil || !plan.Address(plan.Instances[0]).IsValid() {
			t.Errorf("the plan: %+v", plan)
		}
		r.passes(10*time.Second, "web-1 web-2")
		if got := c.harmful(); len(got) != 0 || marked(r) != 2 {
			t.Errorf("asking what it would do did %q, %d marked", got, marked(r))
		}

		if plan = r.release(true); plan.Activity == "" {
			t.Errorf("nothing begun: %+v", plan)
		}
		r.awaitReleased()
		if diff := cmp.Diff([]string{"let_go web-1", "let_go web-2"}, slices.DeleteFunc(slices.Clone(c.all), func(s string) bool { return strings.HasPrefix(s, "apply") })); diff != "" {
			t.Errorf("calls (-want +got)\n%s", diff)
		}
		for _, l := range r.view().State.LetGo {
			if !slices.ContainsFunc(plan.Instances, func(i scaling.InstanceView) bool {
				return i.ID == l.ID && i.Address == l.Address && l.Address.IsValid()
			}) {
				t.Errorf("it is not known where %s serves: %+v", l.Name, l)
			}
		}
		for range 2 { // the second time after a restart
			time.Sleep(time.Second) // for what was under way
			applied := c.applied()
			r.post(scaling.High, true)
			r.passes(10*time.Minute, "")
			if got := c.harmful(); len(got) != 0 || marked(r) != 0 || pool(r) != before {
				t.Errorf("%q, %d marked, pool %s, want %s", got, marked(r), pool(r), before)
			}
			if n := c.applied() - applied; n > 0 {
				t.Errorf("the pool was applied %d times", n)
			}
			if v := r.view(); len(v.Instances) != 0 || v.State.Owned() != 0 || !strings.Contains(v.Verdict.Reason, "let go by ops") || len(v.Problems) != 0 {
				t.Errorf("%d instances known, verdict %q, problems %q", len(v.Instances), v.Verdict.Reason, v.Problems)
			}
			if again := r.release(true); again.Before == nil || again.Activity != "" {
				t.Errorf("let go again: %+v", again)
			}
			for what, err := range map[string]error{
				"order":   r.ordered(),
				"standby": r.eng.Standby(context.Background(), "web", "web-1", true, "ops"),
			} {
				if !errors.Is(err, scaling.ErrRefused) || !strings.Contains(err.Error(), "was let go by ops") {
					t.Errorf("%s: %v", what, err)
				}
			}
			r.halt()
			r.start()
			r.await("it is listed", func() bool { return !r.view().ProviderSeen.IsZero() })
		}
		all := r.activities()
		if got := all[len(all)-1]; got != "release manual done" {
			t.Errorf("the newest activity: %s", got)
		}
	})
	scenario(t, "a resumed group begins anew beside what it let go, and adopts under the old name of the member", two, func(r *rig) {
		var c calls
		r.awaitServing("web-1 web-2")
		before := pool(r)
		id := r.view().Instances[0].ID
		r.release(true)
		r.awaitReleased()
		c.watch(r)
		r.group.Adopt = []string{"web-1"}
		served := &onlooker{Balancer: r.world.Pool("web"), id: id}
		if err := r.eng.Reload(context.Background(), []engine.GroupConfig{{Group: r.group, Provider: r.prov, Balancer: served}}); err != nil {
			t.Fatal(err)
		}
		r.passes(time.Minute, "")
		if err := r.eng.Resume(context.Background(), "web", "ops"); err != nil {
			t.Fatal(err)
		}
		r.awaitServing("web-1 web-3")
		for _, i := range r.view().Instances {
			if i.Name == "web-1" && i.ID != id {
				t.Errorf("adopted as %s, its member is %s", i.ID, id)
			}
		}
		time.Sleep(time.Minute)
		if served.applied.Load() == 0 || served.other.Load() > 0 {
			t.Errorf("the member was wished otherwise than serving %d of %d times", served.other.Load(), served.applied.Load())
		}
		after := pool(r)
		for member := range strings.SplitSeq(before, ", ") {
			if !strings.Contains(after, member) {
				t.Errorf("member %s is gone: %s", member, after)
			}
		}
		if len(strings.Split(after, ", ")) != 3 {
			t.Errorf("members: %s", after)
		}
		got := c.harmful()
		slices.Sort(got)
		if diff := cmp.Diff([]string{"adopt web-1", "create web-3"}, got); diff != "" {
			t.Errorf("calls (-want +got)\n%s", diff)
		}
	})
	for _, tt := range []struct {
		name  string
		fault string // of the balancer; empty: the VM has no address
	}{
		{"is out of reach", "before"},
		{"takes nothing", "joined"},
		{"is well and the VM has no address", ""},
	} {
		name := "a member that was let go serves on while its VM cannot be adopted again, since the balancer " + tt.name
		scenario(t, name, two, func(r *rig) {
			r.awaitServing("web-1 web-2")
			before, id := pool(r), r.id("web-1")
			r.release(true)
			r.awaitReleased()
			r.group.Min, r.group.Adopt = 1, []string{"web-1"}
			served := &onlooker{Balancer: r.world.Pool("web"), id: id}
			p := &homeless{Provider: r.prov}
			p.on.Store(tt.fault == "")
			if err := r.eng.Reload(context.Background(), []engine.GroupConfig{{Group: r.group, Provider: p, Balancer: served}}); err != nil {
				t.Fatal(err)
			}
			if err := r.eng.Resume(context.Background(), "web", "ops"); err != nil {
				t.Fatal(err)
			}
			r.await("a launch", func() bool { return len(r.view().Instances) == 1 })
			var c calls
			c.watch(r)
			if tt.fault != "" {
				c.failing(func(at string, _ scaling.Ref) error {
					if at == "apply."+tt.fault || at == "observe."+tt.fault {
						return scaling.Errorf(scaling.Temporary, "no such socket")
					}
					return nil
				})
			}
			r.await("it is given up", func() bool {
				return slices.ContainsFunc(r.activities(), func(a string) bool { return strings.HasPrefix(a, "adopt") && strings.HasSuffix(a, "undone") })
			})
			if st := r.view().State; !st.IsLetGo(id) {
				t.Error("after the try it is not noted as let go")
			}
			c.failing(nil)
			time.Sleep(3 * time.Second) // the pool is wished anew, and the next try waits
			if got := pool(r); got != before {
				t.Errorf("pool %s, want %s", got, before)
			}
			p.on.Store(false)
			r.awaitServing("web-1 web-3") // the group filled up to min meanwhile
			time.Sleep(time.Minute)
			if got := r.id("web-1"); got != id {
				t.Errorf("adopted as %s, its member is %s", got, id)
			}
			if st := r.view().State; len(st.LetGo) != 1 || st.LetGo[0].Name != "web-2" {
				t.Errorf("let go: %+v, want web-2 alone", st.LetGo)
			}
			if served.applied.Load() == 0 || served.other.Load() > 0 {
				t.Errorf("the member was wished otherwise than serving %d of %d times", served.other.Load(), served.applied.Load())
			}
			after := pool(r)
			for member := range strings.SplitSeq(before, ", ") {
				if !strings.Contains(after, member) {
					t.Errorf("member %s is gone: %s", member, after)
				}
			}
			if len(strings.Split(after, ", ")) != 3 {
				t.Errorf("members: %s", after)
			}
		})
	}
	scenario(t, "it has not ended while the provider lists a VM of the group", two, func(r *rig) {
		r.awaitServing("web-1 web-2")
		p := &deaf{Provider: r.prov}
		p.on.Store(true)
		if err := r.eng.Reload(context.Background(), []engine.GroupConfig{{Group: r.group, Provider: p, Balancer: r.world.Pool("web")}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		r.release(true)
		time.Sleep(20 * time.Second)
		if v := r.view(); !v.State.Release.Done.IsZero() || !strings.Contains(strings.Join(v.Problems, " "), "still lists web-1") {
			t.Errorf("%+v, problems %q", v.State.Release, v.Problems)
		}
		p.on.Store(false)
		r.awaitReleased()
		if marked(r) != 0 {
			t.Errorf("%d marked", marked(r))
		}
	})
	scenario(t, "a move of the public address that is under way ends before any mark is taken off", func(r *rig) {
		two(r)
		withAddress(r)
	}, func(r *rig) {
		r.awaitServing("web-1 web-2")
		r.await("the public address leads to one", func() bool { return r.leads() != "" })
		other := "web-1"
		if r.leads() == other {
			other = "web-2"
		}
		if err := r.prov.MoveAddress(context.Background(), scaling.Ref{ID: r.id(other), Group: "web", Name: other}); err != nil {
			t.Fatal(err)
		}
		var c calls
		c.watch(r)
		var moving, over atomic.Bool
		c.failing(func(point string, _ scaling.Ref) error {
			switch {
			case point == "move_address.before":
				moving.Store(true)
				time.Sleep(4 * time.Second) // its deadline is 5 s
			case point == "move_address.after":
				over.Store(true)
			case point == "let_go.before" && !over.Load():
				t.Error("a mark is taken off while the address is moved")
			}
			return nil
		})
		r.await("it is brought back", moving.Load)
		r.release(true)
		r.awaitReleased()
		if !over.Load() {
			t.Error("it was not moved")
		}
	})
	scenario(t, "a group that the configuration has no more forgets that it was let go", two, func(r *rig) {
		r.awaitServing("web-1 web-2")
		groups := []engine.GroupConfig{{Group: r.group, Provider: r.prov, Balancer: r.world.Pool("web")}}
		r.release(true)
		r.awaitReleased()
		if err := r.eng.Reload(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		if err := r.eng.Reload(context.Background(), groups); err != nil {
			t.Fatal(err)
		}
		r.awaitServing("web-3 web-4")
	})
	scenario(t, "one that cannot end is ended by force; what keeps its mark is left alone, and let go the next time", two, func(r *rig) {
		r.awaitServing("web-1 web-2")
		before := pool(r)
		var c calls
		c.watch(r)
		c.failing(func(at string, ref scaling.Ref) error {
			if at == "let_go.before" && ref.Name == "web-2" {
				return scaling.Errorf(scaling.Temporary, "no route to host")
			}
			return nil
		})
		r.release(true)
		r.await("one mark is off", func() bool { return marked(r) == 1 })
		if err := r.eng.Resume(context.Background(), "web", "ops"); !errors.Is(err, scaling.ErrRefused) {
			t.Errorf("resumed without force: %v", err)
		}
		r.group.Max = 4
		if err := r.eng.Reload(context.Background(), []engine.GroupConfig{{Group: r.group, Provider: r.prov, Balancer: r.world.Pool("web")}}); err != nil {
			t.Fatal(err)
		}
		if err := r.eng.Retake(context.Background(), "web", "ops"); err != nil {
			t.Fatal(err)
		}
		r.awaitServing("web-3 web-4")
		r.passes(10*time.Minute, "web-3 web-4")
		if marked(r) != 3 {
			t.Errorf("%d marked, want web-2 beside the new ones", marked(r))
		}
		after := pool(r)
		for member := range strings.SplitSeq(before, ", ") {
			if !strings.Contains(after, member) {
				t.Errorf("member %s is gone: %s", member, after)
			}
		}
		all := r.activities()
		if !slices.Contains(all, "release manual failed") {
			t.Errorf("activities: %q", all)
		}
		orphans, err := r.eng.Orphans(context.Background())
		orphans = slices.DeleteFunc(orphans, func(o scaling.Orphan) bool { return o.Status == scaling.OrphanUnmarked })
		if err != nil || len(orphans) != 1 || orphans[0].Name != "web-2" || !strings.Contains(orphans[0].Note, "was let go") {
			t.Errorf("orphans: %+v, %v", orphans, err)
		}
		cleaned, err := r.eng.Cleanup(context.Background(), scaling.Cleanup{IDs: []string{orphans[0].ID}, By: "ops"})
		if err == nil && (len(cleaned) != 1 || cleaned[0].Refused == "") {
			t.Errorf("cleaned up: %+v", cleaned)
		}
		c.failing(nil)
		r.release(true)
		r.awaitReleased()
		if got := c.harmful(); marked(r) != 0 || slices.ContainsFunc(got, func(call string) bool { return strings.HasPrefix(call, "delete") }) {
			t.Errorf("%d marked, %q", marked(r), got)
		}
	})
	scenario(t, "another VM that has the name of one that was let go is adopted under an id of its own", two, func(r *rig) {
		r.awaitServing("web-1 web-2")
		id := r.id("web-1")
		r.release(true)
		r.awaitReleased()
		r.halt()
		db, err := store.Open(context.Background(), r.db, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Change(context.Background(), "web", func(s *scaling.State) error {
			for k := range s.LetGo {
				s.LetGo[k].UUID = "c93b7d10-e4f2-4a81-b65c-18f0a9d2e376"
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		r.group.Adopt = []string{"web-1"}
		r.start()
		r.await("it is listed", func() bool { return !r.view().ProviderSeen.IsZero() })
		if err := r.eng.Resume(context.Background(), "web", "ops"); err != nil {
			t.Fatal(err)
		}
		r.await("web-1 is adopted", func() bool {
			return slices.ContainsFunc(r.view().Instances, func(i scaling.InstanceView) bool { return i.Name == "web-1" && i.State == scaling.StateInService })
		})
		if got := r.id("web-1"); got == id {
			t.Errorf("adopted as %s, which is another VM's member", got)
		}
	})
	scenario(t, "while something is under way it is refused", two, func(r *rig) {
		r.awaitServing("web-1 web-2")
		r.order(scaling.OrderScaleOut, 1)
		r.await("a launch", func() bool { return len(r.view().Instances) == 3 })
		for _, sure := range []bool{false, true} {
			_, err := r.eng.Release(context.Background(), "web", sure, "ops")
			if !errors.Is(err, scaling.ErrRefused) || !strings.Contains(err.Error(), "wait until nothing is under way") {
				t.Errorf("got %v", err)
			}
		}
		r.awaitServing("web-1 web-2 web-3")
	})
	scenario(t, "VMs with the group's mark that it does not know are let go too, and their members stay", two, func(r *rig) {
		r.awaitServing("web-1 web-2")
		before := pool(r)
		ids := map[string]bool{}
		r.halt()
		db, err := store.Open(context.Background(), r.db, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Change(context.Background(), "web", func(s *scaling.State) error {
			for k := range s.Instances {
				ids[s.Instances[k].ID] = true
				s.Instances[k].State = scaling.StateGone
			}
			s.Desired, s.Primary = 2, ""
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := db.Change(context.Background(), "web", func(s *scaling.State) error {
			s.Instances = nil
			s.Pause = &scaling.Pause{Out: true, In: true, By: scaling.Self, Reason: "the store was lost", At: time.Now()}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		r.start()
		r.await("they are unknown", func() bool { return len(r.view().Problems) > 0 })
		if plan := r.release(true); len(plan.Instances) != 0 || len(plan.Unknown) != 2 {
			t.Errorf("the plan: %+v", plan)
		}
		r.awaitReleased()
		r.passes(time.Minute, "")
		if marked(r) != 0 || pool(r) != before {
			t.Errorf("%d marked, pool %s, want %s", marked(r), pool(r), before)
		}
		if got := r.view().State.LetGo; len(got) != 2 || !ids[got[0].ID] || !ids[got[1].ID] {
			t.Errorf("let go: %+v", got)
		}
	})
}

// TestAReleaseSurvivesFaults: whatever call fails, hangs or is the last before the end
// of the process, running again finishes, and nothing is deleted, stopped or moved.
func TestAReleaseSurvivesFaults(t *testing.T) {
	for _, point := range []string{"let_go.before", "let_go.after", "list.before", "list.after"} {
		for _, victim := range []string{"web-1", "web-2"} {
			for _, restart := range []bool{false, true} {
				name := fmt.Sprintf("%s of %s, restart %t", point, victim, restart)
				scenario(t, name, two, func(r *rig) {
					var c calls
					r.awaitServing("web-1 web-2")
					before := pool(r)
					c.watch(r)
					c.failing(func(at string, ref scaling.Ref) error {
						if at == point && (ref.Name == victim || strings.HasPrefix(point, "list")) {
							return scaling.Errorf(scaling.Temporary, "connection reset")
						}
						return nil
					})
					r.release(true)
					time.Sleep(20 * time.Second)
					synctest.Wait()
					v := r.view()
					if v.State.Release == nil || !v.State.Release.Done.IsZero() || !strings.Contains(strings.Join(v.Problems, " "), "connection reset") {
						t.Errorf("while it fails: %+v, problems %q", v.State.Release, v.Problems)
					}
					if err := r.eng.Resume(context.Background(), "web", "ops"); !errors.Is(err, scaling.ErrRefused) {
						t.Errorf("resumed half-way: %v", err)
					}
					if restart {
						r.halt()
						r.start()
						time.Sleep(20 * time.Second)
					}
					c.failing(nil)
					r.awaitReleased()
					r.passes(time.Minute, "")
					if got := c.harmful(); len(got) != 0 || marked(r) != 0 || pool(r) != before {
						t.Errorf("%q, %d marked, pool %s, want %s", got, marked(r), pool(r), before)
					}
				})
			}
		}
	}
}
