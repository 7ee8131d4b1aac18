package host

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// routesFile is the calling thread's, as /proc/net is only the first thread's.
const routesFile = "/proc/thread-self/net/route"

// resolve fills in what the configuration leaves open.
func (c Config) resolve() (Way, []string, error) {
	if err := c.validate(); err != nil {
		return Way{}, nil, err
	}
	way := Way{Bridge: c.Bridge, Network: c.Network, Uplink: c.Uplink}
	var warnings []string
	bridge, err := net.InterfaceByName(c.Bridge)
	switch {
	case err == nil && !way.Network.IsValid():
		if way.Network, err = networkOf(bridge); err != nil {
			return Way{}, nil, err
		}
	case err != nil && !way.Network.IsValid():
		return Way{}, nil, fmt.Errorf("no interface %s (there are %s): is MicroStack initialised? Name another with --bridge, or state --network to prepare for one that comes later",
			c.Bridge, interfaces())
	case err != nil:
		warnings = append(warnings, fmt.Sprintf("there is no interface %s yet: this holds once it is there", c.Bridge))
	}
	if way.Uplink != "" {
		if _, err := net.InterfaceByName(way.Uplink); err != nil {
			warnings = append(warnings, fmt.Sprintf("there is no interface %s yet: this holds once it is there", way.Uplink))
		}
	} else {
		text, err := os.ReadFile(routesFile)
		if err != nil {
			return Way{}, nil, fmt.Errorf("look for the default route: %w", err)
		}
		if way.Uplink, err = uplink(string(text)); err != nil {
			return Way{}, nil, err
		}
		if !interfaceRE.MatchString(way.Uplink) {
			return Way{}, nil, fmt.Errorf("the default route leads to %q, a name that cannot be put into rules: state --uplink", way.Uplink)
		}
	}
	if way.Uplink == way.Bridge {
		return Way{}, nil, fmt.Errorf("the way out is %s itself: guests on it reach the outside without this host; if they do not, state --uplink", way.Bridge)
	}
	return way, warnings, nil
}

// networkOf is that of the first IPv4 address.
func networkOf(i *net.Interface) (netip.Prefix, error) {
	addresses, err := i.Addrs()
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("read the addresses of %s: %w", i.Name, err)
	}
	for _, a := range addresses {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() && !prefix.Addr().IsLinkLocalUnicast() && prefix.Bits() > 0 && prefix.Bits() < 32 {
			return prefix.Masked(), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("%s has no IPv4 address that tells its network: state it, as --network 10.20.20.0/24", i.Name)
}

// uplink picks the default route of the lowest metric from the kernel's table.
func uplink(table string) (string, error) {
	type route struct {
		name   string
		metric int
	}
	var routes []route
	for line := range strings.Lines(table) {
		// Iface Destination Gateway Flags RefCnt Use Metric Mask …
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		flags, err := strconv.ParseUint(f[3], 16, 32)
		const up, reject = 0x1, 0x200
		if err != nil || flags&up == 0 || flags&reject != 0 {
			continue
		}
		metric, err := strconv.Atoi(f[6])
		if err != nil {
			continue
		}
		routes = append(routes, route{f[0], metric})
	}
	if len(routes) == 0 {
		return "", errors.New("there is no default route, so the way out is not known: state it, as --uplink ens33 (interfaces: " + interfaces() + ")")
	}
	first := slices.MinFunc(routes, func(a, b route) int { return cmp.Compare(a.metric, b.metric) })
	return first.name, nil
}

func interfaces() string {
	list, err := net.Interfaces()
	if err != nil {
		return "unknown"
	}
	var names []string
	for _, i := range list {
		if i.Flags&net.FlagLoopback == 0 {
			names = append(names, i.Name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
