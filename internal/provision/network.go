package provision

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/scalehook/scalehook/internal/cloud"
)

// The collections of the network service.
const (
	collNetworks = "networks"
	collSubnets  = "subnets"
	collRouters  = "routers"
	collPorts    = "ports"
	collGroups   = "security-groups"
	collAddress  = "floatingips"
)

// tagging returns the step that adds the tags that an object lacks. Until it is
// taken the description says whose it is.
func tagging(kind Kind, coll string) func(*planner, Object) []step {
	return func(p *planner, o Object) []step {
		missing := p.mark.missing(o)
		if len(missing) == 0 {
			return nil
		}
		return []step{{
			what: "tag " + string(kind), touches: []Kind{kind},
			do: func(ctx context.Context, c *client) error { return c.tag(ctx, coll, o.ID, missing) },
		}}
	}
}

func networkResource() resource {
	return resource{
		kind:   KindNetwork,
		wanted: func(f *File) bool { return f.Network != nil },
		name:   func(f *File) string { return f.Network.Name },
		find: func(p *planner) *Object {
			name := p.file.Network.Name
			p.network = one(p, "network.name", KindNetwork, mine(p.world, p.world.Networks), name)
			if p.network == nil && p.file.Network.Subnet == nil {
				// What is taken as it is may be somebody else's that is shared with us.
				p.network = one(p, "network.name", KindNetwork, p.world.Networks, name)
				if p.network == nil {
					p.wrong("network.name", cloud.NotThere("network", name, names(p.world.Networks)))
				}
			}
			if p.network == nil {
				return nil
			}
			return &p.network.Object
		},
		compare: func(p *planner, _ *Item) {
			if p.network.Down {
				p.wrongf("network.name", "network %s (%s) is administratively down: openstack network set --enable %s", p.network.Name, p.network.ID, p.network.ID)
			}
		},
		make: func(p *planner, it *Item) []step {
			it.Details = append(it.Details, "make the network")
			return []step{{
				what: "make network " + it.Name, touches: []Kind{KindNetwork},
				do: func(ctx context.Context, c *client) error {
					return c.makeNetwork(ctx, p.file.Network.Name, p.mark.text())
				},
			}}
		},
		mark: tagging(KindNetwork, collNetworks),
	}
}

func subnetResource() resource {
	const at = "network.subnet"
	return resource{
		kind:   KindSubnet,
		wanted: func(f *File) bool { return f.Network != nil && f.Network.Subnet != nil },
		name:   func(f *File) string { return f.Network.Subnet.Name },
		find: func(p *planner) *Object {
			s := p.file.Network.Subnet
			var here, elsewhere []Subnet
			for _, x := range p.world.Subnets {
				if p.network != nil && x.Network == p.network.ID {
					here = append(here, x)
				} else {
					elsewhere = append(elsewhere, x)
				}
			}
			p.subnet = one(p, at+".name", KindSubnet, here, s.Name)
			if p.subnet != nil {
				return &p.subnet.Object
			}
			for _, x := range mine(p.world, elsewhere) {
				if x.Name == s.Name && p.mark.owns(x.Object) {
					p.wrongf(at+".name", "subnet %s (%s) was made for this file on network %s: take it away with --destroy, or name that network", x.Name, x.ID, x.Network)
				}
			}
			for _, x := range here {
				if x.CIDR.Overlaps(s.CIDR) {
					p.wrongf(at+".cidr", "%s overlaps with subnet %s (%s, %s) of the same network: name that subnet, or take another range", s.CIDR, x.Name, x.ID, x.CIDR)
				}
			}
			return nil
		},
		compare: func(p *planner, it *Item) {
			s, is := p.file.Network.Subnet, p.subnet
			if is.CIDR != s.CIDR {
				p.wrongf(at+".cidr", "subnet %s (%s) has %s: write that, or give the subnet another name and range", is.Name, is.ID, is.CIDR)
			}
			if is.Gateway != s.Gateway {
				has := "no gateway"
				if is.Gateway.IsValid() {
					has = "the gateway " + is.Gateway.String()
				}
				p.wrongf(at+".gateway", "subnet %s (%s) has %s, and its guests would lose theirs: write that, or give the subnet another name", is.Name, is.ID, has)
			}
			if is.NoDHCP {
				p.wrongf(at, "subnet %s (%s) has no DHCP, and its guests would get no address: openstack subnet set --dhcp %s", is.Name, is.ID, is.ID)
			}
			if s.DNS != nil && !slices.Equal(is.DNS, s.DNS) {
				it.steps = append(it.steps, step{
					what: fmt.Sprintf("set DNS servers %s instead of %s", addresses(s.DNS), addresses(is.DNS)), touches: []Kind{KindSubnet},
					do: func(ctx context.Context, c *client) error { return c.setDNS(ctx, is.ID, s.DNS) },
				})
			}
		},
		make: func(p *planner, it *Item) []step {
			s := *p.file.Network.Subnet
			it.Details = append(it.Details, fmt.Sprintf("make it: %s, gateway %s, DNS %s", s.CIDR, s.Gateway, addresses(s.DNS)))
			return []step{{
				what: "make subnet " + s.Name, touches: []Kind{KindSubnet},
				do: func(ctx context.Context, c *client) error {
					return c.makeSubnet(ctx, p.network.ID, s, p.mark.text())
				},
			}}
		},
		mark: tagging(KindSubnet, collSubnets),
	}
}

func addresses(list []netip.Addr) string {
	if len(list) == 0 {
		return "none"
	}
	words := make([]string, len(list))
	for i, a := range list {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

func routerResource() resource {
	const at = "network.router"
	return resource{
		kind:   KindRouter,
		wanted: func(f *File) bool { return f.Network != nil && f.Network.Router != nil },
		name:   func(f *File) string { return f.Network.Router.Name },
		find: func(p *planner) *Object {
			p.router = one(p, at+".name", KindRouter, mine(p.world, p.world.Routers), p.file.Network.Router.Name)
			if p.router == nil {
				return nil
			}
			return &p.router.Object
		},
		compare: func(p *planner, it *Item) {
			is := p.router
			if is.Down {
				p.wrongf(at+".name", "router %s (%s) is administratively down: openstack router set --enable %s", is.Name, is.ID, is.ID)
			}
			if p.outside == nil || is.External == p.outside.ID {
				return
			}
			if is.External != "" {
				leads := is.External
				if n := p.world.network(leads); n != nil {
					leads = n.Name + " (" + n.ID + ")"
				}
				p.wrongf(at+".external", "router %s (%s) leads to %s: write that, or name another router", is.Name, is.ID, leads)
				return
			}
			if it.Adopted && !slices.Contains(is.Tags, p.mark.gateway()) {
				// Said first, so that a kill in between leaves no gateway that nobody knows to be ours.
				it.steps = append(it.steps, step{
					what: "tag the router: its gateway will be ours", touches: []Kind{KindRouter},
					do: func(ctx context.Context, c *client) error {
						return c.tag(ctx, collRouters, is.ID, []string{p.mark.gateway()})
					},
				})
			}
			it.steps = append(it.steps, step{
				what: "set the external gateway " + p.outside.Name, touches: []Kind{KindRouter, KindPort},
				do: func(ctx context.Context, c *client) error { return c.setGateway(ctx, is.ID, p.outside.ID) },
			})
		},
		make: func(p *planner, it *Item) []step {
			it.Details = append(it.Details, "make it, with the external gateway "+p.file.Network.Router.External)
			return []step{{
				what: "make router " + it.Name, touches: []Kind{KindRouter, KindPort},
				do: func(ctx context.Context, c *client) error {
					return c.makeRouter(ctx, p.file.Network.Router.Name, p.mark.text(), p.outside.ID)
				},
			}}
		},
		mark: tagging(KindRouter, collRouters),
	}
}

// interfaceResource joins subnet and router. Its port is made first and by us, so
// that it carries our mark before it does anything.
func interfaceResource() resource {
	const at = "network.router"
	return resource{
		kind:   KindInterface,
		wanted: func(f *File) bool { return f.Network != nil && f.Network.Router != nil && f.Network.Subnet != nil },
		name:   func(f *File) string { return f.Network.Router.Name + " to " + f.Network.Subnet.Name },
		find: func(p *planner) *Object {
			if p.subnet == nil {
				return nil
			}
			p.attached = nil
			for i, port := range p.world.Ports {
				switch {
				case !port.on(p.subnet.ID):
				case p.router != nil && port.routed() && port.Device == p.router.ID:
					p.attached = &p.world.Ports[i]
				case port.Device == "" && p.mark.owns(port.Object) && p.attached == nil:
					p.attached = &p.world.Ports[i] // made before a kill
				case port.routed() && slices.ContainsFunc(port.Fixed, func(f Fixed) bool { return f.Address == p.subnet.Gateway }):
					p.wrongf(at+".name", "the gateway address %s of subnet %s is %s's already: name that router", p.subnet.Gateway, p.subnet.Name, p.world.holder(port.ID))
				}
			}
			if p.attached == nil {
				return nil
			}
			return &p.attached.Object
		},
		owned: func(p *planner, o Object) bool {
			// Neither subnet nor router can be removed with it, so it goes with either.
			return p.mark.owns(o) || p.mark.owns(p.subnet.Object) || p.router != nil && p.mark.owns(p.router.Object)
		},
		compare: func(p *planner, it *Item) {
			port := p.attached
			if port.Device != "" {
				return
			}
			it.steps = append(it.steps, step{
				what: "attach the port to the router", touches: []Kind{KindPort},
				do: func(ctx context.Context, c *client) error { return c.attach(ctx, p.router.ID, port.ID) },
			})
		},
		make: func(p *planner, it *Item) []step {
			it.Details = append(it.Details, fmt.Sprintf("make a port with %s and attach it to the router", p.file.Network.Subnet.Gateway))
			return []step{{
				what: "make the port of " + it.Name, touches: []Kind{KindPort},
				do: func(ctx context.Context, c *client) error {
					return c.makePort(ctx, p.network.ID, p.subnet.ID, p.file.Network.Subnet.Gateway, p.file.Network.Router.Name, p.mark.text())
				},
			}}
		},
		mark: func(p *planner, o Object) []step {
			if !p.mark.owns(o) {
				return nil
			}
			return tagging(KindPort, collPorts)(p, o)
		},
	}
}

// external looks for an external network.
func (p *planner) external(path, name string) *Network {
	var outside []Network
	for _, n := range p.world.Networks {
		if n.External {
			outside = append(outside, n)
		}
	}
	if n := one(p, path, KindNetwork, outside, name); n != nil {
		return n
	}
	for _, n := range p.world.Networks {
		if n.Name == name || n.ID == name {
			p.wrongf(path, "network %s (%s) is not external: only an administrator can make it so; the external ones: %s", n.Name, n.ID, listed(names(outside)))
			return nil
		}
	}
	p.wrong(path, cloud.NotThere("external network", name, names(outside)))
	return nil
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// overlaps finds ranges that cannot be routed beside each other: those of the
// router's other subnets, and that of the network outside.
func (p *planner) overlaps() {
	n := p.file.Network
	if n == nil || n.Subnet == nil || n.Router == nil {
		return
	}
	router := by(mine(p.world, p.world.Routers), func(r Router) bool { return r.Name == n.Router.Name || r.ID == n.Router.Name })
	for _, s := range p.world.Subnets {
		if s.Name == n.Subnet.Name || s.ID == n.Subnet.Name || !s.CIDR.IsValid() || !s.CIDR.Overlaps(n.Subnet.CIDR) {
			continue
		}
		if p.outside != nil && s.Network == p.outside.ID {
			p.wrongf("network.subnet.cidr", "%s overlaps with %s of the external network %s: take another range", n.Subnet.CIDR, s.CIDR, p.outside.Name)
			continue
		}
		if router != nil && slices.ContainsFunc(p.world.Ports, func(port Port) bool { return port.Device == router.ID && port.on(s.ID) }) {
			p.wrongf("network.subnet.cidr", "%s overlaps with subnet %s (%s, %s), which router %s has already: take another range or router", n.Subnet.CIDR, s.Name, s.ID, s.CIDR, router.Name)
		}
	}
}
