//go:build e2e

package libvirt_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	golibvirt "libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/provider/libvirt"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

const owner = "owner-of-the-tests"

// hostTest is a real libvirtd with the demo guest's image, and a provider for it.
type hostTest struct {
	*lab.Lab
	p   *libvirt.Provider
	log *slog.Logger
}

func startHost(t *testing.T, name string) *hostTest {
	t.Helper()
	return startHostWith(t, name, guest.BuildOptions{})
}

// startHostWith is startHost with a choice of the guest's image.
func startHostWith(t *testing.T, name string, opts guest.BuildOptions) *hostTest {
	t.Helper()
	requirements := []testenv.Requirement{testenv.Root}
	for _, program := range append(lab.Programs(), guest.Programs()...) {
		requirements = append(requirements, testenv.Program(program))
	}
	testenv.Need(t, requirements...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	h := &hostTest{log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	image, err := guest.Build(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	if h.Lab, err = lab.Start(ctx, lab.Options{Name: name, Log: h.log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	if _, err := h.UploadImage(ctx, "base.qcow2", image.Path); err != nil {
		t.Fatal(err)
	}
	h.p = h.provider(t, owner, h.template(ctx))
	return h
}

func (h *hostTest) template(ctx context.Context) libvirt.Template {
	t := libvirt.DefaultTemplate()
	t.Image, t.Pool, t.Memory = "base.qcow2", lab.PoolName, 128<<20
	t.DomainType = libvirt.DomainType(h.DomainType(ctx))
	t.Cache = "unsafe"
	t.CloudInit = &libvirt.CloudInit{}
	return t
}

func (h *hostTest) provider(t *testing.T, owner string, template libvirt.Template) *libvirt.Provider {
	t.Helper()
	cfg := libvirt.DefaultConfig()
	cfg.URI, cfg.KeepAliveInterval, cfg.KeepAliveCount = h.URI(), time.Second, 2
	p, err := libvirt.New(cfg, owner, map[string]libvirt.Template{"web": template}, h.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// left compares what exists with an earlier moment.
func (h *hostTest) left(ctx context.Context, t *testing.T, before lab.Snapshot) {
	t.Helper()
	after, err := h.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if left := after.Left(before); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func (h *hostTest) before(ctx context.Context, t *testing.T) lab.Snapshot {
	t.Helper()
	s, err := h.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (h *hostTest) connect(t *testing.T) *golibvirt.Connect {
	t.Helper()
	conn, err := golibvirt.NewConnect(h.URI())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// awaitAddress waits until the provider knows an address of the VM and a guest
// with that name answers there.
func (h *hostTest) awaitAddress(ctx context.Context, t *testing.T, ref scaling.Ref) scaling.VM {
	t.Helper()
	var vm scaling.VM
	testenv.Eventually(t, 4*time.Minute, "the address of "+ref.Name, func() error {
		var err error
		if vm, err = h.p.Get(ctx, ref); err != nil {
			return err
		}
		if len(vm.Addresses) == 0 {
			return fmt.Errorf("%s has no address", vm.Name)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+vm.Addresses[0].String()+"/health", nil)
		if err != nil {
			return err
		}
		response, err := h.HTTPClient().Do(req)
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
	return vm
}

func id(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", n) }

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestThreeVMsAreMadeAtOnceServeStopAndLeaveNothing(t *testing.T) {
	h := startHost(t, "prv-three")
	ctx := within(t, 8*time.Minute)
	before := h.before(ctx, t)
	began := time.Now()
	errs := make(chan error, 3)
	for n := 1; n <= 3; n++ {
		go func() {
			_, err := h.p.Create(ctx, scaling.LaunchSpec{ID: id(n), Group: "web", Name: fmt.Sprintf("web-%d", n), Number: n})
			errs <- err
		}()
	}
	for range 3 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("three creates returned after %v", time.Since(began))
	for n := 1; n <= 3; n++ {
		vm := h.awaitAddress(ctx, t, scaling.Ref{ID: id(n), Name: fmt.Sprintf("web-%d", n)})
		t.Logf("%s answers at %v after %v", vm.Name, vm.Addresses, time.Since(began))
	}
	vms, err := h.p.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, vm := range vms {
		names = append(names, vm.Name)
	}
	if diff := cmp.Diff("web-1 web-2 web-3", strings.Join(names, " ")); diff != "" {
		t.Error(diff)
	}
	for n := 1; n <= 3; n++ {
		ref := scaling.Ref{ID: id(n), Name: fmt.Sprintf("web-%d", n)}
		if err := h.p.Shutdown(ctx, ref, false); err != nil {
			t.Error(err)
		}
	}
	for n := 1; n <= 3; n++ {
		ref := scaling.Ref{ID: id(n)}
		testenv.Eventually(t, 2*time.Minute, "the guest to stop", func() error {
			vm, err := h.p.Get(ctx, ref)
			if err == nil && vm.Power != scaling.PowerStopped {
				err = fmt.Errorf("%s is %s", vm.Name, vm.Power)
			}
			return err
		})
		if err := h.p.Delete(ctx, ref); err != nil {
			t.Error(err)
		}
	}
	h.left(ctx, t, before)
}

// hostname asks the demo guest for its name.
func (h *hostTest) hostname(ctx context.Context, t *testing.T, vm scaling.VM) string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+vm.Addresses[0].String()+"/echo?id=hostname", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := h.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.Header.Get("X-Guest")
}
