//go:build openstack

package openstack_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/provider/openstack"
	"github.com/scalehook/scalehook/internal/scaling"
)

// TestAFloatingIPIsMadeAndReleasedWithItsMember asks the openstack command what
// there is.
func TestAFloatingIPIsMadeAndReleasedWithItsMember(t *testing.T) {
	s := startSite(t, "prvfloat", func(t *openstack.Template) { t.MemberAddress = openstack.MemberFloating })
	addresses := func() []string {
		var rows []struct {
			Address string `json:"Floating IP Address"`
		}
		s.client(t, &rows, "floating", "ip", "list", "--tags", "scalehook-owner="+s.owner)
		var out []string
		for _, r := range rows {
			out = append(out, r.Address)
		}
		return out
	}

	vm, ref, err := s.create(t, s.p, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(vm.Addresses) != 1 || !slices.Equal(addresses(), []string{vm.Addresses[0].String()}) {
		t.Fatalf("the VM has %v, the cloud %q; want the same one", vm.Addresses, addresses())
	}
	again, err := s.p.Create(step(t), scaling.LaunchSpec{ID: ref.ID, Group: ref.Group, Name: ref.Name, Number: 1})
	if err != nil || !slices.Equal(again.Addresses, vm.Addresses) {
		t.Errorf("run again: %v, %v; want %v", again.Addresses, err, vm.Addresses)
	}

	baseline := s.owner + "-baseline"
	uuid := s.makeServer(t, baseline, nil)
	spec := scaling.LaunchSpec{ID: newID(2), Group: "web", Name: baseline}
	for range 2 {
		adopted, err := s.p.Adopt(step(t), spec)
		if err != nil {
			t.Fatal(err)
		}
		if len(adopted.Addresses) != 1 || adopted.UUID != uuid || len(addresses()) != 2 {
			t.Errorf("adopted: %+v; the cloud has %q", adopted, addresses())
		}
	}
	all, err := s.p.List(step(t))
	if err != nil || len(all) != 2 || len(all[0].Addresses) != 1 || len(all[1].Addresses) != 1 {
		t.Errorf("List() = %+v, %v; want two VMs with one address each", all, err)
	}
	if err := s.p.Release(step(t), scaling.Ref{ID: spec.ID, Group: spec.Group, Name: spec.Name, UUID: uuid, Adopted: true}); err != nil {
		t.Error(err)
	}
	if err := s.intact(t, baseline); err != nil {
		t.Error(err)
	}
	if err := s.p.Delete(step(t), ref); err != nil {
		t.Error(err)
	}
	if left := addresses(); len(left) != 0 {
		t.Errorf("floating IPs left: %q", left)
	}
	if left := s.left(t); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestWhatOutlivesItsServerIsListedAndRemoved: a server that somebody deletes by hand
// leaves its port and its floating IP, and a group that gives up its public address
// leaves that.
func TestWhatOutlivesItsServerIsListedAndRemoved(t *testing.T) {
	s := startSite(t, "prvleft", func(t *openstack.Template) { t.MemberAddress = openstack.MemberFloating })
	vm, ref, err := s.create(t, s.p, 1)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := s.p.Leftovers(step(t)); err != nil || len(all) != 0 {
		t.Errorf("with its server: %+v, %v", all, err)
	}
	stranger := s.makeServer(t, s.owner+"-stranger", nil)
	others, err := s.p.Unmarked(step(t))
	if err != nil || !slices.ContainsFunc(others, func(o scaling.VM) bool { return o.UUID == stranger && o.ID == "" }) ||
		slices.ContainsFunc(others, func(o scaling.VM) bool { return o.UUID == vm.UUID }) {
		t.Errorf("Unmarked() = %+v, %v; want the stranger and not ours", others, err)
	}
	s.deleteServer(t, vm.UUID)
	all, err := s.p.Leftovers(step(t))
	if err != nil || len(all) != 1 {
		t.Fatalf("without its server: %+v, %v; want its parts", all, err)
	}
	l := all[0]
	if l.Kind != scaling.KindParts || l.ID != ref.ID || l.Group != "web" || l.Name != ref.Name || !strings.Contains(l.Consists, "floating IP "+vm.Addresses[0].String()) {
		t.Errorf("%+v", l)
	}
	if err := s.p.Delete(step(t), scaling.Ref{ID: l.ID, Group: l.Group, Name: l.Name}); err != nil {
		t.Error(err)
	}
	if left := s.left(t); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}

	withAddress := s.provider(t, s.cloud, func(t *openstack.Template) { t.PublicAddress = &openstack.PublicAddress{} })
	_, second, err := s.create(t, withAddress, 2)
	if err == nil {
		err = withAddress.MoveAddress(step(t), second)
	}
	if err != nil {
		t.Fatal(err)
	}
	address := func() scaling.Leftover {
		t.Helper()
		all, err := s.p.Leftovers(step(t))
		if err != nil || len(all) != 1 || all[0].Kind != scaling.KindAddress || all[0].Group != "web" {
			t.Fatalf("Leftovers() = %+v, %v; want the group's address", all, err)
		}
		return all[0]
	}
	if l := address(); !l.InUse {
		t.Errorf("%+v leads to a server", l)
	} else if err := s.p.RemoveLeftover(step(t), l); scaling.ClassOf(err) != scaling.Conflict {
		t.Errorf("RemoveLeftover of an address in use: %v", err)
	}
	if err := s.p.Delete(step(t), second); err != nil {
		t.Fatal(err)
	}
	theirs := address()
	theirs.Group = "api"
	if err := s.p.RemoveLeftover(step(t), theirs); scaling.ClassOf(err) != scaling.Conflict {
		t.Errorf("RemoveLeftover of another group's address: %v", err)
	}
	for range 2 {
		if err := s.p.RemoveLeftover(step(t), scaling.Leftover{Kind: scaling.KindAddress, ID: theirs.ID, Group: "web", Name: theirs.Name}); err != nil {
			t.Error(err)
		}
	}
	if left := s.left(t); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}
