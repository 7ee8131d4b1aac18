package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Restored says what Restore did.
type Restored struct {
	MadeAt time.Time // when the backup was made; zero for a file that is no backup
	Groups []string  // that it has; they start paused
	Before string    // where the database that was there is kept; empty if there was none
}

// Restore puts a copy of the file from into the place of the store at path, which
// no process may have open (ErrInUse). What was there is kept beside it under the
// name path.before-restore-TIME, with its write-ahead log if it has one. The file from is only read: a backup, a copy that a migration made,
// or a database that was moved away. The next Open says OriginRestored.
//
// The database is exchanged by one rename: an interrupted Restore leaves the old
// or the new one, and may be called again.
func Restore(ctx context.Context, path, from string, clock func() time.Time) (Restored, error) {
	r, err := restore(ctx, path, from, clock())
	if err != nil {
		return Restored{}, fmt.Errorf("restore the store %s from %s: %w", path, from, explain(err))
	}
	return r, nil
}

func restore(ctx context.Context, path, from string, now time.Time) (r Restored, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return r, err
	}
	source, err := filepath.Abs(from)
	if err != nil {
		return r, err
	}
	if err := different(path, source); err != nil {
		return r, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return r, readOnly(err)
	}
	lock, err := takeLock(path)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, lock.release()) }()

	partial, err := fetch(ctx, path, source, now, &r)
	if err != nil {
		return r, err
	}
	defer func() {
		if removeErr := os.Remove(partial); !errors.Is(removeErr, fs.ErrNotExist) {
			err = errors.Join(err, removeErr)
		}
	}()
	if r.Before, err = setAside(path, now); err != nil {
		return r, fmt.Errorf("keep the database that is there: %w", err)
	}
	if err := os.Rename(partial, path); err != nil {
		return r, err
	}
	return r, syncFolder(filepath.Dir(path))
}

// different refuses to restore a store from itself.
func different(path, source string) error {
	from, err := os.Stat(source)
	if err != nil {
		return err
	}
	if there, err := os.Stat(path); err == nil && os.SameFile(there, from) {
		return errors.New("this is the store itself, not a copy of it")
	}
	return nil
}

// fetch checks the source and copies it to a partial file beside path.
func fetch(ctx context.Context, path, source string, now time.Time, r *Restored) (partial string, err error) {
	db, err := connect(source, "ro", "deferred", busyTimeout)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	version, err := inspect(ctx, db, "integrity_check")
	if err != nil {
		// What is said of a damaged store is wrong for a damaged backup.
		if explained := explain(err); errors.Is(explained, ErrCorrupt) {
			return "", scaling.Errorf(scaling.Permanent, "this copy is damaged, the store was left as it is: use another one (%w)", err)
		}
		return "", err
	}
	if err := db.QueryRowContext(ctx, "SELECT backup_of FROM fence").Scan(stampTo{&r.MadeAt}); err != nil {
		return "", err
	}
	if err := rows(ctx, db, func(scan scanner) error {
		r.Groups = append(r.Groups, "")
		return scan(&r.Groups[len(r.Groups)-1])
	}, "SELECT name FROM groups ORDER BY name"); err != nil {
		return "", err
	}
	marks := []statement{markBackup(now)}
	if version > 1 { // the first schema has no room for it
		marks = append(marks, statement{"UPDATE fence SET restored_from = ?, restored_at = ?", []any{source, stamp{now}}})
	}
	if partial, err = copyPartial(ctx, db, path, marks...); err != nil {
		return "", err
	}
	return partial, ownAs(partial, path)
}

// ownAs gives a file that root made to the owner of the one whose place it takes,
// or of its folder: the server runs as a user of its own.
func ownAs(file, like string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(like)
	if errors.Is(err, fs.ErrNotExist) {
		info, err = os.Stat(filepath.Dir(like))
	}
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		return os.Chown(file, int(owner.Uid), int(owner.Gid))
	}
	return nil
}

// setAside gives the database that is there a second name and takes its log away,
// which must not be applied to the one that comes. The log is not folded in: of a
// damaged database both are kept as they are. A process that ends in here leaves a
// database that is behind its mark.
func setAside(path string, now time.Time) (before string, err error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	before = path + ".before-restore-" + now.UTC().Format("20060102T150405.000Z")
	if err := os.Link(path, before); err != nil {
		return "", err
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Rename(path+suffix, before+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return before, syncFolder(filepath.Dir(path))
}
