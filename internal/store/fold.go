package store

import (
	"context"
	"fmt"
)

// The write-ahead log is moved into the database ("folded in") beside the writer,
// every foldEvery commits, so that no commit waits for it. What is written
// meanwhile stays in the log, which therefore grows under a steady load; once it
// has logPages pages, 16 MiB, the writer folds in the little that is left and
// begins it anew.
const (
	foldEvery = 64
	logPages  = 4096
	pageSize  = 4096
)

// nudge asks for the log to be folded in soon. It waits for nothing.
func (s *Store) nudge() {
	if s.commits%foldEvery != 0 {
		return
	}
	select {
	case s.nudged <- struct{}{}:
	default:
	}
}

// foldBehind folds the log in whenever it is asked for, until the store is closed.
func (s *Store) foldBehind() {
	defer close(s.folded)
	failed := false
	for {
		select {
		case <-s.closing:
			return
		case <-s.nudged:
		}
		var busy, frames, moved int
		err := s.folder.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &moved)
		if err != nil && !failed {
			// Nothing is lost: it stays in the log.
			s.log.Warn("the store's log cannot be moved into the database", "store", s.path, "err", explain(err))
		}
		failed = err != nil
	}
}

// fold moves all of the log into the database, flushes that and empties the log.
// It is the writer's.
func (s *Store) fold(ctx context.Context) error {
	var busy, frames, moved int
	if err := s.conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &moved); err != nil {
		return err
	}
	if busy != 0 {
		return fmt.Errorf("%w: the log cannot be emptied after a flush of it failed", ErrLocked)
	}
	return nil
}
