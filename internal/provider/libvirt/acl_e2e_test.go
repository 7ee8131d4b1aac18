//go:build e2e

package libvirt_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	golibvirt "libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/provider/libvirt"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

// aclWork is what the client is asked to do, and aclDone what became of it.
type aclWork struct {
	URI      string
	Template libvirt.Template
	N        int    // of the instance
	Strange  bool   // try what is not allowed, too
	Image    string // to import; empty: none
}

type aclDone struct {
	Step, Err string
}

const aclVariable = "SCALEHOOK_TEST_ACL"

// TestACLClient is the other process of the tests below: a user without rights of
// its own. By itself it does nothing.
func TestACLClient(t *testing.T) {
	text := os.Getenv(aclVariable)
	if text == "" {
		return
	}
	var w aclWork
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out := json.NewEncoder(os.Stdout)
	do := func(step string, f func() error) {
		done := aclDone{Step: step}
		if err := f(); err != nil {
			done.Err = err.Error()
		}
		_ = out.Encode(done)
		if done.Err != "" && !strings.HasPrefix(step, "not ") {
			os.Exit(0) // what follows would fail too
		}
	}
	cfg := libvirt.DefaultConfig()
	cfg.URI = w.URI
	log := slog.New(slog.DiscardHandler)
	if w.Image != "" {
		do("import", func() error {
			_, err := libvirt.Import(ctx, cfg, libvirt.ImportOptions{File: w.Image, Pool: lab.PoolName, Name: "imported.qcow2"}, log)
			return err
		})
	}
	if w.Image != "" {
		w.Template.Image = "imported.qcow2" // its content is compared, so it is read
	}
	p, err := libvirt.New(cfg, owner, map[string]libvirt.Template{"web": w.Template}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s, ref := spec(w.N)
	cut, cutRef := spec(w.N + 500)
	do("check", func() error { _, err := p.Check(ctx); return err })
	do("list", func() error { _, err := p.List(ctx); return err })
	do("create", func() error { _, err := p.Create(ctx, s); return err })
	do("find", func() error {
		vms, err := p.List(ctx)
		if err == nil && !slices.ContainsFunc(vms, func(v scaling.VM) bool { return v.ID == s.ID && v.Power == scaling.PowerRunning }) {
			err = fmt.Errorf("not among %+v", vms)
		}
		return err
	})
	do("shutdown", func() error { return p.Shutdown(ctx, ref, false) })
	do("power off", func() error { return p.Shutdown(ctx, ref, true) })
	do("delete", func() error { return p.Delete(ctx, ref) })
	do("delete what a kill left", func() error {
		err := p.CreateUpTo(ctx, cut, 2)
		return errors.Join(err, p.Delete(ctx, cutRef))
	})
	do("delete what is not there", func() error { return p.Delete(ctx, cutRef) })
	do("adopt", func() error {
		_, err := p.Adopt(ctx, scaling.LaunchSpec{ID: s.ID, Group: "web", Name: "web-9000", Number: 9000})
		return err
	})
	do("release", func() error { return p.Release(ctx, ref) })
	if !w.Strange {
		return
	}
	conn, err := golibvirt.NewConnect(w.URI)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	domain := func(f func(*golibvirt.Domain) error) func() error {
		return func() error {
			d, err := conn.LookupDomainByName("db-1")
			if err != nil {
				return fmt.Errorf("look up: %w", err)
			}
			defer d.Free()
			return f(d)
		}
	}
	do("not stop another VM", domain(func(d *golibvirt.Domain) error { return d.Destroy() }))
	do("not start another VM", domain(func(d *golibvirt.Domain) error { return d.Create() }))
	do("not delete another VM", domain(func(d *golibvirt.Domain) error { return d.Undefine() }))
	do("not mark another VM", domain(func(d *golibvirt.Domain) error {
		return d.SetMetadata(golibvirt.DOMAIN_METADATA_TITLE, "x", "", "", golibvirt.DOMAIN_AFFECT_CONFIG)
	}))
	do("not read another VM's passwords", domain(func(d *golibvirt.Domain) error {
		_, err := d.GetXMLDesc(golibvirt.DOMAIN_XML_SECURE)
		return err
	}))
	do("not open another VM's console", domain(func(d *golibvirt.Domain) error {
		stream, err := conn.NewStream(0)
		if err != nil {
			return err
		}
		defer stream.Free()
		return d.OpenConsole("", stream, 0)
	}))
	do("not take another VM's memory", domain(func(d *golibvirt.Domain) error { return d.CoreDump("/tmp/scalehook-acl-core", 0) }))
	do("not adopt another VM", func() error {
		_, err := p.Adopt(ctx, scaling.LaunchSpec{ID: s.ID, Group: "web", Name: "db-1", Number: 1})
		return err
	})
	do("not define another VM", func() error {
		_, err := conn.DomainDefineXML("<domain type='qemu'><name>db-2</name><memory>1024</memory><os><type>hvm</type></os></domain>")
		return err
	})
	do("not use another pool", func() error {
		_, err := conn.LookupStoragePoolByName("vault")
		return err
	})
	do("not make a pool", func() error {
		_, err := conn.StoragePoolDefineXML("<pool type='dir'><name>mine</name><target><path>/etc</path></target></pool>", 0)
		return err
	})
	do("not use another network", func() error {
		_, err := conn.LookupNetworkByName("backstage")
		return err
	})
	do("not make a network", func() error {
		_, err := conn.NetworkDefineXML("<network><name>mine</name></network>")
		return err
	})
	do("not read a secret", func() error {
		_, err := conn.ListAllSecrets(0)
		return err
	})
	do("not delete the pool", func() error {
		pool, err := conn.LookupStoragePoolByName(lab.PoolName)
		if err != nil {
			return fmt.Errorf("look up: %w", err)
		}
		return pool.Destroy()
	})
}

// aclHost is a host whose libvirtd asks polkit, with users of its own.
type aclHost struct {
	*hostTest

	program string
	uids    map[string]int
	inside  int // a process in the namespaces of libvirtd
}

var permissionRE = regexp.MustCompile(`"((?:connect|domain|storage-pool|storage-vol|network|network-port)\.[a-z-]+)"`)

// bareHost is a host on which no guest has to boot.
func bareHost(t *testing.T) *hostTest {
	t.Helper()
	ctx := within(t, 2*time.Minute)
	requirements := []testenv.Requirement{testenv.Root}
	for _, program := range append(lab.Programs(), guest.Programs()...) {
		requirements = append(requirements, testenv.Program(program))
	}
	testenv.Need(t, requirements...)
	h := &hostTest{log: slog.New(slog.DiscardHandler)}
	image, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if h.Lab, err = lab.Start(ctx, lab.Options{Name: "prv-acl", Log: h.log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	if _, err := h.UploadImage(ctx, "base.qcow2", image.Path); err != nil {
		t.Fatal(err)
	}
	return h
}

// startACL makes the host with the rules of deploy/libvirt. There is a user for
// each permission, who lacks that one.
func startACL(ctx context.Context, t *testing.T) (h *aclHost, permissions []string) {
	t.Helper()
	testenv.Need(t, testenv.Program("dbus-daemon"), testenv.Program("setpriv"))
	h = &aclHost{hostTest: bareHost(t), //nolint:contextcheck // it is closed after the test's context has ended
		uids: map[string]int{"scalehook": 61000, "exporter": 60999}}
	shipped := string(read(t, "../../../deploy/libvirt/50-scalehook.rules"))
	for _, m := range permissionRE.FindAllStringSubmatch(shipped, -1) {
		permissions = append(permissions, m[1])
		h.uids["without-"+strings.ReplaceAll(m[1], ".", "-")] = 61000 + len(permissions)
	}
	var names []string
	passwd := bytes.NewBuffer(read(t, "/etc/passwd"))
	for name, uid := range h.uids {
		fmt.Fprintf(passwd, "%s:x:%d:65534::/nonexistent:/usr/sbin/nologin\n", name, uid)
		if name != "exporter" {
			names = append(names, strconv.Quote(name))
		}
	}
	rules := shipped
	for _, line := range [][2]string{
		{`var users = ["scalehook"];`, "var users = [" + strings.Join(names, ", ") + "];"},
		{`var pools = ["default"];`, fmt.Sprintf("var pools = [%q];", lab.PoolName)},
		{`var networks = ["default"];`, fmt.Sprintf("var networks = [%q];", lab.NetworkName)},
	} {
		if !strings.Contains(rules, line[0]) {
			t.Fatalf("the rules have no %s", line[0])
		}
		rules = strings.Replace(rules, line[0], line[1], 1)
	}
	// What is asked is in polkitd's log.
	lacking := `polkit.addRule(function(action, subject) {
    polkit.log("asked " + subject.user + " " + action.id);
    if (subject.user == "without-" + action.id.slice("org.libvirt.api.".length).replace(".", "-")) {
        return polkit.Result.NO;
    }
    return polkit.Result.NOT_HANDLED;
});
`
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(h.Path("acl", "rules.d"), 0o755), os.Chmod(h.Path("acl"), 0o777))
	for name, text := range map[string]string{"passwd": passwd.String(), "rules.d/50-scalehook.rules": rules, "rules.d/10-test.rules": lacking} {
		must(os.WriteFile(h.Path("acl", name), []byte(text), 0o644))
	}
	// The binary of this test, where any user may run it.
	self, err := os.Executable()
	must(err)
	h.program = h.Path("acl", "client")
	must(os.WriteFile(h.program, read(t, self), 0o755))

	conf := h.Path("etc", "libvirtd.conf")
	text := string(read(t, conf))
	for _, line := range [][2]string{
		{`unix_sock_rw_perms = "0700"`, `unix_sock_rw_perms = "0777"`}, {`auth_unix_rw = "none"`, "auth_unix_rw = \"polkit\"\naccess_drivers = [ \"polkit\" ]"},
	} {
		if !strings.Contains(text, line[0]) {
			t.Fatalf("%s has no %s", conf, line[0])
		}
		text = strings.Replace(text, line[0], line[1], 1)
	}
	must(os.WriteFile(conf, []byte(text), 0o644))
	h.neighbours(t) // while the test itself may do anything
	h.inside = h.Libvirtd().PID()
	h.within(ctx, t, "sh", "-c", `set -e
mount --bind "$0/passwd" /etc/passwd
mount --bind "$0/rules.d" /etc/polkit-1/rules.d
mkdir -p /run/dbus /run/systemd/seats /run/systemd/sessions /run/systemd/users /run/systemd/machines`, h.Path("acl"))
	bus := h.Path("acl", "bus.conf")
	must(os.WriteFile(bus, []byte(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/><allow send_type="method_return"/><allow send_type="error"/><allow receive_type="method_call"/><allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/></policy>
</busconfig>`), 0o644))
	start := func(name string, ready []string, program ...string) int {
		t.Helper()
		p, err := h.StartProcess(ctx, lab.ProcessSpec{
			Name: name, Path: "nsenter", Args: append(h.enter(), program...), Ready: func(ctx context.Context) error { return h.try(ctx, ready...) },
		})
		must(err)
		children := string(read(t, fmt.Sprintf("/proc/%d/task/%d/children", p.PID(), p.PID())))
		child, err := strconv.Atoi(strings.TrimSpace(children))
		must(err)
		return child
	}
	h.inside = start("dbus", []string{"test", "-S", "/run/dbus/system_bus_socket"}, "dbus-daemon", "--nofork", "--nopidfile", "--config-file="+bus)
	start("polkitd", []string{
		"dbus-send", "--system", "--print-reply", "--dest=org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.DBus.Peer.Ping",
	}, "/usr/lib/polkit-1/polkitd")
	must(h.StopLibvirtd(ctx, false))
	// Who asks from outside of libvirtd's process namespace has no process id there,
	// and polkit no subject.
	start("libvirtd-acl", []string{"virsh", "-c", h.URI(), "version"}, "libvirtd")
	return h, permissions
}

// ports are those of the network that libvirt has, empty for none.
func (h *aclHost) ports(ctx context.Context, t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, "nsenter", append(h.enter(), "virsh", "-q", "-c", h.URI(), "net-port-list", lab.NetworkName)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// enter are nsenter's arguments.
func (h *aclHost) enter() []string {
	return []string{"--target=" + strconv.Itoa(h.inside), "--mount", "--net", "--pid", "--"}
}

func (h *aclHost) try(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "nsenter", append(h.enter(), args...)...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return err
}

func (h *aclHost) within(ctx context.Context, t *testing.T, args ...string) {
	t.Helper()
	if err := h.try(ctx, args...); err != nil {
		t.Fatal(err)
	}
}

// as runs the client as a user and returns what became of each step.
func (h *aclHost) as(ctx context.Context, t *testing.T, user string, w aclWork) (done []aclDone) {
	t.Helper()
	text, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	uid := strconv.Itoa(h.uids[user])
	args := append(h.enter(), "setpriv", "--reuid="+uid, "--regid=65534", "--clear-groups", "--no-new-privs", "--bounding-set=-all", h.program, "-test.run=^TestACLClient$")
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.Env, cmd.Dir = append(os.Environ(), aclVariable+"="+string(text)), "/"
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(out)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatalf("%s: %v\n%s", user, err, all)
	}
	for line := range strings.Lines(string(all)) {
		var d aclDone
		if json.Unmarshal([]byte(line), &d) == nil {
			done = append(done, d)
		}
	}
	return done
}

// neighbours are what scalehook has no business with.
func (h *aclHost) neighbours(t *testing.T) {
	t.Helper()
	conn := h.connect(t)
	h.makeForeign(t, conn, "db-1")
	h.makeForeign(t, conn, "web-9000") // to be adopted
	vault := filepath.Join(h.Dir(), "vault")
	if err := os.Mkdir(vault, 0o755); err != nil {
		t.Fatal(err)
	}
	pool, err := conn.StoragePoolDefineXML("<pool type='dir'><name>vault</name><target><path>"+vault+"</path></target></pool>", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Free()
	network, err := conn.NetworkDefineXML("<network><name>backstage</name></network>")
	if err != nil {
		t.Fatal(err)
	}
	defer network.Free()
}

// TestThePolkitRulesAllowWhatScalehookDoesAndNothingElse runs the driver as a user of
// no group with deploy/libvirt's rules: all that it does passes, every permission is asked for,
// and what is not its business is denied. Each permission that is taken away alone
// makes something fail.
func TestThePolkitRulesAllowWhatScalehookDoesAndNothingElse(t *testing.T) {
	ctx := within(t, 8*time.Minute)
	h, permissions := startACL(ctx, t)
	work := aclWork{URI: h.URI(), Template: libvirt.DefaultTemplate(), N: 1, Strange: true}
	work.Template.Image, work.Template.Pool, work.Template.Network, work.Template.Memory = "base.qcow2", lab.PoolName, lab.NetworkName, 64<<20
	// Its guest need not boot.
	work.Template.DomainType, work.Template.CloudInit = "qemu", &libvirt.CloudInit{}
	image := h.Path("acl", "image.qcow2")
	if err := os.WriteFile(image, read(t, h.Path(lab.PoolName, "base.qcow2")), 0o644); err != nil {
		t.Fatal(err)
	}
	work.Image = image
	done := h.as(ctx, t, "scalehook", work)
	for _, d := range done {
		t.Logf("%s: %s", d.Step, d.Err)
		denied := strings.Contains(d.Err, "access denied")
		switch refused := strings.HasPrefix(d.Step, "not "); {
		case refused && !denied:
			t.Errorf("%s: error %q, want that access is denied", d.Step, d.Err)
		case !refused && d.Err != "":
			t.Errorf("%s: %s", d.Step, d.Err)
		}
	}
	if len(done) != 27 {
		t.Fatalf("%d steps were done", len(done))
	}
	asked := string(read(t, h.Path("log", "polkitd.log")))
	for _, permission := range permissions {
		if !strings.Contains(asked, "asked scalehook org.libvirt.api."+permission+"\n") {
			t.Errorf("%s is given and never asked for", permission)
		}
	}
	if left := h.ports(ctx, t); left != "" {
		t.Errorf("ports are left behind: %s", left)
	}
	// The exporter's socket is for everybody, and changes nothing.
	reader := strconv.Itoa(h.uids["exporter"])
	asReader := append(h.enter(), "setpriv", "--reuid="+reader, "--regid=65534", "--clear-groups", "virsh", "-r", "-c", h.ReadOnlyURI())
	if out, err := exec.CommandContext(ctx, "nsenter", append(slices.Clone(asReader), "domstats")...).CombinedOutput(); err != nil || !strings.Contains(string(out), "db-1") {
		t.Errorf("read as a user of no group: %v: %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "nsenter", append(asReader, "start", "db-1")...).CombinedOutput(); err == nil || !strings.Contains(string(out), "read only") {
		t.Errorf("start a VM over the read-only socket: %v: %s", err, out)
	}
	work.Strange, work.Image = false, ""
	for i, permission := range permissions {
		t.Run("without "+permission, func(t *testing.T) {
			work := work
			work.N = i + 2
			if strings.HasPrefix(permission, "storage-vol.data-") {
				work.Image = image
			}
			done := h.as(ctx, t, "without-"+strings.ReplaceAll(permission, ".", "-"), work)
			if left := h.ports(ctx, t); left != "" && (permission == "network-port.getattr" || permission == "network-port.delete") {
				for port := range strings.FieldsSeq(left) {
					h.within(ctx, t, "virsh", "-q", "-c", h.URI(), "net-port-delete", lab.NetworkName, port)
				}
				return // libvirt forgets a port that it may not delete, without an error
			}
			if len(done) == 0 || done[len(done)-1].Err == "" {
				t.Errorf("nothing failed: it is not needed (%v)", done)
				return
			}
			last := done[len(done)-1]
			t.Logf("%s: %s", last.Step, last.Err)
		})
	}
}
