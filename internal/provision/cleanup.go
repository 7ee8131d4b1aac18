package provision

import (
	"context"
	"strings"
)

// cleanupPlan lists what nobody needs any more: floating IPs and ports that nothing
// uses, and snapshots past those that are kept. Steps are only for what was made for
// the file; the rest is listed for people.
func cleanupPlan(f *File, w *World, keep int) Plan {
	seen := planned(f, w)
	p := newPlanner(f, w)
	// Where the file and the cloud disagree, what is needed cannot be told.
	p.plan.problems = seen.plan.problems
	p.cleanupAddresses(seen)
	p.cleanupPorts(seen)
	p.cleanupSnapshots(keep)
	return p.plan
}

// strangers says for people why something stays.
func stranger(o Object) string {
	if g := group(o); g != "" {
		return "belongs to the scaling group " + g + ": see scalehook cleanup"
	}
	return "was not made for this file: only listed"
}

func (p *planner) lists(kind Kind, o Object, details ...string) {
	p.plan.Items = append(p.plan.Items, Item{Action: Leave, Kind: kind, Name: o.Name, ID: o.ID, Adopted: true, Details: details})
}

func (p *planner) discards(kind Kind, o Object, why string, s step) {
	p.plan.Items = append(p.plan.Items, Item{Action: Remove, Kind: kind, Name: o.Name, ID: o.ID, Details: []string{why}, steps: []step{s}})
}

func (p *planner) cleanupAddresses(seen *planner) {
	for _, a := range mine(p.world, p.world.FloatingIPs) {
		o := a.Object
		o.Name = a.Address.String()
		switch {
		case a.Port != "", seen.server != nil && seen.address != nil && seen.address.ID == a.ID:
		case group(o) != "", !p.mark.owns(o):
			p.lists(KindFloatingIP, o, "nothing uses it", stranger(o))
		default:
			p.discards(KindFloatingIP, o, "nothing uses it", step{
				what: "remove floating IP " + o.Name, touches: []Kind{KindFloatingIP},
				do: func(ctx context.Context, c *client) error { return c.remove(ctx, collAddress, a.ID) },
			})
		}
	}
}

func (p *planner) cleanupPorts(seen *planner) {
	for _, port := range mine(p.world, p.world.Ports) {
		lost := strings.HasPrefix(port.Owner, "compute:") && p.world.server(port.Device) == nil
		switch {
		case !lost && (port.Device != "" || port.Owner != ""), seen.attached != nil && seen.attached.ID == port.ID:
		case group(port.Object) != "", !p.mark.owns(port.Object):
			p.lists(KindPort, port.Object, "nothing uses it", stranger(port.Object))
		default:
			p.discards(KindPort, port.Object, "nothing uses it", step{
				what: "remove port " + port.ID, touches: []Kind{KindPort},
				do: func(ctx context.Context, c *client) error { return c.remove(ctx, collPorts, port.ID) },
			})
		}
	}
}

func (p *planner) cleanupSnapshots(keep int) {
	for _, i := range obsolete(p.mark.snapshots(p.world, ""), keep) {
		why := "older than those that are kept"
		if i.Status != statusActive {
			why = "its status is " + i.Status
		}
		p.discards(KindSnapshot, i.Object, why, removeImageStep(i))
	}
	for _, i := range mine(p.world, p.world.Images) {
		if i.Properties["image_type"] != "snapshot" || p.mark.ownsSnapshot(i, "") {
			continue
		}
		why := stranger(i.Object)
		if g := i.Properties[propGroup]; g != "" && i.Properties[propName] == i.Name {
			why = "is a snapshot of the scaling group " + g
		}
		p.lists(KindSnapshot, i.Object, why)
	}
}
