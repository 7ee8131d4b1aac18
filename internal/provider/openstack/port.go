package openstack

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/portsecurity"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// text is the description of what Neutron makes for an instance. It is given in the
// call that makes it, where tags can only follow.
func (p *Provider) text(id string) string {
	return fmt.Sprintf("made by scalehook for %s %s", p.owner, id)
}

// groupText is the description of a group's public address.
func (p *Provider) groupText(group string) string {
	return fmt.Sprintf("made by scalehook for %s group %s", p.owner, group)
}

// made reports whether what has that description and those tags was made for the
// instance.
func (p *Provider) made(id, description string, tags []string) bool {
	m, ok := cloud.ParseMark(tags)
	return description == p.text(id) || ok && m.Owner == p.owner && m.ID == id
}

// setTags completes the tags of an object of Neutron's, if any are missing.
func (p *Provider) setTags(ctx context.Context, kind, id string, have, want []string) error {
	missing := slices.DeleteFunc(slices.Clone(want), func(tag string) bool { return slices.Contains(have, tag) })
	if len(missing) == 0 {
		return nil
	}
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return err
	}
	return change(ctx, "tag "+strings.TrimSuffix(kind, "s"), id, func(ctx context.Context) error {
		return attributestags.ReplaceAll(ctx, client, kind, id, attributestags.ReplaceAllOpts{Tags: append(slices.Clone(have), missing...)}).Err
	})
}

// listPorts returns the ports of the project that opts ask for: an administrator sees
// those of all.
func (p *Provider) listPorts(ctx context.Context, opts ports.ListOpts) ([]ports.Port, error) {
	project, _, err := p.cloud.Project(ctx)
	if err != nil {
		return nil, err
	}
	opts.ProjectID = project
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return nil, err
	}
	return cloud.Pages(ctx, ports.List(client, opts), ports.ExtractPorts, "list ports")
}

// portsOf returns the ports that were made for an instance, in order.
func (p *Provider) portsOf(ctx context.Context, id string) ([]ports.Port, error) {
	found, err := p.listPorts(ctx, ports.ListOpts{Description: p.text(id)})
	if err != nil {
		return nil, err
	}
	tagged, err := p.listPorts(ctx, ports.ListOpts{Tags: cloud.Mark{Owner: p.owner, ID: id}.Query()})
	if err != nil {
		return nil, err
	}
	for _, one := range tagged {
		if !slices.ContainsFunc(found, func(o ports.Port) bool { return o.ID == one.ID }) {
			found = append(found, one)
		}
	}
	found = slices.DeleteFunc(found, func(o ports.Port) bool { return !p.made(id, o.Description, o.Tags) })
	slices.SortFunc(found, func(a, b ports.Port) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	return found, nil
}

// portName names the n-th port of an instance.
func portName(name string, n int) string { return fmt.Sprintf("%s-port%d", name, n) }

// furnish makes the instance's ports that are not there yet, and returns all.
func (p *Provider) furnish(ctx context.Context, spec scaling.LaunchSpec, t Template) ([]ports.Port, error) {
	have, err := p.portsOf(ctx, spec.ID)
	if err != nil {
		return nil, err
	}
	out := make([]ports.Port, 0, len(t.Networks))
	for n, nic := range t.Networks {
		at := slices.IndexFunc(have, func(o ports.Port) bool { return o.Name == portName(spec.Name, n) })
		var port ports.Port
		if at >= 0 {
			port = have[at]
		} else if port, err = p.makePort(ctx, spec, t, n, nic); err != nil {
			return nil, err
		}
		if err := p.setTags(ctx, "ports", port.ID, port.Tags, cloud.Tags(p.owner, spec.Group, spec.ID)); err != nil {
			return nil, err
		}
		out = append(out, port)
	}
	return out, nil
}

func (p *Provider) makePort(ctx context.Context, spec scaling.LaunchSpec, t Template, n int, nic Interface) (ports.Port, error) {
	place, err := p.placeOf(ctx, t, nic)
	if err != nil {
		return ports.Port{}, err
	}
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return ports.Port{}, err
	}
	opts := ports.CreateOpts{
		NetworkID: place.network, Name: portName(spec.Name, n), Description: p.text(spec.ID),
	}
	if place.subnet != "" {
		opts.FixedIPs = []ports.IP{{SubnetID: place.subnet}}
	}
	if len(place.groups) > 0 {
		opts.SecurityGroups = &place.groups
	}
	if nic.PortSecurity != nil && !*nic.PortSecurity {
		opts.SecurityGroups = &[]string{}
	}
	var port *ports.Port
	err = change(ctx, "create port", opts.Name, func(ctx context.Context) (err error) {
		port, err = ports.Create(ctx, client, portsecurity.PortCreateOptsExt{CreateOptsBuilder: opts, PortSecurityEnabled: nic.PortSecurity}).Extract()
		return err
	})
	if err != nil {
		return ports.Port{}, err
	}
	return *port, nil
}

// place is what an interface's names stand for, as ids.
type place struct {
	network, subnet string
	networkName     string
	groups          []string
}

func (p *Provider) placeOf(ctx context.Context, t Template, nic Interface) (place, error) {
	var at place
	if nic.Network != "" {
		network, err := p.cloud.FindNetwork(ctx, nic.Network)
		if err != nil {
			return at, err
		}
		at.network, at.networkName = network.ID, network.Name
	}
	if nic.Subnet != "" {
		subnet, err := p.cloud.FindSubnet(ctx, nic.Subnet)
		if err != nil {
			return at, err
		}
		if at.network != "" && subnet.NetworkID != at.network {
			return at, scaling.Errorf(scaling.Permanent, "subnet %q is not in network %q but in %s", nic.Subnet, nic.Network, subnet.NetworkID)
		}
		at.network, at.subnet = subnet.NetworkID, subnet.ID
	}
	names := nic.SecurityGroups
	if len(names) == 0 && (nic.PortSecurity == nil || *nic.PortSecurity) {
		names = t.SecurityGroups
	}
	for _, name := range names {
		group, err := p.cloud.FindSecurityGroup(ctx, name)
		if err != nil {
			return at, err
		}
		at.groups = append(at.groups, group.ID)
	}
	return at, nil
}

// listFloating returns the floating IPs of the project that opts ask for.
func (p *Provider) listFloating(ctx context.Context, opts floatingips.ListOpts) ([]floatingips.FloatingIP, error) {
	project, _, err := p.cloud.Project(ctx)
	if err != nil {
		return nil, err
	}
	opts.ProjectID = project
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return nil, err
	}
	return cloud.Pages(ctx, floatingips.List(client, opts), floatingips.ExtractFloatingIPs, "list floating IPs")
}

// floatingOf returns the floating IPs that were made for an instance.
func (p *Provider) floatingOf(ctx context.Context, id string) ([]floatingips.FloatingIP, error) {
	return p.floatingWith(ctx, p.text(id), cloud.Mark{Owner: p.owner, ID: id}, func(f floatingips.FloatingIP) bool {
		return p.made(id, f.Description, f.Tags)
	})
}

// floatingWith returns the floating IPs with that description or those tags that
// fit, the oldest first.
func (p *Provider) floatingWith(ctx context.Context, text string, tags cloud.Mark, fits func(floatingips.FloatingIP) bool) ([]floatingips.FloatingIP, error) {
	found, err := p.listFloating(ctx, floatingips.ListOpts{Description: text})
	if err != nil {
		return nil, err
	}
	tagged, err := p.listFloating(ctx, floatingips.ListOpts{Tags: tags.Query()})
	if err != nil {
		return nil, err
	}
	for _, one := range tagged {
		if !slices.ContainsFunc(found, func(o floatingips.FloatingIP) bool { return o.ID == one.ID }) {
			found = append(found, one)
		}
	}
	found = slices.DeleteFunc(found, func(o floatingips.FloatingIP) bool { return !fits(o) })
	slices.SortFunc(found, func(a, b floatingips.FloatingIP) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return found, nil
}

// makeFloating makes a floating IP, which leads to port if one is given.
func (p *Provider) makeFloating(ctx context.Context, network, description, port string) (floatingips.FloatingIP, error) {
	external, err := p.cloud.FindExternalNetwork(ctx, network)
	if err != nil {
		return floatingips.FloatingIP{}, err
	}
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return floatingips.FloatingIP{}, err
	}
	var made *floatingips.FloatingIP
	err = change(ctx, "create floating IP", "in "+external.Name, func(ctx context.Context) (err error) {
		made, err = floatingips.Create(ctx, client, floatingips.CreateOpts{
			FloatingNetworkID: external.ID, Description: description, PortID: port,
		}).Extract()
		return err
	})
	switch {
	case scaling.IsNotFound(err):
		// The subnet has no router to the external network.
		return floatingips.FloatingIP{}, scaling.WithClass(scaling.Permanent, err)
	case err != nil:
		return floatingips.FloatingIP{}, err
	}
	return *made, nil
}

// lead makes a floating IP lead to a port, by one update, whatever it led to.
func (p *Provider) lead(ctx context.Context, f floatingips.FloatingIP, port string) error {
	if f.PortID == port {
		return nil
	}
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return err
	}
	return change(ctx, "move floating IP", f.FloatingIP, func(ctx context.Context) error {
		return floatingips.Update(ctx, client, f.ID, floatingips.UpdateOpts{PortID: &port}).Err
	})
}

// ensureFloating gives the instance's first port a floating IP of the instance's
// own, unless it has one.
func (p *Provider) ensureFloating(ctx context.Context, ref scaling.Ref, t Template, port string) error {
	found, err := p.floatingOf(ctx, ref.ID)
	if err != nil {
		return err
	}
	var f floatingips.FloatingIP
	switch {
	case len(found) > 0:
		f = found[0]
		if err := p.lead(ctx, f, port); err != nil {
			return err
		}
	default:
		there, err := p.listFloating(ctx, floatingips.ListOpts{PortID: port})
		if err != nil {
			return err
		}
		if len(there) > 0 {
			return nil // an adopted VM's own, or one that a person gave it
		}
		if f, err = p.makeFloating(ctx, t.FloatingNetwork, p.text(ref.ID), port); err != nil {
			return err
		}
	}
	return p.setTags(ctx, "floatingips", f.ID, f.Tags, cloud.Tags(p.owner, ref.Group, ref.ID))
}

// portOf returns the port on which a server is reached: the first that we made for
// it, or the one with the first of its addresses.
func (p *Provider) portOf(ctx context.Context, s *server, t Template) (ports.Port, error) {
	all, err := p.listPorts(ctx, ports.ListOpts{DeviceID: s.ID})
	if err != nil {
		return ports.Port{}, err
	}
	all = slices.DeleteFunc(all, func(o ports.Port) bool { return o.DeviceID != s.ID })
	m, _ := s.mark()
	for _, port := range all {
		if p.made(m.ID, port.Description, port.Tags) && strings.HasSuffix(port.Name, portName("", 0)) {
			return port, nil
		}
	}
	names, err := p.networkNames(ctx, t)
	if err != nil {
		return ports.Port{}, err
	}
	for _, ip := range s.fixed(names) {
		for _, port := range all {
			if slices.ContainsFunc(port.FixedIPs, func(f ports.IP) bool { return sameIP(f.IPAddress, ip) }) {
				return port, nil
			}
		}
	}
	if len(all) > 0 {
		return all[0], nil
	}
	return ports.Port{}, scaling.Errorf(scaling.Temporary, "server %q (%s) has no port yet", s.Name, s.ID)
}

func sameIP(text string, ip netip.Addr) bool {
	other, err := netip.ParseAddr(text)
	return err == nil && other == ip
}
