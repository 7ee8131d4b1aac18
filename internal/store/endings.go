package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Endings returns the activities of all groups that ended after the position, in
// the order in which their ends were committed, at most limit. What the history
// dropped meanwhile is missing: a gap between positions. One that cannot be read is
// there with the error, so that it keeps back none of the others. Activities that
// ended before the store counted them have no position.
func (s *Store) Endings(ctx context.Context, after int64, limit int) ([]scaling.Ending, error) {
	var list []scaling.Ending
	err := rows(ctx, s.reader, func(scan scanner) error {
		var e scaling.Ending
		a, group, err := s.tables.activities.one(func(into ...any) error { return scan(append([]any{&e.Position}, into...)...) })
		if err != nil {
			if e.Position <= after || ctx.Err() != nil {
				return err // it is not this one row
			}
			a, e.Err = scaling.Activity{}, err
		}
		e.Activity = a
		e.Activity.Group = group
		list = append(list, e)
		return nil
	}, s.endingsQuery(), after, limit)
	if err != nil {
		return nil, fmt.Errorf("list the activities that ended: %w", explain(err))
	}
	for k := range list {
		if e := &list[k]; e.Err != nil {
			if err := s.reader.QueryRowContext(ctx, "SELECT id FROM activities WHERE ending = ?", e.Position).Scan(&e.Activity.ID); err != nil {
				return nil, fmt.Errorf("list the activities that ended: %w", explain(err))
			}
		}
	}
	return list, nil
}

func (s *Store) endingsQuery() string {
	return "SELECT ending, " + s.tables.activities.selects[len("SELECT "):] + " WHERE ending > ? ORDER BY ending LIMIT ?"
}

// LastEnding returns the position of the activity that ended last; 0 for none.
func (s *Store) LastEnding(ctx context.Context) (int64, error) {
	var last int64
	if err := s.reader.QueryRowContext(ctx, "SELECT last FROM endings").Scan(&last); err != nil {
		return 0, fmt.Errorf("look for the activity that ended last: %w", explain(err))
	}
	return last, nil
}

// Told returns how far each receiver of deliveries was told: the position up to
// which it needs to hear of nothing any more, by the receiver's name.
func (s *Store) Told(ctx context.Context) (map[string]int64, error) {
	told := map[string]int64{}
	err := rows(ctx, s.reader, func(scan scanner) error {
		var name string
		var position int64
		err := scan(&name, &position)
		told[name] = position
		return err
	}, "SELECT name, position FROM webhooks")
	if err != nil {
		return nil, fmt.Errorf("look how far the webhooks were told: %w", explain(err))
	}
	return told, nil
}

// SetTold replaces what Told returns, durably: receivers that are not named are
// forgotten. It waits its turn among the changes.
func (s *Store) SetTold(ctx context.Context, told map[string]int64) error {
	list := []statement{{"DELETE FROM webhooks", nil}}
	for _, name := range slices.Sorted(maps.Keys(told)) {
		list = append(list, statement{"INSERT INTO webhooks (name, position) VALUES (?, ?)", []any{name, told[name]}})
	}
	return s.request(&request{ctx: ctx, what: "note how far the webhooks were told", list: list})
}
