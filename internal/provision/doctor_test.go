package provision

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/provision/provisiontest"
)

// opened opens a file at the cloud in memory.
func opened(t *testing.T, path string) *Provisioner {
	t.Helper()
	f, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(f, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// nova and neutron are how these services refuse what the policy does not allow.
const (
	novaForbids    = `{"forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:servers:create to be performed."}}`
	neutronForbids = `{"NeutronError": {"type": "PolicyNotAuthorized", "message": "rule:create_port is disallowed by policy", "detail": ""}}`
	novaQuota      = `{"forbidden": {"code": 403, "message": "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances"}}`
)

// TestDoctorNamesWhatIsMissing takes one thing at a time away from a cloud that is
// whole, and wants exactly that named.
func TestDoctorNamesWhatIsMissing(t *testing.T) {
	const routed = "network:\n  name: lab-net\n  subnet: {cidr: 192.168.100.0/24}\n  router: {name: lab-router, external: outside}\n"
	for _, tt := range []struct {
		name  string
		file  string // in place of the usual one
		spoil func(*provisiontest.Cloud)
		want  []string // the checks that fail, each with a part of what it says
		says  []string // of the checks that do not
	}{
		{
			name: "a whole cloud", spoil: func(*provisiontest.Cloud) {},
			says: []string{
				"right to make a server: roles member", "right to make a port: ", "right to make a floating IP: ", "quota of kind server: 10 left", "external network: external",
				"image: cirros", "flavor: m1.tiny", "service block storage (Cinder): cannot be used, so servers boot from images only", "provisioning file: nothing stands in its way",
			},
		},
		{
			name: "a wrong password",
			spoil: func(c *provisiontest.Cloud) {
				c.Refuse["POST tokens"] = provisiontest.Refusal{Status: http.StatusUnauthorized, Body: `{"error": {"code": 401, "message": "The request you have made requires authentication."}}`}
			},
			want: []string{"user name, password, project or credential is wrong"},
		},
		{
			name:  "no compute service in the catalog",
			spoil: func(c *provisiontest.Cloud) { c.Missing = []string{"compute"} },
			want:  []string{`service compute (Nova): `},
		},
		{
			name:  "no network service in the catalog",
			spoil: func(c *provisiontest.Cloud) { c.Missing = []string{"network"} },
			want:  []string{`service network (Neutron): `},
		},
		{
			name:  "no image service in the catalog",
			spoil: func(c *provisiontest.Cloud) { c.Missing = []string{"image"} },
			want:  []string{`service image (Glance): `},
		},
		{
			name: "a compute service that does not work",
			spoil: func(c *provisiontest.Cloud) {
				c.Refuse["GET limits"] = provisiontest.Refusal{Status: http.StatusServiceUnavailable, Body: "down for maintenance"}
			},
			want: []string{"service compute (Nova): ", "503"},
		},
		{
			name: "a user who may only look",
			spoil: func(c *provisiontest.Cloud) {
				c.Roles = []string{"reader"}
				c.Refuse["POST servers"] = provisiontest.Refusal{Status: http.StatusForbidden, Body: novaForbids}
				c.Refuse["POST ports"] = provisiontest.Refusal{Status: http.StatusForbidden, Body: neutronForbids}
				c.Refuse["POST floatingips"] = provisiontest.Refusal{Status: http.StatusForbidden, Body: neutronForbids}
			},
			want: []string{
				"right to make a server: refused (roles reader): give the user the role member", "right to make a port: refused (roles reader)", "right to make a floating IP: refused (roles reader)",
			},
		},
		{
			name: "a user who may make everything but floating IPs",
			spoil: func(c *provisiontest.Cloud) {
				c.Refuse["POST floatingips"] = provisiontest.Refusal{Status: http.StatusForbidden, Body: neutronForbids}
			},
			want: []string{"right to make a floating IP: refused"}, says: []string{"right to make a server: roles member", "right to make a port: roles member"},
		},
		{
			name: "a quota that is used up is no missing right",
			spoil: func(c *provisiontest.Cloud) {
				c.Used["instances"] = 10
				c.Refuse["POST servers"] = provisiontest.Refusal{Status: http.StatusForbidden, Body: novaQuota}
			},
			want: []string{"quota of kind server: used up: remove some, or ask for a larger quota"}, says: []string{"right to make a server: roles member"},
		},
		{
			name:  "no floating IP left in the quota",
			spoil: func(c *provisiontest.Cloud) { c.Used["floatingip"] = 10 },
			want:  []string{"quota of kind floating ip: used up"}, says: []string{"quota of kind port: 10 left"},
		},
		{
			name:  "more used than the quota has is in the way of nothing that is there",
			spoil: func(c *provisiontest.Cloud) { c.Used["cores"] = 12 },
			want:  []string{"quota of kind vCPU: used up"}, says: []string{"provisioning file: nothing stands in its way"},
		},
		{
			name: "a service that does not say whether it would let one",
			spoil: func(c *provisiontest.Cloud) {
				c.Refuse["POST ports"] = provisiontest.Refusal{Status: http.StatusInternalServerError, Body: "sorry"}
			},
			want: []string{"right to make a port: "}, says: []string{"right to make a server: roles member"},
		},
		{
			name:  "no external network",
			spoil: func(c *provisiontest.Cloud) { c.Objects["networks"] = c.Objects["networks"][1:] },
			want:  []string{"external network: there is none: an administrator makes one"},
		},
		{
			name: "another external network than the file's", file: routed, spoil: func(*provisiontest.Cloud) {},
			want: []string{`"outside"`}, says: []string{"external network: external"},
		},
		{
			name:  "no flavor",
			spoil: func(c *provisiontest.Cloud) { c.Objects["flavors"], c.Objects["servers"] = nil, nil },
			want:  []string{"flavor: there is none", `flavor "m1.tiny" does not exist`},
		},
		{
			name: "no image",
			spoil: func(c *provisiontest.Cloud) {
				c.Objects["images"], c.Objects["servers"] = nil, nil
			},
			want: []string{"image: there is none: openstack image create", `image "cirros" does not exist`},
		},
		{
			name: "an image that is not whole",
			spoil: func(c *provisiontest.Cloud) {
				c.Objects["servers"] = nil
				c.Objects["images"][0]["status"] = "queued"
			},
			want: []string{"image: there is none", "image cirros (img-cirros) is queued"},
		},
		{
			name: "a listing that fails",
			spoil: func(c *provisiontest.Cloud) {
				c.Refuse["GET routers"] = provisiontest.Refusal{Status: http.StatusInternalServerError, Body: "sorry"}
			},
			want: []string{"listing: "},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := provisiontest.New(t)
			tt.spoil(c)
			path := c.File(t, "")
			if tt.file != "" {
				path = c.Text(t, tt.file)
			}
			var bad, good []string
			for _, check := range opened(t, path).Doctor(t.Context()) {
				line := check.What + ": " + check.Detail
				if check.OK {
					good = append(good, line)
				} else {
					bad = append(bad, line)
				}
			}
			for _, want := range tt.want {
				if !slices.ContainsFunc(bad, func(line string) bool { return strings.Contains(line, want) }) {
					t.Errorf("no check fails with %q", want)
				}
			}
			for _, line := range bad {
				if !slices.ContainsFunc(tt.want, func(want string) bool { return strings.Contains(line, want) }) {
					t.Errorf("it is WRONG besides: %s", line)
				}
			}
			for _, want := range tt.says {
				if !slices.ContainsFunc(good, func(line string) bool { return strings.HasPrefix(line, want) }) {
					t.Errorf("no check is OK with %q", want)
				}
			}
			if t.Failed() {
				t.Logf("OK:\n%s\nWRONG:\n%s", strings.Join(good, "\n"), strings.Join(bad, "\n"))
			}
			if calls := c.Calls(); len(calls) > 0 {
				t.Errorf("doctor changed something: %v", calls)
			}
		})
	}
}

// TestDoctorOfACloudAloneLooksForAnythingOfTheKind has no file.
func TestDoctorOfACloudAloneLooksForAnythingOfTheKind(t *testing.T) {
	c := provisiontest.New(t)
	c.Objects["networks"] = nil
	f := &File{}
	f.Cloud.Cloud, f.Cloud.CloudsFile = "fake", c.CloudsFile(t)
	p, err := Open(f, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	checks := p.Doctor(t.Context())
	var bad []string
	for _, check := range checks {
		if !check.OK {
			bad = append(bad, check.What)
		}
	}
	if fmt.Sprint(bad) != "[external network]" {
		t.Errorf("wrong: %q of %+v", bad, checks)
	}
}
