package cloud

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config says which cloud is meant and how it is talked to. The zero value takes
// everything from the environment, as the openstack command does.
//
//nolint:recvcheck // SetDirectory changes it in place, all else takes a copy
type Config struct {
	// Cloud is the name in clouds.yaml. Default: OS_CLOUD, else the variables OS_*
	// of the environment.
	Cloud string `yaml:"cloud"`
	// CloudsFile is the clouds.yaml. Default: OS_CLIENT_CONFIG_FILE, else
	// ./clouds.yaml, ~/.config/openstack/clouds.yaml, /etc/openstack/clouds.yaml,
	// whichever is there first. A secure.yaml beside it is read too.
	CloudsFile string `yaml:"clouds_file"`
	// RCFile is a file with lines such as "export OS_USERNAME=admin", as MicroStack
	// writes it. It is read as text: no shell runs, and nothing else in it counts.
	RCFile string `yaml:"rc_file"`
	// Region and Interface (public, internal or admin) choose among the endpoints
	// of the catalog. Default: those of the cloud's entry, else the only region and
	// public.
	Region    string `yaml:"region"`
	Interface string `yaml:"interface"`
	// CAFile holds the certificates that the endpoints' are checked with.
	CAFile string `yaml:"ca_file"`
	// Verify false accepts any certificate: whoever sits on the way can read the
	// password. Default: what the cloud's entry says, else true.
	Verify *bool `yaml:"verify"`
	// Timeout bounds one request. Default 60s.
	Timeout time.Duration `yaml:"timeout"`
	// Endpoints are URLs by service that replace those of the catalog: compute,
	// network, image, block-storage, load-balancer.
	Endpoints map[string]string `yaml:"endpoints"`
}

// DefaultTimeout bounds one request unless a Config says otherwise.
const DefaultTimeout = time.Minute

// The types of the services as catalogs name them.
const (
	Compute      = "compute"
	Network      = "network"
	Image        = "image"
	BlockStorage = "block-storage"
	LoadBalancer = "load-balancer"
)

// services are those that a Config may give an endpoint for.
func services() []string { return []string{Compute, Network, Image, BlockStorage, LoadBalancer} }

// Validate reports everything that is wrong with the configuration as it stands.
// It reads no file; Open does.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.RCFile != "" && (c.Cloud != "" || c.CloudsFile != "") {
		bad("rc_file %q: use it without cloud and clouds_file", c.RCFile)
	}
	if _, ok := availability(c.Interface); !ok {
		bad("interface %q: use one of public, internal, admin", c.Interface)
	}
	if c.Timeout < 0 || c.Timeout > 0 && c.Timeout < time.Second {
		bad("timeout %v: use at least 1s", c.Timeout)
	}
	if c.CAFile != "" && c.Verify != nil && !*c.Verify {
		bad("ca_file %q: has no effect with verify: false; leave one of them out", c.CAFile)
	}
	for service, text := range c.Endpoints {
		if !slices.Contains(services(), service) {
			bad("endpoints: %q is no service: use one of %s", service, strings.Join(services(), ", "))
		}
		if strings.Contains(text, "@") {
			bad("endpoints: %s: leave out name and password", service) // and do not repeat them
		} else if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			bad("endpoints: %s %q: use an URL such as https://cloud.example:8774/v2.1", service, text)
		}
	}
	return errors.Join(errs...)
}

// SetDirectory makes the file names relative to dir, the folder of the
// configuration file. Names that begin with ~/ stay in the home directory.
func (c *Config) SetDirectory(dir string) {
	for _, path := range []*string{&c.CloudsFile, &c.RCFile, &c.CAFile} {
		if *path != "" && !filepath.IsAbs(*path) && !strings.HasPrefix(*path, "~/") {
			*path = filepath.Join(dir, *path)
		}
	}
}
