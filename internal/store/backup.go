package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/mattn/go-sqlite3"
)

// Backup implements scaling.Store. The copy is one file that can be opened in the
// place of the original: it is known as a backup then, and its groups start
// paused with their conditions unknown. The file appears complete or not at all.
func (s *Store) Backup(ctx context.Context, file string) error {
	path, err := filepath.Abs(file) // a relative one is no part of an URI
	if err == nil {
		err = copyTo(ctx, s.reader, path, markBackup(s.now()))
	}
	if err != nil {
		return fmt.Errorf("back up the store to %s: %w", file, explain(err))
	}
	return nil
}

// BackupStopped is Backup for a store that no process has open: it takes the lock,
// but neither the next epoch nor anything else of the store. ErrInUse means that a
// server has it.
func BackupStopped(ctx context.Context, path, file string) error {
	if err := backupStopped(ctx, path, file); err != nil {
		return fmt.Errorf("back up the store %s to %s: %w", path, file, explain(err))
	}
	return nil
}

func backupStopped(ctx context.Context, path, file string) (err error) {
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if file, err = filepath.Abs(file); err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return err // a connection would make a new one
	}
	lock, err := takeLock(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.release()) }()
	db, err := connect(path, "rw", "deferred", busyTimeout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := inspect(ctx, db, "quick_check"); err != nil {
		return err
	}
	return copyTo(ctx, db, file, markBackup(time.Now()))
}

// markBackup returns what makes a copy known as a backup. A copy of a backup that
// was never opened stays what it is.
func markBackup(at time.Time) statement {
	return statement{"UPDATE fence SET backup_of = coalesce(backup_of, ?)", []any{stamp{at}}}
}

// pagesPerStep bounds how long a backup runs without looking at its context.
const pagesPerStep = 1024

// copyTo copies the database to a new file, which appears complete or not at all,
// with its mode and owner like those of the folder's other files.
func copyTo(ctx context.Context, from *sql.DB, file string, marks ...statement) (err error) {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%w: choose a new name", os.ErrExist)
	}
	partial, err := copyPartial(ctx, from, file, marks...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(partial)) }()
	// A link fails where a name is taken meanwhile; a rename would replace it.
	if err := os.Link(partial, file); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(file))
}

// removePartial removes what killed copies and restores of the store left beside
// it. Whoever has the lock is the only one to make them.
func removePartial(path string) {
	left, _ := filepath.Glob(globQuote(filepath.Join(filepath.Dir(path), "."+filepath.Base(path))) + "*.partial-*")
	for _, file := range left {
		_ = os.Remove(file) // it costs room, nothing more
	}
}

// copyPartial copies the database to a file that is still to get the name file.
func copyPartial(ctx context.Context, from *sql.DB, file string, marks ...statement) (name string, err error) {
	partial, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".partial-*")
	if err != nil {
		return "", readOnly(err)
	}
	defer func() {
		err = errors.Join(err, partial.Close())
		if err != nil {
			err = errors.Join(err, os.Remove(partial.Name()))
		}
	}()
	to, err := connect(partial.Name(), "rw", "immediate", busyTimeout)
	if err != nil {
		return "", err
	}
	to.SetMaxOpenConns(1)
	if err := errors.Join(copyPages(ctx, from, to, marks), to.Close()); err != nil {
		return "", err
	}
	return partial.Name(), partial.Sync()
}

func copyPages(ctx context.Context, from, to *sql.DB, marks []statement) (err error) {
	source, err := from.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	// A read transaction pins what is copied; without it every commit meanwhile
	// would start the copy anew.
	if _, err := source.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	defer func() {
		_, rollbackErr := source.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		err = errors.Join(err, rollbackErr)
	}()
	var epoch int64
	if err := source.QueryRowContext(ctx, "SELECT epoch FROM fence").Scan(&epoch); err != nil {
		return err
	}
	target, err := to.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	err = source.Raw(func(src any) error {
		return target.Raw(func(dst any) error {
			return copyAll(ctx, dst.(*sqlite3.SQLiteConn), src.(*sqlite3.SQLiteConn))
		})
	})
	if err != nil {
		return err
	}
	// One file that needs no log beside it, and that says what it is.
	if _, err := target.ExecContext(ctx, "PRAGMA journal_mode = DELETE"); err != nil {
		return err
	}
	for _, st := range marks {
		if _, err := target.ExecContext(ctx, st.query, st.args...); err != nil {
			return err
		}
	}
	return nil
}

func copyAll(ctx context.Context, to, from *sqlite3.SQLiteConn) (err error) {
	backup, err := to.Backup("main", from, "main")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, backup.Close()) }()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		done, err := backup.Step(pagesPerStep)
		if err != nil {
			return err
		}
		if done {
			return nil
		}
	}
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
