package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/provision"
)

// snapshotFlags say what is made and what is kept.
type snapshotFlags struct {
	provision.SnapshotOptions

	keepGiven, remove, yes bool
	timeout                time.Duration
	output                 string
}

func newSnapshotCommand() *cobra.Command {
	var o snapshotFlags
	cmd := &cobra.Command{
		Use:   "snapshot FILE",
		Short: "Make a snapshot of the server that a provisioning file names, and remove old ones",
		Long: `Make a snapshot of the server that FILE names, or with --group of every server of a
scaling group in the file's cloud, wait until it is active, and remove all but the
newest. Only snapshots that scalehook made for the same file or group are counted and
removed; whatever else there is stays.

With --group and --remove none is made: the snapshots that are left of a group that was
taken down are listed, and with --yes removed, or with --keep all but the newest. A
group that has servers is refused: snapshots_keep bounds its snapshots.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.keepGiven = cmd.Flags().Changed("keep")
			if err := o.check(); err != nil {
				return usageError{err}
			}
			p, err := openProvision(cmd, args[0], nil)
			if err != nil {
				return err
			}
			defer p.Close()
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), o.timeout, fmt.Errorf("not done after %s (--timeout)", o.timeout))
			defer cancel()
			if o.remove {
				return o.job(p).do(ctx, cmd, p)
			}
			return o.make(ctx, cmd, p)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Group, "group", "", "make them of the servers of this scaling group")
	f.IntVar(&o.Keep, "keep", 0, "how many are kept (default: snapshot.keep of the file; with --remove none)")
	f.BoolVar(&o.remove, "remove", false, "with --group: make none, list those that are left of the group")
	f.BoolVar(&o.yes, "yes", false, "with --remove: remove them")
	cloudFlags(cmd, &o.timeout, &o.output, 20*time.Minute)
	return cmd
}

func (o snapshotFlags) check() error {
	switch {
	case o.remove && o.Group == "":
		return errors.New("--remove: only with --group; those of the file go with scalehook provision --cleanup or --destroy")
	case o.yes && !o.remove:
		return errors.New("--yes: only with --remove")
	case o.remove && o.Keep < 0:
		return fmt.Errorf("--keep %d: must be at least 0", o.Keep)
	case !o.remove && o.keepGiven && o.Keep < 1:
		return fmt.Errorf("--keep %d: must be at least 1", o.Keep)
	}
	return checkFormat(o.output)
}

// job lists or removes what is left of a group.
func (o snapshotFlags) job(p *provision.Provisioner) job {
	return job{
		plan: func(ctx context.Context) (provision.Plan, error) { return p.RemovalPlan(ctx, o.SnapshotOptions) },
		apply: func(ctx context.Context, say func(string)) (provision.Plan, error) {
			return p.RemoveSnapshots(ctx, o.SnapshotOptions, say)
		},
		list: !o.yes, output: o.output,
	}
}

func (o snapshotFlags) make(ctx context.Context, cmd *cobra.Command, p *provision.Provisioner) error {
	done, err := p.Snapshot(ctx, o.SnapshotOptions, func(step string) {
		if o.output == formatTable {
			fmt.Fprintln(cmd.ErrOrStderr(), step)
		}
	})
	if len(done.Made)+len(done.Removed) > 0 {
		if err := show(cmd.OutOrStdout(), o.output, done, showSnapshots); err != nil {
			return err
		}
	}
	return err
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
