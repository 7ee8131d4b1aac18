// Command demo shows the seed's scenario on a real OpenStack with real guests, end
// to end: a cloud of its own in namespaces of its own (package lab), provisioned,
// scaled out and handed over by scalehook under load that never stops, and taken
// down again without a trace. See docs/demo-openstack.md.
//
// It runs two scenarios: the seed's, with HAProxy and a floating IP per member,
// where no request may be lost; and a bare floating IP, whose handover is measured.
// The exit code is 0 only if everything came as it should and nothing was left.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/scalehook/scalehook/e2e/report"
)

type options struct {
	scenario string
	report   string
	bin      string
	state    string
	keep     bool
	clean    bool
	verbose  bool
	handover int
	moves    int
}

func main() {
	var o options
	flag.StringVar(&o.scenario, "scenario", "all", "seed, bare or all")
	flag.StringVar(&o.report, "report", "demo-openstack-report.json", "where the report is written")
	flag.StringVar(&o.bin, "bin", "bin", "folder of the built programs")
	flag.StringVar(&o.state, "state", "/var/lib/scalehook-openstack-demo", "folder of the cloud, which is removed at the end")
	flag.BoolVar(&o.keep, "keep", false, "leave the cloud up, with all logs, for another run; --clean ends it")
	flag.BoolVar(&o.clean, "clean", false, "only remove what a killed or kept run has left")
	flag.BoolVar(&o.verbose, "verbose", false, "show the cloud's own steps")
	flag.IntVar(&o.handover, "handovers", 3, "how often the bare floating IP is handed over")
	flag.IntVar(&o.moves, "moves", 100, "how often it is moved between two guests besides, for the distribution")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

// runLimit bounds a whole run.
const runLimit = 45 * time.Minute

func run(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("root is needed for the cloud's namespaces")
	}
	if o.scenario != "all" && o.scenario != "seed" && o.scenario != "bare" {
		return fmt.Errorf("--scenario=%s: want seed, bare or all", o.scenario)
	}
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return fmt.Errorf("folder of the programs: %w", err)
	}
	if o.clean {
		return clean(ctx, o.state)
	}
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	rep := report.New("")
	rep.Accelerator = "qemu"
	scr := &screen{out: os.Stdout}
	defer func() {
		rep.Finish(err)
		werr := rep.Write(o.report)
		rep.Print(os.Stdout, "no request lost behind the balancer, nothing left behind")
		err = errors.Join(err, werr)
	}()
	w, err := startWorld(ctx, o, scr)
	if w != nil {
		defer func() { //nolint:contextcheck // tidies up after an interrupt too, with time limits of its own
			if cerr := w.close(); cerr != nil {
				err = errors.Join(err, fmt.Errorf("take the cloud down: %w", cerr))
			}
		}()
	}
	if err != nil {
		return err
	}
	if err := w.verify(ctx); err != nil {
		w.logs(os.Stdout)
		return fmt.Errorf("connectivity: %w", err)
	}
	for _, s := range []struct {
		name, title string
		run         func(*world, context.Context, *report.Scenario) error
	}{
		{"seed", "60 / 20 %, vm-test behind HAProxy, one floating IP per member: load adds its clone, the end of load hands it over", (*world).seed},
		{"bare", "one floating IP, no balancer: it moves with the primary", (*world).bare},
	} {
		if o.scenario != "all" && o.scenario != s.name {
			continue
		}
		scr.title("%s: %s", s.name, s.title)
		res := rep.Begin(s.name)
		if err := s.run(w, ctx, res); err != nil {
			res.Fail("%v", err)
			w.logs(os.Stdout)
			return fmt.Errorf("scenario %s: %w", s.name, err)
		}
	}
	if err := w.tidy(ctx); err != nil {
		return fmt.Errorf("take away what was provisioned: %w", err)
	}
	return rep.Verdict()
}
