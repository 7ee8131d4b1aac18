package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/scalehook/scalehook/internal/firstboot"
	"github.com/scalehook/scalehook/internal/scaling"
)

// Provider makes VMs at one libvirt host. It is safe for concurrent use.
type Provider struct {
	owner string
	cfg   Config
	m     *manager
	log   *slog.Logger
	locks keyedLock
	// asking bounds the questions to agents that are out.
	asking  chan struct{}
	lookout *lookout

	mu        sync.RWMutex
	templates map[string]Template
	virt      map[DomainType]host // by wished domain type, as the host said
	promised  map[string]uint64   // memory of launches under way, by instance id
}

var (
	_ scaling.Provider   = (*Provider)(nil)
	_ scaling.Shutdowner = (*Provider)(nil)
	_ scaling.Adopter    = (*Provider)(nil)
	_ scaling.Releaser   = (*Provider)(nil)
)

// New returns the provider of one host for VMs of owner, a stable id that sets
// them apart from those of other installations. templates are by group. It does
// not connect: a host that cannot be reached is a Temporary error of each call.
func New(cfg Config, owner string, templates map[string]Template, log *slog.Logger) (*Provider, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if owner == "" {
		return nil, errors.New("owner: empty")
	}
	p := &Provider{
		owner: owner,
		cfg:   cfg,
		m:     newManager(cfg, log),
		log:   log,
		locks: keyedLock{held: map[string]chan struct{}{}},
		virt:  map[DomainType]host{},
		// At least one connection is never an agent's: there are two or more.
		asking:  make(chan struct{}, cfg.MaxConnections/2),
		lookout: newLookout(),

		promised: map[string]uint64{},
	}
	return p, p.SetTemplates(templates)
}

// SetTemplates replaces the templates, all or none. Calls that run keep theirs.
func (p *Provider) SetTemplates(templates map[string]Template) error {
	all := make(map[string]Template, len(templates))
	var errs []error
	for _, group := range slices.Sorted(maps.Keys(templates)) {
		t := templates[group].withDefaults()
		if err := t.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("template of group %q: %w", group, err))
		}
		all[group] = t
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.templates = all
	return nil
}

// Close closes the connections and waits a moment for calls that were left behind.
func (p *Provider) Close() error { return p.m.close() }

func (p *Provider) template(group string) (Template, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	t, ok := p.templates[group]
	if !ok {
		return t, scaling.Errorf(scaling.Permanent, "group %q has no template for libvirt", group)
	}
	return t, nil
}

// pools lists the pools in which clones are made.
func (p *Provider) pools() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	set := map[string]bool{}
	for _, t := range p.templates {
		set[t.Pool] = true
	}
	return slices.Sorted(maps.Keys(set))
}

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

// Get implements scaling.Provider.
func (p *Provider) Get(ctx context.Context, ref scaling.Ref) (scaling.VM, error) {
	s, err := p.m.session(ctx, ref.ID, false)
	if err != nil {
		return scaling.VM{}, fmt.Errorf("get %q (%s): %w", ref.Name, ref.ID, err)
	}
	defer s.release()
	vm, err := p.get(ctx, s, ref)
	if err != nil {
		return vm, fmt.Errorf("get %q (%s): %w", ref.Name, ref.ID, err)
	}
	return vm, nil
}

func (p *Provider) get(ctx context.Context, s *session, ref scaling.Ref) (scaling.VM, error) {
	d, err := p.find(ctx, s, ref)
	if err != nil {
		return scaling.VM{}, err
	}
	if !d.is(p.owner, ref.ID) {
		return scaling.VM{}, scaling.Errorf(scaling.NotFound, "domain %q carries no mark of ours for this instance", d.name)
	}
	addrs, err := p.addresses(ctx, s, []machine{d})
	if err != nil {
		return scaling.VM{}, err
	}
	return p.vm(d, addrs[d.uuid]), nil
}

// find returns the domain that is, or should be, the instance's: that with its
// uuid, else the one whose valid mark names it. NotFound if there is none.
func (p *Provider) find(ctx context.Context, s *session, ref scaling.Ref) (machine, error) {
	uuid := ref.UUID
	if uuid == "" {
		uuid = ref.ID
	}
	d, err := machineByUUID(ctx, s, uuid)
	if !scaling.IsNotFound(err) || ref.UUID != "" {
		return d, err
	}
	all, listErr := machines(ctx, s)
	if listErr != nil {
		return d, listErr
	}
	for _, m := range all {
		if m.is(p.owner, ref.ID) {
			return m, nil
		}
	}
	return d, err
}

// List implements scaling.Provider. None of its calls waits for a QEMU process,
// but for the questions to agents, which wait for agentDeadline altogether.
func (p *Provider) List(ctx context.Context) ([]scaling.VM, error) {
	vms, err := p.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the VMs: %w", err)
	}
	return vms, nil
}

func (p *Provider) list(ctx context.Context) ([]scaling.VM, error) {
	s, err := p.m.session(ctx, "list", false)
	if err != nil {
		return nil, err
	}
	defer s.release()
	all, err := machines(ctx, s)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(d machine) bool { return !d.ours(p.owner) })
	p.lookout.keep(all)
	addrs, err := p.addresses(ctx, s, all)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b machine) int { return strings.Compare(a.name, b.name) })
	vms := make([]scaling.VM, 0, len(all))
	for _, d := range all {
		vms = append(vms, p.vm(d, addrs[d.uuid]))
	}
	return vms, nil
}

func (p *Provider) vm(d machine, addrs []netip.Addr) scaling.VM {
	return scaling.VM{
		ID: d.mark.ID, Group: d.mark.Group, Name: d.name, UUID: d.uuid, Power: d.power,
		Addresses: addrs, Adopted: d.mark.Adopted, CreatedAt: d.mark.created(),
	}
}

// addresses finds the addresses that running machines have now, best first, by
// uuid. Leases are read once per network, whatever the number of machines. What
// an agent does not say is missing, and no error.
func (p *Provider) addresses(ctx context.Context, s *session, all []machine) (map[string][]netip.Addr, error) {
	addrs := map[string][]netip.Addr{}
	leases := map[string][]lease{}
	var asked []machine
	for _, d := range all {
		if !d.active() {
			p.lookout.forget(d.uuid) // it starts with a new address
		}
		if d.power != scaling.PowerRunning || d.mark.Address == nil {
			continue
		}
		switch a := d.mark.Address; a.Source {
		case AddressRange:
			if ip, err := netip.ParseAddr(a.IP); err == nil {
				addrs[d.uuid] = []netip.Addr{ip}
			}
		case AddressAgent:
			asked = append(asked, d)
		case AddressLease:
			var f found
			for n, nic := range d.mark.NICs {
				if nic.Network == "" {
					continue
				}
				known, ok := leases[nic.Network]
				if !ok {
					var err error
					if known, err = leasesOf(ctx, s, nic.Network); err != nil {
						return nil, err
					}
					leases[nic.Network] = known
				}
				f.add(n, addressesOf(known, nic.MAC)...)
			}
			addrs[d.uuid] = p.lookout.settled(d.uuid, f, time.Now())
		}
	}
	for i, f := range p.askAgents(ctx, asked) {
		addrs[asked[i].uuid] = p.lookout.settled(asked[i].uuid, f, time.Now())
	}
	return addrs, nil
}

// Shutdown implements scaling.Shutdowner with the ACPI power button, or by cutting
// the power.
func (p *Provider) Shutdown(ctx context.Context, ref scaling.Ref, force bool) error {
	if err := p.shutdown(ctx, ref, force); err != nil {
		return fmt.Errorf("shut down %q (%s): %w", ref.Name, ref.ID, err)
	}
	return nil
}

func (p *Provider) shutdown(ctx context.Context, ref scaling.Ref, force bool) error {
	s, err := p.m.session(ctx, ref.ID, force)
	if err != nil {
		return err
	}
	defer s.release()
	d, err := p.find(ctx, s, ref)
	if err != nil {
		return err
	}
	if !d.is(p.owner, ref.ID) {
		return scaling.Errorf(scaling.Conflict, "domain %q carries no mark of ours for this instance", d.name)
	}
	if force {
		return powerOff(ctx, s, d)
	}
	return onDomain(ctx, s, guestCall, fmt.Sprintf("press the power button of domain %q", d.name), d.uuid, func(dom *libvirt.Domain) error {
		if active, err := dom.IsActive(); err != nil || !active {
			return err
		}
		err := dom.ShutdownFlags(libvirt.DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
		if hasCode(err, libvirt.ERR_INVALID_ARG) || hasCode(err, libvirt.ERR_NO_SUPPORT) || hasCode(err, libvirt.ERR_ARGUMENT_UNSUPPORTED) {
			err = dom.Shutdown()
		}
		if active, e := dom.IsActive(); err != nil && e == nil && !active {
			return nil
		}
		return err
	})
}

// host is what a host says of a domain type.
type host struct {
	virtType DomainType
	arch     string
}

// hostFor asks the host once which domain type to use.
func (p *Provider) hostFor(ctx context.Context, s *session, wish DomainType) (host, error) {
	p.mu.RLock()
	known, ok := p.virt[wish]
	p.mu.RUnlock()
	if ok {
		return known, nil
	}
	text, err := query(ctx, s, "read the host's capabilities", func(_ context.Context, conn *libvirt.Connect) (string, error) {
		return conn.GetCapabilities()
	})
	if err != nil {
		return host{}, err
	}
	found, err := chooseHost(text, wish)
	if err != nil {
		return host{}, scaling.WithClass(scaling.Permanent, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.virt[wish] = found
	return found, nil
}

// chooseHost reads capabilities: the guest architecture that is the host's own,
// and KVM where it is offered.
func chooseHost(capabilities string, wish DomainType) (host, error) {
	var caps libvirtxml.Caps
	if err := caps.Unmarshal(capabilities); err != nil {
		return host{}, fmt.Errorf("read the host's capabilities: %w", err)
	}
	arch := ""
	if caps.Host.CPU != nil {
		arch = caps.Host.CPU.Arch
	}
	offered := map[DomainType]bool{}
	first := ""
	for _, guest := range caps.Guests {
		if guest.OSType != "hvm" || arch != "" && guest.Arch.Name != arch {
			continue
		}
		for _, domain := range guest.Arch.Domains {
			offered[DomainType(domain.Type)] = true
			if first == "" {
				first = domain.Type
			}
		}
	}
	switch wish {
	case DomainKVM, DomainQEMU:
		if len(offered) > 0 && !offered[wish] && offered[DomainQEMU] {
			return host{}, fmt.Errorf("domain_type %q: the host does not offer it for %s", wish, arch)
		}
		return host{wish, arch}, nil
	case DomainAuto, "":
	}
	for _, virtType := range []DomainType{DomainKVM, DomainQEMU} {
		if offered[virtType] {
			return host{virtType, arch}, nil
		}
	}
	if first == "" {
		return host{}, fmt.Errorf("the host offers no hvm guests for %q", arch)
	}
	return host{DomainType(first), arch}, nil
}

// poolFolder returns the folder of a pool of files; clones need one.
func poolFolder(ctx context.Context, s *session, name string) (string, error) {
	folder, err := query(ctx, s, fmt.Sprintf("read pool %q", name), func(_ context.Context, conn *libvirt.Connect) (folder string, err error) {
		err = withPool(conn, name, func(pool *libvirt.StoragePool) error {
			text, err := pool.GetXMLDesc(0)
			if err != nil {
				return err
			}
			var desc libvirtxml.StoragePool
			if err := desc.Unmarshal(text); err != nil {
				return fmt.Errorf("read the description: %w", err)
			}
			switch desc.Type {
			case "dir", "fs", "netfs":
			default:
				return scaling.Errorf(scaling.Permanent, "pool %q is of type %q: linked clones need a pool of files (dir, fs or netfs)", name, desc.Type)
			}
			if desc.Target != nil {
				folder = desc.Target.Path
			}
			return nil
		})
		return folder, err
	})
	if err == nil && !strings.HasPrefix(folder, "/") {
		err = scaling.Errorf(scaling.Permanent, "pool %q has no folder", name)
	}
	return folder, err
}

// keyedLock serialises operations by key, and waiting for it ends with a context.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

func (l *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		l.mu.Lock()
		released, busy := l.held[key]
		if !busy {
			released = make(chan struct{})
			l.held[key] = released
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.held, key)
				l.mu.Unlock()
				close(released)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
			return nil, scaling.Errorf(scaling.Temporary, "wait for another call about %s: %w", key, context.Cause(ctx))
		}
	}
}
