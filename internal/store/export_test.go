package store

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

// Migrations shows the tests how many schemas there were.
func Migrations() []migration { return migrations() }

// Impatient waits for other programs' transactions only so long.
func (o Options) Impatient(wait time.Duration) Options {
	o.busy = wait
	return o
}

// Path is where the store is.
func (s *Store) Path() string { return s.path }

// Limit lets the database grow by so many pages only, as a full disk would.
func (s *Store) Limit(ctx context.Context, more int) error {
	var pages int
	if err := s.conn.QueryRowContext(ctx, "PRAGMA page_count").Scan(&pages); err != nil {
		return err
	}
	return s.conn.QueryRowContext(ctx, fmt.Sprintf("PRAGMA max_page_count = %d", pages+more)).Scan(&pages)
}

// FailFlush lets the next flushes of the log fail.
func (s *Store) FailFlush(times int) {
	flush := s.flush
	s.flush = func() error {
		if times > 0 {
			times--
			return syscall.EIO
		}
		return flush()
	}
}

// PlanOfEndings is how SQLite finds the activities that ended.
func PlanOfEndings(ctx context.Context, s *Store) (plan string, err error) {
	var id, parent, unused int
	err = s.reader.QueryRowContext(ctx, "EXPLAIN QUERY PLAN "+s.endingsQuery(), 0, 100).Scan(&id, &parent, &unused, &plan)
	return plan, err
}
