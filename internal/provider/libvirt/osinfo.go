package libvirt

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// osinfoFolders are where libosinfo's database may be, on the machine that
// scalehook runs on.
func osinfoFolders() []string {
	return []string{"/etc/osinfo/os", "/usr/local/share/osinfo/os", "/usr/share/osinfo/os"}
}

var (
	osinfoURIRE = regexp.MustCompile(`^https?://[A-Za-z0-9.-]+(/[A-Za-z0-9._+-]+)+$`)
	shortIDRE   = regexp.MustCompile(`^[a-z][A-Za-z0-9._+-]{0,62}$`)
	// knownShortIDs follow a rule, and need no database.
	knownShortIDs = []struct {
		short *regexp.Regexp
		uri   string
	}{
		{regexp.MustCompile(`^linux(20(?:16|18|20|22))$`), "http://libosinfo.org/linux/$1"},
		{regexp.MustCompile(`^debian([0-9]{1,2})$`), "http://debian.org/debian/$1"},
		{regexp.MustCompile(`^ubuntu([0-9]{1,2}\.[0-9]{2})$`), "http://ubuntu.com/ubuntu/$1"},
	}
)

// osinfoID returns the URI by which libosinfo knows a system: itself, or that of
// a short id as virt-install takes it.
func osinfoID(id string, folders ...string) (string, error) {
	if osinfoURIRE.MatchString(id) {
		return id, nil
	}
	for _, known := range knownShortIDs {
		if known.short.MatchString(id) {
			return known.short.ReplaceAllString(id, known.uri), nil
		}
	}
	if shortIDRE.MatchString(id) {
		for _, folder := range folders {
			if uri := osinfoLookUp(folder, id); uri != "" {
				return uri, nil
			}
		}
	}
	return "", fmt.Errorf("osinfo %q: neither the id of a system nor a short id that is known here; use the id that `osinfo-query os short-id=%s` shows, such as http://libosinfo.org/linux/2022", id, id)
}

// osinfoLookUp finds a short id in a folder of the database; empty if it is not
// there. A file of it that cannot be read is as one without the id.
func osinfoLookUp(folder, short string) string {
	files, err := filepath.Glob(filepath.Join(folder, "*", "*.xml"))
	if err != nil {
		return ""
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), ">"+short+"<") {
			continue
		}
		var db struct {
			Systems []struct {
				ID     string   `xml:"id,attr"`
				Shorts []string `xml:"short-id"`
			} `xml:"os"`
		}
		if xml.Unmarshal(text, &db) != nil {
			continue
		}
		for _, system := range db.Systems {
			for _, s := range system.Shorts {
				if s == short && osinfoURIRE.MatchString(system.ID) {
					return system.ID
				}
			}
		}
	}
	return ""
}

// osinfoElement says to other tools which system the guest runs. uri is one that
// osinfoID returned, which needs no escaping.
func osinfoElement(uri string) string {
	return `<libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0"><libosinfo:os id="` + uri + `"/></libosinfo:libosinfo>`
}
