//go:build e2e

// Package e2e_test runs scalehook-exporter against a real libvirtd with real
// QEMU domains and breaks things under it.
package e2e_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/exporter/tiny"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/exporter"
	"github.com/scalehook/scalehook/internal/testenv"
)

const (
	// patience is how long a condition may take to come true on a busy machine.
	patience = 90 * time.Second
	// scrapeTimeout is what Prometheus would send along: long enough for a
	// busy machine, short enough for a test that waits for it.
	scrapeTimeout = 8 * time.Second
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(relayTo); socket != "" {
		os.Exit(relay(socket))
	}
	// All connections of these tests are local; the program has its own.
	runtime, err := exporter.StartRuntime(exporter.DefaultURI)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	runtime.Close()
	os.Exit(code)
}

// host is a libvirtd with domains and an exporter that asks it.
type host struct {
	*lab.Lab
	fleet  *tiny.Fleet
	server *httptest.Server
	binary string // see build
}

func newHost(t *testing.T, on exporter.Collectors) *host {
	t.Helper()
	testenv.Need(t, testenv.Root, func() error {
		if missing := lab.Missing(); len(missing) > 0 {
			return fmt.Errorf("needs the programs %v", missing)
		}
		return nil
	})
	logger := slog.New(slog.NewTextHandler(t.Output(), nil))
	l, err := lab.Start(t.Context(), lab.Options{Name: "exp", Isolated: true, Log: logger})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	config := exporter.DefaultConfig()
	config.URI, config.Collectors = l.ReadOnlyURI(), on
	config.Timeout, config.HangTimeout = scrapeTimeout, 2*time.Second
	config.KeepAliveInterval, config.KeepAliveCount = time.Second, 2
	x, err := exporter.New(config, logger)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{Lab: l, fleet: tiny.New(l.URI(), t.TempDir()), server: httptest.NewServer(x.Handler(nil, 0))}
	t.Cleanup(func() {
		h.server.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := x.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return h
}

func everything() exporter.Collectors {
	return exporter.Collectors{Info: true, CPU: true, VCPU: true, Balloon: true, Block: true, Interface: true}
}

// start makes domains NAME-0 … NAME-(n-1).
func (h *host) start(t *testing.T, name string, n int, run bool) {
	t.Helper()
	if err := h.fleet.Start(name, 0, n, run); err != nil {
		t.Fatal(err)
	}
}

func (h *host) act(t *testing.T, name string, action func(*libvirt.Domain) error) {
	t.Helper()
	if err := h.fleet.Do(name, action); err != nil {
		t.Fatal(err)
	}
}

// signal sends a signal to the QEMU of a domain.
func (h *host) signal(t *testing.T, name string, sig syscall.Signal) {
	t.Helper()
	pid, err := h.fleet.PID(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// scrape makes one scrape, which must be answered in time whatever happens.
func (h *host) scrape(t *testing.T) page {
	t.Helper()
	start := time.Now()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", strconv.FormatFloat(scrapeTimeout.Seconds(), 'f', -1, 64))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("scrape answered %s", resp.Status)
	}
	// The scrape gives up before that. The rest is for a busy machine.
	if took := time.Since(start); took > scrapeTimeout+4*time.Second {
		t.Errorf("scrape was answered after %s", took)
	}
	return page("\n" + string(body))
}

// page is an exposition, with a newline before its first line.
type page string

// has says whether there is a line that starts so.
func (p page) has(prefix string) bool { return strings.Contains(string(p), "\n"+prefix) }

// of says whether a family has a sample of a domain.
func (p page) of(family, domain string) bool {
	for line := range strings.Lines(string(p)) {
		if strings.HasPrefix(line, family+"{") && strings.Contains(line, `domain="`+domain+`"`) {
			return true
		}
	}
	return false
}

func (p page) want(t *testing.T, prefixes ...string) {
	t.Helper()
	for _, prefix := range prefixes {
		if !p.has(prefix) {
			t.Errorf("no line %q in%s", prefix, p)
		}
	}
}

// await scrapes until a line with each prefix is there.
func (h *host) await(t *testing.T, desc string, prefixes ...string) page {
	t.Helper()
	var p page
	testenv.Eventually(t, patience, desc, func() error {
		p = h.scrape(t)
		for _, prefix := range prefixes {
			if !p.has(prefix) {
				return fmt.Errorf("no line %q", prefix)
			}
		}
		return nil
	})
	return p
}

func success(collector string, ok int) string {
	return fmt.Sprintf("libvirt_scrape_collector_success{collector=%q} %d\n", collector, ok)
}

func TestExporterOnRealDomains(t *testing.T) {
	h := newHost(t, everything())
	h.start(t, "run", 3, true)
	h.start(t, "off", 1, false)
	h.act(t, "run-2", func(d *libvirt.Domain) error { return d.Suspend() })

	t.Run("every family is there for a running domain and promtool likes it", func(t *testing.T) {
		p := h.await(t, "a complete scrape", "libvirt_up 1\n", success("domain", 1), success("info", 1), success("cpu", 1),
			success("vcpu", 1), success("balloon", 1), success("block", 1), success("interface", 1),
			// A domain that has just been started can still be busy with that.
			`libvirt_domain_block_reads_total{device="vda",domain="run-0"`)
		for _, family := range []string{
			"libvirt_domain_info", "libvirt_domain_state", "libvirt_domain_vcpus", "libvirt_domain_vcpus_maximum",
			"libvirt_domain_cpu_time_seconds_total", "libvirt_domain_cpu_user_seconds_total", "libvirt_domain_cpu_system_seconds_total",
			"libvirt_domain_vcpu_time_seconds_total", "libvirt_domain_vcpu_wait_seconds_total", "libvirt_domain_vcpu_delay_seconds_total",
			"libvirt_domain_balloon_current_bytes", "libvirt_domain_balloon_maximum_bytes", "libvirt_domain_balloon_rss_bytes",
			"libvirt_domain_block_read_bytes_total", "libvirt_domain_block_writes_total", "libvirt_domain_block_flush_time_seconds_total",
			"libvirt_domain_block_capacity_bytes", "libvirt_domain_interface_receive_bytes_total", "libvirt_domain_interface_transmit_drops_total",
			"libvirt_domain_stats_timed_out",
		} {
			if !p.of(family, "run-0") {
				t.Errorf("%s has no sample of a running domain", family)
			}
		}
		testenv.Need(t, testenv.Program("promtool"))
		check := exec.CommandContext(t.Context(), testenv.Path(t, "promtool"), "check", "metrics")
		check.Stdin = strings.NewReader(string(p)[1:])
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	})
	t.Run("no CPU time for a paused or shut off domain, but everything else", func(t *testing.T) {
		p := h.await(t, "a complete scrape", "libvirt_up 1\n", success("info", 1), success("block", 1),
			`libvirt_domain_balloon_rss_bytes{domain="run-2"`)
		for _, domain := range []string{"run-2", "off-0"} {
			for _, family := range []string{"cpu_time", "cpu_user", "cpu_system", "vcpu_time"} {
				if p.of("libvirt_domain_"+family+"_seconds_total", domain) {
					t.Errorf("%s of %s is published", family, domain)
				}
			}
			for _, family := range []string{"vcpus", "state", "info", "balloon_maximum_bytes"} {
				if !p.of("libvirt_domain_"+family, domain) {
					t.Errorf("%s of %s is missing", family, domain)
				}
			}
		}
		p.want(t, `libvirt_domain_state{domain="run-2",state="paused",`, `libvirt_domain_state{domain="off-0",state="shutoff",`)
		if got := strings.Count(string(p), "\nlibvirt_domain_state{"); got != 4 {
			t.Errorf("%d samples of the state, want one of each of the 4 domains", got)
		}
	})
	t.Run("CPU time rises while a domain runs", func(t *testing.T) {
		value := func() (line string) {
			for line := range strings.Lines(string(h.scrape(t))) {
				if strings.HasPrefix(line, `libvirt_domain_cpu_time_seconds_total{domain="run-0"`) {
					return line
				}
			}
			return ""
		}
		before := value()
		testenv.Eventually(t, patience, "another CPU time", func() error {
			if after := value(); after == before || after == "" {
				return fmt.Errorf("before %q, after %q", before, after)
			}
			return nil
		})
	})
	t.Run("a domain that hangs costs its own statistics only", func(t *testing.T) {
		h.signal(t, "run-1", syscall.SIGSTOP)
		defer h.signal(t, "run-1", syscall.SIGCONT)
		// The first scrape meets the hang: it leaves the call behind at half of
		// its time, and a second one gets everything else.
		p := h.scrape(t)
		p.want(t, "libvirt_up 1\n", success("domain", 1), success("block", 1), success("vcpu", 1),
			`libvirt_scrape_hung_calls{connection="stats"} 1`)
		for range 3 {
			p = h.scrape(t)
			p.want(t, "libvirt_up 1\n", success("domain", 1), success("block", 1))
			for _, family := range []string{"cpu_time_seconds_total", "block_reads_total", "balloon_rss_bytes", "vcpu_time_seconds_total"} {
				if !p.of("libvirt_domain_"+family, "run-0") {
					t.Errorf("%s of the domain beside it is missing", family)
				}
			}
			if p.of("libvirt_domain_block_reads_total", "run-1") {
				t.Error("block statistics of the hung domain are there")
			}
			if !p.of("libvirt_domain_cpu_time_seconds_total", "run-1") {
				t.Error("CPU time of the hung domain is missing; that it stands still is for the rules to see")
			}
		}
		var timedOut []string
		for line := range strings.Lines(string(p)) {
			if strings.HasPrefix(line, "libvirt_domain_stats_timed_out{") && strings.HasSuffix(line, " 1\n") {
				timedOut = append(timedOut, line)
			}
		}
		if len(timedOut) != 1 || !strings.Contains(timedOut[0], `domain="run-1"`) {
			t.Errorf("timed out are %q, want run-1 alone", timedOut)
		}
	})
	t.Run("it heals once the domain goes on", func(t *testing.T) {
		h.await(t, "the hung call to return", `libvirt_scrape_hung_calls{connection="stats"} 0`, success("block", 1),
			`libvirt_domain_block_reads_total{device="vda",domain="run-1"`)
	})
	t.Run("a domain that vanishes in mid-scrape is no error", func(t *testing.T) {
		done := make(chan error, 1)
		go func() {
			for i := range 10 {
				name := fmt.Sprintf("gone%d", i)
				if err := h.fleet.Start(name, 0, 1, true); err != nil {
					done <- err
					return
				}
				if err := h.fleet.Do(name+"-0", tiny.Remove); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		scrapes := 0
		for {
			p := h.scrape(t)
			scrapes++
			p.want(t, "libvirt_up 1\n", success("domain", 1), success("info", 1), success("block", 1))
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d scrapes while 10 domains came and went", scrapes)
				if p := h.scrape(t); strings.Contains(string(p), `domain="gone`) {
					t.Errorf("a domain that is gone still has samples in%s", p)
				}
				return
			default:
			}
		}
	})
}

func TestExporterWhileLibvirtdHangsOrRestarts(t *testing.T) {
	h := newHost(t, everything())
	h.start(t, "run", 2, true)
	healthy := []string{"libvirt_up 1\n", success("domain", 1), success("block", 1), `libvirt_domain_cpu_time_seconds_total{domain="run-1"`}
	h.await(t, "the first healthy scrape", healthy...)

	t.Run("a restart between two scrapes costs none", func(t *testing.T) {
		if err := h.StopLibvirtd(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		h.scrape(t).want(t, "libvirt_up 0\n", success("domain", 0), success("block", 0), success("info", 0))
		if err := h.StartLibvirtd(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.await(t, "a healthy scrape", healthy...)
		if err := h.StopLibvirtd(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if err := h.StartLibvirtd(t.Context()); err != nil {
			t.Fatal(err)
		}
		// libvirtd answers before it has found its running domains again, so only
		// the connection is judged at once.
		h.scrape(t).want(t, "libvirt_up 1\n", success("domain", 1))
		h.await(t, "a healthy scrape after the crash", healthy...)
	})
	t.Run("a libvirtd that hangs is down, and up again by itself", func(t *testing.T) {
		daemon := h.Libvirtd()
		if err := daemon.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		stopped := true
		resume := func() {
			if stopped {
				stopped = false
				if err := daemon.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
			}
		}
		defer resume()
		for range 2 {
			p := h.scrape(t)
			p.want(t, "libvirt_up 0\n", success("domain", 0), success("block", 0))
			if strings.Contains(string(p), "libvirt_domain_") {
				t.Errorf("there are samples of domains in%s", p)
			}
		}
		resume()
		h.await(t, "a healthy scrape", healthy...)
		h.await(t, "the hung calls to return", `libvirt_scrape_hung_calls{connection="domain"} 0`)
	})
	t.Run("a libvirtd that is killed while it hangs is replaced", func(t *testing.T) {
		if err := h.Libvirtd().Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		h.scrape(t).want(t, "libvirt_up 0\n")
		if err := h.StopLibvirtd(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if err := h.StartLibvirtd(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.await(t, "a healthy scrape", healthy...)
		h.await(t, "the hung calls to return", `libvirt_scrape_hung_calls{connection="domain"} 0`)
	})
}
