package webhook

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// metrics are what the server counts of itself.
type metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	alerts    *tally // follows the groups, so the collector writes it
	truncated prometheus.Counter
	dropped   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scalehook_webhook_requests_total",
			Help: "Requests answered, by handler (alertmanager, operator, view, page, other) and status code.",
		}, []string{"handler", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:                           "scalehook_webhook_request_duration_seconds",
			Help:                           "Time from a request's header to the end of its answer, by handler.",
			Buckets:                        []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 160,
			// A reset more often than that would cost resolution for nothing.
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"handler"}),
		alerts: newTally(),
		truncated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scalehook_webhook_truncated_alerts_total",
			Help: "Alerts that senders left out of their messages (max_alerts is not 0).",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scalehook_webhook_connections_dropped_total",
			Help: "Idle or slow connections closed to make room for new ones.",
		}),
	}
	for _, h := range handlers() {
		m.duration.WithLabelValues(h)
	}
	for _, code := range []int{200, 400, 401, 403, 405, 413, 415, 422, 503} {
		m.requests.WithLabelValues(handlerIntake, strconv.Itoa(code))
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.truncated, m.dropped, reserved(specs())} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// The values of the label "handler".
const (
	handlerIntake   = "alertmanager"
	handlerOperator = "operator"
	handlerView     = "view"
	handlerPage     = "page"
	handlerOther    = "other"
)

func handlers() []string {
	return []string{handlerIntake, handlerOperator, handlerView, handlerPage, handlerOther}
}

// handlerOf sorts a request by what it asks for, not by whether it is well made.
func handlerOf(r *http.Request) string {
	inAPI := len(r.URL.Path) > len(api.Prefix) && r.URL.Path[:len(api.Prefix)+1] == api.Prefix+"/"
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case r.URL.Path == api.Prefix+"/alertmanager":
		return handlerIntake
	case inAPI && !reads, r.URL.Path == "/-/reload":
		return handlerOperator
	case inAPI:
		return handlerView
	case r.URL.Path == "/", isEvents(r), strings.HasPrefix(r.URL.Path, "/groups/"), strings.HasPrefix(r.URL.Path, "/static/"):
		return handlerPage
	}
	return handlerOther
}

// isEvents reports whether a request asks to be told of changes, which takes as long
// as a page is open.
func isEvents(r *http.Request) bool {
	return r.URL.Path == "/events" || strings.HasPrefix(r.URL.Path, "/events/")
}

// instrument counts and times every request, refused ones included.
func (m *metrics) instrument(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		handler := handlerOf(r)
		rec := &recorder{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			m.requests.WithLabelValues(handler, strconv.Itoa(rec.code)).Inc()
			if !isEvents(r) {
				m.duration.WithLabelValues(handler).Observe(time.Since(start).Seconds())
			}
		}()
		next.ServeHTTP(rec, r)
	})
}

// alert counts an alert. What came with an unknown group must not become a label
// value: anyone could make as many series as he likes.
func (m *metrics) alert(r api.AlertResult) {
	group, signal, status := r.ScalingGroup, r.Signal, r.Status
	if r.Result == string(scaling.NotifyUnknownGroup) || r.Result == string(scaling.NotifyNotAllowed) ||
		r.Result == string(scaling.NotifyNoSignal) || r.Result == string(scaling.NotifyHeartbeat) {
		group = ""
	}
	if !scaling.Signal(signal).Valid() {
		signal = ""
	}
	if status != "firing" && status != "resolved" {
		status = ""
	}
	m.alerts.add(group, fate{signal, status, r.Result})
}

// recorder remembers the status code of an answer.
type recorder struct {
	http.ResponseWriter

	code    int
	written bool
}

// WriteHeader remembers the first final code.
func (r *recorder) WriteHeader(code int) {
	if !r.written && code >= http.StatusOK {
		r.code, r.written = code, true
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write is an answer of 200 unless a code was written before.
func (r *recorder) Write(b []byte) (int, error) {
	r.written = true
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
