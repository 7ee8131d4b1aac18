package haproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Balancer reaches one or several HAProxy and hands out a pool per group. It
// keeps no connection and starts no goroutine.
type Balancer struct {
	endpoints []endpoint
	namer     namer
	logger    *slog.Logger

	mu       sync.Mutex
	backends map[string]string // backend → group
}

// New checks the configuration; it does not contact HAProxy. Servers are named
// after the owner, so two installations that share a HAProxy need two owners.
func New(cfg Config, owner string, logger *slog.Logger) (*Balancer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("haproxy balancer: %w", err)
	}
	if owner == "" {
		return nil, errors.New("haproxy balancer: an owner is needed to name its servers")
	}
	timeout := cfg.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	b := &Balancer{namer: newNamer(owner), logger: logger, backends: map[string]string{}}
	for _, s := range cfg.Sockets {
		e := endpoint{stats: socket{address: s.Address, timeout: timeout}, hardStopAfter: cfg.HardStopAfter}
		if s.MasterSocket != "" {
			e.master = &socket{address: s.MasterSocket, master: true, timeout: timeout}
		}
		b.endpoints = append(b.endpoints, e)
	}
	return b, nil
}

// ServerPrefix is what the names of our servers begin with; the instance's id
// follows.
func (b *Balancer) ServerPrefix() string { return b.namer.prefix }

// Pool returns the pool of a group, without contacting HAProxy. A backend belongs
// to one group: members of the other would look like leftovers.
func (b *Balancer) Pool(group string, cfg PoolConfig) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("haproxy pool of group %q: %w", group, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if other, taken := b.backends[cfg.Backend]; taken && other != group {
		return nil, fmt.Errorf("haproxy pool of group %q: backend %q is the pool of group %q already", group, cfg.Backend, other)
	}
	b.backends[cfg.Backend] = group
	return &Pool{
		group: group, cfg: cfg, endpoints: b.endpoints, namer: b.namer,
		options: append(cfg.Check.words(), cfg.ServerOptions...),
		logger:  b.logger.With("group", group, "backend", cfg.Backend),
		born:    map[born]bool{}, joining: map[string]bool{}, leaving: map[string]time.Time{}, pids: map[string]int{},
	}, nil
}

// Pool is one group's backend. It implements scaling.Balancer.
type Pool struct {
	group     string
	cfg       PoolConfig
	options   []string
	endpoints []endpoint
	namer     namer
	logger    *slog.Logger

	mu      sync.Mutex
	born    map[born]bool
	joining map[string]bool // servers that the last wish had on their way into service
	pids    map[string]int  // by socket: the worker that answered last
	// leaving has the servers that the last wish had leave, and since when.
	leaving map[string]time.Time
}

// born says that a server was added as a newcomer in this very worker, so that no
// older one can have sessions of it.
type born struct {
	socket, server string
	pid            int
}

var _ scaling.Balancer = (*Pool)(nil)

// Capabilities are those of HAProxy: it drains, counts and checks.
func (p *Pool) Capabilities() scaling.Capabilities {
	return scaling.Capabilities{Drain: true, Sessions: true, Health: true}
}

// Observe reports the pool over all sockets. A member is ready only if it is
// ready at all of them, up only if it is up at all of them, and its sessions are
// the sum, older workers included, or -1 where a reload may have left older
// workers behind that cannot be asked. A server that only older workers still
// serve is reported as draining until they have finished.
func (p *Pool) Observe(ctx context.Context) (scaling.PoolStatus, error) {
	views, err := p.views(ctx)
	if err != nil {
		return scaling.PoolStatus{}, fmt.Errorf("observe the pool of group %q: %w", p.group, err)
	}
	var status scaling.PoolStatus
	index := map[string]int{}
	have := map[string]int{}
	for i, v := range views {
		for _, m := range p.members(i, v) {
			have[m.Server]++
			if at, ok := index[m.Server]; ok {
				status.Members[at] = merge(status.Members[at], m)
				continue
			}
			index[m.Server] = len(status.Members)
			status.Members = append(status.Members, m)
		}
	}
	for i := range status.Members {
		// One that not every HAProxy has yet is not in service.
		if m := &status.Members[i]; have[m.Server] < len(views) && m.State == scaling.MemberReady && !m.Foreign {
			m.State = scaling.MemberJoining
		}
	}
	return status, nil
}

// members lists the servers of one HAProxy, then ours that only its older workers
// still serve: but for those whose sessions are to be cut, since that cannot be
// done in an older worker and nobody is to wait for it any more.
func (p *Pool) members(i int, v view) []scaling.MemberStatus {
	var out []scaling.MemberStatus
	listed := map[string]bool{}
	for _, s := range v.servers {
		listed[s.name] = true
		out = append(out, p.status(i, v, s))
	}
	for _, o := range v.older {
		for name := range o.servers {
			id, ours := p.namer.id(name)
			n := v.olderSessions(name)
			if listed[name] || !ours || n == 0 || p.cuts(name) {
				continue
			}
			listed[name] = true
			out = append(out, scaling.MemberStatus{
				ID: id, Server: name, State: scaling.MemberDraining, Health: scaling.HealthUnknown, Sessions: n,
			})
		}
	}
	return out
}

func (p *Pool) status(i int, v view, s server) scaling.MemberStatus {
	m := scaling.MemberStatus{Server: s.name, Addr: s.addr, Health: scaling.HealthUnknown}
	m.ID, m.Foreign = p.member(s.name)
	switch {
	case s.ready():
		m.State = scaling.MemberReady
	case s.maint():
		m.State = scaling.MemberLeaving
	case p.joins(s.name):
		m.State = scaling.MemberJoining
	default:
		m.State = scaling.MemberDraining
	}
	switch {
	case s.passed():
		m.Health = scaling.HealthUp
	case s.failed():
		m.Health = scaling.HealthDown
	}
	m.Sessions = s.sessions + v.olderSessions(s.name)
	if !v.complete && !p.bornHere(i, v, s.name) {
		m.Sessions = -1
	}
	return m
}

func (p *Pool) member(server string) (id string, foreign bool) {
	id, ours := p.namer.id(server)
	if !ours {
		return "", true
	}
	return id, false
}

// joins tells a joining server from a draining one: at HAProxy both are in the
// state drain, and only the last wish tells them apart.
func (p *Pool) joins(server string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.joining[server]
}

// cutGrace is how long a member was wished leaving at least before its sessions
// are cut. An observation may have missed a request that was given to the member
// just before, and that one should end by itself.
const cutGrace = time.Second

// cuts reports whether a server has been leaving for so long that its sessions may
// be cut. After a start that time begins anew.
func (p *Pool) cuts(server string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	since, leaving := p.leaving[server]
	return leaving && time.Since(since) >= cutGrace
}

func (p *Pool) bornHere(i int, v view, server string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.born[born{p.endpoints[i].stats.address, server, v.info.pid}]
}

// merge combines what two HAProxy say of a member, each time the worse.
func merge(a, b scaling.MemberStatus) scaling.MemberStatus {
	rank := map[scaling.MemberState]int{
		scaling.MemberReady: 0, scaling.MemberJoining: 1, scaling.MemberDraining: 2, scaling.MemberLeaving: 3,
	}
	if rank[b.State] > rank[a.State] {
		a.State = b.State
	}
	switch {
	case a.Health == scaling.HealthDown || b.Health == scaling.HealthDown:
		a.Health = scaling.HealthDown
	case a.Health != b.Health:
		a.Health = scaling.HealthUnknown
	}
	if a.Sessions < 0 || b.Sessions < 0 {
		a.Sessions = -1
	} else {
		a.Sessions += b.Sessions
	}
	if !a.Addr.IsValid() {
		a.Addr = b.Addr
	}
	return a
}

// views reads all HAProxy, one after the other: each is bounded by ctx and by
// its own timeout per command.
func (p *Pool) views(ctx context.Context) ([]view, error) {
	views := make([]view, len(p.endpoints))
	var errs []error
	for i := range p.endpoints {
		v, err := p.view(ctx, i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		views[i] = v
	}
	return views, classify(errs)
}

// view reads one HAProxy and remembers which worker answered.
func (p *Pool) view(ctx context.Context, i int) (view, error) {
	e := p.endpoints[i]
	v, err := e.view(ctx, p.cfg.Backend)
	if err != nil {
		return view{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	last, known := p.pids[e.stats.address]
	p.pids[e.stats.address] = v.info.pid
	if known && last != v.info.pid {
		p.logger.Info("haproxy was reloaded or restarted", "socket", e.stats.address, "pid", v.info.pid, "was_pid", last)
		for b := range p.born {
			if b.socket == e.stats.address && b.pid != v.info.pid {
				delete(p.born, b)
			}
		}
	}
	return v, nil
}

// classify joins errors under the class of the first that a person must act on,
// else of the first.
func classify(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	class := scaling.ClassOf(errs[0])
	for _, err := range errs {
		if scaling.ClassOf(err) == scaling.Permanent {
			class = scaling.Permanent
		}
	}
	return scaling.WithClass(class, errors.Join(errs...))
}
