package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mattn/go-sqlite3"
)

// Backup implements scaling.Store. The copy is one file that can be opened in the
// place of the original: it is known as a backup then, and its groups start
// paused with their conditions unknown. The file appears complete or not at all.
func (s *Store) Backup(ctx context.Context, file string) error {
	path, err := filepath.Abs(file) // a relative one is no part of an URI
	if err == nil {
		err = s.copyTo(ctx, s.reader, path)
	}
	if err != nil {
		return fmt.Errorf("back up the store to %s: %w", file, explain(err))
	}
	return nil
}

// pagesPerStep bounds how long a backup runs without looking at its context.
const pagesPerStep = 1024

func (s *Store) copyTo(ctx context.Context, from *sql.DB, file string) (err error) {
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%w: choose a new name", os.ErrExist)
	}
	partial, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".partial-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, partial.Close(), os.Remove(partial.Name())) }()

	to, err := connect(partial.Name(), "rw", "immediate")
	if err != nil {
		return err
	}
	to.SetMaxOpenConns(1)
	err = errors.Join(s.copyPages(ctx, from, to), to.Close())
	if err != nil {
		return err
	}
	if err := partial.Sync(); err != nil {
		return err
	}
	// A link fails where a name is taken meanwhile; a rename would replace it.
	if err := os.Link(partial.Name(), file); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(file))
}

func (s *Store) copyPages(ctx context.Context, from, to *sql.DB) (err error) {
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
	_, err = target.ExecContext(ctx, "UPDATE fence SET backup_of = ?", stamp{s.now()})
	return err
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
