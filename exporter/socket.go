package exporter

import (
	"net/url"
	"os"
	"strings"
)

// DefaultURI is the connection of a host's own libvirt daemon.
const DefaultURI = "qemu:///system"

// Sockets is the ordered table of the places where a system libvirt daemon
// listens. The first path that exists decides; the read-only socket of a place
// comes before the other, because the exporter needs no more.
type Sockets []Socket

// Socket is one place where a libvirt daemon may listen.
type Socket struct {
	// Path is the UNIX socket.
	Path string
	// URI is the connection to open when Path exists. Empty means the socket
	// itself, through qemu+unix.
	URI string
}

// KnownSockets returns the table that is used when the connection was left at
// DefaultURI: libvirt's own paths, for which libvirt finds the socket itself,
// then the daemons that snaps bring along.
func KnownSockets() Sockets {
	return Sockets{
		{Path: "/run/libvirt/libvirt-sock-ro", URI: DefaultURI},
		{Path: "/run/libvirt/libvirt-sock", URI: DefaultURI},
		{Path: "/run/libvirt/virtqemud-sock-ro", URI: DefaultURI},
		{Path: "/run/libvirt/virtqemud-sock", URI: DefaultURI},
		// MicroStack.
		{Path: "/var/snap/microstack/common/run/libvirt/libvirt-sock-ro"},
		{Path: "/var/snap/microstack/common/run/libvirt/libvirt-sock"},
		// Canonical OpenStack (Sunbeam), MicroStack's successor.
		{Path: "/var/snap/openstack-hypervisor/common/run/libvirt/libvirt-sock-ro"},
		{Path: "/var/snap/openstack-hypervisor/common/run/libvirt/libvirt-sock"},
	}
}

// Find returns the connection to open for uri. A uri other than DefaultURI is
// returned as it is: what an operator wrote is never second-guessed. When no
// socket of the table exists, DefaultURI is returned, so that libvirt's own
// error says what is missing.
func (s Sockets) Find(uri string) string {
	if uri != DefaultURI {
		return uri
	}
	place, ok := s.First()
	switch {
	case !ok:
		return uri
	case place.URI != "":
		return place.URI
	}
	// libvirt takes "+" for itself, not for a space.
	escape := strings.NewReplacer("+", "%20", "%2F", "/")
	return "qemu+unix:///system?socket=" + escape.Replace(url.QueryEscape(place.Path))
}

// First returns the first place whose socket exists; false if none does.
func (s Sockets) First() (Socket, bool) {
	for _, place := range s {
		if _, err := os.Stat(place.Path); err == nil {
			return place, true
		}
	}
	return Socket{}, false
}

// remote says whether libvirt reaches uri through anything but a UNIX socket
// of this host, or may do so. A local daemon that dies closes its sockets,
// which ends the calls that wait for it; a remote host that dies closes
// nothing, so only keep-alive notices.
func remote(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" {
		// An alias from libvirt.conf can stand for anything.
		return true
	}
	_, transport, _ := strings.Cut(u.Scheme, "+")
	return u.Host != "" || (transport != "" && transport != "unix")
}
