//go:build openstack

package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gophercloud/gophercloud/v2"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
)

// site is a provisioning file in the lab's project, under names of its own.
type site struct {
	*lab.Cloud
	t      *testing.T
	prefix string
	dir    string
}

// within bounds one step of a test.
const within = 10 * time.Minute

// newSite begins a test whose things are all named with the prefix. Whatever is left
// in the end fails it.
func newSite(t *testing.T, prefix string) *site {
	t.Helper()
	s := &site{Cloud: lab.Start(t, lab.Options{}), t: t, prefix: prefix, dir: t.TempDir()}
	if left := s.Leftovers(t, prefix); len(left) > 0 {
		t.Fatalf("left from another run: %v", left)
	}
	t.Cleanup(func() {
		left, err := s.left()
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	})
	return s
}

// left is Leftovers for a cleanup, where the test's context has ended.
func (s *site) left() (out []string, err error) {
	var done sync.WaitGroup
	done.Go(func() { out = s.Leftovers(lasting{s.t}, s.prefix) })
	done.Wait()
	return out, err
}

// lasting is a test whose context goes on in its cleanups.
type lasting struct{ *testing.T }

// Context implements testing.TB.
func (l lasting) Context() context.Context { return context.WithoutCancel(l.T.Context()) }

const siteFile = `name: PREFIX
cloud: {cloud: lab, clouds_file: CLOUDS, timeout: 3m}
network:
  name: PREFIX-net
  subnet: {name: PREFIX-subnet, cidr: 192.168.100.0/24, dns: [8.8.8.8, 1.1.1.1]}
  router: {name: PREFIX-router, external: public}
security_group:
  name: PREFIX-secure
  rules:
    - {protocol: tcp, port: 22, from: 203.0.113.1}
    - {protocol: icmp, from: subnet}
service: {port: 8080, balancer: 203.0.113.1}
key: {name: PREFIX-key, private_key: PREFIX-key}
server: {name: PREFIX-vm, image: lab-guest, flavor: m1.nano}
floating_ip: {}
snapshot: {keep: 2}
`

// file writes the usual file with changes, pairs of old and new text.
func (s *site) file(changes ...string) string {
	s.t.Helper()
	text := strings.NewReplacer("PREFIX", s.prefix, "CLOUDS", s.CloudsFile()).Replace(siteFile)
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(text, changes[i]) {
			s.t.Fatalf("the file has no %q", changes[i])
		}
		text = strings.ReplaceAll(text, changes[i], changes[i+1])
	}
	path := filepath.Join(s.dir, fmt.Sprintf("%x.yml", len(text)))
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// open opens a file whose things are removed at the end of the test, whatever
// happens in it.
func (s *site) open(path string) *Provisioner {
	s.t.Helper()
	p := s.reopen(path)
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		if _, err := s.reopen(path).Destroy(ctx, DestroyOptions{}, func(step string) { s.t.Logf("cleanup: %s", step) }); err != nil {
			s.t.Errorf("cleanup: %v", err)
		}
	})
	return p
}

func (s *site) reopen(path string) *Provisioner {
	s.t.Helper()
	f, err := Load(path)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := Open(f, slog.New(slog.NewTextHandler(s.t.Output(), nil)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.Close)
	p.c.poll = 200 * time.Millisecond
	return p
}

func (s *site) ctx() context.Context {
	ctx, cancel := context.WithTimeout(s.t.Context(), within)
	s.t.Cleanup(cancel)
	return ctx
}

// apply carries out the file and returns the steps.
func (s *site) apply(p *Provisioner) (Plan, []string) {
	s.t.Helper()
	var steps []string
	plan, err := p.Apply(s.ctx(), func(step string) { steps = append(steps, step) })
	if err != nil {
		s.t.Fatalf("apply: %v after %q", err, steps)
	}
	return plan, steps
}

// destroy removes what was made for the file and returns the steps.
func (s *site) destroy(p *Provisioner) []string {
	s.t.Helper()
	var steps []string
	if _, err := p.Destroy(s.ctx(), DestroyOptions{}, func(step string) { steps = append(steps, step) }); err != nil {
		s.t.Fatalf("destroy: %v after %q", err, steps)
	}
	return steps
}

// ask runs the real client as a member and decodes what it prints.
func ask[T any](s *site, args ...string) T {
	s.t.Helper()
	var out T
	if err := json.Unmarshal(s.OpenStack(s.t, lab.Member, args...), &out); err != nil {
		s.t.Fatalf("openstack %q: %v", args, err)
	}
	return out
}

// network asks the network service itself, for what a test sets up: the real client
// takes seconds for each. It returns the object in the answer.
func (s *site) network(method, path string, body row) row {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), within)
	defer cancel()
	api, err := s.reopen(s.file()).c.cloud.Network(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	var out map[string]any
	opts := gophercloud.RequestOpts{JSONResponse: &out, OkCodes: []int{200, 201, 204}}
	if method == http.MethodDelete {
		opts.JSONResponse = nil
	} else {
		opts.JSONBody = body
	}
	resp, err := api.Request(ctx, method, api.ServiceURL(path), &opts)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	if err := resp.Body.Close(); err != nil {
		s.t.Fatal(err)
	}
	for _, v := range out {
		if object, ok := v.(map[string]any); ok {
			return object
		}
	}
	return out
}

// made makes something of the network service and removes it when the test ends.
func (s *site) made(collection, kind string, body row) row {
	s.t.Helper()
	object := s.network(http.MethodPost, collection, row{kind: body})
	s.t.Cleanup(func() { s.network(http.MethodDelete, collection+"/"+fmt.Sprint(object["id"]), nil) })
	return object
}

// outside is the id of the external network.
func (s *site) outside() string {
	s.t.Helper()
	w, err := s.reopen(s.file()).c.look(s.ctx(), &File{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range w.Networks {
		if n.External {
			return n.ID
		}
	}
	s.t.Fatal("there is no external network")
	return ""
}

// row is a line of a listing of the real client.
type row map[string]any

// found are the names of a kind that begin with the prefix, as the client lists them.
func (s *site) found(args ...string) []string {
	s.t.Helper()
	var out []string
	for _, r := range ask[[]row](s, append(args, "list")...) {
		if name, _ := r["Name"].(string); strings.HasPrefix(name, s.prefix) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func item(t *testing.T, p Plan, kind Kind) Item {
	t.Helper()
	i := slices.IndexFunc(p.Items, func(it Item) bool { return it.Kind == kind })
	if i < 0 {
		t.Fatalf("the plan has no %s", kind)
	}
	return p.Items[i]
}

// whole asks the real client whether everything is there, once, and as the file says.
func (s *site) whole(plan Plan) {
	t := s.t
	t.Helper()
	n := s.prefix
	for _, c := range []struct {
		what []string
		want []string
	}{
		{[]string{"network"}, []string{n + "-net"}},
		{[]string{"subnet"}, []string{n + "-subnet"}},
		{[]string{"router"}, []string{n + "-router"}},
		{[]string{"security", "group"}, []string{n + "-secure"}},
		{[]string{"keypair"}, []string{n + "-key"}},
		{[]string{"server"}, []string{n + "-vm"}},
	} {
		if diff := cmp.Diff(c.want, s.found(c.what...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
	subnet := ask[struct {
		CIDR    string   `json:"cidr"`
		Gateway string   `json:"gateway_ip"`
		DNS     []string `json:"dns_nameservers"`
		Tags    []string `json:"tags"`
	}](s, "subnet", "show", n+"-subnet")
	if subnet.CIDR != "192.168.100.0/24" || subnet.Gateway != "192.168.100.1" || !slices.Equal(subnet.DNS, []string{"8.8.8.8", "1.1.1.1"}) {
		t.Errorf("the subnet is %+v", subnet)
	}
	if want := []string{"scalehook-owner=scalehook", "scalehook-provision=" + n}; !slices.Equal(sorted(subnet.Tags), want) {
		t.Errorf("the subnet's tags are %q, want %q", subnet.Tags, want)
	}
	router := ask[struct {
		Gateway struct {
			Network string `json:"network_id"`
		} `json:"external_gateway_info"`
		Interfaces []struct {
			Address string `json:"ip_address"`
		} `json:"interfaces_info"`
	}](s, "router", "show", n+"-router")
	if router.Gateway.Network == "" || len(router.Interfaces) != 1 || router.Interfaces[0].Address != "192.168.100.1" {
		t.Errorf("the router is %+v", router)
	}
	var rules []string
	for _, r := range ask[[]row](s, "security", "group", "rule", "list", n+"-secure", "--ingress", "--long") {
		rules = append(rules, fmt.Sprint(r["IP Protocol"], " ", r["Port Range"], " ", r["IP Range"]))
	}
	if diff := cmp.Diff([]string{"icmp  192.168.100.0/24", "tcp 22:22 203.0.113.1/32", "tcp 8080:8080 203.0.113.1/32"}, sorted(rules)); diff != "" {
		t.Errorf("the rules (-want +got):\n%s", diff)
	}
	server := ask[struct {
		ID, Status string
		Addresses  map[string][]string `json:"addresses"`
		Key        string              `json:"key_name"`
		Groups     []row               `json:"security_groups"`
	}](s, "server", "show", n+"-vm")
	address := item(t, plan, KindFloatingIP).Name
	if server.Status != "ACTIVE" || server.Key != n+"-key" || !slices.Contains(server.Addresses[n+"-net"], address) || len(server.Groups) != 1 || server.Groups[0]["name"] != n+"-secure" {
		t.Errorf("the server is %+v, its floating IP should be %s", server, address)
	}
	var ours int
	for _, a := range ask[[]row](s, "floating", "ip", "list", "--tags", "scalehook-provision="+n) {
		if a["Floating IP Address"] == address {
			ours++
		}
	}
	if ours != 1 {
		t.Errorf("%d floating IPs %s with our tag, want 1", ours, address)
	}
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

// snapshots are the active images of the client's listing.
func (s *site) snapshots() []string {
	s.t.Helper()
	var out []string
	for _, i := range ask[[]row](s, "image", "list", "--property", "scalehook_provision="+s.prefix) {
		if i["Status"] == "active" {
			out = append(out, fmt.Sprint(i["Name"]))
		}
	}
	slices.Sort(out)
	return out
}

func TestAWholeLifeIsMadeOnceAndLeavesNothing(t *testing.T) {
	s := newSite(t, "pvnlife")
	path := s.file()
	p := s.open(path)

	planned, err := p.Plan(s.ctx())
	if err != nil || !planned.Pending() || len(s.Leftovers(t, s.prefix)) > 0 {
		t.Fatalf("the plan: %v, pending %v; it must change nothing", err, planned.Pending())
	}
	plan, steps := s.apply(p)
	s.whole(plan)
	if info, err := os.Stat(filepath.Join(s.dir, "pvnlife-key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v %v", info, err)
	}
	if len(steps) < 15 {
		t.Errorf("only %d steps were said: %q", len(steps), steps)
	}
	if got := s.snapshots(); len(got) != 1 {
		t.Errorf("the snapshots after the deployment are %q", got)
	}

	if plan, steps := s.apply(s.reopen(path)); len(steps) > 0 || plan.Pending() {
		t.Errorf("the second run did %q", steps)
	}

	// What is changed without harm, and what somebody else made of it.
	s.OpenStack(t, lab.Member, "subnet", "set", "--no-dns-nameservers", "--dns-nameserver", "9.9.9.9", "pvnlife-subnet")
	s.OpenStack(t, lab.Member, "security", "group", "rule", "create", "--ingress", "--protocol", "tcp", "--dst-port", "443", "pvnlife-secure")
	plan, steps = s.apply(s.reopen(s.file("{port: 8080, balancer: 203.0.113.1}", "{port: 8081, balancer: 203.0.113.1}")))
	if want := []string{"set DNS servers 8.8.8.8, 1.1.1.1 instead of 9.9.9.9", "open tcp port 8081 from 203.0.113.1/32", "close tcp port 8080 from 203.0.113.1/32"}; !slices.Equal(steps, want) {
		t.Errorf("the changes are %q, want %q", steps, want)
	}
	if group := item(t, plan, KindGroup); !slices.Contains(group.Details, "also open, and not by this file: tcp port 443 from anywhere") {
		t.Errorf("the plan says of the group %q", group.Details)
	}

	// Retention: by hand made ones stay.
	s.OpenStack(t, lab.Member, "server", "image", "create", "--wait", "--name", "pvnlife-by-hand", "pvnlife-vm")
	first := s.snapshots()
	for range 2 {
		done, err := p.Snapshot(s.ctx(), SnapshotOptions{}, func(string) {})
		if err != nil || len(done.Made) != 1 {
			t.Fatalf("snapshot: %+v %v", done, err)
		}
	}
	if got := s.snapshots(); len(got) != 2 || slices.Contains(got, first[0]) {
		t.Errorf("with keep 2 there are %q; %s is the oldest", got, first[0])
	}
	if done, err := p.Snapshot(s.ctx(), SnapshotOptions{Keep: 1}, func(string) {}); err != nil || len(done.Removed) != 2 {
		t.Errorf("with keep 1: %+v %v", done, err)
	}
	if got := s.found("image"); len(got) != 2 || !slices.Contains(got, "pvnlife-by-hand") {
		t.Errorf("the images are %q: one of ours and the one by hand have to be left", got)
	}

	// Clean-up: one address that nothing uses is ours, one is not.
	s.orphans()

	if steps := s.destroy(s.reopen(path)); len(steps) < 8 {
		t.Errorf("destroy did only %q", steps)
	}
	if steps := s.destroy(s.reopen(path)); len(steps) > 0 {
		t.Errorf("the second destroy did %q", steps)
	}
	if diff := cmp.Diff([]string{"pvnlife-by-hand"}, s.found("image")); diff != "" {
		t.Errorf("the images (-want +got):\n%s", diff)
	}
	s.OpenStack(t, lab.Member, "image", "delete", "pvnlife-by-hand")
}

// orphans makes floating IPs and ports that nothing uses and has them cleaned up.
func (s *site) orphans() {
	t := s.t
	t.Helper()
	p := s.reopen(s.file())
	w, err := p.c.look(s.ctx(), p.file)
	if err != nil {
		t.Fatal(err)
	}
	network := by(w.Networks, func(n Network) bool { return n.Name == s.prefix+"-net" }).ID
	// An address and a port as a kill of an older version might have left them.
	mark, theirs := p.file.mark().text(), s.prefix+" of somebody else"
	s.network(http.MethodPost, "floatingips", row{"floatingip": row{"floating_network_id": s.outside(), "description": mark}})
	address := s.made("floatingips", "floatingip", row{"floating_network_id": s.outside(), "description": theirs})
	s.network(http.MethodPost, "ports", row{"port": row{"network_id": network, "name": s.prefix + "-lost", "description": mark}})
	free := s.network(http.MethodPost, "ports", row{"port": row{"network_id": network, "name": s.prefix + "-free"}})
	plan, err := p.CleanupPlan(s.ctx())
	if err != nil {
		t.Fatal(err)
	}
	var lists []string
	for _, it := range plan.Items {
		if it.Action == Remove {
			lists = append(lists, string(it.Kind))
		}
	}
	if diff := cmp.Diff([]string{"floating ip", "port"}, lists); diff != "" {
		t.Errorf("to be cleaned up (-want +got):\n%s", diff)
	}
	var steps []string
	if _, err := p.Cleanup(s.ctx(), func(step string) { steps = append(steps, step) }); err != nil || len(steps) != 2 {
		t.Errorf("cleaned up %q: %v", steps, err)
	}
	// The port of nobody would be in the way of the network.
	for _, r := range ask[[]row](s, "port", "list", "--network", s.prefix+"-net") {
		if r["Name"] == s.prefix+"-lost" {
			t.Error("the lost port is still there")
		}
	}
	s.network(http.MethodDelete, "ports/"+fmt.Sprint(free["id"]), nil)
	if left := s.Leftovers(t, theirs[:len(s.prefix)]); !slices.ContainsFunc(left, func(l string) bool { return strings.Contains(l, fmt.Sprint(address["id"])) }) {
		t.Errorf("somebody else's floating IP is not among what is left: %q", left)
	}
}

// mortal lets one write of a run through and loses its answer; every later request of
// the run fails, as if the program had been killed. A write is not let through at the
// first time it is tried, so that both deaths are died: before it and after it.
type mortal struct {
	base   http.RoundTripper
	mu     sync.Mutex
	dead   bool
	before map[string]bool
	did    int
}

var errKilled = errors.New("the program was killed")

// RoundTrip implements http.RoundTripper.
func (m *mortal) RoundTrip(req *http.Request) (*http.Response, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return nil, errKilled
	}
	if req.Method == http.MethodGet || strings.HasSuffix(req.URL.Path, "/tokens") {
		return m.base.RoundTrip(req)
	}
	m.dead = true
	key := req.Method + " " + req.URL.Path
	if req.GetBody != nil {
		if body, err := req.GetBody(); err == nil {
			text, _ := io.ReadAll(body)
			key += " " + string(text)
		}
	}
	if strings.HasSuffix(req.URL.Path, "/action") {
		key = "a snapshot" // its name has the time in it
	}
	if !m.before[key] {
		m.before[key] = true
		return nil, errKilled
	}
	resp, err := m.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	m.did++
	return nil, errors.Join(errKilled, resp.Body.Close())
}

// die runs something again and again, killed at its first write each time, until it
// needs none. It returns how many writes there were.
func (s *site) die(path string, run func(*Provisioner) error) int {
	s.t.Helper()
	m := &mortal{before: map[string]bool{}}
	for range 150 {
		p := s.reopen(path)
		api, err := p.c.cloud.Network(s.ctx())
		if err != nil {
			s.t.Fatal(err)
		}
		m.base, m.dead = api.HTTPClient.Transport, false
		api.HTTPClient.Transport = m
		err = run(p)
		if err == nil {
			return m.did
		}
		if !m.dead {
			s.t.Fatalf("ended by itself: %v", err)
		}
	}
	s.t.Fatal("it does not come to an end")
	return 0
}

func TestKilledBeforeAndAfterEveryWriteItMakesEverythingOnce(t *testing.T) {
	s := newSite(t, "pvnkill")
	path := s.file()
	s.open(path)
	var last Plan
	writes := s.die(path, func(p *Provisioner) (err error) {
		last, err = p.Apply(s.ctx(), func(string) {})
		return err
	})
	if writes < 18 {
		t.Errorf("killed at only %d writes", writes)
	}
	s.whole(last)
	if got := s.snapshots(); len(got) != 1 {
		t.Errorf("the snapshots are %q, want one", got)
	}
	for _, it := range last.Items {
		if it.Adopted {
			t.Errorf("%s %s is taken for somebody else's", it.Kind, it.Name)
		}
	}
	removals := s.die(path, func(p *Provisioner) error {
		_, err := p.Destroy(s.ctx(), DestroyOptions{}, func(string) {})
		return err
	})
	if removals < 8 {
		t.Errorf("killed at only %d removals", removals)
	}
	if left := s.Leftovers(t, s.prefix); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
