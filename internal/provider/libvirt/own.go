package libvirt

import (
	"fmt"
	"os"
	"strings"

	"libvirt.org/go/libvirtxml"
)

// readDomainXML reads a domain of the user's own and refuses what clones of it
// would share, with each other or with the VM that it was written down from.
func readDomainXML(path string) (*libvirtxml.Domain, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var domain libvirtxml.Domain
	if err := domain.Unmarshal(string(text)); err != nil {
		return nil, fmt.Errorf("parse %s: %w", path, err)
	}
	if domain.Metadata != nil && findMark(domain.Metadata.XML) != nil {
		return nil, fmt.Errorf("%s: its metadata holds the mark of an instance; take the element of namespace %s out", path, markURI)
	}
	if why := sharedByClones(&domain); why != "" {
		return nil, fmt.Errorf("%s: %s", path, why)
	}
	return &domain, nil
}

// sharedByClones says what of a definition its copies would write to or hold
// together; empty if there is nothing.
func sharedByClones(domain *libvirtxml.Domain) string {
	if domain.OS != nil {
		if l := domain.OS.Loader; l != nil && l.Type == "pflash" && l.Readonly != "yes" {
			return fmt.Sprintf("firmware %s can be written to by every VM of the group; set readonly='yes' at <loader>, and libvirt gives each VM an <nvram> of its own", l.Path)
		}
	}
	d := domain.Devices
	if d == nil {
		return ""
	}
	for _, find := range []func(*libvirtxml.DomainDeviceList) string{sharedDisk, sharedInterface, sharedDevice, sharedChardev} {
		if why := find(d); why != "" {
			return why
		}
	}
	return ""
}

func sharedDisk(d *libvirtxml.DomainDeviceList) string {
	writable := 0
	for _, disk := range d.Disks {
		if isWritableDisk(disk) {
			writable++
		}
		if disk.Device == "floppy" && disk.ReadOnly == nil && disk.Source != nil {
			return "a floppy that every VM of the group would write to; add <readonly/>, or take it out"
		}
	}
	if writable > 1 {
		return fmt.Sprintf("%d writable disks, which every VM of the group would share; keep one, which becomes the clone", writable)
	}
	return ""
}

func sharedInterface(d *libvirtxml.DomainDeviceList) string {
	for i, iface := range d.Interfaces {
		// The first one's MAC is replaced.
		if i > 0 && iface.MAC != nil && iface.MAC.Address != "" {
			return fmt.Sprintf("interface with the fixed MAC %s, which every VM of the group would share; take its <mac> out", iface.MAC.Address)
		}
		switch src := iface.Source; {
		case src == nil:
		case src.Hostdev != nil:
			return "an interface that is a device of the host, which only one VM can have; use a <network> with a pool of devices"
		case src.VHostUser != nil:
			return "an interface on a vhost-user socket, which only one VM can have"
		}
	}
	return ""
}

func sharedDevice(d *libvirtxml.DomainDeviceList) string {
	const one = ", which only one VM can have: take it out, since starting a clone would take it from whoever uses it"
	if len(d.Hostdevs) > 0 {
		return "a device of the host (<hostdev>)" + one
	}
	for _, tpm := range d.TPMs {
		switch b := tpm.Backend; {
		case b == nil:
		case b.Passthrough != nil, b.External != nil:
			return "a TPM of the host" + one
		case b.Emulator != nil && b.Emulator.Source != nil:
			return "a TPM whose state has a fixed place, which every VM of the group would write to; take its <source> out"
		}
	}
	for _, m := range d.Memorydevs {
		if m.Source != nil && m.Source.Path != "" {
			return fmt.Sprintf("a memory device in the file %s, which every VM of the group would write to; take it out", m.Source.Path)
		}
	}
	if d.PStore != nil && d.PStore.Path != "" {
		return fmt.Sprintf("a pstore in the file %s, which every VM of the group would write to; take its <path> out", d.PStore.Path)
	}
	return ""
}

func sharedChardev(d *libvirtxml.DomainDeviceList) string {
	check := func(kind string, source *libvirtxml.DomainChardevSource, log *libvirtxml.DomainChardevLog) string {
		switch {
		case log != nil && log.File != "":
			return fmt.Sprintf("a %s with the log file %s, which every VM of the group would write to; take its <log> out", kind, log.File)
		case source == nil:
		case source.File != nil:
			return fmt.Sprintf("a %s into the file %s, which every VM of the group would write to; use type='pty'", kind, source.File.Path)
		case source.Dev != nil:
			return fmt.Sprintf("a %s on the device %s of the host, which only one VM can have; use type='pty'", kind, source.Dev.Path)
		case source.Pipe != nil:
			return fmt.Sprintf("a %s on the pipe %s, which every VM of the group would share; use type='pty'", kind, source.Pipe.Path)
		case source.UNIX != nil && source.UNIX.Mode != "connect" && source.UNIX.Path != "" && !isLibvirtsSocket(source.UNIX.Path):
			return fmt.Sprintf("a %s at the socket %s, which each VM of the group would take from the one before; take its <source> out", kind, source.UNIX.Path)
		}
		return ""
	}
	var found []string
	for _, c := range d.Serials {
		found = append(found, check("serial port", c.Source, c.Log))
	}
	for _, c := range d.Parallels {
		found = append(found, check("parallel port", c.Source, c.Log))
	}
	for _, c := range d.Consoles {
		found = append(found, check("console", c.Source, c.Log))
	}
	for _, c := range d.Channels {
		source := c.Source
		if isAgentChannel(c) { // its socket is left to libvirt
			source = nil
		}
		found = append(found, check("channel", source, c.Log))
	}
	for _, why := range found {
		if why != "" {
			return why
		}
	}
	return ""
}

// isLibvirtsSocket reports whether a channel's socket is one that libvirt names
// by itself; it gives every VM another.
func isLibvirtsSocket(path string) bool { return strings.Contains(path, "/channel/target/") }

// clearIdentity takes away what libvirt gives each VM for itself: the NVRAM,
// which would be shared and go with the first VM that is deleted, and the
// generation id, by which a guest learns that it was cloned.
func clearIdentity(domain *libvirtxml.Domain) {
	if domain.OS != nil && domain.OS.NVRam != nil {
		nvram := domain.OS.NVRam
		nvram.NVRam, nvram.Source = "", nil
		if nvram.Template == "" && nvram.Format == "" && nvram.TemplateFormat == "" {
			domain.OS.NVRam = nil
		}
	}
	if domain.GenID != nil {
		domain.GenID.Value = ""
	}
}

// nvramOf returns the file that holds a definition's NVRAM; empty if there is none.
func nvramOf(domain *libvirtxml.Domain) string {
	if domain.OS == nil || domain.OS.NVRam == nil {
		return ""
	}
	if src := domain.OS.NVRam.Source; src != nil && src.File != nil {
		return src.File.File
	}
	return strings.TrimSpace(domain.OS.NVRam.NVRam)
}

// isOwnNVRAM reports whether the file is the one that libvirt makes for a VM of
// that name.
func isOwnNVRAM(file, name string) bool {
	return strings.HasSuffix(file, "/"+name+"_VARS.fd") || strings.HasSuffix(file, "/"+name+"_VARS.qcow2")
}
