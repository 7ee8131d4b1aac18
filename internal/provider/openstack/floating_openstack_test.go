//go:build openstack

package openstack_test

import (
	"slices"
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
