//go:build openstack

package openstack_test

import (
	"testing"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/provider/openstack"
	"github.com/scalehook/scalehook/internal/scaling"
)

// TestAServerOfAnotherProjectIsNotAdopted has a provider with the credentials of one
// project look for a server of another.
func TestAServerOfAnotherProjectIsNotAdopted(t *testing.T) {
	s := startSite(t, "prvelse")
	baseline := s.owner + "-baseline"
	s.makeServer(t, baseline, nil)
	p := s.provider(t, openstack.Config{Config: cloud.Config{Cloud: lab.Other, CloudsFile: s.CloudsFile(), Timeout: patience}})
	_, err := p.Adopt(step(t), scaling.LaunchSpec{ID: newID(1), Group: "web", Name: baseline})
	wantError(t, "adopt a server of another project", err, scaling.NotFound, `project "other": server "prvelse-baseline" does not exist`)
	wantError(t, "adopt a server of another project", err, scaling.NotFound, "if it is in another one, give the provider credentials of that")
	if err := s.intact(t, baseline); err != nil {
		t.Error(err)
	}
	vms, err := p.List(step(t))
	if err != nil || len(vms) > 0 {
		t.Errorf("List() in the other project = %+v, %v", vms, err)
	}
}
