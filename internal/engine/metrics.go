package engine

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/scaling"
)

// metrics counts what the engine does, but for what it counts per group: that and
// what it knows are exported from its views.
type metrics struct {
	confirmations *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	step          *prometheus.HistogramVec
	calls         *prometheus.CounterVec
	callsFailed   *prometheus.CounterVec
	callSeconds   *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	long := []float64{1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800}
	native := func(o prometheus.HistogramOpts) prometheus.HistogramOpts {
		o.NativeHistogramBucketFactor, o.NativeHistogramMaxBucketNumber = 1.1, 160
		o.NativeHistogramMinResetDuration = time.Hour
		return o
	}
	m := &metrics{
		confirmations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scalehook_confirmations_total", Help: "Look-ups at the sources of confirmation, by result (answered, unreachable).",
		}, []string{"source", "result"}),
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
	// From the start on, or the first launch would be no increase.
	for _, kind := range []scaling.ActivityKind{scaling.ActivityScaleOut, scaling.ActivityFill, scaling.ActivityHandover} {
		m.duration.WithLabelValues(string(kind))
		for _, phase := range scaling.LaunchPhases() {
			m.step.WithLabelValues(string(kind), string(phase))
		}
	}
	if reg != nil {
		reg.MustRegister(m.confirmations, m.duration, m.step, m.calls, m.callsFailed, m.callSeconds)
	}
	return m
}

func (m *metrics) confirmation(source string, a *answer) {
	result := "answered"
	if a.err != nil {
		result = "unreachable"
	}
	m.confirmations.WithLabelValues(source, result).Inc()
}

func (m *metrics) activityEnded(a scaling.Activity) {
	if a.Status != scaling.ActivityDone {
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
