package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/provision"
)

func newSnapshotCommand() *cobra.Command {
	var o provision.SnapshotOptions
	var timeout time.Duration
	var output string
	cmd := &cobra.Command{
		Use:   "snapshot FILE",
		Short: "Make a snapshot of the server that a provisioning file names, and remove old ones",
		Long: `Make a snapshot of the server that FILE names, or with --group of every server of a
scaling group in the file's cloud, wait until it is active, and remove all but the
newest. Only snapshots that scalehook made for the same file or group are counted and
removed; whatever else there is stays.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("keep") && o.Keep < 1 {
				return usageError{fmt.Errorf("--keep %d: must be at least 1", o.Keep)}
			}
			if err := checkFormat(output); err != nil {
				return err
			}
			p, err := openProvision(cmd, args[0], nil)
			if err != nil {
				return err
			}
			defer p.Close()
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("not done after %s (--timeout)", timeout))
			defer cancel()
			done, err := p.Snapshot(ctx, o, func(step string) {
				if output == formatTable {
					fmt.Fprintln(cmd.ErrOrStderr(), step)
				}
			})
			if len(done.Made)+len(done.Removed) > 0 {
				if err := show(cmd.OutOrStdout(), output, done, showSnapshots); err != nil {
					return err
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Group, "group", "", "make them of the servers of this scaling group")
	f.IntVar(&o.Keep, "keep", 0, "how many are kept (default: snapshot.keep of the file)")
	cloudFlags(cmd, &timeout, &output, 20*time.Minute)
	return cmd
}

func showSnapshots(t *table, s provision.Snapshots) {
	t.row("DONE", "SNAPSHOT", "ID", "SERVER")
	for _, i := range s.Made {
		t.row("made", i.Name, i.ID, i.Server)
	}
	for _, i := range s.Removed {
		t.row("removed", i.Name, i.ID, i.Server)
	}
}
