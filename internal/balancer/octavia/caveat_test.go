package octavia

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"

	"github.com/scalehook/scalehook/internal/cloud"
)

// TestThatNothingIsPromisedIsSaidOnce: by the configuration at the start, by what is
// found at the first look, and not again at each further one.
func TestThatNothingIsPromisedIsSaidOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(file, []byte("clouds: {c: {auth: {auth_url: 'http://127.0.0.1:1/v3', username: u, password: p, project_name: demo}}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	b, err := New(Config{Config: cloud.Config{Cloud: "c", CloudsFile: file}}, "lab", slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	found := func(provider string) *site {
		s := &site{looked: time.Now()}
		if provider != "" {
			s.lb = &loadbalancers.LoadBalancer{Name: "lab-web", Provider: provider}
		}
		return s
	}
	yes := true
	for name, c := range map[string]struct {
		cfg          PoolConfig
		found        *site
		start, later string // what is logged; empty: nothing more
	}{
		"ovn is stated":                  {PoolConfig{Subnet: "s", Port: 80, Provider: "ovn"}, found(""), "provider ovn does not honour weight 0", ""},
		"ovn is found":                   {PoolConfig{Pool: "theirs"}, found("ovn"), "", "provider ovn of load balancer"},
		"amphora is found":               {PoolConfig{Pool: "theirs"}, found("amphora"), "", ""},
		"amphora is stated":              {PoolConfig{Subnet: "s", Port: 80, Provider: "amphora"}, found(""), "", ""},
		"nobody knows before it is made": {PoolConfig{Subnet: "s", Port: 80}, found(""), "", "by which provider is not stated"},
		"somebody has tried the other":   {PoolConfig{Pool: "theirs", WeightZero: &yes}, found("other"), "", ""},
	} {
		log.Reset()
		p, err := b.Pool("web", c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		logged := func(when, want string) {
			t.Helper()
			text := log.String()
			log.Reset()
			if want == "" && text != "" || want != "" && (strings.Count(text, "\n") != 1 || !strings.Contains(text, "losslessness is not promised") || !strings.Contains(text, want)) {
				t.Errorf("%s, %s: logged %q, want %q", name, when, text, want)
			}
			if drains := p.Capabilities().Drain; drains && p.Caveat() != "" {
				t.Errorf("%s, %s: it drains, and %q", name, when, p.Caveat())
			}
		}
		logged("at the start", c.start)
		p.remember(c.found)
		logged("found", c.later)
		p.remember(c.found)
		logged("found again", "")
		if c.start+c.later != "" && p.Caveat() == "" {
			t.Errorf("%s: no caveat", name)
		}
	}
}
