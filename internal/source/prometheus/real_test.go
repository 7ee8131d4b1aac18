package prometheus_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/prometheus"
	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/rules"
)

// hypervisor is a scrape target with VMs of a fixed utilisation, and beside them
// what scalehook publishes of their groups.
type hypervisor struct {
	begin time.Time

	mu     sync.Mutex
	silent bool
	still  map[string]float64 // counters that stand still
}

func (h *hypervisor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r.URL.Path == "/scalehook" {
		for _, vm := range []struct{ group, uuid string }{{"web", "u1"}, {"web", "u2"}, {"idle", "i1"}, {"hung", "h1"}} {
			fmt.Fprintf(w, "scalehook_instance_state{scaling_group=%q,uuid=%q,state=\"in_service\"} 1\n", vm.group, vm.uuid)
			fmt.Fprintf(w, "scalehook_instance_warm{scaling_group=%q,uuid=%q} 1\n", vm.group, vm.uuid)
			if vm.uuid != "u2" {
				fmt.Fprintf(w, "scalehook_group_cpu_high_threshold_ratio{scaling_group=%q} 0.7\n", vm.group)
				fmt.Fprintf(w, "scalehook_group_cpu_low_threshold_ratio{scaling_group=%q} 0.3\n", vm.group)
			}
		}
		return
	}
	if h.silent {
		http.Error(w, "silent", http.StatusServiceUnavailable)
		return
	}
	up := time.Since(h.begin).Seconds()
	for uuid, use := range map[string]float64{"u1": 0.9, "u2": 0.8, "i1": 0.1, "h1": 0.5} {
		counter := 1000 + use*2*up
		if at, ok := h.still[uuid]; ok {
			counter = at
		}
		fmt.Fprintf(w, "libvirt_domain_vcpus{domain=%q,uuid=%q} 2\n", uuid, uuid)
		fmt.Fprintf(w, "libvirt_domain_cpu_time_seconds_total{domain=%q,uuid=%q} %f\n", uuid, uuid, counter)
	}
}

func (h *hypervisor) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

const realConfig = `
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
  - job_name: scalehook
    metrics_path: /scalehook
    honor_labels: true
    static_configs: [{targets: [%[1]q], labels: {scaling_group: collision}}]
  - job_name: exporter
    static_configs: [{targets: [%[1]q], labels: {group: kvm, scaling_group: hosts}}]
`

// states renders evidence for comparison.
func states(all []scaling.Evidence) string {
	found := make([]string, 0, len(all))
	for _, e := range all {
		found = append(found, fmt.Sprintf("%s %s %s", e.Group, e.Signal, e.State))
	}
	return strings.Join(found, ", ")
}

func TestARealPrometheusConfirmsWhatTheRulesSay(t *testing.T) {
	testenv.Need(t, testenv.Program("prometheus"))
	host := &hypervisor{begin: time.Now(), still: map[string]float64{}}
	target := httptest.NewServer(host)
	defer target.Close()

	dir := t.TempDir()
	text, err := rules.Render(rules.Options{ScrapeInterval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"rules.yml":      string(text),
		"prometheus.yml": fmt.Sprintf(realConfig, strings.TrimPrefix(target.URL, "http://")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := testenv.FreeAddress(t)
	daemon := testenv.Start(t, exec.Command(testenv.Path(t, "prometheus"),
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=warn"), testenv.OK("http://"+address+"/-/ready"))

	cfg := prometheus.DefaultConfig()
	cfg.URL = "http://" + address
	s, err := prometheus.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	confirms := func(want string) func() error {
		return func() error {
			asked := time.Now()
			all, err := s.Confirm(t.Context())
			if err != nil {
				return err
			}
			if got := states(all); got != want {
				return fmt.Errorf("%q, want %q", got, want)
			}
			for _, e := range all {
				// A sample that was scraped after the question proves nothing about it.
				if e.At.After(asked) || asked.Sub(e.At) > 10*time.Second {
					return fmt.Errorf("%s: evidence time %v, asked at %v", e.Group, e.At, asked)
				}
			}
			return nil
		}
	}
	testenv.Eventually(t, 30*time.Second, "both signals", confirms("idle low firing, web high firing"))

	readings, err := s.Readings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for uuid, use := range map[string]float64{"u1": 0.9, "u2": 0.8, "i1": 0.1, "h1": 0.5} {
		// Scrapes of a busy machine are late, so the value is rough.
		if got, ok := readings[uuid]; !ok || got.Utilization < use*0.7 || got.Utilization > min(1, use*1.3) {
			t.Errorf("reading of %s: %+v, want about %v", uuid, got, use)
		}
	}

	// h1 hangs: its reading has to go, and low must not fire on the way.
	host.set(func() { host.still["h1"] = 1000 + 0.5*2*time.Since(host.begin).Seconds() })
	testenv.Eventually(t, 30*time.Second, "no reading of a hung guest", func() error {
		if all, err := s.Confirm(t.Context()); err != nil || strings.Contains(states(all), "hung low") {
			t.Errorf("a hung guest looks idle: %q, %v", states(all), err)
		}
		got, err := s.Readings(t.Context())
		if err == nil && got["h1"] != (scaling.Reading{}) {
			err = fmt.Errorf("still %+v", got["h1"])
		}
		return err
	})

	// The exporter goes silent: every reading is missing, and nothing fires.
	host.set(func() { host.silent = true })
	testenv.Eventually(t, 30*time.Second, "no reading of anything", func() error {
		got, err := s.Readings(t.Context())
		if err == nil && len(got) > 0 {
			err = fmt.Errorf("still %v", got)
		}
		return err
	})
	testenv.Eventually(t, 30*time.Second, "no signal", confirms(""))
	host.set(func() { host.silent = false })
	testenv.Eventually(t, 30*time.Second, "both signals again", confirms("idle low firing, web high firing"))

	daemon.Kill(t)
	if _, err := s.Confirm(t.Context()); err == nil || scaling.ClassOf(err) != scaling.Temporary {
		t.Errorf("a dead Prometheus: %v", err)
	}
	if _, err := s.Readings(t.Context()); err == nil || scaling.ClassOf(err) != scaling.Temporary {
		t.Errorf("a dead Prometheus: %v", err)
	}
}
