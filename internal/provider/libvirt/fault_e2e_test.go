//go:build e2e

package libvirt_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	golibvirt "libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/provider/libvirt"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

func TestFaults(t *testing.T) {
	h := startHost(t, "prv-faults")
	for name, run := range map[string]func(*testing.T, *hostTest){
		"a kill after any step is finished by another Create":          killedThenCreated,
		"a kill after any step is undone by a Delete with only the id": killedThenDeleted,
		"volumes whose definition is gone are deleted by their id":     definitionLost,
		"somebody's volume under our name is a conflict and stays":     foreignVolume,
		"a hung QEMU holds up no listing, and its VM can be deleted":   hungQEMU,
		"a hung libvirtd costs deadlines, and then all works again":    hungLibvirtd,
		"a libvirtd that is killed comes back to the same VMs":         killedLibvirtd,
		"an adopted VM goes with its disk and NVRAM and nothing else":  adoptedGoes,
		"an adopted VM whose disk others stand on is not deleted":      adoptedShared,
		"an image that a running VM writes to is refused":              imageInUse,
		"two owners do not see or delete each other's VMs":             twoOwners,
		"addresses come from a range until it is used up":              rangeUsedUp,
	} {
		t.Run(name, func(t *testing.T) {
			before := h.before(t.Context(), t)
			run(t, h)
			if !t.Failed() {
				h.left(t.Context(), t, before)
			}
			for n := range 10 { // so that one failure is not a failure of all that follow
				if err := h.p.Delete(within(t, time.Minute), scaling.Ref{ID: id(n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func spec(n int) (scaling.LaunchSpec, scaling.Ref) {
	s := scaling.LaunchSpec{ID: id(n), Group: "web", Name: fmt.Sprintf("web-%d", n), Number: n}
	return s, scaling.Ref{ID: s.ID}
}

func (h *hostTest) create(ctx context.Context, t *testing.T, n int) (scaling.VM, scaling.Ref) {
	t.Helper()
	s, ref := spec(n)
	vm, err := h.p.Create(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return vm, ref
}

func (h *hostTest) delete(ctx context.Context, t *testing.T, ref scaling.Ref) {
	t.Helper()
	if err := h.p.Delete(ctx, ref); err != nil {
		t.Errorf("%v (%s)", err, scaling.ClassOf(err))
	}
}

func wantClass(t *testing.T, err error, want scaling.Class) {
	t.Helper()
	if err == nil || scaling.ClassOf(err) != want {
		t.Errorf("%v, want class %s", err, want)
	}
}

func killedThenCreated(t *testing.T, h *hostTest) {
	ctx := within(t, 8*time.Minute)
	for step := 1; step <= 4; step++ {
		s, ref := spec(step)
		if err := h.p.CreateUpTo(ctx, s, step); err != nil {
			t.Fatal(err)
		}
		if vm, err := h.p.Get(ctx, ref); err != nil || vm.Power != scaling.PowerStopped {
			t.Errorf("half-made: %+v, %v", vm, err)
		}
		h.create(ctx, t, step)
		if step == 3 {
			// The seed that was left empty has to have reached the guest.
			vm := h.awaitAddress(ctx, t, ref)
			if name := h.hostname(ctx, t, vm); name != "web-3" {
				t.Errorf("the guest calls itself %q", name)
			}
		}
		h.delete(ctx, t, ref)
	}
}

func killedThenDeleted(t *testing.T, h *hostTest) {
	ctx := within(t, 2*time.Minute)
	for step := 1; step <= 4; step++ {
		s, ref := spec(step)
		if err := h.p.CreateUpTo(ctx, s, step); err != nil {
			t.Fatal(err)
		}
		h.delete(ctx, t, ref)
	}
}

func definitionLost(t *testing.T, h *hostTest) {
	ctx := within(t, 2*time.Minute)
	s, ref := spec(1)
	if err := h.p.CreateUpTo(ctx, s, 4); err != nil {
		t.Fatal(err)
	}
	conn := h.connect(t)
	dom, err := conn.LookupDomainByName(s.Name)
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Free()
	if err := dom.Undefine(); err != nil {
		t.Fatal(err)
	}
	// Made again over what lies there, lost again, and then deleted.
	h.create(ctx, t, 1)
	if dom, err = conn.LookupDomainByName(s.Name); err != nil {
		t.Fatal(err)
	}
	if err := dom.Destroy(); err != nil {
		t.Fatal(err)
	}
	if err := dom.Undefine(); err != nil {
		t.Fatal(err)
	}
	h.delete(ctx, t, ref)
}

func foreignVolume(t *testing.T, h *hostTest) {
	ctx := within(t, 2*time.Minute)
	conn := h.connect(t)
	for n, name := range []string{libvirt.DiskName("web-0", id(0)), libvirt.SeedName("web-1", id(1))} {
		s, ref := spec(n)
		pool, err := conn.LookupStoragePoolByName(lab.PoolName)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Free()
		vol, err := pool.StorageVolCreateXML("<volume><name>"+name+"</name><capacity>65536</capacity><target><format type='raw'/></target></volume>", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer vol.Free()
		_, err = h.p.Create(ctx, s)
		wantClass(t, err, scaling.Conflict)
		h.delete(ctx, t, ref)
		if !h.hasVolume(conn, name) {
			t.Errorf("%s was deleted", name)
		}
		h.deleteVolume(conn, name)
	}
}

// qemu returns the process id of a VM's QEMU.
func (h *hostTest) qemu(t *testing.T, name string) int {
	t.Helper()
	found := 0
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range processes {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "guest="+name+",") || !strings.Contains(string(text), h.Path(lab.PoolName)) {
			continue
		}
		if found, err = strconv.Atoi(filepath.Base(filepath.Dir(file))); err != nil {
			t.Fatal(err)
		}
	}
	if found == 0 {
		t.Fatalf("no QEMU runs %s", name)
	}
	return found
}

func hungQEMU(t *testing.T, h *hostTest) {
	ctx := within(t, 4*time.Minute)
	_, hung := h.create(ctx, t, 1)
	_, other := h.create(ctx, t, 2)
	pid := h.qemu(t, "web-1")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) })

	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	wantClass(t, h.p.Shutdown(short, hung, false), scaling.Unknown)
	_, err := h.p.Get(ctx, hung)
	wantClass(t, err, scaling.Temporary)

	began := time.Now()
	vms, err := h.p.List(ctx)
	if err != nil || len(vms) != 2 {
		t.Errorf("listed %+v, %v", vms, err)
	}
	if _, err := h.p.Get(ctx, other); err != nil {
		t.Error(err)
	}
	if _, err := h.p.Check(ctx); err != nil {
		t.Error(err)
	}
	h.create(ctx, t, 3)
	h.delete(ctx, t, scaling.Ref{ID: id(3)})
	t.Logf("list, get, check, create and delete beside a hung QEMU: %v", time.Since(began))

	began = time.Now()
	h.delete(ctx, t, hung)
	t.Logf("a VM with a hung QEMU is deleted after %v", time.Since(began))
	testenv.Eventually(t, time.Minute, "the call that was left behind to return", func() error {
		if _, err := h.p.Get(ctx, hung); !scaling.IsNotFound(err) {
			return fmt.Errorf("get: %w", err)
		}
		return nil
	})
	h.delete(ctx, t, other)
}

func hungLibvirtd(t *testing.T, h *hostTest) {
	ctx := within(t, 4*time.Minute)
	_, ref := h.create(ctx, t, 1)
	if err := h.Libvirtd().Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Libvirtd().Signal(syscall.SIGCONT) })
	for range 3 {
		short, cancel := context.WithTimeout(ctx, time.Second)
		began := time.Now()
		_, err := h.p.List(short)
		cancel()
		if class := scaling.ClassOf(err); err == nil || class != scaling.Unknown && class != scaling.Temporary {
			t.Errorf("%v (%s)", err, class)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("a listing took %v", took)
		}
	}
	if err := h.Libvirtd().Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, "the host to be listed again", func() error {
		vms, err := h.p.List(ctx)
		if err == nil && len(vms) != 1 {
			err = fmt.Errorf("listed %+v", vms)
		}
		return err
	})
	h.delete(ctx, t, ref)
}

func killedLibvirtd(t *testing.T, h *hostTest) {
	ctx := within(t, 4*time.Minute)
	_, ref := h.create(ctx, t, 1)
	if err := h.StopLibvirtd(ctx, true); err != nil {
		t.Fatal(err)
	}
	_, err := h.p.List(ctx)
	wantClass(t, err, scaling.Temporary)
	if err := h.StartLibvirtd(ctx); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, time.Minute, "the VM to be listed again", func() error {
		vms, err := h.p.List(ctx)
		if err == nil && (len(vms) != 1 || vms[0].Power != scaling.PowerRunning) {
			err = fmt.Errorf("listed %+v", vms)
		}
		return err
	})
	h.create(ctx, t, 1)
	h.delete(ctx, t, ref)
}

func adoptedGoes(t *testing.T, h *hostTest) {
	ctx := within(t, 2*time.Minute)
	conn := h.connect(t)
	uuid := h.makeForeign(t, conn, "vm-test")
	nvram := h.Path("vm-test_VARS.fd")
	if err := os.WriteFile(nvram, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	shared := h.Path("shared.iso")
	if err := os.WriteFile(shared, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(shared) })
	dom, err := conn.LookupDomainByName("vm-test")
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Free()
	text, err := dom.GetXMLDesc(golibvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		t.Fatal(err)
	}
	text = strings.Replace(text, "</os>", "<loader readonly='yes' type='pflash'>/nowhere/code.fd</loader><nvram>"+nvram+"</nvram></os><features><acpi/></features>", 1)
	text = strings.Replace(text, "<devices>", "<devices><disk type='file' device='cdrom'><source file='"+shared+"'/><target dev='hda' bus='ide'/><readonly/></disk>", 1)
	redefined, err := conn.DomainDefineXML(text)
	if err != nil {
		t.Fatal(err)
	}
	defer redefined.Free()
	vm, err := h.p.Adopt(ctx, scaling.LaunchSpec{ID: id(7), Group: "web", Name: "vm-test"})
	if err != nil {
		t.Fatal(err)
	}
	if vm.UUID != uuid || !vm.Adopted {
		t.Errorf("adopted %+v", vm)
	}
	h.delete(ctx, t, scaling.Ref{ID: id(7), Adopted: true})
	if _, err := os.Stat(nvram); !os.IsNotExist(err) {
		t.Errorf("the NVRAM is still there: %v", err)
	}
	if _, err := os.Stat(shared); err != nil {
		t.Errorf("the CD image went too: %v", err)
	}
	if h.hasVolume(conn, "vm-test.qcow2") {
		t.Error("the disk is still there")
	}
}

func adoptedShared(t *testing.T, h *hostTest) {
	ctx := within(t, 2*time.Minute)
	conn := h.connect(t)
	h.makeForeign(t, conn, "vm-test")
	pool, err := conn.LookupStoragePoolByName(lab.PoolName)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Free()
	vol, err := pool.StorageVolCreateXML(`<volume><name>child.qcow2</name><capacity unit='MiB'>1</capacity><target><format type='qcow2'/></target>
<backingStore><path>`+h.Path(lab.PoolName, "vm-test.qcow2")+`</path><format type='qcow2'/></backingStore></volume>`, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer vol.Free()
	if _, err := h.p.Adopt(ctx, scaling.LaunchSpec{ID: id(7), Group: "web", Name: "vm-test"}); err != nil {
		t.Fatal(err)
	}
	ref := scaling.Ref{ID: id(7), Adopted: true}
	wantClass(t, h.p.Delete(ctx, ref), scaling.Conflict)
	if !h.hasVolume(conn, "vm-test.qcow2") {
		t.Error("the disk is gone")
	}
	if err := vol.Delete(0); err != nil {
		t.Fatal(err)
	}
	h.delete(ctx, t, ref)
}

func imageInUse(t *testing.T, h *hostTest) {
	ctx := within(t, 2*time.Minute)
	conn := h.connect(t)
	dom, err := conn.DomainDefineXML(`<domain type='qemu'><name>base-template</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='` + h.Path(lab.PoolName, "base.qcow2") + `'/><target dev='vda' bus='virtio'/></disk>
</devices></domain>`)
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Free()
	defer func() {
		if err := dom.Undefine(); err != nil {
			t.Errorf("undefine the template: %v", err)
		}
	}()
	s, ref := spec(1)
	_, err = h.p.Create(ctx, s)
	wantClass(t, err, scaling.Conflict)
	if _, err := h.p.Check(ctx); err == nil {
		t.Error("the check found nothing")
	}

	template := h.template(ctx)
	template.TemplateDomain = "base-template"
	if err := h.p.SetTemplates(map[string]libvirt.Template{"web": template}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.p.SetTemplates(map[string]libvirt.Template{"web": h.template(t.Context())}) })
	warnings, err := h.p.Check(ctx)
	if err != nil || !strings.Contains(strings.Join(warnings, "\n"), "never start it") {
		t.Errorf("warnings %q, %v", warnings, err)
	}
	h.create(ctx, t, 1)
	h.delete(ctx, t, ref)
	_, err = h.p.Adopt(ctx, scaling.LaunchSpec{ID: id(7), Group: "web", Name: "base-template"})
	wantClass(t, err, scaling.Conflict)

	if err := dom.Create(); err != nil {
		t.Fatal(err)
	}
	_, err = h.p.Create(ctx, s)
	wantClass(t, err, scaling.Conflict)
	if err := dom.Destroy(); err != nil {
		t.Fatal(err)
	}
}

func twoOwners(t *testing.T, h *hostTest) {
	ctx := within(t, 2*time.Minute)
	_, ref := h.create(ctx, t, 1)
	other := h.provider(t, "somebody-else", h.template(ctx))
	if vms, err := other.List(ctx); err != nil || len(vms) != 0 {
		t.Errorf("listed %+v, %v", vms, err)
	}
	wantClass(t, other.Delete(ctx, ref), scaling.Conflict)
	s, _ := spec(1)
	_, err := other.Create(ctx, s)
	wantClass(t, err, scaling.Conflict)
	_, err = other.Adopt(ctx, scaling.LaunchSpec{ID: id(9), Group: "web", Name: "web-1"})
	wantClass(t, err, scaling.Conflict)
	h.delete(ctx, t, ref)
}

func rangeUsedUp(t *testing.T, h *hostTest) {
	ctx := within(t, 2*time.Minute)
	template := h.template(ctx)
	template.Address = libvirt.Address{Source: libvirt.AddressRange, Range: "192.168.122.250-192.168.122.251", Prefix: 24}
	p := h.provider(t, owner, template)
	seen := map[string]bool{}
	for n := 1; n <= 2; n++ {
		s, _ := spec(n)
		if _, err := p.Create(ctx, s); err != nil {
			t.Fatal(err)
		}
		vm, err := p.Get(ctx, scaling.Ref{ID: s.ID})
		if err != nil || len(vm.Addresses) != 1 {
			t.Fatalf("%+v, %v", vm, err)
		}
		seen[vm.Addresses[0].String()] = true
	}
	if len(seen) != 2 {
		t.Errorf("addresses %v", seen)
	}
	s, _ := spec(3)
	_, err := p.Create(ctx, s)
	wantClass(t, err, scaling.Quota)
	for n := 1; n <= 3; n++ {
		h.delete(ctx, t, scaling.Ref{ID: id(n)})
	}
}
