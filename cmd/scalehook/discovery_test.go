package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/testenv"
)

// discoverer is a Prometheus that discovers the members of web. It scrapes the server
// in their place, whose addresses lead nowhere.
const discoverer = `global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: web
    http_sd_configs:
      - {url: "http://%[1]s/sd/prometheus?group=web&port=9100", refresh_interval: 1s}
    relabel_configs:
      - {source_labels: [__address__], target_label: instance}
      - {source_labels: [__meta_scalehook_group], target_label: scaling_group}
      - {source_labels: [__meta_scalehook_vm], target_label: vm}
      - {target_label: __address__, replacement: "%[1]s"}
`

func TestPrometheusDiscoversTheMembers(t *testing.T) {
	testenv.Need(t, testenv.Program("prometheus"))
	t.Parallel()
	dir := t.TempDir()
	server, prom := testenv.FreeAddress(t), testenv.FreeAddress(t)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), fmt.Appendf(nil, discoverer, server), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.Start(t, exec.Command(testenv.Path(t, "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+prom), testenv.OK("http://"+prom+"/-/ready"))

	f := testFlags(t)
	f.listen, f.insecure = []string{server}, true
	const config = "owner: test\nproviders: {sim: {simulated: {boot_time: 100ms}}}\nbalancers: {pool: {simulated: {provider: sim}}}\n" +
		"groups: {web: {max: 3, min: 1, mode: scale_out_only}}\n"
	if err := os.WriteFile(f.configFile, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, f, io.Discard) }()
	stop := func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		ended <- nil
	}
	defer stop()

	c, err := client.New(client.Options{URL: "http://" + server})
	if err != nil {
		t.Fatal(err)
	}
	// await waits until Prometheus scrapes exactly what is in service, that many.
	await := func(n int) {
		t.Helper()
		testenv.Eventually(t, 30*time.Second, fmt.Sprintf("%d targets", n), func() error {
			instances, err := c.Instances(t.Context(), "web")
			if err != nil {
				return err
			}
			var want []string
			for _, i := range instances {
				if i.State == "in_service" {
					want = append(want, fmt.Sprintf("web %s %s:9100 up", i.Name, i.Address))
				}
			}
			slices.Sort(want)
			all, err := targets(prom)
			if err == nil && (len(all) != n || !slices.Equal(all, want)) {
				err = fmt.Errorf("targets %v; in service are %v", all, want)
			}
			return err
		})
	}
	await(1)
	three, two := 3, 2
	for _, count := range []*int{&three, &two} {
		if _, err := c.SetDesired(t.Context(), "web", "", api.OrderRequest{Count: count}); err != nil {
			t.Fatal(err)
		}
		await(*count)
	}

	before, err := targets(prom)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	testenv.Eventually(t, 30*time.Second, "look-ups that failed", func() error {
		page, err := fetch("http://" + prom + "/metrics")
		if err != nil {
			return err
		}
		if m := regexp.MustCompile(`(?m)^prometheus_sd_http_failures_total ([0-9.e+]+)$`).FindSubmatch(page); m == nil || len(m[1]) == 1 && m[1][0] < '2' {
			return fmt.Errorf("failures: %q", m)
		}
		return nil
	})
	after, err := targets(prom)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before) || len(after) != two {
		t.Errorf("the server is away and Prometheus went from %v to %v", before, after)
	}
}

func fetch(url string) ([]byte, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// targets returns what Prometheus scrapes, as "group vm instance health".
func targets(prom string) ([]string, error) {
	var answer struct {
		Data struct {
			ActiveTargets []struct {
				Labels map[string]string `json:"labels"`
				Health string            `json:"health"`
			} `json:"activeTargets"`
		} `json:"data"`
	}
	text, err := fetch("http://" + prom + "/api/v1/targets")
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		return nil, err
	}
	all := []string{}
	for _, a := range answer.Data.ActiveTargets {
		all = append(all, fmt.Sprintf("%s %s %s %s", a.Labels["scaling_group"], a.Labels["vm"], a.Labels["instance"], a.Health))
	}
	slices.Sort(all)
	return all, nil
}
