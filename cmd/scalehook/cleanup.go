package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

// cleanupFlags choose among the orphans.
type cleanupFlags struct {
	group        string
	yes, serving bool
}

// cleaned is what cleanup prints as JSON.
type cleaned struct {
	Orphans []api.Orphan        `json:"orphans"`
	Results []api.CleanupResult `json:"results,omitempty"`
}

func newCleanupCommand(r *remote) *cobra.Command {
	var o cleanupFlags
	cmd := r.flags(&cobra.Command{
		Use:   "cleanup [NAME…]",
		Short: "List what nobody answers for, and remove it with --yes",
		Long: `List the VMs, pool members, parts, snapshots and public addresses that nobody
answers for, or those named by name or id. With --yes those that are quarantined
are removed, exactly as they were listed; nothing else is touched. VMs, and the
disks, ports and addresses that are left of one, go by an activity that survives a
restart; snapshots past snapshots_keep and a group's former public address at once.

  seen         has our mark and is unknown to its group's state; not yet seen often enough
  quarantined  a VM that was seen so in two complete listings in a row (it counts
               against the group's limit), or another thing that nobody needs
  released     has our mark, and its group is not configured at that provider: never removed
  member       of a pool, ours and without a VM: leaves by itself
  unmarked     has a name that a group would give and no valid mark: not ours, never removed

An orphan that takes traffic is refused without --serving, and with it is drained
first. One that was adopted only loses its mark. After the store was lost or
restored the groups are paused and nothing of them is removed: what looks like an
orphan may be what the store forgot. Restore a newer copy of the store, or resume
the group once the VMs are known to be needed no more.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var partly error
			err := ask(cmd, r, func(ctx context.Context, c *client.Client) (cleaned, error) {
				out, err := cleanup(ctx, c, o, args)
				partly = refusedPart(out.Results)
				return out, err
			}, showCleaned)
			if err != nil {
				return err
			}
			return partly
		},
	})
	f := cmd.Flags()
	f.StringVar(&o.group, "group", "", "only those of a group")
	f.BoolVar(&o.yes, "yes", false, "remove those that are quarantined")
	f.BoolVar(&o.serving, "serving", false, "also those that take traffic, after a drain")
	return cmd
}

// cleanup lists, and orders what was listed to be removed if that is wanted.
func cleanup(ctx context.Context, c *client.Client, o cleanupFlags, names []string) (cleaned, error) {
	all, err := c.Orphans(ctx)
	if err != nil {
		return cleaned{}, err
	}
	out := cleaned{Orphans: []api.Orphan{}}
	missing := slices.Clone(names)
	var ids []string
	for _, x := range all {
		if o.group != "" && x.Group != o.group {
			continue
		}
		if len(names) > 0 && !slices.Contains(names, x.Name) && (x.ID == "" || !slices.Contains(names, x.ID)) {
			continue
		}
		missing = slices.DeleteFunc(missing, func(n string) bool { return n == x.Name || n == x.ID })
		out.Orphans = append(out.Orphans, x)
		if x.Status == "quarantined" {
			ids = append(ids, x.ID)
		}
	}
	if len(missing) > 0 {
		return out, fmt.Errorf("no such orphan: %s", strings.Join(missing, ", "))
	}
	if !o.yes || len(ids) == 0 {
		return out, nil
	}
	out.Results, err = c.Cleanup(ctx, api.CleanupRequest{IDs: ids, Group: o.group, Serving: o.serving})
	return out, err
}

// refusedPart is an error if the server refused some of it.
func refusedPart(results []api.CleanupResult) error {
	n := 0
	for _, r := range results {
		if r.Refused != "" {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return &client.Error{Code: http.StatusAccepted, Type: api.ErrorRefused, Reason: fmt.Sprintf("%d of %d were not taken", n, len(results))}
}

func showCleaned(t *table, c cleaned) {
	if len(c.Orphans) == 0 {
		t.linef("no orphans")
		return
	}
	t.row("STATUS", "KIND", "GROUP", "NAME", "PROVIDER", "POWER", "CREATED", "MEMBER", "REMARKS", "ID")
	quarantined := 0
	for _, o := range c.Orphans {
		member := "-"
		if o.Member != nil {
			member = o.Member.State
		}
		if o.Status == "quarantined" {
			quarantined++
		}
		t.row(o.Status, o.Kind, o.Group, o.Name, dash(o.Provider), dash(o.Power), clock(o.CreatedAt), member, dash(o.Note), dash(o.ID))
	}
	for _, r := range c.Results {
		if r.Refused != "" {
			t.linef("%s of group %s stays: %s", dash(r.Name), dash(r.Group), r.Refused)
			continue
		}
		if r.Removed {
			t.linef("%s of group %s is removed", r.Name, r.Group)
			continue
		}
		t.linef("%s of group %s is being removed: activity %s", r.Name, r.Group, r.Activity)
	}
	if len(c.Results) == 0 && quarantined > 0 {
		t.linef("%d quarantined: remove with --yes", quarantined)
	}
}
