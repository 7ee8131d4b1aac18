package webhook_test

import (
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// sites makes two groups: web with an instance in every state, db with one and
// without a port.
func sites() *engine {
	e := newEngine()
	web := e.views[0]
	web.ProviderSeen = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	db := web
	first := web.Instances[0]
	web.Instances = nil
	for k, state := range scaling.InstanceStates() {
		i := first
		i.Name, i.State, i.Primary = "web-"+string(state), state, state == scaling.StateInService
		i.Address = netip.AddrFrom4([4]byte{192, 0, 2, byte(k)})
		if state == scaling.StateRequested {
			i.Address = netip.Addr{}
		}
		web.Instances = append(web.Instances, i)
	}
	db.Group.Name, db.Group.Port = "db", 0
	other := first
	other.Name, other.Address = "db-1\xff", netip.MustParseAddr("2001:db8::1")
	db.Instances = []scaling.InstanceView{other}
	e.views = []scaling.GroupView{db, web}
	return e
}

func TestDiscovery(t *testing.T) {
	for _, tt := range []struct {
		name, query string
		want        []string
	}{
		{"all that serve, and that finish what they serve", "", []string{"[2001:db8::1]", "192.0.2.4:80", "192.0.2.6:80"}},
		{"of one group", "?group=web", []string{"192.0.2.4:80", "192.0.2.6:80"}},
		{"of two groups", "?group=web&group=db", []string{"192.0.2.4:80", "192.0.2.6:80", "[2001:db8::1]"}},
		{"at another port", "?port=9100", []string{"[2001:db8::1]:9100", "192.0.2.4:9100", "192.0.2.6:9100"}},
		{"in one state", "?group=web&state=joining", []string{"192.0.2.3:80"}},
		{"in two states", "?group=web&state=joining&state=in_service", []string{"192.0.2.3:80", "192.0.2.4:80"}},
		{"one without an address is none", "?group=web&state=requested", []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := send(t, newServer(t, options(t, sites())), request{method: "GET", path: "/sd/prometheus" + tt.query})
			if kind := w.Header().Get("Content-Type"); w.Code != 200 || kind != "application/json" {
				t.Errorf("answered %d with %s", w.Code, kind)
			}
			var list []api.TargetGroup
			if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
				t.Fatalf("%v: %s", err, w.Body)
			}
			got := []string{}
			for _, g := range list {
				got = append(got, g.Targets...)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("targets (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDiscoveredMembersHaveLabels(t *testing.T) {
	w := send(t, newServer(t, options(t, sites())), request{method: "GET", path: "/sd/prometheus?group=db"})
	want := `[{"targets":["[2001:db8::1]"],"labels":{` +
		`"__meta_scalehook_adopted":"false","__meta_scalehook_group":"db","__meta_scalehook_instance":"0b7c1d9e-0000-4000-8000-000000000001",` +
		`"__meta_scalehook_primary":"true","__meta_scalehook_provider":"kvm","__meta_scalehook_state":"in_service",` +
		`"__meta_scalehook_uuid":"uuid-1","__meta_scalehook_vm":"db-1` + "\uFFFD" + `","__meta_scalehook_warm":"true"}}]` + "\n"
	if diff := cmp.Diff(want, w.Body.String()); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestAnEmptyListIsAListOnlyOnceTheProviderWasListed(t *testing.T) {
	e := sites()
	e.views[0].Instances = nil
	s := newServer(t, options(t, e))
	list := func(query string) (int, string) {
		w := send(t, s, request{method: "GET", path: "/sd/prometheus" + query})
		return w.Code, w.Body.String()
	}
	if code, body := list("?group=db"); code != 200 || body != "[]\n" {
		t.Errorf("listed and empty: answered %d %q", code, body)
	}
	e.views[0].ProviderSeen, e.views[1].ProviderSeen = time.Time{}, time.Time{}
	if code, body := list("?group=db"); code != 503 {
		t.Errorf("not listed and empty: answered %d %q", code, body)
	}
	if code, body := list(""); code != 503 {
		t.Errorf("one of the groups not listed and empty: answered %d %q", code, body)
	}
	if code, body := list("?group=web"); code != 200 {
		t.Errorf("not listed, and the store knows its instances: answered %d %q", code, body)
	}
	e.views = nil
	if code, body := list(""); code != 200 || body != "[]\n" {
		t.Errorf("without a group: answered %d %q", code, body)
	}
}

func TestMembersThatWereLetGoAreDiscovered(t *testing.T) {
	e := sites()
	web := &e.views[1]
	at := web.ProviderSeen
	was := web.Instances
	web.State.LetGo = []scaling.LetGo{
		{ID: was[0].ID, Name: "web-1", UUID: "uuid-1", Address: netip.MustParseAddr("192.0.2.11")},
		{ID: "0b7c1d9e-0000-4000-8000-000000000009", Name: "web-9"}, // was in standby
	}
	s := newServer(t, options(t, e))
	list := func(query string) (out []string) {
		t.Helper()
		w := send(t, s, request{method: "GET", path: "/sd/prometheus" + query})
		var list []api.TargetGroup
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != 200 {
			t.Fatalf("answered %d: %v: %s", w.Code, err, w.Body)
		}
		for _, g := range list {
			out = append(out, g.Targets[0]+" "+g.Labels["__meta_scalehook_vm"]+" "+g.Labels["__meta_scalehook_state"])
		}
		return out
	}
	for _, tt := range []struct {
		name      string
		instances []scaling.InstanceView
		release   *scaling.Release
		seen      time.Time
		query     string
		want      []string
	}{
		{"by a group that is let go", nil, &scaling.Release{By: "ops", At: at, Done: at}, at, "?group=web", []string{"192.0.2.11:80 web-1 let_go"}},
		{"though its provider was not listed since the start", nil, &scaling.Release{By: "ops", At: at, Done: at}, time.Time{}, "?group=web", []string{"192.0.2.11:80 web-1 let_go"}},
		{"in the list of all groups", nil, &scaling.Release{By: "ops", At: at, Done: at}, at, "", []string{"[2001:db8::1] db-1\uFFFD in_service", "192.0.2.11:80 web-1 let_go"}},
		{"by a group that was resumed", nil, nil, at, "?group=web", []string{"192.0.2.11:80 web-1 let_go"}},
		{"not where a state is asked for", nil, nil, at, "?group=web&state=in_service", nil},
		{"once, while the marks are taken off", []scaling.InstanceView{known(was[0], scaling.StateInService)}, &scaling.Release{By: "ops", At: at}, at, "?group=web", []string{"192.0.2.11:80 web-1 in_service"}},
		{"while it is adopted again", []scaling.InstanceView{known(was[0], scaling.StateBooting)}, nil, at, "?group=web", []string{"192.0.2.11:80 web-1 let_go"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			web.Instances, web.State.Release, web.ProviderSeen = tt.instances, tt.release, tt.seen
			if diff := cmp.Diff(tt.want, list(tt.query)); diff != "" {
				t.Errorf("targets (-want +got):\n%s", diff)
			}
		})
	}
}

// known is web-1 in a state.
func known(i scaling.InstanceView, state scaling.InstanceState) scaling.InstanceView {
	i.Name, i.State, i.Address = "web-1", state, netip.MustParseAddr("192.0.2.11")
	return i
}

func TestDiscoveryThatCannotAnswerNeverListsLess(t *testing.T) {
	for _, tt := range []struct {
		name, query string
		err         error
		code        int
	}{
		{"a group that is not configured", "?group=web&group=nope", nil, 404},
		{"a port that is none", "?port=70000", nil, 400},
		{"port 0", "?port=0", nil, 400},
		{"a state that is none", "?state=up", nil, 400},
		{"an engine that does not answer", "", errors.New("planted"), 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := sites()
			e.err = tt.err
			w := send(t, newServer(t, options(t, e)), request{method: "GET", path: "/sd/prometheus" + tt.query})
			if _, reason := errorOf(t, w); w.Code != tt.code {
				t.Errorf("answered %d: %s", w.Code, reason)
			}
		})
	}
}
