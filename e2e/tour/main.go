// Command tour shows scalehook without root and without virtualization: the real
// server, rules, Prometheus and Alertmanager over simulated VMs, for about a
// minute, on loopback. What is simulated, it says; where Prometheus or
// Alertmanager are not installed, it says that too and shows what is left: orders
// by hand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/scalehook/scalehook/e2e/chain"
	"github.com/scalehook/scalehook/grafana"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

func main() {
	dashboards := flag.Bool("dashboards", false, "at the end ask this Prometheus everything that the Grafana dashboards ask, with scalehook-exporter on libvirt's test driver beside it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *dashboards)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "tour: %v\n", err)
		os.Exit(1)
	}
}

// limit bounds the whole tour on a busy machine; it takes about a minute.
const limit = 5 * time.Minute

func run(ctx context.Context, dashboards bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	dir, err := os.MkdirTemp("", "scalehook-tour-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	t := &tour{dir: dir, begun: time.Now(), dashboards: dashboards}
	defer func() { err = errors.Join(err, t.stopAll()) }()

	program, err := filepath.Abs(filepath.Join("bin", "scalehook"))
	if err != nil {
		return err
	}
	t.scalehook, t.exporter = program, filepath.Join(filepath.Dir(program), "scalehook-exporter")
	t.prometheus, t.alertmanager = find("prometheus"), find("prometheus-alertmanager", "alertmanager")
	fmt.Println("simulated: the VMs, their CPU and the load balancer's pool, inside scalehook itself")
	fmt.Println("real:      scalehook's server, decision, store and API, on loopback, in " + dir)
	if t.monitored() {
		fmt.Printf("real:      the rules, %s and %s\n", t.prometheus, t.alertmanager)
	} else {
		fmt.Println("missing:   Prometheus and Alertmanager are not both installed (Debian: prometheus, prometheus-alertmanager),")
		fmt.Println("           so no alert will come, and the tour gives orders by hand instead")
	}
	if err := t.start(ctx); err != nil {
		return err
	}
	if t.monitored() {
		err = t.byAlerts(ctx)
	} else {
		err = t.byHand(ctx)
	}
	if err != nil {
		return err
	}
	if err := t.table(ctx); err != nil || !dashboards {
		return err
	}
	return t.askDashboards(ctx)
}

type tour struct {
	dir                                 string
	begun                               time.Time
	scalehook, prometheus, alertmanager string // programs
	exporter                            string // program
	server, prom, alerts, libvirt       string // addresses
	hook                                string // URL of the receiver of ended activities
	receiver                            *http.Server
	dashboards                          bool
	client                              *client.Client
	running                             []*exec.Cmd
}

func (t *tour) monitored() bool { return t.prometheus != "" && t.alertmanager != "" }

func find(names ...string) string {
	for _, n := range names {
		if p, err := exec.LookPath(n); err == nil {
			return p
		}
	}
	return ""
}

// freeAddress finds a loopback port. Another program could take it before ours
// does; then the start fails and says so.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (t *tour) start(ctx context.Context) (err error) {
	for _, a := range []*string{&t.server, &t.prom, &t.alerts, &t.libvirt} {
		if *a, err = freeAddress(ctx); err != nil {
			return err
		}
	}
	if err := t.receive(ctx); err != nil {
		return err
	}
	files := map[string]string{"webhook.secret": "tour-webhook-not-secret\n", "operator.token": "tour-operator-not-secret\n", "alerts.token": "tour-alerts-not-secret\n", "scalehook.yml": t.serverConfig()}
	if t.monitored() {
		rules, err := exec.CommandContext(ctx, t.scalehook, "rules", "--scrape-interval", "1s").Output()
		if err != nil {
			return fmt.Errorf("scalehook rules: %w", err)
		}
		files["rules.yml"], files["prometheus.yml"], files["alertmanager.yml"] = string(rules), t.prometheusConfig(), chain.Alertmanager(t.server, t.path("alerts.token"))
	}
	for name, text := range files {
		if err := os.WriteFile(t.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if t.client, err = client.New(client.Options{URL: "http://" + t.server, TokenFile: t.path("operator.token")}); err != nil {
		return err
	}
	if t.dashboards {
		// It shows no VM of the tour, only what an exporter tells of itself.
		if err := t.program(ctx, "http://"+t.libvirt+"/metrics", t.exporter, "--libvirt.uri=test:///default", "--web.listen-address="+t.libvirt); err != nil {
			return err
		}
	}
	if t.monitored() {
		if err := t.program(ctx, "http://"+t.alerts+"/-/ready", t.alertmanager, "--config.file="+t.path("alertmanager.yml"), "--storage.path="+t.path("am"),
			"--web.listen-address="+t.alerts, "--cluster.listen-address="); err != nil {
			return err
		}
		if err := t.program(ctx, "http://"+t.prom+"/-/ready", t.prometheus, "--config.file="+t.path("prometheus.yml"), "--storage.tsdb.path="+t.path("prom"),
			"--web.listen-address="+t.prom, "--rules.alert.resend-delay=1s"); err != nil {
			return err
		}
	}
	return t.program(ctx, "http://"+t.server+"/-/ready", t.scalehook, "serve", "--config.file="+t.path("scalehook.yml"),
		"--storage.path="+t.path("state"), "--web.listen-address="+t.server, "--log.level=warn")
}

func (t *tour) path(name string) string { return filepath.Join(t.dir, name) }

// program starts one program and waits until it answers at ready.
func (t *tour) program(ctx context.Context, ready, path string, args ...string) error {
	name := filepath.Base(path)
	log, err := os.Create(t.path(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, args...) // ended in order by stopAll, not by the context
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	t.running = append(t.running, cmd)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, ready, nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			out, _ := os.ReadFile(t.path(name + ".log"))
			return fmt.Errorf("%s is not ready: %w: %s", name, context.Cause(ctx), tail(string(out)))
		case <-tick.C:
			if cmd.ProcessState == nil && syscall.Kill(cmd.Process.Pid, 0) == nil && !zombie(cmd.Process.Pid) {
				continue
			}
			out, _ := os.ReadFile(t.path(name + ".log"))
			return fmt.Errorf("%s ended: %s", name, tail(string(out)))
		}
	}
}

// zombie reports whether a child has ended and was not waited for.
func zombie(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(raw), ") Z ")
}

func tail(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// stopGrace is how long a program has to end by itself.
const stopGrace = 5 * time.Second

func (t *tour) stopAll() error {
	for _, cmd := range slices.Backward(t.running) {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(stopGrace, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // its exit code says nothing after a signal
		timer.Stop()
	}
	if t.receiver != nil {
		return t.receiver.Close()
	}
	return nil
}

// receive takes whatever scalehook tells of activities that ended.
func (t *tour) receive(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	t.hook = "http://" + l.Addr().String()
	t.receiver = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })}
	go func() { _ = t.receiver.Serve(l) }() // ends with Close
	return nil
}

// phase waits until the names in service are as wanted, showing what it sees.
func (t *tour) phase(ctx context.Context, what string, want ...string) error {
	fmt.Printf("%5.1f s  %s\n", time.Since(t.begun).Seconds(), what)
	shown := ""
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		g, err := t.client.Group(ctx, "web")
		if err == nil {
			if s := show(g); s != shown {
				fmt.Printf("%5.1f s    %s\n", time.Since(t.begun).Seconds(), s)
				shown = s
			}
			if slices.Equal(serving(g), want) && len(g.Activities) == 0 {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("never came: %s; newest verdict: %s", what, g.Verdict.Reason)
		case <-tick.C:
		}
	}
}

func serving(g api.Group) []string {
	var out []string
	for _, i := range g.Instances {
		if i.State == "in_service" {
			out = append(out, i.Name)
		}
	}
	slices.Sort(out)
	return out
}

// show is the group in a line; the CPU is rounded, so that a line means a change.
func show(g api.Group) string {
	var out []string
	for _, i := range g.Instances {
		s := i.Name + " " + i.State
		if i.Reading != nil && i.State == "in_service" {
			s += fmt.Sprintf(" CPU %d0 %%", int(i.Reading.Utilization*10+0.5))
		}
		out = append(out, s)
	}
	slices.Sort(out)
	for _, c := range g.Conditions {
		if c.Standing {
			out = append(out, "("+c.Signal+" stands)")
		}
	}
	return strings.Join(out, ", ")
}

func (t *tour) byAlerts(ctx context.Context) error {
	for _, p := range []struct {
		what string
		want []string
	}{
		{"the group is filled up to min 1, with no alert", []string{"web-1"}},
		{"load comes: Prometheus sees it, Alertmanager posts, scalehook launches", []string{"web-1", "web-2"}},
		{"the load is for three: one more, on new evidence", []string{"web-1", "web-2", "web-3"}},
		{"the load ends: the newest is drained and removed", []string{"web-1", "web-2"}},
		{"and one more, on new evidence", []string{"web-1"}},
	} {
		if err := t.phase(ctx, p.what, p.want...); err != nil {
			return err
		}
	}
	return nil
}

func (t *tour) byHand(ctx context.Context) error {
	if err := t.phase(ctx, "the group is filled up to min 1, with no alert", "web-1"); err != nil {
		return err
	}
	if _, err := t.client.SetDesired(ctx, "web", "", api.OrderRequest{Count: new(3)}); err != nil {
		return err
	}
	if err := t.phase(ctx, "order: three instances", "web-1", "web-2", "web-3"); err != nil {
		return err
	}
	if _, err := t.client.SetDesired(ctx, "web", "", api.OrderRequest{Count: new(1)}); err != nil {
		return err
	}
	return t.phase(ctx, "order: one instance; the others are drained one after the other", "web-1")
}

func (t *tour) table(ctx context.Context) error {
	all, err := t.client.Activities(ctx, "web", "", 20)
	if err != nil {
		return err
	}
	slices.Reverse(all)
	fmt.Println("\nwhat scalehook did, and why:")
	for _, a := range all {
		why := a.Cause.Kind
		if a.Cause.Signal != "" {
			why += " " + a.Cause.Signal + ", confirmed by " + a.Cause.Source + " with evidence of " + a.Cause.EvidenceAt.Local().Format("15:04:05")
		}
		fmt.Printf("  %-10s %-6s %5.1f s  %s: %s\n", a.Kind, a.Status, a.Ended.Sub(a.Created).Seconds(), why, a.Outcome)
	}
	fmt.Printf("\ndone in %.0f s. On real VMs: make demo (root or sudo)\n", time.Since(t.begun).Seconds())
	return nil
}

// askDashboards asks what the Grafana dashboards ask, about the time of the tour.
func (t *tour) askDashboards(ctx context.Context) error {
	if !t.monitored() {
		return errors.New("--dashboards needs Prometheus and Alertmanager")
	}
	check := grafana.Check{
		URL: "http://" + t.prom, Choice: grafana.Choice{Group: "web", Scrape: time.Second, Begin: t.begun, End: time.Now()},
		Except: grafana.OnlyInTrouble(),
	}
	answered, err := check.Run(ctx)
	fmt.Printf("%d queries of the Grafana dashboards have data in this Prometheus\n", answered)
	return err
}
