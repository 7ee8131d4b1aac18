package webhook_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/rules"
)

func family(t testing.TB, g prometheus.Gatherer, name string) []*dto.Metric {
	t.Helper()
	families, _ := g.Gather() // an invalid metric is an error beside what is valid
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()
		}
	}
	return nil
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// counter sums the series of a counter that have the labels.
func counter(t testing.TB, g prometheus.Gatherer, name string, labels map[string]string) float64 {
	t.Helper()
	sum := 0.0
	for _, m := range family(t, g, name) {
		matches := true
		for k, v := range labels {
			matches = matches && label(m, k) == v
		}
		if matches {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

func requestsCounted(t testing.TB, g prometheus.Gatherer, code int) float64 {
	t.Helper()
	return counter(t, g, "scalehook_webhook_requests_total", map[string]string{"code": strconv.Itoa(code)})
}

func labelValues(t testing.TB, g prometheus.Gatherer, name, key string) []string {
	t.Helper()
	var values []string
	for _, m := range family(t, g, name) {
		values = append(values, label(m, key))
	}
	slices.Sort(values)
	return slices.Compact(values)
}

func TestMetricsAreClean(t *testing.T) {
	opts := options(t, newEngine())
	problems, err := testutil.GatherAndLint(newServer(t, opts))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestGroupSeries(t *testing.T) {
	e := newEngine()
	s := newServer(t, options(t, e))
	want := `
# HELP scalehook_condition_active Whether the signal stands for the group.
# TYPE scalehook_condition_active gauge
scalehook_condition_active{scaling_group="web",signal="high"} 1
scalehook_condition_active{scaling_group="web",signal="low"} 0
# HELP scalehook_condition_expiry_timestamp_seconds When the standing condition becomes unknown unless it is renewed.
# TYPE scalehook_condition_expiry_timestamp_seconds gauge
scalehook_condition_expiry_timestamp_seconds{scaling_group="web",signal="high"} 1.79526258e+09
# HELP scalehook_evidence_timestamp_seconds Newest evidence time that a source gave for the signal.
# TYPE scalehook_evidence_timestamp_seconds gauge
scalehook_evidence_timestamp_seconds{scaling_group="web",signal="high"} 1.7952624e+09
# HELP scalehook_group_cooldown_until_timestamp_seconds When the cooldown of the group ends or ended; 0 for none yet.
# TYPE scalehook_group_cooldown_until_timestamp_seconds gauge
scalehook_group_cooldown_until_timestamp_seconds{scaling_group="web"} 1.79526246e+09
# HELP scalehook_group_cpu_high_threshold_ratio CPU utilisation above which the group is to grow, 0 to 1.
# TYPE scalehook_group_cpu_high_threshold_ratio gauge
scalehook_group_cpu_high_threshold_ratio{scaling_group="web"} 0.7
# HELP scalehook_group_cpu_low_threshold_ratio CPU utilisation below which the group is to shrink, 0 to 1.
# TYPE scalehook_group_cpu_low_threshold_ratio gauge
scalehook_group_cpu_low_threshold_ratio{scaling_group="web"} 0.2
# HELP scalehook_group_instances Instances of the group, by state.
# TYPE scalehook_group_instances gauge
scalehook_group_instances{scaling_group="web",state="booting"} 0
scalehook_group_instances{scaling_group="web",state="creating"} 1
scalehook_group_instances{scaling_group="web",state="draining"} 0
scalehook_group_instances{scaling_group="web",state="failed"} 0
scalehook_group_instances{scaling_group="web",state="in_service"} 1
scalehook_group_instances{scaling_group="web",state="joining"} 0
scalehook_group_instances{scaling_group="web",state="removing"} 0
scalehook_group_instances{scaling_group="web",state="requested"} 0
scalehook_group_instances{scaling_group="web",state="standby"} 0
# HELP scalehook_group_instances_desired Instances that the group is being brought to.
# TYPE scalehook_group_instances_desired gauge
scalehook_group_instances_desired{scaling_group="web"} 2
# HELP scalehook_group_instances_max Most instances the group may have.
# TYPE scalehook_group_instances_max gauge
scalehook_group_instances_max{scaling_group="web"} 3
# HELP scalehook_group_instances_min Fewest instances the group may have.
# TYPE scalehook_group_instances_min gauge
scalehook_group_instances_min{scaling_group="web"} 1
# HELP scalehook_group_status Standing remarks on the group: 1 while one holds, else 0.
# TYPE scalehook_group_status gauge
scalehook_group_status{scaling_group="web",status="at_max"} 0
scalehook_group_status{scaling_group="web",status="at_min"} 0
scalehook_group_status{scaling_group="web",status="degraded"} 1
scalehook_group_status{scaling_group="web",status="no_capacity"} 0
scalehook_group_status{scaling_group="web",status="observe"} 0
scalehook_group_status{scaling_group="web",status="paused"} 0
# HELP scalehook_instance_created_timestamp_seconds When the instance was asked for.
# TYPE scalehook_instance_created_timestamp_seconds gauge
scalehook_instance_created_timestamp_seconds{scaling_group="web",uuid="uuid-1"} 1.7952624e+09
# HELP scalehook_instance_info An instance whose VM is known; always 1.
# TYPE scalehook_instance_info gauge
scalehook_instance_info{address="192.0.2.11",provider="kvm",scaling_group="web",uuid="uuid-1",vm="web-1"} 1
# HELP scalehook_instance_primary Whether the instance is the group's primary.
# TYPE scalehook_instance_primary gauge
scalehook_instance_primary{scaling_group="web",uuid="uuid-1"} 1
# HELP scalehook_instance_state The state that the instance is in; always 1.
# TYPE scalehook_instance_state gauge
scalehook_instance_state{scaling_group="web",state="in_service",uuid="uuid-1"} 1
# HELP scalehook_instance_warm Whether the instance's CPU counts for the high signal.
# TYPE scalehook_instance_warm gauge
scalehook_instance_warm{scaling_group="web",uuid="uuid-1"} 1
# HELP scalehook_member_sessions Sessions in flight to the instance, where the balancer counts them.
# TYPE scalehook_member_sessions gauge
scalehook_member_sessions{pool="haproxy",scaling_group="web",uuid="uuid-1"} 4
# HELP scalehook_member_state The state that the balancer has the instance in; always 1.
# TYPE scalehook_member_state gauge
scalehook_member_state{pool="haproxy",scaling_group="web",state="ready",uuid="uuid-1"} 1
# HELP scalehook_webhook_last_notification_timestamp_seconds When the group last heard from a webhook; 0 for never.
# TYPE scalehook_webhook_last_notification_timestamp_seconds gauge
scalehook_webhook_last_notification_timestamp_seconds{scaling_group="web"} 1.7952624e+09
`
	var names []string
	for line := range strings.Lines(want) {
		if after, found := strings.CutPrefix(line, "# TYPE "); found {
			names = append(names, strings.Fields(after)[0])
		}
	}
	if err := testutil.GatherAndCompare(s, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func TestSeriesOfWhatIsGoneAreGone(t *testing.T) {
	e := newEngine()
	s := newServer(t, options(t, e))
	if got := labelValues(t, s, "scalehook_webhook_alerts_total", "scaling_group"); !cmp.Equal(got, []string{"web"}) {
		t.Errorf("groups %v, want the counters of web to exist before the first alert", got)
	}
	e.views[0].Group.Name = "db"
	family(t, s, "scalehook_group_instances")
	for _, name := range []string{"scalehook_webhook_alerts_total", "scalehook_instance_info", "scalehook_group_instances"} {
		if got := labelValues(t, s, name, "scaling_group"); !cmp.Equal(got, []string{"db"}) {
			t.Errorf("%s: groups %v, want db alone", name, got)
		}
	}
}

func TestTwoRecordsOfOneVMDoNotBreakTheScrape(t *testing.T) {
	e := newEngine()
	e.views[0].Instances = append(e.views[0].Instances, e.views[0].Instances[0])
	gone := e.views[0].Instances[0]
	gone.UUID, gone.State = "uuid-gone", scaling.StateGone
	e.views[0].Instances = append(e.views[0].Instances, gone)
	opts := options(t, e)
	s := newServer(t, opts)
	if w := send(t, s, request{method: "GET", path: "/metrics"}); w.Code != 200 || strings.Contains(w.Body.String(), "uuid-gone") {
		t.Errorf("answered %d", w.Code)
	}
	if _, err := s.Gather(); err != nil {
		t.Error(err)
	}
}

func TestAScrapeWithoutAnswerStillHasTheRest(t *testing.T) {
	e := newEngine()
	e.err = errors.New("planted")
	s := newServer(t, options(t, e))
	w := send(t, s, request{method: "GET", path: "/metrics"})
	if body := w.Body.String(); w.Code != 200 || !strings.Contains(body, "scalehook_webhook_requests_total") || strings.Contains(body, "scalehook_instance_info{") {
		t.Errorf("answered %d:\n%s", w.Code, body)
	}
}

// The rules, the dashboard and the documents name series by this list, so it has
// to be true.
func TestSeriesAreAsTheRulesKnowThem(t *testing.T) {
	opts := options(t, newEngine())
	s := newServer(t, opts)
	send(t, s, request{method: "GET", path: "/metrics"})
	listed := map[string]rules.Series{}
	for _, series := range rules.ServerSeries() {
		listed[series.Name] = series
	}
	families, err := s.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "scalehook_") {
			continue
		}
		series, found := listed[f.GetName()]
		if !found {
			t.Errorf("%s is not in the list", f.GetName())
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(series.Labels)
		if !slices.Equal(series.Labels, labels) {
			t.Errorf("%s has the labels %v, the list says %v", f.GetName(), labels, series.Labels)
		}
		if f.GetHelp() != series.Help {
			t.Errorf("%s says of itself %q, the list says %q", f.GetName(), f.GetHelp(), series.Help)
		}
		if kind := strings.ToLower(f.GetType().String()); kind != string(series.Kind) {
			t.Errorf("%s is a %s, the list says %s", f.GetName(), kind, series.Kind)
		}
	}
}
