package store

import (
	"context"
	"database/sql"
	"fmt"
)

// origins is what a database says about where it comes from.
type origins struct {
	store          string
	epoch, commits int64
	backupOf       sql.NullString // it is a backup made then
	restoredFrom   sql.NullString // scalehook restore put it here
	restoredAt     sql.NullString
}

func (o *origins) read(ctx context.Context, q querier) error {
	return q.QueryRowContext(ctx, "SELECT store, epoch, commits, backup_of, restored_from, restored_at FROM fence").
		Scan(&o.store, &o.epoch, &o.commits, &o.backupOf, &o.restoredFrom, &o.restoredAt)
}

// judge says what was opened: the database alone says that it is new or a backup,
// the mark that it is not the one that was here last.
func (o *origins) judge(origin Origin, last mark) (_ Origin, why string) {
	const then = ": compare with what exists, then resume"
	switch {
	case origin == OriginNew && last != (mark{}):
		return OriginLost, fmt.Sprintf("the store that was here (%d commits) is gone and a new one was begun: restore a backup, or go on with this one", last.commits)
	case origin == OriginNew:
		return origin, ""
	case o.backupOf.Valid && o.restoredFrom.Valid:
		return OriginRestored, fmt.Sprintf("restored from %s at %s", o.restoredFrom.String, short(o.restoredAt.String)) + then
	case o.backupOf.Valid:
		return OriginRestored, fmt.Sprintf("the store was restored from a backup of %s", short(o.backupOf.String)) + then
	case last == mark{}:
		return OriginKept, ""
	case o.store != "" && o.store != last.store:
		return OriginRestored, "another store was put in the place of the one that was here" + then
	case o.store == "" || o.epoch < last.epoch || o.commits < last.commits: // without an identity it is of before the mark
		return OriginRestored, fmt.Sprintf("the store is older than the one that was here: %d commits are missing, "+
			"an older copy was put in its place or its write-ahead log was lost", max(0, last.commits-o.commits)) + then
	}
	return OriginKept, ""
}

// short is a stamp without its decimals.
func short(stamp string) string {
	const seconds = len("2006-01-02T15:04:05")
	if len(stamp) <= seconds {
		return stamp
	}
	return stamp[:seconds] + "Z"
}

// pauseAll makes a state that may be long past harmless: conditions are unknown,
// and an order that waits may have been carried out since (orders do not heed a
// pause).
func pauseAll(ctx context.Context, tx *sql.Tx, why string, now stamp) error {
	for _, query := range []string{"DELETE FROM leases", "DELETE FROM orders"} {
		if _, err := tx.ExecContext(ctx, query); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `UPDATE groups SET paused = 1, pause_out = 1, pause_in = 1, pause_until = NULL,
		pause_by = 'scalehook', pause_reason = ?, paused_at = ?, pause_more = '{}'`, why, now)
	return err
}
