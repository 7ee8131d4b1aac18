//go:build e2e

package faults_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	golibvirt "libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/api"
)

// TestLibvirtFaults shares one lab. Each fault begins and ends with an empty group.
func TestLibvirtFaults(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	before := h.snapshot(t)
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *host)
	}{
		{"libvirtd hangs", libvirtdHangs},
		{"libvirtd is gone", libvirtdGone},
		{"a guest never boots", neverBoots},
		{"a guest never gets healthy", neverHealthy},
		{"the base image is missing", imageMissing},
		{"the base image is replaced", imageReplaced},
		{"the storage is full", storageFull},
		{"the address range is used up", rangeUsedUp},
	} {
		ok := t.Run(tt.name, func(t *testing.T) {
			tt.run(t, h)
			if !t.Failed() {
				h.same(t, before)
			}
		})
		if !ok {
			h.clear(t)
		}
	}

	// These use the same two guests, which boot, serve and can be asked.
	guests := fmt.Sprintf("{image: %s, pool: %s, network: %s, memory: 128MiB, domain_type: %s, cache: unsafe, cloud_init: {}}",
		guestImage, lab.PoolName, lab.NetworkName, h.DomainType(t.Context()))
	s := h.start(t, h.config(guests, "balancer: http", "grace: 15s", "shutdown_deadline: 8s", "call_deadline: 15s"))
	if t.Run("libvirtd is restarted in mid-launch", func(t *testing.T) { libvirtdRestarted(t, h, s.with(t)) }) {
		t.Run("a guest dies in service", func(t *testing.T) { guestDies(t, h, s.with(t)) })
		t.Run("a QEMU hangs", func(t *testing.T) { qemuHangs(t, h, s.with(t)) })
	}
	s.desired(0)
	s.await("all guests are removed", serving(0))
	h.same(t, before)
	if err := s.process.Stop(); err != nil {
		t.Fatal(err)
	}
	t.Run("a group is released and taken back under load", func(t *testing.T) { released(t, h, guests) })
	h.same(t, before)
}

// empty removes every instance.
func (s *server) empty() {
	s.t.Helper()
	s.desired(0)
	s.await("all are removed", serving(0))
}

// clear takes away what a failed test left, so that one failure is not all of them.
func (h *host) clear(t *testing.T) {
	t.Helper()
	h.connected(t, func(c *golibvirt.Connect) error {
		all, err := c.ListAllDomains(0)
		if err != nil {
			return err
		}
		for k := range all {
			_ = all[k].Destroy() // it may be off
			if err := all[k].Undefine(); err != nil {
				return err
			}
			_ = all[k].Free()
		}
		return nil
	})
}

func libvirtdHangs(t *testing.T, h *host) {
	s := h.start(t, h.config(halting(haltImage, lab.PoolName, manyAddresses), "call_deadline: 5s"))
	h.hang(t)
	s.desired(2)
	s.desiredOf("other", 2)
	s.awaitOf("other", "the group on another provider goes on", serving(2))
	g := s.await("the group on the host is degraded, and waits", all(status("degraded"), problem("provider host"), func(g api.Group) error {
		for _, a := range g.Activities {
			if k := len(a.Steps) - 1; k < 0 || a.Steps[k].Tries == 0 {
				return fmt.Errorf("activity %s has not tried and failed: %+v", a.ID, a.Steps)
			}
		}
		return nil
	}))
	if len(g.Activities) != 2 || g.InService != 0 {
		t.Errorf("%d launches and %d in service, want 2 launches that wait", len(g.Activities), g.InService)
	}
	h.wake(t)
	s.await("the launches are finished", all(serving(2), noStatus("degraded")))
	if diff := cmp.Diff([]string{"scale_out done", "scale_out done"}, s.sinceThen(0)); diff != "" {
		t.Error(diff)
	}
	h.each(t, s)
	s.empty()
}

// hang stops libvirtd in its tracks.
func (h *host) hang(t *testing.T) {
	t.Helper()
	if err := h.Libvirtd().Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Libvirtd().Signal(syscall.SIGCONT) })
}

func (h *host) wake(t *testing.T) {
	t.Helper()
	if err := h.Libvirtd().Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func libvirtdGone(t *testing.T, h *host) {
	s := h.start(t, h.config(halting(haltImage, lab.PoolName, manyAddresses), "grace: 1s"))
	s.desired(2)
	was := s.await("two instances in service", serving(2))
	h.stopLibvirtd(t, true)
	s.desired(3)
	g := s.await("an order waits, and the group is degraded", all(status("degraded"), problem("provider host"), state("web-3", "creating")))
	for _, name := range []string{"web-1", "web-2"} {
		i := instance(g, name)
		if i.State != "in_service" || i.Suspect != "" || i.Member == nil || i.Member.Health != "up" {
			t.Errorf("without libvirtd: %+v", i)
		}
	}
	h.startLibvirtd(t)
	g = s.await("the order is followed", all(serving(3), noStatus("degraded")))
	for _, i := range was.Instances {
		if instance(g, i.Name).UUID != i.UUID {
			t.Errorf("%s is another VM than before", i.Name)
		}
	}
	h.each(t, s)
	if diff := cmp.Diff([]string{"scale_out done", "scale_out done", "scale_out done"}, s.sinceThen(0)); diff != "" {
		t.Error(diff)
	}
	s.empty()
}

// refused waits until the one launch that was begun after the first n activities
// is undone, for a reason.
func (s *server) refused(n int, reasons ...string) api.Activity {
	s.t.Helper()
	s.await("the launch is undone", func(g api.Group) error {
		if len(s.activities()) <= n || len(g.Activities) > 0 || s.last().Ended.IsZero() {
			return errors.New("it has not ended")
		}
		return nil
	})
	a := s.last()
	if got := s.sinceThen(n); !cmp.Equal(got, []string{"scale_out undone"}) {
		s.t.Errorf("it ended as %v", got)
	}
	for _, reason := range reasons {
		if !strings.Contains(a.Outcome, reason) {
			s.t.Errorf("the outcome does not say %q: %s", reason, a.Outcome)
		}
	}
	return a
}

// backsOff fails unless the next launch waits.
func (s *server) backsOff() {
	s.t.Helper()
	g := s.view(group)
	if g.Failures != 1 || g.BackoffUntil.IsZero() {
		s.t.Errorf("after a launch that failed: %d failures, back-off until %s", g.Failures, g.BackoffUntil)
	}
	if err := status("degraded")(g); err != nil {
		s.t.Error(err)
	}
}

func neverBoots(t *testing.T, h *host) {
	before := h.snapshot(t)
	template := fmt.Sprintf("{image: %s, pool: %s, memory: 16MiB, domain_type: qemu, network: %s, console: none, cloud_init: {}}",
		haltImage, lab.PoolName, lab.NetworkName)
	s := h.start(t, h.config(template, "launch_deadline: 25s", "call_deadline: 20s"))
	s.desired(1)
	s.refused(0, "launch deadline of 25s passed while booting: no address")
	s.backsOff()
	h.same(t, before)
}

func neverHealthy(t *testing.T, h *host) {
	before := h.snapshot(t)
	s := h.start(t, h.config(halting(haltImage, lab.PoolName, manyAddresses), "launch_deadline: 15s", "call_deadline: 10s", "port: 81"))
	s.desired(1)
	s.refused(0, "launch deadline of 15s passed while joining: health is down")
	s.backsOff()
	h.same(t, before)
}

// ownImage uploads an image for one test.
func (h *host) ownImage(t *testing.T, name string) (path string) {
	t.Helper()
	path, err := h.UploadImage(t.Context(), name, haltDisk(t, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// serveOne begins a test with one instance in service, which has to be the same
// at its end.
func (s *server) serveOne() api.Group {
	s.t.Helper()
	s.desired(1)
	return s.await("one instance in service", serving(1))
}

func (s *server) untouched(was api.Group) {
	s.t.Helper()
	g := s.view(group)
	for _, i := range was.Instances {
		if now := instance(g, i.Name); now.UUID != i.UUID || now.State != "in_service" || now.Suspect != "" {
			s.t.Errorf("%s was touched: %+v", i.Name, now)
		}
	}
}

func imageMissing(t *testing.T, h *host) {
	path := h.ownImage(t, "own.qcow2")
	t.Cleanup(func() { _ = os.Remove(path) })
	s := h.start(t, h.config(halting("own.qcow2", lab.PoolName, manyAddresses)))
	was := s.serveOne()
	aside := filepath.Join(h.Dir(), "own.qcow2")
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	before := h.snapshot(t)
	s.desired(2)
	s.refused(1, `image "own.qcow2" is not in pool "images"`, "it has guest.qcow2, halt.qcow2")
	s.backsOff()
	s.untouched(was)
	h.same(t, before)

	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
	s.desired(2)
	s.await("launches go on with the image", all(serving(2), noStatus("degraded")))
	s.empty()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func imageReplaced(t *testing.T, h *host) {
	path := h.ownImage(t, "own2.qcow2")
	t.Cleanup(func() { _ = os.Remove(path) })
	s := h.start(t, h.config(halting("own2.qcow2", lab.PoolName, manyAddresses)))
	was := s.serveOne()
	other, err := os.ReadFile(haltDisk(t, 2<<20))
	if err != nil {
		t.Fatal(err)
	}
	// The guest that runs keeps the old file open, as with any rename.
	write(t, path+".new", string(other))
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	before := h.snapshot(t)
	s.desired(2)
	s.refused(1, "was changed or replaced since instance", "give a new image a new name")
	s.backsOff()
	s.untouched(was)
	h.same(t, before)
	s.empty()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// noCapacity fails unless the group says that the provider has no room.
func (s *server) noCapacity(text string) {
	s.t.Helper()
	if err := all(status("no_capacity"), problem(text))(s.view(group)); err != nil {
		s.t.Errorf("%v; %s", err, describe(s.view(group)))
	}
}

func storageFull(t *testing.T, h *host) {
	// A file system of its own, which only the lab sees.
	folder := h.Path("small")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	pid := h.Libvirtd().PID()
	mount := h.Command(t.Context(), "nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", pid), "mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder)
	if out, err := mount.CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	inside := filepath.Join("/proc", strconv.Itoa(pid), "root", folder)
	h.connected(t, func(c *golibvirt.Connect) error {
		p, err := c.StoragePoolCreateXML(fmt.Sprintf("<pool type='dir'><name>small</name><target><path>%s</path></target></pool>", folder), 0)
		if err != nil {
			return err
		}
		return p.Free()
	})
	defer h.connected(t, func(c *golibvirt.Connect) error {
		p, err := c.LookupStoragePoolByName("small")
		if err != nil {
			return err
		}
		return errors.Join(p.Destroy(), p.Free())
	})

	s := h.start(t, h.config(halting(haltImage, "small", manyAddresses)))
	was := s.serveOne()
	filler := filepath.Join(inside, "filler")
	fill(t, filler)
	before, files := h.snapshot(t), names(t, inside)
	s.desired(2)
	s.refused(1, `pool "small" has 0MiB free`)
	s.backsOff()
	s.noCapacity(`no room: create "web-2"`)
	s.untouched(was)
	h.same(t, before)
	if diff := cmp.Diff(files, names(t, inside)); diff != "" {
		t.Errorf("the full pool has other files than before (-before +after):\n%s", diff)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s.desired(2)
	s.await("launches go on when there is room", all(serving(2), noStatus("degraded"), noStatus("no_capacity")))
	s.empty()
	if left := names(t, inside); len(left) > 0 {
		t.Errorf("left in the pool: %v", left)
	}
}

// fill writes a file until nothing more fits.
func fill(t *testing.T, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func names(t *testing.T, folder string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func rangeUsedUp(t *testing.T, h *host) {
	s := h.start(t, h.config(halting(haltImage, lab.PoolName, "10.77.9.1-10.77.9.1")))
	was := s.serveOne()
	before := h.snapshot(t)
	s.desired(2)
	s.refused(1, "address range 10.77.9.1-10.77.9.1 is used up: all 1 addresses belong to VMs")
	s.backsOff()
	s.noCapacity("is used up")
	s.untouched(was)
	h.same(t, before)
	s.empty()
	s.desired(1)
	s.await("the address is free again", all(serving(1), noStatus("degraded"), noStatus("no_capacity")))
	s.empty()
}

// libvirtdRestarted leaves two guests in service.
func libvirtdRestarted(t *testing.T, h *host, s *server) {
	h.hang(t) // so that the kill below comes in the middle of a call
	s.desired(2)
	s.await("both launches wait in a call", all(state("web-1", "creating"), state("web-2", "creating")))
	h.stopLibvirtd(t, true)
	h.startLibvirtd(t)
	s.await("a guest boots", func(g api.Group) error {
		for _, i := range g.Instances {
			if i.State == "booting" {
				return nil
			}
		}
		return errors.New("none boots")
	})
	h.stopLibvirtd(t, false)
	h.startLibvirtd(t)
	s.await("both guests are in service", serving(2))
	if diff := cmp.Diff([]string{"scale_out done", "scale_out done"}, s.sinceThen(0)); diff != "" {
		t.Error(diff)
	}
	h.each(t, s)
}

// replaced waits until one guest was replaced by another, beside which the third
// served on.
func (s *server) replaced(h *host, gone, stays, comes string) {
	s.t.Helper()
	was := instance(s.view(group), stays)
	before := len(s.activities())
	s.await(gone+" is unwell, and "+stays+" is not", func(g api.Group) error {
		if i := instance(g, stays); i.State != "in_service" || i.Suspect != "" {
			return fmt.Errorf("%s is %s %s", stays, i.State, i.Suspect)
		}
		if i := instance(g, gone); i.State == "in_service" && i.Suspect == "" {
			return fmt.Errorf("%s is well", gone)
		}
		return nil
	})
	g := s.await(gone+" is replaced", all(serving(2), state(comes, "in_service")))
	if now := instance(g, stays); now.UUID != was.UUID || now.State != "in_service" {
		s.t.Errorf("%s was touched: %+v", stays, now)
	}
	kinds := s.sinceThen(before)
	slices.Sort(kinds) // both begin in the same moment where there is room for both
	if diff := cmp.Diff([]string{"fill done", "replace done"}, kinds); diff != "" {
		s.t.Error(diff)
	}
	h.each(s.t, s)
}

func guestDies(t *testing.T, h *host, s *server) {
	if err := syscall.Kill(h.qemu(t, "web-1"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	s.replaced(h, "web-1", "web-2", "web-3")
}

func qemuHangs(t *testing.T, h *host, s *server) {
	pid := h.qemu(t, "web-2")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // it is gone unless the test failed
	s.replaced(h, "web-2", "web-3", "web-4")
}
