//go:build openstack

package provision

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
)

// refused plans and applies a file that has to be refused with all of these texts,
// and before anything is made.
func (s *site) refused(name, path string, wants ...string) {
	s.t.Run(name, func(t *testing.T) {
		before := s.Leftovers(t, s.prefix)
		_, err := s.reopen(path).Apply(s.ctx(), func(step string) { t.Errorf("it did %q", step) })
		if err == nil {
			t.Fatal("it was not refused")
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the error is %q, want %q in it", err, want)
			}
		}
		if diff := cmp.Diff(before, s.Leftovers(t, s.prefix)); diff != "" {
			t.Errorf("something was made (-want +got):\n%s", diff)
		}
	})
}

func TestWhatIsWrongIsSaidBeforeAnythingIsMade(t *testing.T) {
	s := newSite(t, "pvnbad")
	s.refused("unknown names, with the near ones", s.file("image: lab-guest", "image: lab-gest", "flavor: m1.nano", "flavor: m1.naon", "external: public", "external: pubic"),
		`server.image: image "lab-gest" does not exist; did you mean "lab-guest"`, `server.flavor: flavor "m1.naon" does not exist; did you mean "m1.nano"`, `external network "pubic" does not exist; did you mean "public"`)
	s.refused("a region that is not there", s.file("{cloud: lab,", "{cloud: lab, region: RegionTwo,"), `region "RegionTwo" does not exist`, "RegionOne")
	s.refused("this machine's address, where the cloud is on loopback", s.file("balancer: 203.0.113.1", "balancer: host"), "cannot be told")

	// Somebody else's things.
	one := fmt.Sprint(s.made("networks", "network", row{"name": "pvnbad-net"})["id"])
	two := fmt.Sprint(s.made("networks", "network", row{"name": "pvnbad-net"})["id"])
	s.refused("an ambiguous name", s.file(), `network "pvnbad-net" is ambiguous`, one, two)
	wide := s.made("subnets", "subnet", row{"network_id": one, "name": "pvnbad-wide", "cidr": "192.168.0.0/16", "ip_version": 4})["id"]
	s.refused("a range that overlaps on the same network", s.file("name: pvnbad-net\n", "name: "+one+"\n"), "192.168.100.0/24 overlaps with subnet pvnbad-wide", "192.168.0.0/16")
	s.refused("a subnet with another range", s.file("name: pvnbad-net\n", "name: "+one+"\n", "name: pvnbad-subnet", "name: pvnbad-wide"), "pvnbad-wide", "has 192.168.0.0/16: write that")

	router := s.made("routers", "router", row{"name": "pvnbad-elsewhere", "external_gateway_info": row{"network_id": s.outside()}})["id"]
	s.network(http.MethodPut, fmt.Sprint("routers/", router, "/add_router_interface"), row{"subnet_id": wide})
	t.Cleanup(func() {
		s.network(http.MethodPut, fmt.Sprint("routers/", router, "/remove_router_interface"), row{"subnet_id": wide})
	})
	port := fmt.Sprint(s.made("ports", "port", row{"network_id": one, "name": "pvnbad-port"})["id"])
	address := fmt.Sprint(s.made("floatingips", "floatingip", row{"floating_network_id": s.outside(), "port_id": port, "description": "pvnbad"})["floating_ip_address"])
	s.refused("a floating IP in use elsewhere", s.file("name: pvnbad-net\n", "name: pvnbad-new\n", "floating_ip: {}", "floating_ip: {address: "+address+"}"),
		"floating IP "+address, "is in use elsewhere, by port "+port)

	key := filepath.Join(s.dir, "pvnbad-key")
	if err := makeKeyFile(key, "theirs"); err != nil {
		t.Fatal(err)
	}
	theirs := readKeyFile(key).Public
	s.imported("pvnbad-key", theirs)
	for _, name := range []string{key, key + ".pub"} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	s.refused("a key pair whose private key is not here", s.file("name: pvnbad-net\n", "name: pvnbad-new\n"), "the cloud has the key pair pvnbad-key already", fingerprint(theirs))
	if err := makeKeyFile(key, "ours"); err != nil {
		t.Fatal(err)
	}
	s.refused("a key file that does not match the key pair", s.file("name: pvnbad-net\n", "name: pvnbad-new\n"), "does not match the key pair pvnbad-key", fingerprint(theirs), fingerprint(readKeyFile(key).Public))
}

func TestWhatWasThereIsAdoptedAndOutlivesADestroy(t *testing.T) {
	s := newSite(t, "pvnadopt")
	key := filepath.Join(s.dir, "pvnadopt-key")
	if err := makeKeyFile(key, "by hand"); err != nil {
		t.Fatal(err)
	}
	// The walk-through by hand, with two rules forgotten and no DNS servers, and a
	// router that leads nowhere.
	net := s.made("networks", "network", row{"name": "pvnadopt-net"})["id"]
	subnet := s.made("subnets", "subnet", row{"network_id": net, "name": "pvnadopt-subnet", "cidr": "192.168.100.0/24", "ip_version": 4})["id"]
	router := s.made("routers", "router", row{"name": "pvnadopt-router"})["id"]
	s.network(http.MethodPut, fmt.Sprint("routers/", router, "/add_router_interface"), row{"subnet_id": subnet})
	t.Cleanup(func() {
		s.network(http.MethodPut, fmt.Sprint("routers/", router, "/remove_router_interface"), row{"subnet_id": subnet})
	})
	group := s.made("security-groups", "security_group", row{"name": "pvnadopt-secure"})["id"]
	s.network(http.MethodPost, "security-group-rules", row{"security_group_rule": row{
		"security_group_id": group, "direction": "ingress", "ethertype": "IPv4", "protocol": "icmp", "remote_ip_prefix": "192.168.100.0/24",
	}})
	s.imported("pvnadopt-key", readKeyFile(key).Public)
	s.serverByHand(fmt.Sprint(net))

	path := s.file()
	p := s.open(path)
	plan, steps := s.apply(p)
	want := []string{
		"set DNS servers 8.8.8.8, 1.1.1.1 instead of none",
		"tag the router: its gateway will be ours", "set the external gateway public",
		"open tcp port 22 from 203.0.113.1/32", "open tcp port 8080 from 203.0.113.1/32",
		"add the security group pvnadopt-secure to its port",
		"make a floating IP of public", "tag floating ip",
	}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Errorf("the steps (-want +got):\n%s", diff)
	}
	for _, it := range plan.Items {
		if it.Kind != KindFloatingIP && it.Kind != KindSnapshot && !it.Adopted {
			t.Errorf("%s %s is taken for ours", it.Kind, it.Name)
		}
	}
	s.completed(plan)
	if _, steps := s.apply(s.reopen(path)); len(steps) > 0 {
		t.Errorf("the second run did %q", steps)
	}

	steps = s.destroy(s.reopen(path))
	if len(steps) != 4 {
		t.Errorf("destroy did %q: the floating IP, the gateway and two rules are ours", steps)
	}
	for _, kind := range [][]string{{"network"}, {"subnet"}, {"router"}, {"security", "group"}, {"keypair"}, {"server"}} {
		if got := s.found(kind...); len(got) != 1 {
			t.Errorf("%s: %q is left of what was there before", kind, got)
		}
	}
	now := ask[row](s, "router", "show", "pvnadopt-router")
	if now["external_gateway_info"] != nil {
		t.Errorf("the router still leads to %v", now["external_gateway_info"])
	}
	if rules := ask[[]row](s, "security", "group", "rule", "list", "pvnadopt-secure", "--ingress"); len(rules) != 1 {
		t.Errorf("the rules are %v, want the one that was there", rules)
	}
}

// serverByHand makes a server with nothing of ours on it, for the time of the test.
func (s *site) serverByHand(network string) {
	t := s.t
	t.Helper()
	c, f := s.reopen(s.file()).c, &File{}
	w, err := c.look(s.ctx(), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), within)
		defer cancel()
		w, err := c.look(ctx, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, server := range w.Servers {
			if server.Name == s.prefix+"-vm" {
				if err := c.removeServer(ctx, server.ID); err != nil {
					t.Error(err)
				}
			}
		}
	})
	err = c.makeServer(s.ctx(), newServer{
		name: s.prefix + "-vm", network: network, key: s.prefix + "-key", deadline: within,
		image:  by(w.Images, func(i Image) bool { return i.Name == lab.Image }).ID,
		flavor: by(w.Flavors, func(f Flavor) bool { return f.Name == lab.Flavor }).ID,
	})
	if err != nil {
		t.Fatal(err)
	}
}

// imported gives the cloud a key pair of somebody else's for the time of the test.
func (s *site) imported(name, public string) {
	s.t.Helper()
	c := s.reopen(s.file()).c
	if err := c.importKey(s.ctx(), name, public+" by hand"); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), within)
		defer cancel()
		if err := c.removeKey(ctx, name); err != nil {
			s.t.Error(err)
		}
	})
}

// completed looks at what was completed on adopted things.
func (s *site) completed(plan Plan) {
	t := s.t
	t.Helper()
	address := item(t, plan, KindFloatingIP).Name
	server := ask[struct {
		Addresses map[string][]string `json:"addresses"`
		Groups    []row               `json:"security_groups"`
	}](s, "server", "show", s.prefix+"-vm")
	var groups []string
	for _, g := range server.Groups {
		groups = append(groups, fmt.Sprint(g["name"]))
	}
	if !slices.Contains(server.Addresses[s.prefix+"-net"], address) || !cmp.Equal(sorted(groups), []string{"default", s.prefix + "-secure"}) {
		t.Errorf("the server is %+v, want the address %s and two groups", server, address)
	}
}

func TestAServerThatCannotBeMadeIsMadeByTheNextRun(t *testing.T) {
	s := newSite(t, "pvnerror")
	s.OpenStack(t, lab.Admin, "flavor", "create", "--ram", "128", "--disk", "5000000", "--vcpus", "1", "pvnerror-huge")
	gone := false
	remove := func() {
		if !gone {
			s.OpenStack(lasting{t}, lab.Admin, "flavor", "delete", "pvnerror-huge")
		}
		gone = true
	}
	defer remove()
	path := s.file("flavor: m1.nano", "flavor: pvnerror-huge", "snapshot: {keep: 2}\n", "")
	p := s.open(path)
	_, err := p.Apply(s.ctx(), func(string) {})
	if err == nil || !strings.Contains(err.Error(), "could not be made: No valid host") {
		t.Fatalf("a server that no host has room for: %v", err)
	}
	t.Logf("the first run: %v", err)
	remove()
	plan, steps := s.apply(s.reopen(s.file("snapshot: {keep: 2}\n", "")))
	t.Logf("the second run: %q", steps)
	if it := item(t, plan, KindServer); it.Action != Keep {
		t.Errorf("the server: %+v", it)
	}
	if got := s.found("server"); len(got) != 1 {
		t.Errorf("the servers are %q", got)
	}
}

func TestVerifyAndDoctorAskTheRealCloud(t *testing.T) {
	s := newSite(t, "pvnlook")
	path := s.file("flavor: m1.nano}", "flavor: m1.nano, report: true}", "snapshot: {keep: 2}\n", "", "service: {port: 8080, balancer: 203.0.113.1}\n", "verify: {outbound: [1.1.1.1, example.org]}\n")
	p := s.open(path)
	if checks := p.Doctor(s.ctx()); Failed(checks) {
		t.Errorf("doctor before: %+v", checks)
	}
	plan, _ := s.apply(p)
	server := item(t, plan, KindServer).ID
	s.Orders(t, server, lab.Orders{Console: "booting\nscalehook-report: ping 1.1.1.1 ok\nscalehook-report: resolve example.org ok\nscalehook-report: ping example.org failed\nscalehook-report: end\n"})
	checks, err := p.Verify(s.ctx())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"OK server pvnlook-vm", "OK floating IP", "OK from inside, at the first boot: ping 1.1.1.1",
		"OK from inside, at the first boot: resolve example.org", "WRONG from inside, at the first boot: ping example.org",
	}
	if diff := cmp.Diff(want, summary(checks)); diff != "" {
		t.Errorf("verify (-want +got):\n%s", diff)
	}
	checks = s.reopen(s.file("{cloud: lab,", "{cloud: lab-other,", "image: lab-guest", "image: lab-gest")).Doctor(s.ctx())
	text := fmt.Sprint(checks)
	if !Failed(checks) || !strings.Contains(text, `did you mean "lab-guest"`) {
		t.Errorf("doctor of another file: %s", text)
	}
	wrong := filepath.Join(s.dir, "clouds.yaml")
	content, err := os.ReadFile(s.CloudsFile())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(wrong, []byte(strings.ReplaceAll(string(content), lab.Password, "wrong")), 0o600); err != nil {
		t.Fatal(err)
	}
	checks = s.reopen(s.file(s.CloudsFile(), wrong)).Doctor(s.ctx())
	if len(checks) != 1 || checks[0].OK || !strings.Contains(checks[0].Detail, "password") {
		t.Errorf("doctor with a wrong password: %+v", checks)
	}
}
