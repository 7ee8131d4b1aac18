package libvirt

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/scaling"
)

// checkImage returns the group's image if clones may be made of it: it exists,
// is what it was when its other clones were made, and no domain can write to it.
func (p *Provider) checkImage(ctx context.Context, s *session, t Template) (volume, error) {
	image, err := findVolume(ctx, s, t.ImagePool, t.Image, true)
	if scaling.IsNotFound(err) {
		return image, missingImage(ctx, s, t)
	}
	if err != nil {
		return image, err
	}
	if image.Format != "qcow2" && image.Format != "raw" {
		return image, scaling.Errorf(scaling.Permanent, "image %q in pool %q has format %q: use qcow2 or raw", t.Image, t.ImagePool, image.Format)
	}
	if t.Disk != 0 && uint64(t.Disk) < image.Capacity {
		return image, scaling.Errorf(scaling.Permanent, "disk %v is smaller than image %q (%d bytes)", t.Disk, t.Image, image.Capacity)
	}
	if _, err := checkRecord(ctx, s, image); err != nil {
		return image, err
	}
	uses, marks, err := usesOf(ctx, s, image)
	if err != nil {
		return image, err
	}
	for _, use := range uses {
		switch {
		case !use.writable:
		case use.active:
			return image, scaling.Errorf(scaling.Conflict, "image %s is the disk of domain %q, which runs: its writes would break every clone; shut it down", image.Path, use.domain)
		case use.domain != t.TemplateDomain:
			return image, scaling.Errorf(scaling.Conflict, "image %s is the disk of domain %q, which could be started: undefine it without deleting its disk, or name it as template_domain and never start it", image.Path, use.domain)
		}
	}
	for _, m := range marks {
		if m.Image.Bytes != image.Bytes || m.Image.MTime != image.MTime {
			return image, scaling.Errorf(scaling.Permanent, "image %s was changed or replaced since instance %s was cloned from it; give a new image a new name", image.Path, m.ID)
		}
	}
	return image, nil
}

// missingImage says what would be right instead of an image that is not there.
func missingImage(ctx context.Context, s *session, t Template) error {
	names, err := query(ctx, s, fmt.Sprintf("list the volumes of pool %q", t.ImagePool), func(_ context.Context, conn *libvirt.Connect) (names []string, err error) {
		err = withPool(conn, t.ImagePool, func(pool *libvirt.StoragePool) error {
			names, err = pool.ListStorageVolumes()
			return err
		})
		return names, err
	})
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".qcow2") || madeForRE.MatchString(name) })
	slices.Sort(names)
	have := "it has no qcow2 image"
	if len(names) > 0 {
		have = "it has " + strings.Join(names[:min(len(names), 5)], ", ")
	}
	if len(names) > 5 {
		have += " and more"
	}
	return scaling.Errorf(scaling.Permanent, "image %q is not in pool %q: %s; name one of the pool's, or bring it in with scalehook template import FILE --pool %s --name %s",
		t.Image, t.ImagePool, have, t.ImagePool, t.Image)
}

// madeForRE is for the disks that are made for instances and builds.
var madeForRE = regexp.MustCompile(`\.([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|building)\.qcow2$`)

// images lists the configured images, with where they are, whether they exist or
// not.
func (p *Provider) images(ctx context.Context, s *session) ([]volume, error) {
	p.mu.RLock()
	wanted := map[markVolume]bool{}
	for _, t := range p.templates {
		wanted[markVolume{t.ImagePool, t.Image}] = true
	}
	p.mu.RUnlock()
	images := make([]volume, 0, len(wanted))
	for v := range wanted {
		folder, err := poolFolder(ctx, s, v.Pool)
		if err != nil {
			return nil, err
		}
		images = append(images, volume{Pool: v.Pool, Name: v.Name, Path: path.Join(folder, v.Name)})
	}
	return images, nil
}

// cloneOf names a volume in v's pool whose backing file is v; empty if none is.
func cloneOf(ctx context.Context, s *session, v volume) (string, error) {
	return query(ctx, s, "look for clones of "+v.Path, func(_ context.Context, conn *libvirt.Connect) (clone string, err error) {
		err = withPool(conn, v.Pool, func(pool *libvirt.StoragePool) error {
			vols, err := pool.ListAllStorageVolumes(0)
			if err != nil {
				return err
			}
			defer func() {
				for i := range vols {
					free(vols[i].Free)
				}
			}()
			for i := range vols {
				other, err := readVolume(v.Pool, &vols[i])
				if hasCode(err, libvirt.ERR_NO_STORAGE_VOL) {
					continue
				}
				if err != nil {
					return fmt.Errorf("read a volume of pool %q: %w", v.Pool, err)
				}
				if other.Backing == v.Path {
					clone = other.Name
				}
			}
			return nil
		})
		return clone, err
	})
}
