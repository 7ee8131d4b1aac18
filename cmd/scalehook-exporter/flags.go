package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"
	"github.com/spf13/pflag"

	"github.com/scalehook/scalehook/exporter"
)

// defaultAddress is where the exporter listens unless told otherwise.
const defaultAddress = ":10071"

// options are what the command line said.
type options struct {
	exporter      exporter.Config
	web           web.FlagConfig
	telemetryPath string
	ownMetrics    bool
	maxRequests   int
	log           promslog.Config
	done          bool // the command line was answered, there is nothing to serve
}

// parse reads the command line. Help and version go to stdout.
func parse(args []string, stdout io.Writer) (*options, error) {
	o := &options{
		exporter: exporter.DefaultConfig(),
		web: web.FlagConfig{
			WebListenAddresses: new([]string), WebSystemdSocket: new(bool), WebConfigFile: new(string),
		},
		log: promslog.Config{Level: promslog.NewLevel(), Format: promslog.NewFormat()},
	}
	showVersion, helpMan, noOwn := false, false, false
	f := pflag.NewFlagSet("scalehook-exporter", pflag.ContinueOnError)
	f.SetOutput(stdout)
	f.SortFlags = false
	f.Usage = func() {
		fmt.Fprintf(stdout, "usage: scalehook-exporter [flags]\n\nServes Prometheus metrics of the domains of one libvirt daemon. It only reads.\n\nFlags:\n%s",
			f.FlagUsages())
	}
	f.StringArrayVar(o.web.WebListenAddresses, "web.listen-address", []string{defaultAddress}, "address to listen on; can be given more than once")
	f.StringVar(o.web.WebConfigFile, "web.config.file", "", "file that switches on TLS or authentication, see https://prometheus.io/docs/prometheus/latest/configuration/https/")
	f.BoolVar(o.web.WebSystemdSocket, "web.systemd-socket", false, "listen on the sockets that systemd passes instead")
	f.StringVar(&o.telemetryPath, "web.telemetry-path", "/metrics", "path of the metrics")
	f.BoolVar(&noOwn, "web.disable-exporter-metrics", false, "leave out the metrics of the exporter itself (go_*, process_*, build info)")
	f.IntVar(&o.maxRequests, "web.max-requests", 40, "scrapes that may be under way at once; 0 is no limit")

	f.StringVar(&o.exporter.URI, "libvirt.uri", o.exporter.URI, "libvirt connection; the default also finds the daemons of the MicroStack and OpenStack hypervisor snaps when the host has none of its own")
	f.DurationVar(&o.exporter.HangTimeout, "libvirt.hang-timeout", o.exporter.HangTimeout, "age at which a call to libvirt counts as hung and the next scrape opens a new connection")
	f.DurationVar(&o.exporter.KeepAliveInterval, "libvirt.keepalive-interval", o.exporter.KeepAliveInterval, "how often a remote daemon is asked whether it is alive, in whole seconds; not used on a UNIX socket")
	f.UintVar(&o.exporter.KeepAliveCount, "libvirt.keepalive-count", o.exporter.KeepAliveCount, "unanswered keep-alives in a row after which a remote daemon counts as gone")

	f.DurationVar(&o.exporter.Timeout, "scrape.timeout", o.exporter.Timeout, "longest time a scrape may take; a shorter one that Prometheus sends along wins")
	f.DurationVar(&o.exporter.TimeoutOffset, "scrape.timeout-offset", o.exporter.TimeoutOffset, "time taken off the timeout that Prometheus sends along")

	on := &o.exporter.Collectors
	f.BoolVar(&on.Info, "collector.info", on.Info, "libvirt_domain_info: type, architecture and machine from the definition (one call per domain and 10 to 20 minutes)")
	f.BoolVar(&on.CPU, "collector.cpu", on.CPU, "user and system share of the CPU time (bulk statistics)")
	f.BoolVar(&on.VCPU, "collector.vcpu", on.VCPU, "time, wait and delay per virtual CPU (bulk statistics)")
	f.BoolVar(&on.Balloon, "collector.balloon", on.Balloon, "memory as the guest and the host see it (bulk statistics)")
	f.BoolVar(&on.Block, "collector.block", on.Block, "traffic and sizes per block device (bulk statistics)")
	f.BoolVar(&on.Interface, "collector.interface", on.Interface, "traffic per network interface (bulk statistics)")

	f.Var(logValue{o.log.Level}, "log.level", "one of debug, info, warn, error")
	f.Var(logValue{o.log.Format}, "log.format", "one of logfmt (the default), json")
	f.BoolVar(&showVersion, "version", false, "print the version and end")
	f.BoolVar(&helpMan, "help-man", false, "print the manual page and end")

	if err := f.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return nil, err
		}
		return nil, fmt.Errorf("read the command line: %w (see --help)", err)
	}
	if helpMan {
		o.done = true
		return o, printManual(stdout, f, os.Getenv)
	}
	if showVersion {
		fmt.Fprintln(stdout, version.Print("scalehook-exporter"))
		o.done = true
		return o, nil
	}
	o.ownMetrics = !noOwn
	return o, o.validate(f.Args())
}

func (o *options) validate(rest []string) error {
	var errs []error
	if len(rest) > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q: everything is a flag (see --help)", rest[0]))
	}
	if !strings.HasPrefix(o.telemetryPath, "/") || o.telemetryPath == "/" || strings.HasPrefix(o.telemetryPath, "/-/") {
		errs = append(errs, fmt.Errorf("--web.telemetry-path is %q; it must start with / and be neither / nor below /-/", o.telemetryPath))
	}
	if o.maxRequests < 0 {
		errs = append(errs, fmt.Errorf("--web.max-requests is %d; it must be 0 or more", o.maxRequests))
	}
	if err := o.exporter.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// setting is what the levels and formats of promslog have in common.
type setting interface {
	String() string
	Set(value string) error
}

// logValue makes a setting a flag.
type logValue struct{ setting }

// Type is the word for the value in the help text.
func (logValue) Type() string { return "string" }
