package stage

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
)

// The intervals of the monitoring: the fast profile, so that a run takes minutes.
// The rules are the product's own, rendered for them.
const (
	ScrapeInterval = "1s"
	RateWindow     = "4s"
)

// Monitoring is where its programs listen.
type Monitoring struct {
	Prometheus, Alertmanager string
}

// StartMonitoring starts Alertmanager, which posts the scaling signals to the server
// at that address with the token in the file, and Prometheus with the rules that
// program, the scalehook binary, prints. Prometheus scrapes the server and the
// targets.
func (s *Stage) StartMonitoring(ctx context.Context, program, server, token string, targets ...string) (m Monitoring, err error) {
	if m.Alertmanager, err = FreeAddress(ctx); err != nil {
		return m, err
	}
	if m.Prometheus, err = FreeAddress(ctx); err != nil {
		return m, err
	}
	config, err := s.Write("alertmanager.yml", alertmanagerConfig(server, token), 0o600)
	if err != nil {
		return m, err
	}
	if _, err := s.Start(ctx, Spec{
		Name: "alertmanager", Path: "prometheus-alertmanager",
		Args:  []string{"--config.file=" + config, "--storage.path=" + s.Path("alertmanager"), "--web.listen-address=" + m.Alertmanager, "--cluster.listen-address="},
		Ready: s.answers("http://" + m.Alertmanager + "/-/ready"),
	}); err != nil {
		return m, err
	}
	printed, err := exec.CommandContext(ctx, program, "rules", "--scrape-interval", ScrapeInterval).Output()
	if err != nil {
		return m, fmt.Errorf("scalehook rules: %w", err)
	}
	rules, err := s.Write("scalehook.rules.yml", string(printed), 0o644)
	if err != nil {
		return m, err
	}
	if config, err = s.Write("prometheus.yml", prometheusConfig(rules, m.Alertmanager, append(targets, server)), 0o644); err != nil {
		return m, err
	}
	_, err = s.Start(ctx, Spec{
		Name: "prometheus", Path: "prometheus",
		Args: []string{
			"--config.file=" + config, "--storage.tsdb.path=" + s.Path("prometheus"), "--web.listen-address=" + m.Prometheus,
			"--rules.alert.resend-delay=1s",
		},
		Ready: s.answers("http://" + m.Prometheus + "/-/ready"),
	})
	return m, err
}

// StartExporter starts scalehook-exporter beside the cloud's libvirt, at the socket
// that it finds by itself, and returns its address.
func (s *Stage) StartExporter(ctx context.Context, program string) (string, error) {
	address, err := FreeAddress(ctx)
	if err != nil {
		return "", err
	}
	_, err = s.Start(ctx, Spec{
		Name: "exporter", Path: program, Args: []string{"--web.listen-address=" + address}, Ready: s.answers("http://" + address + "/metrics"),
	})
	return address, err
}

func prometheusConfig(rules, alertmanager string, targets []string) string {
	var jobs strings.Builder
	for _, target := range targets {
		_, port, _ := net.SplitHostPort(target)
		fmt.Fprintf(&jobs, "  - {job_name: at-%s, static_configs: [{targets: [%q]}]}\n", port, target)
	}
	return fmt.Sprintf(`global:
  scrape_interval: %[1]s
  scrape_timeout: %[1]s
  evaluation_interval: %[1]s
rule_files: [%[2]q]
alerting:
  alertmanagers: [{static_configs: [{targets: [%[3]q]}]}]
scrape_configs:
%[4]s`, ScrapeInterval, rules, alertmanager, jobs.String())
}

// alertmanagerConfig routes the scaling signals and the heartbeat to scalehook, and
// nothing else.
func alertmanagerConfig(server, token string) string {
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
