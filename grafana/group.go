package grafana

// one selects the group that was chosen.
const one = `scaling_group="$group"`

// named gives series that have a uuid the name of the VM; it leaves out those that
// were not chosen.
const named = ` * on (uuid) group_left (vm) max by (uuid, vm) (scalehook_instance_info{` + one + `,vm=~"$instance"})`

// detail is the dashboard of one group.
func detail() *board {
	return &board{
		uid: GroupUID, title: "scalehook: group",
		description: "One group: CPU against both thresholds, size, instances, time to serve, pool, activities and verdicts.",
		variables: append([]object{
			sourceVariable(),
			labelVariable("group", "Group", "The group that is shown.", "scalehook_group_instances_max", "scaling_group", false),
			labelVariable("instance", "Instance", "The VMs of the group that are shown where a panel has one line for each.", "scalehook_instance_info{"+one+"}", "vm", true),
		}, serverVariables()...),
		annotations: []object{
			annotation("Activities", "blue", `max by (scaling_group, activity) (scalehook_activities_in_flight{`+one+`})`, "{{activity}}", "{{scaling_group}}: from its begin to its end"),
			moments(annotation("Failures", "red", `1000 * max by (scaling_group, activity) (scalehook_activities_last_failed_timestamp_seconds{`+one+`})`, "{{activity}} failed", "{{scaling_group}}: see scalehook activities")),
			annotation("Signals", "orange", `ALERTS{alertstate="firing",scalehook_signal!="",`+one+`}`, "{{alertname}}", "{{scaling_group}}"),
		},
		links: []object{
			link("Overview", "All groups, and the health of the programs", "dashboard", "/d/"+OverviewUID+"?var-datasource=${datasource}", true, false),
			serverLink(),
		},
		sections: []section{
			{"Now", groupNow()},
			{"CPU against both thresholds", groupCPU()},
			{"Size and instances", groupSize()},
			{"Time to serve", groupLaunch()},
			{"Pool", groupPool()},
			{"Signals, verdicts and activities", groupDoings()},
		},
	}
}

func groupNow() []panel {
	return []panel{
		stat("In service", "VMs that take traffic.", "short", 3,
			over("in service", `max(scalehook_group_instances{`+one+`,state="in_service"})`)),
		stat("Desired", "Instances that the group is being brought to.", "short", 3,
			over("desired", `max(scalehook_group_instances_desired{`+one+`})`)),
		stat("Bounds", "Fewest and most instances that the group may have.", "short", 4,
			over("min", `max(scalehook_group_instances_min{`+one+`})`),
			over("max", `max(scalehook_group_instances_max{`+one+`})`)),
		stat("State", "The gravest status that holds.", "short", 4,
			over("state", statusNumber(one))).like(object{"mappings": []object{{"type": "value", "options": statusValues()}}}),
		stat("Cooldown left", "How long no automatic step is begun.", "s", 3,
			over("cooldown", `clamp_min(max(scalehook_group_cooldown_until_timestamp_seconds{`+one+`}) - time(), 0)`)),
		stat("Last notification", "How long ago a webhook told of this group. Without a signal there is nothing to tell.", "s", 4,
			over("ago", `time() - max(scalehook_webhook_last_notification_timestamp_seconds{`+one+`} > 0)`)),
		stat("Problem instances", "Instances that could be neither brought into service nor removed. They need a person and count against max.", "short", 3,
			over("failed", `max(scalehook_group_instances{`+one+`,state="failed"})`)).
			like(object{"thresholds": steps(1, "red")}),
	}
}

func groupCPU() []panel {
	return []panel{
		lines("CPU of the group", "The two averages that the signals are made of. For the way up warm instances count, a missing reading as 0; for the way down all in service, a missing reading as 1.", "percentunit", 14,
			over("for high", `group:scalehook_cpu_utilization_missing_as_0:avg_ratio{`+one+`}`),
			over("for low", `group:scalehook_cpu_utilization_missing_as_1:avg_ratio{`+one+`}`),
			over("high threshold", `max(scalehook_group_cpu_high_threshold_ratio{`+one+`})`),
			over("low threshold", `min(scalehook_group_cpu_low_threshold_ratio{`+one+`})`)).
			tall(9).like(object{"max": 1}).dashed("/high threshold/", "red").dashed("/low threshold/", "blue"),
		lines("CPU of the VMs", "Each VM as a share of its own vCPUs. A VM without a line has no reading that can be believed.", "percentunit", 10,
			over("{{vm}}", `uuid:libvirt_domain_cpu_utilization:ratio`+named)).tall(9).like(object{"max": 1}),
		timeline("Conditions", "When each signal stood for scalehook.", 12, values("-", "transparent", "stands", "orange"),
			over("{{signal}}", `max by (signal) (scalehook_condition_active{`+one+`})`)).tall(5),
		lines("Lease left", "How long each standing condition still holds unless it is renewed. It should never come near 0 while the alert fires.", "s", 12,
			over("{{signal}}", `max by (signal) (scalehook_condition_expiry_timestamp_seconds{`+one+`}) - time()`)).tall(5),
	}
}

func groupSize() []panel {
	states := `max by (uuid) (scalehook_instance_state{` + one + `,state="%s"})`
	return []panel{
		lines("Size against bounds", "Instances in service and desired, between min and max.", "short", 12,
			over("in service", `max(scalehook_group_instances{`+one+`,state="in_service"})`),
			over("desired", `max(scalehook_group_instances_desired{`+one+`})`),
			over("min", `max(scalehook_group_instances_min{`+one+`})`),
			over("max", `max(scalehook_group_instances_max{`+one+`})`)).
			tall(9).stepped().dashed("/^min$/", "blue").dashed("/^max$/", "red"),
		timeline("States of the instances", "What each VM went through, from the wish for it to its end.", 12,
			values("-", "transparent", "requested", "super-light-blue", "creating", "light-blue", "booting", "blue", "joining", "light-green",
				"in service", "green", "standby", "purple", "draining", "yellow", "removing", "orange", "failed", "red"),
			over("{{vm}}", `max by (vm) (`+weighed("uuid", states, "requested", "creating", "booting", "joining", "in_service", "standby", "draining", "removing", "failed")+named+`)`)).
			tall(9),
		lines("Instances by state", "All of the group's instances, whether their VM is known or not.", "short", 24,
			over("{{state}}", `max by (state) (scalehook_group_instances{`+one+`})`)).stacked().like(object{"decimals": 0}).tall(7),
	}
}

func groupLaunch() []panel {
	return []panel{
		lines("Time to serve by phase", "How long the newest launch that came into service was in each phase; together they are its time to serve.", "s", 14,
			over("{{phase}}", `max by (phase) (scalehook_group_launch_phase_duration_seconds{`+one+`})`)).stacked(),
		stat("Newest launch", "From the decision until it took traffic.", "s", 4,
			over("time to serve", `sum(max by (phase) (scalehook_group_launch_phase_duration_seconds{`+one+`}))`)).tall(8),
		lines("Launches failed", "Launches that were undone or failed, within the rate interval, by the kind of activity.", "short", 6,
			over("{{activity}}", `sum by (activity) (increase(scalehook_activities_failed_total{`+one+`,activity=~"scale_out|fill|handover"}[$__rate_interval]))`)).bars(),
	}
}

func groupPool() []panel {
	states := `max by (uuid) (scalehook_member_state{` + one + `,state="%s"})`
	return []panel{
		lines("Sessions at the balancer", "Open sessions of each member, where the balancer counts them.", "short", 12,
			over("{{vm}}", `max by (uuid) (scalehook_member_sessions{`+one+`})`+named)).stacked().like(object{"decimals": 0}),
		timeline("Members", "The state that the balancer has each member in.", 12,
			values("-", "transparent", "joining", "light-blue", "ready", "green", "draining", "yellow", "leaving", "orange"),
			over("{{vm}}", `max by (vm) (`+weighed("uuid", states, "joining", "ready", "draining", "leaving")+named+`)`)),
		lines("Drains", "Instances that get no new sessions and wait for the old ones to end, and those being removed.", "short", 12,
			over("{{state}}", `max by (state) (scalehook_group_instances{`+one+`,state=~"draining|removing"})`)).stepped().tall(7),
		lines("Sessions that drains wait for", "Open sessions of all members that drain.", "short", 12,
			over("sessions", `
				sum(max by (uuid) (scalehook_member_sessions{`+one+`})
				* on (uuid) max by (uuid) (scalehook_instance_state{`+one+`,state="draining"}))
				or max(scalehook_group_instances{`+one+`,state="draining"}) * 0`)).stepped().tall(7),
	}
}

func groupDoings() []panel {
	return []panel{
		lines("Alerts by what became of them", "Alerts of this group that came in notifications, within the rate interval.", "short", 12,
			over("{{signal}} {{status}} {{result}}", `sum by (signal, status, result) (increase(scalehook_webhook_alerts_total{`+one+`}[$__rate_interval]))`)).bars(),
		lines("Verdicts", "Decisions that asked for an action, within the rate interval. `scalehook explain` has the gates of the newest.", "short", 12,
			over("{{action}}", `sum by (action) (increase(scalehook_verdicts_total{`+one+`}[$__rate_interval]))`)).bars(),
		lines("Activities ended", "What was done, within the rate interval.", "short", 12,
			over("{{activity}}", `sum by (activity) (increase(scalehook_activities_total{`+one+`}[$__rate_interval]))`)).bars(),
		lines("Activities under way", "What is being done.", "short", 12,
			over("{{activity}}", `max by (activity) (scalehook_activities_in_flight{`+one+`})`)).stepped(),
	}
}
