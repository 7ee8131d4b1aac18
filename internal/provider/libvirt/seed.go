package libvirt

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/kdomanski/iso9660"

	"github.com/scalehook/scalehook/internal/firstboot"
)

// seedLine is in every seed's meta-data; it is how a seed without a definition is
// known as ours.
func seedLine(id string) string { return "instance-id: " + id + "\n" }

// buildSeed returns the NoCloud disk for one instance.
func (t Template) buildSeed(data firstboot.Data) ([]byte, error) {
	guest, err := t.CloudInit.template().Render(data)
	if err != nil {
		return nil, err
	}
	files := []seedFile{
		{"meta-data", seedLine(data.ID) + "local-hostname: " + guest.Hostname + "\n"},
		{"user-data", guest.UserData},
	}
	if data.Address != "" {
		files = append(files, seedFile{"network-config", t.Address.networkConfig(data)})
	}
	return seedISO(files)
}

// seedWarning says what the guests will not learn from their seed, empty if nothing
// is known against it.
func (t Template) seedWarning() string {
	if t.CloudInit == nil {
		return "no cloud_init: all its VMs share the image's hostname, SSH host keys and machine id"
	}
	guest, err := t.CloudInit.template().Check()
	if err != nil {
		return "cloud_init: " + err.Error() // a file that changed since the configuration was loaded
	}
	return firstboot.Mismatch(firstboot.Image{Name: t.Image}, guest.Kind())
}

type seedFile struct{ name, content string }

func seedISO(files []seedFile) (image []byte, err error) {
	writer, err := iso9660.NewWriter()
	if err != nil {
		return nil, fmt.Errorf("begin the seed: %w", err)
	}
	defer func() {
		if e := writer.Cleanup(); e != nil && err == nil {
			err = fmt.Errorf("clean up after the seed: %w", e)
		}
	}()
	for _, f := range files {
		if err := writer.AddFile(strings.NewReader(f.content), f.name); err != nil {
			return nil, fmt.Errorf("add %s to the seed: %w", f.name, err)
		}
	}
	var out bytes.Buffer
	if err := writer.WriteTo(&out, "cidata"); err != nil {
		return nil, fmt.Errorf("write the seed: %w", err)
	}
	return out.Bytes(), nil
}

// networkConfig is version 2 of cloud-init's network configuration: one
// interface, found by its MAC.
func (a Address) networkConfig(data firstboot.Data) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 2\nethernets:\n  id0:\n    match:\n      macaddress: %q\n", data.MAC)
	fmt.Fprintf(&b, "    addresses:\n      - %q\n", data.Address+"/"+strconv.Itoa(a.Prefix))
	if a.Gateway != "" {
		to := "0.0.0.0/0"
		if strings.Contains(a.Gateway, ":") {
			to = "::/0"
		}
		fmt.Fprintf(&b, "    routes:\n      - to: %q\n        via: %q\n", to, a.Gateway)
	}
	if len(a.DNS) > 0 {
		b.WriteString("    nameservers:\n      addresses:\n")
		for _, server := range a.DNS {
			fmt.Fprintf(&b, "        - %q\n", server)
		}
	}
	return b.String()
}
