package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"

	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/exporter"
	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/delivery"
	"github.com/scalehook/scalehook/internal/doctor"
	"github.com/scalehook/scalehook/webhook"
)

// lookAtPath examines everything that the configuration names.
func (o doctorFlags) lookAtPath(ctx context.Context, cmd *cobra.Command, r *remote) (err error) {
	c, err := config.Load(o.configFile)
	if err != nil {
		// Without a prefix: editors and people find the file and the line.
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return errReported
	}
	runtime, err := c.Build(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), err)
		return errReported
	}
	defer func() {
		if closing := runtime.Close(); err == nil {
			err = closing
		}
	}()
	server, err := r.client()
	if err != nil {
		return err
	}
	list, receivers := tokens(runtime.Tokens), hooks(runtime.Webhooks)
	checks := doctor.Live{
		Config: c, Runtime: runtime, Server: server, ServerURL: r.url, TokenFile: r.tokenFile,
		Version: version.Version, Receivers: o.receivers,
		CheckToken: func(i int) error {
			if err := webhook.CheckTokens(list[i : i+1]); err != nil {
				return c.TokenProblem(i, err)
			}
			return nil
		},
		CheckWebhook: func(i int) error {
			if err := delivery.Check(receivers[i]); err != nil {
				return c.WebhookProblem(i, err)
			}
			return nil
		},
	}.Examine(ctx)
	checks = append([]doctor.Check{rights(os.Geteuid(), o.serviceUser, machineAccounts(), neededBy(o.configFile, c))}, checks...)
	if socketHere(c) {
		found := hypervisor(context.WithoutCancel(ctx), exporter.KnownSockets()) // which bounds itself
		checks = append(checks, doctor.Check{Part: doctor.PartProviders, What: found.What, OK: found.OK, Detail: found.Detail})
	}
	return showPath(cmd, o.output, checks)
}

// socketHere reports whether a provider is the libvirt of this machine, so that the
// exporter that reads it is to be here as well.
func socketHere(c *config.Config) bool {
	for _, p := range c.Providers {
		if p.Libvirt == nil {
			continue
		}
		if u, err := url.Parse(p.Libvirt.URI); err == nil && u.Scheme == "qemu" && u.Host == "" && u.Path == "/system" {
			return true
		}
	}
	return false
}

// showPath prints one line per check, part by part, and fails if one did.
func showPath(cmd *cobra.Command, output string, checks []doctor.Check) error {
	err := show(cmd.OutOrStdout(), output, checks, func(t *table, checks []doctor.Check) {
		for _, c := range checks {
			state := "OK"
			switch {
			case !c.OK:
				state = "WRONG"
			case c.Warning:
				state = "WARN"
			}
			t.row(state, c.Part, c.What, dash(c.Detail))
		}
		t.linef("%s", doctor.Summary(checks))
	})
	if err == nil && doctor.Failed(checks) {
		return errReported
	}
	return err
}
