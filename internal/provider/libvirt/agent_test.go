package libvirt

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/scalehook/scalehook/internal/scaling"
)

// iface is a guest's interface as libvirt passes on what its agent said.
func iface(name, mac string, addrs ...string) libvirt.DomainInterface {
	i := libvirt.DomainInterface{Name: name, Hwaddr: mac}
	for _, a := range addrs {
		i.Addrs = append(i.Addrs, libvirt.DomainIPAddress{Addr: a})
	}
	return i
}

func TestAgentsAnswerGivesTheAddressesOfTheVMsOwnInterfaces(t *testing.T) {
	const first, second, other = "52:54:00:00:00:01", "52:54:00:00:00:02", "02:42:00:00:00:01"
	lo := iface("lo", "00:00:00:00:00:00", "127.0.0.1", "::1")
	for name, c := range map[string]struct {
		ifaces []libvirt.DomainInterface
		want   string
		main   bool
	}{
		"nothing yet":                   {nil, "", false},
		"loopback only":                 {[]libvirt.DomainInterface{lo}, "", false},
		"an interface without address":  {[]libvirt.DomainInterface{lo, iface("eth0", first)}, "", false},
		"link-local addresses only":     {[]libvirt.DomainInterface{lo, iface("eth0", first, "fe80::1", "169.254.3.4")}, "", false},
		"a link-local one with a zone":  {[]libvirt.DomainInterface{iface("eth0", first, "fe80::1%eth0")}, "", false},
		"what is no address":            {[]libvirt.DomainInterface{iface("eth0", first, "", "x", "0.0.0.0", "255.255.255.255", "224.0.0.1")}, "", false},
		"IPv4":                          {[]libvirt.DomainInterface{lo, iface("eth0", first, "10.0.0.5", "fe80::1")}, "10.0.0.5", true},
		"IPv4 before IPv6":              {[]libvirt.DomainInterface{iface("eth0", first, "fe80::1", "fd00::5", "10.0.0.5")}, "10.0.0.5 fd00::5", true},
		"IPv4 written as IPv6":          {[]libvirt.DomainInterface{iface("eth0", first, "::ffff:10.0.0.5")}, "10.0.0.5", true},
		"the MAC in capitals":           {[]libvirt.DomainInterface{iface("eth0", strings.ToUpper(first), "10.0.0.5")}, "10.0.0.5", true},
		"a container bridge first":      {[]libvirt.DomainInterface{lo, iface("docker0", other, "172.17.0.1"), iface("eth0", first, "10.0.0.5")}, "10.0.0.5", true},
		"only a container bridge":       {[]libvirt.DomainInterface{lo, iface("docker0", other, "172.17.0.1")}, "", false},
		"an address put on loopback":    {[]libvirt.DomainInterface{iface("lo", "00:00:00:00:00:00", "127.0.0.1", "192.0.2.1"), iface("eth0", first, "10.0.0.5")}, "10.0.0.5", true},
		"a tunnel without MAC":          {[]libvirt.DomainInterface{iface("tun0", "", "10.8.0.2"), iface("eth0", first, "10.0.0.5")}, "10.0.0.5", true},
		"a second address":              {[]libvirt.DomainInterface{iface("eth0", first, "10.0.0.5", "10.0.0.99")}, "10.0.0.5 10.0.0.99", true},
		"a bridge with the card's MAC":  {[]libvirt.DomainInterface{iface("eth0", first), iface("br0", first, "10.0.0.5")}, "10.0.0.5", true},
		"a VLAN with the card's MAC":    {[]libvirt.DomainInterface{iface("eth0", first, "10.0.0.5"), iface("eth0.7", first, "10.7.0.5")}, "10.0.0.5 10.7.0.5", true},
		"one address seen twice":        {[]libvirt.DomainInterface{iface("eth0", first, "10.0.0.5"), iface("br0", first, "10.0.0.5")}, "10.0.0.5", true},
		"two cards the other way round": {[]libvirt.DomainInterface{iface("eth0", second, "10.2.0.5"), iface("eth1", first, "10.1.0.5")}, "10.1.0.5 10.2.0.5", true},
		"only the second card yet":      {[]libvirt.DomainInterface{iface("eth0", first, "fe80::1"), iface("eth1", second, "10.2.0.5")}, "10.2.0.5", false},
		"only IPv6 yet":                 {[]libvirt.DomainInterface{iface("eth0", first, "2001:db8::5")}, "2001:db8::5", false},
	} {
		t.Run(name, func(t *testing.T) {
			f := guestAddresses(c.ifaces, []markNIC{{first, "default"}, {second, ""}})
			var got []string
			for _, a := range f.best() {
				got = append(got, a.String())
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" || f.main != c.main {
				t.Errorf("main %v, want %v\n%s", f.main, c.main, diff)
			}
		})
	}
}

func TestABetterAddressIsWaitedForAMoment(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("2001:db8::5")
	only6, both := found{addrs: []netip.Addr{v6}}, found{addrs: []netip.Addr{v6, v4}, main: true}
	now := time.Now()
	l := newLookout()
	for _, step := range []struct {
		what string
		f    found
		at   time.Duration
		want []netip.Addr
	}{
		{"nothing", found{}, 0, nil},
		{"IPv6 first", only6, time.Second, nil},
		{"still only IPv6", only6, addressSettle, nil},
		{"IPv4 arrived", both, addressSettle + 500*time.Millisecond, []netip.Addr{v4, v6}},
		{"IPv4 went", only6, time.Minute, nil},
		{"and stays away", only6, time.Minute + addressSettle, []netip.Addr{v6}},
	} {
		if diff := cmp.Diff(step.want, l.settled(idA, step.f, now.Add(step.at)), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s: %s", step.what, diff)
		}
	}
	l.keep([]machine{{uuid: idB}})
	if len(l.since) != 0 {
		t.Errorf("still remembered: %v", l.since)
	}
}

func TestASilentAgentCountsAsSayingWhatItSaidLast(t *testing.T) {
	l := newLookout()
	one := found{addrs: []netip.Addr{netip.MustParseAddr("10.0.0.5")}, main: true}
	two := found{addrs: []netip.Addr{netip.MustParseAddr("10.0.0.6")}, main: true}
	silent := scaling.Errorf(scaling.Temporary, "no answer")
	for _, step := range []struct {
		what   string
		answer found
		err    error
		want   found
	}{
		{"silent from the start", found{}, silent, found{}},
		{"an answer", one, nil, one},
		{"silent again", found{}, silent, one},
		{"another address", two, nil, two},
		{"none any more", found{}, nil, found{}},
		{"silent after none", found{}, silent, found{}},
	} {
		if diff := cmp.Diff(step.want, l.heard(idA, step.answer, step.err), cmp.AllowUnexported(found{}), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s: %s", step.what, diff)
		}
	}
	l.heard(idA, one, nil)
	l.forget(idA)
	if f := l.heard(idA, found{}, silent); len(f.addrs) != 0 {
		t.Errorf("a VM that was forgotten has %v", f)
	}
}

func TestAgentsSocketIsLeftToLibvirt(t *testing.T) {
	own := writeFile(t, "own.xml", `<domain type="qemu"><name>mine</name><memory unit="MiB">64</memory><os><type>hvm</type></os><devices>
<channel type="unix"><source mode="bind" path="/run/mine.agent"/><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
<channel type="unix"><source mode="connect" path="/run/mine.other"/><target type="virtio" name="mine"/></channel></devices></domain>`)
	template := testTemplate()
	template.DomainXML, template.Address.Source = own, AddressAgent
	if err := template.Validate(); err != nil {
		t.Fatal(err)
	}
	text, err := template.define(domainSpec{name: "web-1", id: idA, mac: macOf(idA), diskPath: "/images/disk.qcow2", virtType: DomainQEMU})
	if err != nil {
		t.Fatal(err)
	}
	var desc libvirtxml.Domain
	if err := desc.Unmarshal(text); err != nil {
		t.Fatal(err)
	}
	if err := checkAgentChannel(&desc); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(own, []byte(`<domain type="qemu"><name>mine</name></domain>`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := template.define(domainSpec{name: "web-1", id: idA}); err == nil || !strings.Contains(err.Error(), "without its channel") {
		t.Errorf("a definition that lost its channel: %v", err)
	}
	if strings.Contains(text, "mine.agent") || !strings.Contains(text, "mine.other") {
		t.Errorf("the definition is\n%s", text)
	}
}

func TestAgentsThatHangHoldUpNothingElse(t *testing.T) {
	testHost(t)
	template := testTemplate()
	template.Address.Source = AddressAgent
	p := testProvider(t, map[string]Template{"web": template})
	ctx := testContext(t)
	if _, err := p.Create(ctx, scaling.LaunchSpec{ID: idA, Group: "web", Name: "web-1", Number: 1}); err != nil {
		t.Fatal(err)
	}
	for range cap(p.asking) { // as questions that never return
		p.asking <- struct{}{}
	}
	vm, err := p.Get(ctx, scaling.Ref{ID: idA})
	if err != nil || vm.Power != scaling.PowerRunning || len(vm.Addresses) != 0 {
		t.Errorf("get: %+v, %v", vm, err)
	}
	if free := cap(p.m.slots) - cap(p.asking); free < 1 {
		t.Errorf("%d connections are left for other calls", free)
	}
	for range cap(p.asking) {
		<-p.asking
	}
	for range 2 * cap(p.asking) { // each question gives its turn back
		if _, err := p.Get(ctx, scaling.Ref{ID: idA}); err != nil {
			t.Fatal(err)
		}
	}
	if out := len(p.asking); out != 0 {
		t.Errorf("%d turns were not given back", out)
	}
	if err := p.Delete(ctx, scaling.Ref{ID: idA}); err != nil {
		t.Error(err)
	}
}
