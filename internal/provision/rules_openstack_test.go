//go:build openstack

package provision

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
)

// TestTheAccessRulesAreWhatProvisioningNeeds makes, changes and removes a site with an
// application credential that has the rules of deploy/openstack: none too few, none
// too many.
func TestTheAccessRulesAreWhatProvisioningNeeds(t *testing.T) {
	s := newSite(t, "pvnrules")
	rules := lab.ReadRules(t, "../../deploy/openstack/access-rules-provision.json")
	record := s.Restrict(t, "pvnrules", rules, "member")
	var endpoints []string
	for service, url := range record.Endpoints {
		endpoints = append(endpoints, fmt.Sprintf("%s: %q", service, url))
	}
	login := []string{
		"clouds_file: " + s.CloudsFile() + ",", "clouds_file: " + record.CloudsFile + ", endpoints: {" + strings.Join(endpoints, ", ") + "},",
	}
	path := s.file(login...)
	p := s.open(path)
	plan, _ := s.apply(p)
	for _, check := range p.Doctor(s.ctx()) {
		if !check.OK {
			t.Errorf("doctor: %+v", check)
		}
	}
	// It looks at the console and goes on looking: no guest answers here.
	soon, cancel := context.WithTimeout(s.ctx(), 5*time.Second)
	defer cancel()
	if _, err := p.Verify(soon); err != nil {
		t.Error(err)
	}
	// What somebody changed is put right, and what a killed run left is removed.
	w, err := p.c.look(s.ctx(), p.file)
	if err != nil {
		t.Fatal(err)
	}
	port := by(w.Ports, func(port Port) bool { return port.Device == item(t, plan, KindServer).ID })
	address := by(w.FloatingIPs, func(a FloatingIP) bool { return a.Port == port.ID })
	s.network(http.MethodPut, "floatingips/"+address.ID, row{"floatingip": row{"port_id": nil}})
	s.network(http.MethodPut, "ports/"+port.ID, row{"port": row{"security_groups": []string{}}})
	s.network(http.MethodPost, "ports", row{"port": row{
		"network_id": by(w.Networks, func(n Network) bool { return n.Name == "pvnrules-net" }).ID, "name": "pvnrules-lost", "description": p.file.mark().text(),
	}})
	if _, err := p.Cleanup(s.ctx(), func(string) {}); err != nil {
		t.Error(err)
	}
	s.OpenStack(t, lab.Member, "subnet", "set", "--no-dns-nameservers", "--dns-nameserver", "9.9.9.9", "pvnrules-subnet")
	s.apply(s.reopen(s.file(append([]string{"{port: 8080, balancer: 203.0.113.1}", "{port: 8081, balancer: 203.0.113.1}"}, login...)...)))
	if _, err := p.Snapshot(s.ctx(), SnapshotOptions{Keep: 1}, func(string) {}); err != nil {
		t.Error(err)
	}
	s.destroy(s.reopen(path))
	s.made("routers", "router", row{"name": "pvnrules-router"})
	_, rest, _ := strings.Cut(strings.ReplaceAll(siteFile, "PREFIX", s.prefix), "security_group:")
	adopting := s.open(s.file(append([]string{"security_group:" + rest, ""}, login...)...))
	s.apply(adopting)
	s.destroy(adopting)
	if refused := record.Refused(); len(refused) != 0 {
		t.Errorf("refused: %q", refused)
	}
	if spare := record.Spare(rules); len(spare) != 0 {
		t.Errorf("rules that nothing needs: %q", spare)
	}
}
