//go:build openstack

package openstack_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/e2e/openstack/stage"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/testenv"
)

// limit is for what takes a pretended guest a few seconds, on a machine that may be
// busy with other things.
const limit = 3 * time.Minute

// site is a project with scalehook and what it works with.
type site struct {
	*project

	stage   *stage.Stage
	haproxy *stage.HAProxy
	guests  *guests
	tokens  stage.Tokens
	address string // of scalehook
	server  *stage.Server
	sources string // part of the configuration
}

func startSite(t *testing.T, name string, opts lab.Options) *site {
	t.Helper()
	s := &site{project: startProject(t, name, opts)}
	var err error
	if s.stage, err = stage.New(s.Cloud, s.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.stage.Logs(t.Output(), 40)
		}
		s.stage.Close()
	})
	if s.haproxy, err = s.stage.StartHAProxy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.tokens, err = s.stage.Tokens(); err != nil {
		t.Fatal(err)
	}
	if s.address, err = stage.FreeAddress(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.guests = startGuests(t, s.project, here())
	if err := s.guests.publish(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	return s
}

// group is what differs between the tests' groups.
type group struct {
	min, max int
	adopt    string
	public   string // the floating IP that it has, or "new" for one of its own
	floating bool   // a floating IP per member
	octavia  string // the pool of a load balancer in HAProxy's place
}

// config is scalehook's configuration with the group web.
func (s *site) config(g group) string {
	adopt := ""
	if g.adopt != "" {
		adopt = "\n    adopt: [" + g.adopt + "]"
	}
	public := ""
	switch {
	case g.floating:
		public = "\n      member_address: floating"
	case g.public == "new":
		public = "\n      public_address: {}"
	case g.public != "":
		public = "\n      public_address: {address: " + g.public + "}"
	}
	deadline := "2m"
	balancer := fmt.Sprintf("haproxy: {sockets: [{address: %q, master_socket: %q}]}", s.haproxy.Socket, s.haproxy.Master)
	pool := fmt.Sprintf("{backend: web, check: {inter: 500ms, rise: 1, fall: 2}, fragment: {file: %q, template: %q}}", s.haproxy.Fragment, s.haproxy.Template)
	if g.octavia != "" {
		balancer = fmt.Sprintf("octavia: {cloud: %s, clouds_file: %q, heartbeat_interval: 1s}", lab.Member, s.clouds)
		pool, deadline = g.octavia, "10m" // it is made with the first member
	}
	return s.sources + s.tokens.Yaml() + fmt.Sprintf(`owner: %[1]s
providers:
  cloud: {openstack: {cloud: %[2]s, clouds_file: %[3]q}}
balancers:
  edge: {%[4]s}
groups:
  web:
    mode: full
    min: %[6]d
    max: %[7]d
    high: 60%%
    low: 20%%
    cooldown: 2s
    warm_up: 2s
    lease_ttl: 1m
    launch_deadline: %[13]s
    drain_deadline: 10s
    shutdown_deadline: 20s
    backoff_min: 1s
    backoff_max: 5s
    grace: 1m
    victim: oldest
    on_remove: delete
    snapshot: true
    snapshots_keep: 2
    name: vm-test-clone%[8]s
    provider: cloud
    template:
      image: %[9]s
      flavor: %[10]s
      networks: [lab-net]
      security_groups: [sg-secure]
      key_pair: lab-key-%[1]s%[11]s
    balancer: edge
    pool: %[5]s
    port: %[12]d
`, s.name, lab.Member, s.clouds, balancer, pool, g.min, g.max, adopt,
		lab.Image, lab.Flavor, public, service, deadline)
}

// monitor starts Prometheus with the rules and Alertmanager. Without the guests'
// metrics among the targets no signal ever stands.
func (s *site) monitor(targets ...string) {
	s.t.Helper()
	m, err := s.stage.StartMonitoring(s.t.Context(), s.bin.scalehook, s.address, s.tokens.Alerts, targets...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.sources = m.Yaml()
}

func (s *site) serve(program string, g group, env ...string) {
	s.t.Helper()
	server, err := s.stage.StartServer(s.t.Context(), program, s.address, "web", s.config(g), env...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = server
}

func (s *site) await(what string, done func(api.Group) error) api.Group {
	s.t.Helper()
	began := time.Now()
	g, err := s.server.Await(s.t.Context(), what, limit, done, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Logf("%s: %s %s", what, time.Since(began).Round(100*time.Millisecond), stage.Short(g))
	return g
}

// pool waits until HAProxy gives new requests to exactly these addresses.
func (s *site) pool(addresses ...string) {
	s.t.Helper()
	want := make([]string, len(addresses))
	for i, address := range addresses {
		want[i] = fmt.Sprintf("%s:%d", address, service)
	}
	slices.Sort(want)
	testenv.Eventually(s.t, limit, "HAProxy to use "+strings.Join(want, " and "), func() error {
		got, err := s.haproxy.Taking(s.t.Context())
		if err == nil && !slices.Equal(got, want) {
			err = fmt.Errorf("it uses %v", got)
		}
		return err
	})
}

// ended returns the newest activity, which must be of this kind and cause and done.
func (s *site) ended(kind, cause, signal string, count int) {
	s.t.Helper()
	all, err := s.server.All(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	if len(all) != count {
		s.t.Fatalf("there were %d activities, want %d: %+v", len(all), count, all)
	}
	a := all[count-1]
	if a.Kind != kind || a.Cause.Kind != cause || a.Cause.Signal != signal || a.Status != "done" {
		s.t.Errorf("%s (%s %s) is %s: %s; want %s (%s %s) done", a.Kind, a.Cause.Kind, a.Cause.Signal, a.Status, a.Outcome, kind, cause, signal)
	}
}

// empty takes the group down and what was provisioned too, with scalehook's own
// commands.
func (s *site) empty(g group) {
	s.t.Helper()
	s.drain(g)
	s.t.Logf("provision --destroy:\n%s", s.provision("--destroy"))
}

// drain takes the group's instances down and ends the server.
func (s *site) drain(g group) {
	s.t.Helper()
	if err := s.server.Stop(); err != nil {
		s.t.Error(err)
	}
	g.min = 0
	s.serve(s.bin.scalehook, g)
	zero := 0
	if _, err := s.server.SetDesired(s.t.Context(), "web", "", api.OrderRequest{Count: &zero}); err != nil {
		s.t.Fatal(err)
	}
	s.await("the group is empty", stage.Settled())
	if err := s.server.Stop(); err != nil {
		s.t.Error(err)
	}
}

func (s *site) path(name string) string { return s.stage.Path(name) }

// TestTheSeedsScenario is the seed's sections 2 to 10 by scalehook's own commands,
// on the real services with pretended guests: provision; high, clone, balance; low,
// handover with the floating IP, snapshot, clean-up. The real openstack client says
// at each step what there is.
func TestTheSeedsScenario(t *testing.T) {
	s := startSite(t, "scnseed", lab.Options{})
	s.plan()
	s.t.Logf("provision:\n%s", s.provision())
	now := s.state()
	now.expect(t, "provisioned", "vm-test", 1, "vm-test")
	if again := s.scalehook("provision", s.path("provision.yml")); !strings.Contains(again, "nothing to do") {
		t.Errorf("provisioned again: %s", again)
	}
	if info, err := os.Stat(s.path("lab-key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v %v", info, err)
	}
	public := now.floating[0].Address
	baseline := now.servers["vm-test"].ID

	s.monitor(s.guests.Metrics)
	g := group{min: 1, max: 2, adopt: "vm-test", public: public}
	s.serve(s.bin.scalehook, g)
	s.await("the baseline is adopted and serves", stage.Settled("vm-test"))
	s.ended("adopt", "config", "", 1)
	s.pool(now.fixed("vm-test"))
	visitors := startVisitors(t, s.Namespace().DialContext, s.haproxy.Address)

	s.guests.use(t, 0.9, baseline)
	s.await("high: the clone joins", stage.Settled("vm-test", "vm-test-clone"))
	s.ended("scale_out", "alert", "high", 2)
	now = s.state()
	now.expect(t, "high", "vm-test", 1, "vm-test", "vm-test-clone")
	clone := now.servers["vm-test-clone"].ID
	s.pool(now.fixed("vm-test"), now.fixed("vm-test-clone"))
	both := s.guests.answered()
	testenv.Eventually(t, limit, "both answer", func() error {
		is := s.guests.answered()
		if is["vm-test"] == both["vm-test"] || is["vm-test-clone"] == both["vm-test-clone"] {
			return fmt.Errorf("%v, before %v", is, both)
		}
		return nil
	})
	s.guests.use(t, 0.55, baseline, clone) // between the thresholds nothing happens

	s.guests.use(t, 0.05, baseline, clone)
	view := s.await("low: the baseline is handed over to its clone", stage.Settled("vm-test-clone"))
	s.ended("handover", "alert", "low", 3)
	if view.PublicAddress != public || view.PublicUUID != clone || view.Instances[0].ID != view.Primary {
		t.Errorf("the address %s leads to %s, want %s to %s, which is primary: %+v", view.PublicAddress, view.PublicUUID, public, clone, view.Instances)
	}
	now = s.state()
	now.expect(t, "low", "vm-test-clone", 2, "vm-test-clone")
	if now.servers["vm-test-clone"].ID != clone || now.floating[0].Address != public {
		t.Errorf("the clone is another server, or the address another: %+v", now)
	}
	s.pool(now.fixed("vm-test-clone"))
	if after := s.scalehook("provision", s.path("provision.yml")); !strings.Contains(after, "nothing to do") || !strings.Contains(after, "has taken over: vm-test-clone") {
		t.Errorf("provisioned after the handover: %s", after)
	}
	sent, by, lost := visitors.end()
	t.Logf("visitors: %d sent, %d lost, answered by %v", sent, len(lost), by)
	if len(lost) > 0 || by["vm-test"] == 0 || by["vm-test-clone"] == 0 {
		t.Errorf("%d of %d requests were lost: %s", len(lost), sent, strings.Join(lost[:min(5, len(lost))], "; "))
	}
	s.saves(2)
	s.cleansUp()
	s.empty(g)
	s.forgets(t)
}
