package openstack

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

const (
	id1   = "11111111-0000-4000-8000-000000000001"
	id2   = "22222222-0000-4000-8000-000000000002"
	uuid1 = "aaaaaaaa-0000-4000-8000-000000000001"
	uuid2 = "bbbbbbbb-0000-4000-8000-000000000002"
)

func TestWhetherAServerRuns(t *testing.T) {
	for _, c := range []struct {
		name   string
		status string
		power  int
		want   scaling.Power
	}{
		{"it serves", "ACTIVE", powerRunning, scaling.PowerRunning},
		{"it was stopped", "SHUTOFF", powerOff, scaling.PowerStopped},
		{"it was stopped, and no hypervisor said so yet", "SHUTOFF", 0, scaling.PowerStopped},
		{"it is being built", "BUILD", 0, scaling.PowerUnknown},
		{"it could not be built", "ERROR", 0, scaling.PowerCrashed},
		{"it runs, and something later failed", "ERROR", powerRunning, scaling.PowerUnknown},
		{"it is paused", "PAUSED", powerPaused, scaling.PowerPaused},
		{"it is on a disk", "SUSPENDED", powerOff, scaling.PowerStopped},
		{"it is shelved", "SHELVED_OFFLOADED", powerOff, scaling.PowerStopped},
		{"it is being restarted", "HARD_REBOOT", powerRunning, scaling.PowerRunning},
		{"its guest crashed", "ACTIVE", powerCrashed, scaling.PowerCrashed},
		{"its guest stopped by itself", "ACTIVE", powerOff, scaling.PowerStopped},
		{"its cell is down", "UNKNOWN", 0, scaling.PowerUnknown},
		{"something new", "DREAMING", 0, scaling.PowerUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (&server{Status: c.status, Power: c.power}).power(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestWhichMarksAreValid(t *testing.T) {
	whole := cloud.Mark{Owner: "lab", Group: "web", ID: id1}
	sealed, copied := whole, whole
	sealed.UUID, copied.UUID = uuid1, uuid2
	for _, c := range []struct {
		name         string
		tags         []string
		ours, sealed bool
	}{
		{"one that was just made", whole.Tags(), true, false},
		{"one that names its server", sealed.Tags(), true, true},
		{"one that was copied from another", copied.Tags(), false, false},
		{"another owner's", cloud.Tags("other", "web", id1), false, false},
		{"another instance's", cloud.Tags("lab", "web", id2), false, false},
		{"without a group", cloud.Tags("lab", "", id1), false, false},
		{"without an id", cloud.Tags("lab", "web", ""), false, false},
		{"with an id that is none", cloud.Tags("lab", "web", "42"), false, false},
		{"none", nil, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &server{ID: uuid1, Tags: c.tags}
			if s.is("lab", id1) != c.ours || s.sealed() != c.sealed {
				t.Errorf("ours %t, sealed %t", s.is("lab", id1), s.sealed())
			}
		})
	}
}

func TestTheServerThatAnInstanceIs(t *testing.T) {
	tags := cloud.Tags("lab", "web", id1)
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	old, young := &server{ID: uuid2, Tags: tags, Created: at}, &server{ID: uuid1, Tags: tags, Created: at.Add(time.Second)}
	if rank(old, young) >= 0 {
		t.Error("the younger one comes first")
	}
	young.Tags = cloud.Mark{Owner: "lab", Group: "web", ID: id1, UUID: uuid1}.Tags()
	if rank(young, old) >= 0 {
		t.Error("one that names itself does not come first")
	}
	same := &server{ID: uuid1, Tags: tags, Created: at}
	if rank(same, old) >= 0 {
		t.Error("of two as old the order is not that of their ids")
	}
}

func TestTheOrderOfAddresses(t *testing.T) {
	s := &server{Addresses: map[string][]address{
		"back":  {{IP: "10.2.0.5", Kind: "fixed"}},
		"front": {{IP: "2001:db8::5", Kind: "fixed"}, {IP: "fe80::1", Kind: "fixed"}, {IP: "10.1.0.5", Kind: "fixed"}, {IP: "203.0.113.5", Kind: "floating"}},
		"extra": {{IP: "10.3.0.5", Kind: "fixed"}},
	}}
	addrs := func(texts ...string) (out []netip.Addr) {
		for _, text := range texts {
			out = append(out, netip.MustParseAddr(text))
		}
		return out
	}
	for _, c := range []struct {
		networks []string
		want     []netip.Addr
	}{
		{[]string{"front", "back"}, addrs("10.1.0.5", "2001:db8::5", "10.2.0.5", "10.3.0.5")},
		{[]string{"back", "front"}, addrs("10.2.0.5", "10.1.0.5", "2001:db8::5", "10.3.0.5")},
		{nil, addrs("10.2.0.5", "10.3.0.5", "10.1.0.5", "2001:db8::5")},
	} {
		if diff := cmp.Diff(c.want, s.fixed(c.networks), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("networks %q: -want +got\n%s", c.networks, diff)
		}
	}
}

func TestWhatNovaSaysOfAFailure(t *testing.T) {
	for text, want := range map[string]scaling.Class{
		"No valid host was found. There are not enough hosts available.":      scaling.Quota,
		"Quota exceeded for resources: ['port'].":                             scaling.Quota,
		"Build of instance x aborted: spawn refused":                          scaling.Permanent,
		"Exceeded maximum number of retries. Exhausted all hosts available …": scaling.Permanent,
		"": scaling.Permanent,
	} {
		s := &server{ID: uuid1, Status: statusError}
		s.Fault.Message = text
		if got := scaling.ClassOf(s.failure()); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}
