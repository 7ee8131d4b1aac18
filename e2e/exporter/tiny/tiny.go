// Package tiny makes many very small domains that really run: QEMU processes
// with a disk and an interface whose guest is a boot sector that halts the
// processor. They cost little and answer libvirt like any other domain. It
// serves the exporter's end-to-end tests and benchmark.
package tiny

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"libvirt.org/go/libvirt"
)

// diskBytes is the size of a domain's raw disk.
const diskBytes = 1 << 20

// bootSector is the guest: it halts, with interrupts switched off if it is to
// be silent and otherwise again after each tick of the timer, 18 times a second.
func bootSector(silent bool) []byte {
	const sti, cli, hlt, jmp, back3 = 0xfb, 0xfa, 0xf4, 0xeb, 0xfd
	sector := make([]byte, 512)
	copy(sector, []byte{sti, hlt, jmp, back3})
	if silent {
		sector[0] = cli
	}
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

const domainXML = `<domain type='qemu'><name>%[1]s</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
 <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os><features><acpi/></features>
 <devices>
  <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%[2]s'/><target dev='vda' bus='virtio'/></disk>
  <interface type='ethernet'><model type='virtio'/></interface>
  <controller type='usb' model='none'/><memballoon model='virtio'><stats period='5'/></memballoon>
 </devices></domain>`

// Fleet is a set of tiny domains of one libvirt daemon.
type Fleet struct {
	// Silent makes guests that use no CPU at all once they have booted.
	Silent bool

	uri, dir string
}

// New makes a fleet without domains. Disks are kept in dir, which must exist
// and which the caller removes.
func New(uri, dir string) *Fleet { return &Fleet{uri: uri, dir: dir} }

// Start defines the domains NAME-FROM … NAME-(TO-1) and starts them, or leaves
// them shut off. It blocks for about half a second per domain that starts.
func (f *Fleet) Start(name string, from, to int, run bool) error {
	conn, err := libvirt.NewConnect(f.uri)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", f.uri, err)
	}
	defer func() { _, _ = conn.Close() }()
	for i := from; i < to; i++ {
		if err := f.start(conn, name+"-"+strconv.Itoa(i), run); err != nil {
			return err
		}
	}
	return nil
}

func (f *Fleet) start(conn *libvirt.Connect, name string, run bool) error {
	disk := filepath.Join(f.dir, name+".img")
	if err := os.WriteFile(disk, bootSector(f.Silent), 0o600); err != nil {
		return fmt.Errorf("make disk of domain %s: %w", name, err)
	}
	if err := os.Truncate(disk, diskBytes); err != nil {
		return fmt.Errorf("make disk of domain %s: %w", name, err)
	}
	d, err := conn.DomainDefineXML(fmt.Sprintf(domainXML, name, disk))
	if err != nil {
		return fmt.Errorf("define domain %s: %w", name, err)
	}
	defer func() { _ = d.Free() }()
	if !run {
		return nil
	}
	if err := d.Create(); err != nil {
		return fmt.Errorf("start domain %s: %w", name, err)
	}
	return nil
}

// Do runs an action on one domain.
func (f *Fleet) Do(name string, action func(*libvirt.Domain) error) error {
	conn, err := libvirt.NewConnect(f.uri)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", f.uri, err)
	}
	defer func() { _, _ = conn.Close() }()
	d, err := conn.LookupDomainByName(name)
	if err != nil {
		return fmt.Errorf("look up domain %s: %w", name, err)
	}
	defer func() { _ = d.Free() }()
	if err := action(d); err != nil {
		return fmt.Errorf("domain %s: %w", name, err)
	}
	return nil
}

// Remove ends a domain and its definition.
func Remove(d *libvirt.Domain) error {
	if err := d.Destroy(); err != nil && !errors.Is(err, libvirt.ERR_OPERATION_INVALID) {
		return fmt.Errorf("destroy: %w", err)
	}
	if err := d.Undefine(); err != nil {
		return fmt.Errorf("undefine: %w", err)
	}
	return nil
}

// PID returns the process id of a domain's QEMU, as this program sees it.
func (f *Fleet) PID(name string) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("look for the process of domain %s: %w", name, err)
	}
	// The disk is in no other process's arguments.
	disk := []byte(filepath.Join(f.dir, name+".img") + `"`)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(line), "guest="+name+",") && bytes.Contains(line, disk) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("domain %s has no process", name)
}
