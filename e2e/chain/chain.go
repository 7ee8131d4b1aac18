// Package chain configures the programs between the exporter and scalehook, and
// HAProxy, for runs that are to take minutes: the fast profile of the demos and of the
// tour. The rules are the product's own, rendered for it.
package chain

import (
	"fmt"
	"strings"
)

// The intervals of the fast profile.
const (
	ScrapeInterval = "1s"
	RateWindow     = "4s"
)

// Job is one that Prometheus scrapes.
type Job struct{ Name, Target string }

// Prometheus scrapes the jobs and posts the alerts of the rules to Alertmanager.
func Prometheus(rules, alertmanager string, jobs ...Job) string {
	var scrapes strings.Builder
	for _, j := range jobs {
		fmt.Fprintf(&scrapes, "  - {job_name: %s, static_configs: [{targets: [%q]}]}\n", j.Name, j.Target)
	}
	return fmt.Sprintf(`global:
  scrape_interval: %[1]s
  scrape_timeout: %[1]s
  evaluation_interval: %[1]s
rule_files: [%[2]q]
alerting:
  alertmanagers: [{static_configs: [{targets: [%[3]q]}]}]
scrape_configs:
%[4]s`, ScrapeInterval, rules, alertmanager, scrapes.String())
}

// Alertmanager routes the scaling signals and the heartbeat to scalehook at that address
// with the token of a file, and nothing else.
func Alertmanager(server, token string) string {
	return fmt.Sprintf(`route:
  receiver: nobody
  routes:
    - matchers: ['scalehook_signal=~"high|low"']
      receiver: scalehook
      group_by: [scaling_group]
      group_wait: 0s
      group_interval: 1s
      repeat_interval: 10s
    - {matchers: ['scalehook_heartbeat="true"'], receiver: scalehook}
receivers:
  - name: nobody
  - name: scalehook
    webhook_configs:
      - url: http://%s/api/v1/alertmanager
        send_resolved: true
        max_alerts: 0
        http_config:
          follow_redirects: false
          authorization: {type: Bearer, credentials_file: %q}
`, server, token)
}

// HAProxy hides nothing: no retries, no redispatch, so that whatever the balancer does
// wrong reaches the client. The backend web is in a file of its own.
func HAProxy(socket, bind string) string {
	return fmt.Sprintf(`global
  stats socket %s mode 600 level admin expose-fd listeners
  maxconn 2000
  nbthread 1
defaults
  mode http
  timeout connect 3s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 60s
  timeout check 15s
  option idle-close-on-response
  retries 0
  no option redispatch
frontend clients
  bind %s
  default_backend web
`, socket, bind)
}

// EmptyBackend is the backend that HAProxy starts with.
const EmptyBackend = `backend web
  balance leastconn
  option httpchk GET /health
`

// BackendTemplate is the complete section that scalehook writes, with the members in
// service, so that a reload by anybody finds them.
const BackendTemplate = EmptyBackend + `{{- range .Servers}}
  server {{.Name}} {{.Address}} {{.Options}}
{{- end}}
`
