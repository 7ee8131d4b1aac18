package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/rules"
)

func newRulesCommand() *cobra.Command {
	var opts rules.Options
	var compat, guests bool
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Print the Prometheus rules, for your scrape interval",
		Long: `Print the rule file for Prometheus. It is the same for any number of groups and
thresholds: those are series that scalehook publishes. Only the intervals of your
Prometheus are fixed in it; state the same ones in scalehook's configuration.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if compat && guests {
				return usageError{errors.New("--compat and --guests are two files: print them one after the other")}
			}
			for _, other := range []struct {
				asked bool
				flag  string
				text  func() []byte
			}{{compat, "--compat", rules.Compat}, {guests, "--guests", rules.Guests}} {
				if !other.asked {
					continue
				}
				if opts != (rules.Options{}) {
					return usageError{errors.New(other.flag + ": these rules depend on no interval")}
				}
				_, err := cmd.OutOrStdout().Write(other.text())
				return err
			}
			out, err := rules.Render(opts)
			if err != nil {
				return usageError{err}
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	f := cmd.Flags()
	f.DurationVar(&opts.ScrapeInterval, "scrape-interval", 0, "how often scalehook-exporter is scraped (default "+rules.DefaultScrapeInterval.String()+")")
	f.DurationVar(&opts.EvaluationInterval, "evaluation-interval", time.Duration(0), "how often the signals are evaluated (default: the scrape interval)")
	f.DurationVar(&opts.RateWindow, "rate-window", 0, "the span of the CPU rate (default: four scrape intervals)")
	f.BoolVar(&compat, "compat", false, "print the rules that map other libvirt exporters' series instead")
	f.BoolVar(&guests, "guests", false, "print the rules that take node-exporter's series from inside the VMs instead")
	return cmd
}
