package doctor

import (
	"context"
	"fmt"
	"net"
	"strings"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
)

// amStatus is what an Alertmanager says of itself.
type amStatus struct {
	Cluster struct {
		Peers []struct {
			Address string `json:"address"`
		} `json:"peers"`
	} `json:"cluster"`
	Config struct {
		Original string `json:"original"`
	} `json:"config"`
}

// alertmanager examines the peers that are configured.
func (x *live) alertmanager(ctx context.Context) []Check {
	r := &report{part: PartAlertmanager}
	list := x.Config.Alertmanagers
	if len(list) == 0 {
		r.warn(0, "answers", "none is configured, so nothing here was looked at, and a silence pauses no group: state alertmanagers: [{url: …}] in scalehook's configuration")
		return r.checks
	}
	if x.alertmanagerErr != nil {
		r.bad(0, "answers", "%v", x.alertmanagerErr)
		return r.checks
	}
	client, err := promconfig.NewClientFromConfig(list[0].HTTPClient, "scalehook_doctor", promconfig.WithUserAgent("scalehook"))
	if err != nil {
		r.bad(0, "answers", "http_client: %v", err)
		return r.checks
	}
	defer client.CloseIdleConnections()
	seen, peers := "", 0
	var examined []Check
	for i, one := range list {
		status, err := get[amStatus](ctx, client, "Alertmanager at "+one.URL, strings.TrimSuffix(one.URL, "/")+"/api/v2/status")
		if err != nil {
			r.bad(0, "answers", "%v", err)
			continue
		}
		peers = max(peers, len(status.Cluster.Peers), len(list))
		switch {
		case i > 0 && status.Config.Original == seen:
			continue
		case seen != "":
			r.bad(0, "peers", "%s is configured differently than %s: give every peer the same file", one.URL, list[0].URL)
			continue
		}
		seen = status.Config.Original
		file := AlertmanagerFile{Text: []byte(seen), Peers: peers}
		if host, _, err := net.SplitHostPort(hostPort(one.URL)); err == nil && local(host) {
			file.Dir = "/"
		}
		examined = Alertmanager(x.e, file)
	}
	if len(r.checks) == 0 {
		r.ok("answers", "%s, and clocks are right", plural(len(list), "Alertmanager"))
	}
	if peers > len(list) {
		r.warn(0, "peers", "the cluster has %d, and %d are configured: list every peer's url under alertmanagers, since a silence may be at another one first", peers, len(list))
	}
	for _, c := range examined {
		c.Line = 0 // its own writing of the file
		r.checks = append(r.checks, c)
	}
	x.notifications(ctx, r)
	return r.checks
}

// local reports whether a host is this machine.
func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// notifications looks what the server answered to the posts of late.
func (x *live) notifications(ctx context.Context, r *report) {
	const what = "notifications"
	if x.Config.Prometheus == nil || x.prometheusErr != nil {
		return
	}
	client, err := promconfig.NewClientFromConfig(x.Config.Prometheus.HTTPClient, "scalehook_doctor", promconfig.WithUserAgent("scalehook"))
	if err != nil {
		return // said with Prometheus
	}
	defer client.CloseIdleConnections()
	const posts = `scalehook_webhook_requests_total{handler="alertmanager"}`
	found, err := (&promAPI{client: client, url: x.Config.Prometheus.URL}).query(ctx, fmt.Sprintf(
		`sum by (code) (max_over_time(%[1]s[15m]) - (%[1]s offset 15m or %[1]s * 0)) > 0`, posts))
	if err != nil {
		return // said with Prometheus
	}
	var f findings
	taken := model.SampleValue(0)
	for _, s := range found {
		if s.Metric["code"] == "200" {
			taken = s.Value
		}
	}
	for _, s := range found {
		switch code := s.Metric["code"]; code {
		case "200":
		case "401", "403":
			say := f.bad
			if taken > 0 {
				say = f.warn
			}
			say(0, "the server answered %.0f posts of the last 15 minutes with %s: the token that Alertmanager sends must be one of the role alerts", float64(s.Value), code)
		default:
			f.warn(0, "the server answered %.0f posts of the last 15 minutes with %s: see its log", float64(s.Value), code)
		}
	}
	if len(found) == 0 {
		f.warn(0, "none came within 15 minutes: if the heartbeat is routed here, see that Alertmanager reaches the server's address")
	}
	r.check(what, f, "%.0f taken within 15 minutes", float64(taken))
}
