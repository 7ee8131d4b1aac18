package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// lookups asks the sources, in one look-up for all groups, on its own pace and
// whenever a notification came.
type lookups struct {
	eng  *Engine
	wake chan struct{}

	mu         sync.Mutex
	source     scaling.Meter
	confirmers []scaling.Confirmer

	readings map[string]scaling.Reading
	meterErr error
	meterAt  time.Time
	metered  time.Duration // the steps of the clock when it was read
	sources  map[string]*answer
	wanted   map[string]bool // groups that were notified since the last round began
}

// answer is what one source said last.
type answer struct {
	asked    time.Time                     // when it was last asked and answered or failed, in steady time
	stepped  time.Duration                 // the steps of the clock then
	evidence map[string][]scaling.Evidence // by group
	err      error
}

func newLookups(e *Engine) *lookups {
	return &lookups{
		eng: e, wake: make(chan struct{}, 1), sources: map[string]*answer{}, wanted: map[string]bool{},
		source: e.opts.Meter, confirmers: e.opts.Confirmers,
	}
}

// replace exchanges the sources. What the old ones said is forgotten, so that
// nothing is removed before the new ones were asked.
func (l *lookups) replace(m scaling.Meter, cs []scaling.Confirmer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.source, l.confirmers = m, cs
	l.sources, l.readings, l.meterErr, l.meterAt = map[string]*answer{}, nil, nil, time.Time{}
	poke(l.wake)
}

func (l *lookups) asked() []scaling.Confirmer {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.confirmers
}

// lookupDeadline bounds one look-up at one source.
const lookupDeadline = 10 * time.Second

// lookupPause is the least from one round of look-ups to the next, however many
// notifications come: sources are shared, and so is this machine.
const lookupPause = 200 * time.Millisecond

// want has the sources asked soon, for groups that were notified.
func (l *lookups) want(groups []string) {
	l.mu.Lock()
	for _, name := range groups {
		l.wanted[name] = true
	}
	l.mu.Unlock()
	poke(l.wake)
}

func (l *lookups) loop(ctx context.Context) {
	var due time.Duration // when every group that is not calm is told again, elapsed
	for {
		begun := l.eng.clock.elapsed()
		var wg sync.WaitGroup
		m, confirmers, before, wanted := l.begin()
		if m != nil {
			wg.Go(func() { l.meter(ctx, m) })
		}
		for _, c := range confirmers {
			wg.Go(func() { l.ask(ctx, c) })
		}
		wg.Wait()
		all := begun >= due
		if all {
			due = l.eng.clock.elapsed() + l.eng.opts.LookupTick
		}
		l.tell(all, before, wanted)
		if !sleep(ctx, begun+lookupPause-l.eng.clock.elapsed(), nil) || !sleep(ctx, due-l.eng.clock.elapsed(), l.wake) {
			return
		}
	}
}

// begin returns what a round needs: whom to ask, what they said last, and the
// groups that were notified since the round before.
func (l *lookups) begin() (m scaling.Meter, cs []scaling.Confirmer, before map[string]*answer, wanted map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wanted, l.wanted = l.wanted, map[string]bool{}
	return l.source, l.confirmers, maps.Clone(l.sources), wanted
}

// tell wakes the groups that a round of look-ups concerns: those that are not
// calm if all is set, and always those that were notified or of which a source
// says something else than before.
func (l *lookups) tell(all bool, before map[string]*answer, wanted map[string]bool) {
	l.mu.Lock()
	now := maps.Clone(l.sources)
	l.mu.Unlock()
	for _, g := range l.eng.all() {
		if wanted[g.name] || (all && !g.calm.Load()) || differ(before, now, g.name) {
			poke(g.wake)
		}
	}
}

// differ reports whether the sources say something else of a group.
func differ(before, now map[string]*answer, group string) bool {
	for name, b := range now {
		a := before[name]
		if a == nil || (a.err == nil) != (b.err == nil) || a.stepped != b.stepped || !slices.Equal(a.evidence[group], b.evidence[group]) {
			return true
		}
	}
	return len(before) != len(now)
}

func (l *lookups) meter(ctx context.Context, m scaling.Meter) {
	cctx, cancel := context.WithTimeout(ctx, lookupDeadline)
	defer cancel()
	r, err := m.Readings(cctx)
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.source != m {
		return // replaced meanwhile
	}
	if err != nil {
		r = nil
		if l.meterErr == nil {
			l.eng.log.Warn("the meter cannot be read; every reading is missing until it can", "err", err)
		}
	}
	l.readings, l.meterErr = r, err
	l.meterAt, l.metered, _ = l.eng.clock.read()
}

// ask asks one source and keeps the answer. The time asked is that of the
// question: the answer says nothing of what came later.
func (l *lookups) ask(ctx context.Context, c scaling.Confirmer) *answer {
	cctx, cancel := context.WithTimeout(ctx, lookupDeadline)
	defer cancel()
	a := &answer{evidence: map[string][]scaling.Evidence{}}
	a.asked, a.stepped, _ = l.eng.clock.read()
	var evidence []scaling.Evidence
	evidence, a.err = c.Confirm(cctx)
	for _, ev := range evidence {
		a.evidence[ev.Group] = append(a.evidence[ev.Group], ev)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return a // the engine stops, or the sender went away
	}
	l.eng.metrics.confirmation(c.Source(), a)
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.sources[c.Source()]; old != nil && old.asked.After(a.asked) {
		return a // a younger question was answered meanwhile
	}
	if !slices.Contains(l.confirmers, c) {
		return a // replaced meanwhile
	}
	if old := l.sources[c.Source()]; a.err != nil && (old == nil || old.err == nil) {
		l.eng.log.Warn("the source cannot be asked; it confirms nothing until it can", "asked", c.Source(), "err", a.err)
	}
	l.sources[c.Source()] = a
	return a
}

// of returns what is known for one group whose time is the steady time and
// offset. What was said before the clock was last stepped is forgotten: its times
// mean nothing any more.
func (l *lookups) of(group string, offset time.Duration) scaling.Lookup {
	_, stepped, _ := l.eng.clock.read()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := scaling.Lookup{Asked: make(map[string]time.Time, len(l.sources))}
	if l.metered == stepped {
		out.Readings = l.readings
	}
	for name, a := range l.sources {
		if a.stepped != stepped {
			continue
		}
		out.Asked[name] = a.asked.Add(offset)
		answered := map[scaling.Signal]bool{}
		for _, ev := range a.evidence[group] {
			ev.Source = name
			out.Evidence = append(out.Evidence, ev)
			answered[ev.Signal] = true
		}
		if a.err == nil {
			continue
		}
		// What a source said in spite of an error counts; of the rest it knows nothing.
		for _, sig := range []scaling.Signal{scaling.High, scaling.Low} {
			if !answered[sig] {
				out.Evidence = append(out.Evidence, scaling.Evidence{
					Source: name, Group: group, Signal: sig, State: scaling.EvidenceUnreachable, Detail: a.err.Error(),
				})
			}
		}
	}
	return out
}

// complete reports whether every source was asked since the start, and since the
// clock was last stepped.
func (l *lookups) complete() bool {
	_, stepped, _ := l.eng.clock.read()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.source != nil && (l.meterAt.IsZero() || l.metered != stepped) {
		return false
	}
	for _, a := range l.sources {
		if a.stepped != stepped {
			return false
		}
	}
	return len(l.sources) == len(l.confirmers)
}

// knownDeadline bounds the look-up that a post waits for.
const knownDeadline = time.Second

// known returns for each notification whether Alertmanager may know its alert. It
// is asked again, once for the whole post, when its last answer lacks one of them;
// a source that cannot be asked, or could not a moment ago, denies nothing.
func (l *lookups) known(ctx context.Context, c scaling.Confirmer, ns []scaling.Notification) func(scaling.Notification) bool {
	l.mu.Lock()
	a := l.sources[c.Source()]
	l.mu.Unlock()
	lacks := func(n scaling.Notification) bool { return !a.has(n) }
	if a == nil || (a.err == nil && slices.ContainsFunc(ns, lacks)) || (a.err != nil && l.eng.clock.steady().Sub(a.asked) > l.eng.opts.LookupTick) {
		cctx, cancel := context.WithTimeout(ctx, knownDeadline)
		defer cancel()
		a = l.ask(cctx, c)
	}
	return func(n scaling.Notification) bool { return a.err != nil || a.has(n) }
}

func (a *answer) has(n scaling.Notification) bool {
	return slices.ContainsFunc(a.evidence[n.Group], func(e scaling.Evidence) bool { return e.Signal == n.Signal })
}

// problems says what cannot be asked, for people.
func (l *lookups) problems() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	if l.meterErr != nil {
		out = append(out, "meter: "+l.meterErr.Error())
	}
	for _, name := range slices.Sorted(maps.Keys(l.sources)) {
		if err := l.sources[name].err; err != nil {
			out = append(out, name+": "+err.Error())
		}
	}
	return out
}

func (l *lookups) reading(uuid string) *scaling.Reading {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, ok := l.readings[uuid]; ok && uuid != "" {
		return &r
	}
	return nil
}
