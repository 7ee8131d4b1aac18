package top

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

// staged is a model on a terminal of 80×24 that has had an answer.
func staged(f *fake, groups ...api.Group) *Model {
	m := clocked(f, nil)
	size(m, 80, 24)
	m.Update(answerMsg{at: noon, groups: groups})
	return m
}

// settled runs the command and gives the model what it brings.
func settled(t *testing.T, m *Model, cmd tea.Cmd) {
	t.Helper()
	if cmd == nil {
		t.Fatal("nothing is sent")
	}
	m.Update(cmd())
}

// said is the frame in one line.
func said(m *Model) string { return strings.Join(strings.Fields(text(m)), " ") }

func TestOrdersAreConfirmedAndNamed(t *testing.T) {
	held := quiet("api", 0.1)
	held.HoldUntil = in(time.Hour)
	letGo := quiet("old", 0.1)
	letGo.Release = &api.Release{By: "ops", At: noon}
	for _, tt := range []struct {
		name   string
		groups []api.Group
		keys   []string
		asks   string
		sends  string
		says   string
	}{
		{"out", []api.Group{web(0.5)}, []string{"+"}, "Scale out web: launch 1 more VM (desired 4 to 5, max 5)? y/n", `scale-out web 1 "" key-1`, "web: will do it (order o-1)"},
		{"in, the selected instance", []api.Group{web(0.5)}, []string{"down", "-"}, "Scale in web: drain and remove web-2 (desired 4 to 3, min 1)? y/n", `scale-in web 1 "web/web-2" key-1`, "will do it"},
		{"in, by the policy", []api.Group{quiet("api", 0.1), web(0.5)}, []string{"j", "-"}, "drain and remove 1 VM, chosen by the policy newest", `scale-in web 1 "" key-1`, "will do it"},
		{"pause", []api.Group{web(0.5)}, []string{"p"}, "Pause web: no automatic step begins until it is resumed? y/n", "pause web both", "web is paused"},
		{"resume", []api.Group{held}, []string{"p"}, "Resume api: end its pause and hold", "resume api", "api is resumed"},
		{"resume what was let go", []api.Group{letGo}, []string{"p"}, "Resume old, which was let go: it begins anew and is filled up to min 1 with new VMs? y/n", "resume old", "old is resumed"},
		{"hand over the primary", []api.Group{quiet("api", 0.1), web(0.5)}, []string{"j", "h"}, "in the place of web-1, the primary,", `handover web 0 "" key-1`, "will do it"},
		{"hand over the selected instance", []api.Group{web(0.5)}, []string{"j", "j", "h"}, "in the place of web-3 then drain and remove it?", `handover web 0 "web/web-3" key-1`, "will do it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := &fake{}
			m := staged(f, tt.groups...)
			if cmd := press(m, tt.keys...); cmd != nil {
				t.Error("something is sent before it is confirmed")
			}
			if !strings.Contains(said(m), tt.asks) {
				t.Errorf("does not ask %q:\n%s", tt.asks, text(m))
			}
			checkSize(t, m)
			// What is asked for does not change with what is shown.
			m.Update(answerMsg{at: noon, groups: []api.Group{quiet("other", 0)}})
			settled(t, m, press(m, "x", "y"))
			if diff := cmp.Diff([]string{tt.sends}, f.calls); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if !strings.Contains(said(m), tt.says) {
				t.Errorf("does not say %q:\n%s", tt.says, text(m))
			}
		})
	}
}

func TestAnOrderThatIsNotConfirmedIsNotSent(t *testing.T) {
	for _, key := range []string{"n", "N", "esc"} {
		f := &fake{}
		m := staged(f, web(0.5))
		if cmd := press(m, "+", key); cmd != nil || len(f.calls) > 0 {
			t.Errorf("%s: calls %q", key, f.calls)
		}
		if cmd := press(m, "y"); cmd != nil || !strings.Contains(said(m), "web") {
			t.Errorf("y after %s sends", key)
		}
	}
	empty := clocked(&fake{}, nil)
	size(empty, 80, 24)
	if press(empty, "+", "y") != nil || !strings.Contains(said(empty), "y") {
		t.Error("an order to no group is sent")
	}
}

func TestRefusalsAreExplained(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&client.Error{Code: 403, Type: api.ErrorForbidden, Reason: "a token of the role operator is needed"}, "refused: a token of the role operator is needed. Orders need the token of an operator: start top with --token-file FILE"},
		{&client.Error{Code: 401, Type: api.ErrorUnauthorized, Reason: "no token"}, "--token-file"},
		{&client.Error{Code: 409, Type: api.ErrorRefused, Reason: "5 and 1 more are over max 5"}, "refused: 5 and 1 more are over max 5"},
		{&client.Error{Code: 503, Type: api.ErrorUnavailable, Reason: "the store is busy"}, "not taken: the store is busy; try again"},
		{&client.Error{Code: 404, Type: api.ErrorNotFound, Reason: "no such group"}, "not taken: no such group (not_found)"},
		{errors.New("token: file is empty"), "token: file is empty"},
	} {
		m := staged(&fake{err: tt.err}, web(0.5))
		settled(t, m, press(m, "+", "y"))
		if !strings.Contains(said(m), tt.want) {
			t.Errorf("%v: does not say %q:\n%s", tt.err, tt.want, text(m))
		}
		if m.confirm != nil {
			t.Errorf("%v: asks again", tt.err)
		}
	}
}

func TestAnOrderWithoutAnAnswerIsSentAgainUnderItsKey(t *testing.T) {
	for _, err := range []error{fmt.Errorf("%w: EOF", client.ErrUnreachable), context.DeadlineExceeded} {
		f := &fake{err: err}
		m := staged(f, web(0.5))
		settled(t, m, press(m, "+", "y"))
		for _, want := range []string{"whether it was taken is not known", "never carried out twice", "Scale out web"} {
			if !strings.Contains(said(m), want) {
				t.Errorf("%v: does not say %q:\n%s", err, want, text(m))
			}
		}
		f.err = nil
		settled(t, m, press(m, "y"))
		want := []string{`scale-out web 1 "" key-1`, `scale-out web 1 "" key-1`}
		if diff := cmp.Diff(want, f.calls); diff != "" {
			t.Errorf("%v: calls (-want +got):\n%s", err, diff)
		}
		// The next order is another one.
		settled(t, m, press(m, "+", "y"))
		if got := f.calls[2]; got != `scale-out web 1 "" key-2` {
			t.Errorf("the next order is %s", got)
		}
	}
}

func TestOneOrderAtATime(t *testing.T) {
	f := &fake{}
	m := staged(f, web(0.5))
	first := press(m, "+", "y")
	if press(m, "-"); !strings.Contains(said(m), "has not been answered yet") {
		t.Errorf("a second order is taken:\n%s", text(m))
	}
	if press(m, "y") != nil {
		t.Error("a second order is sent")
	}
	// Leaving waits for the answer, unless asked twice.
	if cmd := press(m, "q"); cmd != nil || !strings.Contains(said(m), "once more to leave without it") {
		t.Error("it leaves in the middle of an order")
	}
	if _, cmd := m.Update(first()); !quits(cmd) {
		t.Error("it stays when the answer is there")
	}
	m = staged(f, web(0.5))
	press(m, "+", "y", "q")
	if !quits(press(m, "q")) {
		t.Error("it does not leave when asked twice")
	}
}

func quits(cmd tea.Cmd) bool {
	if cmd == nil {
		return false
	}
	_, quit := cmd().(tea.QuitMsg)
	return quit
}

func TestKeys(t *testing.T) {
	m := staged(&fake{}, quiet("api", 0.1), quiet("db", 0.1), web(0.5))
	steps := []struct {
		keys            []string
		group, instance string
		focus           pane
	}{
		{nil, "api", "api/api-1", paneGroups},
		{[]string{"j"}, "db", "db/db-1", paneGroups},
		{[]string{"end"}, "web", "web/web-1", paneGroups},
		{[]string{"down"}, "web", "web/web-1", paneGroups},
		{[]string{"tab", "down", "j"}, "web", "web/web-3", paneInstances},
		{[]string{"up"}, "web", "web/web-2", paneInstances},
		{[]string{"pgdown"}, "web", "web/web-5", paneInstances},
		{[]string{"k"}, "web", "web/web-4", paneInstances},
		{[]string{"/", "w", "e", "b", "-", "3", "enter"}, "web", "web/web-3", paneInstances},
		{[]string{"esc"}, "web", "web/web-3", paneInstances},
		{[]string{"tab", "j", "pgup"}, "web", "web/web-3", paneActivities},
		{[]string{"tab"}, "web", "web/web-3", paneGroups},
		{[]string{"/", "d"}, "db", "db/db-1", paneGroups},
		{[]string{"x", "backspace", "enter"}, "db", "db/db-1", paneGroups},
		{[]string{"/", "esc", "home"}, "api", "api/api-1", paneGroups},
		{[]string{"?", "j", "?"}, "api", "api/api-1", paneGroups},
	}
	for _, s := range steps {
		press(m, s.keys...)
		if m.group != s.group || m.instance != s.instance || m.focus != s.focus {
			t.Fatalf("after %q: group %s, instance %s, list %d; want %s, %s, %d", s.keys, m.group, m.instance, m.focus, s.group, s.instance, s.focus)
		}
	}
	for _, k := range []string{"q", "ctrl+c"} {
		if !quits(press(m, k)) {
			t.Errorf("%s does not quit", k)
		}
	}
	if _, suspends := press(m, "ctrl+z")().(tea.SuspendMsg); !suspends {
		t.Error("ctrl+z does not suspend")
	}
}

// TestTheSelectionStaysOnItsInstance: lists change while a person looks at them.
func TestAnActivityIsNamedAfterAVMThatIsGone(t *testing.T) {
	m := staged(&fake{}, web(0.5))
	size(m, 100, 40)
	g := web(0.5)
	gone := g.Instances[2]
	g.Instances, g.Activities = g.Instances[:2], nil
	m.Update(answerMsg{at: noon, groups: []api.Group{g}, of: "web", recent: []api.Activity{
		{Kind: "scale_in", Status: "done", Remove: gone.ID, Created: in(-time.Minute), Ended: noon},
		{Kind: "scale_in", Status: "done", Remove: "0f3a9bbb-never-seen", Created: in(-time.Hour), Ended: in(-time.Hour)},
	}})
	for _, want := range []string{"scale_in " + gone.Name + " ", "scale_in 0f3a9bbb "} {
		if !strings.Contains(text(m), want) {
			t.Errorf("no %q:\n%s", want, text(m))
		}
	}
}

func TestTheSelectionStaysOnItsInstance(t *testing.T) {
	m := staged(&fake{}, web(0.5))
	press(m, "j", "j")
	g := web(0.5)
	g.Instances = g.Instances[1:]
	m.Update(answerMsg{at: noon, groups: []api.Group{g}})
	if m.instance != "web/web-3" {
		t.Errorf("%s is selected", m.instance)
	}
	g.Instances = g.Instances[2:]
	m.Update(answerMsg{at: noon, groups: []api.Group{g}})
	if m.instance != "web/web-4" {
		t.Errorf("%s is selected", m.instance)
	}
}
