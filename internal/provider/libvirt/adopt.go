package libvirt

import (
	"context"
	"fmt"
	"slices"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Adopt implements scaling.Adopter. The mark is written into the definition and
// into the running domain; nothing else of the VM changes.
func (p *Provider) Adopt(ctx context.Context, spec scaling.LaunchSpec) (scaling.VM, error) {
	vm, err := p.adopt(ctx, spec)
	if err != nil {
		return scaling.VM{}, fmt.Errorf("adopt %q as %s: %w", spec.Name, spec.ID, err)
	}
	return vm, nil
}

func (p *Provider) adopt(ctx context.Context, spec scaling.LaunchSpec) (scaling.VM, error) {
	t, s, done, err := p.begin(ctx, spec)
	if err != nil {
		return scaling.VM{}, err
	}
	defer done()
	d, err := machineByName(ctx, s, spec.Name)
	if err != nil {
		return scaling.VM{}, err
	}
	ref := scaling.Ref{ID: spec.ID, Group: spec.Group, Name: spec.Name, UUID: d.uuid, Adopted: true}
	switch {
	case spec.UUID != "" && d.uuid != spec.UUID:
		return scaling.VM{}, scaling.Errorf(scaling.Conflict, "domain %q is %s, and the one to adopt is %s", d.name, d.uuid, spec.UUID)
	case d.is(p.owner, spec.ID):
		return p.get(ctx, s, ref)
	case d.mark != nil:
		return scaling.VM{}, scaling.Errorf(scaling.Conflict, "domain %q is instance %s of group %q of owner %q", d.name, d.mark.ID, d.mark.Group, d.mark.Owner)
	}
	desc, err := definition(ctx, s, d.uuid)
	if err != nil {
		return scaling.VM{}, err
	}
	images, err := p.images(ctx, s)
	if err != nil {
		return scaling.VM{}, err
	}
	for _, disk := range disksOf(desc) {
		for _, image := range images {
			if isWritableDisk(disk) && sourceIs(disk, image) {
				return scaling.VM{}, scaling.Errorf(scaling.Conflict, "domain %q has image %s as its disk: a template cannot be adopted", d.name, image.Path)
			}
		}
	}
	m := mark{
		Owner: p.owner, Group: spec.Group, ID: spec.ID, UUID: d.uuid, Adopted: true,
		Created: time.Now().UTC().Format(time.RFC3339),
		NICs:    nicsOf(desc),
	}
	m.Address = &markAddress{Source: t.adoptedSource(m.NICs)}
	if m.Address.Source == AddressAgent {
		if err := checkAgentChannel(desc); err != nil {
			p.log.Warn("the address of an adopted VM cannot be found", "vm", d.name, "err", err)
		}
	}
	text, err := m.element()
	if err != nil {
		return scaling.VM{}, scaling.WithClass(scaling.Permanent, err)
	}
	if err := setMark(ctx, s, d, text); err != nil {
		return scaling.VM{}, err
	}
	return p.get(ctx, s, ref)
}

// adoptedSource is where an adopted VM's address is known from: it got none of a
// range's, and only libvirt's own networks have leases.
func (t Template) adoptedSource(nics []markNIC) AddressSource {
	leased := slices.ContainsFunc(nics, func(n markNIC) bool { return n.Network != "" })
	if t.Address.Source == AddressAgent || !leased {
		return AddressAgent
	}
	return AddressLease
}

// Release implements scaling.Adopter.
func (p *Provider) Release(ctx context.Context, ref scaling.Ref) error {
	if err := p.releaseVM(ctx, ref); err != nil {
		return fmt.Errorf("release %q (%s): %w", ref.Name, ref.ID, err)
	}
	return nil
}

// LetGo implements scaling.Releaser. All that was made for a VM is known by the mark
// alone, so that without it the disks and the seed are the VM's and nobody's.
func (p *Provider) LetGo(ctx context.Context, ref scaling.Ref) error {
	if err := p.releaseVM(ctx, ref); err != nil {
		return fmt.Errorf("let go of %q (%s): %w", ref.Name, ref.ID, err)
	}
	return nil
}

func (p *Provider) releaseVM(ctx context.Context, ref scaling.Ref) error {
	unlock, err := p.locks.lock(ctx, ref.ID)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := p.m.session(ctx, ref.ID, false)
	if err != nil {
		return err
	}
	defer s.release()
	d, err := p.find(ctx, s, ref)
	if scaling.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !d.is(p.owner, ref.ID) {
		return nil
	}
	p.lookout.forget(d.uuid)
	if a := d.mark.Address; a != nil && a.IP != "" {
		// It goes on using the address of the range, which nobody else must get.
		if err := setMetadata(ctx, s, d, usesPrefix, usesURI, usesElement(a.IP)); err != nil {
			return err
		}
	}
	return setMark(ctx, s, d, "")
}

// setMark writes the mark of a domain, or takes it off where text is empty.
func setMark(ctx context.Context, s *session, d machine, text string) error {
	return setMetadata(ctx, s, d, markPrefix, markURI, text)
}

// setMetadata writes what a domain carries below a namespace, or takes it off where
// text is empty: in the definition, and in the running domain if it runs. A domain
// without a definition is refused, since the mark would be lost with its power.
func setMetadata(ctx context.Context, s *session, d machine, prefix, uri, text string) error {
	return onDomain(ctx, s, hostCall, fmt.Sprintf("write the mark of domain %q", d.name), d.uuid, func(dom *libvirt.Domain) error {
		persistent, err := dom.IsPersistent()
		if err != nil {
			return err
		}
		if !persistent {
			return scaling.Errorf(scaling.Conflict, "domain %q is transient: define it first", d.name)
		}
		active, err := dom.IsActive()
		if err != nil {
			return err
		}
		flags := libvirt.DOMAIN_AFFECT_CONFIG
		if active {
			flags |= libvirt.DOMAIN_AFFECT_LIVE
		}
		err = dom.SetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, text, prefix, uri, flags)
		if text == "" && hasCode(err, libvirt.ERR_NO_DOMAIN_METADATA) {
			return nil
		}
		return err
	})
}
