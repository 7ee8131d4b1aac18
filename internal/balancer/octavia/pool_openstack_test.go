//go:build openstack

package octavia_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"

	"github.com/scalehook/scalehook/internal/balancer/octavia"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

const (
	joining  = scaling.MemberJoining
	ready    = scaling.MemberReady
	draining = scaling.MemberDraining
	leaving  = scaling.MemberLeaving
)

// TestALoadBalancerIsMadeOnceAndPutRight makes a load balancer by way of somebody who
// swallows each answer to a change once, as if scalehook were killed there.
func TestALoadBalancerIsMadeOnceAndPutRight(t *testing.T) {
	s := startSite(t, "octmake")
	name := s.owner + "-web"
	cfg := s.made(amphora, monitored)
	swallow := newSwallower(t, s.lb.Endpoint)
	p := s.at(t, cfg, swallow.server.URL)

	if st, err := p.Observe(step(t)); err != nil || len(st.Members) != 0 {
		t.Fatalf("before anything is made: %+v, %v", st, err)
	}
	apply(t, p) // nobody is to serve
	if n := swallow.changes.Load(); n != 0 {
		t.Fatalf("looking, and a wish for nobody, made %d changes", n)
	}
	a := member("a", s.addr(), joining)
	tries := 0
	testenv.Eventually(t, 5*time.Minute, "the pool to be made", func() error {
		tries++
		return p.Apply(step(t), wish(a))
	})
	// Load balancer, pool, listener, monitor and member: each answer was lost once.
	if lost := swallow.lost.Load(); lost != 5 || tries != 6 {
		t.Errorf("%d answers were lost in %d tries, want 5 in 6", lost, tries)
	}
	for _, kind := range [][]string{{"list"}, {"pool", "list"}, {"listener", "list"}, {"healthmonitor", "list"}} {
		if got := called(s.list(t, kind...), name); len(got) != 1 {
			t.Errorf("%v has %v, want one %s", kind, got, name)
		}
	}
	var lb struct{ ID, Provider, Tags, Description, Pools string }
	s.client(t, &lb, "loadbalancer", "show", name)
	if lb.Provider != amphora || !strings.Contains(lb.Tags, "scalehook-owner=octmake") || !strings.Contains(lb.Tags, "scalehook-group=web") {
		t.Errorf("the load balancer is %+v", lb)
	}
	members := s.list(t, "member", "list", lb.Pools)
	if len(members) != 1 || members[0].Address != a.Addr.Addr().String() || members[0].Weight != 0 || !strings.HasSuffix(members[0].Name, "-a") {
		t.Errorf("the members are %+v", members)
	}

	// Another start with another wish for how it is checked, after somebody took a
	// part away.
	var monitor struct{ ID, Type string }
	s.client(t, &monitor, "loadbalancer", "healthmonitor", "show", name)
	if err := monitors.Delete(step(t), s.lb, monitor.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.settled(t, lb.ID)
	cfg.Monitor = octavia.Monitor{Type: "HTTP", Path: "/healthz", Delay: 2 * time.Second, Timeout: time.Second}
	cfg.Algorithm = "LEAST_CONNECTIONS"
	apply(t, s.pool(t, cfg), a)
	var again struct {
		Type     string
		URLPath  string `json:"url_path"`
		Delay    int
		Codes    string `json:"expected_codes"`
		AdminUp  bool   `json:"admin_state_up"`
		TimeoutS int    `json:"timeout"`
	}
	s.client(t, &again, "loadbalancer", "healthmonitor", "show", name)
	if again.Type != "HTTP" || again.URLPath != "/healthz" || again.Delay != 2 || again.Codes != "200" || again.TimeoutS != 1 {
		t.Errorf("the monitor is %+v", again)
	}
	cfg.Monitor.Path = "/"
	before := called(s.list(t, "healthmonitor", "list"), name)
	p2 := s.pool(t, cfg)
	apply(t, p2, a)
	s.client(t, &again, "loadbalancer", "healthmonitor", "show", name)
	if diff := cmp.Diff(before, called(s.list(t, "healthmonitor", "list"), name)); diff != "" || again.URLPath != "/" {
		t.Errorf("the monitor was replaced or not changed: %+v %s", again, diff)
	}

	// What cannot be changed is said.
	cfg.Port = 81
	err := s.pool(t, cfg).Apply(step(t), wish(a))
	if scaling.ClassOf(err) != scaling.Permanent || !strings.Contains(err.Error(), "on port 80") {
		t.Errorf("another port: %v", err)
	}
	// Deleted by somebody, it is made anew.
	s.delete(t, lb.ID)
	if st, err := p2.Observe(step(t)); err != nil || len(st.Members) != 0 {
		t.Errorf("after it was deleted: %+v, %v", st, err)
	}
	testenv.Eventually(t, within, "the pool to be made again", func() error { return p2.Apply(step(t), wish(a)) })
	if got := called(s.list(t, "list"), name); len(got) != 1 || got[0].ID == lb.ID {
		t.Errorf("there is %v, want a new one", got)
	}
}

// swallower stands before Octavia and keeps the first answer to each kind of change
// to itself.
type swallower struct {
	server        *httptest.Server
	changes, lost atomic.Int32
	mu            sync.Mutex
	seen          map[string]bool
}

func newSwallower(t *testing.T, endpoint string) *swallower {
	t.Helper()
	target, err := url.Parse(strings.TrimSuffix(endpoint, "/"))
	if err != nil {
		t.Fatal(err)
	}
	w := &swallower{seen: map[string]bool{}}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method == http.MethodGet {
				return nil
			}
			w.changes.Add(1)
			w.mu.Lock()
			defer w.mu.Unlock()
			parts := strings.Split(strings.Trim(r.Request.URL.Path, "/"), "/")
			kind := r.Request.Method + " " + parts[len(parts)-1]
			if w.seen[kind] || r.StatusCode > 299 {
				return nil
			}
			w.seen[kind] = true
			w.lost.Add(1)
			return errors.New("swallowed " + kind)
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	w.server = httptest.NewServer(proxy)
	t.Cleanup(w.server.Close)
	return w
}

// TestAnAdoptedPoolKeepsWhatIsNotOurs goes through a member's life in pools that
// somebody else made, found in three ways, and compares what the openstack command
// shows of everything else before and after.
func TestAnAdoptedPoolKeepsWhatIsNotOurs(t *testing.T) {
	s := startSite(t, "octadopt")
	const name = "octadopt-front"
	f := s.makeFront(t, amphora, name)
	taken := s.addr()
	theirs := []string{
		s.makeMember(t, f.lb, f.pool, "theirs", taken),
		s.makeMember(t, f.lb, f.pool, "sh-000000-theirs", s.addr()), // another owner's
	}
	look := func() []map[string]any {
		return []map[string]any{
			s.whole(t, "show", f.lb), s.whole(t, "pool", "show", f.pool), s.whole(t, "listener", "show", f.listener),
			s.whole(t, "member", "show", f.pool, theirs[0]), s.whole(t, "member", "show", f.pool, theirs[1]),
		}
	}
	before := look()
	for _, c := range []struct {
		name string
		cfg  octavia.PoolConfig
	}{
		{"by the pool's name", octavia.PoolConfig{Pool: name}},
		{"by the pool's id and its load balancer", octavia.PoolConfig{LoadBalancer: name, Pool: f.pool}},
		{"by the listener's name", octavia.PoolConfig{Listener: name}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := s.pool(t, c.cfg)
			a, b := member("a", s.addr(), joining), member("b", taken, joining)
			err := p.Apply(step(t), wish(a, b))
			part, ok := errors.AsType[interface {
				error
				Members() []string
			}](err)
			if !ok || scaling.ClassOf(err) != scaling.Conflict || !slices.Equal(part.Members(), []string{"b"}) || !strings.Contains(err.Error(), "theirs") {
				t.Errorf("a member whose address a foreign one has: %v", err)
			}
			if can := p.Capabilities(); can != (scaling.Capabilities{Drain: true}) {
				t.Errorf("of an amphora without monitor: %+v", can)
			}
			for _, state := range []scaling.MemberState{ready, draining, leaving} {
				a.State = state
				apply(t, p, a)
				st, err := p.Observe(step(t))
				if err != nil {
					t.Fatal(err)
				}
				foreign := 0
				for _, m := range st.Members {
					if m.Foreign {
						foreign++
					}
				}
				if m, there := st.Member("a"); foreign != 2 || there == (state == leaving) || there && m.State != state {
					t.Errorf("wished %s: %+v", state, st.Members)
				}
			}
		})
	}
	if diff := cmp.Diff(before, look()); diff != "" {
		t.Errorf("what is not ours was changed (-before +after):\n%s", diff)
	}

	// In an adopted load balancer a listener is made beside theirs.
	p := s.pool(t, octavia.PoolConfig{LoadBalancer: name, Port: 81, Monitor: octavia.Monitor{Type: "none"}})
	a := member("a", s.addr(), ready)
	apply(t, p, a)
	apply(t, p)
	apply(t, p)
	if got := called(s.list(t, "listener", "list"), s.owner+"-web"); len(got) != 1 || got[0].Port != 81 {
		t.Errorf("the listener that was made is %v", got)
	}
	after := look()
	for _, key := range []string{"listeners", "pools"} { // ours have come to the load balancer
		delete(before[0], key)
		delete(after[0], key)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("what is not ours was changed (-before +after):\n%s", diff)
	}
	// Where theirs listens already, ours cannot.
	other := must[*octavia.Pool](t, "open the pool")(s.balancer(t).Pool("db", octavia.PoolConfig{LoadBalancer: name, Port: 8443, Monitor: octavia.Monitor{Type: "none"}}))
	err := other.Apply(step(t), scaling.Pool{Group: "db", Members: []scaling.Member{a}})
	if scaling.ClassOf(err) != scaling.Conflict || !strings.Contains(err.Error(), "8443") {
		t.Errorf("a port that is taken: %v", err)
	}
}

// TestChangesWaitTheirTurn has somebody else change the load balancer as fast as it
// goes, asking again every half second, while two groups change it through one queue.
func TestChangesWaitTheirTurn(t *testing.T) {
	s := startSite(t, "octturn")
	const name = "octturn-front"
	f := s.makeFront(t, amphora, name)
	theirs := s.makeMember(t, f.lb, f.pool, "theirs", s.addr())
	second := must[*pools.Pool](t, "make a pool")(pools.Create(step(t), s.lb, pools.CreateOpts{Name: name + "-2", LoadbalancerID: f.lb, Protocol: "TCP", LBMethod: "ROUND_ROBIN"}).Extract())
	s.settled(t, f.lb)

	ctx, stop := context.WithCancel(t.Context())
	var foreign, refused atomic.Int32
	var others sync.WaitGroup
	others.Go(func() {
		for weight := 1; ctx.Err() == nil; weight = weight%100 + 1 {
			switch _, err := pools.UpdateMember(ctx, s.lb, f.pool, theirs, pools.UpdateMemberOpts{Weight: &weight}).Extract(); {
			case err == nil:
				foreign.Add(1)
			case gophercloud.ResponseCodeIs(err, http.StatusConflict):
				refused.Add(1)
				select {
				case <-ctx.Done():
				case <-time.After(500 * time.Millisecond):
				}
			case ctx.Err() == nil:
				t.Errorf("somebody else's change: %v", err)
			}
		}
	})
	defer others.Wait()
	defer stop()

	var met counter
	b := must[*octavia.Balancer](t, "open the balancer")(octavia.New(s.config(), s.owner, slog.New(slog.NewTextHandler(&met, &slog.HandlerOptions{Level: slog.LevelDebug}))))
	defer b.Close()
	var groups sync.WaitGroup
	for group, pool := range map[string]string{"web": f.pool, "db": second.ID} {
		p := must[*octavia.Pool](t, "open the pool")(b.Pool(group, octavia.PoolConfig{Pool: pool}))
		a, b := member("a", s.addr(), joining), member("b", s.addr(), joining)
		groups.Go(func() {
			for _, states := range [][2]scaling.MemberState{{joining, joining}, {ready, ready}, {draining, ready}, {leaving, ready}} {
				a.State, b.State = states[0], states[1]
				if err := p.Apply(step(t), scaling.Pool{Group: group, Members: []scaling.Member{a, b}}); err != nil {
					t.Errorf("%s: %v", group, err)
				}
			}
		})
	}
	groups.Wait()
	stop()
	others.Wait()
	s.settled(t, f.lb)
	t.Logf("somebody else changed it %d times and was refused %d times; we were refused %d times", foreign.Load(), refused.Load(), met.count("somebody else changes"))
	if foreign.Load() < 3 || met.count("somebody else changes") == 0 {
		t.Error("nobody was in the way: the test shows nothing")
	}
	for _, pool := range []string{f.pool, second.ID} {
		ours := 0
		for _, m := range s.list(t, "member", "list", pool) {
			if m.Name != "theirs" {
				ours++
			}
			if m.Name != "theirs" && (!strings.HasSuffix(m.Name, "-b") || m.Weight != 1) {
				t.Errorf("pool %s has %+v", pool, m)
			}
		}
		if ours != 1 {
			t.Errorf("pool %s has %d members of ours, want 1", pool, ours)
		}
	}
}

// counter keeps what was logged.
type counter struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (c *counter) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(p)
}

func (c *counter) count(text string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Count(c.text.String(), text)
}

// TestALoadBalancerThatCannotBeChangedIsSaid sets Octavia's own records: the lab has
// no other way to break a load balancer.
func TestALoadBalancerThatCannotBeChangedIsSaid(t *testing.T) {
	s := startSite(t, "octerror")
	p := s.pool(t, s.made(amphora))
	a, b := member("a", s.addr(), ready), member("b", s.addr(), ready)
	apply(t, p, a)
	var lb struct{ ID, Pools string }
	s.client(t, &lb, "loadbalancer", "show", s.owner+"-web")
	status := func(table, id, status string) {
		s.sql(t, "update octavia.%s set provisioning_status = '%s' where id = '%s'", table, status, id)
	}
	observes := func(ctx context.Context, when string) {
		t.Helper()
		st, err := p.Observe(ctx)
		if m, ok := st.Member("a"); err != nil || !ok || m.State != ready {
			t.Errorf("%s the members are %+v, %v", when, st.Members, err)
		}
	}

	status("load_balancer", lb.ID, "ERROR")
	for _, want := range []scaling.Pool{wish(a), wish(a, b)} {
		err := p.Apply(step(t), want)
		if scaling.ClassOf(err) != scaling.Permanent || !strings.Contains(err.Error(), "is in ERROR") || !strings.Contains(err.Error(), "failover "+lb.ID) {
			t.Errorf("in ERROR: %v", err)
		}
	}
	observes(step(t), "in ERROR")
	status("load_balancer", lb.ID, "ACTIVE")
	apply(t, p, a, b)

	// One that Octavia never sets free, and a caller with one deadline for both calls.
	status("load_balancer", lb.ID, "PENDING_UPDATE")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	begin := time.Now()
	b.State = draining
	err := p.Apply(ctx, wish(a, b))
	if scaling.ClassOf(err) != scaling.Temporary || !strings.Contains(err.Error(), "PENDING_UPDATE") {
		t.Errorf("while it is locked: %v", err)
	}
	if took := time.Since(begin); took > 3900*time.Millisecond {
		t.Errorf("Apply took %v of 4s and left nothing", took)
	}
	observes(ctx, "while it is locked")
	b.State = ready
	apply(t, p, a, b) // nothing to change: nothing to wait for
	status("load_balancer", lb.ID, "ACTIVE")

	var member string
	for _, m := range s.list(t, "member", "list", lb.Pools) {
		if strings.HasSuffix(m.Name, "-b") {
			member = m.ID
		}
	}
	status("member", member, "ERROR")
	err = p.Apply(step(t), wish(a, b))
	part, ok := errors.AsType[interface {
		error
		Members() []string
	}](err)
	if !ok || !slices.Equal(part.Members(), []string{"b"}) || !strings.Contains(err.Error(), member) {
		t.Errorf("a member in ERROR: %v", err)
	}
	b.State = leaving
	apply(t, p, a, b)
	if left := s.list(t, "member", "list", lb.Pools); len(left) != 1 {
		t.Errorf("after the member in ERROR left there is %+v", left)
	}
}

// TestAnEndpointThatHangsHoldsNobody has an Octavia that stops answering at each call
// of an Apply in turn.
func TestAnEndpointThatHangsHoldsNobody(t *testing.T) {
	s := startSite(t, "octhang")
	f := s.makeFront(t, amphora, "octhang-front")
	target := must[*url.URL](t, "read the endpoint")(url.Parse(strings.TrimSuffix(s.lb.Endpoint, "/")))
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	var calls, hangs atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n := calls.Add(1); hangs.Load() != 0 && n >= hangs.Load() {
			// Only with the body read does the server notice that nobody waits any more.
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	a := member("a", s.addr(), ready)
	for n := int32(1); ; n++ {
		calls.Store(0)
		hangs.Store(0)
		p := s.at(t, octavia.PoolConfig{Pool: f.pool}, server.URL)
		// The token is fetched beforehand: it is not what hangs.
		if _, err := p.Observe(step(t)); err != nil {
			t.Fatal(err)
		}
		calls.Store(0)
		hangs.Store(n)
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
		begin := time.Now()
		err := p.Apply(ctx, wish(a))
		took := time.Since(begin)
		cancel()
		if err == nil {
			if n < 5 {
				t.Errorf("an Apply that adds a member took %d calls", n-1)
			}
			break
		}
		if took > 7*time.Second {
			t.Errorf("call %d hangs: Apply took %v of 8s", n, took)
		}
		hangs.Store(0)
		testenv.Eventually(t, within, fmt.Sprintf("a to be added after call %d hung", n), func() error { return p.Apply(step(t), wish(a)) })
		apply(t, p)
	}
	if got := s.list(t, "member", "list", f.pool); len(got) != 1 {
		t.Errorf("the pool has %+v", got)
	}
}

// TestOVNIsNotTrusted has a provider that sends traffic to members of weight 0 and
// whose word on health is not taken.
func TestOVNIsNotTrusted(t *testing.T) {
	s := startSite(t, "octtrust")
	p := s.pool(t, s.made(ovn, monitored))
	a, b := member("a", s.addr(), joining), member("b", s.addr(), ready)
	sees := func(what string) {
		t.Helper()
		apply(t, p, a, b)
		st, err := p.Observe(step(t))
		if err != nil {
			t.Fatal(err)
		}
		var pool struct{ Pools string }
		s.client(t, &pool, "loadbalancer", "show", s.owner+"-web")
		there := s.list(t, "member", "list", pool.Pools)
		for _, m := range []scaling.Member{a, b} {
			got, ok := st.Member(m.ID)
			if !ok || got.State != m.State || got.Health != scaling.HealthUnknown || got.Sessions != -1 {
				t.Errorf("%s: %s is %+v, want %s", what, m.ID, got, m.State)
			}
			inside := slices.ContainsFunc(there, func(l listed) bool { return strings.HasSuffix(l.Name, "-"+m.ID) && l.Weight == 1 })
			if inside != (m.State == ready) {
				t.Errorf("%s: %s, wished %s, is at Octavia: %v, among %+v", what, m.ID, m.State, inside, there)
			}
		}
	}
	sees("a joins")
	a.State = ready
	sees("a is ready")
	b.State = draining
	sees("b drains")
	if can := p.Capabilities(); can != (scaling.Capabilities{}) {
		t.Errorf("it promises %+v", can)
	}
}

func TestWrongNamesAreSaidWithTheNearOnes(t *testing.T) {
	s := startSite(t, "octname")
	s.makeFront(t, ovn, "octname-front")
	s.makeFront(t, ovn, "octname-twin")
	twin := s.makeFront(t, ovn, "octname-twin")
	name := "octname-bare"
	bare := must[*loadbalancers.LoadBalancer](t, "make a load balancer")(loadbalancers.Create(step(t), s.lb, loadbalancers.CreateOpts{
		Name: name, VipSubnetID: s.subnet, Provider: ovn,
	}).Extract())
	s.settled(t, bare.ID)
	for _, c := range []struct {
		name  string
		cfg   octavia.PoolConfig
		class scaling.Class
		says  []string
	}{
		{"a subnet", octavia.PoolConfig{Subnet: "octname-subnett", Port: 80}, scaling.Permanent, []string{`subnet "octname-subnett" does not exist`, `did you mean "octname-subnet"`}},
		{"a network", octavia.PoolConfig{Network: "octname-nett", Port: 80}, scaling.Permanent, []string{`network "octname-nett"`, `"octname-net"`}},
		{"the members' subnet", octavia.PoolConfig{Pool: "octname-front", MemberSubnet: "octname-sub"}, scaling.Permanent, []string{"member_subnet", `"octname-subnet"`}},
		{"a load balancer", octavia.PoolConfig{LoadBalancer: "octname-front1", Port: 80}, scaling.Permanent, []string{`load balancer "octname-front1"`, `"octname-front"`}},
		{"a listener", octavia.PoolConfig{Listener: "octname-frnt"}, scaling.Permanent, []string{`listener "octname-frnt"`, `"octname-front"`}},
		{"a pool", octavia.PoolConfig{Pool: "octname-frontt"}, scaling.Permanent, []string{`pool "octname-frontt"`, `"octname-front"`}},
		{"a pool of another load balancer", octavia.PoolConfig{LoadBalancer: "octname-bare", Pool: "octname-front"}, scaling.Permanent, []string{`pool "octname-front" does not exist`}},
		{"a name that two have", octavia.PoolConfig{Pool: "octname-twin"}, scaling.Permanent, []string{"ambiguous", twin.pool}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := s.pool(t, c.cfg)
			_, err := p.Observe(step(t))
			for what, err := range map[string]error{"Observe": err, "Apply": p.Apply(step(t), wish(member("a", s.addr(), ready)))} {
				if err == nil || scaling.ClassOf(err) != c.class {
					t.Errorf("%s: %v, want class %v", what, err, c.class)
					continue
				}
				for _, text := range c.says {
					if !strings.Contains(err.Error(), text) {
						t.Errorf("%s: %v, want %q", what, err, text)
					}
				}
			}
		})
	}
	// What has the name that ours would get is not taken for ours, and not doubled.
	if _, err := loadbalancers.Update(step(t), s.lb, bare.ID, loadbalancers.UpdateOpts{Name: new(s.owner + "-web")}).Extract(); err != nil {
		t.Fatal(err)
	}
	s.settled(t, bare.ID)
	_, err := s.pool(t, s.made(ovn)).Observe(step(t))
	if scaling.ClassOf(err) != scaling.Conflict || !strings.Contains(err.Error(), "load_balancer: "+bare.ID) {
		t.Errorf("a load balancer of that name that is not ours: %v", err)
	}
}
