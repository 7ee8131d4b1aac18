package main

import (
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	promconfig "github.com/prometheus/common/config"
	"golang.org/x/sys/unix"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/doctor"
)

// serviceUser is who runs the server where it was installed from a package.
const serviceUser = "scalehook"

// accounts looks up users and groups.
type accounts struct {
	user     func(name string) (*user.User, error)
	userByID func(id string) (*user.User, error)
	groupIDs func(*user.User) ([]string, error)
	group    func(name string) (*user.Group, error)
}

func machineAccounts() accounts {
	return accounts{user.Lookup, user.LookupId, (*user.User).GroupIds, user.LookupGroup}
}

// needed are the things on this machine that the server uses as its user.
type needed struct {
	files, sockets []string
	// libvirt says that one of the providers is the libvirt of this machine.
	libvirt bool
}

// neededBy finds them in a configuration.
func neededBy(file string, c *config.Config) needed {
	n := needed{files: []string{file}}
	add := func(list *[]string, paths ...string) {
		for _, p := range paths {
			if filepath.IsAbs(p) && !slices.Contains(*list, p) {
				*list = append(*list, p)
			}
		}
	}
	for _, t := range c.Tokens {
		add(&n.files, t.File)
	}
	if c.Prometheus != nil {
		add(&n.files, clientFiles(c.Prometheus.HTTPClient)...)
	}
	for _, a := range c.Alertmanagers {
		add(&n.files, clientFiles(a.HTTPClient)...)
	}
	for _, w := range c.Webhooks {
		add(&n.files, w.SecretFile)
		add(&n.files, clientFiles(w.HTTPClient)...)
	}
	for _, p := range c.Providers {
		switch {
		case p.Libvirt != nil:
			u, err := url.Parse(p.Libvirt.URI)
			if err != nil || u.Host != "" {
				continue
			}
			add(&n.sockets, u.Query().Get("socket"))
			n.libvirt = n.libvirt || u.Scheme == "qemu" && u.Path == "/system"
		case p.OpenStack != nil:
			add(&n.files, p.OpenStack.CloudsFile, p.OpenStack.RCFile, p.OpenStack.CAFile)
		}
	}
	for _, b := range c.Balancers {
		if b.HAProxy != nil {
			for _, s := range b.HAProxy.Sockets {
				add(&n.sockets, s.Address, s.MasterSocket)
			}
		}
		if b.Octavia != nil {
			add(&n.files, b.Octavia.CloudsFile, b.Octavia.RCFile, b.Octavia.CAFile)
		}
	}
	slices.Sort(n.files)
	slices.Sort(n.sockets)
	return n
}

// clientFiles are those that a client section of the Prometheus family names.
func clientFiles(h promconfig.HTTPClientConfig) []string {
	tls := func(t promconfig.TLSConfig) []string { return []string{t.CAFile, t.CertFile, t.KeyFile} }
	files := append(tls(h.TLSConfig), h.BearerTokenFile)
	if h.Authorization != nil {
		files = append(files, h.Authorization.CredentialsFile)
	}
	if h.BasicAuth != nil {
		files = append(files, h.BasicAuth.UsernameFile, h.BasicAuth.PasswordFile)
	}
	if h.OAuth2 != nil {
		files = append(files, h.OAuth2.ClientSecretFile, h.OAuth2.ClientCertificateKeyFile)
		files = append(files, tls(h.OAuth2.TLSConfig)...)
	}
	if h.HTTPHeaders != nil {
		for _, header := range h.HTTPHeaders.Headers {
			files = append(files, header.Files...)
		}
	}
	return files
}

// account is a user with its groups.
type account struct {
	name string
	uid  int
	gids []int
}

func (a accounts) load(u *user.User) (account, error) {
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return account{}, fmt.Errorf("user %s: id %q is no number", u.Username, u.Uid)
	}
	ids, err := a.groupIDs(u)
	if err != nil {
		return account{}, fmt.Errorf("groups of the user %s: %w", u.Username, err)
	}
	found := account{name: u.Username, uid: uid}
	for _, id := range ids {
		if gid, err := strconv.Atoi(id); err == nil {
			found.gids = append(found.gids, gid)
		}
	}
	return found, nil
}

// rights says whose were tried by asking everybody, and where that is not the user that
// runs the server, whether that one may use what it needs: by its id and its groups, as
// far as owners and modes tell.
func rights(euid int, service string, a accounts, n needed) doctor.Check {
	c := doctor.Check{Part: doctor.PartConfiguration, What: "rights", OK: true}
	self := "the user with the id " + strconv.Itoa(euid)
	if u, err := a.userByID(strconv.Itoa(euid)); err == nil {
		self = u.Username
	}
	stated := service != ""
	if !stated {
		service = "root"
		if _, err := a.user(serviceUser); err == nil {
			service = serviceUser
		}
	}
	u, err := a.user(service)
	if err != nil {
		c.OK, c.Detail = false, fmt.Sprintf("there is no user %s: name the one that runs the server by --service-user", service)
		return c
	}
	server, err := a.load(u)
	switch {
	case err != nil:
		c.OK, c.Detail = false, err.Error()
		return c
	case server.uid == euid:
		c.Detail = fmt.Sprintf("files and sockets were tried as %s, which runs the server", self)
		return c
	case server.uid == 0:
		c.Warning = true
		c.Detail = fmt.Sprintf("files and sockets were tried as %s, and root, which may use them all, runs the server: what is wrong of them here may be right there; sudo scalehook doctor", self)
		if !stated {
			c.Detail += ", or name another user by --service-user"
		}
		return c
	}
	wrong, unsure := a.judge(server, n)
	tried := fmt.Sprintf("files and sockets were tried as %s; the server runs as %s", self, server.name)
	switch {
	case len(wrong) > 0:
		c.OK = false
		c.Detail = tried + ", which by its id and groups " + strings.Join(append(wrong, unsure...), "; ")
	case len(unsure) > 0:
		c.Warning = true
		c.Detail = tried + ", and " + strings.Join(unsure, "; ")
	default:
		c.Detail = fmt.Sprintf("%s, which by its id and groups may use the %d files and %d sockets that are named", tried, len(n.files), len(n.sockets))
	}
	return c
}

// judge tells what the account may not use, and where modes do not tell.
func (a accounts) judge(who account, n needed) (wrong, unsure []string) {
	if n.libvirt {
		if g, err := a.group("libvirt"); err == nil && !who.in(g.Gid) {
			wrong = append(wrong, fmt.Sprintf("is not in the group libvirt, and libvirt refuses it: usermod -aG libvirt %s, and restart the server", who.name))
		}
	}
	for _, file := range n.files {
		w, u := who.may(file, 0o4, "read")
		wrong, unsure = append(wrong, w...), append(unsure, u...)
	}
	for _, socket := range n.sockets {
		w, u := who.may(socket, 0o6, "use")
		if info, err := os.Stat(socket); len(w) > 0 && err == nil && info.Mode().Perm()&0o060 == 0o060 {
			if name := ownerGroup(info); name != "" {
				w[0] += fmt.Sprintf(": usermod -aG %s %s, and restart the server", name, who.name)
			}
		}
		wrong, unsure = append(wrong, w...), append(unsure, u...)
	}
	return wrong, unsure
}

func (a account) in(gid string) bool {
	id, err := strconv.Atoi(gid)
	return err == nil && slices.Contains(a.gids, id)
}

// may looks whether the modes of a file and of the folders above it let the account
// through. A file that is not there is told elsewhere.
func (a account) may(path string, want os.FileMode, verb string) (wrong, unsure []string) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		if os.IsPermission(err) {
			return nil, []string{"whether it may " + verb + " " + path + " cannot be seen as this user"}
		}
		return nil, nil
	}
	for at := target; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return nil, []string{"whether it may " + verb + " " + path + " cannot be seen as this user"}
		}
		bits := want
		if at != target {
			bits = 0o1
		}
		if !a.allowed(info, bits) {
			if hasACL(at) {
				return nil, []string{fmt.Sprintf("whether it may %s %s cannot be seen: %s has an access control list (getfacl %s)", verb, path, at, at)}
			}
			text := fmt.Sprintf("may not %s %s (mode %04o", verb, path, info.Mode().Perm())
			if at != target {
				text = fmt.Sprintf("may not %s %s: the folder %s is closed to it (mode %04o", verb, path, at, info.Mode().Perm())
			}
			if name := ownerGroup(info); name != "" {
				text += ", group " + name
			}
			return []string{text + ")"}, nil
		}
		if at == filepath.Dir(at) {
			return nil, nil
		}
	}
}

// allowed reports whether the mode lets the account do it.
func (a account) allowed(info os.FileInfo, want os.FileMode) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || a.uid == 0 {
		return true
	}
	mode := info.Mode().Perm()
	switch {
	case int(stat.Uid) == a.uid:
		mode >>= 6
	case slices.Contains(a.gids, int(stat.Gid)):
		mode >>= 3
	}
	return mode&want == want
}

// ownerGroup is the name of a file's group; empty where it has none.
func ownerGroup(info os.FileInfo) string {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		if g, err := user.LookupGroupId(strconv.Itoa(int(stat.Gid))); err == nil {
			return g.Name
		}
	}
	return ""
}

// hasACL reports whether more than the mode decides who may use a file.
func hasACL(path string) bool {
	n, err := unix.Getxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
