package engine

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/scaling"
)

// metrics counts what the engine does. What it knows is exported from its views.
type metrics struct {
	verdicts      *prometheus.CounterVec
	confirmations *prometheus.CounterVec
	activities    *prometheus.CounterVec
	failed        *prometheus.CounterVec
	flying        *prometheus.GaugeVec
	duration      *prometheus.HistogramVec
	step          *prometheus.HistogramVec
	calls         *prometheus.CounterVec
	callsFailed   *prometheus.CounterVec
	callSeconds   *prometheus.HistogramVec

	mu    sync.Mutex
	known map[string]bool
}

func newMetrics(reg prometheus.Registerer) *metrics {
	long := []float64{1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800}
	native := func(o prometheus.HistogramOpts) prometheus.HistogramOpts {
		o.NativeHistogramBucketFactor, o.NativeHistogramMaxBucketNumber = 1.1, 160
		o.NativeHistogramMinResetDuration = time.Hour
		return o
	}
	m := &metrics{
		known: map[string]bool{},
		verdicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scalehook_verdicts_total", Help: "Verdicts that asked for an action.",
		}, []string{"scaling_group", "action"}),
		confirmations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scalehook_confirmations_total", Help: "Look-ups at the sources of confirmation, by result (answered, unreachable).",
		}, []string{"source", "result"}),
		activities: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scalehook_activities_total", Help: "Activities that ended, whatever their outcome.",
		}, []string{"scaling_group", "activity"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scalehook_activities_failed_total", Help: "Activities that ended undone or failed.",
		}, []string{"scaling_group", "activity"}),
		flying: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "scalehook_activities_in_flight", Help: "Activities under way.",
		}, []string{"scaling_group", "activity"}),
		duration: prometheus.NewHistogramVec(native(prometheus.HistogramOpts{
			Name: "scalehook_activity_duration_seconds", Help: "Duration of activities that were done.", Buckets: long,
		}), []string{"activity"}),
		step: prometheus.NewHistogramVec(native(prometheus.HistogramOpts{
			Name: "scalehook_step_duration_seconds", Help: "Duration of the steps of activities that were done.", Buckets: long,
		}), []string{"activity", "step"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scalehook_driver_requests_total", Help: "Calls to providers and balancers, by their configured name.",
		}, []string{"driver", "call"}),
		callsFailed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scalehook_driver_requests_failed_total", Help: "Calls to providers and balancers that failed, by class of the error.",
		}, []string{"driver", "call", "reason"}),
		callSeconds: prometheus.NewHistogramVec(native(prometheus.HistogramOpts{
			Name: "scalehook_driver_request_duration_seconds", Help: "Duration of calls to providers and balancers.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 30},
		}), []string{"driver", "call"}),
	}
	if reg != nil {
		reg.MustRegister(m.verdicts, m.confirmations, m.activities, m.failed, m.flying, m.duration, m.step,
			m.calls, m.callsFailed, m.callSeconds)
	}
	return m
}

func (m *metrics) verdict(group string, a scaling.Action) {
	m.verdicts.WithLabelValues(group, string(a)).Inc()
}

func (m *metrics) confirmation(source string, a *answer) {
	result := "answered"
	if a.err != nil {
		result = "unreachable"
	}
	m.confirmations.WithLabelValues(source, result).Inc()
}

// inFlight sets the gauges of a group; on its first call it makes every counter
// of the group start at zero, so that the first increase is seen.
func (m *metrics) inFlight(group string, open []scaling.Activity) {
	n := map[scaling.ActivityKind]int{}
	for _, a := range open {
		if !a.Status.Ended() {
			n[a.Kind]++
		}
	}
	for _, k := range scaling.ActivityKinds() {
		m.flying.WithLabelValues(group, string(k)).Set(float64(n[k]))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[group] {
		return
	}
	m.known[group] = true
	for _, k := range scaling.ActivityKinds() {
		m.activities.WithLabelValues(group, string(k))
		m.failed.WithLabelValues(group, string(k))
	}
	for _, a := range scaling.Actions() {
		m.verdicts.WithLabelValues(group, string(a))
	}
}

func (m *metrics) activityEnded(a scaling.Activity) {
	m.activities.WithLabelValues(a.Group, string(a.Kind)).Inc()
	if a.Status != scaling.ActivityDone {
		m.failed.WithLabelValues(a.Group, string(a.Kind)).Inc()
		return
	}
	m.duration.WithLabelValues(string(a.Kind)).Observe(a.Ended.Sub(a.Created).Seconds())
	for _, s := range a.Steps {
		if !s.Ended.IsZero() {
			m.step.WithLabelValues(string(a.Kind), s.Name).Observe(s.Ended.Sub(s.Started).Seconds())
		}
	}
}

// call runs and measures one call to a driver.
func (m *metrics) call(driver, name string, fn func() error) error {
	begun := time.Now()
	err := fn()
	m.calls.WithLabelValues(driver, name).Inc()
	m.callSeconds.WithLabelValues(driver, name).Observe(time.Since(begun).Seconds())
	if err != nil {
		m.callsFailed.WithLabelValues(driver, name, scaling.ClassOf(err).String()).Inc()
	}
	return err
}
