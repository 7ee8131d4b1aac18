package exporter

import (
	"errors"
	"fmt"
	"time"

	"libvirt.org/go/libvirt"
)

// Config is what an Exporter does and how patient it is.
type Config struct {
	// URI is the libvirt connection. DefaultURI also finds the daemons in
	// Sockets where the host has none of its own.
	URI string
	// Sockets is where to look while URI is DefaultURI.
	Sockets Sockets
	// Collectors says which collectors run.
	Collectors Collectors
	// Timeout bounds a scrape that brings no timeout of its own, and every
	// scrape whose own timeout is longer.
	Timeout time.Duration
	// TimeoutOffset is taken off the timeout that a scrape brings, so that the
	// answer is back before Prometheus gives up.
	TimeoutOffset time.Duration
	// HangTimeout is the age at which a call to libvirt counts as hung and is
	// left behind on its connection.
	HangTimeout time.Duration
	// KeepAliveInterval, in whole seconds, and KeepAliveCount say when a remote
	// daemon that does not answer counts as gone: after Interval × (Count + 1).
	// Connections over a UNIX socket have no keep-alive.
	KeepAliveInterval time.Duration
	KeepAliveCount    uint
}

// Collectors says which collectors run beside the one that reads state, vCPUs,
// memory and CPU time, which always does.
type Collectors struct {
	Info, CPU, VCPU, Balloon, Block, Interface bool
}

// DefaultConfig is what the flags default to: the collectors that cost next to
// nothing, which is all that scaling needs.
func DefaultConfig() Config {
	return Config{
		URI:               DefaultURI,
		Sockets:           KnownSockets(),
		Collectors:        Collectors{Info: true},
		Timeout:           10 * time.Second,
		TimeoutOffset:     250 * time.Millisecond,
		HangTimeout:       10 * time.Second,
		KeepAliveInterval: 5 * time.Second,
		KeepAliveCount:    2,
	}
}

// Validate reports everything that is wrong with the configuration at once.
func (c Config) Validate() error {
	var errs []error
	if c.URI == "" {
		errs = append(errs, errors.New("the libvirt URI is empty; the host's own daemon is "+DefaultURI))
	}
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("the scrape timeout is %s; it must be more than 0", c.Timeout))
	}
	if c.TimeoutOffset < 0 {
		errs = append(errs, fmt.Errorf("the scrape timeout offset is %s; it must be 0 or more", c.TimeoutOffset))
	}
	if c.HangTimeout <= 0 {
		errs = append(errs, fmt.Errorf("the hang timeout is %s; it must be more than 0", c.HangTimeout))
	}
	if c.KeepAliveInterval < time.Second || c.KeepAliveInterval%time.Second != 0 {
		errs = append(errs, fmt.Errorf("the keep-alive interval is %s; it must be whole seconds, 1s or more", c.KeepAliveInterval))
	}
	if c.KeepAliveCount == 0 {
		errs = append(errs, errors.New("the keep-alive count is 0; it must be 1 or more"))
	}
	return errors.Join(errs...)
}

// bulk returns the bulk statistics that the collectors need, 0 for none. They
// are read in one call: with NOWAIT, two calls at once would each make the
// other skip domains, and one after the other would pay libvirt's price per
// domain twice.
func (c Collectors) bulk() libvirt.DomainStatsTypes {
	var types libvirt.DomainStatsTypes
	for _, want := range []struct {
		on    bool
		types libvirt.DomainStatsTypes
	}{
		{c.CPU, libvirt.DOMAIN_STATS_CPU_TOTAL},
		{c.VCPU, libvirt.DOMAIN_STATS_VCPU},
		{c.Balloon, libvirt.DOMAIN_STATS_BALLOON},
		{c.Block, libvirt.DOMAIN_STATS_BLOCK},
		{c.Interface, libvirt.DOMAIN_STATS_INTERFACE},
	} {
		if want.on {
			types |= want.types
		}
	}
	if types != 0 {
		types |= libvirt.DOMAIN_STATS_STATE
	}
	return types
}
