// Package words says in words what a group and its parts are doing, the same in the
// terminal and on the web page.
package words

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/api"
)

// The words of the domain that decide how something is shown.
const (
	InService = "in_service"
	Draining  = "draining"
	Removing  = "removing"

	kindScaleOut = "scale_out"
	kindScaleIn  = "scale_in"
	kindFill     = "fill"
)

// Average is the mean CPU utilisation of the instances in service that have a
// reading, and how many have none.
func Average(g api.Group) (mean float64, n, missing int) {
	sum := 0.0
	for _, i := range g.Instances {
		switch {
		case i.State != InService:
		case i.Reading == nil:
			missing++
		default:
			sum += i.Reading.Utilization
			n++
		}
	}
	if n > 0 {
		mean = sum / float64(n)
	}
	return mean, n, missing
}

// Running counts the VMs that run, as far as is known: a provider is not listed
// every second, so a VM counts unless it is known not to run.
func Running(g api.Group) int {
	n := 0
	for _, i := range g.Instances {
		switch i.State {
		case "booting", "joining", InService, "standby", Draining:
			if i.Power != "stopped" && i.Power != "paused" && i.Power != "crashed" {
				n++
			}
		}
	}
	return n
}

// Paused reports whether a pause is in force.
func Paused(g api.Group, now time.Time) bool {
	return g.Pause != nil && (g.Pause.Until.IsZero() || now.Before(g.Pause.Until))
}

// Direction is what a group is doing, in a word or two.
func Direction(g api.Group, now time.Time) string {
	doing := ""
	if a := Current(g); a != nil {
		doing = a.Kind
	} else if !g.Verdict.Would {
		doing = g.Verdict.Action
	}
	switch doing {
	case kindScaleOut, kindFill:
		if slices.ContainsFunc(g.Activities, func(a api.Activity) bool { return a.Kind == kindScaleIn }) {
			return "Scaling up and down"
		}
		return "Scaling up"
	case kindScaleIn:
		return "Scaling down"
	case "handover":
		return "Handing over"
	case "replace":
		return "Replacing"
	case "adopt":
		return "Adopting"
	case "standby":
		return "To or from standby"
	case "cleanup":
		return "Cleaning up"
	case "release":
		return "Releasing"
	}
	if g.Release != nil {
		return "Let go"
	}
	if Paused(g, now) {
		return "Stable, paused"
	}
	return "Stable"
}

// Current is the activity under way that says most about a group: one that makes it
// larger before one that makes it smaller before any other.
func Current(g api.Group) *api.Activity {
	for _, kinds := range [][]string{{kindScaleOut, kindFill}, {kindScaleIn}} {
		for i, a := range g.Activities {
			if slices.Contains(kinds, a.Kind) {
				return &g.Activities[i]
			}
		}
	}
	if len(g.Activities) > 0 {
		return &g.Activities[0]
	}
	return nil
}

// Why is the reason for the direction: the cause of what is under way and the
// newest verdict's reason.
func Why(g api.Group) string {
	verdict := g.Verdict.Reason
	if verdict == "" {
		verdict = "no verdict yet"
	}
	if g.Verdict.Would {
		verdict += " (only observed)"
	}
	if r := g.Release; r != nil && Current(g) == nil {
		by := "by order"
		if r.By != "" {
			by = "by " + r.By
		}
		return by + "; nothing is done for it until it is resumed or configured no more"
	}
	if a := Current(g); a != nil {
		return a.Kind + " for " + Cause(a.Cause) + "; newest verdict: " + verdict
	}
	return verdict
}

// Cause says why an activity was begun.
func Cause(c api.Cause) string {
	var s string
	switch c.Kind {
	case "alert":
		s = "the alert " + c.Signal
		if c.Source != "" {
			s += " from " + c.Source
		}
	case "manual":
		s = "an order"
		if c.By != "" {
			s += " by " + c.By
		}
	case "":
		s = "no known cause"
	default:
		s = c.Kind
	}
	if c.Detail != "" {
		s += ": " + c.Detail
	}
	return s
}

// Timers are the times that run for a group, the shortest words that say which.
func Timers(g api.Group, now time.Time) []string {
	var out []string
	add := func(name string, until time.Time) {
		if now.Before(until) {
			out = append(out, name+" "+Left(until, now))
		}
	}
	if p := g.Pause; p != nil && Paused(g, now) {
		s := "paused"
		switch {
		case p.Out && !p.In:
			s += " (out)"
		case p.In && !p.Out:
			s += " (in)"
		}
		if p.Until.IsZero() {
			s += " until resumed"
		} else {
			s += " " + Left(p.Until, now)
		}
		if p.By != "" {
			s += " by " + p.By
		}
		if p.Reason != "" {
			s += ": " + p.Reason
		}
		out = append(out, s)
	}
	add("hold", g.HoldUntil)
	add("cooldown", g.CooldownUntil)
	if !g.LastActionEnd.IsZero() {
		add("settle", g.LastActionEnd.Add(time.Duration(g.Settings.Settle)))
	}
	if g.Failures > 0 {
		add("back-off after "+strconv.Itoa(g.Failures)+" failed", g.BackoffUntil)
	} else {
		add("back-off", g.BackoffUntil)
	}
	for _, c := range g.Conditions {
		if !c.Standing {
			continue
		}
		s := c.Signal + " stands"
		if !c.Since.IsZero() {
			s += " " + Span(now.Sub(c.Since))
			hold := time.Duration(g.Settings.HighHold)
			if c.Signal == "low" {
				hold = time.Duration(g.Settings.LowHold)
			}
			if until := c.Since.Add(hold); now.Before(until) {
				s += " (acts in " + Left(until, now) + ")"
			}
		}
		if now.Before(c.Expires) {
			s += ", lease " + Left(c.Expires, now)
		}
		out = append(out, s)
	}
	for _, i := range g.Instances {
		if i.State == Draining {
			add("drain of "+i.Name, i.Deadline)
		}
	}
	if n := len(g.Orders); n > 0 {
		out = append(out, strconv.Itoa(n)+" orders waiting")
	}
	return out
}

// Remarks are what is special about an instance, the most urgent first.
func Remarks(i api.Instance, s api.Settings, now time.Time) string {
	var out []string
	if i.Failure != "" {
		out = append(out, "failed: "+i.Failure)
	}
	if i.Suspect != "" {
		text := "unwell: " + i.Suspect
		if !i.SuspectSince.IsZero() && s.Grace > 0 {
			text += ", grace " + Left(i.SuspectSince.Add(time.Duration(s.Grace)), now)
		}
		out = append(out, text)
	}
	if i.State != InService && i.State != "standby" && now.Before(i.Deadline) {
		out = append(out, "at most "+Left(i.Deadline, now))
	}
	if i.Primary {
		out = append(out, "primary")
	}
	if i.State == InService && !i.Warm {
		text := "warming up"
		if until := i.InServiceAt.Add(time.Duration(s.WarmUp)); now.Before(until) {
			text += " " + Left(until, now)
		}
		out = append(out, text)
	}
	if i.Protected {
		out = append(out, "protected")
	}
	if i.Adopted {
		out = append(out, "adopted")
	}
	return strings.Join(out, ", ")
}

// Subject is the VM that an activity is about, by name where that is known.
func Subject(a api.Activity, names map[string]string) string {
	name := func(id string) string { return cmp.Or(names[id], id[:min(len(id), 8)]) }
	switch {
	case a.Launch != "" && a.Remove != "":
		return name(a.Remove) + " to " + name(a.Launch)
	case a.Launch != "":
		return name(a.Launch)
	case a.Remove != "":
		return name(a.Remove)
	}
	return ""
}

// Span is a duration for people, in two units at most; what is over is 0s.
func Span(d time.Duration) string {
	d = max(d, 0)
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/day, d%day/time.Hour)
}

// Left is the time until t for people, in whole seconds rounded up, so that "1s"
// is not over yet.
func Left(t, now time.Time) string { return Span(t.Sub(now) + time.Second - 1) }

// Percent is a ratio for people.
func Percent(v float64) string {
	return fmt.Sprintf("%.0f%%", 100*min(max(v, 0), 9.99))
}

// Level is how a utilisation stands against the bounds.
type Level int

// The levels.
const (
	LevelNone   Level = iota // no reading
	LevelGreen               // below the yellow bound
	LevelYellow              // from the yellow bound on
	LevelRed                 // above the group's high threshold
)

// LevelOf holds a utilisation against the group's high threshold and the bound
// from which it is yellow.
func LevelOf(v float64, s api.Settings, yellow float64) Level {
	switch {
	case v > s.High:
		return LevelRed
	case v >= yellow:
		return LevelYellow
	}
	return LevelGreen
}

// Action is what a verdict asks for, and that nobody does it if so.
func Action(v api.Verdict) string {
	if v.Would {
		return v.Action + " (only observed)"
	}
	return v.Action
}

// Reason is a verdict's reason. That of one which is not followed reads as what was
// left undone: "would have launched 1", where the server says "would launch 1".
func Reason(v api.Verdict) string {
	rest, found := strings.CutPrefix(v.Reason, "would ")
	if !v.Would || !found {
		return v.Reason
	}
	verb, rest, _ := strings.Cut(rest, " ")
	for _, known := range []struct{ verb, participle string }{
		{"adopt", "adopted"},
		{"hand", "handed"},
		{"launch", "launched"},
		{"put", "put"},
		{"remove", "removed"},
		{"replace", "replaced"},
	} {
		if verb == known.verb {
			return "would have " + known.participle + " " + rest
		}
	}
	return v.Reason
}
