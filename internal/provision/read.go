package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/scalehook/scalehook/internal/cloud"
)

// readAll are the kinds that a first look reads.
func readAll() []Kind {
	return []Kind{KindNetwork, KindSubnet, KindRouter, KindPort, KindGroup, KindFloatingIP, KindKey, kindFlavor, KindServer, KindSnapshot}
}

const kindFlavor Kind = "flavor"

// look reads the whole world.
func (c *client) look(ctx context.Context, f *File) (*World, error) {
	w := &World{}
	var err error
	if w.Project, _, err = c.cloud.Project(ctx); err != nil {
		return nil, err
	}
	if err := c.read(ctx, f, w, readAll()); err != nil {
		return nil, err
	}
	w.Room = c.room(ctx, w.Project)
	w.Here = c.here(ctx, f, w)
	return w, nil
}

// read reads some kinds again, at once: each fills in fields of its own.
func (c *client) read(ctx context.Context, f *File, w *World, kinds []Kind) error {
	errs := make([]error, len(kinds))
	var all sync.WaitGroup
	for i, kind := range kinds {
		all.Go(func() { errs[i] = c.readKind(ctx, f, w, kind) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (c *client) readKind(ctx context.Context, f *File, w *World, kind Kind) error {
	switch kind {
	case KindNetwork:
		return c.readNetworks(ctx, w)
	case KindSubnet:
		return c.readSubnets(ctx, w)
	case KindRouter:
		return c.readRouters(ctx, w)
	case KindPort, KindInterface:
		return c.readPorts(ctx, w)
	case KindGroup, KindRule:
		return c.readGroups(ctx, w)
	case KindFloatingIP:
		return c.readAddresses(ctx, w)
	case KindKey:
		w.KeyFile = KeyFile{}
		if f.Key != nil {
			w.KeyFile = readKeyFile(f.Key.PrivateKey)
		}
		return c.readKeys(ctx, w)
	case kindFlavor:
		return c.readFlavors(ctx, w)
	case KindServer:
		return c.readServers(ctx, w)
	case KindSnapshot:
		return c.readImages(ctx, w)
	case KindVCPU, KindMemory: // are no things
	}
	return nil
}

// all reads every page of a listing and puts it in an order that stays.
func all[T, O any](ctx context.Context, what string, pager pagination.Pager, extract func(pagination.Page) ([]T, error), to func(T) O, id func(O) string) ([]O, error) {
	var out []O
	err := pager.EachPage(ctx, func(_ context.Context, page pagination.Page) (bool, error) {
		list, err := extract(page)
		for _, x := range list {
			out = append(out, to(x))
		}
		return true, err
	})
	slices.SortFunc(out, func(a, b O) int { return cmp.Compare(id(a), id(b)) })
	return out, cloud.Error(err, "list the %s", what)
}

func idOf[O interface{ object() Object }](o O) string { return o.object().ID }

func (c *client) readNetworks(ctx context.Context, w *World) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	type network struct {
		networks.Network
		external.NetworkExternalExt
	}
	extract := func(page pagination.Page) ([]network, error) {
		var list []network
		err := networks.ExtractNetworksInto(page, &list)
		return list, err
	}
	w.Networks, err = all(ctx, "networks", networks.List(api, networks.ListOpts{}), extract, func(n network) Network {
		return Network{Object: Object{n.ID, n.Name, n.ProjectID, n.Description, n.Tags}, External: n.External, Down: !n.AdminStateUp}
	}, idOf)
	return err
}

func (c *client) readSubnets(ctx context.Context, w *World) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	w.Subnets, err = all(ctx, "subnets", subnets.List(api, subnets.ListOpts{}), subnets.ExtractSubnets, func(s subnets.Subnet) Subnet {
		out := Subnet{Object: Object{s.ID, s.Name, s.ProjectID, s.Description, s.Tags}, Network: s.NetworkID, NoDHCP: !s.EnableDHCP}
		out.CIDR, _ = netip.ParsePrefix(s.CIDR)
		out.Gateway, _ = netip.ParseAddr(s.GatewayIP)
		for _, text := range s.DNSNameservers {
			if a, err := netip.ParseAddr(text); err == nil {
				out.DNS = append(out.DNS, a)
			}
		}
		return out
	}, idOf)
	return err
}

func (c *client) readRouters(ctx context.Context, w *World) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	w.Routers, err = all(ctx, "routers", routers.List(api, routers.ListOpts{ProjectID: w.Project}), routers.ExtractRouters, func(r routers.Router) Router {
		return Router{Object: Object{r.ID, r.Name, r.ProjectID, r.Description, r.Tags}, External: r.GatewayInfo.NetworkID, Down: !r.AdminStateUp}
	}, idOf)
	return err
}

// readPorts reads all that can be seen: what hangs on to our network need not be of
// our project.
func (c *client) readPorts(ctx context.Context, w *World) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	w.Ports, err = all(ctx, "ports", ports.List(api, ports.ListOpts{}), ports.ExtractPorts, func(p ports.Port) Port {
		out := Port{Object: Object{p.ID, p.Name, p.ProjectID, p.Description, p.Tags}, Network: p.NetworkID, Device: p.DeviceID, Owner: p.DeviceOwner, Groups: p.SecurityGroups}
		for _, ip := range p.FixedIPs {
			a, _ := netip.ParseAddr(ip.IPAddress)
			out.Fixed = append(out.Fixed, Fixed{ip.SubnetID, a})
		}
		return out
	}, idOf)
	return err
}

func (c *client) readGroups(ctx context.Context, w *World) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	w.Groups, err = all(ctx, "security groups", groups.List(api, groups.ListOpts{ProjectID: w.Project}), groups.ExtractGroups, func(g groups.SecGroup) Group {
		out := Group{Object: Object{g.ID, g.Name, g.ProjectID, g.Description, g.Tags}}
		for _, r := range g.Rules {
			rule := Rule{
				ID: r.ID, Description: r.Description, Egress: r.Direction == "egress", IPv6: r.EtherType == "IPv6",
				Protocol: r.Protocol, Low: r.PortRangeMin, High: r.PortRangeMax, FromGroup: cmp.Or(r.RemoteGroupID, r.RemoteAddressGroupID),
			}
			rule.From, _ = netip.ParsePrefix(r.RemoteIPPrefix)
			out.Rules = append(out.Rules, rule)
		}
		slices.SortFunc(out.Rules, func(a, b Rule) int { return cmp.Compare(a.ID, b.ID) })
		return out
	}, idOf)
	return err
}

func (c *client) readAddresses(ctx context.Context, w *World) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	w.FloatingIPs, err = all(ctx, "floating IPs", floatingips.List(api, floatingips.ListOpts{}), floatingips.ExtractFloatingIPs, func(a floatingips.FloatingIP) FloatingIP {
		out := FloatingIP{Object: Object{a.ID, a.FloatingIP, a.ProjectID, a.Description, a.Tags}, Network: a.FloatingNetworkID, Port: a.PortID}
		out.Address, _ = netip.ParseAddr(a.FloatingIP)
		return out
	}, idOf)
	return err
}

func (c *client) readKeys(ctx context.Context, w *World) error {
	api, err := c.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	w.Keys, err = all(ctx, "key pairs", keypairs.List(api, keypairs.ListOpts{}), keypairs.ExtractKeyPairs,
		func(k keypairs.KeyPair) Key { return Key{k.Name, k.PublicKey} }, func(k Key) string { return k.Name })
	return err
}

func (c *client) readFlavors(ctx context.Context, w *World) error {
	api, err := c.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	w.Flavors, err = all(ctx, "flavors", flavors.ListDetail(api, flavors.ListOpts{}), flavors.ExtractFlavors, func(f flavors.Flavor) Flavor {
		return Flavor{Object: Object{ID: f.ID, Name: f.Name}, VCPUs: f.VCPUs, RAM: f.RAM}
	}, idOf)
	return err
}

func (c *client) readServers(ctx context.Context, w *World) error {
	api, err := c.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	w.Servers, err = all(ctx, "servers", servers.List(api, servers.ListOpts{}), servers.ExtractServers, func(s servers.Server) Server {
		out := Server{
			Object: Object{ID: s.ID, Name: s.Name, Project: s.TenantID}, Status: s.Status, Task: s.TaskState, Fault: s.Fault.Message,
			Launched: !s.LaunchedAt.IsZero(), Key: s.KeyName,
		}
		if s.Tags != nil {
			out.Tags = *s.Tags
		}
		out.Image, _ = s.Image["id"].(string)
		out.Flavor, _ = s.Flavor["original_name"].(string)
		for _, g := range s.SecurityGroups {
			if name, ok := g["name"].(string); ok {
				out.Groups = append(out.Groups, name)
			}
		}
		return out
	}, idOf)
	return err
}

func (c *client) readImages(ctx context.Context, w *World) error {
	api, err := c.cloud.Image(ctx)
	if err != nil {
		return err
	}
	w.Images, err = all(ctx, "images", images.List(api, images.ListOpts{}), images.ExtractImages, func(i images.Image) Image {
		out := Image{Object: Object{ID: i.ID, Name: i.Name, Project: i.Owner, Tags: i.Tags}, Status: string(i.Status), Created: i.CreatedAt, Protected: i.Protected, Properties: map[string]string{}}
		for k, v := range i.Properties {
			if text, ok := v.(string); ok {
				out.Properties[k] = text
			}
		}
		return out
	}, idOf)
	return err
}

// room asks for the quotas. They are a courtesy: what is not told is not known, and
// the cloud says it again when it counts.
func (c *client) room(ctx context.Context, project string) map[Kind]int {
	out := map[Kind]int{}
	left := func(kind Kind, limit, used int) {
		if limit >= 0 {
			out[kind] = limit - used
		}
	}
	if api, err := c.cloud.Compute(ctx); err == nil {
		if l, err := limits.Get(ctx, api, nil).Extract(); err == nil {
			a := l.Absolute
			left(KindServer, a.MaxTotalInstances, a.TotalInstancesUsed)
			left(KindVCPU, a.MaxTotalCores, a.TotalCoresUsed)
			left(KindMemory, a.MaxTotalRAMSize, a.TotalRAMUsed)
		}
	}
	if api, err := c.cloud.Network(ctx); err == nil {
		if q, err := quotas.GetDetail(ctx, api, project).Extract(); err == nil {
			for kind, d := range map[Kind]quotas.QuotaDetail{
				KindNetwork: q.Network, KindSubnet: q.Subnet, KindRouter: q.Router, KindPort: q.Port,
				KindGroup: q.SecurityGroup, KindRule: q.SecurityGroupRule, KindFloatingIP: q.FloatingIP,
			} {
				left(kind, d.Limit, d.Used+d.Reserved)
			}
		}
	}
	return out
}

// here is the address that this machine has towards the floating IPs, or else towards
// the identity service; invalid if neither tells. No packet is sent for it.
func (c *client) here(ctx context.Context, f *File, w *World) netip.Addr {
	var outside []string
	if f.Network != nil && f.Network.Router != nil {
		outside = append(outside, f.Network.Router.External)
	}
	if f.FloatingIP != nil {
		outside = append(outside, f.FloatingIP.Network)
	}
	var targets []string
	for _, s := range w.Subnets {
		if n := w.network(s.Network); n != nil && n.External && slices.Contains(outside, n.Name) && s.Gateway.Is4() {
			targets = append(targets, s.Gateway.String())
		}
	}
	if api, err := c.cloud.Network(ctx); err == nil {
		targets = append(targets, hostOf(api))
	}
	for _, target := range targets {
		conn, err := (&net.Dialer{}).DialContext(ctx, "udp4", net.JoinHostPort(target, "9"))
		if err != nil {
			continue
		}
		local, err := netip.ParseAddrPort(conn.LocalAddr().String())
		if conn.Close() == nil && err == nil && !local.Addr().IsLoopback() {
			return local.Addr()
		}
	}
	return netip.Addr{}
}

// hostOf is the host of the identity service.
func hostOf(api *gophercloud.ServiceClient) string {
	u, err := url.Parse(api.IdentityEndpoint)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// describe names the place for messages.
func (c *client) describe(ctx context.Context) (string, error) {
	_, name, err := c.cloud.Project(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, project %s", c.cloud.Name(), name), nil
}
