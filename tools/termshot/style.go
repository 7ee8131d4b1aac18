package main

import (
	"fmt"

	"github.com/charmbracelet/x/ansi"
)

// style is how a character looks. The zero style is the terminal's own.
type style struct {
	fore, back           string // "#rrggbb"; empty: the terminal's own
	bold, faint, inverse bool
}

// The terminal's own colours, and its sixteen: readable on a dark ground.
const (
	ground = "#14181f"
	ink    = "#d7dce4"
)

var sixteen = [16]string{
	"#2b313b", "#f0646c", "#7cc77c", "#e3b341", "#6aa8f0", "#c58af0", "#5cc5c9", "#c8ced8",
	"#6b7482", "#ff8a91", "#9be09b", "#f5cd6a", "#93c3ff", "#dbb0ff", "#86dfe2", "#f4f6f9",
}

// with returns the style after the parameters of one SGR sequence (ECMA-48, 8.3.117;
// 38 and 48 as in ITU-T T.416).
func (s style) with(params ansi.Params) style {
	if len(params) == 0 {
		return style{}
	}
	for i := 0; i < len(params); i++ {
		p := params[i].Param(0)
		switch {
		case p == 0:
			s = style{}
		case p == 1:
			s.bold = true
		case p == 2:
			s.faint = true
		case p == 7:
			s.inverse = true
		case p == 22:
			s.bold, s.faint = false, false
		case p == 27:
			s.inverse = false
		case p >= 30 && p <= 37:
			s.fore = sixteen[p-30]
		case p >= 90 && p <= 97:
			s.fore = sixteen[p-90+8]
		case p == 39:
			s.fore = ""
		case p >= 40 && p <= 47:
			s.back = sixteen[p-40]
		case p >= 100 && p <= 107:
			s.back = sixteen[p-100+8]
		case p == 49:
			s.back = ""
		case p == 38 || p == 48:
			colour, used := extended(params[i+1:])
			i += used
			if p == 38 {
				s.fore = colour
			} else {
				s.back = colour
			}
		}
	}
	return s
}

// extended reads what follows 38 or 48: 5;N of the 256 colours, or 2;R;G;B.
func extended(params ansi.Params) (colour string, used int) {
	at := func(i int) int {
		if i >= len(params) {
			return 0
		}
		return params[i].Param(0)
	}
	switch at(0) {
	case 5:
		return indexed(at(1)), min(2, len(params))
	case 2:
		return fmt.Sprintf("#%02x%02x%02x", at(1)&255, at(2)&255, at(3)&255), min(4, len(params))
	}
	return "", min(1, len(params))
}

// indexed is a colour of the 256: sixteen, a cube of 6 × 6 × 6, and 24 greys.
func indexed(n int) string {
	switch {
	case n < 16:
		return sixteen[max(n, 0)]
	case n < 232:
		level := func(v int) int {
			if v == 0 {
				return 0
			}
			return 55 + 40*v
		}
		n -= 16
		return fmt.Sprintf("#%02x%02x%02x", level(n/36), level(n/6%6), level(n%6))
	}
	grey := 8 + 10*(min(n, 255)-232)
	return fmt.Sprintf("#%02x%02x%02x", grey, grey, grey)
}

// colours are those of the text and of what is behind it; back is empty for the
// terminal's own ground.
func (s style) colours() (fore, back string) {
	fore, back = s.fore, s.back
	if s.inverse {
		fore, back = s.back, s.fore
		if fore == "" {
			fore = ground
		}
		if back == "" {
			back = ink
		}
	}
	if fore == "" {
		fore = ink
	}
	return fore, back
}
