package direct_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/balancer/direct"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/scaling/scalingtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newPool(t *testing.T, cfg direct.Config) *direct.Pool {
	t.Helper()
	p, err := direct.New("web", cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDirectConforms(t *testing.T) {
	scalingtest.Balancer(t, func(t *testing.T) scalingtest.BalancerUnderTest {
		return scalingtest.BalancerUnderTest{
			Group: "web",
			Balancer: newPool(t, direct.Config{Check: direct.Check{
				Type: direct.CheckHTTP, Path: "/health", Interval: 10 * time.Millisecond,
			}}),
		}
	})
}

func TestATCPCheckSeesWhetherAnybodyListens(t *testing.T) {
	p := newPool(t, direct.Config{Check: direct.Check{Interval: time.Millisecond}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	want := scaling.Pool{Group: "web", Members: []scaling.Member{{
		ID: "a", Addr: netip.MustParseAddrPort(l.Addr().String()), State: scaling.MemberJoining,
	}}}
	if err := p.Apply(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	for _, health := range []scaling.Health{scaling.HealthUp, scaling.HealthDown} {
		status, err := p.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, _ := status.Member("a")
		if m.Health != health || m.Sessions != -1 || m.State != scaling.MemberJoining {
			t.Errorf("the member is %+v, want it %s, joining, sessions unknown", m, health)
		}
		l.Close()
		time.Sleep(2 * time.Millisecond) // past the interval
	}
}

func TestAMemberThatNeverAnswersIsDownWithinTheTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := newPool(t, direct.Config{Check: direct.Check{Type: direct.CheckHTTP, Timeout: 50 * time.Millisecond}})
	if err := p.Apply(t.Context(), scaling.Pool{Group: "web", Members: []scaling.Member{{
		ID: "a", Addr: netip.MustParseAddrPort(l.Addr().String()), State: scaling.MemberReady,
	}}}); err != nil {
		t.Fatal(err)
	}
	status, err := p.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if m, _ := status.Member("a"); m.Health != scaling.HealthDown {
		t.Errorf("the member is %+v, want it down", m)
	}
}

func TestWrongConfigurationsAreRefused(t *testing.T) {
	for name, cfg := range map[string]direct.Config{
		"an unknown type":             {Check: direct.Check{Type: "icmp"}},
		"a path for tcp":              {Check: direct.Check{Path: "/health"}},
		"a path that is none":         {Check: direct.Check{Type: direct.CheckHTTP, Path: "health"}},
		"a negative interval":         {Check: direct.Check{Interval: -1}},
		"a timeout below millisecond": {Check: direct.Check{Timeout: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := direct.New("web", cfg); err == nil {
				t.Error("it was accepted")
			}
		})
	}
}
