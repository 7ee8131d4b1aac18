package haproxy_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/internal/balancer/haproxy"
)

func TestASocketIsAnAddressOrAMapping(t *testing.T) {
	text := "sockets:\n- /run/haproxy/admin.sock\n- address: 192.0.2.1:9999\n  master_socket: /run/master.sock\ntimeout: 500ms\n"
	var got haproxy.Config
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := haproxy.Config{
		Sockets: []haproxy.Socket{{Address: "/run/haproxy/admin.sock"}, {Address: "192.0.2.1:9999", MasterSocket: "/run/master.sock"}},
		Timeout: 500 * time.Millisecond,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	d = yaml.NewDecoder(strings.NewReader("sockets:\n- bogus: /run/haproxy/admin.sock\n"))
	d.KnownFields(true)
	if err := d.Decode(&got); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("an unknown key: %v, want an error with its line", err)
	}
}

func TestWrongConfigurationsAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  haproxy.Config
		want string
	}{
		{"no socket", haproxy.Config{}, "at least one"},
		{"a relative path", haproxy.Config{Sockets: []haproxy.Socket{{Address: "admin.sock"}}}, "neither an absolute path nor host:port"},
		{"a path that is too long", haproxy.Config{Sockets: []haproxy.Socket{{Address: "/" + strings.Repeat("x", 107)}}}, "107"},
		{"a master socket that is none", haproxy.Config{Sockets: []haproxy.Socket{{Address: "/a", MasterSocket: "b"}}}, "master_socket"},
		{"one socket twice", haproxy.Config{Sockets: []haproxy.Socket{{Address: "/a"}, {Address: "/a"}}}, "twice"},
		{"a negative timeout", haproxy.Config{Sockets: []haproxy.Socket{{Address: "/a"}}, Timeout: -1}, "timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := haproxy.New(c.cfg, "o", slog.New(slog.DiscardHandler))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestWrongPoolsAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  haproxy.PoolConfig
		want string
	}{
		{"no backend", haproxy.PoolConfig{}, "backend"},
		{"a backend with a semicolon", haproxy.PoolConfig{Backend: "web;show info"}, "backend"},
		{"a backend with a newline", haproxy.PoolConfig{Backend: "web\nshow"}, "backend"},
		{"an option that is two words", haproxy.PoolConfig{Backend: "web", ServerOptions: []string{"maxconn 50"}}, "one word"},
		{"an option that ends the command", haproxy.PoolConfig{Backend: "web", ServerOptions: []string{"maxconn;"}}, "one word"},
		{"an option that is ours", haproxy.PoolConfig{Backend: "web", ServerOptions: []string{"enabled"}}, "decided by scalehook"},
		{"an interval too short", haproxy.PoolConfig{Backend: "web", Check: haproxy.Check{Inter: time.Microsecond}}, "inter"},
		{"a negative rise", haproxy.PoolConfig{Backend: "web", Check: haproxy.Check{Rise: -1}}, "rise"},
		{"a fragment without a template", haproxy.PoolConfig{Backend: "web", Fragment: haproxy.Fragment{File: "/x"}}, "together"},
		{"a relative fragment", haproxy.PoolConfig{Backend: "web", Fragment: haproxy.Fragment{File: "x", Template: "/y"}}, "absolute"},
		{"a fragment over its template", haproxy.PoolConfig{Backend: "web", Fragment: haproxy.Fragment{File: "/x", Template: "/x"}}, "same file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.cfg.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestABackendBelongsToOneGroup(t *testing.T) {
	b, err := haproxy.New(haproxy.Config{Sockets: []haproxy.Socket{{Address: "/a"}}}, "o", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		group string
		ok    bool
	}{{"one", true}, {"one", true}, {"two", false}} {
		if _, err := b.Pool(c.group, haproxy.PoolConfig{Backend: "web"}); (err == nil) != c.ok {
			t.Errorf("group %s: %v", c.group, err)
		}
	}
}

func TestOwnersHaveDifferentServers(t *testing.T) {
	prefix := func(owner string) string {
		b, err := haproxy.New(haproxy.Config{Sockets: []haproxy.Socket{{Address: "/a"}}}, owner, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return b.ServerPrefix()
	}
	if prefix("a") == prefix("b") || len(prefix("a")) != len("sh-012345-") {
		t.Errorf("prefixes %q and %q", prefix("a"), prefix("b"))
	}
}
