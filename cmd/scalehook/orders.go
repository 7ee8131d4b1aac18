package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

// orderFlags are what orders have in common.
type orderFlags struct {
	count    int
	instance string
	hold     time.Duration
	key      string
}

func (o *orderFlags) common(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&o.hold, "hold", 0, "suspend automatic steps for that long afterwards")
	cmd.Flags().StringVar(&o.key, "idempotency-key", "", "make the order safe to send again for 24 h")
}

func (o *orderFlags) countFlag(cmd *cobra.Command) {
	cmd.Flags().IntVarP(&o.count, "count", "n", 1, "how many instances")
}

func (o *orderFlags) instanceFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.instance, "instance", "", "which one goes, by VM name or id (default: by the group's policy)")
}

func (o *orderFlags) request() api.OrderRequest {
	return api.OrderRequest{Instance: o.instance, Hold: api.Duration(o.hold)}
}

// order sends one and prints what was answered.
func order(cmd *cobra.Command, r *remote, send func(context.Context, *client.Client) (api.OrderResult, error)) error {
	return ask(cmd, r, send, func(t *table, res api.OrderResult) {
		again := ""
		if res.Replayed {
			again = " (taken before)"
		}
		t.linef("order %s%s: %s", res.ID, again, res.Message)
	})
}

func newScaleOutCommand(r *remote) *cobra.Command {
	var o orderFlags
	cmd := r.flags(&cobra.Command{
		Use:   "scale-out GROUP",
		Short: "Add instances, without any alert",
		Long: `Add instances to a group. The order skips conditions and cooldown, never the
group's bounds or budgets, and starts the cooldown of both directions.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := o.request()
			req.Count = &o.count
			return order(cmd, r, func(ctx context.Context, c *client.Client) (api.OrderResult, error) {
				return c.ScaleOut(ctx, args[0], o.key, req)
			})
		},
	})
	o.common(cmd)
	o.countFlag(cmd)
	return cmd
}

func newScaleInCommand(r *remote) *cobra.Command {
	var o orderFlags
	cmd := r.flags(&cobra.Command{
		Use:   "scale-in GROUP",
		Short: "Drain and remove instances, without any alert",
		Long: `Drain and remove instances of a group. The order skips conditions and cooldown,
never the group's bounds, protection, budgets or drain. Removing the primary is a
handover.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := o.request()
			req.Count = &o.count
			return order(cmd, r, func(ctx context.Context, c *client.Client) (api.OrderResult, error) {
				return c.ScaleIn(ctx, args[0], o.key, req)
			})
		},
	})
	o.common(cmd)
	o.countFlag(cmd)
	o.instanceFlag(cmd)
	return cmd
}

func newSetDesiredCommand(r *remote) *cobra.Command {
	var o orderFlags
	cmd := r.flags(&cobra.Command{
		Use:   "set-desired GROUP COUNT",
		Short: "Bring a group to a number of instances",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := parseCount(args[1])
			if err != nil {
				return err
			}
			req := o.request()
			req.Count = &n
			return order(cmd, r, func(ctx context.Context, c *client.Client) (api.OrderResult, error) {
				return c.SetDesired(ctx, args[0], o.key, req)
			})
		},
	})
	o.common(cmd)
	return cmd
}

func newHandoverCommand(r *remote) *cobra.Command {
	var o orderFlags
	cmd := r.flags(&cobra.Command{
		Use:   "handover GROUP",
		Short: "Put a successor in the place of the primary, then drain and remove it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return order(cmd, r, func(ctx context.Context, c *client.Client) (api.OrderResult, error) {
				return c.Handover(ctx, args[0], o.key, o.request())
			})
		},
	})
	o.common(cmd)
	o.instanceFlag(cmd)
	return cmd
}

// done prints the message of an answer.
func done(t *table, d api.Done) { t.linef("%s", d.Message) }

func newPauseCommand(r *remote) *cobra.Command {
	var req api.PauseRequest
	var length time.Duration
	cmd := r.flags(&cobra.Command{
		Use:   "pause GROUP",
		Short: "Keep automatic steps from beginning; what is under way goes on",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.For = api.Duration(length)
			return ask(cmd, r, func(ctx context.Context, c *client.Client) (api.Done, error) {
				return c.Pause(ctx, args[0], req)
			}, done)
		},
	})
	cmd.Flags().StringVar(&req.Direction, "direction", "both", "which steps: out, in or both")
	cmd.Flags().DurationVar(&length, "for", 0, "for how long (default: until resumed)")
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for those who look")
	return cmd
}

func newResumeCommand(r *remote) *cobra.Command {
	var force bool
	cmd := r.flags(&cobra.Command{
		Use:   "resume GROUP",
		Short: "End a pause and a hold, and have a group that was let go begin anew",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, r, func(ctx context.Context, c *client.Client) (api.Done, error) {
				if force {
					return c.Retake(ctx, args[0])
				}
				return c.Resume(ctx, args[0])
			}, done)
		},
	})
	cmd.Flags().BoolVar(&force, "force", false, "also while marks are still being taken off, which then may stay on")
	return cmd
}

func newProtectCommand(r *remote) *cobra.Command {
	var off bool
	cmd := r.flags(&cobra.Command{
		Use:   "protect GROUP INSTANCE",
		Short: "Never choose an instance for a scale-in",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] == "" {
				return usageError{errors.New("INSTANCE: a VM name or an id is needed")}
			}
			return ask(cmd, r, func(ctx context.Context, c *client.Client) (api.Done, error) {
				return c.Protect(ctx, args[0], args[1], !off)
			}, done)
		},
	})
	cmd.Flags().BoolVar(&off, "off", false, "take the protection off")
	return cmd
}

func newStandbyCommand(r *remote) *cobra.Command {
	var off bool
	cmd := r.flags(&cobra.Command{
		Use:   "standby GROUP INSTANCE",
		Short: "Take an instance out of traffic and keep its VM as it is",
		Long: `Take an instance out of traffic and keep its VM as it is, to look at it or to
work on it. Its sessions end by themselves. It counts against the group's limit
and is desired no more; --off puts it back into service.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] == "" {
				return usageError{errors.New("INSTANCE: a VM name or an id is needed")}
			}
			return ask(cmd, r, func(ctx context.Context, c *client.Client) (api.Done, error) {
				return c.Standby(ctx, args[0], args[1], !off)
			}, done)
		},
	})
	cmd.Flags().BoolVar(&off, "off", false, "put it back into service")
	return cmd
}

// during says what was being done when err came; nil stays nil.
func during(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
