package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// leaver stands for the engine's release.
type leaver struct {
	plan scaling.ReleasePlan
	err  error
	told []string
}

func (l *leaver) Release(_ context.Context, group string, sure bool, by string) (scaling.ReleasePlan, error) {
	l.told = append(l.told, fmt.Sprintf("%s %t %s", group, sure, strings.Split(by, "@")[0]))
	return l.plan, l.err
}

func (l *leaver) Retake(_ context.Context, group, by string) error {
	l.told = append(l.told, fmt.Sprintf("retake %s %s", group, strings.Split(by, "@")[0]))
	return l.err
}

func TestRelease(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	first := newEngine().views[0].Instances[0]
	let := scaling.ReleasePlan{
		Instances: []scaling.InstanceView{first, {Instance: scaling.Instance{ID: "i2", Name: "base", State: scaling.StateStandby, Adopted: true, Address: netip.MustParseAddr("192.0.2.12")}}},
		Unknown:   []scaling.VM{{ID: "i3", Name: "stray", UUID: "uuid-3"}}, Port: 80,
	}
	begun := let
	begun.Activity = "a1"
	vms := []api.LetGoVM{
		{ID: first.ID, Name: "web-1", UUID: "uuid-1", State: "in_service", Member: "sh-1", Address: "192.0.2.11:80"},
		{ID: "i2", Name: "base", State: "standby", Adopted: true, Address: "192.0.2.12:80"},
		{ID: "i3", Name: "stray", UUID: "uuid-3"},
	}
	for _, test := range []struct {
		name, token, body string
		plan              scaling.ReleasePlan
		err               error
		code              int
		says              string
		told              string
		want              *api.ReleaseResult
	}{
		{
			"an empty body only asks", operatorToken, `{}`, let, nil, http.StatusOK, "would take the marks off 3 VMs of group web", "web false ops",
			&api.ReleaseResult{VMs: vms},
		},
		{
			"with yes it is begun", operatorToken, `{"yes":true}`, begun, nil, http.StatusAccepted, "activity a1 takes the marks off 3 VMs", "web true ops",
			&api.ReleaseResult{VMs: vms, Activity: "a1"},
		},
		{
			"what is under way is said", operatorToken, `{"yes":true}`,
			scaling.ReleasePlan{Before: &scaling.Release{By: "ops", At: at, Activity: "a1"}},
			nil,
			http.StatusOK, "is being let go: activity a1", "web true ops",
			&api.ReleaseResult{VMs: []api.LetGoVM{}, Before: &api.Release{By: "ops", At: at, Activity: "a1"}},
		},
		{
			"so is what is done", operatorToken, `{}`,
			scaling.ReleasePlan{Before: &scaling.Release{By: "ops", At: at, Done: at, Activity: "a1"}},
			nil,
			http.StatusOK, "no VM carries its mark", "web false ops",
			&api.ReleaseResult{VMs: []api.LetGoVM{}, Before: &api.Release{By: "ops", At: at, Done: at, Activity: "a1"}},
		},
		{
			"a refusal has its reason", operatorToken, `{"yes":true}`, let, fmt.Errorf("%w: web-2 is booting", scaling.ErrRefused),
			http.StatusConflict, "web-2 is booting", "web true ops", nil,
		},
		{"a misspelt field is no order", operatorToken, `{"sure":true}`, let, nil, http.StatusBadRequest, "sure", "", nil},
		{"a token of another group is refused", dbToken, `{"yes":true}`, let, nil, http.StatusForbidden, "db-ops", "", nil},
		{"a token for alerts is refused", alertsToken, `{"yes":true}`, let, nil, http.StatusForbidden, "operator is needed", "", nil},
		{"nobody is refused", "", `{"yes":true}`, let, nil, http.StatusUnauthorized, "token", "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := &leaver{plan: test.plan, err: test.err}
			opts := options(t, newEngine())
			opts.Leaver = l
			w := send(t, newServer(t, opts), request{method: "POST", path: "/api/v1/groups/web/release", token: test.token, body: test.body, remote: "192.0.2.1:1"})
			if w.Code != test.code || !strings.Contains(w.Body.String(), test.says) || strings.Join(l.told, ",") != test.told {
				t.Fatalf("answered %d %s, told %q; want %d, %q and %q", w.Code, w.Body, l.told, test.code, test.says, test.told)
			}
			if test.want == nil {
				return
			}
			got := dataOf[api.ReleaseResult](t, w)
			test.want.Message = got.Message
			if diff := cmp.Diff(*test.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	if w := send(t, newServer(t, options(t, newEngine())), request{method: "POST", path: "/api/v1/groups/web/release", token: operatorToken, body: `{}`}); w.Code != http.StatusNotFound {
		t.Errorf("a server that cannot answered %d", w.Code)
	}
}

func TestAGroupThatWasLetGoSaysSo(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	e := newEngine()
	e.views[0].State.Release = &scaling.Release{By: "ops", At: at, Done: at, Activity: "a1"}
	w := send(t, newServer(t, options(t, e)), request{method: "GET", path: "/api/v1/groups/web"})
	if diff := cmp.Diff(&api.Release{By: "ops", At: at, Done: at, Activity: "a1"}, dataOf[api.Group](t, w).Release); diff != "" {
		t.Error(diff)
	}
}

func TestAReleaseThatCannotEndIsEndedByForce(t *testing.T) {
	for body, want := range map[string]string{`{}`: "", `{"force":false}`: "", `{"force":true}`: "retake web ops"} {
		l := &leaver{}
		e := newEngine()
		opts := options(t, e)
		opts.Leaver = l
		w := send(t, newServer(t, opts), request{method: "POST", path: "/api/v1/groups/web/resume", token: operatorToken, body: body, remote: "192.0.2.1:1"})
		if w.Code != http.StatusOK || strings.Join(l.told, ", ") != want || (len(e.resumed) == 1) != (want == "") {
			t.Errorf("%s: %d, told %q, resumed %q", body, w.Code, l.told, e.resumed)
		}
	}
}
