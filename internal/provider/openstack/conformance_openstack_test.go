//go:build openstack

package openstack_test

import (
	"testing"
	"time"

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
