package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/deploy"
)

func newExampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "example NAME",
		Short:     "Print a snippet to merge into an existing configuration",
		Long:      "Print a commented snippet to merge into an existing configuration. There are:\n  " + strings.Join(deploy.Examples(), "\n  "),
		ValidArgs: deploy.Examples(),
		Args:      cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(deploy.Examples(), args[0]) {
				return usageError{fmt.Errorf("no example %q: there are %s", args[0], strings.Join(deploy.Examples(), ", "))}
			}
			text, err := deploy.Example(args[0])
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}
