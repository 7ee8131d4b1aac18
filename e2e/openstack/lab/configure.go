package lab

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed files
var files embed.FS

// settings are what the templates in files/etc can use.
type settings struct {
	State, Etc, Unpacked string
	Host, Password       string
	QEMU                 bool
	Worker               bool // octavia-worker's own file, which is octavia.conf but for one line
	Ports                any
	NB, SB               string // OVN's databases
	Bus                  string // message queue
	socket               string
}

// DB is the address of a database, for SQLAlchemy.
func (s settings) DB(name string) string {
	return fmt.Sprintf("mysql+pymysql://root@localhost/%s?unix_socket=%s&charset=utf8", name, s.socket)
}

// Auth is how a service presents itself to the others.
func (s settings) Auth(user string) string {
	return fmt.Sprintf(`auth_url = %s
auth_type = password
username = %s
password = %s
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = %s`, AuthURL, user, s.Password, Region)
}

// AuthToken is the section with which a service checks its callers. Without its own
// type there a service turns everybody away whose credential has access rules.
func (s settings) AuthToken(user, serviceType string) string {
	return fmt.Sprintf(`[keystone_authtoken]
www_authenticate_uri = %s
%s
service_type = %s
service_token_roles_required = true
service_token_roles = service`, AuthURL, s.Auth(user), serviceType)
}

// Privileged are the sections of Neutron's helpers, which need no sudo here.
func (s settings) Privileged(file string) string {
	var b strings.Builder
	for _, name := range []string{"privsep", "privsep_dhcp_release", "privsep_ovs_vsctl", "privsep_namespace", "privsep_conntrack", "privsep_link"} {
		fmt.Fprintf(&b, "\n[%s]\nhelper_command = privsep-helper --config-file %s/%s\n", name, s.Etc, file)
	}
	return b.String()
}

// folders are those that the services want to find.
func (c *Cloud) folders() []string {
	return []string{
		"run", "log", "none", "lock", "home", "client", "guests", "python", "nova/instances", "neutron", "ovn", "ovs", "rabbit",
		"glance/images", "glance/staging", "glance/tasks", "etc/keystone/fernet", "etc/keystone/credential",
		"libvirt/run", "libvirt/lib", "libvirt/etc", "libvirt/log",
	}
}

// configure writes every file that the services read.
func (c *Cloud) configure() error {
	for _, folder := range c.folders() {
		if err := os.MkdirAll(c.path(folder), 0o755); err != nil {
			return fmt.Errorf("make the state folder: %w", err)
		}
	}
	s := settings{
		State: c.opts.State, Etc: c.path("etc"), Unpacked: c.path("unpacked"), Host: Host, Password: Password, QEMU: c.opts.Virt == QEMU,
		Ports: ports, NB: "unix:" + c.path("ovn", "nb.sock"), SB: "unix:" + c.path("ovn", "sb.sock"), socket: c.socket(),
		Bus: fmt.Sprintf("rabbit://guest:guest@127.0.0.1:%d//", ports.Rabbit),
	}
	err := fs.WalkDir(files, "files", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return c.install(path, strings.TrimPrefix(path, "files/"), s)
	})
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	s.Worker = true
	if err := c.install("files/etc/octavia/octavia.conf", "etc/octavia/worker.conf", s); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	// libvirtd has its configuration folder compiled in and mounted over.
	for _, name := range []string{"qemu.conf", "libvirtd.conf"} {
		if err := c.install("files/etc/libvirt/"+name, "libvirt/etc/"+name, s); err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
	}
	return c.clients()
}

// install puts an embedded file into the state folder; those in etc are templates.
func (c *Cloud) install(from, to string, s settings) error {
	raw, err := files.ReadFile(from)
	if err != nil {
		return fmt.Errorf("read %s: %w", from, err)
	}
	if strings.HasPrefix(to, "etc/") {
		list := func(words ...string) []string { return words }
		parsed, err := template.New(from).Option("missingkey=error").Funcs(template.FuncMap{"list": list}).Parse(string(raw))
		if err != nil {
			return fmt.Errorf("parse %s: %w", from, err)
		}
		var out bytes.Buffer
		if err := parsed.Execute(&out, s); err != nil {
			return fmt.Errorf("fill in %s: %w", from, err)
		}
		raw = out.Bytes()
	}
	mode := fs.FileMode(0o644)
	if filepath.Ext(to) == ".sh" {
		mode = 0o755
	}
	return replaceFile(c.path(to), raw, mode)
}

// clients writes clouds.yaml, and rc files like those that clouds hand out.
func (c *Cloud) clients() error {
	yaml := bytes.NewBufferString("clouds:\n")
	for _, account := range []struct{ cloud, user, project string }{
		{Member, "demo", "demo"}, {Admin, "admin", "admin"}, {Reader, "demo-reader", "demo"}, {Other, "other", "other"},
	} {
		fmt.Fprintf(yaml, `  %s:
    region_name: %s
    identity_api_version: 3
    auth:
      auth_url: %s
      username: %s
      password: %s
      project_name: %s
      user_domain_name: Default
      project_domain_name: Default
`, account.cloud, Region, AuthURL, account.user, Password, account.project)
		rc := fmt.Sprintf(`export OS_AUTH_URL=%s
export OS_USERNAME=%s
export OS_PASSWORD=%s
export OS_PROJECT_NAME=%s
export OS_USER_DOMAIN_NAME=Default
export OS_PROJECT_DOMAIN_NAME=Default
export OS_REGION_NAME=%s
export OS_IDENTITY_API_VERSION=3
`, AuthURL, account.user, Password, account.project, Region)
		if err := replaceFile(c.RCFile(account.cloud), []byte(rc), 0o644); err != nil {
			return err
		}
	}
	return replaceFile(c.CloudsFile(), yaml.Bytes(), 0o644)
}
