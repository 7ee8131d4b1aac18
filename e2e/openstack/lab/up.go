package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Up brings a cloud up, or what is missing of one: it may be run again at any
// time. It returns when every API answers and the cloud has flavors, an image, an
// external network and a host that takes servers: after about a minute with a new
// state folder, half a minute with one that was used, at once when it is up.
// When it fails, what runs stays, with its logs, for Down or another Up.
func Up(ctx context.Context, opts Options) (*Cloud, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("bring up OpenStack: %w", err)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("bring up OpenStack: root is needed")
	}
	before, err := Find(opts.State)
	switch {
	case err == nil && before.opts.Virt != opts.Virt:
		return nil, fmt.Errorf("bring up OpenStack: %s belongs to a cloud with guests of the kind %s, not %s; choose another folder, or end that one with `openstack-lab down --wipe --state %[1]s`",
			opts.State, before.opts.Virt, opts.Virt)
	case err == nil && before.Running() && before.opts.Private != opts.Private:
		return nil, fmt.Errorf("bring up OpenStack: the cloud of %s runs, and its ports are to be elsewhere; end it first", opts.State)
	case err == nil && before.Running():
		opts.Octavia = opts.Octavia || before.opts.Octavia
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("bring up OpenStack: %w", err)
	}
	if missing := Missing(opts.Virt); len(missing) > 0 {
		return nil, fmt.Errorf("bring up OpenStack: not found: %s; `deploy/setup/install openstack` installs what is needed", strings.Join(missing, ", "))
	}
	c := newCloud(opts)
	if err := c.strangers(ctx); err != nil {
		return nil, fmt.Errorf("bring up OpenStack: %w", err)
	}
	u := &bringUp{Cloud: c, began: time.Now(), progress: opts.Progress}
	if before != nil && before.opts.Octavia == opts.Octavia && exists(c.readyFile()) && c.Check(ctx) == nil {
		u.say("up already; %s", c.CloudsFile())
		return c, nil
	}
	if err := u.run(ctx); err != nil {
		return nil, fmt.Errorf("bring up OpenStack in %s: %w", opts.State, err)
	}
	return c, nil
}

// Missing lists what a cloud needs and the machine does not have.
func Missing(virt Virt) []string {
	var missing []string
	programs := []string{
		"unshare", "nsenter", "setsid", "mariadbd", "mariadb", "mariadb-install-db", "epmd", "uwsgi", "openssl", "apt-get", "dpkg-deb",
		"ovsdb-server", "ovsdb-tool", "ovn-northd", "ovn-nbctl", "ovn-sbctl",
	}
	paths := []string{"/usr/bin/python3", "/usr/bin/openstack", "/usr/bin/keystone-wsgi-public", "/usr/bin/placement-api", "/usr/lib/rabbitmq/bin/rabbitmq-server"}
	modules := []string{"keystone", "placement", "glance", "nova", "neutron", "octavia", "ovn_octavia_provider", "pymysql", "openstackclient", "octaviaclient"}
	if virt == QEMU {
		programs = append(programs, "ip", "ovs-vswitchd", "ovs-vsctl", "ovn-controller", "libvirtd", "virtlogd", "virsh", "qemu-system-x86_64", "qemu-img", "haproxy", "genisoimage")
		modules = append(modules, "libvirt")
	}
	for _, program := range programs {
		if !slices.ContainsFunc([]string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"}, func(dir string) bool { return exists(filepath.Join(dir, program)) }) {
			missing = append(missing, program)
		}
	}
	for _, path := range paths {
		if !exists(path) {
			missing = append(missing, path)
		}
	}
	for _, module := range modules {
		if !exists("/usr/lib/python3/dist-packages/"+module) && !exists("/usr/lib/python3/dist-packages/"+module+".py") {
			missing = append(missing, "Python's "+module)
		}
	}
	return missing
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// bringUp is the way of a cloud from nothing, or from anywhere, to working.
type bringUp struct {
	*Cloud

	began    time.Time
	mu       sync.Mutex // for progress
	progress io.Writer
}

func (u *bringUp) say(format string, args ...any) {
	u.mu.Lock()
	defer u.mu.Unlock()
	fmt.Fprintf(u.progress, "%6.1f s  %s\n", time.Since(u.began).Seconds(), fmt.Sprintf(format, args...))
}

func (u *bringUp) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		u.prepare, u.base, u.identity, u.apis, u.hypervisor, u.finish,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := replaceFile(u.readyFile(), nil, 0o644); err != nil {
		return err
	}
	u.say("up; %s has the clouds %s, %s, %s and %s", u.CloudsFile(), Member, Admin, Reader, Other)
	return nil
}

// readyFile is there from the end of a bring-up until the next Down.
func (c *Cloud) readyFile() string { return c.path("run", "ready") }

// prepare writes the configuration and opens the namespaces.
func (u *bringUp) prepare(ctx context.Context) error {
	if err := u.configure(); err != nil {
		return err
	}
	if err := u.keep(); err != nil {
		return err
	}
	if err := u.unpack(ctx); err != nil {
		return err
	}
	if u.opts.Virt == QEMU {
		if err := u.fetchSwitch(ctx); err != nil {
			return err
		}
	}
	ready := u.path("run", "held")
	if !u.d.alive(holder) {
		if err := os.Remove(ready); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make namespaces: %w", err)
		}
		if err := u.startServices(ctx, holder); err != nil {
			return err
		}
	}
	return u.await(ctx, holder, 10*time.Second, func() error {
		if !exists(ready) {
			return errors.New("the namespaces are not ready")
		}
		return nil
	})
}

// dataPackages hold files that the services read (their paste configurations),
// and maintainer scripts that would set up services of the machine: they are
// unpacked and never installed.
func dataPackages() []string { return []string{"nova-common", "neutron-common", "glance-common"} }

func (u *bringUp) unpack(ctx context.Context) error {
	done := u.path("unpacked", ".done")
	if exists(done) {
		return nil
	}
	debs := u.path("debs")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return fmt.Errorf("fetch data packages: %w", err)
	}
	fetch := exec.CommandContext(ctx, "apt-get", append([]string{"-q", "-o", "APT::Sandbox::User=root", "download"}, dataPackages()...)...)
	fetch.Dir = debs
	if out, err := fetch.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch data packages (apt-get update may help): %w: %s", err, bytes.TrimSpace(out))
	}
	if err := unpackAll(ctx, debs, u.path("unpacked")); err != nil {
		return err
	}
	u.say("fetched %s, for their data", strings.Join(dataPackages(), ", "))
	return replaceFile(done, nil, 0o644)
}

// base brings up databases and the message queue, which need nobody.
func (u *bringUp) base(ctx context.Context) error {
	if !exists(u.path("mysql", "mysql")) {
		if err := u.command(ctx, "mariadb-install", "mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal",
			"--datadir="+u.path("mysql"), "--user=root", "--skip-test-db", "--skip-name-resolve"); err != nil {
			return err
		}
	}
	for _, db := range []string{"nb", "sb"} {
		if file := u.path("ovn", db+".db"); !exists(file) {
			if err := u.command(ctx, "ovn-create", "ovsdb-tool", "create", file, "/usr/share/ovn/ovn-"+db+".ovsschema"); err != nil {
				return err
			}
		}
	}
	if err := u.startServices(ctx, database, "epmd", queue, "ovn-northbound", "ovn-southbound"); err != nil {
		return err
	}
	for name, socket := range map[string]string{"ovn-northbound": "nb.sock", "ovn-southbound": "sb.sock"} {
		if err := u.await(ctx, name, 20*time.Second, dials(ctx, u.path("ovn", socket))); err != nil {
			return err
		}
	}
	for tool, db := range map[string]string{"ovn-nbctl": "nb", "ovn-sbctl": "sb"} {
		if err := u.command(ctx, "ovn-create", tool, "--db=unix:"+u.path("ovn", db+".sock"), "init"); err != nil {
			return err
		}
	}
	if err := u.startServices(ctx, "ovn-northd"); err != nil {
		return err
	}
	if u.opts.Virt == QEMU && !u.opts.Private {
		if err := u.startServices(ctx, forwarder); err != nil {
			return err
		}
	}
	if err := u.await(ctx, database, 5*time.Minute, dials(ctx, u.socket())); err != nil {
		return err
	}
	for _, name := range []string{"keystone", "placement", "glance", "nova_api", "nova", "nova_cell0", "neutron", "octavia"} {
		if _, err := u.SQL(ctx, "create database if not exists "+name+" character set utf8mb3"); err != nil {
			return err
		}
	}
	u.say("databases")
	return nil
}

// dials is a check that something listens on a socket in the file system.
func dials(ctx context.Context, socket string) func() error {
	return func() error {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", socket)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		return conn.Close()
	}
}

// identity brings up Keystone with its users, and beside it every other schema.
func (u *bringUp) identity(ctx context.Context) error {
	if err := u.schema(ctx, "keystone", u.keystoneSchema); err != nil {
		return err
	}
	if err := u.startServices(ctx, "keystone"); err != nil {
		return err
	}
	// Two at a time: there are machines with two processors.
	return parallel(
		ctx,
		func(ctx context.Context) error {
			if err := u.awaitAPIs(ctx, "keystone"); err != nil {
				return err
			}
			u.say("Keystone answers")
			done := u.path("seed-identity")
			if exists(done) {
				return nil
			}
			if err := u.seed(ctx, "identity"); err != nil {
				return err
			}
			u.say("projects, users, roles, catalogue")
			return replaceFile(done, nil, 0o644)
		},
		func(ctx context.Context) error {
			if err := u.schema(ctx, "placement", u.placementSchema); err != nil {
				return err
			}
			return u.schema(ctx, "neutron", u.neutronSchema)
		},
		func(ctx context.Context) error {
			if err := u.schema(ctx, "nova", u.novaSchema); err != nil {
				return err
			}
			if err := u.schema(ctx, "glance", u.glanceSchema); err != nil || !u.opts.Octavia {
				return err
			}
			return u.schema(ctx, "octavia", u.octaviaSchema)
		},
	)
}

// apis brings up the services that speak to users, and OVN's one chassis.
func (u *bringUp) apis(ctx context.Context) error {
	if err := u.await(ctx, queue, 5*time.Minute, func() error {
		conn, err := u.Namespace().DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", ports.Rabbit))
		if err != nil {
			return err
		}
		return conn.Close()
	}); err != nil {
		return err
	}
	if err := u.startServices(ctx, "placement", "neutron-server", "nova-conductor", "nova-scheduler", "nova-api", "glance-api"); err != nil {
		return err
	}
	if u.opts.Virt == QEMU {
		if err := u.dataPlane(ctx); err != nil {
			return err
		}
		u.say("data plane: Open vSwitch in user space, ovn-controller, metadata")
	} else if err := u.pretendChassis(ctx); err != nil {
		return err
	}
	return u.awaitAPIs(ctx, "placement", "nova-api")
}

// hypervisor brings up what runs guests, and the load balancer service.
func (u *bringUp) hypervisor(ctx context.Context) error {
	if u.opts.Virt == QEMU {
		if err := u.startServices(ctx, "virtlogd", "libvirtd"); err != nil {
			return err
		}
		if err := u.await(ctx, "libvirtd", 20*time.Second, dials(ctx, u.path("libvirt", "run", "libvirt-sock"))); err != nil {
			return err
		}
	}
	if err := u.startServices(ctx, novaCompute); err != nil {
		return err
	}
	answering := []string{"glance-api", "neutron-server"}
	if u.opts.Octavia {
		if err := u.authority(ctx); err != nil {
			return err
		}
		if err := u.startServices(ctx, "octavia-api", "octavia-driver-agent", "octavia-worker"); err != nil {
			return err
		}
		answering = append(answering, "octavia-api")
	}
	if err := u.awaitAPIs(ctx, answering...); err != nil {
		return err
	}
	u.say("every API answers")
	return nil
}

// authority makes the certificate authority that Octavia's worker insists on.
func (u *bringUp) authority(ctx context.Context) error {
	certificate, key := u.path("etc", "octavia", "ca.pem"), u.path("etc", "octavia", "ca.key")
	if exists(certificate) {
		return nil
	}
	return u.command(ctx, "certificate", "openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "3650", "-subj", "/CN=scalehook-lab",
		"-passout", "pass:"+Password, "-keyout", key, "-out", certificate)
}

// finish makes the host known and puts in what every cloud has.
func (u *bringUp) finish(ctx context.Context) error {
	if err := u.await(ctx, novaCompute, 5*time.Minute, func() error {
		rows, err := u.SQL(ctx, "select count(*) from nova.compute_nodes where deleted = 0")
		if err == nil && rows == "0" {
			err = errors.New("it has not said that it is there")
		}
		return err
	}); err != nil {
		return err
	}
	if err := u.command(ctx, "schema-nova", u.novaManage("cell_v2", "discover_hosts")...); err != nil {
		return err
	}
	u.say("a host that takes servers")
	args := []string{"cloud"}
	if u.opts.Virt == QEMU {
		folder, err := u.guestImage(ctx)
		if err != nil {
			return err
		}
		args = append(args, folder)
	}
	if err := u.seed(ctx, args...); err != nil {
		return err
	}
	u.say("flavors, the image %s, the external network %s", Image, External)
	return nil
}

// seed runs python/seed.py.
func (u *bringUp) seed(ctx context.Context, args ...string) error {
	command := []string{"/usr/bin/python3", u.path("python", "seed.py"), args[0], Password}
	return u.command(ctx, "seed", append(command, args[1:]...)...)
}

// command runs a program to its end and keeps what it prints in a log.
func (u *bringUp) command(ctx context.Context, log string, args ...string) error {
	out, err := os.OpenFile(u.d.log(log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("run %s: %w", args[0], err)
	}
	defer out.Close()
	cmd := u.Namespace().Command(ctx, "nice", append([]string{"-n", niceness}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w; %s", shown(args), err, u.d.tail(log, 15))
	}
	return nil
}

// shown is a command without its scripts, for an error.
func shown(args []string) string {
	var words []string
	for _, arg := range args {
		if strings.Contains(arg, "\n") {
			arg = "..."
		}
		words = append(words, arg)
	}
	return strings.Join(words, " ")
}

// SQL runs statements in the cloud's database server, and returns the rows, their
// columns separated by tabs, without the last line's end.
func (c *Cloud) SQL(ctx context.Context, statements string) (string, error) {
	cmd := exec.CommandContext(ctx, "mariadb", "--no-defaults", "-S", c.socket(), "-u", "root", "-N", "-B", "-e", statements)
	cmd.Env = c.d.environ
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("database: %s: %w: %s", statements, err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}

// parallel runs functions at the same time. The first error ends the context of
// the others, and is returned when all have returned.
func parallel(ctx context.Context, functions ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error)
	for _, f := range functions {
		go func() { errs <- f(ctx) }()
	}
	var first error
	for range functions {
		if err := <-errs; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	return first
}
