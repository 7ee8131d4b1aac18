package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

func newHealthyCommand(r *remote) *cobra.Command {
	ready := false
	cmd := &cobra.Command{
		Use:   "healthy",
		Short: "Say by the exit code whether the server answers",
		Long: `Ask a server, or with --url a scalehook-exporter, whether it is alive. It prints
nothing if so; it is for health checks of containers, where there is no curl. No
token is needed, and that of --token-file is not sent.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opts := r.options()
			opts.TokenFile = ""
			c, err := r.open(opts)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), r.timeout)
			defer cancel()
			return c.Healthy(ctx, ready)
		},
	}
	r.connection(cmd)
	cmd.Flags().DurationVar(&r.timeout, "timeout", 5*time.Second, "how long to wait for the server")
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether every provider was listed, too; scalehook-exporter does not know that")
	return cmd
}
