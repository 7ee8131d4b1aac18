package haproxy

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Apply makes the pool as wished, in this order: newcomers are added with checks
// and without traffic; those wished ready whose check passed get traffic; the
// fragment is written; members are drained; members are removed. An error ends it
// before the next of these, except that one HAProxy's trouble does not keep a
// newcomer out of another. It looks at HAProxy after each change and never
// believes an answer.
//
// A member that is to serve and whose address a foreign server has is not added:
// see twinError. A member that leaves goes into maintenance first; what it still
// has is cut no earlier than cutGrace later. Members that moved to other addresses
// are replaced one by one: see moving.
//
// A member wished ready that HAProxy does not have, since it was restarted or
// reloaded, is added without traffic like any newcomer and gets traffic by the
// Apply that finds its check passed: this one, if that takes no longer than
// firstChecks, or a later one.
func (p *Pool) Apply(ctx context.Context, want scaling.Pool) error {
	if err := p.apply(ctx, want); err != nil {
		return fmt.Errorf("apply the pool of group %q to backend %q: %w", p.group, p.cfg.Backend, err)
	}
	return nil
}

func (p *Pool) apply(ctx context.Context, want scaling.Pool) error {
	wish, err := p.wish(want)
	if err != nil {
		return err
	}
	p.remember(wish)
	var (
		views = make([]view, len(p.endpoints))
		errs  []error
		twins = twinError{}
	)
	for i := range p.endpoints {
		v, err := p.view(ctx, i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		taken := p.twins(v, wish, twins)
		if views[i], err = p.admit(ctx, i, v, wish, taken); err != nil {
			errs = append(errs, err)
		}
	}
	if err := classify(errs); err != nil {
		return err
	}
	moving := p.moving(views, wish)
	// What a reload would start must be right before anything is drained: a
	// fragment that still lists a draining member would bring it back.
	if err := p.writeFragment(inService(views, wish, moving)); err != nil {
		return err
	}
	for i := range p.endpoints {
		v, err := p.drain(ctx, i, views[i], wish, moving)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := p.remove(ctx, i, views[i], v, wish); err != nil {
			errs = append(errs, err)
		}
	}
	if err := classify(errs); err != nil {
		return err
	}
	if len(twins) > 0 {
		return scaling.WithClass(scaling.Conflict, twins)
	}
	return nil
}

// wished is a member of the wish with the server it becomes.
type wished struct {
	server string
	addr   netip.AddrPort
	state  scaling.MemberState
}

// serves reports whether the member is on its way into service or in it.
func (w wished) serves() bool {
	return w.state == scaling.MemberJoining || w.state == scaling.MemberReady
}

// wish validates everything before anything is sent.
func (p *Pool) wish(want scaling.Pool) (map[string]wished, error) {
	if want.Group != p.group {
		return nil, scaling.Errorf(scaling.Permanent, "the wish is for group %q", want.Group)
	}
	if len(want.Members) == 0 && !want.AllowEmpty {
		return nil, scaling.Errorf(scaling.Permanent, "refused to empty the pool: a wish without members must say so")
	}
	wish := make(map[string]wished, len(want.Members))
	for _, m := range want.Members {
		if !nameWord.MatchString(m.ID) {
			return nil, scaling.Errorf(scaling.Permanent, "the instance id %q has characters that a server's name must not have", m.ID)
		}
		w := wished{server: p.namer.server(m.ID), state: m.State}
		if _, twice := wish[w.server]; twice {
			return nil, scaling.Errorf(scaling.Permanent, "the wish has instance %s twice", m.ID)
		}
		switch m.State {
		case scaling.MemberJoining, scaling.MemberReady:
			if !m.Addr.IsValid() || m.Addr.Port() == 0 || m.Addr.Addr().Zone() != "" || m.Addr.Addr().IsUnspecified() {
				return nil, scaling.Errorf(scaling.Permanent, "instance %s is to serve at %v, which is no address and port", m.ID, m.Addr)
			}
		case scaling.MemberDraining, scaling.MemberLeaving:
		default:
			return nil, scaling.Errorf(scaling.Permanent, "instance %s is wished in the unknown state %q", m.ID, m.State)
		}
		if m.Addr.IsValid() {
			w.addr = netip.AddrPortFrom(m.Addr.Addr().Unmap().WithZone(""), m.Addr.Port())
		}
		wish[w.server] = w
	}
	return wish, nil
}

func (p *Pool) remember(wish map[string]wished) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.leaving
	p.joining, p.leaving = map[string]bool{}, map[string]time.Time{}
	for name, w := range wish {
		p.joining[name] = w.serves()
		if w.state != scaling.MemberLeaving {
			continue
		}
		p.leaving[name] = time.Now()
		if since, ok := was[name]; ok {
			p.leaving[name] = since
		}
	}
}

// admit adds what is missing and lets in what is checked. It only ever adds
// capacity.
func (p *Pool) admit(ctx context.Context, i int, v view, wish map[string]wished, taken map[string]bool) (view, error) {
	changed, missing := false, false
	for name, w := range wish {
		s, there := v.server(name)
		switch {
		case taken[name] && !there:
		case !there && w.serves(), !there && w.state == scaling.MemberDraining && w.addr.IsValid():
			if err := p.add(ctx, i, v, w); err != nil {
				return v, err
			}
			changed = true
			missing = missing || w.state == scaling.MemberReady
		case there && w.serves() && s.addr == w.addr && (s.maint() || !s.checked):
			if err := p.check(ctx, i, name); err != nil {
				return v, err
			}
			changed = true
		}
	}
	if changed {
		var err error
		if v, err = p.look(ctx, i, wish, missing); err != nil {
			return v, err
		}
		if err := p.verify(v, wish, "is not in the pool after it was added", func(w wished, _ server, there bool) bool {
			return there || !w.serves() || taken[w.server]
		}); err != nil {
			return v, err
		}
	}
	readied := map[string]bool{}
	for name, w := range wish {
		s, there := v.server(name)
		if w.state != scaling.MemberReady || !there || taken[name] || s.addr != w.addr || !s.draining() || !s.passed() {
			continue
		}
		if err := p.set(ctx, i, name, "ready"); err != nil {
			return v, err
		}
		readied[name] = true
	}
	if len(readied) == 0 {
		return v, nil
	}
	v, err := p.view(ctx, i)
	if err != nil {
		return v, err
	}
	return v, p.verify(v, wish, "was not put into service", func(w wished, s server, _ bool) bool {
		return !readied[w.server] || s.ready()
	})
}

// firstChecks is how long an Apply that found members in service missing gives
// their first checks to end. After a restart of HAProxy that spares clients the
// time until the next Apply. HAProxy makes the first check of a server one of its
// shorter intervals after checks were enabled; with long ones nobody waits for it.
func (p *Pool) firstChecks() time.Duration {
	check := p.cfg.Check.withDefaults()
	return min(max(check.FastInter, check.DownInter), 600*time.Millisecond) + 300*time.Millisecond
}

// look reads the pool after servers were added: once, or with patience until each
// that is to be ready has had its first check, whatever came of it.
func (p *Pool) look(ctx context.Context, i int, wish map[string]wished, patience bool) (view, error) {
	end := time.Now().Add(p.firstChecks())
	for {
		v, err := p.view(ctx, i)
		if err != nil || !patience || time.Now().After(end) {
			return v, err
		}
		pending := false
		for name, w := range wish {
			s, there := v.server(name)
			pending = pending || w.state == scaling.MemberReady && there && !s.ended()
		}
		if !pending {
			return v, nil
		}
		select {
		case <-ctx.Done():
			return v, nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// add registers a server: it comes in maintenance, and goes from there straight
// into drain with checks running, so that no request can reach it.
func (p *Pool) add(ctx context.Context, i int, v view, w wished) error {
	words := append([]string{"add", "server", p.path(w.server), w.addr.String()}, p.options...)
	if v.info.atLeast(3, 1) {
		// Even an operator's "set server … state ready" must not give it traffic
		// before its first check.
		words = append(words, "init-state", "fully-down")
	}
	answer, err := p.endpoints[i].stats.change(ctx, words...)
	if err != nil {
		return err
	}
	if !strings.Contains(answer, "registered") {
		return p.refused(i, "add "+p.path(w.server), answer, scaling.Permanent)
	}
	if w.state == scaling.MemberJoining {
		p.mu.Lock()
		p.born[born{p.endpoints[i].stats.address, w.server, v.info.pid}] = true
		p.mu.Unlock()
	}
	p.logger.Info("server added to haproxy", "server", w.server, "address", w.addr.String(), "socket", p.endpoints[i].stats.address)
	return p.check(ctx, i, w.server)
}

// check starts the health checks of a server and takes it out of maintenance
// without giving it traffic.
func (p *Pool) check(ctx context.Context, i int, server string) error {
	answer, err := p.endpoints[i].stats.change(ctx, "enable", "health", p.path(server))
	if err != nil {
		return err
	}
	if answer != "" {
		return p.refused(i, "enable the checks of "+p.path(server), answer, scaling.Temporary)
	}
	return p.set(ctx, i, server, "drain")
}

func (p *Pool) set(ctx context.Context, i int, server, state string) error {
	answer, err := p.endpoints[i].stats.change(ctx, "set", "server", p.path(server), "state", state)
	if err != nil {
		return err
	}
	if answer != "" {
		return p.refused(i, fmt.Sprintf("set %s to %s", p.path(server), state), answer, scaling.Temporary)
	}
	p.logger.Info("server set", "server", server, "state", state, "socket", p.endpoints[i].stats.address)
	return nil
}

// drain takes traffic from everything of ours that should have none.
func (p *Pool) drain(ctx context.Context, i int, v view, wish map[string]wished, moving map[string]bool) (view, error) {
	drained := map[string]bool{}
	for _, s := range v.servers {
		if !s.ready() || p.keeps(s, wish, moving) {
			continue
		}
		if w, ok := wish[s.name]; ok && w.state == scaling.MemberLeaving {
			continue // goes into maintenance in a moment
		}
		if err := p.set(ctx, i, s.name, "drain"); err != nil {
			return v, err
		}
		drained[s.name] = true
	}
	if len(drained) == 0 {
		return v, nil
	}
	v, err := p.view(ctx, i)
	if err != nil {
		return v, err
	}
	for _, s := range v.servers {
		if drained[s.name] && s.ready() {
			return v, scaling.Errorf(scaling.Temporary, "haproxy at %s: %s still takes traffic after it was drained", p.endpoints[i].stats.address, p.path(s.name))
		}
	}
	return v, nil
}

// keeps reports whether a server that takes traffic is to keep it: it is foreign,
// or wished ready, at that address or at another whose turn has not come.
func (p *Pool) keeps(s server, wish map[string]wished, moving map[string]bool) bool {
	if _, ours := p.namer.id(s.name); !ours {
		return true
	}
	w, ok := wish[s.name]
	return ok && w.state == scaling.MemberReady && (w.addr == s.addr || !moving[s.name])
}

// remove deletes what is wished leaving, what is not wished and what has drained
// for its move to another address, once it has no sessions. What leaves goes into
// maintenance at once, and its sessions are cut when it was there at the start of
// an Apply and cutGrace is over. before is what the pool was at the start: a server
// that took traffic then may have been given a request that is not counted yet, so
// it waits for the next Apply.
func (p *Pool) remove(ctx context.Context, i int, before, v view, wish map[string]wished) error {
	gone := map[string]bool{}
	for _, s := range v.servers {
		if _, ours := p.namer.id(s.name); !ours {
			continue
		}
		w, ok := wish[s.name]
		leaves := ok && w.state == scaling.MemberLeaving
		stays := ok && !leaves && (!w.addr.IsValid() || w.addr == s.addr)
		if stays {
			continue
		}
		b, _ := before.server(s.name)
		switch {
		case leaves && b.ready():
			if err := p.set(ctx, i, s.name, "maint"); err != nil {
				return err
			}
			gone[s.name] = false
			continue
		case !leaves && (b.ready() || s.sessions > 0 || v.olderSessions(s.name) > 0):
			continue
		}
		deleted, err := p.delete(ctx, i, s, leaves && b.maint() && p.cuts(s.name))
		if err != nil {
			return err
		}
		gone[s.name] = deleted
	}
	if len(gone) == 0 {
		return nil
	}
	v, err := p.view(ctx, i)
	if err != nil {
		return err
	}
	for name, deleted := range gone {
		s, there := v.server(name)
		if there && (deleted || !s.maint()) {
			return scaling.Errorf(scaling.Temporary, "haproxy at %s: %s is still there after it was removed", p.endpoints[i].stats.address, p.path(name))
		}
	}
	return nil
}

// delete takes one server out. False without an error means that connections are
// still attached: it stays in maintenance for the next Apply.
func (p *Pool) delete(ctx context.Context, i int, s server, cut bool) (bool, error) {
	stats := p.endpoints[i].stats
	if !s.maint() {
		if err := p.set(ctx, i, s.name, "maint"); err != nil {
			return false, err
		}
	}
	if cut {
		answer, err := stats.change(ctx, "shutdown", "sessions", "server", p.path(s.name))
		if err != nil {
			return false, err
		}
		if answer != "" {
			return false, p.refused(i, "cut the sessions of "+p.path(s.name), answer, scaling.Temporary)
		}
		if s.sessions > 0 {
			p.logger.Warn("sessions cut", "server", s.name, "sessions", s.sessions, "socket", stats.address)
		}
	}
	answer, err := stats.change(ctx, "del", "server", p.path(s.name))
	if err != nil {
		return false, err
	}
	switch {
	case strings.Contains(answer, "deleted"), strings.Contains(answer, "No such server"):
		p.logger.Info("server removed from haproxy", "server", s.name, "cut", cut, "socket", stats.address)
		return true, nil
	case strings.Contains(answer, "still has connections"):
		return false, nil
	}
	return false, p.refused(i, "delete "+p.path(s.name), answer, scaling.Temporary)
}

// verify looks for the first member of the wish that is not as it should be.
func (p *Pool) verify(v view, wish map[string]wished, problem string, right func(wished, server, bool) bool) error {
	for name, w := range wish {
		if s, there := v.server(name); !right(w, s, there) {
			return scaling.Errorf(scaling.Temporary, "server %s %s", p.path(name), problem)
		}
	}
	return nil
}

func (p *Pool) path(server string) string { return p.cfg.Backend + "/" + server }

func (p *Pool) refused(i int, what, answer string, class scaling.Class) error {
	at := p.endpoints[i].stats.address
	if known := refusal(answer); known != nil {
		return fmt.Errorf("haproxy at %s: %s: %w", at, what, known)
	}
	return scaling.Errorf(class, "haproxy at %s: %s: refused with %q", at, what, shorten(answer))
}
