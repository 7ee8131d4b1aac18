package libvirt

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/firstboot"
)

// Config says where the libvirt host is and how it is talked to.
type Config struct {
	// URI is the connection URI as virsh takes it with -c. Default qemu:///system.
	URI string `yaml:"uri"`
	// KeepAliveInterval and KeepAliveCount end a connection on which libvirtd has
	// been silent for about interval × (count + 1); whole seconds. Defaults 5s and 3.
	KeepAliveInterval time.Duration `yaml:"keepalive_interval"`
	KeepAliveCount    int           `yaml:"keepalive_count"`
	// MaxConnections bounds the connections, and with them the calls that run at
	// the same time or were left behind. Default 16.
	MaxConnections int `yaml:"max_connections"`
	// ReserveMemory stays free on the host: a VM is launched only if free memory,
	// buffers and cache less this cover its memory. Default 256MiB.
	ReserveMemory Size `yaml:"reserve_memory"`
	// ReserveDisk stays free in the clones' pool: a VM is launched only if the pool
	// has more free than this. Default 1GiB.
	ReserveDisk Size `yaml:"reserve_disk"`
}

// DefaultConfig returns the configuration of a provider that states nothing.
func DefaultConfig() Config {
	return Config{
		URI:               "qemu:///system",
		KeepAliveInterval: 5 * time.Second,
		KeepAliveCount:    3,
		MaxConnections:    16,
		ReserveMemory:     256 << 20,
		ReserveDisk:       1 << 30,
	}
}

// UnmarshalYAML sets the defaults before the fields that are stated.
func (c *Config) UnmarshalYAML(unmarshal func(any) error) error {
	*c = DefaultConfig()
	type plain Config
	return unmarshal((*plain)(c))
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.URI); err != nil || u.Scheme == "" {
		errs = append(errs, fmt.Errorf("uri %q: use a libvirt URI such as qemu:///system or qemu+ssh://host/system", c.URI))
	}
	if c.KeepAliveInterval < time.Second || c.KeepAliveInterval%time.Second != 0 {
		errs = append(errs, fmt.Errorf("keepalive_interval %v: use whole seconds, at least 1s", c.KeepAliveInterval))
	}
	if c.KeepAliveCount < 1 {
		errs = append(errs, fmt.Errorf("keepalive_count %d: use at least 1", c.KeepAliveCount))
	}
	if c.MaxConnections < 2 {
		errs = append(errs, fmt.Errorf("max_connections %d: use at least 2", c.MaxConnections))
	}
	return errors.Join(errs...)
}

// DomainType is how a guest's instructions are run.
type DomainType string

// The domain types. Auto is kvm where the host says that it has it.
const (
	DomainAuto DomainType = "auto"
	DomainKVM  DomainType = "kvm"
	DomainQEMU DomainType = "qemu"
)

// AddressSource says where a VM's address is known from.
type AddressSource string

// The address sources.
const (
	AddressLease AddressSource = "lease" // the DHCP server of the libvirt network
	AddressAgent AddressSource = "agent" // the QEMU guest agent inside the guest
	AddressRange AddressSource = "range" // given by us, through the seed
)

// Template is what the VMs of one group are made of. Zero values of Machine,
// CPU and Disk leave the choice to libvirt or to the image.
//
//nolint:recvcheck // decoding and SetDirectory change it in place, all else takes a copy
type Template struct {
	// Image is the name of the volume in ImagePool that every disk is a linked clone
	// of. It is never written to.
	Image string `yaml:"image"`
	// Pool is the storage pool of the clones. Default default.
	Pool string `yaml:"pool"`
	// ImagePool is the storage pool of the image. Default: that of the clones.
	ImagePool string `yaml:"image_pool"`
	// TemplateDomain names the one domain that may have Image as its disk. It has
	// to stay shut off for as long as there are clones.
	TemplateDomain string `yaml:"template_domain"`

	Memory Size   `yaml:"memory"`
	VCPUs  uint   `yaml:"vcpus"`
	Disk   Size   `yaml:"disk"` // virtual size of the clone; 0: that of the image
	Cache  string `yaml:"cache"`

	// Network is a libvirt network, Bridge a bridge of the host; one of the two.
	// Default: the network default; with DomainXML what that has.
	Network string `yaml:"network"`
	Bridge  string `yaml:"bridge"`

	DomainType DomainType `yaml:"domain_type"`
	Machine    string     `yaml:"machine"`
	CPU        string     `yaml:"cpu"` // host-passthrough (the default under KVM), host-model, maximum, or a model's name
	Firmware   string     `yaml:"firmware"`
	Console    string     `yaml:"console"`
	OSInfo     string     `yaml:"osinfo"`
	// DomainXML is a file with a domain of the user's own. Identity, disk, seed
	// and the first interface's MAC are put into it; the rest stays.
	DomainXML string `yaml:"domain_xml"`

	CloudInit *CloudInit `yaml:"cloud_init"`
	Address   Address    `yaml:"address"`
}

// CloudInit is the NoCloud seed. Without it clones share the image's hostname
// and host keys.
type CloudInit struct {
	// UserData is a file, a Go template whose fields docs/providers/libvirt.md
	// lists; without it a #cloud-config with hostname and keys is written.
	UserData string `yaml:"user_data"`
	// Keys are public SSH keys for the image's default user.
	Keys []string `yaml:"keys"`
	// Hostname is a Go template with the same fields; default "{{.Name}}".
	Hostname string `yaml:"hostname"`
	// Bus is the bus of the seed's disk: virtio, sata, scsi or ide. Default virtio.
	Bus string `yaml:"bus"`
}

// Address says where the address that the balancer uses comes from.
type Address struct {
	Source AddressSource `yaml:"source"`
	// Range is "first-last"; the rest describes the network to the guest.
	Range   string   `yaml:"range"`
	Prefix  int      `yaml:"prefix"`
	Gateway string   `yaml:"gateway"`
	DNS     []string `yaml:"dns"`
}

// DefaultTemplate returns the template of a group that states only an image.
func DefaultTemplate() Template {
	return Template{
		Pool:       "default",
		Memory:     512 << 20,
		VCPUs:      1,
		DomainType: DomainAuto,
		Firmware:   "bios",
		Console:    "pty",
		Address:    Address{Source: AddressLease, Prefix: 24},
	}
}

// UnmarshalYAML sets the defaults before the fields that are stated.
func (t *Template) UnmarshalYAML(unmarshal func(any) error) error {
	*t = DefaultTemplate()
	type plain Template
	if err := unmarshal((*plain)(t)); err != nil {
		return err
	}
	*t = t.withDefaults()
	return nil
}

// withDefaults fills in what depends on other fields.
func (t Template) withDefaults() Template {
	if t.ImagePool == "" {
		t.ImagePool = t.Pool
	}
	if t.Network == "" && t.Bridge == "" && t.DomainXML == "" {
		t.Network = "default"
	}
	if t.CloudInit != nil {
		seed := *t.CloudInit
		if seed.Hostname == "" {
			seed.Hostname = "{{.Name}}"
		}
		if seed.Bus == "" {
			seed.Bus = "virtio"
		}
		t.CloudInit = &seed
	}
	if t.Address.Source == "" {
		t.Address.Source = AddressLease
	}
	return t
}

// SetDirectory makes the template's file names relative to dir, the folder of
// the configuration file.
func (t *Template) SetDirectory(dir string) {
	join := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	join(&t.DomainXML)
	if t.CloudInit != nil {
		join(&t.CloudInit.UserData)
	}
}

var (
	volumeNameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]{0,199}$`)
	// deviceNameRE is for pools, networks and bridges.
	deviceNameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.+-]{0,62}$`)
	wordRE       = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
)

// Validate reports everything that is wrong with the template, reading the
// files that it names.
func (t Template) Validate() error {
	t = t.withDefaults()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	oneOf := func(field, value string, allowed ...string) {
		if slices.Contains(allowed, value) {
			return
		}
		bad("%s %q: use one of %s", field, value, strings.Join(allowed, ", "))
	}
	matches := func(field, value string, re *regexp.Regexp, required bool) {
		if value == "" && !required {
			return
		}
		if !re.MatchString(value) {
			bad("%s %q: use a name of letters, digits, '_', '.', '+' and '-'", field, value)
		}
	}
	matches("image", t.Image, volumeNameRE, true)
	matches("pool", t.Pool, deviceNameRE, true)
	matches("image_pool", t.ImagePool, deviceNameRE, true)
	matches("network", t.Network, deviceNameRE, false)
	matches("bridge", t.Bridge, deviceNameRE, false)
	matches("machine", t.Machine, wordRE, false)
	matches("cpu", t.CPU, wordRE, false)
	oneOf("domain_type", string(t.DomainType), "", "auto", "kvm", "qemu")
	oneOf("firmware", t.Firmware, "", "bios", "efi")
	oneOf("console", t.Console, "", "pty", "none")
	oneOf("cache", t.Cache, "", "default", "none", "writethrough", "writeback", "directsync", "unsafe")
	if t.OSInfo != "" {
		if _, err := osinfoID(t.OSInfo, osinfoFolders()...); err != nil {
			errs = append(errs, err)
		}
	}
	if t.Network != "" && t.Bridge != "" {
		bad("network %q and bridge %q: use one of the two", t.Network, t.Bridge)
	}
	if t.DomainXML == "" {
		if t.Memory < 16<<20 {
			bad("memory %v: use at least 16MiB", t.Memory)
		}
		if t.VCPUs < 1 || t.VCPUs > 1024 {
			bad("vcpus %d: use 1 to 1024", t.VCPUs)
		}
	} else if own, err := readDomainXML(t.DomainXML); err != nil {
		bad("domain_xml: %w", err)
	} else if t.Address.Source == AddressAgent {
		if err := checkAgentChannel(own); err != nil {
			bad("address.source agent: domain_xml %s: %w", t.DomainXML, err)
		}
	}
	if t.CloudInit != nil {
		oneOf("cloud_init.bus", t.CloudInit.Bus, "virtio", "sata", "scsi", "ide")
		if _, err := t.CloudInit.template().Check(); err != nil {
			bad("cloud_init: %w", err)
		}
	}
	if err := t.checkAddress(); err != nil {
		bad("address: %w", err)
	}
	return errors.Join(errs...)
}

// template is what the seed's user data and hostname are made of.
func (c CloudInit) template() firstboot.Template {
	return firstboot.Template{File: c.UserData, Hostname: c.Hostname, Keys: c.Keys}
}

func (t Template) checkAddress() error {
	switch a := t.Address; a.Source {
	case AddressLease:
		if t.Bridge != "" {
			return fmt.Errorf("source lease needs a libvirt network; the leases of bridge %q are not libvirt's: use agent or range", t.Bridge)
		}
		if a.Range != "" {
			return fmt.Errorf("range %q: needs source range", a.Range)
		}
		return nil
	case AddressAgent:
		return nil
	case AddressRange:
		if t.CloudInit == nil {
			return errors.New("source range needs cloud_init: the guest learns its address from the seed")
		}
		first, _, err := a.bounds()
		if err != nil {
			return err
		}
		if a.Prefix < 1 || a.Prefix > first.BitLen() {
			return fmt.Errorf("prefix %d: use 1 to %d", a.Prefix, first.BitLen())
		}
		for _, text := range append([]string{a.Gateway}, a.DNS...) {
			if text == "" {
				continue
			}
			if _, err := netip.ParseAddr(text); err != nil {
				return fmt.Errorf("%q is no address", text)
			}
		}
		return nil
	default:
		return fmt.Errorf("source %q: use one of lease, agent, range", a.Source)
	}
}

// maxRange bounds the walk over a range.
const maxRange = 1 << 16

// bounds parses the range.
func (a Address) bounds() (first, last netip.Addr, err error) {
	from, to, ok := strings.Cut(a.Range, "-")
	if ok {
		first, err = netip.ParseAddr(strings.TrimSpace(from))
		if err == nil {
			last, err = netip.ParseAddr(strings.TrimSpace(to))
		}
	}
	if !ok || err != nil || first.BitLen() != last.BitLen() || last.Less(first) {
		return first, last, fmt.Errorf("range %q: use first-last, such as 192.168.122.200-192.168.122.220", a.Range)
	}
	n := 0
	for ip := first; ip != last; ip = ip.Next() {
		if n++; n >= maxRange {
			return first, last, fmt.Errorf("range %q: more than %d addresses", a.Range, maxRange)
		}
	}
	return first, last, nil
}

// Size is a number of bytes, written as "256MiB", "10GiB" or a plain number.
type Size uint64

var sizeUnits = []struct {
	suffix string
	bytes  uint64
}{
	{"KiB", 1 << 10},
	{"MiB", 1 << 20},
	{"GiB", 1 << 30},
	{"TiB", 1 << 40},
	{"kB", 1e3},
	{"MB", 1e6},
	{"GB", 1e9},
	{"TB", 1e12},
	{"B", 1},
}

// ParseSize reads a size.
func ParseSize(text string) (Size, error) {
	number, unit := strings.TrimSpace(text), uint64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n > (1<<62)/unit {
		return 0, fmt.Errorf("size %q: use a whole number with KiB, MiB, GiB or TiB", text)
	}
	return Size(n * unit), nil
}

// UnmarshalYAML reads a size.
func (s *Size) UnmarshalYAML(unmarshal func(any) error) error {
	var text string
	if err := unmarshal(&text); err != nil {
		return err
	}
	size, err := ParseSize(text)
	*s = size
	return err
}

// MarshalYAML writes a size as it is read.
func (s Size) MarshalYAML() (any, error) { return s.String(), nil }

// String returns the size in the largest unit that leaves a whole number.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if u := sizeUnits[i]; s != 0 && uint64(s)%u.bytes == 0 {
			return strconv.FormatUint(uint64(s)/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatUint(uint64(s), 10)
}
