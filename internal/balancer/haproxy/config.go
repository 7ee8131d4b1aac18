package haproxy

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultTimeout bounds one command on a socket where nothing else is configured.
const DefaultTimeout = 2 * time.Second

// Config says how HAProxy is reached.
type Config struct {
	// Sockets has one entry per HAProxy that serves the pools: one for a single
	// host, one each for a pair behind a shared address. A change is made at all of
	// them.
	Sockets []Socket `yaml:"sockets"`
	// Timeout bounds one command on one socket. Default 2s.
	Timeout time.Duration `yaml:"timeout"`
	// HardStopAfter repeats hard-stop-after of haproxy's configuration. It is used
	// only without a master socket: a worker older than that has no predecessor
	// that still serves. Default: not known.
	HardStopAfter time.Duration `yaml:"hard_stop_after"`
}

// Socket is where one HAProxy listens for commands. In YAML it is either the
// address alone or a mapping.
type Socket struct {
	// Address is the stats socket of level admin: an absolute path, or host:port.
	Address string `yaml:"address"`
	// MasterSocket is the socket of the master process (haproxy -W -S), in the same
	// notation. With it sessions are counted over all workers; without it they are
	// unknown for a while after a reload.
	MasterSocket string `yaml:"master_socket"`
}

// UnmarshalYAML accepts a plain string for a socket without a master socket.
func (s *Socket) UnmarshalYAML(unmarshal func(any) error) error {
	var address string
	if unmarshal(&address) == nil {
		*s = Socket{Address: address}
		return nil
	}
	type mapping Socket
	return unmarshal((*mapping)(s))
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if len(c.Sockets) == 0 {
		errs = append(errs, errors.New("sockets: at least one is needed, like /run/haproxy/admin.sock"))
	}
	seen := map[string]bool{}
	for i, s := range c.Sockets {
		if err := checkAddress(s.Address); err != nil {
			errs = append(errs, fmt.Errorf("sockets[%d]: address: %w", i, err))
		}
		if s.MasterSocket != "" {
			if err := checkAddress(s.MasterSocket); err != nil {
				errs = append(errs, fmt.Errorf("sockets[%d]: master_socket: %w", i, err))
			}
		}
		for _, address := range []string{s.Address, s.MasterSocket} {
			if address != "" && seen[address] {
				errs = append(errs, fmt.Errorf("sockets[%d]: %q is named twice", i, address))
			}
			seen[address] = true
		}
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout: %v is negative", c.Timeout))
	}
	if c.HardStopAfter < 0 {
		errs = append(errs, fmt.Errorf("hard_stop_after: %v is negative", c.HardStopAfter))
	}
	return errors.Join(errs...)
}

// network tells a path from host:port.
func network(address string) string {
	if strings.HasPrefix(address, "/") {
		return "unix"
	}
	return "tcp"
}

func checkAddress(address string) error {
	if network(address) == "unix" {
		// The kernel's limit for the path of a socket, its final zero included.
		if len(address) > 107 {
			return fmt.Errorf("the path %q is longer than 107 bytes", address)
		}
		return nil
	}
	if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
		return fmt.Errorf("%q is neither an absolute path nor host:port", address)
	}
	return nil
}

// PoolConfig is one group's pool: a backend of HAProxy and how its servers are
// added.
type PoolConfig struct {
	// Backend is the name of a backend that exists in haproxy's configuration and
	// has a dynamic balance algorithm (roundrobin, leastconn, random, first …).
	// No two groups may share one.
	Backend string `yaml:"backend"`
	Check   Check  `yaml:"check"`
	// ServerOptions are further words of haproxy's server line, like
	// ["maxconn", "50"] or ["send-proxy"]. A default-server line of the file is not
	// inherited by servers that are added at run time.
	ServerOptions []string `yaml:"server_options"`
	Fragment      Fragment `yaml:"fragment"`
}

// Check is the timing of the health checks. What is checked (option httpchk, a
// plain connection) is said in the backend. Zero values are the defaults.
type Check struct {
	Inter     time.Duration `yaml:"inter"`      // between two checks; 2s
	FastInter time.Duration `yaml:"fast_inter"` // while the state changes; 500ms, at most inter
	DownInter time.Duration `yaml:"down_inter"` // while it is down; 500ms, at most inter
	Rise      int           `yaml:"rise"`       // checks that must pass to come up; 2
	Fall      int           `yaml:"fall"`       // checks that must fail to go down; 3
	Port      uint16        `yaml:"port"`       // where it is checked; 0: where it serves
}

func (c Check) withDefaults() Check {
	if c.Inter == 0 {
		c.Inter = 2 * time.Second
	}
	if c.FastInter == 0 {
		c.FastInter = min(500*time.Millisecond, c.Inter)
	}
	if c.DownInter == 0 {
		c.DownInter = min(500*time.Millisecond, c.Inter)
	}
	if c.Rise == 0 {
		c.Rise = 2
	}
	if c.Fall == 0 {
		c.Fall = 3
	}
	return c
}

func (c Check) words() []string {
	c = c.withDefaults()
	ms := func(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }
	words := []string{
		"check", "inter", ms(c.Inter), "fastinter", ms(c.FastInter), "downinter", ms(c.DownInter),
		"rise", strconv.Itoa(c.Rise), "fall", strconv.Itoa(c.Fall),
	}
	if c.Port != 0 {
		words = append(words, "port", strconv.Itoa(int(c.Port)))
	}
	return words
}

// Fragment makes a pool survive a reload or restart of HAProxy by whomever: a
// file that haproxy loads and that lists the members in service. Without it
// HAProxy starts with an empty pool and is filled by the next Apply.
type Fragment struct {
	// File is written by atomic rename; haproxy must be started with it (-f).
	File string `yaml:"file"`
	// Template is a file with the complete backend section, since HAProxy accepts
	// no second section of a name, as a text/template: {{range .Servers}}
	// {{.Name}} {{.Address}} {{.Options}} {{end}}, {{.Backend}}, {{.Group}}.
	Template string `yaml:"template"`
}

var (
	// nameWord is what a name may consist of: whatever could split a command or a
	// line is not in it.
	nameWord = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,200}$`)
	// optionWord also allows what paths and ALPN lists need.
	optionWord = regexp.MustCompile(`^[A-Za-z0-9_.:/,-]{1,200}$`)
)

// ownOptions are said by us for every server, or would let a server take traffic
// before its first check.
var ownOptions = []string{
	"check", "no-check", "inter", "fastinter", "downinter", "rise", "fall", "port",
	"enabled", "disabled", "init-state", "init-addr", "id", "track", "backup",
}

// Validate reports everything that is wrong with the pool's configuration.
func (p PoolConfig) Validate() error {
	var errs []error
	if !nameWord.MatchString(p.Backend) {
		errs = append(errs, fmt.Errorf("backend: %q is no name of a backend: letters, digits and _ . : - are allowed", p.Backend))
	}
	for _, word := range p.ServerOptions {
		switch {
		case !optionWord.MatchString(word):
			errs = append(errs, fmt.Errorf("server_options: %q is not one word of letters, digits and _ . : / , -", word))
		case slices.Contains(ownOptions, word):
			errs = append(errs, fmt.Errorf("server_options: %q is decided by scalehook; checks are configured under check", word))
		}
	}
	c := p.Check.withDefaults()
	for _, d := range []struct {
		key   string
		value time.Duration
	}{{"inter", c.Inter}, {"fast_inter", c.FastInter}, {"down_inter", c.DownInter}} {
		if d.value < time.Millisecond || d.value > time.Hour {
			errs = append(errs, fmt.Errorf("check: %s: %v is not between 1ms and 1h", d.key, d.value))
		}
	}
	if c.Rise < 1 || c.Fall < 1 || c.Rise > 1000 || c.Fall > 1000 {
		errs = append(errs, fmt.Errorf("check: rise %d and fall %d must be between 1 and 1000", c.Rise, c.Fall))
	}
	f := p.Fragment
	if (f.File == "") != (f.Template == "") {
		errs = append(errs, errors.New("fragment: file and template are needed together"))
	}
	for _, path := range []struct{ key, value string }{{"file", f.File}, {"template", f.Template}} {
		if path.value != "" && !filepath.IsAbs(path.value) {
			errs = append(errs, fmt.Errorf("fragment: %s: %q is not an absolute path", path.key, path.value))
		}
	}
	if f.File != "" && f.File == f.Template {
		errs = append(errs, errors.New("fragment: file and template are the same file"))
	}
	return errors.Join(errs...)
}
