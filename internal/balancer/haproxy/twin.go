package haproxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// twinError names the members, by their ids, that are to serve and whose address a
// foreign server has, with what an operator has to do about each. Behind two names
// a member would get double traffic, and its drain would drain half of it: it is
// not added. Apply returns it after everything else of the wish was applied, and
// returns nothing of the kind once the member drains or leaves, which a twin must
// not hinder.
type twinError map[string]string

// Error lists the members in order.
func (e twinError) Error() string {
	var all []string
	for _, id := range e.Members() {
		all = append(all, e[id])
	}
	return strings.Join(all, "; ")
}

// Members returns the ids of the members that are not as wished. All others are.
func (e twinError) Members() []string { return slices.Sorted(maps.Keys(e)) }

// twins finds foreign servers with the address of a member that is to serve, notes
// them in found, and returns the members' servers.
func (p *Pool) twins(v view, wish map[string]wished, found twinError) (taken map[string]bool) {
	taken = map[string]bool{}
	for _, s := range v.servers {
		if _, ours := p.namer.id(s.name); ours || !s.addr.IsValid() {
			continue
		}
		for name, w := range wish {
			if !w.serves() || w.addr != s.addr {
				continue
			}
			taken[name] = true
			id, _ := p.namer.id(name)
			found[id] = fmt.Sprintf("server %s/%s of haproxy's own configuration has the address %v of instance %s: "+
				"it would get traffic past every drain and is not managed here; remove that line, and it is added as %s",
				p.cfg.Backend, s.name, s.addr, id, name)
		}
	}
	return taken
}
