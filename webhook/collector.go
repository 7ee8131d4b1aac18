package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/scaling"
)

// collectTimeout bounds how long a scrape waits for the groups.
const collectTimeout = 5 * time.Second

// collector turns the groups as they are into series at every scrape, so that
// the series of what is gone are gone too. The scaling rules join on these.
type collector struct {
	viewer  scaling.Viewer
	metrics *metrics
	log     *slog.Logger
	now     func() time.Time

	mu    sync.Mutex
	known map[string]bool // groups of the last scrape

	high, low, desired, minimum, maximum, instances, status       *prometheus.Desc
	active, expiry, evidence, cooldown, notified                  *prometheus.Desc
	info, state, warm, primary, created, memberState, memSessions *prometheus.Desc
}

func newCollector(viewer scaling.Viewer, m *metrics, log *slog.Logger, now func() time.Time) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("scalehook_"+name, help, append([]string{"scaling_group"}, labels...), nil)
	}
	return &collector{
		viewer: viewer, metrics: m, log: log, now: now, known: map[string]bool{},

		high:      desc("group_cpu_high_threshold_ratio", "CPU utilisation above which the group is to grow, 0 to 1."),
		low:       desc("group_cpu_low_threshold_ratio", "CPU utilisation below which the group is to shrink, 0 to 1."),
		desired:   desc("group_instances_desired", "Instances that the group is being brought to."),
		minimum:   desc("group_instances_min", "Fewest instances the group may have."),
		maximum:   desc("group_instances_max", "Most instances the group may have."),
		instances: desc("group_instances", "Instances of the group, by state.", "state"),
		status:    desc("group_status", "Standing remarks on the group: 1 while one holds, else 0.", "status"),
		active:    desc("condition_active", "Whether the signal stands for the group.", "signal"),
		expiry:    desc("condition_expiry_timestamp_seconds", "When the standing condition becomes unknown unless it is renewed.", "signal"),
		evidence:  desc("evidence_timestamp_seconds", "Newest evidence time that a source gave for the signal.", "signal"),
		cooldown:  desc("group_cooldown_until_timestamp_seconds", "When the cooldown of the group ends or ended; 0 for none yet."),
		notified:  desc("webhook_last_notification_timestamp_seconds", "When the group last heard from a webhook; 0 for never."),

		info:        desc("instance_info", "An instance whose VM is known; always 1.", "uuid", "vm", "provider", "address"),
		state:       desc("instance_state", "The state that the instance is in; always 1.", "uuid", "state"),
		warm:        desc("instance_warm", "Whether the instance's CPU counts for the high signal.", "uuid"),
		primary:     desc("instance_primary", "Whether the instance is the group's primary.", "uuid"),
		created:     desc("instance_created_timestamp_seconds", "When the instance was asked for.", "uuid"),
		memberState: desc("member_state", "The state that the balancer has the instance in; always 1.", "pool", "uuid", "state"),
		memSessions: desc("member_sessions", "Sessions in flight to the instance, where the balancer counts them.", "pool", "uuid"),
	}
}

// Describe names every series that Collect may send.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.high, c.low, c.desired, c.minimum, c.maximum, c.instances, c.status,
		c.active, c.expiry, c.evidence, c.cooldown, c.notified,
		c.info, c.state, c.warm, c.primary, c.created, c.memberState, c.memSessions,
	} {
		ch <- d
	}
	c.metrics.alerts.Describe(ch)
}

// Collect asks for the groups once. Without an answer it reports the failure and
// no series of them: the rules then know nothing, which is the truth. The counters
// of alerts come along, because their series follow the groups.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	defer c.metrics.alerts.Collect(ch)
	ctx, cancel := context.WithTimeoutCause(context.Background(), collectTimeout,
		fmt.Errorf("no answer within %s", collectTimeout))
	defer cancel()
	views, err := c.viewer.Groups(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(c.high, fmt.Errorf("look up the groups: %w", err))
		return
	}
	c.remember(views)
	for _, v := range views {
		c.group(ch, v)
		c.members(ch, v)
	}
}

// remember makes the counters of new groups exist and drops those of gone ones.
func (c *collector) remember(views []scaling.GroupView) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := make(map[string]bool, len(views))
	for _, v := range views {
		now[v.Group.Name] = true
		if !c.known[v.Group.Name] {
			c.metrics.touch(v.Group.Name)
		}
	}
	for name := range c.known {
		if !now[name] {
			c.metrics.forget(name)
		}
	}
	c.known = now
}

func (c *collector) group(ch chan<- prometheus.Metric, v scaling.GroupView) {
	name := v.Group.Name
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{name}, labels...)...)
	}
	send(c.high, v.Group.High)
	send(c.low, v.Group.Low)
	send(c.desired, float64(v.State.Desired))
	send(c.minimum, float64(v.Group.Min))
	send(c.maximum, float64(v.Group.Max))
	send(c.cooldown, seconds(v.State.CooldownUntil))
	send(c.notified, seconds(v.State.LastNotification))

	count := map[scaling.InstanceState]int{}
	for _, i := range v.Instances {
		count[i.State]++
	}
	for _, s := range scaling.InstanceStates() {
		// What is gone is no instance any more and would be counted for ever.
		if s != scaling.StateGone {
			send(c.instances, float64(count[s]), string(s))
		}
	}
	holds := map[scaling.Status]bool{}
	for _, s := range v.Statuses {
		holds[s] = true
	}
	for _, s := range scaling.Statuses() {
		send(c.status, truth(holds[s]), string(s))
	}
	for _, sig := range []scaling.Signal{scaling.High, scaling.Low} {
		var newest time.Time
		for _, e := range v.Evidence {
			if e.Signal == sig && e.At.After(newest) {
				newest = e.At
			}
		}
		if !newest.IsZero() {
			send(c.evidence, seconds(newest), string(sig))
		}
		var standing scaling.Condition
		for _, cond := range v.Conditions {
			if cond.Signal == sig {
				standing = cond
			}
		}
		send(c.active, truth(standing.Standing), string(sig))
		if standing.Standing {
			send(c.expiry, seconds(standing.Expires), string(sig))
		}
	}
}

// members sends the series that carry a uuid. One VM in two records (adopted
// twice, say) must not make the whole scrape fail, so a uuid is sent once.
func (c *collector) members(ch chan<- prometheus.Metric, v scaling.GroupView) {
	name := v.Group.Name
	send := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{name}, labels...)...)
	}
	seen := map[string]bool{}
	for _, i := range v.Instances {
		if i.UUID == "" || i.State == scaling.StateGone {
			continue
		}
		if seen[i.UUID] {
			c.log.Warn("two instances of a group have the same VM", "scaling_group", name, "uuid", i.UUID)
			continue
		}
		seen[i.UUID] = true
		address := ""
		if i.Address.IsValid() {
			address = i.Address.String()
		}
		send(c.info, 1, i.UUID, i.Name, v.Group.Provider, address)
		send(c.state, 1, i.UUID, string(i.State))
		send(c.warm, truth(i.Warm), i.UUID)
		send(c.primary, truth(i.Primary), i.UUID)
		send(c.created, seconds(i.CreatedAt), i.UUID)
		if m := i.Member; m != nil {
			send(c.memberState, 1, v.Group.Balancer, i.UUID, string(m.State))
			if m.Sessions >= 0 {
				send(c.memSessions, float64(m.Sessions), v.Group.Balancer, i.UUID)
			}
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time as Prometheus has it, 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
