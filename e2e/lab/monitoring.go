package lab

import (
	"context"
	"fmt"
	"os"

	"github.com/scalehook/scalehook/e2e/guest"
)

// PrometheusOptions describe a Prometheus of the lab.
type PrometheusOptions struct {
	Name       string // of its folder and log. Empty: "prometheus"
	ConfigFile string // required
	Listen     string // numeric address inside the lab. Empty: 127.0.0.1:9090
	Args       []string
}

// StartPrometheus starts Prometheus with a store of its own and waits until it
// is ready. It can be reloaded with SIGHUP or POST /-/reload.
func (l *Lab) StartPrometheus(ctx context.Context, opts PrometheusOptions) (*Process, error) {
	if opts.Name == "" {
		opts.Name = "prometheus"
	}
	if opts.Listen == "" {
		opts.Listen = "127.0.0.1:9090"
	}
	dir := l.Path(opts.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", opts.Name, err)
	}
	return l.StartProcess(ctx, ProcessSpec{
		Name: opts.Name, Path: "prometheus",
		Args: append([]string{
			"--config.file=" + opts.ConfigFile, "--storage.tsdb.path=" + dir, "--web.listen-address=" + opts.Listen, "--web.enable-lifecycle",
		}, opts.Args...),
		Ready: l.ReadyURL("http://" + opts.Listen + "/-/ready"),
	})
}

// AlertmanagerOptions describe an Alertmanager of the lab.
type AlertmanagerOptions struct {
	Name       string // of its folder and log. Empty: "alertmanager"
	ConfigFile string // required
	Listen     string // numeric address inside the lab. Empty: 127.0.0.1:9093
	Args       []string
}

// StartAlertmanager starts Alertmanager, alone, and waits until it is ready.
func (l *Lab) StartAlertmanager(ctx context.Context, opts AlertmanagerOptions) (*Process, error) {
	if opts.Name == "" {
		opts.Name = "alertmanager"
	}
	if opts.Listen == "" {
		opts.Listen = "127.0.0.1:9093"
	}
	dir := l.Path(opts.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", opts.Name, err)
	}
	// Debian's name first; upstream's is also another program's.
	program := "prometheus-alertmanager"
	if _, err := guest.FindProgram(program); err != nil {
		program = "alertmanager"
	}
	return l.StartProcess(ctx, ProcessSpec{
		Name: opts.Name, Path: program,
		Args: append([]string{
			"--config.file=" + opts.ConfigFile, "--storage.path=" + dir, "--web.listen-address=" + opts.Listen, "--cluster.listen-address=",
		}, opts.Args...),
		Ready: l.ReadyURL("http://" + opts.Listen + "/-/ready"),
	})
}

// ReadyURL is a ProcessSpec.Ready that asks a URL inside the lab for a 200.
func (l *Lab) ReadyURL(url string) func(context.Context) error {
	return func(ctx context.Context) error { return l.get(ctx, l.HTTPClient(), url) }
}
