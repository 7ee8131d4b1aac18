package haproxy

import (
	"maps"
	"slices"

	"github.com/scalehook/scalehook/internal/scaling"
)

// moving chooses the members whose server may be drained now since they are
// wished ready at another address, as after a change of the group's port. A server
// cannot change its address without being removed, so they move one by one, the
// next when every member is up again: a port on which nobody listens costs one
// member and not the pool. Those that fail their checks where they are take no
// traffic, and move at once.
func (p *Pool) moving(views []view, wish map[string]wished) map[string]bool {
	moving := map[string]bool{}
	underWay := false
	var next []string
	for _, name := range slices.Sorted(maps.Keys(wish)) {
		w := wish[name]
		if w.state != scaling.MemberReady {
			continue
		}
		// A member that some HAProxy does not have after newcomers were added has a
		// twin there and never will: nobody waits for it.
		moved, begun, up, checked, takes := false, false, true, true, false
		for _, v := range views {
			s, there := v.server(name)
			if !there {
				continue
			}
			moved = moved || s.addr != w.addr
			begun = begun || s.addr == w.addr || !s.ready()
			up = up && s.ready() && s.passed()
			checked = checked && (s.passed() || s.failed())
			takes = takes || s.ready() && !s.failed()
		}
		switch {
		case !moved:
			underWay = underWay || !up
		case begun, !takes:
			moving[name], underWay = true, true
		case !checked:
			// Just started with HAProxy: whether it is up is known in a moment.
			underWay = true
		default:
			next = append(next, name)
		}
	}
	if !underWay && len(next) > 0 {
		moving[next[0]] = true
		p.logger.Info("a member moves to another address", "server", next[0], "address", wish[next[0]].addr.String(), "waiting", len(next)-1)
	}
	return moving
}

// inService lists the members that are wished ready and take traffic at every
// HAProxy, by the address at which they do: what a reload may start as it is.
func inService(views []view, wish map[string]wished, moving map[string]bool) []wished {
	var out []wished
	for name, w := range wish {
		ready := w.state == scaling.MemberReady && !moving[name]
		for i, v := range views {
			s, there := v.server(name)
			if i == 0 && there {
				w.addr = s.addr
			}
			ready = ready && there && s.ready() && s.addr == w.addr
		}
		if ready {
			out = append(out, w)
		}
	}
	return out
}
