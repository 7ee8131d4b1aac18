package octavia

import (
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/scalehook/scalehook/internal/scaling"
)

func TestHealthOf(t *testing.T) {
	for _, c := range []struct {
		operating       string
		checked, proved bool
		want            scaling.Health
	}{
		{"ONLINE", true, true, up},
		{"DRAINING", true, true, up}, // of weight 0, a newcomer too
		{"ERROR", true, true, down},
		{"ERROR", true, false, down}, // a failure was seen, whenever it was
		{"ONLINE", true, false, unknown},
		{"DRAINING", true, false, unknown},
		{"OFFLINE", true, true, unknown},
		{"NO_MONITOR", true, true, unknown},
		{"DEGRADED", true, true, unknown},
		{"", true, true, unknown},
		{"SOMETHING_NEW", true, true, unknown},
		{"ONLINE", false, true, unknown},
		{"ERROR", false, true, unknown},
	} {
		if got := healthOf(c.operating, c.checked, c.proved); got != c.want {
			t.Errorf("%s of a pool with checks that count %v, proved %v: %s, want %s", c.operating, c.checked, c.proved, got, c.want)
		}
	}
}

func TestANewcomersHealthIsBelievedWhenItsFirstCheckMustHaveEnded(t *testing.T) {
	const settle = 20 * time.Second
	begin := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	member := func(operating, provisioning string, created time.Time) pools.Member {
		return pools.Member{ID: "a", OperatingStatus: operating, ProvisioningStatus: provisioning, CreatedAt: created}
	}
	newcomer := member("DRAINING", active, begin)
	h := history{}
	at := func(d time.Duration, m pools.Member) bool {
		// The service's clock is an hour ahead of ours.
		m.CreatedAt = m.CreatedAt.Add(time.Hour)
		return h.proved(m, begin.Add(d), begin.Add(d).Add(time.Hour), settle)
	}
	if at(0, member("DRAINING", pendingCreate, begin)) || len(h) != 0 {
		t.Error("a member that Octavia is still making counts from now")
	}
	if at(5*time.Second, newcomer) || at(24*time.Second, newcomer) {
		t.Error("a newcomer is believed before its first check was reported")
	}
	if !at(25*time.Second, newcomer) {
		t.Error("a newcomer is not believed after it settled")
	}

	h = history{}
	if at(time.Second, member("ERROR", active, begin)); !at(2*time.Second, newcomer) {
		t.Error("one that was seen failing is not believed when it passes")
	}

	h = history{}
	if !at(settle+startAllowance, newcomer) {
		t.Error("after a start of scalehook one that has been there for long is not believed")
	}
	h.forget(nil)
	if len(h) != 0 {
		t.Error("a member that is gone is remembered")
	}
	if h.proved(newcomer, begin, time.Time{}, settle) {
		t.Error("one of unknown age is believed")
	}
}

func TestProvidersThatHonourWeightZero(t *testing.T) {
	for provider, want := range map[string]bool{"amphora": true, "octavia": true, "ovn": false, "f5": false, "": false} {
		if honours(provider) != want {
			t.Errorf("%q: %v", provider, !want)
		}
	}
}
