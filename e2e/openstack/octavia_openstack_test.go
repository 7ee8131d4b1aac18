//go:build openstack

package openstack_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/e2e/openstack/stage"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/testenv"
)

// startBalanced is a site whose user may have load balancers, provisioned with vm-test,
// which the group adopts. Nothing goes through any load balancer of the lab: amphora has
// Octavia's whole control plane and no amphora, so that the reports of its members'
// health are pretended.
func startBalanced(t *testing.T, name string) *site {
	t.Helper()
	s := startSite(t, name, lab.Options{Octavia: true})
	s.OpenStack(t, lab.Admin, "role", "add", "--project", s.name, "--user", s.name, "load-balancer_member")
	s.provision("--no-snapshot")
	s.monitor()
	t.Cleanup(s.unbalance)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := s.beat(ctx); err != nil && ctx.Err() == nil {
				t.Logf("pretend a heartbeat: %v", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// beat writes what an amphora would report of members that are well, one row per
// statement: whoever holds one lock only cannot bring Octavia into a deadlock.
func (s *site) beat(ctx context.Context) error {
	rows, err := s.SQL(ctx, fmt.Sprintf(`select m.id, if(m.weight = 0, 'DRAINING', 'ONLINE') from octavia.member m join octavia.health_monitor h on h.pool_id = m.pool_id
where m.project_id = '%s' and m.provisioning_status = 'ACTIVE' and m.operating_status <> if(m.weight = 0, 'DRAINING', 'ONLINE')`, s.id))
	if err != nil {
		return err
	}
	for row := range strings.Lines(rows) {
		if f := strings.Fields(row); len(f) == 2 {
			if _, err := s.SQL(ctx, fmt.Sprintf("update octavia.member set operating_status = '%s' where id = '%s'", f[1], f[0])); err != nil {
				return err
			}
		}
	}
	return nil
}

// unbalance removes every load balancer of the project with the port that Octavia may
// leave behind.
func (s *site) unbalance() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 2*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		rows, err := s.SQL(ctx, fmt.Sprintf("select id from octavia.load_balancer where project_id = '%s' and provisioning_status <> 'DELETED'", s.id))
		if err != nil {
			s.t.Error(err)
			return
		}
		if rows == "" {
			break
		}
		for id := range strings.FieldsSeq(rows) {
			_, _ = s.Client(ctx, lab.Admin, "loadbalancer", "delete", "--cascade", id)
		}
		time.Sleep(time.Second)
	}
	rows, err := s.SQL(ctx, fmt.Sprintf(`select p.id from neutron.ports p join neutron.networks n on n.id = p.network_id
where n.project_id = '%s' and (p.name like 'octavia-lb-%%' or p.name like 'ovn-lb-%%')`, s.id))
	if err != nil {
		s.t.Error(err)
	}
	for id := range strings.FieldsSeq(rows) {
		_, _ = s.Client(ctx, lab.Admin, "port", "delete", id)
	}
}

// poolOf is the group's pool.
func poolOf(provider, monitor string) string {
	return fmt.Sprintf("{subnet: lab-net-subnet, port: 80, provider: %s, monitor: %s}", provider, monitor)
}

// quick checks members often, so that a newcomer's health counts after 3 s.
const quick = "{type: TCP, delay: 1s, timeout: 1s, rise: 1, fall: 1}"

// member is what `openstack loadbalancer member list` says.
type member struct {
	Name, Address, ProvisioningStatus string
	Port                              int
	Weight                            int
}

// balanced returns the load balancer's members, of which there must be one with one
// pool, one listener and so many monitors, all called as the group's are.
func (s *site) balanced(step string, monitors int) []member {
	s.t.Helper()
	type object struct {
		ID     string `json:"id"`
		Name   string `json:"name"`
		Status string `json:"provisioning_status"`
	}
	name := s.name + "-web"
	var pool string
	for kind, want := range map[string]int{"": 1, "pool": 1, "listener": 1, "healthmonitor": monitors} {
		var all []object
		args := []string{"loadbalancer", kind, "list"}
		if kind == "" {
			args = []string{"loadbalancer", "list"}
		}
		s.client(&all, args...)
		if len(all) != want || want == 1 && all[0].Name != name {
			s.t.Fatalf("%s: loadbalancer %s list has %+v, want %d called %s", step, kind, all, want, name)
		}
		if kind == "pool" {
			pool = all[0].ID
		}
	}
	var rows []struct {
		Name    string `json:"name"`
		Address string `json:"address"`
		Port    int    `json:"protocol_port"`
		Weight  int    `json:"weight"`
		Status  string `json:"provisioning_status"`
	}
	s.client(&rows, "loadbalancer", "member", "list", pool)
	out := make([]member, 0, len(rows))
	for _, r := range rows {
		out = append(out, member{Name: r.Name, Address: r.Address, Port: r.Port, Weight: r.Weight, ProvisioningStatus: r.Status})
	}
	return out
}

// serves checks with the client that the members are exactly these servers, by their
// addresses, of weight 1.
func (s *site) serves(step string, monitors int, view api.Group) {
	s.t.Helper()
	names := stage.Serving(view)
	now := s.state()
	var want, got []string
	for _, name := range names {
		want = append(want, fmt.Sprintf("%s:%d weight 1 ACTIVE", now.fixed(name), service))
	}
	// The engine goes on as soon as it may; Octavia's own worker may be behind it.
	testenv.Eventually(s.t, limit, step+": the members to be as wished", func() error {
		got = nil
		for _, m := range s.balanced(step, monitors) {
			if !strings.HasPrefix(m.Name, "sh-") {
				s.t.Errorf("%s: a member is called %q", step, m.Name)
			}
			got = append(got, fmt.Sprintf("%s:%d weight %d %s", m.Address, m.Port, m.Weight, m.ProvisioningStatus))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("they are %q, want %q", got, want)
		}
		return nil
	})
	if len(now.servers) != len(names) {
		s.t.Errorf("%s: the servers are %v, want %v", step, now.servers, names)
	}
}

// TestAGroupBehindALoadBalancerOfTheCloud is scalehook itself with an Octavia pool: it is
// filled, scaled out and handed over while somebody else changes the load balancer all
// the time, and says when that is in ERROR.
func TestAGroupBehindALoadBalancerOfTheCloud(t *testing.T) {
	for _, variant := range []struct {
		provider, monitor string
		monitors          int
		promised          bool
	}{{"amphora", quick, 1, true}, {"ovn", "{type: none}", 0, false}} {
		t.Run(variant.provider, func(t *testing.T) {
			s := startBalanced(t, "scnoct")
			g := group{min: 1, max: 2, adopt: "vm-test", octavia: poolOf(variant.provider, variant.monitor)}
			s.serve(s.bin.scalehook, g)
			s.serves("filled", variant.monitors, s.await("the baseline is adopted", count(1)))

			// Whether anything is promised of a drain is said before and at the start.
			said, err := s.try("check-config", s.path("scalehook.yml"))
			if err != nil || strings.Contains(said, "does not honour weight 0") == variant.promised {
				t.Errorf("check-config: %v: %s", err, said)
			}
			log, err := s.server.Log()
			if err != nil || strings.Contains(log, "losslessness is not promised") == variant.promised {
				t.Errorf("losslessness is promised: %v (%v), and the log does not fit", variant.promised, err)
			}

			refused := s.others(t)
			s.order("scale-out")
			s.serves("two", variant.monitors, s.await("two serve", count(2)))
			s.order("handover")
			s.drains(variant.promised)
			s.serves("handed over", variant.monitors, s.await("handed over", count(1)))
			changed, met := refused()
			log, err = s.server.Log()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("somebody else changed the load balancer %d times and was refused %d times; scalehook %d times", changed, met, strings.Count(log, "somebody else changes the load balancer"))
			if changed < 3 || met+strings.Count(log, "somebody else changes the load balancer") == 0 {
				t.Error("nobody was in the way: nothing is shown")
			}
			s.inError(t, variant.monitors)
			s.drain(g)
			s.unbalance()
			t.Logf("provision --destroy:\n%s", s.provision("--destroy"))
			s.forget()
		})
	}
}

// drains waits until the member that goes takes nothing new: of weight 0 where that is
// honoured, and out of the pool elsewhere, while its server is still there.
func (s *site) drains(promised bool) {
	s.t.Helper()
	testenv.Eventually(s.t, limit, "a member to drain", func() error {
		view, err := s.server.View(s.t.Context())
		if err != nil {
			return err
		}
		draining := slices.ContainsFunc(view.Instances, func(i api.Instance) bool { return i.State == "draining" })
		rows, err := s.SQL(s.t.Context(), fmt.Sprintf("select weight from octavia.member where project_id = '%s'", s.id))
		if err != nil {
			return err
		}
		weights := strings.Fields(rows)
		if !draining || promised && !slices.Contains(weights, "0") || !promised && len(weights) != 1 {
			return fmt.Errorf("%s; weights %v", stage.Short(view), weights)
		}
		return nil
	})
}

// others changes the load balancer over and over until it is told to stop, which returns
// how often that was done and how often refused.
func (s *site) others(t *testing.T) (stop func() (changed, refused int)) {
	t.Helper()
	c, err := cloud.Open(cloud.Config{Cloud: lab.Member, CloudsFile: s.clouds}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	client, err := c.LoadBalancer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.SQL(t.Context(), fmt.Sprintf("select id from octavia.load_balancer where project_id = '%s'", s.id))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var changed, refused atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ctx.Err() == nil; n++ {
			text := fmt.Sprintf("changed %d times", n)
			err := loadbalancers.Update(ctx, client, strings.TrimSpace(rows), loadbalancers.UpdateOpts{Description: &text}).Err
			switch {
			case err == nil:
				changed.Add(1)
			case gophercloud.ResponseCodeIs(err, 409):
				refused.Add(1)
			}
			select {
			case <-ctx.Done():
			case <-time.After(150 * time.Millisecond):
			}
		}
	}()
	stop = func() (int, int) { cancel(); <-done; return int(changed.Load()), int(refused.Load()) }
	t.Cleanup(func() { stop() })
	return stop
}

// inError has Octavia's own record say ERROR: the group says so, changes nothing, and
// goes on once it is over.
func (s *site) inError(t *testing.T, monitors int) {
	t.Helper()
	status := func(status string) {
		t.Helper()
		testenv.Eventually(t, limit, "the load balancer to be left alone", func() error {
			rows, err := s.SQL(t.Context(), fmt.Sprintf("select count(*) from octavia.load_balancer where project_id = '%s' and provisioning_status like 'PENDING%%'", s.id))
			if err == nil && rows != "0" {
				err = errors.New("it is being changed")
			}
			return err
		})
		if _, err := s.SQL(t.Context(), fmt.Sprintf("update octavia.load_balancer set provisioning_status = '%s' where project_id = '%s'", status, s.id)); err != nil {
			t.Fatal(err)
		}
	}
	status("ERROR")
	view := s.await("ERROR is shown", func(g api.Group) error {
		at := slices.IndexFunc(g.Problems, func(p string) bool { return strings.HasPrefix(p, "pool edge: ") && strings.Contains(p, "is in ERROR") })
		if at < 0 || !slices.Contains(g.Statuses, "degraded") {
			return fmt.Errorf("statuses %v, problems %q", g.Statuses, g.Problems)
		}
		return nil
	})
	if got := stage.Serving(view); len(got) != 1 {
		t.Errorf("in ERROR %v serve, want the one that did", got)
	}
	status("ACTIVE")
	view = s.await("ERROR is over", func(g api.Group) error {
		if len(g.Problems) > 0 || slices.Contains(g.Statuses, "degraded") {
			return fmt.Errorf("statuses %v, problems %q", g.Statuses, g.Problems)
		}
		return count(1)(g)
	})
	s.serves("ERROR is over", monitors, view)
}

// TestItIsKilledAtItsLoadBalancer kills the server before and after every change of a
// load balancer. There is one of everything afterwards, as configured.
func TestItIsKilledAtItsLoadBalancer(t *testing.T) {
	s := startBalanced(t, "scnoctk")
	g := group{min: 1, max: 2, adopt: "vm-test", octavia: poolOf("amphora", quick)}
	for _, point := range octaviaFill() {
		t.Run("filled, killed at "+point, func(t *testing.T) { s.killStart(t, g, point) })
	}
	s.serve(s.bin.scalehook, g)
	s.serves("filled", 1, s.await("the baseline is adopted", count(1)))
	for _, point := range octaviaHandover() {
		t.Run("handover killed at "+point, func(t *testing.T) { s.killAt(t, g, point, "handover") })
		s.serves("after "+point, 1, s.await("after "+point, count(1)))
	}

	name := s.name + "-web"
	for _, change := range octaviaRepairs() {
		for _, point := range sides(change) {
			if err := s.server.Stop(); err != nil {
				t.Fatal(err)
			}
			switch change {
			case "octavia.pool.update":
				s.client(nil, "loadbalancer", "pool", "set", "--wait", "--lb-algorithm", "LEAST_CONNECTIONS", name)
			case "octavia.listener.update":
				s.client(nil, "loadbalancer", "listener", "unset", "--wait", "--default-pool", name)
			case "octavia.monitor.update":
				s.client(nil, "loadbalancer", "healthmonitor", "set", "--wait", "--delay", "7", name)
			case "octavia.monitor.delete": // it is to be of another type
				if monitor := "{type: HTTP, path: /health, delay: 1s, timeout: 1s, rise: 1, fall: 1}"; g.octavia != poolOf("amphora", monitor) {
					g.octavia = poolOf("amphora", monitor)
				} else {
					g.octavia = poolOf("amphora", quick)
				}
			}
			t.Run("put right, killed at "+point, func(t *testing.T) { s.killStart(t, g, point) })
			s.serve(s.bin.scalehook, g)
			s.serves("after "+point, 1, s.await("after "+point, count(1)))
			s.configured(point, g)
		}
	}
	s.drain(g)
	s.unbalance()
	t.Logf("provision --destroy:\n%s", s.provision("--destroy"))
	s.forget()
}

// configured waits until everything around the members is as the configuration has it.
func (s *site) configured(step string, g group) {
	s.t.Helper()
	kind := "TCP"
	if strings.Contains(g.octavia, "type: HTTP") {
		kind = "HTTP"
	}
	testenv.Eventually(s.t, limit, step+": everything to be as configured", func() error {
		rows, err := s.SQL(s.t.Context(), fmt.Sprintf(`select p.lb_algorithm, l.default_pool_id = p.id, h.type, h.delay from octavia.pool p
join octavia.listener l on l.load_balancer_id = p.load_balancer_id join octavia.health_monitor h on h.pool_id = p.id where p.project_id = '%s'`, s.id))
		if want := "ROUND_ROBIN\t1\t" + kind + "\t1"; err == nil && rows != want {
			err = fmt.Errorf("it is %q, want %q", rows, want)
		}
		return err
	})
}
