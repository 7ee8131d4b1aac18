package rules

// Kind is the type of a metric family, in Prometheus's words.
type Kind string

// The kinds in use.
const (
	Gauge     Kind = "gauge"
	Counter   Kind = "counter"
	Histogram Kind = "histogram"
)

// Series is a metric family that rules, dashboards and documents may name.
type Series struct {
	Name   string
	Kind   Kind
	Labels []string // without target labels and without le
	Help   string
}

// ServerSeries lists what the scalehook server publishes, each time a new slice.
// Tests of the server, the rules and the dashboard check against it, so that a
// renamed metric cannot leave a rule behind that never fires.
func ServerSeries() []Series {
	group := []string{"scaling_group"}
	return []Series{
		{"scalehook_build_info", Gauge, []string{"branch", "goarch", "goos", "goversion", "revision", "tags", "version"}, "Always 1, labelled with what was built."},
		{"scalehook_config_last_reload_successful", Gauge, nil, "Whether the last attempt to load the configuration succeeded."},
		{"scalehook_config_last_reload_success_timestamp_seconds", Gauge, nil, "When the configuration was loaded last."},
		{"scalehook_config_reloads_failed_total", Counter, nil, "Attempts to load the configuration again that left the old one in force."},

		{"scalehook_group_cpu_high_threshold_ratio", Gauge, group, "CPU utilisation above which a group is busy, 0..1."},
		{"scalehook_group_cpu_low_threshold_ratio", Gauge, group, "CPU utilisation below which a group is idle, 0..1."},
		{"scalehook_group_instances", Gauge, []string{"scaling_group", "state"}, "Instances of a group by state; every state is published."},
		{"scalehook_group_instances_desired", Gauge, group, "Instances that are wanted."},
		{"scalehook_group_instances_min", Gauge, group, "Least number of instances."},
		{"scalehook_group_instances_max", Gauge, group, "Greatest number of instances."},
		{"scalehook_group_status", Gauge, []string{"scaling_group", "status"}, "Whether a status holds: paused, at_max, at_min, no_capacity, degraded, observe."},
		{"scalehook_group_launch_phase_duration_seconds", Gauge, []string{"scaling_group", "phase"}, "How long the newest launch that came into service was in each phase."},
		{"scalehook_group_cooldown_until_timestamp_seconds", Gauge, group, "When the cooldown ends or ended; 0 for none yet."},

		{"scalehook_instance_info", Gauge, []string{"scaling_group", "uuid", "vm", "provider", "address"}, "Always 1, what is known of an instance."},
		{"scalehook_instance_state", Gauge, []string{"scaling_group", "uuid", "state"}, "Always 1, published for the state that holds only."},
		{"scalehook_instance_warm", Gauge, []string{"scaling_group", "uuid"}, "Whether an instance's CPU counts for the high signal."},
		{"scalehook_instance_primary", Gauge, []string{"scaling_group", "uuid"}, "Whether an instance is its group's primary."},
		{"scalehook_instance_created_timestamp_seconds", Gauge, []string{"scaling_group", "uuid"}, "When an instance was asked for."},

		{"scalehook_condition_active", Gauge, []string{"scaling_group", "signal"}, "Whether a condition stands."},
		{"scalehook_condition_expiry_timestamp_seconds", Gauge, []string{"scaling_group", "signal"}, "When a condition becomes unknown unless it is renewed."},
		{"scalehook_evidence_timestamp_seconds", Gauge, []string{"scaling_group", "signal"}, "Evidence time of what was consumed last."},
		{"scalehook_confirmations_total", Counter, []string{"source", "result"}, "Look-ups at a source, by result."},
		{"scalehook_verdicts_total", Counter, []string{"scaling_group", "action"}, "Decisions, by what they ask for."},

		{"scalehook_activities_total", Counter, []string{"scaling_group", "activity"}, "Activities that ended, whatever their outcome."},
		{"scalehook_activities_failed_total", Counter, []string{"scaling_group", "activity"}, "Activities that ended undone or failed."},
		{"scalehook_activities_last_failed_timestamp_seconds", Gauge, []string{"scaling_group", "activity"}, "When the newest of those ended; no sample before the first one since the start."},
		{"scalehook_activities_in_flight", Gauge, []string{"scaling_group", "activity"}, "Activities under way."},
		{"scalehook_activity_duration_seconds", Histogram, []string{"activity"}, "Duration of finished activities."},
		{"scalehook_step_duration_seconds", Histogram, []string{"activity", "step"}, "Duration of finished steps."},

		{"scalehook_member_state", Gauge, []string{"scaling_group", "pool", "uuid", "state"}, "Always 1, published for the state that holds only."},
		{"scalehook_member_sessions", Gauge, []string{"scaling_group", "pool", "uuid"}, "Open sessions of a member."},

		{"scalehook_webhook_requests_total", Counter, []string{"handler", "code"}, "Requests, by handler (alertmanager, operator, view, other) and HTTP status."},
		{"scalehook_webhook_request_duration_seconds", Histogram, []string{"handler"}, "Duration of requests."},
		{"scalehook_webhook_truncated_alerts_total", Counter, nil, "Alerts that senders left out of their messages."},
		{"scalehook_webhook_connections_dropped_total", Counter, nil, "Connections closed to make room for new ones."},
		{"scalehook_webhook_alerts_total", Counter, []string{"scaling_group", "signal", "status", "result"}, "Alerts in notifications, by what became of them."},
		{"scalehook_webhook_last_notification_timestamp_seconds", Gauge, group, "When a group last heard from a webhook; 0 for never."},

		{"scalehook_audit_entries_total", Counter, []string{"outcome"}, "Entries written to the audit log, by outcome (asked, taken, refused, failed)."},
		{"scalehook_audit_failures_total", Counter, nil, "Entries that could not be written to the audit log."},
		{"scalehook_audit_unwritten_refusals_total", Counter, nil, "Refused requests that were only counted, since there were too many."},

		{"scalehook_deliveries_total", Counter, []string{"webhook", "result"}, "Ended activities that a webhook was to be told of, by what became of it: delivered, rejected, given_up, dropped."},
		{"scalehook_deliveries_waiting", Gauge, []string{"webhook"}, "Ended activities that a webhook has not come to yet."},
		{"scalehook_delivery_tries_total", Counter, []string{"webhook", "code"}, "Requests to a webhook, by class of the answer's status; none without an answer."},
		{"scalehook_delivery_oldest_timestamp_seconds", Gauge, []string{"webhook"}, "When the activity ended that a webhook is being told of; no sample while there is none."},

		{"scalehook_orphans", Gauge, []string{"provider"}, "VMs with a configured group's mark that the store does not know."},
		{"scalehook_driver_requests_total", Counter, []string{"driver", "call"}, "Calls to a provider or balancer."},
		{"scalehook_driver_requests_failed_total", Counter, []string{"driver", "call", "reason"}, "Calls that failed, by class of the error."},
		{"scalehook_driver_request_duration_seconds", Histogram, []string{"driver", "call"}, "Duration of calls."},
	}
}

// ExporterSeries lists the families of scalehook-exporter that the rules read.
func ExporterSeries() []Series {
	domain := []string{"domain", "uuid"}
	return []Series{
		{"libvirt_up", Gauge, nil, "Whether libvirt answered."},
		{"libvirt_domain_cpu_time_seconds_total", Counter, domain, "CPU time of a running domain."},
		{"libvirt_domain_vcpus", Gauge, domain, "vCPUs of a domain."},
	}
}
