package libvirt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/scalehook/scalehook/internal/scaling"
)

// BuildOptions say how an image is made from another: boot it once with a
// user-data that installs what is needed and powers the VM off.
type BuildOptions struct {
	// ImportOptions name the base, a qcow2 file, and the image to make.
	ImportOptions

	// UserData is a file for the guest's cloud-init as it is; it has to power the
	// VM off at its end. Run are commands instead, after which scalehook's own
	// user-data cleans the guest up for cloning and powers it off.
	UserData string
	Run      []string

	Memory     Size
	VCPUs      uint
	Disk       Size // the image's virtual size; 0: the base's
	Network    string
	DomainType DomainType
	Firmware   string
}

// DefaultBuildOptions returns what a build that states nothing uses.
func DefaultBuildOptions() BuildOptions {
	t := DefaultTemplate()
	return BuildOptions{Memory: 1 << 30, VCPUs: t.VCPUs, Network: "default", DomainType: t.DomainType, Firmware: t.Firmware}
}

// Build makes an image. It blocks until the VM has powered itself off, at most
// until ctx ends; the VM and its volumes are then removed, whatever came of it.
// What an interrupted build left is removed by the next of the same name; volumes
// of such names that no build made are a Conflict.
func Build(ctx context.Context, cfg Config, opts BuildOptions, log *slog.Logger) (image Image, err error) {
	image = Image{Pool: opts.Pool, Name: opts.Name}
	template, userData, err := opts.prepare()
	if err := errors.Join(cfg.Validate(), opts.validate(), err); err != nil {
		return image, err
	}
	file, err := os.Open(opts.File)
	if err != nil {
		return image, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if image.VirtualSize, err = readQcow2(file); err != nil {
		return image, fmt.Errorf("build from %s: %w", opts.File, err)
	}
	image.VirtualSize = max(image.VirtualSize, uint64(opts.Disk))
	p, err := New(cfg, "template build", nil, log)
	if err != nil {
		return image, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	b := build{p: p, t: template, userData: userData, cfg: cfg, image: &image}
	if err := b.run(ctx, file); err != nil {
		return image, fmt.Errorf("build %q in pool %q from %s: %w", opts.Name, opts.Pool, opts.File, err)
	}
	return image, nil
}

// prepare checks the options and returns the VM's template and user-data.
func (o BuildOptions) prepare() (Template, string, error) {
	t := DefaultTemplate()
	t.Image, t.Pool, t.Memory, t.VCPUs, t.Disk = o.Name, o.Pool, o.Memory, o.VCPUs, o.Disk
	t.Network, t.DomainType, t.Firmware, t.CloudInit = o.Network, o.DomainType, o.Firmware, &CloudInit{}
	t = t.withDefaults()
	if err := t.Validate(); err != nil {
		return t, "", err
	}
	switch {
	case o.UserData != "" && len(o.Run) > 0:
		return t, "", errors.New("user-data and commands: use one of the two")
	case o.UserData != "":
		text, err := os.ReadFile(o.UserData)
		return t, string(text), err
	case len(o.Run) > 0:
		return t, runUserData(o.Run), nil
	}
	return t, "", errors.New("nothing to do in the guest: use user-data or commands, or import the file as it is")
}

// runUserData runs the commands, takes away what clones must not share, and
// powers off. A command that fails stops the rest, and the build runs into its
// deadline, instead of making an image that lacks something.
func runUserData(commands []string) string {
	var b strings.Builder
	b.WriteString("#cloud-config\nruncmd:\n  - - sh\n    - -c\n    - ")
	script := "set -e\n" + strings.Join(commands, "\n") + "\n" +
		"cloud-init clean --logs --seed || cloud-init clean --logs\n" +
		"rm -f /etc/ssh/ssh_host_*\n" +
		"if [ -e /etc/machine-id ]; then : > /etc/machine-id; fi\n" +
		"sync\npoweroff\n"
	b.WriteString(strconv.Quote(script) + "\n")
	return b.String()
}

// build is one run.
type build struct {
	p        *Provider
	t        Template
	userData string
	cfg      Config
	image    *Image
	folder   string
	id       string // the VM's uuid
}

func (b *build) domain() string   { return "building-" + b.image.Name }
func (b *build) disk() markVolume { return markVolume{b.image.Pool, b.image.Name + ".building.qcow2"} }

func (b *build) seed() markVolume {
	return markVolume{b.image.Pool, b.image.Name + ".building.seed.iso"}
}

func (b *build) run(ctx context.Context, file *os.File) (err error) {
	s, err := b.p.m.session(ctx, "build", false)
	if err != nil {
		return err
	}
	defer s.release()
	record, err := b.begin(ctx, s)
	if err != nil {
		return err
	}
	if _, err := machineByName(ctx, s, b.domain()); err == nil {
		return scaling.Errorf(scaling.Conflict, "domain %q exists: another build runs, or waits for its guest to power off", b.domain())
	} else if !scaling.IsNotFound(err) {
		return err
	}
	if b.folder, err = poolFolder(ctx, s, b.image.Pool); err != nil {
		return err
	}
	if err := b.clear(ctx, s, record); err != nil {
		return err
	}
	now := imageRecord{Building: true, Imported: time.Now().UTC().Truncate(time.Second), Source: b.disk().Name}
	if err := writeRecord(ctx, s, b.image.Pool, b.image.Name, now); err != nil {
		return err
	}
	defer func() {
		// Also after a failure or Ctrl-C, with a little time of its own.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, b.cleanUp(ctx))
	}()
	if err := b.boot(ctx, s, file); err != nil {
		return err
	}
	if err := b.awaitPowerOff(ctx, s); err != nil {
		return err
	}
	return b.finish(ctx, s)
}

// begin refuses to build over an image, and returns what is recorded of one.
func (b *build) begin(ctx context.Context, s *session) (*imageRecord, error) {
	record, err := readRecord(ctx, s, b.image.Pool, b.image.Name)
	if err != nil {
		return nil, err
	}
	_, err = findVolume(ctx, s, b.image.Pool, b.image.Name, true)
	switch {
	case err == nil && record != nil && record.Building:
		return nil, scaling.Errorf(scaling.Conflict, "a build of that image was interrupted at its end; delete what it left and build again: virsh vol-delete --pool %s %s", b.image.Pool, b.image.Name)
	case err == nil:
		return nil, scaling.Errorf(scaling.Conflict, "an image of that name exists; give the new one a new name")
	case !scaling.IsNotFound(err):
		return nil, err
	}
	return record, nil
}

// clear removes a build's volumes. Their names prove nothing: the record has to
// say that a build began to make them.
func (b *build) clear(ctx context.Context, s *session, record *imageRecord) error {
	if record != nil && record.Building {
		return errors.Join(deleteVolume(ctx, s, b.disk()), deleteVolume(ctx, s, b.seed()))
	}
	for _, v := range []markVolume{b.disk(), b.seed()} {
		if _, err := findVolume(ctx, s, v.Pool, v.Name, false); err == nil {
			return scaling.Errorf(scaling.Conflict, "volume %q in pool %q has the name of a build's volume and is no build's; give the image another name, or delete it", v.Name, v.Pool)
		} else if !scaling.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// cleanUp removes the VM and its volumes, and the record of a build that failed.
func (b *build) cleanUp(ctx context.Context) error {
	s, err := b.p.m.session(ctx, "clean up", true)
	if err != nil {
		return err
	}
	defer s.release()
	d, err := machineByName(ctx, s, b.domain())
	if err == nil && d.uuid == b.id {
		err = powerOff(ctx, s, d) // it has no definition, so it is gone then
	}
	if err != nil && !scaling.IsNotFound(err) {
		return err
	}
	// Only the build that wrote the record gets here.
	if err := b.clear(ctx, s, &imageRecord{Building: true}); err != nil {
		return err
	}
	record, err := readRecord(ctx, s, b.image.Pool, b.image.Name)
	if err != nil || record == nil || !record.Building {
		return err
	}
	if _, err := findVolume(ctx, s, b.image.Pool, b.image.Name, false); !scaling.IsNotFound(err) {
		return err // a half-made image keeps its record, which says so
	}
	return deleteVolume(ctx, s, markVolume{b.image.Pool, recordName(b.image.Name)})
}

// boot uploads the base and starts a VM on it that has no definition: when it
// powers off, nothing of it is left but its disk.
func (b *build) boot(ctx context.Context, s *session, file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	size := uint64(max(info.Size(), 0))
	if _, err := file.Seek(0, 0); err != nil {
		return err
	}
	if err := ensureVolume(ctx, s, b.disk(), rawVolume(b.disk().Name, size, "0600")); err != nil {
		return err
	}
	if err := upload(ctx, s, b.disk(), file, size); err != nil {
		return err
	}
	have, err := refreshedVolume(ctx, s, b.disk())
	if err != nil {
		return err
	}
	if want := uint64(b.t.Disk); want > have.Capacity {
		if err := resize(ctx, s, b.disk(), want); err != nil {
			return err
		}
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // documented never to fail
	random[6], random[8] = random[6]&0x0f|0x40, random[8]&0x3f|0x80
	id := fmt.Sprintf("%x-%x-%x-%x-%x", random[:4], random[4:6], random[6:8], random[8:10], random[10:])
	b.id = id
	content, err := seedISO([]seedFile{{"meta-data", seedLine(id)}, {"user-data", b.userData}})
	if err != nil {
		return scaling.WithClass(scaling.Permanent, err)
	}
	if err := ensureSeed(ctx, s, b.seed(), content); err != nil {
		return err
	}
	virt, err := b.p.hostFor(ctx, s, b.t.DomainType)
	if err != nil {
		return err
	}
	text, err := b.t.define(domainSpec{
		name: b.domain(), id: id, mac: macOf(id), virtType: virt.virtType, arch: virt.arch,
		diskPath: path.Join(b.folder, b.disk().Name), seedPath: path.Join(b.folder, b.seed().Name),
	})
	if err != nil {
		return scaling.WithClass(scaling.Permanent, err)
	}
	return change(ctx, s, hostCall, fmt.Sprintf("start domain %q", b.domain()), func(_ context.Context, conn *libvirt.Connect) error {
		dom, err := conn.DomainCreateXML(text, 0)
		if err != nil {
			return err
		}
		return dom.Free()
	})
}

// awaitPowerOff waits until the VM is gone.
func (b *build) awaitPowerOff(ctx context.Context, s *session) error {
	const pause = 500 * time.Millisecond
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		d, err := machineByName(ctx, s, b.domain())
		switch {
		case scaling.IsNotFound(err):
			return nil
		case err != nil && ctx.Err() == nil && scaling.ClassOf(err) != scaling.Temporary:
			return err
		case err == nil && d.power == scaling.PowerCrashed:
			return scaling.Errorf(scaling.Permanent, "the guest crashed")
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return scaling.Errorf(scaling.Temporary, "the guest has not powered itself off: does its user-data end in a power-off? See its console: virsh console %s: %w", b.domain(), context.Cause(ctx))
		}
	}
}

// finish copies the disk into a compact, read-only image and records it.
func (b *build) finish(ctx context.Context, s *session) error {
	name, pool := b.image.Name, b.image.Pool
	record := imageRecord{Imported: time.Now().UTC().Truncate(time.Second), Source: b.disk().Name}
	have, err := refreshedVolume(ctx, s, b.disk())
	if err != nil {
		return err
	}
	desc := libvirtxml.StorageVolume{
		Name:     name,
		Capacity: &libvirtxml.StorageVolumeSize{Value: have.Capacity, Unit: "bytes"},
		Target: &libvirtxml.StorageVolumeTarget{
			Format:      &libvirtxml.StorageVolumeTargetFormat{Type: "qcow2"},
			Permissions: &libvirtxml.StorageVolumeTargetPermissions{Mode: imageMode(b.cfg.URI)},
		},
	}
	text, err := desc.Marshal()
	if err != nil {
		return scaling.WithClass(scaling.Permanent, err)
	}
	err = change(ctx, s, hostCall, fmt.Sprintf("copy volume %q to %q", b.disk().Name, name), func(_ context.Context, conn *libvirt.Connect) error {
		return withVolume(conn, pool, b.disk().Name, func(p *libvirt.StoragePool, from *libvirt.StorageVol) error {
			vol, err := p.StorageVolCreateXMLFrom(text, from, 0)
			if err != nil {
				return err
			}
			return vol.Free()
		})
	})
	if err != nil {
		return err
	}
	if have, err = findVolume(ctx, s, pool, name, false); err != nil {
		return err
	}
	hash := sha256.New()
	if err := download(ctx, s, markVolume{pool, name}, 0, hash); err != nil {
		return err
	}
	record.SHA256, record.Bytes, record.MTime = hex.EncodeToString(hash.Sum(nil)), have.Bytes, have.MTime
	b.image.SHA256, b.image.Bytes, b.image.Path, b.image.VirtualSize = record.SHA256, have.Bytes, have.Path, have.Capacity
	return writeRecord(ctx, s, pool, name, record)
}

// resize grows a volume.
func resize(ctx context.Context, s *session, v markVolume, capacity uint64) error {
	return change(ctx, s, hostCall, fmt.Sprintf("grow volume %q", v.Name), func(_ context.Context, conn *libvirt.Connect) error {
		return withVolume(conn, v.Pool, v.Name, func(_ *libvirt.StoragePool, vol *libvirt.StorageVol) error {
			return vol.Resize(capacity, 0)
		})
	})
}
