//go:build openstack

package octavia_test

import (
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/balancer/octavia"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/scaling/scalingtest"
)

// TestConformance runs the suite where the lab can: no load balancer of its carries
// traffic, so that the cases with clients are left out. With a monitor the reports of
// an amphora are pretended.
func TestConformance(t *testing.T) {
	for _, variant := range []struct {
		name, owner, provider string
		change                []func(*octavia.PoolConfig)
		can                   scaling.Capabilities
	}{
		{"amphora without checks", "octplain", amphora, nil, scaling.Capabilities{Drain: true}},
		{"amphora with checks", "octcheck", amphora, []func(*octavia.PoolConfig){monitored}, scaling.Capabilities{Drain: true, Health: true}},
		{"ovn", "octovn", ovn, nil, scaling.Capabilities{}},
	} {
		t.Run(variant.name, func(t *testing.T) {
			s := startSite(t, variant.owner)
			cfg := s.made(variant.provider, variant.change...)
			var beats *heartbeats
			if variant.can.Health {
				beats = s.heartbeats(t)
			}
			p := s.pool(t, cfg)
			apply(t, p, member("first", s.addr(), scaling.MemberJoining))
			apply(t, p)
			apply(t, p)
			lb := called(s.list(t, "list"), s.owner+"-web")
			pool := called(s.list(t, "pool", "list"), s.owner+"-web")
			if len(lb) != 1 || len(pool) != 1 {
				t.Fatalf("load balancers %v and pools %v, want one of each", lb, pool)
			}
			theirs := s.makeMember(t, lb[0].ID, pool[0].ID, "theirs", s.addr())
			before := s.whole(t, "member", "show", pool[0].ID, theirs)
			scalingtest.Balancer(t, func(t *testing.T) scalingtest.BalancerUnderTest {
				p := s.pool(t, cfg)
				if diff := cmp.Diff(variant.can, p.Capabilities()); diff != "" {
					t.Errorf("before the first look (-want +got):\n%s", diff)
				}
				if _, err := p.Observe(t.Context()); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(variant.can, p.Capabilities()); diff != "" {
					t.Errorf("after the first look (-want +got):\n%s", diff)
				}
				return scalingtest.BalancerUnderTest{
					Balancer: p, Group: web, Foreign: "theirs", Settle: within,
					Backend:     func(*testing.T) scalingtest.Backend { return backend{s.addr(), beats} },
					Unreachable: func(t *testing.T) scaling.Balancer { return s.at(t, cfg, "http://127.0.0.1:1") },
					Silent:      func(t *testing.T) scaling.Balancer { return s.at(t, cfg, "http://"+silent(t)) },
					Missing: func(t *testing.T) scaling.Balancer {
						return s.pool(t, octavia.PoolConfig{Pool: s.owner + "-nosuch"})
					},
				}
			})
			if diff := cmp.Diff(before, s.whole(t, "member", "show", pool[0].ID, theirs), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("the foreign member was changed (-want +got):\n%s", diff)
			}
			if left := s.list(t, "member", "list", pool[0].ID); len(left) != 1 {
				t.Errorf("the pool has %v, want the foreign member", left)
			}
		})
	}
}

// at is a pool whose load balancer service is somewhere else.
func (s *site) at(t *testing.T, cfg octavia.PoolConfig, endpoint string) scaling.Balancer {
	t.Helper()
	b := s.balancer(t, func(c *octavia.Config) {
		c.Endpoints = map[string]string{"load-balancer": endpoint}
		c.Timeout = time.Hour
	})
	return must[*octavia.Pool](t, "open the pool")(b.Pool(web, cfg))
}

// silent accepts connections and never answers.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var conns []net.Conn
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for _, c := range conns {
			c.Close()
		}
	})
	return l.Addr().String()
}
