//go:build openstack

package octavia_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/balancer/octavia"
	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

const (
	amphora = "amphora" // without data plane in the lab
	ovn     = "ovn"
	web     = "web" // the group

	// within bounds one step of a test.
	within = 2 * time.Minute
)

// site is a network of our own in the lab, and load balancers there.
type site struct {
	*lab.Cloud
	owner string
	// raw is a second way to the cloud, which knows nothing of the driver.
	raw     *cloud.Cloud
	lb      *gophercloud.ServiceClient
	network string // the id
	subnet  string
	hosts   atomic.Int32
}

func step(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), within)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t testing.TB, what string) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return v
	}
}

// startSite makes what the tests stand on; owner begins the names of everything.
func startSite(t *testing.T, owner string) *site {
	t.Helper()
	s := &site{Cloud: lab.Start(t, lab.Options{Octavia: true}), owner: owner}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s.raw = must[*cloud.Cloud](t, "open the cloud")(cloud.Open(s.config().Config, log))
	t.Cleanup(s.raw.Close)
	s.lb = must[*gophercloud.ServiceClient](t, "reach octavia")(s.raw.LoadBalancer(step(t)))
	neutron := must[*gophercloud.ServiceClient](t, "reach neutron")(s.raw.Network(step(t)))
	// A run that was killed left everything.
	before, err := cloud.Pages(step(t), networks.List(neutron, networks.ListOpts{Name: owner + "-net"}), networks.ExtractNetworks, "list networks")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range before {
		s.clear(t, n.ID)
	}
	n := must[*networks.Network](t, "make a network")(networks.Create(step(t), neutron, networks.CreateOpts{Name: owner + "-net"}).Extract())
	s.network = n.ID
	t.Cleanup(func() { s.clear(t, n.ID) })
	testenv.Eventually(t, within, "the subnet to be made", func() error {
		// An attempt whose answer did not come may have made it.
		all, err := cloud.Pages(step(t), subnets.List(neutron, subnets.ListOpts{NetworkID: n.ID}), subnets.ExtractSubnets, "list subnets")
		if err != nil {
			return err
		}
		if len(all) > 0 {
			s.subnet = all[0].ID
			return nil
		}
		made, err := subnets.Create(step(t), neutron, subnets.CreateOpts{
			NetworkID: n.ID, Name: owner + "-subnet", CIDR: "10.88.0.0/24", IPVersion: 4, EnableDHCP: new(false),
			AllocationPools: []subnets.AllocationPool{{Start: "10.88.0.200", End: "10.88.0.250"}},
		}).Extract()
		if err != nil {
			return err
		}
		s.subnet = made.ID
		return nil
	})
	return s
}

// clear deletes every load balancer in the network, the ports that Octavia leaves
// behind, and the network.
func (s *site) clear(t *testing.T, network string) {
	t.Helper()
	admin := must[*cloud.Cloud](t, "open the cloud")(cloud.Open(cloud.Config{Cloud: lab.Admin, CloudsFile: s.CloudsFile()}, slog.New(slog.DiscardHandler)))
	defer admin.Close()
	all, err := cloud.Pages(step(t), loadbalancers.List(s.lb, loadbalancers.ListOpts{VipNetworkID: network}), loadbalancers.ExtractLoadBalancers, "list load balancers")
	if err != nil {
		t.Error(err)
	}
	for _, lb := range all {
		s.delete(t, lb.ID)
	}
	neutron := must[*gophercloud.ServiceClient](t, "reach neutron")(admin.Network(step(t)))
	left, err := cloud.Pages(step(t), ports.List(neutron, ports.ListOpts{NetworkID: network}), ports.ExtractPorts, "list ports")
	if err != nil {
		t.Error(err)
	}
	for _, p := range left {
		if strings.HasPrefix(p.Name, "octavia-lb-") || strings.HasPrefix(p.Name, "ovn-lb-") {
			if err := ports.Delete(step(t), neutron, p.ID).ExtractErr(); err != nil && !cloud.Gone(err) {
				t.Error(err)
			}
		}
	}
	testenv.Eventually(t, within, "the network to be gone", func() error {
		err := networks.Delete(step(t), neutron, network).ExtractErr()
		if cloud.Gone(err) {
			return nil
		}
		return err
	})
}

// delete deletes a load balancer with everything in it, in whatever state it is.
func (s *site) delete(t *testing.T, id string) {
	t.Helper()
	testenv.Eventually(t, within, "load balancer "+id+" to be gone", func() error {
		lb, err := loadbalancers.Get(step(t), s.lb, id).Extract()
		if cloud.Gone(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if lb.ProvisioningStatus == "ACTIVE" || lb.ProvisioningStatus == "ERROR" {
			err = loadbalancers.Delete(step(t), s.lb, id, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr()
		}
		return errors.Join(fmt.Errorf("it is %s", lb.ProvisioningStatus), err)
	})
}

func (s *site) config() octavia.Config {
	return octavia.Config{Config: cloud.Config{Cloud: lab.Member, CloudsFile: s.CloudsFile()}, HeartbeatInterval: time.Second}
}

// made is a pool that the driver makes.
func (s *site) made(provider string, change ...func(*octavia.PoolConfig)) octavia.PoolConfig {
	cfg := octavia.PoolConfig{Subnet: s.owner + "-subnet", Provider: provider, Port: 80, Monitor: octavia.Monitor{Type: "none"}}
	for _, fn := range change {
		fn(&cfg)
	}
	return cfg
}

func monitored(cfg *octavia.PoolConfig) {
	cfg.Monitor = octavia.Monitor{Delay: time.Second, Timeout: time.Second, Rise: 1, Fall: 1}
}

// balancer is a driver as a start of scalehook has it.
func (s *site) balancer(t *testing.T, change ...func(*octavia.Config)) *octavia.Balancer {
	t.Helper()
	cfg := s.config()
	for _, fn := range change {
		fn(&cfg)
	}
	b := must[*octavia.Balancer](t, "open the balancer")(octavia.New(cfg, s.owner, slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))))
	t.Cleanup(b.Close)
	return b
}

func (s *site) pool(t *testing.T, cfg octavia.PoolConfig) *octavia.Pool {
	t.Helper()
	return must[*octavia.Pool](t, "open the pool")(s.balancer(t).Pool(web, cfg))
}

// addr is where nobody was before.
func (s *site) addr() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 88, 0, byte(s.hosts.Add(1))}), 8080)
}

func member(id string, addr netip.AddrPort, state scaling.MemberState) scaling.Member {
	return scaling.Member{ID: id, Name: "autoscale-" + id, Addr: addr, State: state}
}

func wish(members ...scaling.Member) scaling.Pool {
	return scaling.Pool{Group: web, Members: members, AllowEmpty: len(members) == 0}
}

func apply(t *testing.T, p scaling.Balancer, members ...scaling.Member) {
	t.Helper()
	if err := p.Apply(step(t), wish(members...)); err != nil {
		t.Fatal(err)
	}
}

// client asks the openstack command, as somebody who does not trust us.
func (s *site) client(t *testing.T, into any, args ...string) {
	t.Helper()
	if err := json.Unmarshal(s.OpenStack(t, lab.Member, args...), into); err != nil {
		t.Fatal(err)
	}
}

// listed is an object as the openstack command lists it, in the fields that are
// compared.
type listed struct {
	ID, Name, Provider, Type, Address string
	Port, Weight                      int
	Status                            string
}

func (s *site) list(t *testing.T, args ...string) []listed {
	t.Helper()
	var rows []map[string]any
	s.client(t, &rows, append([]string{"loadbalancer"}, args...)...)
	var out []listed
	for _, r := range rows {
		text := func(key string) string { v, _ := r[key].(string); return v }
		number := func(key string) int { v, _ := r[key].(float64); return int(v) }
		out = append(out, listed{
			ID: text("id"), Name: text("name"), Provider: text("provider"), Type: text("type"), Address: text("address"),
			Port: number("protocol_port"), Weight: number("weight"), Status: text("provisioning_status"),
		})
	}
	return out
}

// called returns the objects of that name.
func called(all []listed, name string) []listed {
	var out []listed
	for _, o := range all {
		if o.Name == name {
			out = append(out, o)
		}
	}
	return out
}

// settled waits for ACTIVE.
func (s *site) settled(t *testing.T, id string) {
	t.Helper()
	testenv.Eventually(t, within, "load balancer "+id+" to be ACTIVE", func() error {
		lb, err := loadbalancers.Get(step(t), s.lb, id).Extract()
		if err == nil && lb.ProvisioningStatus != "ACTIVE" {
			err = fmt.Errorf("it is %s", lb.ProvisioningStatus)
		}
		return err
	})
}

// front is a load balancer that is not ours, with listener and pool of that name.
type front struct{ lb, listener, pool string }

func (s *site) makeFront(t *testing.T, provider, name string) front {
	t.Helper()
	var f front
	lb := must[*loadbalancers.LoadBalancer](t, "make a load balancer")(loadbalancers.Create(step(t), s.lb, loadbalancers.CreateOpts{
		Name: name, VipSubnetID: s.subnet, Provider: provider, Tags: []string{"somebody"},
	}).Extract())
	f.lb = lb.ID
	s.settled(t, f.lb)
	method := pools.LBMethodRoundRobin
	if provider == ovn {
		method = pools.LBMethodSourceIpPort
	}
	p := must[*pools.Pool](t, "make a pool")(pools.Create(step(t), s.lb, pools.CreateOpts{Name: name, LoadbalancerID: f.lb, Protocol: "TCP", LBMethod: method}).Extract())
	f.pool = p.ID
	s.settled(t, f.lb)
	l := must[*listeners.Listener](t, "make a listener")(listeners.Create(step(t), s.lb, listeners.CreateOpts{
		Name: name, LoadbalancerID: f.lb, Protocol: "TCP", ProtocolPort: 8443, DefaultPoolID: f.pool,
	}).Extract())
	f.listener = l.ID
	s.settled(t, f.lb)
	return f
}

// makeMember adds a member as anybody might.
func (s *site) makeMember(t *testing.T, lb, pool, name string, addr netip.AddrPort) string {
	t.Helper()
	weight := 7
	m := must[*pools.Member](t, "make a member")(pools.CreateMember(step(t), s.lb, pool, pools.CreateMemberOpts{
		Name: name, Address: addr.Addr().String(), ProtocolPort: int(addr.Port()), Weight: &weight, Tags: []string{"somebody"},
	}).Extract())
	s.settled(t, lb)
	return m.ID
}

// whole is everything that the openstack command shows of an object but what
// passes: when it was last touched, and how it is.
func (s *site) whole(t *testing.T, args ...string) map[string]any {
	t.Helper()
	var out map[string]any
	s.client(t, &out, append([]string{"loadbalancer"}, args...)...)
	for _, key := range []string{"updated_at", "operating_status", "provisioning_status"} {
		delete(out, key)
	}
	return out
}

func (s *site) sql(t testing.TB, format string, args ...any) {
	t.Helper()
	if _, err := s.SQL(step(t), fmt.Sprintf(format, args...)); err != nil {
		t.Fatal(err)
	}
}

// heartbeats pretends the reports of an amphora, which the lab has not: it says of
// the pool's members what their checks would, with Octavia's own words. Without an
// amphora behind them members stay OFFLINE for ever.
type heartbeats struct {
	s  *site
	mu sync.Mutex
	// sick are the addresses whose checks fail.
	sick map[string]bool
}

func (s *site) heartbeats(t *testing.T) *heartbeats {
	t.Helper()
	h := &heartbeats{s: s, sick: map[string]bool{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := h.report(ctx); err != nil && ctx.Err() == nil {
				t.Logf("pretend a heartbeat: %v", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return h
}

// report writes what changed, one row per statement: whoever holds one lock only cannot
// bring Octavia into a deadlock.
func (h *heartbeats) report(ctx context.Context) error {
	rows, err := h.s.SQL(ctx, fmt.Sprintf(`select m.id, m.enabled, concat(m.ip_address, ':', m.protocol_port), m.weight, m.operating_status
  from octavia.member m join octavia.health_monitor h on h.pool_id = m.pool_id
  where h.name like '%s-%%' and m.provisioning_status = 'ACTIVE'`, h.s.owner))
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var updates []string
	for row := range strings.Lines(rows) {
		f := strings.Split(strings.TrimSuffix(row, "\n"), "\t")
		if len(f) != 5 {
			continue
		}
		status := "ONLINE"
		switch {
		case f[1] == "0":
			status = "OFFLINE"
		case h.sick[f[2]]:
			status = "ERROR"
		case f[3] == "0":
			status = "DRAINING"
		}
		if status != f[4] {
			updates = append(updates, fmt.Sprintf("update octavia.member set operating_status = '%s' where id = '%s'", status, f[0]))
		}
	}
	if len(updates) == 0 {
		return nil
	}
	_, err = h.s.SQL(ctx, strings.Join(updates, "; "))
	return err
}

// backend is what a member points to: an address, and what its checks would say.
type backend struct {
	addr  netip.AddrPort
	beats *heartbeats
}

func (b backend) Addr() netip.AddrPort { return b.addr }

func (b backend) SetHealthy(healthy bool) {
	if b.beats == nil {
		return
	}
	b.beats.mu.Lock()
	defer b.beats.mu.Unlock()
	b.beats.sick[b.addr.String()] = !healthy
	if healthy {
		delete(b.beats.sick, b.addr.String())
	}
}
