package store

import (
	"context"
	"fmt"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Groups implements scaling.Store; the names are sorted.
func (s *Store) Groups(ctx context.Context) ([]string, error) {
	var names []string
	err := rows(ctx, s.reader, func(scan scanner) error {
		names = append(names, "")
		return scan(&names[len(names)-1])
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
	query := s.tables.activities.selects + " WHERE 1"
	var args []any
	if group != "" {
		query += " AND group_name = ?"
		args = append(args, group)
	}
	if before != "" {
		query += " AND id < ?"
		args = append(args, before)
	}
	var list []scaling.Activity
	err := rows(ctx, s.reader, func(scan scanner) error {
		a, name, err := s.tables.activities.one(scan)
		a.Group = name
		list = append(list, a)
		return err
	}, query+" ORDER BY id DESC LIMIT ?", append(args, limit)...)
	if err != nil {
		return nil, fmt.Errorf("list activities: %w", explain(err))
	}
	return list, nil
}

// trim returns what bounds the history of a group.
func (s *Store) trim(group string) statement {
	const over = "group_name = ? AND status NOT IN ('pending', 'running')"
	return statement{
		"DELETE FROM activities WHERE " + over +
			" AND id <= (SELECT id FROM activities WHERE " + over + " ORDER BY id DESC LIMIT 1 OFFSET ?)",
		[]any{group, group, s.opts.KeepActivities},
	}
}
