// Command termshot draws what a terminal shows as an SVG, for the documents:
//
//	tmux capture-pane -p -e -t SESSION | go run ./tools/termshot -title 'scalehook top' > docs/images/top.svg
//
// It reads lines of text with the colours and attributes that a terminal knows
// (SGR: 16 colours, 256, true colour, bold, faint, inverse) and leaves out all other
// sequences, which a captured pane has none of.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/charmbracelet/x/ansi"
)

func main() {
	title := flag.String("title", "", "what the picture shows, for people who cannot see it")
	columns := flag.Int("columns", 0, "how wide the picture is at least; 0: as wide as the longest line")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *title, *columns); err != nil {
		fmt.Fprintf(os.Stderr, "termshot: %v\n", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, title string, columns int) error {
	lines, err := read(in)
	if err != nil {
		return fmt.Errorf("read the terminal's text: %w", err)
	}
	w := bufio.NewWriter(out)
	if err := draw(w, lines, title, columns); err != nil {
		return fmt.Errorf("write the picture: %w", err)
	}
	return w.Flush()
}

// span is text in one style that begins at a column.
type span struct {
	column, width int
	text          string
	style         style
}

// read returns the spans of every line. A style lasts until it is changed, over the
// ends of lines too.
func read(in io.Reader) ([][]span, error) {
	var lines [][]span
	var now style
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, 1<<20)
	parser := ansi.NewParser()
	for scanner.Scan() {
		var line []span
		column, state := 0, byte(0)
		for text := scanner.Text(); text != ""; {
			sequence, width, n, next := ansi.DecodeSequence(text, state, parser)
			text, state = text[n:], next
			switch {
			case width == 0 && ansi.Cmd(parser.Command()).Final() == 'm' && ansi.HasCsiPrefix(sequence):
				now = now.with(parser.Params())
			case width > 0:
				last := len(line) - 1
				if last >= 0 && line[last].style == now && line[last].column+line[last].width == column {
					line[last].text += sequence
					line[last].width += width
				} else {
					line = append(line, span{column, width, sequence, now})
				}
				column += width
			}
		}
		lines = append(lines, line)
	}
	return lines, scanner.Err()
}
