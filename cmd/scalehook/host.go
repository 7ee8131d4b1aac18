package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/host"
)

// newHostCommand returns `scalehook host`: what a MicroStack host needs so that its
// guests reach the world. It needs no configuration file and no running server.
func newHostCommand() *cobra.Command {
	h := &hostFlags{config: host.Config{Bridge: host.DefaultBridge}}
	command := &cobra.Command{
		Use:   "host",
		Short: "Let a MicroStack host forward and masquerade for its guests",
		Long: `Let a MicroStack host forward and masquerade for its guests: IPv4 forwarding,
NAT by nftables in a table of its own, and an accept in the place that Docker, ufw or
firewalld offers where they would drop what is forwarded. Needs root.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := command.PersistentFlags()
	f.StringVar(&h.config.Bridge, "bridge", h.config.Bridge, "bridge of the guests' floating addresses")
	f.StringVar(&h.network, "network", "", "their network, such as 10.20.20.0/24; default: that of the bridge's address")
	f.StringVar(&h.config.Uplink, "uplink", "", "interface to the world; default: that of the default route with the lowest metric")
	outputFlag(f, &h.format)
	f.DurationVar(&h.timeout, "timeout", 5*time.Minute, "give up after this time")
	command.AddCommand(newHostApplyCommand(h), newHostShowCommand(h), newHostRemoveCommand(h))
	return command
}

type hostFlags struct {
	config  host.Config
	network string
	format  string
	timeout time.Duration
	dry     bool
}

// complete reads what cannot be a flag's value as it is.
func (h *hostFlags) complete() error {
	if err := checkFormat(h.format); err != nil {
		return err
	}
	if h.network != "" {
		network, err := netip.ParsePrefix(h.network)
		if err != nil {
			return usageError{fmt.Errorf("--network %q: use a network such as 10.20.20.0/24", h.network)}
		}
		h.config.Network = network
	}
	if h.config.Persist {
		program, err := os.Executable()
		if err == nil {
			program, err = filepath.EvalSymlinks(program)
		}
		if err != nil {
			return fmt.Errorf("find out where this program is: %w", err)
		}
		h.config.Program = program
	}
	return nil
}

func newHostApplyCommand(h *hostFlags) *cobra.Command {
	command := &cobra.Command{
		Use:   "apply",
		Short: "Turn on forwarding and NAT; may be run again at any time",
		Long: `Turn on forwarding and NAT. What is as it should be is not touched, so that it may
be run again at any time: after Docker or a firewall was installed, or the way out
changed. Without --persist it lasts until the next boot.

The exit code is 1 if a table of somebody else will drop the guests' packets all the
same; the command that helps is printed then.`,
		Example: `  sudo scalehook host apply --dry-run
  sudo scalehook host apply --persist`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := h.complete(); err != nil {
				return err
			}
			ctx, cancel := contextWithTimeout(cmd, h.timeout)
			defer cancel()
			report, err := host.Apply(ctx, h.config, h.dry)
			return errors.Join(h.print(cmd, report), err)
		},
	}
	command.Flags().BoolVar(&h.config.Persist, "persist", false, "keep it over a reboot: a file for sysctl and a unit for systemd")
	command.Flags().BoolVar(&h.dry, "dry-run", false, "print what would be done, and do nothing")
	return command
}

func newHostRemoveCommand(h *hostFlags) *cobra.Command {
	command := &cobra.Command{
		Use:   "remove",
		Short: "Take back all that apply did",
		Long: `Take back all that apply did: the table, the accepts in other firewalls' places, the
files of --persist. Forwarding is turned off again if it was off before and nobody
else came to need it.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := h.complete(); err != nil {
				return err
			}
			ctx, cancel := contextWithTimeout(cmd, h.timeout)
			defer cancel()
			report, err := host.Remove(ctx, h.config, h.dry)
			return errors.Join(h.print(cmd, report), err)
		},
	}
	command.Flags().BoolVar(&h.dry, "dry-run", false, "print what would be done, and do nothing")
	return command
}

// print writes what was done, and warnings to standard error.
func (h *hostFlags) print(cmd *cobra.Command, report host.Report) error {
	if h.format == formatTable {
		for _, w := range report.Warnings {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning:", w)
		}
	}
	return show(cmd.OutOrStdout(), h.format, report, func(t *table, r host.Report) {
		verb := "done: "
		if h.dry {
			verb = "would be done: "
		}
		for _, line := range r.Done {
			t.linef("%s%s", verb, line)
		}
		if len(r.Done) == 0 {
			t.linef("nothing to do")
		}
	})
}

func newHostShowCommand(h *hostFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show what is in force, and what would drop the guests' packets",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := h.complete(); err != nil {
				return err
			}
			ctx, cancel := contextWithTimeout(cmd, h.timeout)
			defer cancel()
			status, err := host.Show(ctx, h.config)
			if err != nil {
				return err
			}
			return show(cmd.OutOrStdout(), h.format, status, hostStatus)
		},
	}
}

func hostStatus(t *table, s host.Status) {
	t.row("way", s.Way.String())
	t.row("in force", yes(s.InForce))
	t.row("forwarding", yes(s.Forwarding))
	t.row("masquerades", yes(s.Masquerades))
	t.row("after a reboot", yes(s.Persistent))
	for _, c := range s.Chains {
		t.row(c.Name, string(c.Verdict)+suffix(c.Why))
	}
	for _, p := range s.Problems {
		t.linef("problem: %s", p)
	}
}

func suffix(why string) string {
	if why == "" {
		return ""
	}
	return " (" + why + ")"
}
