package main

import (
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/config"
)

// machine has the users root, me and, where it is installed, scalehook with these groups.
func machine(groups ...string) accounts {
	users := map[string]string{"root": "0", "me": "64001"}
	if groups != nil {
		users["scalehook"] = "64998"
	}
	return accounts{
		user: func(name string) (*user.User, error) {
			if id, ok := users[name]; ok {
				return &user.User{Username: name, Uid: id}, nil
			}
			return nil, user.UnknownUserError(name)
		},
		userByID: func(id string) (*user.User, error) {
			for name, uid := range users {
				if uid == id {
					return &user.User{Username: name, Uid: id}, nil
				}
			}
			return nil, user.UnknownUserError(id)
		},
		groupIDs: func(u *user.User) ([]string, error) {
			if u.Username == "scalehook" {
				return groups, nil
			}
			return nil, nil
		},
		group: func(name string) (*user.Group, error) {
			if name == "libvirt" {
				return &user.Group{Name: name, Gid: "64111"}, nil
			}
			return nil, user.UnknownGroupError(name)
		},
	}
}

func TestDoctorSaysWhoseRightsItTried(t *testing.T) {
	dir, err := os.MkdirTemp("", "shright") //nolint:usetesting // the folders above have to let everybody through
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	at := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if strings.HasSuffix(name, ".sock") {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
		} else if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ours := strconv.Itoa(os.Getgid()) // of what is made here
	open, group, closed := at("open", 0o644), at("group", 0o640), at("closed", 0o600)
	socket, groupSocket := at("a.sock", 0o666), at("b.sock", 0o660)
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o700); err != nil {
		t.Fatal(err)
	}
	inside := at("locked/inside", 0o644)

	for _, tt := range []struct {
		name    string
		euid    int
		service string
		on      accounts
		needs   needed
		want    string // OK, WARN or WRONG, and what is said
	}{
		{"root where the server runs as root", 0, "", machine(), needed{files: []string{closed}}, "OK files and sockets were tried as root, which runs the server"},
		{"the server's own user", 64998, "", machine(ours), needed{files: []string{closed}}, "OK files and sockets were tried as scalehook, which runs the server"},
		{"somebody where the server runs as root", 64001, "", machine(), needed{files: []string{closed}}, "WARN tried as me, and root, which may use them all, runs the server"},
		{"somebody whom nobody knows", 64002, "", machine(), needed{}, "WARN tried as the user with the id 64002, and root"},
		{"root, and the server's user may use everything", 0, "", machine(ours, "64111"), needed{files: []string{open, group}, sockets: []string{socket, groupSocket}, libvirt: true}, "OK tried as root; the server runs as scalehook, which by its id and groups may use the 2 files and 2 sockets"},
		{"somebody else, likewise", 64001, "", machine("1"), needed{files: []string{open}}, "OK tried as me; the server runs as scalehook, which by its id and groups may use the 1 files"},
		{"a file that only its owner may read", 0, "", machine(ours), needed{files: []string{closed}}, "WRONG may not read " + closed + " (mode 0600"},
		{"a file for a group that the user is not in", 0, "", machine("1"), needed{files: []string{group}}, "WRONG may not read " + group + " (mode 0640"},
		{"a folder that is closed", 0, "", machine(ours), needed{files: []string{inside}}, "WRONG may not read " + inside + ": the folder " + locked + " is closed to it (mode 0700"},
		{"a socket for a group that the user is not in", 0, "", machine("1"), needed{sockets: []string{groupSocket}}, "WRONG may not use " + groupSocket + " (mode 0660"},
		{"the way into that group", 0, "", machine("1"), needed{sockets: []string{groupSocket}}, "WRONG scalehook, and restart the server"},
		{"a libvirt whose group the user is not in", 0, "", machine(ours), needed{libvirt: true}, "WRONG is not in the group libvirt, and libvirt refuses it: usermod -aG libvirt scalehook"},
		{"what is not there is told elsewhere", 0, "", machine(ours), needed{files: []string{filepath.Join(dir, "none")}}, "OK may use"},
		{"a server that is said to run as root", 0, "root", machine("1"), needed{files: []string{closed}}, "OK tried as root, which runs the server"},
		{"a user that is not there", 0, "nobody-here", machine(), needed{}, "WRONG there is no user nobody-here"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := rights(tt.euid, tt.service, tt.on, tt.needs)
			state := "OK"
			switch {
			case !got.OK:
				state = "WRONG"
			case got.Warning:
				state = "WARN"
			}
			want, text, _ := strings.Cut(tt.want, " ")
			if state != want || !strings.Contains(got.Detail, text) {
				t.Errorf("%s %s\nwant %s", state, got.Detail, tt.want)
			}
		})
	}
}

func TestWhatTheServersUserNeedsIsFoundInTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "scalehook.yml")
	c, err := config.Parse(file, []byte(strings.ReplaceAll(`
owner: test
tokens: [{name: ops, role: operator, file: ops.token}]
prometheus:
  url: "https://prometheus.example/"
  http_client:
    authorization: {credentials_file: prometheus.token}
    tls_config: {ca_file: prometheus.ca, cert_file: prometheus.crt, key_file: prometheus.key}
alertmanagers:
  - {url: "https://am1.example/", http_client: &peer {basic_auth: {username_file: am.user, password_file: am.password}}}
  - {url: "https://am2.example/", http_client: *peer}
webhooks:
  - {name: a, url: "https://a.example/", secret_file: a.secret, http_client: {tls_config: {ca_file: ca.pem}}}
  - {name: b, url: "https://b.example/", secret_file: b.secret, http_client: {bearer_token_file: b.token, http_headers: {X-Key: {files: [b.header]}}}}
  - name: c
    url: "https://c.example/"
    secret_file: c.secret
    http_client:
      oauth2: {client_id: c, client_secret_file: c.oauth, token_url: "https://c.example/token", tls_config: {ca_file: c.ca, cert_file: c.crt, key_file: c.key}}
  - name: d
    url: "https://d.example/"
    secret_file: d.secret
    http_client:
      oauth2: {client_id: d, grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", client_certificate_key_file: "DIR/d.key", token_url: "https://d.example/token"}
providers:
  kvm: {libvirt: {uri: "qemu:///system"}}
  own: {libvirt: {uri: "qemu+unix:///system?socket=/run/own/libvirt-sock"}}
  far: {libvirt: {uri: "qemu+tcp://kvm2/system"}}
balancers:
  edge: {haproxy: {sockets: [{address: /run/haproxy/admin.sock, master_socket: /run/haproxy-master.sock}, {address: "127.0.0.1:9999"}]}}
  cloud: {octavia: {cloud: c, clouds_file: clouds.yaml}}
groups:
  web: {provider: kvm, balancer: edge, max: 1, pool: {backend: web}, template: {image: base.qcow2}}
`, "DIR", dir)))
	if err != nil {
		t.Fatal(err)
	}
	got := neededBy(file, c)
	files := []string{
		"a.secret", "am.password", "am.user", "b.header", "b.secret", "b.token",
		"c.ca", "c.crt", "c.key", "c.oauth", "c.secret", "ca.pem", "clouds.yaml", "d.key", "d.secret", "ops.token",
		"prometheus.ca", "prometheus.crt", "prometheus.key", "prometheus.token", "scalehook.yml",
	}
	for k := range files {
		files[k] = filepath.Join(dir, files[k])
	}
	if diff := cmp.Diff(files, got.files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if !slices.Equal(got.sockets, []string{"/run/haproxy-master.sock", "/run/haproxy/admin.sock", "/run/own/libvirt-sock"}) || !got.libvirt {
		t.Errorf("%+v", got)
	}
}
