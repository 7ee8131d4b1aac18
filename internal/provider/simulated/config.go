package simulated

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Config describes a World.
type Config struct {
	// Capacity is how many VMs fit; one more is refused for want of room. Default 20.
	Capacity int `yaml:"capacity"`
	// VCPUs is what a VM has whose template says nothing else. Default 1.
	VCPUs int `yaml:"vcpus"`
	// BootTime passes from start to ready; the address is known at half of it. Default 5s.
	BootTime time.Duration `yaml:"boot_time"`
	// ShutdownTime is how long a guest takes to stop when asked. Default 2s.
	ShutdownTime time.Duration `yaml:"shutdown_time"`
	// DrainTime is how long the sessions of a draining member last. Default 2s.
	DrainTime time.Duration `yaml:"drain_time"`
	// CallTime is how long every call takes. Default 0s.
	CallTime time.Duration `yaml:"call_time"`
	// BootBurn and IdleBurn are the vCPUs that a booting and an idle VM use. Defaults
	// 1 and 0.02.
	BootBurn float64 `yaml:"boot_burn"`
	IdleBurn float64 `yaml:"idle_burn"`
	// Network is where addresses come from, in order. Default 192.0.2.0/24.
	Network netip.Prefix `yaml:"network"`
	// Directory keeps the VMs in a file, so that a restart finds them. Default: they
	// end with the process.
	Directory string `yaml:"directory"`
	// VMs exist from the start and are nobody's, for adoption.
	VMs []ForeignVM `yaml:"vms"`
	// Load is offered to each group, step by step.
	Load map[string][]LoadStep `yaml:"load"`
}

// ForeignVM is a running VM that scalehook did not make.
type ForeignVM struct {
	Name  string `yaml:"name"`
	VCPUs int    `yaml:"vcpus"`
}

// LoadStep sets the load offered to a group some time after the World began.
type LoadStep struct {
	After time.Duration `yaml:"after"`
	// VCPUs is the load: how many vCPUs it keeps busy while there are enough.
	VCPUs float64 `yaml:"vcpus"`
}

// Template is what a group's VMs are like.
type Template struct {
	VCPUs int `yaml:"vcpus"`
	// PublicAddress is the group's public address, which leads to its primary.
	PublicAddress netip.Addr `yaml:"public_address"`
}

// DefaultConfig returns what a file's values are laid over.
func DefaultConfig() Config {
	return Config{
		Capacity: 20, VCPUs: 1, BootTime: 5 * time.Second, ShutdownTime: 2 * time.Second, DrainTime: 2 * time.Second,
		BootBurn: 1, IdleBurn: 0.02, Network: netip.MustParsePrefix("192.0.2.0/24"),
	}
}

// UnmarshalYAML lays a file's values over the defaults.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	type plain Config
	*c = DefaultConfig()
	return unmarshal((*plain)(c))
}

// Validate reports every value that cannot work.
func (c Config) Validate() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Capacity < 1 {
		wrong("capacity: %d VMs; at least 1", c.Capacity)
	}
	if c.VCPUs < 1 {
		wrong("vcpus: %d; at least 1", c.VCPUs)
	}
	for name, d := range map[string]time.Duration{
		"boot_time": c.BootTime, "shutdown_time": c.ShutdownTime, "drain_time": c.DrainTime, "call_time": c.CallTime,
	} {
		if d < 0 {
			wrong("%s: %v; not below 0s", name, d)
		}
	}
	if c.BootBurn < 0 || c.IdleBurn < 0 {
		wrong("boot_burn and idle_burn: not below 0")
	}
	if !c.Network.IsValid() || !c.Network.Addr().Is4() || c.Network.Bits() > 30 {
		wrong("network: %q; an IPv4 network such as 192.0.2.0/24", c.Network)
	}
	for _, v := range c.VMs {
		if err := scaling.ValidName(v.Name); err != nil {
			wrong("vms: %w", err)
		}
	}
	for group, steps := range c.Load {
		if !slices.IsSortedFunc(steps, func(a, b LoadStep) int { return int(a.After - b.After) }) {
			wrong("load of %s: the steps are not in the order of \"after\"", group)
		}
		for _, s := range steps {
			if s.VCPUs < 0 || s.After < 0 {
				wrong("load of %s: after and vcpus are not below 0", group)
			}
		}
	}
	return errors.Join(errs...)
}
