package provision

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/internal/cloud"
)

// File says what is to be there. Names may be ids where there are several of a name.
type File struct {
	// Name is what everything made for this file is marked with, beside the owner.
	// Changing it makes strangers of what is there.
	Name string `yaml:"name"`
	// Owner is the installation, as in scalehook's configuration. Default scalehook.
	Owner string `yaml:"owner"`
	// Cloud is the way to the cloud.
	Cloud cloud.Config `yaml:"cloud"`
	// Network is where the servers live.
	Network *NetworkSpec `yaml:"network"`
	// SecurityGroup says what may reach them.
	SecurityGroup *GroupSpec `yaml:"security_group"`
	// Key is the key pair that logs in.
	Key *KeySpec `yaml:"key"`
	// Server is the first server, which a group adopts as its baseline.
	Server *ServerSpec `yaml:"server"`
	// FloatingIP is the server's public address.
	FloatingIP *AddressSpec `yaml:"floating_ip"`
	// Service is what the server serves.
	Service *ServiceSpec `yaml:"service"`
	// Snapshot is made of the server once it is deployed.
	Snapshot *SnapshotSpec `yaml:"snapshot"`
	// Verify is what "scalehook verify" tries.
	Verify VerifySpec `yaml:"verify"`

	path string
	root *yaml.Node
}

// NetworkSpec is a network with at most one subnet and one router.
type NetworkSpec struct {
	// Name of the network.
	Name string `yaml:"name"`
	// Subnet of it. Without it the network has to be there and is taken as it is.
	Subnet *SubnetSpec `yaml:"subnet"`
	// Router between the subnet and the external network. Without it none is looked at.
	Router *RouterSpec `yaml:"router"`
}

// SubnetSpec is an IPv4 subnet with DHCP.
type SubnetSpec struct {
	// Name of the subnet. Default: the network's with -subnet.
	Name string `yaml:"name"`
	// CIDR is its range, like 192.168.100.0/24.
	CIDR netip.Prefix `yaml:"cidr"`
	// Gateway is the router's address in it. Default: the first of the range.
	Gateway netip.Addr `yaml:"gateway"`
	// DNS are the servers that the guests ask.
	DNS []netip.Addr `yaml:"dns"`
}

// RouterSpec is a router with one interface and an external gateway.
type RouterSpec struct {
	// Name of the router.
	Name string `yaml:"name"`
	// External is the network that it leads to.
	External string `yaml:"external"`
}

// GroupSpec is a security group.
type GroupSpec struct {
	// Name of the security group.
	Name string `yaml:"name"`
	// Rules open the servers to what comes in; what goes out is open already.
	Rules []RuleSpec `yaml:"rules"`
}

// RuleSpec opens something.
type RuleSpec struct {
	// Protocol is tcp, udp or icmp.
	Protocol string `yaml:"protocol"`
	// Port is a port, or a range like 8000-8010. Only for tcp and udp.
	Port string `yaml:"port"`
	// From is who may come in: an address, a range, "subnet" (the subnet's range),
	// "host" (the address from which this machine reaches the cloud), or "any".
	From string `yaml:"from"`
}

// KeySpec is a key pair.
type KeySpec struct {
	// Name of the key pair in the cloud. It belongs to the user, not to the project.
	Name string `yaml:"name"`
	// PrivateKey is the file with the private key. It is made if it is missing, and
	// never overwritten or removed. Without it the key pair has to be there.
	PrivateKey string `yaml:"private_key"`
}

// ServerSpec is a server that boots from an image.
type ServerSpec struct {
	// Name of the server.
	Name string `yaml:"name"`
	// Image that it boots from. Of several of a name the newest is taken.
	Image string `yaml:"image"`
	// Flavor is its size.
	Flavor string `yaml:"flavor"`
	// UserData is a file for the first boot: cloud-init's, or a script.
	UserData string `yaml:"user_data"`
	// Report has the guest say on its console, at its first boot, whether it reaches
	// verify.outbound, for clouds where one cannot log in. Not beside user_data.
	Report bool `yaml:"report"`
	// ConfigDrive brings user data on a disk, for networks without a metadata service.
	ConfigDrive bool `yaml:"config_drive"`
	// ScalingGroup is the group that adopts it, and may remove it in a handover: while
	// that group has servers none is made in its place.
	ScalingGroup string `yaml:"scaling_group"`
	// BootDeadline is how long it may take to become active. Default 5m.
	BootDeadline time.Duration `yaml:"boot_deadline"`
}

// AddressSpec is a floating IP.
type AddressSpec struct {
	// Network is the external network that it comes from. Default: the router's.
	Network string `yaml:"network"`
	// Address asks for this one. It has to be the project's already, unless the cloud
	// lets one choose. Default: one made for this file, or the one the server has.
	Address netip.Addr `yaml:"address"`
}

// ServiceSpec is a port that the balancer alone may reach.
type ServiceSpec struct {
	// Port of the service on the servers.
	Port uint16 `yaml:"port"`
	// Balancer is its address, or "host" for this machine. The security group opens
	// the port to it alone; without that no health check passes.
	Balancer string `yaml:"balancer"`
	// Path is what verify asks for over HTTP. Default: it only connects.
	Path string `yaml:"path"`
}

// SnapshotSpec is how snapshots are kept.
type SnapshotSpec struct {
	// Keep is how many of those made for this file are kept. Default 3.
	Keep int `yaml:"keep"`
	// Deadline is how long one may take. Default 10m.
	Deadline time.Duration `yaml:"deadline"`
}

// VerifySpec is what is tried.
type VerifySpec struct {
	// User logs in to the server. Default cirros.
	User string `yaml:"user"`
	// Outbound are addresses and names that the guest has to reach by ping; a name
	// has to be resolved first. Defaults 1.1.1.1, 8.8.8.8 and google.com.
	Outbound []string `yaml:"outbound"`
}

// The defaults of what the file leaves out.
const (
	defaultOwner    = "scalehook"
	defaultKeep     = 3
	defaultBoot     = 5 * time.Minute
	defaultSnapshot = 10 * time.Minute
	defaultUser     = "cirros"
)

// maxFile bounds what is read, in bytes; maxUserData is what Nova takes after base64.
const (
	maxFile     = 1 << 20
	maxUserData = 65535 / 4 * 3
)

// Load reads and checks a file. The error has every problem, one a line, each with
// the file and the line.
func Load(path string) (*File, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the provisioning file: %w", err)
	}
	return Parse(path, content)
}

// Parse is Load for a content that was read already. File names in it are relative
// to the folder of path.
func Parse(path string, content []byte) (*File, error) {
	if len(content) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d bytes: not a provisioning file", path, maxFile)
	}
	f := &File{path: path, root: new(yaml.Node)}
	if err := yaml.Unmarshal(content, f.root); err != nil {
		return nil, f.worded(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(content))
	d.KnownFields(true)
	switch err := d.Decode(f); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s:1: the file is empty: begin with \"scalehook example provision\"", path)
	case err != nil:
		return nil, f.worded(err)
	}
	var second yaml.Node
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s:%d: a second document: keep one", path, max(second.Line, 1))
	}
	f.defaults()
	if err := f.validate(); err != nil {
		return nil, err
	}
	return f, nil
}

// Path is where the file was read from.
func (f *File) Path() string { return f.path }

func (f *File) defaults() {
	if f.Owner == "" {
		f.Owner = defaultOwner
	}
	f.Cloud.SetDirectory(filepath.Dir(f.path))
	if n := f.Network; n != nil && n.Subnet != nil {
		if n.Subnet.Name == "" {
			n.Subnet.Name = n.Name + "-subnet"
		}
		if c := n.Subnet.CIDR; c.IsValid() && !n.Subnet.Gateway.IsValid() {
			n.Subnet.Gateway = c.Masked().Addr().Next()
		}
	}
	if s := f.Server; s != nil {
		if s.BootDeadline == 0 {
			s.BootDeadline = defaultBoot
		}
	}
	f.Cloud.SetDirectory(filepath.Dir(f.path))
	if f.Key != nil {
		f.Key.PrivateKey = f.local(f.Key.PrivateKey)
	}
	if a := f.FloatingIP; a != nil && a.Network == "" && f.Network != nil && f.Network.Router != nil {
		a.Network = f.Network.Router.External
	}
	if s := f.Snapshot; s != nil {
		if s.Keep == 0 {
			s.Keep = defaultKeep
		}
		if s.Deadline == 0 {
			s.Deadline = defaultSnapshot
		}
	}
	if f.Verify.User == "" {
		f.Verify.User = defaultUser
	}
	if f.Verify.Outbound == nil {
		f.Verify.Outbound = []string{"1.1.1.1", "8.8.8.8", "google.com"}
	}
}

// local makes a file name absolute: ~ is the home folder, and what is relative is so
// to the file's folder.
func (f *File) local(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	if rest, home := strings.CutPrefix(name, "~/"); home {
		dir, err := os.UserHomeDir()
		if err != nil {
			return name
		}
		return filepath.Join(dir, rest)
	}
	dir, err := filepath.Abs(filepath.Dir(f.path))
	if err != nil {
		return name
	}
	return filepath.Join(dir, name)
}

// Keep sets how many snapshots stay, in place of snapshot.keep. It is an error if the
// file asks for none.
func (f *File) Keep(n int) error {
	if f.Snapshot == nil {
		return fmt.Errorf("--keep %d: %s asks for no snapshots: add snapshot: {} to it, or leave --keep out", n, f.path)
	}
	f.Snapshot.Keep = n
	return nil
}
