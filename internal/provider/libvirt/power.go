package libvirt

import (
	"context"
	"fmt"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Shutdown implements scaling.Shutdowner with the ACPI power button, or by cutting
// the power.
func (p *Provider) Shutdown(ctx context.Context, ref scaling.Ref, force bool) error {
	if err := p.shutdown(ctx, ref, force); err != nil {
		return fmt.Errorf("shut down %q (%s): %w", ref.Name, ref.ID, err)
	}
	return nil
}

func (p *Provider) shutdown(ctx context.Context, ref scaling.Ref, force bool) error {
	s, err := p.m.session(ctx, ref.ID, force)
	if err != nil {
		return err
	}
	defer s.release()
	d, err := p.find(ctx, s, ref)
	if err != nil {
		return err
	}
	if !d.is(p.owner, ref.ID) {
		return scaling.Errorf(scaling.Conflict, "domain %q carries no mark of ours for this instance", d.name)
	}
	if force {
		return powerOff(ctx, s, d)
	}
	return onDomain(ctx, s, guestCall, fmt.Sprintf("press the power button of domain %q", d.name), d.uuid, func(dom *libvirt.Domain) error {
		if active, err := dom.IsActive(); err != nil || !active {
			return err
		}
		err := dom.ShutdownFlags(libvirt.DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
		if hasCode(err, libvirt.ERR_INVALID_ARG) || hasCode(err, libvirt.ERR_NO_SUPPORT) || hasCode(err, libvirt.ERR_ARGUMENT_UNSUPPORTED) {
			err = dom.Shutdown()
		}
		if active, e := dom.IsActive(); err != nil && e == nil && !active {
			return nil
		}
		return err
	})
}
