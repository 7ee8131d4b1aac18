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
	p *project
	// Metrics is where the libvirt families are served.
	Metrics string

	mu      sync.Mutex
	running map[string]*guest // by uuid
	doors   map[string]*door  // by floating IP and uuid; nil: nobody answers there
	seen    map[string]int    // answered, by name
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

func startGuests(t *testing.T, p *project) *guests {
	t.Helper()
	g := &guests{p: p, running: map[string]*guest{}, seen: map[string]int{}}
	route := []string{"route", "replace", "local", subnet, "dev", "lo"}
	if out, err := exec.CommandContext(t.Context(), "ip", route...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", strings.Join(route, " "), err, out)
	}
	t.Cleanup(func() {
		route[1] = "del"
		if out, err := exec.CommandContext(context.Background(), "ip", route...).CombinedOutput(); err != nil {
			t.Errorf("ip %s: %v: %s", strings.Join(route, " "), err, out)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.Metrics = listener.Addr().String()
	metrics := &http.Server{Handler: http.HandlerFunc(g.metrics), ReadHeaderTimeout: 5 * time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = metrics.Serve(listener) })
	wg.Go(func() { g.follow(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = metrics.Close()
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
		if out, err := exec.CommandContext(ctx, "ip", "route", "replace", "local", one.address, "dev", "lo").CombinedOutput(); err != nil {
			return fmt.Errorf("route %s: %w: %s", f[0], err, out)
		}
		g.doors[row] = one
		listener, err := net.Listen("tcp", fmt.Sprintf("%s:%d", f[0], service))
		if err != nil {
			return err
		}
		go func() { _ = one.web.Serve(listener) }()
	}
	return nil
}

func (g *guests) shut(ctx context.Context, one *door) {
	_ = one.web.Close()
	if out, err := exec.CommandContext(ctx, "ip", "route", "del", "local", one.address, "dev", "lo").CombinedOutput(); err != nil {
		g.p.t.Logf("route to %s: %v: %s", one.address, err, out)
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
		listener, err := net.Listen("tcp", netip.AddrPortFrom(one.address, service).String())
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

func startVisitors(t *testing.T, address string) *visitors {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	v := &visitors{stop: cancel, done: make(chan struct{}), by: map[string]int{}}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
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
