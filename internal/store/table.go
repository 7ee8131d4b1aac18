package store

import (
	"context"
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
	row  func(v *T) (keys, values []any)
	scan func(scan scanner) (T, error)
	same func(a, b *T) bool
	// normal makes v what would be loaded for it; nil if it always is.
	normal func(v *T)
	// alive limits what is loaded into a state; empty for all rows.
	alive string

	selects, inserts, updates, deletes string // made by ready
}

// scanner is the Scan of a row.
type scanner func(into ...any) error

// ready makes the statements, which are the same for all rows.
func (t table[T]) ready() *table[T] {
	all := strings.Join(append(append([]string{}, t.keys...), t.columns...), ", ")
	where := " WHERE group_name = ? AND " + strings.Join(t.keys, " IS ? AND ") + " IS ?"
	t.selects = "SELECT " + all + ", group_name FROM " + t.name
	t.inserts = "INSERT INTO " + t.name + " (" + all + ", group_name) VALUES (?" + strings.Repeat(", ?", len(t.keys)+len(t.columns)) + ")"
	t.updates = "UPDATE " + t.name + " SET " + strings.Join(t.columns, " = ?, ") + " = ?" + where
	t.deletes = "DELETE FROM " + t.name + where
	return &t
}

func (t *table[T]) key(v *T) string {
	keys, _ := t.row(v)
	parts := make([]string, len(keys))
	for i, k := range keys {
		parts[i] = fmt.Sprint(k)
	}
	return strings.Join(parts, "\x00")
}

// load gives every row to the function, with its group.
func (t *table[T]) load(ctx context.Context, q querier, each func(group string, v T)) error {
	query := t.selects
	if t.alive != "" {
		query += " WHERE " + t.alive
	}
	return rows(ctx, q, func(scan scanner) error {
		v, group, err := t.one(scan)
		if err == nil {
			each(group, v)
		}
		return err
	}, query+" ORDER BY seq")
}

// one reads a row that was selected with selects.
func (t *table[T]) one(scan scanner) (v T, group string, err error) {
	v, err = t.scan(func(into ...any) error { return scan(append(into, &group)...) })
	if err != nil && group != "" {
		err = fmt.Errorf("group %s: %w", group, err)
	}
	return v, group, err
}

func rows(ctx context.Context, q querier, each func(scanner) error, query string, args ...any) (err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := rows.Close(); err == nil {
			err = closeErr
		}
	}()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// A statement is still to be run.
type statement struct {
	query string
	args  []any
}

// diff returns what makes the rows of before those of after, and after in the
// order in which the rows will be loaded: old ones as they were, then new ones.
// gone is called for a row that is not wanted any more and may refuse.
func (t *table[T]) diff(group string, before, after []T, gone func(*T) error) ([]statement, []T, error) {
	if t.unchanged(before, after) {
		return nil, after, nil
	}
	old := make(map[string]int, len(before)) // index in before
	for i := range before {
		old[t.key(&before[i])] = i
	}
	seen := make(map[string]bool, len(after))
	place := make([]*T, len(before))
	var out []statement
	var added []T
	for i := range after {
		v := &after[i]
		key := t.key(v)
		if seen[key] {
			return nil, nil, fmt.Errorf("%s: %q is there twice", t.name, key)
		}
		seen[key] = true
		at, is := old[key]
		if !is {
			keys, values := t.row(v)
			out = append(out, statement{t.inserts, append(append(keys, values...), group)})
			added = append(added, *v)
			continue
		}
		place[at] = v
		if !t.same(&before[at], v) {
			keys, values := t.row(v)
			out = append(out, statement{t.updates, append(append(values, group), keys...)})
		}
	}
	ordered := make([]T, 0, len(after))
	for i, v := range place {
		if v != nil {
			ordered = append(ordered, *v)
			continue
		}
		if err := gone(&before[i]); err != nil {
			return nil, nil, err
		}
		keys, _ := t.row(&before[i])
		out = append(out, statement{t.deletes, append([]any{group}, keys...)})
	}
	return out, append(ordered, added...), nil
}

// unchanged reports whether nothing is to be done, which is so for most parts of
// a state in most changes.
func (t *table[T]) unchanged(before, after []T) bool {
	if len(before) != len(after) {
		return false
	}
	for i := range before {
		if !t.same(&before[i], &after[i]) {
			return false
		}
	}
	return true
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
