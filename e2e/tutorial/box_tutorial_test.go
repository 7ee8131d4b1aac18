//go:build tutorial

package tutorial

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/testenv"
)

// box is this system over again, as in deploy/debian: its files copied on write, a
// network and processes of its own, and no VM, time series or store of the machine's.
type box struct {
	pid  int
	root string // its root folder, seen from outside
	net  *os.File
}

// The machine's device of KVM is covered, since where it does not work libvirt
// believes in it all the same: the VMs of the box are emulated.
const boxScript = `set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
for dir in run tmp etc/libvirt etc/prometheus var/lib/libvirt var/log/libvirt var/cache/libvirt var/lib/prometheus; do
	mkdir -p "root/$dir"
	mount -t tmpfs -o mode=755 tmpfs "root/$dir"
done
chmod 1777 root/tmp
mkdir -p root/run/lock root/run/systemd/system root/run/libvirt root/run/haproxy
mount --rbind /dev root/dev
: >kvm
if [ -e root/dev/kvm ]; then mount --bind kvm root/dev/kvm; fi
mount --rbind /sys root/sys
ip link set lo up
read -r pid rest </proc/self/stat
mount -t proc proc root/proc
echo 1 >root/proc/sys/net/ipv4/ip_forward
rm -f root/usr/sbin/policy-rc.d root/root/.config/systemd
echo "$pid"
exec chroot root sh -c 'while :; do sleep 600 & wait; done' # collects what ended
`

func newBox(t *testing.T) *box {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), testenv.Path(t, "unshare"),
		"--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", boxScript, "sh", dir)
	out := &bytes.Buffer{}
	said, err := os.Create(filepath.Join(t.TempDir(), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, out
	b := &box{}
	testenv.Start(t, cmd, func() error {
		text, err := os.ReadFile(said.Name())
		if err != nil {
			return err
		}
		if b.pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return err
		}
		b.root = filepath.Join("/proc", strconv.Itoa(b.pid), "root")
		_, err = os.Stat(b.path("/run/systemd/system"))
		return err
	})
	if b.net, err = os.Open(filepath.Join("/proc", strconv.Itoa(b.pid), "ns", "net")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.net.Close() })
	return b
}

// command is one to run in the box, as root.
func (b *box) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{
		"--target", strconv.Itoa(b.pid),
		"--mount", "--net", "--pid", "--root", "--wd", "--",
	}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// run runs a command in the box, and the test ends if it fails.
func (b *box) run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := b.command(ctx, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// path is a file of the box, seen from outside.
func (b *box) path(name string) string { return filepath.Join(b.root, name) }

func (b *box) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// put copies a file of the machine's into the box.
func (b *box) put(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(b.path(to)), 0o755), os.WriteFile(b.path(to), text, mode), os.Chmod(b.path(to), mode))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects from inside the box.
func (b *box) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = lab.InNetwork(b.net, func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// existing are the daemons that were there before scalehook, and their files.
func existing() map[string]string {
	return map[string]string{
		"prometheus":              "/etc/prometheus/prometheus.yml",
		"prometheus-alertmanager": "/etc/prometheus/alertmanager.yml",
		"haproxy":                 "/etc/haproxy/haproxy.cfg",
	}
}

// furnish brings up what the reader of the tutorial has: libvirt with a VM that
// serves behind HAProxy, Prometheus and Alertmanager, with Debian's own units.
func (b *box) furnish(t *testing.T) {
	t.Helper()
	img, err := guest.Build(t.Context(), guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	// In its very place: apt has maintainer scripts look nowhere else.
	b.run(t, "mv", "/usr/bin/systemctl", "/usr/bin/systemctl.systemd")
	b.put(t, "box/systemctl", "/usr/bin/systemctl", 0o755)
	for _, name := range []string{"libvirtd.conf", "qemu.conf"} {
		b.put(t, "box/"+name, "/etc/libvirt/"+name, 0o644)
	}
	for _, name := range []string{"network.xml", "pool.xml", "web-1.xml"} {
		b.put(t, "box/"+name, "/tmp/"+name, 0o644)
	}
	for _, file := range existing() {
		b.put(t, filepath.Join("..", "..", "internal", "merge", "testdata", filepath.Base(file)), file, 0o644)
	}
	b.put(t, img.Path, "/root/scalehook/web.qcow2", 0o644)
	b.put(t, img.Path, "/var/lib/libvirt/images/web-1.qcow2", 0o600)
	b.run(t, "install", "-d", "-o", "prometheus", "-g", "prometheus", "/var/lib/prometheus/metrics2", "/var/lib/prometheus/alertmanager")

	// The server that libvirtd forks for the network's names outlives this command.
	libvirtd := b.command(t.Context(), "libvirtd")
	libvirtd.Stdout, libvirtd.Stderr = os.Stdout, os.Stdout
	testenv.Start(t, libvirtd, func() error {
		return b.command(t.Context(), "virsh", "-c", "qemu:///system", "list").Run()
	})
	b.run(t, "sh", "-ec", `export LIBVIRT_DEFAULT_URI=qemu:///system
virsh net-define /tmp/network.xml
virsh net-start default
virsh pool-define /tmp/pool.xml
virsh pool-start default
virsh define /tmp/web-1.xml
virsh start web-1`)
	// Before HAProxy is there: it takes a server that its first checks miss for down.
	testenv.Eventually(t, 2*time.Minute, "web-1 to serve", func() error {
		return b.command(t.Context(), "curl", "-sf", "-m", "2", "-o", "/dev/null", "http://192.168.122.10/health").Run()
	})
	for unit := range existing() {
		b.run(t, "systemctl", "start", unit)
	}
	testenv.Eventually(t, 2*time.Minute, "the site, Prometheus and Alertmanager to answer", func() error {
		return b.command(t.Context(), "sh", "-ec", `curl -sf -o /dev/null http://127.0.0.1/health
curl -sf http://127.0.0.1:9090/-/ready
curl -sf http://127.0.0.1:9093/-/ready`).Run()
	})
}

// daemon tells a running process from one that was started again.
func (b *box) daemon(t *testing.T, unit string) string {
	t.Helper()
	pid := strings.TrimSpace(b.read(t, "/run/units/"+unit+".pid"))
	stat := b.read(t, filepath.Join("/proc", pid, "stat"))
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	return "pid " + pid + " since " + fields[19]
}
