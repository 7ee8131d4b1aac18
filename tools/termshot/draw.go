package main

import (
	"fmt"
	"html"
	"io"
	"strings"
)

// The size of a character and the margin, in pixels. Every span is stretched to its
// columns, so it does not matter which monospaced font is there.
const (
	cellWidth  = 8
	cellHeight = 17
	fontSize   = 13
	margin     = 12
)

// draw writes the picture, at least so many columns wide.
func draw(w io.Writer, lines [][]span, title string, columns int) error {
	for _, line := range lines {
		if n := len(line); n > 0 {
			columns = max(columns, line[n-1].column+line[n-1].width)
		}
	}
	width, height := columns*cellWidth+2*margin, len(lines)*cellHeight+2*margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(title))
	fmt.Fprintf(&b, `<rect width="%d" height="%d" rx="8" fill="%s"/>`+"\n", width, height, ground)
	fmt.Fprintf(&b, `<g font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="%d">`+"\n", fontSize)
	for row, line := range lines {
		for _, s := range line {
			drawSpan(&b, s, row)
		}
	}
	b.WriteString("</g>\n</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func drawSpan(b *strings.Builder, s span, row int) {
	fore, back := s.style.colours()
	x, y := margin+s.column*cellWidth, margin+row*cellHeight
	if back != "" {
		fmt.Fprintf(b, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+"\n", x, y, s.width*cellWidth, cellHeight, back)
	}
	if strings.TrimSpace(s.text) == "" {
		return
	}
	more := ""
	if s.style.bold {
		more += ` font-weight="bold"`
	}
	if s.style.faint {
		more += ` opacity="0.65"`
	}
	// Renderers make one space of several, unless they may not break there.
	text := strings.ReplaceAll(s.text, " ", "\u00a0")
	fmt.Fprintf(b, `<text x="%d" y="%d" textLength="%d" lengthAdjust="spacingAndGlyphs" fill="%s"%s>%s</text>`+"\n",
		x, y+cellHeight-5, s.width*cellWidth, fore, more, html.EscapeString(text))
}
