//go:build openstack

package openstack_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/box"
	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/testenv"
)

// microstack is a host as deploy/microstack/README.md assumes it: the lab's cloud at
// the addresses and in the files of the snap.
type microstack struct {
	*box.Box
	*project

	guests *guests
}

// patience is for what calls the cloud many times, on a machine that may be busy.
const patience = 2 * limit

// The host's address on br-ex, where the snap has the identity service.
const (
	onBridge = "203.0.113.1"
	snap     = "/var/snap/microstack/common/etc"
)

// The world has the two name servers of provision.yml's verify, and a name.
const hostNetwork = `set -e
mkdir -p /run/haproxy
ip link add br-ex type bridge
ip addr add ` + onBridge + `/24 dev br-ex
ip link add uplink type veth peer name world
ip addr add 10.99.0.2/24 dev uplink
ip link set br-ex up
ip link set uplink up
ip link set world up
ip route add default via 10.99.0.1
ip addr add 1.1.1.1/32 dev lo
ip addr add 8.8.8.8/32 dev lo
echo '8.8.8.8 google.com' >>/etc/hosts
ln -sf "$(command -v busybox)" /usr/local/bin/ping
`

// One sshd for all pretended guests, at whatever address they have. It lets in who has
// the key that provisioning made.
const guestLogin = `set -e
useradd --non-unique --uid 0 --gid 0 --no-create-home --home-dir / --shell /bin/sh --password '*' cirros
mkdir -p /run/sshd /etc/guest
ssh-keygen -q -t ed25519 -N '' -f /etc/guest/key
install -m 755 /dev/stdin /etc/guest/keys <<'END'
#!/bin/sh
exec ssh-keygen -y -f /root/.ssh/lab-key
END
exec "$1" -D -e -f /dev/null -o HostKey=/etc/guest/key -o UsePAM=no -o PidFile=none -o AllowUsers=cirros \
	-o AuthorizedKeysFile=none -o AuthorizedKeysCommand=/etc/guest/keys -o AuthorizedKeysCommandUser=root
`

const snapsCertificate = `set -e
mkdir -p ` + snap + `/ssl/certs ` + snap + `/ssl/private
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=microstack \
	-addext subjectAltName=IP:` + onBridge + ` -keyout ` + snap + `/ssl/private/cert.key -out ` + snap + `/ssl/certs/cacert.pem
`

func startMicroStack(t *testing.T, name string) *microstack {
	t.Helper()
	testenv.Need(t, box.Needs("setpriv", "sshd", "ssh-keygen", "busybox", "curl", "patch", "openssl", "nft", "promtool", "amtool", "pkill")...)
	m := &microstack{project: startProject(t, name, lab.Options{})}
	m.Box = box.New(t, "etc/prometheus", "etc/haproxy", "var/lib/prometheus", "var/snap", "root", "etc/scalehook", "var/lib/scalehook", "etc/alertmanager")
	m.Put(t, "../tutorial/box/systemctl", "/usr/bin/systemctl", 0o755)
	m.Run(t, "sh", "-c", hostNetwork)
	m.cloud()
	m.guests = startGuests(t, m.project, place{
		subnet: "192.168.100.0/24", service: 8080, listen: m.Listen,
		ip: func(ctx context.Context, args ...string) *exec.Cmd {
			return m.Command(ctx, append([]string{"ip"}, args...)...)
		},
	})
	m.guests.open()
	m.Put(t, m.bin.scalehook, "/usr/local/bin/scalehook", 0o755)
	sshd := m.Command(context.WithoutCancel(t.Context()), "sh", "-c", guestLogin, "sh", testenv.Path(t, "sshd"))
	testenv.Start(t, sshd, func() error {
		conn, err := m.Dial(t.Context(), "tcp", "127.0.0.1:22")
		if err != nil {
			return err
		}
		return conn.Close()
	})
	m.folder()
	return m
}

// cloud brings the services into the box: as the catalogue has them, and the identity
// service as the snap's files have it.
func (m *microstack) cloud() {
	t := m.t
	t.Helper()
	m.Run(t, "sh", "-c", snapsCertificate)
	certificate, err := tls.X509KeyPair([]byte(m.Read(t, snap+"/ssl/certs/cacert.pem")), []byte(m.Read(t, snap+"/ssl/private/cert.key")))
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{
		"127.0.0.1:5000": "127.0.0.1:5000", "127.0.0.1:8774": "127.0.0.1:8774", "127.0.0.1:9292": "127.0.0.1:9292",
		"127.0.0.1:9696": "127.0.0.1:9696", "127.0.0.1:8778": "127.0.0.1:8778", "127.0.0.1:9876": "127.0.0.1:9876",
		onBridge + ":5000": "127.0.0.1:5000",
	} {
		listener, err := m.Listen(t.Context(), "tcp", from)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(from, onBridge) {
			listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}})
		}
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				go func() {
					service, err := m.Namespace().DialContext(context.Background(), "tcp", to)
					if err == nil {
						join(conn, service)
					}
					_ = conn.Close()
				}()
			}
		}()
	}
	m.Write(t, snap+"/microstack.rc", fmt.Sprintf(`export OS_PROJECT_DOMAIN_NAME=default
export OS_USER_DOMAIN_NAME=default
export OS_PROJECT_NAME=%[1]s
export OS_USERNAME=%[1]s
export OS_PASSWORD=%[2]s
export OS_AUTH_URL=https://%[3]s:5000/v3/
export OS_IDENTITY_API_VERSION=3
export OS_IMAGE_API_VERSION=2
export OS_REGION_NAME=%[4]s
`, m.name, lab.Password, onBridge, lab.Region), 0o600)
}

// join copies both ways until both have ended.
func join(a, b net.Conn) {
	defer b.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(a, b)
		_ = a.Close()
	}()
	_, _ = io.Copy(b, a)
	if half, ok := b.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	<-back
}

// daemons are those that apt-get has started, with Debian's files.
func (m *microstack) daemons() {
	t := m.t
	t.Helper()
	for _, file := range []string{"prometheus/prometheus.yml", "prometheus/alertmanager.yml", "haproxy/haproxy.cfg"} {
		text, err := os.ReadFile(filepath.Join("../../internal/merge/testdata", filepath.Base(file)))
		if err != nil {
			t.Fatal(err)
		}
		// The site of somebody's that the file has is not here.
		debians, _, _ := strings.Cut(string(text), "\n\terrorfile")
		m.Write(t, "/etc/"+file, fast(debians)+"\n", 0o644)
	}
	m.Write(t, "/etc/default/prometheus", "ARGS=\"--rules.alert.resend-delay=1s\"\n", 0o644)
	m.Run(t, "install", "-d", "-o", "prometheus", "-g", "prometheus", "/var/lib/prometheus/metrics2", "/var/lib/prometheus/alertmanager")
	for _, unit := range []string{"prometheus", "prometheus-alertmanager", "haproxy"} {
		m.Run(t, "systemctl", "start", unit)
	}
	testenv.Eventually(t, time.Minute, "Prometheus and Alertmanager to answer", func() error {
		return m.Command(t.Context(), "curl", "-sf", "http://127.0.0.1:9090/-/ready", "http://127.0.0.1:9093/-/ready").Run()
	})
}

// fast makes minutes seconds: what is measured every 15 s here is measured each second.
func fast(text string) string {
	return strings.NewReplacer("15s", "1s", "rate_window: 1m", "rate_window: 4s", "repeat_interval: 1m", "repeat_interval: 10s",
		"mode: observe\n", "mode: observe\n    cooldown: 2s\n    warm_up: 2s\n").Replace(text)
}

// shell is the reader's shell. What scalehook prints as examples is as fast as the
// files, and has the lab's names.
const shell = `scalehook() {
	case $1 in
	example) command scalehook "$@" | sed 's/15s/1s/; s/repeat_interval: 1m/repeat_interval: 10s/; s/external: external/external: ` + lab.External + `/; s/network: external/network: ` + lab.External + `/; s/image: cirros/image: ` + lab.Image + `/' ;;
	*) command scalehook "$@" ;;
	esac
}
export -f scalehook
mkdir -p /root/.ssh
cd /root/microstack
exec bash`

// folder is deploy/microstack with the names of the lab's cloud.
func (m *microstack) folder() {
	t := m.t
	t.Helper()
	files, err := filepath.Glob("../../deploy/microstack/*")
	if err != nil || len(files) < 5 {
		t.Fatalf("%q %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		here := strings.NewReplacer("network: external", "network: "+lab.External, "external: external", "external: "+lab.External, "image: cirros", "image: "+lab.Image).Replace(fast(string(text)))
		m.Write(t, "/root/microstack/"+filepath.Base(file), here, 0o644)
	}
}

// run runs the commands of a page in the box, in the folder with MicroStack's files.
// The test ends if one fails.
func (m *microstack) run(page string, r doc.Runner) {
	m.t.Helper()
	blocks := doc.Read(m.t, page)
	for k := range blocks {
		blocks[k].Text = fast(blocks[k].Text)
	}
	began, done := time.Now(), r.Done
	r.Command, r.Each = m.Command(m.t.Context(), "bash", "-c", shell), patience
	r.Done = func(b doc.Block, since time.Time, output string) {
		m.t.Logf("%6.1f s  line %d took %.1f s\n%s%s", time.Since(began).Seconds(), b.Line, time.Since(since).Seconds(), b.Text, output)
		if done != nil {
			done(b, since, output)
		}
	}
	if err := r.Run(m.t.Context(), blocks); err != nil {
		m.t.Errorf("%s: %v", page, err)
		if log := "/var/log/scalehook.log"; m.Exists(m.t, log) {
			m.t.Log(m.Run(m.t, "tail", "-n", "25", log))
		}
		m.t.FailNow()
	}
}

// host is what pages change of it, and take back.
func (m *microstack) host() string {
	return m.Run(m.t, "sh", "-ec", "nft list ruleset; cat /proc/sys/net/ipv4/ip_forward /etc/prometheus/*.yml; ls /etc/systemd/system /etc/sysctl.d")
}

// use orders a share of CPU from all guests.
func (m *microstack) use(util float64) func(context.Context) error {
	return func(context.Context) error {
		m.guests.mu.Lock()
		defer m.guests.mu.Unlock()
		for uuid := range m.guests.running {
			m.Orders(m.t, uuid, lab.Orders{Util: &util})
		}
		return nil
	}
}

// TestMicroStacksPage does what deploy/microstack says.
func TestMicroStacksPage(t *testing.T) {
	m := startMicroStack(t, "microstack")
	m.daemons()
	before := m.host()
	var visitors *visitors
	visited := false
	m.run("../../deploy/microstack/README.md", doc.Runner{
		Instead: map[string]func(context.Context) error{
			"exporter": func(ctx context.Context) error { return m.guests.publish(ctx, "127.0.0.1:10071") },
			"load": func(ctx context.Context) error {
				visitors = startVisitors(t, m.Dial, "127.0.0.1:8088") //nolint:contextcheck // they stay longer than this step
				return m.use(0.9)(ctx)
			},
			"no load": m.use(0.05),
		},
		Done: func(b doc.Block, _ time.Time, _ string) {
			if visitors == nil || visited || b.Shows == nil {
				return
			}
			visited = true // the clone has taken over
			sent, by, lost := visitors.end()
			t.Logf("visitors: %d sent, %d lost, answered by %v", sent, len(lost), by)
			if len(lost) > 0 || by["vm-test"] == 0 || by["vm-test-clone"] == 0 {
				t.Errorf("%d of %d requests were lost: %s", len(lost), sent, strings.Join(lost[:min(5, len(lost))], "; "))
			}
		},
	})
	if !visited {
		t.Error("nobody visited while it scaled")
	}
	if diff := cmp.Diff(before, m.host()); diff != "" {
		t.Errorf("the host (-before +after):\n%s", diff)
	}
}

// TestProvisioningsPage does what docs/provisioning.md says, on the example that
// scalehook prints.
func TestProvisioningsPage(t *testing.T) {
	m := startMicroStack(t, "provisioning")
	m.Write(t, "/root/.config/openstack/clouds.yaml", fmt.Sprintf(`clouds:
  microstack:
    cacert: %[1]s/ssl/certs/cacert.pem
    region_name: %[2]s
    identity_api_version: 3
    auth: {auth_url: "https://%[3]s:5000/v3", username: %[4]s, password: %[5]s, project_name: %[4]s, user_domain_name: Default, project_domain_name: Default}
`, snap, lab.Region, onBridge, m.name, lab.Password), 0o600)
	m.run("../../docs/provisioning.md", doc.Runner{})
	made := strings.Join(m.left(), ", ")
	for _, want := range []string{"server test-vm", "network lab-net", "security group sg-secure", "image test-vm-"} {
		if !strings.Contains(made, want) {
			t.Errorf("%s is not there: %s", want, made)
		}
	}
	m.bash("scalehook provision microstack/provision.yml --destroy")
}

// TestMigratingFromScriptsOnMicroStack does what docs/migration/microstack-autoscaling.md
// says where the walk-through was done by hand before.
func TestMigratingFromScriptsOnMicroStack(t *testing.T) {
	m := startMicroStack(t, "migration")
	m.openstack(`network create lab-net
subnet create lab-net-subnet --network lab-net --subnet-range 192.168.100.0/24 --gateway 192.168.100.1 --dns-nameserver 8.8.8.8 --dns-nameserver 1.1.1.1
router create lab-router
router set lab-router --external-gateway ` + lab.External + `
router add subnet lab-router lab-net-subnet
security group create sg-secure
security group rule create --protocol tcp --dst-port 22 --remote-ip ` + onBridge + `/32 sg-secure
security group rule create --protocol icmp sg-secure
keypair create --public-key /root/.ssh/lab-key.pub lab-key
server create --flavor m1.tiny --image ` + lab.Image + ` --network lab-net --security-group sg-secure --key-name lab-key vm-test --wait
floating ip create ` + lab.External)
	address, err := m.SQL(t.Context(), fmt.Sprintf("select floating_ip_address from neutron.floatingips where project_id = '%s'", m.id))
	if err != nil {
		t.Fatal(err)
	}
	m.openstack("server add floating ip vm-test " + address)
	before := m.left()
	m.run("../../docs/migration/microstack-autoscaling.md", doc.Runner{})
	if diff := cmp.Diff(before, m.left()); diff != "" {
		t.Errorf("what was there is not found (-before +after):\n%s", diff)
	}
	m.bash("scalehook provision microstack/provision.yml --destroy")
	if diff := cmp.Diff(before, m.left()); diff != "" {
		t.Errorf("what was not provisioned is not left (-before +after):\n%s", diff)
	}
	m.openstack(`server delete --wait vm-test
floating ip delete ` + address + `
router remove subnet lab-router lab-net-subnet
router delete lab-router
network delete lab-net
security group delete sg-secure
keypair delete lab-key`)
}

// openstack runs commands of the real client in the box, as by hand on MicroStack.
func (m *microstack) openstack(commands string) {
	m.t.Helper()
	m.bash(`set -a
. ` + snap + `/microstack.rc
OS_CACERT=` + snap + `/ssl/certs/cacert.pem
mkdir -p .ssh
if [ ! -e .ssh/lab-key ]; then ssh-keygen -q -t ed25519 -N '' -f .ssh/lab-key; fi
openstack <<'END'
` + commands + "\nEND")
}

// bash runs a script in the box, as long as it takes on a busy machine.
func (m *microstack) bash(script string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	out, err := m.Command(ctx, "bash", "-ec", "cd /root\n"+script).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	m.t.Logf("%s\n%s", script, out)
}
