package haproxy_test

import (
	"testing"

	"github.com/scalehook/scalehook/internal/scaling"
)

func TestAMemberLivesAWholeLife(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true})
	p := r.pool()
	g := newGuest(t)
	g.healthy.Store(false)

	apply(t, p, wish(member("a", g, scaling.MemberJoining)))
	apply(t, p, wish(member("a", g, scaling.MemberReady)))
	m, ok := observe(t, p).Member("a")
	if !ok || m.State != scaling.MemberJoining || m.Health == scaling.HealthUp || m.Sessions != 0 {
		t.Fatalf("before its check passes the member is %+v", m)
	}
	g.healthy.Store(true)
	settle(t, p, wish(member("a", g, scaling.MemberReady)), "ready", is("a", scaling.MemberReady))
	settle(t, p, wish(member("a", g, scaling.MemberDraining)), "draining", is("a", scaling.MemberDraining))
	settle(t, p, wish(member("a", g, scaling.MemberLeaving)), "gone", gone("a"))
}
