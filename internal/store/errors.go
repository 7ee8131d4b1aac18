package store

import (
	"errors"
	"fmt"

	"github.com/mattn/go-sqlite3"
)

// Errors of the store beside scaling.ErrFenced. Test with errors.Is.
var (
	// ErrInUse says that another process has the store open.
	ErrInUse = errors.New("the store is in use")
	// ErrNewerSchema says that a newer scalehook wrote the store.
	ErrNewerSchema = errors.New("the store was written by a newer scalehook")
	// ErrNotAStore says that the file is something else.
	ErrNotAStore = errors.New("not a scalehook store")
	// ErrCorrupt says that the file is damaged; a backup has to be restored.
	ErrCorrupt = errors.New("the store is damaged: restore a backup, or move it away to start paused and empty")
	// ErrFull says that the disk has no room. Nothing was written; the same call
	// works once there is room.
	ErrFull = errors.New("no room left on the store's disk")
	// ErrReadOnly says that the file or its folder cannot be written.
	ErrReadOnly = errors.New("the store cannot be written: look at the owner and mode of the file and its folder, and at the mount")
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("the store is closed")
)

// explain puts a sentinel in front of SQLite's errors that an operator can act on.
func explain(err error) error {
	var lite sqlite3.Error
	if !errors.As(err, &lite) {
		return err
	}
	var kind error
	// SQLite has dozens of codes; only these mean something to an operator.
	switch lite.Code {
	case sqlite3.ErrCorrupt:
		kind = ErrCorrupt
	case sqlite3.ErrNotADB:
		kind = ErrNotAStore
	case sqlite3.ErrFull:
		kind = ErrFull
	case sqlite3.ErrReadonly, sqlite3.ErrCantOpen, sqlite3.ErrPerm:
		kind = ErrReadOnly
	default:
		return err
	}
	return fmt.Errorf("%w (%w)", kind, err)
}
