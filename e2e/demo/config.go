package main

import (
	"fmt"
	"strings"

	"github.com/scalehook/scalehook/e2e/chain"
)

const (
	haproxyAddr      = "127.0.0.1:8080"
	exporterAddr     = "127.0.0.1:10071"
	serverAddr       = "127.0.0.1:10070"
	prometheusAddr   = "127.0.0.1:9090"
	alertmanagerAddr = "127.0.0.1:9093"
	receiverAddr     = "127.0.0.1:10080"
)

// templateVolume is the base image's name in the pool.
const templateVolume = "base-template.qcow2"

// slowStart is the guests' user-data: the service listens only some seconds after
// the address is there, as real ones do, so that joining has to wait for it.
const slowStart = `#!/bin/sh
kill "$(cat /run/guestd.pid)"
sleep 2
guestd -listen :80 -host "$(hostname)" -instance-id "$(cat /run/instance-id)" -collector-file /run/collector >/dev/console 2>&1 &
echo $! > /run/guestd.pid
`

// groupConfig is one scenario's group, as it stands in scalehook's configuration.
type groupConfig struct {
	name      string
	high, low string
	min, max  int
	victim    string
	vmName    string
	adopt     []string
	onRemove  string
}

// serverConfig is scalehook's configuration for one group.
func (w *world) serverConfig(g groupConfig) string {
	adopt := ""
	if len(g.adopt) > 0 {
		adopt = "    adopt: [" + strings.Join(g.adopt, ", ") + "]\n"
	}
	drain := "30s"
	if w.fault == faultNoDrain {
		drain = "1ms"
	}
	fragment := fmt.Sprintf("\n      fragment: {file: %q, template: %q}", w.fragmentFile(), w.lab.Path("backend.tmpl"))
	master := fmt.Sprintf(", master_socket: %q", w.haproxy.MasterSocket)
	if w.fault == faultReloadMidDrain {
		fragment, master = "", ""
	}
	return fmt.Sprintf(`owner: demo
monitoring: {scrape_interval: %[1]s, evaluation_interval: %[1]s, rate_window: %[2]s, repeat_interval: 10s}
prometheus: {url: "http://%[3]s"}
alertmanagers: [{url: "http://%[4]s"}]
tokens:
  - {name: alertmanager, role: alerts, file: %[5]q}
  - {name: demo, role: operator, file: %[6]q}
webhooks:
  - {name: demo, url: "http://%[24]s", secret_file: %[25]q}
providers:
  host:
    libvirt: {uri: %[7]q}
balancers:
  edge:
    haproxy:
      sockets: [{address: %[8]q%[9]s}]
groups:
  %[10]s:
    mode: full
    min: %[11]d
    max: %[12]d
    high: %[13]s
    low: %[14]s
    cooldown: 3s
    warm_up: 3s
    lease_ttl: 1m
    launch_deadline: 3m
    drain_deadline: %[15]s
    shutdown_deadline: 20s
    victim: %[16]s
    on_remove: %[17]s
    name: %[18]q
%[19]s    provider: host
    template:
      image: %[20]s
      pool: images
      network: default
      memory: 128MiB
      vcpus: 1
      domain_type: %[21]s
      cloud_init: {user_data: %[22]q}
    balancer: edge
    pool:
      backend: web
      check: {inter: 500ms, rise: 1, fall: 2}%[23]s
    port: 80
`, chain.ScrapeInterval, chain.RateWindow, prometheusAddr, alertmanagerAddr, w.alertsToken, w.operatorToken,
		w.lab.URI(), w.haproxy.AdminSocket, master, g.name, g.min, g.max, g.high, g.low, drain, g.victim, g.onRemove, g.vmName, adopt,
		templateVolume, w.domainType, w.lab.Path("user-data"), fragment, receiverAddr, w.webhookSecret)
}
