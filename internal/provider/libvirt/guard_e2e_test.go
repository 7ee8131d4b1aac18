//go:build e2e

package libvirt_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	golibvirt "libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/provider/libvirt"
	"github.com/scalehook/scalehook/internal/scaling"
)

func TestWhatIsTheUsersStaysTheUsers(t *testing.T) {
	h := startHost(t, "prv-guard")
	for name, run := range map[string]func(*testing.T, *hostTest){
		"an own domain XML's NVRAM is no clone's and stays":            ownNVRAM,
		"a foreign NVRAM in a definition made earlier stays":           earlierNVRAM,
		"a template without cloud-init works, with a warning":          noCloudInit,
		"a launch without room is refused as quota and leaves nothing": noRoom,
		"a build takes nobody's volumes and clears an earlier one's":   buildLeftovers,
		"content that changed unnoticed is found by the check":         contentChanged,
	} {
		t.Run(name, func(t *testing.T) {
			before := h.before(t.Context(), t)
			run(t, h)
			if !t.Failed() {
				h.left(t.Context(), t, before)
			}
			for n := range 4 {
				if err := h.p.Delete(within(t, time.Minute), scaling.Ref{ID: id(n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// usersNVRAM is the NVRAM of a VM of the user's.
func (h *hostTest) usersNVRAM(t *testing.T) string {
	t.Helper()
	file := h.Path("base_VARS.fd")
	if err := os.WriteFile(file, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file) })
	return file
}

// definition returns a domain's definition.
func (h *hostTest) definition(t *testing.T, conn *golibvirt.Connect, name string) string {
	t.Helper()
	dom, err := conn.LookupDomainByName(name)
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Free()
	text, err := dom.GetXMLDesc(golibvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func ownNVRAM(t *testing.T, h *hostTest) {
	ctx := within(t, 2*time.Minute)
	conn := h.connect(t)
	nvram := h.usersNVRAM(t)
	template := h.template(ctx)
	template.DomainXML = writeTemp(t, "own.xml", []byte(`<domain type='qemu'><name>base</name><genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type><loader readonly='yes' type='pflash'>/nowhere/code.fd</loader><nvram template='/nowhere/vars.fd'>`+nvram+`</nvram></os>
<features><acpi/></features><devices><disk type='file' device='disk'><source file='/nowhere/base.qcow2'/><target dev='vda' bus='virtio'/></disk>
<interface type='network'><source network='default'/></interface></devices></domain>`))
	p := h.provider(t, owner, template)
	var seen []string
	for n := 1; n <= 2; n++ {
		s, _ := spec(n)
		if err := p.CreateUpTo(ctx, s, 1); err != nil {
			t.Fatal(err)
		}
		text := h.definition(t, conn, s.Name)
		_, after, _ := strings.Cut(text, "<genid>")
		genid, _, _ := strings.Cut(after, "</genid>")
		if strings.Contains(text, nvram) || strings.Contains(text, "43dc0cf8") || genid == "" || !strings.Contains(text, s.Name+"_VARS.fd") {
			t.Errorf("the definition is\n%s", text)
		}
		seen = append(seen, genid)
	}
	if seen[0] == seen[1] {
		t.Errorf("generation ids %v", seen)
	}
	for n := 1; n <= 2; n++ {
		if err := p.Delete(ctx, scaling.Ref{ID: id(n)}); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(nvram); err != nil {
		t.Errorf("the user's NVRAM: %v", err)
	}
}

func earlierNVRAM(t *testing.T, h *hostTest) {
	ctx := within(t, 2*time.Minute)
	conn := h.connect(t)
	nvram := h.usersNVRAM(t)
	s, ref := spec(1)
	if err := h.p.CreateUpTo(ctx, s, 1); err != nil {
		t.Fatal(err)
	}
	firmware := "<loader readonly='yes' type='pflash'>/nowhere/code.fd</loader><nvram>" + nvram + "</nvram></os>"
	redefined, err := conn.DomainDefineXML(strings.Replace(h.definition(t, conn, s.Name), "</os>", firmware, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer redefined.Free()
	h.delete(ctx, t, ref)
	if _, err := h.p.Get(ctx, ref); !scaling.IsNotFound(err) {
		t.Errorf("the VM: %v", err)
	}
	if _, err := os.Stat(nvram); err != nil {
		t.Errorf("the user's NVRAM: %v", err)
	}

	// An adopted VM's NVRAM goes with it, unless another VM names the same file.
	h.makeForeign(t, conn, "vm-test")
	h.makeForeign(t, conn, "vm-other")
	for _, name := range []string{"vm-test", "vm-other"} {
		text := strings.Replace(h.definition(t, conn, name), "</os>", firmware+"<features><acpi/></features>", 1)
		dom, err := conn.DomainDefineXML(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { dom.UndefineFlags(golibvirt.DOMAIN_UNDEFINE_KEEP_NVRAM); dom.Free() })
	}
	if _, err := h.p.Adopt(ctx, scaling.LaunchSpec{ID: id(2), Group: "web", Name: "vm-test"}); err != nil {
		t.Fatal(err)
	}
	h.delete(ctx, t, scaling.Ref{ID: id(2), Adopted: true})
	if _, err := os.Stat(nvram); err != nil {
		t.Errorf("the NVRAM of two VMs: %v", err)
	}
	other, err := conn.LookupDomainByName("vm-other")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Free()
	if err := other.UndefineFlags(golibvirt.DOMAIN_UNDEFINE_KEEP_NVRAM); err != nil {
		t.Error(err)
	}
	h.deleteVolume(conn, "vm-other.qcow2")
}

// noCloudInit is a template as made by hand with virt-install.
func noCloudInit(t *testing.T, h *hostTest) {
	ctx := within(t, 6*time.Minute)
	template := h.template(ctx)
	template.CloudInit, template.OSInfo = nil, "linux2022"
	p := h.provider(t, owner, template)
	warnings, err := p.Check(ctx)
	if err != nil || !strings.Contains(strings.Join(warnings, "\n"), `group "web": no cloud_init: all its VMs share the image's hostname, SSH host keys and machine id`) {
		t.Errorf("warnings %q, %v", warnings, err)
	}
	s, ref := spec(1)
	if _, err := p.Create(ctx, s); err != nil {
		t.Fatal(err)
	}
	vm := h.awaitAddress(ctx, t, scaling.Ref{ID: ref.ID, Name: s.Name})
	conn := h.connect(t)
	text := h.definition(t, conn, s.Name)
	if strings.Contains(text, ".seed.iso") || !strings.Contains(text, `<libosinfo:os id="http://libosinfo.org/linux/2022"/>`) {
		t.Errorf("the definition is\n%s", text)
	}
	t.Logf("the guest calls itself %q", h.hostname(ctx, t, vm))
	if err := p.Delete(ctx, ref); err != nil {
		t.Error(err)
	}
}

func noRoom(t *testing.T, h *hostTest) {
	ctx := within(t, 4*time.Minute)
	s, ref := spec(1)
	for name, c := range map[string]struct {
		change func(*libvirt.Config)
		want   string
	}{
		"memory": {func(c *libvirt.Config) { c.ReserveMemory = 1 << 60 }, "and the VM needs 128MiB beside the reserve_memory of 1048576TiB"},
		"disk":   {func(c *libvirt.Config) { c.ReserveDisk = 1 << 60 }, "and a clone needs 1MiB beside the reserve_disk of 1048576TiB"},
	} {
		before := h.before(ctx, t)
		cfg := h.config()
		c.change(&cfg)
		p, err := libvirt.New(cfg, owner, map[string]libvirt.Template{"web": h.template(ctx)}, h.log)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.Create(ctx, s)
		wantClass(t, err, scaling.Quota)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		h.left(ctx, t, before)

		// What was begun with room is finished, and what is there is found.
		if err := h.p.CreateUpTo(ctx, s, 1); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := p.Create(ctx, s); err != nil {
				t.Errorf("%s: a launch that was begun: %v", name, err)
			}
		}
		if err := p.Delete(ctx, ref); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

func buildLeftovers(t *testing.T, h *hostTest) {
	ctx := within(t, 6*time.Minute)
	conn := h.connect(t)
	base, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	opts := libvirt.DefaultBuildOptions()
	opts.ImportOptions = libvirt.ImportOptions{File: base.Path, Pool: lab.PoolName, Name: "built.qcow2"}
	opts.UserData = writeTemp(t, "user-data", []byte("#!/bin/sh\npoweroff -f\n"))
	opts.Memory, opts.DomainType = 128<<20, libvirt.DomainType(h.DomainType(ctx))
	const record = "built.qcow2.scalehook.json"
	for _, name := range []string{"built.qcow2.building.qcow2", "built.qcow2.building.seed.iso"} {
		h.makeVolume(t, conn, name)
		_, err := libvirt.Build(ctx, h.config(), opts, h.log)
		wantClass(t, err, scaling.Conflict)
		if err == nil || !strings.Contains(err.Error(), name+`" in pool "`+lab.PoolName+`" has the name of a build's volume and is no build's`) {
			t.Errorf("%v", err)
		}
		if !h.hasVolume(conn, name) || h.hasVolume(conn, record) {
			t.Errorf("%s was deleted, or a record was left", name)
		}
		h.deleteVolume(conn, name)
	}

	// The same volumes under the record of a build that was killed.
	if err := h.p.BeginBuild(ctx, lab.PoolName, opts.Name); err != nil {
		t.Fatal(err)
	}
	h.makeVolume(t, conn, "built.qcow2.building.qcow2")
	h.makeVolume(t, conn, "built.qcow2.building.seed.iso")
	if _, err := libvirt.Build(ctx, h.config(), opts, h.log); err != nil {
		t.Fatal(err)
	}
	template := h.template(ctx)
	template.Image = opts.Name
	if warnings, err := h.provider(t, owner, template).Check(ctx); err != nil || len(warnings) != 0 {
		t.Errorf("check: %q, %v", warnings, err)
	}
	h.deleteVolume(conn, opts.Name)
	h.deleteVolume(conn, record)
}

func (h *hostTest) makeVolume(t *testing.T, conn *golibvirt.Connect, name string) {
	t.Helper()
	pool, err := conn.LookupStoragePoolByName(lab.PoolName)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Free()
	vol, err := pool.StorageVolCreateXML("<volume><name>"+name+"</name><capacity>65536</capacity><target><format type='raw'/></target></volume>", 0)
	if err != nil {
		t.Fatal(err)
	}
	vol.Free()
}

func contentChanged(t *testing.T, h *hostTest) {
	ctx := within(t, 2*time.Minute)
	base, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := libvirt.Import(ctx, h.config(), libvirt.ImportOptions{File: base.Path, Pool: lab.PoolName, Name: "imported.qcow2"}, h.log); err != nil {
		t.Fatal(err)
	}
	template := h.template(ctx)
	template.Image = "imported.qcow2"
	p := h.provider(t, owner, template)
	if _, err := p.Check(ctx); err != nil {
		t.Error(err)
	}
	path := h.Path(lab.PoolName, template.Image)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt([]byte("changed"), info.Size()-100)
	if err := errors.Join(err, file.Close(), os.Chtimes(path, info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Check(ctx); err == nil || !strings.Contains(err.Error(), "the content of image "+path+" was changed since its import") {
		t.Errorf("check: %v", err)
	}
	conn := h.connect(t)
	h.deleteVolume(conn, template.Image)
	h.deleteVolume(conn, template.Image+".scalehook.json")
}
