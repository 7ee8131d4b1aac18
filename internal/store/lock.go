package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// lock holds the owner's lock on a file beside the database. The kernel lets go
// of it when the process dies, so there is no stale lock to clean up.
type lock struct{ file *os.File }

const lockSuffix = ".lock"

// takeLock locks the file beside the database or says who holds it. The file stays
// when the lock is given up: removing it would let two processes lock two files of
// one name.
func takeLock(database string) (*lock, error) {
	path := database + lockSuffix
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, readOnly(err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := io.ReadAll(io.LimitReader(file, 200))
		closeErr := file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("%w by %s: stop that one first (lock %s)", ErrInUse, describe(holder), path), closeErr)
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), closeErr)
	}
	if err := ownAs(path, database); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	// Who holds it is for the message above only; a full disk must not keep an
	// owner out that could otherwise at least say so.
	host, _ := os.Hostname()
	if file.Truncate(0) == nil {
		_, _ = fmt.Fprintf(file, "process %d on %s\n", os.Getpid(), host)
	}
	return &lock{file: file}, nil
}

func describe(holder []byte) string {
	if s := strings.TrimSpace(string(holder)); s != "" {
		return s
	}
	return "another process"
}

func (l *lock) release() error { return l.file.Close() }
