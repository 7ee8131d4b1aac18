//go:build e2e

package libvirt_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	golibvirt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/provider/libvirt"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

// shellPort is where the guest of the agent's test runs what it is sent.
const shellPort = "99"

// shell runs commands as root inside a guest whose user-data serves them.
func (h *hostTest) shell(ctx context.Context, t *testing.T, at netip.Addr, commands string) string {
	t.Helper()
	conn, err := h.DialContext(ctx, "tcp", net.JoinHostPort(at.String(), shellPort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "{ "+commands+"\n} && echo done\nexit\n"); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(conn)
	text, ok := strings.CutSuffix(strings.TrimSpace(string(out)), "done")
	if err != nil || !ok {
		t.Fatalf("%s: %v after %q", commands, err, out)
	}
	return strings.TrimSpace(text)
}

// leased returns the addresses that the network's DHCP server gave to a MAC.
func leased(t *testing.T, conn *golibvirt.Connect, mac string) []netip.Addr {
	t.Helper()
	network, err := conn.LookupNetworkByName(lab.NetworkName)
	if err != nil {
		t.Fatal(err)
	}
	defer network.Free()
	leases, err := network.GetDHCPLeases()
	if err != nil {
		t.Fatal(err)
	}
	var addrs []netip.Addr
	for _, l := range leases {
		if strings.EqualFold(l.Mac, mac) {
			addrs = append(addrs, netip.MustParseAddr(l.IPaddr))
		}
	}
	return addrs
}

// agentSays returns all that a guest's agent says, good or not.
func agentSays(t *testing.T, conn *golibvirt.Connect, name string) []string {
	t.Helper()
	dom, err := conn.LookupDomainByName(name)
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Free()
	ifaces, err := dom.ListAllInterfaceAddresses(golibvirt.DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
	if err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for _, i := range ifaces {
		for _, a := range i.Addrs {
			addrs = append(addrs, a.Addr)
		}
	}
	return addrs
}

// ask asks a provider for one VM, alone and in a listing. Whatever the agent
// does, neither may fail or take longer than the agent is waited for, which is
// 2 seconds; the rest is for a busy machine.
func ask(ctx context.Context, t *testing.T, p *libvirt.Provider, ref scaling.Ref) []netip.Addr {
	t.Helper()
	began := time.Now()
	vm, err := p.Get(ctx, ref)
	if err != nil || vm.Power != scaling.PowerRunning {
		t.Errorf("get: %+v, %v", vm, err)
	}
	vms, err := p.List(ctx)
	if err != nil || len(vms) != 1 {
		t.Errorf("list: %+v, %v", vms, err)
	}
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("get and list took %v", took)
	}
	return vm.Addresses
}

// showConsole logs what a guest wrote on its console if the test fails.
func showConsole(t *testing.T, conn *golibvirt.Connect, name string) {
	t.Helper()
	dom, err := conn.LookupDomainByName(name)
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Free()
	text, err := dom.GetXMLDesc(0)
	if err != nil {
		t.Fatal(err)
	}
	var desc libvirtxml.Domain
	if err := desc.Unmarshal(text); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(desc.Devices.Consoles[0].TTY, os.O_RDONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var wrote bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(&wrote, tty) // ends with the VM or with the test
	}()
	t.Cleanup(func() {
		tty.Close()
		<-done
		if t.Failed() {
			t.Logf("the console of %s:\n%s", name, wrote.String())
		}
	})
}

func TestTheGuestAgentSaysTheAddress(t *testing.T) {
	h := startHostWith(t, "prv-agent", guest.BuildOptions{Agent: true})
	ctx := within(t, 10*time.Minute)
	conn := h.connect(t)
	before := h.before(ctx, t)
	template := h.template(ctx)
	template.Address.Source = libvirt.AddressAgent
	template.CloudInit.UserData = writeTemp(t, "user-data", []byte("#!/bin/sh\nexec nc -ll -p "+shellPort+" -e /bin/sh\n"))
	h.p = h.provider(t, owner, template)
	same := func(want, got []netip.Addr) error {
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			return fmt.Errorf("(-want +got):\n%s", diff)
		}
		return nil
	}

	_, ref := h.create(ctx, t, 1)
	showConsole(t, conn, "web-1")
	if got := ask(ctx, t, h.p, ref); len(got) != 0 {
		t.Errorf("before the guest has booted it has the addresses %v", got)
	}

	// A launch asks until the agent answers, and until then gets no error.
	began, asked := time.Now(), 0
	var address netip.Addr
	testenv.Eventually(t, 4*time.Minute, "the agent's answer", func() error {
		asked++
		got := ask(ctx, t, h.p, ref)
		if len(got) == 0 {
			return fmt.Errorf("no address after %d questions", asked)
		}
		address = got[0]
		return nil
	})
	t.Logf("the agent said %v after %v and %d questions", address, time.Since(began), asked)
	vm := h.awaitAddress(ctx, t, ref)
	if name := h.hostname(ctx, t, vm); name != "web-1" {
		t.Errorf("at %v answers %q", vm.Addresses, name)
	}
	mac := h.shell(ctx, t, address, "cat /sys/class/net/eth0/address")
	if err := same(leased(t, conn, mac), []netip.Addr{address}); err != nil {
		t.Errorf("the address is not the one that the guest was given %v", err)
	}

	// Addresses that are not the VM's, or not for others.
	h.shell(ctx, t, address, `ip link set dummy0 up && ip addr add 10.9.9.9/24 dev dummy0 && ip addr add 172.31.0.1/32 dev lo &&
ip addr add 192.168.122.240/24 dev eth0 && ip -6 addr add fd00:9::5/64 dev eth0 && ip addr add 169.254.7.7/16 dev eth0`)
	want := []netip.Addr{address, netip.MustParseAddr("192.168.122.240"), netip.MustParseAddr("fd00:9::5")}
	testenv.Eventually(t, time.Minute, "the VM's own addresses", func() error { return same(want, ask(ctx, t, h.p, ref)) })
	says := agentSays(t, conn, "web-1")
	for _, decoy := range []string{"127.0.0.1", "10.9.9.9", "172.31.0.1", "169.254.7.7"} {
		if !slices.Contains(says, decoy) {
			t.Errorf("the agent does not even mention %s: %v", decoy, says)
		}
	}
	if !slices.ContainsFunc(says, func(a string) bool { return strings.HasPrefix(a, "fe80:") }) {
		t.Errorf("the agent mentions no link-local address: %v", says)
	}

	// Another address than the lease's: what is reported is what is.
	moved := netip.MustParseAddr("192.168.122.241")
	h.shell(ctx, t, address, `kill -9 $(cat /run/udhcpc.pid)
(sleep 1; ip -4 addr flush dev eth0; ip -6 addr flush dev eth0 scope global; ip addr add 192.168.122.241/24 dev eth0) </dev/null >/dev/null 2>&1 &`)
	testenv.Eventually(t, time.Minute, "the new address", func() error { return same([]netip.Addr{moved}, ask(ctx, t, h.p, ref)) })
	if slices.Contains(leased(t, conn, mac), moved) {
		t.Errorf("%v is a lease, so this shows nothing", moved)
	}

	// An agent that hangs: who has heard it keeps its answer, who has not has none.
	h.shell(ctx, t, moved, "kill -STOP $(cat /run/agent.pid)")
	fresh := h.provider(t, owner, template)
	began = time.Now()
	if got := ask(ctx, t, fresh, ref); len(got) != 0 {
		t.Errorf("of an agent that hangs a new provider knows %v", got)
	}
	t.Logf("get and list with an agent that hangs took %v", time.Since(began))
	if err := same([]netip.Addr{moved}, ask(ctx, t, h.p, ref)); err != nil {
		t.Errorf("the answer was not kept %v", err)
	}
	h.shell(ctx, t, moved, "kill -CONT $(cat /run/agent.pid)")
	testenv.Eventually(t, time.Minute, "the agent's answer after it hung", func() error {
		return same([]netip.Addr{moved}, ask(ctx, t, fresh, ref))
	})

	// A QEMU that hangs, with questions to its agent left behind, and its end.
	pid := h.qemu(t, "web-1")
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGCONT) })
	fresh = h.provider(t, owner, template)
	began = time.Now()
	if got := ask(ctx, t, fresh, ref); len(got) != 0 {
		t.Errorf("of a QEMU that hangs a new provider knows %v", got)
	}
	t.Logf("get and list with a QEMU that hangs took %v", time.Since(began))
	began = time.Now()
	if err := fresh.Delete(ctx, ref); err != nil {
		t.Error(err)
	}
	t.Logf("deleted after %v", time.Since(began))
	h.left(ctx, t, before)
}
