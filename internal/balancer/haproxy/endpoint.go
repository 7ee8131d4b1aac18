package haproxy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// endpoint is one HAProxy: its stats socket and, where there is one, the socket
// of its master.
type endpoint struct {
	stats         socket
	master        *socket
	hardStopAfter time.Duration
}

// view is what one HAProxy said of a backend at one moment.
type view struct {
	info    info
	servers []server // in the worker that takes new connections
	older   []older  // workers that a reload left behind, with what they still do
	// complete is false where older workers may exist that nobody can ask.
	complete bool
}

// older is a worker that takes no new connections and finishes those it has.
type older struct {
	pid     int
	servers map[string]stat
	// waiting counts client connections without a server. HAProxy 2.6 refuses
	// every change in such a worker, so a request that comes over one of them may
	// still be given to a server that is drained in the new worker only.
	waiting int
}

func (v view) server(name string) (server, bool) {
	for _, s := range v.servers {
		if s.name == name {
			return s, true
		}
	}
	return server{}, false
}

// olderSessions counts what older workers do for a server, or may still do.
func (v view) olderSessions(name string) int {
	n := 0
	for _, o := range v.older {
		s, ok := o.servers[name]
		if !ok {
			continue
		}
		n += s.sessions + s.queued
		if !strings.HasPrefix(s.status, "DRAIN") && !strings.HasPrefix(s.status, "MAINT") {
			n += o.waiting
		}
	}
	return n
}

// viewTries is how often a view is begun again because HAProxy was reloaded
// while it was read.
const viewTries = 4

// view reads the backend in all workers. The process that answers is compared
// before and after, so that a reload in between cannot mix two of them.
func (e endpoint) view(ctx context.Context, backend string) (view, error) {
	for try := 0; ; try++ {
		v, same, err := e.viewOnce(ctx, backend)
		if err != nil && scaling.ClassOf(err) != scaling.Temporary {
			return view{}, err
		}
		if err == nil && same {
			return v, nil
		}
		if try+1 == viewTries || ctx.Err() != nil {
			if err == nil {
				err = scaling.Errorf(scaling.Temporary, "haproxy at %s: another worker answered each time: it is being reloaded, or its master socket belongs to another haproxy", e.stats.address)
			}
			return view{}, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (e endpoint) viewOnce(ctx context.Context, backend string) (view, bool, error) {
	v := view{complete: e.master != nil}
	var procs processes
	if e.master != nil {
		answer, err := e.master.query(ctx, "show", "proc")
		if err != nil {
			return v, false, err
		}
		if procs, err = parseProcesses(answer); err != nil {
			return v, false, e.unreadable(err)
		}
	}
	var err error
	if v.info, err = e.info(ctx); err != nil {
		return v, false, err
	}
	if v.servers, err = e.servers(ctx, backend); err != nil {
		return v, false, err
	}
	if e.master != nil {
		if !slices.Contains(procs.workers, v.info.pid) {
			return v, false, nil
		}
		if v.older, err = e.older(ctx, backend, append(procs.older, without(procs.workers, v.info.pid)...)); err != nil {
			return v, false, err
		}
	} else {
		v.complete = e.hardStopAfter > 0 && v.info.uptime > e.hardStopAfter
	}
	last, err := e.info(ctx)
	if err != nil {
		return v, false, err
	}
	return v, last.pid == v.info.pid, nil
}

func without(list []int, x int) []int {
	return slices.DeleteFunc(slices.Clone(list), func(v int) bool { return v == x })
}

func (e endpoint) unreadable(err error) error {
	return scaling.WithClass(scaling.Temporary, fmt.Errorf("haproxy at %s: %w", e.stats.address, err))
}

func (e endpoint) info(ctx context.Context) (info, error) {
	answer, err := e.stats.query(ctx, "show", "info")
	if err != nil {
		return info{}, err
	}
	i, err := parseInfo(answer)
	if err != nil {
		if refused := refusal(answer); refused != nil {
			return info{}, fmt.Errorf("haproxy at %s: show info: %w", e.stats.address, refused)
		}
		return info{}, e.unreadable(err)
	}
	return i, nil
}

// servers joins the two listings that each lack what the other has: the
// administrative state, and the sessions with the name of the last check.
func (e endpoint) servers(ctx context.Context, backend string) ([]server, error) {
	state, err := e.stats.query(ctx, "show", "servers", "state", backend)
	if err != nil {
		return nil, err
	}
	servers, err := parseServers(state)
	if err != nil {
		// A backend without servers is answered with nothing but the version.
		if strings.TrimSpace(state) == "1" {
			return nil, nil
		}
		if refused := refusal(state); refused != nil {
			return nil, fmt.Errorf("haproxy at %s: backend %q: %w", e.stats.address, backend, refused)
		}
		return nil, e.unreadable(err)
	}
	id := backend
	if len(servers) > 0 {
		// By name it could be a frontend's: both may have the same.
		id = servers[0].backend
	}
	answer, err := e.stats.query(ctx, "show", "stat", id, "4", "-1")
	if err != nil {
		return nil, err
	}
	stats, err := parseStats(answer)
	if err != nil {
		return nil, e.unreadable(err)
	}
	byName := make(map[string]stat, len(stats))
	for _, s := range stats {
		if s.proxy == backend {
			byName[s.name] = s
		}
	}
	for i := range servers {
		s, ok := byName[servers[i].name]
		if !ok {
			return nil, e.unreadable(fmt.Errorf("server %s/%s has a state and no statistics", backend, servers[i].name))
		}
		servers[i].status, servers[i].check, servers[i].sessions = s.status, s.check, s.sessions+s.queued
	}
	return servers, nil
}

// older asks the older workers through the master. One that ended meanwhile does
// nothing any more.
func (e endpoint) older(ctx context.Context, backend string, pids []int) ([]older, error) {
	var out []older
	for _, pid := range pids {
		answer, err := e.master.query(ctx, "@!"+strconv.Itoa(pid), "show", "stat", "-1", "7", "-1")
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(answer, "Can't find the target") {
			continue
		}
		stats, err := parseStats(answer)
		if err != nil {
			return nil, e.unreadable(fmt.Errorf("worker %d: %w", pid, err))
		}
		o := older{pid: pid, servers: map[string]stat{}}
		for _, s := range stats {
			switch s.name {
			case "FRONTEND":
				o.waiting += s.sessions
			case "BACKEND":
			default:
				o.waiting -= s.sessions
				if s.proxy == backend {
					o.servers[s.name] = s
				}
			}
		}
		o.waiting = max(0, o.waiting)
		out = append(out, o)
	}
	return out, nil
}

// refusal turns a known sentence of HAProxy into an error with its class, or
// returns nil for an answer that is no known refusal.
func refusal(answer string) error {
	for _, known := range []struct {
		text  string
		class scaling.Class
		hint  string
	}{
		{"Can't find backend", scaling.Permanent, "haproxy has no such backend"},
		{"No such backend", scaling.Permanent, "haproxy has no such backend"},
		{"No such proxy", scaling.Permanent, "haproxy has no such backend"},
		{"must use a dynamic load balancing", scaling.Permanent, "servers can be added only with a dynamic balance algorithm such as roundrobin or leastconn, not static-rr"},
		{"Permission denied", scaling.Permanent, "the socket needs level admin"},
		{"Unknown command", scaling.Permanent, "HAProxy 2.6 or later is needed, with a socket of level admin"},
		{"experimental", scaling.Permanent, "HAProxy 2.6 or later is needed"},
		{"unknown keyword", scaling.Permanent, "an option of the server line is not known to this HAProxy"},
		{"not supported for dynamic servers", scaling.Permanent, "an option of the server line cannot be used at run time"},
		{"cannot be removed at runtime", scaling.Permanent, "another part of haproxy's configuration refers to the server"},
		{"No such server", scaling.Temporary, "it is gone, by a reload or by somebody else"},
		{"Already exists a server", scaling.Temporary, "somebody added it meanwhile"},
		{"Proxy is disabled", scaling.Temporary, "an old worker answered: haproxy is being reloaded"},
	} {
		if strings.Contains(answer, known.text) {
			return scaling.Errorf(known.class, "%s (haproxy: %q)", known.hint, shorten(answer))
		}
	}
	return nil
}
