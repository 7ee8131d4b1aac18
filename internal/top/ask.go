package top

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/scalehook/scalehook/internal/api"
)

// longestTick is how often the times on the screen move on at least.
const longestTick = 500 * time.Millisecond

// life ends what the model began: Bubble Tea waits for no command, and a command
// that it never started must not be waited for.
type life struct {
	ctx    context.Context //nolint:containedctx // of the commands, which get none
	cancel context.CancelFunc
	mu     sync.Mutex
	over   bool
	group  sync.WaitGroup
}

func newLife() *life {
	l := &life{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// end cancels every command and waits until the last one has returned.
func (l *life) end() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.cancel()
	l.group.Wait()
}

// do makes a command of f, which must return once its context is done.
func (l *life) do(f func(context.Context) tea.Msg) tea.Cmd {
	return func() tea.Msg {
		l.mu.Lock()
		if l.over {
			l.mu.Unlock()
			return nil
		}
		l.group.Add(1)
		l.mu.Unlock()
		defer l.group.Done()
		return f(l.ctx)
	}
}

// tick brings the time.
func (m *Model) tick() tea.Cmd {
	wait, now := min(m.opts.Interval, longestTick), m.opts.Now
	return m.life.do(func(ctx context.Context) tea.Msg {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			return tickMsg{now()}
		}
	})
}

// ask brings the server's answer, or that there was none.
func (m *Model) ask() tea.Cmd {
	m.asking = true
	opts, selected := m.opts, m.group
	return m.life.do(func(ctx context.Context) tea.Msg { return ask(ctx, opts, selected) })
}

// ask asks for the groups and for the ended activities of the selected one.
func ask(ctx context.Context, opts Options, selected string) answerMsg {
	began := opts.Now()
	msg := answerMsg{}
	msg.groups, msg.err = within(ctx, opts.Timeout, func(ctx context.Context) ([]api.Group, error) {
		if opts.Group == "" {
			return opts.Server.Groups(ctx)
		}
		g, err := opts.Server.Group(ctx, opts.Group)
		return []api.Group{g}, err
	})
	if msg.err == nil && selected == "" && len(msg.groups) > 0 {
		selected = msg.groups[0].Name
	}
	if msg.err == nil && selected != "" {
		// They are an extra: without them the rest is shown all the same.
		recent, err := within(ctx, opts.Timeout, func(ctx context.Context) ([]api.Activity, error) {
			return opts.Server.Activities(ctx, selected, "", shownActivities)
		})
		if err == nil {
			msg.of, msg.recent = selected, recent
		}
	}
	msg.at = opts.Now()
	msg.took = msg.at.Sub(began)
	if opts.Clock != nil {
		msg.clock = opts.Clock()
	}
	return msg
}

// send brings what became of an order.
func (m *Model) send(o order) tea.Cmd {
	opts := m.opts
	return m.life.do(func(ctx context.Context) tea.Msg {
		text, err := within(ctx, opts.Timeout, func(ctx context.Context) (string, error) { return o.send(ctx, opts.Server) })
		return orderedMsg{o, text, err}
	})
}

// within calls f with a deadline.
func within[T any](ctx context.Context, timeout time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return f(ctx)
}

// newKey returns a random Idempotency-Key.
func newKey() string { return "top-" + rand.Text() }
