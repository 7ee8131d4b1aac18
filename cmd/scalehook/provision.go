package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/provision"
)

// provisionFlags say what is done with the file.
type provisionFlags struct {
	dryRun, destroy, cleanup, yes, noSnapshot bool
	keep                                      int
	keepGiven                                 bool
	options                                   provision.DestroyOptions
	timeout                                   time.Duration
	output                                    string
}

// provisioned is what provision prints as JSON.
type provisioned struct {
	Place string           `json:"place"`
	Items []provision.Item `json:"items"`
	Notes []string         `json:"notes,omitempty"`
	Steps []string         `json:"steps,omitempty"`
	// Pending says that something would be done and was not.
	Pending bool `json:"pending"`
}

func newProvisionCommand() *cobra.Command {
	var o provisionFlags
	cmd := &cobra.Command{
		Use:   "provision FILE",
		Short: "Make in a cloud what a group needs: network, key pair, first server, public address",
		Long: `Make in an OpenStack cloud what FILE asks for: network, subnet and router, security
group, key pair, server, floating IP, and a snapshot of the server once it is deployed.
"scalehook example provision" prints a file to begin with.

Everything is read first, and nothing is made while anything is wrong. What is there
already under the file's names is adopted: used, completed where that does no harm,
and never removed. Run it again at any time, also after a kill: it goes on where it
stopped, and does nothing if all is as the file says.

  --dry-run   prints the plan and changes nothing
  --destroy   removes all that was made for FILE and nothing that was adopted
  --cleanup   lists floating IPs and ports that nothing uses and snapshots that are
              not kept; with --yes removes those that were made for FILE

"scalehook cleanup" does the like for a group's VMs.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.keepGiven = cmd.Flags().Changed("keep")
			if err := o.check(); err != nil {
				return usageError{err}
			}
			return runProvision(cmd, args[0], o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.dryRun, "dry-run", false, "print the plan and change nothing")
	f.BoolVar(&o.destroy, "destroy", false, "remove all that was made for the file")
	f.BoolVar(&o.options.KeepSnapshots, "keep-snapshots", false, "with --destroy: leave the snapshots")
	f.BoolVar(&o.cleanup, "cleanup", false, "list what nobody needs any more")
	f.BoolVar(&o.yes, "yes", false, "with --cleanup: remove it")
	f.BoolVar(&o.noSnapshot, "no-snapshot", false, "make no snapshot after the deployment")
	f.IntVar(&o.keep, "keep", 0, "how many snapshots are kept (default: snapshot.keep of the file)")
	cloudFlags(cmd, &o.timeout, &o.output, 20*time.Minute)
	return cmd
}

// cloudFlags are those of every command that asks a cloud.
func cloudFlags(cmd *cobra.Command, timeout *time.Duration, output *string, within time.Duration) {
	f := cmd.Flags()
	f.DurationVar(timeout, "timeout", within, "how long all of it may take")
	outputFlag(f, output)
}

func (o provisionFlags) check() error {
	switch {
	case o.destroy && o.cleanup:
		return errors.New("--destroy and --cleanup: one at a time")
	case o.yes && !o.cleanup:
		return errors.New("--yes: only with --cleanup")
	case o.yes && o.dryRun:
		return errors.New("--yes and --dry-run: one at a time")
	case o.options.KeepSnapshots && !o.destroy:
		return errors.New("--keep-snapshots: only with --destroy")
	case o.keepGiven && o.keep < 1:
		return fmt.Errorf("--keep %d: must be at least 1", o.keep)
	case o.noSnapshot && o.keepGiven:
		return errors.New("--keep and --no-snapshot: one at a time")
	case o.noSnapshot && (o.cleanup || o.destroy):
		return errors.New("--no-snapshot: only where a snapshot would be made, not with --cleanup or --destroy")
	case o.keepGiven && o.destroy:
		return errors.New("--keep: not with --destroy, which removes all snapshots, or with --keep-snapshots none")
	}
	return checkFormat(o.output)
}

// openProvision reads the file and finds its cloud. What is wrong with the file is
// printed as it is: editors and people find the line.
func openProvision(cmd *cobra.Command, path string, change func(*provision.File) error) (*provision.Provisioner, error) {
	file, err := provision.Load(path)
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return nil, errReported
	}
	if change != nil {
		if err := change(file); err != nil {
			return nil, usageError{err}
		}
	}
	p, err := provision.Open(file, toStderr(cmd))
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return nil, errReported
	}
	return p, nil
}

// toStderr logs for people.
func toStderr(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func runProvision(cmd *cobra.Command, path string, o provisionFlags) error {
	p, err := openProvision(cmd, path, func(f *provision.File) error {
		if o.noSnapshot {
			f.Snapshot = nil
		}
		if o.keepGiven {
			return f.Keep(o.keep)
		}
		return nil
	})
	if err != nil {
		return err
	}
	defer p.Close()
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), o.timeout, fmt.Errorf("not done after %s (--timeout): run it again to go on", o.timeout))
	defer cancel()
	return o.job(p).do(ctx, cmd, p)
}

// job is what the flags ask for.
func (o provisionFlags) job(p *provision.Provisioner) job {
	j := job{plan: p.Plan, apply: p.Apply, list: o.dryRun || o.cleanup && !o.yes, output: o.output}
	switch {
	case o.destroy:
		j.plan = func(ctx context.Context) (provision.Plan, error) { return p.DestroyPlan(ctx, o.options) }
		j.apply = func(ctx context.Context, say func(string)) (provision.Plan, error) {
			return p.Destroy(ctx, o.options, say)
		}
	case o.cleanup:
		j.plan, j.apply = p.CleanupPlan, p.Cleanup
	}
	return j
}

// job is a plan that is listed or carried out.
type job struct {
	plan   func(context.Context) (provision.Plan, error)
	apply  func(context.Context, func(step string)) (provision.Plan, error)
	list   bool
	output string
}

// do carries it out and shows what came of it.
func (j job) do(ctx context.Context, cmd *cobra.Command, p *provision.Provisioner) error {
	out, err := j.run(ctx, cmd, p)
	if out.Items != nil || err == nil {
		if err := show(cmd.OutOrStdout(), j.output, out, showProvisioned); err != nil {
			return err
		}
	}
	if err != nil && len(out.Steps) > 0 && !errors.Is(err, errReported) {
		return fmt.Errorf("%w\nthe same command goes on from here", err)
	}
	return err
}

func (j job) run(ctx context.Context, cmd *cobra.Command, p *provision.Provisioner) (out provisioned, err error) {
	if out.Place, err = p.Place(ctx); err != nil {
		return out, err
	}
	var now provision.Plan
	if j.list {
		now, err = j.plan(ctx)
	} else {
		now, err = j.apply(ctx, func(step string) {
			out.Steps = append(out.Steps, step)
			if j.output == formatTable {
				fmt.Fprintln(cmd.ErrOrStderr(), step)
			}
		})
	}
	out.Items, out.Notes, out.Pending = now.Items, now.Notes, now.Pending()
	if problems := now.Err(); problems != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), problems)
		return out, errReported
	}
	return out, err
}

func showProvisioned(t *table, p provisioned) {
	t.linef("%s", p.Place)
	if len(p.Items) > 0 {
		t.row("PLAN", "KIND", "NAME", "ID", "REMARKS")
	}
	for _, it := range p.Items {
		t.row(string(it.Action), string(it.Kind), it.Name, dash(it.ID), dash(strings.Join(it.Details, "; ")))
	}
	for _, note := range p.Notes {
		t.linef("note: %s", note)
	}
	switch {
	case p.Pending:
		t.linef("not done: this is what would be")
	case len(p.Steps) == 0:
		t.linef("nothing to do")
	case len(p.Steps) == 1:
		t.linef("done in 1 step")
	default:
		t.linef("done in %d steps", len(p.Steps))
	}
}
