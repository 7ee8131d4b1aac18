package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/delivery"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/webhook"
)

// errReported ends a command that has said already what is wrong.
var errReported = errors.New("see above")

func newCheckConfigCommand(r *remote) *cobra.Command {
	var file, webConfig string
	var monitoring monitoringFiles
	var offline, diff bool
	var format string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "check-config [FILE]",
		Short: "Check a configuration as serve would, without listening or acting",
		Long: `Check a configuration: its keys and values, the files it names and, unless
--offline, that the providers have what the groups need, the pools can be seen and
the sources answer. Nothing is changed. Every
problem is a line "file:line: what is wrong and what would be right"; --output json
has file, line, the key where it is known, and the severity: error, warning or effect.

With --alertmanager and --prometheus the configurations of those programs are examined
too, as "scalehook doctor" does with running ones: whether the scaling signals reach
scalehook and nobody else, often enough to keep the leases, whether the rules are there
and for the right intervals, and whether scalehook and an exporter are scraped. Nobody
is asked for that; the rule and token files that they name are read.

With --diff the running server is asked what it has in force, and every effect of
putting this configuration in its place is printed: what would be launched, removed,
adopted or released. Differences are no failure.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			if len(args) == 1 {
				file = args[0]
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			var groups []scaling.Group
			out := checked{stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr(), format: format, found: []found{}}
			warnings, err := checkConfig(ctx, file, webConfig, offline, &groups)
			out.add(severityWarning, warnings...)
			out.add(severityError, config.Problems(err)...)
			if err != nil {
				return out.end(nil)
			}
			err = errors.Join(out.fine(file), monitoring.check(&out, file, r.url))
			if err == nil && !out.failed() && diff {
				err = out.diff(ctx, r, groups)
			}
			return out.end(err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config.file", defaultConfigFile, "configuration file, if it is no argument")
	f.StringVar(&webConfig, "web.config.file", "", "exporter-toolkit's file to check too")
	monitoring.flags(cmd)
	f.BoolVar(&offline, "offline", false, "ask no provider, balancer or source")
	f.BoolVar(&diff, "diff", false, "print what this configuration would change at the running server")
	f.DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for all of them")
	r.connection(cmd)
	outputFlag(f, &format)
	return cmd
}

// checkConfig also fills in the groups that the file configures.
func checkConfig(ctx context.Context, file, webConfig string, offline bool, groups *[]scaling.Group) (warnings []config.Problem, err error) {
	c, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	runtime, err := c.Build(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer func() {
		// What does not end is what did not answer, and that is said.
		if closing := runtime.Close(); err == nil {
			err = closing
		}
	}()
	*groups = runtime.Groups
	list := tokens(runtime.Tokens)
	err = errors.Join(checkTokens(c, list), checkHooks(c, hooks(runtime.Webhooks)), webhook.CheckWebConfig(webConfig, len(list) > 0))
	if !offline {
		said, failed := runtime.Check(ctx)
		warnings, err = append(warnings, said...), errors.Join(err, failed)
	}
	return warnings, err
}

// checkHooks reads the secrets and certificates of the webhooks as the server will.
func checkHooks(c *config.Config, list []delivery.Hook) error {
	var errs []error
	for i := range list {
		if err := delivery.Check(list[i]); err != nil {
			errs = append(errs, c.WebhookProblem(i, err))
		}
	}
	return errors.Join(errs...)
}

// checkTokens reads the token files as the server will, and says of each that it
// would refuse where the configuration names it.
func checkTokens(c *config.Config, list []webhook.Token) error {
	var errs []error
	for i := range list {
		if err := webhook.CheckTokens(list[i : i+1]); err != nil {
			errs = append(errs, c.TokenProblem(i, err))
		}
	}
	return errors.Join(errs...)
}
