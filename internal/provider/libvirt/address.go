package libvirt

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/scalehook/scalehook/internal/scaling"
)

// lease is a DHCP lease of a libvirt network.
type lease struct {
	mac     string
	addr    netip.Addr
	expires time.Time
}

// leasesOf returns a network's leases that have not expired. It asks the network
// and no domain, so a guest or QEMU that hangs holds nothing up. A network that
// is not there or not started has none.
func leasesOf(ctx context.Context, s *session, network string) ([]lease, error) {
	leases, err := query(ctx, s, fmt.Sprintf("read the leases of network %q", network),
		func(_ context.Context, conn *libvirt.Connect) ([]lease, error) {
			net, err := conn.LookupNetworkByName(network)
			if err != nil {
				return nil, err
			}
			defer free(net.Free)
			found, err := net.GetDHCPLeases()
			if hasCode(err, libvirt.ERR_NO_SUPPORT) || hasCode(err, libvirt.ERR_OPERATION_INVALID) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			var leases []lease
			for _, l := range found {
				addr, err := netip.ParseAddr(l.IPaddr)
				if err != nil {
					continue
				}
				leases = append(leases, lease{strings.ToLower(l.Mac), addr, l.ExpiryTime})
			}
			return leases, nil
		})
	if scaling.ClassOf(err) == scaling.Permanent {
		return nil, nil
	}
	return leases, err
}

// addressesOf picks the addresses of a MAC: IPv4 first, then the lease that was
// renewed last.
func addressesOf(leases []lease, mac string) []netip.Addr {
	var own []lease
	for _, l := range leases {
		if l.mac == strings.ToLower(mac) {
			own = append(own, l)
		}
	}
	slices.SortStableFunc(own, func(a, b lease) int {
		if a.addr.Is4() != b.addr.Is4() {
			if a.addr.Is4() {
				return -1
			}
			return 1
		}
		return b.expires.Compare(a.expires)
	})
	var addrs []netip.Addr
	for _, l := range own {
		addrs = append(addrs, l.addr)
	}
	return addrs
}

// checkLeases refuses a launch into a network whose DHCP ranges are used up. The
// leases of dead VMs count: libvirt cannot take one back.
func checkLeases(ctx context.Context, s *session, network string) error {
	total, err := query(ctx, s, fmt.Sprintf("read network %q", network), func(_ context.Context, conn *libvirt.Connect) (int, error) {
		net, err := conn.LookupNetworkByName(network)
		if err != nil {
			return 0, err
		}
		defer free(net.Free)
		text, err := net.GetXMLDesc(0)
		if err != nil {
			return 0, err
		}
		return dhcpSize(text)
	})
	if err != nil || total == 0 {
		return err
	}
	leases, err := leasesOf(ctx, s, network)
	if err != nil {
		return err
	}
	used := 0
	for _, l := range leases {
		if l.addr.Is4() {
			used++
		}
	}
	if used >= total {
		return scaling.Errorf(scaling.Quota, "network %q: its DHCP range is full (%d leases for %d addresses); widen the range or shorten the lease time",
			network, used, total)
	}
	return nil
}

// dhcpSize counts the IPv4 addresses in a network's DHCP ranges.
func dhcpSize(networkXML string) (int, error) {
	var desc libvirtxml.Network
	if err := desc.Unmarshal(networkXML); err != nil {
		return 0, fmt.Errorf("read the description: %w", err)
	}
	total := 0
	for _, ip := range desc.IPs {
		if ip.DHCP == nil {
			continue
		}
		for _, r := range ip.DHCP.Ranges {
			first, err := netip.ParseAddr(r.Start)
			if err != nil || !first.Is4() {
				continue
			}
			last, err := netip.ParseAddr(r.End)
			if err != nil || !last.Is4() || last.Less(first) {
				continue
			}
			a, b := first.As4(), last.As4()
			number := func(x [4]byte) int { return int(x[0])<<24 | int(x[1])<<16 | int(x[2])<<8 | int(x[3]) }
			total += number(b) - number(a) + 1
		}
	}
	return total, nil
}

// pick returns the first address of the range that is not taken.
func (a Address) pick(taken map[string]bool) (string, error) {
	first, last, err := a.bounds()
	if err != nil {
		return "", scaling.WithClass(scaling.Permanent, err)
	}
	n := 0
	for ip := first; ; ip = ip.Next() {
		n++
		if !taken[ip.String()] {
			return ip.String(), nil
		}
		if ip == last {
			return "", scaling.Errorf(scaling.Quota, "address range %s is used up: all %d addresses belong to VMs", a.Range, n)
		}
	}
}

// agentDeadline bounds a question to a guest's agent. Most guests that do not
// answer at once have none running.
const agentDeadline = 2 * time.Second

// agentAddresses asks the agent inside a guest, best address first.
func (p *Provider) agentAddresses(ctx context.Context, d machine) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, agentDeadline)
	defer cancel()
	s, err := p.m.session(ctx, d.mark.ID+"/agent", false)
	if err != nil {
		return nil, err
	}
	defer s.release()
	return call(ctx, s, guestCall, false, fmt.Sprintf("ask the agent of domain %q", d.name),
		func(_ context.Context, conn *libvirt.Connect) ([]netip.Addr, error) {
			dom, err := conn.LookupDomainByUUIDString(d.uuid)
			if err != nil {
				return nil, err
			}
			defer free(dom.Free)
			ifaces, err := dom.ListAllInterfaceAddresses(libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
			if err != nil {
				return nil, err
			}
			var v4, v6 []netip.Addr
			for _, iface := range ifaces {
				if !slices.ContainsFunc(d.mark.NICs, func(n markNIC) bool { return strings.EqualFold(n.MAC, iface.Hwaddr) }) {
					continue
				}
				for _, a := range iface.Addrs {
					addr, err := netip.ParseAddr(a.Addr)
					switch {
					case err != nil || addr.IsLoopback() || addr.IsLinkLocalUnicast():
					case addr.Is4():
						v4 = append(v4, addr)
					default:
						v6 = append(v6, addr)
					}
				}
			}
			return append(v4, v6...), nil
		})
}
