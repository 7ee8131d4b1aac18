package config_test

import (
	"strings"
	"testing"
)

func TestWhatOnlyDriversUnderstandIsToldApart(t *testing.T) {
	digests := func(text string) map[string][3]string {
		out := map[string][3]string{}
		for _, g := range build(t, load(t, text)).Groups {
			out[g.Name] = [3]string{g.Template, g.Pool, g.Place}
		}
		return out
	}
	was := digests(base)
	for _, tt := range []struct {
		name, old, new string
		group          string
		changes        [3]bool
	}{
		{"the same file is the same", "", "", "api", [3]bool{}},
		{"a template's field", "image: base", "image: other", "api", [3]bool{true, false, false}},
		{"a pool's field", "backend: api", "backend: api2", "api", [3]bool{false, true, false}},
		{"a provider's URI", "libvirt: {}", "libvirt: {uri: 'qemu+ssh://kvm2/system'}", "api", [3]bool{false, false, true}},
		{"what else the provider has is no other place", "libvirt: {}", "libvirt: {max_connections: 3}", "api", [3]bool{}},
		{"a group's own setting", "pool: {backend: api}", "pool: {backend: api}, high: 90%", "api", [3]bool{}},
		{"another group is not touched", "vcpus: 2", "vcpus: 3", "api", [3]bool{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := base
			if tt.old != "" {
				if text = strings.Replace(base, tt.old, tt.new, 1); text == base {
					t.Fatalf("%q is not in the file", tt.old)
				}
			}
			is := digests(text)
			for k, what := range []string{"template", "pool", "place"} {
				if was[tt.group][k] == "" {
					t.Errorf("%s has no digest", what)
				}
				if got := is[tt.group][k] != was[tt.group][k]; got != tt.changes[k] {
					t.Errorf("%s changed: %t, want %t", what, got, tt.changes[k])
				}
			}
		})
	}
}
