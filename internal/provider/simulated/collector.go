package simulated

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Collector publishes the World's VMs under the names that scalehook-exporter
// uses for libvirt's domains.
type Collector struct {
	w                 *World
	cpu, vcpus, state *prometheus.Desc
}

var _ prometheus.Collector = (*Collector)(nil)

// Collector returns the World's metrics, to be registered once.
func (w *World) Collector() *Collector {
	labels := []string{"domain", "uuid"}
	return &Collector{
		w:     w,
		cpu:   prometheus.NewDesc("libvirt_domain_cpu_time_seconds_total", "CPU time used by a running domain (simulated).", labels, nil),
		vcpus: prometheus.NewDesc("libvirt_domain_vcpus", "Number of vCPUs of the domain (simulated).", labels, nil),
		state: prometheus.NewDesc("libvirt_domain_state", "The state that the domain is in, always 1 (simulated).", append(labels, "state"), nil),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.cpu
	ch <- c.vcpus
	ch <- c.state
}

// Collect implements prometheus.Collector. There is no CPU time of a VM that does
// not run: a counter that stands still would read as an idle one.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.advance()
	for _, v := range c.w.sorted() {
		if v.Power == scaling.PowerRunning {
			ch <- prometheus.MustNewConstMetric(c.cpu, prometheus.CounterValue, v.CPU, v.Name, v.UUID)
		}
		ch <- prometheus.MustNewConstMetric(c.vcpus, prometheus.GaugeValue, float64(v.VCPUs), v.Name, v.UUID)
		ch <- prometheus.MustNewConstMetric(c.state, prometheus.GaugeValue, 1, v.Name, v.UUID, libvirtState(v.Power))
	}
}

func libvirtState(p scaling.Power) string {
	switch p {
	case scaling.PowerRunning:
		return "running"
	case scaling.PowerPaused:
		return "paused"
	case scaling.PowerStopped:
		return "shutoff"
	case scaling.PowerCrashed:
		return "crashed"
	case scaling.PowerUnknown:
	}
	return "nostate"
}
