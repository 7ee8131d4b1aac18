// Package lab runs a real OpenStack for tests: Keystone, Placement, Glance, Nova,
// Neutron with OVN and Octavia from Debian's packages, as plain processes beside
// MariaDB and RabbitMQ, without systemd or containers.
//
// There is one at a time on a machine, because its ports are those that everybody
// expects (Keystone at 5000 and so on, on 127.0.0.1). With the pretended guests of
// Fake everything but the guests is real: the APIs, the scheduler, quotas, tags, the
// course of a server's states. With QEMU the guests and their packets are real too.
//
// All of its processes live in a mount namespace of their own (and with QEMU in a
// network namespace), write below one folder and are known by pid and start time.
// Down ends them, whoever started them, and nothing else.
//
// Tests use Start. Up, Find and Down are for programs. Root is needed.
package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Virt says what the guests are.
type Virt string

// Fake guests are pretended and take orders; QEMU guests are emulated machines.
const (
	Fake Virt = "fake"
	QEMU Virt = "qemu"
)

// The clouds in the file of CloudsFile, for OS_CLOUD or --os-cloud.
const (
	Member = "lab"        // user demo in project demo, no rights beyond a member's
	Admin  = "lab-admin"  // the cloud's administrator
	Reader = "lab-reader" // may look at project demo
	Other  = "lab-other"  // a member of another project
)

// What a cloud has from the start, besides the flavors m1.nano (128 MiB), m1.tiny
// and m1.small.
const (
	Password = "lab-password" // of every user
	AuthURL  = "http://127.0.0.1:5000/v3"
	Region   = "RegionOne"
	Image    = "lab-guest" // public; the demo's guest with QEMU, some zeros with Fake
	Flavor   = "m1.nano"
	External = "public" // external network, 203.0.113.0/24
	Host     = "lab-host"
)

// Options say which cloud is wanted.
type Options struct {
	// Virt is Fake if empty.
	Virt Virt
	// Octavia asks for the load balancer service. A cloud that has it also serves
	// those that do not ask for it.
	Octavia bool
	// Private keeps the ports in a network namespace of the cloud's own, so that it
	// can run beside another one: only what is run inside (Namespace, Client) reaches
	// it. It is for tests of the lab itself; Start does not know it.
	Private bool
	// State is the folder for everything. Empty: DefaultState(Virt).
	State string
	// Alone keeps other tests that use Start away for as long as the test runs:
	// for tests that stop services or count what is in the cloud. Up ignores it.
	Alone bool
	// Progress gets a line for each step. Nil: nobody is told.
	Progress io.Writer
}

// DefaultState is the folder of a cloud where nothing else is said. The kinds of
// guests have different ones, since their databases cannot be exchanged.
func DefaultState(virt Virt) string {
	if virt == QEMU {
		return "/var/lib/scalehook-openstack-qemu"
	}
	return "/var/lib/scalehook-openstack"
}

func (o *Options) validate() error {
	if o.Virt == "" {
		o.Virt = Fake
	}
	if o.Virt != Fake && o.Virt != QEMU {
		return fmt.Errorf("kind of guests %q: want %s or %s", o.Virt, Fake, QEMU)
	}
	if o.State == "" {
		o.State = DefaultState(o.Virt)
	}
	state, err := filepath.Abs(o.State)
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	o.State = state
	if state == "/run" || strings.HasPrefix(state, "/run/") || strings.HasPrefix(state, "/var/run/") {
		return fmt.Errorf("state folder %s: the cloud's programs do not see /run, choose another place", state)
	}
	if len(state) > 60 {
		return fmt.Errorf("state folder %s: at most 60 characters, the paths of sockets are limited", state)
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return nil
}

// ports are where the services listen on 127.0.0.1. python/seed.py has those of
// the catalogue too.
var ports = struct {
	Keystone, Placement, Glance, Nova, Metadata, Neutron, Octavia, Rabbit, Epmd, RabbitDist int
}{5000, 8778, 9292, 8774, 8775, 9696, 9876, 5672, 4370, 25673}

// Cloud is an OpenStack that was brought up. Its methods may be called from
// several goroutines, but for those that start and stop it.
type Cloud struct {
	opts Options
	d    *daemons
}

func newCloud(opts Options) *Cloud {
	return &Cloud{opts: opts, d: &daemons{state: opts.State, environ: environ(opts.State)}}
}

// Virt is what its guests are.
func (c *Cloud) Virt() Virt { return c.opts.Virt }

// State is its folder.
func (c *Cloud) State() string { return c.opts.State }

// Octavia reports whether it has a load balancer service.
func (c *Cloud) Octavia() bool { return c.opts.Octavia }

// ownNetwork reports whether the cloud lives in a network namespace of its own.
func (c *Cloud) ownNetwork() bool { return c.opts.Virt == QEMU || c.opts.Private }

// CloudsFile is the clouds.yaml with Member, Admin, Reader and Other.
func (c *Cloud) CloudsFile() string { return c.path("client", "clouds.yaml") }

// RCFile is an rc file of the kind that clouds hand out, for Member or Admin.
func (c *Cloud) RCFile(cloud string) string { return c.path("client", cloud+"-openrc") }

func (c *Cloud) path(parts ...string) string {
	return filepath.Join(append([]string{c.opts.State}, parts...)...)
}

// kept is what the state folder says about its cloud.
type kept struct {
	Virt    Virt `json:"virt"`
	Octavia bool `json:"octavia"`
	Private bool `json:"private,omitempty"`
}

func (c *Cloud) keep() error {
	raw, err := json.Marshal(kept{c.opts.Virt, c.opts.Octavia, c.opts.Private})
	if err != nil {
		return fmt.Errorf("note what the cloud is: %w", err)
	}
	return replaceFile(c.path("cloud.json"), append(raw, '\n'), 0o644)
}

// Find returns the cloud whose folder this is, running or not. The error is
// fs.ErrNotExist when there has never been one.
func Find(state string) (*Cloud, error) {
	raw, err := os.ReadFile(filepath.Join(state, "cloud.json"))
	if err != nil {
		return nil, fmt.Errorf("find a cloud in %s: %w", state, err)
	}
	var k kept
	if err := json.Unmarshal(raw, &k); err != nil {
		return nil, fmt.Errorf("find a cloud in %s: %w", state, err)
	}
	opts := Options{Virt: k.Virt, Octavia: k.Octavia, Private: k.Private, State: state}
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("find a cloud in %s: %w", state, err)
	}
	return newCloud(opts), nil
}

// Running reports whether any process of the cloud lives.
func (c *Cloud) Running() bool {
	return slices.ContainsFunc(c.services(), func(s service) bool { return c.d.alive(s.name) })
}

// Check returns nil when every service of the cloud lives and every API answers;
// otherwise an error that names what does not. It takes at most ten seconds.
func (c *Cloud) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var errs []error
	for _, s := range c.services() {
		if !c.d.alive(s.name) {
			errs = append(errs, fmt.Errorf("%s does not run", s.name))
			continue
		}
		if s.port != 0 {
			if err := c.answers(ctx, s.port); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Process is a process of the cloud.
type Process struct {
	Name  string
	PID   int // 0 when it does not run
	State string
}

// Processes lists the programs that the cloud consists of, running or not.
func (c *Cloud) Processes() []Process {
	var out []Process
	for _, s := range c.services() {
		p := Process{Name: s.name, State: "not running"}
		if pid, ok := c.d.pid(s.name); ok {
			p.PID, p.State = pid, "running"
			if stat, err := readStat(pid); err == nil && stat.state == "T" {
				p.State = "paused"
			}
		}
		out = append(out, p)
	}
	return out
}

// strangers returns an error that names the ports that somebody else listens on.
func (c *Cloud) strangers(ctx context.Context) error {
	if c.opts.Private {
		return nil
	}
	var taken []string
	for _, s := range c.services() {
		for _, port := range append([]int{s.port}, s.others...) {
			if port == 0 || c.d.alive(s.name) || c.ownNetwork() && (c.d.alive(forwarder) || s.port == 0) {
				continue
			}
			dialer := net.Dialer{Timeout: time.Second}
			if conn, err := dialer.DialContext(ctx, "tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
				conn.Close()
				taken = append(taken, fmt.Sprintf("%d (for %s)", port, s.name))
			}
		}
	}
	if len(taken) == 0 {
		return nil
	}
	return fmt.Errorf("something else listens on 127.0.0.1, port %s: another OpenStack? `openstack-lab down --state FOLDER` ends one of ours",
		strings.Join(taken, ", "))
}

// replaceFile writes a file so that nobody sees half of it.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path+".new", content, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
