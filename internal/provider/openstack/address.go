package openstack

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// HasAddress implements scaling.Addresser.
func (p *Provider) HasAddress(group string) bool {
	return p.templateOr(group).PublicAddress != nil
}

// Address implements scaling.Addresser.
func (p *Provider) Address(ctx context.Context, group string) (scaling.PublicAddress, error) {
	f, err := p.public(ctx, group)
	var out scaling.PublicAddress
	if err == nil {
		out.UUID, err = p.device(ctx, f.PortID)
	}
	if err == nil {
		if out.Addr, err = netip.ParseAddr(f.FloatingIP); err != nil {
			err = scaling.WithClass(scaling.Temporary, err)
		}
	}
	if err != nil {
		return scaling.PublicAddress{}, fmt.Errorf("find the public address of group %q: %w", group, err)
	}
	return out, nil
}

// public finds the group's floating IP: the one that is configured, or the one that
// was made for the group. NotFound if it is not made yet.
func (p *Provider) public(ctx context.Context, group string) (floatingips.FloatingIP, error) {
	var none floatingips.FloatingIP
	t, err := p.template(group)
	if err != nil {
		return none, err
	}
	if t.PublicAddress == nil {
		return none, scaling.Errorf(scaling.Permanent, "the template has no public_address")
	}
	if t.PublicAddress.Address != "" {
		f, err := p.cloud.FindFloatingIP(ctx, t.PublicAddress.Address)
		if err != nil {
			return none, err
		}
		if m, ok := cloud.ParseMark(f.Tags); ok && m.Group != "" && (m.Owner != p.owner || m.Group != group || m.ID != "") {
			return none, scaling.Errorf(scaling.Conflict, "floating IP %s belongs to group %q of owner %q", f.FloatingIP, m.Group, m.Owner)
		}
		return f, nil
	}
	all, err := p.floatingWith(ctx, p.groupText(group), cloud.Mark{Owner: p.owner, Group: group}, func(f floatingips.FloatingIP) bool {
		m, ok := cloud.ParseMark(f.Tags)
		return f.Description == p.groupText(group) || ok && m.Owner == p.owner && m.Group == group && m.ID == ""
	})
	if err != nil {
		return none, err
	}
	if len(all) == 0 {
		return none, scaling.Errorf(scaling.NotFound, "there is none yet")
	}
	return all[0], nil
}

// device returns the server that a port belongs to; empty if there is none.
func (p *Provider) device(ctx context.Context, port string) (string, error) {
	if port == "" {
		return "", nil
	}
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return "", err
	}
	got, err := ports.Get(ctx, client, port).Extract()
	if cloud.Gone(err) {
		return "", nil
	}
	if err != nil {
		return "", cloud.Error(err, "get port %s", port)
	}
	return got.DeviceID, nil
}

// MoveAddress implements scaling.Addresser by one update of the floating IP's port.
func (p *Provider) MoveAddress(ctx context.Context, ref scaling.Ref) error {
	if err := p.move(ctx, ref); err != nil {
		return fmt.Errorf("move the public address of group %q to %q (%s): %w", ref.Group, ref.Name, ref.ID, err)
	}
	return nil
}

func (p *Provider) move(ctx context.Context, ref scaling.Ref) error {
	ctx, unlock, err := p.locks.lock(ctx, "address of "+ref.Group)
	if err != nil {
		return err
	}
	defer unlock()
	t, err := p.template(ref.Group)
	if err != nil {
		return err
	}
	s, err := p.find(ctx, ref)
	if err != nil {
		return err
	}
	if !s.is(p.owner, ref.ID) {
		return scaling.Errorf(scaling.NotFound, "server %q carries no mark of ours for this instance", s.Name)
	}
	port, err := p.portOf(ctx, s, t)
	if err != nil {
		return err
	}
	f, err := p.public(ctx, ref.Group)
	switch {
	case scaling.IsNotFound(err):
		if f, err = p.makeFloating(ctx, t.PublicAddress.Network, p.groupText(ref.Group), port.ID); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	if f.PortID != port.ID {
		if err := p.free(ctx, f, s, ref.Group); err != nil {
			return err
		}
		if err := p.lead(ctx, f, port.ID); err != nil {
			return err
		}
	}
	if t.PublicAddress.Address != "" {
		return nil // it is not ours to mark
	}
	return p.setTags(ctx, "floatingips", f.ID, f.Tags, cloud.Tags(p.owner, ref.Group, ""))
}

// free makes sure that the address may be taken from where it leads: nowhere, or to
// another VM of the group.
func (p *Provider) free(ctx context.Context, f floatingips.FloatingIP, to *server, group string) error {
	uuid, err := p.device(ctx, f.PortID)
	if err != nil || uuid == "" || uuid == to.ID {
		return err
	}
	s, err := p.get(ctx, uuid)
	if scaling.IsNotFound(err) {
		// No server: a router or a load balancer, or one that is being deleted.
		return p.freePort(ctx, f)
	}
	if err != nil {
		return err
	}
	if m, ok := s.mark(); !ok || m.Owner != p.owner || m.Group != group {
		return scaling.Errorf(scaling.Conflict, "floating IP %s leads to server %q (%s), which is not of this group: take it off there first", f.FloatingIP, s.Name, s.ID)
	}
	return nil
}

// freePort refuses a port that belongs to anything but a server.
func (p *Provider) freePort(ctx context.Context, f floatingips.FloatingIP) error {
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return err
	}
	port, err := ports.Get(ctx, client, f.PortID).Extract()
	if cloud.Gone(err) {
		return nil
	}
	if err != nil {
		return cloud.Error(err, "get port %s", f.PortID)
	}
	if owner := port.DeviceOwner; owner != "" && !isCompute(owner) {
		return scaling.Errorf(scaling.Conflict, "floating IP %s leads to a port of %s: take it off there first", f.FloatingIP, owner)
	}
	return nil
}
