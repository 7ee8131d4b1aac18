//go:build openstack

package openstack_test

import (
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/scalehook/scalehook/internal/provider/openstack"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/scaling/scalingtest"
)

func TestConformance(t *testing.T) {
	s := startSite(t, "prvsuite", func(t *openstack.Template) { t.PublicAddress = &openstack.PublicAddress{} })
	t.Cleanup(func() { s.dropPublic(t) })
	t.Cleanup(func() { s.forgetSnapshots(t) })
	scalingtest.Provider(t, func(*testing.T) scalingtest.ProviderUnderTest {
		return scalingtest.ProviderUnderTest{
			Provider: s.p, Group: "web", Prefix: s.owner,
			BootLimit: time.Minute, StopLimit: time.Minute,
			Foreign: func(t *testing.T, name string) string { return s.makeServer(t, name, []string{"somebody"}) },
			Intact:  s.intact,
			CopyMark: func(t *testing.T, ref scaling.Ref, name string) string {
				return s.makeServer(t, name, s.tags(t, ref.UUID))
			},
			Leftovers: s.left,
			Discard:   s.dropPorts,
			Snapshots: func(t *testing.T) []string {
				var names []string
				for _, image := range s.snapshots(t) {
					names = append(names, image.Name)
				}
				return names
			},
		}
	})
}

// dropPorts deletes the ports that were made for a server of that name.
func (s *site) dropPorts(t *testing.T, name string) {
	t.Helper()
	client, err := s.raw.Network(step(t))
	if err != nil {
		t.Fatal(err)
	}
	pages := must[pagination.Page](t, "list ports")(ports.List(client, ports.ListOpts{Name: name + "-port0"}).AllPages(step(t)))
	for _, port := range must[[]ports.Port](t, "read the ports")(ports.ExtractPorts(pages)) {
		if err := ports.Delete(step(t), client, port.ID).ExtractErr(); err != nil {
			t.Errorf("delete port %s: %v", port.Name, err)
		}
	}
}
