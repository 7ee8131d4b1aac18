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
// all their samples, and so is a value of 0 or 1. The tests check what the
// registry would have. Nothing may be changed once it is written.
type page struct {
	counters  bool // else gauges
	metrics   []*dto.Metric
	samples   []dto.Metric
	values    []value
	pairs     []pair
	pointers  []*dto.LabelPair
	zero, one *value
}

// value and pair keep what is pointed at beside what points at it.
type value struct {
	gauge   dto.Gauge
	counter dto.Counter
	value   float64
}

type pair struct {
	pair  dto.LabelPair
	value string
}

// labels is a list of pairs in the order of their names.
type labels []*dto.LabelPair

func newPage() *page {
	return &page{zero: (&value{}).set(0), one: (&value{}).set(1)}
}

// add writes one sample.
func (p *page) add(l labels, v float64) {
	if len(p.samples) == 0 {
		p.samples = make([]dto.Metric, slab)
	}
	m := &p.samples[0]
	p.samples = p.samples[1:]
	m.Label = l
	if x := p.value(v); p.counters {
		m.Counter = &x.counter
	} else {
		m.Gauge = &x.gauge
	}
	p.metrics = append(p.metrics, m)
}

func (p *page) value(v float64) *value {
	switch v {
	case 0:
		return p.zero
	case 1:
		return p.one
	}
	if len(p.values) == 0 {
		p.values = make([]value, slab)
	}
	x := &p.values[0]
	p.values = p.values[1:]
	return x.set(v)
}

func (x *value) set(v float64) *value {
	x.value = v
	x.gauge.Value, x.counter.Value = &x.value, &x.value
	return x
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
