package openstack

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// Unmarked implements scaling.Surveyor with all other servers of the project.
func (p *Provider) Unmarked(ctx context.Context) ([]scaling.VM, error) {
	all, err := p.query(ctx, servers.ListOpts{}, "list every server")
	if err != nil {
		return nil, fmt.Errorf("list the VMs that are not ours: %w", err)
	}
	var vms []scaling.VM
	for _, s := range all {
		if !s.ours(p.owner) {
			vms = append(vms, scaling.VM{Name: s.Name, UUID: s.ID, Power: s.power(), CreatedAt: s.Created})
		}
	}
	slices.SortFunc(vms, func(a, b scaling.VM) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.UUID, b.UUID))
	})
	return vms, nil
}

// Leftovers implements scaling.Keeper. Ports and floating IPs count as an instance's
// parts once they carry its tags; before that only their description names it, and
// not its group.
func (p *Provider) Leftovers(ctx context.Context) ([]scaling.Leftover, error) {
	found, err := p.leftovers(ctx)
	if err != nil {
		return nil, fmt.Errorf("list what is no server: %w", err)
	}
	return found, nil
}

func (p *Provider) leftovers(ctx context.Context) ([]scaling.Leftover, error) {
	// What was made for a server is listed before the servers: one that is made
	// meanwhile is known then.
	query := cloud.Mark{Owner: p.owner}.Query()
	made, err := p.listPorts(ctx, ports.ListOpts{Tags: query})
	if err != nil {
		return nil, err
	}
	addresses, err := p.listFloating(ctx, floatingips.ListOpts{Tags: query})
	if err != nil {
		return nil, err
	}
	vms, err := p.list(ctx)
	if err != nil {
		return nil, err
	}
	parts := map[string]*scaling.Leftover{}
	part := func(tags []string, name, what string, at time.Time) {
		m, ok := cloud.ParseMark(tags)
		if !ok || m.Owner != p.owner || m.ID == "" || slices.ContainsFunc(vms, func(vm scaling.VM) bool { return vm.ID == m.ID }) {
			return
		}
		l := parts[m.ID]
		if l == nil {
			l = &scaling.Leftover{Kind: scaling.KindParts, ID: m.ID, Group: m.Group, Name: m.ID, CreatedAt: at}
			parts[m.ID] = l
		}
		if at := strings.LastIndex(name, "-port"); at > 0 {
			l.Name = name[:at]
		}
		l.Consists = strings.TrimPrefix(l.Consists+", "+what, ", ")
	}
	for _, port := range made {
		part(port.Tags, port.Name, "port "+port.ID, port.CreatedAt)
	}
	var out []scaling.Leftover
	for _, f := range addresses {
		part(f.Tags, "", "floating IP "+f.FloatingIP, f.CreatedAt)
		if m, ok := cloud.ParseMark(f.Tags); ok && p.groupOwns(f, m.Group) {
			out = append(out, scaling.Leftover{
				Kind: scaling.KindAddress, ID: f.ID, Group: m.Group, Name: f.FloatingIP, CreatedAt: f.CreatedAt,
				InUse: f.PortID != "", Consists: leadsTo(f),
			})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(parts)) {
		out = append(out, *parts[id])
	}
	kept, err := p.snapshots(ctx, cloud.ImageQuery{Properties: map[string]string{propertyOwner: string(p.owner)}})
	if err != nil {
		return nil, err
	}
	for _, i := range kept {
		if group, _ := i.Properties[propertyGroup].(string); p.kept(i, group) {
			out = append(out, scaling.Leftover{Kind: scaling.KindSnapshot, ID: i.ID, Group: group, Name: i.Name, CreatedAt: i.CreatedAt})
		}
	}
	return out, nil
}

// groupOwns reports whether a floating IP was made as the group's public address.
// One that provisioning made and a template names is none.
func (p *Provider) groupOwns(f floatingips.FloatingIP, group string) bool {
	m, ok := cloud.ParseMark(f.Tags)
	return group != "" && f.Description == p.groupText(group) && ok && m.Owner == p.owner && m.Group == group && m.ID == ""
}

func leadsTo(f floatingips.FloatingIP) string {
	if f.PortID == "" {
		return "leads nowhere"
	}
	return "leads to port " + f.PortID
}

// RemoveLeftover implements scaling.Keeper.
func (p *Provider) RemoveLeftover(ctx context.Context, l scaling.Leftover) error {
	var err error
	switch l.Kind {
	case scaling.KindSnapshot:
		err = p.removeSnapshot(ctx, l)
	case scaling.KindAddress:
		err = p.removeAddress(ctx, l)
	case scaling.KindVM, scaling.KindMember, scaling.KindParts:
		err = scaling.Errorf(scaling.Permanent, "only snapshots and public addresses are removed like this")
	}
	if err != nil {
		return fmt.Errorf("remove %s %q of group %q: %w", l.Kind, l.Name, l.Group, err)
	}
	return nil
}

func (p *Provider) removeSnapshot(ctx context.Context, l scaling.Leftover) error {
	client, err := p.cloud.Image(ctx)
	if err != nil {
		return err
	}
	i, err := images.Get(ctx, client, l.ID).Extract()
	switch {
	case cloud.Gone(err):
		return nil
	case err != nil:
		return cloud.Error(err, "get image %s", l.ID)
	case !p.kept(*i, l.Group):
		return scaling.Errorf(scaling.Conflict, "image %s is no snapshot of ours of that group", l.ID)
	}
	return p.dropSnapshot(ctx, *i)
}

func (p *Provider) removeAddress(ctx context.Context, l scaling.Leftover) error {
	ctx, unlock, err := p.locks.lock(ctx, "address of "+l.Group)
	if err != nil {
		return err
	}
	defer unlock()
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return err
	}
	f, err := floatingips.Get(ctx, client, l.ID).Extract()
	switch {
	case cloud.Gone(err):
		return nil
	case err != nil:
		return cloud.Error(err, "get floating IP %s", l.ID)
	case !p.groupOwns(*f, l.Group):
		return scaling.Errorf(scaling.Conflict, "floating IP %s was not made for it", f.FloatingIP)
	case f.PortID != "":
		return scaling.Errorf(scaling.Conflict, "it %s: take it off there first", leadsTo(*f))
	}
	err = change(ctx, "delete floating IP", f.FloatingIP, func(ctx context.Context) error { return floatingips.Delete(ctx, client, f.ID).ExtractErr() })
	if scaling.IsNotFound(err) {
		return nil
	}
	return err
}
