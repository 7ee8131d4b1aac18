package grafana

// groups selects the groups that were chosen.
const groups = `scaling_group=~"$group"`

// statusValues are what the numbers of statusNumber mean.
func statusValues() object {
	return values("within bounds", "green", "at min", "blue", "observes only", "purple", "at max", "yellow", "paused", "orange", "no capacity", "red", "degraded", "dark-red")
}

// statusNumber is the gravest status of each group as a number.
func statusNumber(selector string) string {
	return weighed("scaling_group", `scalehook_group_status{`+selector+`,status="%s"}`, "at_min", "observe", "at_max", "paused", "no_capacity", "degraded")
}

// overview is the dashboard of all groups and of the programs themselves.
func overview() *board {
	return &board{
		uid: OverviewUID, title: "scalehook: overview",
		description: "All groups: size, CPU, state and activities; the health of scalehook and of the exporters.",
		variables: append([]object{
			sourceVariable(),
			labelVariable("group", "Group", "The groups that are shown.", "scalehook_group_instances_max", "scaling_group", true),
		}, serverVariables()...),
		annotations: []object{
			annotation("Signals", "orange", `ALERTS{alertstate="firing",scalehook_signal!="",`+groups+`}`, "{{alertname}}", "{{scaling_group}}"),
			annotation("Alerts for people", "red", `ALERTS{alertstate="firing",alertname=~"Scalehook.+",severity=~"warning|critical"}`, "{{alertname}}", "{{scaling_group}} {{instance}} {{driver}}"),
		},
		links: []object{
			link("Group", "One group in detail", "dashboard", "/d/"+GroupUID+"?var-datasource=${datasource}", true, false),
			serverLink(),
		},
		sections: []section{
			{"At a glance", groupsAtAGlance()},
			{"CPU and size", cpuAndSize()},
			{"What scalehook did", doings()},
			{"scalehook", serverHealth()},
			{"Webhooks", deliveries()},
			{"Exporters", exporterHealth()},
		},
	}
}

func groupsAtAGlance() []panel {
	return []panel{
		stat("Groups", "Configured groups, of all servers.", "short", 4,
			over("groups", `count(max by (scaling_group) (scalehook_group_instances_max{`+groups+`}))`)),
		stat("Instances in service", "VMs that take traffic, in all groups.", "short", 4,
			over("in service", `sum(max by (scaling_group) (scalehook_group_instances{`+groups+`,state="in_service"}))`)),
		stat("On their way", "VMs that are being launched, drained or removed.", "short", 4,
			over("on their way", `sum(max by (scaling_group, state) (scalehook_group_instances{`+groups+`,state=~"requested|creating|booting|joining|draining|removing"}))`)),
		stat("Busy at max", "Groups with a standing high condition that may not grow.", "short", 4,
			over("busy at max", `
				sum(max by (scaling_group) (scalehook_group_status{`+groups+`,status="at_max"})
				* on (scaling_group) max by (scaling_group) (scalehook_condition_active{`+groups+`,signal="high"}))`)).
			like(object{"thresholds": steps(1, "orange")}),
		stat("Stuck", "Groups that have no capacity or are degraded: something fails and is being retried, or needs a person.", "short", 4,
			over("stuck", `sum(max by (scaling_group) (scalehook_group_status{`+groups+`,status=~"no_capacity|degraded"}))`)).
			like(object{"thresholds": steps(1, "red")}),
		stat("Alerts for people", "Alerts of scalehook's rules that fire and have a runbook.", "short", 4,
			over("firing", `count(ALERTS{alertstate="firing",alertname=~"Scalehook.+",severity=~"warning|critical"}) or vector(0)`)).
			like(object{"thresholds": steps(1, "red")}),

		groupTable(),
		timeline("State", "The gravest status of each group. Between two of them a group is within its bounds.", 10, statusValues(),
			over("{{scaling_group}}", statusNumber(groups))).tall(9).like(object{"links": toGroup("${__field.labels.scaling_group}")}),
	}
}

// groupTable has a line for each group, which leads to it.
func groupTable() panel {
	percent := []object{{"id": "decimals", "value": 0}, {"id": "min", "value": 0}, {"id": "max", "value": 1}}
	p := table("Size against bounds, CPU against thresholds", "One line for each group as it is now. A click on its name opens it.", 14,
		cells(`max by (scaling_group) (scalehook_group_instances{`+groups+`,state="in_service"})`),
		cells(`max by (scaling_group) (scalehook_group_instances_desired{`+groups+`})`),
		cells(`max by (scaling_group) (scalehook_group_instances_min{`+groups+`})`),
		cells(`max by (scaling_group) (scalehook_group_instances_max{`+groups+`})`),
		cells(`group:scalehook_cpu_utilization_missing_as_0:avg_ratio{`+groups+`}`),
		cells(`min by (scaling_group) (scalehook_group_cpu_low_threshold_ratio{`+groups+`})`),
		cells(`max by (scaling_group) (scalehook_group_cpu_high_threshold_ratio{`+groups+`})`),
		cells(statusNumber(groups)),
	).tall(9)
	p.transformations = []object{
		{"id": "merge", "options": object{}},
		{"id": "organize", "options": object{
			"excludeByName": object{"Time": true},
			"indexByName":   object{},
			"renameByName": object{
				"scaling_group": "Group", "Value #A": "In service", "Value #B": "Desired", "Value #C": "Min", "Value #D": "Max",
				"Value #E": "CPU", "Value #F": "Low", "Value #G": "High", "Value #H": "State",
			},
		}},
	}
	return p.
		column("Group", "short", object{"id": "links", "value": toGroup("${__value.text}")}).
		column("CPU", "percentunit", percent...).
		column("Low", "percentunit", percent...).
		column("High", "percentunit", percent...).
		column("State", "short", object{"id": "mappings", "value": []object{{"type": "value", "options": statusValues()}}},
			object{"id": "custom.cellOptions", "value": object{"type": "color-text"}})
}

func cpuAndSize() []panel {
	return []panel{
		lines("CPU of the groups", "Average CPU of the warm instances, as a share of their vCPUs; a missing reading counts as 0. This is what the high signal is made of.", "percentunit", 12,
			over("{{scaling_group}}", `group:scalehook_cpu_utilization_missing_as_0:avg_ratio{`+groups+`}`)).
			like(object{"max": 1, "links": toGroup("${__field.labels.scaling_group}")}),
		lines("Size of the groups", "VMs that take traffic, for each group.", "short", 12,
			over("{{scaling_group}}", `max by (scaling_group) (scalehook_group_instances{`+groups+`,state="in_service"})`)).
			stepped().like(object{"links": toGroup("${__field.labels.scaling_group}")}),
		lines("Room to grow", "How many more instances each group may have. At 0 it is at max.", "short", 12,
			over("{{scaling_group}}", `max by (scaling_group) (scalehook_group_instances_max{`+groups+`}) - on (scaling_group) max by (scaling_group) (scalehook_group_instances_desired{`+groups+`})`)).
			stepped().like(object{"links": toGroup("${__field.labels.scaling_group}")}),
		lines("Desired and not in service", "How many instances each group still waits for. What stays above 0 is stuck; below 0 are those on their way out.", "short", 12,
			over("{{scaling_group}}", `max by (scaling_group) (scalehook_group_instances_desired{`+groups+`}) - on (scaling_group) sum by (scaling_group) (max by (scaling_group, state) (scalehook_group_instances{`+groups+`,state="in_service"}))`)).
			stepped().signed().like(object{"links": toGroup("${__field.labels.scaling_group}")}),
	}
}

func doings() []panel {
	return []panel{
		lines("Activities ended", "Launches, removals, handovers and so on that ended within the rate interval, by kind.", "short", 8,
			over("{{activity}}", `sum by (activity) (increase(scalehook_activities_total{`+groups+`}[$__rate_interval]))`)).bars(),
		lines("Activities failed", "Those of them that were undone or failed.", "short", 8,
			over("{{activity}}", `sum by (activity) (increase(scalehook_activities_failed_total{`+groups+`}[$__rate_interval]))`)).bars(),
		lines("Activities under way", "What is being done, by kind.", "short", 8,
			over("{{activity}}", `sum by (activity) (max by (scaling_group, activity) (scalehook_activities_in_flight{`+groups+`}))`)).stepped(),
		stat("Time to serve by phase, median", "From the decision to an instance in service: half of the launches in the time range were quicker in that phase. All groups of all servers.", "s", 12,
			now("{{step}}", `histogram_quantile(0.5, sum by (le, step) (increase(scalehook_step_duration_seconds_bucket{activity=~"scale_out|fill|handover",step=~"requested|creating|booting|joining"}[$__range])))`)),
		stat("Time to serve by phase, 95th percentile", "One launch in twenty took longer in that phase.", "s", 12,
			now("{{step}}", `histogram_quantile(0.95, sum by (le, step) (increase(scalehook_step_duration_seconds_bucket{activity=~"scale_out|fill|handover",step=~"requested|creating|booting|joining"}[$__range])))`)),
	}
}

func serverHealth() []panel {
	return []panel{
		timeline("Targets", "Whether Prometheus can scrape each scalehook and each exporter that it knew within the last day.", 12,
			values("down", "red", "up", "green"),
			over("{{job}} {{instance}}", `
				max by (job, instance) (up) and on (job, instance) (
				max by (job, instance) (present_over_time(scalehook_build_info[1d]))
				or max by (job, instance) (present_over_time(libvirt_up[1d])))`)),
		stat("Version", "What runs where.", "short", 6,
			now("{{instance}} {{version}}", `max by (instance, version) (scalehook_build_info)`)).named().like(object{
			"mappings": []object{{"type": "value", "options": object{"1": object{"text": "runs", "color": "green", "index": 0}}}},
		}),
		stat("Configuration", "Whether the last attempt to load the configuration succeeded. Otherwise the one before is in force.", "short", 6,
			now("{{instance}}", `min by (instance) (scalehook_config_last_reload_successful)`)).named().like(object{
			"mappings": []object{{"type": "value", "options": values("refused", "red", "in force", "green")}},
		}),
		lines("Posts to the webhook", "Requests of Alertmanager, by HTTP status. 401 and 403 are the token, 503 is a store that cannot be written.", "reqps", 8,
			over("{{code}}", `sum by (code) (rate(scalehook_webhook_requests_total{handler="alertmanager"}[$__rate_interval]))`)),
		lines("Alerts by what became of them", "A heartbeat should show all the time. An alert that Alertmanager does not hold is not_confirmed.", "ops", 8,
			over("{{result}}", `sum by (result) (rate(scalehook_webhook_alerts_total[$__rate_interval]))`)),
		lines("Duration of posts", "How long the webhook took to answer: half and 99 of 100 were quicker.", "s", 8,
			over("p50", `histogram_quantile(0.5, sum by (le) (rate(scalehook_webhook_request_duration_seconds_bucket{handler="alertmanager"}[$__rate_interval])))`),
			over("p99", `histogram_quantile(0.99, sum by (le) (rate(scalehook_webhook_request_duration_seconds_bucket{handler="alertmanager"}[$__rate_interval])))`)),
		lines("Look-ups at the sources", "Questions to Prometheus and Alertmanager whether signals stand. While one is unreachable nothing is removed.", "ops", 8,
			over("{{source}} {{result}}", `sum by (source, result) (rate(scalehook_confirmations_total[$__rate_interval]))`)),
		lines("Failing calls", "Share of the calls to each provider and balancer that fail.", "percentunit", 8,
			over("{{driver}}", `
				(sum by (driver) (rate(scalehook_driver_requests_failed_total[$__rate_interval]))
				or sum by (driver) (rate(scalehook_driver_requests_total[$__rate_interval])) * 0)
				/ on (driver) sum by (driver) (rate(scalehook_driver_requests_total[$__rate_interval]))`)).like(object{"max": 1}),
		lines("Duration of calls", "95 of 100 calls to each provider and balancer were quicker.", "s", 8,
			over("{{driver}}", `histogram_quantile(0.95, sum by (le, driver) (rate(scalehook_driver_request_duration_seconds_bucket[$__rate_interval])))`)),
		lines("VMs that nobody answers for", "VMs with a group's mark that the store does not know, by provider. `scalehook cleanup` shows and removes them.", "short", 12,
			over("{{provider}}", `max by (provider) (scalehook_orphans)`)).stepped(),
		lines("Dropped and truncated", "Connections closed to make room, and alerts that senders left out of their messages.", "short", 12,
			over("{{instance}} connections dropped", `sum by (instance) (increase(scalehook_webhook_connections_dropped_total[$__rate_interval]))`),
			over("{{instance}} alerts left out", `sum by (instance) (increase(scalehook_webhook_truncated_alerts_total[$__rate_interval]))`)).bars(),
	}
}

// deliveries are what outbound webhooks are told. Where none is configured there is
// nothing to show.
func deliveries() []panel {
	return []panel{
		lines("Deliveries to webhooks", "Ended activities that each outbound webhook was told of, and those that it will never be: rejected, given up or dropped. Empty without webhooks.", "short", 6,
			over("{{webhook}} {{result}}", `sum by (webhook, result) (increase(scalehook_deliveries_total[$__rate_interval]))`)).bars(),
		lines("Requests to webhooks", "Tries, by class of the answer's status; none is no answer. Whatever is not 2xx, 3xx or 4xx is tried again.", "reqps", 6,
			over("{{webhook}} {{code}}", `sum by (webhook, code) (rate(scalehook_delivery_tries_total[$__rate_interval]))`)),
		lines("Behind", "How long ago the activity ended that each webhook is being told of; 0 while none waits. Nothing that scales waits for a webhook.", "s", 6,
			over("{{webhook}}", `
				(time() - min by (webhook) (scalehook_delivery_oldest_timestamp_seconds))
				or max by (webhook) (scalehook_deliveries_waiting) * 0`)),
		lines("Waiting for webhooks", "Ended activities that each webhook has not come to. At 10,000 the oldest are dropped.", "short", 6,
			over("{{webhook}}", `max by (webhook) (scalehook_deliveries_waiting)`)).stepped(),
	}
}

func exporterHealth() []panel {
	return []panel{
		timeline("libvirt answers", "Whether each exporter could list and read its domains. While it cannot, its VMs have no reading.", 12,
			values("no answer", "red", "answers", "green"),
			over("{{instance}}", `min by (instance) (libvirt_up)`)),
		timeline("Collectors", "Whether each collector got everything that it asked libvirt for.", 12,
			values("incomplete", "orange", "complete", "green"),
			over("{{instance}} {{collector}}", `min by (instance, collector) (libvirt_scrape_collector_success)`)),
		lines("Duration of scrapes", "How long each exporter took to answer Prometheus.", "s", 8,
			over("{{instance}}", `max by (instance) (libvirt_scrape_duration_seconds)`)),
		lines("Hung calls", "Calls to libvirt that were left behind and have not returned. A number that grows is a libvirtd that hangs.", "short", 8,
			over("{{instance}}", `max by (instance) (libvirt_scrape_hung_calls)`)).stepped(),
		lines("Domains by state", "All domains that the exporters see, ours or not.", "short", 8,
			over("{{instance}} {{state}}", `count by (instance, state) (libvirt_domain_state)`)).stepped(),
	}
}
