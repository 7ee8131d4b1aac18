package libvirt

import (
	"context"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Names of what is made for an instance, for tests that look at a real host.
var (
	DiskName = diskName
	SeedName = seedName
)

// MarkURI is the namespace of the mark.
const MarkURI = markURI

// CreateUpTo runs the first steps of a Create and stops, as a kill would: after
// the definition (1), the clone (2), an empty seed (3) or the whole seed (4).
func (p *Provider) CreateUpTo(ctx context.Context, spec scaling.LaunchSpec, step int) error {
	t, err := p.template(spec.Group)
	if err != nil {
		return err
	}
	s, err := p.m.session(ctx, spec.ID, false)
	if err != nil {
		return err
	}
	defer s.release()
	d, err := p.defineInstance(ctx, s, spec, t)
	if err != nil || step < 2 {
		return err
	}
	switch step {
	case 2:
		d.mark.Volumes = d.mark.Volumes[:1]
		return p.furnish(ctx, s, spec, t, d)
	case 3:
		seed := d.mark.Volumes[1]
		d.mark.Volumes = d.mark.Volumes[:1]
		if err := p.furnish(ctx, s, spec, t, d); err != nil {
			return err
		}
		return ensureSeed(ctx, s, seed, make([]byte, 43008))
	default:
		return p.furnish(ctx, s, spec, t, d)
	}
}

// BeginBuild records what a build does before it makes anything, as one does that
// is killed then.
func (p *Provider) BeginBuild(ctx context.Context, pool, name string) error {
	s, err := p.m.session(ctx, "build", false)
	if err != nil {
		return err
	}
	defer s.release()
	return writeRecord(ctx, s, pool, name, imageRecord{Building: true})
}
