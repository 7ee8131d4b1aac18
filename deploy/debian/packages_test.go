package debian_test

import (
	"bytes"
	"encoding/json"
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
	edit("etc/scalehook/scalehook.yml", was)
	edit("etc/default/scalehook", was)
	out := filepath.Join(t.TempDir(), "again.deb")
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

// fakeSystemctl writes down what it is asked, and stops a service that runs. What
// needs no running systemd, the true one does.
const fakeSystemctl = `#!/bin/sh
echo "$*" >>/run/systemctl
case " $* " in
*" --root="*) exec /usr/bin/systemctl "$@" ;;
*" is-enabled "*) echo enabled ;;
*" is-active "*) echo inactive; exit 3 ;;
*" stop "*)
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

// hypervisor starts libvirtd, with a VM that runs, and HAProxy in the box.
func (b *box) hypervisor(t *testing.T) {
	t.Helper()
	b.write(t, "/etc/libvirt/libvirtd.conf", libvirtdConf, 0o644)
	b.write(t, "/etc/libvirt/qemu.conf", qemuConf, 0o644)
	b.write(t, "/tmp/vm.xml", vmXML, 0o644)
	b.write(t, "/tmp/haproxy.cfg", haproxyConf, 0o644)
	b.run(t, "install", "-d", "-m", "755", "/run/haproxy", "/run/libvirt")
	testenv.Start(t, b.command(t.Context(), "libvirtd"), func() error {
		_, err := b.try(t, "virsh", "-c", "qemu:///system", "list")
		return err
	})
	b.run(t, "virsh", "-c", "qemu:///system", "define", "/tmp/vm.xml")
	b.run(t, "virsh", "-c", "qemu:///system", "start", "web-1")
	testenv.Start(t, b.command(t.Context(), "haproxy", "-db", "-f", "/tmp/haproxy.cfg"), func() error {
		return mustExist(b.path("/run/haproxy/scalehook.sock"))
	})
}

// vm is what libvirt says of the VM, its definition and its state.
func (b *box) vm(t *testing.T) string {
	t.Helper()
	return b.run(t, "virsh", "-c", "qemu:///system", "list", "--all") + b.run(t, "virsh", "-c", "qemu:///system", "dumpxml", "web-1") +
		b.run(t, "virsh", "-c", "qemu:///system", "dumpxml", "--inactive", "web-1")
}

func TestPackagesAreInstalledUpgradedRemovedAndPurged(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.Program("unshare"), testenv.Program("nsenter"), testenv.Program("setpriv"), testenv.Program("ip"),
		testenv.Program("systemd-sysusers"), testenv.Program("systemd-analyze"), testenv.Program("deb-systemd-helper"),
		testenv.Program("libvirtd"), testenv.Program("virsh"), testenv.Program("qemu-system-x86_64"), testenv.Program("haproxy"))
	bin := build(t)
	current := pack(t, bin, "1.1.0-1")
	t.Run("built again they are the same", func(t *testing.T) {
		for name, file := range pack(t, bin, "1.1.0-1") {
			sameBytes(t, current[name], file)
		}
	})
	t.Run("lintian has nothing to say", func(t *testing.T) {
		testenv.Need(t, testenv.Program("lintian"))
		if out, err := exec.CommandContext(t.Context(), "lintian", "--allow-root",
			"--suppress-tags", "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball", // for the test's speed
			current["scalehook"], current["scalehook-exporter"]).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%v\n%s", err, out)
		}
	})
	b := newBox(t)
	b.write(t, "/usr/local/sbin/systemctl", fakeSystemctl, 0o755)
	b.run(t, "sh", "-c", "getent group libvirt haproxy")
	b.hypervisor(t)
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
		if b.exists(t, "/run/systemctl") {
			text = b.read(t, "/run/systemctl")
			b.run(t, "rm", "/run/systemctl")
		}
		return text
	}
	var server *service
	whole, ok := t, true
	step := func(name string, f func(t *testing.T)) {
		if ok {
			ok = t.Run(name, f)
		}
	}

	step("install", func(t *testing.T) {
		if out, err := b.install(t, again(t, current["scalehook"], "1.0.0-1"), current["scalehook-exporter"]); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got := asked(t)
		for _, want := range []string{"daemon-reload", "start scalehook.service", "start scalehook-exporter.service"} {
			if !strings.Contains(got, want) {
				t.Errorf("systemctl was not asked for %q, but for\n%s", want, got)
			}
		}
		for user, groups := range map[string][]string{"scalehook": {"scalehook", "libvirt", "haproxy"}, "scalehook-exporter": {"scalehook-exporter"}} {
			if diff := cmp.Diff(slices.Sorted(slices.Values(groups)), slices.Sorted(slices.Values(strings.Fields(b.run(t, "id", "-nG", user))))); diff != "" {
				t.Errorf("groups of %s:\n%s", user, diff)
			}
		}
		for _, token := range []string{"alerts", "operator"} {
			if got := b.run(t, "stat", "-c", "%U %G %a %s", "/etc/scalehook/"+token+".token"); got != "root scalehook 640 65\n" {
				t.Errorf("%s.token: %s", token, got)
			}
		}
		for _, unit := range names {
			if !b.exists(t, "/etc/systemd/system/multi-user.target.wants/"+unit+".service") {
				t.Errorf("%s is not enabled", unit)
			}
		}
		if out := b.run(t, "dpkg", "--verify", "scalehook", "scalehook-exporter"); out != "" {
			t.Errorf("files are not as they were packed:\n%s", out)
		}
		b.run(t, "man", "-w", "scalehook-serve", "scalehook-exporter")
		same(t)
	})
	step("the units hold to what systemd knows and are closed in", func(t *testing.T) {
		for _, name := range names {
			file := "/lib/systemd/system/" + name + ".service"
			if out, err := b.try(t, "systemd-analyze", "verify", file); err != nil || strings.Contains(out, name) {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
			// Exits with 1 where the exposure, in tenths, is above the threshold.
			if out, err := b.try(t, "systemd-analyze", "security", "--offline=true", "--threshold=19", file); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
	})
	step("the exporter under its unit", func(t *testing.T) {
		s := startService(t, whole, b, "scalehook-exporter")
		s.await(t, "READY=1")
		s.await(t, "WATCHDOG=1")
		metrics := b.run(t, "curl", "-sf", "http://127.0.0.1:10071/metrics")
		if !strings.Contains(metrics, `libvirt_domain_state{domain="web-1"`) || !strings.Contains(metrics, "process_start_time_seconds") {
			t.Errorf("it does not see the VM, or itself:\n%s", metrics)
		}
		s.signal(t, b, "TERM", "scalehook-exporter")
		s.await(t, "STOPPING=1")
		s.ended(t)
	})
	step("the server as it comes, under its unit", func(t *testing.T) {
		s := startService(t, whole, b, "scalehook")
		s.await(t, "READY=1")
		s.await(t, "WATCHDOG=1")
		if got := b.groups(t); got["web"].Mode != "observe" {
			t.Errorf("the groups are %+v", got)
		}
		s.signal(t, b, "HUP", "scalehook")
		s.await(t, "RELOADING=1")
		s.await(t, "READY=1")
		s.signal(t, b, "TERM", "scalehook")
		s.await(t, "STOPPING=1")
		s.ended(t)
	})
	step("the server reaches libvirt and HAProxy as its own user", func(t *testing.T) {
		b.write(t, "/etc/scalehook/scalehook.yml", ownConfig, 0o644)
		server = startService(t, whole, b, "scalehook")
		server.await(t, "READY=1")
		b.seen(t)
		b.run(t, "scalehook", "pause", "web", "--token-file", "/etc/scalehook/operator.token") // for the store to know something
		same(t)
	})
	step("an upgrade copies the store before the new program is there, and keeps what was edited", func(t *testing.T) {
		asked(t)
		out, err := b.install(t, current["scalehook"])
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		server.await(t, "STOPPING=1")
		server.ended(t)
		if got := asked(t); !ordered(got, "stop scalehook.service", "daemon-reload", "start scalehook.service") {
			t.Errorf("systemctl was asked for\n%s", got)
		}
		if !ordered(out, "saved to /var/lib/scalehook/scalehook.db.upgrade-from-1.0.0-1-", "Unpacking scalehook (1.1.0-1) over (1.0.0-1)") {
			t.Errorf("the copy does not come first:\n%s", out)
		}
		copies := b.copies(t)
		if len(copies) != 1 {
			t.Fatalf("copies: %q", copies)
		}
		if got := b.run(t, "stat", "-c", "%U %G %a", copies[0]); got != "scalehook scalehook 600\n" {
			t.Errorf("the copy is %s", got)
		}
		if out := b.run(t, "scalehook", "restore", "--storage.path", "/tmp/restored", copies[0]); !strings.Contains(out, "1 groups") {
			t.Errorf("the copy is not one of the store: %s", out)
		}
		if got := b.read(t, "/etc/scalehook/scalehook.yml"); got != ownConfig {
			t.Errorf("the edited configuration is now\n%s", got)
		}
		if !b.exists(t, "/etc/scalehook/scalehook.yml.dpkg-dist") {
			t.Error("the new default configuration is not beside it")
		}
		if got := b.read(t, "/etc/default/scalehook"); strings.Contains(got, "# of version") {
			t.Error("a configuration file that nobody edited is still the old one")
		}
		same(t)
	})
	step("an upgrade that cannot copy the store does not happen", func(t *testing.T) {
		server = startService(t, whole, b, "scalehook")
		server.await(t, "READY=1")
		// As if systemd had not started it.
		pid := b.read(t, "/run/scalehook.pid")
		b.run(t, "rm", "/run/scalehook.pid")
		out, err := b.install(t, again(t, current["scalehook"], "1.2.0-1"))
		if err == nil || !strings.Contains(out, "scalehook is not upgraded") {
			t.Errorf("%v\n%s", err, out)
		}
		if got := b.run(t, "dpkg-query", "-W", "-f", "${Version} ${db:Status-Status}", "scalehook"); got != "1.1.0-1 installed" {
			t.Errorf("dpkg says %s", got)
		}
		if got := asked(t); !ordered(got, "stop scalehook.service", "start scalehook.service") {
			t.Errorf("the old one was not started again, systemctl was asked for\n%s", got)
		}
		b.write(t, "/run/scalehook.pid", pid, 0o644)
		b.seen(t)
		same(t)
	})
	step("three copies are kept", func(t *testing.T) {
		for range 3 {
			if out, err := b.install(t, current["scalehook"]); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			// Names have the second in them.
			b.run(t, "sleep", "1.1")
		}
		server.ended(t)
		if got := b.copies(t); len(got) != 3 {
			t.Errorf("copies: %q", got)
		}
	})
	step("remove stops the server and leaves what it knows", func(t *testing.T) {
		server = startService(t, whole, b, "scalehook")
		server.await(t, "READY=1")
		asked(t)
		b.run(t, "dpkg", "--remove", "scalehook", "scalehook-exporter")
		server.await(t, "STOPPING=1")
		server.ended(t)
		for line := range strings.Lines(asked(t)) {
			if !strings.Contains(line, "stop") && !strings.Contains(line, "daemon-reload") && !strings.Contains(line, "is-") {
				t.Errorf("systemctl was asked for %s", line)
			}
		}
		for _, file := range []string{"/etc/scalehook/scalehook.yml", "/etc/scalehook/operator.token", "/var/lib/scalehook/scalehook.db"} {
			if !b.exists(t, file) {
				t.Errorf("%s is gone", file)
			}
		}
		if b.exists(t, "/usr/bin/scalehook") || b.exists(t, "/usr/share/scalehook") {
			t.Error("the program is still there")
		}
		same(t)
	})
	step("purge removes what the package and the server made, and no more", func(t *testing.T) {
		b.write(t, "/etc/scalehook/clouds.yaml", "mine\n", 0o600)
		b.run(t, "dpkg", "--purge", "scalehook", "scalehook-exporter")
		if got := b.run(t, "ls", "-A", "/etc/scalehook"); got != "clouds.yaml\n" {
			t.Errorf("left in /etc/scalehook: %s", got)
		}
		for _, file := range []string{
			"/var/lib/scalehook", "/etc/default/scalehook", "/etc/default/scalehook-exporter",
			"/etc/systemd/system/multi-user.target.wants/scalehook.service", "/etc/systemd/system/scalehook.service",
		} {
			if b.exists(t, file) {
				t.Errorf("%s is still there", file)
			}
		}
		b.run(t, "id", "scalehook")
		same(t)
	})
}

// copies are the copies of the store that upgrades made.
func (b *box) copies(t *testing.T) []string {
	t.Helper()
	out := b.run(t, "sh", "-c", "ls /var/lib/scalehook/scalehook.db.upgrade-from-* 2>/dev/null || true")
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

func (b *box) groups(t *testing.T) map[string]group {
	t.Helper()
	var list []group
	out := b.run(t, "scalehook", "groups", "-o", "json", "--token-file", "/etc/scalehook/operator.token")
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
func (b *box) seen(t *testing.T) {
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
