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

func TestABalancerThatPromisesNothingOfADrainIsAWarning(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(file, []byte("clouds: {lab: {auth: {auth_url: 'http://127.0.0.1:1/v3', username: u, password: p, project_name: demo}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for pool, want := range map[string]string{
		"{subnet: s, port: 80, provider: ovn}":                         "groups.web.pool: provider ovn does not honour weight 0: a drain takes the member out of the pool at once, and that a replacement loses no request is not promised",
		"{pool: theirs, weight_zero: false}":                           "groups.web.pool: weight_zero: false: ",
		"{subnet: s, port: 80, provider: amphora}":                     "",
		"{subnet: s, port: 80, provider: amphora, weight_zero: false}": "weight_zero: false",
		"{subnet: s, port: 80, provider: other, weight_zero: true}":    "",
		"{subnet: s, port: 80}":                                        "", // it could not be looked at
	} {
		r := build(t, load(t, `owner: lab
providers: {here: {openstack: {cloud: lab, clouds_file: `+file+`}}}
balancers: {front: {octavia: {cloud: lab, clouds_file: `+file+`}}}
groups:
  web: {max: 3, port: 8080, provider: here, balancer: front, template: {flavor: m1.tiny, image: cirros, networks: [lab-net]}, pool: `+pool+`}
`))
		warnings, err := r.Check(t.Context())
		if err == nil {
			t.Errorf("%s: a cloud that does not answer is no error", pool)
		}
		if want == "" && len(warnings) > 0 || want != "" && (len(warnings) != 1 || !strings.Contains(warnings[0].Error(), want)) {
			t.Errorf("%s: warnings %q, want %q", pool, warnings, want)
		}
	}
}
