package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatACloudSaysIsNoWorkOfLibvirt(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	const nobody = "http://127.0.0.1:1/v3"
	if err := os.WriteFile(file, []byte("clouds: {lab: {auth: {auth_url: '"+nobody+"', username: u, password: p, project_name: demo}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := build(t, load(t, `owner: lab
providers: {here: {openstack: {cloud: lab, clouds_file: `+file+`}}}
balancers: {front: {haproxy: {sockets: [/run/a.sock]}}}
groups:
  web: {max: 3, provider: here, balancer: front, template: {flavor: m1.tiny, image: cirros, networks: [lab-net]}, pool: {backend: web}}
`))
	_, err := r.Check(t.Context())
	if err == nil || !strings.Contains(err.Error(), "authenticate at "+nobody) {
		t.Fatalf("Check() = %v; want what the login came to", err)
	}
	for line := range strings.Lines(err.Error()) {
		if strings.Contains(line, "authenticate") && (strings.Contains(line, "libvirt") || !strings.Contains(line, "providers.here")) {
			t.Errorf("%q", line)
		}
	}
}
