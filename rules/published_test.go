package rules_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/rules"
)

// scrape reads the metric families of a target.
func scrape(t *testing.T, url string) (map[string]*dto.MetricFamily, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(response.Body)
}

// labels returns the label names of a family, without le.
func labels(family *dto.MetricFamily) []string {
	var found []string
	for _, pair := range family.GetMetric()[0].GetLabel() {
		found = append(found, pair.GetName())
	}
	slices.Sort(found)
	return found
}

// TestTheServerPublishesTheSeriesThatAreListed runs the server over simulated VMs and
// compares what it publishes with the list that rules and dashboard are checked against.
func TestTheServerPublishesTheSeriesThatAreListed(t *testing.T) {
	testenv.Need(t, testenv.Program("go"), testenv.Program("promtool"))
	dir := t.TempDir()
	server := filepath.Join(dir, "scalehook")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", server, "../cmd/scalehook").CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v\n%s", err, out)
	}
	config := strings.NewReplacer("/etc/scalehook/", dir+"/", "mode: observe", "mode: full").Replace(read(t, "../deploy/examples/scalehook.yml")) +
		"\nwebhooks: [{name: nobody, url: 'http://127.0.0.1:9/', secret_file: operator.token}]\n"
	for name, text := range map[string]string{
		"scalehook.yml": config, "alerts.token": strings.Repeat("a", 64), "operator.token": strings.Repeat("o", 64),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address := testenv.FreeAddress(t)
	testenv.Start(t, exec.Command(server, "serve",
		"--config.file="+filepath.Join(dir, "scalehook.yml"), "--storage.path="+filepath.Join(dir, "state"), "--web.listen-address="+address),
		testenv.OK("http://"+address+"/-/healthy"))

	var families map[string]*dto.MetricFamily
	testenv.Eventually(t, time.Minute, "an instance that is in service and a member", func() error {
		var err error
		families, err = scrape(t, "http://"+address+"/metrics")
		for _, name := range []string{"scalehook_instance_info", "scalehook_member_state", "scalehook_group_launch_phase_duration_seconds", "scalehook_confirmations_total", "scalehook_delivery_oldest_timestamp_seconds"} {
			if err == nil && families[name] == nil {
				err = fmt.Errorf("no %s yet", name)
			}
		}
		return err
	})

	// These come only with an alert, or what failed.
	rare := []string{"scalehook_activities_last_failed_timestamp_seconds", "scalehook_condition_expiry_timestamp_seconds", "scalehook_evidence_timestamp_seconds", "scalehook_driver_requests_failed_total"}
	listed := map[string]bool{}
	for _, series := range rules.ServerSeries() {
		listed[series.Name] = true
		family := families[series.Name]
		if family == nil {
			if !slices.Contains(rare, series.Name) {
				t.Errorf("%s is not published", series.Name)
			}
			continue
		}
		if kind := strings.ToLower(family.GetType().String()); kind != string(series.Kind) {
			t.Errorf("%s is a %s, listed as %s", series.Name, kind, series.Kind)
		}
		if help := family.GetHelp(); help != series.Help {
			t.Errorf("%s says of itself: %q, listed as %q", series.Name, help, series.Help)
		}
		want := slices.Sorted(slices.Values(series.Labels))
		if got := labels(family); !slices.Equal(got, want) {
			t.Errorf("%s has the labels %v, listed with %v", series.Name, got, want)
		}
	}
	for name := range families {
		if strings.HasPrefix(name, "scalehook_") && !listed[name] {
			t.Errorf("%s is published and not listed", name)
		}
	}
	for _, series := range rules.ExporterSeries() {
		// libvirt_up says that a libvirt answered; there is none here.
		if family := families[series.Name]; series.Name != "libvirt_up" && family == nil {
			t.Errorf("%s is not published for simulated VMs", series.Name)
		}
	}
}
