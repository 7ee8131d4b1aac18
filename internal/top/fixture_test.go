package top

import (
	"context"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/scalehook/scalehook/internal/api"
)

// noon is when the fixtures' programs begin.
var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func in(d time.Duration) time.Time { return noon.Add(d) }

// vm is an instance in service with a reading; a negative one for none.
func vm(group, name string, cpu float64) api.Instance {
	i := api.Instance{
		ID: group + "/" + name, Group: group, Name: name, State: "in_service", Since: in(-2 * time.Hour), Power: "unknown", Warm: true,
		Address: "192.0.2.7", InServiceAt: in(-2 * time.Hour), Member: &api.Member{State: "ready", Health: "up", Sessions: 12},
	}
	if cpu >= 0 {
		i.Reading = &api.Reading{Utilization: cpu, At: noon}
	}
	return i
}

func settings() api.Settings {
	return api.Settings{
		Min: 1, Max: 5, High: 0.7, Low: 0.2, HighHold: api.Duration(time.Minute), Settle: api.Duration(30 * time.Second),
		WarmUp: api.Duration(time.Minute), Grace: api.Duration(5 * time.Minute), Victim: "newest",
	}
}

// web is a group in the middle of a scale-out: one VM above high, one between, one
// below, one that joins and one that drains.
func web(cpu float64) api.Group {
	joining := vm("web", "web-4", -1)
	joining.State, joining.Since, joining.Deadline, joining.Warm = "joining", in(58*time.Second), in(5*time.Minute), false
	joining.Member = &api.Member{State: "joining", Health: "down", Sessions: 0}
	draining := vm("web", "web-5", 0.05)
	draining.State, draining.Since, draining.Deadline = "draining", in(40*time.Second), in(2*time.Minute+40*time.Second)
	draining.Member.State, draining.Member.Sessions = "draining", 3
	first := vm("web", "web-1", cpu)
	first.Primary, first.Protected = true, true
	return api.Group{
		Name: "web", Mode: "full", Settings: settings(), Desired: 4, Owned: 5, InService: 3, Primary: first.ID,
		CooldownUntil: in(90 * time.Second), LastActionEnd: in(45 * time.Second), Statuses: []string{}, Problems: []string{},
		Conditions: []api.Condition{
			{Signal: "high", Standing: true, Since: in(20 * time.Second), Expires: in(3 * time.Minute)},
			{Signal: "low"},
		},
		Instances: []api.Instance{first, vm("web", "web-2", 0.45), vm("web", "web-3", 0.1), joining, draining},
		Activities: []api.Activity{
			{
				ID: "a5", Group: "web", Kind: "scale_in", Status: "running", Remove: draining.ID, Created: in(40 * time.Second),
				Cause: api.Cause{Kind: "manual", By: "ops"}, Steps: []api.Step{{Name: "draining", Started: in(40 * time.Second)}},
			},
			{
				ID: "a4", Group: "web", Kind: "scale_out", Status: "running", Launch: joining.ID, Created: in(50 * time.Second),
				Cause: api.Cause{Kind: "alert", Signal: "high", Source: "prometheus"},
				Steps: []api.Step{
					{Name: "requested", Started: in(50 * time.Second), Ended: in(50 * time.Second)},
					{Name: "creating", Started: in(50 * time.Second), Ended: in(52 * time.Second), Tries: 2},
					{Name: "booting", Started: in(52 * time.Second), Ended: in(58 * time.Second)},
					{Name: "joining", Started: in(58 * time.Second)},
				},
			},
		},
		Verdict: api.Verdict{Action: "none", Reason: "high stands, and 1 launch is under way"},
	}
}

// quiet is a group at rest in observe mode.
func quiet(name string, cpu float64) api.Group {
	return api.Group{
		Name: name, Mode: "observe", Settings: settings(), Desired: 1, Owned: 1, InService: 1,
		Statuses: []string{"observe", "at_min"}, Instances: []api.Instance{vm(name, name+"-1", cpu)},
		Verdict: api.Verdict{Action: "scale_out", Would: true, Reason: "would launch 1: high stands"},
	}
}

// rising is a group whose load rises above high, and what it does about it.
func rising(second int) []api.Group {
	v := 0.1 + float64(second)*0.015
	g := web(v)
	g.Instances = g.Instances[:4]
	g.Instances[1].Reading.Utilization, g.Instances[2].Reading.Utilization = 0.9*v, 0.55*v
	g.Activities = g.Activities[1:]
	g.Owned, g.Settings.HighHold = 4, 0
	g.Verdict.Reason = "launches are under way"
	return []api.Group{quiet("api", 0.1), g}
}

func ended() []api.Activity {
	return []api.Activity{
		{
			ID: "a3", Kind: "scale_out", Status: "done", Launch: "web/web-3", Created: in(-time.Hour), Ended: in(-time.Hour + 14*time.Second),
			Cause: api.Cause{Kind: "alert", Signal: "high", Source: "prometheus"}, Outcome: "web-3 is in service",
		},
		{
			ID: "a2", Kind: "scale_out", Status: "undone", Launch: "0f3a9bbb-gone", Created: in(-2 * time.Hour), Ended: in(-2*time.Hour + 5*time.Minute),
			Cause: api.Cause{Kind: "bounds"}, Outcome: "did not boot in 5m0s",
		},
	}
}

// clocked is a model whose clock stands still at noon and whose keys can be told.
func clocked(server Server, change func(*Options)) *Model {
	keys := 0
	opts := Options{
		Server: server, URL: "http://127.0.0.1:10070", Interval: time.Second, Timeout: time.Second, Yellow: 0.3, Color: true,
		Now:    func() time.Time { return noon },
		NewKey: func() string { keys++; return fmt.Sprintf("key-%d", keys) },
	}
	if change != nil {
		change(&opts)
	}
	return New(opts)
}

// load is what web-1 does second by second, for a minute.
func load(second int) float64 { return min(0.95, 0.05+float64(second)*0.016) }

// watch feeds a minute of answers.
func watch(m *Model, groups func(second int) []api.Group) {
	for s := range 61 {
		at := in(time.Duration(s) * time.Second)
		m.Update(tickMsg{at})
		m.Update(answerMsg{at: at, groups: groups(s), of: "web", recent: ended()})
	}
}

func size(m *Model, width, height int) { m.Update(tea.WindowSizeMsg{Width: width, Height: height}) }

// named is the keys' codes by their names.
var named = map[string]rune{
	"tab": tea.KeyTab, "up": tea.KeyUp, "down": tea.KeyDown, "esc": tea.KeyEscape, "enter": tea.KeyEnter, "backspace": tea.KeyBackspace,
	"pgdown": tea.KeyPgDown, "pgup": tea.KeyPgUp, "home": tea.KeyHome, "end": tea.KeyEnd,
}

// press gives the model keys and returns the last one's command.
func press(m *Model, keys ...string) tea.Cmd {
	var cmd tea.Cmd
	for _, k := range keys {
		var msg tea.KeyPressMsg
		if mod, found := strings.CutPrefix(k, "ctrl+"); found {
			msg = tea.KeyPressMsg{Code: rune(mod[0]), Mod: tea.ModCtrl}
		} else if code, found := named[k]; found {
			msg = tea.KeyPressMsg{Code: code}
		} else {
			msg = tea.KeyPressMsg{Code: []rune(k)[0], Text: k}
		}
		_, cmd = m.Update(msg)
	}
	return cmd
}

// text is the frame without its colours.
func text(m *Model) string {
	lines := m.frame()
	for i := range lines {
		lines[i] = strings.TrimRight(ansi.Strip(lines[i]), " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// checkSize fails if a frame is larger than its terminal, however it measures.
func checkSize(t interface {
	Helper()
	Errorf(format string, args ...any)
}, m *Model,
) {
	t.Helper()
	lines := m.frame()
	if len(lines) > max(m.height, 0) {
		t.Errorf("%d lines on a terminal of %d×%d", len(lines), m.width, m.height)
	}
	for _, line := range lines {
		if w, wc := ansi.StringWidth(line), ansi.StringWidthWc(line); w > m.width || wc > m.width {
			t.Errorf("a line is %d or %d wide on a terminal of %d×%d: %q", w, wc, m.width, m.height, line)
		}
	}
}

// fake is a server in memory.
type fake struct {
	groups []api.Group
	err    error
	calls  []string
}

func (f *fake) note(format string, args ...any) {
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
}

func (f *fake) Groups(context.Context) ([]api.Group, error) { f.note("groups"); return f.groups, f.err }

func (f *fake) Group(_ context.Context, group string) (api.Group, error) {
	f.note("group %s", group)
	if f.err != nil {
		return api.Group{}, f.err
	}
	return f.groups[0], nil
}

func (f *fake) Activities(_ context.Context, group, _ string, limit int) ([]api.Activity, error) {
	f.note("activities %s %d", group, limit)
	return ended(), f.err
}

func (f *fake) order(what, group, key string, req api.OrderRequest) (api.OrderResult, error) {
	count := 0
	if req.Count != nil {
		count = *req.Count
	}
	f.note("%s %s %d %q %s", what, group, count, req.Instance, key)
	return api.OrderResult{ID: "o-1", Message: "will do it"}, f.err
}

func (f *fake) ScaleOut(_ context.Context, group, key string, req api.OrderRequest) (api.OrderResult, error) {
	return f.order("scale-out", group, key, req)
}

func (f *fake) ScaleIn(_ context.Context, group, key string, req api.OrderRequest) (api.OrderResult, error) {
	return f.order("scale-in", group, key, req)
}

func (f *fake) Handover(_ context.Context, group, key string, req api.OrderRequest) (api.OrderResult, error) {
	return f.order("handover", group, key, req)
}

func (f *fake) Pause(_ context.Context, group string, req api.PauseRequest) (api.Done, error) {
	f.note("pause %s %s", group, req.Direction)
	return api.Done{Message: group + " is paused"}, f.err
}

func (f *fake) Resume(_ context.Context, group string) (api.Done, error) {
	f.note("resume %s", group)
	return api.Done{Message: group + " is resumed"}, f.err
}
