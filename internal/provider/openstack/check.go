package openstack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/availabilityzones"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/firstboot"
	"github.com/scalehook/scalehook/internal/scaling"
)

// isCompute reports whether a port's owner is a server.
func isCompute(deviceOwner string) bool { return strings.HasPrefix(deviceOwner, "compute:") }

// Check looks at the cloud with the eyes of a launch, and changes nothing. It
// returns what would go wrong as one error, and what an operator should know as
// warnings.
func (p *Provider) Check(ctx context.Context) (warnings []string, err error) {
	if _, _, err := p.cloud.Project(ctx); err != nil {
		return nil, err
	}
	if _, err := p.query(ctx, servers.ListOpts{Tags: cloud.Mark{Owner: p.owner}.Query()}, "list the servers"); err != nil {
		return nil, err
	}
	p.mu.RLock()
	templates := maps.Clone(p.templates)
	p.mu.RUnlock()
	var errs []error
	for _, group := range slices.Sorted(maps.Keys(templates)) {
		found, err := p.checkTemplate(ctx, templates[group])
		for _, w := range found {
			warnings = append(warnings, fmt.Sprintf("group %q: %s", group, w))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("group %q: %w", group, err))
		}
	}
	return warnings, errors.Join(errs...)
}

func (p *Provider) checkTemplate(ctx context.Context, t Template) (warnings []string, err error) {
	var errs []error
	note := func(err error) bool {
		if err != nil {
			errs = append(errs, err)
		}
		return err == nil
	}
	flavor, err := p.cloud.FindFlavor(ctx, t.Flavor)
	haveFlavor := note(err)
	image, err := p.cloud.FindImage(ctx, t.imageQuery())
	if note(err) && haveFlavor {
		note(t.fits(flavor, image))
	}
	if err == nil {
		if warning := t.understood(image); warning != "" {
			warnings = append(warnings, warning)
		}
	}
	for _, nic := range t.Networks {
		_, err := p.placeOf(ctx, t, nic)
		note(err)
	}
	if t.KeyPair != "" {
		_, err := p.cloud.FindKeyPair(ctx, t.KeyPair)
		note(err)
	}
	if t.ServerGroup != "" {
		_, err := p.cloud.FindServerGroup(ctx, t.ServerGroup)
		note(err)
	}
	if t.AvailabilityZone != "" {
		note(p.checkZone(ctx, t.AvailabilityZone))
	}
	if t.Volume != nil {
		_, err := p.cloud.BlockStorage(ctx)
		note(err)
	}
	if t.floating() {
		_, err := p.cloud.FindExternalNetwork(ctx, t.FloatingNetwork)
		note(err)
	}
	if a := t.PublicAddress; a != nil && a.Address != "" {
		_, err := p.cloud.FindFloatingIP(ctx, a.Address)
		note(err)
	} else if a != nil {
		_, err := p.cloud.FindExternalNetwork(ctx, a.Network)
		note(err)
	}
	if haveFlavor {
		full, err := p.room(ctx, flavor)
		note(err)
		warnings = append(warnings, full...)
	}
	return warnings, errors.Join(errs...)
}

// fits reports a flavor that is too small for the image.
func (t Template) fits(flavor flavors.Flavor, image images.Image) error {
	var errs []error
	if image.MinRAMMegabytes > flavor.RAM {
		errs = append(errs, scaling.Errorf(scaling.Permanent, "flavor %q has %d MiB of memory, and image %q needs %d", flavor.Name, flavor.RAM, image.Name, image.MinRAMMegabytes))
	}
	disk := flavor.Disk
	if t.Volume != nil {
		disk = t.Volume.SizeGiB
	}
	if disk > 0 && image.MinDiskGigabytes > disk {
		errs = append(errs, scaling.Errorf(scaling.Permanent, "flavor %q or volume.size_gib gives %d GiB of disk, and image %q needs %d", flavor.Name, disk, image.Name, image.MinDiskGigabytes))
	}
	return errors.Join(errs...)
}

// understood says what the image will not make of the user data.
func (t Template) understood(image images.Image) string {
	if t.UserData == "" {
		return ""
	}
	sample, err := t.firstBoot().Check()
	if err != nil {
		return "" // Validate reports it
	}
	distro, _ := image.Properties["os_distro"].(string)
	return firstboot.Mismatch(firstboot.Image{Name: image.Name, Distro: distro}, sample.Kind())
}

func (p *Provider) checkZone(ctx context.Context, name string) error {
	client, err := p.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	all, err := cloud.Pages(ctx, availabilityzones.List(client), availabilityzones.ExtractAvailabilityZones, "list the availability zones")
	if err != nil {
		return err
	}
	var names []string
	for _, zone := range all {
		if zone.ZoneName == name {
			return nil
		}
		names = append(names, zone.ZoneName)
	}
	return cloud.NotThere("availability zone", name, names)
}

// room says which quota leaves no room for one more VM.
func (p *Provider) room(ctx context.Context, flavor flavors.Flavor) ([]string, error) {
	client, err := p.cloud.Compute(ctx)
	if err != nil {
		return nil, err
	}
	l, err := limits.Get(ctx, client, nil).Extract()
	if err != nil {
		return nil, cloud.Error(err, "read the project's quota")
	}
	var full []string
	for _, q := range []struct {
		what            string
		used, one, most int
	}{
		{"instances", l.Absolute.TotalInstancesUsed, 1, l.Absolute.MaxTotalInstances},
		{"cores", l.Absolute.TotalCoresUsed, flavor.VCPUs, l.Absolute.MaxTotalCores},
		{"MiB of memory", l.Absolute.TotalRAMUsed, flavor.RAM, l.Absolute.MaxTotalRAMSize},
	} {
		if q.most >= 0 && q.used+q.one > q.most {
			full = append(full, fmt.Sprintf("a launch would be refused now: the project uses %d of %d %s, and one VM takes %d", q.used, q.most, q.what, q.one))
		}
	}
	return full, nil
}
