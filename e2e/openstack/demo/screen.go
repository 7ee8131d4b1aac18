package main

import (
	"fmt"
	"io"
	"time"

	"github.com/scalehook/scalehook/e2e/openstack/stage"
	"github.com/scalehook/scalehook/internal/api"
)

// screen prints what is waited for, a line every ten seconds.
type screen struct {
	out  io.Writer
	last time.Time
}

func (s *screen) title(format string, args ...any) { fmt.Fprintf(s.out, "\n== "+format+"\n", args...) }

// step runs something and says how long it took.
func (s *screen) step(what string, do func() error) error {
	begun := time.Now()
	err := do()
	mark := "ok"
	if err != nil {
		mark = "FAILED"
	}
	fmt.Fprintf(s.out, "   %-6s %s (%.1f s)\n", mark, what, time.Since(begun).Seconds())
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *screen) waiting(what string, begun time.Time, g api.Group, more string) {
	if time.Since(s.last) < 10*time.Second {
		return
	}
	s.last = time.Now()
	fmt.Fprintf(s.out, "   …      %s: %.0f s; %s; %s\n", what, time.Since(begun).Seconds(), stage.Short(g), more)
}

func (s *screen) done(what string, begun time.Time, g api.Group) {
	s.last = time.Time{}
	fmt.Fprintf(s.out, "   ok     %s (%.1f s) %s\n", what, time.Since(begun).Seconds(), stage.Short(g))
}
