package provision

import (
	"context"
	"slices"
	"strings"
)

// DestroyOptions say what is spared.
type DestroyOptions struct {
	// KeepSnapshots leaves the snapshots that were made for the file.
	KeepSnapshots bool
}

// destroyPlan removes all that was made for the file, under whatever name, and lists
// what was adopted. Whatever somebody else hangs on to stands in the way before
// anything is removed.
func destroyPlan(f *File, w *World, o DestroyOptions) Plan {
	p := newPlanner(f, w)
	p.destroyAddresses()
	p.destroyServers()
	if !o.KeepSnapshots {
		p.destroySnapshots()
	}
	p.destroyNetwork()
	p.destroyGroups()
	p.destroyKeys()
	p.adopted(o)
	return p.plan
}

func (p *planner) removes(kind Kind, o Object, touches []Kind, do func(context.Context, *client) error) {
	p.plan.Items = append(p.plan.Items, Item{
		Action: Remove, Kind: kind, Name: o.Name, ID: o.ID,
		steps: []step{{what: "remove " + string(kind) + " " + o.Name, touches: touches, do: do}},
	})
	if g := group(o); g != "" {
		p.wrongf("name", "%s %s (%s) belongs to the scaling group %s: take the group out of scalehook's configuration and remove what it owns first", kind, o.Name, o.ID, g)
	}
}

func (p *planner) ownsServer(id string) bool {
	s := p.world.server(id)
	return s != nil && p.mark.owns(s.Object)
}

// names reports whether it is the server that the file names, made for it or adopted.
func (p *planner) names(id string) bool {
	s := p.world.server(id)
	return s != nil && p.file.Server != nil && (s.Name == p.file.Server.Name || s.ID == p.file.Server.Name)
}

func (p *planner) destroyAddresses() {
	for _, a := range mine(p.world, p.world.FloatingIPs) {
		if !p.mark.owns(a.Object) {
			continue
		}
		o := a.Object
		o.Name = a.Address.String()
		p.removes(KindFloatingIP, o, []Kind{KindFloatingIP}, func(ctx context.Context, c *client) error { return c.remove(ctx, collAddress, a.ID) })
		if port := p.world.port(a.Port); a.Port != "" && (port == nil || port.Device != "" && !p.ownsServer(port.Device) && !p.names(port.Device)) {
			p.wrongf("floating_ip", "floating IP %s (%s) is in use by %s, which was not made for this file: take it away there first", a.Address, a.ID, p.world.holder(a.Port))
		}
	}
}

func (p *planner) destroyServers() {
	for _, s := range p.world.Servers {
		if p.mark.owns(s.Object) {
			p.removes(KindServer, s.Object, []Kind{KindServer, KindPort, KindFloatingIP}, func(ctx context.Context, c *client) error { return c.removeServer(ctx, s.ID) })
		}
	}
}

func (p *planner) destroySnapshots() {
	for _, i := range p.mark.snapshots(p.world, "") {
		p.removes(KindSnapshot, i.Object, []Kind{KindSnapshot}, func(ctx context.Context, c *client) error { return c.removeImage(ctx, i.ID) })
		if i.Protected {
			p.wrongf("snapshot", "snapshot %s (%s) is protected: openstack image set --unprotect %s, or --keep-snapshots", i.Name, i.ID, i.ID)
		}
	}
}

func (p *planner) destroyNetwork() {
	w := p.world
	ownNetwork, ownSubnet, ownRouter := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, n := range mine(w, w.Networks) {
		ownNetwork[n.ID] = p.mark.owns(n.Object)
	}
	for _, s := range mine(w, w.Subnets) {
		ownSubnet[s.ID] = p.mark.owns(s.Object)
	}
	for _, r := range mine(w, w.Routers) {
		ownRouter[r.ID] = p.mark.owns(r.Object)
	}
	for _, port := range w.Ports {
		onOurs := ownNetwork[port.Network]
		for _, f := range port.Fixed {
			onOurs = onOurs || ownSubnet[f.Subnet]
		}
		// An administrator sees other projects' ports, which may have the same mark.
		owned := p.mark.owns(port.Object) && len(mine(w, []Port{port})) > 0
		switch {
		case port.routed():
			if !owned && !onOurs && !ownRouter[port.Device] {
				continue
			}
			if ownRouter[port.Device] && !onOurs && !owned && !p.named(port) {
				p.wrongf("network.router.name", "%s was made for this file and also has port %s on network %s, which was not: detach it first", w.holder(port.ID), port.ID, port.Network)
			}
			o := port.Object
			o.Name = w.holder(port.ID)
			p.removes(KindInterface, o, []Kind{KindPort}, func(ctx context.Context, c *client) error { return c.detach(ctx, port.Device, port.ID) })
		case port.Device == "" && owned:
			p.removes(KindPort, port.Object, []Kind{KindPort}, func(ctx context.Context, c *client) error { return c.remove(ctx, collPorts, port.ID) })
		case onOurs && !strings.HasPrefix(port.Owner, "network:") && !p.ownsServer(port.Device):
			p.wrongf("network.name", "network %s is still used by %s, which was not made for this file: remove it first", port.Network, w.holder(port.ID))
		}
	}
	for _, r := range mine(w, w.Routers) {
		switch {
		case ownRouter[r.ID]:
			p.removes(KindRouter, r.Object, []Kind{KindRouter, KindPort}, func(ctx context.Context, c *client) error { return c.remove(ctx, collRouters, r.ID) })
		case slices.Contains(r.Tags, p.mark.gateway()):
			p.plan.Items = append(p.plan.Items, Item{Action: Change, Kind: KindRouter, Name: r.Name, ID: r.ID, Adopted: true, Details: []string{"take away the external gateway that was set for this file"}, steps: []step{{
				what: "take away the external gateway of " + r.Name, touches: []Kind{KindRouter, KindPort},
				do: func(ctx context.Context, c *client) error {
					if err := c.clearGateway(ctx, r.ID); err != nil {
						return err
					}
					return c.untag(ctx, collRouters, r.ID, p.mark.gateway())
				},
			}}})
		}
	}
	for _, s := range mine(w, w.Subnets) {
		if ownSubnet[s.ID] {
			p.removes(KindSubnet, s.Object, []Kind{KindSubnet, KindPort}, func(ctx context.Context, c *client) error { return c.remove(ctx, collSubnets, s.ID) })
		}
	}
	for _, n := range mine(w, w.Networks) {
		if ownNetwork[n.ID] {
			p.removes(KindNetwork, n.Object, []Kind{KindNetwork, KindSubnet, KindPort}, func(ctx context.Context, c *client) error { return c.remove(ctx, collNetworks, n.ID) })
		}
	}
}

// named reports whether the port is on the subnet that the file names: then it was
// attached for the file, even to an adopted subnet.
func (p *planner) named(port Port) bool {
	n := p.file.Network
	if n == nil || n.Subnet == nil {
		return false
	}
	for _, s := range p.world.Subnets {
		if (s.Name == n.Subnet.Name || s.ID == n.Subnet.Name) && port.on(s.ID) {
			return true
		}
	}
	return false
}

func (p *planner) destroyGroups() {
	for _, g := range mine(p.world, p.world.Groups) {
		if !p.mark.owns(g.Object) {
			for _, r := range g.Rules {
				if r.Description == p.mark.text() {
					p.removes(KindRule, Object{ID: r.ID, Name: r.String() + " in " + g.Name}, []Kind{KindGroup}, func(ctx context.Context, c *client) error { return c.removeRule(ctx, r) })
				}
			}
			continue
		}
		for _, port := range p.world.Ports {
			switch {
			case !slices.Contains(port.Groups, g.ID), p.ownsServer(port.Device), p.mark.owns(port.Object):
			case p.names(port.Device):
				// It was added to a server that was there before.
				left := slices.DeleteFunc(slices.Clone(port.Groups), func(id string) bool { return id == g.ID })
				what := "take the security group " + g.Name + " off its port"
				p.plan.Items = append(p.plan.Items, Item{Action: Change, Kind: KindServer, Name: p.file.Server.Name, ID: port.Device, Adopted: true, Details: []string{what}, steps: []step{{
					what: what, touches: []Kind{KindPort, KindServer},
					do: func(ctx context.Context, c *client) error { return c.setGroups(ctx, port.ID, left) },
				}}})
			default:
				p.wrongf("security_group.name", "security group %s (%s) is still used by %s, which was not made for this file: take it away there first", g.Name, g.ID, p.world.holder(port.ID))
			}
		}
		p.removes(KindGroup, g.Object, []Kind{KindGroup}, func(ctx context.Context, c *client) error { return c.remove(ctx, collGroups, g.ID) })
	}
}

func (p *planner) destroyKeys() {
	for _, k := range p.world.Keys {
		if p.mark.ownsKey(k, p.world.Project) {
			p.removes(KindKey, Object{ID: k.Name, Name: k.Name}, []Kind{KindKey}, func(ctx context.Context, c *client) error { return c.removeKey(ctx, k.Name) })
		}
	}
	if file := p.world.KeyFile; file.Public != "" {
		p.plan.Notes = append(p.plan.Notes, "the private key "+file.Path+" stays where it is")
	}
}

// adopted lists what the file names and was not made for it.
func (p *planner) adopted(o DestroyOptions) {
	for _, it := range planned(p.file, p.world).plan.Items {
		if it.ID == "" || !it.Adopted && !(it.Kind == KindSnapshot && o.KeepSnapshots) {
			continue
		}
		why := "was there before and stays"
		if it.Kind == KindSnapshot {
			why = "kept by --keep-snapshots"
		}
		p.plan.Items = append(p.plan.Items, Item{Action: Leave, Kind: it.Kind, Name: it.Name, ID: it.ID, Adopted: it.Adopted, Details: []string{why}})
	}
}
