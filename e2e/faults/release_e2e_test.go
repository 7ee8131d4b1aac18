//go:build e2e

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	golibvirt "libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/testenv"
)

const (
	releaseFront = "127.0.0.1:8080"
	markSpace    = "https://github.com/scalehook/scalehook/xmlns/instance/1"
)

// released lets a group with two guests behind HAProxy go, under load: what the page
// on the command line says of `release`, on real VMs and at a real balancer.
func released(t *testing.T, h *host, template string) {
	ctx := t.Context()
	edge, err := h.StartHAProxy(ctx, lab.HAProxyOptions{Name: "edge", Config: fmt.Sprintf(`global
  stats socket {{stats}} mode 600 level admin expose-fd listeners
  nbthread 1
defaults
  mode http
  timeout connect 3s
  timeout client 90s
  timeout server 90s
  timeout check 15s
  option idle-close-on-response
  retries 0
  no option redispatch
frontend clients
  bind %s
  default_backend web
backend web
  balance leastconn
  option httpchk GET /health
`, releaseFront)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := edge.Stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	config := func(more ...string) string {
		return strings.Replace(h.config(template, append(more, "balancer: edge", "port: 80", "shutdown_deadline: 8s", "drain_deadline: 15s",
			"pool: {backend: web, check: {inter: 1s, rise: 1}}")...),
			"balancers:\n", fmt.Sprintf("balancers:\n  edge: {haproxy: {sockets: [{address: %q, master_socket: %q}]}}\n", edge.AdminSocket, edge.MasterSocket), 1)
	}
	s := h.start(t, config("min: 2"))
	before := s.await("two guests serve behind HAProxy", serving(2))
	if n := h.marks(t, before); n != 2 {
		t.Fatalf("%d VMs carry a mark, want 2: what follows would prove nothing", n)
	}
	members, err := edge.Servers(ctx)
	if err != nil || len(members) != 2 {
		t.Fatalf("servers %q: %v", members, err)
	}

	gen, err := loadgen.New(loadgen.Options{
		Target: releaseFront, Dial: h.DialContext, Steady: 8, Pause: 50 * time.Millisecond, SleepMin: time.Second, SleepMax: 3 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	loadContext, stopLoad := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); gen.Run(loadContext) }()
	defer func() { stopLoad(); <-ended }()
	// more waits until both guests have answered since now.
	more := func(what string) {
		t.Helper()
		from := len(gen.Records())
		testenv.Eventually(t, patience, "answers of both guests "+what, func() error {
			if got := loadgen.Summarize(gen.Records()[from:], nil).Servers; got["web-1"] == 0 || got["web-2"] == 0 {
				return fmt.Errorf("answers: %v", got)
			}
			return nil
		})
	}
	more("before the release")

	there := h.snapshot(t)
	untouched := func(when string) {
		t.Helper()
		h.same(t, there)
		if n := h.marks(t, before); n != 0 {
			t.Errorf("%s: %d VMs carry a mark", when, n)
		}
		now, err := edge.Servers(t.Context())
		if diff := cmp.Diff(members, now); diff != "" || err != nil {
			t.Errorf("%s: members (-before +now): %v\n%s", when, err, diff)
		}
		more(when)
	}
	out, err := h.Command(ctx, program("scalehook"), "release", group, "--yes", "--url", "http://"+s.address).CombinedOutput()
	if err != nil {
		t.Fatalf("scalehook release: %v\n%s", err, out)
	}
	done := func(g api.Group) error {
		if g.Release == nil || g.Release.Done.IsZero() || len(g.Instances) > 0 {
			return errors.New("it is not let go of yet")
		}
		return nil
	}
	s.await("the marks are off", done)
	untouched("after the release")

	// Whoever starts it again, with a min of two, finds a group that stands idle.
	if err := s.process.Stop(); err != nil {
		t.Fatal(err)
	}
	untouched("without a server")
	s.start()
	s.await("the server has looked around", all(done, looked))
	untouched("after a start")

	// They come back by their names, as the members that they are.
	if err := s.process.Stop(); err != nil {
		t.Fatal(err)
	}
	s.configure(config("min: 0", "adopt: [web-1, web-2]", "on_remove: delete"))
	s.start()
	testenv.Eventually(t, patience, "the group to be taken up again", func() error {
		_, err := s.client.Resume(ctx, group)
		return err
	})
	after := s.await("both are adopted and serve", serving(2))
	if diff := cmp.Diff(ids(before), ids(after)); diff != "" {
		t.Errorf("instances (-before +adopted):\n%s", diff)
	}
	if now, err := edge.Servers(ctx); err != nil || !slices.Equal(members, now) {
		t.Errorf("members are %q now, were %q: %v", now, members, err)
	}
	more("after the adoption")
	stopLoad()
	<-ended
	if total := gen.Totals(); total.Lost > 0 || total.Sent == 0 {
		t.Errorf("%d of %d requests were lost", total.Lost, total.Sent)
		for _, r := range gen.Records() {
			if r.Lost() {
				t.Logf("%+v", r)
			}
		}
	} else {
		t.Logf("%d requests, none lost", total.Sent)
	}
	s.desired(0)
	s.await("what was adopted is deleted, as configured", serving(0))
	// Of an adopted VM what it cannot write to stays, as a seed.
	h.connected(t, func(c *golibvirt.Connect) error {
		pool, err := c.LookupStoragePoolByName(lab.PoolName)
		if err != nil {
			return err
		}
		defer pool.Free()
		for name, id := range ids(after) {
			seed, err := pool.LookupStorageVolByName(name + "." + id + ".seed.iso")
			if err != nil {
				return err
			}
			if err := errors.Join(seed.Delete(0), seed.Free()); err != nil {
				return err
			}
		}
		return nil
	})
	if err := s.process.Stop(); err != nil {
		t.Error(err)
	}
}

// looked holds once provider and pool were seen since the start.
func looked(g api.Group) error {
	if g.ProviderSeen.IsZero() || g.PoolSeen.IsZero() {
		return errors.New("it has not looked at provider and pool")
	}
	return nil
}

// ids are those of the instances, by name.
func ids(g api.Group) map[string]string {
	out := map[string]string{}
	for _, i := range g.Instances {
		out[i.Name] = i.ID
	}
	return out
}

// marks counts the VMs of instances that carry scalehook's mark.
func (h *host) marks(t *testing.T, g api.Group) (n int) {
	t.Helper()
	h.connected(t, func(c *golibvirt.Connect) error {
		for _, i := range g.Instances {
			d, err := c.LookupDomainByUUIDString(i.UUID)
			if err != nil {
				return err
			}
			_, err = d.GetMetadata(golibvirt.DOMAIN_METADATA_ELEMENT, markSpace, golibvirt.DOMAIN_AFFECT_CONFIG)
			_ = d.Free()
			switch {
			case err == nil:
				n++
			case !errors.Is(err, golibvirt.ERR_NO_DOMAIN_METADATA):
				return err
			}
		}
		return nil
	})
	return n
}
