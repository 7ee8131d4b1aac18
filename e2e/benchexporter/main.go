// Command benchexporter measures scalehook-exporter beside Debian's
// prometheus-libvirt-exporter and beside bare loops of the same libvirt calls,
// on domains that really run and on libvirt's test driver. All contestants take
// turns, round by round, so that they share whatever else the machine does. It
// prints its result as markdown. Root is needed; nothing is left behind.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/scalehook/scalehook/e2e/exporter/tiny"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/exporter"
)

// options are how much is measured.
type options struct {
	domains, rounds                int
	driverDomains, driverRounds    int
	steadyDomains                  int
	steadyInterval, steadyDuration time.Duration
	debian, binary                 string
	eventLoop                      bool
}

// guestNice is the niceness of the domains: that of libvirtd, since what is
// measured is how soon they answer and not what they do with the CPU.
const guestNice = -5

func main() {
	o := &options{}
	flag.IntVar(&o.domains, "domains", 100, "running domains")
	flag.IntVar(&o.rounds, "rounds", 30, "rounds on the running domains")
	flag.IntVar(&o.driverDomains, "driver-domains", 10_000, "domains of the test driver")
	flag.IntVar(&o.driverRounds, "driver-rounds", 10, "rounds on the test driver")
	flag.IntVar(&o.steadyDomains, "steady-domains", 50, "running domains left for the steady state")
	flag.DurationVar(&o.steadyInterval, "steady-interval", 15*time.Second, "scrape interval of the steady state")
	flag.DurationVar(&o.steadyDuration, "steady-duration", 2*time.Minute, "length of the steady state; 0 leaves it out")
	flag.StringVar(&o.debian, "debian", "prometheus-libvirt-exporter", "Debian's exporter; left out where it is not installed")
	flag.StringVar(&o.binary, "exporter", "", "scalehook-exporter to measure; empty builds it")
	flag.BoolVar(&o.eventLoop, "event-loop", false, "run libvirt's event loop in this process, as for a remote URI: shows what it costs the bare calls and the exporter in process")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchexporter:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) error {
	uri := exporter.DefaultURI
	if o.eventLoop {
		uri = "qemu+tls://localhost/system" // any remote one will do, it is not opened
	}
	rt, err := exporter.StartRuntime(uri)
	if err != nil {
		return err
	}
	defer rt.Close()
	dir, err := os.MkdirTemp("", "exp-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := o.build(ctx, dir); err != nil {
		return err
	}
	if o.debian != "" {
		if o.debian, err = exec.LookPath(o.debian); err != nil {
			progress("Debian's exporter is not installed: left out")
			o.debian = ""
		}
	}
	l, err := lab.Start(ctx, lab.Options{
		Name: "expbench", Isolated: true, GuestNice: guestNice,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	defer func() { _ = l.Close() }() //nolint:contextcheck // closing has its own deadline, also after ctx ended

	loop := "without libvirt's event loop"
	if o.eventLoop {
		loop = "with libvirt's event loop in this process"
	}
	fmt.Printf("%s, %d CPUs, %s, libvirt %s, %s, QEMU guests without KVM. Load average at the start: %s.\n\n",
		time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), runtime.Version(), libvirtVersion(l.URI()), loop, loadAverage())
	b := &bench{options: o, lab: l, dir: dir}
	progress("starting %d domains", o.domains)
	fleet := tiny.New(l.URI(), dir)
	fleet.Silent = true
	if err := fleet.Start("bench", 0, o.domains, true); err != nil {
		return err
	}
	if err := settle(ctx); err != nil {
		return err
	}
	if err := b.running(ctx); err != nil {
		return fmt.Errorf("measure running domains: %w", err)
	}
	if o.steadyDuration > 0 {
		for i := o.steadyDomains; i < o.domains; i++ {
			if err := fleet.Do(fmt.Sprintf("bench-%d", i), tiny.Remove); err != nil {
				return err
			}
		}
		if err := b.steady(ctx, min(o.steadyDomains, o.domains)); err != nil {
			return fmt.Errorf("measure the steady state: %w", err)
		}
	}
	if o.driverDomains > 0 {
		if err := b.driver(ctx); err != nil {
			return fmt.Errorf("measure the test driver: %w", err)
		}
	}
	return nil
}

func (o *options) build(ctx context.Context, dir string) error {
	if o.binary != "" {
		return nil
	}
	o.binary = filepath.Join(dir, "scalehook-exporter")
	progress("building scalehook-exporter")
	out, err := exec.CommandContext(ctx, "go", "build", "-tags=libvirt_dlopen", "-o", o.binary,
		"github.com/scalehook/scalehook/cmd/scalehook-exporter").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build scalehook-exporter: %w: %s", err, out)
	}
	return nil
}

// settle waits until all domains have booted, which takes some CPU.
func settle(ctx context.Context) error {
	select {
	case <-time.After(10 * time.Second):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "benchexporter: "+format+"\n", args...)
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
