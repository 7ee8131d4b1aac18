package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/scalehook/scalehook/internal/store"
)

// storeFile is the store's database below --storage.path.
func storeFile(dir string) string { return filepath.Join(dir, "scalehook.db") }

// backupStopped copies the store of a server that does not run.
func backupStopped(ctx context.Context, dir, file string) (err error) {
	if _, err := os.Stat(storeFile(dir)); err != nil {
		return during("look for the store", err) // opening would make a new one
	}
	s, err := store.Open(ctx, storeFile(dir), store.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Backup(ctx, file)
}
