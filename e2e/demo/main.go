// Command demo shows scalehook's main job on real virtual machines, end to end,
// in a world of its own (package e2e/lab) that it leaves without a trace.
//
// It runs two scenarios, kvm-autoscaler and handover, under load that never
// stops, and judges them: every request must get its complete answer on its
// first transmission, every step must have come from its alert, and nothing may
// be left behind. The exit code is 0 only if all of that holds. With --fault it
// does one thing wrong on purpose and must fail.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/e2e/report"
)

// What --fault can do wrong.
const (
	faultNone           = ""
	faultNoDrain        = "no-drain"
	faultJoinUnchecked  = "join-unchecked"
	faultReloadMidDrain = "reload-mid-drain"
)

func faults() []string { return []string{faultNoDrain, faultJoinUnchecked, faultReloadMidDrain} }

type options struct {
	fault    string
	scenario string
	report   string
	bin      string
	dir      string
	keep     bool
	clean    bool
	verbose  bool
}

func main() {
	var o options
	flag.StringVar(&o.fault, "fault", faultNone, "do one thing wrong, so that the run must fail: "+strings.Join(faults(), ", "))
	flag.StringVar(&o.scenario, "scenario", "all", "kvm-autoscaler, handover or all")
	flag.StringVar(&o.report, "report", "demo-report.json", "where the report is written")
	flag.StringVar(&o.bin, "bin", "bin", "folder of the built programs")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "where the lab makes its folder")
	flag.BoolVar(&o.keep, "keep", false, "keep the lab's folder with all logs")
	flag.BoolVar(&o.clean, "clean", false, "only remove what a killed run may have left")
	flag.BoolVar(&o.verbose, "verbose", false, "log the lab's own steps")
	flag.Parse()
	if o.fault != faultNone && !slices.Contains(faults(), o.fault) {
		fmt.Fprintf(os.Stderr, "demo: --fault=%s: want one of %s\n", o.fault, strings.Join(faults(), ", "))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

// runLimit bounds a whole run.
const runLimit = 20 * time.Minute

func run(ctx context.Context, o options) (err error) {
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	if o.clean {
		left, err := lab.CleanupAll(ctx, o.dir, log)
		for _, l := range left {
			fmt.Println("removed", l)
		}
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("root is needed for the private network and libvirtd; without root try: make tour")
	}
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()

	scr := newScreen(os.Stdout)
	rep := report.New(o.fault)
	defer func() {
		rep.Finish(err)
		werr := rep.Write(o.report)
		rep.Print(os.Stdout, "no request lost, nothing left behind")
		err = errors.Join(err, werr)
	}()
	for _, s := range scenarios() {
		if o.scenario != "all" && o.scenario != s.group.name {
			continue
		}
		if err := runScenario(ctx, o, log, scr, rep, s); err != nil {
			return fmt.Errorf("scenario %s: %w", s.group.name, err)
		}
	}
	if len(rep.Scenarios) == 0 {
		return fmt.Errorf("--scenario=%s: want kvm-autoscaler, handover or all", o.scenario)
	}
	return rep.Verdict()
}

// runScenario runs one scenario in a lab of its own and judges it.
func runScenario(ctx context.Context, o options, log *slog.Logger, scr *screen, rep *report.Run, s scenario) (err error) {
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return fmt.Errorf("folder of the programs: %w", err)
	}
	res := rep.Begin(s.group.name)
	w, err := startWorld(ctx, o, bin, log, scr, s)
	if w != nil {
		defer func() { //nolint:contextcheck // tidies up after an interrupt too, with time limits of its own
			if cerr := w.close(); cerr != nil {
				res.Fail("the lab left something behind: %v", cerr)
			}
		}()
	}
	if err != nil {
		res.Fail("set-up: %v", err)
		return err
	}
	rep.Accelerator = w.domainType
	err = s.run(ctx, w, res)
	if ctx.Err() != nil {
		res.Fail("interrupted")
		return ctx.Err() // what was shown is enough; the world is taken down
	}
	if err != nil {
		res.Fail("%v", err)
		if w.fault == faultNone {
			w.dumpLogs(os.Stdout)
		}
	}
	complete := err == nil
	if complete && w.fault == faultNone {
		w.askDashboards(ctx, res)
		w.askDoctor(ctx, res)
	}
	w.judge(ctx, res, complete)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return nil
}
