package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// A table maps one slice of a group's state to rows. The first columns are the
// key; every row belongs to one group.
type table[T any] struct {
	name    string
	keys    []string
	columns []string // without the keys
	// row returns the keys' values and the columns' values, in order.
	row  func(v T) (keys, values []any)
	scan func(rows *sql.Rows) (T, error)
	same func(a, b T) bool
	// alive limits what is loaded into a state; empty for all rows.
	alive string
}

func (t table[T]) key(v T) string {
	keys, _ := t.row(v)
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = fmt.Sprint(k)
	}
	return strings.Join(parts, "\x00")
}

func (t table[T]) load(ctx context.Context, q querier, group string) ([]T, error) {
	query := "SELECT " + strings.Join(t.all(), ", ") + " FROM " + t.name + " WHERE group_name = ?" + t.alive + " ORDER BY seq"
	return collect(ctx, q, t.scan, query, group)
}

func (t table[T]) all() []string { return append(append([]string{}, t.keys...), t.columns...) }

func collect[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) (list []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := rows.Close(); err == nil {
			err = closeErr
		}
	}()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	return list, rows.Err()
}

// A statement is still to be run.
type statement struct {
	query string
	args  []any
}

// diff returns what makes the rows of before those of after, and after in the
// order in which the rows will be loaded: old ones as they were, then new ones.
// gone is called for a row that is not wanted any more and may refuse.
func (t table[T]) diff(group string, before, after []T, gone func(T) error) ([]statement, []T, error) {
	old := make(map[string]int, len(before)) // index in before
	for i, v := range before {
		old[t.key(v)] = i
	}
	seen := make(map[string]bool, len(after))
	place := make([]*T, len(before))
	var out []statement
	var added []T
	for i := range after {
		key := t.key(after[i])
		if seen[key] {
			return nil, nil, fmt.Errorf("%s: %q is there twice", t.name, key)
		}
		seen[key] = true
		at, is := old[key]
		if !is {
			out = append(out, t.insert(group, after[i]))
			added = append(added, after[i])
			continue
		}
		place[at] = &after[i]
		if !t.same(before[at], after[i]) {
			out = append(out, t.update(group, after[i]))
		}
	}
	ordered := make([]T, 0, len(after))
	for i, v := range place {
		if v != nil {
			ordered = append(ordered, *v)
			continue
		}
		if err := gone(before[i]); err != nil {
			return nil, nil, err
		}
		out = append(out, t.remove(group, before[i]))
	}
	return out, append(ordered, added...), nil
}

func (t table[T]) insert(group string, v T) statement {
	keys, values := t.row(v)
	columns := append([]string{"group_name"}, t.all()...)
	return statement{
		query: "INSERT INTO " + t.name + " (" + strings.Join(columns, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(columns)-1) + ")",
		args:  append(append([]any{group}, keys...), values...),
	}
}

func (t table[T]) update(group string, v T) statement {
	keys, values := t.row(v)
	return statement{
		query: "UPDATE " + t.name + " SET " + strings.Join(t.columns, " = ?, ") + " = ?" + t.where(),
		args:  append(append(values, group), keys...),
	}
}

func (t table[T]) remove(group string, v T) statement {
	keys, _ := t.row(v)
	return statement{query: "DELETE FROM " + t.name + t.where(), args: append([]any{group}, keys...)}
}

func (t table[T]) where() string {
	return " WHERE group_name = ? AND " + strings.Join(t.keys, " IS ? AND ") + " IS ?"
}

// A stamp is a time as the database has it: sortable text in UTC, NULL for zero.
type stamp struct{ time.Time }

const stampLayout = "2006-01-02T15:04:05.000000000Z"

var _ driver.Valuer = stamp{}

// Value implements driver.Valuer.
func (s stamp) Value() (driver.Value, error) {
	if s.IsZero() {
		return nil, nil //nolint:nilnil // NULL is how a zero time is stored
	}
	return s.UTC().Format(stampLayout), nil
}

// stampTo scans a stamp into a time.
type stampTo struct{ *time.Time }

// Scan implements sql.Scanner.
func (s stampTo) Scan(v any) error {
	switch v := v.(type) {
	case nil:
		*s.Time = time.Time{}
		return nil
	case string:
		t, err := time.Parse(time.RFC3339Nano, v)
		*s.Time = normalTime(t)
		return err
	}
	return fmt.Errorf("a time is text, not %T", v)
}

// normalTime is a time as it comes back from the database, so that what is kept
// in memory and what would be loaded are the same.
//
// A sender's clock is not ours to trust: a year that neither the text nor JSON
// can hold is brought to the nearest one that they can.
func normalTime(t time.Time) time.Time {
	t = t.Round(0).UTC()
	switch year := t.Year(); {
	case year > 9999:
		return time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)
	case year < 0:
		return time.Date(0, time.January, 1, 0, 0, 0, 0, time.UTC)
	}
	return t
}

// A bound is one entry of a budget. Nth tells those of one moment apart.
type bound struct {
	what string
	at   time.Time
	nth  int
}

// A used is one entry of State.Consumed.
type used struct {
	signal scaling.Signal
	at     time.Time
}
