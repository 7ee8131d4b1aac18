// Package tiny makes many very small domains that really run: QEMU processes
// with a disk and an interface whose guest never gets further than its
// firmware. They cost little and answer libvirt like any other domain. It
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

// diskBytes is the size of a domain's raw, empty disk.
const diskBytes = 1 << 20

const domainXML = `<domain type='qemu'><name>%[1]s</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
 <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os><features><acpi/></features>
 <devices>
  <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%[2]s'/><target dev='vda' bus='virtio'/></disk>
  <interface type='ethernet'><model type='virtio'/></interface>
  <controller type='usb' model='none'/><memballoon model='virtio'><stats period='5'/></memballoon>
 </devices></domain>`

// Fleet is a set of tiny domains of one libvirt daemon.
type Fleet struct {
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
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
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
