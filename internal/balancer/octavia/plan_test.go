package octavia

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/scaling"
)

const (
	up      = scaling.HealthUp
	down    = scaling.HealthDown
	unknown = scaling.HealthUnknown

	joining  = scaling.MemberJoining
	ready    = scaling.MemberReady
	draining = scaling.MemberDraining
	leaving  = scaling.MemberLeaving
)

// The kinds of pools: amphora with a monitor and without one, and ovn.
func checked() traits   { return traits{zero: true, checked: true, weight: 5} }
func unchecked() traits { return traits{zero: true, weight: 5} }
func ovn() traits       { return traits{weight: 5} }

// has is a member of instance id at 192.0.2.host:80.
func has(id string, host, weight int, health scaling.Health) found {
	return found{
		uuid: fmt.Sprintf("%s@%d", id, host), id: id, name: "sh-" + id, addr: addr(host),
		weight: weight, up: true, status: active, health: health,
	}
}

func with(f found, change func(*found)) found {
	change(&f)
	return f
}

func foreign(host, weight int) found {
	return found{uuid: fmt.Sprintf("theirs@%d", host), name: "theirs", addr: addr(host), weight: weight, up: true, status: active, health: unknown}
}

func addr(host int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(host)}), 80)
}

func wants(id string, host int, state scaling.MemberState) wished {
	return wished{id: id, name: "web-" + id, server: "sh-" + id, addr: addr(host), state: state}
}

func wishOf(all ...wished) wish {
	out := wish{}
	for _, w := range all {
		out[w.id] = w
	}
	return out
}

func (s step) String() string {
	switch s.kind {
	case add:
		return fmt.Sprintf("add %s@%d weight %d", s.wished.id, s.wished.addr.Addr().As4()[3], s.weight)
	case set:
		return fmt.Sprintf("set %s weight %d", s.member.uuid, s.weight)
	case remove:
	}
	return string(s.kind) + " " + s.member.uuid
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name   string
		traits traits
		have   []found
		want   wish
		steps  []string
		not    []string // members that are not as wished
	}{
		{"a newcomer comes with weight 0", checked(), nil, wishOf(wants("a", 1, joining)), []string{"add a@1 weight 0"}, nil},
		{"a newcomer without checks comes with weight 0 too", unchecked(), nil, wishOf(wants("a", 1, joining)), []string{"add a@1 weight 0"}, nil},
		{"with ovn a newcomer waits outside", ovn(), nil, wishOf(wants("a", 1, joining)), nil, nil},
		{"one that the balancer lost comes back with weight 0", checked(), nil, wishOf(wants("a", 1, ready)), []string{"add a@1 weight 0"}, nil},
		{"one that the balancer lost comes back at once where nobody checks", unchecked(), nil, wishOf(wants("a", 1, ready)), []string{"add a@1 weight 5"}, nil},
		{"with ovn a member comes when it is ready", ovn(), nil, wishOf(wants("a", 1, ready)), []string{"add a@1 weight 5"}, nil},
		{"a checked newcomer gets its weight", checked(), []found{has("a", 1, 0, up)}, wishOf(wants("a", 1, ready)), []string{"set a@1 weight 5"}, nil},
		{"one whose check has not ended does not", checked(), []found{has("a", 1, 0, unknown)}, wishOf(wants("a", 1, ready)), nil, nil},
		{"one whose check failed does not", checked(), []found{has("a", 1, 0, down)}, wishOf(wants("a", 1, ready)), nil, nil},
		{"one without checks gets its weight at once", unchecked(), []found{has("a", 1, 0, unknown)}, wishOf(wants("a", 1, ready)), []string{"set a@1 weight 5"}, nil},
		{
			"what is as wished is left alone", checked(),
			[]found{has("a", 1, 5, up), has("b", 2, 0, up), has("c", 3, 0, up)},
			wishOf(wants("a", 1, ready), wants("b", 2, joining), wants("c", 3, draining)), nil, nil,
		},
		{"one in service whose check fails keeps its weight", checked(), []found{has("a", 1, 5, down)}, wishOf(wants("a", 1, ready)), nil, nil},
		{"another weight is put right", checked(), []found{has("a", 1, 9, down)}, wishOf(wants("a", 1, ready)), []string{"set a@1 weight 5"}, nil},
		{
			"one that was switched off comes back without traffic first", checked(),
			[]found{with(has("a", 1, 5, unknown), func(f *found) { f.up = false })},
			wishOf(wants("a", 1, ready)),
			[]string{"set a@1 weight 0"},
			nil,
		},
		{
			"a drain sets weight 0", checked(),
			[]found{has("a", 1, 5, up), has("b", 2, 5, up)},
			wishOf(wants("a", 1, draining), wants("b", 2, ready)),
			[]string{"set a@1 weight 0"},
			nil,
		},
		{
			"with ovn only removing stops the traffic", ovn(),
			[]found{has("a", 1, 5, unknown), has("b", 2, 5, unknown)},
			wishOf(wants("a", 1, draining), wants("b", 2, ready)),
			[]string{"remove a@1"},
			nil,
		},
		{"with ovn a member of weight 0 that joins is removed", ovn(), []found{has("a", 1, 0, unknown)}, wishOf(wants("a", 1, joining)), []string{"remove a@1"}, nil},
		{"a cancelled drain gets its weight back", checked(), []found{has("a", 1, 0, up)}, wishOf(wants("a", 1, ready)), []string{"set a@1 weight 5"}, nil},
		{"one that serves and is to join again loses its traffic", checked(), []found{has("a", 1, 5, up)}, wishOf(wants("a", 1, joining)), []string{"set a@1 weight 0"}, nil},
		{"one that leaves is removed", checked(), []found{has("a", 1, 0, up)}, wishOf(wants("a", 1, leaving)), []string{"remove a@1"}, nil},
		{"one that is not wished is drained first", checked(), []found{has("a", 1, 5, up)}, wishOf(), []string{"set a@1 weight 0"}, nil},
		{"one that is not wished and was drained is removed", checked(), []found{has("a", 1, 0, up)}, wishOf(), []string{"remove a@1"}, nil},
		{"with ovn one that is not wished is removed", ovn(), []found{has("a", 1, 5, unknown)}, wishOf(), []string{"remove a@1"}, nil},
		{"one that Octavia deletes is left to it", checked(), []found{with(has("a", 1, 0, up), func(f *found) { f.status = pendingDelete })}, wishOf(), nil, nil},
		{
			"those come in before those go out", checked(),
			[]found{has("a", 1, 5, up), has("b", 2, 0, up), has("d", 4, 0, up), has("e", 5, 5, up)},
			wishOf(wants("a", 1, draining), wants("b", 2, ready), wants("c", 3, joining), wants("d", 4, leaving)),
			[]string{"add c@3 weight 0", "set b@2 weight 5", "set a@1 weight 0", "set e@5 weight 0", "remove d@4"},
			nil,
		},
		{
			"one that moves is added where it is now and keeps serving where it was", checked(),
			[]found{has("a", 1, 5, up)},
			wishOf(wants("a", 9, ready)),
			[]string{"add a@9 weight 0"},
			nil,
		},
		{
			"one that moves stays while nobody listens at the new address", checked(),
			[]found{has("a", 1, 5, up), has("a", 9, 0, down)},
			wishOf(wants("a", 9, ready)), nil, nil,
		},
		{
			"one that moves gets traffic at the new address before it loses the old", checked(),
			[]found{has("a", 1, 5, up), has("a", 9, 0, up)},
			wishOf(wants("a", 9, ready)),
			[]string{"set a@9 weight 5"},
			nil,
		},
		{
			"one that has moved is drained at the old address", checked(),
			[]found{has("a", 1, 5, up), has("a", 9, 5, up)},
			wishOf(wants("a", 9, ready)),
			[]string{"set a@1 weight 0"},
			nil,
		},
		{
			"one that has moved leaves the old address", checked(),
			[]found{has("a", 1, 0, up), has("a", 9, 5, up)},
			wishOf(wants("a", 9, ready)),
			[]string{"remove a@1"},
			nil,
		},
		{
			"with ovn one that has moved leaves the old address at once", ovn(),
			[]found{has("a", 1, 5, unknown), has("a", 9, 5, unknown)},
			wishOf(wants("a", 9, ready)),
			[]string{"remove a@1"},
			nil,
		},
		{
			"one that leaves is removed wherever it is", checked(),
			[]found{has("a", 1, 5, up), has("a", 9, 0, up)},
			wishOf(wants("a", 9, leaving)),
			[]string{"remove a@1", "remove a@9"},
			nil,
		},
		{
			"a newcomer with the address of one that is gone replaces it", checked(),
			[]found{has("old", 1, 5, up)},
			wishOf(wants("a", 1, joining)),
			[]string{"remove old@1", "add a@1 weight 0"},
			nil,
		},
		{"a foreign member is never touched", checked(), []found{foreign(1, 7), has("a", 2, 5, up)}, wishOf(wants("a", 2, ready)), nil, nil},
		{
			"a foreign member with the address keeps ours out", checked(),
			[]found{foreign(1, 7), has("b", 2, 0, up)},
			wishOf(wants("a", 1, ready), wants("b", 2, ready)),
			[]string{"set b@2 weight 5"},
			[]string{"a"},
		},
		{"a foreign member with the address hinders no drain", checked(), []found{foreign(1, 7)}, wishOf(wants("a", 1, draining)), nil, nil},
		{
			"one that Octavia holds in ERROR is named", checked(),
			[]found{with(has("a", 1, 5, up), func(f *found) { f.status = failed }), has("b", 2, 5, up)},
			wishOf(wants("a", 1, ready), wants("b", 2, ready)), nil,
			[]string{"a"},
		},
		{
			"one in ERROR may leave", checked(),
			[]found{with(has("a", 1, 5, up), func(f *found) { f.status = failed })},
			wishOf(wants("a", 1, leaving)),
			[]string{"remove a@1"},
			nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps, not := plan(c.have, c.want, c.traits)
			var got []string
			for _, s := range steps {
				if s.kind != add && !s.member.ours() {
					t.Errorf("the step %v is about a member that is not ours", s)
				}
				got = append(got, s.String())
			}
			if diff := cmp.Diff(c.steps, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.not, not.Members(), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("members that are not as wished (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		name   string
		traits traits
		have   []found
		last   wish
		want   []string
	}{
		{
			"weight 0 is joining for one that was wished in, draining for all others", checked(),
			[]found{has("a", 1, 0, up), has("b", 2, 0, up)},
			wishOf(wants("a", 1, ready)),
			[]string{"a@1 joining up", "b@2 draining up"},
		},
		{"a weight is ready, whatever the check says", checked(), []found{has("a", 1, 5, down)}, nil, []string{"a@1 ready down"}},
		{
			"one that is switched off or deleted leaves", checked(),
			[]found{with(has("a", 1, 5, unknown), func(f *found) { f.up = false }), with(has("b", 2, 5, up), func(f *found) { f.status = pendingDelete })},
			nil,
			[]string{"a@1 leaving unknown", "b@2 leaving up"},
		},
		{
			"with ovn weight 0 and switched off are ready", ovn(),
			[]found{has("a", 1, 0, unknown), with(has("b", 2, 5, unknown), func(f *found) { f.up = false })},
			nil,
			[]string{"a@1 ready unknown", "b@2 ready unknown"},
		},
		{
			"with ovn those outside are as wished", ovn(),
			[]found{has("a", 1, 5, unknown)},
			wishOf(wants("a", 1, ready), wants("b", 2, joining), wants("c", 3, draining), wants("d", 4, leaving), wants("e", 5, ready)),
			[]string{"a@1 ready unknown", "b@2 joining unknown", "c@3 draining unknown"},
		},
		{
			"with ovn one that a foreign member keeps out is not there", ovn(),
			[]found{foreign(2, 1)},
			wishOf(wants("b", 2, joining)),
			[]string{"theirs@2 ready unknown"},
		},
		{"a foreign member is shown as it is", checked(), []found{foreign(1, 0), foreign(2, 1)}, nil, []string{"theirs@1 draining unknown", "theirs@2 ready unknown"}},
		{
			"one that moves is listed once, where it serves", checked(),
			[]found{has("a", 9, 0, down), has("a", 1, 5, up)},
			wishOf(wants("a", 9, ready)),
			[]string{"a@1 ready up"},
		},
		{
			"one that has moved is listed where it is wished", checked(),
			[]found{has("a", 1, 5, up), has("a", 9, 5, up)},
			wishOf(wants("a", 9, ready)),
			[]string{"a@9 ready up"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, m := range report(c.have, c.last, c.traits) {
				if m.Sessions != -1 {
					t.Errorf("%s has %d sessions: nobody counted them", m.Server, m.Sessions)
				}
				if m.Foreign != (m.ID == "") {
					t.Errorf("%+v is both ours and foreign", m)
				}
				id := m.ID
				if m.Foreign {
					id = m.Server
				}
				got = append(got, fmt.Sprintf("%s@%d %s %s", id, m.Addr.Addr().As4()[3], m.State, m.Health))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAWishIsCheckedBeforeAnythingIsSent(t *testing.T) {
	member := func(id string, host int, state scaling.MemberState) scaling.Member {
		return scaling.Member{ID: id, Addr: addr(host), State: state}
	}
	for _, c := range []struct {
		name string
		want scaling.Pool
		err  string
	}{
		{"of another group", scaling.Pool{Group: "other", AllowEmpty: true}, `for group "other"`},
		{"empty without saying so", scaling.Pool{Group: "web"}, "refused to empty"},
		{"an id that is no name", scaling.Pool{Group: "web", Members: []scaling.Member{member("a b", 1, ready)}}, "characters"},
		{"an id twice", scaling.Pool{Group: "web", Members: []scaling.Member{member("a", 1, ready), member("a", 2, ready)}}, "twice"},
		{"an address twice", scaling.Pool{Group: "web", Members: []scaling.Member{member("a", 1, ready), member("b", 1, joining)}}, "both"},
		{"a state that is none", scaling.Pool{Group: "web", Members: []scaling.Member{member("a", 1, "gone")}}, "unknown state"},
		{"no address", scaling.Pool{Group: "web", Members: []scaling.Member{{ID: "a", State: joining}}}, "no address"},
		{"empty", scaling.Pool{Group: "web", AllowEmpty: true}, ""},
		{"a drain of one whose address another has", scaling.Pool{Group: "web", Members: []scaling.Member{member("a", 1, draining), member("b", 1, joining)}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newWish(c.want, "web", newNamer("us"))
			switch {
			case c.err == "" && err != nil:
				t.Error(err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || scaling.ClassOf(err) != scaling.Permanent):
				t.Errorf("%v, want a permanent error with %q", err, c.err)
			}
		})
	}
}
