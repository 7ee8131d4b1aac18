package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/scalehook/scalehook/internal/store"
)

// storeFile is the store's database below --storage.path.
func storeFile(dir string) string { return filepath.Join(dir, "scalehook.db") }

// backupStopped copies the store of a server that does not run.
func backupStopped(ctx context.Context, dir, file string) error {
	if _, err := os.Stat(storeFile(dir)); err != nil {
		return during("look for the store", err)
	}
	return store.BackupStopped(ctx, storeFile(dir), file)
}
