package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/deploy"
	"github.com/scalehook/scalehook/internal/merge"
)

func newExampleCommand() *cobra.Command {
	var into string
	cmd := &cobra.Command{
		Use:   "example NAME",
		Short: "Print a snippet to merge into an existing configuration",
		Long: "Print a commented snippet to merge into an existing configuration. There are:\n  " + strings.Join(deploy.Examples(), "\n  ") +
			"\n\nWith --merge FILE it prints what is to be added to that file, as a patch; nothing is\nwritten. That works for " + strings.Join(merge.Kinds(), ", ") + ".",
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
			if cmd.Flags().Changed("merge") {
				return printMerge(cmd, args[0], into, text)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&into, "merge", "", "print a patch that adds the snippet to this `FILE`")
	return cmd
}

// printMerge prints the patch, and beside it what the file has already.
func printMerge(cmd *cobra.Command, name, file string, example []byte) error {
	if !slices.Contains(merge.Kinds(), name) {
		return usageError{fmt.Errorf("--merge: example %q is a file of its own: only %s are merged", name, strings.Join(merge.Kinds(), ", "))}
	}
	// Where a relative path in the file leads depends on where it lies.
	path, err := filepath.Abs(file)
	if err != nil {
		return fmt.Errorf("--merge %s: %w", file, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--merge: %w", err)
	}
	m, err := merge.Into(name, path, text, example)
	if err != nil {
		return err
	}
	for _, there := range m.There {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", file, there)
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), m.Patch(path, text))
	return err
}
