//go:build e2e

package libvirt_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/provider/libvirt"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

func (h *hostTest) config() libvirt.Config {
	cfg := libvirt.DefaultConfig()
	cfg.URI = h.URI()
	return cfg
}

func TestImagesAreImportedAndBuiltAndGuarded(t *testing.T) {
	h := startHost(t, "prv-image")
	ctx := within(t, 10*time.Minute)
	base, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	use := func(t *testing.T, image string) *libvirt.Provider {
		t.Helper()
		template := h.template(ctx)
		template.Image = image
		return h.provider(t, owner, template)
	}

	t.Run("an import is read-only, recorded and not repeated", func(t *testing.T) {
		opts := libvirt.ImportOptions{File: base.Path, Pool: lab.PoolName, Name: "imported.qcow2"}
		for _, existed := range []bool{false, true} {
			image, err := libvirt.Import(ctx, h.config(), opts, h.log)
			if err != nil || image.Existed != existed || len(image.SHA256) != 64 {
				t.Fatalf("%+v, %v", image, err)
			}
		}
		path := h.Path(lab.PoolName, opts.Name)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o444 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		p := use(t, opts.Name)
		warnings, err := p.Check(ctx)
		if err != nil || len(warnings) != 0 {
			t.Errorf("check: %q, %v", warnings, err)
		}
		other := writeTemp(t, "other.qcow2", append(read(t, base.Path), 0))
		opts.File = other
		_, err = libvirt.Import(ctx, h.config(), opts, h.log)
		wantClass(t, err, scaling.Conflict)

		// Somebody changes it behind our back, before and while there are clones.
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		s, _ := spec(1)
		_, err = p.Create(ctx, s)
		wantClass(t, err, scaling.Permanent)
		if _, err := p.Check(ctx); err == nil || !strings.Contains(err.Error(), "was changed since its import") {
			t.Errorf("check: %v", err)
		}
	})

	t.Run("an image that changes under its clones is refused", func(t *testing.T) {
		_, ref := h.create(ctx, t, 1)
		path := h.Path(lab.PoolName, "base.qcow2")
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		s, _ := spec(2)
		_, err = h.p.Create(ctx, s)
		wantClass(t, err, scaling.Permanent)
		if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
			t.Fatal(err)
		}
		h.delete(ctx, t, ref)
	})

	t.Run("a file that is no image is refused", func(t *testing.T) {
		opts := libvirt.ImportOptions{File: writeTemp(t, "x.raw", make([]byte, 4096)), Pool: lab.PoolName, Name: "x.qcow2"}
		if _, err := libvirt.Import(ctx, h.config(), opts, h.log); err == nil || !strings.Contains(err.Error(), "no qcow2 image") {
			t.Errorf("%v", err)
		}
	})

	t.Run("a build boots once and leaves an image and nothing else", func(t *testing.T) {
		before := h.before(ctx, t)
		opts := libvirt.DefaultBuildOptions()
		opts.ImportOptions = libvirt.ImportOptions{File: base.Path, Pool: lab.PoolName, Name: "built.qcow2"}
		opts.UserData = writeTemp(t, "user-data", []byte("#!/bin/sh\npoweroff -f\n"))
		opts.Memory, opts.DomainType = 128<<20, libvirt.DomainType(h.DomainType(ctx))
		image, err := libvirt.Build(ctx, h.config(), opts, h.log)
		if err != nil {
			t.Fatal(err)
		}
		if warnings, err := use(t, opts.Name).Check(ctx); err != nil || len(warnings) != 0 {
			t.Errorf("check: %q, %v (%+v)", warnings, err, image)
		}
		after, err := h.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, left := range after.Left(before) {
			if !strings.HasSuffix(left, "built.qcow2") && !strings.HasSuffix(left, "built.qcow2.scalehook.json") && !strings.Contains(left, "lease") {
				t.Errorf("left behind: %s", left)
			}
		}
	})

	t.Run("a build whose guest does not stop is cleaned up", func(t *testing.T) {
		before := h.before(ctx, t)
		opts := libvirt.DefaultBuildOptions()
		opts.ImportOptions = libvirt.ImportOptions{File: base.Path, Pool: lab.PoolName, Name: "never.qcow2"}
		opts.UserData = writeTemp(t, "user-data", []byte("#!/bin/sh\ntrue\n"))
		opts.Memory, opts.DomainType = 128<<20, libvirt.DomainType(h.DomainType(ctx))
		short, cancel := context.WithTimeout(ctx, 8*time.Second)
		defer cancel()
		if _, err := libvirt.Build(short, h.config(), opts, h.log); err == nil {
			t.Error("the build succeeded")
		}
		h.left(ctx, t, before)
	})
}

func TestDHCPRangeThatIsFullIsAnErrorThatSaysSo(t *testing.T) {
	h := startHost(t, "prv-dhcp")
	ctx := within(t, 8*time.Minute)
	conn := h.connect(t)
	net, err := conn.NetworkCreateXML(`<network><name>small</name><bridge name='prvsmall'/><ip address='192.168.123.1' netmask='255.255.255.0'>
<dhcp><range start='192.168.123.2' end='192.168.123.2'/></dhcp></ip></network>`)
	if err != nil {
		t.Fatal(err)
	}
	defer net.Free()
	defer net.Destroy()
	template := h.template(ctx)
	template.Network = "small"
	p := h.provider(t, owner, template)
	s, ref := spec(1)
	if _, err := p.Create(ctx, s); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 4*time.Minute, "a lease", func() error {
		vm, err := p.Get(ctx, ref)
		if err == nil && len(vm.Addresses) == 0 {
			err = errors.New("none yet")
		}
		return err
	})
	s2, _ := spec(2)
	_, err = p.Create(ctx, s2)
	wantClass(t, err, scaling.Quota)
	if err == nil || !strings.Contains(err.Error(), "its DHCP range is full (1 leases for 1 addresses)") {
		t.Errorf("%v", err)
	}

	// A guest without an agent has no address by it, and holds nothing up.
	template = h.template(ctx)
	template.Address = libvirt.Address{Source: libvirt.AddressAgent}
	agent := h.provider(t, "another", template)
	s3, ref3 := spec(3)
	if _, err := agent.Create(ctx, s3); err != nil {
		t.Fatal(err)
	}
	if vm, err := agent.Get(ctx, ref3); err != nil || len(vm.Addresses) != 0 {
		t.Errorf("%+v, %v", vm, err)
	}
	if err := agent.Delete(ctx, ref3); err != nil {
		t.Error(err)
	}
	if err := p.Delete(ctx, ref); err != nil {
		t.Error(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func writeTemp(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := t.TempDir() + "/" + name
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
