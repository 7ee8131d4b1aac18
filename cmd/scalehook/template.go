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
		Long: `Bring a group's image into a libvirt pool: a file that is there already (import), or
one that is made from a distribution's cloud image (build).`,
		Args: cobra.NoArgs,
	}
	command.PersistentFlags().StringVar(&cfg.URI, "uri", cfg.URI, "libvirt connection URI")
	command.PersistentFlags().DurationVar(&timeout, "timeout", time.Hour, "give up after this time")
	command.AddCommand(newTemplateImportCommand(&cfg, &timeout), newTemplateBuildCommand(&cfg, &timeout))
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
		Args: usageArgs(cobra.ExactArgs(1)),
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

func newTemplateBuildCommand(cfg *libvirt.Config, timeout *time.Duration) *cobra.Command {
	opts := libvirt.DefaultBuildOptions()
	memory, disk, domainType := opts.Memory.String(), "", string(opts.DomainType)
	command := &cobra.Command{
		Use:   "build BASE",
		Short: "Boot a cloud image once, run commands in it, and keep it as a read-only image",
		Long: `Boot a cloud image once, run commands in it, and keep it as a read-only image.

BASE is a qcow2 file with cloud-init inside. It is booted on a copy with either
  --run COMMAND        commands of a shell, in order; afterwards the guest is
                       cleaned up for cloning and powered off
  --user-data FILE     a user-data of your own, which has to power the guest off
The VM that is booted and its disk are removed at the end.`,
		Example: `  scalehook template build debian-12-genericcloud-amd64.qcow2 --name web-1.qcow2 \
      --run 'apt-get update' --run 'apt-get install -y nginx'`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			opts.File, opts.DomainType = args[0], libvirt.DomainType(domainType)
			if opts.Memory, err = libvirt.ParseSize(memory); err != nil {
				return usageError{fmt.Errorf("--memory: %w", err)}
			}
			if disk != "" {
				if opts.Disk, err = libvirt.ParseSize(disk); err != nil {
					return usageError{fmt.Errorf("--disk: %w", err)}
				}
			}
			ctx, cancel := contextWithTimeout(cmd, *timeout)
			defer cancel()
			image, err := libvirt.Build(ctx, *cfg, opts, templateLog(cmd))
			if err != nil {
				return err
			}
			return printImage(cmd, image)
		},
	}
	imageFlags(command, &opts.Pool, &opts.Name)
	flags := command.Flags()
	flags.StringArrayVar(&opts.Run, "run", nil, "shell command to run in the guest; may be repeated")
	flags.StringVar(&opts.UserData, "user-data", "", "file with a user-data that powers the guest off at its end")
	flags.StringVar(&memory, "memory", memory, "the guest's memory")
	flags.UintVar(&opts.VCPUs, "vcpus", opts.VCPUs, "the guest's vCPUs")
	flags.StringVar(&disk, "disk", disk, "virtual size of the image's disk; default that of the base")
	flags.StringVar(&opts.Network, "network", opts.Network, "libvirt network")
	flags.StringVar(&domainType, "domain-type", domainType, "kvm, qemu or auto")
	flags.StringVar(&opts.Firmware, "firmware", opts.Firmware, "bios or efi")
	return command
}

func imageFlags(command *cobra.Command, pool, name *string) {
	command.Flags().StringVar(pool, "pool", "default", "storage pool")
	command.Flags().StringVar(name, "name", "", "name of the image, such as web-1.qcow2 (required)")
	command.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if *name == "" {
			return usageError{fmt.Errorf("--name is missing (see %s --help)", cmd.CommandPath())}
		}
		return nil
	}
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
