package top

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/api"
)

// The words of the domain that decide how something is shown.
const (
	stateInService = "in_service"
	stateDraining  = "draining"
	stateRemoving  = "removing"

	kindScaleOut = "scale_out"
	kindScaleIn  = "scale_in"
	kindFill     = "fill"
)

// average is the mean CPU utilisation of the instances in service that have a
// reading, and how many have none.
func average(g api.Group) (mean float64, n, missing int) {
	sum := 0.0
	for _, i := range g.Instances {
		switch {
		case i.State != stateInService:
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

// running counts the VMs that run, as far as is known: a provider is not listed
// every second, so a VM counts unless it is known not to run.
func running(g api.Group) int {
	n := 0
	for _, i := range g.Instances {
		switch i.State {
		case "booting", "joining", stateInService, "standby", stateDraining:
			if i.Power != "stopped" && i.Power != "paused" && i.Power != "crashed" {
				n++
			}
		}
	}
	return n
}

// paused reports whether a pause is in force.
func paused(g api.Group, now time.Time) bool {
	return g.Pause != nil && (g.Pause.Until.IsZero() || now.Before(g.Pause.Until))
}

// direction is what a group is doing, in a word or two.
func direction(g api.Group, now time.Time) string {
	doing := ""
	if a := current(g); a != nil {
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
	if g.Released != nil {
		return "Released"
	}
	if paused(g, now) {
		return "Stable, paused"
	}
	return "Stable"
}

// current is the activity under way that says most about a group: one that makes it
// larger before one that makes it smaller before any other.
func current(g api.Group) *api.Activity {
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

// why is the reason for the direction: the cause of what is under way and the
// newest verdict's reason.
func why(g api.Group) string {
	verdict := g.Verdict.Reason
	if verdict == "" {
		verdict = "no verdict yet"
	}
	if g.Verdict.Would {
		verdict += " (only observed)"
	}
	if r := g.Released; r != nil && current(g) == nil {
		by := ""
		if r.By != "" {
			by = " by " + r.By
		}
		return "let go" + by + "; nothing is done for it until it is resumed or configured no more"
	}
	if a := current(g); a != nil {
		return a.Kind + " for " + causeText(a.Cause) + "; newest verdict: " + verdict
	}
	return verdict
}

// causeText says why an activity was begun.
func causeText(c api.Cause) string {
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

// timers are the times that run for a group, the shortest words that say which.
func timers(g api.Group, now time.Time) []string {
	var out []string
	add := func(name string, until time.Time) {
		if now.Before(until) {
			out = append(out, name+" "+left(until, now))
		}
	}
	if p := g.Pause; p != nil && paused(g, now) {
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
			s += " " + left(p.Until, now)
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
			s += " " + span(now.Sub(c.Since))
			hold := time.Duration(g.Settings.HighHold)
			if c.Signal == "low" {
				hold = time.Duration(g.Settings.LowHold)
			}
			if until := c.Since.Add(hold); now.Before(until) {
				s += " (acts in " + left(until, now) + ")"
			}
		}
		if now.Before(c.Expires) {
			s += ", lease " + left(c.Expires, now)
		}
		out = append(out, s)
	}
	for _, i := range g.Instances {
		if i.State == stateDraining {
			add("drain of "+i.Name, i.Deadline)
		}
	}
	if n := len(g.Orders); n > 0 {
		out = append(out, strconv.Itoa(n)+" orders waiting")
	}
	return out
}

// remarks are what is special about an instance, the most urgent first.
func remarks(i api.Instance, s api.Settings, now time.Time) string {
	var out []string
	if i.Failure != "" {
		out = append(out, "failed: "+i.Failure)
	}
	if i.Suspect != "" {
		text := "unwell: " + i.Suspect
		if !i.SuspectSince.IsZero() && s.Grace > 0 {
			text += ", grace " + left(i.SuspectSince.Add(time.Duration(s.Grace)), now)
		}
		out = append(out, text)
	}
	if i.State != stateInService && i.State != "standby" && now.Before(i.Deadline) {
		out = append(out, "at most "+left(i.Deadline, now))
	}
	if i.Primary {
		out = append(out, "primary")
	}
	if i.State == stateInService && !i.Warm {
		text := "warming up"
		if until := i.InServiceAt.Add(time.Duration(s.WarmUp)); now.Before(until) {
			text += " " + left(until, now)
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

// subject is the VM that an activity is about, by name where that is known.
func subject(a api.Activity, names map[string]string) string {
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

// matching keeps the elements whose name holds the filter, whatever the case.
func matching[T any](all []T, filter string, name func(T) string) []T {
	if filter == "" {
		return all
	}
	filter = strings.ToLower(filter)
	return slices.DeleteFunc(slices.Clone(all), func(v T) bool { return !strings.Contains(strings.ToLower(name(v)), filter) })
}
