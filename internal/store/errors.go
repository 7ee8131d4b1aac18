package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/mattn/go-sqlite3"

	"github.com/scalehook/scalehook/internal/scaling"
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
	ErrCorrupt = errors.New("the store is damaged: restore a backup with \"scalehook restore FILE\", which keeps the damaged one beside it")
	// ErrFull says that the disk has no room. Nothing was written; the same call
	// works once there is room.
	ErrFull = errors.New("no room left on the store's disk")
	// ErrReadOnly says that the file or its folder cannot be written.
	ErrReadOnly = errors.New("the store cannot be written: look at the owner and mode of the file and its folder, and at the mount")
	// ErrLocked says that another program, like an open sqlite3 shell, holds a
	// transaction on the database. Nothing was written; the same call works later.
	ErrLocked = errors.New("another program holds a transaction on the store")
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("the store is closed")
)

// readOnly puts ErrReadOnly in front of what the kernel says where a file or its
// folder cannot be written.
func readOnly(err error) error {
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return scaling.WithClass(scaling.Permanent, fmt.Errorf("%w (%w)", ErrReadOnly, err))
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return scaling.WithClass(scaling.Temporary, fmt.Errorf("%w (%w)", ErrFull, err))
	}
	return err
}

// explain puts a sentinel in front of SQLite's errors that an operator can act on,
// and classes them. An error of the disk itself stays of an unknown outcome.
func explain(err error) error {
	switch {
	case errors.Is(err, scaling.ErrFenced):
		return scaling.WithClass(scaling.Permanent, err)
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNotAStore), errors.Is(err, ErrNewerSchema):
		return scaling.WithClass(scaling.Permanent, err)
	case errors.Is(err, ErrClosed), errors.Is(err, ErrInUse):
		return scaling.WithClass(scaling.Temporary, err)
	}
	if errors.Is(err, ErrLocked) {
		return scaling.WithClass(scaling.Temporary, err)
	}
	lite, ok := errors.AsType[sqlite3.Error](err)
	if !ok {
		return err
	}
	// SQLite has dozens of codes; only these mean something to an operator.
	switch lite.Code {
	case sqlite3.ErrCorrupt:
		return because(scaling.Permanent, ErrCorrupt, err)
	case sqlite3.ErrNotADB:
		return because(scaling.Permanent, ErrNotAStore, err)
	case sqlite3.ErrFull:
		return because(scaling.Temporary, ErrFull, err)
	case sqlite3.ErrReadonly, sqlite3.ErrCantOpen, sqlite3.ErrPerm:
		return because(scaling.Permanent, ErrReadOnly, err)
	case sqlite3.ErrBusy, sqlite3.ErrLocked:
		return because(scaling.Temporary, ErrLocked, err)
	}
	return err
}

func because(class scaling.Class, kind, err error) error {
	if errors.Is(err, kind) {
		return scaling.WithClass(class, err)
	}
	return scaling.WithClass(class, fmt.Errorf("%w (%w)", kind, err))
}
