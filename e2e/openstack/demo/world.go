package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/e2e/openstack/stage"
	"github.com/scalehook/scalehook/e2e/report"
	"github.com/scalehook/scalehook/internal/api"
)

// The seed's own names and range.
const (
	network  = "lab-net"
	cidr     = "192.168.100.0/24"
	group    = "sg-secure"
	baseline = "vm-test"
	owner    = "demo"
)

// world is the cloud with what both scenarios stand on.
type world struct {
	o     options
	scr   *screen
	cloud *lab.Cloud
	dir   string

	collector *guest.Collector
	web       *http.Server
	stages    []*stage.Stage
	load      *report.Load
}

// startWorld brings the cloud up and provisions it, as the seed's sections 2 to 6
// do by hand.
func startWorld(ctx context.Context, o options, scr *screen) (*world, error) {
	w := &world{o: o, scr: scr, dir: filepath.Join(o.state, "demo"), collector: guest.NewCollector()}
	scr.title("the cloud")
	progress := io.Discard
	if o.verbose {
		progress = scr.out
	}
	err := scr.step("Keystone, Placement, Glance, Nova, Neutron with OVN, from Debian's packages; guests of QEMU", func() (err error) {
		w.cloud, err = lab.Up(ctx, lab.Options{Virt: lab.QEMU, Private: true, State: o.state, Progress: progress})
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := os.RemoveAll(w.dir); err != nil {
		return w, err
	}
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return w, err
	}
	if err := w.listen(ctx); err != nil {
		return w, err
	}
	for name, text := range map[string]string{"provision.yml": provisionFile(w.cloud.CloudsFile(), filepath.Join(o.state, "client", "lab-key")), "user-data": userData()} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
			return w, err
		}
	}
	return w, scr.step("scalehook provision: network, router, security group, key pair, vm-test, floating IP, snapshot", func() error {
		out, err := w.scalehook(ctx, "provision", filepath.Join(w.dir, "provision.yml"))
		scr.quote(out)
		return err
	})
}

// quote prints what a program said.
func (s *screen) quote(text string) {
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintln(s.out, "          | "+line)
	}
}

// collectorPort is that of the guests' reports, at the machine's external address.
const collectorPort = guest.CollectorPort

// listen takes the guests' reports.
func (w *world) listen(ctx context.Context) error {
	s, err := stage.New(w.cloud, w.dir)
	if err != nil {
		return err
	}
	listener, err := s.Listen(ctx, net.JoinHostPort(lab.Gateway().String(), strconv.Itoa(collectorPort)))
	if err != nil {
		return fmt.Errorf("listen for the guests' reports: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /report", w.collector)
	w.web = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = w.web.Serve(listener) }()
	return nil
}

// provisionFile is the seed's. The service's port is opened to the balancer, which
// runs on this machine, and to the network itself, for the checks of the scenario
// without a balancer. "host" would not do: a plain member does not see the external
// network's subnet, and the services are at a loopback address here.
func provisionFile(clouds, key string) string {
	return fmt.Sprintf(`name: demo
owner: %s
cloud: {cloud: %s, clouds_file: %q}
network:
  name: %s
  subnet: {name: lab-net-subnet, cidr: %s, gateway: 192.168.100.1, dns: [%[8]s]}
  router: {name: lab-router, external: %[6]s}
security_group:
  name: %s
  rules:
    - {protocol: tcp, port: 22, from: %s}
    - {protocol: icmp, from: subnet}
    - {protocol: tcp, port: 80, from: subnet}
service: {port: 80, balancer: %[8]s, path: /health}
key: {name: lab-key, private_key: %[12]q}
server: {name: %[9]s, image: %[10]s, flavor: %[11]s, user_data: user-data}
floating_ip: {network: %[6]s}
snapshot: {keep: 2}
`, owner, lab.Member, clouds, network, cidr, lab.External, group, lab.Gateway(), baseline, lab.Image, lab.Flavor, key)
}

// userData tells the guests where to report to. The service listens only some
// seconds after the address is there, as real ones do, so that joining has to wait.
func userData() string {
	return fmt.Sprintf(`#!/bin/sh
echo http://%s:%d/report > /run/collector
kill "$(cat /run/guestd.pid)"
sleep 2
guestd -listen :80 -host "$(hostname)" -instance-id "$(cat /run/instance-id)" -collector-file /run/collector >/dev/console 2>&1 &
echo $! > /run/guestd.pid
`, lab.Gateway(), collectorPort)
}

// scalehook runs a subcommand to its end, inside the cloud's network.
func (w *world) scalehook(ctx context.Context, args ...string) (string, error) {
	out, err := w.cloud.Namespace().Command(ctx, filepath.Join(w.o.bin, "scalehook"), args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("scalehook %s: %w: %s", args[0], err, out)
	}
	return string(out), nil
}

// client asks the real openstack client as the project's user.
func (w *world) client(ctx context.Context, into any, args ...string) error {
	return w.clientAs(ctx, lab.Member, into, args...)
}

func (w *world) clientAs(ctx context.Context, cloud string, into any, args ...string) error {
	out, err := w.cloud.Client(ctx, cloud, args...)
	if err == nil && into != nil {
		err = json.Unmarshal(out, into)
	}
	return err
}

// stage makes a place for the programs of a scenario.
func (w *world) stage(name string) (*stage.Stage, error) {
	s, err := stage.New(w.cloud, filepath.Join(w.dir, name))
	if err != nil {
		return nil, err
	}
	s.Nice = -10 // the control chain works while guests use all CPUs
	w.stages = append(w.stages, s)
	return s, nil
}

// theirs is what the client says of servers and addresses.
type (
	server struct {
		ID, Name, Status string
		Networks         map[string][]string
	}
	floating struct {
		ID      string
		Address string `json:"Floating IP Address"`
		Fixed   string `json:"Fixed IP Address"`
	}
)

// checkCloud has the real client say which servers there are, and compares.
func (w *world) checkCloud(ctx context.Context, want ...string) ([]server, error) {
	var have []server
	if err := w.client(ctx, &have, "server", "list"); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, s := range have {
		names[s.Name] = s.Status == "ACTIVE"
	}
	for _, name := range want {
		if !names[name] {
			return have, fmt.Errorf("the openstack client says %+v, want %s ACTIVE", have, strings.Join(want, ", "))
		}
	}
	if len(have) != len(want) {
		return have, fmt.Errorf("the openstack client says %+v, want only %s", have, strings.Join(want, ", "))
	}
	return have, nil
}

// empty takes a group's instances away: with min 0 in its configuration by an order.
func (w *world) empty(ctx context.Context, s *stage.Stage, srv *stage.Server, name, config string) error {
	if err := srv.Stop(); err != nil {
		return err
	}
	if _, err := s.Write("scalehook.yml", config, 0o600); err != nil {
		return err
	}
	if err := srv.Run(ctx); err != nil {
		return err
	}
	zero := 0
	if _, err := srv.SetDesired(ctx, name, "", api.OrderRequest{Count: &zero}); err != nil {
		return err
	}
	if _, err := w.await(ctx, srv, "the group is taken down", removeLimit, stage.Settled()); err != nil {
		return err
	}
	return srv.Stop()
}

// await polls the group and shows what it waits for.
func (w *world) await(ctx context.Context, srv *stage.Server, what string, limit time.Duration, done func(api.Group) error) (api.Group, error) {
	begun := time.Now()
	g, err := srv.Await(ctx, what, limit, done, func(g api.Group) { w.scr.waiting(what, begun, g, w.load.Status()) })
	if err == nil {
		w.scr.done(what, begun, g)
	}
	return g, err
}

// tidy takes away what was provisioned, with what made it, and asks the real client
// whether anything is left.
func (w *world) tidy(ctx context.Context) error {
	w.scr.title("the end")
	err := w.scr.step("scalehook provision --destroy", func() error {
		out, err := w.scalehook(ctx, "provision", filepath.Join(w.dir, "provision.yml"), "--destroy")
		w.scr.quote(out)
		return err
	})
	if err != nil {
		return err
	}
	for _, group := range []string{"web", "bare"} {
		err := w.scr.step("scalehook snapshot --group "+group+" --remove: what was saved before removals stays until a person says so", func() error {
			out, err := w.scalehook(ctx, "snapshot", filepath.Join(w.dir, "provision.yml"), "--group", group, "--remove", "--yes")
			w.scr.quote(out)
			return err
		})
		if err != nil {
			return err
		}
	}
	return w.scr.step("nothing is left, says the openstack client", func() error { return w.nothingLeft(ctx) })
}

// nothingLeft has the real client list everything that a project can have here. What
// every project has, and what others share with it, does not count.
func (w *world) nothingLeft(ctx context.Context) error {
	var others []struct{ ID string }
	if err := w.client(ctx, &others, "network", "list", "--external"); err != nil {
		return err
	}
	for _, what := range [][]string{
		{"server", "list"},
		{"port", "list"},
		{"floating", "ip", "list"},
		{"subnet", "list"},
		{"network", "list", "--internal"},
		{"router", "list"},
		{"security", "group", "list"},
		{"image", "list", "--private"},
		{"keypair", "list"},
	} {
		var rows []map[string]any
		if err := w.client(ctx, &rows, what...); err != nil {
			return err
		}
		for _, row := range rows {
			shared := slices.ContainsFunc(others, func(n struct{ ID string }) bool { return what[0] == "subnet" && row["Network"] == n.ID })
			if shared || what[0] == "security" && row["Name"] == "default" {
				continue
			}
			return fmt.Errorf("left behind: openstack %s: %v", strings.Join(what, " "), row)
		}
	}
	return nil
}

func (w *world) logs(out io.Writer) {
	for _, s := range w.stages {
		s.Logs(out, 60)
	}
}

// close ends everything, also after an interrupt.
func (w *world) close() error {
	w.load.Stop()
	for _, s := range w.stages {
		s.Close()
	}
	if w.web != nil {
		_ = w.web.Close()
	}
	if w.o.keep {
		fmt.Fprintf(w.scr.out, "\nThe cloud stays up in %s.\n", w.o.state)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return w.scr.step("the cloud is gone, with its guests, networks and files", func() error { return w.cloud.Down(ctx, true) })
}

// clean ends what a killed or kept run has left.
func clean(ctx context.Context, state string) error {
	cloud, err := lab.Find(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return cloud.Down(ctx, true)
}
