package webpage

import (
	"math"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

const (
	// every is how often the groups are sampled, and points how many samples are
	// kept: an hour. It is what charts are drawn of and nothing else; Prometheus
	// keeps the history.
	every  = 15 * time.Second
	points = 240
	// none is the CPU of a sample without a reading.
	none = math.MaxUint8
)

// history is what the groups were like at the newest ticks. A group costs it a byte
// for each tick and a step for each change of its numbers, about 600 bytes in all:
// ten thousand groups are 6 MB.
type history struct {
	mu     sync.Mutex
	times  [points]time.Time // of tick t at t % points; all groups are sampled at once
	ticks  int
	groups map[string]*series
}

// series is one group's part of it.
type series struct {
	first, last int // ticks
	cpu         [points]uint8
	steps       []step
}

// step is what a group's numbers were from a tick on.
type step struct {
	tick                         int
	desired, inService, min, max uint16
}

// sample is a group at a time.
type sample struct {
	at                           time.Time
	cpu                          float64 // 0..1; NaN: no reading
	desired, inService, min, max int
}

func newHistory() *history { return &history{groups: map[string]*series{}} }

// add notes what the groups are like. Those that are not in views are forgotten.
func (h *history) add(at time.Time, views []scaling.GroupView) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tick := h.ticks
	h.times[tick%points] = at
	h.ticks++
	for i := range views {
		v := &views[i]
		s := h.groups[v.Group.Name]
		if s == nil {
			s = &series{first: tick}
			h.groups[v.Group.Name] = s
		}
		s.add(tick, sampleOf(at, v))
	}
	for name, s := range h.groups {
		if s.last != tick {
			delete(h.groups, name)
		}
	}
}

// gap notes that nothing is known of a time.
func (h *history) gap(at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tick := h.ticks
	h.times[tick%points] = at
	h.ticks++
	for _, s := range h.groups {
		s.cpu[tick%points], s.last = none, tick
	}
}

func (s *series) add(tick int, v sample) {
	s.last = tick
	s.cpu[tick%points] = none
	if !math.IsNaN(v.cpu) {
		s.cpu[tick%points] = uint8(math.Round(200 * min(max(v.cpu, 0), 1)))
	}
	now := step{tick, short(v.desired), short(v.inService), short(v.min), short(v.max)}
	if n := len(s.steps); n > 0 {
		before := s.steps[n-1]
		before.tick = tick
		if before == now {
			return
		}
	}
	// What is older than the window is needed up to the step that holds at its begin.
	old := 0
	for old+1 < len(s.steps) && s.steps[old+1].tick <= tick-points {
		old++
	}
	s.steps = append(s.steps[old:len(s.steps):len(s.steps)], now)
}

func short(n int) uint16 { return uint16(min(max(n, 0), math.MaxUint16)) }

// of returns the samples of a group, oldest first.
func (h *history) of(group string) []sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.groups[group]
	if s == nil {
		return nil
	}
	from := max(s.first, h.ticks-points)
	out := make([]sample, 0, h.ticks-from)
	k := 0
	for tick := from; tick < h.ticks; tick++ {
		for k+1 < len(s.steps) && s.steps[k+1].tick <= tick {
			k++
		}
		now := s.steps[k]
		v := sample{h.times[tick%points], math.NaN(), int(now.desired), int(now.inService), int(now.min), int(now.max)}
		if cpu := s.cpu[tick%points]; cpu != none {
			v.cpu = float64(cpu) / 200
		}
		out = append(out, v)
	}
	return out
}

// sampleOf is a group as it is now.
func sampleOf(at time.Time, v *scaling.GroupView) sample {
	s := sample{at: at, desired: v.State.Desired, min: v.Group.Min, max: v.Group.Max}
	s.cpu, s.inService = average(v)
	return s
}

// average is the mean CPU utilisation of the instances in service that have a
// reading, NaN if none has, and how many are in service.
func average(v *scaling.GroupView) (cpu float64, inService int) {
	sum, n := 0.0, 0
	for i := range v.Instances {
		if v.Instances[i].State != scaling.StateInService {
			continue
		}
		inService++
		if r := v.Instances[i].Reading; r != nil {
			sum += r.Utilization
			n++
		}
	}
	if n == 0 {
		return math.NaN(), inService
	}
	return sum / float64(n), inService
}
