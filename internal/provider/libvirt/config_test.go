package libvirt

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func decode(t *testing.T, text string, into any) error {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.KnownFields(true)
	return decoder.Decode(into)
}

func TestConfigDecodesStrictlyOverItsDefaults(t *testing.T) {
	var cfg Config
	if err := decode(t, "uri: qemu+ssh://host/system\nkeepalive_interval: 2s\n", &cfg); err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.URI, want.KeepAliveInterval = "qemu+ssh://host/system", 2*time.Second
	if diff := cmp.Diff(want, cfg); diff != "" {
		t.Error(diff)
	}
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	if err := decode(t, "uri: qemu:///system\nbogus: 1\n", &cfg); err == nil || !strings.Contains(err.Error(), "line 2: field bogus not found") {
		t.Errorf("an unknown field: %v", err)
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	for want, cfg := range map[string]Config{
		`uri "": use a libvirt URI`:                 {KeepAliveInterval: time.Second, KeepAliveCount: 1, MaxConnections: 2},
		"keepalive_interval 1ms: use whole seconds": {URI: "qemu:///system", KeepAliveInterval: time.Millisecond, KeepAliveCount: 1, MaxConnections: 2},
		"keepalive_count 0: use at least 1":         {URI: "qemu:///system", KeepAliveInterval: time.Second, MaxConnections: 2},
		"max_connections 1: use at least 2":         {URI: "qemu:///system", KeepAliveInterval: time.Second, KeepAliveCount: 1, MaxConnections: 1},
	} {
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestTemplateDecodesStrictlyOverItsDefaults(t *testing.T) {
	var template Template
	if err := decode(t, "image: base.qcow2\nmemory: 256MiB\ncloud_init: {keys: [ssh-ed25519 AAAA me]}\n", &template); err != nil {
		t.Fatal(err)
	}
	want := DefaultTemplate()
	want.Image, want.ImagePool, want.Memory, want.Network = "base.qcow2", "default", 256<<20, "default"
	want.CloudInit = &CloudInit{Keys: []string{"ssh-ed25519 AAAA me"}, Hostname: "{{.Name}}", Bus: "virtio"}
	if diff := cmp.Diff(want, template); diff != "" {
		t.Error(diff)
	}
	if err := template.Validate(); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"image: a\nbogus: 1\n", "image: a\ncloud_init: {bogus: 1}\n", "image: a\naddress: {bogus: 1}\n"} {
		if err := decode(t, text, &template); err == nil || !strings.Contains(err.Error(), "field bogus not found") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTemplateSaysWhatIsWrong(t *testing.T) {
	noChannel := writeFile(t, "no-channel.xml", `<domain><devices><channel type="unix"><target type="virtio" name="com.redhat.spice.0"/></channel></devices></domain>`)
	ptyChannel := writeFile(t, "pty-channel.xml", `<domain><devices><channel type="pty"><target type="virtio" name="org.qemu.guest_agent.0"/></channel></devices></domain>`)
	twoDisks := writeFile(t, "two.xml", `<domain><devices><disk type='file'><source file='/a'/></disk><disk type='file'><source file='/b'/></disk></devices></domain>`)
	marked := writeFile(t, "marked.xml", `<domain><metadata><s:instance xmlns:s="`+markURI+`" id="x"/></metadata></domain>`)
	broken := writeFile(t, "broken.txt", "{{.Nothing}}")
	for name, c := range map[string]struct {
		change func(*Template)
		want   string
	}{
		"no image":                {func(t *Template) { t.Image = "" }, `image "": use a name`},
		"an image that is a path": {func(t *Template) { t.Image = "/var/lib/x.qcow2" }, `image "/var/lib/x.qcow2": use a name`},
		"little memory":           {func(t *Template) { t.Memory = 1 }, "memory 1: use at least 16MiB"},
		"no vCPU":                 {func(t *Template) { t.VCPUs = 0 }, "vcpus 0: use 1 to 1024"},
		"network and bridge":      {func(t *Template) { t.Network, t.Bridge = "a", "b" }, `network "a" and bridge "b": use one of the two`},
		"leases of a bridge":      {func(t *Template) { t.Bridge = "br0" }, "the leases of bridge \"br0\" are not libvirt's"},
		"an unknown firmware":     {func(t *Template) { t.Firmware = "coreboot" }, `firmware "coreboot": use one of`},
		"an unknown domain type":  {func(t *Template) { t.DomainType = "xen" }, `domain_type "xen": use one of`},
		"an unknown source":       {func(t *Template) { t.Address.Source = "arp" }, `source "arp": use one of lease, agent, range`},
		"a range without a seed":  {func(t *Template) { t.Address = Address{Source: AddressRange, Range: "10.0.0.1-10.0.0.2", Prefix: 24} }, "needs cloud_init"},
		"a range backwards": {func(t *Template) {
			t.CloudInit = &CloudInit{}
			t.Address = Address{Source: AddressRange, Range: "10.0.0.9-10.0.0.2", Prefix: 24}
		}, "use first-last"},
		"a domain with two disks":             {func(t *Template) { t.DomainXML = twoDisks }, "2 writable disks"},
		"a domain with a mark":                {func(t *Template) { t.DomainXML = marked }, "holds the mark of an instance"},
		"a domain without an agent's channel": {func(t *Template) { t.DomainXML, t.Address.Source = noChannel, AddressAgent }, "add to <devices>: <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"},
		"a channel that is not libvirt's":     {func(t *Template) { t.DomainXML, t.Address.Source = ptyChannel, AddressAgent }, "cannot be asked without its channel"},
		"a domain that is not there":          {func(t *Template) { t.DomainXML = "/nowhere.xml" }, "no such file"},
		"a broken user-data template":         {func(t *Template) { t.CloudInit = &CloudInit{UserData: broken} }, "can't evaluate field Nothing"},
		"a key on two lines":                  {func(t *Template) { t.CloudInit = &CloudInit{Keys: []string{"ssh-rsa A\nB"}} }, "keys[0]: not a public SSH key"},
		"a hostname with a space":             {func(t *Template) { t.CloudInit = &CloudInit{Hostname: "a b"} }, "not a hostname"},
	} {
		t.Run(name, func(t *testing.T) {
			template := testTemplate()
			c.change(&template)
			if err := template.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestDomainsWhosePartsClonesWouldShareAreRefused: what two VMs write to, or take
// from each other or from the user's own VM.
func TestDomainsWhosePartsClonesWouldShareAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ devices, want string }{
		"two writable disks":           {`<disk type='file'><source file='/a'/></disk><disk type='file'><source file='/b'/></disk>`, "2 writable disks"},
		"a floppy":                     {`<disk type='file' device='floppy'><source file='/a.img'/></disk>`, "a floppy"},
		"a second fixed MAC":           {`<interface type='network'><source network='default'/></interface><interface type='network'><mac address='52:54:00:00:00:09'/><source network='default'/></interface>`, "the fixed MAC 52:54:00:00:00:09"},
		"an interface of the host":     {`<interface type='hostdev'><source><address type='pci' domain='0' bus='3' slot='0' function='0'/></source></interface>`, "an interface that is a device of the host"},
		"a device of the host":         {`<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='3' slot='0' function='0'/></source></hostdev>`, "a device of the host"},
		"a serial port into a file":    {`<serial type='file'><source path='/var/log/mine'/></serial>`, "a serial port into the file /var/log/mine"},
		"a console into a file":        {`<console type='file'><source path='/var/log/mine'/></console>`, "a console into the file /var/log/mine"},
		"a serial port with a log":     {`<serial type='pty'><log file='/var/log/mine'/></serial>`, "the log file /var/log/mine"},
		"a parallel port of the host":  {`<parallel type='dev'><source path='/dev/parport0'/></parallel>`, "the device /dev/parport0"},
		"a channel at a fixed socket":  {`<channel type='unix'><source mode='bind' path='/run/mine'/><target type='virtio' name='mine'/></channel>`, "a channel at the socket /run/mine"},
		"the agent's channel with log": {`<channel type='unix'><log file='/var/log/mine'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>`, "the log file /var/log/mine"},
		"a TPM of the host":            {`<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>`, "a TPM of the host"},
		"a memory device in a file":    {`<memory model='nvdimm'><source><path>/mine.nvdimm</path></source></memory>`, "the file /mine.nvdimm"},
	} {
		t.Run(name, func(t *testing.T) {
			template := testTemplate()
			template.DomainXML = writeFile(t, "own.xml", "<domain><devices>"+c.devices+"</devices></domain>")
			if err := template.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	firmware := testTemplate()
	firmware.DomainXML = writeFile(t, "own.xml", "<domain><os><loader type='pflash'>/mine.fd</loader></os></domain>")
	if err := firmware.Validate(); err == nil || !strings.Contains(err.Error(), "firmware /mine.fd can be written to") {
		t.Error(err)
	}
	harmless := testTemplate()
	harmless.DomainXML = writeFile(t, "own.xml", `<domain><devices><disk type='file'><source file='/a'/></disk>
<disk type='file' device='cdrom'><source file='/b'/><readonly/></disk><serial type='pty'><source path='/dev/pts/3'/></serial>
<interface type='network'><mac address='52:54:00:00:00:09'/><source network='default'/></interface><interface type='network'><source network='other'/></interface>
<channel type='unix'><source mode='bind' path='/run/libvirt/qemu/channel/target/domain-1-mine/a.0'/><target type='virtio' name='a.0'/></channel>
<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm></devices></domain>`)
	if err := harmless.Validate(); err != nil {
		t.Error(err)
	}
}

func TestSizeIsReadAndWritten(t *testing.T) {
	for text, want := range map[string]Size{"256MiB": 256 << 20, "10GiB": 10 << 30, "1 GB": 1e9, "512": 512, "3KiB": 3 << 10} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%q is written as %q", text, got)
		}
	}
	for _, text := range []string{"", "1.5GiB", "-1", "99999999999TiB", "MiB"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func TestFilesAreRelativeToTheConfiguration(t *testing.T) {
	template := testTemplate()
	template.DomainXML, template.CloudInit = "own.xml", &CloudInit{UserData: "/etc/user-data"}
	template.SetDirectory("/etc/scalehook")
	if template.DomainXML != "/etc/scalehook/own.xml" || template.CloudInit.UserData != "/etc/user-data" {
		t.Errorf("%+v", template)
	}
}
