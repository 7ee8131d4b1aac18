package top

import (
	"fmt"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/words"
)

// press takes a key.
func (m *Model) press(msg tea.KeyPressMsg) tea.Cmd {
	key := msg.String()
	switch {
	case key == "ctrl+c":
		return m.quit()
	case key == "ctrl+z":
		return tea.Suspend
	case m.help:
		m.pressHelp(key)
		return nil
	case m.typing:
		m.pressFilter(key, msg.Text)
		return nil
	case m.confirm != nil:
		return m.pressConfirm(key)
	}
	m.notice, m.alarm = "", false
	switch key {
	case "q":
		return m.quit()
	case "?":
		m.help, m.helpTop = true, 0
	case "/":
		m.typing = true
	case "esc":
		m.filters[m.focus] = ""
		m.settle()
	case "tab":
		m.turn(1)
	case "shift+tab":
		m.turn(-1)
	case "+", "=":
		m.propose(verbScaleOut)
	case "-":
		m.propose(verbScaleIn)
	case "h":
		m.propose(verbHandover)
	case "p":
		g, ok := m.selected()
		if ok && (g.Release != nil || words.Paused(g, m.there()) || m.there().Before(g.HoldUntil)) {
			m.propose(verbResume)
		} else {
			m.propose(verbPause)
		}
	default:
		if steps, known := m.motion(key); known {
			m.move(steps)
		}
	}
	return nil
}

// quit leaves, but not without the answer to an order unless asked twice.
func (m *Model) quit() tea.Cmd {
	if m.sending && !m.leaving {
		m.leaving, m.notice = true, "waiting for the answer to the order; once more to leave without it"
		return nil
	}
	return tea.Quit
}

// motion is how far a key moves in a list.
func (m *Model) motion(key string) (int, bool) {
	page := max(1, m.height/3)
	switch key {
	case "up", "k":
		return -1, true
	case "down", "j":
		return 1, true
	case "pgup":
		return -page, true
	case "pgdown":
		return page, true
	case "home", "g":
		return -1 << 30, true
	case "end", "G":
		return 1 << 30, true
	}
	return 0, false
}

// move selects in the list that has the focus.
func (m *Model) move(steps int) {
	to := func(at, n int) int { return min(max(at+steps, 0), n-1) }
	switch m.focus {
	case paneGroups:
		groups := m.shownGroups()
		if len(groups) > 0 {
			m.choose(groups[to(max(m.find(groups), 0), len(groups))].Name)
		}
	case paneInstances:
		shown := m.shownInstances()
		for at, i := range shown {
			if i.ID == m.instance {
				m.instance = shown[to(at, len(shown))].ID
				break
			}
		}
	case paneActivities:
		m.scrolled = max(0, to(m.scrolled, len(m.shownActivities())))
	case panes:
	}
	m.settle()
}

// turn moves the focus to another list.
func (m *Model) turn(by int) {
	m.focus = (m.focus + pane(by) + panes) % panes
	if m.focus == paneGroups && !m.manyGroups() {
		m.focus = (m.focus + pane(by) + panes) % panes
	}
}

func (m *Model) pressFilter(key, text string) {
	filter := &m.filters[m.focus]
	switch key {
	case "enter":
		m.typing = false
	case "esc":
		m.typing, *filter = false, ""
	case "backspace":
		if r := []rune(*filter); len(r) > 0 {
			*filter = string(r[:len(r)-1])
		}
	default:
		if text != "" && ansi.StringWidth(*filter) < 60 {
			*filter += m.glyphs.clean(text)
		}
	}
	m.scrolled = 0
	m.settle()
}

func (m *Model) pressHelp(key string) {
	if steps, known := m.motion(key); known {
		m.helpTop = min(max(m.helpTop+steps, 0), len(m.helpLines())-1)
		return
	}
	switch key {
	case "?", "esc", "q", "enter", "space":
		m.help = false
	}
}

// propose asks for the confirmation of an order.
func (m *Model) propose(v verb) {
	g, ok := m.selected()
	switch {
	case m.sending:
		m.notice = "the last order has not been answered yet"
	case !ok:
		m.notice = "no group is selected"
	default:
		var target *api.Instance
		if m.focus == paneInstances {
			for _, i := range m.shownInstances() {
				if i.ID == m.instance {
					target = &i
				}
			}
		}
		m.confirm = newOrder(v, g, target, m.opts.NewKey())
	}
}

func (m *Model) pressConfirm(key string) tea.Cmd {
	switch key {
	case "y", "Y":
		o := *m.confirm
		m.confirm, m.sending = nil, true
		m.notice, m.alarm = fmt.Sprintf("sent to %s, waiting for the answer", o.group), false
		return m.send(o)
	case "n", "N", "esc":
		m.notice = "nothing was ordered"
		if m.confirm.again {
			m.notice = "not sent again; whether it was taken shows in the activities"
		}
		m.confirm = nil
	case "q":
		m.confirm = nil
		return m.quit()
	}
	return nil
}
