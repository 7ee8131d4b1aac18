package octavia

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// site is what there is for a group. Nil is what is not there yet.
type site struct {
	lb       *loadbalancers.LoadBalancer
	pool     *pools.Pool
	listener *listeners.Listener // only looked for where it is to be ours
	monitor  *monitors.Monitor
	subnet   string // of the load balancer to be made
	network  string
	members  string // their subnet
	looked   time.Time
}

// traits says what is to be thought of the members.
func (s *site) traits(cfg PoolConfig) traits {
	t := traits{weight: cfg.Weight}
	switch {
	case cfg.WeightZero != nil:
		t.zero = *cfg.WeightZero
	case s.lb != nil:
		t.zero = honours(s.lb.Provider)
	default:
		t.zero = honours(cfg.Provider)
	}
	monitored := !cfg.adopts() && cfg.Monitor.Type != none
	if s.pool != nil {
		monitored = s.monitor != nil && s.monitor.AdminStateUp
	}
	t.checked = t.zero && monitored
	return t
}

// settle is how long the health of a newcomer is not believed: until its first check
// must have ended, and the report after it have come.
func (s *site) settle(heartbeat time.Duration) time.Duration {
	if s.monitor == nil {
		return heartbeat
	}
	return time.Duration(s.monitor.Delay+s.monitor.Timeout)*time.Second + heartbeat
}

// look finds what there is for the group, and changes nothing. What is adopted has
// to be there; what is to be made may be, and what it is to be made of has to.
func (p *Pool) look(ctx context.Context) (*site, error) {
	client, err := p.b.cloud.LoadBalancer(ctx)
	if err != nil {
		return nil, err
	}
	s := &site{looked: time.Now()}
	if p.cfg.MemberSubnet != "" {
		subnet, err := p.b.cloud.FindSubnet(ctx, p.cfg.MemberSubnet)
		if err != nil {
			return nil, fmt.Errorf("member_subnet: %w", err)
		}
		s.members = subnet.ID
	}
	if p.cfg.LoadBalancer != "" {
		lb, err := p.b.findLoadBalancer(ctx, client, p.cfg.LoadBalancer)
		if err != nil {
			return nil, err
		}
		s.lb = &lb
	}
	if p.cfg.adopts() {
		err = p.adopted(ctx, client, s)
	} else {
		err = p.made(ctx, client, s)
	}
	if err != nil {
		return nil, err
	}
	if s.pool != nil && s.pool.MonitorID != "" {
		s.monitor, err = monitors.Get(ctx, client, s.pool.MonitorID).Extract()
		if cloud.Gone(err) {
			s.monitor, err = nil, nil
		}
		if err != nil {
			return nil, cloud.Error(err, "look at health monitor %s", s.pool.MonitorID)
		}
	}
	return s, nil
}

// adopted finds the pool that is named.
func (p *Pool) adopted(ctx context.Context, client *gophercloud.ServiceClient, s *site) error {
	within := ""
	if s.lb != nil {
		within = s.lb.ID
	}
	if p.cfg.Listener != "" {
		l, err := p.b.findListener(ctx, client, p.cfg.Listener, within)
		if err != nil {
			return err
		}
		if l.DefaultPoolID == "" {
			return scaling.Errorf(scaling.Permanent, "listener %q (%s) has no default pool: give it one, or state pool", l.Name, l.ID)
		}
		s.pool, err = pools.Get(ctx, client, l.DefaultPoolID).Extract()
		if err != nil {
			return permanent(cloud.Error(err, "look at pool %s, the default of listener %q", l.DefaultPoolID, l.Name))
		}
	} else {
		found, err := p.b.findPool(ctx, client, p.cfg.Pool, within)
		if err != nil {
			return err
		}
		s.pool = &found
	}
	if s.lb != nil {
		return nil
	}
	if len(s.pool.Loadbalancers) != 1 {
		return scaling.Errorf(scaling.Permanent, "pool %q (%s) belongs to %d load balancers", s.pool.Name, s.pool.ID, len(s.pool.Loadbalancers))
	}
	lb, err := loadbalancers.Get(ctx, client, s.pool.Loadbalancers[0].ID).Extract()
	if err != nil {
		return permanent(cloud.Error(err, "look at load balancer %s of pool %q", s.pool.Loadbalancers[0].ID, s.pool.Name))
	}
	s.lb = lb
	return nil
}

// made finds what was made for the group, by its tags.
func (p *Pool) made(ctx context.Context, client *gophercloud.ServiceClient, s *site) error {
	tags, name := p.b.namer.tags(p.group, ""), p.b.namer.object(p.group)
	if s.lb == nil {
		lb, err := marked(ctx, p, "load balancer", loadbalancers.List(client, loadbalancers.ListOpts{Tags: tags}), loadbalancers.ExtractLoadBalancers,
			func(lb loadbalancers.LoadBalancer) ([]string, string) { return lb.Tags, lb.ID })
		if err != nil {
			return err
		}
		s.lb = lb
	}
	if s.lb == nil {
		return p.site(ctx, client, s, name)
	}
	pool, err := marked(ctx, p, "pool", pools.List(client, pools.ListOpts{LoadbalancerID: s.lb.ID, Tags: tags}), pools.ExtractPools,
		func(o pools.Pool) ([]string, string) { return o.Tags, o.ID })
	if err != nil {
		return err
	}
	s.pool = pool
	s.listener, err = marked(ctx, p, "listener", listeners.List(client, listeners.ListOpts{LoadbalancerID: s.lb.ID, Tags: tags}), listeners.ExtractListeners,
		func(o listeners.Listener) ([]string, string) { return o.Tags, o.ID })
	return err
}

// site finds what a load balancer is to be made of.
func (p *Pool) site(ctx context.Context, client *gophercloud.ServiceClient, s *site, name string) error {
	others, err := cloud.Pages(ctx, loadbalancers.List(client, loadbalancers.ListOpts{Name: name}), loadbalancers.ExtractLoadBalancers, "look for load balancers called %q", name)
	if err != nil {
		return err
	}
	for _, lb := range others {
		if lb.Name == name {
			return scaling.Errorf(scaling.Conflict, "load balancer %q (%s) exists and does not carry our tags: state load_balancer: %s to adopt it, or give it another name", name, lb.ID, lb.ID)
		}
	}
	if p.cfg.Subnet != "" {
		subnet, err := p.b.cloud.FindSubnet(ctx, p.cfg.Subnet)
		if err != nil {
			return err
		}
		s.subnet = subnet.ID
	}
	if p.cfg.Network != "" {
		network, err := p.b.cloud.FindNetwork(ctx, p.cfg.Network)
		if err != nil {
			return err
		}
		s.network = network.ID
	}
	return nil
}

// marked returns the one object of a listing that was made for the group, nil if
// there is none.
func marked[T any](ctx context.Context, p *Pool, kind string, pager pagination.Pager, extract func(pagination.Page) ([]T, error), of func(T) (tags []string, id string)) (*T, error) {
	all, err := cloud.Pages(ctx, pager, extract, "look for the %s of group %q", kind, p.group)
	if err != nil {
		return nil, err
	}
	var ours []T
	var ids []string
	for _, one := range all {
		if tags, id := of(one); p.b.namer.made(tags, p.group) {
			ours, ids = append(ours, one), append(ids, id)
		}
	}
	switch len(ours) {
	case 0:
		return nil, nil //nolint:nilnil // there is none
	case 1:
		return &ours[0], nil
	}
	slices.Sort(ids)
	return nil, scaling.Errorf(scaling.Permanent, "%d %ss carry the tags of group %q: %v; delete all but one, or take their tags off", len(ours), kind, p.group, ids)
}

var idRE = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// object is what finding by name or id needs to know.
type object struct{ id, name, project string }

// find returns the one object that is called so or has that id. list returns those
// that match. The project's own come before what an administrator sees besides.
func find[T any](ctx context.Context, b *Balancer, kind, name string, of func(T) object, list func(id, name string) ([]T, error)) (T, error) {
	var none T
	own, _, err := b.cloud.Project(ctx)
	if err != nil {
		return none, err
	}
	var all []T
	if idRE.MatchString(name) {
		if all, err = list(name, ""); err != nil {
			return none, err
		}
		all = slices.DeleteFunc(all, func(one T) bool { return of(one).id != name })
	}
	if len(all) == 0 {
		if all, err = list("", name); err != nil {
			return none, err
		}
		all = slices.DeleteFunc(all, func(one T) bool { return of(one).name != name })
	}
	if mine := slices.DeleteFunc(slices.Clone(all), func(one T) bool { return of(one).project != own }); len(mine) > 0 {
		all = mine
	}
	switch len(all) {
	case 1:
		return all[0], nil
	case 0:
	default:
		var ids []string
		for _, one := range all {
			ids = append(ids, of(one).id)
		}
		return none, cloud.Ambiguous(kind, name, ids)
	}
	if all, err = list("", ""); err != nil {
		return none, err
	}
	var names []string
	for _, one := range all {
		names = append(names, of(one).name)
	}
	return none, cloud.NotThere(kind, name, names)
}

func (b *Balancer) findLoadBalancer(ctx context.Context, client *gophercloud.ServiceClient, name string) (loadbalancers.LoadBalancer, error) {
	return find(ctx, b, "load balancer", name,
		func(o loadbalancers.LoadBalancer) object { return object{o.ID, o.Name, o.ProjectID} },
		func(id, as string) ([]loadbalancers.LoadBalancer, error) {
			return cloud.Pages(ctx, loadbalancers.List(client, loadbalancers.ListOpts{ID: id, Name: as}), loadbalancers.ExtractLoadBalancers, "look up load balancer %q", name)
		})
}

func (b *Balancer) findListener(ctx context.Context, client *gophercloud.ServiceClient, name, within string) (listeners.Listener, error) {
	return find(ctx, b, "listener", name,
		func(o listeners.Listener) object { return object{o.ID, o.Name, o.ProjectID} },
		func(id, as string) ([]listeners.Listener, error) {
			return cloud.Pages(ctx, listeners.List(client, listeners.ListOpts{ID: id, Name: as, LoadbalancerID: within}), listeners.ExtractListeners, "look up listener %q", name)
		})
}

func (b *Balancer) findPool(ctx context.Context, client *gophercloud.ServiceClient, name, within string) (pools.Pool, error) {
	return find(ctx, b, "pool", name,
		func(o pools.Pool) object { return object{o.ID, o.Name, o.ProjectID} },
		func(id, as string) ([]pools.Pool, error) {
			return cloud.Pages(ctx, pools.List(client, pools.ListOpts{ID: id, Name: as, LoadbalancerID: within}), pools.ExtractPools, "look up pool %q", name)
		})
}

// permanent makes an error of an object that is gone one that a person has to act on.
func permanent(err error) error {
	if scaling.IsNotFound(err) {
		return scaling.WithClass(scaling.Permanent, err)
	}
	return err
}
