package top

import (
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/scalehook/scalehook/internal/words"
)

// styles are what the frame is painted with. The colours are the terminal's own
// sixteen, which people have made readable for themselves.
type styles struct {
	red, yellow, green, plain, dim, bold, alarm, title lipgloss.Style
	// lipgloss underlines letter by letter, which takes accents from their letters.
	heading, focused ansi.Style
}

func newStyles(color bool) styles {
	n := lipgloss.NewStyle
	s := styles{
		red: n(), yellow: n(), green: n(), plain: n(), dim: n().Faint(true), bold: n().Bold(true),
		heading: ansi.NewStyle().Underline(true).Faint(), focused: ansi.NewStyle().Underline(true).Bold(), alarm: n().Reverse(true), title: n().Bold(true),
	}
	if color {
		s.red, s.yellow, s.green = n().Foreground(lipgloss.Red), n().Foreground(lipgloss.Yellow), n().Foreground(lipgloss.Green)
		s.alarm = n().Reverse(true).Foreground(lipgloss.Red)
		s.title = n().Bold(true).Foreground(lipgloss.Cyan)
	}
	return s
}

func (s styles) of(l words.Level) lipgloss.Style {
	switch l {
	case words.LevelRed:
		return s.red
	case words.LevelYellow:
		return s.yellow
	case words.LevelGreen:
		return s.green
	case words.LevelNone:
	}
	return s.dim
}
