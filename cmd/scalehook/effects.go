package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/scaling"
)

func newReloadCommand(r *remote) *cobra.Command {
	return r.flags(&cobra.Command{
		Use:   "reload",
		Short: "Have the server read its configuration again, and list what that changed",
		Long: `Have the server read its configuration again, as SIGHUP does. Every effect on a
group is logged before it is applied and listed here. A configuration with an
error leaves the old one in force. The server needs --web.enable-lifecycle.
"scalehook check-config --diff" lists the effects without any of them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(cmd, r, func(ctx context.Context, c *client.Client) (api.Reloaded, error) {
				return c.Reload(ctx)
			}, func(t *table, res api.Reloaded) {
				t.linef("%s", res.Message)
				for _, e := range res.Effects {
					t.linef("%s: %s", e.Group, e.Text)
				}
			})
		},
	})
}

// differences asks the running server for its groups and says what others in their
// place would change. observed: the server touches nothing, whatever the modes.
func differences(ctx context.Context, r *remote, next []scaling.Group) (effects []scaling.Effect, observed bool, err error) {
	c, err := r.client()
	if err != nil {
		return nil, false, err
	}
	views, err := c.Groups(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("ask the running server for its groups: %w", err)
	}
	var old []scaling.Group
	states := map[string]*scaling.State{}
	for _, v := range views {
		old = append(old, groupOf(v))
		states[v.Name] = stateOf(v)
	}
	if slices.ContainsFunc(views, onlyObserved) {
		old, next, observed = observing(old), observing(next), true
	}
	return scaling.Effects(old, next, states), observed, nil
}

// onlyObserved reports whether a group that is trusted to act does not, since its
// server was started with --observe.
func onlyObserved(v api.Group) bool {
	return v.Mode != string(scaling.ModeObserve) && slices.Contains(v.Statuses, string(scaling.StatusObserve))
}

func observing(groups []scaling.Group) []scaling.Group {
	out := slices.Clone(groups)
	for k := range out {
		out[k].Mode = scaling.ModeObserve
	}
	return out
}

// groupOf is the group that a server has in force.
func groupOf(v api.Group) scaling.Group {
	s := v.Settings
	return scaling.Group{
		Name: v.Name, Mode: scaling.Mode(v.Mode), Min: s.Min, Max: s.Max, Surge: s.Surge, High: s.High, Low: s.Low,
		HighHold: time.Duration(s.HighHold), LowHold: time.Duration(s.LowHold), LeaseTTL: time.Duration(s.LeaseTTL),
		Cooldown: time.Duration(s.Cooldown), WarmUp: time.Duration(s.WarmUp),
		Windows: scaling.Windows{
			Scrape: time.Duration(s.ScrapeInterval), Evaluation: time.Duration(s.EvaluationInterval), Rate: time.Duration(s.RateWindow),
		},
		LaunchDeadline: time.Duration(s.LaunchDeadline), DrainDeadline: time.Duration(s.DrainDeadline),
		ShutdownDeadline: time.Duration(s.ShutdownDeadline), CallDeadline: time.Duration(s.CallDeadline),
		CreationsPerHour: s.CreationsPerHour, RemovalsPerHour: s.RemovalsPerHour,
		BackoffMin: time.Duration(s.BackoffMin), BackoffMax: time.Duration(s.BackoffMax),
		Grace: time.Duration(s.Grace), MaxUnhealthy: s.MaxUnhealthy,
		Victim: scaling.VictimPolicy(s.Victim), OnRemove: scaling.OnRemove(s.OnRemove), Snapshot: s.Snapshot, SnapshotsKeep: s.SnapshotsKeep,
		NamePattern: s.Name, Adopt: s.Adopt, Provider: s.Provider, Balancer: s.Balancer, Port: s.Port,
		Template: s.Template, Pool: s.Pool, Place: s.Place, Confirm: s.Confirm,
	}
}

// stateOf is what effects need of a group's state.
func stateOf(v api.Group) *scaling.State {
	s := &scaling.State{Group: v.Name, Desired: v.Desired, AdoptedNames: v.Adopted}
	for _, i := range v.Instances {
		s.Instances = append(s.Instances, scaling.Instance{
			ID: i.ID, Name: i.Name, Number: i.Number, State: scaling.InstanceState(i.State), Adopted: i.Adopted,
			Protected: i.Protected, Suspect: i.Suspect, InServiceAt: i.InServiceAt,
		})
	}
	for _, a := range v.Activities {
		s.Open = append(s.Open, scaling.Activity{ID: a.ID, Kind: scaling.ActivityKind(a.Kind), Status: scaling.ActivityStatus(a.Status)})
	}
	if r := v.Release; r != nil {
		s.Release = &scaling.Release{By: r.By, At: r.At, Done: r.Done, Activity: r.Activity}
	}
	if p := v.Pause; p != nil {
		s.Pause = &scaling.Pause{Out: p.Out, In: p.In, By: p.By}
	}
	return s
}
