package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/scaling"
)

// How much a finding of check-config matters.
const (
	severityError   = "error"   // the server would refuse the configuration, or the program would not work
	severityWarning = "warning" // it works, and an operator should know
	severityEffect  = "effect"  // of putting it in the place of the running server's
)

// found is something that check-config says, as --output has it.
type found struct {
	Severity string `json:"severity"`
	// File and Line are left out where it is at no place of a file.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Key is the path of what it is about; left out where only the line says it.
	Key     string `json:"key,omitempty"`
	Message string `json:"message"`
}

// checked collects what check-config finds. For people it is printed at once.
type checked struct {
	stdout, stderr io.Writer
	format         string
	found          []found
}

func (c *checked) add(severity string, problems ...config.Problem) {
	for _, p := range problems {
		c.found = append(c.found, found{severity, p.File, p.Line, p.Key, p.Text})
		if c.format != formatTable {
			continue
		}
		// An error has no prefix: editors and people find the file and the line.
		prefix := ""
		if severity == severityWarning {
			prefix = "warning: "
		}
		fmt.Fprintf(c.stderr, "%s%v\n", prefix, p)
	}
}

// linef says something to people.
func (c *checked) linef(format string, args ...any) error {
	if c.format != formatTable {
		return nil
	}
	_, err := fmt.Fprintf(c.stdout, format+"\n", args...)
	return err
}

func (c *checked) fine(file string) error { return c.linef("%s: no problem found", file) }

// diff adds what the groups would change at the running server.
func (c *checked) diff(ctx context.Context, r *remote, groups []scaling.Group) error {
	effects, observed, err := differences(ctx, r, groups)
	if err != nil {
		return err
	}
	var errs []error
	if observed {
		const text = "the server runs with --observe and touches nothing, whatever the modes"
		c.found = append(c.found, found{Severity: severityEffect, Message: text})
		errs = append(errs, c.linef(text))
	}
	if len(effects) == 0 {
		errs = append(errs, c.linef("nothing changes for any group"))
	}
	for _, e := range effects {
		c.found = append(c.found, found{Severity: severityEffect, Key: "groups." + e.Group, Message: e.Text})
		errs = append(errs, c.linef("%s: %s", e.Group, e.Text))
	}
	return errors.Join(errs...)
}

func (c *checked) failed() bool {
	return slices.ContainsFunc(c.found, func(f found) bool { return f.Severity == severityError })
}

// end writes what was found, for programs, and says whether it is an error. err is what
// kept check-config from going on.
func (c *checked) end(err error) error {
	if c.format != formatTable {
		if failed := show(c.stdout, c.format, c.found, nil); failed != nil {
			return failed
		}
	}
	if err == nil && c.failed() {
		return errReported
	}
	return err
}
