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
		{"scalehook_build_info", Gauge, []string{"branch", "goarch", "goos", "goversion", "revision", "tags", "version"}, "A metric with a constant '1' value labeled by version, revision, branch, goversion from which scalehook was built, and the goos and goarch for the build."},
		{"scalehook_config_last_reload_successful", Gauge, nil, "Whether the last attempt to load the configuration succeeded."},
		{"scalehook_config_last_reload_success_timestamp_seconds", Gauge, nil, "When the configuration was loaded last."},
		{"scalehook_config_reloads_failed_total", Counter, nil, "Attempts to load the configuration again that left the old one in force."},

		{"scalehook_group_cpu_high_threshold_ratio", Gauge, group, "CPU utilisation above which the group is to grow, 0 to 1."},
		{"scalehook_group_cpu_low_threshold_ratio", Gauge, group, "CPU utilisation below which the group is to shrink, 0 to 1."},
		{"scalehook_group_instances", Gauge, []string{"scaling_group", "state"}, "Instances of the group, by state."},
		{"scalehook_group_instances_desired", Gauge, group, "Instances that the group is being brought to."},
		{"scalehook_group_instances_min", Gauge, group, "Fewest instances the group may have."},
		{"scalehook_group_instances_max", Gauge, group, "Most instances the group may have."},
		{"scalehook_group_status", Gauge, []string{"scaling_group", "status"}, "Standing remarks on the group: 1 while one holds, else 0."},
		{"scalehook_group_launch_phase_duration_seconds", Gauge, []string{"scaling_group", "phase"}, "How long the newest launch that came into service was in each phase. Absent before the first one since the start."},
		{"scalehook_group_cooldown_until_timestamp_seconds", Gauge, group, "When the cooldown of the group ends or ended; 0 for none yet."},

		{"scalehook_instance_info", Gauge, []string{"scaling_group", "uuid", "vm", "provider", "address"}, "An instance whose VM is known; always 1."},
		{"scalehook_instance_state", Gauge, []string{"scaling_group", "uuid", "state"}, "The state that the instance is in; always 1."},
		{"scalehook_instance_warm", Gauge, []string{"scaling_group", "uuid"}, "Whether the instance's CPU counts for the high signal."},
		{"scalehook_instance_primary", Gauge, []string{"scaling_group", "uuid"}, "Whether the instance is the group's primary."},
		{"scalehook_instance_created_timestamp_seconds", Gauge, []string{"scaling_group", "uuid"}, "When the instance was asked for."},

		{"scalehook_condition_active", Gauge, []string{"scaling_group", "signal"}, "Whether the signal stands for the group."},
		{"scalehook_condition_expiry_timestamp_seconds", Gauge, []string{"scaling_group", "signal"}, "When the standing condition becomes unknown unless it is renewed."},
		{"scalehook_evidence_timestamp_seconds", Gauge, []string{"scaling_group", "signal"}, "Newest evidence time that a source gave for the signal."},
		{"scalehook_confirmations_total", Counter, []string{"source", "result"}, "Look-ups at the sources of confirmation, by result (answered, unreachable)."},
		{"scalehook_verdicts_total", Counter, []string{"scaling_group", "action"}, "Verdicts that asked for an action."},

		{"scalehook_activities_total", Counter, []string{"scaling_group", "activity"}, "Activities that ended, whatever their outcome."},
		{"scalehook_activities_failed_total", Counter, []string{"scaling_group", "activity"}, "Activities that ended undone or failed."},
		{"scalehook_activities_last_failed_timestamp_seconds", Gauge, []string{"scaling_group", "activity"}, "When the newest activity of the kind that was undone or failed ended. Absent before the first one since the start."},
		{"scalehook_activities_in_flight", Gauge, []string{"scaling_group", "activity"}, "Activities under way."},
		{"scalehook_activity_duration_seconds", Histogram, []string{"activity"}, "Duration of activities that were done."},
		{"scalehook_step_duration_seconds", Histogram, []string{"activity", "step"}, "Duration of the steps of activities that were done."},

		{"scalehook_member_state", Gauge, []string{"scaling_group", "pool", "uuid", "state"}, "The state that the balancer has the instance in; always 1."},
		{"scalehook_member_sessions", Gauge, []string{"scaling_group", "pool", "uuid"}, "Sessions in flight to the instance, where the balancer counts them."},

		{"scalehook_webhook_requests_total", Counter, []string{"handler", "code"}, "Requests answered, by handler (alertmanager, operator, view, page, other) and status code."},
		{"scalehook_webhook_request_duration_seconds", Histogram, []string{"handler"}, "Time from a request's header to the end of its answer, by handler."},
		{"scalehook_webhook_truncated_alerts_total", Counter, nil, "Alerts that senders left out of their messages (max_alerts is not 0)."},
		{"scalehook_webhook_connections_dropped_total", Counter, nil, "Idle or slow connections closed to make room for new ones."},
		{"scalehook_webhook_event_streams", Gauge, nil, "Open web pages that are told of changes."},
		{"scalehook_webhook_alerts_total", Counter, []string{"scaling_group", "signal", "status", "result"}, "Alerts received, by what became of them. Groups that are not configured have an empty scaling_group."},
		{"scalehook_webhook_last_notification_timestamp_seconds", Gauge, group, "When the group last heard from a webhook; 0 for never."},

		{"scalehook_audit_entries_total", Counter, []string{"outcome"}, "Entries written to the audit log, by outcome (asked, taken, refused, failed)."},
		{"scalehook_audit_failures_total", Counter, nil, "Entries that could not be written to the audit log. What was asked with one of them was not done."},
		{"scalehook_audit_unwritten_refusals_total", Counter, nil, "Refused requests that were not written to the audit log one by one, since there were too many."},

		{"scalehook_deliveries_total", Counter, []string{"webhook", "result"}, "Ended activities that a webhook was to be told of, by what became of it (delivered, rejected, given_up, dropped, unreadable)."},
		{"scalehook_deliveries_waiting", Gauge, []string{"webhook"}, "Ended activities that a webhook has not come to yet; those that it is not told of may be among them."},
		{"scalehook_delivery_tries_total", Counter, []string{"webhook", "code"}, "Requests to a webhook, by class of the answer's status (2xx to 5xx, none without an answer)."},
		{"scalehook_delivery_oldest_timestamp_seconds", Gauge, []string{"webhook"}, "When the activity ended that a webhook is being told of; no sample while there is none."},

		{"scalehook_orphans", Gauge, []string{"provider"}, "VMs that carry a configured group's mark and that the store does not know; see scalehook cleanup."},
		{"scalehook_driver_requests_total", Counter, []string{"driver", "call"}, "Calls to providers and balancers, by their configured name."},
		{"scalehook_driver_requests_failed_total", Counter, []string{"driver", "call", "reason"}, "Calls to providers and balancers that failed, by class of the error."},
		{"scalehook_driver_request_duration_seconds", Histogram, []string{"driver", "call"}, "Duration of calls to providers and balancers."},
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
