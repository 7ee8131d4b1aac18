package webhook

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	dto "github.com/prometheus/client_model/go"

	"github.com/scalehook/scalehook/internal/scaling"
)

// fate is what became of an alert.
type fate struct{ signal, status, result string }

func (f fate) compare(o fate) int {
	return cmp.Or(strings.Compare(f.result, o.result), strings.Compare(f.signal, o.signal), strings.Compare(f.status, o.status))
}

// fates counts alerts by what became of them.
type fates map[fate]uint64

// usual are the fates that every group has a series of before the first alert, so
// that its first increase is seen.
func usual() []fate {
	var out []fate
	for _, s := range []scaling.Signal{scaling.High, scaling.Low} {
		for _, r := range []scaling.NotifyResult{scaling.NotifyAccepted, scaling.NotifyRenewed, scaling.NotifyNotConfirmed} {
			out = append(out, fate{string(s), "firing", string(r)})
		}
		out = append(out, fate{string(s), "resolved", string(scaling.NotifyResolved)})
	}
	slices.SortFunc(out, fate.compare)
	return out
}

// tally counts the alerts that were received, by group; those of no configured
// group by the empty name. With thousands of groups it is a fraction of what as
// many counters take.
type tally struct {
	mu     sync.Mutex
	groups map[string]fates
}

func newTally() *tally { return &tally{groups: map[string]fates{}} }

func (t *tally) add(group string, f fate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.groups[group] == nil {
		t.groups[group] = fates{}
	}
	t.groups[group][f]++
}

// of returns what was counted for a group; nil for nothing.
func (t *tally) of(group string) fates {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.groups[group])
}

// keep forgets what was counted for groups that are no longer configured.
func (t *tally) keep(rows []row) {
	configured := make(map[string]bool, len(rows))
	for i := range rows {
		configured[rows[i].name] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.groups, func(group string, _ fates) bool { return group != "" && !configured[group] })
}

// fateLabels are the labels of a usual fate.
type fateLabels struct {
	fate

	pairs [3]*dto.LabelPair // result, signal, status
}

func (c *collector) fatePairs(p *page, f fate) [3]*dto.LabelPair {
	return [3]*dto.LabelPair{p.pair(&c.names.result, f.result), p.pair(&c.names.signal, f.signal), p.pair(&c.names.status, f.status)}
}

func (c *collector) writeAlerts(p *page, r *row) {
	for _, u := range c.usual {
		p.add(p.labels(u.pairs[0], r.group, u.pairs[1], u.pairs[2]), float64(r.alerts[u.fate]))
	}
	c.writeFates(p, r.group, r.alerts, func(f fate) bool {
		return slices.ContainsFunc(c.usual, func(u fateLabels) bool { return u.fate == f })
	})
}

// writeStrangers writes the alerts of no configured group.
func (c *collector) writeStrangers(p *page) {
	none := ""
	c.writeFates(p, p.pair(&c.names.group, none), c.metrics.alerts.of(none), func(fate) bool { return false })
}

func (c *collector) writeFates(p *page, group *dto.LabelPair, counted fates, skip func(fate) bool) {
	for _, f := range slices.SortedFunc(maps.Keys(counted), fate.compare) {
		if !skip(f) {
			pairs := c.fatePairs(p, f)
			p.add(p.labels(pairs[0], group, pairs[1], pairs[2]), float64(counted[f]))
		}
	}
}
