package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/store"
)

// restoreDeadline bounds the copying of a store.
const restoreDeadline = 10 * time.Minute

func newRestoreCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup in the place of a stopped server's store",
		Long: `Put a copy of FILE in the place of a stopped server's store. FILE is what
"scalehook backup" saved, or the copy of the store that was made before a new
version changed its schema; it is checked first and stays as it is. The database
that was there is kept beside it. While a server has the store open nothing is done.

The next start begins with every group paused in both directions, its conditions
unknown and its waiting orders dropped: what the backup knows of may have changed
since. Compare it with what exists, then resume group by group.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), restoreDeadline)
			defer cancel()
			done, err := store.Restore(ctx, storeFile(dir), args[0], time.Now)
			if errors.Is(err, store.ErrInUse) {
				return fmt.Errorf("stop the server before its store is restored: %w", err)
			}
			if err != nil {
				return err
			}
			return reportRestored(cmd.OutOrStdout(), args[0], storeFile(dir), done)
		},
	}
	cmd.Flags().StringVar(&dir, "storage.path", "data", "folder of the store")
	return cmd
}

// reportRestored tells what was done and what is left to do.
func reportRestored(w io.Writer, from, to string, done store.Restored) error {
	made := "not marked as a backup"
	if !done.MadeAt.IsZero() {
		made = "saved at " + done.MadeAt.Format(time.RFC3339)
	}
	text := fmt.Sprintf("restored %s from %s (%s, groups: %d)\n", to, from, made, len(done.Groups))
	if done.Before != "" {
		text += fmt.Sprintf("the database that was there is kept as %s\n", done.Before)
	}
	text += "the next start begins with every group paused: compare with \"scalehook groups\" and \"scalehook instances\", " +
		"then \"scalehook resume GROUP\"\n"
	_, err := io.WriteString(w, text)
	return err
}
