//go:build openstack

package openstack_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/e2e/openstack/stage"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/testenv"
)

// startPair is a site whose group has adopted vm-test, with vm-test's floating IP
// as its public address. Only orders act.
func startPair(t *testing.T, name string, opts lab.Options) (*site, group) {
	t.Helper()
	s := startSite(t, name, opts)
	s.provision("--no-snapshot")
	var addresses []floating
	s.client(&addresses, "floating", "ip", "list")
	if len(addresses) != 1 {
		t.Fatalf("the floating IPs are %+v, want one", addresses)
	}
	s.monitor()
	g := group{min: 1, max: 2, adopt: "vm-test", public: addresses[0].Address}
	return s, g
}

// count is settled with so many, whatever they are called.
func count(n int) func(api.Group) error {
	return func(g api.Group) error {
		names := stage.Serving(g)
		if len(names) != n {
			return fmt.Errorf("in service: %s", strings.Join(names, ", "))
		}
		return stage.Settled(names...)(g)
	}
}

func (s *site) order(what string) {
	s.t.Helper()
	var err error
	switch what {
	case "scale-out":
		_, err = s.server.ScaleOut(s.t.Context(), "web", "", api.OrderRequest{})
	case "handover":
		_, err = s.server.Handover(s.t.Context(), "web", "", api.OrderRequest{})
	}
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
}

// ready waits until the server, which has a fault, can be given an order.
func (s *site) ready() {
	s.t.Helper()
	if _, err := s.server.Await(s.t.Context(), "the server is ready", time.Minute, func(g api.Group) error {
		if g.ProviderSeen.IsZero() || g.PoolSeen.IsZero() {
			return errors.New("provider or pool were not looked at")
		}
		return nil
	}, nil); err != nil {
		s.t.Fatal(err)
	}
}

// whole checks with the client that there are exactly the servers of the group, each
// with one port, and that the address leads to the primary.
func (s *site) whole(step string, view api.Group, snapshots int) {
	s.t.Helper()
	primary := ""
	for _, i := range view.Instances {
		if i.ID == view.Primary {
			primary = i.Name
		}
	}
	names := stage.Serving(view)
	s.state().expect(s.t, step, primary, snapshots, names...)
}

// TestItIsKilledAndStartedAgain kills the server before and after every change at the
// cloud that an adoption, a create, a handover and a removal consist of. The next start
// finishes or undoes what was under way; nothing is there twice.
func TestItIsKilledAndStartedAgain(t *testing.T) {
	s, g := startPair(t, "scnkill", lab.Options{})
	for _, point := range adoptPoints() {
		t.Run("adoption killed at "+point, func(t *testing.T) { s.killStart(t, g, point) })
	}
	s.serve(s.bin.scalehook, g)
	s.whole("adopted", s.await("the baseline is adopted", count(1)), 0)
	snapshots := 0
	for _, round := range pairRounds() {
		for _, kill := range []struct {
			point, order string
			instances    int
		}{{round.create, "scale-out", 2}, {round.handover, "handover", 1}, {round.remove, "handover", 1}} {
			if kill.point == "" {
				continue
			}
			t.Run(kill.order+" killed at "+kill.point, func(t *testing.T) {
				s.killAt(t, g, kill.point, kill.order)
			})
			if kill.order == "handover" && kill.point == round.handover {
				continue // the same handover is killed once more while it removes
			}
			view := s.await("after "+kill.point, count(kill.instances))
			if kill.order == "handover" {
				snapshots = min(snapshots+1, 2) // snapshots_keep
			}
			s.whole("after "+kill.point, view, snapshots)
		}
		if t.Failed() {
			break
		}
	}
	s.quota(t)
	s.empty(g)
	s.forget()
}

// TestItIsKilledWithAddressesOfItsOwn is the same for what only groups have whose
// floating IPs scalehook makes: one per member, or one for the group.
func TestItIsKilledWithAddressesOfItsOwn(t *testing.T) {
	s := startSite(t, "scnown", lab.Options{})
	s.provision("--no-snapshot")
	s.monitor()
	s.guests.open()

	g := group{min: 1, max: 2, floating: true}
	s.serve(s.bin.scalehook, g)
	s.own("filled", s.await("the group is filled", count(1)), "")
	for _, round := range memberRounds() {
		t.Run("scale-out killed at "+round.create, func(t *testing.T) { s.killAt(t, g, round.create, "scale-out") })
		s.own("after "+round.create, s.await("after "+round.create, count(2)), "")
		if round.remove != "" {
			t.Run("handover killed at "+round.remove, func(t *testing.T) { s.killAt(t, g, round.remove, "handover") })
		} else {
			s.order("handover")
		}
		s.own("after a handover", s.await("after a handover", count(1)), "")
		if t.Failed() {
			break
		}
	}
	s.drain(g)

	g = group{min: 1, max: 2, public: "new"}
	for _, point := range publicPoints() {
		t.Run("a new address killed at "+point, func(t *testing.T) { s.killStart(t, g, point) })
		s.serve(s.bin.scalehook, g)
		view := s.await("after "+point, leads(1))
		s.own("after "+point, view, view.PublicAddress)
		// Where it leads to the primary nothing is left to do: the next is to be made again.
		if err := s.server.Stop(); err != nil {
			t.Fatal(err)
		}
		s.client(nil, "floating", "ip", "delete", view.PublicAddress)
	}
	s.serve(s.bin.scalehook, g)
	view := s.await("the address is made", leads(1))
	s.own("the address is made", view, view.PublicAddress)
	for _, point := range publicMoves() {
		t.Run("handover killed at "+point, func(t *testing.T) { s.killAt(t, g, point, "handover") })
		after := s.await("after "+point, leads(1))
		s.own("after "+point, after, view.PublicAddress)
	}
	s.drain(g)
	if now := s.state(); len(now.floating) != 2 {
		t.Errorf("the floating IPs are %+v; want vm-test's and the group's, which outlives its members", now.floating)
	}
	s.client(nil, "floating", "ip", "delete", view.PublicAddress)
	s.t.Logf("provision --destroy:\n%s", s.provision("--destroy"))
	s.forget()
}

// leads is settled with so many, and the public address leads to the primary.
func leads(n int) func(api.Group) error {
	return func(g api.Group) error {
		if err := count(n)(g); err != nil {
			return err
		}
		for _, i := range g.Instances {
			if i.ID == g.Primary && i.UUID == g.PublicUUID && g.PublicAddress != "" {
				return nil
			}
		}
		return fmt.Errorf("the address %q leads to %q", g.PublicAddress, g.PublicUUID)
	}
}

// own checks with the client that there are vm-test, which no group has, and the servers
// of the group, each with one port; and that the floating IPs are vm-test's and either
// one per server of the group, at which HAProxy uses it, or public, which leads to the
// primary.
func (s *site) own(step string, view api.Group, public string) {
	s.t.Helper()
	now := s.state()
	var used []string
	want := map[string]string{} // by where it leads
	primary := ""
	for _, i := range view.Instances {
		if i.ID == view.Primary {
			primary = i.Name
		}
	}
	leading := append(stage.Serving(view), "vm-test")
	if len(now.servers) != len(leading) || len(now.ports) > len(leading)+2 {
		s.t.Errorf("%s: the servers are %v with %d ports in all, want %v", step, now.servers, len(now.ports), leading)
	}
	if public != "" {
		leading = []string{primary, "vm-test"}
	}
	for _, name := range leading {
		want[now.fixed(name)] = name
	}
	if len(now.floating) != len(want) {
		s.t.Errorf("%s: the floating IPs are %+v, want one to each of %v", step, now.floating, leading)
	}
	for _, f := range now.floating {
		name, ok := want[f.Fixed]
		delete(want, f.Fixed)
		switch {
		case !ok:
			s.t.Errorf("%s: floating IP %s leads to %q, want one to each of %v", step, f.Address, f.Fixed, leading)
		case public != "" && name == primary && f.Address != public:
			s.t.Errorf("%s: the group's address is %s, and was %s", step, f.Address, public)
		case name != "vm-test":
			used = append(used, f.Address)
		}
	}
	if public != "" {
		used = nil
		for _, name := range stage.Serving(view) {
			used = append(used, now.fixed(name))
		}
	}
	s.pool(used...)
}

// killStart starts the server with a fault, and it is killed there without an order.
func (s *site) killStart(t *testing.T, g group, point string) {
	t.Helper()
	s.serve(s.bin.faulty, g, "SCALEHOOK_FAULT="+point+":1")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := s.server.Killed(ctx); err != nil {
		t.Fatalf("at %s: %v", point, err)
	}
}

// killAt runs the server with a fault until it is killed there, and starts it again
// without. An order is given unless one like it is under way.
func (s *site) killAt(t *testing.T, g group, point, order string) {
	t.Helper()
	under, err := s.server.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.server.Stop(); err != nil {
		t.Fatal(err)
	}
	s.serve(s.bin.faulty, g, "SCALEHOOK_FAULT="+point+":1")
	if len(under.Activities) == 0 {
		s.ready()
		s.order(order)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := s.server.Killed(ctx); err != nil {
		t.Fatalf("at %s: %v", point, err)
	}
	s.serve(s.bin.scalehook, g)
}

// quota uses up the project's instances: a launch ends as no_capacity, and is taken
// up again once there is room.
func (s *site) quota(t *testing.T) {
	t.Run("an exceeded quota is no capacity", func(t *testing.T) {
		before, err := s.server.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.OpenStack(t, lab.Admin, "quota", "set", "--instances", "1", s.name)
		s.order("scale-out")
		s.await("no_capacity", func(g api.Group) error {
			if !slices.Contains(g.Statuses, "no_capacity") {
				return fmt.Errorf("statuses %v", g.Statuses)
			}
			return nil
		})
		s.pool(s.state().fixed(before.Instances[0].Name))
		s.OpenStack(t, lab.Admin, "quota", "set", "--instances", "5", s.name)
		testenv.Eventually(t, limit, "the order is taken again", func() error {
			_, err := s.server.SetDesired(t.Context(), "web", "", api.OrderRequest{Count: &[]int{2}[0]})
			return err
		})
		view := s.await("there is room again", func(g api.Group) error {
			if slices.Contains(g.Statuses, "no_capacity") {
				return fmt.Errorf("statuses %v", g.Statuses)
			}
			return count(2)(g)
		})
		s.whole("with room", view, len(s.state().images))
	})
}

// forget removes the group's snapshots, which are kept by design.
func (s *site) forget() {
	s.t.Helper()
	var images []image
	s.client(&images, "image", "list", "--private")
	for _, one := range images {
		s.client(nil, "image", "delete", one.ID)
	}
}

// TestServicesThatAreDown takes services of the cloud away while something is under
// way. What works goes on working, and what was begun is finished afterwards.
func TestServicesThatAreDown(t *testing.T) {
	s, g := startPair(t, "scndown", lab.Options{Alone: true})
	s.serve(s.bin.scalehook, g)
	s.await("the baseline is adopted", count(1))
	baseline := s.state()
	t.Run("nova-compute during a scale-out", func(t *testing.T) {
		s.StopService(t, "nova-compute")
		s.order("scale-out")
		s.await("a launch is under way", func(g api.Group) error {
			if len(g.Instances) != 2 || len(g.Activities) != 1 {
				return fmt.Errorf("%d instances", len(g.Instances))
			}
			return nil
		})
		s.holds(t, 10*time.Second, baseline.fixed("vm-test"))
		s.StartService(t, "nova-compute")
		// A nova-compute that starts puts what waited for it into ERROR, unless it has
		// taken it over before: then the launch is undone, and an order makes the next.
		over := s.await("nova-compute is back", func(g api.Group) error {
			if len(g.Activities) > 0 {
				return errors.New("the launch is under way")
			}
			return nil
		})
		if len(stage.Serving(over)) == 1 {
			s.whole("the launch is undone", over, 0)
			s.order("scale-out")
		}
		s.whole("nova-compute is back", s.await("nova-compute serves", count(2)), 0)
	})
	t.Run("neutron during a handover", func(t *testing.T) {
		both := s.state()
		var clone string
		for name := range both.servers {
			if name != "vm-test" {
				clone = name
			}
		}
		s.StopService(t, "neutron-server")
		s.order("handover")
		s.await("the baseline drains", func(g api.Group) error {
			for _, i := range g.Instances {
				if i.Name == "vm-test" && i.State == "draining" {
					return nil
				}
			}
			return errors.New(stage.Short(g))
		})
		// Past the drain's deadline it is still there: the address leads to it.
		s.holds(t, 15*time.Second, both.fixed(clone))
		rows, err := s.SQL(t.Context(), fmt.Sprintf("select vm_state from nova.instances where deleted = 0 and display_name = 'vm-test' and project_id = '%s'", s.id))
		if err != nil || rows != "active" {
			t.Errorf("vm-test is %q (%v) while the address cannot be moved, want active", rows, err)
		}
		s.StartService(t, "neutron-server")
		s.whole("neutron is back", s.await("neutron is back", stage.Settled(clone)), 1)
	})
	s.empty(g)
	s.forget()
}

// holds watches that HAProxy goes on using the members at these addresses.
func (s *site) holds(t *testing.T, d time.Duration, addresses ...string) {
	t.Helper()
	s.pool(addresses...)
	for begun := time.Now(); time.Since(begun) < d; time.Sleep(500 * time.Millisecond) {
		got, err := s.haproxy.Taking(t.Context())
		if err != nil || len(got) != len(addresses) {
			t.Fatalf("HAProxy uses %v (%v), want %v", got, err, addresses)
		}
	}
}
