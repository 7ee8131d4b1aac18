//go:build e2e

package crash_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	golibvirt "libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/testenv"
)

const (
	// markURI is the namespace of scalehook's mark in a domain's metadata.
	markURI = "https://github.com/scalehook/scalehook/xmlns/instance/1"
	// haltImage is the volume that the VMs are clones of.
	haltImage = "halt.qcow2"
)

// libvirtStage is a private libvirtd with real VMs whose guest is a boot sector
// that halts: they are made, started, powered off and removed as any other VM,
// and cost next to nothing. Their addresses are given to them (address: range)
// and answered by the lab itself. Runs share it: each has a storage pool and a
// prefix of its own.
//
// libvirt's test driver cannot take the place of QEMU here: it knows neither
// uploads nor downloads of volumes (the seed), neither DHCP leases nor a host's
// free memory nor the capabilities of its domains, and its objects are gone as
// soon as the last connection closes, which the kill may be.
type libvirtStage struct {
	lab  *lab.Lab
	conn *golibvirt.Connect

	mu     sync.Mutex
	leases []lease
}

// lease is an entry of the file in which libvirt keeps a network's leases.
type lease struct {
	Address string `json:"ip-address"`
	MAC     string `json:"mac-address"`
	Expiry  int64  `json:"expiry-time"`
}

func newLibvirtStage(t *testing.T) *libvirtStage {
	t.Helper()
	requirements := []testenv.Requirement{testenv.Root, testenv.Program("qemu-img")}
	for _, program := range lab.Programs() {
		requirements = append(requirements, testenv.Program(program))
	}
	testenv.Need(t, requirements...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Name: "crash", Isolated: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	st := &libvirtStage{lab: l}
	if st.conn, err = golibvirt.NewConnect(l.URI()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = st.conn.Close() })
	if _, err := l.UploadImage(ctx, haltImage, haltDisk(t)); err != nil {
		t.Fatal(err)
	}
	// Every address of the range, and the baselines', are the lab's own.
	if out, err := l.Command(ctx, "ip", "route", "add", "local", "10.77.0.0/16", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("route: %v: %s", err, out)
	}
	ln, err := l.Listen(ctx, "tcp", "0.0.0.0:80")
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
	return st
}

// haltDisk makes a qcow2 file whose boot sector halts the processor for good.
func haltDisk(t *testing.T) string {
	t.Helper()
	const cli, hlt, jmp, back3 = 0xfa, 0xf4, 0xeb, 0xfd
	sector := make([]byte, 1<<20)
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

func (st *libvirtStage) real() bool { return true }

func (st *libvirtStage) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return st.lab.Command(ctx, program, args...)
}

func (st *libvirtStage) client() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: st.dial}}
}

func (st *libvirtStage) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return st.lab.DialContext(ctx, network, addr)
}

// pool is the run's own storage pool.
func (st *libvirtStage) pool(r *run) string { return r.prefix + "pool" }

// prepare makes the run's pool, the baseline that runs and has an address, and a
// domain that has the name of the group's first VM.
func (st *libvirtStage) prepare(r *run) error {
	folder := filepath.Join(r.dir, "pool")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	p, err := st.conn.StoragePoolCreateXML(fmt.Sprintf(
		"<pool type='dir'><name>%s</name><target><path>%s</path></target></pool>", st.pool(r), folder), 0)
	if err != nil {
		return fmt.Errorf("make the pool: %w", err)
	}
	defer p.Free()
	// Not in the pool: libvirt lists what it finds there.
	disk := filepath.Join(r.dir, "base.img")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	number, err := strconv.Atoi(strings.Trim(r.prefix, "r-"))
	if err != nil {
		return err
	}
	mac := fmt.Sprintf("52:54:00:77:%02x:%02x", number/256, number%256)
	if err := st.lease(mac, fmt.Sprintf("10.77.%d.%d", 200+number/250, number%250+1)); err != nil {
		return err
	}
	for _, name := range []string{"base", "web-1"} {
		d, err := st.conn.DomainDefineXML(fmt.Sprintf(`<domain type='qemu'><name>%s</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>
<interface type='network'><mac address='%s'/><source network='%s'/></interface>
<controller type='usb' model='none'/></devices></domain>`, r.prefix+name, disk, mac, lab.NetworkName))
		if err != nil {
			return fmt.Errorf("define %s: %w", name, err)
		}
		if name == "base" {
			err = d.Create()
		}
		if err := errors.Join(err, d.Free()); err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
	}
	return nil
}

// lease adds a lease as the network's DHCP server would note it: a guest that
// halts asks for none.
func (st *libvirtStage) lease(mac, address string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.leases = append(st.leases, lease{address, mac, time.Now().Add(time.Hour).Unix()})
	text, err := json.Marshal(st.leases)
	if err != nil {
		return err
	}
	file := st.lab.Path("var", "dnsmasq", "virbr0.status")
	if err := os.WriteFile(file+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// each calls fn with every domain of the run.
func (st *libvirtStage) each(r *run, fn func(name string, d *golibvirt.Domain) error) error {
	all, err := st.conn.ListAllDomains(0)
	if err != nil {
		return err
	}
	var errs []error
	for k := range all {
		name, err := all[k].GetName()
		if name, ours := strings.CutPrefix(name, r.prefix); ours && err == nil {
			err = fn(name, &all[k])
		}
		errs = append(errs, err, all[k].Free())
	}
	return errors.Join(errs...)
}

func (st *libvirtStage) clean(r *run) error {
	err := st.each(r, func(_ string, d *golibvirt.Domain) error {
		on, err := d.IsActive()
		if on {
			err = errors.Join(err, d.Destroy())
		}
		return errors.Join(err, d.Undefine())
	})
	p, poolErr := st.conn.LookupStoragePoolByName(st.pool(r))
	if poolErr != nil {
		return errors.Join(err, poolErr)
	}
	return errors.Join(err, p.Destroy(), p.Free())
}

func (st *libvirtStage) config(r *run) string {
	return fmt.Sprintf(`owner: %[1]scrash
monitoring: {scrape_interval: 1ms, evaluation_interval: 1ms, rate_window: 4ms}
providers:
  host:
    libvirt: {uri: %[2]q, reserve_memory: 16MiB, reserve_disk: 1MiB}
balancers:
  none:
    direct: {check: {interval: 50ms}}
groups:
  web:
    mode: scale_out_only
    min: 2
    max: 4
    cooldown: 0s
    warm_up: 0s
    backoff_min: 100ms
    drain_deadline: 300ms
    shutdown_deadline: 300ms
    adopt: [%[1]sbase]
    name: "%[1]sweb-{n}"
    port: 80
    template:
      image: %[3]s
      image_pool: %[4]s
      pool: %[5]s
      memory: 16MiB
      domain_type: qemu
      network: %[6]s
      console: none
      cloud_init: {}
      address: {source: range, range: 10.77.0.1-10.77.99.254, prefix: 16, gateway: 10.77.255.254}
`, r.prefix, st.lab.URI(), haltImage, lab.PoolName, st.pool(r), lab.NetworkName)
}

func (st *libvirtStage) things(_ context.Context, r *run, p *picture, names map[string]string, here []api.Instance) error {
	marked := map[string]bool{} // by the domain's uuid
	err := st.each(r, func(name string, d *golibvirt.Domain) error {
		uuid, err := d.GetUUIDString()
		if err != nil {
			return err
		}
		state, _, err := d.GetState()
		if err != nil {
			return err
		}
		_, err = d.GetMetadata(golibvirt.DOMAIN_METADATA_ELEMENT, markURI, golibvirt.DOMAIN_AFFECT_CONFIG)
		marked[uuid] = err == nil
		if err != nil && !errors.Is(err, golibvirt.ERR_NO_DOMAIN_METADATA) {
			return err
		}
		power := map[golibvirt.DomainState]string{golibvirt.DOMAIN_RUNNING: "running", golibvirt.DOMAIN_SHUTOFF: "shut off"}[state]
		p.VMs = append(p.VMs, fmt.Sprintf("%s %s, marked %v", name, power, marked[uuid]))
		return nil
	})
	if err != nil {
		return err
	}
	for _, i := range here {
		if !marked[i.UUID] {
			err = errors.Join(err, fmt.Errorf("instance %s (%s) has no VM with a mark", i.Name, i.State))
		}
		if i.Member != nil {
			p.Members = append(p.Members, fmt.Sprintf("%q %s", names[i.ID], i.Member.State))
		}
	}
	// Files, since a pool's list is as old as its last refresh.
	files, readErr := os.ReadDir(filepath.Join(r.dir, "pool"))
	for _, f := range files {
		name := strings.TrimPrefix(f.Name(), r.prefix)
		for id, of := range names {
			name = strings.ReplaceAll(name, id, "ID of "+of)
		}
		p.Disks = append(p.Disks, name)
	}
	return errors.Join(err, readErr)
}

// TestAKillInAnyCallToLibvirtIsFinishedOrUndone is the same over a real libvirtd,
// killed beside every call that changes something there.
func TestAKillInAnyCallToLibvirtIsFinishedOrUndone(t *testing.T) {
	st := newLibvirtStage(t)
	program := buildServer(t)
	l := lives()[0]
	l.phases = l.phases[:len(l.phases)-1] // a backup is no matter of the provider's
	undisturbed := &run{stage: st, life: l, program: program, dir: t.TempDir(), address: address(0), prefix: "r0-"}
	res, points := record(t, undisturbed)
	var tries []try
	for _, name := range sorted(points) {
		// These guests do not hear the power button, so that their power is cut.
		calls := strings.HasPrefix(name, "libvirt.") || strings.HasPrefix(name, "step.power_off.")
		for _, n := range numbers(points[name]) {
			// What is not libvirt's own is killed over the simulated provider; the first
			// VM that is made and removed says the most; and before a call is much the
			// same as after the one before it.
			if calls && (everyPassing || n == 1 && strings.HasSuffix(name, ".after")) {
				tries = append(tries, try{run: run{stage: st, life: l, program: program, want: &res}, point: name, number: n})
			}
		}
	}
	for _, call := range []string{
		"define domain", "create volume", "write volume", "start domain", "power off domain", "delete volume", "undefine domain",
		"write the mark of domain", "press the power button of domain",
	} {
		if points["libvirt."+call+".before"] == 0 {
			t.Errorf("the life does not %s", call)
		}
	}
	if points["step.power_off.after"] == 0 {
		t.Error("the life cuts no VM's power")
	}
	killAll(t, tries, sideBySide)
}
