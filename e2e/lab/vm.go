package lab

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"libvirt.org/go/libvirt"
)

// UploadImage puts a qcow2 file into the pool as a volume and returns the
// volume's path. A volume of that name must not exist.
func (l *Lab) UploadImage(_ context.Context, name, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("upload image: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("upload image: %w", err)
	}
	var target string
	err = l.withPool(func(c *libvirt.Connect, p *libvirt.StoragePool) error {
		v, err := p.StorageVolCreateXML(fmt.Sprintf("<volume><name>%s</name><capacity>0</capacity><target><format type='qcow2'/></target></volume>", escape(name)), 0)
		if err != nil {
			return fmt.Errorf("create volume: %w", err)
		}
		defer v.Free()
		stream, err := c.NewStream(0)
		if err != nil {
			return fmt.Errorf("open stream: %w", err)
		}
		defer stream.Free()
		if err := v.Upload(stream, 0, uint64(st.Size()), 0); err != nil {
			return fmt.Errorf("start upload: %w", err)
		}
		if err := stream.SendAll(func(_ *libvirt.Stream, n int) ([]byte, error) {
			buf := make([]byte, n)
			got, err := f.Read(buf)
			if errors.Is(err, io.EOF) {
				return nil, nil
			}
			return buf[:got], err
		}); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		if err := stream.Finish(); err != nil {
			return fmt.Errorf("finish: %w", err)
		}
		// The size and format of what was sent are known only after a refresh.
		if err := p.Refresh(0); err != nil {
			return fmt.Errorf("refresh pool: %w", err)
		}
		target, err = v.GetPath()
		return err
	})
	if err != nil {
		return "", fmt.Errorf("upload image %s: %w", name, err)
	}
	return target, nil
}

func (l *Lab) withPool(fn func(*libvirt.Connect, *libvirt.StoragePool) error) error {
	return l.withConnect(func(c *libvirt.Connect) error {
		p, err := c.LookupStoragePoolByName(PoolName)
		if err != nil {
			return fmt.Errorf("look up pool %s: %w", PoolName, err)
		}
		defer p.Free()
		return fn(c, p)
	})
}

// VMSpec describes a VM that the lab itself makes, such as a baseline.
type VMSpec struct {
	Name       string // of the domain; its host name too. Its disk is NAME.qcow2
	Base       string // name of the volume that the disk is a linked clone of
	InstanceID string // NoCloud instance id. Empty: the name
	MemoryMiB  int    // zero: 128
	VCPUs      int    // zero: 1
	Metadata   string // XML put into <metadata>, may be empty
}

const domainXML = `<domain type='%[1]s'><name>%[2]s</name><memory unit='MiB'>%[3]d</memory><vcpu>%[4]d</vcpu>%[5]s
 <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/><smbios mode='sysinfo'/></os>
 <sysinfo type='smbios'><system><entry name='serial'>ds=nocloud;h=%[2]s;i=%[6]s</entry></system></sysinfo>
 <features><acpi/><apic/></features><on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
 <devices>
  <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='unsafe'/><source file='%[7]s'/><target dev='vda' bus='virtio'/></disk>
  <interface type='network'><source network='` + NetworkName + `'/><model type='virtio'/></interface>
  <serial type='file'><source path='%[8]s'/></serial><console type='file'><source path='%[8]s'/><target type='serial'/></console>
  <controller type='usb' model='none'/><memballoon model='virtio'><stats period='1'/></memballoon>
  <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
 </devices></domain>`

// CreateVM makes a linked clone, defines a domain for it and starts it. Its
// console goes to ConsolePath. It does not wait for the boot: see AwaitHealthy.
func (l *Lab) CreateVM(ctx context.Context, spec VMSpec) error {
	if spec.MemoryMiB == 0 {
		spec.MemoryMiB = 128
	}
	if spec.VCPUs == 0 {
		spec.VCPUs = 1
	}
	if spec.InstanceID == "" {
		spec.InstanceID = spec.Name
	}
	if spec.Metadata != "" {
		spec.Metadata = "<metadata>" + spec.Metadata + "</metadata>"
	}
	kind := l.DomainType(ctx)
	err := l.withPool(func(c *libvirt.Connect, p *libvirt.StoragePool) error {
		disk, err := linkedClone(p, spec.Base, spec.Name+".qcow2")
		if err != nil {
			return err
		}
		d, err := c.DomainDefineXML(fmt.Sprintf(domainXML, kind, escape(spec.Name), spec.MemoryMiB, spec.VCPUs, spec.Metadata,
			escape(spec.InstanceID), escape(disk), escape(l.ConsolePath(spec.Name))))
		if err != nil {
			return fmt.Errorf("define domain: %w", err)
		}
		defer d.Free()
		if err := d.Create(); err != nil {
			return fmt.Errorf("start domain: %w", err)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("create VM %s: %w", spec.Name, err)
	}
	return nil
}

func linkedClone(p *libvirt.StoragePool, base, name string) (string, error) {
	b, err := p.LookupStorageVolByName(base)
	if err != nil {
		return "", fmt.Errorf("look up image %s: %w", base, err)
	}
	defer b.Free()
	info, err := b.GetInfo()
	if err != nil {
		return "", fmt.Errorf("read image %s: %w", base, err)
	}
	path, err := b.GetPath()
	if err != nil {
		return "", fmt.Errorf("read image %s: %w", base, err)
	}
	v, err := p.StorageVolCreateXML(fmt.Sprintf(`<volume><name>%s</name><capacity>%d</capacity><target><format type='qcow2'/></target>
 <backingStore><path>%s</path><format type='qcow2'/></backingStore></volume>`, escape(name), info.Capacity, escape(path)), 0)
	if err != nil {
		return "", fmt.Errorf("clone image %s: %w", base, err)
	}
	defer v.Free()
	return v.GetPath()
}

// ConsolePath is where the console of a VM made by CreateVM is written.
func (l *Lab) ConsolePath(vm string) string { return l.Path("log", "console-"+vm+".log") }

// Address returns a VM's leased address.
func (l *Lab) Address(_ context.Context, vm string) (netip.Addr, error) {
	var out netip.Addr
	err := l.withDomain(vm, func(d *libvirt.Domain) error {
		ifaces, err := d.ListAllInterfaceAddresses(libvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE)
		if err != nil {
			return err
		}
		for _, i := range ifaces {
			for _, a := range i.Addrs {
				if out, err = netip.ParseAddr(a.Addr); err == nil {
					return nil
				}
			}
		}
		return errors.New("no lease yet")
	})
	if err != nil {
		return netip.Addr{}, fmt.Errorf("address of VM %s: %w", vm, err)
	}
	return out, nil
}

// AwaitHealthy waits until a VM answers /health and returns its address.
func (l *Lab) AwaitHealthy(ctx context.Context, vm string) (netip.Addr, error) {
	client := l.HTTPClient()
	client.Timeout = 2 * time.Second
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		addr, err := l.Address(ctx, vm)
		if err == nil {
			if err = l.get(ctx, client, "http://"+addr.String()+"/health"); err == nil {
				return addr, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return netip.Addr{}, fmt.Errorf("wait for VM %s: %w (%w)", vm, err, context.Cause(ctx))
		}
	}
}

// get succeeds when url answers 200.
func (l *Lab) get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("get %s: %w", url, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return fmt.Errorf("get %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, resp.Status)
	}
	return nil
}

// ShutdownVM presses the power button and waits until the VM is off.
func (l *Lab) ShutdownVM(ctx context.Context, vm string) error {
	if err := l.withDomain(vm, func(d *libvirt.Domain) error {
		return d.ShutdownFlags(libvirt.DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
	}); err != nil {
		return fmt.Errorf("shut VM %s down: %w", vm, err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var on bool
		if err := l.withDomain(vm, func(d *libvirt.Domain) (err error) { on, err = d.IsActive(); return err }); err != nil || !on {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("shut VM %s down: %w", vm, context.Cause(ctx))
		}
	}
}

// RemoveVM deletes a VM made by CreateVM and its disk, running or not.
func (l *Lab) RemoveVM(_ context.Context, vm string) error {
	err := l.withDomain(vm, func(d *libvirt.Domain) error {
		if on, err := d.IsActive(); err != nil {
			return err
		} else if on {
			if err := d.Destroy(); err != nil {
				return fmt.Errorf("power off: %w", err)
			}
		}
		return d.Undefine()
	})
	if err == nil {
		err = l.withPool(func(_ *libvirt.Connect, p *libvirt.StoragePool) error {
			v, err := p.LookupStorageVolByName(vm + ".qcow2")
			if err != nil {
				return fmt.Errorf("look up disk: %w", err)
			}
			defer v.Free()
			return v.Delete(0)
		})
	}
	if err != nil {
		return fmt.Errorf("remove VM %s: %w", vm, err)
	}
	return nil
}

func (l *Lab) withDomain(name string, fn func(*libvirt.Domain) error) error {
	return l.withConnect(func(c *libvirt.Connect) error {
		d, err := c.LookupDomainByName(name)
		if err != nil {
			return fmt.Errorf("look up domain %s: %w", name, err)
		}
		defer d.Free()
		return fn(d)
	})
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a strings.Builder does not fail
	return b.String()
}
