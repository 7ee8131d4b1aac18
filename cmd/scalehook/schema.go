package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/provision"
)

// The files that have a schema.
const (
	schemaConfig    = "config"
	schemaProvision = "provision"
)

func schemaKinds() []string { return []string{schemaConfig, schemaProvision} }

func newSchemaCommand() *cobra.Command {
	var of string
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration, for editors",
		Long: `Print the JSON Schema (draft 2020-12) of the configuration file, or of a provisioning
file, for editors: completion, explanations and mistakes as one types. It refuses
nothing that the program takes, except a key without a value. What needs two values
to be compared, or a look at the drivers, only "scalehook check-config" finds.`,
		Example: `  scalehook schema > scalehook.schema.json
  # then, as the first line of scalehook.yml, for the YAML language server:
  #   # yaml-language-server: $schema=scalehook.schema.json
  scalehook schema --of provision > provision.schema.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(schemaKinds(), of) {
				return usageError{fmt.Errorf("--of %q: must be %s", of, strings.Join(schemaKinds(), " or "))}
			}
			text := config.Schema()
			if of == schemaProvision {
				text = provision.Schema()
			}
			_, err := cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&of, "of", schemaConfig, "whose: "+strings.Join(schemaKinds(), " or "))
	return cmd
}
