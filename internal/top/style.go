package top

import (
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/scalehook/scalehook/internal/api"
)

// level is how a utilisation stands against the bounds.
type level int

// The levels.
const (
	levelNone   level = iota // no reading
	levelGreen               // below the yellow bound
	levelYellow              // from the yellow bound on
	levelRed                 // above the group's high threshold
)

// levelOf holds a utilisation against the group's high threshold and the bound
// from which it is yellow.
func levelOf(v float64, s api.Settings, yellow float64) level {
	switch {
	case v > s.High:
		return levelRed
	case v >= yellow:
		return levelYellow
	}
	return levelGreen
}

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

func (s styles) of(l level) lipgloss.Style {
	switch l {
	case levelRed:
		return s.red
	case levelYellow:
		return s.yellow
	case levelGreen:
		return s.green
	case levelNone:
	}
	return s.dim
}
