package libvirt

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/scalehook/scalehook/internal/scaling"
)

// machine is a domain as far as the provider looks at it.
type machine struct {
	name, uuid string
	power      scaling.Power
	mark       *mark // nil if it has none, or none that is its own
}

// ours reports whether the machine carries this owner's valid mark.
func (d machine) ours(owner string) bool { return d.mark != nil && d.mark.Owner == owner }

// is reports whether the machine carries this owner's valid mark for that id.
func (d machine) is(owner, id string) bool { return d.ours(owner) && d.mark.ID == id }

func (d machine) active() bool {
	return d.power == scaling.PowerRunning || d.power == scaling.PowerPaused
}

// readMachine asks for a domain's mark and state. Neither waits for QEMU.
func readMachine(dom *libvirt.Domain) (machine, error) {
	var d machine
	var err error
	if d.name, err = dom.GetName(); err != nil {
		return d, err
	}
	if d.uuid, err = dom.GetUUIDString(); err != nil {
		return d, err
	}
	text, err := dom.GetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, markURI, libvirt.DOMAIN_AFFECT_CURRENT)
	switch {
	case hasCode(err, libvirt.ERR_NO_DOMAIN_METADATA):
	case err != nil:
		return d, err
	default:
		// An unreadable mark proves nothing, so it counts as none.
		if m, err := parseMark(text); err == nil && m.valid(d.uuid) {
			d.mark = m
		}
	}
	state, reason, err := dom.GetState()
	if err != nil {
		return d, err
	}
	d.power = powerOf(state, reason)
	return d, nil
}

func powerOf(state libvirt.DomainState, reason int) scaling.Power {
	switch state {
	case libvirt.DOMAIN_RUNNING, libvirt.DOMAIN_BLOCKED, libvirt.DOMAIN_SHUTDOWN:
		return scaling.PowerRunning
	case libvirt.DOMAIN_PAUSED, libvirt.DOMAIN_PMSUSPENDED:
		return scaling.PowerPaused
	case libvirt.DOMAIN_SHUTOFF:
		if libvirt.DomainShutoffReason(reason) == libvirt.DOMAIN_SHUTOFF_CRASHED {
			return scaling.PowerCrashed
		}
		return scaling.PowerStopped
	case libvirt.DOMAIN_CRASHED:
		return scaling.PowerCrashed
	case libvirt.DOMAIN_NOSTATE:
		return scaling.PowerUnknown
	}
	return scaling.PowerUnknown
}

// machineByUUID returns the domain with that uuid; NotFound if there is none.
func machineByUUID(ctx context.Context, s *session, uuid string) (machine, error) {
	return query(ctx, s, "look up domain "+uuid, func(_ context.Context, conn *libvirt.Connect) (machine, error) {
		dom, err := conn.LookupDomainByUUIDString(uuid)
		if err != nil {
			return machine{}, err
		}
		defer free(dom.Free)
		return readMachine(dom)
	})
}

// machineByName returns the domain with that name; NotFound if there is none.
func machineByName(ctx context.Context, s *session, name string) (machine, error) {
	return query(ctx, s, fmt.Sprintf("look up domain %q", name), func(_ context.Context, conn *libvirt.Connect) (machine, error) {
		dom, err := conn.LookupDomainByName(name)
		if err != nil {
			return machine{}, err
		}
		defer free(dom.Free)
		return readMachine(dom)
	})
}

// forEachDomain calls f for every domain, defined or running. One that vanishes
// meanwhile is left out; any other error ends the walk.
func forEachDomain(ctx context.Context, conn *libvirt.Connect, f func(*libvirt.Domain) error) error {
	doms, err := conn.ListAllDomains(0)
	if err != nil {
		return err
	}
	defer func() {
		for i := range doms {
			free(doms[i].Free)
		}
	}()
	for i := range doms {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := f(&doms[i]); err != nil && !hasCode(err, libvirt.ERR_NO_DOMAIN) {
			return err
		}
	}
	return nil
}

// machines lists all domains.
func machines(ctx context.Context, s *session) ([]machine, error) {
	return query(ctx, s, "list the domains", func(ctx context.Context, conn *libvirt.Connect) ([]machine, error) {
		var all []machine
		err := forEachDomain(ctx, conn, func(dom *libvirt.Domain) error {
			d, err := readMachine(dom)
			if err == nil {
				all = append(all, d)
			}
			return err
		})
		return all, err
	})
}

// definition returns a domain's definition as it will be at its next start.
func definition(ctx context.Context, s *session, uuid string) (*libvirtxml.Domain, error) {
	return query(ctx, s, "read the definition of domain "+uuid, func(_ context.Context, conn *libvirt.Connect) (*libvirtxml.Domain, error) {
		dom, err := conn.LookupDomainByUUIDString(uuid)
		if err != nil {
			return nil, err
		}
		defer free(dom.Free)
		text, err := dom.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
		if err != nil {
			return nil, err
		}
		var desc libvirtxml.Domain
		if err := desc.Unmarshal(text); err != nil {
			return nil, fmt.Errorf("read the definition: %w", err)
		}
		return &desc, nil
	})
}

// diskUse is a domain that has a file or volume as a disk of its own.
type diskUse struct {
	domain, uuid string
	active       bool
	writable     bool
}

// usesOf lists the domains that have the volume as a disk, and every valid mark
// that names it as its image.
func usesOf(ctx context.Context, s *session, v volume) ([]diskUse, []mark, error) {
	type found struct {
		uses  []diskUse
		marks []mark
	}
	f, err := query(ctx, s, "look for domains that use "+v.Path, func(ctx context.Context, conn *libvirt.Connect) (found, error) {
		var f found
		err := forEachDomain(ctx, conn, func(dom *libvirt.Domain) error {
			text, err := dom.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
			if err != nil {
				return err
			}
			// Most definitions do not name it; parsing them all would be slow.
			if !strings.Contains(text, path.Base(v.Path)) {
				return nil
			}
			var desc libvirtxml.Domain
			if err := desc.Unmarshal(text); err != nil {
				return fmt.Errorf("read the definition of a domain: %w", err)
			}
			if desc.Metadata != nil {
				if m := findMark(desc.Metadata.XML); m.valid(desc.UUID) && m.Image != nil && m.Image.Path == v.Path {
					f.marks = append(f.marks, *m)
				}
			}
			active, err := dom.IsActive()
			if err != nil {
				return err
			}
			for _, disk := range disksOf(&desc) {
				if sourceIs(disk, v) {
					f.uses = append(f.uses, diskUse{domain: desc.Name, uuid: desc.UUID, active: active, writable: isWritableDisk(disk)})
				}
			}
			return nil
		})
		return f, err
	})
	return f.uses, f.marks, err
}

func disksOf(domain *libvirtxml.Domain) []libvirtxml.DomainDisk {
	if domain.Devices == nil {
		return nil
	}
	return domain.Devices.Disks
}

// sourceIs reports whether the disk's own source is the volume.
func sourceIs(disk libvirtxml.DomainDisk, v volume) bool {
	if disk.Source == nil {
		return false
	}
	switch src := disk.Source; {
	case src.File != nil:
		return src.File.File == v.Path
	case src.Block != nil:
		return src.Block.Dev == v.Path
	case src.Volume != nil:
		return src.Volume.Pool == v.Pool && src.Volume.Volume == v.Name
	}
	return false
}

// defineDomain defines a domain that must not exist yet.
func defineDomain(ctx context.Context, s *session, name, uuid, text string) error {
	return change(ctx, s, hostCall, fmt.Sprintf("define domain %q", name), func(ctx context.Context, conn *libvirt.Connect) error {
		// Defining a name and uuid that exist would change them.
		if dom, err := conn.LookupDomainByUUIDString(uuid); err == nil {
			return errors.Join(scaling.Errorf(scaling.Conflict, "domain %s exists", uuid), dom.Free())
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		dom, err := conn.DomainDefineXML(text)
		if err != nil {
			return err
		}
		return dom.Free()
	})
}

// onDomain runs one changing call on a domain.
func onDomain(ctx context.Context, s *session, kind callKind, what, uuid string, f func(*libvirt.Domain) error) error {
	return change(ctx, s, kind, what, func(ctx context.Context, conn *libvirt.Connect) error {
		dom, err := conn.LookupDomainByUUIDString(uuid)
		if err != nil {
			return err
		}
		defer free(dom.Free)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return f(dom)
	})
}

// start starts a domain; one that runs already is success.
func start(ctx context.Context, s *session, d machine) error {
	return onDomain(ctx, s, hostCall, fmt.Sprintf("start domain %q", d.name), d.uuid, func(dom *libvirt.Domain) error {
		if active, err := dom.IsActive(); err != nil || active {
			return err
		}
		return dom.Create()
	})
}

// powerOff cuts a domain's power; one that does not run is success.
func powerOff(ctx context.Context, s *session, d machine) error {
	err := onDomain(ctx, s, hostCall, fmt.Sprintf("power off domain %q", d.name), d.uuid, func(dom *libvirt.Domain) error {
		if active, err := dom.IsActive(); err != nil || !active {
			return err
		}
		err := dom.Destroy()
		if active, e := dom.IsActive(); err != nil && e == nil && !active {
			return nil
		}
		return err
	})
	if scaling.IsNotFound(err) {
		return nil
	}
	return err
}

// undefine removes a definition with all that libvirt itself keeps for it; one
// that is not there is success. An NVRAM that is not only this VM's stays.
func undefine(ctx context.Context, s *session, d machine) error {
	nvram, err := nvramFlag(ctx, s, d)
	if err != nil {
		return err
	}
	all := libvirt.DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.DOMAIN_UNDEFINE_SNAPSHOTS_METADATA | nvram
	err = onDomain(ctx, s, hostCall, fmt.Sprintf("undefine domain %q", d.name), d.uuid, func(dom *libvirt.Domain) error {
		// Older libvirts and drivers without NVRAM refuse flags that they do not
		// know. One that has something to remove then says so.
		var err error
		for _, flags := range []libvirt.DomainUndefineFlagsValues{
			all | libvirt.DOMAIN_UNDEFINE_CHECKPOINTS_METADATA, all, all &^ nvram,
		} {
			if err = dom.UndefineFlags(flags); !hasCode(err, libvirt.ERR_INVALID_ARG) {
				return err
			}
		}
		return err
	})
	if scaling.IsNotFound(err) {
		return nil
	}
	return err
}

// nvramFlag says what is to become of a domain's NVRAM. That of an instance goes
// if it is the one libvirt made for it: definitions that earlier versions wrote
// may name a file of the user's. That of an adopted VM goes with it. None goes
// that another domain names too.
func nvramFlag(ctx context.Context, s *session, d machine) (libvirt.DomainUndefineFlagsValues, error) {
	desc, err := definition(ctx, s, d.uuid)
	if scaling.IsNotFound(err) {
		return libvirt.DOMAIN_UNDEFINE_KEEP_NVRAM, nil
	}
	if err != nil {
		return 0, err
	}
	file := nvramOf(desc)
	switch {
	case file == "":
		return libvirt.DOMAIN_UNDEFINE_NVRAM, nil
	case !d.mark.Adopted && !isOwnNVRAM(file, d.name):
		return libvirt.DOMAIN_UNDEFINE_KEEP_NVRAM, nil
	}
	shared, err := query(ctx, s, "look for domains that use "+file, func(ctx context.Context, conn *libvirt.Connect) (shared bool, err error) {
		err = forEachDomain(ctx, conn, func(dom *libvirt.Domain) error {
			text, err := dom.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
			if err != nil || !strings.Contains(text, path.Base(file)) {
				return err
			}
			var other libvirtxml.Domain
			if err := other.Unmarshal(text); err != nil {
				return fmt.Errorf("read the definition of a domain: %w", err)
			}
			shared = shared || other.UUID != d.uuid && nvramOf(&other) == file
			return nil
		})
		return shared, err
	})
	if err == nil && shared {
		return libvirt.DOMAIN_UNDEFINE_KEEP_NVRAM, nil
	}
	return libvirt.DOMAIN_UNDEFINE_NVRAM, err
}
