//go:build openstack

package openstack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/testenv"
)

// service is the port that the guests serve on, subnet the range that they are in.
// The machine has that range to itself, so that the test can answer in their place.
const (
	service = 18080
	subnet  = "10.61.0.0/24"
)

// programs are built once for all tests.
type programs struct{ scalehook, faulty string }

var build = sync.OnceValues(func() (programs, error) {
	dir, err := os.MkdirTemp("", "scalehook-openstack-bin")
	if err != nil {
		return programs{}, err
	}
	p := programs{filepath.Join(dir, "scalehook"), filepath.Join(dir, "scalehook-faulty")}
	for file, tags := range map[string]string{p.scalehook: "libvirt_dlopen", p.faulty: "libvirt_dlopen,faultpoints"} {
		out, err := exec.Command("go", "build", "-tags", tags, "-o", file, "github.com/scalehook/scalehook/cmd/scalehook").CombinedOutput()
		if err != nil {
			return programs{}, fmt.Errorf("build %s: %w: %s", file, err, out)
		}
	}
	return p, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if p, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(p.scalehook))
	}
	os.Exit(code)
}

// project is a project of the test's own with a user who is a plain member, so that
// names in it are the test's alone and its quota can be used up.
type project struct {
	*lab.Cloud

	t      *testing.T
	name   string // of project and user, and the owner of what scalehook makes
	id     string
	user   string // id of the user
	dir    string
	clouds string // clouds.yaml, whose cloud is lab.Member
	bin    programs
}

func startProject(t *testing.T, name string, opts lab.Options) *project {
	t.Helper()
	for _, program := range []string{"haproxy", "prometheus", "prometheus-alertmanager"} {
		testenv.Need(t, testenv.Program(program))
	}
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	p := &project{Cloud: lab.Start(t, opts), t: t, name: fmt.Sprintf("%s%d", name, os.Getpid()), dir: t.TempDir(), bin: bin}
	admin := func(args ...string) {
		if _, err := p.Client(context.Background(), lab.Admin, args...); err != nil {
			t.Error(err)
		}
	}
	var made struct{ ID string }
	p.decode(p.OpenStack(t, lab.Admin, "project", "create", p.name), &made)
	p.id = made.ID
	t.Cleanup(func() { admin("project", "delete", p.name) })
	p.decode(p.OpenStack(t, lab.Admin, "user", "create", "--password", lab.Password, "--project", p.name, p.name), &made)
	p.user = made.ID
	t.Cleanup(func() { admin("user", "delete", p.name) })
	p.OpenStack(t, lab.Admin, "role", "add", "--project", p.name, "--user", p.name, "member")
	p.clouds = p.file("clouds.yaml", fmt.Sprintf(`clouds:
  %s:
    region_name: %s
    identity_api_version: 3
    auth: {auth_url: %q, username: %[4]s, password: %[5]s, project_name: %[4]s, user_domain_name: Default, project_domain_name: Default}
`, lab.Member, lab.Region, lab.AuthURL, p.name, lab.Password))
	t.Cleanup(func() { // whatever became of the test, the machine's OpenStack is as before
		if left := p.left(); len(left) > 0 {
			t.Errorf("left behind: %s", strings.Join(left, ", "))
			p.sweep()
		}
	})
	return p
}

// file writes a file of the test.
func (p *project) file(name, text string) string {
	p.t.Helper()
	file := filepath.Join(p.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return file
}

func (p *project) decode(raw []byte, into any) {
	p.t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		p.t.Fatalf("%v in %s", err, raw)
	}
}

// client asks the real openstack client, as the project's user.
func (p *project) client(into any, args ...string) {
	p.t.Helper()
	if into != nil {
		args = append(args, "-f", "json")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.t.Context()), 2*time.Minute)
	defer cancel()
	cmd := p.Namespace().Command(ctx, "/usr/bin/openstack", append([]string{"--os-cloud", lab.Member}, args...)...)
	cmd.Env = append(cmd.Env, "OS_CLIENT_CONFIG_FILE="+p.clouds)
	out, err := cmd.Output()
	if err != nil {
		var said []byte
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			said = exit.Stderr
		}
		p.t.Fatalf("openstack %s: %v: %s", strings.Join(args, " "), err, said)
	}
	if into != nil {
		p.decode(out, into)
	}
}

// left lists what is in the project, by the services' own tables.
func (p *project) left() []string {
	p.t.Helper()
	rows, err := p.SQL(context.Background(), fmt.Sprintf(`
select concat('server ', display_name) from nova.instances where deleted = 0 and project_id = '%[1]s'
union all select concat('port ', id, ' ', device_owner) from neutron.ports where project_id = '%[1]s'
union all select concat('floating IP ', floating_ip_address) from neutron.floatingips where project_id = '%[1]s'
union all select concat('network ', name) from neutron.networks where project_id = '%[1]s'
union all select concat('router ', name) from neutron.routers where project_id = '%[1]s'
union all select concat('security group ', name) from neutron.securitygroups where project_id = '%[1]s' and name <> 'default'
union all select concat('image ', name) from glance.images where deleted = 0 and owner = '%[1]s'
union all select concat('key pair ', name) from nova_api.key_pairs where user_id = '%[2]s'
order by 1`, p.id, p.user))
	if err != nil {
		p.t.Fatal(err)
	}
	if rows == "" {
		return nil
	}
	return strings.Split(rows, "\n")
}

// sweep removes what a failed test left in its project.
func (p *project) sweep() {
	script := `set -x; o="openstack --os-cloud lab"
for s in $($o server list -f value -c ID); do $o server delete --wait $s; done
for f in $($o floating ip list -f value -c ID); do $o floating ip delete $f; done
for r in $($o router list -f value -c ID); do
  for s in $($o subnet list -f value -c ID); do $o router remove subnet $r $s; done
  $o router delete $r; done
for n in $($o port list -f value -c ID); do $o port delete $n; done
for n in $($o network list --internal -f value -c ID); do $o network delete $n; done
for g in $($o security group list -f value -c ID -c Name | grep -v ' default$' | cut -d' ' -f1); do $o security group delete $g; done
for i in $($o image list --private -f value -c ID); do $o image delete $i; done
for k in $($o keypair list -f value -c Name); do $o keypair delete $k; done`
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := p.Namespace().Command(ctx, "sh", "-c", script)
	cmd.Env = append(cmd.Env, "OS_CLIENT_CONFIG_FILE="+p.clouds)
	if out, err := cmd.CombinedOutput(); err != nil {
		p.t.Errorf("sweep: %v: %s", err, out)
	}
}

// provisionFile is what the seed's sections 2 to 6 make, in this project.
func (p *project) provisionFile() string {
	p.t.Helper()
	return p.file("provision.yml", fmt.Sprintf(`name: %[1]s
owner: %[1]s
cloud: {cloud: %[2]s, clouds_file: %[8]q}
network:
  name: lab-net
  subnet: {name: lab-net-subnet, cidr: %[3]s, dns: [8.8.8.8, 1.1.1.1]}
  router: {name: lab-router, external: %[4]s}
security_group:
  name: sg-secure
  rules:
    - {protocol: tcp, port: 22, from: 203.0.113.1}
    - {protocol: icmp, from: subnet}
service: {port: %[5]d, balancer: 203.0.113.1, path: /}
key: {name: lab-key-%[1]s, private_key: lab-key}
server: {name: vm-test, image: %[6]s, flavor: %[7]s, scaling_group: web}
floating_ip: {network: %[4]s}
snapshot: {keep: 2}
`, p.name, lab.Member, subnet, lab.External, service, lab.Image, lab.Flavor, p.clouds))
}

// scalehook runs a subcommand to its end.
func (p *project) scalehook(args ...string) string {
	p.t.Helper()
	out, err := p.try(args...)
	if err != nil {
		p.t.Fatalf("scalehook %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

func (p *project) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Minute)
	defer cancel()
	out, err := p.Namespace().Command(ctx, p.bin.scalehook, args...).CombinedOutput()
	return string(out), err
}

// provision runs the command until it is through. Other tests make the same
// services busy, so a call may time out; the same command then goes on from there.
func (p *project) provision(args ...string) string {
	p.t.Helper()
	args = append([]string{"provision", p.provisionFile()}, args...)
	for range 3 {
		out, err := p.try(args...)
		if err == nil {
			return out
		}
		p.t.Logf("again: %v: %s", err, out)
	}
	return p.scalehook(args...)
}

// server, floating and image are what the client says.
type (
	server struct {
		ID, Name, Status string
		Networks         map[string][]string
	}
	floating struct {
		Address string `json:"Floating IP Address"`
		Fixed   string `json:"Fixed IP Address"`
		Port    string
	}
	port struct {
		ID, Name string
		Fixed    []struct {
			IP string `json:"ip_address"`
		} `json:"Fixed IP Addresses"`
	}
	image struct{ ID, Name, Status string }
)

// state is what the client says of the project.
type state struct {
	servers  map[string]server // by name
	floating []floating
	ports    []port
	images   []image
}

func (p *project) state() state {
	p.t.Helper()
	var s state
	var servers []server
	p.client(&servers, "server", "list")
	s.servers = map[string]server{}
	for _, one := range servers {
		if one.Status == "DELETED" { // gone; on a busy machine Nova takes a moment to list it no more
			continue
		}
		if _, twice := s.servers[one.Name]; twice {
			p.t.Errorf("two servers are called %s", one.Name)
		}
		s.servers[one.Name] = one
	}
	p.client(&s.floating, "floating", "ip", "list")
	p.client(&s.ports, "port", "list")
	p.client(&s.images, "image", "list", "--private")
	return s
}

// fixed is the server's address in lab-net.
func (s state) fixed(name string) string {
	for _, address := range s.servers[name].Networks["lab-net"] {
		if !strings.HasPrefix(address, "203.0.113.") { // a floating IP
			return address
		}
	}
	return ""
}

// expect checks servers, where the public address leads, ports and snapshots.
func (s state) expect(t *testing.T, step, public string, snapshots int, servers ...string) {
	t.Helper()
	if len(s.servers) != len(servers) {
		t.Errorf("%s: the servers are %v, want %v", step, s.servers, servers)
	}
	for _, name := range servers {
		if s.servers[name].Status != "ACTIVE" || s.fixed(name) == "" {
			t.Errorf("%s: %s is %+v, want it ACTIVE with an address", step, name, s.servers[name])
		}
	}
	if len(s.floating) != 1 || s.floating[0].Fixed != s.fixed(public) || s.floating[0].Fixed == "" {
		t.Errorf("%s: the floating IPs are %+v, want one that leads to %s (%s)", step, s.floating, public, s.fixed(public))
	}
	// Besides the servers' ports there are the router's and OVN's for metadata.
	have := 0
	for _, one := range s.ports {
		for _, name := range servers {
			for _, ip := range one.Fixed {
				if ip.IP == s.fixed(name) {
					have++
				}
			}
		}
	}
	if others := len(s.ports) - have; have != len(servers) || others > 2 {
		t.Errorf("%s: of %d ports %d are the servers', want %d and at most 2 others", step, len(s.ports), have, len(servers))
	}
	active := 0
	for _, one := range s.images {
		if one.Status == "active" {
			active++
		}
	}
	if active != snapshots || len(s.images) != snapshots {
		t.Errorf("%s: the snapshots are %v, want %d", step, s.images, snapshots)
	}
}
