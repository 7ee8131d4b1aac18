package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/provision/provisiontest"
)

// TestDoctorSaysWhatACloudLacks runs the command for a cloud where the user may make
// no server, and one where no floating IP is left.
func TestDoctorSaysWhatACloudLacks(t *testing.T) {
	c := provisiontest.New(t)
	c.Roles = []string{"reader"}
	c.Used["floatingip"] = 10
	c.Refuse["POST servers"] = provisiontest.Refusal{Status: http.StatusForbidden, Body: `{"forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:servers:create to be performed."}}`}
	t.Setenv("OS_CLIENT_CONFIG_FILE", c.CloudsFile(t))
	for _, args := range [][]string{{"--cloud", "fake"}, {"--provision", c.File(t, "")}} {
		code, stdout, stderr := invoke(append([]string{"doctor"}, args...)...)
		if code != exitFailed {
			t.Errorf("doctor %v: exit code %d, want %d", args, code, exitFailed)
		}
		for _, want := range []string{
			"WRONG right to make a server refused (roles reader): give the user the role member in the project",
			"WRONG quota of kind floating ip used up: remove some, or ask for a larger quota",
			"OK right to make a port roles reader",
			"OK external network external",
		} {
			if !strings.Contains(strings.Join(strings.Fields(stdout), " "), want) {
				t.Errorf("doctor %v does not say %q:\n%s%s", args, want, stdout, stderr)
			}
		}
	}
}
