package libvirt

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
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

// addressesOf picks the addresses of a MAC, the lease that was renewed last first.
func addressesOf(leases []lease, mac string) []netip.Addr {
	var own []lease
	for _, l := range leases {
		if strings.EqualFold(l.mac, mac) {
			own = append(own, l)
		}
	}
	slices.SortStableFunc(own, func(a, b lease) int { return b.expires.Compare(a.expires) })
	var addrs []netip.Addr
	for _, l := range own {
		addrs = append(addrs, l.addr)
	}
	return addrs
}

// found is what is known of a VM's addresses now, in the order of its interfaces.
type found struct {
	addrs []netip.Addr
	// main is set when an IPv4 address of the first interface is among them: no
	// better one will come.
	main bool
}

// add appends those addresses of the VM's interface nic that somebody else can
// reach.
func (f *found) add(nic int, addrs ...netip.Addr) {
	for _, addr := range addrs {
		addr = addr.Unmap()
		if !addr.IsGlobalUnicast() || slices.Contains(f.addrs, addr) {
			continue
		}
		f.addrs = append(f.addrs, addr)
		f.main = f.main || nic == 0 && addr.Is4()
	}
}

// best returns the addresses, IPv4 before IPv6.
func (f *found) best() []netip.Addr {
	addrs := slices.Clone(f.addrs)
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return addrs
}

// addressSettle is how long an IPv4 address of the first interface is waited for
// once the VM has another address. A guest's IPv6 address or its second interface
// is often up before DHCP has answered on the first.
const addressSettle = 10 * time.Second

// lookout is what the provider remembers of VMs' addresses, by uuid. It is safe
// for concurrent use.
type lookout struct {
	mu     sync.Mutex
	agents map[string]found
	since  map[string]time.Time // when a VM had only addresses that may not be its best
}

func newLookout() *lookout {
	return &lookout{agents: map[string]found{}, since: map[string]time.Time{}}
}

// forget drops what is remembered of a VM.
func (l *lookout) forget(uuid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.agents, uuid)
	delete(l.since, uuid)
}

// keep drops what is remembered of other VMs than these.
func (l *lookout) keep(all []machine) {
	here := map[string]bool{}
	for _, d := range all {
		here[d.uuid] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.agents, func(uuid string, _ found) bool { return !here[uuid] })
	maps.DeleteFunc(l.since, func(uuid string, _ time.Time) bool { return !here[uuid] })
}

// heard takes what an agent said, or why it said nothing, and returns what is
// believed: its last answer, since an agent answers late or not at all under load.
func (l *lookout) heard(uuid string, answer found, err error) found {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.agents[uuid] = answer
	}
	return l.agents[uuid]
}

// settled returns the addresses of a VM, best first; none while a better one may
// still come.
func (l *lookout) settled(uuid string, f found, now time.Time) []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.main || len(f.addrs) == 0 {
		delete(l.since, uuid)
		return f.best()
	}
	first, known := l.since[uuid]
	if !known {
		first = now
		l.since[uuid] = now
	}
	if now.Sub(first) < addressSettle {
		return nil
	}
	return f.best()
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
