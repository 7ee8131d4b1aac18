package top

import (
	"slices"
	"strings"
	"unicode"

	"github.com/charmbracelet/x/ansi"
)

// longest bounds a text from the server, in runes: no line of a terminal holds more.
const longest = 2000

// glyphs are the characters that the frame is drawn with.
type glyphs struct {
	bars                         []string // a cell from empty to full
	threshold, rule, dot, more   string
	cursor, rest, done, now, gap string
	over, under                  string
	ascii                        bool
}

func newGlyphs(ascii bool) glyphs {
	if ascii {
		return glyphs{
			bars: []string{" ", ".", ":", "o", "O", "#"}, threshold: "-", rule: "-", dot: " | ", more: "~",
			cursor: "> ", rest: "  ", done: "+", now: ">", gap: "!", over: "^", under: "v", ascii: true,
		}
	}
	return glyphs{
		bars: []string{" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}, threshold: "╌", rule: "─", dot: " · ", more: "…",
		cursor: "▸ ", rest: "  ", done: "✓", now: "▸", gap: "┊", over: "▲", under: "▼",
	}
}

// clean makes a text from the server harmless: nothing in it steers the terminal,
// it is one line, and every way to measure it agrees on how wide it is.
func (g glyphs) clean(s string) string {
	plain := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			plain = false
			break
		}
	}
	if plain && len(s) <= longest {
		return s
	}
	var b strings.Builder
	n, last := 0, ' '
	for _, r := range strings.ToValidUTF8(s, "?") {
		switch {
		case n >= longest:
			return b.String()
		case r == '\n' || r == '\t' || r == '\r':
			r = ' '
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || (r >= 0xfe00 && r <= 0xfe0f),
			last == ' ' && unicode.In(r, unicode.M): // with nothing to stand on
			continue
		case g.ascii && r > '~':
			r = '?'
		}
		n, last = n+1, r
		b.WriteRune(r)
	}
	return agreed(b.String())
}

// agreed replaces what is as wide as its letters to one terminal and as wide as
// its first letter to another, such as flags.
func agreed(s string) string {
	if ansi.StringWidth(s) == ansi.StringWidthWc(s) {
		return s
	}
	out := ""
	for _, r := range s {
		next := out + string(r)
		if ansi.StringWidth(next) != ansi.StringWidthWc(next) {
			next = out + "?"
		}
		out = next
	}
	return out
}

// cut shortens a text to a width.
func (g glyphs) cut(s string, width int) string {
	if width <= 0 {
		return ""
	}
	return ansi.Truncate(s, width, g.more)
}

// fit shortens or fills a text to exactly a width.
func (g glyphs) fit(s string, width int) string {
	s = g.cut(s, width)
	return s + strings.Repeat(" ", max(0, width-ansi.StringWidth(s)))
}

// right is fit with the text at the right.
func (g glyphs) right(s string, width int) string {
	s = g.cut(s, width)
	return strings.Repeat(" ", max(0, width-ansi.StringWidth(s))) + s
}

// wrap breaks a text at spaces into lines of a width, at most so many; the last
// one ends where the text is longer.
func (g glyphs) wrap(s string, width, lines int) []string {
	if width <= 0 || lines <= 0 {
		return nil
	}
	var out []string
	line := ""
	words := strings.Fields(s)
	for i, word := range words {
		switch {
		case line == "":
			line = word
		case ansi.StringWidth(line)+1+ansi.StringWidth(word) <= width:
			line += " " + word
		case len(out) == lines-1:
			return append(out, g.cut(line+" "+strings.Join(words[i:], " "), width))
		default:
			out, line = append(out, g.cut(line, width)), word
		}
	}
	return append(out, g.cut(line, width))
}

// pack puts short texts one after the other into lines of a width, at most so many,
// and breaks none; those that do not fit are left out.
func (g glyphs) pack(texts []string, width, lines int) []string {
	if width <= 0 || lines <= 0 {
		return nil
	}
	out := []string{""}
	for _, text := range texts {
		at := len(out) - 1
		switch {
		case out[at] == "":
			out[at] = g.cut(text, width)
		case ansi.StringWidth(out[at])+ansi.StringWidth(g.dot)+ansi.StringWidth(text) <= width:
			out[at] += g.dot + text
		case len(out) == lines:
			// The sign that there is more goes where there is room for it.
			if ansi.StringWidth(out[at])+2 <= width && !strings.HasSuffix(out[at], g.more) {
				out[at] += " " + g.more
			}
			return out
		default:
			out = append(out, g.cut(text, width))
		}
	}
	return out
}

// matching keeps the elements whose name holds the filter, whatever the case.
func matching[T any](all []T, filter string, name func(T) string) []T {
	if filter == "" {
		return all
	}
	filter = strings.ToLower(filter)
	return slices.DeleteFunc(slices.Clone(all), func(v T) bool { return !strings.Contains(strings.ToLower(name(v)), filter) })
}
