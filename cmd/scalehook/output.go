package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// The formats of --output.
const (
	formatTable = "table"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

func formats() []string { return []string{formatTable, formatJSON, formatYAML} }

// outputFlag adds --output, the same to every command that lists something.
func outputFlag(f *pflag.FlagSet, format *string) {
	f.StringVarP(format, "output", "o", formatTable, "how to print: table, json or yaml")
}

func checkFormat(format string) error {
	if !slices.Contains(formats(), format) {
		return usageError{fmt.Errorf("--output %q: must be table, json or yaml", format)}
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

// show writes v as JSON, as YAML or through the table.
func show[T any](w io.Writer, format string, v T, fill func(*table, T)) error {
	switch format {
	case formatJSON:
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case formatYAML:
		return showYAML(w, v)
	}
	t := &table{w: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	fill(t, v)
	return errors.Join(append(t.errs, t.w.Flush())...)
}

// showYAML writes what JSON would, with the same names in the same order.
func showYAML(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil { // JSON is YAML
		return fmt.Errorf("write it as YAML: %w", err)
	}
	if err := block(&root); err != nil {
		return fmt.Errorf("write it as YAML: %w", err)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	return errors.Join(enc.Encode(&root), enc.Close())
}

// block takes JSON's braces and quotes off. A word that some reader of YAML would
// take for something else keeps its quotes.
func block(n *yaml.Node) error {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		return n.Encode(n.Value)
	}
	for _, c := range n.Content {
		if err := block(c); err != nil {
			return err
		}
	}
	return nil
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
