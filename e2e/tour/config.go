package main

import (
	"fmt"

	"github.com/scalehook/scalehook/e2e/chain"
)

// serverConfig is one group on the simulated provider. The load is offered in
// steps after the start.
func (t *tour) serverConfig() string {
	// Without a source that confirms, nothing may be removed but by order.
	mode, sources, tokens, load := "scale_out_only", "", "", ""
	if t.monitored() {
		mode = "full"
		sources = fmt.Sprintf("prometheus: {url: \"http://%s\"}\nalertmanagers: [{url: \"http://%s\"}]\n", t.prom, t.alerts)
		tokens = fmt.Sprintf("  - {name: alertmanager, role: alerts, file: %q}\n", t.path("alerts.token"))
		load = "\n      load: {web: [{after: 8s, vcpus: 2.6}, {after: 40s, vcpus: 0.2}]}"
	}
	return fmt.Sprintf(`owner: tour
monitoring: {scrape_interval: %s, evaluation_interval: %s, rate_window: %s}
%stokens:
  - {name: tour, role: operator, file: %q}
%swebhooks:
  - {name: tour, url: %q, secret_file: %q}
providers:
  sim:
    simulated:
      boot_time: 2s
      shutdown_time: 1s
      drain_time: 1s%s
balancers:
  sim: {simulated: {provider: sim}}
groups:
  web:
    mode: %s
    min: 1
    max: 3
    high: 70%%
    low: 20%%
    cooldown: 2s
    warm_up: 1s
    lease_ttl: 1m
    name: "web-{n}"
    provider: sim
    balancer: sim
    port: 80
`, chain.ScrapeInterval, chain.ScrapeInterval, chain.RateWindow, sources, t.path("operator.token"), tokens, t.hook, t.path("webhook.secret"), load, mode)
}

func (t *tour) prometheusConfig() string {
	jobs := []chain.Job{{Name: "scalehook", Target: t.server}}
	if t.dashboards {
		jobs = append(jobs, chain.Job{Name: "scalehook-exporter", Target: t.libvirt})
	}
	return chain.Prometheus(t.path("rules.yml"), t.alerts, jobs...)
}
