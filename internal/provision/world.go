package provision

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// World is what is there: everything that the plan depends on, as it was read. The
// field tags are those of the tests' files.
type World struct {
	// Project is the project that the credentials lead to.
	Project string `yaml:"project"`
	// Here is the address from which this machine reaches the cloud; invalid if it
	// cannot be told.
	Here netip.Addr `yaml:"here"`
	// KeyFile is the private key on this machine.
	KeyFile KeyFile `yaml:"key_file"`

	Networks    []Network    `yaml:"networks"` // the project's, and external and shared ones
	Subnets     []Subnet     `yaml:"subnets"`
	Routers     []Router     `yaml:"routers"`
	Ports       []Port       `yaml:"ports"`
	Groups      []Group      `yaml:"groups"`
	FloatingIPs []FloatingIP `yaml:"floating_ips"`
	Keys        []Key        `yaml:"keys"`
	Flavors     []Flavor     `yaml:"flavors"`
	Servers     []Server     `yaml:"servers"`
	Images      []Image      `yaml:"images"`
	// Room is how many more there may be of a kind; without an entry it is not known
	// or not limited.
	Room map[Kind]int `yaml:"room"`
}

// Kind is a kind of thing.
type Kind string

// The kinds of things, in the order in which they are made.
const (
	KindNetwork    Kind = "network"
	KindSubnet     Kind = "subnet"
	KindRouter     Kind = "router"
	KindInterface  Kind = "interface"
	KindGroup      Kind = "security group"
	KindRule       Kind = "rule"
	KindKey        Kind = "key pair"
	KindServer     Kind = "server"
	KindFloatingIP Kind = "floating ip"
	KindSnapshot   Kind = "snapshot"
	KindPort       Kind = "port"
)

// What else there are quotas of.
const (
	KindVCPU   Kind = "vCPU"
	KindMemory Kind = "MiB of memory"
)

// Object is what all things of a cloud have.
type Object struct {
	ID          string   `yaml:"id"`
	Name        string   `yaml:"name"`
	Project     string   `yaml:"project"`
	Description string   `yaml:"description"`
	Tags        []string `yaml:"tags"`
}

func (o Object) object() Object { return o }

// Network is a network.
type Network struct {
	Object   `yaml:",inline"`
	External bool `yaml:"external"`
	Down     bool `yaml:"down"`
}

// Subnet is a subnet.
type Subnet struct {
	Object  `yaml:",inline"`
	Network string       `yaml:"network"`
	CIDR    netip.Prefix `yaml:"cidr"`
	Gateway netip.Addr   `yaml:"gateway"`
	DNS     []netip.Addr `yaml:"dns"`
	NoDHCP  bool         `yaml:"no_dhcp"`
}

// Router is a router.
type Router struct {
	Object   `yaml:",inline"`
	External string `yaml:"external"` // id of the network its gateway is on
	Down     bool   `yaml:"down"`
}

// Port is a port.
type Port struct {
	Object  `yaml:",inline"`
	Network string   `yaml:"network"`
	Device  string   `yaml:"device"`
	Owner   string   `yaml:"owner"` // what the device is
	Fixed   []Fixed  `yaml:"fixed"`
	Groups  []string `yaml:"groups"`
}

// Fixed is an address of a port.
type Fixed struct {
	Subnet  string     `yaml:"subnet"`
	Address netip.Addr `yaml:"address"`
}

// on reports whether the port has an address of the subnet.
func (p Port) on(subnet string) bool {
	return slices.ContainsFunc(p.Fixed, func(f Fixed) bool { return f.Subnet == subnet })
}

// routed reports whether the port is a router's interface, of whatever kind.
func (p Port) routed() bool {
	return strings.HasPrefix(p.Owner, "network:router_interface") || p.Owner == "network:ha_router_replicated_interface"
}

// Group is a security group.
type Group struct {
	Object `yaml:",inline"`
	Rules  []Rule `yaml:"rules"`
}

// Rule is a rule of a security group.
type Rule struct {
	ID          string       `yaml:"id"`
	Description string       `yaml:"description"`
	Egress      bool         `yaml:"egress"`
	IPv6        bool         `yaml:"ipv6"`
	Protocol    string       `yaml:"protocol"`
	Low         int          `yaml:"low"`
	High        int          `yaml:"high"`
	From        netip.Prefix `yaml:"from"`
	FromGroup   string       `yaml:"from_group"`
}

// FloatingIP is a floating IP.
type FloatingIP struct {
	Object  `yaml:",inline"`
	Address netip.Addr `yaml:"address"`
	Network string     `yaml:"network"`
	Port    string     `yaml:"port"`
}

// Key is a key pair of the user.
type Key struct {
	Name   string `yaml:"name"`
	Public string `yaml:"public"`
}

// Flavor is a size of servers. RAM is in MiB.
type Flavor struct {
	Object `yaml:",inline"`
	VCPUs  int `yaml:"vcpus"`
	RAM    int `yaml:"ram"`
}

// Server is a server.
type Server struct {
	Object   `yaml:",inline"`
	Status   string   `yaml:"status"`
	Task     string   `yaml:"task"`
	Fault    string   `yaml:"fault"`
	Launched bool     `yaml:"launched"`
	Image    string   `yaml:"image"`  // id; empty if it boots from a volume
	Flavor   string   `yaml:"flavor"` // name
	Key      string   `yaml:"key"`
	Groups   []string `yaml:"groups"` // names
}

// Image is an image.
type Image struct {
	Object     `yaml:",inline"`
	Status     string            `yaml:"status"`
	Created    time.Time         `yaml:"created"`
	Protected  bool              `yaml:"protected"`
	Properties map[string]string `yaml:"properties"`
}

// network returns what has the id, or nil; the others are likewise.
func (w *World) network(id string) *Network {
	return by(w.Networks, func(n Network) bool { return n.ID == id })
}

func (w *World) port(id string) *Port {
	return by(w.Ports, func(p Port) bool { return p.ID == id })
}

func (w *World) server(id string) *Server {
	return by(w.Servers, func(s Server) bool { return s.ID == id })
}

func (w *World) router(id string) *Router {
	return by(w.Routers, func(r Router) bool { return r.ID == id })
}

func by[T any](list []T, is func(T) bool) *T {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return &list[i]
	}
	return nil
}

// holder says for people what a port belongs to.
func (w *World) holder(port string) string {
	p := w.port(port)
	if p == nil {
		return "port " + port + " of another project"
	}
	if s := w.server(p.Device); s != nil {
		return "server " + s.Name + " (" + s.ID + ")"
	}
	if r := w.router(p.Device); r != nil {
		return "router " + r.Name + " (" + r.ID + ")"
	}
	if p.Owner != "" {
		return "port " + p.ID + " (" + p.Owner + ")"
	}
	return "port " + p.ID
}
