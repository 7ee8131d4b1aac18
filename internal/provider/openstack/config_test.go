package openstack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func read(t *testing.T, text string) (Template, error) {
	t.Helper()
	var out Template
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	err := decoder.Decode(&out)
	return out, err
}

func TestATemplateIsRead(t *testing.T) {
	no := false
	got, err := read(t, `
flavor: m1.tiny
image: cirros
image_property: {os_version: "0.6"}
networks: [lab-net, {network: back, subnet: back-v4, security_groups: [db], port_security: false}]
security_groups: [sg-secure]
key_pair: lab-key
volume: {size_gib: 10, type: ssd}
public_address: {network: external}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := Template{
		Flavor: "m1.tiny", Image: "cirros", ImageProperty: map[string]string{"os_version": "0.6"},
		Networks:       []Interface{{Network: "lab-net"}, {Network: "back", Subnet: "back-v4", SecurityGroups: []string{"db"}, PortSecurity: &no}},
		SecurityGroups: []string{"sg-secure"}, KeyPair: "lab-key", Volume: &Volume{SizeGiB: 10, Type: "ssd"},
		MemberAddress: MemberFixed, PublicAddress: &PublicAddress{Network: "external"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, bad := range []string{"flavour: m1.tiny", "networks: [{name: x}]", "networks: [[x]]", "volume: {size: 1}"} {
		if got, err := read(t, bad); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}

func TestATemplateThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := func() Template {
		t := DefaultTemplate()
		t.Flavor, t.Image, t.Networks = "m1.tiny", "cirros", []Interface{{Network: "lab-net"}}
		return t
	}
	if err := good().Validate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Template)
		want   string
	}{
		{"no flavor", func(t *Template) { t.Flavor = "" }, "flavor: missing"},
		{"no image", func(t *Template) { t.Image = "" }, "image: missing"},
		{"a property without a value", func(t *Template) { t.ImageProperty = map[string]string{"os_distro": ""} }, "image_property"},
		{"no network", func(t *Template) { t.Networks = nil }, "networks: missing"},
		{"a port without a network", func(t *Template) { t.Networks = []Interface{{}} }, "networks[0]"},
		{"groups that do nothing", func(t *Template) {
			no := false
			t.Networks[0] = Interface{Network: "x", SecurityGroups: []string{"y"}, PortSecurity: &no}
		}, "have no effect"},
		{"a volume without a size", func(t *Template) { t.Volume = &Volume{} }, "size_gib 0"},
		{"metadata that is too long", func(t *Template) { t.Metadata = map[string]string{"x": strings.Repeat("y", 256)} }, "at most 255"},
		{"metadata that is ours", func(t *Template) { t.Metadata = map[string]string{"scalehook-id": "x"} }, "are taken"},
		{"an address of another kind", func(t *Template) { t.MemberAddress = "both" }, "use one of fixed, floating"},
		{"a floating network that nobody uses", func(t *Template) { t.FloatingNetwork = "external" }, "needs member_address: floating"},
		{"two floating IPs on one port", func(t *Template) { t.MemberAddress, t.PublicAddress = MemberFloating, &PublicAddress{} }, "can have one floating IP"},
		{"a public address that is none", func(t *Template) { t.PublicAddress = &PublicAddress{Address: "x"} }, "not an address"},
		{"a public address and its network", func(t *Template) { t.PublicAddress = &PublicAddress{Address: "192.0.2.1", Network: "x"} }, "leave it out"},
		{"user data that is not there", func(t *Template) { t.UserData = filepath.Join(dir, "none") }, "user_data"},
		{"user data that cannot be rendered", func(t *Template) { t.UserData = file("bad", "#!/bin/sh\n{{.Nothing}}") }, "Nothing"},
		{"user data that Nova refuses", func(t *Template) { t.UserData = file("long", "#!/bin/sh\n"+strings.Repeat("x", 50000)) }, "at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmpl := good()
			c.change(&tmpl)
			if err := tmpl.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
	with := good()
	with.UserData = "boot.sh"
	with.SetDirectory("/etc/scalehook")
	if with.UserData != "/etc/scalehook/boot.sh" {
		t.Error(with.UserData)
	}
}
