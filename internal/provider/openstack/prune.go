package openstack

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/snapshots"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// propertyMadeFrom is which server an image was made from, by Nova's own word. A
// server that is made from a snapshot hands our properties on to images that people
// make of it; this one differs then.
const propertyMadeFrom = "instance_uuid"

// PruneSnapshots implements scaling.Snapshotter. A snapshot that a server or volume
// is made from just now, which Glance then protects or holds, is an error, and the
// others are deleted all the same.
func (p *Provider) PruneSnapshots(ctx context.Context, group string, keep int, from time.Time) error {
	if err := p.prune(ctx, group, keep, from); err != nil {
		return fmt.Errorf("delete the snapshots of group %q but for %d: %w", group, keep, err)
	}
	return nil
}

func (p *Provider) prune(ctx context.Context, group string, keep int, from time.Time) error {
	ctx, unlock, err := p.locks.lock(ctx, "snapshots of group "+group)
	if err != nil {
		return err
	}
	defer unlock()
	all, err := p.snapshots(ctx, cloud.ImageQuery{Properties: map[string]string{propertyOwner: string(p.owner), propertyGroup: group}})
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(i images.Image) bool { return !p.kept(i, group) || i.CreatedAt.Before(from) })
	slices.SortFunc(all, func(a, b images.Image) int { return b.CreatedAt.Compare(a.CreatedAt) })
	var failed error
	for _, i := range all[min(keep, len(all)):] {
		if err := p.dropSnapshot(ctx, i); err != nil {
			failed = err
			continue
		}
		p.log.Info("an old snapshot is deleted", "group", group, "snapshot", i.Name, "image", i.ID, "made", i.CreatedAt)
	}
	return failed
}

// snapshots lists images of the project: an administrator sees those of all.
func (p *Provider) snapshots(ctx context.Context, query cloud.ImageQuery) ([]images.Image, error) {
	project, _, err := p.cloud.Project(ctx)
	if err != nil {
		return nil, err
	}
	client, err := p.cloud.Image(ctx)
	if err != nil {
		return nil, err
	}
	all, err := cloud.Pages(ctx, images.List(client, query), images.ExtractImages, "list the snapshots")
	return slices.DeleteFunc(all, func(i images.Image) bool { return i.Owner != project }), err
}

// dropSnapshot deletes a snapshot with what it is made of; gone already is success.
func (p *Provider) dropSnapshot(ctx context.Context, i images.Image) error {
	client, err := p.cloud.Image(ctx)
	if err != nil {
		return err
	}
	if err := p.dropVolumeSnapshots(ctx, i); err != nil {
		return err
	}
	err = change(ctx, "delete snapshot", i.Name, func(ctx context.Context) error { return images.Delete(ctx, client, i.ID).ExtractErr() })
	if cloud.Gone(err) {
		return nil
	}
	return err
}

// kept reports whether an image is a snapshot that this provider made of a VM of the
// group, and whole.
func (p *Provider) kept(i images.Image, group string) bool {
	return i.Status == images.ImageStatusActive && i.Properties[propertyOwner] == string(p.owner) && i.Properties[propertyGroup] == group &&
		i.Properties[propertyName] == i.Name && i.Properties[propertyServer] != "" && i.Properties[propertyMadeFrom] == i.Properties[propertyServer]
}

// dropVolumeSnapshots deletes what the image of a server with a boot volume is made
// of: the image is only their list, and Glance knows nothing of them.
func (p *Provider) dropVolumeSnapshots(ctx context.Context, i images.Image) error {
	text, _ := i.Properties["block_device_mapping"].(string)
	if text == "" {
		return nil
	}
	var parts []struct {
		Snapshot string `json:"snapshot_id"`
	}
	if err := json.Unmarshal([]byte(text), &parts); err != nil {
		return scaling.Errorf(scaling.Permanent, "snapshot %q: read which volumes' snapshots it is made of: %w", i.Name, err)
	}
	for _, part := range parts {
		if part.Snapshot == "" {
			continue
		}
		client, err := p.cloud.BlockStorage(ctx)
		if err != nil {
			return err
		}
		err = change(ctx, "delete volume snapshot", part.Snapshot, func(ctx context.Context) error {
			return snapshots.Delete(ctx, client, part.Snapshot).ExtractErr()
		})
		if err != nil && !scaling.IsNotFound(err) {
			return err
		}
	}
	return nil
}
