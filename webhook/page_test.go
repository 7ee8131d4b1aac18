package webhook_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/webhook"
)

// fleet makes n groups of ten instances each, in no order.
func fleet(n int) []scaling.GroupView {
	one := newEngine().views[0]
	out := make([]scaling.GroupView, 0, n)
	for k := range n {
		v := one
		v.Group.Name = fmt.Sprintf("group-%d", n-k)
		v.Instances = nil
		for i := range 10 {
			x := one.Instances[0]
			x.UUID = fmt.Sprintf("%08x-0000-4000-8000-%012x", n-k, 10-i)
			x.Name = fmt.Sprintf("%s-%d", v.Group.Name, i)
			x.Address = netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
			x.Primary, x.Warm = i == 0, i != 3
			v.Instances = append(v.Instances, x)
		}
		out = append(out, v)
	}
	return out
}

// awkward adds what comes from outside and what must not happen.
func awkward(views []scaling.GroupView) []scaling.GroupView {
	v := views[0]
	v.Group.Name, v.Group.Provider, v.Group.Balancer = "awkward", "kvm\xff", "pool \"1\"\\\n"
	v.Statuses = scaling.Statuses()
	v.Instances = slices.Clone(v.Instances)
	v.Instances[0].Name = "name\xfe\n\"of\" a VM"
	v.Instances[1].UUID, v.Instances[2].UUID = "\xfe", "\xff" // one and the same when made valid
	v.Instances[3].State = "odd\xc3"
	v.Instances[4].Member = nil
	empty := scaling.GroupView{Group: scaling.Group{Name: "empty"}}
	return append(views, v, v, empty)
}

// replay is families that go through a registry again.
type replay []*dto.MetricFamily

func (r replay) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range r {
		ch <- replayed{f, f.GetMetric()[0]}.Desc()
	}
}

func (r replay) Collect(ch chan<- prometheus.Metric) {
	for _, f := range r {
		for _, m := range f.GetMetric() {
			ch <- replayed{f, m}
		}
	}
}

type replayed struct {
	family *dto.MetricFamily
	metric *dto.Metric
}

func (r replayed) Desc() *prometheus.Desc {
	var names []string
	for _, l := range r.metric.GetLabel() {
		names = append(names, l.GetName())
	}
	return prometheus.NewDesc(r.family.GetName(), r.family.GetHelp(), names, nil)
}

func (r replayed) Write(m *dto.Metric) error {
	m.Label, m.Gauge, m.Counter = r.metric.GetLabel(), r.metric.GetGauge(), r.metric.GetCounter()
	return nil
}

// The page passes by the registry, which refuses what is wrong; so it is sent
// through one here, that checks most.
func TestTheGroupsPageIsWhatARegistryAccepts(t *testing.T) {
	e := newEngine()
	e.views = awkward(fleet(20))
	families, err := newServer(t, options(t, e)).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var own replay
	for k, f := range families {
		if k > 0 && families[k-1].GetName() >= f.GetName() {
			t.Errorf("%s comes after %s", f.GetName(), families[k-1].GetName())
		}
		if slices.ContainsFunc(f.GetMetric()[0].GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == "scaling_group" }) {
			own = append(own, f)
		}
		checkFamily(t, f)
	}
	if len(own) != 24 {
		t.Errorf("%d families of the groups, want 24", len(own))
	}
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(own); err != nil {
		t.Fatal(err)
	}
	again, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(series(own), series(again)); diff != "" {
		t.Errorf("series (-page +registry):\n%s", diff)
	}
}

func checkFamily(t *testing.T, f *dto.MetricFamily) {
	t.Helper()
	seen := map[string]bool{}
	for _, m := range f.GetMetric() {
		set := labelSet(m)
		if seen[set] {
			t.Errorf("%s: %s is there twice", f.GetName(), set)
		}
		seen[set] = true
		sorted := slices.IsSortedFunc(m.GetLabel(), func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) })
		if !sorted || !utf8.ValidString(set) {
			t.Errorf("%s: labels %q", f.GetName(), set)
		}
		if f.GetType() == dto.MetricType_GAUGE && m.GetGauge() == nil || f.GetType() == dto.MetricType_COUNTER && m.GetCounter() == nil {
			t.Errorf("%s: %s has no value", f.GetName(), set)
		}
	}
}

func labelSet(m *dto.Metric) string {
	var b strings.Builder
	for _, l := range m.GetLabel() {
		fmt.Fprintf(&b, "%s=%q,", l.GetName(), strings.ToValidUTF8(l.GetValue(), "INVALID"))
		if !utf8.ValidString(l.GetValue()) {
			b.WriteByte(0xff)
		}
	}
	return b.String()
}

func series(families []*dto.MetricFamily) []string {
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			out = append(out, fmt.Sprintf("%s{%s} %v", f.GetName(), labelSet(m), m.GetGauge().GetValue()+m.GetCounter().GetValue()))
		}
	}
	slices.Sort(out)
	return out
}

func TestWhatAGroupCameToIsCounted(t *testing.T) {
	e := newEngine()
	e.views = fleet(2)
	g := &e.views[1]
	g.Counts.Acted(scaling.ActionScaleOut)
	g.Counts.Acted(scaling.ActionScaleOut)
	g.Counts.Finished(scaling.Activity{Kind: scaling.ActivityScaleOut, Status: scaling.ActivityDone})
	g.Counts.Finished(scaling.Activity{Kind: scaling.ActivityScaleOut, Status: scaling.ActivityUndone})
	g.State.Open = []scaling.Activity{
		{Kind: scaling.ActivityHandover, Status: scaling.ActivityRunning}, {Kind: scaling.ActivityFill, Status: scaling.ActivityDone},
	}
	s := newServer(t, options(t, e))
	want := map[string]map[string]float64{
		"scalehook_verdicts_total":          {"scale_out": 2},
		"scalehook_activities_total":        {"scale_out": 2},
		"scalehook_activities_failed_total": {"scale_out": 1},
		"scalehook_activities_in_flight":    {"handover": 1},
	}
	for name, counted := range want {
		got := map[string]float64{}
		series := 0
		for _, m := range family(t, s, name) {
			series++
			v := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			if v == 0 {
				continue
			}
			if label(m, "scaling_group") != g.Group.Name {
				t.Errorf("%s: %v counts for another group", name, m)
			}
			got[label(m, "activity")+label(m, "action")] = v
		}
		if diff := cmp.Diff(counted, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if series != 2*len(scaling.Actions()) && series != 2*len(scaling.ActivityKinds()) {
			t.Errorf("%s: %d series of two groups: not every one exists before it is counted", name, series)
		}
	}
}

// TestTheNewestFailureIsDated: of each kind that has failed, and of no other.
func TestTheNewestFailureIsDated(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	e := newEngine()
	e.views = fleet(2)
	s := newServer(t, options(t, e))
	const name = "scalehook_activities_last_failed_timestamp_seconds"
	if w := send(t, s, request{method: "GET", path: "/metrics"}); w.Code != 200 || strings.Contains(w.Body.String(), name) {
		t.Errorf("status %d, or %s before anything failed", w.Code, name)
	}
	counts := &e.views[1].Counts
	for _, a := range []scaling.Activity{
		{Kind: scaling.ActivityScaleOut, Status: scaling.ActivityUndone, Ended: noon.Add(time.Minute)},
		{Kind: scaling.ActivityScaleOut, Status: scaling.ActivityFailed, Ended: noon}, // told late
		{Kind: scaling.ActivityScaleOut, Status: scaling.ActivityDone, Ended: noon.Add(time.Hour)},
		{Kind: scaling.ActivityHandover, Status: scaling.ActivityFailed, Ended: noon.Add(2 * time.Minute)},
	} {
		counts.Finished(a)
	}
	got := map[string]float64{}
	for _, m := range family(t, s, name) {
		got[label(m, "scaling_group")+" "+label(m, "activity")] = m.GetGauge().GetValue()
	}
	group := e.views[1].Group.Name
	want := map[string]float64{group + " scale_out": float64(noon.Unix() + 60), group + " handover": float64(noon.Unix() + 120)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheNewestLaunchIsShownByPhase(t *testing.T) {
	begun := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	launch := func(kind scaling.ActivityKind, status scaling.ActivityStatus, steps ...string) scaling.Activity {
		a := scaling.Activity{Kind: kind, Created: begun}
		at := begun
		for k, step := range steps {
			a.Enter(step, at)
			at = at.Add(time.Duration(k+1) * 1500 * time.Millisecond)
		}
		a.End(status, "", at)
		return a
	}
	for _, tt := range []struct {
		name       string
		activities []scaling.Activity
		want       map[string]float64
	}{
		{"nothing was launched yet", nil, map[string]float64{}},
		{
			"a launch that came into service",
			[]scaling.Activity{launch(scaling.ActivityFill, scaling.ActivityDone, "requested", "creating", "booting", "joining")},
			map[string]float64{"requested": 1.5, "creating": 3, "booting": 4.5, "joining": 6},
		},
		{
			"the newest counts",
			[]scaling.Activity{
				launch(scaling.ActivityScaleOut, scaling.ActivityDone, "requested", "creating", "booting", "joining"),
				launch(scaling.ActivityHandover, scaling.ActivityDone, "successor", "creating", "booting", "joining", "draining", "removing"),
			},
			map[string]float64{"requested": 0, "creating": 3, "booting": 4.5, "joining": 6},
		},
		{"one that was undone does not", []scaling.Activity{launch(scaling.ActivityFill, scaling.ActivityUndone, "requested", "creating")}, map[string]float64{}},
		{"a VM that was adopted does not", []scaling.Activity{launch(scaling.ActivityAdopt, scaling.ActivityDone, "requested", "joining")}, map[string]float64{}},
		{"what only removes does not", []scaling.Activity{launch(scaling.ActivityScaleIn, scaling.ActivityDone, "draining", "removing")}, map[string]float64{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine()
			e.views = fleet(2)
			for _, a := range tt.activities {
				e.views[1].Counts.Finished(a)
			}
			got := map[string]float64{}
			families, err := newServer(t, options(t, e)).Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() != "scalehook_group_launch_phase_duration_seconds" {
					continue
				}
				for _, m := range f.GetMetric() {
					if label(m, "scaling_group") != e.views[1].Group.Name {
						t.Errorf("%v is of another group", m)
					}
					got[label(m, "phase")] = m.GetGauge().GetValue()
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("phases (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGroupsAndInstancesComeInOrder(t *testing.T) {
	e := newEngine()
	e.views = fleet(12)
	s := newServer(t, options(t, e))
	for _, name := range []string{"scalehook_group_instances_max", "scalehook_instance_warm"} {
		var got []string
		for _, m := range family(t, s, name) {
			got = append(got, label(m, "scaling_group")+" "+label(m, "uuid"))
		}
		if len(got) == 0 || !slices.IsSorted(got) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestThePageIsReadAsItWasMeant(t *testing.T) {
	e := newEngine()
	e.views = awkward(fleet(3))
	s := newServer(t, options(t, e))
	w := send(t, s, request{method: "GET", path: "/metrics"})
	parser := expfmt.NewTextParser(model.UTF8Validation)
	read, err := parser.TextToMetricFamilies(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	families, err := s.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetType() != dto.MetricType_GAUGE || !strings.HasPrefix(f.GetName(), "scalehook_") {
			continue
		}
		if diff := cmp.Diff(series([]*dto.MetricFamily{f}), series([]*dto.MetricFamily{read[f.GetName()]})); diff != "" {
			t.Errorf("series (-page +read):\n%s", diff)
		}
	}
}

func TestNobodyElseTakesAGroupsFamily(t *testing.T) {
	opts := options(t, newEngine())
	s := newServer(t, opts)
	other := prometheus.NewGauge(prometheus.GaugeOpts{Name: "scalehook_group_status", Help: "Another's."})
	if err := opts.Registry.Register(other); err == nil {
		t.Error("the registry took it")
	}
	if _, err := s.Gather(); err != nil {
		t.Error(err)
	}
}

// BenchmarkScrape serves a page of 1,000 groups with 10,000 instances.
func BenchmarkScrape(b *testing.B) {
	e := newEngine()
	e.views = fleet(1000)
	s, err := webhook.New(webhook.Options{
		Intake: e, Operator: e, Viewer: e, Insecure: true,
		Logger: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("gather", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Gather(); err != nil {
				b.Fatal(err)
			}
		}
	})
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(encoding, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, server.URL+"/metrics", nil)
				if err != nil {
					b.Fatal(err)
				}
				req.Header.Set("Accept-Encoding", encoding)
				resp, err := server.Client().Do(req)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, resp.Body)
				if err := resp.Body.Close(); err != nil {
					b.Fatal(err)
				}
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Fatal(resp.Status, err)
				}
				b.SetBytes(n)
			}
		})
	}
}
