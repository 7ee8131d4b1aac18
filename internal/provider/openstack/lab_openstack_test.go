//go:build openstack

package openstack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/provider/openstack"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

// site is a project of the lab with a network of our own that has a router, and a
// provider there.
type site struct {
	*lab.Cloud
	t       *testing.T
	cloud   openstack.Config
	owner   string
	network string
	// raw is a second way to the cloud, so that what the driver says is compared
	// with what is there.
	raw *cloud.Cloud
	p   *openstack.Provider
	// theirs are the servers that were not made by the provider.
	theirs []string
}

// within bounds one step of a test, patience one request: the machine may be busy.
const (
	within   = 15 * time.Minute
	patience = 10 * time.Minute
)

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
func startSite(t *testing.T, owner string, change ...func(*openstack.Template)) *site {
	t.Helper()
	c := lab.Start(t, lab.Options{})
	return settle(t, c, openstack.Config{Config: cloud.Config{Cloud: lab.Member, CloudsFile: c.CloudsFile()}}, owner, change...)
}

// settle is startSite for a project of that cloud.
func settle(t *testing.T, c *lab.Cloud, cfg openstack.Config, owner string, change ...func(*openstack.Template)) *site {
	t.Helper()
	cfg.Timeout = patience
	s := &site{Cloud: c, t: t, cloud: cfg, owner: owner, network: owner + "-net"}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	s.raw = must[*cloud.Cloud](t, "open the cloud")(cloud.Open(cfg.Config, log))
	t.Cleanup(s.raw.Close)
	s.makeNetwork(t)
	s.p = s.provider(t, cfg, change...)
	return s
}

func (s *site) template(change ...func(*openstack.Template)) openstack.Template {
	t := openstack.Template{
		Flavor: lab.Flavor, Image: lab.Image, Networks: []openstack.Interface{{Network: s.network}},
		MemberAddress: openstack.MemberFixed, Metadata: map[string]string{"role": "web"},
	}
	for _, fn := range change {
		fn(&t)
	}
	return t
}

func (s *site) provider(t *testing.T, cfg openstack.Config, change ...func(*openstack.Template)) *openstack.Provider {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	p := must[*openstack.Provider](t, "open the provider")(openstack.New(cfg, s.owner, map[string]openstack.Template{"web": s.template(change...)}, log))
	t.Cleanup(func() { p.Close() })
	return p
}

func (s *site) makeNetwork(t *testing.T) {
	t.Helper()
	client := s.raw
	neutron, err := client.Network(step(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.FindNetwork(step(t), s.network); err == nil {
		t.Fatalf("network %s is left from another run", s.network)
	}
	n := must[*networks.Network](t, "make a network")(networks.Create(step(t), neutron, networks.CreateOpts{Name: s.network}).Extract())
	t.Cleanup(func() { s.log(networks.Delete(step(t), neutron, n.ID).ExtractErr()) })
	sub := must[*subnets.Subnet](t, "make a subnet")(subnets.Create(step(t), neutron, subnets.CreateOpts{
		NetworkID: n.ID, Name: s.owner + "-subnet", CIDR: "10.77.0.0/24", IPVersion: 4,
	}).Extract())
	external := must[cloud.NetworkInfo](t, "find the external network")(client.FindExternalNetwork(step(t), ""))
	r := must[*routers.Router](t, "make a router")(routers.Create(step(t), neutron, routers.CreateOpts{
		Name: s.owner + "-router", GatewayInfo: &routers.GatewayInfo{NetworkID: external.ID},
	}).Extract())
	t.Cleanup(func() { s.log(routers.Delete(step(t), neutron, r.ID).ExtractErr()) })
	must[*routers.InterfaceInfo](t, "connect the router")(routers.AddInterface(step(t), neutron, r.ID, routers.AddInterfaceOpts{SubnetID: sub.ID}).Extract())
	t.Cleanup(func() {
		_, err := routers.RemoveInterface(step(t), neutron, r.ID, routers.RemoveInterfaceOpts{SubnetID: sub.ID}).Extract()
		s.log(err)
	})
}

func (s *site) log(err error) {
	if err != nil {
		s.t.Errorf("take away what the test made: %v", err)
	}
}

// makeServer makes a server as anybody might, and takes it away at the end.
func (s *site) makeServer(t *testing.T, name string, tags []string) string {
	t.Helper()
	nova, err := s.raw.Compute(step(t))
	if err != nil {
		t.Fatal(err)
	}
	image, err := s.raw.FindImage(step(t), cloud.ImageQuery{Name: lab.Image})
	if err != nil {
		t.Fatal(err)
	}
	flavor, err := s.raw.FindFlavor(step(t), lab.Flavor)
	if err != nil {
		t.Fatal(err)
	}
	network, err := s.raw.FindNetwork(step(t), s.network)
	if err != nil {
		t.Fatal(err)
	}
	made, err := servers.Create(step(t), nova, servers.CreateOpts{
		Name: name, ImageRef: image.ID, FlavorRef: flavor.ID, Networks: []servers.Network{{UUID: network.ID}}, Tags: tags,
		Metadata: map[string]string{"belongs-to": "somebody"},
	}, nil).Extract()
	if err != nil {
		t.Fatal(err)
	}
	s.theirs = append(s.theirs, made.ID)
	t.Cleanup(func() { s.deleteServer(t, made.ID) })
	testenv.Eventually(t, within, name+" to be ACTIVE", func() error {
		got, err := servers.Get(step(t), nova, made.ID).Extract()
		if err == nil && got.Status != "ACTIVE" {
			err = fmt.Errorf("it is %s", got.Status)
		}
		return err
	})
	return made.ID
}

// deleteServer deletes a server as anybody might, and waits until it is gone.
func (s *site) deleteServer(t *testing.T, uuid string) {
	t.Helper()
	nova, err := s.raw.Compute(step(t))
	if err != nil {
		t.Fatal(err)
	}
	servers.Delete(step(t), nova, uuid)
	testenv.Eventually(t, within, "server "+uuid+" to be gone", func() error {
		_, err := servers.Get(step(t), nova, uuid).Extract()
		if cloud.Gone(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
}

// intact returns an error unless the server that makeServer made is as it was.
func (s *site) intact(t *testing.T, name string) error {
	t.Helper()
	all, err := s.raw.ServersCalled(step(t), name)
	if err != nil {
		return err
	}
	if len(all) != 1 {
		return fmt.Errorf("there are %d servers of that name", len(all))
	}
	one := all[0]
	if one.Status != "ACTIVE" || one.Metadata["belongs-to"] != "somebody" || len(one.Addresses) != 1 {
		return fmt.Errorf("it is %s with metadata %v and addresses %v", one.Status, one.Metadata, one.Addresses)
	}
	if _, marked := cloud.ParseMark(*one.Tags); marked {
		return fmt.Errorf("it carries a mark: %q", *one.Tags)
	}
	return nil
}

func (s *site) tags(t *testing.T, uuid string) []string {
	t.Helper()
	nova, err := s.raw.Compute(step(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := servers.Get(step(t), nova, uuid).Extract()
	if err != nil {
		t.Fatal(err)
	}
	return *got.Tags
}

// left lists what the provider has made and not taken away.
func (s *site) left(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(s.Leftovers(t, s.owner), func(what string) bool {
		for _, own := range []string{"network ", "subnet ", "router "} {
			if strings.HasPrefix(what, own) {
				return true // the site's
			}
		}
		if at, err := s.p.Address(step(t), "web"); err == nil && strings.Contains(what, at.Addr.String()) {
			return true // the group's own address outlives its VMs
		}
		// What the hooks made is taken away after this is asked.
		return slices.ContainsFunc(s.theirs, func(uuid string) bool { return strings.Contains(what, uuid) })
	})
}

// client asks the openstack command, as somebody who does not trust us.
func (s *site) client(t *testing.T, into any, args ...string) {
	t.Helper()
	decode(t, s.OpenStack(t, lab.Member, args...), into)
}

func decode(t *testing.T, raw []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
}

// create makes a VM and takes it away at the end.
func (s *site) create(t *testing.T, p *openstack.Provider, n int) (scaling.VM, scaling.Ref, error) {
	t.Helper()
	spec := scaling.LaunchSpec{ID: newID(n), Group: "web", Name: fmt.Sprintf("%s-%d", s.owner, n), Number: n}
	ref := scaling.Ref{ID: spec.ID, Group: spec.Group, Name: spec.Name}
	t.Cleanup(func() {
		if err := s.p.Delete(step(t), ref); err != nil {
			t.Errorf("delete %s at the end: %v", spec.Name, err)
		}
	})
	vm, err := p.Create(step(t), spec)
	ref.UUID = vm.UUID
	return vm, ref, err
}

// newID is an instance id for a test of its own; two runs never meet.
func newID(n int) string {
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", n, time.Now().UnixNano()&0xffffffffffff)
}

// snapshots lists the provider's snapshots, the oldest first.
func (s *site) snapshots(t *testing.T) []images.Image {
	t.Helper()
	glance, err := s.raw.Image(step(t))
	if err != nil {
		t.Fatal(err)
	}
	all, err := cloud.Pages(step(t), images.List(glance, cloud.ImageQuery{Properties: map[string]string{"scalehook_owner": s.owner}}), images.ExtractImages, "list the snapshots")
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(all, func(a, b images.Image) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return all
}

// forgetSnapshots deletes the snapshots that the suite has taken: they are kept by
// design.
func (s *site) forgetSnapshots(t *testing.T) {
	t.Helper()
	glance, err := s.raw.Image(step(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range s.snapshots(t) {
		s.log(images.Delete(step(t), glance, image.ID).ExtractErr())
	}
}

// dropPublic gives the group's public address back, which the provider keeps.
func (s *site) dropPublic(t *testing.T) {
	t.Helper()
	neutron, err := s.raw.Network(step(t))
	if err != nil {
		t.Fatal(err)
	}
	at, err := s.p.Address(step(t), "web")
	if scaling.IsNotFound(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := s.raw.FindFloatingIP(step(t), at.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	s.log(floatingips.Delete(step(t), neutron, f.ID).ExtractErr())
}
