package haproxy_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/balancer/haproxy"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/scaling/scalingtest"
	"github.com/scalehook/scalehook/internal/testenv"
)

func TestRealHAProxyConforms(t *testing.T) {
	conforms(t, rigOptions{fragment: true}, func(t *testing.T) string { return filepath.Join(t.TempDir(), "none.sock") })
}

// TestRealHAProxyConformsOverTCP is HAProxy as in a VM of its own: its sockets are TCP,
// and no file of it can be written.
func TestRealHAProxyConformsOverTCP(t *testing.T) {
	conforms(t, rigOptions{tcp: true}, func(t *testing.T) string { return testenv.FreeAddress(t) })
}

func conforms(t *testing.T, o rigOptions, nobody func(*testing.T) string) {
	scalingtest.Balancer(t, func(t *testing.T) scalingtest.BalancerUnderTest {
		r := newRig(t, o)
		return scalingtest.BalancerUnderTest{
			Balancer: r.pool(), Group: group, URL: "http://" + r.front, Foreign: foreign,
			Unreachable: func(t *testing.T) scaling.Balancer {
				return r.poolOf(haproxy.Config{Sockets: []haproxy.Socket{{Address: nobody(t)}}})
			},
			Silent: func(t *testing.T) scaling.Balancer {
				return r.poolOf(haproxy.Config{Sockets: []haproxy.Socket{{Address: silent(t)}}, Timeout: time.Hour})
			},
			Missing: func(*testing.T) scaling.Balancer {
				cfg := r.poolConfig()
				cfg.Backend = "nosuch"
				return r.poolFor(r.config(), cfg)
			},
		}
	})
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
