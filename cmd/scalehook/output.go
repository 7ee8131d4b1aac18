package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// The formats of --output.
const (
	formatTable = "table"
	formatJSON  = "json"
)

func checkFormat(format string) error {
	if format != formatTable && format != formatJSON {
		return usageError{fmt.Errorf("--output %q: must be %s or %s", format, formatTable, formatJSON)}
	}
	return nil
}

// table writes aligned columns and plain lines.
type table struct {
	w    *tabwriter.Writer
	errs []error
}

// row writes one line of columns.
func (t *table) row(columns ...string) {
	_, err := fmt.Fprintln(t.w, strings.Join(columns, "\t"))
	t.errs = append(t.errs, err)
}

// linef writes a line that ends the table above it.
func (t *table) linef(format string, args ...any) {
	t.errs = append(t.errs, t.w.Flush())
	_, err := fmt.Fprintf(t.w, format+"\n", args...)
	t.errs = append(t.errs, err, t.w.Flush())
}

// show writes v as JSON or through the table.
func show[T any](w io.Writer, format string, v T, fill func(*table, T)) error {
	if format == formatJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	t := &table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	fill(t, v)
	return errors.Join(append(t.errs, t.w.Flush())...)
}

// dash stands for what is not there.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// clock is a time for people, in their zone; "-" for none.
func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// yes says whether something holds.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
