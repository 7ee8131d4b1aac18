package libvirt

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// macOf derives the MAC of an instance's first interface from its id, so that its
// lease is known before it exists and is never taken for another's.
func macOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", sum[0], sum[1], sum[2], sum[3])
}

// domainSpec is what a definition is made from.
type domainSpec struct {
	name, id, mac      string
	diskPath, seedPath string // seedPath is empty without a seed
	virtType           DomainType
	arch               string
	mark               *mark // nil for a VM that is nobody's instance
}

// define writes the definition of one VM.
func (t Template) define(spec domainSpec) (string, error) {
	domain := t.bare(spec)
	if t.DomainXML != "" {
		own, err := readDomainXML(t.DomainXML)
		if err != nil {
			return "", err
		}
		domain = own
		if domain.Type == "" {
			domain.Type = string(spec.virtType)
		}
	}
	domain.Name, domain.UUID, domain.ID = spec.name, spec.id, nil
	clearIdentity(domain)
	if domain.Devices == nil {
		domain.Devices = &libvirtxml.DomainDeviceList{}
	}
	bus := setDisk(domain.Devices, spec.diskPath, t.Cache)
	if spec.seedPath != "" {
		seedBus := t.CloudInit.Bus
		domain.Devices.Disks = append(domain.Devices.Disks, seedDisk(spec.seedPath, seedBus, freeTarget(domain.Devices.Disks, seedBus, bus)))
	}
	t.setInterface(domain.Devices, spec.mac)
	clearAgentPath(domain.Devices)
	if t.Address.Source == AddressAgent { // the file may have changed since it was checked
		if err := checkAgentChannel(domain); err != nil {
			return "", fmt.Errorf("address.source agent: domain_xml %s: %w", t.DomainXML, err)
		}
	}
	if spec.mark != nil {
		m := *spec.mark
		m.NICs = nicsOf(domain)
		text, err := m.namespaced()
		if err != nil {
			return "", err
		}
		if domain.Metadata == nil {
			domain.Metadata = &libvirtxml.DomainMetadata{}
		}
		domain.Metadata.XML = strings.TrimSpace(domain.Metadata.XML) + text
	}
	out, err := domain.Marshal()
	if err != nil {
		return "", fmt.Errorf("write the definition of %q: %w", spec.name, err)
	}
	return out, nil
}

// bare is a definition without identity, disk and interface.
func (t Template) bare(spec domainSpec) *libvirtxml.Domain {
	zero := uint(0)
	domain := &libvirtxml.Domain{
		Type:   string(spec.virtType),
		Memory: &libvirtxml.DomainMemory{Value: uint(t.Memory >> 10), Unit: "KiB"},
		VCPU:   &libvirtxml.DomainVCPU{Value: t.VCPUs},
		OS: &libvirtxml.DomainOS{
			Type:        &libvirtxml.DomainOSType{Arch: spec.arch, Machine: t.Machine, Type: "hvm"},
			BootDevices: []libvirtxml.DomainBootDevice{{Dev: "hd"}},
		},
		Features:   &libvirtxml.DomainFeatureList{ACPI: &libvirtxml.DomainFeature{}},
		Clock:      &libvirtxml.DomainClock{Offset: "utc"},
		OnPoweroff: "destroy", OnReboot: "restart", OnCrash: "destroy",
		Devices: &libvirtxml.DomainDeviceList{
			Controllers: []libvirtxml.DomainController{{Type: "usb", Model: "none"}},
			Channels: []libvirtxml.DomainChannel{{
				Source: &libvirtxml.DomainChardevSource{UNIX: &libvirtxml.DomainChardevSourceUNIX{}},
				Target: &libvirtxml.DomainChannelTarget{VirtIO: &libvirtxml.DomainChannelTargetVirtIO{Name: agentChannel}},
			}},
			MemBalloon: &libvirtxml.DomainMemBalloon{Model: "virtio", Stats: &libvirtxml.DomainMemBalloonStats{Period: 5}},
			RNGs: []libvirtxml.DomainRNG{{
				Model:   "virtio",
				Backend: &libvirtxml.DomainRNGBackend{Random: &libvirtxml.DomainRNGBackendRandom{Device: "/dev/urandom"}},
			}},
		},
	}
	if spec.arch == "x86_64" || spec.arch == "i686" {
		domain.Features.APIC = &libvirtxml.DomainFeatureAPIC{}
	}
	if t.Firmware == "efi" {
		domain.OS.Firmware = "efi"
	}
	domain.CPU = t.cpu(spec.virtType)
	if t.Console != "none" {
		source := &libvirtxml.DomainChardevSource{Pty: &libvirtxml.DomainChardevSourcePty{}}
		domain.Devices.Serials = []libvirtxml.DomainSerial{{Source: source, Target: &libvirtxml.DomainSerialTarget{Port: &zero}}}
		domain.Devices.Consoles = []libvirtxml.DomainConsole{{Source: source, Target: &libvirtxml.DomainConsoleTarget{Type: "serial", Port: &zero}}}
	}
	if uri, err := osinfoID(t.OSInfo, osinfoFolders()...); err == nil { // else it was refused, or there is none
		domain.Metadata = &libvirtxml.DomainMetadata{XML: osinfoElement(uri)}
	}
	return domain
}

// cpu chooses the CPU as virt-install does: the host's under KVM, libvirt's
// default under emulation.
func (t Template) cpu(virtType DomainType) *libvirtxml.DomainCPU {
	switch t.CPU {
	case "":
		if virtType == DomainKVM {
			return &libvirtxml.DomainCPU{Mode: "host-passthrough", Check: "none"}
		}
		return nil
	case "host-passthrough", "host-model", "maximum":
		return &libvirtxml.DomainCPU{Mode: t.CPU}
	default:
		return &libvirtxml.DomainCPU{Mode: "custom", Match: "exact", Model: &libvirtxml.DomainCPUModel{Value: t.CPU}}
	}
}

// isWritableDisk reports whether a guest can write to the disk's source.
func isWritableDisk(disk libvirtxml.DomainDisk) bool {
	return (disk.Device == "" || disk.Device == "disk" || disk.Device == "lun") && disk.ReadOnly == nil && disk.Source != nil
}

// setDisk makes the clone the VM's disk: in place of the one writable disk that a
// user's own definition has, else as the first. It returns the bus.
func setDisk(devices *libvirtxml.DomainDeviceList, file, cache string) string {
	source := &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: file}}
	for i := range devices.Disks {
		disk := &devices.Disks[i]
		if !isWritableDisk(*disk) {
			continue
		}
		disk.Source, disk.BackingStore = source, nil
		if disk.Driver == nil {
			disk.Driver = &libvirtxml.DomainDiskDriver{}
		}
		disk.Driver.Name, disk.Driver.Type = "qemu", "qcow2"
		if cache != "" {
			disk.Driver.Cache = cache
		}
		if disk.Target == nil {
			disk.Target = &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"}
		}
		return disk.Target.Bus
	}
	devices.Disks = append([]libvirtxml.DomainDisk{{
		Device: "disk",
		Driver: &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "qcow2", Cache: cache, Discard: "unmap"},
		Source: source,
		Target: &libvirtxml.DomainDiskTarget{Dev: "vda", Bus: "virtio"},
	}}, devices.Disks...)
	return "virtio"
}

// freeTarget returns a device name that no disk has yet.
func freeTarget(disks []libvirtxml.DomainDisk, buses ...string) string {
	prefix := "sd"
	switch buses[0] {
	case "virtio":
		prefix = "vd"
	case "ide":
		prefix = "hd"
	}
	for letter := 'b'; letter < 'z'; letter++ {
		name := prefix + string(letter)
		taken := false
		for _, disk := range disks {
			taken = taken || disk.Target != nil && disk.Target.Dev == name
		}
		if !taken {
			return name
		}
	}
	return prefix + "z"
}

// seedDisk is a disk and no CD, so that a guest that can read its own disk can
// read the seed.
func seedDisk(file, bus, target string) libvirtxml.DomainDisk {
	device := "disk"
	if bus == "ide" || bus == "sata" {
		device = "cdrom"
	}
	return libvirtxml.DomainDisk{
		Device:   device,
		Driver:   &libvirtxml.DomainDiskDriver{Name: "qemu", Type: "raw"},
		Source:   &libvirtxml.DomainDiskSource{File: &libvirtxml.DomainDiskSourceFile{File: file}},
		Target:   &libvirtxml.DomainDiskTarget{Dev: target, Bus: bus},
		ReadOnly: &libvirtxml.DomainDiskReadOnly{},
	}
}

// setInterface gives the first interface our MAC, making one if there is none.
func (t Template) setInterface(devices *libvirtxml.DomainDeviceList, mac string) {
	address := &libvirtxml.DomainInterfaceMAC{Address: mac}
	var source *libvirtxml.DomainInterfaceSource
	switch {
	case t.Network != "":
		source = &libvirtxml.DomainInterfaceSource{Network: &libvirtxml.DomainInterfaceSourceNetwork{Network: t.Network}}
	case t.Bridge != "":
		source = &libvirtxml.DomainInterfaceSource{Bridge: &libvirtxml.DomainInterfaceSourceBridge{Bridge: t.Bridge}}
	}
	if len(devices.Interfaces) == 0 {
		if source == nil {
			return
		}
		devices.Interfaces = []libvirtxml.DomainInterface{{Model: &libvirtxml.DomainInterfaceModel{Type: "virtio"}}}
	}
	devices.Interfaces[0].MAC = address
	if source != nil {
		devices.Interfaces[0].Source = source
	}
}

// nicsOf lists a definition's interfaces as the mark keeps them.
func nicsOf(domain *libvirtxml.Domain) []markNIC {
	if domain.Devices == nil {
		return nil
	}
	var nics []markNIC
	for _, iface := range domain.Devices.Interfaces {
		if iface.MAC == nil {
			continue
		}
		nic := markNIC{MAC: strings.ToLower(iface.MAC.Address)}
		if iface.Source != nil && iface.Source.Network != nil {
			nic.Network = iface.Source.Network.Network
		}
		nics = append(nics, nic)
	}
	return nics
}
