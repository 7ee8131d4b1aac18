package simulated

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// pool is the state of one group's pool.
type pool struct {
	Members []*member `json:"members"`
}

type member struct {
	ID      string              `json:"id"`
	Server  string              `json:"server"`
	Addr    netip.AddrPort      `json:"addr"`
	State   scaling.MemberState `json:"state"`
	Since   time.Time           `json:"since"` // of State
	Foreign bool                `json:"foreign"`
	Leaving bool                `json:"leaving"` // goes once its sessions ended
}

func (p *pool) byAddress(a netip.Addr) *member {
	for _, m := range p.Members {
		if m.Addr.Addr() == a {
			return m
		}
	}
	return nil
}

func (p *pool) ours(id string) *member {
	for _, m := range p.Members {
		if m.ID == id && !m.Foreign {
			return m
		}
	}
	return nil
}

// Balancer is one group's pool as a scaling.Balancer.
type Balancer struct {
	w     *World
	group string
}

var _ scaling.Balancer = (*Balancer)(nil)

// Pool returns the pool of a group. Its members' health follows their VMs.
func (w *World) Pool(group string) *Balancer { return &Balancer{w: w, group: group} }

// AddMember adds a member that is nobody's to a group's pool.
func (w *World) AddMember(group, server string, addr netip.AddrPort) error {
	return w.effect(func() error {
		p := w.pool(group)
		p.Members = append(p.Members, &member{Server: server, Addr: addr, State: scaling.MemberReady, Since: w.s.At, Foreign: true})
		return nil
	})
}

// ForgetPool empties a group's pool but for foreign members, as a balancer does
// that restarts from its file.
func (w *World) ForgetPool(group string) error {
	return w.effect(func() error {
		p := w.pool(group)
		p.Members = slices.DeleteFunc(p.Members, func(m *member) bool { return !m.Foreign })
		return nil
	})
}

func (w *World) pool(group string) *pool {
	p := w.s.Pools[group]
	if p == nil {
		p = &pool{}
		w.s.Pools[group] = p
	}
	return p
}

// Capabilities implements scaling.Balancer.
func (b *Balancer) Capabilities() scaling.Capabilities {
	return scaling.Capabilities{Drain: true, Sessions: true, Health: true}
}

// Observe implements scaling.Balancer.
func (b *Balancer) Observe(ctx context.Context) (out scaling.PoolStatus, err error) {
	ref := scaling.Ref{Group: b.group}
	if err := b.w.enter(ctx, "observe.before", ref); err != nil {
		return out, err
	}
	err = b.w.effect(func() error {
		p, ok := b.w.s.Pools[b.group]
		if !ok {
			return nil
		}
		share := b.w.share(b.group)
		out.Members = make([]scaling.MemberStatus, 0, len(p.Members))
		for _, m := range p.Members {
			health := b.w.health(m)
			out.Members = append(out.Members, scaling.MemberStatus{
				ID: m.ID, Server: m.Server, Addr: m.Addr, State: m.State, Health: health, Sessions: b.w.sessions(m, health, share),
				Foreign: m.Foreign,
			})
		}
		return nil
	})
	if err == nil {
		err = b.w.fault(ctx, "observe.after", ref)
	}
	if err != nil {
		return scaling.PoolStatus{}, err
	}
	return out, nil
}

// Apply implements scaling.Balancer.
func (b *Balancer) Apply(ctx context.Context, want scaling.Pool) error {
	ref := scaling.Ref{Group: b.group}
	if err := b.w.enter(ctx, "apply.before", ref); err != nil {
		return err
	}
	if err := b.w.effect(func() error { return b.join(want) }); err != nil {
		return err
	}
	if err := b.w.fault(ctx, "apply.joined", ref); err != nil {
		return err
	}
	if err := b.w.effect(func() error {
		b.leave(want)
		return nil
	}); err != nil {
		return err
	}
	return b.w.fault(ctx, "apply.after", ref)
}

// join adds and readies, before anything is taken away.
func (b *Balancer) join(want scaling.Pool) error {
	p := b.w.pool(b.group)
	if len(want.Members) == 0 && !want.AllowEmpty && slices.ContainsFunc(p.Members, func(m *member) bool { return !m.Foreign }) {
		return scaling.Errorf(scaling.Permanent, "pool of %s: a wish without members would remove the last one", b.group)
	}
	for _, m := range want.Members {
		if m.State != scaling.MemberJoining && m.State != scaling.MemberReady {
			continue
		}
		if old := p.ours(m.ID); old != nil && old.Addr == m.Addr {
			old.Leaving = false
			b.w.turn(old, m.State)
			continue
		}
		p.Members = slices.DeleteFunc(p.Members, func(o *member) bool { return o.ID == m.ID && !o.Foreign })
		p.Members = append(p.Members, &member{ID: m.ID, Server: m.ID, Addr: m.Addr, State: m.State, Since: b.w.s.At})
	}
	return nil
}

// leave drains, and removes what has no sessions left or may be cut.
func (b *Balancer) leave(want scaling.Pool) {
	p := b.w.pool(b.group)
	p.Members = slices.DeleteFunc(p.Members, func(m *member) bool {
		if m.Foreign {
			return false
		}
		k := slices.IndexFunc(want.Members, func(o scaling.Member) bool { return o.ID == m.ID })
		switch {
		case k < 0:
			m.Leaving = true
			b.w.turn(m, scaling.MemberDraining)
		case want.Members[k].State == scaling.MemberLeaving:
			return true
		case want.Members[k].State == scaling.MemberDraining:
			m.Leaving = false
			b.w.turn(m, scaling.MemberDraining)
		}
		return m.Leaving && b.w.sessions(m, b.w.health(m), b.w.share(b.group)) == 0
	})
}

func (w *World) turn(m *member, s scaling.MemberState) {
	if m.State != s {
		m.State, m.Since = s, w.s.At
	}
}

// health is what a check of the member's VM would find.
func (w *World) health(m *member) scaling.Health {
	for _, v := range w.s.VMs {
		if v.Address == m.Addr.Addr() && w.booted(v, w.s.At) {
			return scaling.HealthUp
		}
	}
	return scaling.HealthDown
}

// share is what each ready member has of the load on its group, as sessions: ten
// per vCPU.
func (w *World) share(group string) int {
	load := w.loadOf(group)
	if load == 0 {
		return 0
	}
	return int(10*load/float64(max(1, len(w.serving(group)))) + 0.5)
}

// sessions are a ready member's share of the load, and a draining one's until the
// drain time is over.
func (w *World) sessions(m *member, health scaling.Health, share int) int {
	up := health == scaling.HealthUp
	switch {
	case up && m.State == scaling.MemberReady:
		return share
	case up && m.State == scaling.MemberDraining && w.s.At.Before(m.Since.Add(w.cfg.DrainTime)):
		return 1
	}
	return 0
}
