//go:build openstack

package openstack_test

import (
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/provider/openstack"
	"github.com/scalehook/scalehook/internal/scaling"
)

// restricted is a configuration with nothing but those rights.
func (s *site) restricted(t *testing.T, name string, rules []lab.Rule) (openstack.Config, *lab.Restricted) {
	t.Helper()
	r := s.Restrict(t, name, rules, "member")
	return openstack.Config{Config: cloud.Config{Cloud: lab.Member, CloudsFile: r.CloudsFile, Endpoints: r.Endpoints, Timeout: patience}}, r
}

// TestTheAccessRulesAreWhatTheDriverNeeds lives a VM's life with an application
// credential that has the rules of deploy/openstack: none too few, none too many.
func TestTheAccessRulesAreWhatTheDriverNeeds(t *testing.T) {
	s := startSite(t, "prvrules")
	rules := lab.ReadRules(t, "../../../deploy/openstack/access-rules.json")
	cfg, record := s.restricted(t, "prvrules-driver", rules)
	ok := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	nova := must[*gophercloud.ServiceClient](t, "reach nova")(s.raw.Compute(step(t)))
	ok("import a key", keypairs.Create(step(t), nova, keypairs.CreateOpts{Name: "prvrules-key"}).Err)
	t.Cleanup(func() { s.log(keypairs.Delete(step(t), nova, "prvrules-key", nil).Err) })
	s.OpenStack(t, lab.Member, "server", "group", "create", "--policy", "soft-anti-affinity", "prvrules-group")
	t.Cleanup(func() {
		_, err := s.Client(step(t), lab.Member, "server", "group", "delete", "prvrules-group")
		s.log(err)
	})

	floating := s.provider(t, cfg, func(t *openstack.Template) {
		t.KeyPair, t.ServerGroup, t.AvailabilityZone, t.SecurityGroups = "prvrules-key", "prvrules-group", "nova", []string{"default"}
		t.Networks, t.MemberAddress = []openstack.Interface{{Subnet: "prvrules-subnet"}}, openstack.MemberFloating
	})
	_, err := floating.Check(step(t))
	ok("Check", err)
	_, first, err := s.create(t, floating, 1)
	ok("Create", err)
	_, err = floating.Get(step(t), first)
	ok("Get", err)
	all, err := floating.List(step(t))
	if err != nil || len(all) != 1 || len(all[0].Addresses) != 1 {
		t.Errorf("List() = %+v, %v; want the VM with its address", all, err)
	}
	ok("Snapshot", floating.Snapshot(step(t), first, "prvrules-snapshot"))
	t.Cleanup(func() { s.forgetSnapshots(t) })
	for _, image := range s.snapshots(t) {
		ok("RemoveLeftover", floating.RemoveLeftover(step(t), scaling.Leftover{Kind: scaling.KindSnapshot, ID: image.ID, Group: "web", Name: image.Name}))
	}
	ok("PruneSnapshots", floating.PruneSnapshots(step(t), "web", 0, time.Time{}))
	if left := s.snapshots(t); len(left) != 0 {
		t.Errorf("snapshots left: %v", left)
	}
	baseline := scaling.LaunchSpec{ID: newID(2), Group: "web", Name: s.owner + "-baseline"}
	uuid := s.makeServer(t, baseline.Name, nil)
	_, err = floating.Adopt(step(t), baseline)
	ok("Adopt", err)
	ok("Release", floating.Release(step(t), scaling.Ref{ID: baseline.ID, Group: "web", Name: baseline.Name, UUID: uuid, Adopted: true}))
	_, err = floating.Unmarked(step(t))
	ok("Unmarked", err)
	ok("Shutdown", floating.Shutdown(step(t), first, false))
	ok("Delete", floating.Delete(step(t), first))

	public := s.provider(t, cfg, func(t *openstack.Template) { t.PublicAddress = &openstack.PublicAddress{} })
	_, second, err := s.create(t, public, 3)
	ok("Create", err)
	ok("MoveAddress", public.MoveAddress(step(t), second))
	_, err = public.Address(step(t), "web")
	ok("Address", err)
	_, third, err := s.create(t, public, 5)
	ok("Create", err)
	ok("MoveAddress", public.MoveAddress(step(t), third)) // from one that serves
	ok("Delete", public.Delete(step(t), second))
	ok("Delete", public.Delete(step(t), third))
	fixed := s.provider(t, cfg)
	left, err := fixed.Leftovers(step(t))
	if err != nil || len(left) != 1 {
		t.Errorf("Leftovers() = %+v, %v; want the address", left, err)
	}
	for _, l := range left {
		ok("RemoveLeftover", fixed.RemoveLeftover(step(t), l))
	}

	spec := scaling.LaunchSpec{ID: newID(4), Group: "web", Name: s.owner + "-4", Number: 4}
	t.Cleanup(func() { s.dropPorts(t, spec.Name) })
	vm, err := fixed.Create(step(t), spec)
	ok("Create", err)
	t.Cleanup(func() { s.deleteServer(t, vm.UUID) })
	ok("LetGo", fixed.LetGo(step(t), scaling.Ref{ID: spec.ID, Group: "web", Name: spec.Name, UUID: vm.UUID}))

	if refused := record.Refused(); len(refused) != 0 {
		t.Errorf("refused: %q", refused)
	}
	if spare := record.Spare(rules); len(spare) != 0 {
		t.Errorf("rules that nothing needs: %q", spare)
	}
	s.refusals(t, cfg)
	s.fewer(t, rules)
}

// refusals are calls that a member may make, and this credential may not.
func (s *site) refusals(t *testing.T, cfg openstack.Config) {
	t.Helper()
	c := must[*cloud.Cloud](t, "open the cloud")(cloud.Open(cfg.Config, slog.New(slog.DiscardHandler)))
	t.Cleanup(c.Close)
	nova := must[*gophercloud.ServiceClient](t, "reach nova")(c.Compute(step(t)))
	neutron := must[*gophercloud.ServiceClient](t, "reach neutron")(c.Network(step(t)))
	glance := must[*gophercloud.ServiceClient](t, "reach glance")(c.Image(step(t)))
	ctx := step(t)
	for what, err := range map[string]error{
		"delete a key pair": keypairs.Delete(ctx, nova, "prvrules-key", nil).Err,
		"import a key pair": keypairs.Create(ctx, nova, keypairs.CreateOpts{Name: "prvrules-other"}).Err,
		"make a network":    networks.Create(ctx, neutron, networks.CreateOpts{Name: "prvrules-other"}).Err,
		"delete a network":  networks.Delete(ctx, neutron, s.network).Err,
		"make a router":     routers.Create(ctx, neutron, routers.CreateOpts{Name: "prvrules-other"}).Err,
		"register an image": images.Create(ctx, glance, images.CreateOpts{Name: "prvrules-other"}).Err,
	} {
		if !gophercloud.ResponseCodeIs(err, http.StatusUnauthorized) {
			t.Errorf("%s: %v; want it refused", what, err)
		}
	}
}

// fewer takes single rules away and looks that the driver says so.
func (s *site) fewer(t *testing.T, rules []lab.Rule) {
	t.Helper()
	without := func(away lab.Rule) *openstack.Provider {
		t.Helper()
		less := slices.DeleteFunc(slices.Clone(rules), func(r lab.Rule) bool { return r == away })
		if len(less) != len(rules)-1 {
			t.Fatalf("there is no rule %s", away)
		}
		cfg, _ := s.restricted(t, "prvrules-fewer", less)
		return s.provider(t, cfg)
	}
	p := without(lab.Rule{Service: "compute", Method: "GET", Path: "/v2.1/limits"})
	_, err := p.Check(step(t))
	wantError(t, "Check without the right to see the limits", err, scaling.Permanent, "")
	if _, err := p.List(step(t)); err != nil {
		t.Error(err)
	}
}
