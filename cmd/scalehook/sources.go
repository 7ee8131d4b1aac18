package main

import (
	"context"
	"errors"
	"slices"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/scaling"
)

// errSourcesChanged refuses a reload that the engine could not follow: which
// sources have to confirm is settled when it starts.
var errSourcesChanged = errors.New("prometheus or alertmanagers were added or taken away: restart scalehook instead (VMs go on serving)")

// sourceNames lists what a configuration's engine asks.
func sourceNames(r *config.Runtime) []string {
	var names []string
	if r.Meter != nil {
		names = append(names, "meter")
	}
	for _, c := range r.Confirmers {
		names = append(names, c.Source())
	}
	return names
}

// checkSources reports whether the engine can go on with the sources of next.
func checkSources(old, next *config.Runtime) error {
	if !slices.Equal(sourceNames(old), sourceNames(next)) {
		return errSourcesChanged
	}
	return nil
}

// meter is the meter of whatever configuration is in force; nil if there is none.
func (r *reloader) meter() scaling.Meter {
	if r.live.Load().Meter == nil {
		return nil
	}
	return liveMeter{r}
}

// confirmers are those of whatever configuration is in force.
func (r *reloader) confirmers() []scaling.Confirmer {
	var list []scaling.Confirmer
	for _, c := range r.live.Load().Confirmers {
		list = append(list, liveConfirmer{r, c.Source()})
	}
	return list
}

type liveMeter struct{ r *reloader }

var _ scaling.Meter = liveMeter{}

// Readings asks the meter in force.
func (m liveMeter) Readings(ctx context.Context) (map[string]scaling.Reading, error) {
	return m.r.live.Load().Meter.Readings(ctx)
}

type liveConfirmer struct {
	r    *reloader
	name string
}

var _ scaling.Confirmer = liveConfirmer{}

// Source is the name of the source, which a reload does not change.
func (c liveConfirmer) Source() string { return c.name }

// Confirm asks the source in force.
func (c liveConfirmer) Confirm(ctx context.Context) ([]scaling.Evidence, error) {
	for _, now := range c.r.live.Load().Confirmers {
		if now.Source() == c.name {
			return now.Confirm(ctx)
		}
	}
	return nil, scaling.Errorf(scaling.Permanent, "source %s is not configured", c.name)
}
