package libvirt

import (
	"context"
	"encoding/xml"
	"fmt"
	"path"
	"regexp"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/firstboot"
	"github.com/scalehook/scalehook/internal/scaling"
)

var uuidRE = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func checkSpec(spec scaling.LaunchSpec) error {
	if !uuidRE.MatchString(spec.ID) {
		return scaling.Errorf(scaling.Permanent, "instance id %q: not a uuid in lower case", spec.ID)
	}
	if err := scaling.ValidName(spec.Name); err != nil {
		return scaling.WithClass(scaling.Permanent, err)
	}
	return nil
}

// Create implements scaling.Provider. The definition comes first and names the
// volumes that follow, so that nothing is ever made that it does not account for.
func (p *Provider) Create(ctx context.Context, spec scaling.LaunchSpec) (scaling.VM, error) {
	vm, err := p.create(ctx, spec)
	if err != nil {
		return scaling.VM{}, fmt.Errorf("create %q (%s): %w", spec.Name, spec.ID, err)
	}
	return vm, nil
}

// begin checks a spec, and takes its group's template, its instance's lock and a
// session for it. If err is nil, done gives lock and session back.
func (p *Provider) begin(ctx context.Context, spec scaling.LaunchSpec) (t Template, s *session, done func(), err error) {
	if err := checkSpec(spec); err != nil {
		return Template{}, nil, nil, err
	}
	if t, err = p.template(spec.Group); err != nil {
		return Template{}, nil, nil, err
	}
	unlock, err := p.locks.lock(ctx, spec.ID)
	if err != nil {
		return Template{}, nil, nil, err
	}
	if s, err = p.m.session(ctx, spec.ID, false); err != nil {
		unlock()
		return Template{}, nil, nil, err
	}
	return t, s, func() { s.release(); unlock() }, nil
}

func (p *Provider) create(ctx context.Context, spec scaling.LaunchSpec) (scaling.VM, error) {
	t, s, done, err := p.begin(ctx, spec)
	if err != nil {
		return scaling.VM{}, err
	}
	defer done()

	d, err := machineByUUID(ctx, s, spec.ID)
	switch {
	case scaling.IsNotFound(err):
		defer p.endPromise(spec.ID)
		if d, err = p.defineInstance(ctx, s, spec, t); err != nil {
			return scaling.VM{}, err
		}
	case err != nil:
		return scaling.VM{}, err
	case !d.is(p.owner, spec.ID):
		return scaling.VM{}, scaling.Errorf(scaling.Conflict, "domain %q has this uuid and no mark of ours", d.name)
	}
	if !d.active() {
		if err := p.furnish(ctx, s, spec, t, d); err != nil {
			return scaling.VM{}, err
		}
		if err := start(ctx, s, d); err != nil {
			return scaling.VM{}, err
		}
		if d, err = machineByUUID(ctx, s, spec.ID); err != nil {
			return scaling.VM{}, err
		}
	}
	return p.vm(d, nil), nil
}

// defineInstance checks what the VM is to be made from and writes its definition.
func (p *Provider) defineInstance(ctx context.Context, s *session, spec scaling.LaunchSpec, t Template) (machine, error) {
	if d, err := machineByName(ctx, s, spec.Name); err == nil {
		return d, scaling.Errorf(scaling.Conflict, "a domain called %q exists (uuid %s)", spec.Name, d.uuid)
	} else if !scaling.IsNotFound(err) {
		return d, err
	}
	image, err := p.checkImage(ctx, s, t)
	if err != nil {
		return machine{}, err
	}
	folder, err := poolFolder(ctx, s, t.Pool)
	if err != nil {
		return machine{}, err
	}
	if t.Address.Source == AddressLease && t.Network != "" {
		if err := checkLeases(ctx, s, t.Network); err != nil {
			return machine{}, err
		}
	}
	if err := p.checkRoom(ctx, s, spec.ID, t); err != nil {
		return machine{}, err
	}
	virt, err := p.hostFor(ctx, s, t.DomainType)
	if err != nil {
		return machine{}, err
	}
	m := mark{
		Owner: p.owner, Group: spec.Group, ID: spec.ID, UUID: spec.ID,
		Created: time.Now().UTC().Format(time.RFC3339),
		Image:   &markImage{Pool: image.Pool, Name: image.Name, Path: image.Path, Bytes: image.Bytes, MTime: image.MTime},
		Volumes: []markVolume{{t.Pool, diskName(spec.Name, spec.ID)}},
		Address: &markAddress{Source: t.Address.Source},
	}
	out := domainSpec{
		name: spec.Name, id: spec.ID, mac: macOf(spec.ID), virtType: virt.virtType, arch: virt.arch,
		diskPath: path.Join(folder, diskName(spec.Name, spec.ID)),
	}
	if t.CloudInit != nil {
		m.Volumes = append(m.Volumes, markVolume{t.Pool, seedName(spec.Name, spec.ID)})
		out.seedPath = path.Join(folder, seedName(spec.Name, spec.ID))
	}
	// What lies there before the definition does was not made under it.
	for _, v := range m.Volumes {
		if err := p.checkUnmarked(ctx, s, v, spec.ID, image); err != nil {
			return machine{}, err
		}
	}
	if t.Address.Source == AddressRange {
		// Until the definition holds it, an address is taken only by this lock.
		unlock, err := p.locks.lock(ctx, "address range")
		if err != nil {
			return machine{}, err
		}
		defer unlock()
		if m.Address.IP, err = p.pickAddress(ctx, s, t); err != nil {
			return machine{}, err
		}
	}
	out.mark = &m
	text, err := t.define(out)
	if err != nil {
		return machine{}, scaling.WithClass(scaling.Permanent, err)
	}
	if err := defineDomain(ctx, s, spec.Name, spec.ID, text); err != nil {
		return machine{}, err
	}
	return machineByUUID(ctx, s, spec.ID)
}

// checkUnmarked refuses to go on when a volume of the name that we are about to
// use exists and is not what an earlier attempt of ours left.
func (p *Provider) checkUnmarked(ctx context.Context, s *session, want markVolume, id string, image volume) error {
	have, err := findVolume(ctx, s, want.Pool, want.Name, false)
	if scaling.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if isDiskName(have.Name, id) {
		return checkClone(have, image)
	}
	ours, err := p.isOurSeed(ctx, s, have, id)
	if err == nil && !ours {
		err = scaling.Errorf(scaling.Conflict, "volume %q in pool %q is no seed of ours, and is left alone", have.Name, have.Pool)
	}
	return err
}

// pickAddress chooses an address that no VM has by its mark, whoever owns it, or was
// let go with. The caller holds the lock of the range.
func (p *Provider) pickAddress(ctx context.Context, s *session, t Template) (string, error) {
	taken, err := query(ctx, s, "look which addresses are taken", func(ctx context.Context, conn *libvirt.Connect) (map[string]bool, error) {
		taken := map[string]bool{t.Address.Gateway: true}
		return taken, forEachDomain(ctx, conn, func(dom *libvirt.Domain) error {
			d, err := readMachine(dom)
			if err != nil {
				return err
			}
			if d.mark != nil && d.mark.Address != nil {
				taken[d.mark.Address.IP] = true
			}
			text, err := dom.GetMetadata(libvirt.DOMAIN_METADATA_ELEMENT, usesURI, libvirt.DOMAIN_AFFECT_CURRENT)
			if hasCode(err, libvirt.ERR_NO_DOMAIN_METADATA) {
				return nil
			}
			var used uses
			if err == nil && xml.Unmarshal([]byte(text), &used) == nil {
				taken[used.IP] = true
			}
			return err
		})
	})
	if err != nil {
		return "", err
	}
	return t.Address.pick(taken)
}

// furnish makes the volumes that a defined VM's mark names.
func (p *Provider) furnish(ctx context.Context, s *session, spec scaling.LaunchSpec, t Template, d machine) error {
	if d.mark.Adopted || d.mark.Image == nil {
		return nil
	}
	image, err := findVolume(ctx, s, d.mark.Image.Pool, d.mark.Image.Name, true)
	if scaling.IsNotFound(err) {
		return scaling.Errorf(scaling.Permanent, "image %q is not in pool %q", d.mark.Image.Name, d.mark.Image.Pool)
	}
	if err != nil {
		return err
	}
	for _, v := range d.mark.Volumes {
		switch {
		case isDiskName(v.Name, spec.ID):
			err = ensureClone(ctx, s, v, image, uint64(t.Disk))
		case isSeedName(v.Name, spec.ID):
			if t.CloudInit == nil { // the template lost it since the definition was written
				t.CloudInit = &CloudInit{}
				t = t.withDefaults()
			}
			data := firstboot.Data{ID: spec.ID, Group: spec.Group, Name: d.name, Number: spec.Number, MAC: macOf(spec.ID)}
			if d.mark.Address != nil {
				data.Address = d.mark.Address.IP
			}
			var content []byte
			if content, err = t.buildSeed(data); err == nil {
				err = ensureSeed(ctx, s, v, content)
			} else {
				err = scaling.WithClass(scaling.Permanent, err)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
