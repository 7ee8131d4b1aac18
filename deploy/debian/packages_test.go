package debian_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/box"
	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/internal/testenv"
)

var names = []string{"scalehook", "scalehook-exporter"}

// build makes the programs.
func build(t *testing.T) (bin string) {
	t.Helper()
	testenv.Need(t, testenv.Program("go"), testenv.Program("dpkg-deb"), testenv.Program("strip"))
	bin = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "libvirt_dlopen", "-o", bin+"/", "./cmd/...")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// pack makes the packages of a version, by name.
func pack(t *testing.T, bin, version string) map[string]string {
	t.Helper()
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "../../tools/deb", "--bin", bin, "--out", out, "--version", version, "--compress", "none")
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1790000000")
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	files := map[string]string{}
	for _, name := range names {
		found, err := filepath.Glob(filepath.Join(out, name+"_*.deb"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v %v\n%s", name, found, err, said)
		}
		files[name] = found[0]
	}
	return files
}

// again is a package as another version would have it, with other defaults in its
// configuration files.
func again(t *testing.T, file, version string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	command(t, "dpkg-deb", "-R", file, dir)
	edit := func(name string, change func(string) string) {
		path := filepath.Join(dir, name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(change(string(text))), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit("DEBIAN/control", func(s string) string {
		return regexp.MustCompile(`(?m)^Version: .*`).ReplaceAllString(s, "Version: "+version)
	})
	was := func(s string) string { return "# of version " + version + "\n" + s }
	for name := range strings.FieldsSeq(command(t, "cat", filepath.Join(dir, "DEBIAN/conffiles"))) {
		edit(strings.TrimPrefix(name, "/"), was)
	}
	parts := strings.Split(filepath.Base(file), "_") // name, version, architecture
	out := filepath.Join(t.TempDir(), parts[0]+"_"+version+"_"+parts[2])
	command(t, "dpkg-deb", "--root-owner-group", "-Znone", "--build", dir, out)
	return out
}

func command(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// fakeSystemctl writes down what it is asked, stops a service that runs, and reloads
// it as systemd does: by the unit's ExecReload, as the unit's user. What it is asked to
// start, the test starts. What needs no running systemd, the true one does.
const fakeSystemctl = `#!/bin/sh
echo "$*" >>/run/systemctl
case " $* " in
*" --root="*) exec /usr/bin/systemctl.systemd "$@" ;;
*" is-enabled "*) echo enabled ;;
*" is-active "*) echo inactive; exit 3 ;;
*" reload "*)
	for name; do :; done
	unit=/lib/systemd/system/$name.service
	export MAINPID="$(cat "/run/$name.pid")"
	setting() { sed -n "s/^$1=//p" "$unit"; }
	exec setpriv --reuid="$(setting User)" --regid="$(setting Group)" --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all -- sh -c "$(setting ExecReload)"
	;;
*" stop "* | *" restart "*)
	for unit; do
		pid=/run/${unit%.service}.pid
		if [ -e "$pid" ]; then
			kill -TERM "$(cat "$pid")" 2>/dev/null || true
			while kill -0 "$(cat "$pid")" 2>/dev/null; do sleep 0.1; done
			rm -f "$pid"
		fi
	done
	;;
esac
`

// The group's own socket, as where libvirt has no polkit. Without any of it polkit is
// asked, whose rule of libvirt-daemon-system is for the same group.
const libvirtdConf = `unix_sock_group = "libvirt"
unix_sock_rw_perms = "0770"
unix_sock_ro_perms = "0777"
auth_unix_ro = "none"
auth_unix_rw = "none"
`

const qemuConf = `user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = "file"
`

const vmXML = `<domain type='qemu'><name>web-1</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type>hvm</type></os></domain>`

// What the group needs to launch, were it not to observe.
const furniture = `export LIBVIRT_DEFAULT_URI=qemu:///system
virsh pool-create-as default dir --target /var/lib/libvirt/images --build
qemu-img create -q -f qcow2 /var/lib/libvirt/images/base.qcow2 64M
chmod 444 /var/lib/libvirt/images/base.qcow2
virsh pool-refresh default
virsh net-define /dev/stdin <<XML
<network><name>default</name><bridge name="virbr0"/><ip address="192.168.122.1" netmask="255.255.255.0"><dhcp><range start="192.168.122.2" end="192.168.122.254"/></dhcp></ip></network>
XML
virsh net-start default`

const haproxyConf = `global
    stats socket /run/haproxy/scalehook.sock mode 660 level admin group haproxy
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
backend web
    balance roundrobin
    option httpchk GET /
`

const ownConfig = `# edited by hand
owner: box
tokens:
  - {name: alertmanager, role: alerts, file: /etc/scalehook/alerts.token}
  - {name: ops, role: operator, file: /etc/scalehook/operator.token}
providers:
  kvm:
    libvirt: {uri: "qemu:///system"}
balancers:
  edge:
    haproxy:
      sockets: [{address: /run/haproxy/scalehook.sock}]
groups:
  web:
    mode: observe
    min: 1
    max: 3
    high: 70%
    low: 20%
    adopt: [web-1]
    provider: kvm
    template: {image: base.qcow2, pool: default, network: default, memory: 1GiB, vcpus: 1}
    balancer: edge
    pool: {backend: web}
    port: 80
`

// host is a system for the packages to be installed on.
type host struct{ *box.Box }

// install has dpkg install or upgrade packages.
func (b host) install(t *testing.T, files ...string) (string, error) {
	t.Helper()
	args := []string{"dpkg", "--install"}
	for _, file := range files {
		inside := "/tmp/" + filepath.Base(file)
		b.Put(t, file, inside, 0o644)
		args = append(args, inside)
	}
	return b.Try(t, args...)
}

// offer puts packages where the page has them.
func (b host) offer(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	b.Run(t, "rm", "-rf", folder)
	for _, file := range files {
		b.Put(t, file, filepath.Join(folder, filepath.Base(file)), 0o644)
	}
}

// libvirtd starts libvirtd with a configuration.
func (b host) libvirtd(t *testing.T, conf string) *testenv.Process {
	t.Helper()
	b.Write(t, "/etc/libvirt/libvirtd.conf", conf, 0o644)
	return testenv.Start(t, b.Command(context.WithoutCancel(t.Context()), "libvirtd"), func() error {
		_, err := b.Try(t, "virsh", "-c", "qemu:///system", "list")
		return err
	})
}

// hypervisor starts libvirtd, with a VM that runs, and HAProxy in the box.
func (b host) hypervisor(t *testing.T) (libvirtd *testenv.Process) {
	t.Helper()
	b.Write(t, "/etc/libvirt/qemu.conf", qemuConf, 0o644)
	b.Write(t, "/tmp/vm.xml", vmXML, 0o644)
	b.Write(t, "/tmp/haproxy.cfg", haproxyConf, 0o644)
	b.Run(t, "install", "-d", "-m", "755", "/run/haproxy", "/run/libvirt")
	libvirtd = b.libvirtd(t, libvirtdConf)
	b.Run(t, "sh", "-ec", furniture)
	b.Run(t, "virsh", "-c", "qemu:///system", "define", "/tmp/vm.xml")
	b.Run(t, "virsh", "-c", "qemu:///system", "start", "web-1")
	testenv.Start(t, b.Command(t.Context(), "haproxy", "-db", "-f", "/tmp/haproxy.cfg"), b.There("/run/haproxy/scalehook.sock"))
	return libvirtd
}

// as has a user with its own groups run a command.
func (b host) as(t *testing.T, user string, args ...string) (string, error) {
	t.Helper()
	return b.Try(t, append([]string{"setpriv", "--reuid=" + user, "--regid=" + user, "--init-groups", "--bounding-set=-all", "--inh-caps=-all", "--"}, args...)...)
}

// vm is what libvirt says of the VM, its definition and its state.
func (b host) vm(t *testing.T) string {
	t.Helper()
	return b.Run(t, "virsh", "-c", "qemu:///system", "list", "--all") + b.Run(t, "virsh", "-c", "qemu:///system", "dumpxml", "web-1") +
		b.Run(t, "virsh", "-c", "qemu:///system", "dumpxml", "--inactive", "web-1")
}

func TestPackagesAreInstalledUpgradedRemovedAndPurged(t *testing.T) {
	testenv.Need(t, append(box.Needs("setpriv", "systemd-sysusers", "systemd-analyze", "deb-systemd-helper", "libvirtd", "virsh", "qemu-system-x86_64", "haproxy",
		"dbus-daemon", "lintian"), testenv.File("/usr/lib/polkit-1/polkitd", "Debian's polkitd"))...)
	bin := build(t)
	current := pack(t, bin, "1.1.0-1")
	older := map[string]string{}
	for _, name := range names {
		older[name] = again(t, current[name], "1.0.0-1")
	}
	linted := lint(t, current)
	t.Run("built again they are the same", func(t *testing.T) {
		for name, file := range pack(t, bin, "1.1.0-1") {
			sameBytes(t, current[name], file)
		}
	})
	page := doc.ReadPage(t, "../../docs/packages.md")
	b := host{box.New(t)}
	b.Write(t, "/usr/bin/systemctl", fakeSystemctl, 0o755)
	b.Run(t, "sh", "-c", "getent group libvirt haproxy")
	libvirtd := b.hypervisor(t)
	untouched := b.vm(t)
	same := func(t *testing.T) {
		t.Helper()
		if diff := cmp.Diff(untouched, b.vm(t)); diff != "" {
			t.Errorf("the VM is not as it was:\n%s", diff)
		}
	}
	asked := func(t *testing.T) string {
		t.Helper()
		text := ""
		if b.Exists(t, "/run/systemctl") {
			text = b.Read(t, "/run/systemctl")
			b.Run(t, "rm", "/run/systemctl")
		}
		return text
	}
	do := func(t *testing.T, words string) string {
		t.Helper()
		return page.Run(t, b.Session(t.Context(), "/root"), words)
	}
	var server *service
	whole, ok := t, true
	step := func(name string, f func(t *testing.T)) {
		if ok {
			ok = t.Run(name, func(t *testing.T) {
				f(t)
				same(t)
			})
		}
	}
	start := func(t *testing.T, name string) *service {
		t.Helper()
		s := startService(t, whole, b, name)
		s.ready(t)
		return s
	}

	step("install", func(t *testing.T) {
		b.offer(t, "/root/dist", older)
		do(t, "dpkg-deb -f")
		do(t, "# on each hypervisor")
		got := asked(t)
		for _, want := range []string{"daemon-reload", "start scalehook.service", "start scalehook-exporter.service"} {
			if !strings.Contains(got, want) {
				t.Errorf("systemctl was not asked for %q, but for\n%s", want, got)
			}
		}
		for user, groups := range map[string][]string{"scalehook": {"scalehook", "libvirt", "haproxy"}, "scalehook-exporter": {"scalehook-exporter"}} {
			if diff := cmp.Diff(slices.Sorted(slices.Values(groups)), slices.Sorted(slices.Values(strings.Fields(b.Run(t, "id", "-nG", user))))); diff != "" {
				t.Errorf("groups of %s:\n%s", user, diff)
			}
		}
		for _, token := range []string{"alerts", "operator"} {
			if got := b.Run(t, "stat", "-c", "%U %G %a %s", "/etc/scalehook/"+token+".token"); got != "root scalehook 640 65\n" {
				t.Errorf("%s.token: %s", token, got)
			}
		}
		for _, unit := range names {
			if !b.Exists(t, "/etc/systemd/system/multi-user.target.wants/"+unit+".service") {
				t.Errorf("%s is not enabled", unit)
			}
		}
		if out := b.Run(t, "dpkg", "--verify", "scalehook", "scalehook-exporter"); out != "" {
			t.Errorf("files are not as they were packed:\n%s", out)
		}
		b.Run(t, "man", "-w", "scalehook-serve", "scalehook-exporter")
	})
	step("the units hold to what systemd knows and are closed in", func(t *testing.T) {
		for _, name := range names {
			file := "/lib/systemd/system/" + name + ".service"
			if out, err := b.Try(t, "systemd-analyze", "verify", file); err != nil || strings.Contains(out, name) {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
			// Exits with 1 where the exposure, in tenths, is above the threshold.
			if out, err := b.Try(t, "systemd-analyze", "security", "--offline=true", "--threshold=19", file); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
	})
	step("the exporter under its unit", func(t *testing.T) {
		s := start(t, "scalehook-exporter")
		s.watched(t)
		metrics := b.Run(t, "curl", "-sf", "http://127.0.0.1:10071/metrics")
		if !strings.Contains(metrics, `libvirt_domain_state{domain="web-1"`) || !strings.Contains(metrics, "process_start_time_seconds") {
			t.Errorf("it does not see the VM, or itself:\n%s", metrics)
		}
		s.stop(t, b)
	})
	step("the server as it comes, under its unit", func(t *testing.T) {
		s := start(t, "scalehook")
		s.watched(t)
		if got := b.groups(t); got["web"].Mode != "observe" {
			t.Errorf("the groups are %+v", got)
		}
		do(t, "scalehook-kvm.yml")
		b.Write(t, "/etc/scalehook/scalehook.yml", ownConfig, 0o644)
		do(t, "systemctl reload scalehook")
		s.await(t, "RELOADING=1")
		s.await(t, "MONOTONIC_USEC=")
		s.await(t, "READY=1")
		b.seen(t)
		s.stop(t, b)
	})
	for _, socket := range []struct {
		name   string
		polkit bool
		modes  string // of libvirt's socket
	}{
		{"libvirt's socket is for its group", false, "root libvirt 770\n"},
		{"libvirt asks polkit, as Debian's does", true, "root root 777\n"},
	} {
		step(socket.name, func(t *testing.T) {
			if socket.polkit {
				b.Polkit(whole)
				if err := libvirtd.Stop(); err != nil {
					t.Fatal(err)
				}
				libvirtd = b.libvirtd(whole, "")
			}
			if got := b.Run(t, "stat", "-c", "%U %G %a", "/run/libvirt/libvirt-sock"); got != socket.modes {
				t.Fatalf("the socket is %s", got)
			}
			for _, group := range []string{"libvirt", "haproxy"} {
				b.Run(t, "gpasswd", "-d", "scalehook", group)
			}
			s := start(t, "scalehook")
			testenv.Eventually(t, time.Minute, "both problems", func() error {
				g := b.groups(t)["web"]
				for _, want := range []string{"provider kvm:.*group of libvirt's socket", "pool edge:.*permission denied.*group that the socket is for"} {
					if !regexp.MustCompile(want).MatchString(strings.Join(g.Problems, "\n")) {
						return fmt.Errorf("no %q in %q", want, g.Problems)
					}
				}
				return nil
			})
			if g := b.groups(t)["web"]; g.Seen != "" || g.Pool != "" {
				t.Errorf("without the groups it sees %+v", g)
			}
			do(t, "adduser scalehook libvirt")
			s.stopped(t)
			s = start(t, "scalehook")
			b.seen(t)
			if out, err := b.as(t, "scalehook", "virsh", "-c", "qemu:///system", "list", "--name"); err != nil || !strings.Contains(out, "web-1") {
				t.Errorf("%v\n%s", err, out)
			}
			b.Run(t, "scalehook", "pause", "web", "--token-file", "/etc/scalehook/operator.token") // for the store to know something
			s.stop(t, b)
		})
	}
	step("an upgrade that cannot copy the store does not happen", func(t *testing.T) {
		server = start(t, "scalehook")
		// As if systemd had not started it.
		pid := b.Read(t, "/run/scalehook.pid")
		b.Run(t, "rm", "/run/scalehook.pid")
		b.refuses(t, current["scalehook"], "in use", asked)
		b.Write(t, "/run/scalehook.pid", pid, 0o644)
		b.seen(t)
		server.stop(t, b)
	})
	step("nor does one onto a full disk, and a start there migrates nothing", func(t *testing.T) {
		b.Run(t, "sh", "-c", "mv /var/lib/scalehook /var/lib/kept; install -d /var/lib/scalehook; mount -t tmpfs -o size=512k,mode=700,uid=$(id -u scalehook),gid=$(id -g scalehook) tmpfs /var/lib/scalehook")
		old := b.oldStore(t)
		b.Run(t, "sh", "-c", "head -c 340k /dev/zero >/var/lib/scalehook/other")
		b.refuses(t, current["scalehook"], "disk is full", asked)
		if got := startService(t, whole, b, "scalehook").refused(t); !ordered(got, "copy the store before its migration", "disk is full") {
			t.Errorf("it said\n%s", got)
		}
		if diff := cmp.Diff([]string{"other", "scalehook.db"}, slices.DeleteFunc(strings.Fields(b.Run(t, "ls", "-A", "/var/lib/scalehook")), func(name string) bool {
			return strings.HasPrefix(name, "scalehook.db") && slices.Contains([]string{".lock", ".mark", "-wal", "-shm"}, strings.TrimPrefix(name, "scalehook.db"))
		})); diff != "" {
			t.Errorf("left in the folder:\n%s", diff)
		}
		if got := b.schema(t, "/var/lib/scalehook/scalehook.db"); got != old {
			t.Errorf("the store has schema %d", got)
		}
		b.Run(t, "sh", "-c", "umount /var/lib/scalehook; rmdir /var/lib/scalehook; mv /var/lib/kept /var/lib/scalehook")
	})
	step("an upgrade copies the store before the new program is there and migrates it, and keeps what was edited", func(t *testing.T) {
		b.Run(t, "sh", "-c", "mkdir /tmp/kept; mv /var/lib/scalehook/* /tmp/kept/; chmod 755 /tmp/kept")
		old := b.oldStore(t)
		for n := range 4 {
			b.Run(t, "touch", "-d", fmt.Sprintf("2026-01-0%d", n+1), fmt.Sprintf("/var/lib/scalehook/scalehook.db.upgrade-from-9.%d-1-20260101T000000Z", 9-n))
		}
		b.Run(t, "chown", "-R", "scalehook:scalehook", "/var/lib/scalehook")
		b.Write(t, "/etc/default/scalehook-exporter", exporterArgs, 0o644)
		asked(t)
		b.offer(t, "/root/dist", current)
		out := do(t, "./dist/scalehook_*.deb ./dist/scalehook-exporter_*.deb")
		got := asked(t)
		for _, name := range names {
			if !ordered(got, "stop "+name+".service", "daemon-reload", "start "+name+".service") {
				t.Errorf("systemctl was asked for\n%s", got)
			}
		}
		if !ordered(out, "saved to /var/lib/scalehook/scalehook.db.upgrade-from-1.0.0-1-", "Unpacking scalehook (1.1.0-1) over (1.0.0-1)") {
			t.Errorf("the copy does not come first:\n%s", out)
		}
		copies := b.copies(t)
		if len(copies) != 3 || !strings.Contains(copies[0], "from-1.0.0-1-") || !strings.Contains(copies[1], "from-9.6-") || !strings.Contains(copies[2], "from-9.7-") {
			t.Fatalf("copies: %q, want the new one and the two newest", copies)
		}
		if got := b.Run(t, "stat", "-c", "%U %G %a", copies[0]); got != "scalehook scalehook 600\n" {
			t.Errorf("the copy is %s", got)
		}
		if got := b.schema(t, copies[0]); got != old {
			t.Errorf("the copy has schema %d, want that of the store before, %d", got, old)
		}
		if out := b.Run(t, "scalehook", "restore", "--storage.path", "/tmp/restored", copies[0]); !strings.Contains(out, "groups: 3") {
			t.Errorf("the copy is not one of the store: %s", out)
		}
		if got := b.Read(t, "/etc/scalehook/scalehook.yml"); got != ownConfig {
			t.Errorf("the edited configuration is now\n%s", got)
		}
		if got := b.Read(t, "/etc/default/scalehook-exporter"); got != exporterArgs {
			t.Errorf("the exporter's edited flags are now\n%s", got)
		}
		if !b.Exists(t, "/etc/scalehook/scalehook.yml.dpkg-dist") || !b.Exists(t, "/etc/default/scalehook-exporter.dpkg-dist") {
			t.Error("the new defaults are not beside what was edited")
		}
		if got := b.Read(t, "/etc/default/scalehook"); strings.Contains(got, "# of version") {
			t.Error("a configuration file that nobody edited is still the old one")
		}
		server = start(t, "scalehook")
		server.stop(t, b)
		if got := b.schema(t, "/var/lib/scalehook/scalehook.db"); got <= old {
			t.Errorf("the store has schema %d, and had %d", got, old)
		}
		if got := b.Run(t, "sh", "-c", fmt.Sprintf("ls /var/lib/scalehook/scalehook.db.schema%d-* | wc -l", old)); got != "1\n" {
			t.Errorf("copies that the start made: %s", got)
		}
		exporter := start(t, "scalehook-exporter")
		if metrics := b.Run(t, "curl", "-sf", "http://127.0.0.1:10072/metrics"); !strings.Contains(metrics, `libvirt_domain_state{domain="web-1"`) {
			t.Errorf("the new exporter does not see the VM:\n%s", metrics)
		}
		exporter.stop(t, b)
	})
	step("an older package goes over a newer one and copies too; its program refuses a store that it does not know", func(t *testing.T) {
		b.offer(t, "/root/old", older)
		out := do(t, "dpkg -i ./old/")
		if !ordered(out, "downgrading scalehook from 1.1.0-1 to 1.0.0-1", "saved to /var/lib/scalehook/scalehook.db.upgrade-from-1.1.0-1-") {
			t.Fatal(out)
		}
		if got := b.copies(t); len(got) != 3 {
			t.Errorf("copies: %q", got)
		}
		if got := b.Read(t, "/etc/scalehook/scalehook.yml"); got != ownConfig {
			t.Errorf("the edited configuration is now\n%s", got)
		}
		// These two know the same schemas, so that a still newer one has been there.
		b.schemaIs(t, "/var/lib/scalehook/scalehook.db", 99)
		if got := startService(t, whole, b, "scalehook").refused(t); !strings.Contains(got, "written by a newer scalehook (schema 99") {
			t.Errorf("it said\n%s", got)
		}
		b.refuses(t, older["scalehook"], "written by a newer scalehook", asked)
		if got := b.schema(t, "/var/lib/scalehook/scalehook.db"); got != 99 {
			t.Errorf("the store has schema %d", got)
		}
		asked(t)
		do(t, "scalehook restore")
		if got := asked(t); got != "stop scalehook\nstart scalehook\n" {
			t.Errorf("systemctl was asked for\n%s", got)
		}
		server = start(t, "scalehook")
		server.stop(t, b)
	})
	step("remove stops the services and leaves what they know", func(t *testing.T) {
		server = start(t, "scalehook")
		exporter := start(t, "scalehook-exporter")
		asked(t)
		do(t, "apt remove")
		server.stopped(t)
		exporter.stopped(t)
		for line := range strings.Lines(asked(t)) {
			if !strings.Contains(line, "stop") && !strings.Contains(line, "daemon-reload") && !strings.Contains(line, "is-") {
				t.Errorf("systemctl was asked for %s", line)
			}
		}
		for _, file := range []string{
			"/etc/scalehook/scalehook.yml", "/etc/scalehook/operator.token", "/var/lib/scalehook/scalehook.db", "/etc/default/scalehook-exporter",
		} {
			if !b.Exists(t, file) {
				t.Errorf("%s is gone", file)
			}
		}
		if b.Exists(t, "/usr/bin/scalehook") || b.Exists(t, "/usr/share/scalehook") || b.Exists(t, "/usr/bin/scalehook-exporter") {
			t.Error("the programs are still there")
		}
	})
	step("packages that are installed again find the store as it was", func(t *testing.T) {
		token, was := b.Read(t, "/etc/scalehook/operator.token"), b.Run(t, "sha256sum", "/var/lib/scalehook/scalehook.db")
		if out, err := b.install(t, older["scalehook"], older["scalehook-exporter"]); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if b.Read(t, "/etc/scalehook/operator.token") != token {
			t.Error("the token is another one")
		}
		if got := b.Run(t, "sha256sum", "/var/lib/scalehook/scalehook.db"); got != was {
			t.Errorf("the store was %s and is %s", was, got)
		}
	})
	step("a purge of what is installed ends the services and removes what they and the packages made, and no more", func(t *testing.T) {
		server = start(t, "scalehook")
		exporter := start(t, "scalehook-exporter")
		b.Write(t, "/etc/scalehook/clouds.yaml", "mine\n", 0o600)
		do(t, "apt purge")
		server.stopped(t)
		exporter.stopped(t)
		b.purged(t)
	})
	step("a purge of what was removed does the same", func(t *testing.T) {
		if out, err := b.install(t, older["scalehook"], older["scalehook-exporter"]); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b.Run(t, "mv", "/tmp/kept", "/var/lib/scalehook")
		b.Run(t, "dpkg", "--remove", "scalehook", "scalehook-exporter")
		b.Run(t, "dpkg", "--purge", "scalehook", "scalehook-exporter")
		b.purged(t)
	})
	if ok {
		page.AllRan(t)
	}
	t.Run("lintian has nothing to say", func(t *testing.T) {
		if said := <-linted; said != "" {
			t.Error(said)
		}
	})
}

const exporterArgs = "ARGS=\"--web.listen-address=127.0.0.1:10072\"\n"

// lint runs lintian beside the rest, which mostly waits.
func lint(t *testing.T, files map[string]string) <-chan string {
	t.Helper()
	said := make(chan string, 1)
	cmd := exec.CommandContext(t.Context(), testenv.Path(t, "lintian"), "--allow-root",
		"--suppress-tags", "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball", // for the test's speed
		files["scalehook"], files["scalehook-exporter"])
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := cmd.Wait(); err != nil {
			fmt.Fprintln(&out, err)
		}
		said <- out.String()
	}()
	return said
}

// refuses wants an upgrade not to happen, and to say why.
func (b host) refuses(t *testing.T, file, why string, asked func(*testing.T) string) {
	t.Helper()
	asked(t)
	was := b.Run(t, "dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", "scalehook")
	copies := b.copies(t)
	out, err := b.install(t, file)
	if err == nil || !ordered(out, why, "scalehook is not upgraded") {
		t.Errorf("want %q, got %v\n%s", why, err, out)
	}
	if got := b.Run(t, "dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", "scalehook"); got != was {
		t.Errorf("dpkg says %s, and said %s", got, was)
	}
	if got := asked(t); !ordered(got, "stop scalehook.service", "start scalehook.service") {
		t.Errorf("the old one was not started again, systemctl was asked for\n%s", got)
	}
	if diff := cmp.Diff(copies, b.copies(t)); diff != "" {
		t.Errorf("copies:\n%s", diff)
	}
}

// oldStore puts a store of the first schema, with groups in mid-activity, in the
// server's place, and returns its schema.
func (b host) oldStore(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("../../internal/store/testdata/schema1.sqlite")
	if err != nil {
		t.Fatal(err)
	}
	const file = "/var/lib/scalehook/scalehook.db"
	b.Write(t, file, string(text), 0o600)
	b.Run(t, "chown", "scalehook:scalehook", file)
	return b.schema(t, file)
}

// The schema is in the file's header, at the place of SQLite's user_version. No
// store here has a log beside it.
const (
	versionAt  = 60
	versionEnd = 64
)

func (b host) schema(t *testing.T, file string) int {
	t.Helper()
	text := b.Read(t, file)
	if len(text) < versionEnd {
		t.Fatalf("%s has %d bytes", file, len(text))
	}
	return int(binary.BigEndian.Uint32([]byte(text[versionAt:versionEnd])))
}

func (b host) schemaIs(t *testing.T, file string, version uint32) {
	t.Helper()
	f, err := os.OpenFile(b.Path(file), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(binary.BigEndian.AppendUint32(nil, version), versionAt)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// purged wants nothing left but what is not the packages'.
func (b host) purged(t *testing.T) {
	t.Helper()
	if got := b.Run(t, "ls", "-A", "/etc/scalehook"); got != "clouds.yaml\n" {
		t.Errorf("left in /etc/scalehook: %s", got)
	}
	for _, file := range []string{
		"/var/lib/scalehook", "/etc/default/scalehook", "/etc/default/scalehook-exporter", "/etc/default/scalehook-exporter.dpkg-dist",
		"/etc/systemd/system/multi-user.target.wants/scalehook.service", "/etc/systemd/system/scalehook.service",
		"/etc/systemd/system/multi-user.target.wants/scalehook-exporter.service", "/etc/systemd/system/scalehook-exporter.service",
		"/usr/bin/scalehook", "/usr/bin/scalehook-exporter",
	} {
		if b.Exists(t, file) {
			t.Errorf("%s is still there", file)
		}
	}
	b.Run(t, "id", "scalehook")
	b.Run(t, "id", "scalehook-exporter")
}

// copies are the copies of the store that upgrades made.
func (b host) copies(t *testing.T) []string {
	t.Helper()
	out := b.Run(t, "sh", "-c", "ls /var/lib/scalehook/scalehook.db.upgrade-from-* 2>/dev/null || true")
	return strings.Fields(out)
}

// ordered reports whether the texts are all there, one after the other.
func ordered(text string, parts ...string) bool {
	for _, part := range parts {
		_, after, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = after
	}
	return true
}

// group is what the test reads of a group.
type group struct {
	Name     string
	Problems []string
	Mode     string
	Seen     string `json:"provider_seen"`
	Pool     string `json:"pool_seen"`
}

func (b host) groups(t *testing.T) map[string]group {
	t.Helper()
	var list []group
	out := b.Run(t, "scalehook", "groups", "-o", "json", "--token-file", "/etc/scalehook/operator.token")
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	groups := map[string]group{}
	for _, g := range list {
		groups[g.Name] = g
	}
	return groups
}

// seen waits until the server has looked at its hypervisor and its pool.
func (b host) seen(t *testing.T) {
	t.Helper()
	testenv.Eventually(t, time.Minute, "a look at libvirt and HAProxy", func() error {
		if g := b.groups(t)["web"]; g.Seen == "" || g.Pool == "" {
			return fmt.Errorf("the group is %+v", g)
		}
		return nil
	})
}

// sameBytes fails where two packages differ.
func sameBytes(t *testing.T, first, second string) {
	t.Helper()
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s differs from one time to the next", filepath.Base(first))
	}
}

// What runs as root at an upgrade gives no order: the one call of scalehook copies.
func TestTheScriptsGiveNoOrder(t *testing.T) {
	scripts, err := filepath.Glob("*.p*")
	if err != nil || len(scripts) < 7 {
		t.Fatalf("scripts: %v %v", scripts, err)
	}
	call := regexp.MustCompile(`(/usr/bin/scalehook|\bvirsh|\bcurl|\bscalehook (scale|handover|set|release|cleanup|pause|resume))[^\n]*`)
	var got []string
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, call.FindAllString(string(text), -1)...)
	}
	want := []string{`/usr/bin/scalehook backup --storage.path "$store" "$copy" >&2; then`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}
