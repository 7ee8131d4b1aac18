//go:build openstack

package openstack_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/provider/openstack"
	"github.com/scalehook/scalehook/internal/scaling"
)

// TestAnAdministratorLeavesOtherProjectsAlone: MicroStack's credentials are the
// administrator's, to whom a cloud shows the ports, floating IPs and images of all
// projects, but the servers of one. The same groups in two projects must not take
// each other's parts for leftovers.
func TestAnAdministratorLeavesOtherProjectsAlone(t *testing.T) {
	s := startSite(t, "prvadmin", func(t *openstack.Template) { t.MemberAddress = openstack.MemberFloating })
	_, ref, err := s.create(t, s.p, 1)
	if err != nil {
		t.Fatal(err)
	}
	const name = "prvadmin-snapshot"
	if err := s.p.Snapshot(step(t), ref, name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.log(s.p.PruneSnapshots(step(t), ref.Group, 0, time.Time{})) })

	elsewhere := s.cloud
	elsewhere.Cloud = lab.Admin // in a project of its own
	admin := s.provider(t, elsewhere)
	if found, err := admin.Leftovers(step(t)); err != nil || len(found) != 0 {
		t.Errorf("Leftovers() of another project = %+v, %v; want none", found, err)
	}
	if err := admin.PruneSnapshots(step(t), ref.Group, 0, time.Time{}); err != nil {
		t.Error(err)
	}
	// Absent already, as far as the administrator's project goes.
	if err := admin.Delete(step(t), scaling.Ref{ID: ref.ID, Group: ref.Group, Name: ref.Name}); err != nil {
		t.Error(err)
	}
	vms, err := s.p.List(step(t))
	if err != nil || len(vms) != 1 || len(vms[0].Addresses) == 0 {
		t.Errorf("List() = %+v, %v; want the server with its addresses", vms, err)
	}
	var images []struct{ Name string }
	raw := s.OpenStack(t, lab.Member, "image", "list", "--private", "--name", name)
	if err := json.Unmarshal(raw, &images); err != nil || len(images) != 1 {
		t.Errorf("snapshots that are left: %s, %v; want the one", raw, err)
	}
}
