package libvirt

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSystemsAreKnownByTheirIDAndShortID(t *testing.T) {
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "fedoraproject.org"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"broken.xml":    "<libosinfo><short-id>fedora40</short-id>",
		"fedora-40.xml": `<libosinfo version="0.0.1"><os id="http://fedoraproject.org/fedora/40"><short-id>fedora40</short-id><short-id>f40</short-id></os></libosinfo>`,
		"odd.xml":       `<libosinfo version="0.0.1"><os id='"/><x'><short-id>odd</short-id></os></libosinfo>`,
	} {
		if err := os.WriteFile(filepath.Join(folder, "fedoraproject.org", name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[string]string{
		"http://debian.org/debian/12":         "http://debian.org/debian/12",
		"https://example.org/mine/1":          "https://example.org/mine/1",
		"linux2022":                           "http://libosinfo.org/linux/2022",
		"debian12":                            "http://debian.org/debian/12",
		"ubuntu24.04":                         "http://ubuntu.com/ubuntu/24.04",
		"fedora40":                            "http://fedoraproject.org/fedora/40",
		"f40":                                 "http://fedoraproject.org/fedora/40",
		"fedora41":                            "",
		"odd":                                 "",
		"":                                    "",
		"../x":                                "",
		`http://debian.org/debian/12"/><evil`: "",
	} {
		got, err := osinfoID(id, "/nowhere", folder)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", id, got, err)
		}
	}
	template := testTemplate()
	template.OSInfo = "no-such-system"
	if err := template.Validate(); err == nil || !strings.Contains(err.Error(), "osinfo \"no-such-system\": neither the id of a system") {
		t.Error(err)
	}
}
