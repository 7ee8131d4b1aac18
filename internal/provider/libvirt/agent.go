package libvirt

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// agentChannel is the name by which guest agent and libvirt find each other.
const agentChannel = "org.qemu.guest_agent.0"

// agentDeadline bounds a question to a guest's agent. Most guests that do not
// answer at once have none running.
const agentDeadline = 2 * time.Second

// isAgentChannel reports whether libvirt would reach an agent through it.
func isAgentChannel(c libvirtxml.DomainChannel) bool {
	return c.Target != nil && c.Target.VirtIO != nil && c.Target.VirtIO.Name == agentChannel &&
		c.Source != nil && c.Source.UNIX != nil
}

// checkAgentChannel refuses a definition through which no agent can be asked.
func checkAgentChannel(domain *libvirtxml.Domain) error {
	if domain.Devices != nil && slices.ContainsFunc(domain.Devices.Channels, isAgentChannel) {
		return nil
	}
	return fmt.Errorf("the guest agent cannot be asked without its channel; add to <devices>: <channel type='unix'><target type='virtio' name='%s'/></channel>", agentChannel)
}

// clearAgentPath leaves the agent's socket to libvirt: one that the definition
// names would be every VM's.
func clearAgentPath(devices *libvirtxml.DomainDeviceList) {
	for i, c := range devices.Channels {
		if isAgentChannel(c) {
			devices.Channels[i].Source = &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}}
		}
	}
}

// askAgents asks the agents side by side. One that does not answer counts as
// saying what it said last, and is no error.
func (p *Provider) askAgents(ctx context.Context, asked []machine) []found {
	believed := make([]found, len(asked))
	var wg sync.WaitGroup
	for i, d := range asked {
		wg.Go(func() {
			answer, err := p.agentAddresses(ctx, d)
			if err != nil {
				p.log.Debug("no answer from a guest's agent", "vm", d.name, "err", err)
			}
			believed[i] = p.lookout.heard(d.uuid, answer, err)
		})
	}
	wg.Wait()
	return believed
}

// agentAddresses asks the agent inside a guest. It takes no longer than
// agentDeadline. libvirt itself waits for an agent without limit once the two have
// met, so agents that hang never hold more than their share of the connections,
// and cannot stop launches and removals.
func (p *Provider) agentAddresses(ctx context.Context, d machine) (found, error) {
	ctx, cancel := context.WithTimeout(ctx, agentDeadline)
	defer cancel()
	key := d.mark.ID + "/agent"
	// A VM whose last question is still out must not take another's turn.
	if err := p.m.ready(key, false); err != nil {
		return found{}, err
	}
	select {
	case p.asking <- struct{}{}:
	case <-ctx.Done():
		return found{}, fmt.Errorf("wait for other agents: %w", context.Cause(ctx))
	}
	// A call that is left behind keeps its turn until it returns.
	done := sync.OnceFunc(func() { <-p.asking })
	s, err := p.m.session(ctx, key, false)
	if err != nil {
		done()
		return found{}, err
	}
	answer, err := call(ctx, s, guestCall, false, fmt.Sprintf("ask the agent of domain %q", d.name),
		func(_ context.Context, conn *libvirt.Connect) (found, error) {
			defer done()
			dom, err := conn.LookupDomainByUUIDString(d.uuid)
			if err != nil {
				return found{}, err
			}
			defer free(dom.Free)
			ifaces, err := dom.ListAllInterfaceAddresses(libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
			if err != nil {
				return found{}, err
			}
			return guestAddresses(ifaces, d.mark.NICs), nil
		})
	if !s.left {
		done()
	}
	s.release()
	return answer, err
}

// guestAddresses picks from a guest's interfaces those that are the VM's own, by
// MAC and in the order of its definition. What the guest made itself, such as the
// bridges of containers, has other MACs; what it put on top of an interface may
// have the same one, and comes after it.
func guestAddresses(ifaces []libvirt.DomainInterface, nics []markNIC) found {
	var f found
	for n, nic := range nics {
		for _, iface := range ifaces {
			if !strings.EqualFold(nic.MAC, iface.Hwaddr) {
				continue
			}
			for _, a := range iface.Addrs {
				if addr, err := netip.ParseAddr(a.Addr); err == nil {
					f.add(n, addr)
				}
			}
		}
	}
	return f
}
