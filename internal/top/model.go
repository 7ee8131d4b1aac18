// Package top is the terminal's dashboard: it shows what a server's API says of
// its groups and gives orders. The model is fed by messages (answers, times, keys,
// sizes) and draws frames; it asks no clock and waits for nothing itself, so the
// same messages always draw the same frames. Run puts it on a terminal.
package top

import (
	"context"
	"errors"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/words"
)

// Server is what is asked and ordered; *client.Client is one.
type Server interface {
	Groups(ctx context.Context) ([]api.Group, error)
	Group(ctx context.Context, group string) (api.Group, error)
	Activities(ctx context.Context, group, before string, limit int) ([]api.Activity, error)
	ScaleOut(ctx context.Context, group, key string, req api.OrderRequest) (api.OrderResult, error)
	ScaleIn(ctx context.Context, group, key string, req api.OrderRequest) (api.OrderResult, error)
	Handover(ctx context.Context, group, key string, req api.OrderRequest) (api.OrderResult, error)
	Pause(ctx context.Context, group string, req api.PauseRequest) (api.Done, error)
	Resume(ctx context.Context, group string) (api.Done, error)
}

// Options say what is shown and how.
type Options struct {
	Server Server
	URL    string // for people
	Group  string // empty: all
	// Interval is how long to wait after an answer before the server is asked again,
	// Timeout how long a question or an order may take.
	Interval, Timeout time.Duration
	// Yellow is the utilisation, 0..1, from which a CPU is yellow.
	Yellow float64
	// Color paints; ASCII draws without characters that not every terminal has.
	Color, ASCII bool
	// Clock tells the server's clock as the newest answer had it; nil where unknown.
	Clock func() time.Time
	// Now is the clock; nil for the system's.
	Now func() time.Time
	// NewKey returns an Idempotency-Key that nobody used; nil for random ones.
	NewKey func() string
}

const (
	// longestBackoff is how long a server that does not answer is left alone at most.
	longestBackoff = 15 * time.Second
	// shownActivities is how many ended activities of the selected group are asked for.
	shownActivities = 20
)

// pane is a list that keys move in.
type pane int

// The panes, in the order of Tab.
const (
	paneGroups pane = iota
	paneInstances
	paneActivities
	panes
)

// The messages that feed the model, besides the terminal's.
type (
	// tickMsg is the time.
	tickMsg struct{ now time.Time }
	// answerMsg is what the server said, or that it did not.
	answerMsg struct {
		at     time.Time
		took   time.Duration
		clock  time.Time // the server's, to the second; zero: not told
		groups []api.Group
		of     string // whose activities they are
		recent []api.Activity
		err    error
	}
	// orderedMsg is what became of an order.
	orderedMsg struct {
		order order
		text  string
		err   error
	}
)

// Model is the state of the dashboard.
type Model struct {
	opts   Options
	styles styles
	glyphs glyphs
	life   *life

	width, height int
	now, began    time.Time
	skew          time.Duration // what the server's clock is ahead

	groups   []api.Group
	recent   []api.Activity // of recentOf, newest first
	recentOf string
	seen     history
	names    map[string]string // of every instance seen, by id: activities outlive them
	answered time.Time         // the newest answer; zero: none yet
	failed   error             // why there was none since
	failures int
	asking   bool
	next     time.Time // when to ask again

	focus    pane
	group    string // the selected group's name
	instance string // the selected instance's id
	scrolled int    // the first activity shown
	filters  [panes]string
	typing   bool
	help     bool
	helpTop  int
	still    bool // one frame: there is nothing to chart

	confirm *order
	sending bool
	leaving bool // quit was asked for while an order was under way
	notice  string
	alarm   bool // the notice is a refusal or a failure
}

// New returns a model that has heard of nothing yet.
func New(opts Options) *Model {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.NewKey == nil {
		opts.NewKey = newKey
	}
	m := &Model{
		opts: opts, styles: newStyles(opts.Color), glyphs: newGlyphs(opts.ASCII), life: newLife(),
		seen: history{}, names: map[string]string{}, group: opts.Group,
	}
	m.now = opts.Now()
	m.began = m.now
	if opts.Group != "" {
		m.focus = paneInstances
	}
	return m
}

// Init asks the server for the first time and starts the ticks.
func (m *Model) Init() tea.Cmd { return tea.Batch(m.ask(), m.tick()) }

// Update takes a message. It blocks for nothing.
func (m *Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tickMsg:
		m.now = msg.now
		if !m.asking && !m.now.Before(m.next) {
			return m, tea.Batch(m.ask(), m.tick())
		}
		return m, m.tick()
	case answerMsg:
		m.take(msg)
	case orderedMsg:
		return m, m.ordered(msg)
	case tea.KeyPressMsg:
		return m, m.press(msg)
	case tea.PasteMsg:
		if m.typing {
			m.filters[m.focus] += m.glyphs.clean(msg.Content)
		}
	}
	return m, nil
}

// take notes an answer or its absence and says when to ask again.
func (m *Model) take(msg answerMsg) {
	m.asking, m.now = false, later(m.now, msg.at)
	if msg.err != nil {
		m.failed = msg.err
		m.failures++
		m.seen.gap(msg.at)
		wait := max(m.opts.Interval, time.Second)
		for range min(m.failures-1, 10) {
			wait = min(2*wait, max(longestBackoff, m.opts.Interval))
		}
		m.next = msg.at.Add(wait)
		return
	}
	m.failed, m.failures, m.answered = nil, 0, msg.at
	if !msg.clock.IsZero() {
		m.skew = skewOf(msg)
	}
	m.groups = msg.groups
	m.remember()
	m.seen.add(msg.groups, msg.at)
	m.recent, m.recentOf = msg.recent, msg.of
	// A server that is slow to answer is not asked without a pause.
	m.next = msg.at.Add(max(m.opts.Interval, msg.took))
	m.settle()
}

// mostNames is how many names are kept of instances, whether they are gone or not.
const mostNames = 100_000

// remember notes the names of the instances.
func (m *Model) remember() {
	if len(m.names) > mostNames {
		clear(m.names)
	}
	for _, g := range m.groups {
		for _, i := range g.Instances {
			m.names[i.ID] = i.Name
		}
	}
}

// skewOf is what the server's clock is ahead, or 0 for what the way of an answer
// and the second that the header tells may account for.
func skewOf(msg answerMsg) time.Duration {
	d := msg.clock.Add(500 * time.Millisecond).Sub(msg.at.Add(-msg.took / 2))
	if d.Abs() <= 2*time.Second+msg.took {
		return 0
	}
	return d
}

// there is the time at the server, against which the times in its answers are held.
func (m *Model) there() time.Time { return m.now.Add(m.skew) }

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// settle keeps the selection on what is shown.
func (m *Model) settle() {
	if groups := m.shownGroups(); len(groups) > 0 && m.find(groups) < 0 {
		m.choose(groups[0].Name)
	}
	if m.focus == paneGroups && !m.manyGroups() {
		m.focus = paneInstances
	}
	shown := m.shownInstances()
	for _, i := range shown {
		if i.ID == m.instance {
			return
		}
	}
	m.instance = ""
	if len(shown) > 0 {
		m.instance = shown[0].ID
	}
}

func (m *Model) choose(group string) {
	if group != m.group {
		m.group, m.instance, m.scrolled = group, "", 0
	}
}

func (m *Model) find(groups []api.Group) int {
	for i, g := range groups {
		if g.Name == m.group {
			return i
		}
	}
	return -1
}

// manyGroups reports whether there is a list of groups to choose from.
func (m *Model) manyGroups() bool { return m.opts.Group == "" && len(m.groups) > 1 }

func (m *Model) shownGroups() []api.Group {
	return matching(m.groups, m.filters[paneGroups], func(g api.Group) string { return g.Name })
}

// selected is the group whose details are shown.
func (m *Model) selected() (api.Group, bool) {
	if i := m.find(m.groups); i >= 0 {
		return m.groups[i], true
	}
	return api.Group{}, false
}

func (m *Model) shownInstances() []api.Instance {
	g, _ := m.selected()
	return matching(g.Instances, m.filters[paneInstances], func(i api.Instance) string { return i.Name })
}

// shownActivities are those under way and then those that ended, newest first.
func (m *Model) shownActivities() []api.Activity {
	g, ok := m.selected()
	if !ok {
		return nil
	}
	all := append([]api.Activity{}, g.Activities...)
	if m.recentOf == g.Name {
		for _, a := range m.recent {
			if !a.Ended.IsZero() {
				all = append(all, a)
			}
		}
	}
	return matching(all, m.filters[paneActivities], func(a api.Activity) string { return a.Kind + " " + words.Subject(a, m.names) })
}

// ordered notes what became of an order, and asks at once what it changed.
func (m *Model) ordered(msg orderedMsg) tea.Cmd {
	m.sending = false
	if m.leaving {
		return tea.Quit
	}
	m.notice, m.alarm = msg.text, msg.err != nil
	switch {
	case errors.Is(msg.err, client.ErrUnreachable), errors.Is(msg.err, context.DeadlineExceeded):
		o := msg.order
		o.again = true
		m.confirm, m.notice = &o, ""
		return nil
	case msg.err != nil:
		m.notice = explain(msg.err)
		return nil
	}
	m.next = m.now
	return nil
}
