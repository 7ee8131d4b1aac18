package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

func newBackupCommand(r *remote) *cobra.Command {
	var storage string
	cmd := r.flags(&cobra.Command{
		Use:   "backup FILE",
		Short: "Save a consistent copy of the store into a new file",
		Long: `Save a consistent copy of the server's store into a new file. The running server
makes it with SQLite's back-up API; copying the live files would lose intents.
For a server that is stopped, name its folder with --storage.path instead.
"scalehook restore" puts it back; a restored copy starts with every group paused.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			save := func(ctx context.Context, file string) error { return r.backup(ctx, file) }
			if storage != "" {
				save = func(ctx context.Context, file string) error { return backupStopped(ctx, storage, file) }
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), max(r.timeout, 10*time.Minute))
			defer cancel()
			if err := save(ctx, args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "saved to %s\n", args[0])
			return err
		},
	})
	cmd.Flags().StringVar(&storage, "storage.path", "", "the folder of a stopped server's store")
	return cmd
}

// backup writes what the server sends to a new file, which appears complete or
// not at all.
func (r *remote) backup(ctx context.Context, file string) (err error) {
	c, err := r.client()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(file); err == nil {
		return fmt.Errorf("%s: %w: choose a new name", file, os.ErrExist)
	}
	partial, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".partial-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(partial.Name())) }()
	header := &sqliteCheck{w: partial}
	err = c.Backup(ctx, header)
	if err == nil && !header.seen {
		err = errors.New("the server sent no SQLite database")
	}
	err = errors.Join(err, partial.Sync(), partial.Close())
	if err != nil {
		return err
	}
	// A link fails where the name is taken meanwhile; a rename would replace it.
	return os.Link(partial.Name(), file)
}

// sqliteCheck sees whether what passes begins like a SQLite database.
type sqliteCheck struct {
	w    io.Writer
	head []byte
	seen bool
}

// Write passes on.
func (s *sqliteCheck) Write(p []byte) (int, error) {
	const magic = "SQLite format 3\x00"
	if len(s.head) < len(magic) {
		s.head = append(s.head, p[:min(len(p), len(magic)-len(s.head))]...)
		s.seen = string(s.head) == magic
	}
	return s.w.Write(p)
}
