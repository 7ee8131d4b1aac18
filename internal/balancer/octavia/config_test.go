package octavia

import (
	"strings"
	"testing"
	"time"
)

func TestPoolConfigsAreChecked(t *testing.T) {
	yes := true
	for _, c := range []struct {
		name string
		cfg  PoolConfig
		err  string // empty: it is good
	}{
		{"made", PoolConfig{Subnet: "web", Port: 80}, ""},
		{"made with everything", PoolConfig{
			Network: "web", Address: "192.0.2.9", Provider: "amphora", Port: 443, Protocol: "HTTPS", Algorithm: "LEAST_CONNECTIONS",
			Monitor: Monitor{Type: "HTTPS", Path: "/healthz", Codes: "200-204", Delay: 2 * time.Second, Timeout: time.Second, Rise: 1, Fall: 2}, Weight: 10,
		}, ""},
		{"made in an adopted load balancer", PoolConfig{LoadBalancer: "front", Port: 80}, ""},
		{"an adopted pool", PoolConfig{Pool: "web", MemberSubnet: "web"}, ""},
		{"an adopted listener", PoolConfig{LoadBalancer: "front", Listener: "web", Monitor: Monitor{Port: 8081}}, ""},
		{"no checks", PoolConfig{Subnet: "web", Port: 80, Monitor: Monitor{Type: none}}, ""},
		{"a long delay", PoolConfig{Subnet: "web", Port: 80, Monitor: Monitor{Delay: time.Second}}, ""},
		{"nothing", PoolConfig{}, "subnet: missing"},
		{"no port", PoolConfig{Subnet: "web"}, "port: missing"},
		{"subnet and network", PoolConfig{Subnet: "web", Network: "web", Port: 80}, "leave it out"},
		{"pool and listener", PoolConfig{Pool: "web", Listener: "web"}, "state listener or pool"},
		{"an adopted pool with a port", PoolConfig{Pool: "web", Port: 80}, "port: is that of the adopted pool"},
		{"an adopted pool with checks", PoolConfig{Pool: "web", Monitor: Monitor{Type: "TCP"}}, "monitor: is that of the adopted pool"},
		{"an adopted load balancer with a subnet", PoolConfig{LoadBalancer: "front", Subnet: "web", Port: 80}, "subnet: is that of the adopted load balancer"},
		{"another protocol", PoolConfig{Subnet: "web", Port: 80, Protocol: "FTP"}, `protocol "FTP": use one of TCP`},
		{"another algorithm", PoolConfig{Subnet: "web", Port: 80, Algorithm: "RANDOM"}, `algorithm "RANDOM": use one of ROUND_ROBIN`},
		{"ovn with HTTP", PoolConfig{Subnet: "web", Port: 80, Provider: "ovn", Protocol: "HTTP"}, "ovn has TCP and UDP only"},
		{"ovn with round robin", PoolConfig{Subnet: "web", Port: 80, Provider: "ovn", Algorithm: roundRobin}, "ovn has SOURCE_IP_PORT only"},
		{"ovn with weight zero", PoolConfig{Subnet: "web", Port: 80, Provider: "ovn", WeightZero: &yes}, "weight_zero"},
		{"a path without HTTP", PoolConfig{Subnet: "web", Port: 80, Monitor: Monitor{Path: "/x"}}, "path and codes"},
		{"a relative path", PoolConfig{Subnet: "web", Port: 80, Monitor: Monitor{Type: "HTTP", Path: "x"}}, "slash"},
		{"half a second", PoolConfig{Subnet: "web", Port: 80, Monitor: Monitor{Delay: 2500 * time.Millisecond}}, "whole seconds"},
		{"a timeout longer than the delay", PoolConfig{Subnet: "web", Port: 80, Monitor: Monitor{Delay: time.Second, Timeout: 2 * time.Second}}, "no longer than delay"},
		{"no checks with a path", PoolConfig{Subnet: "web", Port: 80, Monitor: Monitor{Type: none, Fall: 2}}, "leave everything else out"},
		{"too heavy", PoolConfig{Subnet: "web", Port: 80, Weight: 257}, "weight 257"},
		{"no address", PoolConfig{Subnet: "web", Port: 80, Address: "here"}, "not an address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.cfg.Validate()
			switch {
			case c.err == "" && err != nil:
				t.Error(err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("%v, want an error with %q", err, c.err)
			}
		})
	}
}

func TestNoTwoGroupsGetOnePlace(t *testing.T) {
	for _, c := range []struct {
		cfg  PoolConfig
		want string
	}{
		{PoolConfig{Subnet: "web", Port: 80}, ""},
		{PoolConfig{Pool: "web"}, "pool web"},
		{PoolConfig{Listener: "web"}, "listener web"},
		{PoolConfig{LoadBalancer: "front", Port: 80}, "port 80 of load balancer front"},
	} {
		if got := c.cfg.Place(); got != c.want {
			t.Errorf("%+v takes %q, want %q", c.cfg, got, c.want)
		}
	}
}
