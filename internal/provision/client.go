package provision

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// client is what is written to a cloud, one function per write.
type client struct {
	cloud *cloud.Cloud
	// poll is how often something is asked that takes its time.
	poll time.Duration
}

// Limits of what only goes on in the cloud.
const (
	defaultPoll    = time.Second
	goneDeadline   = 3 * time.Minute
	refuseDeadline = time.Minute // a removal is refused for so long while something else ends
)

func (c *client) makeNetwork(ctx context.Context, name, description string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	return cloud.Error(networks.Create(ctx, api, networks.CreateOpts{Name: name, Description: description}).Err, "make network %q", name)
}

func (c *client) makeSubnet(ctx context.Context, network string, s SubnetSpec, description string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	gateway := s.Gateway.String()
	opts := subnets.CreateOpts{
		NetworkID: network, CIDR: s.CIDR.String(), Name: s.Name, Description: description, IPVersion: gophercloud.IPv4,
		GatewayIP: &gateway, DNSNameservers: texts(s.DNS),
	}
	return cloud.Error(subnets.Create(ctx, api, opts).Err, "make subnet %q", s.Name)
}

func texts(list []netip.Addr) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return out
}

func (c *client) setDNS(ctx context.Context, subnet string, servers []netip.Addr) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	list := texts(servers)
	return cloud.Error(subnets.Update(ctx, api, subnet, subnets.UpdateOpts{DNSNameservers: &list}).Err, "set the DNS servers of subnet %s", subnet)
}

func (c *client) makeRouter(ctx context.Context, name, description, external string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	opts := routers.CreateOpts{Name: name, Description: description, GatewayInfo: &routers.GatewayInfo{NetworkID: external}}
	return cloud.Error(routers.Create(ctx, api, opts).Err, "make router %q", name)
}

func (c *client) setGateway(ctx context.Context, router, external string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	opts := routers.UpdateOpts{GatewayInfo: &routers.GatewayInfo{NetworkID: external}}
	return cloud.Error(routers.Update(ctx, api, router, opts).Err, "set the gateway of router %s", router)
}

func (c *client) clearGateway(ctx context.Context, router string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	opts := routers.UpdateOpts{GatewayInfo: &routers.GatewayInfo{}}
	return c.insist(ctx, func() error {
		return cloud.Error(routers.Update(ctx, api, router, opts).Err, "take away the gateway of router %s", router)
	})
}

// makePort makes the port that becomes the router's interface.
func (c *client) makePort(ctx context.Context, network, subnet string, address netip.Addr, name, description string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	opts := ports.CreateOpts{
		NetworkID: network, Name: name, Description: description, FixedIPs: []ports.IP{{SubnetID: subnet, IPAddress: address.String()}},
		SecurityGroups: &[]string{}, // a router's port has none
	}
	return cloud.Error(ports.Create(ctx, api, opts).Err, "make the port %s of router %q", address, name)
}

func (c *client) attach(ctx context.Context, router, port string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	return cloud.Error(routers.AddInterface(ctx, api, router, routers.AddInterfaceOpts{PortID: port}).Err, "attach port %s to router %s", port, router)
}

// detach takes an interface off its router, which removes the port.
func (c *client) detach(ctx context.Context, router, port string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	return c.insist(ctx, func() error {
		return cloud.Error(routers.RemoveInterface(ctx, api, router, routers.RemoveInterfaceOpts{PortID: port}).Err, "detach port %s from router %s", port, router)
	})
}

func (c *client) makeGroup(ctx context.Context, name, description string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	return cloud.Error(groups.Create(ctx, api, groups.CreateOpts{Name: name, Description: description}).Err, "make security group %q", name)
}

func (c *client) makeRule(ctx context.Context, group string, r Rule) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	opts := rules.CreateOpts{
		Direction: rules.DirIngress, EtherType: rules.EtherType4, SecGroupID: group, Description: r.Description,
		Protocol: rules.RuleProtocol(r.Protocol), PortRangeMin: r.Low, PortRangeMax: r.High,
	}
	if !r.everyone() {
		opts.RemoteIPPrefix = r.From.String()
	}
	return cloud.Error(rules.Create(ctx, api, opts).Err, "open %s in security group %s", r, group)
}

func (c *client) removeRule(ctx context.Context, r Rule) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	return gone(cloud.Error(rules.Delete(ctx, api, r.ID).Err, "close %s", r))
}

func (c *client) setGroups(ctx context.Context, port string, list []string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	return cloud.Error(ports.Update(ctx, api, port, ports.UpdateOpts{SecurityGroups: &list}).Err, "set the security groups of port %s", port)
}

func (c *client) makeAddress(ctx context.Context, network string, address netip.Addr, port, description string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	opts := floatingips.CreateOpts{FloatingNetworkID: network, PortID: port, Description: description}
	if address.IsValid() {
		opts.FloatingIP = address.String()
	}
	return cloud.Error(floatingips.Create(ctx, api, opts).Err, "make a floating IP of network %s", network)
}

func (c *client) associate(ctx context.Context, address, port string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	return cloud.Error(floatingips.Update(ctx, api, address, floatingips.UpdateOpts{PortID: &port}).Err, "give floating IP %s to port %s", address, port)
}

// tag adds tags, one a request: a request with all of them would take off what
// somebody else adds meanwhile.
func (c *client) tag(ctx context.Context, collection, id string, tags []string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if err := attributestags.Add(ctx, api, collection, id, tag).ExtractErr(); err != nil {
			return cloud.Error(err, "tag %s %s with %s", collection, id, tag)
		}
	}
	return nil
}

func (c *client) untag(ctx context.Context, collection, id, tag string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	return gone(cloud.Error(attributestags.Delete(ctx, api, collection, id, tag).ExtractErr(), "take the tag %s off %s %s", tag, collection, id))
}

// remove removes something of the network service.
func (c *client) remove(ctx context.Context, collection, id string) error {
	api, err := c.cloud.Network(ctx)
	if err != nil {
		return err
	}
	return c.insist(ctx, func() error {
		var err error
		switch collection {
		case collNetworks:
			err = networks.Delete(ctx, api, id).ExtractErr()
		case collSubnets:
			err = subnets.Delete(ctx, api, id).ExtractErr()
		case collRouters:
			err = routers.Delete(ctx, api, id).ExtractErr()
		case collPorts:
			err = ports.Delete(ctx, api, id).ExtractErr()
		case collGroups:
			err = groups.Delete(ctx, api, id).ExtractErr()
		case collAddress:
			err = floatingips.Delete(ctx, api, id).ExtractErr()
		}
		return cloud.Error(err, "remove %s %s", collection, id)
	})
}

// insist repeats a removal that is refused because something else has not quite
// ended, such as the port of a server that is gone.
func (c *client) insist(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, refuseDeadline)
	defer cancel()
	for {
		err := gone(do())
		if err == nil || scaling.ClassOf(err) != scaling.Conflict {
			return err
		}
		if wait(ctx, c.poll) != nil {
			return err
		}
	}
}

// gone makes "there is none" the end that was wanted.
func gone(err error) error {
	if scaling.IsNotFound(err) {
		return nil
	}
	return err
}

// passing reports whether the same question may be answered in a moment.
func passing(err error) bool { return err != nil && scaling.ClassOf(err) == scaling.Temporary }

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

func (c *client) importKey(ctx context.Context, name, public string) error {
	api, err := c.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	opts := keypairs.CreateOpts{Name: name, PublicKey: public, Type: "ssh"}
	return cloud.Error(keypairs.Create(ctx, api, opts).Err, "import key pair %q", name)
}

func (c *client) removeKey(ctx context.Context, name string) error {
	api, err := c.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	return gone(cloud.Error(keypairs.Delete(ctx, api, name, nil).Err, "remove key pair %q", name))
}

// newServer is what a server is made of.
type newServer struct {
	name, image, flavor, network, group, key string
	tags                                     []string
	userData                                 []byte
	configDrive                              bool
	deadline                                 time.Duration
}

// makeServer makes a server and waits until it is active.
func (c *client) makeServer(ctx context.Context, s newServer) error {
	api, err := c.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	opts := servers.CreateOpts{
		Name: s.name, ImageRef: s.image, FlavorRef: s.flavor, Networks: []servers.Network{{UUID: s.network}}, Tags: s.tags, UserData: s.userData,
	}
	if s.group != "" {
		opts.SecurityGroups = []string{s.group}
	}
	if s.configDrive {
		opts.ConfigDrive = &s.configDrive
	}
	var create servers.CreateOptsBuilder = opts
	if s.key != "" {
		create = keypairs.CreateOptsExt{CreateOptsBuilder: opts, KeyName: s.key}
	}
	made, err := servers.Create(ctx, api, create, nil).Extract()
	if err != nil {
		return cloud.Error(err, "make server %q", s.name)
	}
	return c.awaitActive(ctx, made.ID, s.deadline)
}

func (c *client) awaitActive(ctx context.Context, id string, deadline time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("it did not become active in %s (boot_deadline)", deadline))
	defer cancel()
	for {
		api, err := c.cloud.Compute(ctx)
		if err != nil {
			return err
		}
		s, err := servers.Get(ctx, api, id).Extract()
		switch {
		case err == nil && s.Status == "ACTIVE":
			return nil
		case err == nil && s.Status == "ERROR":
			return fmt.Errorf("server %s (%s) could not be made: %s; run again once the cause is gone", s.Name, id, s.Fault.Message)
		}
		if err := cloud.Error(err, "look at server %s", id); err != nil && !passing(err) {
			return err
		}
		if err := wait(ctx, c.poll); err != nil {
			return fmt.Errorf("wait for server %s: %w", id, err)
		}
	}
}

// removeServer removes a server and waits until it is gone.
func (c *client) removeServer(ctx context.Context, id string) error {
	api, err := c.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, goneDeadline, fmt.Errorf("it was not gone after %s", goneDeadline))
	defer cancel()
	if err := c.insist(ctx, func() error { return cloud.Error(servers.Delete(ctx, api, id).Err, "remove server %s", id) }); err != nil {
		return err
	}
	for {
		err := cloud.Error(servers.Get(ctx, api, id).Err, "look whether server %s is gone", id)
		if scaling.IsNotFound(err) {
			return nil
		}
		if err != nil && !passing(err) {
			return err
		}
		if err := wait(ctx, c.poll); err != nil {
			return fmt.Errorf("remove server %s: %w", id, err)
		}
	}
}

// makeSnapshot makes an image of the server and waits until it is active.
func (c *client) makeSnapshot(ctx context.Context, m mark, s Server, group string, deadline time.Duration) (Image, error) {
	if s.Image == "" {
		return Image{}, fmt.Errorf("server %s (%s) boots from a volume, and a snapshot of it is a snapshot of the volume: make one with openstack volume snapshot create", s.Name, s.ID)
	}
	api, err := c.cloud.Compute(ctx)
	if err != nil {
		return Image{}, err
	}
	name := s.Name + "-" + time.Now().UTC().Format("20060102-150405.000")
	opts := servers.CreateImageOpts{Name: name, Metadata: m.snapshot(name, s.ID, group)}
	id, err := servers.CreateImage(ctx, api, s.ID, opts).ExtractImageID()
	if err != nil {
		return Image{}, cloud.Error(err, "make a snapshot of server %s", s.Name)
	}
	i := Image{Status: statusActive}
	i.ID, i.Name = id, name
	return i, c.awaitImage(ctx, id, deadline)
}

func (c *client) awaitImage(ctx context.Context, id string, deadline time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("it did not become active in %s (snapshot.deadline)", deadline))
	defer cancel()
	for {
		api, err := c.cloud.Image(ctx)
		if err != nil {
			return err
		}
		i, err := images.Get(ctx, api, id).Extract()
		err = cloud.Error(err, "look at snapshot %s", id)
		switch {
		case err == nil && i.Status == images.ImageStatusActive:
			return nil
		case err == nil && !(Image{Status: string(i.Status)}).underway():
			return fmt.Errorf("snapshot %s (%s) failed: its status is %s", i.Name, id, i.Status)
		case scaling.IsNotFound(err):
			return fmt.Errorf("snapshot %s failed: the cloud removed it", id)
		case err != nil && !passing(err):
			return err
		}
		if err := wait(ctx, c.poll); err != nil {
			return fmt.Errorf("wait for snapshot %s: %w", id, err)
		}
	}
}

func (c *client) removeImage(ctx context.Context, id string) error {
	api, err := c.cloud.Image(ctx)
	if err != nil {
		return err
	}
	return gone(cloud.Error(images.Delete(ctx, api, id).Err, "remove image %s", id))
}

// console returns the end of what the guest wrote on its console.
func (c *client) console(ctx context.Context, id string) (string, error) {
	api, err := c.cloud.Compute(ctx)
	if err != nil {
		return "", err
	}
	text, err := servers.ShowConsoleOutput(ctx, api, id, servers.ShowConsoleOutputOpts{}).Extract()
	return text, cloud.Error(err, "read the console of server %s", id)
}
