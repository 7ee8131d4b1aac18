//go:build tutorial

package tutorial

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/box"
	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/internal/testenv"
)

// site is the host of the reader of the tutorial.
type site struct{ *box.Box }

// The machine's device of KVM is covered, since where it does not work libvirt
// believes in it all the same: the VMs of the box are emulated.
const siteScript = `mkdir -p /run/libvirt /run/haproxy
echo 1 >/proc/sys/net/ipv4/ip_forward
: >/run/kvm
if [ -e /dev/kvm ]; then mount --bind /run/kvm /dev/kvm; fi`

func newSite(t *testing.T) site {
	t.Helper()
	b := site{box.New(t, "etc/prometheus", "var/lib/prometheus")}
	b.Run(t, "sh", "-ec", siteScript)
	return b
}

// existing are the daemons that were there before scalehook, and their files.
func existing() map[string]string {
	return map[string]string{
		"prometheus":              "/etc/prometheus/prometheus.yml",
		"prometheus-alertmanager": "/etc/prometheus/alertmanager.yml",
		"haproxy":                 "/etc/haproxy/haproxy.cfg",
	}
}

// images is the pool's folder.
const images = "/var/lib/libvirt/images/"

// hypervisor brings up libvirt, with its network and a pool.
func (b site) hypervisor(t *testing.T) {
	t.Helper()
	b.Put(t, "box/systemctl", "/usr/bin/systemctl", 0o755)
	b.Put(t, "box/qemu.conf", "/etc/libvirt/qemu.conf", 0o644)
	for _, name := range []string{"network.xml", "pool.xml"} {
		b.Put(t, "box/"+name, "/tmp/"+name, 0o644)
	}
	b.Run(t, "install", "-d", images)
	b.Run(t, "sh", "-ec", `systemctl start libvirtd
virsh net-define /tmp/network.xml
virsh net-start default
virsh pool-define /tmp/pool.xml
virsh pool-start default`)
}

// define defines a VM with the end of its MAC; its disk is called like it.
func (b site) define(t *testing.T, name, mac string) {
	t.Helper()
	text, err := os.ReadFile("box/web-1.xml")
	if err != nil {
		t.Fatal(err)
	}
	b.Write(t, "/tmp/"+name+".xml", strings.NewReplacer("web-1", name, "00:00:10", "00:00:"+mac).Replace(string(text)), 0o644)
	b.Run(t, "virsh", "define", "/tmp/"+name+".xml")
}

// offer puts the packages where the pages have them.
func (b site) offer(t *testing.T, packages []string) {
	t.Helper()
	for _, file := range packages {
		b.Put(t, file, "/root/scalehook/dist/"+filepath.Base(file), 0o644)
	}
}

// furnish brings up what the reader of the tutorial has: libvirt with a VM that
// serves behind HAProxy, Prometheus and Alertmanager, with Debian's own units.
func (b site) furnish(t *testing.T) {
	t.Helper()
	img, err := guest.Build(t.Context(), guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b.Put(t, "box/libvirtd.conf", "/etc/libvirt/libvirtd.conf", 0o644)
	b.hypervisor(t)
	for _, file := range existing() {
		b.Put(t, filepath.Join("..", "..", "internal", "merge", "testdata", filepath.Base(file)), file, 0o644)
	}
	b.Put(t, img.Path, "/root/scalehook/web.qcow2", 0o644)
	b.Put(t, img.Path, images+"web-1.qcow2", 0o600)
	b.define(t, "web-1", "10")
	b.Run(t, "sh", "-ec", "virsh pool-refresh default; virsh start web-1")
	b.Run(t, "install", "-d", "-o", "prometheus", "-g", "prometheus", "/var/lib/prometheus/metrics2", "/var/lib/prometheus/alertmanager")

	// Before HAProxy is there: it takes a server that its first checks miss for down.
	testenv.Eventually(t, 2*time.Minute, "web-1 to serve", func() error {
		return b.Command(t.Context(), "curl", "-sf", "-m", "2", "-o", "/dev/null", "http://192.168.122.10/health").Run()
	})
	for unit := range existing() {
		b.Run(t, "systemctl", "start", unit)
	}
	testenv.Eventually(t, 2*time.Minute, "the site, Prometheus and Alertmanager to answer", func() error {
		return b.Command(t.Context(), "sh", "-ec", `curl -sf -o /dev/null http://127.0.0.1/health
curl -sf http://127.0.0.1:9090/-/ready
curl -sf http://127.0.0.1:9093/-/ready`).Run()
	})
}

// daemon tells a running process from one that was started again.
func (b site) daemon(t *testing.T, unit string) string {
	t.Helper()
	pid := strings.TrimSpace(b.Read(t, "/run/units/"+unit+".pid"))
	stat := b.Read(t, filepath.Join("/proc", pid, "stat"))
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	return "pid " + pid + " since " + fields[19]
}
