package provision

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/provision/provisiontest"
)

// TestAPlanNotesUserDataThatTheImageIgnores has a server that is to be made, one that
// was made for the file, and one of somebody else's, whose first boot is none of ours.
func TestAPlanNotesUserDataThatTheImageIgnores(t *testing.T) {
	const config, script = "#cloud-config\npackages: [nginx]\n", "#!/bin/sh\necho hello\n"
	for _, tt := range []struct {
		name, image, distro, userData string
		server                        string // missing, ours or theirs
		notes                         string
	}{
		{"#cloud-config for CirrOS", "cirros", "", config, "missing", `server.user_data: image "cirros" is CirrOS, which runs user data that begins with "#!" and ignores all else, and this is a #cloud-config`},
		{"by the image's property", "tiny", "cirros", config, "missing", `image "tiny" is CirrOS`},
		{"of a server that was made already", "cirros", "", config, "ours", `image "cirros" is CirrOS`},
		{"of an adopted server", "cirros", "", config, "theirs", ""},
		{"a script for CirrOS", "cirros", "", script, "missing", ""},
		{"#cloud-config for a Debian", "debian-12", "debian", config, "missing", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := provisiontest.New(t)
			c.Objects["images"][0]["name"], c.Objects["images"][0]["os_distro"] = tt.image, tt.distro
			switch tt.server {
			case "missing":
				c.Objects["servers"] = nil
			case "theirs":
				c.Objects["servers"][0]["tags"] = []string{}
			}
			file := filepath.Join(t.TempDir(), "user-data")
			if err := os.WriteFile(file, []byte(tt.userData), 0o600); err != nil {
				t.Fatal(err)
			}
			plan, err := opened(t, c.Text(t, "network: {name: lab-net}\nserver: {name: test-vm, image: "+tt.image+", flavor: m1.tiny, user_data: "+file+"}\n")).Plan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			notes := strings.Join(plan.Notes, "\n")
			if !strings.Contains(notes, tt.notes) || tt.notes == "" && notes != "" {
				t.Errorf("the notes are %q, want %q", notes, tt.notes)
			}
		})
	}
}
