package openstack

import (
	"context"
	"fmt"

	"github.com/gophercloud/gophercloud/v2/openstack/blockstorage/v3/volumes"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// Delete implements scaling.Provider. The server goes first, then what was made for
// it, each by a mark of its own, so that what an interrupted call leaves is found by
// the next. Volumes go or stay as they were attached.
func (p *Provider) Delete(ctx context.Context, ref scaling.Ref) error {
	if err := p.remove(ctx, ref); err != nil {
		return fmt.Errorf("delete %q (%s): %w", ref.Name, ref.ID, err)
	}
	return nil
}

func (p *Provider) remove(ctx context.Context, ref scaling.Ref) error {
	if !uuidRE.MatchString(ref.ID) {
		return scaling.Errorf(scaling.Permanent, "instance id %q: not a uuid in lower case", ref.ID)
	}
	ctx, unlock, err := p.locks.lock(ctx, ref.ID)
	if err != nil {
		return err
	}
	defer unlock()
	if ref.UUID != "" {
		s, err := p.get(ctx, ref.UUID)
		switch {
		case scaling.IsNotFound(err):
		case err != nil:
			return err
		case !s.is(p.owner, ref.ID):
			return scaling.Errorf(scaling.Conflict, "server %q carries no mark of ours for this instance, and is left alone", s.Name)
		default:
			if err := p.destroy(ctx, s); err != nil {
				return err
			}
		}
	}
	all, err := p.instance(ctx, ref.ID, ref.Name)
	if err != nil {
		return err
	}
	for _, s := range all {
		// Tags alone can be somebody's copy. Without a uuid the first is the instance,
		// as Get says too.
		if (ref.UUID != "" || s != all[0]) && s.Metadata[metadataID] != ref.ID {
			p.log.Warn("another server carries the mark of an instance and was not made as it; it is left alone", "vm", s.Name, "uuid", s.ID)
			continue
		}
		if err := p.destroy(ctx, s); err != nil {
			return err
		}
	}
	return p.removeParts(ctx, ref.ID)
}

// destroy deletes a server and waits until it and the volumes that go with it are
// gone.
func (p *Provider) destroy(ctx context.Context, s *server) error {
	client, err := p.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	err = change(ctx, "delete server", s.Name+" ("+s.ID+")", func(ctx context.Context) error { return servers.Delete(ctx, client, s.ID).ExtractErr() })
	if err != nil && !scaling.IsNotFound(err) {
		return err
	}
	for {
		now, err := p.get(ctx, s.ID)
		if scaling.IsNotFound(err) {
			break
		}
		if err != nil {
			return err
		}
		if now.Status == statusError && now.TaskState == "" && now.Fault.Message != "" && s.Status != statusError {
			return scaling.Errorf(scaling.Temporary, "server %s could not be deleted: %s", s.ID, now.Fault.Message)
		}
		if err := pause(ctx); err != nil {
			return scaling.Errorf(scaling.Temporary, "server %s is still being deleted: %w", s.ID, err)
		}
	}
	p.forget(s.ID)
	for _, v := range s.Volumes {
		if v.Goes {
			if err := p.awaitVolume(ctx, v.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitVolume waits until a volume is gone that Nova deletes with its server.
func (p *Provider) awaitVolume(ctx context.Context, id string) error {
	client, err := p.cloud.BlockStorage(ctx)
	if err != nil {
		return err
	}
	for {
		v, err := volumes.Get(ctx, client, id).Extract()
		if cloud.Gone(err) {
			return nil
		}
		if err != nil {
			return cloud.Error(err, "get volume %s", id)
		}
		if v.Status == "error_deleting" {
			return scaling.Errorf(scaling.Permanent, "volume %s could not be deleted: it is in error_deleting", id)
		}
		if err := pause(ctx); err != nil {
			return scaling.Errorf(scaling.Temporary, "volume %s is still %s: %w", id, v.Status, err)
		}
	}
}

// removeParts deletes the floating IPs and the ports that were made for an
// instance. A group's public address is none of them.
func (p *Provider) removeParts(ctx context.Context, id string) error {
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return err
	}
	if err := p.removeFloating(ctx, id); err != nil {
		return err
	}
	made, err := p.portsOf(ctx, id)
	if err != nil {
		return err
	}
	for _, port := range made {
		err := change(ctx, "delete port", port.Name, func(ctx context.Context) error { return ports.Delete(ctx, client, port.ID).ExtractErr() })
		if err != nil && !scaling.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func (p *Provider) removeFloating(ctx context.Context, id string) error {
	client, err := p.cloud.Network(ctx)
	if err != nil {
		return err
	}
	made, err := p.floatingOf(ctx, id)
	if err != nil {
		return err
	}
	for _, f := range made {
		err := change(ctx, "delete floating IP", f.FloatingIP, func(ctx context.Context) error { return floatingips.Delete(ctx, client, f.ID).ExtractErr() })
		if err != nil && !scaling.IsNotFound(err) {
			return err
		}
	}
	return nil
}
