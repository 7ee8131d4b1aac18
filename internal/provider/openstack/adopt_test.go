package openstack

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/scaling"
)

func TestAServerThatIsNotInTheProjectIsNotAdopted(t *testing.T) {
	f := newFake(t)
	f.add("u1", "vm-tset", nil, nil)
	_, err := f.provider(t).Adopt(t.Context(), scaling.LaunchSpec{ID: "7c9d9a52-5d0f-4a7e-9b7e-6f1c55d0a001", Group: "web", Name: "vm-test"})
	if scaling.ClassOf(err) != scaling.NotFound {
		t.Errorf("class of %v is %v, want NotFound", err, scaling.ClassOf(err))
	}
	for _, want := range []string{`project "demo": server "vm-test" does not exist`, `did you mean "vm-tset"`, "if it is in another one, give the provider credentials of that"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	if len(f.calls) > 0 {
		t.Errorf("it changed something: %q", f.calls)
	}
}

// TestCheckWarnsOfUserDataThatTheImageIgnores has the image of the template be CirrOS
// by name, by property, or not at all.
func TestCheckWarnsOfUserDataThatTheImageIgnores(t *testing.T) {
	const config, script = "#cloud-config\npackages: [nginx]\n", "#!/bin/sh\necho hello\n"
	for _, tt := range []struct {
		name, image, distro, userData string
		warns                         string
	}{
		{"#cloud-config for CirrOS", "cirros", "", config, `image "cirros" is CirrOS, which runs user data that begins with "#!" and ignores all else, and this is a #cloud-config`},
		{"#cloud-config for CirrOS under another name", "tiny", "cirros", config, `image "tiny" is CirrOS`},
		{"a script for CirrOS", "cirros", "", script, ""},
		{"#cloud-config for a Debian", "debian-12", "debian", config, ""},
		{"what nobody understands", "debian-12", "debian", "packages: [nginx]\n", `the user data for image "debian-12" begins with nothing that cloud-init knows`},
		{"no user data", "cirros", "", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			f.images = []map[string]any{{"id": "img", "name": tt.image, "status": "active", "os_distro": tt.distro, "created_at": "2026-01-01T00:00:00Z"}}
			p := f.provider(t)
			web := p.templates["web"]
			web.Image, web.UserData = tt.image, ""
			if tt.userData != "" {
				web.UserData = filepath.Join(t.TempDir(), "user-data")
				if err := os.WriteFile(web.UserData, []byte(tt.userData), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p.templates["web"] = web
			// The fake has no flavors, networks and quotas: those errors are not looked at.
			warnings, _ := p.Check(t.Context())
			warned := slices.ContainsFunc(warnings, func(w string) bool {
				return strings.HasPrefix(w, `group "web": `) && strings.Contains(w, tt.warns)
			})
			if tt.warns == "" && len(warnings) > 0 || tt.warns != "" && !warned {
				t.Errorf("the warnings are %q, want %q", warnings, tt.warns)
			}
		})
	}
}
