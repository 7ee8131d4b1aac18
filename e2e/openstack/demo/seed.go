package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/e2e/openstack/stage"
	"github.com/scalehook/scalehook/e2e/report"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/doctor"
)

// Time limits of a phase. They are wide, since guests are emulated and the machine
// may be busy; the report has the real times.
const (
	launchLimit = 6 * time.Minute
	removeLimit = 5 * time.Minute
)

// clone is what the seed calls the second server.
const clone = "vm-test-clone"

// common is the part of scalehook's configuration that both scenarios share.
func (w *world) common(tokens stage.Tokens) string {
	return tokens.Yaml() + fmt.Sprintf(`owner: %s
providers:
  microstack: {openstack: {cloud: %s, clouds_file: %q}}
`, owner, lab.Member, w.cloud.CloudsFile())
}

// template is what the group's servers are made of, without its last lines.
func (w *world) template() string {
	return fmt.Sprintf(`    template:
      image: %s
      flavor: %s
      networks: [%s]
      security_groups: [%s]
      key_pair: lab-key
      config_drive: true
      user_data: %q
`, lab.Image, lab.Flavor, network, group, filepath.Join(w.dir, "user-data"))
}

// seed is the seed's scenario: vm-test is adopted, high adds vm-test-clone and both
// serve, low hands the baseline over to its clone.
func (w *world) seed(ctx context.Context, res *report.Scenario) error {
	var addresses []floating
	if err := w.client(ctx, &addresses, "floating", "ip", "list"); err != nil {
		return err
	}
	if len(addresses) != 1 {
		return fmt.Errorf("the openstack client says %+v, want one floating IP", addresses)
	}
	if _, err := w.checkCloud(ctx, baseline); err != nil {
		return err
	}
	s, err := w.stage("seed")
	if err != nil {
		return err
	}
	err = w.scr.step("vm-test answers at "+addresses[0].Address, func() error {
		return w.answers(ctx, s, addresses[0].Address)
	})
	if err != nil {
		return err
	}
	srv, haproxy, config, err := w.startSeed(ctx, s)
	if err != nil {
		return err
	}
	if err := w.phase(ctx, res, srv, "the baseline is adopted and serves", launchLimit, stage.Settled(baseline), report.Expect{Kind: "adopt", Cause: "config"}); err != nil {
		return err
	}
	if w.load, err = report.StartLoad(ctx, loadgen.Options{Target: haproxy.Address, Dial: w.cloud.Namespace().DialContext, WorkUnits: workUnits}); err != nil {
		return err
	}
	w.load.SetLoad(busyClients)
	if err := w.phase(ctx, res, srv, "high: the clone joins, both serve", launchLimit, stage.Settled(baseline, clone), report.Expect{Kind: "scale_out", Cause: "alert", Signal: "high"}); err != nil {
		return err
	}
	if err := w.bothServe(ctx, res, srv, haproxy); err != nil {
		return err
	}
	w.load.SetLoad(0)
	if err := w.phase(ctx, res, srv, "low: the baseline is handed over to its clone", removeLimit, stage.Settled(clone), report.Expect{Kind: "handover", Cause: "alert", Signal: "low"}); err != nil {
		return err
	}
	g, err := srv.View(ctx)
	if err != nil {
		return err
	}
	if len(g.Instances) != 1 || g.Primary != g.Instances[0].ID || g.Instances[0].Name != clone {
		return fmt.Errorf("%s should be primary: %s", clone, stage.Short(g))
	}
	if err := w.afterSeed(ctx, res, addresses[0].Address); err != nil {
		return err
	}
	if err := w.askDoctor(ctx, res, srv); err != nil {
		return err
	}
	all, err := srv.All(ctx)
	if err != nil {
		return err
	}
	w.judge(ctx, res, all)
	res.Ended(all, true)
	return w.empty(ctx, s, srv, "web", config(0))
}

// busyClients keep two guests of one vCPU busy in a closed loop, and workUnits make
// a request cost the guest so much CPU under TCG that it is busy, however long the way.
const (
	busyClients = 6
	workUnits   = 60000
)

// judge holds every request against the guests' own books, and says whether the lab's
// network was to blame.
func (w *world) judge(ctx context.Context, res *report.Scenario, all []api.Activity) {
	res.Judge(ctx, w.load, w.collector, all)
	w.load = nil
	if crashes, err := w.cloud.SwitchCrashes(); err != nil || len(crashes) > 0 {
		res.Note("the lab's network: %s %v", strings.Join(crashes, "; "), err)
	}
}

// startSeed starts what the path of a signal is made of, and scalehook.
func (w *world) startSeed(ctx context.Context, s *stage.Stage) (srv *stage.Server, haproxy *stage.HAProxy, config func(int) string, err error) {
	tokens, err := s.Tokens()
	if err != nil {
		return nil, nil, nil, err
	}
	var address, exporter string
	var m stage.Monitoring
	for _, st := range []struct {
		what string
		do   func() error
	}{
		{"HAProxy on the host", func() (err error) { haproxy, err = s.StartHAProxy(ctx); return err }},
		{"scalehook-exporter beside Nova's libvirt", func() (err error) {
			exporter, err = s.StartExporter(ctx, filepath.Join(w.o.bin, "scalehook-exporter"))
			return err
		}},
		{"Prometheus with the rules, Alertmanager", func() (err error) {
			if address, err = stage.FreeAddress(ctx); err == nil {
				m, err = s.StartMonitoring(ctx, filepath.Join(w.o.bin, "scalehook"), address, tokens.Alerts, exporter)
			}
			return err
		}},
		{"scalehook", func() (err error) {
			config = func(least int) string { return m.Yaml() + w.common(tokens) + w.seedGroup(haproxy, least) }
			srv, err = s.StartServer(ctx, filepath.Join(w.o.bin, "scalehook"), address, "web", config(1))
			return err
		}},
	} {
		if err := w.scr.step(st.what, st.do); err != nil {
			return nil, nil, nil, err
		}
	}
	return srv, haproxy, config, nil
}

func (w *world) seedGroup(haproxy *stage.HAProxy, least int) string {
	return fmt.Sprintf(`balancers:
  host: {haproxy: {sockets: [{address: %q, master_socket: %q}]}}
groups:
  web:
    mode: full
    min: %d
    max: 2
    high: 60%%
    low: 20%%
    cooldown: 3s
    warm_up: 3s
    lease_ttl: 1m
    launch_deadline: 5m
    drain_deadline: 30s
    shutdown_deadline: 30s
    victim: oldest
    on_remove: delete
    snapshot: true
    snapshots_keep: 2
    name: %s
    adopt: [%s]
    balancer: host
    pool:
      backend: web
      check: {inter: 500ms, rise: 1, fall: 2}
      fragment: {file: %q, template: %q}
    port: 80
%s      member_address: floating
      floating_network: %s
`, haproxy.Socket, haproxy.Master, least, clone, baseline, haproxy.Fragment, haproxy.Template, w.template(), lab.External)
}

// answers waits until the guest's service answers at an address.
func (w *world) answers(ctx context.Context, s *stage.Stage, address string) error {
	ctx, cancel := context.WithTimeout(ctx, launchLimit)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(address, "80")+"/health", http.NoBody)
		if err != nil {
			return err
		}
		response, err := s.HTTP().Do(request)
		if err == nil {
			return response.Body.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not in %s: %w", launchLimit, err)
		case <-time.After(time.Second):
		}
	}
}

// bothServe watches for a while that both answer, and that HAProxy reaches each at
// a floating IP of its own.
func (w *world) bothServe(ctx context.Context, res *report.Scenario, srv *stage.Server, haproxy *stage.HAProxy) error {
	begun := time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(8 * time.Second):
	}
	share := map[string]int{}
	for _, r := range w.load.Records() {
		if !r.Lost() && !r.Start.Before(begun) {
			share[r.Server]++
		}
	}
	taking, err := haproxy.Taking(ctx)
	if err != nil {
		return err
	}
	var addresses []floating
	if err := w.client(ctx, &addresses, "floating", "ip", "list"); err != nil {
		return err
	}
	var want []string
	for _, a := range addresses {
		want = append(want, a.Address+":80")
	}
	slices.Sort(want)
	if !slices.Equal(taking, want) || len(want) != 2 {
		return fmt.Errorf("HAProxy uses %v, and the openstack client knows the floating IPs %v", taking, want)
	}
	if _, err := w.checkCloud(ctx, baseline, clone); err != nil {
		return err
	}
	if share[baseline] == 0 || share[clone] == 0 {
		return fmt.Errorf("both serve: answered in 8 s: %s", report.Split(share))
	}
	g, err := srv.View(ctx)
	if err != nil {
		return err
	}
	w.scr.done("both serve", begun, g)
	res.Note("both serve at %s: answered in 8 s: %s", strings.Join(taking, " and "), report.Split(share))
	return nil
}

// afterSeed has the real client say what became of the baseline: its server is gone,
// its floating IP, which provisioning made, leads nowhere, and there is one more, the
// clone's.
func (w *world) afterSeed(ctx context.Context, res *report.Scenario, provisioned string) error {
	servers, err := w.checkCloud(ctx, clone)
	if err != nil {
		return err
	}
	var addresses []floating
	if err := w.client(ctx, &addresses, "floating", "ip", "list"); err != nil {
		return err
	}
	if err := onlyTheClones(addresses, provisioned, servers[0].Networks[network]); err != nil {
		return err
	}
	var images []struct{ Name, Status string }
	if err := w.client(ctx, &images, "image", "list", "--private"); err != nil {
		return err
	}
	var snapshots []string
	for _, i := range images {
		if i.Status == "active" {
			snapshots = append(snapshots, i.Name)
		}
	}
	if len(snapshots) < 2 {
		return errors.New("no snapshot of the baseline was made before it was removed")
	}
	res.Note("after the handover the openstack client sees %s alone, the snapshots %s and the floating IPs %+v", clone, strings.Join(snapshots, ", "), addresses)
	return nil
}

// doctorLimit is how long doctor may find something that is only not so yet: a server
// that came into service just now has no reading.
const doctorLimit = time.Minute

// askDoctor runs "scalehook doctor" over the whole path while all of it runs: it has to
// find nothing wrong.
func (w *world) askDoctor(ctx context.Context, res *report.Scenario, srv *stage.Server) error {
	begun := time.Now()
	for {
		checks, err := srv.Doctor(ctx)
		if err != nil {
			return err
		}
		if failed := doctor.Failed(checks); !failed || time.Since(begun) > doctorLimit {
			res.Doctor(checks)
			if failed {
				return fmt.Errorf("scalehook doctor: %s", doctor.Summary(checks))
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

// onlyTheClones reports floating IPs that are not as they should be after the handover:
// the provisioned one leads nowhere, and one other to the clone, whose addresses these
// are.
func onlyTheClones(addresses []floating, provisioned string, clones []string) error {
	free, leading := 0, 0
	for _, a := range addresses {
		switch {
		case a.Address == provisioned && a.Fixed == "":
			free++
		case a.Address != provisioned && a.Fixed != "" && slices.Contains(clones, a.Fixed) && slices.Contains(clones, a.Address):
			leading++
		}
	}
	if free != 1 || leading != 1 || len(addresses) != 2 {
		return fmt.Errorf("the openstack client says %+v, want %s, which leads nowhere, and one that leads to %s at %v", addresses, provisioned, clone, clones)
	}
	return nil
}

// phase waits for a condition and checks that it came by exactly the activity that
// it should come by.
func (w *world) phase(ctx context.Context, res *report.Scenario, srv *stage.Server, name string, limit time.Duration, done func(api.Group) error, want report.Expect) error {
	begun := time.Now()
	if _, err := w.await(ctx, srv, name, limit, done); err != nil {
		return err
	}
	all, err := srv.All(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return res.Came(name, begun, all, want)
}
