// Command scalehook is the server (scalehook serve) and the operator's command
// line to it. Each subcommand has a small file of its own.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

// The exit codes. Scripts may rely on them.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitRefused     = 3 // understood, and against bounds, protection, mode or rights
	exitUnavailable = 4 // no answer, or "try again"
)

func main() {
	// The first signal asks for the end, the second is not caught any more.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	code := execute(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute is the program without the process: it returns the exit code.
func execute(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	root := newRootCommand(getenv) //nolint:contextcheck // commands get the context from ExecuteContext
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintln(stderr, "scalehook:", err)
	}
	return exitCode(err)
}

// usageError is an error of whoever typed the command.
type usageError struct{ err error }

// Error returns the reason.
func (e usageError) Error() string { return e.err.Error() }

// Unwrap returns what is wrong.
func (e usageError) Unwrap() error { return e.err }

func exitCode(err error) int {
	if _, wrong := errors.AsType[usageError](err); wrong {
		return exitUsage
	}
	answer, answered := errors.AsType[*client.Error](err)
	if !answered {
		if errors.Is(err, client.ErrUnreachable) {
			return exitUnavailable
		}
		return exitFailed
	}
	switch answer.Type {
	case api.ErrorRefused, api.ErrorKeyReused, api.ErrorForbidden, api.ErrorUnauthorized:
		return exitRefused
	case api.ErrorUnavailable:
		return exitUnavailable
	case api.ErrorBadData, api.ErrorNotFound, api.ErrorTooLarge, api.ErrorInternal:
	}
	return exitFailed
}

// newRootCommand returns the whole command line. getenv reads the environment.
func newRootCommand(getenv func(string) string) *cobra.Command {
	root := &cobra.Command{
		Use:   "scalehook",
		Short: "Autoscaling groups for VMs on libvirt and OpenStack, driven by Prometheus",
		Long: `scalehook keeps groups of VMs as large as their load asks for: Prometheus sees the
load, Alertmanager posts, scalehook clones VMs and puts them behind a balancer, and
drains and removes them again.

"scalehook serve" is the server. The other commands ask a running server
(groups, instances, activities, explain, top, healthy), give it orders (scale-out, scale-in,
set-desired, handover, pause, resume, protect, standby, cleanup, release, reload,
backup), print or make what a set-up needs (check-config, rules, example,
template, host), or make and try what a group needs in a cloud (provision, snapshot,
verify, doctor).

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by the server, 4 the server
cannot be reached or asks to try again.`,
		Version:       version.Print("scalehook"),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	})
	root.AddGroup(
		&cobra.Group{ID: "server", Title: "Server:"},
		&cobra.Group{ID: "show", Title: "Ask a running server:"},
		&cobra.Group{ID: "order", Title: "Give orders:"},
		&cobra.Group{ID: "setup", Title: "Set up:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			c.Args = usageArgs(c.Args)
			root.AddCommand(c)
		}
	}
	remote := newRemote(getenv)
	add("server", newServeCommand(), newCheckConfigCommand(remote), newRestoreCommand(), newVersionCommand(), newHealthyCommand(remote))
	add("show", newGroupsCommand(remote), newInstancesCommand(remote), newActivitiesCommand(remote), newExplainCommand(remote), newTopCommand(remote, getenv))
	add("order", newScaleOutCommand(remote), newScaleInCommand(remote), newSetDesiredCommand(remote), newHandoverCommand(remote),
		newPauseCommand(remote), newResumeCommand(remote), newProtectCommand(remote), newStandbyCommand(remote), newCleanupCommand(remote), newReleaseCommand(remote), newReloadCommand(remote), newBackupCommand(remote))
	add("setup", newRulesCommand(), newSchemaCommand(), newExampleCommand(), newTemplateCommand(), newHostCommand())
	add("setup", newProvisionCommand(), newSnapshotCommand(), newVerifyCommand(), newDoctorCommand(remote), newSuggestCommand(), newManCommand(getenv))
	root.AddCommand(newExitCodesTopic())
	root.SetCompletionCommandGroupID("setup")
	addExamples(root)
	completions(root, remote)
	return root
}

// usageArgs makes what is wrong with the arguments an error of usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		if err := check(cmd, args); err != nil {
			return usageError{fmt.Errorf("%w\nusage: %s", err, cmd.UseLine())}
		}
		return nil
	}
}
