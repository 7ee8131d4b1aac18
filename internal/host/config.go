package host

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
)

// Config says whose packets are forwarded to where.
type Config struct {
	// Bridge is the interface of the guests' floating addresses. MicroStack's is br-ex.
	Bridge string
	// Network is what is masqueraded. Zero: that of the bridge's IPv4 address.
	Network netip.Prefix
	// Uplink is the interface to the world. Empty: that of the default route with the
	// lowest metric.
	Uplink string
	// Persist keeps it over a reboot: a file for sysctl and a unit for systemd.
	Persist bool
	// Program is the absolute path of scalehook, for the unit.
	Program string
	// Root is put before every path that is written to; for tests. Empty: /.
	Root string

	// without is a program that is taken for missing; for tests. Empty: none.
	without string
}

// has reports whether a program that firewalls come with is installed.
func (c Config) has(program string) bool { return program != c.without && installed(program) }

// DefaultBridge is MicroStack's.
const DefaultBridge = "br-ex"

// interfaceRE is stricter than the kernel: names go into rules.
var interfaceRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.@-]{0,14}$`)

// validate reports everything that is wrong with what was stated.
func (c Config) validate() error {
	var errs []error
	for _, field := range []struct{ flag, name string }{{"bridge", c.Bridge}, {"uplink", c.Uplink}} {
		if field.name == "" && field.flag == "uplink" {
			continue
		}
		if !interfaceRE.MatchString(field.name) {
			errs = append(errs, fmt.Errorf("%s %q: not the name of a network interface", field.flag, field.name))
		}
	}
	if c.Network.IsValid() && (!c.Network.Addr().Is4() || c.Network != c.Network.Masked() || c.Network.Bits() == 0) {
		errs = append(errs, fmt.Errorf("network %v: use an IPv4 network such as %v", c.Network, exampleNetwork(c.Network)))
	}
	if c.Persist && !filepath.IsAbs(c.Program) {
		errs = append(errs, fmt.Errorf("program %q: a unit needs an absolute path", c.Program))
	}
	return errors.Join(errs...)
}

// exampleNetwork is what was probably meant, or MicroStack's.
func exampleNetwork(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4() && p.Bits() > 0 {
		return p.Masked()
	}
	return netip.MustParsePrefix("10.20.20.0/24")
}

// path is where a file of the host lies.
func (c Config) path(elements ...string) string {
	return filepath.Join(append([]string{"/", c.Root}, elements...)...)
}

func (c Config) statePath() string  { return c.path("var/lib/scalehook-host/state.json") }
func (c Config) sysctlPath() string { return c.path("etc/sysctl.d/60-scalehook-host.conf") }
func (c Config) unitPath() string   { return c.path("etc/systemd/system", unitName) }

// Way is from where to where packets are forwarded, with nothing left open.
type Way struct {
	Bridge  string       `json:"bridge"`
	Network netip.Prefix `json:"network"`
	Uplink  string       `json:"uplink"`
}

// String returns "10.20.20.0/24 from br-ex to ens33".
func (w Way) String() string {
	return fmt.Sprintf("%v from %s to %s", w.Network, w.Bridge, w.Uplink)
}
