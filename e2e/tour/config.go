package main

import "fmt"

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
monitoring: {scrape_interval: 1s, evaluation_interval: 1s, rate_window: 4s}
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
`, sources, t.path("operator.token"), tokens, t.hook, t.path("webhook.secret"), load, mode)
}

func (t *tour) prometheusConfig() string {
	exporter := ""
	if t.dashboards {
		exporter = fmt.Sprintf("  - {job_name: scalehook-exporter, static_configs: [{targets: [%q]}]}\n", t.libvirt)
	}
	return fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
alerting:
  alertmanagers: [{static_configs: [{targets: [%q]}]}]
scrape_configs:
  - {job_name: scalehook, static_configs: [{targets: [%q]}]}
%s`, t.path("rules.yml"), t.alerts, t.server, exporter)
}

func (t *tour) alertmanagerConfig() string {
	return fmt.Sprintf(`route:
  receiver: nobody
  routes:
    - {matchers: ['scalehook_signal=~"high|low"'], receiver: scalehook, group_by: [scaling_group], group_wait: 0s, group_interval: 1s, repeat_interval: 10s}
receivers:
  - name: nobody
  - name: scalehook
    webhook_configs:
      - url: http://%s/api/v1/alertmanager
        send_resolved: true
        http_config: {follow_redirects: false, authorization: {type: Bearer, credentials_file: %q}}
`, t.server, t.path("alerts.token"))
}
