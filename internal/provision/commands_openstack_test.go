//go:build openstack

package provision

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/tags"
)

// TestHostIsFoundAtTheRealCloud plans with "host" in a rule and for the balancer, with
// the credentials of an administrator, who sees the external network's subnet.
func TestHostIsFoundAtTheRealCloud(t *testing.T) {
	s := newSite(t, "pvnhost")
	path := s.file("{cloud: lab,", "{cloud: lab-admin,", "port: 22, from: 203.0.113.1}", "port: 22, from: host}", "balancer: 203.0.113.1}", "balancer: host}", "snapshot: {keep: 2}\n", "")
	plan, err := s.reopen(path).Plan(s.ctx())
	if err != nil {
		t.Fatal(err)
	}
	var here []string
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			here = append(here, p.Addr().String())
		}
	}
	details := item(t, plan, KindGroup).Details
	for _, port := range []string{"22", "8080"} {
		found := slices.ContainsFunc(here, func(address string) bool {
			return slices.ContainsFunc(details, func(d string) bool { return strings.Contains(d, "open tcp port "+port+" from "+address+"/32") })
		})
		if !found {
			t.Errorf("port %s: the plan says %q, want one of this machine's addresses %q", port, details, here)
		}
	}
}

// TestSnapshotsOfAGroupAtTheRealCloud makes snapshots of a group's servers, keeps the
// newest, and removes the last once the group has no servers. The client says what
// there is.
func TestSnapshotsOfAGroupAtTheRealCloud(t *testing.T) {
	s := newSite(t, "pvnsnap")
	path := s.file("snapshot: {keep: 2}\n", "")
	p := s.open(path)
	plan, _ := s.apply(p)
	server := item(t, plan, KindServer).ID
	web := SnapshotOptions{Group: "web"}
	quiet := func(string) {}
	if _, err := p.Snapshot(s.ctx(), web, quiet); err == nil || !strings.Contains(err.Error(), `group with servers "web" does not exist`) {
		t.Errorf("of a group that is not there: %v", err)
	}
	made := p.file.mark().tags()
	t.Cleanup(func() { s.retag(server, made) })
	s.retag(server, append(made, "scalehook-group=web", "scalehook-id=7c9d9a52-5d0f-4a7e-9b7e-6f1c55d0a002"))
	for range 2 {
		done, err := p.Snapshot(s.ctx(), SnapshotOptions{Group: "web", Keep: 1}, quiet)
		if err != nil || len(done.Made) != 1 || done.Made[0].Server != server {
			t.Fatalf("snapshot: %+v %v", done, err)
		}
	}
	images := s.found("image")
	if len(images) != 1 {
		t.Fatalf("with keep 1 the images are %q", images)
	}
	if plan, err := p.RemovalPlan(s.ctx(), web); err == nil || !strings.Contains(err.Error(), "the scaling group web has servers (pvnsnap-vm)") {
		t.Errorf("while the group has a server: %+v %v", plan.Items, err)
	}
	s.retag(server, made)
	plan, err := p.RemovalPlan(s.ctx(), web)
	if err != nil || len(plan.Items) != 1 || plan.Items[0].Action != Remove || plan.Items[0].Name != images[0] {
		t.Errorf("to be removed: %+v %v", plan.Items, err)
	}
	if got := s.found("image"); len(got) != 1 {
		t.Errorf("the plan changed something: %q", got)
	}
	for _, want := range []int{1, 0} {
		var steps []string
		if _, err := p.RemoveSnapshots(s.ctx(), web, func(step string) { steps = append(steps, step) }); err != nil || len(steps) != want {
			t.Errorf("removed: %q %v, want %d steps", steps, err, want)
		}
	}
	if got := s.found("image"); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

// retag replaces a server's tags, as a scaling group's driver does.
func (s *site) retag(server string, all []string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), within)
	defer cancel()
	api, err := s.reopen(s.file()).c.cloud.Compute(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := tags.ReplaceAll(ctx, api, server, tags.ReplaceAllOpts{Tags: all}).Err; err != nil {
		s.t.Fatal(err)
	}
}
