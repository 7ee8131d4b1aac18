package rules_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/internal/testenv"
)

// mutant is a plausible mistake in a rule file: old becomes new, everywhere. The
// promtool test named by notices it.
type mutant struct {
	name, by, old, new string
}

// TestTheRuleTestsNoticeEveryMutant proves that the promtool tests can fail: each
// mistake below must turn the test that is there for it red. A mutant is a rule
// file that Prometheus would load, so that nothing fails for its syntax alone.
func TestTheRuleTestsNoticeEveryMutant(t *testing.T) {
	testenv.Need(t, testenv.Program("promtool"))
	for _, set := range []struct {
		file, tests string
		mutants     []mutant
	}{
		{"scalehook.rules.yml", "scaling.test.yml", []mutant{
			{"a missing reading counts as 1 on the way up", "no reading at all is 0 on the way up and 1 on the way down", "group_uuid:scalehook_instance_warm:max * 0", "group_uuid:scalehook_instance_warm:max"},
			{"a missing reading is left out on the way up", "no reading at all is 0 on the way up and 1 on the way down", "or on (scaling_group, uuid)\n              group_uuid:scalehook_instance_warm:max * 0\n", ""},
			{"a missing reading is left out on the way down", "an idle VM beside a missing one is not low", "or on (scaling_group, uuid)\n              group_uuid:scalehook_instance_in_service:max\n", ""},
			{"a missing reading counts as 0 on the way down", "an idle VM beside a missing one is not low", "or on (scaling_group, uuid)\n              group_uuid:scalehook_instance_in_service:max\n", "or on (scaling_group, uuid)\n              group_uuid:scalehook_instance_in_service:max * 0\n"},
			{"instances in every state count", "low fires on the instances in service alone, and groups keep their own thresholds", `state="in_service", `, ""},
			{"instances that are not warm count on the way up", "a newcomer without a rate does not resolve high", "\n            and on (scaling_group, uuid)\n          scalehook_instance_warm{exported_scaling_group=\"\"} == 1", ""},
			{"warm or not is ignored as a value", "a newcomer without a rate does not resolve high", `scalehook_instance_warm{exported_scaling_group=""} == 1`, `scalehook_instance_warm{exported_scaling_group=""}`},
			{"only warm instances count on the way down", "a newcomer at work keeps low away although it is not warm", "group_uuid:scalehook_instance_in_service:max\n                * on", "group_uuid:scalehook_instance_warm:max\n                * on"},
			{"one high threshold for all groups", "low fires on the instances in service alone, and groups keep their own thresholds", "> on (scaling_group)\n          max by (scaling_group) (scalehook_group_cpu_high_threshold_ratio{exported_scaling_group=\"\"})", "> scalar(max(scalehook_group_cpu_high_threshold_ratio))"},
			{"one low threshold for all groups", "low fires on the instances in service alone, and groups keep their own thresholds", "< on (scaling_group)\n          min by (scaling_group) (scalehook_group_cpu_low_threshold_ratio{exported_scaling_group=\"\"})", "< scalar(min(scalehook_group_cpu_low_threshold_ratio))"},
			{"the lower of two high thresholds", "of two replicas' thresholds the more careful one holds", "max by (scaling_group) (scalehook_group_cpu_high", "min by (scaling_group) (scalehook_group_cpu_high"},
			{"the higher of two low thresholds", "of two replicas' thresholds the more careful one holds", "min by (scaling_group) (scalehook_group_cpu_low", "max by (scaling_group) (scalehook_group_cpu_low"},
			{"the threshold itself is high", "exactly the threshold is neither high nor low", "> on (scaling_group)", ">= on (scaling_group)"},
			{"the threshold itself is low", "exactly the threshold is neither high nor low", "< on (scaling_group)", "<= on (scaling_group)"},
			{"no group_left", "a VM that uses more than its vCPUs counts as 1", " group_left ()", ""},
			{"replicas of scalehook are not merged", "a busy group fires high, with replicas of scalehook and of the exporter", "max by (scaling_group, uuid) (\n            scalehook_instance_state{state=\"in_service\", exported_scaling_group=\"\"} == 1\n          )", "scalehook_instance_state{state=\"in_service\", exported_scaling_group=\"\"} == 1"},
			{"two exporters of a VM are added up", "a busy group fires high, with replicas of scalehook and of the exporter", "max by (uuid) (\n                (", "sum by (uuid) (\n                ("},
			{"deriv instead of rate", "a counter reset is never negative, and a VM that vanished is missing", "  rate(libvirt_domain_cpu_time_seconds_total[1m]", "  deriv(libvirt_domain_cpu_time_seconds_total[1m]"},
			{"no cap", "a VM that uses more than its vCPUs counts as 1", "          , 1)", "          , 2)"},
			{"not divided by the vCPUs", "a busy group fires high, with replicas of scalehook and of the exporter", "max by (uuid) (last_over_time(libvirt_domain_vcpus[1m]) > 0)", "max by (uuid) (last_over_time(libvirt_domain_vcpus[1m]) > 0) ^ 0"},
			{"a counter that stands still reads as idle", "hung and dead guests whose counter stands still cause no low", "rate(libvirt_domain_cpu_time_seconds_total[37s500ms]) > 0\n              and\n", ""},
			{"a still counter in the bridged reading", "hung and dead guests whose counter stands still cause no low", ") > 0\n              )\n", ")\n              )\n"},
			{"a series that ended still reads", "paused and shut off guests are missing at once and cause no low", "\n              and\n            libvirt_domain_cpu_time_seconds_total\n          )", "\n          )"},
			{"a window that is not filled reads", "a newcomer at work keeps low away although it is not warm", "present_over_time(libvirt_domain_cpu_time_seconds_total[22s500ms] offset 37s500ms)\n              and\n", ""},
			{"low does not wait for a hung guest", "hung and dead guests whose counter stands still cause no low", "        for: 30s\n        labels:\n          scalehook_signal: low", "        labels:\n          scalehook_signal: low"},
			{"high goes on without a reading", "a scalehook that is gone resolves its signals at once", "        labels:\n          scalehook_signal: high", "        keep_firing_for: 5m\n        labels:\n          scalehook_signal: high"},
			{"low goes on without a reading", "one lost scrape neither resolves high nor keeps low firing", "        for: 30s\n        labels:\n          scalehook_signal: low", "        for: 30s\n        keep_firing_for: 5m\n        labels:\n          scalehook_signal: low"},
			{"a lost scrape resolves high", "one lost scrape neither resolves high nor keeps low firing", "uuid:libvirt_domain_cpu_utilization_bridged:ratio\n            or", "uuid:libvirt_domain_cpu_utilization:ratio\n            or"},
			{"a lost scrape counts once it is the oldest", "a lost scrape is bridged until it has left the window", "                    and\n                  present_over_time(libvirt_domain_cpu_time_seconds_total[15s] offset 45s)\n", ""},
			{"a lost scrape counts while it is the newest", "a lost scrape is bridged until it has left the window", "                    and\n                  present_over_time(libvirt_domain_cpu_time_seconds_total[15s])\n", ""},
			{"a lost scrape loses the vCPUs", "one lost scrape neither resolves high nor keeps low firing", "last_over_time(libvirt_domain_vcpus[1m])", "libvirt_domain_vcpus"},
			{"the way down bridges", "paused and shut off guests are missing at once and cause no low", "uuid:libvirt_domain_cpu_utilization:ratio\n            or", "uuid:libvirt_domain_cpu_utilization_bridged:ratio\n            or"},
			{"a colliding target's members count", "a label scaling_group of scalehook's own target silences the signals", `state="in_service", exported_scaling_group=""`, `state="in_service"`},
			{"a colliding target's warmth counts", "a colliding replica beside a good one adds nothing", `scalehook_instance_warm{exported_scaling_group=""}`, "scalehook_instance_warm"},
			{"a colliding target's high threshold counts", "a colliding replica beside a good one adds nothing", `high_threshold_ratio{exported_scaling_group=""}`, "high_threshold_ratio"},
			{"a colliding target's low threshold counts", "a colliding replica beside a good one adds nothing", `low_threshold_ratio{exported_scaling_group=""}`, "low_threshold_ratio"},
			{"high and low are mixed up", "colliding labels of the exporter's targets and a target label group do no harm", "scalehook_signal: high", "scalehook_signal: low"},
			{"the evidence time is that of the newest member", "the evidence time is that of the oldest newest sample, never now", "min by (scaling_group) (\n            group_uuid", "max by (scaling_group) (\n            group_uuid"},
			{"the evidence time is that of the slowest replica", "the evidence time is that of the oldest newest sample, never now", "max by (uuid) (timestamp", "min by (uuid) (timestamp"},
			{"the evidence time is now", "the evidence time is that of the oldest newest sample, never now", "max by (uuid) (timestamp(libvirt_domain_cpu_time_seconds_total))", "max by (uuid) (libvirt_domain_cpu_time_seconds_total * 0 + time())"},
		}},
		{"scalehook.rules.yml", "people.test.yml", []mutant{
			{"no heartbeat", "the heartbeat always fires", "vector(1)", "vector(1) > 1"},
			{"any replica's silence is told", "one replica that is notified is enough", "sum(increase(scalehook_webhook_requests_total", "min(increase(scalehook_webhook_requests_total"},
			{"refused posts are taken for notifications", "notifications that stopped, or are refused, are told", ", code=\"200\"}", "}"},
			{"any request is taken for a notification", "notifications that stopped, or are refused, are told", "handler=\"alertmanager\", ", ""},
			{"absence of the server is not told", "no scalehook at all", "absent(scalehook_build_info)", "scalehook_build_info == 0"},
			{"absence of exporters is not told", "no exporter at all", "absent(libvirt_up)", "libvirt_up == 2"},
			{"every target that is down is taken for an exporter", "an exporter that cannot be scraped any more, beside something else that is down", "max by (job, instance) (present_over_time(libvirt_up[1d])) == 1", "max by (job, instance) (up) == 0"},
			{"an exporter is known only while it is scraped", "an exporter that cannot be scraped any more, beside something else that is down", "present_over_time(libvirt_up[1d])", "libvirt_up"},
			{"a group without a series is full", "a group below its min, one with nothing at all, and one that is full", "or on (scaling_group)\n              max by (scaling_group) (scalehook_group_instances_min) * 0\n", ""},
			{"instances in every state fill a group", "a group below its min, one with nothing at all, and one that is full", `scalehook_group_instances{state="in_service"}`, "scalehook_group_instances"},
			{"calm at max is told", "busy at max", `scalehook_condition_active{signal="high"}) == 1`, `scalehook_condition_active{signal="high"}) >= 0`},
			{"every status is no capacity", "a group with the status no_capacity", `status="no_capacity"`, `status!=""`},
			{"every status is degraded", "a group with the status degraded", `status="degraded"`, `status!=""`},
			{"a group that has too many is well", "a group that does not come to what it desires, beside full, paused and observing ones", "!= on (scaling_group)", "< on (scaling_group)"},
			{"a paused group is stuck", "a group that does not come to what it desires, beside full, paused and observing ones", `status=~"paused|observe"`, `status="observe"`},
			{"a group that observes is stuck", "a group that does not come to what it desires, beside full, paused and observing ones", `status=~"paused|observe"`, `status="paused"`},
			{"instances on their way are in service", "a group that does not come to what it desires, beside full, paused and observing ones", `!= on (scaling_group)
            max by (scaling_group) (scalehook_group_instances{state="in_service"})`, `!= on (scaling_group)
            sum by (scaling_group) (scalehook_group_instances)`},
			{"a lease that stands now is enough", "a lease that runs out between two repeats while the alert fires", "min_over_time(scalehook_condition_active[10m])", "scalehook_condition_active"},
			{"a lease is expected with the alert", "a lease that runs out between two repeats while the alert fires", "> 900,", "> 60,"},
			{"a signal that does not fire has a lease", "a lease that runs out between two repeats while the alert fires", `            and on (scaling_group, signal)
          label_replace(`, `            or on (scaling_group, signal)
          label_replace(`},
			{"the other signal's alert counts", "a lease that runs out between two repeats while the alert fires", `            and on (scaling_group, signal)
          label_replace(`, `            and on (scaling_group)
          label_replace(`},
			{"VMs that nobody answers for are not told", "VMs that nobody answers for, and a provider without any", "(scalehook_orphans) > 0", "(scalehook_orphans) > 2"},
			{"one failure is told", "two failures within half an hour", ">= 2\n", ">= 0.5\n"},
			{"a stumbling driver is told", "a provider that fails more often than not, and one that stumbles", "> 0.5\n", "> 0.1\n"},
			{"every look-up is told", "a source that cannot be asked", `{result="unreachable"}`, ""},
			{"what a webhook took is missing there", "a webhook that refuses, one that is told late, and one that takes everything", `{result!="delivered"}`, ""},
			{"one webhook's losses are another's", "a webhook that refuses, one that is told late, and one that takes everything", `sum by (webhook) (increase(scalehook_deliveries`, `sum(increase(scalehook_deliveries`},
			{"a delivery under way is late", "a webhook that refuses, one that is told late, and one that takes everything", "> 600\n", "> 60\n"},
			{"how late the newest is", "a webhook that refuses, one that is told late, and one that takes everything", "min by (webhook) (scalehook_delivery", "max by (webhook) (scalehook_delivery"},
			{"a VM whose counter stands still is fine", "a VM in service whose counter stands still, beside one that works and one that still boots", "uuid:libvirt_domain_cpu_utilization:ratio\n        for", "max by (uuid) (libvirt_domain_cpu_time_seconds_total)\n        for"},
			{"a refused configuration is not told", "a configuration that was refused", "scalehook_config_last_reload_successful) == 0", "scalehook_config_last_reload_successful) == 2"},
			{"a collision is not told", "a target label scaling_group beside scalehook's own", `exported_scaling_group!=""`, `exported_scaling_group="none"`},
			{"a hypervisor is taken for good", "an exporter without a libvirtd", "(libvirt_up) == 0", "(libvirt_up) == 2"},
		}},
		{"compat.yml", "compat.test.yml", []mutant{
			{"paused domains count", "paused and dead guests cause no low", "and on (job, instance, domain)\n          ({__name__=~\"libvirt_domain_info_vstate|libvirt_domain_info_state|libvirt_domain_state_code\"} == 1)", ""},
			{"a name on two hosts is guessed", "a name that is not unique is no reading", "unless on (domain)\n              count by (domain) (libvirt_domain_info_cpu_time_seconds_total) > 1", ""},
			{"a name of two instances is guessed", "a name that is not unique is no reading", "max by (domain, uuid) (label_replace(scalehook_instance_info{uuid!=\"\", vm!=\"\"}, \"domain\", \"$1\", \"vm\", \"(.+)\"))\n                unless on (domain)\n              count by (domain) (max by (domain, uuid) (label_replace(scalehook_instance_info{uuid!=\"\", vm!=\"\"}, \"domain\", \"$1\", \"vm\", \"(.+)\"))) > 1", "max by (domain) (label_replace(scalehook_instance_info{uuid!=\"\", vm!=\"\"}, \"domain\", \"$1\", \"vm\", \"(.+)\")) * on (domain) group_left (uuid) topk by (domain) (1, label_replace(scalehook_instance_info, \"domain\", \"$1\", \"vm\", \"(.+)\"))"},
			{"Tinkoff's identity is not read", "the uuid comes from the exporter's own series, on two hosts with the same names", "libvirt_domain_info_meta", "libvirt_domain_info_metadata"},
			{"inovex's identity is not read", "the uuid comes from the exporter's own series, on two hosts with the same names", "libvirt_domain_openstack_info", "libvirt_domain_openstack_information"},
			{"zhangjianweibj's identity is not read", "the uuid comes from the exporter's own series, on two hosts with the same names", `{instanceId!=""}`, `{instanceId="none"}`},
			{"scalehook's identity is not read", "the uuid comes from scalehook's own name for the VM", "scalehook_instance_info", "scalehook_instance_information"},
			{"vCPUs are not mapped", "the uuid comes from scalehook's own name for the VM", "record: libvirt_domain_vcpus", "record: libvirt_domain_cpus"},
			{"hosts are not told apart", "the uuid comes from the exporter's own series, on two hosts with the same names", "* on (job, instance, domain) group_left ()", "* on (domain) group_left ()"},
		}},
		{"guests.yml", "guests.test.yml", []mutant{
			{"waiting is work", "the uuid comes from the target's label", "idle|iowait|steal", "idle"},
			{"only user time is work", "the uuid comes from the target's label", `{mode!~"idle|iowait|steal"}`, `{mode="user"}`},
			{"every mode is a vCPU", "the uuid comes from the target's label", `count by (job, instance) (node_cpu_seconds_total{mode="idle"})`, "count by (job, instance) (node_cpu_seconds_total)"},
			{"the address wins over the label", "the uuid comes from the target's label", "max by (job, instance, uuid) (node_cpu_seconds_total{mode=\"idle\", uuid!=\"\"} * 0 + 1)\n          or on (job, instance)\n          ", ""},
			{"the address is not read", "the uuid comes from the address by which scalehook's member is scraped", "scalehook_instance_info", "scalehook_instance_information"},
			{"the port is taken for a part of the address", "the uuid comes from the address by which scalehook's member is scraped", "(?::[0-9]+)?", ""},
			{"an address of IPv6 keeps its brackets", "the uuid comes from the address by which scalehook's member is scraped", `\\[?([^\\]]+?)\\]?`, "(.+?)"},
			{"an address of two instances is guessed", "an address that is not unique is no reading", "max by (address, uuid) (scalehook_instance_info{uuid!=\"\", address!=\"\"})\n                unless on (address)\n              count by (address) (max by (address, uuid) (scalehook_instance_info{uuid!=\"\", address!=\"\"})) > 1", "topk by (address) (1, scalehook_instance_info)"},
		}},
	} {
		for _, m := range set.mutants {
			t.Run(set.file+" "+m.name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				if err := os.WriteFile(filepath.Join(dir, set.tests), only(t, set.tests, m.by), 0o600); err != nil {
					t.Fatal(err)
				}
				for _, name := range []string{"scalehook.rules.yml", "compat.yml", "guests.yml"} {
					text := read(t, name)
					if name == set.file {
						mutated := strings.ReplaceAll(text, m.old, m.new)
						if mutated == text {
							t.Fatalf("the mutant does not apply: no %q in %s", m.old, set.file)
						}
						text = mutated
					}
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if out, err := promtool(t, dir, "check", "rules", set.file); err != nil {
					t.Fatalf("the mutant is no rule file: %v\n%s", err, out)
				}
				if out, err := promtool(t, dir, "test", "rules", set.tests); err == nil {
					t.Errorf("the test %q still passes:\n%s", m.by, out)
				}
			})
		}
	}
}

// only returns a test file reduced to the test of that name.
func only(t *testing.T, path, name string) []byte {
	t.Helper()
	var file map[string]any
	if err := yaml.Unmarshal([]byte(read(t, path)), &file); err != nil {
		t.Fatal(err)
	}
	for _, test := range file["tests"].([]any) {
		if test.(map[string]any)["name"] == name {
			file["tests"] = []any{test}
			text, err := yaml.Marshal(file)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
	}
	t.Fatalf("%s has no test %q", path, name)
	return nil
}
