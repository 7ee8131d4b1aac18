//go:build e2e

package libvirt_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	golibvirt "libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/provider/libvirt"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

// TestAVMStartedByHandOnTheBaseImageIsRefused starts a VM on the image while a
// clone of it runs, as somebody might by mistake: QEMU itself has to refuse.
func TestAVMStartedByHandOnTheBaseImageIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		conf map[string]string
		want string
	}{
		"QEMU as libvirt-qemu, as distributions have it": {map[string]string{
			"user": `"libvirt-qemu"`, "group": `"libvirt-qemu"`, "dynamic_ownership": "1", "remember_owner": "1",
		}, "Permission denied"},
		// The mode does not keep root out; that a clone runs does.
		"QEMU as root": {nil, `Failed to get "write" lock`},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHost(t, "prv-base")
			ctx := within(t, 8*time.Minute)
			h.reconfigure(ctx, t, c.conf)
			baseIsRefused(ctx, t, h, c.want)
		})
	}
}

// reconfigure changes settings of QEMU's driver and starts libvirtd again.
func (h *hostTest) reconfigure(ctx context.Context, t *testing.T, settings map[string]string) {
	t.Helper()
	if len(settings) == 0 {
		return
	}
	file := h.Path("etc", "qemu.conf")
	text := string(read(t, file))
	for key, value := range settings {
		line := regexp.MustCompile(`(?m)^` + key + ` = .*$`)
		if !line.MatchString(text) {
			t.Fatalf("%s has no %s", file, key)
		}
		text = line.ReplaceAllString(text, key+" = "+value)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := h.StopLibvirtd(ctx, false); err != nil {
		t.Fatal(err)
	}
	if err := h.StartLibvirtd(ctx); err != nil {
		t.Fatal(err)
	}
}

func baseIsRefused(ctx context.Context, t *testing.T, h *hostTest, want string) {
	built, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := libvirt.Import(ctx, h.config(), libvirt.ImportOptions{File: built.Path, Pool: lab.PoolName, Name: "imported.qcow2"}, h.log); err != nil {
		t.Fatal(err)
	}
	image := h.Path(lab.PoolName, "imported.qcow2")
	sum := sha256.Sum256(read(t, image))
	template := h.template(ctx)
	template.Image = "imported.qcow2"
	p := h.provider(t, owner, template)
	s, ref := spec(1)
	testenv.Eventually(t, time.Minute, "the restarted libvirtd to make a clone", func() error {
		_, err := p.Create(ctx, s)
		return err
	})

	conn := h.connect(t)
	dom, err := conn.DomainDefineXML(`<domain type='qemu'><name>by-hand</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type arch='x86_64'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='` + image + `'/><target dev='vda' bus='virtio'/></disk>
</devices></domain>`)
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Free()
	defer func() {
		if active, err := dom.IsActive(); err == nil && active {
			dom.Destroy()
		}
		if err := dom.Undefine(); err != nil && !strings.Contains(err.Error(), "Domain not found") {
			t.Error(err)
		}
	}()
	err = dom.Create()
	t.Logf("the start by hand: %v", err)
	if e, ok := errors.AsType[golibvirt.Error](err); !ok || !strings.Contains(e.Message, want) {
		t.Errorf("a VM was started on the image, want %q: %v", want, err)
	}
	info, err := os.Stat(image)
	if err != nil || info.Mode().Perm() != 0o444 || sha256.Sum256(read(t, image)) != sum {
		t.Errorf("the image was changed: %v, %v", info.Mode(), err)
	}

	// As long as it is defined nothing more is cloned, since the mode is the user's
	// to change; the clone that runs is not disturbed.
	second, _ := spec(2)
	_, err = p.Create(ctx, second)
	wantClass(t, err, scaling.Conflict)
	if _, err := p.Check(ctx); err == nil || !strings.Contains(err.Error(), `is the disk of domain "by-hand", which could be started`) {
		t.Errorf("check: %v", err)
	}
	if vm, err := p.Get(ctx, ref); err != nil || vm.Power != scaling.PowerRunning {
		t.Errorf("the clone: %+v, %v", vm, err)
	}
	if err := dom.Undefine(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Create(ctx, second); err != nil {
		t.Error(err)
	}
	if _, err := p.Check(ctx); err != nil {
		t.Errorf("check: %v", err)
	}
	for n := 1; n <= 2; n++ {
		if err := p.Delete(ctx, scaling.Ref{ID: id(n)}); err != nil {
			t.Error(err)
		}
	}
}
