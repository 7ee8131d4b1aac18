package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/provision"
)

func newVerifyCommand() *cobra.Command {
	var timeout time.Duration
	var output string
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Try the provisioned server: its service, and what it reaches from inside",
		Long: `Try what the server that FILE names should be able to do: whether its service answers
at the floating IP, whether one can log in, and whether it resolves names and reaches
the outside from within. It logs in by ssh with the file's key, or reads the report
of the first boot from the console if the file has server.report.

One line per check, OK or what is wrong. What fails is tried again until --timeout is
over, since a guest takes its time to boot. Exit code 1 if anything is wrong.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
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
			checks, err := p.Verify(ctx)
			if err != nil {
				return err
			}
			return showChecks(cmd, output, checks)
		},
	}
	cloudFlags(cmd, &timeout, &output, 3*time.Minute)
	return cmd
}

// showChecks prints one line per check and fails if one did.
func showChecks(cmd *cobra.Command, output string, checks []provision.Check) error {
	err := show(cmd.OutOrStdout(), output, checks, func(t *table, checks []provision.Check) {
		for _, c := range checks {
			state := "OK"
			if !c.OK {
				state = "WRONG"
			}
			t.row(state, c.What, dash(c.Detail))
		}
	})
	if err == nil && provision.Failed(checks) {
		return errReported
	}
	return err
}
