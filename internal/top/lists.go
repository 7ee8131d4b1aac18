package top

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/words"
)

// utilisation is a CPU utilisation as it is shown everywhere: with a sign beside
// the colour, for those who see none.
func (m *Model) utilisation(v float64, known bool, s api.Settings, width int) (string, words.Level) {
	if !known {
		return m.glyphs.fit("-", width), words.LevelNone
	}
	text := words.Percent(v)
	switch {
	case v > s.High:
		text += " " + m.glyphs.over
	case v < s.Low:
		text += " " + m.glyphs.under
	}
	return m.glyphs.fit(text, width), words.LevelOf(v, s, m.opts.Yellow)
}

// motionStyle is red for up and green for down, as the CPU that asks for it.
func (m *Model) motionStyle(word string) lipgloss.Style {
	switch word {
	case "Scaling up":
		return m.styles.red.Bold(true)
	case "Scaling down":
		return m.styles.green.Bold(true)
	}
	return m.styles.bold
}

// groupLines is the list of groups.
func (m *Model) groupLines(lines int) []string {
	groups := m.shownGroups()
	from, to := window(len(groups), max(m.find(groups), 0), lines-1)
	name := min(max(longestName(groups[from:to], func(g api.Group) string { return m.glyphs.clean(g.Name) }), 5), max(8, m.width/4))
	wide := m.width >= 72
	title := "  " + m.glyphs.fit("GROUP", name) + "  VMS DES MIN-MAX CPU     "
	if wide {
		title += m.glyphs.fit("TREND", 13)
	}
	out := []string{m.heading(paneGroups, title+"DOES", from, to, len(groups))}
	for _, g := range groups[from:to] {
		mean, n, _ := words.Average(g)
		cpu, l := m.utilisation(mean, n > 0, g.Settings, 7)
		line := m.mark(paneGroups, g.Name == m.group)
		text := m.glyphs.fit(m.glyphs.clean(g.Name), name)
		if g.Name == m.group {
			text = m.styles.bold.Render(text)
		}
		line += text + fmt.Sprintf(" %4d%4d", words.Running(g), g.Desired) + " " +
			m.glyphs.fit(fmt.Sprintf("%d-%d", g.Settings.Min, g.Settings.Max), 7) + " " + m.styles.of(l).Render(cpu) + " "
		if wide {
			line += m.trend(g, 12) + " "
		}
		word := words.Direction(g, m.there())
		line += m.motionStyle(word).Render(word)
		if s := strings.Join(g.Statuses, ","); s != "" {
			line += " " + m.styles.yellow.Render(m.glyphs.clean(s))
		}
		out = append(out, m.glyphs.cut(line, m.width))
	}
	return out
}

// longestName is the width of the widest name.
func longestName[T any](all []T, name func(T) string) int {
	n := 0
	for _, v := range all {
		n = max(n, lipgloss.Width(name(v)))
	}
	return n
}

// stateLines say what the group does and why, in numbers and times. Of what does
// not fit, a line of each kind comes before the second of any, and problems before
// that.
func (m *Model) stateLines(g api.Group, most int) []string {
	word := words.Direction(g, m.there())
	reason := word + ": " + m.glyphs.clean(words.Why(g))
	times := words.Timers(g, m.there())
	for i := range times {
		times[i] = m.glyphs.clean(times[i])
	}
	if len(times) == 0 {
		times = []string{"no timer runs"}
	}
	var problems []string
	for _, p := range g.Problems {
		problems = append(problems, m.glyphs.wrap("problem: "+m.glyphs.clean(p), m.width, 2)...)
	}
	reasonLines, timeLines, problemLines := 1, 1, 0
	wrapped, packed := len(m.glyphs.wrap(reason, m.width, 3)), len(m.glyphs.pack(times, m.width, 2))
	for spare := most - 4; spare > 0; spare-- {
		switch {
		case problemLines < len(problems):
			problemLines++
		case timeLines < packed:
			timeLines++
		case reasonLines < wrapped:
			reasonLines++
		}
	}
	out := []string{m.stateTitle(g)}
	for i, line := range m.glyphs.wrap(reason, m.width, reasonLines) {
		if rest, found := strings.CutPrefix(line, word); i == 0 && found {
			line = m.motionStyle(word).Render(word) + rest
		}
		out = append(out, line)
	}
	out = append(out, m.numbers(g))
	for _, line := range problems[:problemLines] {
		out = append(out, m.styles.red.Render(line))
	}
	for _, line := range m.glyphs.pack(times, m.width, timeLines) {
		out = append(out, m.styles.dim.Render(line))
	}
	return out
}

// stateTitle is the rule above a group's details.
func (m *Model) stateTitle(g api.Group) string {
	title := m.glyphs.rule + m.glyphs.rule + " " + m.glyphs.clean(g.Name) + " " + m.glyphs.rule + " " + m.glyphs.clean(g.Mode)
	if len(g.Statuses) > 0 {
		title += " " + m.glyphs.rule + " " + m.glyphs.clean(strings.Join(g.Statuses, ", "))
	}
	title = m.glyphs.cut(title, m.width-1) + " "
	return m.styles.title.Render(title + strings.Repeat(m.glyphs.rule, max(0, m.width-lipgloss.Width(title))))
}

// numbers is how many VMs there are and what they do on average, in the longest
// form that fits.
func (m *Model) numbers(g api.Group) string {
	mean, n, missing := words.Average(g)
	cpu, l := "no reading", words.LevelNone
	if n > 0 {
		cpu, l = m.utilisation(mean, true, g.Settings, 7)
	}
	cpu = m.styles.of(l).Render(strings.TrimRight(cpu, " "))
	without := ""
	if n > 0 && missing > 0 {
		without = fmt.Sprintf(" (%d without)", missing)
	}
	s, all := g.Settings, words.Running(g)
	forms := []string{
		fmt.Sprintf("Running VMs: %d, in service %d, desired %d (min %d, max %d)%saverage CPU %s%s", all, g.InService, g.Desired, s.Min, s.Max, m.glyphs.dot, cpu, without),
		fmt.Sprintf("Running VMs %d, desired %d (%d-%d)%saverage CPU %s%s", all, g.Desired, s.Min, s.Max, m.glyphs.dot, cpu, without),
		fmt.Sprintf("average CPU %s%s%d VMs (%d-%d)", cpu, m.glyphs.dot, all, s.Min, s.Max),
	}
	for _, form := range forms {
		if lipgloss.Width(form) <= m.width {
			return form
		}
	}
	return forms[len(forms)-1]
}

// chartLines are the chart with its title.
func (m *Model) chartLines(g api.Group, lines int) []string {
	title := "average CPU as top saw it since " + m.began.Format(time.TimeOnly)
	if m.width >= 72 {
		title += fmt.Sprintf(", %s a column", m.opts.Interval)
	}
	if !slices.ContainsFunc(m.seen[g.Name], func(s sample) bool { return s.ok }) {
		title = "average CPU: no reading since top began at " + m.began.Format(time.TimeOnly)
	}
	return append([]string{m.styles.dim.Render(m.glyphs.cut(title, m.width))}, m.chart(g, m.width, lines-1)...)
}

// instanceLines is the list of the group's instances.
func (m *Model) instanceLines(g api.Group, shown []api.Instance, lines int) []string {
	at := 0
	for k, i := range shown {
		if i.ID == m.instance {
			at = k
		}
	}
	from, to := window(len(shown), at, lines-1)
	name := min(max(longestName(shown[from:to], func(i api.Instance) string { return m.glyphs.clean(i.Name) }), 7), max(10, m.width/4))
	wide, wider := m.width >= 72, m.width >= 120
	title := "  " + m.glyphs.fit("VM NAME", name) + " STATE      "
	member := 9
	if wide {
		title += "FOR     "
		member = 14
	}
	title += "CPU     "
	if wider {
		title += m.glyphs.fit("", 11) + m.glyphs.fit("ADDRESS", 16)
	}
	title += m.glyphs.fit("MEMBER", member) + "SESS "
	out := []string{m.heading(paneInstances, title+"NOTE", from, to, len(shown))}
	if len(shown) == 0 {
		return append(out, m.styles.dim.Render(m.glyphs.rest+"no instances"))
	}
	for _, i := range shown[from:to] {
		out = append(out, m.instanceLine(g, i, name, member, wide, wider))
	}
	return out
}

func (m *Model) instanceLine(g api.Group, i api.Instance, name, member int, wide, wider bool) string {
	value := 0.0
	if i.Reading != nil {
		value = i.Reading.Utilization
	}
	cpu, l := m.utilisation(value, i.Reading != nil, g.Settings, 7)
	text := m.glyphs.fit(m.glyphs.clean(i.Name), name)
	if i.ID == m.instance && m.focus == paneInstances {
		text = m.styles.bold.Render(text)
	}
	line := m.mark(paneInstances, i.ID == m.instance) + text + " " + m.stateStyle(i).Render(m.glyphs.fit(m.glyphs.clean(i.State), 10)) + " "
	if wide {
		since := "-"
		if !i.Since.IsZero() {
			since = words.Span(m.there().Sub(i.Since))
		}
		line += m.glyphs.fit(since, 7) + " "
	}
	line += m.styles.of(l).Render(cpu) + " "
	if wider {
		filled := ""
		if i.Reading != nil {
			filled = strings.Repeat(m.glyphs.bars[len(m.glyphs.bars)-1], min(max(int(value*10+0.5), 0), 10))
		}
		line += m.styles.of(l).Render(m.glyphs.fit(filled, 10)) + " " + m.glyphs.fit(m.glyphs.clean(i.Address), 15) + " "
	}
	state, sessions := "-", "-"
	if i.Member != nil {
		state = i.Member.State
		if wide {
			state += " " + i.Member.Health
		}
		if i.Member.Sessions >= 0 {
			sessions = strconv.Itoa(i.Member.Sessions)
		}
	}
	line += m.glyphs.fit(m.glyphs.clean(state), member-1) + " " + m.glyphs.right(sessions, 4) + " " + m.glyphs.clean(words.Remarks(i, g.Settings, m.there()))
	return m.glyphs.cut(line, m.width)
}

// stateStyle dims what takes no traffic and warns of what is wrong.
func (m *Model) stateStyle(i api.Instance) lipgloss.Style {
	switch {
	case i.State == "failed" || i.Suspect != "":
		return m.styles.red
	case i.State == words.InService:
		return m.styles.plain
	case i.State == words.Draining || i.State == words.Removing:
		return m.styles.yellow
	}
	return m.styles.dim
}

// activityLines are the activities under way, step by step, and those that ended.
func (m *Model) activityLines(shown []api.Activity, lines int) []string {
	room := lines - 1
	from := min(m.scrolled, max(0, len(shown)-room))
	to := min(len(shown), from+room)
	out := []string{m.heading(paneActivities, "  ACTIVITY", from, to, len(shown))}
	if len(shown) == 0 {
		return append(out, m.styles.dim.Render(m.glyphs.rest+"none yet"))
	}
	for _, a := range shown[from:to] {
		out = append(out, m.activityLine(a))
	}
	return out
}

func (m *Model) activityLine(a api.Activity) string {
	head := m.glyphs.rest + m.glyphs.fit(m.glyphs.clean(a.Kind+" "+words.Subject(a, m.names)), min(24, max(10, m.width/3))) + " "
	if !a.Ended.IsZero() {
		text := fmt.Sprintf("%s in %s, %s ago", a.Status, words.Span(a.Ended.Sub(a.Created)), words.Span(m.there().Sub(a.Ended)))
		if a.Outcome != "" {
			text += ": " + a.Outcome
		}
		line := head + m.glyphs.clean(text+" (for "+words.Cause(a.Cause)+")")
		if a.Status == "failed" || a.Status == "undone" {
			return m.styles.red.Render(m.glyphs.cut(line, m.width))
		}
		return m.styles.dim.Render(m.glyphs.cut(line, m.width))
	}
	head += m.glyphs.fit(words.Span(m.there().Sub(a.Created)), 6) + " "
	return m.styles.bold.Render(head) + m.steps(a, m.width-lipgloss.Width(head))
}

// steps are the steps of an activity under way, as many of the newest as fit.
func (m *Model) steps(a api.Activity, width int) string {
	text := ""
	for _, s := range slices.Backward(a.Steps) {
		word, end := m.glyphs.done+s.Name, s.Ended
		if end.IsZero() {
			word, end = m.glyphs.now+s.Name, m.there()
		}
		if took := end.Sub(s.Started); took >= time.Second {
			word += " " + words.Span(took)
		}
		if s.Tries > 1 {
			word += fmt.Sprintf(" (%d tries)", s.Tries)
		}
		if s.Error != "" {
			word += " (" + s.Error + ")"
		}
		word = m.glyphs.clean(word)
		if text != "" && lipgloss.Width(word)+1+lipgloss.Width(text) > width-2 {
			return m.glyphs.cut(m.glyphs.more+" "+text, width)
		}
		text = strings.TrimRight(word+" "+text, " ")
	}
	return m.glyphs.cut(text, width)
}
