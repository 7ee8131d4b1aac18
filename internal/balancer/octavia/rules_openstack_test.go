//go:build openstack

package octavia_test

import (
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/balancer/octavia"
	"github.com/scalehook/scalehook/internal/cloud"
)

// TestTheAccessRulesAreWhatTheBalancerNeeds runs a load balancer with an application
// credential that has the rules of deploy/openstack: none too few, none too many.
func TestTheAccessRulesAreWhatTheBalancerNeeds(t *testing.T) {
	s := startSite(t, "octrules")
	rules := lab.ReadRules(t, "../../../deploy/openstack/access-rules-octavia.json")
	record := s.Restrict(t, "octrules", append(lab.ReadRules(t, "../../../deploy/openstack/access-rules.json"), rules...), "member", "load-balancer_member")
	pool := func(cfg octavia.PoolConfig) *octavia.Pool {
		t.Helper()
		b := s.balancer(t, func(c *octavia.Config) { c.CloudsFile, c.Endpoints = record.CloudsFile, record.Endpoints })
		return must[*octavia.Pool](t, "open the pool")(b.Pool(web, cfg))
	}
	cfg := s.made(amphora, monitored)
	p := pool(cfg)
	a := member("a", s.addr(), joining)
	apply(t, p, a)
	a.State = ready
	apply(t, p, a)
	if _, err := p.Observe(step(t)); err != nil {
		t.Error(err)
	}
	var lb struct{ ID, Pools string }
	s.client(t, &lb, "loadbalancer", "show", s.owner+"-web")

	// Other checks, another algorithm, and what somebody took away.
	cfg.Algorithm = "LEAST_CONNECTIONS"
	cfg.Monitor = octavia.Monitor{Type: "HTTP", Path: "/healthz", Delay: 2 * time.Second, Timeout: time.Second}
	apply(t, pool(cfg), a)
	cfg.Monitor.Path = "/"
	p = pool(cfg)
	apply(t, p, a)
	apply(t, p)
	if err := pools.Delete(step(t), s.lb, lb.Pools).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.settled(t, lb.ID)
	apply(t, pool(cfg), a)

	theirs := s.makeFront(t, amphora, "octrules-theirs")
	adopted := pool(octavia.PoolConfig{LoadBalancer: theirs.lb, Listener: theirs.listener})
	apply(t, adopted, a)
	apply(t, adopted)

	if refused := record.Refused(); len(refused) != 0 {
		t.Errorf("refused: %q", refused)
	}
	// Octavia itself uses the caller's rights to see subnet and network.
	inner := func(r lab.Rule) bool { return r.Service == cloud.Network }
	if spare := record.Spare(slices.DeleteFunc(slices.Clone(rules), inner)); len(spare) != 0 {
		t.Errorf("rules that nothing needs: %q", spare)
	}
	byNetwork := loadbalancers.CreateOpts{Name: "octrules-network", VipNetworkID: s.network, Provider: amphora}
	bySubnet := loadbalancers.CreateOpts{Name: "octrules-subnet", VipSubnetID: s.subnet, Provider: amphora}
	client := s.restricted(t, record)
	for _, opts := range []loadbalancers.CreateOpts{byNetwork, bySubnet} {
		if err := loadbalancers.Create(step(t), client, opts).Err; err != nil {
			t.Errorf("%s: %v", opts.Name, err)
		}
	}
	if err := loadbalancers.Delete(step(t), client, lb.ID, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr(); !gophercloud.ResponseCodeIs(err, http.StatusUnauthorized) {
		t.Errorf("delete the load balancer: %v; want it refused", err)
	}
	client = s.restricted(t, s.Restrict(t, "octrules-fewer", slices.DeleteFunc(slices.Clone(rules), inner), "member", "load-balancer_member"))
	for _, opts := range []loadbalancers.CreateOpts{byNetwork, bySubnet} {
		if err := loadbalancers.Create(step(t), client, opts).Err; !gophercloud.ResponseCodeIs(err, http.StatusBadRequest) {
			t.Errorf("%s without the right to see it: %v; want it refused", opts.Name, err)
		}
	}
}

// restricted is a client of Octavia with those rights and no more.
func (s *site) restricted(t *testing.T, r *lab.Restricted) *gophercloud.ServiceClient {
	t.Helper()
	c := must[*cloud.Cloud](t, "open the cloud")(cloud.Open(cloud.Config{Cloud: lab.Member, CloudsFile: r.CloudsFile}, slog.New(slog.DiscardHandler)))
	t.Cleanup(c.Close)
	return must[*gophercloud.ServiceClient](t, "reach octavia")(c.LoadBalancer(step(t)))
}
