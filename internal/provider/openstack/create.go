package openstack

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/tags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/firstboot"
	"github.com/scalehook/scalehook/internal/scaling"
)

// Create implements scaling.Provider. Ports come first: a port can have one server
// only, so that of two calls to make one, of which the first was lost, Nova refuses
// the second. It waits until Nova has built the server, not until its guest is up.
func (p *Provider) Create(ctx context.Context, spec scaling.LaunchSpec) (scaling.VM, error) {
	vm, err := p.create(ctx, spec)
	if err != nil {
		return scaling.VM{}, fmt.Errorf("create %q (%s): %w", spec.Name, spec.ID, err)
	}
	return vm, nil
}

func (p *Provider) create(ctx context.Context, spec scaling.LaunchSpec) (scaling.VM, error) {
	ctx, t, done, err := p.begin(ctx, spec)
	if err != nil {
		return scaling.VM{}, err
	}
	defer done()

	all, err := p.instance(ctx, spec.ID, spec.Name)
	if err != nil {
		return scaling.VM{}, err
	}
	var s *server
	if len(all) > 0 {
		s = all[0]
	} else if s, err = p.launch(ctx, spec, t); err != nil {
		return scaling.VM{}, err
	}
	if s, err = p.built(ctx, s); err != nil {
		return scaling.VM{}, err
	}
	if err := p.seal(ctx, s); err != nil {
		return scaling.VM{}, err
	}
	if err := p.dropSurplus(ctx, s, all); err != nil {
		return scaling.VM{}, err
	}
	if s, err = p.started(ctx, s); err != nil {
		return scaling.VM{}, err
	}
	vms, err := p.vms(ctx, []*server{s})
	if err != nil {
		return scaling.VM{}, err
	}
	return vms[0], nil
}

// launch makes the server and what it needs.
func (p *Provider) launch(ctx context.Context, spec scaling.LaunchSpec, t Template) (*server, error) {
	same, err := p.called(ctx, spec.Name)
	if err != nil {
		return nil, err
	}
	if len(same) > 0 {
		return nil, scaling.Errorf(scaling.Conflict, "a server called %q exists (%s)", spec.Name, same[0].ID)
	}
	opts, hints, err := p.order(ctx, spec, t)
	if err != nil {
		return nil, err
	}
	made, err := p.furnish(ctx, spec, t)
	if err != nil {
		return nil, err
	}
	if t.floating() {
		if err := p.ensureFloating(ctx, scaling.Ref{ID: spec.ID, Group: spec.Group}, t, made[0].ID); err != nil {
			return nil, err
		}
	}
	if opts.UserData, err = t.userData(spec, made[0]); err != nil {
		return nil, err
	}
	var nics []servers.Network
	for _, port := range made {
		nics = append(nics, servers.Network{Port: port.ID})
	}
	opts.Networks = nics
	client, err := p.cloud.Compute(ctx)
	if err != nil {
		return nil, err
	}
	var s server
	err = change(ctx, "create server", spec.Name, func(ctx context.Context) error {
		return servers.Create(ctx, client, keypairs.CreateOptsExt{CreateOptsBuilder: opts, KeyName: t.KeyPair}, hints).ExtractInto(&s)
	})
	if err != nil {
		if scaling.ClassOf(err) == scaling.Conflict && strings.Contains(err.Error(), "in use") {
			// A call whose answer was lost has them: the next one finds its server.
			return nil, scaling.WithClass(scaling.Temporary, err)
		}
		if scaling.IsNotFound(err) {
			return nil, scaling.WithClass(scaling.Permanent, err)
		}
		return nil, err
	}
	s.Name, s.Status = spec.Name, statusBuild
	return &s, nil
}

// order finds out what the server is made from.
func (p *Provider) order(ctx context.Context, spec scaling.LaunchSpec, t Template) (servers.CreateOpts, servers.SchedulerHintOpts, error) {
	var hints servers.SchedulerHintOpts
	opts := servers.CreateOpts{
		Name: spec.Name, AvailabilityZone: t.AvailabilityZone,
		Tags:     cloud.Tags(p.owner, spec.Group, spec.ID),
		Metadata: map[string]string{metadataID: spec.ID},
	}
	maps.Copy(opts.Metadata, t.Metadata)
	if t.ConfigDrive {
		opts.ConfigDrive = &t.ConfigDrive
	}
	flavor, err := p.cloud.FindFlavor(ctx, t.Flavor)
	if err != nil {
		return opts, hints, err
	}
	opts.FlavorRef = flavor.ID
	image, err := p.cloud.FindImage(ctx, t.imageQuery())
	if err != nil {
		return opts, hints, err
	}
	opts.ImageRef = image.ID
	if v := t.Volume; v != nil {
		opts.ImageRef = ""
		opts.BlockDevice = []servers.BlockDevice{{
			SourceType: servers.SourceImage, UUID: image.ID, DestinationType: servers.DestinationVolume,
			VolumeSize: v.SizeGiB, VolumeType: v.Type, DeleteOnTermination: true,
		}}
	}
	if t.KeyPair != "" {
		if _, err := p.cloud.FindKeyPair(ctx, t.KeyPair); err != nil {
			return opts, hints, err
		}
	}
	if t.ServerGroup != "" {
		group, err := p.cloud.FindServerGroup(ctx, t.ServerGroup)
		if err != nil {
			return opts, hints, err
		}
		hints.Group = group.ID
	}
	return opts, hints, nil
}

// userData renders the template's file for an instance on that port.
func (t Template) userData(spec scaling.LaunchSpec, port ports.Port) ([]byte, error) {
	if t.UserData == "" {
		return nil, nil
	}
	data := firstboot.Data{ID: spec.ID, Group: spec.Group, Name: spec.Name, Number: spec.Number, MAC: port.MACAddress}
	if len(port.FixedIPs) > 0 {
		data.Address = port.FixedIPs[0].IPAddress
	}
	out, err := t.firstBoot().Render(data)
	if err == nil {
		err = firstboot.CheckNovaSize(out.UserData)
	}
	return []byte(out.UserData), scaling.WithClass(scaling.Permanent, err)
}

// built waits until Nova has built the server, or could not.
func (p *Provider) built(ctx context.Context, s *server) (*server, error) {
	for s.Status == statusBuild {
		if err := pause(ctx); err != nil {
			return nil, scaling.Errorf(scaling.Temporary, "server %s is still being built: %w", s.ID, err)
		}
		next, err := p.get(ctx, s.ID)
		if err != nil {
			return nil, err
		}
		s = next
	}
	if s.Status == statusError && s.power() == scaling.PowerCrashed {
		if s.Fault.Message == "" {
			// Listings leave it out.
			if again, err := p.get(ctx, s.ID); err == nil {
				s = again
			}
		}
		return nil, s.failure()
	}
	return s, nil
}

// seal writes the server's own uuid into its mark: from here on no copy of it
// counts. Nova takes no tags while it builds.
func (p *Provider) seal(ctx context.Context, s *server) error {
	m, ok := s.mark()
	if !ok || m.UUID != "" {
		return nil
	}
	client, err := p.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	for _, tag := range (cloud.Mark{UUID: s.ID}).Tags() {
		if err := change(ctx, "tag server", s.ID, func(ctx context.Context) error { return tags.Add(ctx, client, s.ID, tag).Err }); err != nil {
			if scaling.ClassOf(err) == scaling.Conflict {
				return scaling.WithClass(scaling.Temporary, err) // it changes its state just now
			}
			return err
		}
	}
	return nil
}

// dropSurplus deletes what a lost call to make the same server made as well. It was
// ours from its first moment, has never been taken for the instance, and says both.
func (p *Provider) dropSurplus(ctx context.Context, s *server, all []*server) error {
	for _, other := range all {
		m, _ := s.mark()
		if other.ID == s.ID || other.sealed() || other.Name != s.Name || other.Metadata[metadataID] != m.ID {
			continue
		}
		p.log.Warn("a second server of an instance is deleted; the answer to the call that made one of them was lost", "vm", s.Name, "kept", s.ID, "deleted", other.ID)
		if err := p.destroy(ctx, other); err != nil {
			return err
		}
	}
	return nil
}

// started makes a server run that does not.
func (p *Provider) started(ctx context.Context, s *server) (*server, error) {
	for first := true; ; first = false {
		if !first {
			if err := pause(ctx); err != nil {
				return nil, scaling.Errorf(scaling.Temporary, "server %s does not run yet, it is %s: %w", s.ID, cmp.Or(s.TaskState, s.Status), err)
			}
			next, err := p.get(ctx, s.ID)
			if err != nil {
				return nil, err
			}
			s = next
		}
		var err error
		switch {
		case s.Status == statusError:
			return nil, s.failure()
		case s.TaskState != "":
		case s.Status == statusOff:
			err = p.act(ctx, s, "os-start")
		case s.Status == statusSuspended:
			err = p.act(ctx, s, "resume")
		default:
			return s, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// act is one of Nova's actions that take nothing but their name.
func (p *Provider) act(ctx context.Context, s *server, action string) error {
	client, err := p.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	return change(ctx, strings.TrimPrefix(action, "os-")+" server", s.ID, func(ctx context.Context) error {
		_, err := client.Post(ctx, client.ServiceURL("servers", s.ID, "action"), map[string]any{action: nil}, nil, nil) //nolint:bodyclose // gophercloud closes what it is not asked to keep
		return err
	})
}
