package top

import (
	"errors"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/words"
)

// View draws the frame for the terminal.
func (m *Model) View() tea.View {
	v := tea.NewView(strings.Join(m.frame(), "\n"))
	v.AltScreen = true
	return v
}

// frame returns the lines of the screen: no more than its height, none wider than
// its width.
func (m *Model) frame() []string {
	if m.width <= 0 || m.height <= 0 {
		return nil
	}
	head, foot := m.header(), m.footer()
	body := max(0, m.height-len(head)-len(foot))
	var lines []string
	if m.help {
		lines = last(m.helpLines(), len(m.helpLines())-m.helpTop)
	} else {
		lines = m.body(body)
	}
	lines = lines[:min(len(lines), body)]
	for len(lines) < body {
		lines = append(lines, "")
	}
	all := append(append(head, lines...), foot...)
	if over := len(all) - m.height; over > 0 {
		all = all[over:] // the footer asks or answers: it stays
	}
	for i := range all {
		all[i] = ansi.Truncate(all[i], m.width, "")
	}
	return all
}

// header says which server, what time, and how old what is shown is.
func (m *Model) header() []string {
	age := "no data yet"
	if !m.answered.IsZero() {
		age = "data " + words.Span(m.now.Sub(m.answered)) + " old"
	}
	right := age + "  " + m.now.Format(time.TimeOnly)
	what := "scalehook top" + m.glyphs.dot + m.glyphs.clean(m.opts.URL)
	if n := len(m.groups); n > 1 {
		what += fmt.Sprintf("%s%d groups", m.glyphs.dot, n)
	}
	if m.skew != 0 {
		word := "ahead"
		if m.skew < 0 {
			word = "behind"
		}
		what += fmt.Sprintf("%sits clock is %s %s", m.glyphs.dot, words.Span(m.skew.Abs()), word)
	}
	lines := []string{
		m.styles.title.Render(m.glyphs.fit(what, m.width-ansi.StringWidth(right)-2)) + "  " + right,
	}
	if m.failed == nil {
		return lines
	}
	return append(lines, m.styles.alarm.Render(m.glyphs.fit(m.silence(), m.width)))
}

// silence says since when there is no answer, and why.
func (m *Model) silence() string {
	word := "no answer"
	if _, answered := errors.AsType[*client.Error](m.failed); answered {
		word = "no data"
	}
	since := " yet"
	if !m.answered.IsZero() {
		since = fmt.Sprintf(" since %s (%s)", m.answered.Format(time.TimeOnly), words.Span(m.now.Sub(m.answered)))
	}
	again := ", asking again"
	if !m.asking {
		again = ", next try in " + words.Left(m.next, m.now)
	}
	return word + since + again + ": " + m.glyphs.clean(m.failed.Error())
}

// footer is the question, the answer or the filter that is typed, and the keys.
func (m *Model) footer() []string {
	most := max(1, min(4, m.height/4))
	var lines []string
	switch {
	case m.typing:
		lines = []string{m.styles.bold.Render(m.glyphs.cut("/"+m.filters[m.focus]+"_", m.width))}
	case m.confirm != nil:
		question := m.confirm.question + " y/n"
		if m.confirm.again {
			question = "No answer: whether it was taken is not known. y sends the same order again, which is never carried out twice; n leaves it. " + m.confirm.question + " y/n"
		}
		for _, line := range m.glyphs.wrap(m.glyphs.clean(question), m.width, most) {
			lines = append(lines, m.styles.bold.Render(line))
		}
	case m.notice != "":
		style := m.styles.bold
		if m.alarm {
			style = m.styles.red
		}
		for _, line := range m.glyphs.wrap(m.glyphs.clean(m.notice), m.width, most) {
			lines = append(lines, style.Render(line))
		}
	default:
		lines = []string{""}
	}
	keys := "+ out  - in  p pause  h hand over  Tab list  / filter  ? help  q quit"
	switch {
	case m.confirm != nil:
		keys = "y yes  n no"
	case m.typing:
		keys = "Enter keep the filter  Esc no filter"
	case m.help:
		keys = "? or Esc back"
	case m.width < ansi.StringWidth(keys):
		keys = "+ - scale  p pause  h hand over  Tab / filter  ? q"
	}
	return append(lines, m.styles.dim.Render(m.glyphs.cut(keys, m.width)))
}

// section is a part of the body, drawn in so many lines as it is given.
type section struct {
	least, most int
	draw        func(lines int) []string
	lines       int
}

// body lays the sections out: each that fits gets what it needs, in the order of
// their weight, and then all grow line by line as long as there is room.
func (m *Model) body(height int) []string {
	g, ok := m.selected()
	if !ok {
		return m.nothing()
	}
	instances, activities := m.shownInstances(), m.shownActivities()
	groups := &section{}
	if m.manyGroups() {
		n := 1 + len(m.shownGroups())
		groups = &section{least: 2, most: min(n, max(3, height/4)), draw: m.groupLines}
	}
	state := &section{least: 4 + min(1, len(g.Problems)), draw: func(n int) []string { return m.stateLines(g, n) }}
	state.most = max(state.least, len(m.stateLines(g, 9)))
	chart := &section{least: 2, most: 5, draw: func(n int) []string { return m.chartLines(g, n) }}
	if m.still {
		chart = &section{}
	}
	list := &section{least: 2, most: 1 + max(1, len(instances)), draw: func(n int) []string { return m.instanceLines(g, instances, n) }}
	acts := &section{least: 2, most: 1 + max(1, len(activities)), draw: func(n int) []string { return m.activityLines(activities, n) }}
	for _, s := range []*section{state, list, groups, acts, chart} {
		if s.draw != nil && s.least <= height {
			s.lines = s.least
			height -= s.least
		}
	}
	// The VMs under way are worth more lines than what ended long ago.
	height = grow(height, list, list, state, chart, groups, acts)
	chart.most = 16 // what nobody else needs
	grow(height, chart)
	var lines []string
	for _, s := range []*section{groups, state, chart, list, acts} {
		if s.lines > 0 {
			drawn := s.draw(s.lines)
			lines = append(lines, drawn[:min(len(drawn), s.lines)]...)
		}
	}
	return lines
}

// grow gives the sections a line each in turn until none is left or wanted, and
// returns what is left.
func grow(height int, sections ...*section) int {
	for grew := true; grew; {
		grew = false
		for _, s := range sections {
			if s.lines > 0 && s.lines < s.most && height > 0 {
				s.lines++
				height--
				grew = true
			}
		}
	}
	return height
}

// nothing is the body while there is no group to show.
func (m *Model) nothing() []string {
	switch {
	case m.answered.IsZero() && m.failed == nil:
		return []string{"", "asking " + m.glyphs.clean(m.opts.URL)}
	case m.answered.IsZero():
		return append([]string{""}, m.glyphs.wrap(m.glyphs.clean(explainSilence(m.failed)), m.width, 4)...)
	case len(m.groups) == 0:
		return []string{"", "the server has no groups"}
	}
	return []string{"", "the group " + m.glyphs.clean(m.group) + " is configured no more"}
}

// explainSilence says what may help a person who has seen no answer at all.
func explainSilence(err error) string {
	answer, answered := errors.AsType[*client.Error](err)
	switch {
	case !answered:
		return err.Error() + ". Is the server running, and is --url (SCALEHOOK_URL) right?"
	case answer.Type == api.ErrorUnauthorized, answer.Type == api.ErrorForbidden:
		return answer.Reason + ". Is --token-file (SCALEHOOK_TOKEN_FILE) right?"
	}
	return answer.Error()
}

// heading is the title line of a list, underlined, with where one is in it.
func (m *Model) heading(p pane, text string, from, to, n int) string {
	note := ""
	if f := m.filters[p]; f != "" {
		note += " /" + f
	}
	if to-from < n {
		note += fmt.Sprintf(" %d-%d of %d", from+1, to, n)
	}
	width := m.width - ansi.StringWidth(note)
	line := m.glyphs.fit(text, width) + note
	if m.focus == p {
		return m.styles.focused.Styled(line)
	}
	return m.styles.heading.Styled(line)
}

// window is the part of a list that is shown with an element in it.
func window(n, at, lines int) (from, to int) {
	if n <= lines || lines <= 0 {
		return 0, min(n, max(lines, 0))
	}
	from = min(max(at-lines/2, 0), n-lines)
	return from, from + lines
}

// mark is what stands before an element: the selected one of the list that has the
// focus is pointed at.
func (m *Model) mark(p pane, selected bool) string {
	if selected && m.focus == p {
		return m.glyphs.cursor
	}
	return m.glyphs.rest
}

func (m *Model) helpLines() []string {
	lines := []string{""}
	for _, k := range Keys() {
		if m.opts.ASCII {
			k = k.ascii()
		}
		for i, line := range m.glyphs.wrap(k.Does, m.width-20, 3) {
			keys := ""
			if i == 0 {
				keys = k.Keys
			}
			lines = append(lines, m.styles.bold.Render(m.glyphs.fit(keys, 19))+" "+line)
		}
	}
	lines = append(lines, "")
	for _, l := range []struct {
		level words.Level
		text  string
	}{
		{words.LevelRed, "red " + m.glyphs.over + ": above the group's high threshold"},
		{words.LevelYellow, "yellow: from " + words.Percent(m.opts.Yellow) + " on"},
		{words.LevelGreen, "green: below that; " + m.glyphs.under + ": below the low threshold"},
	} {
		lines = append(lines, m.styles.of(l.level).Render(m.glyphs.cut(l.text, m.width)))
	}
	return append(lines, m.glyphs.wrap("The chart is what this program saw since it began; the server keeps no history.", m.width, 3)...)
}
