package exporter

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"libvirt.org/go/libvirt"
)

//nolint:gochecknoglobals // a test flag cannot be anything else
var update = flag.Bool("update", false, "write the golden files")

const uuid1 = "11111111-1111-4111-8111-111111111111"

func all() Collectors {
	return Collectors{Info: true, CPU: true, VCPU: true, Balloon: true, Block: true, Interface: true}
}

func fakeExporter(t *testing.T, on Collectors, s *fakeSession) *Exporter {
	t.Helper()
	config := DefaultConfig()
	config.Collectors = on
	e := newExporter(config, discard(), func() (session, error) { return s, nil })
	t.Cleanup(func() {
		if err := e.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return e
}

// scrape returns the sample lines of one scrape through the handler.
func scrape(t *testing.T, e *Exporter) string {
	t.Helper()
	w := httptest.NewRecorder()
	e.Handler(nil, 0).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("scrape answered %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func fleet() *fakeSession {
	ids := func(n int) (string, string) {
		return fmt.Sprintf("vm-%d", n), strings.ReplaceAll(uuid1, "1", strconv.Itoa(n))
	}
	var domains []domain
	for n, state := range []libvirt.DomainState{libvirt.DOMAIN_RUNNING, libvirt.DOMAIN_PAUSED, libvirt.DOMAIN_SHUTOFF} {
		name, uuid := ids(n + 1)
		domains = append(domains, domain{
			Name: name, UUID: uuid, ID: uint(n + 1), State: state,
			VCPUs: 2, MaxKiB: 2048, CurKiB: 1024, CPUTime: 1_500_000_000,
		})
	}
	var stats []domainStats
	for n, d := range domains[:2] {
		s := domainStats{Name: d.Name, UUID: d.UUID, Stats: libvirt.DomainStats{
			State: &libvirt.DomainStatsState{StateSet: true, State: d.State},
			Cpu:   &libvirt.DomainStatsCPU{UserSet: true, User: 1e9, SystemSet: true, System: 5e8},
			Vcpu: []libvirt.DomainStatsVcpu{
				{StateSet: true, TimeSet: true, Time: 2e9, WaitSet: true, Wait: 1e6, HaltedSet: true, DelaySet: true, Delay: 3e6},
				{StateSet: true, State: libvirt.VCPU_OFFLINE},
			},
			Balloon: &libvirt.DomainStatsBalloon{
				CurrentSet: true, Current: 1, UnusedSet: true, Unused: 2, AvailableSet: true, Available: 3,
				UsableSet: true, Usable: 4, RssSet: true, Rss: 5, LastUpdateSet: true, LastUpdate: 1_700_000_000,
				SwapInSet: true, SwapIn: 6, SwapOutSet: true, SwapOut: 7,
				MajorFaultSet: true, MajorFault: 8, MinorFaultSet: true, MinorFault: 9,
			},
			Block: []libvirt.DomainStatsBlock{
				{
					NameSet: true, Name: "vda", RdReqsSet: true, RdReqs: 1, RdBytesSet: true, RdBytes: 2, RdTimesSet: true, RdTimes: 3e9,
					WrReqsSet: true, WrReqs: 4, WrBytesSet: true, WrBytes: 5, WrTimesSet: true, WrTimes: 6e9,
					FlReqsSet: true, FlReqs: 7, FlTimesSet: true, FlTimes: 8e9,
					AllocationSet: true, Allocation: 9, CapacitySet: true, Capacity: 10, PhysicalSet: true, Physical: 11,
				},
				{NameSet: true, Name: "vda", RdReqsSet: true, RdReqs: 99},
				{RdReqsSet: true, RdReqs: 99},
			},
			Net: []libvirt.DomainStatsNet{
				{
					NameSet: true, Name: "vnet0", RxBytesSet: true, RxBytes: 1, RxPktsSet: true, RxPkts: 2, RxErrsSet: true, RxErrs: 3, RxDropSet: true, RxDrop: 4,
					TxBytesSet: true, TxBytes: 5, TxPktsSet: true, TxPkts: 6, TxErrsSet: true, TxErrs: 7, TxDropSet: true, TxDrop: 8,
				},
				{RxBytesSet: true, RxBytes: 99},
			},
		}}
		if n == 1 {
			// A hung hypervisor process: libvirt skips what it would have to ask it for.
			s.Stats.Balloon = &libvirt.DomainStatsBalloon{CurrentSet: true, Current: 1}
			s.Stats.Block = []libvirt.DomainStatsBlock{{NameSet: true, Name: "vda"}}
		}
		stats = append(stats, s)
	}
	return &fakeSession{
		domains: func() ([]domain, error) { return domains, nil },
		stats:   func(libvirt.DomainStatsTypes) ([]domainStats, error) { return stats, nil },
	}
}

func TestExpositionIsTheGoldenOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // time stands still, so durations are 0
		got := scrape(t, fakeExporter(t, all(), fleet()))
		golden := filepath.Join("testdata", "exposition.txt")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("exposition (-want +got):\n%s", diff)
		}
	})
}

func TestExpositionPassesTheChecksOfARegistryAndThePrometheusLinter(t *testing.T) {
	e := fakeExporter(t, all(), fleet())
	gather := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return e.gatherWith(t.Context(), nil) })
	if _, err := (prometheus.Gatherers{gather}).Gather(); err != nil {
		t.Errorf("inconsistent: %v", err)
	}
	problems, err := testutil.GatherAndLint(gather)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestCPUTimeIsPublishedOnlyForDomainsThatRun(t *testing.T) {
	for state, name := range states() {
		t.Run(name, func(t *testing.T) {
			s := &fakeSession{
				domains: func() ([]domain, error) {
					return []domain{{Name: "vm", UUID: uuid1, State: libvirt.DomainState(state), CPUTime: 1}}, nil
				},
				stats: func(libvirt.DomainStatsTypes) ([]domainStats, error) {
					return []domainStats{{Name: "vm", UUID: uuid1, Stats: libvirt.DomainStats{
						State: &libvirt.DomainStatsState{StateSet: true, State: libvirt.DomainState(state)},
						Cpu:   &libvirt.DomainStatsCPU{UserSet: true, SystemSet: true},
						Vcpu:  []libvirt.DomainStatsVcpu{{TimeSet: true}},
					}}}, nil
				},
			}
			text := scrape(t, fakeExporter(t, all(), s))
			want := name == "running" || name == "blocked"
			for _, family := range []string{"cpu_time", "cpu_user", "cpu_system", "vcpu_time"} {
				if got := strings.Contains(text, "\nlibvirt_domain_"+family+"_seconds_total{"); got != want {
					t.Errorf("%s published: %v, want %v", family, got, want)
				}
			}
			if !strings.Contains(text, `libvirt_domain_state{domain="vm",state="`+name+`",uuid="`+uuid1+`"} 1`) {
				t.Errorf("state %s is not 1 in\n%s", name, text)
			}
			if got := strings.Count(text, "\nlibvirt_domain_state{"); got != 1 {
				t.Errorf("%d states, want the one that holds", got)
			}
		})
	}
}

func TestStateThatIsNotInTheTableIsAbsent(t *testing.T) {
	for _, state := range []libvirt.DomainState{-1, libvirt.DOMAIN_PMSUSPENDED + 1} {
		text := scrape(t, fakeExporter(t, Collectors{}, &fakeSession{domains: func() ([]domain, error) {
			return []domain{{Name: "vm", UUID: uuid1, State: state}}, nil
		}}))
		if strings.Contains(text, "libvirt_domain_state") || !strings.Contains(text, "\nlibvirt_domain_vcpus{") {
			t.Errorf("state %d: want vCPUs and no state in\n%s", state, text)
		}
	}
}

func TestScrapeSaysWhatItCouldNotRead(t *testing.T) {
	failed := errors.New("failed")
	one := []domain{{Name: "vm", UUID: uuid1, State: libvirt.DOMAIN_RUNNING}}
	tests := []struct {
		name string
		fake *fakeSession
		want []string
		not  []string
	}{
		{
			name: "libvirt cannot list its domains",
			fake: &fakeSession{domains: func() ([]domain, error) { return nil, failed }},
			want: []string{
				"libvirt_up 0", `libvirt_scrape_collector_success{collector="domain"} 0`,
				`libvirt_scrape_collector_success{collector="info"} 0`, `libvirt_scrape_collector_success{collector="block"} 0`,
			},
			not: []string{"libvirt_domain_"},
		},
		{
			name: "one domain of two cannot be read",
			fake: &fakeSession{domains: func() ([]domain, error) {
				return one, &partialError{failed: 1, total: 2, first: failed}
			}},
			want: []string{"libvirt_up 1", `libvirt_scrape_collector_success{collector="domain"} 0`, `libvirt_domain_cpu_time_seconds_total{domain="vm"`},
		},
		{
			name: "bulk statistics fail",
			fake: &fakeSession{
				domains: func() ([]domain, error) { return one, nil },
				stats:   func(libvirt.DomainStatsTypes) ([]domainStats, error) { return nil, failed },
			},
			want: []string{
				"libvirt_up 1", `libvirt_scrape_collector_success{collector="domain"} 1`, `libvirt_scrape_collector_success{collector="info"} 1`,
				`libvirt_scrape_collector_success{collector="vcpu"} 0`, `libvirt_domain_cpu_time_seconds_total{domain="vm"`,
			},
		},
		{
			name: "a domain vanishes before its definition is read",
			fake: &fakeSession{
				domains:  func() ([]domain, error) { return one, nil },
				describe: func(string) (description, error) { return description{}, errVanished },
			},
			want: []string{"libvirt_up 1", `libvirt_scrape_collector_success{collector="info"} 1`},
			not:  []string{"libvirt_domain_info"},
		},
		{
			name: "a definition cannot be read",
			fake: &fakeSession{
				domains:  func() ([]domain, error) { return one, nil },
				describe: func(string) (description, error) { return description{}, failed },
			},
			want: []string{"libvirt_up 1", `libvirt_scrape_collector_success{collector="info"} 0`, `libvirt_scrape_collector_success{collector="domain"} 1`},
		},
		{
			name: "there are no domains",
			fake: &fakeSession{},
			want: []string{"libvirt_up 1", `libvirt_scrape_collector_success{collector="domain"} 1`},
			not:  []string{"libvirt_domain_"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			text := scrape(t, fakeExporter(t, all(), test.fake))
			for _, want := range test.want {
				if !strings.Contains(text, "\n"+want) {
					t.Errorf("no line %q in\n%s", want, text)
				}
			}
			for _, not := range test.not {
				if strings.Contains(text, "\n"+not) {
					t.Errorf("a line %q in\n%s", not, text)
				}
			}
		})
	}
}

func TestScrapeAnswersWithinItsTimeWhenBulkStatisticsHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := fleet()
		s.stats = func(libvirt.DomainStatsTypes) ([]domainStats, error) {
			<-release
			return nil, nil
		}
		e := fakeExporter(t, all(), s)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
		r.Header.Set(timeoutHeader, "2")
		w, start := httptest.NewRecorder(), time.Now()
		e.Handler(nil, 0).ServeHTTP(w, r)
		if took := time.Since(start); took != 1750*time.Millisecond {
			t.Errorf("answered after %s, want 2s less the offset", took)
		}
		for _, want := range []string{
			"libvirt_up 1", `libvirt_domain_cpu_time_seconds_total{domain="vm-1"`, `libvirt_domain_info{`,
			`libvirt_scrape_collector_success{collector="domain"} 1`, `libvirt_scrape_collector_success{collector="block"} 0`,
			`libvirt_scrape_hung_calls{connection="stats"} 1`,
		} {
			if !strings.Contains(w.Body.String(), "\n"+want) {
				t.Errorf("no line %q in\n%s", want, w.Body)
			}
		}
		close(release)
	})
}

func TestScrapeAnswersWithinItsTimeWhenLibvirtHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := fakeExporter(t, all(), &fakeSession{domains: func() ([]domain, error) {
			<-release
			return nil, nil
		}})
		start := time.Now()
		text := scrape(t, e)
		if took := time.Since(start); took != DefaultConfig().Timeout {
			t.Errorf("answered after %s, want %s", took, DefaultConfig().Timeout)
		}
		if !strings.Contains(text, "\nlibvirt_up 0") {
			t.Errorf("libvirt_up is not 0 in\n%s", text)
		}
		close(release)
	})
}

func TestDomainsAreReadOneByOneWhileAPassHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var hang atomic.Bool
		hang.Store(true)
		var mu sync.Mutex
		var readers []int
		e := fakeExporter(t, Collectors{}, &fakeSession{
			readers: func(n int) {
				mu.Lock()
				defer mu.Unlock()
				readers = append(readers, n)
			},
			domains: func() ([]domain, error) {
				if hang.Load() {
					<-release
				}
				return nil, nil
			},
		})
		scrape(t, e) // hangs
		scrape(t, e) // leaves the first behind and hangs too
		hang.Store(false)
		scrape(t, e)
		close(release)
		synctest.Wait()
		scrape(t, e)
		mu.Lock()
		defer mu.Unlock()
		if diff := cmp.Diff([]int{maxReaders, 1, 1, maxReaders}, readers); diff != "" {
			t.Errorf("read at once (-want +got):\n%s", diff)
		}
	})
}

func TestScrapeTakesThePrometheusTimeoutLessTheOffset(t *testing.T) {
	e := fakeExporter(t, Collectors{}, &fakeSession{})
	for header, want := range map[string]time.Duration{
		"":       10 * time.Second,
		"junk":   10 * time.Second,
		"NaN":    10 * time.Second,
		"+Inf":   10 * time.Second,
		"-1":     10 * time.Second,
		"0":      10 * time.Second,
		"1e300":  10 * time.Second,
		"60":     10 * time.Second,
		"10":     9750 * time.Millisecond,
		"1":      750 * time.Millisecond,
		"0.3":    150 * time.Millisecond,
		"10.125": 9875 * time.Millisecond,
	} {
		if got := e.timeout(header); got != want {
			t.Errorf("timeout of a scrape with %q is %s, want %s", header, got, want)
		}
	}
}

func TestScrapesBeyondTheLimitAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		e := fakeExporter(t, Collectors{}, &fakeSession{domains: func() ([]domain, error) {
			<-release
			return nil, nil
		}})
		handler := e.Handler(nil, 1)
		get := func() int {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
			return w.Code
		}
		first := make(chan int)
		go func() { first <- get() }()
		synctest.Wait()
		if got := get(); got != http.StatusServiceUnavailable {
			t.Errorf("second scrape answered %d, want 503", got)
		}
		close(release)
		if got := <-first; got != http.StatusOK {
			t.Errorf("first scrape answered %d, want 200", got)
		}
		if got := get(); got != http.StatusOK {
			t.Errorf("scrape after the first answered %d, want 200", got)
		}
	})
}

func TestCollectorsThatAreOffAskForNothing(t *testing.T) {
	s := fleet()
	s.stats = func(libvirt.DomainStatsTypes) ([]domainStats, error) {
		t.Error("bulk statistics were read")
		return nil, nil
	}
	s.describe = func(string) (description, error) {
		t.Error("a definition was read")
		return description{}, nil
	}
	text := scrape(t, fakeExporter(t, Collectors{}, s))
	if got := strings.Count(text, "\nlibvirt_scrape_collector_success{"); got != 1 {
		t.Errorf("%d collectors reported, want the domain collector only", got)
	}
}

func TestEachCollectorAsksForItsOwnStatistics(t *testing.T) {
	const state = libvirt.DOMAIN_STATS_STATE
	tests := map[string]struct {
		on   Collectors
		want libvirt.DomainStatsTypes
	}{
		"info":      {Collectors{Info: true}, 0},
		"cpu":       {Collectors{CPU: true}, state | libvirt.DOMAIN_STATS_CPU_TOTAL},
		"vcpu":      {Collectors{VCPU: true}, state | libvirt.DOMAIN_STATS_VCPU},
		"balloon":   {Collectors{Balloon: true}, state | libvirt.DOMAIN_STATS_BALLOON},
		"block":     {Collectors{Block: true}, state | libvirt.DOMAIN_STATS_BLOCK},
		"interface": {Collectors{Interface: true}, state | libvirt.DOMAIN_STATS_INTERFACE},
	}
	for name, test := range tests {
		if got := test.on.bulk(); got != test.want {
			t.Errorf("%s asks for %b, want %b", name, got, test.want)
		}
	}
}

func TestDefinitionIsReadAgainOnlyWhenItMayHaveChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := domain{Name: "vm", UUID: uuid1, ID: 1, State: libvirt.DOMAIN_RUNNING}
		var listed []domain
		reads := 0
		e := fakeExporter(t, Collectors{Info: true}, &fakeSession{
			domains: func() ([]domain, error) { return listed, nil },
			describe: func(string) (description, error) {
				reads++
				return description{OSType: "hvm"}, nil
			},
		})
		steps := []struct {
			name   string
			change func()
			want   int
		}{
			{"first scrape", func() { listed = []domain{d} }, 1},
			{"nothing changed", func() {}, 1},
			{"restarted", func() { listed[0].ID = 2 }, 2},
			{"stopped", func() { listed[0].ID, listed[0].State = 0, libvirt.DOMAIN_SHUTOFF }, 3},
			{"renamed", func() { listed[0].Name = "other" }, 4},
			{"gone", func() { listed = nil }, 4},
			{"back", func() { listed = []domain{d} }, 5},
			{"a little later", func() { time.Sleep(descriptionAge - time.Second) }, 5},
			{"at the end of its time", func() { time.Sleep(descriptionAge + 2*time.Second) }, 6},
		}
		for _, step := range steps {
			step.change()
			scrape(t, e)
			if reads != step.want {
				t.Errorf("%s: definition was read %d times, want %d", step.name, reads, step.want)
			}
		}
		listed = nil
		scrape(t, e)
		if n := len(e.descriptions.known); n != 0 {
			t.Errorf("%d definitions of domains that are gone are kept", n)
		}
	})
}

func TestDefinitionIsParsedUpToItsType(t *testing.T) {
	tests := []struct {
		name, xml string
		want      description
		err       string
	}{
		{
			name: "plain", xml: `<domain type='kvm'><name>a</name><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os></domain>`,
			want: description{OSType: "hvm", Arch: "x86_64", Machine: "pc-q35-7.2"},
		},
		{
			name: "an <os> in the metadata is not the domain's", want: description{OSType: "hvm", Arch: "aarch64"},
			xml: `<domain><metadata><x:os xmlns:x="urn:x"><type>no</type></x:os></metadata><os><loader>f</loader><type arch='aarch64'>hvm</type></os></domain>`,
		},
		{name: "nothing after the type is read", xml: `<domain><os><type>exe</type></os><<<`, want: description{OSType: "exe"}},
		{name: "no type", xml: `<domain><os/></domain>`, err: "no <os><type> element"},
		{name: "not XML", xml: `<domain><`, err: "read domain XML: XML syntax error on line 1: unexpected EOF"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseDescription(test.xml)
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != test.err {
				t.Errorf("error %q, want %q", text, test.err)
			}
		})
	}
}

func TestSocketOfASnapIsFoundByName(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	table := Sockets{{Path: path("own"), URI: DefaultURI}, {Path: path("snap-ro")}, {Path: path("snap & more")}}
	touch := func(name string) {
		if err := os.WriteFile(path(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	find := func(uri, want string) {
		t.Helper()
		if got := table.Find(uri); got != want {
			t.Errorf("%s is opened as %s, want %s", uri, got, want)
		}
	}
	find(DefaultURI, DefaultURI)
	touch("snap & more")
	find(DefaultURI, "qemu+unix:///system?socket="+dir+"/snap%20%26%20more")
	touch("snap-ro")
	find(DefaultURI, "qemu+unix:///system?socket="+dir+"/snap-ro")
	find("qemu:///session", "qemu:///session")
	touch("own")
	find(DefaultURI, DefaultURI)
}

func TestURIIsRemoteUnlessItIsAUNIXSocketOfThisHost(t *testing.T) {
	for uri, want := range map[string]bool{
		DefaultURI:        false,
		"qemu:///session": false,
		"test:///default": false,
		"xen:///":         false,
		"lxc:///":         false,
		"qemu+unix:///system?socket=/run/libvirt/libvirt-sock": false,
		"qemu+tls://host/system":                               true,
		"qemu://host/system":                                   true,
		"qemu+tcp:///system":                                   true,
		"qemu+ssh://root@host:22/system":                       true,
		"qemu+libssh2://host/system":                           true,
		"qemu+ext:///system?command=/bin/relay":                true,
		"esx://host/":                                          true,
		"an-alias":                                             true,
		":":                                                    true,
	} {
		if got := remote(uri); got != want {
			t.Errorf("%s is remote: %v, want %v", uri, got, want)
		}
	}
}

func TestConfigurationReportsEverythingThatIsWrong(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the default is refused: %v", err)
	}
	_, err := New(Config{TimeoutOffset: -1, KeepAliveInterval: 1500 * time.Millisecond}, discard())
	want := `check the exporter's configuration: the libvirt URI is empty; the host's own daemon is qemu:///system
the scrape timeout is 0s; it must be more than 0
the scrape timeout offset is -1ns; it must be 0 or more
the hang timeout is 0s; it must be more than 0
the keep-alive interval is 1.5s; it must be whole seconds, 1s or more
the keep-alive count is 0; it must be 1 or more`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
