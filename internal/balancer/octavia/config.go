package octavia

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/cloud"
)

// Config says in which cloud the load balancers are.
type Config struct {
	cloud.Config `yaml:",inline"`

	// HeartbeatInterval is how often the load balancers report the health of their
	// members: heartbeat_interval of the section health_manager in the cloud's
	// octavia.conf. A newcomer's health counts when its first check must have ended
	// and been reported. Default 10s.
	HeartbeatInterval time.Duration `yaml:"heartbeat_interval"`
}

// DefaultHeartbeatInterval is Octavia's own.
const DefaultHeartbeatInterval = 10 * time.Second

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	err := c.Config.Validate()
	if c.HeartbeatInterval < 0 || c.HeartbeatInterval > 10*time.Minute {
		err = errors.Join(err, fmt.Errorf("heartbeat_interval %v: use at most 10m", c.HeartbeatInterval))
	}
	return err
}

// PoolConfig is one group's pool. With pool or listener it is adopted, with
// everything around it; otherwise it is made, in the load balancer that is named or
// in one that is made as well. Every object may be stated by its name or id.
type PoolConfig struct {
	// LoadBalancer is one that exists. It is not changed, except that a pool, a
	// listener and a health monitor are made in it.
	LoadBalancer string `yaml:"load_balancer"`
	// Listener is one that exists: its default pool is the group's. Neither is changed.
	Listener string `yaml:"listener"`
	// Pool is one that exists. Nothing of it is changed but our own members.
	Pool string `yaml:"pool"`

	// Subnet is where the address of a load balancer that is made comes from; with
	// Network the cloud chooses one of its subnets. Address is that address. Default:
	// any free one.
	Subnet  string `yaml:"subnet"`
	Network string `yaml:"network"`
	Address string `yaml:"address"`
	// Provider makes the load balancer: amphora, ovn, or what else the cloud has.
	// Default: the cloud's own.
	Provider string `yaml:"provider"`
	// Flavor is the id of a flavor of load balancers.
	Flavor string `yaml:"flavor"`
	// Port is where the listener listens.
	Port uint16 `yaml:"port"`
	// Protocol of listener and pool: TCP, UDP, HTTP or HTTPS (passed through).
	// Default TCP.
	Protocol string `yaml:"protocol"`
	// Algorithm is ROUND_ROBIN, LEAST_CONNECTIONS, SOURCE_IP or SOURCE_IP_PORT. Default:
	// ROUND_ROBIN, with ovn SOURCE_IP_PORT, which is all that it has.
	Algorithm string `yaml:"algorithm"`
	// Monitor is how members are checked. Of an adopted pool only the port can be stated.
	Monitor Monitor `yaml:"monitor"`

	// MemberSubnet is the members' subnet, if it is not the load balancer's.
	MemberSubnet string `yaml:"member_subnet"`
	// Weight of a member in service, 1 to 256. Default 1.
	Weight int `yaml:"weight"`
	// WeightZero says whether a member of weight 0 gets nothing new and keeps what it
	// has. Default: true with amphora, false with every other provider.
	WeightZero *bool `yaml:"weight_zero"`
}

// Monitor is how members are checked in a pool that is made. Zero values are the
// defaults.
type Monitor struct {
	// Type is TCP, HTTP, HTTPS, TLS-HELLO, PING, UDP-CONNECT, or none for no checks.
	// Default TCP, for protocol UDP UDP-CONNECT.
	Type  string `yaml:"type"`
	Path  string `yaml:"path"`  // for HTTP and HTTPS; /
	Codes string `yaml:"codes"` // for HTTP and HTTPS: 200, 200-204, or 200,202; 200
	Port  uint16 `yaml:"port"`  // where members are checked; 0: where they serve
	// Delay is between two checks (5s), Timeout that of one (3s, at most Delay), both in
	// whole seconds. Rise checks must pass to come up (2), Fall fail to go down (3).
	Delay   time.Duration `yaml:"delay"`
	Timeout time.Duration `yaml:"timeout"`
	Rise    int           `yaml:"rise"`
	Fall    int           `yaml:"fall"`
}

// none is the type of no monitor.
const none = "none"

func (m Monitor) web() bool { return m.Type == "HTTP" || m.Type == "HTTPS" }

func (c PoolConfig) withDefaults() PoolConfig {
	c.Protocol = cmp.Or(c.Protocol, "TCP")
	c.Weight = cmp.Or(c.Weight, 1)
	m := &c.Monitor
	if m.Type == "" {
		m.Type = "TCP"
		if c.Protocol == "UDP" {
			m.Type = "UDP-CONNECT"
		}
	}
	if m.web() {
		m.Path, m.Codes = cmp.Or(m.Path, "/"), cmp.Or(m.Codes, "200")
	}
	m.Delay, m.Timeout = cmp.Or(m.Delay, 5*time.Second), cmp.Or(m.Timeout, min(3*time.Second, cmp.Or(m.Delay, 5*time.Second)))
	m.Rise, m.Fall = cmp.Or(m.Rise, 2), cmp.Or(m.Fall, 3)
	return c
}

// adopts reports whether the pool is one that exists.
func (c PoolConfig) adopts() bool { return c.Pool != "" || c.Listener != "" }

// Place says what no two groups may share; empty where each makes its own.
func (c PoolConfig) Place() string {
	switch {
	case c.Pool != "":
		return "pool " + c.Pool
	case c.Listener != "":
		return "listener " + c.Listener
	case c.LoadBalancer != "":
		return fmt.Sprintf("port %d of load balancer %s", c.Port, c.LoadBalancer)
	}
	return ""
}

// Validate reports everything that is wrong with the pool's configuration. Whether
// its objects exist only the cloud can tell.
func (c PoolConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, key := range c.superfluous() {
		bad("%s", key)
	}
	if c.Pool != "" && c.Listener != "" {
		bad("listener %q: its default pool would be meant; state listener or pool", c.Listener)
	}
	if !c.adopts() && c.Port == 0 {
		bad("port: missing: state where the load balancer listens")
	}
	if c.LoadBalancer == "" && !c.adopts() && c.Subnet == "" && c.Network == "" {
		bad("subnet: missing: state where the load balancer gets its address, or load_balancer, listener or pool to adopt what exists")
	}
	if c.Subnet != "" && c.Network != "" {
		bad("network %q: goes without saying with subnet %q; leave it out", c.Network, c.Subnet)
	}
	if _, err := netip.ParseAddr(c.Address); c.Address != "" && err != nil {
		bad("address %q: not an address", c.Address)
	}
	d := c.withDefaults()
	oneOf := func(key, value string, of ...string) {
		if !slices.Contains(of, value) {
			bad("%s %q: use one of %s", key, value, strings.Join(of, ", "))
		}
	}
	oneOf("protocol", d.Protocol, "TCP", "UDP", "HTTP", "HTTPS")
	if c.Algorithm != "" {
		oneOf("algorithm", c.Algorithm, algorithms()...)
	}
	if c.Provider == "ovn" {
		if d.Protocol != "TCP" && d.Protocol != "UDP" {
			bad("protocol %q: provider ovn has TCP and UDP only", d.Protocol)
		}
		if c.Algorithm != "" && c.Algorithm != sourceIPPort {
			bad("algorithm %q: provider ovn has %s only", c.Algorithm, sourceIPPort)
		}
		if c.WeightZero != nil && *c.WeightZero {
			bad("weight_zero: provider ovn sends traffic to members of weight 0")
		}
	}
	if d.Weight < 1 || d.Weight > 256 {
		bad("weight %d: use 1 to 256", d.Weight)
	}
	return errors.Join(append(errs, d.Monitor.validate(c.Monitor)...)...)
}

// superfluous are complaints about what is stated and cannot have an effect.
func (c PoolConfig) superfluous() []string {
	var out []string
	check := func(stated bool, key, because string) {
		if stated {
			out = append(out, key+": "+because)
		}
	}
	if c.adopts() {
		const because = "is that of the adopted pool and not changed; leave it out"
		check(c.Port != 0, "port", because)
		check(c.Protocol != "", "protocol", because)
		check(c.Algorithm != "", "algorithm", because)
		check(c.Monitor != Monitor{Port: c.Monitor.Port}, "monitor", because)
	}
	if c.adopts() || c.LoadBalancer != "" {
		const because = "is that of the adopted load balancer and not changed; leave it out"
		check(c.Subnet != "", "subnet", because)
		check(c.Network != "", "network", because)
		check(c.Address != "", "address", because)
		check(c.Provider != "", "provider", because)
		check(c.Flavor != "", "flavor", because)
	}
	return out
}

// validate checks the monitor with its defaults; stated is what the file has.
func (m Monitor) validate(stated Monitor) []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("monitor: "+format, args...)) }
	types := []string{"TCP", "HTTP", "HTTPS", "TLS-HELLO", "PING", "UDP-CONNECT", none}
	if !slices.Contains(types, m.Type) {
		bad("type %q: use one of %s", m.Type, strings.Join(types, ", "))
	}
	if m.Type == none && stated != (Monitor{Type: none}) {
		bad("type none: leave everything else out")
	}
	if !m.web() && (stated.Path != "" || stated.Codes != "") {
		bad("path and codes are for the types HTTP and HTTPS")
	}
	if m.Path != "" && !strings.HasPrefix(m.Path, "/") {
		bad("path %q: does not begin with a slash", m.Path)
	}
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"delay", m.Delay}, {"timeout", m.Timeout}} {
		if d.value < time.Second || d.value > time.Hour || d.value%time.Second != 0 {
			bad("%s %v: use whole seconds, 1s to 1h", d.key, d.value)
		}
	}
	if m.Timeout > m.Delay {
		bad("timeout %v: Octavia wants it no longer than delay %v", m.Timeout, m.Delay)
	}
	if m.Rise < 1 || m.Rise > 10 || m.Fall < 1 || m.Fall > 10 {
		bad("rise %d and fall %d: use 1 to 10", m.Rise, m.Fall)
	}
	return errs
}

const (
	roundRobin   = "ROUND_ROBIN"
	sourceIPPort = "SOURCE_IP_PORT"
)

func algorithms() []string {
	return []string{roundRobin, "LEAST_CONNECTIONS", "SOURCE_IP", sourceIPPort}
}

// honours reports whether a provider's members of weight 0 get nothing new. It is
// what Octavia's reference says of all providers, and not what all do: one that was
// not tried is not trusted.
func honours(provider string) bool {
	switch provider {
	case "amphora", "amphorav2", "octavia": // octavia is its old name
		return true
	}
	return false
}
