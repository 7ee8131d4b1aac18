package scaling_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/scaling"
)

func TestEffects(t *testing.T) {
	base := scaling.Group{
		Name: "web", Mode: scaling.ModeFull, Min: 1, Max: 4, High: 0.7, Low: 0.2, Cooldown: time.Minute, Victim: scaling.VictimNewest,
		OnRemove: scaling.OnRemoveKeep, NamePattern: "web-{n}", Provider: "kvm", Balancer: "edge", Port: 80, Pool: "p1", Template: "t1", Place: "here",
	}
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	serving := func(n int) *scaling.State {
		s := &scaling.State{Group: "web", Desired: n, Provider: "kvm", Balancer: "edge"}
		for k := range n {
			s.Instances = append(s.Instances, scaling.Instance{
				ID: string(rune('a' + k)), Name: base.VMName(k + 1), Number: k + 1, State: scaling.StateInService, InServiceAt: at.Add(time.Duration(k) * time.Minute),
			})
		}
		return s
	}
	with := func(change func(*scaling.Group)) []scaling.Group {
		g := base
		change(&g)
		return []scaling.Group{g}
	}
	was := []scaling.Group{base}
	paused := serving(1)
	paused.Pause = &scaling.Pause{Out: true, In: true}
	letGo := &scaling.State{Group: "web", Release: &scaling.Release{By: "ops", At: at, Done: at}}
	protected := serving(4)
	protected.Instances[3].Protected = true
	protected.Instances[2].Protected = true
	protected.Instances[1].Protected = true
	unwell := serving(4)
	unwell.Instances[0].Suspect = "its checks fail"
	adopted := serving(2)
	adopted.Instances[0].Adopted, adopted.Instances[0].Name, adopted.AdoptedNames = true, "vm-test", []string{"vm-test"}
	gone := serving(2)
	gone.Instances[1].State = scaling.StateGone
	gone.Desired = 1
	busy := serving(2)
	busy.Open = []scaling.Activity{{Kind: scaling.ActivityScaleOut, Status: scaling.ActivityRunning}, {Kind: scaling.ActivityFill, Status: scaling.ActivityDone}}

	for _, tt := range []struct {
		name      string
		old, next []scaling.Group
		state     *scaling.State
		want      []string
	}{
		{"nothing changes", was, was, serving(2), nil},
		{"what the group is about to do anyway is no effect", was, was, serving(0), nil},
		{"a group that was released acts once it is resumed", was, with(func(g *scaling.Group) { g.Min = 2 }), letGo, []string{
			"launch: min 1 → 2: launches 2 to fill it up to 2, once it is resumed",
		}},
		{"a new group that acts is filled up", nil, with(func(g *scaling.Group) { g.Min = 2 }), nil, []string{
			"added: new group; it launches and removes by itself", "launch: launches 2 to fill it up to 2",
		}},
		{"a new group that observes touches nothing", nil, with(func(g *scaling.Group) { g.Mode, g.Adopt = scaling.ModeObserve, []string{"vm-test"} }), nil, []string{
			"added: new group; it observes and touches nothing",
		}},
		{"a new group adopts first, and that counts", nil, with(func(g *scaling.Group) { g.Adopt = []string{"vm-test"} }), nil, []string{
			"added: new group; it launches and removes by itself", "adopt: adopts vm-test as a baseline",
		}},
		{"a group that is back goes on with what the store knows", nil, was, serving(2), []string{
			"added: new group, and the store knows it: it goes on with 2 VMs (web-1, web-2); it launches and removes by itself",
		}},
		{"a group that is taken out is released", was, nil, serving(2), []string{
			"released: released: 2 VMs (web-1, web-2) and their members stay as they are",
		}},
		{"a released group with one VM", was, nil, gone, []string{"released: released: 1 VM (web-1) and its member stay as they are"}},
		{"a released group without VMs", was, nil, nil, []string{"released: released: it has no VMs"}},
		{"what is under way in a released group stops where it is", was, nil, busy, []string{
			"released: released: 2 VMs (web-1, web-2) and their members stay as they are; what is under way stops where it is, and goes on if this is taken back: scale_out",
		}},
		{"a group that looks renamed does not take its VMs along", was, with(func(g *scaling.Group) { g.Name, g.NamePattern = "www", "www-{n}" }), serving(2), []string{
			"www added: new group; it launches and removes by itself", "www launch: launches 1 to fill it up to 1",
			"www renamed: looks like web under another name: the VMs of web do not follow, they are released and stay in the pool",
			"released: released: 2 VMs (web-1, web-2) and their members stay as they are",
		}},
		{"a group with another pool does not look renamed", was, with(func(g *scaling.Group) { g.Name, g.Pool, g.Min = "api", "p2", 0 }), nil, []string{
			"api added: new group; it launches and removes by itself", "released: released: it has no VMs",
		}},
		{"max lowered below what there is drains the newest, one at a time", was, with(func(g *scaling.Group) { g.Max = 2 }), serving(4), []string{
			"remove: max 4 → 2: drains and removes 2, one at a time: web-4, then web-3",
		}},
		{"or the oldest", with(func(g *scaling.Group) { g.Victim = scaling.VictimOldest }), with(func(g *scaling.Group) { g.Victim, g.Max = scaling.VictimOldest, 2 }), serving(4), []string{
			"remove: max 4 → 2: drains and removes 2, one at a time: web-1, then web-2",
		}},
		{"or the least busy, whom nobody knows yet", with(func(g *scaling.Group) { g.Victim = scaling.VictimLeastBusy }), with(func(g *scaling.Group) { g.Victim, g.Max = scaling.VictimLeastBusy, 2 }), serving(4), []string{
			"remove: max 4 → 2: drains and removes 2, one at a time; by policy least_busy",
		}},
		{"the unwell goes first", was, with(func(g *scaling.Group) { g.Max = 3 }), unwell, []string{"remove: max 4 → 3: drains and removes 1, one at a time: web-1"}},
		{"the protected never go", was, with(func(g *scaling.Group) { g.Max = 2 }), protected, []string{
			"remove: max 4 → 2: drains and removes 2, one at a time; only 1 in service may go, 3 protected: web-1",
		}},
		{"a lowered max removes nothing in a group that only scales out", with(func(g *scaling.Group) { g.Mode = scaling.ModeScaleOutOnly }), with(func(g *scaling.Group) { g.Mode, g.Max = scaling.ModeScaleOutOnly, 2 }), serving(4), []string{
			"bounds: max 4 → 2: 2 more than max, and nothing is removed in mode scale_out_only",
		}},
		{"nor in one that observes", with(func(g *scaling.Group) { g.Mode = scaling.ModeObserve }), with(func(g *scaling.Group) { g.Mode, g.Max = scaling.ModeObserve, 2 }), serving(4), []string{
			"bounds: max 4 → 2: 2 more than max, and nothing is removed, since it observes",
		}},
		{"a max that is lowered and not reached changes nothing now", was, with(func(g *scaling.Group) { g.Max = 3 }), serving(2), []string{"bounds: max 4 → 3: it has 2 and may have 1 to 3"}},
		{"min raised launches", was, with(func(g *scaling.Group) { g.Min = 3 }), serving(1), []string{"launch: min 1 → 3: launches 2 to fill it up to 3"}},
		{"min raised in a paused group launches later", was, with(func(g *scaling.Group) { g.Min = 3 }), paused, []string{"launch: min 1 → 3: launches 2 to fill it up to 3, once it is resumed"}},
		{"min lowered removes nothing by itself", with(func(g *scaling.Group) { g.Min = 2 }), was, serving(2), []string{"bounds: min 2 → 1: it has 2 and may have 1 to 4"}},
		{"from observe to full it begins to act", with(func(g *scaling.Group) { g.Mode = scaling.ModeObserve }), with(func(g *scaling.Group) { g.Adopt = []string{"vm-test"}; g.Min = 2 }), nil, []string{
			"mode: mode observe → full: it launches and removes by itself from now on",
			"adopt: adopts vm-test as a baseline", "launch: min 1 → 2: launches 1 to fill it up to 2",
		}},
		{"from observe to full with more than max removes", with(func(g *scaling.Group) { g.Mode, g.Max = scaling.ModeObserve, 2 }), with(func(g *scaling.Group) { g.Max = 2 }), serving(3), []string{
			"mode: mode observe → full: it launches and removes by itself from now on", "remove: drains and removes 1, one at a time: web-3",
		}},
		{"from full to observe it stops in the middle", was, with(func(g *scaling.Group) { g.Mode = scaling.ModeObserve }), busy, []string{
			"mode: mode full → observe: it observes and touches nothing from now on; what is under way stops where it is, and goes on if this is taken back: scale_out",
		}},
		{"from full to scale_out_only", was, with(func(g *scaling.Group) { g.Mode = scaling.ModeScaleOutOnly }), serving(1), []string{
			"mode: mode full → scale_out_only: it launches by itself and removes nothing by itself from now on",
		}},
		{"another provider while VMs are at the old one", was, with(func(g *scaling.Group) { g.Provider, g.Min = "kvm2", 3 }), serving(2), []string{
			"placement: provider kvm → kvm2: what it has (web-1, web-2) stays at kvm, and the group does nothing at all until the configuration says kvm again",
		}},
		{"another provider without VMs", was, with(func(g *scaling.Group) { g.Provider = "kvm2" }), nil, []string{"placement: provider kvm → kvm2: it has no VMs and begins there"}},
		{"another balancer while members are at the old one", was, with(func(g *scaling.Group) { g.Balancer = "lb" }), serving(1), []string{
			"placement: balancer edge → lb: what it has (web-1) stays at edge, and the group does nothing at all until the configuration says edge again",
		}},
		{"a provider that leads elsewhere under its old name", was, with(func(g *scaling.Group) { g.Place = "there" }), serving(1), []string{
			"placement: provider kvm leads to another place: what it has (web-1) is at the old one, and the group does nothing at all until it is found here or the configuration leads there again",
		}},
		{"another pool of the same balancer", was, with(func(g *scaling.Group) { g.Pool = "p2" }), serving(1), []string{
			"placement: pool changed: what it has (web-1) joins the pool as it is configured now; if that is another one, the members in the old one stay there until somebody takes them out",
		}},
		{"another port", was, with(func(g *scaling.Group) { g.Port = 8080 }), serving(1), []string{
			"placement: port 80 → 8080: its members (web-1) leave the pool and join it again at the new port; their sessions may be cut",
		}},
		{"another template is for new VMs only", was, with(func(g *scaling.Group) { g.Template = "t2" }), serving(1), []string{
			"template: template changed: of new VMs only; what it has (web-1) stays as it is",
		}},
		{"another name is for new VMs only", was, with(func(g *scaling.Group) { g.NamePattern = "w{n}" }), serving(1), []string{"template: name web-{n} → w{n}: of new VMs only"}},
		{"a baseline more is adopted, one less stays", with(func(g *scaling.Group) { g.Adopt = []string{"vm-test"} }), with(func(g *scaling.Group) { g.Adopt = []string{"vm-2"} }), adopted, []string{
			"adopt: adopts vm-2 as a baseline", "adopt: vm-test: adopted no more; what was adopted stays in the group",
		}},
		{"on_remove delete is said of those whom it concerns", was, with(func(g *scaling.Group) { g.OnRemove = scaling.OnRemoveDelete }), adopted, []string{
			"remove: on_remove keep → delete: an adopted VM that leaves is deleted with its disks; that is now true of vm-test",
		}},
		{"on_remove keep again", with(func(g *scaling.Group) { g.OnRemove = scaling.OnRemoveDelete }), was, nil, []string{
			"remove: on_remove delete → keep: an adopted VM that leaves is shut down and kept",
		}},
		{"thresholds and times are listed", was, with(func(g *scaling.Group) {
			g.High, g.Cooldown, g.RemovalsPerHour, g.Snapshot, g.Confirm = 0.805, 2*time.Minute, 5, true, []string{"prometheus"}
		}), serving(1), []string{
			"settings: high 70 % → 80.5 %, cooldown 1m0s → 2m0s, removals_per_hour 0 → 5, snapshot false → true, confirm [] → [prometheus]: from the next decision on",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			states := map[string]*scaling.State{}
			if tt.state != nil {
				states["web"] = tt.state
			}
			var got []string
			for _, e := range scaling.Effects(tt.old, tt.next, states) {
				line := string(e.Kind) + ": " + e.Text
				if e.Group != "web" {
					line = e.Group + " " + line
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
		})
	}
}
