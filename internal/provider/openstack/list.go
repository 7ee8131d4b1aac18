package openstack

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// List implements scaling.Provider.
func (p *Provider) List(ctx context.Context) ([]scaling.VM, error) {
	vms, err := p.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the VMs: %w", err)
	}
	return vms, nil
}

func (p *Provider) list(ctx context.Context) ([]scaling.VM, error) {
	all, err := p.query(ctx, servers.ListOpts{Tags: cloud.Mark{Owner: p.owner}.Query()}, "list the servers")
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.Status == statusUnknown {
			return nil, incomplete(s.ID)
		}
	}
	all = slices.DeleteFunc(all, func(s *server) bool { return !s.ours(p.owner) })
	if err := p.whole(ctx, all); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *server) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	// One that another server stands for is no VM of ours to be counted.
	taken := map[string]*server{}
	for _, s := range all {
		m, _ := s.mark()
		if other := taken[m.ID]; other == nil || rank(s, other) < 0 {
			taken[m.ID] = s
		}
	}
	all = slices.DeleteFunc(all, func(s *server) bool {
		m, _ := s.mark()
		return taken[m.ID] != s
	})
	return p.vms(ctx, all)
}

func incomplete(uuid string) error {
	return scaling.Errorf(scaling.Temporary, "a part of the cloud does not answer (server %s is of unknown state): the listing is not whole", uuid)
}

// whole makes sure that a listing lacks nothing: Nova leaves servers out of a
// listing by tags, in silence, whose cell is down. Those that were there the last
// time are asked for one by one; the first time all servers of the project are
// listed without a filter, where Nova does name them.
func (p *Provider) whole(ctx context.Context, all []*server) error {
	p.mu.RLock()
	seen := p.seen
	p.mu.RUnlock()
	now := make(map[string]string, len(all))
	for _, s := range all {
		now[s.ID] = s.Name
	}
	if seen == nil {
		client, err := p.cloud.Compute(ctx)
		if err != nil {
			return err
		}
		every, err := cloud.Pages(ctx, servers.ListSimple(client, nil), extractServers, "list every server")
		if err != nil {
			return err
		}
		for _, s := range every {
			if s.Status == statusUnknown {
				return incomplete(s.ID)
			}
		}
	}
	for uuid, name := range seen {
		if _, there := now[uuid]; there {
			continue
		}
		s, err := p.get(ctx, uuid)
		switch {
		case scaling.IsNotFound(err):
		case err != nil:
			return fmt.Errorf("see why server %q is missing: %w", name, err)
		case s.Status == statusUnknown:
			return incomplete(uuid)
		case s.ours(p.owner):
			return scaling.Errorf(scaling.Temporary, "server %q (%s) exists and was not listed: the listing is not whole", name, uuid)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = now
	return nil
}

// forget keeps a server that was deleted from being missed.
func (p *Provider) forget(uuid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.seen[uuid]; ok {
		seen := make(map[string]string, len(p.seen))
		for k, v := range p.seen {
			if k != uuid {
				seen[k] = v
			}
		}
		p.seen = seen
	}
}

// vms returns what is known of servers with a valid mark, with their addresses.
// Fixed addresses come with the servers; floating ones are looked up for all at
// once.
func (p *Provider) vms(ctx context.Context, all []*server) ([]scaling.VM, error) {
	var floating []*server
	for _, s := range all {
		if m, _ := s.mark(); p.templateOr(m.Group).floating() {
			floating = append(floating, s)
		}
	}
	outside, err := p.outside(ctx, floating)
	if err != nil {
		return nil, err
	}
	vms := make([]scaling.VM, 0, len(all))
	for _, s := range all {
		m, _ := s.mark()
		t := p.templateOr(m.Group)
		vm := scaling.VM{
			ID: m.ID, Group: m.Group, Name: s.Name, UUID: s.ID, Power: s.power(),
			Adopted: !m.Adopted.IsZero(), CreatedAt: s.Created,
		}
		if vm.Adopted {
			vm.CreatedAt = m.Adopted
		}
		switch {
		case vm.Power != scaling.PowerRunning:
		case t.floating():
			vm.Addresses = outside[s.ID]
		default:
			names, err := p.networkNames(ctx, t)
			if err != nil {
				return nil, err
			}
			vm.Addresses = s.fixed(names)
		}
		vms = append(vms, vm)
	}
	return vms, nil
}

// networkNames returns the names of the template's networks, as Nova sorts
// addresses by, in order. Only where there are several does it matter, and only
// those that are stated by their id or their subnet have to be asked for, once.
func (p *Provider) networkNames(ctx context.Context, t Template) ([]string, error) {
	if len(t.Networks) < 2 {
		return nil, nil
	}
	names := make([]string, 0, len(t.Networks))
	for _, nic := range t.Networks {
		key := nic.Network + "/" + nic.Subnet
		p.mu.RLock()
		name := p.networks[key]
		p.mu.RUnlock()
		if name == "" {
			at, err := p.placeOf(ctx, Template{}, Interface{Network: nic.Network, Subnet: nic.Subnet})
			if err != nil {
				return nil, err
			}
			if name = at.networkName; name == "" {
				network, err := p.cloud.FindNetwork(ctx, at.network)
				if err != nil {
					return nil, err
				}
				name = network.Name
			}
			p.mu.Lock()
			p.networks[key] = name
			p.mu.Unlock()
		}
		names = append(names, name)
	}
	return names, nil
}

// perQuery bounds how many servers' ports are asked for in one request, for the
// length of its URL.
const perQuery = 50

// devices asks for the ports of servers.
type devices []string

// ToPortListQuery implements ports.ListOptsBuilder.
func (d devices) ToPortListQuery() (string, error) {
	return "?" + url.Values{"device_id": d, "fields": {"id", "device_id"}}.Encode(), nil
}

// outside finds the floating IPs that lead to servers, by uuid.
func (p *Provider) outside(ctx context.Context, all []*server) (map[string][]netip.Addr, error) {
	if len(all) == 0 {
		return nil, nil
	}
	var ids []string
	for _, s := range all {
		ids = append(ids, s.ID)
	}
	device := map[string]string{} // by port
	for some := range slices.Chunk(ids, perQuery) {
		client, err := p.cloud.Network(ctx)
		if err != nil {
			return nil, err
		}
		found, err := cloud.Pages(ctx, ports.List(client, devices(some)), ports.ExtractPorts, "list the servers' ports")
		if err != nil {
			return nil, err
		}
		for _, port := range found {
			device[port.ID] = port.DeviceID
		}
	}
	found, err := p.listFloating(ctx, floatingips.ListOpts{})
	if err != nil {
		return nil, err
	}
	out := map[string][]netip.Addr{}
	for _, f := range found {
		uuid, ok := device[f.PortID]
		ip, err := netip.ParseAddr(f.FloatingIP)
		if ok && err == nil && f.PortID != "" {
			out[uuid] = append(out[uuid], ip)
		}
	}
	for _, list := range out {
		slices.SortFunc(list, netip.Addr.Compare)
	}
	return out, nil
}
