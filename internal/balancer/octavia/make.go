package octavia

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// complete makes what is missing around the members and puts right what of ours
// differs from the configuration. Everything carries our tags from its creation on,
// and was looked for by them before: killed at any point, it goes on where it was.
func (p *Pool) complete(ctx context.Context, s *site) error {
	if p.cfg.adopts() {
		return nil
	}
	for _, one := range []func(context.Context, *site) error{p.makeLoadBalancer, p.makePool, p.makeListener, p.makeMonitor} {
		if err := one(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pool) makeLoadBalancer(ctx context.Context, s *site) error {
	if s.lb != nil {
		return nil
	}
	client, err := p.b.cloud.LoadBalancer(ctx)
	if err != nil {
		return err
	}
	name := p.b.namer.object(p.group)
	passPoint("load_balancer.create.before")
	s.lb, err = loadbalancers.Create(ctx, client, loadbalancers.CreateOpts{
		Name: name, Description: p.b.namer.text(p.group), Tags: p.b.namer.tags(p.group, ""),
		VipSubnetID: s.subnet, VipNetworkID: s.network, VipAddress: p.cfg.Address,
		Provider: p.cfg.Provider, FlavorID: p.cfg.Flavor,
	}).Extract()
	passPoint("load_balancer.create.after")
	if err != nil {
		s.lb = nil
		return cloud.Error(err, "make load balancer %q", name)
	}
	p.log.Info("load balancer made", "name", name, "id", s.lb.ID, "provider", s.lb.Provider, "address", s.lb.VipAddress)
	// What follows would wait as well; here the wait has a name.
	if err := p.b.awaitActive(ctx, client, s.lb.ID, scaling.Temporary); err != nil {
		return fmt.Errorf("wait for the new load balancer: %w", err)
	}
	return nil
}

func (p *Pool) makePool(ctx context.Context, s *site) error {
	method := p.algorithm(s)
	if s.pool != nil {
		if s.pool.Protocol != p.cfg.Protocol {
			return scaling.Errorf(scaling.Permanent, "pool %q (%s) has protocol %s, which cannot be changed to %s: delete it with its listener, and both are made anew",
				s.pool.Name, s.pool.ID, s.pool.Protocol, p.cfg.Protocol)
		}
		if s.pool.LBMethod == method {
			return nil
		}
		return p.write(ctx, s, "pool.update", func(c *gophercloud.ServiceClient) (err error) {
			s.pool, err = pools.Update(ctx, c, s.pool.ID, pools.UpdateOpts{LBMethod: pools.LBMethod(method)}).Extract()
			return err
		}, "set the algorithm of pool %q to %s", s.pool.Name, method)
	}
	name := p.b.namer.object(p.group)
	return p.write(ctx, s, "pool.create", func(c *gophercloud.ServiceClient) error {
		made, err := pools.Create(ctx, c, pools.CreateOpts{
			Name: name, Description: p.b.namer.text(p.group), Tags: p.b.namer.tags(p.group, ""),
			LoadbalancerID: s.lb.ID, Protocol: pools.Protocol(p.cfg.Protocol), LBMethod: pools.LBMethod(method),
		}).Extract()
		if err == nil {
			s.pool = made
		}
		return err
	}, "make pool %q", name)
}

// algorithm is the configured one, or what the provider has.
func (p *Pool) algorithm(s *site) string {
	if p.cfg.Algorithm == "" && s.lb.Provider == "ovn" {
		return sourceIPPort
	}
	return cmp.Or(p.cfg.Algorithm, roundRobin)
}

func (p *Pool) makeListener(ctx context.Context, s *site) error {
	if l := s.listener; l != nil {
		if l.Protocol != p.cfg.Protocol || l.ProtocolPort != int(p.cfg.Port) {
			return scaling.Errorf(scaling.Permanent, "listener %q (%s) listens for %s on port %d, which cannot be changed to %s on port %d: delete it, and it is made anew",
				l.Name, l.ID, l.Protocol, l.ProtocolPort, p.cfg.Protocol, p.cfg.Port)
		}
		if l.DefaultPoolID == s.pool.ID {
			return nil
		}
		return p.write(ctx, s, "listener.update", func(c *gophercloud.ServiceClient) (err error) {
			s.listener, err = listeners.Update(ctx, c, l.ID, listeners.UpdateOpts{DefaultPoolID: &s.pool.ID}).Extract()
			return err
		}, "lead listener %q to pool %q", l.Name, s.pool.Name)
	}
	name := p.b.namer.object(p.group)
	return p.write(ctx, s, "listener.create", func(c *gophercloud.ServiceClient) error {
		made, err := listeners.Create(ctx, c, listeners.CreateOpts{
			Name: name, Description: p.b.namer.text(p.group), Tags: p.b.namer.tags(p.group, ""),
			LoadbalancerID: s.lb.ID, Protocol: listeners.Protocol(p.cfg.Protocol), ProtocolPort: int(p.cfg.Port), DefaultPoolID: s.pool.ID,
		}).Extract()
		if err == nil {
			s.listener = made
		}
		return err
	}, "make listener %q on port %d", name, p.cfg.Port)
}

func (p *Pool) makeMonitor(ctx context.Context, s *site) error {
	want := p.cfg.Monitor
	if have := s.monitor; have != nil && have.Type != want.Type {
		if err := p.write(ctx, s, "monitor.delete", func(c *gophercloud.ServiceClient) error {
			err := monitors.Delete(ctx, c, have.ID).ExtractErr()
			if cloud.Gone(err) {
				return nil
			}
			return err
		}, "delete the health monitor of type %s of pool %q", have.Type, s.pool.Name); err != nil {
			return err
		}
		s.monitor = nil
	}
	seconds := func(d time.Duration) int { return int(d / time.Second) }
	switch have := s.monitor; {
	case want.Type == none:
		return nil
	case have == nil:
		err := p.write(ctx, s, "monitor.create", func(c *gophercloud.ServiceClient) error {
			made, err := monitors.Create(ctx, c, monitors.CreateOpts{
				Name: p.b.namer.object(p.group), Tags: p.b.namer.tags(p.group, ""), PoolID: s.pool.ID, Type: want.Type,
				Delay: seconds(want.Delay), Timeout: seconds(want.Timeout), MaxRetries: want.Rise, MaxRetriesDown: want.Fall,
				URLPath: want.Path, ExpectedCodes: want.Codes,
			}).Extract()
			if err == nil {
				s.monitor = made
			}
			return err
		}, "make the health monitor of pool %q", s.pool.Name)
		if gophercloud.ResponseCodeIs(err, http.StatusNotImplemented) {
			err = fmt.Errorf("%w; provider %s has none of type %s: state another, or monitor: {type: none}", err, s.lb.Provider, want.Type)
		}
		return err
	case have.AdminStateUp && have.Delay == seconds(want.Delay) && have.Timeout == seconds(want.Timeout) && have.MaxRetries == want.Rise &&
		have.MaxRetriesDown == want.Fall && (!want.web() || have.URLPath == want.Path && have.ExpectedCodes == want.Codes):
		return nil
	}
	up := true
	return p.write(ctx, s, "monitor.update", func(c *gophercloud.ServiceClient) (err error) {
		changed, err := monitors.Update(ctx, c, s.monitor.ID, monitors.UpdateOpts{
			Delay: seconds(want.Delay), Timeout: seconds(want.Timeout), MaxRetries: want.Rise, MaxRetriesDown: want.Fall,
			URLPath: want.Path, ExpectedCodes: want.Codes, AdminStateUp: &up,
		}).Extract()
		if err == nil {
			s.monitor = changed
		}
		return err
	}, "change the health monitor of pool %q", s.pool.Name)
}

// write makes one change at the group's load balancer and logs it.
func (p *Pool) write(ctx context.Context, s *site, point string, send func(*gophercloud.ServiceClient) error, what string, args ...any) error {
	passPoint(point + ".before")
	err := p.b.change(ctx, s.lb.ID, send, what, args...)
	passPoint(point + ".after")
	if err == nil {
		p.log.Info("load balancer changed", "load_balancer", s.lb.ID, "change", fmt.Sprintf(what, args...))
	}
	return err
}
