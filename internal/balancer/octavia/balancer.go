package octavia

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// Balancer is the load balancer service of one cloud and hands out a pool per group.
// It starts no goroutine.
type Balancer struct {
	cloud     *cloud.Cloud
	namer     namer
	heartbeat time.Duration
	log       *slog.Logger
	// queues are this configuration's. After a reload a pool that was kept has those of
	// the configuration before: then two may send at once, and 409 settles it.
	queues queues
}

// New finds the credentials and contacts nothing. Members are named after the owner,
// so two installations that share a pool need two owners.
func New(cfg Config, owner string, log *slog.Logger) (*Balancer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("octavia: %w", err)
	}
	if owner == "" {
		return nil, errors.New("octavia: an owner is needed to name its members")
	}
	c, err := cloud.Open(cfg.Config, log)
	if err != nil {
		return nil, fmt.Errorf("octavia: %w", err)
	}
	return &Balancer{
		cloud: c, namer: newNamer(owner), log: log,
		heartbeat: cmp.Or(cfg.HeartbeatInterval, DefaultHeartbeatInterval),
	}, nil
}

// Close closes idle connections. Calls under way go on.
func (b *Balancer) Close() { b.cloud.Close() }

// MemberPrefix is what the names of our members begin with; the instance's id
// follows.
func (b *Balancer) MemberPrefix() string { return b.namer.prefix }

// Pool returns the pool of a group, without contacting the cloud. One of which a drain
// keeps no promise is logged, as soon as that is known.
func (b *Balancer) Pool(group string, cfg PoolConfig) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("octavia pool of group %q: %w", group, err)
	}
	p := &Pool{b: b, group: group, cfg: cfg.withDefaults(), log: b.log.With("group", group), history: history{}}
	p.warn()
	return p, nil
}

// Pool is one group's pool. It implements scaling.Balancer.
type Pool struct {
	b     *Balancer
	group string
	cfg   PoolConfig
	log   *slog.Logger

	mu      sync.Mutex
	at      *site   // what was found last; nil: look again
	traits  *traits // of what was found last; nil: nothing was
	last    wish
	history history
	warned  string // the caveat that was logged last
}

var _ scaling.Balancer = (*Pool)(nil)

// Capabilities are those of the load balancer's provider and of the pool's monitor,
// as far as they are known: before the first look, and where neither the
// configuration says it, nothing is promised, and no member joins unchecked.
// Sessions of a member are nothing that Octavia tells.
func (p *Pool) Capabilities() scaling.Capabilities {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.traits != nil:
		return scaling.Capabilities{Drain: p.traits.zero, Health: p.traits.checked}
	case p.cfg.Provider == "" && p.cfg.WeightZero == nil:
		return scaling.Capabilities{Health: true}
	}
	t := (&site{}).traits(p.cfg)
	return scaling.Capabilities{Drain: t.zero, Health: t.checked}
}

// Caveat says why nothing is promised of a drain, where that is known: a provider that
// gives members of weight 0 traffic, or one of which it is not known whether it does.
// Empty where weight 0 is honoured.
func (p *Pool) Caveat() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	const follows = "a drain takes the member out of the pool at once, and that a replacement loses no request is not promised"
	switch {
	case p.traits != nil && p.traits.zero, p.traits == nil && (&site{}).traits(p.cfg).zero:
		return ""
	case p.cfg.WeightZero != nil:
		return "weight_zero: false: members of weight 0 would get traffic: " + follows
	case p.at != nil && p.at.lb != nil:
		return fmt.Sprintf("provider %s of load balancer %q does not honour weight 0: %s", p.at.lb.Provider, p.at.lb.Name, follows)
	case p.cfg.Provider != "":
		return fmt.Sprintf("provider %s does not honour weight 0: %s", p.cfg.Provider, follows)
	case p.at != nil:
		return "the load balancer is still to be made, and by which provider is not stated: unless it honours weight 0, as amphora does, " + follows
	}
	return ""
}

// stale is how old what was found around the members may be, and staleNothing that
// there was no pool. That the load balancer or the pool is gone is noticed at once.
const (
	stale        = time.Minute
	staleNothing = 10 * time.Second
)

// locate returns what there is for the group, as it was not long ago. Whoever is going
// to make what is missing has to look first.
func (p *Pool) locate(ctx context.Context, makes bool) (*site, error) {
	p.mu.Lock()
	at := p.at
	p.mu.Unlock()
	if at != nil {
		age := time.Since(at.looked)
		if at.pool != nil && age < stale || at.pool == nil && !makes && age < staleNothing {
			return at, nil
		}
	}
	at, err := p.look(ctx)
	if err != nil {
		return nil, err
	}
	p.remember(at)
	return at, nil
}

func (p *Pool) remember(at *site) {
	p.mu.Lock()
	t := at.traits(p.cfg)
	p.at, p.traits = at, &t
	p.mu.Unlock()
	p.warn()
}

// warn logs the caveat, once as long as it stays the same.
func (p *Pool) warn() {
	caveat := p.Caveat()
	p.mu.Lock()
	said := p.warned
	p.warned = caveat
	p.mu.Unlock()
	if caveat != "" && caveat != said {
		p.log.Warn("losslessness is not promised", "because", caveat)
	}
}

func (p *Pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = nil
}

// Observe reports the pool. One that is still to be made is empty; one that is to be
// there and is not, and a wrong name of what it is to be made of, are Permanent.
func (p *Pool) Observe(ctx context.Context) (scaling.PoolStatus, error) {
	status, err := p.observe(ctx)
	if err != nil {
		p.forget()
		return scaling.PoolStatus{}, fmt.Errorf("observe the pool of group %q: %w", p.group, err)
	}
	return status, nil
}

func (p *Pool) observe(ctx context.Context) (scaling.PoolStatus, error) {
	for again := false; ; again = true {
		at, err := p.locate(ctx, false)
		if err != nil || at.pool == nil {
			return scaling.PoolStatus{}, err
		}
		have, err := p.members(ctx, at)
		if cloud.Gone(err) && !again {
			// Deleted since it was found, and perhaps made anew.
			p.forget()
			continue
		}
		if err != nil {
			return scaling.PoolStatus{}, err
		}
		p.mu.Lock()
		last := p.last
		p.mu.Unlock()
		return scaling.PoolStatus{Members: report(have, last, at.traits(p.cfg))}, nil
	}
}

// members lists the pool's members and judges their health.
func (p *Pool) members(ctx context.Context, at *site) ([]found, error) {
	client, err := p.b.cloud.LoadBalancer(ctx)
	if err != nil {
		return nil, err
	}
	var date time.Time // by the service's clock
	raw, err := cloud.Pages(ctx, pools.ListMembers(client, at.pool.ID, nil), func(page pagination.Page) ([]pools.Member, error) {
		if m, ok := page.(pools.MemberPage); ok {
			if d, err := http.ParseTime(m.Header.Get("Date")); err == nil {
				date = d
			}
		}
		return pools.ExtractMembers(page)
	}, "list the members of pool %q", at.pool.Name)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t, settle, now := at.traits(p.cfg), at.settle(p.b.heartbeat), time.Now()
	out := make([]found, 0, len(raw))
	for _, m := range raw {
		f := found{
			uuid: m.ID, name: m.Name, id: p.b.namer.id(m.Name), addr: addrOf(m),
			weight: m.Weight, up: m.AdminStateUp, status: m.ProvisioningStatus,
		}
		f.health = healthOf(m.OperatingStatus, t.checked, p.history.proved(m, now, date, settle))
		out = append(out, f)
	}
	p.history.forget(raw)
	return out, nil
}

// Apply makes the pool as wished: it makes what is missing around the members, if
// anybody is to serve, and then changes the members, one change after the other,
// those that come in before those that go out. An error ends it; what was done until
// then stays, and the next Apply goes on there. A load balancer takes a minute or two
// to be made: until then Apply is Temporary. One in ERROR is Permanent.
//
// It leaves a part of its time to whoever wants to observe the pool by the same
// deadline, so that a group sees its members even where no change gets through.
func (p *Pool) Apply(ctx context.Context, want scaling.Pool) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := p.apply(ctx, want); err != nil {
		if _, part := errors.AsType[memberError](err); !part {
			p.forget()
		}
		return fmt.Errorf("apply the pool of group %q: %w", p.group, err)
	}
	return nil
}

// bounded is ctx without its last quarter, which is at most 5s.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	left := longestApply
	if end, ok := ctx.Deadline(); ok {
		left = time.Until(end)
		left -= min(left/4, 5*time.Second)
	}
	return context.WithTimeoutCause(ctx, left, fmt.Errorf("not done within %v", left.Round(100*time.Millisecond)))
}

func (p *Pool) apply(ctx context.Context, want scaling.Pool) error {
	wanted, err := newWish(want, p.group, p.b.namer)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return scaling.WithClass(scaling.Temporary, err)
	}
	p.mu.Lock()
	p.last = wanted
	p.mu.Unlock()
	at, err := p.ready(ctx, wanted)
	if err != nil || at.pool == nil {
		return err
	}
	have, err := p.members(ctx, at)
	if err != nil {
		if cloud.Gone(err) {
			err = scaling.WithClass(scaling.Temporary, err)
		}
		return err
	}
	steps, not := plan(have, wanted, at.traits(p.cfg))
	for _, s := range steps {
		if err := p.do(ctx, at, s); err != nil {
			return err
		}
	}
	if len(not) > 0 {
		return scaling.WithClass(scaling.Conflict, not)
	}
	return nil
}

// ready returns the group's pool, made if anybody is to serve in it, at a load
// balancer that is not in ERROR. Its pool is nil if there is none and none is needed.
func (p *Pool) ready(ctx context.Context, want wish) (*site, error) {
	at, err := p.locate(ctx, want.needs())
	if err != nil {
		return nil, err
	}
	if at.lb != nil {
		client, err := p.b.cloud.LoadBalancer(ctx)
		if err != nil {
			return nil, err
		}
		// As it is now; the rest may be a minute old.
		lb, err := loadbalancers.Get(ctx, client, at.lb.ID).Extract()
		if err == nil {
			err = broken(lb)
		} else if err = cloud.Error(err, "look at load balancer %s", at.lb.ID); scaling.IsNotFound(err) {
			err = scaling.WithClass(scaling.Temporary, err) // the next look says more
		}
		if err != nil {
			return nil, err
		}
	}
	if !want.needs() && (at.pool == nil || at.listener == nil) {
		return at, nil
	}
	whole := *at
	if err := p.complete(ctx, &whole); err != nil {
		return nil, err
	}
	p.remember(&whole)
	return &whole, nil
}

// do makes one change of one member. One that is gone already was to be removed, or
// is added by the next Apply.
func (p *Pool) do(ctx context.Context, at *site, s step) error {
	pool := at.pool.ID
	switch s.kind {
	case add:
		return p.add(ctx, at, s)
	case set:
		up := true
		return p.write(ctx, at, "member.update", func(c *gophercloud.ServiceClient) error {
			return pools.UpdateMember(ctx, c, pool, s.member.uuid, pools.UpdateMemberOpts{Weight: &s.weight, AdminStateUp: &up}).Err
		}, "set the weight of member %s at %v from %d to %d", s.member.name, s.member.addr, s.member.weight, s.weight)
	case remove:
		return p.write(ctx, at, "member.delete", func(c *gophercloud.ServiceClient) error {
			err := pools.DeleteMember(ctx, c, pool, s.member.uuid).ExtractErr()
			if cloud.Gone(err) {
				return nil
			}
			return err
		}, "remove member %s at %v", s.member.name, s.member.addr)
	}
	return fmt.Errorf("unknown step %q", s.kind)
}

func (p *Pool) add(ctx context.Context, at *site, s step) error {
	w := s.wished
	opts := pools.CreateMemberOpts{
		Name: w.server, Address: w.addr.Addr().String(), ProtocolPort: int(w.addr.Port()), Weight: &s.weight,
		SubnetID: at.members, Tags: p.b.namer.tags(p.group, w.id),
	}
	if port := int(p.cfg.Monitor.Port); port != 0 {
		opts.MonitorPort = &port
	}
	return p.write(ctx, at, "member.create", func(c *gophercloud.ServiceClient) error {
		return pools.CreateMember(ctx, c, at.pool.ID, opts).Err
	}, "add %s as member %s at %v with weight %d", cmp.Or(w.name, w.id), w.server, w.addr, s.weight)
}
