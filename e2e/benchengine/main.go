// Benchengine measures the engine and the intake under load and prints a table:
// many groups at rest, one group's cost against their number, /metrics, and posts
// of Alertmanager until they are durably stored. Nothing leaves the loopback.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/scalehook/scalehook/internal/engine"
)

type flags struct {
	groups    string
	instances int
	shared    int
	settle    time.Duration
	measure   time.Duration
	posts     int
	rate      int
	dir       string
	profile   string
	heap      string
	sendTo    string
}

func main() {
	var f flags
	flag.StringVar(&f.groups, "groups", "1000,10000", "numbers of groups to measure, the largest last")
	flag.IntVar(&f.instances, "instances", 10, "instances in service per group")
	flag.IntVar(&f.shared, "groups-per-provider", 2, "groups that share one simulated provider")
	flag.DurationVar(&f.settle, "settle", 20*time.Second, "wait after the start before measuring")
	flag.DurationVar(&f.measure, "measure", 30*time.Second, "for how long to measure")
	flag.IntVar(&f.posts, "posts", 30000, "posts to send; 0 for none")
	flag.IntVar(&f.rate, "rate", 1000, "posts per second")
	flag.StringVar(&f.dir, "directory", "", "folder for the stores (default: a temporary one)")
	flag.StringVar(&f.profile, "cpuprofile", "", "file for a CPU profile of the groups at rest")
	flag.StringVar(&f.heap, "memprofile", "", "file for a heap profile of the groups at rest")
	flag.StringVar(&f.sendTo, "send-to", "", "send the posts to this URL and print what was seen as JSON; the program runs itself so")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if f.sendTo != "" {
		err = report(ctx, os.Stdout, f)
	} else {
		err = run(ctx, os.Stdout, f)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchengine:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, f flags) (err error) {
	if f.dir == "" {
		if f.dir, err = os.MkdirTemp("", "benchengine-"); err != nil {
			return err
		}
		defer os.RemoveAll(f.dir)
	}
	engine.LimitHeap() // as the server does
	fmt.Fprintf(out, "%d CPUs, %s, load average %s\n\n", runtime.NumCPU(), runtime.Version(), load())
	if f.profile != "" {
		file, err := os.Create(f.profile)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	if f.posts > 0 { // first, while the heap has nothing else
		p, err := posts(ctx, f)
		if err != nil {
			return fmt.Errorf("posts: %w", err)
		}
		printPosts(out, f, p)
	}
	var rests []rest
	for text := range strings.SplitSeq(f.groups, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 {
			return fmt.Errorf("-groups: %q is no number of groups", text)
		}
		r, err := atRest(ctx, f, n)
		if err != nil {
			return fmt.Errorf("%d groups: %w", n, err)
		}
		rests = append(rests, r)
	}
	printRests(out, rests)
	fmt.Fprintf(out, "\nload average at the end %s\n", load())
	return nil
}

// report sends the posts and says how they were answered.
func report(ctx context.Context, out io.Writer, f flags) error {
	s, err := sendAll(ctx, f)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(s)
}

func printRests(out io.Writer, rests []rest) {
	w := tabwriter.NewWriter(out, 0, 4, 1, ' ', 0)
	fmt.Fprintln(w, "| groups\t| instances\t| CPU ms per tick of 1 s\t| of it the drivers'\t| CPU µs per group\t| resident MiB\t| after three scrapes\t| look-ups per s\t| store writes\t| /metrics ms\t| /metrics KiB\t|")
	fmt.Fprintln(w, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range rests {
		fmt.Fprintf(w, "| %d\t| %d\t| %.0f\t| %.0f\t| %.1f\t| %.0f\t| %.0f\t| %.2f\t| %d\t| %.0f\t| %d\t|\n",
			r.groups, r.instances, ms(r.cpu), ms(r.drivers), 1000*ms(r.cpu)/float64(r.groups), float64(r.resident)/(1<<20), float64(r.scraped)/(1<<20), r.lookups, r.writes, ms(r.scrape), r.bytes/1024)
	}
	w.Flush()
	if n := len(rests); n > 1 {
		a, b := rests[0], rests[n-1]
		perA, perB := float64(a.cpu)/float64(a.groups), float64(b.cpu)/float64(b.groups)
		fmt.Fprintf(out, "\ncost per group at %d against %d groups: %.2f; /metrics bytes per group: %.2f\n",
			b.groups, a.groups, perB/perA, (float64(b.bytes)/float64(b.groups))/(float64(a.bytes)/float64(a.groups)))
	}
}

func printPosts(out io.Writer, f flags, p post) {
	fmt.Fprintf(out, "\n%d posts at %d per second, each answered once it was stored: p50 %.1f ms, p99 %.1f ms, slowest %.1f ms; %d failed; took %.1f s\n",
		f.posts, f.rate, ms(p.P50), ms(p.P99), ms(p.Max), p.Failed, p.Took.Seconds())
	fmt.Fprintf(out, "heap after the first tenth %.1f MiB, after the last %.1f MiB\n", float64(p.heapBefore)/(1<<20), float64(p.heapAfter)/(1<<20))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

// cpu is what the process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident is the process's resident memory in bytes.
func resident() int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		return 0
	}
	return n * os.Getpagesize()
}

func writeHeap(name string) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	return pprof.WriteHeapProfile(file)
}
