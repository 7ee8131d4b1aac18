package delivery

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The values of the label "result".
const (
	resultDelivered = "delivered"
	resultRejected  = "rejected"
	resultGivenUp   = "given_up"
	resultDropped   = "dropped"
	// resultUnreadable is an activity that the store has and cannot read.
	resultUnreadable = "unreadable"
)

const (
	labelWebhook = "webhook"
	labelResult  = "result"
	labelCode    = "code"
)

// metrics are what the service counts, by webhook. Those that are not counters
// come from the couriers when they are asked for.
type metrics struct {
	service    *Service
	deliveries *prometheus.CounterVec
	tries      *prometheus.CounterVec
	waiting    *prometheus.Desc
	oldest     *prometheus.Desc
}

func newMetrics(s *Service) *metrics {
	return &metrics{
		service: s,
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scalehook_deliveries_total",
			Help: "Ended activities that a webhook was to be told of, by what became of it (delivered, rejected, given_up, dropped, unreadable).",
		}, []string{labelWebhook, labelResult}),
		tries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scalehook_delivery_tries_total",
			Help: "Requests to a webhook, by class of the answer's status (2xx to 5xx, none without an answer).",
		}, []string{labelWebhook, labelCode}),
		waiting: prometheus.NewDesc("scalehook_deliveries_waiting",
			"Ended activities that a webhook has not come to yet; those that it is not told of may be among them.", []string{labelWebhook}, nil),
		oldest: prometheus.NewDesc("scalehook_delivery_oldest_timestamp_seconds",
			"When the activity ended that a webhook is being told of; no sample while there is none.", []string{labelWebhook}, nil),
	}
}

// Describe implements prometheus.Collector for what comes from the couriers.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { ch <- m.waiting; ch <- m.oldest }

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.service.mu.Lock()
	defer m.service.mu.Unlock()
	for name, c := range m.service.couriers {
		ch <- prometheus.MustNewConstMetric(m.waiting, prometheus.GaugeValue, float64(max(0, m.service.last.Load()-c.told.Load())), name)
		if at := c.oldest.Load(); at != 0 {
			ch <- prometheus.MustNewConstMetric(m.oldest, prometheus.GaugeValue, float64(at)/float64(time.Second), name)
		}
	}
}

// begin publishes zeros, so that the first of something is seen as an increase.
func (m *metrics) begin(webhook string) {
	for _, result := range []string{resultDelivered, resultRejected, resultGivenUp, resultDropped, resultUnreadable} {
		m.deliveries.WithLabelValues(webhook, result)
	}
	for _, code := range codes() {
		m.tries.WithLabelValues(webhook, code)
	}
}

// forget ends the series of a webhook that is gone.
func (m *metrics) forget(webhook string) {
	m.deliveries.DeletePartialMatch(prometheus.Labels{labelWebhook: webhook})
	m.tries.DeletePartialMatch(prometheus.Labels{labelWebhook: webhook})
}
