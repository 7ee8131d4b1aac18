package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/words"
)

func newGroupsCommand(r *remote) *cobra.Command {
	return r.flags(&cobra.Command{
		Use:   "groups [GROUP]",
		Short: "List the groups, or show one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return ask(cmd, r, func(ctx context.Context, c *client.Client) (api.Group, error) {
					return c.Group(ctx, args[0])
				}, showGroup)
			}
			return ask(cmd, r, func(ctx context.Context, c *client.Client) ([]api.Group, error) {
				return c.Groups(ctx)
			}, listGroups)
		},
	})
}

func listGroups(t *table, groups []api.Group) {
	t.row("GROUP", "MODE", "MIN", "DESIRED", "MAX", "IN SERVICE", "OWNED", "CONDITIONS", "STATUS", "VERDICT")
	for _, g := range groups {
		t.row(g.Name, g.Mode, strconv.Itoa(g.Settings.Min), strconv.Itoa(g.Desired), strconv.Itoa(g.Settings.Max),
			strconv.Itoa(g.InService), strconv.Itoa(g.Owned), dash(standing(g.Conditions)),
			dash(strings.Join(g.Statuses, ",")), dash(words.Reason(g.Verdict)))
	}
}

// standing names the signals that stand.
func standing(conditions []api.Condition) string {
	var s []string
	for _, c := range conditions {
		if c.Standing {
			s = append(s, c.Signal)
		}
	}
	return strings.Join(s, ",")
}

func showGroup(t *table, g api.Group) {
	listGroups(t, []api.Group{g})
	t.linef("")
	listInstances(t, g.Instances)
	for _, p := range g.Problems {
		t.linef("problem: %s", p)
	}
}

func newInstancesCommand(r *remote) *cobra.Command {
	return r.flags(&cobra.Command{
		Use:   "instances [GROUP]",
		Short: "List the instances of a group, or of all",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, r, func(ctx context.Context, c *client.Client) ([]api.Instance, error) {
				if len(args) == 1 {
					return c.Instances(ctx, args[0])
				}
				groups, err := c.Groups(ctx)
				all := []api.Instance{}
				for _, g := range groups {
					all = append(all, g.Instances...)
				}
				return all, err
			}, listInstances)
		},
	})
}

func listInstances(t *table, instances []api.Instance) {
	t.row("GROUP", "VM", "STATE", "SINCE", "ADDRESS", "CPU", "MEMBER", "HEALTH", "SESSIONS", "REMARKS", "ID")
	for _, i := range instances {
		cpu, member, health, sessions := "-", "-", "-", "-"
		if i.Reading != nil {
			cpu = fmt.Sprintf("%.0f%%", 100*i.Reading.Utilization)
		}
		if m := i.Member; m != nil {
			member, health = m.State, m.Health
			if m.Sessions >= 0 {
				sessions = strconv.Itoa(m.Sessions)
			}
		}
		t.row(i.Group, i.Name, i.State, clock(i.Since), dash(i.Address), cpu, member, health, sessions, dash(remarks(i)), i.ID)
	}
}

// remarks are what is special about an instance.
func remarks(i api.Instance) string {
	var s []string
	for _, r := range []struct {
		holds bool
		word  string
	}{{i.Primary, "primary"}, {i.Adopted, "adopted"}, {i.Protected, "protected"}, {i.Suspect != "", "unwell: " + i.Suspect}, {i.State == "in_service" && !i.Warm, "warming up"}} {
		if r.holds {
			s = append(s, r.word)
		}
	}
	if i.Failure != "" {
		s = append(s, "failed: "+i.Failure)
	}
	return strings.Join(s, ", ")
}

func newActivitiesCommand(r *remote) *cobra.Command {
	var limit int
	var before string
	cmd := r.flags(&cobra.Command{
		Use:   "activities [GROUP]",
		Short: "List what was done and is being done, newest first, with causes",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usageError{fmt.Errorf("--limit %d: must be at least 1", limit)}
			}
			return ask(cmd, r, func(ctx context.Context, c *client.Client) ([]api.Activity, error) {
				return c.Activities(ctx, strings.Join(args, ""), before, limit)
			}, listActivities)
		},
	})
	cmd.Flags().IntVarP(&limit, "limit", "n", 20, "how many")
	cmd.Flags().StringVar(&before, "before", "", "only those begun before the one with this id")
	return cmd
}

func listActivities(t *table, activities []api.Activity) {
	t.row("BEGUN", "TOOK", "GROUP", "KIND", "STATUS", "STEP", "CAUSE", "OUTCOME", "ID")
	for _, a := range activities {
		took, step := "-", "-"
		if !a.Ended.IsZero() {
			took = a.Ended.Sub(a.Created).Round(100 * time.Millisecond).String()
		}
		if n := len(a.Steps); n > 0 {
			step = a.Steps[n-1].Name
		}
		t.row(clock(a.Created), took, a.Group, a.Kind, a.Status, step, dash(cause(a.Cause)), dash(a.Outcome), a.ID)
	}
}

// cause is why, in a few words.
func cause(c api.Cause) string {
	s := []string{}
	for _, word := range []string{c.Kind, c.Signal, c.Source} {
		if word != "" {
			s = append(s, word)
		}
	}
	if c.By != "" {
		s = append(s, "by "+c.By)
	}
	if !c.EvidenceAt.IsZero() {
		s = append(s, "evidence "+clock(c.EvidenceAt))
	}
	return strings.Join(s, " ")
}

// explanation is what explain prints as JSON.
type explanation struct {
	Group    api.Group     `json:"group"`
	Verdicts []api.Verdict `json:"verdicts"`
}

func newExplainCommand(r *remote) *cobra.Command {
	var last int
	cmd := r.flags(&cobra.Command{
		Use:   "explain GROUP",
		Short: "Say why a group did or did not scale, gate by gate",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(cmd, r, func(ctx context.Context, c *client.Client) (explanation, error) {
				g, err := c.Group(ctx, args[0])
				if err != nil {
					return explanation{}, err
				}
				vs, err := c.Verdicts(ctx, args[0])
				return explanation{Group: g, Verdicts: vs[:min(len(vs), max(last, 0))]}, err
			}, explain)
		},
	})
	cmd.Flags().IntVar(&last, "last", 5, "how many earlier verdicts to show")
	return cmd
}

func explain(t *table, e explanation) {
	g := e.Group
	t.linef("group %s (%s): %d in service, %d owned, desired %d, bounds %d to %d",
		g.Name, g.Mode, g.InService, g.Owned, g.Desired, g.Settings.Min, g.Settings.Max)
	for _, p := range g.Problems {
		t.linef("problem: %s", p)
	}
	if p := g.Pause; p != nil {
		until := "until resumed"
		if !p.Until.IsZero() {
			until = "until " + clock(p.Until)
		}
		t.linef("paused (out: %s, in: %s) %s by %s %s", yes(p.Out), yes(p.In), until, dash(p.By), p.Reason)
	}
	t.linef("\nverdict of %s: %s: %s", clock(g.Verdict.At), words.Action(g.Verdict), words.Reason(g.Verdict))
	if len(g.Verdict.Gates) > 0 {
		t.row("  GATE", "BEFORE", "PASSED", "DETAIL")
		for _, gate := range g.Verdict.Gates {
			detail := gate.Detail
			if gate.Change != "" {
				detail += " → " + gate.Change
			}
			t.row("  "+gate.Name, gate.Action, yes(gate.Passed), detail)
		}
	}
	t.linef("")
	t.row("CONDITION", "STANDS", "SINCE", "EXPIRES")
	for _, c := range g.Conditions {
		t.row(c.Signal, yes(c.Standing), clock(c.Since), clock(c.Expires))
	}
	if len(g.Evidence) > 0 {
		t.linef("")
		t.row("EVIDENCE", "SIGNAL", "STATE", "AT", "DETAIL")
		for _, x := range g.Evidence {
			t.row(x.Source, x.Signal, x.State, clock(x.At), dash(x.Detail))
		}
	}
	if len(e.Verdicts) > 0 {
		t.linef("")
		t.row("EARLIER", "ACTION", "REASON")
		for _, v := range e.Verdicts {
			t.row(clock(v.At), words.Action(v), words.Reason(v))
		}
	}
}

// errNoCount says that an argument is no number.
var errNoCount = errors.New("must be a whole number, 0 or more")

func parseCount(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, usageError{fmt.Errorf("%q: %w", text, errNoCount)}
	}
	return n, nil
}
