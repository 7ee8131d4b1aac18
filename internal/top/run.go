package top

import (
	"context"
	"fmt"
	"io"
	"strings"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
)

// Run shows the dashboard on a terminal until a person quits or the context is
// done, which is no error. It puts the terminal back as it was, also after a panic,
// and returns when nothing that it began goes on.
func Run(ctx context.Context, opts Options, in io.Reader, out io.Writer, env []string) error {
	m := New(opts)
	defer m.life.end()
	options := []tea.ProgramOption{
		tea.WithInput(in), tea.WithOutput(out), tea.WithEnvironment(env), tea.WithoutSignalHandler(),
	}
	if !opts.Color {
		options = append(options, tea.WithColorProfile(colorprofile.ASCII))
	}
	program := tea.NewProgram(m, options...)
	// Bubble Tea leaves its reader behind where its own context ends it.
	stop := context.AfterFunc(ctx, program.Quit)
	defer stop()
	if _, err := program.Run(); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}

// Once asks the server once and writes what the dashboard would show, as plain text
// of the width, with every group and instance, and without the
// chart of what it has not seen.
func Once(ctx context.Context, opts Options, width int, out io.Writer) error {
	opts.Color = false
	m := New(opts)
	defer m.life.end()
	msg := ask(ctx, m.opts, m.opts.Group)
	if msg.err != nil {
		return msg.err
	}
	m.take(msg)
	m.width, m.still = width, true
	m.height = 60 + 4*len(m.groups)
	for _, g := range m.groups {
		m.height += len(g.Instances) + len(g.Activities)
	}
	for _, line := range m.plain() {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

// plain is the frame as text, without the footer and the empty lines before it.
func (m *Model) plain() []string {
	lines := m.frame()
	for i := range lines {
		lines[i] = strings.TrimRight(ansi.Strip(lines[i]), " ")
	}
	lines = lines[:max(0, len(lines)-len(m.footer()))]
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}
