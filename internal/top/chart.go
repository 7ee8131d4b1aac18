package top

import (
	"fmt"
	"math"
	"strings"

	"charm.land/lipgloss/v2"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/words"
)

// labels is how wide the names beside a chart are.
const labels = 10

// painter collects cells and paints those alike in one go.
type painter struct {
	out   strings.Builder
	cells strings.Builder
	with  func(string) string
	key   any
}

// put adds cells; key tells styles apart.
func (p *painter) put(cells string, key any, style lipgloss.Style) {
	if p.key != key {
		p.flush()
		p.key, p.with = key, func(s string) string { return style.Render(s) }
	}
	p.cells.WriteString(cells)
}

func (p *painter) flush() {
	if p.cells.Len() > 0 {
		p.out.WriteString(p.with(p.cells.String()))
		p.cells.Reset()
	}
}

// String ends the line.
func (p *painter) String() string {
	p.flush()
	return p.out.String()
}

// bar is how many steps of all the rows a value fills; a reading of 0 is seen too.
func (m *Model) bar(v float64, rows int) int {
	steps := rows * (len(m.glyphs.bars) - 1)
	if math.IsNaN(v) {
		return 1
	}
	return max(1, int(math.Round(min(max(v, 0), 1)*float64(steps))))
}

// cell is what of a bar is seen in one row, counted from the bottom.
func (m *Model) cell(bar, row int) string {
	per := len(m.glyphs.bars) - 1
	return m.glyphs.bars[min(max(bar-row*per, 0), per)]
}

// chart draws the samples as bars, newest at the right, in so many rows. The rows
// that hold a threshold are named, and dashed where no bar hides it.
func (m *Model) chart(g api.Group, width, rows int) []string {
	plot := max(0, width-labels)
	samples := last(m.seen[g.Name], plot)
	high, low := rowOf(g.Settings.High, rows), rowOf(g.Settings.Low, rows)
	var out []string
	for row := rows - 1; row >= 0; row-- {
		label, key := "", "dim"
		style := m.styles.dim
		switch {
		case row == high && high == low:
			label = fmt.Sprintf("%s/%s", words.Percent(g.Settings.Low), words.Percent(g.Settings.High))
		case row == high:
			label, key, style = "high "+words.Percent(g.Settings.High), "red", m.styles.red
		case row == low:
			label, key, style = "low "+words.Percent(g.Settings.Low), "green", m.styles.green
		case row == rows-1:
			label = "100%"
		case row == 0:
			label = "0%"
		}
		empty := " "
		if row == high || row == low {
			empty = m.glyphs.threshold
		}
		var p painter
		p.put(m.glyphs.right(label, labels-1)+" ", key, style)
		p.put(strings.Repeat(empty, max(0, plot-len(samples))), key, style)
		for _, s := range samples {
			if !s.ok && row == 0 {
				p.put(m.glyphs.gap, "dim", m.styles.dim)
				continue
			}
			if cell := m.cell(m.bar(s.value, rows), row); s.ok && cell != m.glyphs.bars[0] {
				l := words.LevelOf(s.value, g.Settings, m.opts.Yellow)
				p.put(cell, l, m.styles.of(l))
				continue
			}
			p.put(empty, key, style)
		}
		out = append(out, p.String())
	}
	return out
}

// trend draws the newest samples in one row.
func (m *Model) trend(g api.Group, width int) string {
	samples := last(m.seen[g.Name], width)
	var p painter
	p.put(strings.Repeat(" ", max(0, width-len(samples))), words.LevelNone, m.styles.plain)
	for _, s := range samples {
		if !s.ok {
			p.put(m.glyphs.gap, words.LevelNone, m.styles.dim)
			continue
		}
		l := words.LevelOf(s.value, g.Settings, m.opts.Yellow)
		p.put(m.cell(m.bar(s.value, 1), 0), l, m.styles.of(l))
	}
	return p.String()
}

// rowOf is the row, counted from the bottom, in which a threshold lies.
func rowOf(v float64, rows int) int {
	return min(max(int(math.Ceil(min(max(v, 0), 1)*float64(rows)))-1, 0), rows-1)
}
