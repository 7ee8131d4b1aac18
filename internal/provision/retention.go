package provision

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// The states of an image that has come to an end.
const statusActive = "active"

// underway reports whether the image is still being made.
func (i Image) underway() bool {
	return slices.Contains([]string{"queued", "saving", "importing", "uploading"}, i.Status)
}

// snapshots are those that were made for this file, or with a group for it, the newest
// first. An administrator sees other projects' too, and those are never meant.
func (m mark) snapshots(w *World, group string) []Image {
	var out []Image
	for _, i := range mine(w, w.Images) {
		if m.ownsSnapshot(i, group) {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// obsolete are those of our snapshots, newest first, that are not kept: all active
// ones past the newest keep, and whatever failed. One under way is left alone, and
// while there is one nothing is judged by the number.
func obsolete(snapshots []Image, keep int) []Image {
	var out []Image
	kept := 0
	for _, i := range snapshots {
		switch {
		case i.underway():
		case i.Status == statusActive && kept < keep:
			kept++
		case !i.Protected:
			out = append(out, i)
		}
	}
	return out
}

// removalPlan removes a scaling group's snapshots but for the newest keep, once the
// group has no servers: until then they are its own, and snapshots_keep bounds them.
func removalPlan(f *File, w *World, of string, keep int) Plan {
	p := newPlanner(f, w)
	if members := p.members(of); len(members) > 0 {
		p.wrongf("name", "the scaling group %s has servers (%s), and its snapshots go by snapshots_keep: take the group down first (scalehook set-desired %s 0)", of, strings.Join(names(members), ", "), of)
	}
	all := p.mark.snapshots(w, of)
	old := obsolete(all, keep)
	for _, i := range all {
		it := Item{Action: Leave, Kind: KindSnapshot, Name: i.Name, ID: i.ID}
		user := by(w.Servers, func(s Server) bool { return s.Image == i.ID })
		switch {
		case i.underway():
			it.Details = []string{"is still being made"}
		case i.Protected:
			it.Details = []string{"is protected: openstack image set --unprotect " + i.ID}
		case !slices.ContainsFunc(old, func(o Image) bool { return o.ID == i.ID }):
			it.Details = []string{"is kept by --keep"}
		case user != nil:
			it.Details = []string{"server " + user.Name + " was made of it"}
		default:
			it.Action, it.Details, it.steps = Remove, []string{"of the scaling group " + of}, []step{removeImageStep(i)}
		}
		p.plan.Items = append(p.plan.Items, it)
	}
	if others := p.mark.groups(w); len(all) == 0 && len(others) > 0 {
		p.plan.Notes = append(p.plan.Notes, fmt.Sprintf("there are snapshots of %s, and none of a scaling group %s", strings.Join(others, ", "), of))
	}
	return p.plan
}

// groups are the owner's scaling groups that there are snapshots of.
func (m mark) groups(w *World) []string {
	var out []string
	for _, i := range mine(w, w.Images) {
		if g := i.Properties[propGroup]; g != "" && m.ownsSnapshot(i, g) {
			out = append(out, g)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func removeImageStep(i Image) step {
	what := fmt.Sprintf("remove the old snapshot %s (%s)", i.Name, i.ID)
	if i.Status != statusActive {
		what = fmt.Sprintf("remove the snapshot %s (%s), which is %s", i.Name, i.ID, i.Status)
	}
	return step{what: what, touches: []Kind{KindSnapshot}, do: func(ctx context.Context, c *client) error { return c.removeImage(ctx, i.ID) }}
}

func snapshotResource() resource {
	return resource{
		kind:   KindSnapshot,
		wanted: func(f *File) bool { return f.Snapshot != nil && f.Server != nil },
		name:   func(f *File) string { return "of " + f.Server.Name },
		find: func(p *planner) *Object {
			if p.server == nil {
				return nil
			}
			for _, image := range p.mark.snapshots(p.world, "") {
				if image.Properties[propServer] == p.server.ID {
					return &Object{ID: image.ID, Name: image.Name, Description: p.mark.text()}
				}
			}
			return nil
		},
		compare: func(p *planner, it *Item) {
			image := *by(p.world.Images, func(i Image) bool { return i.ID == it.ID })
			it.Name = image.Name
			if image.underway() {
				it.steps = append(it.steps, step{
					what: "wait until the snapshot is active", touches: []Kind{KindSnapshot},
					do: func(ctx context.Context, c *client) error {
						return c.awaitImage(ctx, image.ID, p.file.Snapshot.Deadline)
					},
				})
				return
			}
			for _, old := range obsolete(p.mark.snapshots(p.world, ""), p.file.Snapshot.Keep) {
				it.steps = append(it.steps, removeImageStep(old))
			}
		},
		make: func(p *planner, it *Item) []step {
			if p.replaced() {
				it.Details = append(it.Details, p.handedOver())
				return nil
			}
			if p.server != nil && !p.mark.owns(p.server.Object) {
				it.Details = append(it.Details, "the server was not deployed by this file; \"scalehook snapshot\" makes one of it")
				return nil
			}
			it.Details = append(it.Details, fmt.Sprintf("make one of the server as deployed, and keep %d", p.file.Snapshot.Keep))
			return []step{{
				what: "make a snapshot of " + p.file.Server.Name, touches: []Kind{KindSnapshot},
				do: func(ctx context.Context, c *client) error {
					_, err := c.makeSnapshot(ctx, p.mark, *p.server, "", p.file.Snapshot.Deadline)
					return err
				},
			}}
		},
	}
}
