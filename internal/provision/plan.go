package provision

import (
	"context"
	"fmt"

	"github.com/scalehook/scalehook/internal/cloud"
)

// Action is what a plan says of a thing.
type Action string

// The actions.
const (
	// Keep: it was made for this file and is as the file says.
	Keep Action = "keep"
	// Adopt: it was there before, is as the file says, and is never removed.
	Adopt Action = "adopt"
	// Make: it is not there.
	Make Action = "make"
	// Change: it is there and something is missing or can be put right without harm.
	Change Action = "change"
	// Remove: it was made for this file and is removed.
	Remove Action = "remove"
	// Leave: it stays as it is.
	Leave Action = "leave"
)

// Item is what a plan says of one thing.
type Item struct {
	Action Action `json:"action" yaml:"action"`
	Kind   Kind   `json:"kind" yaml:"kind"`
	Name   string `json:"name" yaml:"name"`
	ID     string `json:"id,omitempty" yaml:"id"`
	// Adopted says of what is there that it was not made for this file.
	Adopted bool `json:"adopted,omitempty" yaml:"adopted"`
	// Details say what is missing, what will be done, and what is worth knowing.
	Details []string `json:"details,omitempty" yaml:"details"`

	steps []step
}

// step is one write. Taken again after a kill it does no harm, since it is planned
// only if what it brings about is missing.
type step struct {
	what    string
	touches []Kind // what has to be read again
	do      func(context.Context, *client) error
}

// Plan is what is to be done.
type Plan struct {
	Items []Item `json:"items"`
	// Notes are worth knowing and stop nothing.
	Notes []string `json:"notes,omitempty"`

	problems problems
}

// Err is everything that stands in the way, each with the line of the file; nil if
// nothing does.
func (p Plan) Err() error { return p.problems.err() }

// Pending reports whether anything is to be done.
func (p Plan) Pending() bool { return p.next() != nil }

// next is the first step to be taken.
func (p Plan) next() *step {
	for i := range p.Items {
		if len(p.Items[i].steps) > 0 {
			return &p.Items[i].steps[0]
		}
	}
	return nil
}

// planner makes a plan of a file and of what is there. It remembers what it found,
// since later resources need the ids of earlier ones.
type planner struct {
	file  *File
	world *World
	mark  mark
	plan  Plan

	network  *Network
	subnet   *Subnet
	router   *Router
	outside  *Network // what the router leads to
	attached *Port    // the router's interface
	group    *Group
	key      *Key
	image    *Image
	flavor   *Flavor
	server   *Server
	port     *Port    // the server's
	heirs    []Server // of the scaling group that the server is for
	pool     *Network
	address  *FloatingIP
}

// resource is a kind of thing that a file may ask for. The functions are called in
// this order; find leaves what it found in the planner.
type resource struct {
	kind   Kind
	wanted func(*File) bool
	name   func(*File) string
	// find returns what is there by the file's name, or nil. What is ambiguous is a
	// problem.
	find func(*planner) *Object
	// owned reports whether what was found was made for this file.
	owned func(*planner, Object) bool
	// compare holds what was found against the file: what can be put right are steps,
	// the rest are problems.
	compare func(*planner, *Item)
	// make returns the step that brings it about, marked where the API lets it; none
	// if it is to stay away.
	make func(*planner, *Item) []step
	// mark returns the step that adds what the creation could not.
	mark func(*planner, Object) []step
}

// resources are in the order in which they are made.
func resources() []resource {
	return []resource{networkResource(), subnetResource(), routerResource(), interfaceResource(), groupResource(), keyResource(), serverResource(), addressResource(), snapshotResource()}
}

func newPlanner(f *File, w *World) *planner {
	return &planner{file: f, world: w, mark: f.mark(), plan: Plan{problems: problems{file: f}}}
}

// planned holds the world against the file.
func planned(f *File, w *World) *planner {
	p := newPlanner(f, w)
	p.lookUp()
	for _, r := range resources() {
		if r.wanted(f) {
			p.plan.Items = append(p.plan.Items, p.item(r))
		}
	}
	p.room()
	return p
}

// makePlan is what has to be done for the world to be as the file says.
func makePlan(f *File, w *World) Plan { return planned(f, w).plan }

func (p *planner) item(r resource) Item {
	it := Item{Kind: r.kind, Name: r.name(p.file)}
	o := r.find(p)
	if o == nil {
		it.Action, it.steps = Make, r.make(p, &it)
		if len(it.steps) == 0 {
			it.Action = Leave
		}
		return it
	}
	it.ID = o.ID
	it.Action = Keep
	owned := p.mark.owns(*o)
	if r.owned != nil {
		owned = r.owned(p, *o)
	}
	if !owned {
		it.Action, it.Adopted = Adopt, true
	} else if r.mark != nil {
		it.steps = append(it.steps, r.mark(p, *o)...)
	}
	if r.compare != nil {
		r.compare(p, &it)
	}
	if len(it.steps) > 0 {
		it.Action = Change
		for _, s := range it.steps {
			it.Details = append(it.Details, s.what)
		}
	}
	return it
}

// wrongf notes what stands in the way, at the file's line.
func (p *planner) wrongf(path, format string, args ...any) {
	p.plan.problems.addf(path, format, args...)
}

func (p *planner) wrong(path string, err error) { p.wrongf(path, "%v", err) }

// room holds what is to be made against the quotas that are known.
func (p *planner) room() {
	need := map[Kind]int{}
	for _, it := range p.plan.Items {
		if it.Action == Make {
			need[it.Kind]++
		}
	}
	need[KindPort] = need[KindInterface] + need[KindServer]
	if p.flavor != nil {
		need[KindVCPU], need[KindMemory] = need[KindServer]*p.flavor.VCPUs, need[KindServer]*p.flavor.RAM
	}
	if need[KindGroup] > 0 {
		need[KindRule] = len(p.rules()) + 2 // those that every new group has for what goes out
	}
	for _, kind := range limited() {
		if room, known := p.world.Room[kind]; known && need[kind] > 0 && need[kind] > room {
			p.wrongf("name", "the project's quota leaves room for %d more of kind %s, and %d have to be made: remove some, or ask for a larger quota", max(room, 0), kind, need[kind])
		}
	}
}

// limited are the kinds that projects have quotas of.
func limited() []Kind {
	return []Kind{KindNetwork, KindSubnet, KindRouter, KindPort, KindGroup, KindRule, KindFloatingIP, KindKey, KindServer, KindVCPU, KindMemory}
}

// one returns the only object of the file's name, or with the name as its id; nil if
// there is none. Several of a name are a problem.
func one[T interface{ object() Object }](p *planner, path string, kind Kind, list []T, name string) *T {
	var found []int
	for i, x := range list {
		o := x.object()
		if o.ID == name {
			return &list[i]
		}
		if o.Name == name {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 0:
		return nil
	case 1:
		return &list[found[0]]
	}
	var owned, ids []string
	pick := found[0]
	for _, i := range found {
		o := list[i].object()
		if p.mark.owns(o) {
			owned, pick = append(owned, o.ID), i
		}
		ids = append(ids, o.ID)
	}
	if len(owned) == 1 {
		p.plan.Notes = append(p.plan.Notes, fmt.Sprintf("there are %d of kind %s named %s; the one made for this file is meant: %s", len(ids), kind, name, owned[0]))
		return &list[pick]
	}
	p.wrong(path, cloud.Ambiguous(string(kind), name, ids))
	return &list[pick]
}

// mine are the things of the credentials' project.
func mine[T interface{ object() Object }](w *World, list []T) []T {
	var out []T
	for _, x := range list {
		if o := x.object(); o.Project == w.Project || o.Project == "" {
			out = append(out, x)
		}
	}
	return out
}

// names are for errors that say what there is instead.
func names[T interface{ object() Object }](list []T) []string {
	out := make([]string, 0, len(list))
	for _, x := range list {
		out = append(out, x.object().Name)
	}
	return out
}
