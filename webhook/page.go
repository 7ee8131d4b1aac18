package webhook

import (
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// slab is how many objects are allocated at once while a page is written.
const slab = 256

// page is a family of the groups' series while it is written. It is built here,
// not through const metrics and a registry, because those allocate, check, hash
// and sort every sample anew, which a hundred thousand instances make a matter of
// seconds; the labels of a group and of an instance are made once and shared by
// all their samples, and so is a gauge that is 0 or 1. The tests check what the
// registry would have. Nothing may be changed once it is written.
type page struct {
	metrics   []*dto.Metric
	samples   []dto.Metric
	values    []value
	pairs     []pair
	pointers  []*dto.LabelPair
	zero, one *dto.Gauge
}

// value and pair keep what is pointed at beside what points at it.
type value struct {
	gauge dto.Gauge
	value float64
}

type pair struct {
	pair  dto.LabelPair
	value string
}

// labels is a list of pairs in the order of their names.
type labels []*dto.LabelPair

func newPage() *page {
	zero, one := 0.0, 1.0
	return &page{zero: &dto.Gauge{Value: &zero}, one: &dto.Gauge{Value: &one}}
}

// add writes one sample.
func (p *page) add(l labels, v float64) {
	if len(p.samples) == 0 {
		p.samples = make([]dto.Metric, slab)
	}
	m := &p.samples[0]
	p.samples = p.samples[1:]
	m.Label, m.Gauge = l, p.gauge(v)
	p.metrics = append(p.metrics, m)
}

func (p *page) gauge(v float64) *dto.Gauge {
	switch v {
	case 0:
		return p.zero
	case 1:
		return p.one
	}
	if len(p.values) == 0 {
		p.values = make([]value, slab)
	}
	g := &p.values[0]
	p.values = p.values[1:]
	g.value = v
	g.gauge.Value = &g.value
	return &g.gauge
}

// pair makes one label. The value may come from outside, as the name of a VM
// does: what is not valid UTF-8 in it is replaced, since a scraper would refuse
// the whole page for it. name must outlive the page.
func (p *page) pair(name *string, val string) *dto.LabelPair {
	if len(p.pairs) == 0 {
		p.pairs = make([]pair, slab)
	}
	l := &p.pairs[0]
	p.pairs = p.pairs[1:]
	l.value = valid(val)
	l.pair.Name, l.pair.Value = name, &l.value
	return &l.pair
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

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
