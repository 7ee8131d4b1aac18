package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Groups implements scaling.Store; the names are sorted.
func (s *Store) Groups(ctx context.Context) ([]string, error) {
	names, err := collect(ctx, s.reader, func(rows *sql.Rows) (name string, err error) {
		err = rows.Scan(&name)
		return name, err
	}, "SELECT name FROM groups ORDER BY name")
	if err != nil {
		return nil, fmt.Errorf("list the groups of the store: %w", explain(err))
	}
	return names, nil
}

// Activities implements scaling.Store. Those under way are among them.
func (s *Store) Activities(ctx context.Context, group, before string, limit int) ([]scaling.Activity, error) {
	if limit <= 0 {
		return nil, nil
	}
	query := "SELECT " + strings.Join(activities().all(), ", ") + ", group_name FROM activities WHERE 1"
	var args []any
	if group != "" {
		query += " AND group_name = ?"
		args = append(args, group)
	}
	if before != "" {
		query += " AND id < ?"
		args = append(args, before)
	}
	list, err := collect(ctx, s.reader, func(rows *sql.Rows) (scaling.Activity, error) {
		var name string
		a, err := scanActivity(rows, &name)
		a.Group = name
		return a, err
	}, query+" ORDER BY id DESC LIMIT ?", append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("list activities: %w", explain(err))
	}
	return list, nil
}

// trim bounds the history of a group.
func (s *Store) trim(ctx context.Context, tx *sql.Tx, group string) error {
	const over = "group_name = ? AND status NOT IN ('pending', 'running')"
	_, err := tx.ExecContext(ctx, "DELETE FROM activities WHERE "+over+
		" AND id <= (SELECT id FROM activities WHERE "+over+" ORDER BY id DESC LIMIT 1 OFFSET ?)",
		group, group, s.opts.KeepActivities)
	return err
}
