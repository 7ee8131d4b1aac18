package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/api"
)

// screen shows what the demo waits for: a line that moves on a terminal, and a
// line every few seconds elsewhere.
type screen struct {
	mu    sync.Mutex
	out   io.Writer
	live  bool // a terminal
	lines int  // of the live part that stands on the screen
	last  time.Time
}

// logEvery is how often a line is printed where nothing can be overwritten.
const logEvery = 10 * time.Second

func newScreen(f *os.File) *screen {
	st, err := f.Stat()
	return &screen{out: f, live: err == nil && st.Mode()&os.ModeCharDevice != 0}
}

func (s *screen) title(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "\n== "+format+"\n", args...)
}

// step runs one part of the set-up and says how long it took.
func (s *screen) step(what string, do func() error) error {
	begun := time.Now()
	if s.live {
		fmt.Fprintf(s.out, "   … %s", what)
	}
	err := do()
	mark := "ok"
	if err != nil {
		mark = "FAILED"
	}
	if s.live {
		fmt.Fprint(s.out, "\r\x1b[K")
	}
	fmt.Fprintf(s.out, "   %-6s %s (%.1f s)\n", mark, what, time.Since(begun).Seconds())
	return err
}

func (s *screen) waiting(what string, d time.Duration, g api.Group, load string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.live {
		if time.Since(s.last) < logEvery {
			return
		}
		s.last = time.Now()
		fmt.Fprintf(s.out, "   …      %s: %.0f s; %s; %s\n", what, d.Seconds(), short(g), load)
		return
	}
	s.erase()
	lines := []string{fmt.Sprintf("   … %s: %.0f s; %s", what, d.Seconds(), load)}
	for _, i := range sorted(g) {
		lines = append(lines, "       "+line(i))
	}
	fmt.Fprintln(s.out, strings.Join(lines, "\n"))
	s.lines = len(lines)
}

func (s *screen) done(what string, d time.Duration, g api.Group) { s.end("ok", what, d, g) }

func (s *screen) failed(what string, d time.Duration) { s.end("FAILED", what, d, api.Group{}) }

func (s *screen) end(mark, what string, d time.Duration, g api.Group) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	s.last = time.Time{}
	fmt.Fprintf(s.out, "   %-6s %s (%.1f s) %s\n", mark, what, d.Seconds(), short(g))
}

func (s *screen) erase() {
	if s.lines > 0 {
		fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.lines)
	}
	s.lines = 0
}

func sorted(g api.Group) []api.Instance {
	out := slices.Clone(g.Instances)
	slices.SortFunc(out, func(a, b api.Instance) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return out
}

// line is one VM with its CPU and state.
func line(i api.Instance) string {
	cpu, bar := "  -  ", ""
	if i.Reading != nil {
		cpu = fmt.Sprintf("%3.0f %%", i.Reading.Utilization*100)
		bar = strings.Repeat("#", int(i.Reading.Utilization*20+0.5))
	}
	primary := ""
	if i.Primary {
		primary = " primary"
	}
	return fmt.Sprintf("%-16s %-11s CPU %s %-20s%s", i.Name, i.State, cpu, bar, primary)
}

// short is all VMs in one line.
func short(g api.Group) string {
	var out []string
	for _, i := range sorted(g) {
		s := i.Name + " " + i.State
		if i.Reading != nil {
			s += fmt.Sprintf(" %.0f %%", i.Reading.Utilization*100)
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return ""
	}
	return "[" + strings.Join(out, ", ") + "]"
}
