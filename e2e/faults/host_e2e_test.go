//go:build e2e

package faults_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	golibvirt "libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/testenv"
)

const (
	// guestImage boots, takes an address by DHCP and serves.
	guestImage = "guest.qcow2"
	// haltImage does nothing at all, and costs next to nothing. Its VMs can be made
	// and removed like any other; their addresses are given to them (source: range)
	// and answered by the lab.
	haltImage = "halt.qcow2"

	serverAddress     = "127.0.0.1:10070"
	prometheusAddress = "127.0.0.1:9090"
)

// host is a lab with a real libvirtd.
type host struct{ *lab.Lab }

func newHost(t *testing.T) *host {
	t.Helper()
	requirements := []testenv.Requirement{testenv.Root, testenv.Program("prometheus"), testenv.Program("qemu-img")}
	for _, p := range append(lab.Programs(), guest.Programs()...) {
		requirements = append(requirements, testenv.Program(p))
	}
	testenv.Need(t, requirements...)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	// A guest that gets no CPU looks like one that hangs.
	l, err := lab.Start(ctx, lab.Options{Name: "faults", Isolated: true, GuestNice: -10})
	if err != nil {
		t.Fatal(err)
	}
	h := &host{l}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	img, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]string{guestImage: img.Path, haltImage: haltDisk(t, 1<<20)} {
		if _, err := l.UploadImage(ctx, name, file); err != nil {
			t.Fatal(err)
		}
	}
	// A source that can confirm is what the right to replace by itself depends on.
	config := l.Path("prometheus.yml")
	write(t, config, "global: {scrape_interval: 1s}\n")
	if _, err := l.StartPrometheus(ctx, lab.PrometheusOptions{ConfigFile: config, Listen: prometheusAddress}); err != nil {
		t.Fatal(err)
	}
	h.answer(ctx, t)
	return h
}

// answer gives the lab all addresses of the range that halting VMs have, and
// accepts connections there.
func (h *host) answer(ctx context.Context, t *testing.T) {
	t.Helper()
	if out, err := h.Command(ctx, "ip", "route", "add", "local", "10.77.0.0/16", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("route: %v: %s", err, out)
	}
	ln, err := h.Listen(ctx, "tcp", "0.0.0.0:80")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
}

// haltDisk makes a qcow2 file whose boot sector halts the processor for good.
func haltDisk(t *testing.T, size int) string {
	t.Helper()
	const cli, hlt, jmp, back3 = 0xfa, 0xf4, 0xeb, 0xfd
	sector := make([]byte, size)
	copy(sector, []byte{cli, hlt, jmp, back3})
	sector[510], sector[511] = 0x55, 0xaa
	raw, disk := filepath.Join(t.TempDir(), "halt.img"), filepath.Join(t.TempDir(), haltImage)
	if err := os.WriteFile(raw, sector, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), testenv.Path(t, "qemu-img"), "convert", "-f", "raw", "-O", "qcow2", raw, disk).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	return disk
}

// halting is the template of VMs that halt, with addresses from a range.
func halting(image, pool, addresses string) string {
	return fmt.Sprintf("{image: %s, image_pool: %s, pool: %s, memory: 16MiB, domain_type: qemu, network: %s, console: none, cloud_init: {}, "+
		"address: {source: range, range: %s, prefix: 16, gateway: 10.77.255.254}}", image, lab.PoolName, pool, lab.NetworkName, addresses)
}

// manyAddresses are enough for every test.
const manyAddresses = "10.77.0.1-10.77.0.99"

// config is one group on the host and, for comparison, one on simulated VMs. What
// more says of the group comes last and counts.
func (h *host) config(template string, more ...string) string {
	lines := map[string]string{
		"mode": "full", "min": "0", "max": "3", "provider": "host", "balancer": "tcp", "cooldown": "0s", "warm_up": "0s",
		"backoff_min": "1h", "backoff_max": "1h", "drain_deadline": "100ms", "shutdown_deadline": "200ms",
		"name": strconv.Quote("web-{n}"), "template": template,
	}
	for _, m := range more {
		key, value, _ := strings.Cut(m, ": ")
		lines[key] = value
	}
	var text []string
	for key, value := range lines {
		text = append(text, "    "+key+": "+value)
	}
	slices.Sort(text)
	return fmt.Sprintf(`owner: faults
monitoring: {scrape_interval: 1s, evaluation_interval: 1s, rate_window: 4s}
prometheus: {url: "http://%s"}
providers:
  host: {libvirt: {uri: %q, reserve_memory: 16MiB, reserve_disk: 1MiB, keepalive_interval: 1s, keepalive_count: 2}}
  sim: {simulated: {boot_time: 100ms, shutdown_time: 100ms, drain_time: 100ms}}
balancers:
  tcp: {direct: {check: {interval: 200ms, timeout: 2s}}}
  http: {direct: {check: {type: http, path: /health, interval: 500ms, timeout: 4s}}}
  sim: {simulated: {provider: sim}}
groups:
  other: {mode: full, min: 0, max: 2, provider: sim, balancer: sim, cooldown: 0s, warm_up: 0s}
  web:
%s
`, prometheusAddress, h.URI(), strings.Join(text, "\n"))
}

// start starts a server in the lab.
func (h *host) start(t *testing.T, config string) *server {
	t.Helper()
	s := newServer(t, place{h.Command, h.HTTPClient()}, serverAddress, config)
	s.start()
	return s
}

// with is the server in the hands of a subtest.
func (s *server) with(t *testing.T) *server {
	c := *s
	c.t = t
	return &c
}

// snapshot is what there is of VMs, DHCP leases aside: those of a guest that died
// end by themselves.
func (h *host) snapshot(t *testing.T) lab.Snapshot {
	t.Helper()
	s, err := h.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Leases = nil
	return s
}

// same compares what there is with an earlier moment.
func (h *host) same(t *testing.T, before lab.Snapshot) {
	t.Helper()
	if diff := cmp.Diff(before, h.snapshot(t)); diff != "" {
		t.Errorf("the host has other things than before (-before +after):\n%s", diff)
	}
}

// each fails unless there is exactly one VM for each instance.
func (h *host) each(t *testing.T, s *server) {
	t.Helper()
	var want, got []string
	for _, i := range s.view(group).Instances {
		want = append(want, i.Name+" "+i.UUID)
	}
	h.connected(t, func(c *golibvirt.Connect) error {
		all, err := c.ListAllDomains(golibvirt.CONNECT_LIST_DOMAINS_RUNNING)
		if err != nil {
			return err
		}
		for k := range all {
			name, err := all[k].GetName()
			if err != nil {
				return err
			}
			uuid, err := all[k].GetUUIDString()
			if err != nil {
				return err
			}
			got = append(got, name+" "+uuid)
			_ = all[k].Free()
		}
		return nil
	})
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("not one VM for each instance (-instances +running VMs):\n%s", diff)
	}
}

func (h *host) connected(t *testing.T, do func(*golibvirt.Connect) error) {
	t.Helper()
	c, err := golibvirt.NewConnect(h.URI())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := do(c); err != nil {
		t.Fatal(err)
	}
}

// qemu returns the process id of a VM's QEMU.
func (h *host) qemu(t *testing.T, name string) int {
	t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range processes {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "guest="+name+",") || !strings.Contains(string(text), h.Path(lab.PoolName)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatalf("no QEMU runs %s", name)
	return 0
}

// startLibvirtd starts it again.
func (h *host) startLibvirtd(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.StartLibvirtd(ctx); err != nil {
		t.Fatal(err)
	}
}

// stopLibvirtd ends it, by a crash or in peace. VMs run on.
func (h *host) stopLibvirtd(t *testing.T, crash bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := h.StopLibvirtd(ctx, crash); err != nil {
		t.Fatal(err)
	}
}
