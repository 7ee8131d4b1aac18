//go:build tutorial

package tutorial

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/internal/testenv"
)

// config is what the packaged server is given for the page: %s are the image, and
// further settings of the template.
const libvirtPageConfig = `owner: test
monitoring: {scrape_interval: 15s, evaluation_interval: 15s, rate_window: 1m, repeat_interval: 1m}
tokens:
  - {name: alertmanager, role: alerts, file: /etc/scalehook/alerts.token}
  - {name: ops, role: operator, file: /etc/scalehook/operator.token}
providers: {kvm1: {libvirt: {}}}
balancers: {none: {direct: {}}}
groups:
  web:
    mode: scale_out_only
    min: 1
    max: 2
    high: 70%%
    name: "autoscale-{n}"
    provider: kvm1
    template: {image: %s, memory: 128MiB, network: default, cloud_init: {}%s}
    balancer: none
    port: 80
`

// TestTheLibvirtPage types the page's commands on a host whose libvirt asks polkit, as
// Debian's does: images come and are guarded, and the packaged server makes its first
// VM by the page's rules.
func TestTheLibvirtPage(t *testing.T) {
	needs(t)
	testenv.Need(t, testenv.Program("dbus-daemon"), testenv.File("/usr/lib/polkit-1/polkitd", "Debian's polkitd"))
	const folder = "/root/scalehook"
	page := doc.ReadPage(t, "../../docs/providers/libvirt.md")
	packages := pack(t)
	img, err := guest.Build(t.Context(), guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b := newSite(t)
	b.Polkit(t)
	b.hypervisor(t)
	b.offer(t, packages)
	b.Run(t, "sh", "-ec", "apt-get install "+folder+"/dist/scalehook_*.deb")
	b.Put(t, "../../deploy/libvirt/50-scalehook.rules", folder+"/deploy/libvirt/50-scalehook.rules", 0o644)
	b.Put(t, img.Path, folder+"/debian-12-genericcloud-amd64.qcow2", 0o644)
	// A VM of somebody else, and the one whose disk is to be the image.
	for mac, name := range map[string]string{"20": "db-1", "21": "base-template"} {
		b.Put(t, img.Path, images+name+".qcow2", 0o644)
		b.define(t, name, mac)
	}
	b.Run(t, "virsh", "start", "db-1")
	b.Run(t, "virsh", "pool-refresh", "default")
	configure := func(image, further string) {
		b.Write(t, configPath, fmt.Sprintf(libvirtPageConfig, image, further), 0o644)
	}
	check := func(want string) {
		t.Helper()
		out, err := b.Try(t, "scalehook", "check-config")
		if fine := err == nil; !strings.Contains(out, want) || fine != (want == "no problem found") {
			t.Errorf("want %q, got %v\n%s", want, err, out)
		}
	}

	configure("base-template.qcow2", "")
	check(`is the disk of domain "base-template"`)
	configure("base-template.qcow2", ", template_domain: base-template")
	check("no problem found")
	configure("base-template.qcow2", "")
	page.Run(t, b.Session(t.Context(), folder), "virsh undefine")
	check("no problem found")

	page.Run(t, b.Session(t.Context(), folder), "template import")
	configure("web-1.qcow2", "")
	check("no problem found")

	page.Run(t, b.Session(t.Context(), folder), "systemctl restart libvirtd")
	if groups := strings.Fields(b.Run(t, "id", "-nG", "scalehook")); strings.Contains(strings.Join(groups, " "), "libvirt") {
		t.Errorf("scalehook is in %q", groups)
	}
	testenv.Eventually(t, time.Minute, "polkitd to have read the rules", func() error {
		out, err := b.Try(t, "runuser", "-u", "scalehook", "--", "scalehook", "check-config")
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
		return err
	})
	testenv.Eventually(t, 2*time.Minute, "an instance in service", func() error {
		out, err := b.Try(t, "scalehook", "instances", "web", "--token-file", "/etc/scalehook/operator.token")
		if err == nil && !strings.Contains(out, "in_service") {
			err = fmt.Errorf("%s\n%s", out, b.tailOf("/run/units/scalehook.log"))
		}
		return err
	})
	page.Run(t, b.Session(t.Context(), folder), "virsh metadata")
	// The rules are in force: VMs of others are seen, and left alone.
	asScalehook := []string{"runuser", "-u", "scalehook", "--", "virsh", "-c", "qemu:///system"}
	if out, err := b.Try(t, append(asScalehook, "domstate", "db-1")...); err != nil || !strings.Contains(out, "running") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := b.Try(t, append(asScalehook, "destroy", "db-1")...); err == nil || !strings.Contains(out, "access denied") {
		t.Errorf("a VM of somebody else's is ended: %v\n%s", err, out)
	}
	page.AllRan(t)
}
