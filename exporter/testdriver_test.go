package exporter

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// testDriver writes a file with n domains for libvirt's test driver, two of
// three running, and returns its URI.
func testDriver(t testing.TB, n int) string {
	t.Helper()
	needLibvirt(t)
	var b strings.Builder
	b.WriteString("<node>\n")
	for i := range n {
		fmt.Fprintf(&b, `<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>vm-%d</name><uuid>%08x-0000-4000-8000-000000000000</uuid><memory>65536</memory><vcpu>2</vcpu><os><type arch='x86_64'>hvm</type></os>`, i, i)
		if i%3 == 2 {
			// 5 is shut off.
			b.WriteString("<test:runstate>5</test:runstate>")
		}
		b.WriteString("</domain>\n")
	}
	b.WriteString("</node>\n")
	file := filepath.Join(t.TempDir(), "node.xml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return "test://" + file
}

func driverExporter(t testing.TB, uri string, on Collectors) *Exporter {
	t.Helper()
	config := DefaultConfig()
	config.URI, config.Collectors = uri, on
	// Opening a file of 10,000 domains takes seconds, more on a busy machine.
	config.Timeout, config.HangTimeout = 2*time.Minute, 2*time.Minute
	e, err := New(config, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestEveryDomainOfTheTestDriverIsThere(t *testing.T) {
	// The binding's ListDomains ends at 512.
	for n, on := range map[int]Collectors{1: all(), 600: all(), 10_000: {Info: true}} {
		t.Run(fmt.Sprintf("%d domains", n), func(t *testing.T) {
			text := scrape(t, driverExporter(t, testDriver(t, n), on))
			count := func(prefix string) int { return strings.Count(text, "\n"+prefix) }
			running := (n + 2) / 3
			if n > 1 {
				running += (n + 1) / 3
			}
			for prefix, want := range map[string]int{
				"libvirt_up 1": 1,
				`libvirt_scrape_collector_success{collector="domain"} 1`: 1,
				`libvirt_scrape_collector_success{collector="info"} 1`:   1,
				"libvirt_domain_vcpus{":                                  n,
				"libvirt_domain_info{":                                   n,
				"libvirt_domain_balloon_maximum_bytes{":                  n,
				"libvirt_domain_cpu_time_seconds_total{":                 running,
			} {
				if got := count(prefix); got != want {
					t.Errorf("%d lines with %s, want %d", got, prefix, want)
				}
			}
			if !strings.Contains(text, `libvirt_domain_info{arch="x86_64",domain="vm-0",machine="",os_type="hvm",uuid="00000000-0000-4000-8000-000000000000"} 1`) {
				t.Error("the definition of vm-0 is not there")
			}
		})
	}
}

func TestURIThatCannotBeOpenedIsDownAndNotAnError(t *testing.T) {
	needLibvirt(t)
	text := scrape(t, driverExporter(t, "qemu+unix:///system?socket="+filepath.Join(t.TempDir(), "none"), Collectors{}))
	if !strings.Contains(text, "\nlibvirt_up 0\n") {
		t.Errorf("libvirt_up is not 0 in\n%s", text)
	}
}

// usage is what a leak would make grow.
type usage struct {
	goroutines, descriptors int
	heap, resident          uint64
}

func measure(t *testing.T) usage {
	t.Helper()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseUint(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return usage{runtime.NumGoroutine(), len(fds), m.HeapAlloc, pages * uint64(os.Getpagesize())}
}

func TestTenThousandScrapesLeakNothing(t *testing.T) {
	e := driverExporter(t, testDriver(t, 5), all())
	handler := e.Handler(nil, 0)
	run := func(n int) {
		for range n {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
			if w.Code != http.StatusOK {
				t.Fatalf("scrape answered %d", w.Code)
			}
		}
	}
	run(1000)
	before := measure(t)
	run(10_000)
	noGrowth(t, before, measure(t))
}

// noGrowth fails the test if more is in use after than before. The bounds are
// a fraction of what one small allocation per scrape would add up to.
func noGrowth(t *testing.T, before, after usage) {
	t.Helper()
	const heapSlack, residentSlack = 512 << 10, 8 << 20
	t.Logf("before %+v, after %+v", before, after)
	if after.goroutines > before.goroutines+1 || after.descriptors > before.descriptors+1 {
		t.Error("goroutines or descriptors grew")
	}
	if after.heap > before.heap+heapSlack {
		t.Error("the heap grew")
	}
	if !raced && after.resident > before.resident+residentSlack {
		t.Error("the resident memory grew")
	}
}

func TestReopenedConnectionsLeakNothing(t *testing.T) {
	config := DefaultConfig()
	config.URI, config.Collectors = testDriver(t, 5), all()
	run := func(n int) {
		for range n {
			e, err := New(config, discard())
			if err != nil {
				t.Fatal(err)
			}
			scrape(t, e)
			if err := e.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	run(50)
	before := measure(t)
	run(500)
	noGrowth(t, before, measure(t))
}

func TestEventLoopLeaksNothing(t *testing.T) {
	needLibvirt(t)
	// The loop is there for the rest of a process, so it gets one of its own.
	test := exec.CommandContext(t.Context(), os.Args[0], "-test.v",
		"-test.run=^(TestEveryDomainOfTheTestDriverIsThere|TestReopenedConnectionsLeakNothing|TestProcessHasAnEventLoop)$")
	test.Env = append(os.Environ(), runtimeURI+"=qemu+tls://localhost/system")
	out, err := test.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestProcessHasAnEventLoop") {
		t.Errorf("with an event loop: %v\n%s", err, out)
	}
}

// TestProcessHasAnEventLoop states that the loop runs exactly where the
// runtime's URI is remote.
func TestProcessHasAnEventLoop(t *testing.T) {
	needLibvirt(t)
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	got := strings.Contains(string(stacks), "(*eventLoop).run")
	if want := os.Getenv(runtimeURI) != ""; got != want {
		t.Errorf("an event loop runs: %v, want %v", got, want)
	}
}

func TestDomainsAreTheSameHoweverManyAreReadAtOnce(t *testing.T) {
	s, err := openLibvirt(testDriver(t, 600), keepAlive{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	read := func(readers int) []domain {
		domains, err := s.Domains(readers)
		if err != nil {
			t.Fatal(err)
		}
		for i := range domains {
			domains[i].CPUTime = 0 // the driver's clock
		}
		slices.SortFunc(domains, func(a, b domain) int { return strings.Compare(a.UUID, b.UUID) })
		return domains
	}
	want := read(1)
	if len(want) != 600 {
		t.Errorf("%d domains, want 600", len(want))
	}
	for _, readers := range []int{0, 2, maxReaders, 1000} {
		if diff := cmp.Diff(want, read(readers)); diff != "" {
			t.Errorf("%d at once (-one at a time +at once):\n%s", readers, diff)
		}
	}
}
