package libvirt

import (
	"context"
	"fmt"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/scalehook/scalehook/internal/scaling"
)

// host is what a host says of a domain type.
type host struct {
	virtType DomainType
	arch     string
}

// hostFor asks the host once which domain type to use.
func (p *Provider) hostFor(ctx context.Context, s *session, wish DomainType) (host, error) {
	p.mu.RLock()
	known, ok := p.virt[wish]
	p.mu.RUnlock()
	if ok {
		return known, nil
	}
	text, err := query(ctx, s, "read the host's capabilities", func(_ context.Context, conn *libvirt.Connect) (string, error) {
		return conn.GetCapabilities()
	})
	if err != nil {
		return host{}, err
	}
	found, err := chooseHost(text, wish)
	if err != nil {
		return host{}, scaling.WithClass(scaling.Permanent, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.virt[wish] = found
	return found, nil
}

// chooseHost reads capabilities: the guest architecture that is the host's own,
// and KVM where it is offered.
func chooseHost(capabilities string, wish DomainType) (host, error) {
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(capabilities); err != nil {
		return host{}, fmt.Errorf("read the host's capabilities: %w", err)
	}
	arch := ""
	if caps.Host.CPU != nil {
		arch = caps.Host.CPU.Arch
	}
	offered := map[DomainType]bool{}
	first := ""
	for _, guest := range caps.Guests {
		if guest.OSType != "hvm" || arch != "" && guest.Arch.Name != arch {
			continue
		}
		for _, domain := range guest.Arch.Domains {
			offered[DomainType(domain.Type)] = true
			if first == "" {
				first = domain.Type
			}
		}
	}
	switch wish {
	case DomainKVM, DomainQEMU:
		if len(offered) > 0 && !offered[wish] && offered[DomainQEMU] {
			return host{}, fmt.Errorf("domain_type %q: the host does not offer it for %s", wish, arch)
		}
		return host{wish, arch}, nil
	case DomainAuto, "":
	}
	for _, virtType := range []DomainType{DomainKVM, DomainQEMU} {
		if offered[virtType] {
			return host{virtType, arch}, nil
		}
	}
	if first == "" {
		return host{}, fmt.Errorf("the host offers no hvm guests for %q", arch)
	}
	return host{DomainType(first), arch}, nil
}
