package scaling

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// EffectKind is what an effect is about.
type EffectKind string

// The kinds of an effect.
const (
	EffectAdded     EffectKind = "added"
	EffectReleased  EffectKind = "released"
	EffectRenamed   EffectKind = "renamed"   // it looks like another group that is released
	EffectPlacement EffectKind = "placement" // provider, balancer, pool or port
	EffectMode      EffectKind = "mode"
	EffectLaunch    EffectKind = "launch" // VMs are made
	EffectRemove    EffectKind = "remove" // VMs go, or may go with their disks
	EffectAdopt     EffectKind = "adopt"
	EffectBounds    EffectKind = "bounds" // changed, and nothing comes of it at once
	EffectTemplate  EffectKind = "template"
	EffectSettings  EffectKind = "settings"
)

// EffectKinds lists all kinds.
func EffectKinds() []EffectKind {
	return []EffectKind{
		EffectAdded, EffectReleased, EffectRenamed, EffectPlacement, EffectMode, EffectLaunch, EffectRemove,
		EffectAdopt, EffectBounds, EffectTemplate, EffectSettings,
	}
}

// Effect is one thing that another configuration changes for a group.
type Effect struct {
	Group string
	Kind  EffectKind
	Text  string // for people, without the group's name
}

// Effects says what follows when the groups of one configuration are replaced by
// those of another. states are those of old groups, and of new ones that the store
// knows. Groups that do not change have none. It foresees what the change itself
// does, not what signals, budgets or faults make of it.
func Effects(old, next []Group, states map[string]*State) []Effect {
	was, will := byName(old), byName(next)
	var out []Effect
	add := func(e ...Effect) { out = append(out, e...) }
	for _, g := range sortedGroups(next) {
		s := stateOf(states, g.Name)
		if o, had := was[g.Name]; had {
			add(changed(o, g, s)...)
			continue
		}
		add(added(g, s)...)
		for _, o := range sortedGroups(old) {
			if _, stays := will[o.Name]; !stays && o.Provider == g.Provider && o.Balancer == g.Balancer && o.Pool == g.Pool {
				add(Effect{g.Name, EffectRenamed, fmt.Sprintf("looks like %s under another name: the VMs of %s do not follow, they are released and stay in the pool", o.Name, o.Name)})
			}
		}
	}
	for _, o := range sortedGroups(old) {
		if _, stays := will[o.Name]; !stays {
			add(released(o, stateOf(states, o.Name)))
		}
	}
	return out
}

func byName(gs []Group) map[string]Group {
	m := make(map[string]Group, len(gs))
	for _, g := range gs {
		m[g.Name] = g
	}
	return m
}

func sortedGroups(gs []Group) []Group {
	return slices.SortedFunc(slices.Values(gs), func(a, b Group) int { return cmp.Compare(a.Name, b.Name) })
}

func stateOf(states map[string]*State, name string) *State {
	if s := states[name]; s != nil {
		return s
	}
	return &State{}
}

// owned names the instances that exist or may exist.
func owned(s *State) []string {
	var names []string
	for _, i := range s.Instances {
		if i.State != StateGone {
			names = append(names, i.Name)
		}
	}
	return names
}

// vms is a number of VMs with their names.
func vms(names []string) string {
	if len(names) == 1 {
		return "1 VM (" + names[0] + ")"
	}
	return fmt.Sprintf("%d VMs (%s)", len(names), strings.Join(names, ", "))
}

func added(g Group, s *State) []Effect {
	text := "new group"
	if names := owned(s); len(names) > 0 {
		text += ", and the store knows it: it goes on with " + vms(names)
	}
	out := []Effect{{g.Name, EffectAdded, text + "; " + modeWords(g.Mode)}}
	return append(out, growth(g, s)...)
}

func released(g Group, s *State) Effect {
	text := "released: it has no VMs"
	if names := owned(s); len(names) > 0 {
		text = fmt.Sprintf("released: %s and their members stay as they are", vms(names))
		if len(names) == 1 {
			text = fmt.Sprintf("released: %s and its member stay as they are", vms(names))
		}
	}
	return Effect{g.Name, EffectReleased, text + underWay(s)}
}

// underWay says what of the group stops in the middle.
func underWay(s *State) string {
	var kinds []string
	for _, a := range s.Open {
		if !a.Status.Ended() {
			kinds = append(kinds, string(a.Kind))
		}
	}
	if len(kinds) == 0 {
		return ""
	}
	return "; what is under way stops where it is, and goes on if this is taken back: " + strings.Join(kinds, ", ")
}

func modeWords(m Mode) string {
	switch m {
	case ModeObserve:
		return "it observes and touches nothing"
	case ModeScaleOutOnly:
		return "it launches by itself and removes nothing by itself"
	case ModeFull:
		return "it launches and removes by itself"
	}
	return "mode " + string(m)
}

// growth is what the group launches and adopts without any signal.
func growth(g Group, s *State) []Effect {
	if g.Mode == ModeObserve {
		return nil
	}
	var out []Effect
	fresh := slices.DeleteFunc(slices.Clone(g.Adopt), func(n string) bool { return slices.Contains(s.AdoptedNames, n) })
	if len(fresh) > 0 {
		out = append(out, Effect{g.Name, EffectAdopt, fmt.Sprintf("adopts %s as a baseline", strings.Join(fresh, ", ")) + held(s)})
	}
	have := s.Capacity() + len(fresh) // adoption comes before filling
	if n := min(max(g.Min, s.Desired), g.Max) - have; n > 0 {
		out = append(out, Effect{g.Name, EffectLaunch, fmt.Sprintf("launches %d to fill it up to %d", n, have+n) + held(s)})
	}
	return out
}

// held says that the group is paused or was let go.
func held(s *State) string {
	if s.Pause != nil || s.Release != nil {
		return ", once it is resumed"
	}
	return ""
}

func changed(o, g Group, s *State) []Effect {
	var out []Effect
	add := func(k EffectKind, format string, args ...any) {
		out = append(out, Effect{g.Name, k, fmt.Sprintf(format, args...)})
	}
	names := owned(s)
	idle := false
	for _, p := range []struct{ what, was, is string }{{"provider", o.Provider, g.Provider}, {"balancer", o.Balancer, g.Balancer}} {
		if p.was == p.is {
			continue
		}
		if len(names) == 0 {
			add(EffectPlacement, "%s %s → %s: it has no VMs and begins there", p.what, p.was, p.is)
			continue
		}
		idle = true
		add(EffectPlacement, "%s %s → %s: what it has (%s) stays at %s, and the group does nothing at all until the configuration says %s again", p.what, p.was, p.is, strings.Join(names, ", "), p.was, p.was)
	}
	if !idle && o.Place != g.Place && o.Place != "" && g.Place != "" && len(names) > 0 {
		idle = true
		add(EffectPlacement, "provider %s leads to another place: what it has (%s) is at the old one, and the group does nothing at all until it is found here or the configuration leads there again", g.Provider, strings.Join(names, ", "))
	}
	if o.Balancer == g.Balancer && o.Pool != g.Pool && len(names) > 0 {
		add(EffectPlacement, "pool changed: what it has (%s) joins the pool as it is configured now; if that is another one, the members in the old one stay there until somebody takes them out", strings.Join(names, ", "))
	}
	if o.Port != g.Port && len(names) > 0 {
		add(EffectPlacement, "port %d → %d: its members (%s) leave the pool and join it again at the new port; their sessions may be cut", o.Port, g.Port, strings.Join(names, ", "))
	}
	if o.Mode != g.Mode {
		text := fmt.Sprintf("mode %s → %s: %s from now on", o.Mode, g.Mode, modeWords(g.Mode))
		if g.Mode == ModeObserve {
			text += underWay(s)
		}
		add(EffectMode, "%s", text)
	}
	if !idle {
		out = append(out, size(o, g, s)...)
	}
	if gone := slices.DeleteFunc(slices.Clone(o.Adopt), func(n string) bool { return slices.Contains(g.Adopt, n) }); len(gone) > 0 {
		add(EffectAdopt, "%s: adopted no more; what was adopted stays in the group", strings.Join(gone, ", "))
	}
	if o.OnRemove != g.OnRemove {
		out = append(out, onRemove(o, g, s))
	}
	if o.NamePattern != g.NamePattern {
		add(EffectTemplate, "name %s → %s: of new VMs only", o.NamePattern, g.NamePattern)
	}
	if o.Template != g.Template {
		text := "template changed: of new VMs only"
		if len(names) > 0 {
			text += "; what it has (" + strings.Join(names, ", ") + ") stays as it is"
		}
		add(EffectTemplate, "%s", text)
	}
	if list := settings(o, g); len(list) > 0 {
		add(EffectSettings, "%s: from the next decision on", strings.Join(list, ", "))
	}
	return out
}

func onRemove(o, g Group, s *State) Effect {
	var adopted []string
	for _, i := range s.Instances {
		if i.Adopted && i.State != StateGone {
			adopted = append(adopted, i.Name)
		}
	}
	text := fmt.Sprintf("on_remove %s → %s", o.OnRemove, g.OnRemove)
	if g.OnRemove == OnRemoveDelete {
		text += ": an adopted VM that leaves is deleted with its disks"
	} else {
		text += ": an adopted VM that leaves is shut down and kept"
	}
	if len(adopted) > 0 {
		text += "; that is now true of " + strings.Join(adopted, ", ")
	}
	return Effect{g.Name, EffectRemove, text}
}

// size is what other bounds and another mode make of the number of instances.
func size(o, g Group, s *State) []Effect {
	var out []Effect
	c := s.Capacity()
	var bounds []string
	for _, b := range []struct {
		what    string
		was, is int
	}{{"min", o.Min, g.Min}, {"max", o.Max, g.Max}, {"surge", o.Surge, g.Surge}} {
		if b.was != b.is {
			bounds = append(bounds, fmt.Sprintf("%s %d → %d", b.what, b.was, b.is))
		}
	}
	said := strings.Join(bounds, ", ")
	prefix := ""
	if said != "" {
		prefix = said + ": "
	}
	acts := len(bounds) > 0 || o.Mode != g.Mode
	grow := growth(g, s)
	if o.Mode != ModeObserve {
		// What it was about to adopt anyway is no effect of the change.
		grow = slices.DeleteFunc(grow, func(e Effect) bool { return e.Kind == EffectAdopt && slices.Equal(o.Adopt, g.Adopt) })
	}
	for _, e := range grow {
		if e.Kind == EffectLaunch {
			if !acts {
				continue
			}
			e.Text, prefix, said = prefix+e.Text, "", ""
		}
		out = append(out, e)
	}
	if n := c - g.Max; n > 0 && acts {
		e := Effect{g.Name, EffectRemove, ""}
		switch g.Mode {
		case ModeObserve:
			e.Kind, e.Text = EffectBounds, fmt.Sprintf("%s%d more than max, and nothing is removed, since it observes", prefix, n)
		case ModeScaleOutOnly:
			e.Kind, e.Text = EffectBounds, fmt.Sprintf("%s%d more than max, and nothing is removed in mode %s", prefix, n, g.Mode)
		case ModeFull:
			e.Text = prefix + shrinking(g, s, n) + held(s)
		}
		said = ""
		out = append(out, e)
	}
	if said == "" {
		return out
	}
	return append(out, Effect{g.Name, EffectBounds, said + ": " + stays(g, c)})
}

func stays(g Group, c int) string {
	if c >= g.Min && c <= g.Max {
		return fmt.Sprintf("it has %d and may have %d to %d", c, g.Min, g.Max)
	}
	return fmt.Sprintf("it has %d, and nothing comes of it now", c)
}

// shrinking names whom a lowered max takes, in the order of the policy.
func shrinking(g Group, s *State, n int) string {
	var can []Instance
	protected := 0
	for _, i := range s.Instances {
		switch {
		case i.State != StateInService:
		case i.Protected:
			protected++
		default:
			can = append(can, i)
		}
	}
	text := fmt.Sprintf("drains and removes %d, one at a time", n)
	if len(can) < n {
		text += fmt.Sprintf("; only %d in service may go", len(can))
		if protected > 0 {
			text += fmt.Sprintf(", %d protected", protected)
		}
		n = len(can)
	}
	if g.Victim == VictimLeastBusy || n == 0 {
		return text + "; by policy " + string(g.Victim)
	}
	sign := -1 // the newest first
	if g.Victim == VictimOldest {
		sign = 1
	}
	slices.SortStableFunc(can, func(a, b Instance) int {
		bad := func(i Instance) int {
			if i.Suspect != "" {
				return 0
			}
			return 1
		}
		return cmp.Or(bad(a)-bad(b), sign*a.InServiceAt.Compare(b.InServiceAt), sign*(a.Number-b.Number))
	})
	names := make([]string, n)
	for k := range names {
		names[k] = can[k].Name
	}
	return text + ": " + strings.Join(names, ", then ")
}

// settings lists what changes for decisions and deadlines.
func settings(o, g Group) []string {
	var out []string
	add := func(what, was, is string) {
		if was != is {
			out = append(out, fmt.Sprintf("%s %s → %s", what, was, is))
		}
	}
	duration := func(what string, was, is time.Duration) { add(what, was.String(), is.String()) }
	number := func(what string, was, is int) { add(what, strconv.Itoa(was), strconv.Itoa(is)) }
	ratio := func(what string, was, is float64) { add(what, exactly(was), exactly(is)) }
	ratio("high", o.High, g.High)
	ratio("low", o.Low, g.Low)
	duration("high_hold", o.HighHold, g.HighHold)
	duration("low_hold", o.LowHold, g.LowHold)
	duration("lease_ttl", o.LeaseTTL, g.LeaseTTL)
	duration("cooldown", o.Cooldown, g.Cooldown)
	duration("warm_up", o.WarmUp, g.WarmUp)
	duration("scrape_interval", o.Windows.Scrape, g.Windows.Scrape)
	duration("evaluation_interval", o.Windows.Evaluation, g.Windows.Evaluation)
	duration("rate_window", o.Windows.Rate, g.Windows.Rate)
	duration("launch_deadline", o.LaunchDeadline, g.LaunchDeadline)
	duration("drain_deadline", o.DrainDeadline, g.DrainDeadline)
	duration("shutdown_deadline", o.ShutdownDeadline, g.ShutdownDeadline)
	duration("call_deadline", o.CallDeadline, g.CallDeadline)
	number("creations_per_hour", o.CreationsPerHour, g.CreationsPerHour)
	number("removals_per_hour", o.RemovalsPerHour, g.RemovalsPerHour)
	duration("backoff_min", o.BackoffMin, g.BackoffMin)
	duration("backoff_max", o.BackoffMax, g.BackoffMax)
	duration("grace", o.Grace, g.Grace)
	ratio("max_unhealthy", o.MaxUnhealthy, g.MaxUnhealthy)
	add("victim", string(o.Victim), string(g.Victim))
	add("snapshot", strconv.FormatBool(o.Snapshot), strconv.FormatBool(g.Snapshot))
	add("snapshots_keep", strconv.Itoa(o.SnapshotsKeep), strconv.Itoa(g.SnapshotsKeep))
	add("confirm", fmt.Sprint(o.Confirm), fmt.Sprint(g.Confirm))
	return out
}

// exactly is a ratio in percent, to the hundredth.
func exactly(r float64) string { return fmt.Sprintf("%g %%", math.Round(r*1e4)/100) }
