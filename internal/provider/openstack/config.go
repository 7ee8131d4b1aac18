package openstack

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/firstboot"
)

// Config says which cloud the VMs are made in.
type Config struct {
	cloud.Config `yaml:",inline"`
}

// MemberAddress says by which of its addresses the balancer reaches a member.
type MemberAddress string

// The member addresses. A floating one is made for each member, and released with
// it.
const (
	MemberFixed    MemberAddress = "fixed"
	MemberFloating MemberAddress = "floating"
)

// Template is what the VMs of one group are made of. Every object may be stated by
// its name or, where several share one, by its id.
//
//nolint:recvcheck // decoding and SetDirectory change it in place, all else takes a copy
type Template struct {
	Flavor string `yaml:"flavor"`
	// Image is an image's name; of several the newest is taken. ImageProperty asks
	// for properties as well, or instead: the newest image that has all of them.
	Image         string            `yaml:"image"`
	ImageProperty map[string]string `yaml:"image_property"`
	// Networks are the ports a VM gets, in this order. Members are reached on the
	// first.
	Networks []Interface `yaml:"networks"`
	// SecurityGroups are those of every port that states none of its own. Default:
	// the project's own default group.
	SecurityGroups []string `yaml:"security_groups"`
	KeyPair        string   `yaml:"key_pair"`
	// UserData is a file, a Go template with the fields .ID .Group .Name
	// .Number .Hostname .MAC .Address.
	UserData string `yaml:"user_data"`
	// ConfigDrive hands user data and keys over on a disk, for networks without a
	// metadata service.
	ConfigDrive      bool   `yaml:"config_drive"`
	AvailabilityZone string `yaml:"availability_zone"`
	// ServerGroup spreads or gathers the VMs by its policy.
	ServerGroup string `yaml:"server_group"`
	// Volume boots from a volume that is made from the image and goes with the VM.
	Volume *Volume `yaml:"volume"`
	// Metadata is the servers' own, as the metadata service shows it to them.
	Metadata map[string]string `yaml:"metadata"`

	MemberAddress MemberAddress `yaml:"member_address"`
	// FloatingNetwork is the external network of the members' floating IPs. Default:
	// the only one there is.
	FloatingNetwork string `yaml:"floating_network"`
	// PublicAddress is a floating IP of the group's own, which leads to its primary.
	PublicAddress *PublicAddress `yaml:"public_address"`
}

// Interface is one port of a VM. Its short form is the network's name alone.
type Interface struct {
	Network string `yaml:"network"`
	// Subnet is where the address comes from; with it the network may be left out.
	Subnet         string   `yaml:"subnet"`
	SecurityGroups []string `yaml:"security_groups"`
	// PortSecurity false takes the port's filters away, security groups too.
	PortSecurity *bool `yaml:"port_security"`
}

// UnmarshalYAML reads both forms.
func (i *Interface) UnmarshalYAML(unmarshal func(any) error) error {
	var name string
	if unmarshal(&name) == nil {
		*i = Interface{Network: name}
		return nil
	}
	type plain Interface
	return unmarshal((*plain)(i))
}

// Volume is a boot volume.
type Volume struct {
	SizeGiB int    `yaml:"size_gib"`
	Type    string `yaml:"type"` // default: the cloud's own
}

// PublicAddress says which floating IP is the group's.
type PublicAddress struct {
	// Address is that of a floating IP the project has. Without it one is made with
	// the first member and kept from then on.
	Address string `yaml:"address"`
	// Network is the external network it is made in. Default: the only one there is.
	Network string `yaml:"network"`
}

// DefaultTemplate returns the template of a group that states nothing.
func DefaultTemplate() Template { return Template{MemberAddress: MemberFixed} }

// UnmarshalYAML sets the defaults before the fields that are stated.
func (t *Template) UnmarshalYAML(unmarshal func(any) error) error {
	*t = DefaultTemplate()
	type plain Template
	return unmarshal((*plain)(t))
}

// SetDirectory makes the template's file names relative to dir, the folder of the
// configuration file.
func (t *Template) SetDirectory(dir string) {
	if t.UserData != "" && !filepath.IsAbs(t.UserData) {
		t.UserData = filepath.Join(dir, t.UserData)
	}
}

// Nova's limits.
const (
	longestMetadata = 255
	mostMetadata    = 127 // one is ours
)

// Validate reports everything that is wrong with the template, reading the files
// that it names. Whether its objects exist only Check can tell.
func (t Template) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if t.Flavor == "" {
		bad("flavor: missing")
	}
	if t.Image == "" && len(t.ImageProperty) == 0 {
		bad("image: missing: state a name, or image_property")
	}
	for key, value := range t.ImageProperty {
		if key == "" || value == "" {
			bad("image_property %q: %q: use a property and its value", key, value)
		}
	}
	if len(t.Networks) == 0 {
		bad("networks: missing: state at least one")
	}
	for i, n := range t.Networks {
		if n.Network == "" && n.Subnet == "" {
			bad("networks[%d]: state network or subnet", i)
		}
		if n.PortSecurity != nil && !*n.PortSecurity && len(n.SecurityGroups) > 0 {
			bad("networks[%d]: security_groups have no effect with port_security: false", i)
		}
	}
	if v := t.Volume; v != nil && v.SizeGiB < 1 {
		bad("volume.size_gib %d: use at least 1", v.SizeGiB)
	}
	if len(t.Metadata) > mostMetadata {
		bad("metadata: %d entries: use at most %d", len(t.Metadata), mostMetadata)
	}
	for _, key := range slices.Sorted(maps.Keys(t.Metadata)) {
		switch value := t.Metadata[key]; {
		case key == "" || len(key) > longestMetadata || len(value) > longestMetadata:
			bad("metadata %q: key and value have at most %d characters, and the key at least one", key, longestMetadata)
		case strings.HasPrefix(key, "scalehook"):
			bad("metadata %q: keys that begin with scalehook are taken", key)
		}
	}
	switch t.MemberAddress {
	case MemberFixed, "":
		if t.FloatingNetwork != "" {
			bad("floating_network %q: needs member_address: floating", t.FloatingNetwork)
		}
	case MemberFloating:
		if t.PublicAddress != nil {
			bad("public_address: a port's address can have one floating IP, and member_address: floating takes it; give the balancer the public address instead")
		}
	default:
		bad("member_address %q: use one of fixed, floating", t.MemberAddress)
	}
	if a := t.PublicAddress; a != nil && a.Address != "" {
		if _, err := netip.ParseAddr(a.Address); err != nil {
			bad("public_address.address %q: not an address", a.Address)
		}
		if a.Network != "" {
			bad("public_address.network %q: goes without saying for an address that exists; leave it out", a.Network)
		}
	}
	if t.UserData != "" {
		sample, err := t.firstBoot().Check()
		if err == nil {
			err = firstboot.CheckNovaSize(sample.UserData)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (t Template) firstBoot() firstboot.Template { return firstboot.Template{File: t.UserData} }

func (t Template) imageQuery() cloud.ImageQuery {
	return cloud.ImageQuery{Name: t.Image, Properties: t.ImageProperty}
}

func (t Template) floating() bool { return t.MemberAddress == MemberFloating }
