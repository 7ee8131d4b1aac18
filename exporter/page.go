package exporter

import (
	dto "github.com/prometheus/client_model/go"
)

// slab is how many objects are allocated at once while a page is written.
const slab = 256

// page is one scrape's samples while they are written. It builds the families
// itself, not through const metrics and a registry, because those allocate and
// check every sample anew; the labels of a domain are made once and shared by
// all its samples. The tests check what the registry would have.
type page struct {
	specs    *[familyCount]spec
	metrics  [familyCount][]*dto.Metric
	samples  []sample
	pairs    []dto.LabelPair
	pointers []*dto.LabelPair
}

// sample keeps a metric and what it points at in one place.
type sample struct {
	metric  dto.Metric
	counter dto.Counter
	gauge   dto.Gauge
	value   float64
}

// labels is a list of pairs in the order of their names.
type labels []*dto.LabelPair

// add writes one sample.
func (p *page) add(f family, l labels, value float64) {
	if len(p.samples) == 0 {
		p.samples = make([]sample, slab)
	}
	s := &p.samples[0]
	p.samples = p.samples[1:]
	s.value = value
	s.metric.Label = l
	if p.specs[f].kind == dto.MetricType_COUNTER {
		s.counter.Value = &s.value
		s.metric.Counter = &s.counter
	} else {
		s.gauge.Value = &s.value
		s.metric.Gauge = &s.gauge
	}
	p.metrics[f] = append(p.metrics[f], &s.metric)
}

// addIf writes one sample if libvirt had the field.
func (p *page) addIf(set bool, f family, l labels, value float64) {
	if set {
		p.add(f, l, value)
	}
}

// pair makes one label. name must outlive the page.
func (p *page) pair(name *string, value string) *dto.LabelPair {
	if len(p.pairs) == 0 {
		p.pairs = make([]dto.LabelPair, slab)
	}
	l := &p.pairs[0]
	p.pairs = p.pairs[1:]
	l.Name, l.Value = name, &value
	return l
}

// labels makes a list of labels, which the caller gives in order of their names.
func (p *page) labels(pairs ...*dto.LabelPair) labels {
	n := len(pairs)
	if len(p.pointers) < n {
		p.pointers = make([]*dto.LabelPair, slab)
	}
	l := p.pointers[:n:n]
	p.pointers = p.pointers[n:]
	copy(l, pairs)
	return l
}

// families returns what was written, in the table's order, without the
// families that have no sample.
func (p *page) families() []*dto.MetricFamily {
	out := make([]*dto.MetricFamily, 0, familyCount)
	for f, metrics := range p.metrics {
		if len(metrics) == 0 {
			continue
		}
		s := &p.specs[f]
		out = append(out, &dto.MetricFamily{Name: &s.name, Help: &s.help, Type: &s.kind, Metric: metrics})
	}
	return out
}
