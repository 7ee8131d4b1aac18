package top

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"github.com/scalehook/scalehook/internal/api"
)

// colours returns with which colours a text is painted in a frame, in its order.
func colours(frame, text string) []string {
	names := map[string]string{"31": "red", "32": "green", "33": "yellow", "0": "", "39": ""}
	var out []string
	colour, plain := "", ""
	painted := map[int]string{} // from which byte of the plain text on
	for rest := frame; rest != ""; {
		if m := regexp.MustCompile("^\x1b\\[([0-9;]*)m").FindStringSubmatch(rest); m != nil {
			if m[1] == "" {
				colour = ""
			}
			for p := range strings.SplitSeq(m[1], ";") {
				if c, found := names[p]; found {
					colour = c
				}
			}
			rest = rest[len(m[0]):]
			continue
		}
		painted[len(plain)] = colour
		plain += rest[:1]
		rest = rest[1:]
	}
	for at := 0; ; {
		i := strings.Index(plain[at:], text)
		if i < 0 {
			return out
		}
		out = append(out, painted[at+i])
		at += i + len(text)
	}
}

func TestColours(t *testing.T) {
	for _, tt := range []struct {
		name, text, want string
		yellow           float64
	}{
		{"above high is red", "95% ▲", "red", 0.3},
		{"from the bound on is yellow", "45%", "yellow", 0.3},
		{"at the bound is yellow", "45%", "yellow", 0.45},
		{"below the bound is green", "45%", "green", 0.46},
		{"below low is green, and marked", "10% ▼", "green", 0.3},
		{"the high threshold is red", "high 70% ╌", "red", 0.3},
		{"the low threshold is green", "low 20% ╌", "green", 0.3},
		{"a problem is red", "problem: ", "red", 0.3},
		{"what drains is yellow", "draining  ", "yellow", 0.3},
		{"an activity that was undone is red", "undone in", "red", 0.3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := clocked(nil, func(o *Options) { o.Yellow, o.Group = tt.yellow, "web" })
			size(m, 100, 40)
			g := web(0.95)
			g.Problems = []string{"no word from the pool"}
			watch(m, func(int) []api.Group { return []api.Group{g} })
			frame := strings.Join(m.frame(), "\n")
			got := colours(frame, tt.text)
			if len(got) == 0 {
				t.Fatalf("there is no %q:\n%s", tt.text, text(m))
			}
			for _, c := range got {
				if c != tt.want {
					t.Errorf("%q is %q, want %s", tt.text, c, tt.want)
				}
			}
		})
	}
}

func TestTheChartHasTheColoursOfItsValues(t *testing.T) {
	m := clocked(nil, nil)
	size(m, 80, 24)
	for n, want := range map[float64]string{0.1: "green", 0.5: "yellow", 0.71: "red", 0.7: "yellow"} {
		m.Update(answerMsg{at: noon, groups: []api.Group{quiet(fmt.Sprint("g", n), n)}})
		g := m.groups[0]
		row := m.trend(g, 3)
		if got := colours(row, strings.TrimSpace(ansi.Strip(row))); len(got) != 1 || got[0] != want {
			t.Errorf("%v is painted %q, want %s", n, got, want)
		}
	}
}

func TestWithoutColourThereIsNone(t *testing.T) {
	m := clocked(nil, func(o *Options) { o.Color = false })
	size(m, 100, 40)
	watch(m, scene)
	m.Update(answerMsg{at: noon, err: errors.New("gone")})
	for _, help := range []bool{false, true} {
		m.help = help
		if frame := strings.Join(m.frame(), "\n"); regexp.MustCompile("\x1b\\[[0-9;]*(3[0-8]|4[0-8]|9[0-7])(;|m)").MatchString(frame) {
			t.Errorf("the frame has colours: %q", frame)
		}
	}
}
