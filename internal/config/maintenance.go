package config

import (
	"fmt"
	"time"

	"github.com/adhocore/gronx"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Maintenance is a window that comes back: while it is open nothing is begun by
// itself in its directions. What is under way goes on, and orders are followed.
type Maintenance struct {
	// Name is shown to people. Default: the schedule.
	Name string `yaml:"name"`
	// Schedule says when it opens, as five fields of cron: "0 2 * * 6" is Saturday
	// at two.
	Schedule string `yaml:"schedule"`
	// Duration is how long it stays open, at most seven days (168h).
	Duration time.Duration `yaml:"duration"`
	// Timezone is that of the schedule, as Europe/Vienna. Default UTC.
	Timezone string `yaml:"timezone"`
	// Direction is what is held: in, out or both. Default both.
	Direction string `yaml:"direction"`

	zone *time.Location
}

// maxWindow bounds a window: one that is open for longer is a pause.
const maxWindow = 7 * 24 * time.Hour

func (m *Maintenance) validate() error {
	if !gronx.IsValid(m.Schedule) {
		return fmt.Errorf("schedule: %q is not one of cron: write minute hour day month weekday, as \"0 2 * * 6\"", m.Schedule)
	}
	if m.Duration <= 0 || m.Duration > maxWindow {
		return fmt.Errorf("duration: %s: state how long the window stays open, at most %s", m.Duration, maxWindow)
	}
	zone, err := time.LoadLocation(m.Timezone)
	if err != nil {
		return fmt.Errorf("timezone: %q is not known: write it as Europe/Vienna, or leave it out for UTC", m.Timezone)
	}
	m.zone = zone
	switch m.Direction {
	case "", "both", "in", "out":
	default:
		return fmt.Errorf("direction: %q: use in, out or both", m.Direction)
	}
	if m.Name == "" {
		m.Name = m.Schedule
	}
	return nil
}

// open returns the window if it is open at now.
func (m *Maintenance) open(now time.Time) *scaling.Maintenance {
	begun, err := gronx.PrevTickBefore(m.Schedule, now.In(m.zone), true)
	if err != nil || !now.Before(begun.Add(m.Duration)) {
		return nil
	}
	return &scaling.Maintenance{Name: m.Name, Out: m.Direction != "in", In: m.Direction != "out", Until: begun.Add(m.Duration)}
}

// Windows are the maintenance windows of a group.
type Windows []Maintenance

// Open returns the window that is open at now, nil if none is. Of several it is
// one that holds both directions as long as any of them holds each.
func (w Windows) Open(now time.Time) *scaling.Maintenance {
	var out *scaling.Maintenance
	for k := range w {
		m := w[k].open(now)
		switch {
		case m == nil:
		case out == nil:
			out = m
		default:
			out.Name += " and " + m.Name
			out.Out, out.In = out.Out || m.Out, out.In || m.In
			if m.Until.Before(out.Until) {
				out.Until = m.Until
			}
		}
	}
	return out
}
