package firstboot

import (
	"fmt"
	"strings"
)

// Kind is what a text of user data is, by its first bytes, as cloud-init tells.
type Kind string

// The kinds. A jinja template is rendered by cloud-init inside the guest.
const (
	Empty       Kind = "empty"
	CloudConfig Kind = "#cloud-config"
	Script      Kind = "#! script"
	MIME        Kind = "MIME message"
	Gzip        Kind = "gzip"
	Jinja       Kind = "jinja template"
	// Other is what only cloud-init knows: #include, #cloud-boothook and the like.
	Other Kind = "cloud-init"
	// Unknown is what no guest is known to act on.
	Unknown Kind = "unknown"
)

// KindOf tells what a text of user data is. Leading blanks do not count for
// cloud-init, save that a script has to begin with "#!" to be run by a kernel.
func KindOf(userData string) Kind {
	if strings.HasPrefix(userData, "\x1f\x8b") {
		return Gzip
	}
	text := strings.TrimLeft(userData, " \t\r\n\v\f")
	first, _, _ := strings.Cut(text, "\n")
	first = strings.ToLower(strings.TrimRight(first, " \t\r"))
	has := func(prefix string) bool { return strings.HasPrefix(first, prefix) }
	switch {
	case text == "":
		return Empty
	case strings.HasPrefix(userData, "#!"):
		return Script
	case has("## template: jinja"):
		return Jinja
	case has("#cloud-config-archive"), has("#cloud-config-jsonp"), has("#cloud-boothook"), has("#include"), has("#part-handler"), has("#upstart-job"):
		return Other
	case has("#cloud-config"):
		return CloudConfig
	case has("content-type:"), has("mime-version:"):
		return MIME
	}
	return Unknown
}

// Image is what can be known of an image without looking inside.
type Image struct {
	Name string
	// Distro is Glance's property os_distro, empty where there is none.
	Distro string
}

// IsCirrOS tells by name or os_distro. A CirrOS under another name is not known.
func (i Image) IsCirrOS() bool {
	return strings.Contains(strings.ToLower(i.Name), "cirros") || strings.Contains(strings.ToLower(i.Distro), "cirros")
}

// Mismatch is the sentence of warning if guests of the image will not act on user
// data of that kind, and empty if nothing is known against it. CirrOS's
// cirros-userdata runs what begins with "#!", unpacks nothing, and passes over all
// else in silence; every other image is taken to have cloud-init.
func Mismatch(image Image, kind Kind) string {
	switch {
	case kind == Empty:
		return ""
	case image.IsCirrOS() && kind != Script:
		return fmt.Sprintf("image %q is CirrOS, which runs user data that begins with \"#!\" and ignores all else, and this is %s: "+
			"write user_data as a script, and let it bring its own web server, which CirrOS does not have (deploy/microstack has one)", image.Name, kind.phrase())
	case kind == Unknown:
		return fmt.Sprintf("the user data for image %q begins with nothing that cloud-init knows: begin it with #cloud-config, \"#!\" and an interpreter, or a MIME header", image.Name)
	}
	return ""
}

// phrase is the kind with its article.
func (k Kind) phrase() string {
	switch k {
	case CloudConfig, MIME, Jinja, Script:
		return "a " + string(k)
	case Other:
		return "for cloud-init"
	case Gzip:
		return "gzip"
	case Empty, Unknown:
	}
	return "something else"
}

// NovaLimit is how many characters of user data Nova takes, after base64: the
// maxLength of user_data in its API (nova/api/openstack/compute/schemas/servers.py,
// from the first version on). A longer one is a 400.
const NovaLimit = 65535

// NovaBytes is what NovaLimit leaves of the user data itself.
const NovaBytes = NovaLimit / 4 * 3

// CheckNovaSize refuses what Nova would.
func CheckNovaSize(userData string) error {
	if len(userData) <= NovaBytes {
		return nil
	}
	return fmt.Errorf("user data of %d bytes: Nova takes at most %d (%d in base64); let the guest fetch the rest, or gzip the file if its image has cloud-init",
		len(userData), NovaBytes, NovaLimit)
}
