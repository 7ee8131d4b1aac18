package libvirt

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/scaling"
)

var update = flag.Bool("update", false, "write the golden files")

func testMark() mark {
	return mark{
		Owner: testOwner, Group: "web", ID: idA, UUID: idA, Created: "2026-01-02T03:04:05Z",
		Image:   &markImage{Pool: "images", Name: "base.qcow2", Path: "/images/base.qcow2", Bytes: 17, MTime: "1.5"},
		Volumes: []markVolume{{"images", diskName("web-1", idA)}},
		NICs:    []markNIC{{macOf(idA), "default"}},
		Address: &markAddress{Source: AddressLease},
	}
}

func TestDefinitionsAreAsInTheGoldenFiles(t *testing.T) {
	own := writeFile(t, "own.xml", `<domain type="qemu"><name>mine</name><memory unit="MiB">64</memory><vcpu>2</vcpu>
<metadata><my:note xmlns:my="urn:mine">kept</my:note></metadata><genid>43dc0cf8-809b-4adb-9bea-a9abb5f3d90e</genid><os><type>hvm</type><loader readonly="yes" type="pflash">/usr/share/OVMF/OVMF_CODE.fd</loader>
<nvram template="/usr/share/OVMF/OVMF_VARS.fd">/var/lib/libvirt/qemu/nvram/mine_VARS.fd</nvram></os>
<devices><disk type="file" device="disk"><driver name="qemu" type="raw" io="native"/><source file="/mine.raw"/><target dev="sda" bus="scsi"/></disk>
<interface type="bridge"><mac address="52:54:00:00:00:09"/><source bridge="br9"/></interface></devices></domain>`)
	for name, c := range map[string]struct {
		template func(*Template)
		virtType DomainType
	}{
		"kvm":  {func(*Template) {}, DomainKVM},
		"seed": {func(t *Template) { t.CloudInit = &CloudInit{} }, DomainQEMU},
		"efi-bridge": {func(t *Template) {
			t.Firmware, t.Bridge, t.Machine, t.Address.Source, t.Console = "efi", "br0", "q35", AddressAgent, "none"
		}, DomainKVM},
		"osinfo-cpu": {func(t *Template) { t.OSInfo, t.CPU, t.Cache = "debian12", "Nehalem", "none" }, DomainQEMU},
		"own":        {func(t *Template) { t.DomainXML, t.CloudInit = own, &CloudInit{Bus: "scsi"} }, DomainKVM},
	} {
		t.Run(name, func(t *testing.T) {
			template := testTemplate()
			c.template(&template)
			template = template.withDefaults()
			if err := template.Validate(); err != nil {
				t.Fatal(err)
			}
			m := testMark()
			spec := domainSpec{name: "web-1", id: idA, mac: macOf(idA), diskPath: "/images/disk.qcow2", virtType: c.virtType, arch: "x86_64", mark: &m}
			if template.CloudInit != nil {
				spec.seedPath = "/images/seed.iso"
			}
			got, err := template.define(spec)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".xml")
			if *update {
				if err := os.WriteFile(golden, []byte(got+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got+"\n"); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestMarkIsReadBackHoweverItWasWritten(t *testing.T) {
	m := testMark()
	m.Group = `a "group" & <more>`
	bare, err := m.element()
	if err != nil {
		t.Fatal(err)
	}
	full, err := m.namespaced()
	if err != nil {
		t.Fatal(err)
	}
	other := `<my:note xmlns:my="urn:mine"><instance owner="x"/></my:note>`
	parsed, err := parseMark(bare)
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]*mark{"bare": parsed, "namespaced": findMark(other + full)} {
		if diff := cmp.Diff(&m, got, cmpopts.IgnoreFields(mark{}, "XMLName")); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	if findMark(other) != nil || findMark("<broken") != nil || findMark("") != nil {
		t.Error("a mark was found where none is")
	}
	if !m.valid(strings.ToUpper(idA)) || m.valid(idB) || (&mark{}).valid("") || (*mark)(nil).valid(idA) {
		t.Error("validity")
	}
}

func TestMACsAreLocalAndOfTheirInstance(t *testing.T) {
	if a, b := macOf(idA), macOf(idB); a == b || !strings.HasPrefix(a, "52:54:") || len(a) != 17 || a != macOf(idA) {
		t.Errorf("%s, %s", a, b)
	}
}

func TestHostsDomainTypeIsTakenFromItsCapabilities(t *testing.T) {
	capabilities := func(types ...string) string {
		var domains strings.Builder
		for _, d := range types {
			domains.WriteString("<domain type='" + d + "'/>")
		}
		return "<capabilities><host><cpu><arch>x86_64</arch></cpu></host><guest><os_type>hvm</os_type><arch name='i686'><domain type='kvm'/></arch></guest>" +
			"<guest><os_type>hvm</os_type><arch name='x86_64'>" + domains.String() + "</arch></guest></capabilities>"
	}
	for name, c := range map[string]struct {
		capabilities string
		wish         DomainType
		want         DomainType
		fails        bool
	}{
		"kvm where it is offered":          {capabilities("qemu", "kvm"), DomainAuto, DomainKVM, false},
		"qemu elsewhere":                   {capabilities("qemu"), DomainAuto, DomainQEMU, false},
		"as wished":                        {capabilities("qemu", "kvm"), DomainQEMU, DomainQEMU, false},
		"kvm that is not offered":          {capabilities("qemu"), DomainKVM, "", true},
		"a host without guests of its own": {capabilities(), DomainAuto, "", true},
		"what cannot be read":              {"<", DomainAuto, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := chooseHost(c.capabilities, c.wish)
			if got.virtType != c.want || (err != nil) != c.fails {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

func TestAddressesAreThoseOfTheMACNewestFirst(t *testing.T) {
	now := time.Now()
	leases := []lease{
		{"52:54:00:00:00:01", netip.MustParseAddr("10.0.0.1"), now},
		{"52:54:00:00:00:02", netip.MustParseAddr("10.0.0.2"), now},
		{"52:54:00:00:00:01", netip.MustParseAddr("fd00::1"), now.Add(time.Hour)},
		{"52:54:00:00:00:01", netip.MustParseAddr("10.0.0.3"), now.Add(time.Minute)},
	}
	want := []netip.Addr{netip.MustParseAddr("10.0.0.3"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	var f found
	f.add(0, addressesOf(leases, "52:54:00:00:00:01")...)
	if diff := cmp.Diff(want, f.best(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

func TestRangeGivesTheFirstFreeAddressAndThenQuota(t *testing.T) {
	a := Address{Range: "10.0.0.1-10.0.0.3"}
	taken := map[string]bool{"10.0.0.1": true}
	if got, err := a.pick(taken); err != nil || got != "10.0.0.2" {
		t.Errorf("%q, %v", got, err)
	}
	taken["10.0.0.2"], taken["10.0.0.3"] = true, true
	if _, err := a.pick(taken); err == nil || scaling.ClassOf(err) != scaling.Quota || !strings.Contains(err.Error(), "all 3 addresses") {
		t.Errorf("%v", err)
	}
}

func TestDHCPRangesAreCounted(t *testing.T) {
	n, err := dhcpSize(`<network><ip address='10.0.0.1'><dhcp><range start='10.0.0.2' end='10.0.0.254'/><range start='10.0.1.1' end='10.0.1.1'/></dhcp></ip>
<ip family='ipv6' address='fd00::1'><dhcp><range start='fd00::10' end='fd00::20'/></dhcp></ip></network>`)
	if err != nil || n != 254 {
		t.Errorf("%d, %v", n, err)
	}
}

func TestAdoptedVMsAddressComesFromWhereItCanBe(t *testing.T) {
	onNetwork, onBridge := []markNIC{{"52:54:00:00:00:01", "default"}}, []markNIC{{"52:54:00:00:00:01", ""}}
	for name, c := range map[string]struct {
		source AddressSource
		nics   []markNIC
		want   AddressSource
	}{
		"a lease on a network":             {AddressLease, onNetwork, AddressLease},
		"the agent as configured":          {AddressAgent, onNetwork, AddressAgent},
		"a lease where a range is for new": {AddressRange, onNetwork, AddressLease},
		"the agent on a bridge":            {AddressLease, onBridge, AddressAgent},
	} {
		if got := (Template{Address: Address{Source: c.source}}).adoptedSource(c.nics); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
