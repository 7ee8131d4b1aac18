package webhook

import "github.com/prometheus/client_golang/prometheus"

// family is the index of a family of the groups' series. The order is that of
// the names, which is the order of the page.
type family int

const (
	familyConditionActive family = iota
	familyConditionExpiry
	familyEvidence
	familyCooldown
	familyHigh
	familyLow
	familyInstances
	familyDesired
	familyMaximum
	familyMinimum
	familyStatus
	familyInstanceCreated
	familyInstanceInfo
	familyInstancePrimary
	familyInstanceState
	familyInstanceWarm
	familyMemberSessions
	familyMemberState
	familyNotified
	familyCount
)

// The names of the labels that alerts do not have too.
const (
	labelKind     = "signal" // high or low
	labelState    = "state"
	labelStatus   = "status"
	labelUUID     = "uuid"
	labelVM       = "vm"
	labelProvider = "provider"
	labelAddress  = "address"
	labelPool     = "pool"
)

// spec is what a family of gauges is called, and the labels that its series have
// beside the group's.
type spec struct {
	name, help string
	labels     []string
}

// specs returns the table of families. Its index is family.
func specs() [familyCount]spec {
	of := func(name, help string, labels ...string) spec {
		return spec{"scalehook_" + name, help, append([]string{labelGroup}, labels...)}
	}
	return [familyCount]spec{
		familyConditionActive: of("condition_active", "Whether the signal stands for the group.", labelKind),
		familyConditionExpiry: of("condition_expiry_timestamp_seconds", "When the standing condition becomes unknown unless it is renewed.", labelKind),
		familyEvidence:        of("evidence_timestamp_seconds", "Newest evidence time that a source gave for the signal.", labelKind),

		familyCooldown:  of("group_cooldown_until_timestamp_seconds", "When the cooldown of the group ends or ended; 0 for none yet."),
		familyHigh:      of("group_cpu_high_threshold_ratio", "CPU utilisation above which the group is to grow, 0 to 1."),
		familyLow:       of("group_cpu_low_threshold_ratio", "CPU utilisation below which the group is to shrink, 0 to 1."),
		familyInstances: of("group_instances", "Instances of the group, by state.", labelState),
		familyDesired:   of("group_instances_desired", "Instances that the group is being brought to."),
		familyMaximum:   of("group_instances_max", "Most instances the group may have."),
		familyMinimum:   of("group_instances_min", "Fewest instances the group may have."),
		familyStatus:    of("group_status", "Standing remarks on the group: 1 while one holds, else 0.", labelStatus),

		familyInstanceCreated: of("instance_created_timestamp_seconds", "When the instance was asked for.", labelUUID),
		familyInstanceInfo:    of("instance_info", "An instance whose VM is known; always 1.", labelUUID, labelVM, labelProvider, labelAddress),
		familyInstancePrimary: of("instance_primary", "Whether the instance is the group's primary.", labelUUID),
		familyInstanceState:   of("instance_state", "The state that the instance is in; always 1.", labelUUID, labelState),
		familyInstanceWarm:    of("instance_warm", "Whether the instance's CPU counts for the high signal.", labelUUID),

		familyMemberSessions: of("member_sessions", "Sessions in flight to the instance, where the balancer counts them.", labelPool, labelUUID),
		familyMemberState:    of("member_state", "The state that the balancer has the instance in; always 1.", labelPool, labelUUID, labelState),

		familyNotified: of("webhook_last_notification_timestamp_seconds", "When the group last heard from a webhook; 0 for never."),
	}
}

// reserved takes the names of the families that are gathered beside a registry:
// it then refuses anybody else's of the same name. It collects nothing.
type reserved struct {
	specs  [familyCount]spec
	beside prometheus.Collector
}

// Describe names the families.
func (r reserved) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range r.specs {
		ch <- prometheus.NewDesc(s.name, s.help, s.labels, nil)
	}
	r.beside.Describe(ch)
}

// Collect sends nothing.
func (reserved) Collect(chan<- prometheus.Metric) {}
