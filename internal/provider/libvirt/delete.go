package libvirt

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"libvirt.org/go/libvirtxml"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Delete implements scaling.Provider. Volumes go first and the definition last,
// since its mark is what proves that the rest is ours.
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
	unlock, err := p.locks.lock(ctx, ref.ID)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := p.m.session(ctx, ref.ID, true)
	if err != nil {
		return err
	}
	defer s.release()
	d, err := p.find(ctx, s, ref)
	if scaling.IsNotFound(err) {
		return p.removeLeftovers(ctx, s, ref.ID)
	}
	if err != nil {
		return err
	}
	if !d.is(p.owner, ref.ID) {
		return scaling.Errorf(scaling.Conflict, "domain %q carries no mark of ours for this instance, and is left alone", d.name)
	}
	volumes, err := p.volumesToRemove(ctx, s, d)
	if err != nil {
		return err
	}
	if err := powerOff(ctx, s, d); err != nil {
		return err
	}
	for _, v := range volumes {
		if err := deleteVolume(ctx, s, v); err != nil {
			return err
		}
	}
	p.lookout.forget(d.uuid)
	return undefine(ctx, s, d)
}

// volumesToRemove names what goes with a marked VM: what its mark names with its
// id in the name, or an adopted VM's own disks.
func (p *Provider) volumesToRemove(ctx context.Context, s *session, d machine) ([]markVolume, error) {
	if d.mark.Adopted {
		return p.adoptedDisks(ctx, s, d)
	}
	var volumes []markVolume
	for _, v := range d.mark.Volumes {
		// A mark can be edited by anybody who may edit domains; the name must agree.
		if isDiskName(v.Name, d.mark.ID) || isSeedName(v.Name, d.mark.ID) {
			volumes = append(volumes, v)
		}
	}
	return volumes, nil
}

// adoptedDisks lists the volumes that only this VM has as disks. It refuses the
// whole removal rather than delete what another VM or volume stands on.
func (p *Provider) adoptedDisks(ctx context.Context, s *session, d machine) ([]markVolume, error) {
	desc, err := definition(ctx, s, d.uuid)
	if err != nil {
		return nil, err
	}
	var volumes []markVolume
	for _, disk := range disksOf(desc) {
		if !isWritableDisk(disk) || disk.Shareable != nil {
			continue
		}
		v, err := p.diskVolume(ctx, s, d, disk)
		if scaling.IsNotFound(err) {
			// An earlier, interrupted removal may have got this far.
			p.log.Warn("a disk of an adopted VM is in no pool or is gone already", "vm", d.name, "err", err)
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := p.checkUnshared(ctx, s, d, v); err != nil {
			return nil, err
		}
		volumes = append(volumes, markVolume{v.Pool, v.Name})
	}
	return volumes, nil
}

// diskVolume returns the volume that a disk is.
func (p *Provider) diskVolume(ctx context.Context, s *session, d machine, disk libvirtxml.DomainDisk) (volume, error) {
	switch src := disk.Source; {
	case src.File != nil:
		return volumeAt(ctx, s, src.File.File)
	case src.Volume != nil:
		return findVolume(ctx, s, src.Volume.Pool, src.Volume.Volume, true)
	case src.Block != nil:
		return volumeAt(ctx, s, src.Block.Dev)
	}
	target := ""
	if disk.Target != nil {
		target = disk.Target.Dev
	}
	return volume{}, scaling.Errorf(scaling.Conflict, "disk %s of domain %q is neither a file nor a volume; remove the VM by hand, or keep it with on_remove: keep", target, d.name)
}

// checkUnshared refuses a volume that is an image, another domain's disk or the
// backing file of another volume.
func (p *Provider) checkUnshared(ctx context.Context, s *session, d machine, v volume) error {
	if group := p.imageOf(v); group != "" {
		return scaling.Errorf(scaling.Conflict, "disk %s of domain %q is the image of group %q", v.Path, d.name, group)
	}
	uses, marks, err := usesOf(ctx, s, v)
	if err != nil {
		return err
	}
	for _, use := range uses {
		if use.uuid != d.uuid {
			return scaling.Errorf(scaling.Conflict, "disk %s of domain %q is a disk of domain %q too", v.Path, d.name, use.domain)
		}
	}
	if len(marks) > 0 {
		return scaling.Errorf(scaling.Conflict, "disk %s of domain %q is the image of instance %s", v.Path, d.name, marks[0].ID)
	}
	clone, err := cloneOf(ctx, s, v)
	if err == nil && clone != "" {
		err = scaling.Errorf(scaling.Conflict, "disk %s of domain %q is the backing file of volume %q", v.Path, d.name, clone)
	}
	return err
}

// imageOf names a group whose image the volume is.
func (p *Provider) imageOf(v volume) string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for group, t := range p.templates {
		if t.ImagePool == v.Pool && t.Image == v.Name {
			return group
		}
	}
	return ""
}

// removeLeftovers deletes volumes that carry the id of an instance without a
// definition, if they are what we make: a clone of something, or a seed with the
// id inside. Others are left alone and logged.
func (p *Provider) removeLeftovers(ctx context.Context, s *session, id string) error {
	images, err := p.images(ctx, s)
	if err != nil {
		return err
	}
	for _, pool := range p.pools() {
		found, err := volumesOf(ctx, s, pool, id)
		if err != nil {
			return err
		}
		for _, v := range found {
			ours := v.Format == "qcow2" && slices.ContainsFunc(images, func(i volume) bool { return i.Path == v.Backing })
			if isSeedName(v.Name, id) {
				if ours, err = p.isOurSeed(ctx, s, v, id); err != nil {
					return err
				}
			}
			if !ours {
				p.log.Warn("left a volume alone that carries an instance's id and is not of our making", "pool", v.Pool, "volume", v.Name)
				continue
			}
			if err := deleteVolume(ctx, s, markVolume{v.Pool, v.Name}); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxSeed bounds what is read to look for the id in a seed, in bytes.
const maxSeed = 4 << 20

// isOurSeed reports whether a volume holds a seed for that instance.
func (p *Provider) isOurSeed(ctx context.Context, s *session, v volume, id string) (bool, error) {
	if v.Capacity > maxSeed {
		return false, nil
	}
	var content bytes.Buffer
	if err := download(ctx, s, markVolume{v.Pool, v.Name}, 0, &content); err != nil {
		return false, err
	}
	return bytes.Contains(content.Bytes(), []byte(seedLine(id))), nil
}
