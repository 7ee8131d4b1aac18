package openstack

import (
	"context"
	"fmt"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// The properties of a snapshot. A server that is made from it hands them on to its
// own snapshots, so that they count only together with the server they name.
const (
	propertyOwner  = "scalehook_owner"
	propertyGroup  = "scalehook_group"
	propertyServer = "scalehook_server"
	propertyName   = "scalehook_name"
)

// Snapshot implements scaling.Snapshotter with an image of the server. It waits
// until the image is whole: a server that is deleted before takes it along.
func (p *Provider) Snapshot(ctx context.Context, ref scaling.Ref, name string) error {
	if err := p.snapshot(ctx, ref, name); err != nil {
		return fmt.Errorf("snapshot %q (%s) as %q: %w", ref.Name, ref.ID, name, err)
	}
	return nil
}

func (p *Provider) snapshot(ctx context.Context, ref scaling.Ref, name string) error {
	ctx, unlock, err := p.locks.lock(ctx, "snapshot of "+ref.ID)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := p.find(ctx, ref)
	if err != nil {
		return err
	}
	if !s.is(p.owner, ref.ID) {
		return scaling.Errorf(scaling.Conflict, "server %q carries no mark of ours for this instance", s.Name)
	}
	m, _ := s.mark()
	image, err := p.image(ctx, s, name)
	if err != nil {
		return err
	}
	if image == nil && s.TaskState == "" {
		client, err := p.cloud.Compute(ctx)
		if err != nil {
			return err
		}
		err = change(ctx, "create snapshot", name, func(ctx context.Context) error {
			return servers.CreateImage(ctx, client, s.ID, servers.CreateImageOpts{Name: name, Metadata: map[string]string{
				propertyOwner: string(p.owner), propertyGroup: m.Group, propertyServer: s.ID, propertyName: name,
			}}).Err
		})
		if err != nil {
			return err
		}
	}
	return p.awaitImage(ctx, s, name)
}

// awaitImage waits until the snapshot is whole and the server free for other things.
func (p *Provider) awaitImage(ctx context.Context, s *server, name string) error {
	for {
		image, err := p.image(ctx, s, name)
		if err != nil {
			return err
		}
		now, err := p.get(ctx, s.ID)
		if err != nil {
			return err
		}
		switch {
		case image == nil && now.TaskState == "":
			return scaling.Errorf(scaling.Temporary, "the snapshot was given up by Nova, as it does if there is no room or the image service does not answer")
		case image != nil && image.Status == images.ImageStatusActive && now.TaskState == "":
			return nil
		}
		if err := pause(ctx); err != nil {
			return scaling.Errorf(scaling.Temporary, "the snapshot is still being written: %w", err)
		}
	}
}

// image returns the server's snapshot of that name; nil if there is none.
func (p *Provider) image(ctx context.Context, s *server, name string) (*images.Image, error) {
	client, err := p.cloud.Image(ctx)
	if err != nil {
		return nil, err
	}
	all, err := cloud.Pages(ctx, images.List(client, cloud.ImageQuery{Name: name}), images.ExtractImages, "look for snapshot %q", name)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(all, func(i images.Image) bool {
		return i.Name == name && i.Properties[propertyServer] == s.ID && i.Properties[propertyOwner] == string(p.owner) &&
			i.Status != images.ImageStatusKilled && i.Status != images.ImageStatusDeleted && i.Status != images.ImageStatusPendingDelete
	})
	if at < 0 {
		return nil, nil
	}
	return &all[at], nil
}
