package top

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

var update = flag.Bool("update", false, "write the golden frames, and the one in docs/top.md")

func scene(second int) []api.Group { return []api.Group{quiet("api", 0.1), web(load(second))} }

// many is more than fits: groups, instances, and names of every kind.
func many(int) []api.Group {
	var all []api.Group
	for n := range 40 {
		all = append(all, quiet(fmt.Sprintf("group-%02d", n), 0.3))
	}
	all[7].Instances = nil
	for n := range 60 {
		all[7].Instances = append(all[7].Instances, vm("group-07", fmt.Sprintf("group-07-vm-%02d", n), float64(n)/60))
	}
	all[8].Name, all[8].Instances[0].Name = "商店网页服务", "网页服务器-一号"
	return all
}

func TestFrames(t *testing.T) {
	tests := []struct {
		name          string
		width, height int
		options       func(*Options)
		groups        func(int) []api.Group
		do            func(*Model)
	}{
		{name: "80x24", width: 80, height: 24, do: func(m *Model) { press(m, "j") }},
		{name: "rising", width: 80, height: 24, groups: rising, do: func(m *Model) { press(m, "j", "tab") }},
		{name: "60x20", width: 60, height: 20, do: func(m *Model) { press(m, "j") }},
		{name: "200x60", width: 200, height: 60, do: func(m *Model) { press(m, "j") }},
		{name: "ascii", width: 80, height: 24, options: func(o *Options) { o.ASCII = true }, do: func(m *Model) { press(m, "j") }},
		{name: "one-group", width: 80, height: 24, options: func(o *Options) { o.Group = "web" }, groups: func(s int) []api.Group { return scene(s)[1:] }},
		{name: "help", width: 80, height: 24, do: func(m *Model) { press(m, "?") }},
		{name: "confirm", width: 60, height: 20, do: func(m *Model) { press(m, "j", "tab", "j", "-") }},
		{name: "observed-and-paused", width: 80, height: 24, groups: func(int) []api.Group {
			g := quiet("api", 0.9)
			g.Pause = &api.Pause{Out: true, By: "ops", Reason: "release", Until: in(time.Hour)}
			g.Problems = []string{`provider "kvm" cannot be used: connection refused`}
			g.Instances[0].Suspect, g.Instances[0].SuspectSince = "its checks fail", in(30*time.Second)
			g.HoldUntil, g.BackoffUntil, g.Failures = in(5*time.Minute), in(10*time.Minute), 2
			return []api.Group{g}
		}},
		{name: "no-answer", width: 80, height: 24, do: func(m *Model) {
			m.Update(answerMsg{at: in(70 * time.Second), err: fmt.Errorf("%w: connection refused", client.ErrUnreachable)})
			m.Update(tickMsg{in(72 * time.Second)})
		}},
		{name: "no-reading", width: 80, height: 24, groups: func(int) []api.Group { return []api.Group{quiet("api", -1)} }},
		{name: "many", width: 80, height: 24, groups: many, do: func(m *Model) {
			press(m, "j", "j", "j", "j", "j", "j", "j", "tab", "pgdown", "pgdown", "j")
		}},
		{name: "wide-characters", width: 80, height: 24, groups: many, do: func(m *Model) { press(m, "/", "商", "enter") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := clocked(nil, tt.options)
			size(m, tt.width, tt.height)
			groups := tt.groups
			if groups == nil {
				groups = scene
			}
			watch(m, groups)
			if tt.do != nil {
				tt.do(m)
			}
			checkSize(t, m)
			golden(t, filepath.Join("testdata", tt.name+".txt"), text(m))
		})
	}
}

// TestWhatAGroupDoes has the words for it, and why.
func TestWhatAGroupDoes(t *testing.T) {
	busy := func(kinds ...string) api.Group {
		g := quiet("web", 0.5)
		g.Verdict = api.Verdict{Action: "none", Reason: "no signal stands"}
		for _, k := range kinds {
			g.Activities = append(g.Activities, api.Activity{Kind: k, Cause: api.Cause{Kind: "manual", By: "ops"}})
		}
		return g
	}
	verdict := func(action string, would bool) api.Group {
		g := busy()
		g.Verdict = api.Verdict{Action: action, Would: would, Reason: "launch 1: high stands"}
		return g
	}
	stopped, over, let := busy(), busy(), busy()
	stopped.Pause = &api.Pause{In: true, Out: true}
	over.Pause = &api.Pause{In: true, Out: true, Until: noon}
	let.Release = &api.Release{By: "ops", At: noon}
	for _, tt := range []struct {
		group api.Group
		want  string
	}{
		{busy(), "Stable: no signal stands"},
		{busy("scale_out"), "Scaling up: scale_out for an order by ops; newest verdict: no signal stands"},
		{busy("fill"), "Scaling up: fill for"},
		{busy("handover", "scale_in"), "Scaling down: scale_in for"},
		{busy("scale_in", "scale_out"), "Scaling up and down: scale_out for"},
		{busy("handover"), "Handing over: handover for"},
		{busy("replace"), "Replacing: "},
		{busy("adopt"), "Adopting: "},
		{busy("standby"), "To or from standby: "},
		{busy("cleanup"), "Cleaning up: "},
		{busy("release"), "Releasing: "},
		{verdict("scale_out", false), "Scaling up: launch 1: high stands"},
		{verdict("scale_out", true), "Stable: launch 1: high stands (only observed)"},
		{stopped, "Stable, paused: "},
		{over, "Stable: "},
		{let, "Let go: by ops; nothing is done for it until it is resumed"},
		{api.Group{Name: "web"}, "Stable: no verdict yet"},
	} {
		m := staged(&fake{}, tt.group)
		if got := said(m); !strings.Contains(got, tt.want) {
			t.Errorf("there is no %q:\n%s", tt.want, text(m))
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; go test -update writes it):\n%s", file, diff)
	}
}

func TestEverySizeShowsWhatFits(t *testing.T) {
	m := clocked(nil, nil)
	watch(m, scene)
	press(m, "j", "tab")
	for width := 0; width < 140; width += 7 {
		for height := 0; height < 45; height += 2 {
			size(m, width, height)
			checkSize(t, m)
		}
	}
	// What must be there on a small terminal.
	for _, s := range []struct {
		width, height int
		want          []string
	}{
		{80, 24, []string{"web-1", "web-5", "average CPU", "high 70%", "low 20%", "cooldown", "scale_out web-4", "q quit"}},
		{60, 20, []string{"web-1", "web-3", "1-3 of 5", "average CPU", "high 70%", "low 20%", "cooldown", "scale_in web-5"}},
		{40, 10, []string{"web-1", "Scaling up and down", "average CPU"}},
	} {
		size(m, s.width, s.height)
		for _, want := range s.want {
			if !strings.Contains(text(m), want) {
				t.Errorf("%d×%d shows no %q:\n%s", s.width, s.height, want, text(m))
			}
		}
	}
}

func TestBeforeTheFirstAnswer(t *testing.T) {
	m := clocked(nil, nil)
	size(m, 80, 24)
	for _, step := range []struct {
		msg  any
		want []string
	}{
		{tickMsg{in(time.Second)}, []string{"no data yet", "asking http://127.0.0.1:10070"}},
		{answerMsg{at: in(time.Second), err: client.ErrUnreachable}, []string{"no answer yet, next try in 1s", "is --url (SCALEHOOK_URL) right?"}},
		{
			answerMsg{at: in(time.Second), err: &client.Error{Code: 401, Type: api.ErrorUnauthorized, Reason: "the bearer token is wrong"}},
			[]string{"no data yet, next try in 2s", "is wrong", "--token-file"},
		},
		{answerMsg{at: in(time.Second), err: errors.New("strange")}, []string{"strange"}},
		{answerMsg{at: in(2 * time.Second), groups: []api.Group{}}, []string{"the server has no groups"}},
	} {
		m.Update(step.msg)
		got := strings.Join(strings.Fields(text(m)), " ")
		for _, want := range step.want {
			if !strings.Contains(got, want) {
				t.Errorf("after %+v there is no %q:\n%s", step.msg, want, text(m))
			}
		}
	}
	one := clocked(nil, func(o *Options) { o.Group = "web" })
	size(one, 80, 24)
	one.Update(answerMsg{at: noon, err: &client.Error{Code: 404, Type: api.ErrorNotFound, Reason: "no such group: web"}})
	if !strings.Contains(text(one), "no such group: web (not_found)") {
		t.Error(text(one))
	}
}
