package libvirt

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kdomanski/iso9660"

	"github.com/scalehook/scalehook/internal/firstboot"
)

// readSeed returns the label and the files of a NoCloud disk.
func readSeed(t *testing.T, content []byte) (label string, files map[string]string) {
	t.Helper()
	image, err := iso9660.OpenImage(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if label, err = image.Label(); err != nil {
		t.Fatal(err)
	}
	root, err := image.RootDir()
	if err != nil {
		t.Fatal(err)
	}
	children, err := root.GetChildren()
	if err != nil {
		t.Fatal(err)
	}
	files = map[string]string{}
	for _, f := range children {
		text, err := io.ReadAll(f.Reader())
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name()] = string(text)
	}
	return label, files
}

func TestSeedNamesTheGuestAndLetsTheKeysIn(t *testing.T) {
	userData := writeFile(t, "user-data", "#!/bin/sh\necho {{.Group}} {{.Number}} {{.Hostname}} {{.MAC}} {{range .Keys}}{{.}}{{end}}\n")
	for name, c := range map[string]struct {
		cloudInit CloudInit
		address   Address
		ip        string
		want      map[string]string
	}{
		"without a template": {
			CloudInit{Keys: []string{"ssh-ed25519 AAAA me"}},
			Address{},
			"",
			map[string]string{
				"meta-data": "instance-id: " + idA + "\nlocal-hostname: web-1\n",
				"user-data": "#cloud-config\nhostname: \"web-1\"\nssh_authorized_keys:\n  - \"ssh-ed25519 AAAA me\"\n",
			},
		},
		"with a template": {
			CloudInit{UserData: userData, Hostname: "{{.Group}}-{{.Number}}.lan", Keys: []string{"ssh-ed25519 AAAA me"}},
			Address{},
			"",
			map[string]string{
				"meta-data": "instance-id: " + idA + "\nlocal-hostname: web-4.lan\n",
				"user-data": "#!/bin/sh\necho web 4 web-4.lan 52:54:00:00:00:01 ssh-ed25519 AAAA me\n",
			},
		},
		"with an address of a range": {
			CloudInit{},
			Address{Source: AddressRange, Range: "10.0.0.1-10.0.0.2", Prefix: 24, Gateway: "10.0.0.254", DNS: []string{"10.0.0.253"}},
			"10.0.0.1",
			map[string]string{
				"meta-data": "instance-id: " + idA + "\nlocal-hostname: web-1\n",
				"user-data": "#cloud-config\nhostname: \"web-1\"\n",
				"network-config": `version: 2
ethernets:
  id0:
    match:
      macaddress: "52:54:00:00:00:01"
    addresses:
      - "10.0.0.1/24"
    routes:
      - to: "0.0.0.0/0"
        via: "10.0.0.254"
    nameservers:
      addresses:
        - "10.0.0.253"
`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			template := testTemplate()
			template.CloudInit = &c.cloudInit
			if c.ip != "" {
				template.Address = c.address
			}
			template = template.withDefaults()
			if err := template.Validate(); err != nil {
				t.Fatal(err)
			}
			content, err := template.buildSeed(firstboot.Data{ID: idA, Group: "web", Name: "web-1", Number: 4, MAC: "52:54:00:00:00:01", Address: c.ip})
			if err != nil {
				t.Fatal(err)
			}
			label, files := readSeed(t, content)
			if label != "cidata" {
				t.Errorf("label %q", label)
			}
			if diff := cmp.Diff(c.want, files); diff != "" {
				t.Error(diff)
			}
			if !bytes.Contains(content, []byte(seedLine(idA))) {
				t.Error("the seed cannot be told by its id")
			}
		})
	}
}

func TestASeedThatTheGuestsWillNotReadIsWarnedOf(t *testing.T) {
	script := writeFile(t, "user-data", "#!/bin/sh\n")
	for name, c := range map[string]struct {
		image     string
		cloudInit *CloudInit
		want      string
	}{
		"none":                    {"debian.qcow2", nil, "no cloud_init"},
		"Debian's cloud-init":     {"debian.qcow2", &CloudInit{}, ""},
		"CirrOS with the default": {"cirros-0.6.2.img", &CloudInit{}, `image "cirros-0.6.2.img" is CirrOS`},
		"CirrOS with a script":    {"cirros-0.6.2.img", &CloudInit{UserData: script}, ""},
		"a file that went away":   {"debian.qcow2", &CloudInit{UserData: "/nowhere"}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			template := testTemplate()
			template.Image, template.CloudInit = c.image, c.cloudInit
			got := template.withDefaults().seedWarning()
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
