package webhook

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The names of labels.
const (
	labelKind     = "signal" // high or low
	labelActivity = "activity"
	labelAction   = "action"
	labelState    = "state"
	labelResult   = "result"
	labelStatus   = "status"
	labelUUID     = "uuid"
	labelVM       = "vm"
	labelProvider = "provider"
	labelAddress  = "address"
	labelPool     = "pool"
	labelPhase    = "phase"
)

// spec is what a family is called, whether it is of counters or of gauges, the
// labels that its series have beside the group's, and how a group's samples of it
// are written.
type spec struct {
	name, help string
	kind       dto.MetricType
	labels     []string
	write      func(*collector, *page, *row)
	beside     func(*collector, *page) // samples of no group, before those; nil: none
}

// specs returns the families of the groups' series, by name.
func specs() []spec {
	of := func(name, help string, write func(*collector, *page, *row), labels ...string) spec {
		kind := dto.MetricType_GAUGE
		if strings.HasSuffix(name, "_total") {
			kind = dto.MetricType_COUNTER
		}
		return spec{"scalehook_" + name, help, kind, append([]string{labelGroup}, labels...), write, nil}
	}
	alerts := of("webhook_alerts_total", "Alerts received, by what became of them. Groups that are not configured have an empty scaling_group.",
		(*collector).writeAlerts, labelResult, labelKind, labelStatus)
	alerts.beside = (*collector).writeStrangers
	return []spec{
		of("activities_failed_total", "Activities that ended undone or failed.", perKind(func(r *row) []uint64 { return r.failed }), labelActivity),
		of("activities_in_flight", "Activities under way.", perKind(func(r *row) []uint64 { return r.flying }), labelActivity),
		of("activities_last_failed_timestamp_seconds", "When the newest activity of the kind that was undone or failed ended. Absent before the first one since the start.",
			(*collector).writeFailures, labelActivity),
		of("activities_total", "Activities that ended, whatever their outcome.", perKind(func(r *row) []uint64 { return r.ended }), labelActivity),

		of("condition_active", "Whether the signal stands for the group.", perSignal(func(s *signalRow) (float64, bool) {
			return truth(s.standing), true
		}), labelKind),
		of("condition_expiry_timestamp_seconds", "When the standing condition becomes unknown unless it is renewed.", perSignal(func(s *signalRow) (float64, bool) {
			return s.expires, s.standing
		}), labelKind),
		of("evidence_timestamp_seconds", "Newest evidence time that a source gave for the signal.", perSignal(func(s *signalRow) (float64, bool) {
			return s.evidence, s.evidence != 0
		}), labelKind),

		of("group_cooldown_until_timestamp_seconds", "When the cooldown of the group ends or ended; 0 for none yet.", perGroup(func(r *row) float64 { return r.cooldown })),
		of("group_cpu_high_threshold_ratio", "CPU utilisation above which the group is to grow, 0 to 1.", perGroup(func(r *row) float64 { return r.high })),
		of("group_cpu_low_threshold_ratio", "CPU utilisation below which the group is to shrink, 0 to 1.", perGroup(func(r *row) float64 { return r.low })),
		of("group_instances", "Instances of the group, by state.", (*collector).writeStates, labelState),
		of("group_instances_desired", "Instances that the group is being brought to.", perGroup(func(r *row) float64 { return r.desired })),
		of("group_instances_max", "Most instances the group may have.", perGroup(func(r *row) float64 { return r.maximum })),
		of("group_instances_min", "Fewest instances the group may have.", perGroup(func(r *row) float64 { return r.minimum })),
		of("group_launch_phase_duration_seconds", "How long the newest launch that came into service was in each phase. Absent before the first one since the start.",
			(*collector).writePhases, labelPhase),
		of("group_status", "Standing remarks on the group: 1 while one holds, else 0.", (*collector).writeStatuses, labelStatus),

		of("instance_created_timestamp_seconds", "When the instance was asked for.", perInstance(func(x *instanceRow) float64 { return x.created }), labelUUID),
		of("instance_info", "An instance whose VM is known; always 1.", (*collector).writeInfo, labelUUID, labelVM, labelProvider, labelAddress),
		of("instance_primary", "Whether the instance is the group's primary.", perInstance(func(x *instanceRow) float64 { return truth(x.primary) }), labelUUID),
		of("instance_state", "The state that the instance is in; always 1.", (*collector).writeState, labelUUID, labelState),
		of("instance_warm", "Whether the instance's CPU counts for the high signal.", perInstance(func(x *instanceRow) float64 { return truth(x.warm) }), labelUUID),

		of("member_sessions", "Sessions in flight to the instance, where the balancer counts them.", (*collector).writeSessions, labelPool, labelUUID),
		of("member_state", "The state that the balancer has the instance in; always 1.", (*collector).writeMember, labelPool, labelUUID, labelState),

		of("verdicts_total", "Verdicts that asked for an action.", (*collector).writeVerdicts, labelAction),

		alerts,
		of("webhook_last_notification_timestamp_seconds", "When the group last heard from a webhook; 0 for never.", perGroup(func(r *row) float64 { return r.notified })),
	}
}

// perGroup writes one sample for the group.
func perGroup(value func(*row) float64) func(*collector, *page, *row) {
	return func(_ *collector, p *page, r *row) { p.add(p.labels(r.group), value(r)) }
}

// perSignal writes one sample for each signal of which there is something to say.
func perSignal(value func(*signalRow) (float64, bool)) func(*collector, *page, *row) {
	return func(c *collector, p *page, r *row) {
		for k, s := range c.signals {
			if v, ok := value(&r.signals[k]); ok {
				p.add(p.labels(r.group, s.pair), v)
			}
		}
	}
}

// perKind writes one sample for each kind of activity.
func perKind(counted func(*row) []uint64) func(*collector, *page, *row) {
	return func(c *collector, p *page, r *row) { writeCounts(p, r, c.activities, counted(r)) }
}

// writeFailures writes one sample for each kind of activity that has failed: there
// are thousands of groups and few failures.
func (c *collector) writeFailures(p *page, r *row) {
	if len(r.failedAt) == 0 {
		return
	}
	for _, k := range c.activities {
		if at := r.failedAt[k.index]; !at.IsZero() {
			p.add(p.labels(k.pair, r.group), seconds(at))
		}
	}
}

// writeCounts writes one sample for each value of the label, in whose order the
// counts are; none were counted yet where the list is empty.
func writeCounts[T ~string](p *page, r *row, all []fixed[T], counts []uint64) {
	for _, k := range all {
		n := uint64(0)
		if len(counts) > 0 {
			n = counts[k.index]
		}
		p.add(p.labels(k.pair, r.group), float64(n))
	}
}

func (c *collector) writeVerdicts(p *page, r *row) { writeCounts(p, r, c.actions, r.verdicts) }

func (c *collector) writePhases(p *page, r *row) {
	if len(r.launch) == 0 {
		return
	}
	for _, k := range c.phases {
		p.add(p.labels(k.pair, r.group), r.launch[k.index].Seconds())
	}
}

// perInstance writes one sample for each instance.
func perInstance(value func(*instanceRow) float64) func(*collector, *page, *row) {
	return func(_ *collector, p *page, r *row) {
		for i := range r.instances {
			p.add(p.labels(r.group, r.instances[i].uuid), value(&r.instances[i]))
		}
	}
}

func (c *collector) writeStates(p *page, r *row) {
	for k, s := range c.states {
		p.add(p.labels(r.group, s.pair), float64(r.states[k]))
	}
}

func (c *collector) writeStatuses(p *page, r *row) {
	for k, s := range c.statuses {
		p.add(p.labels(r.group, s.pair), truth(r.statuses[k]))
	}
}

func (c *collector) writeInfo(p *page, r *row) {
	for i := range r.instances {
		x := &r.instances[i]
		address := ""
		if x.address.IsValid() {
			address = x.address.String()
		}
		p.add(p.labels(p.pair(&c.names.address, address), r.provider, r.group, x.uuid, p.pair(&c.names.vm, x.name)), 1)
	}
}

func (c *collector) writeState(p *page, r *row) {
	for i := range r.instances {
		x := &r.instances[i]
		p.add(p.labels(r.group, c.state(p, x.state), x.uuid), 1)
	}
}

func (c *collector) writeMember(p *page, r *row) {
	for i := range r.instances {
		if x := &r.instances[i]; x.member {
			p.add(p.labels(r.pool, r.group, p.pair(&c.names.state, string(x.pooled)), x.uuid), 1)
		}
	}
}

func (c *collector) writeSessions(p *page, r *row) {
	for i := range r.instances {
		if x := &r.instances[i]; x.member && x.sessions >= 0 {
			p.add(p.labels(r.pool, r.group, x.uuid), float64(x.sessions))
		}
	}
}

// reserved takes the names of the families that are written beside a registry: it
// then refuses anybody else's of the same name. It collects nothing.
type reserved []spec

// Describe names the families.
func (r reserved) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range r {
		ch <- prometheus.NewDesc(s.name, s.help, s.labels, nil)
	}
}

// Collect sends nothing.
func (reserved) Collect(chan<- prometheus.Metric) {}
