package openstack

import (
	"context"
	"fmt"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// LetGo implements scaling.Releaser. Tags and descriptions go, of the floating IPs and
// ports first and of the server last; its volumes never had any. Either of the two marks
// of a port finds it again, so what was interrupted is finished by another call.
func (p *Provider) LetGo(ctx context.Context, ref scaling.Ref) error {
	if err := p.letGo(ctx, ref); err != nil {
		return fmt.Errorf("let go of %q (%s): %w", ref.Name, ref.ID, err)
	}
	return nil
}

func (p *Provider) letGo(ctx context.Context, ref scaling.Ref) error {
	ctx, unlock, err := p.locks.lock(ctx, ref.ID)
	if err != nil {
		return err
	}
	defer unlock()
	addresses, err := p.floatingOf(ctx, ref.ID)
	if err != nil {
		return err
	}
	made, err := p.portsOf(ctx, ref.ID)
	if err != nil {
		return err
	}
	s, err := p.find(ctx, ref)
	if err != nil && !scaling.IsNotFound(err) {
		return err
	}
	ours := err == nil && s.is(p.owner, ref.ID)
	if ours {
		// The group's public address, if it leads here.
		leading, err := p.leadingTo(ctx, s, ref.Group)
		if err != nil {
			return err
		}
		addresses = append(addresses, leading...)
	}
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return err
	}
	none := ""
	describes := func(text string) bool { return text == p.text(ref.ID) || text == p.groupText(ref.Group) }
	for _, f := range addresses {
		if describes(f.Description) {
			err := change(ctx, "describe floating IP", f.FloatingIP, func(ctx context.Context) error {
				return floatingips.Update(ctx, client, f.ID, floatingips.UpdateOpts{Description: &none, PortID: portOrNil(f.PortID), FixedIP: f.FixedIP}).Err
			})
			if err != nil && !scaling.IsNotFound(err) {
				return err
			}
		}
		if err := p.dropTags(ctx, "floatingips", f.ID, f.Tags); err != nil {
			return err
		}
	}
	for _, port := range made {
		if describes(port.Description) {
			err := change(ctx, "describe port", port.Name, func(ctx context.Context) error {
				return ports.Update(ctx, client, port.ID, ports.UpdateOpts{Description: &none}).Err
			})
			if err != nil && !scaling.IsNotFound(err) {
				return err
			}
		}
		if err := p.dropTags(ctx, "ports", port.ID, port.Tags); err != nil {
			return err
		}
	}
	if !ours {
		return nil
	}
	if err := p.dropMetadata(ctx, s); err != nil {
		return err
	}
	if err := p.setMark(ctx, s, cloud.OtherTags(s.Tags)); err != nil {
		return err
	}
	p.forget(s.ID)
	return nil
}

// portOrNil repeats where a floating IP leads in its update, since an update that does
// not say so is one that makes it lead nowhere.
func portOrNil(id string) *string {
	if id == "" {
		return nil
	}
	return &id
}

// leadingTo finds the floating IPs that were made for the group and lead to a port of
// the server.
func (p *Provider) leadingTo(ctx context.Context, s *server, group string) ([]floatingips.FloatingIP, error) {
	all, err := p.listPorts(ctx, ports.ListOpts{DeviceID: s.ID})
	if err != nil {
		return nil, err
	}
	return p.floatingWith(ctx, p.groupText(group), cloud.Mark{Owner: p.owner, Group: group}, func(f floatingips.FloatingIP) bool {
		m, ok := cloud.ParseMark(f.Tags)
		made := f.Description == p.groupText(group) || ok && m.Owner == p.owner && m.Group == group && m.ID == ""
		return made && slices.ContainsFunc(all, func(port ports.Port) bool { return port.DeviceID == s.ID && port.ID == f.PortID })
	})
}

// dropTags takes our tags off a port or floating IP and leaves the others.
func (p *Provider) dropTags(ctx context.Context, kind, id string, have []string) error {
	others := cloud.OtherTags(have)
	if len(others) == len(have) {
		return nil
	}
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return err
	}
	err = change(ctx, "untag "+kind, id, func(ctx context.Context) error {
		return attributestags.ReplaceAll(ctx, client, kind, id, attributestags.ReplaceAllOpts{Tags: others}).Err
	})
	if scaling.IsNotFound(err) {
		return nil
	}
	return err
}

// dropMetadata takes off what a server of ours was made with.
func (p *Provider) dropMetadata(ctx context.Context, s *server) error {
	if _, has := s.Metadata[metadataID]; !has {
		return nil
	}
	client, err := p.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	err = change(ctx, "unmark server", s.Name+" ("+s.ID+")", func(ctx context.Context) error {
		return servers.DeleteMetadatum(ctx, client, s.ID, metadataID).Err
	})
	if scaling.IsNotFound(err) {
		return nil
	}
	return err
}
