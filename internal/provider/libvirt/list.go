package libvirt

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Get implements scaling.Provider.
func (p *Provider) Get(ctx context.Context, ref scaling.Ref) (scaling.VM, error) {
	s, err := p.m.session(ctx, ref.ID, false)
	if err != nil {
		return scaling.VM{}, fmt.Errorf("get %q (%s): %w", ref.Name, ref.ID, err)
	}
	defer s.release()
	vm, err := p.get(ctx, s, ref)
	if err != nil {
		return vm, fmt.Errorf("get %q (%s): %w", ref.Name, ref.ID, err)
	}
	return vm, nil
}

func (p *Provider) get(ctx context.Context, s *session, ref scaling.Ref) (scaling.VM, error) {
	d, err := p.find(ctx, s, ref)
	if err != nil {
		return scaling.VM{}, err
	}
	if !d.is(p.owner, ref.ID) {
		return scaling.VM{}, scaling.Errorf(scaling.NotFound, "domain %q carries no mark of ours for this instance", d.name)
	}
	addrs, err := p.addresses(ctx, s, []machine{d})
	if err != nil {
		return scaling.VM{}, err
	}
	return p.vm(d, addrs[d.uuid]), nil
}

// find returns the domain that is, or should be, the instance's: that with its
// uuid, else the one whose valid mark names it. NotFound if there is none.
func (p *Provider) find(ctx context.Context, s *session, ref scaling.Ref) (machine, error) {
	uuid := ref.UUID
	if uuid == "" {
		uuid = ref.ID
	}
	d, err := machineByUUID(ctx, s, uuid)
	if !scaling.IsNotFound(err) || ref.UUID != "" {
		return d, err
	}
	all, listErr := machines(ctx, s)
	if listErr != nil {
		return d, listErr
	}
	for _, m := range all {
		if m.is(p.owner, ref.ID) {
			return m, nil
		}
	}
	return d, err
}

// List implements scaling.Provider. None of its calls waits for a QEMU process,
// but for the questions to agents, which wait for agentDeadline altogether.
func (p *Provider) List(ctx context.Context) ([]scaling.VM, error) {
	vms, err := p.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the VMs: %w", err)
	}
	return vms, nil
}

func (p *Provider) list(ctx context.Context) ([]scaling.VM, error) {
	s, err := p.m.session(ctx, "list", false)
	if err != nil {
		return nil, err
	}
	defer s.release()
	all, err := machines(ctx, s)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(d machine) bool { return !d.ours(p.owner) })
	p.lookout.keep(all)
	addrs, err := p.addresses(ctx, s, all)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b machine) int { return strings.Compare(a.name, b.name) })
	vms := make([]scaling.VM, 0, len(all))
	for _, d := range all {
		vms = append(vms, p.vm(d, addrs[d.uuid]))
	}
	return vms, nil
}

func (p *Provider) vm(d machine, addrs []netip.Addr) scaling.VM {
	return scaling.VM{
		ID: d.mark.ID, Group: d.mark.Group, Name: d.name, UUID: d.uuid, Power: d.power,
		Addresses: addrs, Adopted: d.mark.Adopted, CreatedAt: d.mark.created(),
	}
}

// addresses finds the addresses that running machines have now, best first, by
// uuid. Leases are read once per network, whatever the number of machines. What
// an agent does not say is missing, and no error.
func (p *Provider) addresses(ctx context.Context, s *session, all []machine) (map[string][]netip.Addr, error) {
	addrs := map[string][]netip.Addr{}
	leases := map[string][]lease{}
	var asked []machine
	for _, d := range all {
		if !d.active() {
			p.lookout.forget(d.uuid) // it starts with a new address
		}
		if d.power != scaling.PowerRunning || d.mark.Address == nil {
			continue
		}
		switch a := d.mark.Address; a.Source {
		case AddressRange:
			if ip, err := netip.ParseAddr(a.IP); err == nil {
				addrs[d.uuid] = []netip.Addr{ip}
			}
		case AddressAgent:
			asked = append(asked, d)
		case AddressLease:
			var f found
			for n, nic := range d.mark.NICs {
				if nic.Network == "" {
					continue
				}
				known, ok := leases[nic.Network]
				if !ok {
					var err error
					if known, err = leasesOf(ctx, s, nic.Network); err != nil {
						return nil, err
					}
					leases[nic.Network] = known
				}
				f.add(n, addressesOf(known, nic.MAC)...)
			}
			addrs[d.uuid] = p.lookout.settled(d.uuid, f, time.Now())
		}
	}
	for i, f := range p.askAgents(ctx, asked) {
		addrs[asked[i].uuid] = p.lookout.settled(asked[i].uuid, f, time.Now())
	}
	return addrs, nil
}
