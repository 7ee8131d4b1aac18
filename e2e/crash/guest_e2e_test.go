//go:build e2e

package crash_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/testenv"
)

const (
	guestImage = "base.qcow2"
	entrance   = "127.0.0.1:8080"
	// guestPatience bounds a boot under emulation on a busy machine.
	guestPatience = 3 * time.Minute
)

const haproxyConfig = `global
  stats socket {{stats}} mode 600 level admin expose-fd listeners
  maxconn 500
defaults
  mode http
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  timeout check 15s
  option idle-close-on-response
  retries 0
  no option redispatch
frontend clients
  bind ` + entrance + `
  default_backend web
backend web
  balance leastconn
  option httpchk GET /health
`

// guestStage is a libvirtd, a HAProxy and VMs that boot an operating system and
// serve.
type guestStage struct {
	libvirtStage

	haproxy *lab.HAProxy
	kind    string
}

func newGuestStage(t *testing.T) *guestStage {
	t.Helper()
	requirements := []testenv.Requirement{testenv.Root, testenv.Program("haproxy")}
	for _, program := range append(lab.Programs(), guest.Programs()...) {
		requirements = append(requirements, testenv.Program(program))
	}
	testenv.Need(t, requirements...)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	image, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	st := &guestStage{}
	if st.lab, err = lab.Start(ctx, lab.Options{Name: "crash-vm", Isolated: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	if _, err := st.lab.UploadImage(ctx, guestImage, image.Path); err != nil {
		t.Fatal(err)
	}
	if st.haproxy, err = st.lab.StartHAProxy(ctx, lab.HAProxyOptions{Config: haproxyConfig}); err != nil {
		t.Fatal(err)
	}
	st.kind = st.lab.DomainType(ctx)
	return st
}

func (st *guestStage) config(*run) string {
	return fmt.Sprintf(`owner: crash
monitoring: {scrape_interval: 1s, evaluation_interval: 1s, rate_window: 4s}
providers:
  host:
    libvirt: {uri: %q}
balancers:
  edge:
    haproxy:
      sockets: [{address: %q, master_socket: %q}]
groups:
  web:
    mode: scale_out_only
    min: 1
    max: 2
    cooldown: 0s
    warm_up: 0s
    launch_deadline: 3m
    drain_deadline: 30s
    shutdown_deadline: 20s
    name: "web-{n}"
    port: 80
    template:
      image: %s
      pool: %s
      memory: 128MiB
      domain_type: %s
      cache: unsafe
      cloud_init: {}
    pool:
      backend: web
      check: {inter: 1s, rise: 1, fall: 10}
`, st.lab.URI(), st.haproxy.AdminSocket, st.haproxy.MasterSocket, guestImage, lab.PoolName, st.kind)
}

// settled holds once so many instances serve, nothing is under way, and libvirt
// and HAProxy have what these are and nothing else.
func (st *guestStage) settled(ctx context.Context, s *server, want int) error {
	g, err := s.client.Group(ctx, group)
	if err != nil {
		return err
	}
	if g.InService != want || g.Owned != want || len(g.Activities)+len(g.Orders) > 0 {
		return fmt.Errorf("%d in service and %d owned, not %d; %d activities and %d orders under way",
			g.InService, g.Owned, want, len(g.Activities), len(g.Orders))
	}
	have, err := st.lab.Snapshot(ctx)
	if err != nil {
		return err
	}
	var names, volumes, servers []string
	for _, i := range g.Instances {
		if i.State == "gone" {
			continue
		}
		if i.Member == nil || i.Member.State != "ready" {
			return fmt.Errorf("%s is no ready member", i.Name)
		}
		names = append(names, i.Name)
		servers = append(servers, "haproxy/web/"+i.Member.Server)
		for _, suffix := range []string{".qcow2", ".seed.iso"} {
			volumes = append(volumes, lab.PoolName+"/"+i.Name+"."+i.ID+suffix)
		}
	}
	volumes = append(volumes, lab.PoolName+"/"+guestImage)
	for _, list := range [][]string{names, volumes, servers} {
		slices.Sort(list)
	}
	type all struct{ Domains, Guests, Volumes, Servers []string }
	if diff := cmp.Diff(all{names, names, volumes, servers}, all{have.Domains, have.Guests, have.Volumes, have.Servers}); diff != "" {
		return fmt.Errorf("not what the instances are (-want +got):\n%s", diff)
	}
	return nil
}

// TestAKillAmidRealVMsIsFinishedAndLosesNoRequest kills the server while a VM is
// cloned, boots, joins, drains and is removed, with requests in flight all the
// time.
func TestAKillAmidRealVMsIsFinishedAndLosesNoRequest(t *testing.T) {
	st := newGuestStage(t)
	r := &run{stage: st, program: buildServer(t), dir: t.TempDir(), address: "127.0.0.1:10070"}
	if err := os.WriteFile(filepath.Join(r.dir, "scalehook.yml"), []byte(st.config(r)), 0o600); err != nil {
		t.Fatal(err)
	}
	fail := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v\n%s", what, err, tailOf(r.dir))
		}
	}
	start := func(kill string) *server {
		t.Helper()
		s, err := startServer(t.Context(), r, "SCALEHOOK_FAULT="+kill)
		fail("start the server", err)
		fail("start the server", s.await(t.Context(), startDeadline, s.ready))
		return s
	}
	s := start("")
	fail("fill", s.await(t.Context(), guestPatience, func(ctx context.Context) error { return st.settled(ctx, s, 1) }))
	fail("stop the server", s.stop())

	gen, err := loadgen.New(loadgen.Options{Target: entrance, Dial: st.lab.DialContext})
	if err != nil {
		t.Fatal(err)
	}
	loadCtx, stopLoad := context.WithCancel(t.Context())
	loaded := make(chan struct{})
	go func() { defer close(loaded); gen.Run(loadCtx) }()
	defer func() { stopLoad(); <-loaded }()

	for _, k := range []struct {
		name, point string
		out         bool
	}{
		{"clone", "libvirt.create volume.after", true},
		{"drain", "step.draining.after", false},
		{"boot", "step.booting.after", true},
		{"remove", "libvirt.delete volume.before", false},
		{"join", "step.joining.after", true},
	} {
		want, key := 1, "key-"+k.name
		order := func(ctx context.Context, s *server) (err error) {
			if k.out {
				_, err = s.client.ScaleOut(ctx, group, key, api.OrderRequest{})
			} else {
				_, err = s.client.ScaleIn(ctx, group, key, api.OrderRequest{})
			}
			return err
		}
		if k.out {
			want = 2
		}
		s := start(k.point + ":1")
		err := s.await(t.Context(), guestPatience, func(ctx context.Context) error {
			if err := order(ctx, s); err != nil {
				return err
			}
			return st.settled(ctx, s, want)
		})
		if !errors.Is(err, errEnded) {
			fail("wait for the kill at "+k.name, fmt.Errorf("the server lives: %w", err))
		}
		fail("kill at "+k.name, s.killed())
		s = start("")
		began := time.Now()
		// Whoever gave the order and had no answer gives it again, with its key.
		fail("order again after the kill at "+k.name, s.await(t.Context(), startDeadline, func(ctx context.Context) error { return order(ctx, s) }))
		fail("after the kill at "+k.name, s.await(t.Context(), guestPatience, func(ctx context.Context) error { return st.settled(ctx, s, want) }))
		t.Logf("killed at %s (%s): as wished %v after the next start", k.name, k.point, time.Since(began).Round(10*time.Millisecond))
		fail("stop the server", s.stop())
	}

	stopLoad()
	<-loaded
	sum := loadgen.Summarize(gen.Records(), nil)
	t.Logf("%d requests, %d lost; by guest %v", sum.Sent, sum.Lost, sum.Servers)
	if sum.Sent == 0 || sum.Lost > 0 {
		for _, rec := range gen.Records() {
			if rec.Lost() {
				t.Logf("%s %s %s after %v: %s: %s", rec.Start.UTC().Format("15:04:05.000"), rec.Method, rec.Kind, rec.Duration, rec.Outcome, rec.Problem)
			}
		}
		t.Errorf("%d of %d requests were lost\n%s", sum.Lost, sum.Sent, tailOf(r.dir))
	}
}
