package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/provision"
	"github.com/scalehook/scalehook/webhook"
)

// What has a schema.
const (
	schemaConfig    = "config"
	schemaProvision = "provision"
	schemaOpenAPI   = "openapi"
)

func schemaKinds() []string { return []string{schemaConfig, schemaProvision, schemaOpenAPI} }

func newSchemaCommand() *cobra.Command {
	var of string
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration, or the API's document",
		Long: `Print the JSON Schema (draft 2020-12) of the configuration file, or of a provisioning
file, for editors: completion, explanations and mistakes as one types. It refuses
nothing that the program takes, except a key without a value. What needs two values
to be compared, or a look at the drivers, only "scalehook check-config" finds.

"--of openapi" prints the OpenAPI 3.1 document of the HTTP API, which the server has at
/api/v1/openapi.json too, for generators of clients.`,
		Example: `  scalehook schema > scalehook.schema.json
  # then, as the first line of scalehook.yml, for the YAML language server:
  #   # yaml-language-server: $schema=scalehook.schema.json
  scalehook schema --of provision > provision.schema.json
  scalehook schema --of openapi > scalehook.openapi.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(schemaKinds(), of) {
				return usageError{fmt.Errorf("--of %q: must be one of %s", of, strings.Join(schemaKinds(), ", "))}
			}
			text := config.Schema()
			switch of {
			case schemaProvision:
				text = provision.Schema()
			case schemaOpenAPI:
				text = webhook.OpenAPI()
			}
			_, err := cmd.OutOrStdout().Write(text)
			return err
		},
	}
	cmd.Flags().StringVar(&of, "of", schemaConfig, "of what: "+strings.Join(schemaKinds(), ", "))
	return cmd
}
