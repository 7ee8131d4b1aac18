package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/scalehook/scalehook/e2e/chain"
	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/e2e/report"
	"github.com/scalehook/scalehook/internal/api"
)

// world is the lab with everything of one scenario running in it.
type world struct {
	lab     *lab.Lab
	haproxy *lab.HAProxy
	server  *lab.Process
	client  *http.Client
	scr     *screen
	fault   string
	bin     string

	domainType                 string
	alertsToken, operatorToken string // files
	webhookSecret              string // file
	receiver                   *http.Server
	group                      groupConfig
	before                     lab.Snapshot
	load                       *report.Load
	stopFault                  func()
	ready                      time.Time   // since when everything runs
	reloaded                   atomic.Bool // HAProxy was reloaded in mid-drain
}

// startWorld brings everything up, in the order of the path: guests' host,
// balancer, exporter, Prometheus, Alertmanager, scalehook, load.
func startWorld(ctx context.Context, o options, bin string, log *slog.Logger, scr *screen, s scenario) (*world, error) {
	w := &world{scr: scr, fault: o.fault, bin: bin, group: s.group, stopFault: func() {}}
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"a private libvirtd, network and storage pool", func(ctx context.Context) (err error) {
			w.lab, err = lab.Start(ctx, lab.Options{Name: "demo", Dir: o.dir, Log: log, KeepDir: o.keep})
			if err == nil {
				w.client = w.lab.HTTPClient()
			}
			return err
		}},
		{"whether KVM really boots something", func(ctx context.Context) error {
			w.domainType = w.lab.DomainType(ctx)
			return nil
		}},
		{"the guest image, from Debian packages", w.importImage},
		{"the baseline VMs that exist before scalehook", func(ctx context.Context) error { return w.startBaselines(ctx, s.baselines) }},
		{"HAProxy", w.startHAProxy},
		{"scalehook-exporter", w.startExporter},
		{"Prometheus", w.startPrometheus},
		{"Alertmanager", w.startAlertmanager},
		{"a receiver of what ended", w.startReceiver},
		{"scalehook", w.startServer},
	}
	scr.title("%s: %s", s.group.name, s.title)
	for _, st := range steps {
		if err := scr.step(st.what, func() error { return st.do(ctx) }); err != nil {
			if w.lab == nil {
				return nil, fmt.Errorf("%s: %w", st.what, err)
			}
			w.dumpLogs(os.Stdout)
			return w, fmt.Errorf("%s: %w", st.what, err)
		}
	}
	w.ready = time.Now()
	return w, nil
}

func (w *world) importImage(ctx context.Context) error {
	img, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		return err
	}
	out, err := w.lab.Command(ctx, filepath.Join(w.bin, "scalehook"), "template", "import", img.Path,
		"--uri", w.lab.URI(), "--pool", lab.PoolName, "--name", templateVolume).CombinedOutput()
	if err != nil {
		return fmt.Errorf("scalehook template import: %w: %s", err, out)
	}
	// From here on everything that comes has to go again, the baselines too.
	w.before, err = w.lab.Snapshot(ctx)
	return err
}

func (w *world) startBaselines(ctx context.Context, names []string) error {
	for _, name := range names {
		if err := w.lab.CreateVM(ctx, lab.VMSpec{Name: name, Base: templateVolume}); err != nil {
			return err
		}
		if _, err := w.lab.AwaitHealthy(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) fragmentFile() string { return w.lab.Path("backend", "web.cfg") }

func (w *world) startHAProxy(ctx context.Context) (err error) {
	if err := os.MkdirAll(filepath.Dir(w.fragmentFile()), 0o755); err != nil {
		return err
	}
	for file, text := range map[string]string{
		w.fragmentFile():           chain.EmptyBackend,
		w.lab.Path("backend.tmpl"): chain.BackendTemplate,
		w.lab.Path("user-data"):    slowStart,
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
	}
	w.haproxy, err = w.lab.StartHAProxy(ctx, lab.HAProxyOptions{Config: chain.HAProxy("{{stats}}", haproxyAddr), Files: []string{w.fragmentFile()}})
	return err
}

func (w *world) startExporter(ctx context.Context) error {
	_, err := w.lab.StartProcess(ctx, lab.ProcessSpec{
		Name: "exporter", Path: filepath.Join(w.bin, "scalehook-exporter"),
		Args:  []string{"--libvirt.uri=" + w.lab.ReadOnlyURI(), "--web.listen-address=" + exporterAddr},
		Ready: w.lab.ReadyURL("http://" + exporterAddr + "/metrics"),
	})
	return err
}

func (w *world) startPrometheus(ctx context.Context) error {
	rules := w.lab.Path("scalehook.rules.yml")
	out, err := w.lab.Command(ctx, filepath.Join(w.bin, "scalehook"), "rules", "--scrape-interval", chain.ScrapeInterval).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return fmt.Errorf("scalehook rules: %w", err)
	}
	config := w.lab.Path("prometheus.yml")
	text := chain.Prometheus(rules, alertmanagerAddr, chain.Job{Name: "scalehook-exporter", Target: exporterAddr}, chain.Job{Name: "scalehook", Target: serverAddr})
	if err := errors.Join(os.WriteFile(rules, out, 0o644), os.WriteFile(config, []byte(text), 0o644)); err != nil {
		return err
	}
	_, err = w.lab.StartPrometheus(ctx, lab.PrometheusOptions{
		ConfigFile: config, Listen: prometheusAddr, Args: []string{"--rules.alert.resend-delay=1s"},
	})
	return err
}

func (w *world) startAlertmanager(ctx context.Context) error {
	w.alertsToken, w.operatorToken = w.lab.Path("alerts.token"), w.lab.Path("operator.token")
	config := w.lab.Path("alertmanager.yml")
	for file, text := range map[string]string{
		w.alertsToken: "alerts-" + w.lab.Path() + "\n", w.operatorToken: "operator-" + w.lab.Path() + "\n",
		config: chain.Alertmanager(serverAddr, w.alertsToken),
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return err
		}
	}
	_, err := w.lab.StartAlertmanager(ctx, lab.AlertmanagerOptions{ConfigFile: config, Listen: alertmanagerAddr})
	return err
}

// startReceiver takes whatever scalehook tells of activities that ended.
func (w *world) startReceiver(ctx context.Context) error {
	w.webhookSecret = w.lab.Path("webhook.secret")
	if err := os.WriteFile(w.webhookSecret, []byte("webhook-"+w.lab.Path()+"\n"), 0o600); err != nil {
		return err
	}
	l, err := w.lab.Listen(ctx, "tcp", receiverAddr)
	if err != nil {
		return err
	}
	w.receiver = &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNoContent) })}
	go func() { _ = w.receiver.Serve(l) }() // ends with close
	return nil
}

func (w *world) startServer(ctx context.Context) (err error) {
	file := w.lab.Path("scalehook.yml")
	if err := os.WriteFile(file, []byte(w.serverConfig(w.group)), 0o600); err != nil {
		return err
	}
	program := filepath.Join(w.bin, "scalehook")
	if out, err := w.lab.Command(ctx, program, "check-config", file).CombinedOutput(); err != nil {
		return fmt.Errorf("scalehook check-config: %w: %s", err, out)
	}
	w.server, err = w.lab.StartProcess(ctx, lab.ProcessSpec{
		Name: "scalehook", Path: program,
		Args: []string{
			"serve", "--config.file=" + file, "--storage.path=" + w.lab.Path("state"),
			"--web.listen-address=" + serverAddr, "--log.level=debug",
		},
		Ready: w.lab.ReadyURL("http://" + serverAddr + "/-/ready"),
	})
	return err
}

// operator sends a request with the operator's token and decodes the answer.
func operator[T any](ctx context.Context, w *world, method, path string, body any) (T, error) {
	var out api.Response[T]
	var payload io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return out.Data, fmt.Errorf("%s %s: %w", method, path, err)
		}
		payload = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+serverAddr+api.Prefix+path, payload)
	if err != nil {
		return out.Data, err
	}
	token, err := os.ReadFile(w.operatorToken)
	if err != nil {
		return out.Data, err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return out.Data, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(&out); err != nil {
		return out.Data, fmt.Errorf("%s %s: status %d: %w", method, path, resp.StatusCode, err)
	}
	if out.Status != api.StatusSuccess {
		return out.Data, fmt.Errorf("%s %s: status %d: %s", method, path, resp.StatusCode, out.Error)
	}
	return out.Data, nil
}

// view returns the group as scalehook shows it.
func (w *world) view(ctx context.Context) (api.Group, error) {
	return operator[api.Group](ctx, w, http.MethodGet, "/groups/"+w.group.name, nil)
}

// activities returns every activity of the group, oldest first.
func (w *world) activities(ctx context.Context) ([]api.Activity, error) {
	out, err := operator[[]api.Activity](ctx, w, http.MethodGet, "/groups/"+w.group.name+"/activities?limit=100", nil)
	slices.Reverse(out)
	return out, err
}

// serving lists the names of the instances in service, by age.
func serving(g api.Group) []string {
	var in []api.Instance
	for _, i := range g.Instances {
		if i.State == "in_service" {
			in = append(in, i)
		}
	}
	slices.SortFunc(in, func(a, b api.Instance) int { return a.InServiceAt.Compare(b.InServiceAt) })
	out := make([]string, len(in))
	for k, i := range in {
		out[k] = i.Name
	}
	return out
}

// await polls the group until done says so, showing what it waits for.
func (w *world) await(ctx context.Context, what string, limit time.Duration, done func(api.Group) bool) (api.Group, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	begun := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	var last api.Group
	for {
		g, err := w.view(ctx)
		if err == nil {
			last = g
			if done(g) {
				w.scr.done(what, time.Since(begun), g)
				return g, nil
			}
		}
		w.scr.waiting(what, time.Since(begun), last, w.load.Status())
		if w.fault != faultNone && w.load.Lost() > 0 {
			return last, errors.New("the fault was noticed: " + w.load.Status())
		}
		select {
		case <-ctx.Done():
			w.scr.failed(what, time.Since(begun))
			return last, fmt.Errorf("waited %s for: %s; in service: %s; newest verdict: %s; problems: %s",
				limit, what, strings.Join(serving(last), ", "), last.Verdict.Reason, strings.Join(last.Problems, "; "))
		case <-tick.C:
		}
	}
}

// stays watches for d that cond holds all the time.
func (w *world) stays(ctx context.Context, what string, d time.Duration, cond func(api.Group) error) error {
	begun := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for time.Since(begun) < d {
		g, err := w.view(ctx)
		if err == nil {
			err = cond(g)
		}
		if err != nil {
			w.scr.failed(what, time.Since(begun))
			return fmt.Errorf("%s: %w", what, err)
		}
		w.scr.waiting(what, time.Since(begun), g, w.load.Status())
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	g, err := w.view(ctx)
	w.scr.done(what, time.Since(begun), g)
	return err
}

// dumpLogs prints the end of every program's log, so that a failed run can be
// understood without its folder.
func (w *world) dumpLogs(out io.Writer) {
	if w.lab == nil {
		return
	}
	files, _ := filepath.Glob(w.lab.Path("log", "*.log"))
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil || len(raw) == 0 {
			continue
		}
		lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
		n := 15
		if strings.HasPrefix(filepath.Base(f), "scalehook") {
			n = 60
		}
		fmt.Fprintf(out, "--- %s (last lines)\n%s\n", filepath.Base(f), strings.Join(lines[max(0, len(lines)-n):], "\n"))
	}
}

// close takes the world down. Requests in flight end with it.
func (w *world) close() error {
	w.stopFault()
	w.load.Cancel()
	var err error
	if w.lab != nil {
		err = w.lab.Close()
	}
	if w.receiver != nil {
		err = errors.Join(err, w.receiver.Close())
	}
	w.load.Stop()
	return err
}
