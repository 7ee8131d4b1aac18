//go:build openstack

package openstack_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
)

// guests does for pretended guests what is missing of real ones, and no more: as
// long as Nova says that a server is active, somebody answers HTTP at its fixed
// address (the range is routed to loopback while the test runs), and its CPU time
// grows by what its orders say, in the families that scalehook-exporter has for
// real guests. What becomes of a server is for Nova, and its address for Neutron.
type guests struct {
	p  *project
	at place
	// Metrics is where the libvirt families are served.
	Metrics string

	mu      sync.Mutex
	running map[string]*guest // by uuid
	doors   map[string]*door  // by floating IP and uuid; nil: nobody answers there
	seen    map[string]int    // answered, by name
}

// place is where they answer.
type place struct {
	subnet  string // of their fixed addresses
	service int    // port
	ip      func(ctx context.Context, args ...string) *exec.Cmd
	listen  func(ctx context.Context, network, address string) (net.Listener, error)
}

// here is the machine's own network.
func here() place {
	return place{
		subnet: subnet, service: service,
		ip:     func(ctx context.Context, args ...string) *exec.Cmd { return exec.CommandContext(ctx, "ip", args...) },
		listen: (&net.ListenConfig{}).Listen,
	}
}

// route leads addresses to the guests, or does so no more.
func (at place) route(ctx context.Context, verb, addresses string) error {
	if out, err := at.ip(ctx, "route", verb, "local", addresses, "dev", "lo").CombinedOutput(); err != nil {
		return fmt.Errorf("ip route %s local %s: %w: %s", verb, addresses, err, out)
	}
	return nil
}

// door is a guest's floating IP: the machine has that address too while it leads there.
type door struct {
	address string
	web     *http.Server
}

// guest is one of them.
type guest struct {
	uuid, name string
	address    netip.Addr
	web        *http.Server
	cpu        time.Duration
	read       time.Time
}

func startGuests(t *testing.T, p *project, at place) *guests {
	t.Helper()
	g := &guests{p: p, at: at, running: map[string]*guest{}, seen: map[string]int{}}
	if err := at.route(t.Context(), "replace", at.subnet); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := at.route(context.Background(), "del", at.subnet); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { g.follow(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		for _, one := range g.running {
			_ = one.web.Close()
		}
		for _, one := range g.doors {
			g.shut(context.Background(), one)
		}
	})
	return g
}

// publish serves their CPU at that address.
func (g *guests) publish(ctx context.Context, address string) error {
	listener, err := g.at.listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	g.Metrics = listener.Addr().String()
	metrics := &http.Server{Handler: http.HandlerFunc(g.metrics), ReadHeaderTimeout: 5 * time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { _ = metrics.Serve(listener) })
	g.p.t.Cleanup(func() { _ = metrics.Close(); wg.Wait() })
	return nil
}

// open has the guests answer at their floating IPs too, from now on.
func (g *guests) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.doors = map[string]*door{}
}

// lookAtDoors has those guests answer at their floating IPs that run. The caller holds mu.
func (g *guests) lookAtDoors(ctx context.Context) error {
	if g.doors == nil {
		return nil
	}
	rows, err := g.p.SQL(ctx, fmt.Sprintf(`select f.floating_ip_address, p.device_id
from neutron.floatingips f join neutron.ports p on p.id = f.fixed_port_id where f.project_id = '%s'`, g.p.id))
	if err != nil {
		return err
	}
	there := map[string][]string{}
	for row := range strings.SplitSeq(rows, "\n") {
		if f := strings.Split(row, "\t"); len(f) == 2 && g.running[f[1]] != nil {
			there[row] = f
		}
	}
	// First, since an address may lead to another guest now.
	for row, one := range g.doors {
		if there[row] == nil {
			g.shut(ctx, one)
			delete(g.doors, row)
		}
	}
	for row, f := range there {
		if g.doors[row] != nil {
			continue
		}
		one := &door{address: f[0] + "/32", web: &http.Server{Handler: g.answer(g.running[f[1]].name), ReadHeaderTimeout: 5 * time.Second}}
		if err := g.at.route(ctx, "replace", one.address); err != nil {
			return err
		}
		g.doors[row] = one
		listener, err := g.at.listen(ctx, "tcp", fmt.Sprintf("%s:%d", f[0], g.at.service))
		if err != nil {
			return err
		}
		go func() { _ = one.web.Serve(listener) }()
	}
	return nil
}

func (g *guests) shut(ctx context.Context, one *door) {
	_ = one.web.Close()
	if err := g.at.route(ctx, "del", one.address); err != nil {
		g.p.t.Log(err)
	}
}

// follow keeps running what Nova says is active.
func (g *guests) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if err := g.look(ctx); err != nil && ctx.Err() == nil {
			g.p.t.Logf("look at the pretended guests: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func (g *guests) look(ctx context.Context) error {
	rows, err := g.p.SQL(ctx, fmt.Sprintf(`select s.uuid, s.display_name, a.ip_address from nova.instances s
join neutron.ports p on p.device_id = s.uuid join neutron.ipallocations a on a.port_id = p.id
where s.deleted = 0 and s.vm_state = 'active' and s.project_id = '%s'`, g.p.id))
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	there := map[string]bool{}
	for row := range strings.SplitSeq(rows, "\n") {
		f := strings.Split(row, "\t")
		if len(f) != 3 {
			continue
		}
		there[f[0]] = true
		if g.running[f[0]] != nil || crashed(g.orders(f[0])) {
			continue
		}
		one := &guest{uuid: f[0], name: f[1], read: time.Now()}
		if one.address, err = netip.ParseAddr(f[2]); err != nil {
			return err
		}
		listener, err := g.at.listen(ctx, "tcp", fmt.Sprintf("%s:%d", one.address, g.at.service))
		if err != nil {
			return err
		}
		one.web = &http.Server{Handler: g.answer(one.name), ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = one.web.Serve(listener) }()
		g.running[one.uuid] = one
	}
	for uuid, one := range g.running {
		if !there[uuid] || crashed(g.orders(uuid)) {
			_ = one.web.Close()
			delete(g.running, uuid)
		}
	}
	return g.lookAtDoors(ctx)
}

func crashed(o lab.Orders) bool { return o.State == "crashed" }

// orders are those that the lab's driver has for the guest.
func (g *guests) orders(uuid string) lab.Orders {
	var o lab.Orders
	raw, err := os.ReadFile(filepath.Join(g.p.State(), "guests", uuid+".json"))
	if err == nil {
		err = json.Unmarshal(raw, &o)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		g.p.t.Logf("orders of %s: %v", uuid, err)
	}
	return o
}

// answer says who answered.
func (g *guests) answer(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			g.mu.Lock()
			g.seen[name]++
			g.mu.Unlock()
		}
		fmt.Fprintln(w, name)
	})
}

// answered is how many requests each has answered, checks left out.
func (g *guests) answered() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.seen)
}

// metrics publishes the guests' CPU as the exporter does for libvirt's.
func (g *guests) metrics(w http.ResponseWriter, _ *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintln(w, "libvirt_up 1")
	for _, one := range g.running {
		util := 0.05
		if o := g.orders(one.uuid); o.Util != nil {
			util = *o.Util
		}
		now := time.Now()
		one.cpu += time.Duration(util * float64(now.Sub(one.read)))
		one.read = now
		labels := fmt.Sprintf("domain=%q,uuid=%q", one.name, one.uuid)
		fmt.Fprintf(w, "libvirt_domain_state{%s,state=\"running\"} 1\nlibvirt_domain_vcpus{%s} 1\nlibvirt_domain_cpu_time_seconds_total{%s} %g\n",
			labels, labels, labels, one.cpu.Seconds())
	}
}

// use orders a share of CPU from servers.
func (g *guests) use(t *testing.T, util float64, uuids ...string) {
	t.Helper()
	for _, uuid := range uuids {
		g.p.Orders(t, uuid, lab.Orders{Util: &util})
	}
}

// visitors ask through the balancer until they are told to stop, and count what was
// not answered as it should be.
type visitors struct {
	stop    context.CancelFunc
	done    chan struct{}
	sent    int
	by      map[string]int
	trouble []string
}

func startVisitors(t *testing.T, dial func(ctx context.Context, network, address string) (net.Conn, error), address string) *visitors {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	v := &visitors{stop: cancel, done: make(chan struct{}), by: map[string]int{}}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	go func() {
		defer close(v.done)
		for ctx.Err() == nil {
			v.sent++
			name, err := visit(client, address)
			if err != nil {
				v.trouble = append(v.trouble, time.Now().Format("15:04:05.000 ")+err.Error())
			}
			v.by[name]++
			select {
			case <-ctx.Done():
			case <-time.After(25 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-v.done })
	return v
}

func visit(client *http.Client, address string) (string, error) {
	response, err := client.Get("http://" + address + "/")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var name string
	if _, err := fmt.Fscanln(response.Body, &name); err != nil || response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %q: %w", response.Status, name, err)
	}
	return name, nil
}

// end stops them and returns how many were sent, by whom they were answered, and
// what was lost.
func (v *visitors) end() (sent int, by map[string]int, lost []string) {
	v.stop()
	<-v.done
	return v.sent, v.by, v.trouble
}
