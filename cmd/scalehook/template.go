package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/provider/libvirt"
)

// newTemplateCommand returns `scalehook template`, which brings images into a
// libvirt pool. It needs no configuration file and no running server.
func newTemplateCommand() *cobra.Command {
	cfg := libvirt.DefaultConfig()
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "template",
		Short: "Bring a group's image into a libvirt pool",
		Args:  cobra.NoArgs,
	}
	command.PersistentFlags().StringVar(&cfg.URI, "uri", cfg.URI, "libvirt connection URI")
	command.PersistentFlags().DurationVar(&timeout, "timeout", time.Hour, "give up after this time")
	command.AddCommand(newTemplateImportCommand(&cfg, &timeout))
	return command
}

func newTemplateImportCommand(cfg *libvirt.Config, timeout *time.Duration) *cobra.Command {
	var opts libvirt.ImportOptions
	command := &cobra.Command{
		Use:   "import FILE",
		Short: "Copy a qcow2 file into a pool as a read-only image, and record its hash",
		Long: `Copy a qcow2 file into a pool as a read-only image, and record its hash.

The image is never changed afterwards: a new one gets a new name. Run again
after an interruption, the import goes on.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.File = args[0]
			ctx, cancel := contextWithTimeout(cmd, *timeout)
			defer cancel()
			image, err := libvirt.Import(ctx, *cfg, opts, templateLog(cmd))
			if err != nil {
				return err
			}
			return printImage(cmd, image)
		},
	}
	imageFlags(command, &opts.Pool, &opts.Name)
	return command
}

func imageFlags(command *cobra.Command, pool, name *string) {
	command.Flags().StringVar(pool, "pool", "default", "storage pool")
	command.Flags().StringVar(name, "name", "", "name of the image, such as web-1.qcow2")
	// It fails only for a flag that does not exist.
	_ = command.MarkFlagRequired("name")
}

func printImage(cmd *cobra.Command, image libvirt.Image) error {
	what := "imported"
	if image.Existed {
		what = "was imported already"
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n  path    %s\n  sha256  %s\n  disk    %v\n\nA group uses it with:\n  pool: %s\n  image: %s\n",
		image.Name, what, image.Path, image.SHA256, libvirt.Size(image.VirtualSize), image.Pool, image.Name)
	return err
}

func contextWithTimeout(cmd *cobra.Command, timeout time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(cmd.Context(), timeout)
}

func templateLog(cmd *cobra.Command) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
}
