package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

func newReleaseCommand(r *remote) *cobra.Command {
	var yes, dry bool
	cmd := r.flags(&cobra.Command{
		Use:   "release GROUP",
		Short: "Take scalehook's marks off a group and leave its VMs and members serving",
		Long: `List the VMs of a group and their members; with --yes take scalehook's marks off
them and do nothing for the group any more. VMs and members stay as they are: nothing
is stopped, moved or deleted. An activity takes the marks off, which a restart
finishes. It is refused while something is under way: pause the group first.

A group that was let go does nothing until "scalehook resume GROUP" has it begin anew, or
until the configuration has it no more. The members are in the balancer's running
configuration: write them into its file before it is reloaded.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, r, func(ctx context.Context, c *client.Client) (api.ReleaseResult, error) {
				return c.Release(ctx, args[0], yes && !dry)
			}, showRelease)
		},
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only list, also with --yes")
	return cmd
}

func showRelease(t *table, res api.ReleaseResult) {
	if len(res.VMs) > 0 {
		t.row("VM", "STATE", "ADOPTED", "MEMBER", "ADDRESS", "UUID", "ID")
		for _, vm := range res.VMs {
			state := vm.State
			if state == "" {
				state = "unknown to the group"
			}
			t.row(vm.Name, state, yes(vm.Adopted), dash(vm.Member), dash(vm.Address), dash(vm.UUID), vm.ID)
		}
	}
	t.linef("%s", res.Message)
	if res.Activity == "" && res.Before == nil {
		t.linef("to do it: --yes")
	}
}
