package stage

import (
	"context"
	"fmt"
	"net"
	"os/exec"

	"github.com/scalehook/scalehook/e2e/chain"
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
	config, err := s.Write("alertmanager.yml", chain.Alertmanager(server, token), 0o600)
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
	printed, err := exec.CommandContext(ctx, program, "rules", "--scrape-interval", chain.ScrapeInterval).Output()
	if err != nil {
		return m, fmt.Errorf("scalehook rules: %w", err)
	}
	rules, err := s.Write("scalehook.rules.yml", string(printed), 0o644)
	if err != nil {
		return m, err
	}
	var jobs []chain.Job
	for _, target := range append(targets, server) {
		_, port, err := net.SplitHostPort(target)
		if err != nil {
			return m, err
		}
		jobs = append(jobs, chain.Job{Name: "at-" + port, Target: target})
	}
	if config, err = s.Write("prometheus.yml", chain.Prometheus(rules, m.Alertmanager, jobs...), 0o644); err != nil {
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
