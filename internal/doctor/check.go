package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// The parts of the way, in the order in which they are shown.
const (
	PartConfiguration = "configuration"
	PartServer        = "server"
	PartPrometheus    = "prometheus"
	PartAlertmanager  = "alertmanager"
	PartProviders     = "providers"
	PartBalancers     = "balancers"
)

// Check is one thing that was looked at.
type Check struct {
	// Part is the part of the way that it belongs to.
	Part string `json:"part"`
	// What was looked at.
	What string `json:"what"`
	// OK says that it works.
	OK bool `json:"ok"`
	// Warning says that it works, and that an operator should know something of it.
	Warning bool `json:"warning,omitempty"`
	// Detail says what was found, and what would be right if it is not OK.
	Detail string `json:"detail,omitempty"`
	// Line is where in its file it is; 0 where there is no file or no such line.
	Line int `json:"line,omitempty"`
}

// Failed reports whether one of the checks is not OK. Warnings are.
func Failed(checks []Check) bool {
	return slices.ContainsFunc(checks, func(c Check) bool { return !c.OK })
}

// Summary counts the checks in one line.
func Summary(checks []Check) string {
	warned, wrong := 0, 0
	for _, c := range checks {
		switch {
		case !c.OK:
			wrong++
		case c.Warning:
			warned++
		}
	}
	return fmt.Sprintf("%s: %d OK, %d with a warning, %d wrong", plural(len(checks), "check"), len(checks)-warned-wrong, warned, wrong)
}

// report collects the checks of one part.
type report struct {
	part   string
	checks []Check
}

func (r *report) ok(what, format string, args ...any) {
	r.checks = append(r.checks, Check{Part: r.part, What: what, OK: true, Detail: oneLine(format, args...)})
}

func (r *report) warn(line int, what, format string, args ...any) {
	r.checks = append(r.checks, Check{Part: r.part, What: what, OK: true, Warning: true, Detail: oneLine(format, args...), Line: line})
}

func (r *report) bad(line int, what, format string, args ...any) {
	r.checks = append(r.checks, Check{Part: r.part, What: what, Detail: oneLine(format, args...), Line: line})
}

// oneLine is the detail of a check: joined errors have a line each.
func oneLine(format string, args ...any) string {
	return strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
}

// findings are all that is to be said about one thing that has several sides.
type findings struct {
	line       int
	bads, hint []string
}

func (f *findings) bad(line int, format string, args ...any) {
	if len(f.bads) == 0 {
		f.line = line
	}
	f.bads = append(f.bads, fmt.Sprintf(format, args...))
}

func (f *findings) warn(line int, format string, args ...any) {
	if len(f.bads)+len(f.hint) == 0 {
		f.line = line
	}
	f.hint = append(f.hint, fmt.Sprintf(format, args...))
}

// add joins the findings of something else.
func (f *findings) add(other findings) {
	if len(f.bads) == 0 && (len(f.hint) == 0 || len(other.bads) > 0) {
		f.line = other.line
	}
	f.bads, f.hint = append(f.bads, other.bads...), append(f.hint, other.hint...)
}

// check makes one check of them; what is fine is said if there is nothing else.
func (r *report) check(what string, f findings, format string, args ...any) {
	switch {
	case len(f.bads) > 0:
		r.bad(f.line, what, "%s", strings.Join(append(f.bads, f.hint...), "; "))
	case len(f.hint) > 0:
		r.warn(f.line, what, "%s", strings.Join(f.hint, "; "))
	default:
		r.ok(what, format, args...)
	}
}

// and lists names for people: "a, b and c"; of many only the first.
func and(names []string) string {
	const most = 6
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// plural is the count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
