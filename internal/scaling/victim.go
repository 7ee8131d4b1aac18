package scaling

import "fmt"

// victim chooses whom a removal takes: the named instance, else by policy among
// those in service that are not protected.
func (d *decision) victim(name string) (*Instance, string) {
	if name != "" {
		i := d.s.Find(name)
		switch {
		case i == nil:
			return nil, fmt.Sprintf("no instance %q", name)
		case i.State != StateInService:
			return nil, fmt.Sprintf("%s is %s, not in_service", i.Name, i.State)
		case i.Protected:
			return nil, i.Name + " is protected"
		}
		return i, i.Name
	}
	var best *Instance
	protected := 0
	for k := range d.s.Instances {
		i := &d.s.Instances[k]
		if i.State != StateInService {
			continue
		}
		if i.Protected {
			protected++
			continue
		}
		if best == nil || d.before(i, best) {
			best = i
		}
	}
	if best == nil {
		return nil, fmt.Sprintf("none in service that is not protected (%d protected)", protected)
	}
	return best, fmt.Sprintf("%s (%s)", best.Name, d.g.Victim)
}

// before reports whether a is rather removed than b.
func (d *decision) before(a, b *Instance) bool {
	badA, badB := d.unwell(*a), d.unwell(*b)
	if badA != badB {
		return badA // what does not serve anyway goes first
	}
	switch d.g.Victim {
	case VictimOldest:
		if !a.InServiceAt.Equal(b.InServiceAt) {
			return a.InServiceAt.Before(b.InServiceAt)
		}
		return a.Number < b.Number
	case VictimLeastBusy:
		ra, oka := d.in.Lookup.Readings[a.UUID]
		rb, okb := d.in.Lookup.Readings[b.UUID]
		if oka && okb && ra.Utilization != rb.Utilization {
			return ra.Utilization < rb.Utilization
		}
	case VictimNewest:
	}
	if !a.InServiceAt.Equal(b.InServiceAt) {
		return a.InServiceAt.After(b.InServiceAt)
	}
	return a.Number > b.Number
}

// successor is the healthy instance longest in service besides the victim.
func (d *decision) successor(victim string) *Instance {
	var best *Instance
	for k := range d.s.Instances {
		i := &d.s.Instances[k]
		if d.unwell(*i) || i.State != StateInService || i.ID == victim {
			continue
		}
		if best == nil || i.InServiceAt.Before(best.InServiceAt) {
			best = i
		}
	}
	return best
}
