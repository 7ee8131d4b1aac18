package engine

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/scaling"
)

var _ scaling.Cleaner = (*Engine)(nil)

// all returns the VMs of the last complete listing, by name; they are only read.
func (inv *inventory) all() []scaling.VM {
	inv.mu.Lock()
	defer inv.mu.Unlock()
	out := make([]scaling.VM, 0, len(inv.vms))
	for _, vm := range inv.vms {
		out = append(out, *vm)
	}
	slices.SortFunc(out, func(a, b scaling.VM) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out
}

// inventories returns the providers' listings by their configured name.
func (e *Engine) inventories() []*inventory {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make([]*inventory, 0, len(e.providers))
	for _, inv := range e.providers {
		out = append(out, inv)
	}
	slices.SortFunc(out, func(a, b *inventory) int { return cmp.Compare(a.name, b.name) })
	return out
}

// Orphans implements scaling.Cleaner.
func (e *Engine) Orphans(ctx context.Context) ([]scaling.Orphan, error) {
	ctx, cancel := context.WithTimeout(ctx, surveyDeadline)
	defer cancel()
	var unmarked []scaling.Orphan
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for _, inv := range e.inventories() {
			unmarked = append(unmarked, e.unmarked(ctx, inv)...)
		}
	}()
	left := e.leftovers(ctx)
	<-asked
	out := slices.Concat(e.marked(), unmarked, left)
	for _, g := range e.all() {
		out = append(out, g.lostMembers()...)
	}
	return out, nil
}

// marked lists the VMs with our mark that nobody answers for.
func (e *Engine) marked() []scaling.Orphan {
	var out []scaling.Orphan
	for _, inv := range e.inventories() {
		seen, err := inv.status()
		if seen.IsZero() {
			continue
		}
		for _, vm := range inv.all() {
			o, is := e.orphan(inv, vm)
			if !is {
				continue
			}
			if err != nil && o.Note == "" {
				o.Note = "the provider cannot be listed at present"
			}
			out = append(out, o)
		}
	}
	return out
}

// orphan tells what a listed VM is, if nobody answers for it.
func (e *Engine) orphan(inv *inventory, vm scaling.VM) (scaling.Orphan, bool) {
	o := scaling.Orphan{
		Kind: scaling.KindVM, Status: scaling.OrphanReleased, Provider: inv.name, Group: vm.Group, ID: vm.ID, Name: vm.Name, UUID: vm.UUID, Power: vm.Power,
		Adopted: vm.Adopted, CreatedAt: vm.CreatedAt,
	}
	g, err := e.group(vm.Group)
	if err != nil {
		o.Note = fmt.Sprintf("group %s is not configured; to remove it, configure the group again", vm.Group)
		return o, true
	}
	gc := g.config()
	g.mu.Lock()
	defer g.mu.Unlock()
	if gc.Group.Provider != inv.name {
		if g.state.Instance(vm.ID) != nil && g.state.Provider == inv.name {
			return o, false // the group keeps still until configuration and state agree
		}
		o.Note = fmt.Sprintf("group %s works at provider %s", vm.Group, gc.Group.Provider)
		return o, true
	}
	if g.state.Instance(vm.ID) != nil {
		return o, false
	}
	o.Status, o.Sightings = scaling.OrphanSeen, g.strange[vm.ID]
	if o.Sightings >= lostListings {
		o.Status = scaling.OrphanQuarantined
	}
	if m, ok := g.pool.status.Member(vm.ID); ok {
		o.Member = &m
	}
	switch why := g.untouchable(gc); {
	case why != "":
		o.Note = why
	case g.state.IsLetGo(vm.ID):
		o.Note = "was let go, and its mark could not be taken off: it is not removed; release the group again to take it off"
	case o.Member != nil && o.Member.State == scaling.MemberReady:
		o.Note = "takes traffic: it is removed only if that is asked for"
	case o.Adopted:
		o.Note = "was adopted: cleaning up takes its mark off and leaves it as it is"
	}
	return o, true
}

// unmarked lists the VMs that are not ours but for their name, where the provider
// can tell.
func (e *Engine) unmarked(ctx context.Context, inv *inventory) []scaling.Orphan {
	inv.mu.Lock()
	s, can := inv.provider.(scaling.Surveyor)
	inv.mu.Unlock()
	if !can {
		return nil
	}
	vms, err := s.Unmarked(ctx)
	if err != nil {
		e.log.Warn("the VMs that are not ours cannot be listed", "provider", inv.name, "err", err)
		return nil
	}
	var groups []scaling.Group
	for _, g := range e.all() {
		if gc := g.config().Group; gc.Provider == inv.name {
			groups = append(groups, gc)
		}
	}
	var out []scaling.Orphan
	for _, vm := range vms {
		k := slices.IndexFunc(groups, func(g scaling.Group) bool { return g.Names(vm.Name) && !slices.Contains(g.Adopt, vm.Name) })
		if k < 0 {
			continue
		}
		out = append(out, scaling.Orphan{
			Kind: scaling.KindVM, Status: scaling.OrphanUnmarked, Provider: inv.name, Group: groups[k].Name, Name: vm.Name, UUID: vm.UUID, Power: vm.Power,
			Note: "has no valid mark of ours: only listed",
		})
	}
	return out
}

// surveyDeadline bounds the look at VMs that are not ours and at what is no VM;
// people wait for it, and nothing else does.
const surveyDeadline = 4 * time.Second

// lostMembers lists our members in the group's pool that have neither an instance
// nor a VM.
func (g *group) lostMembers() []scaling.Orphan {
	inv := g.eng.inventory(g.config().Group.Provider)
	if inv == nil || !inv.seenOnce() {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []scaling.Orphan
	for _, m := range g.pool.status.Members {
		if m.Foreign || m.ID == "" || g.state.Instance(m.ID) != nil || g.state.IsLetGo(m.ID) {
			continue
		}
		if _, there := inv.vm(m.ID); there {
			continue
		}
		out = append(out, scaling.Orphan{
			Kind: scaling.KindMember, Status: scaling.OrphanMember, Group: g.name, ID: m.ID, Name: m.Server, Power: scaling.PowerUnknown, Member: &m,
			Note: "has no VM: it leaves the pool by itself",
		})
	}
	return out
}

// Cleanup implements scaling.Cleaner.
func (e *Engine) Cleanup(ctx context.Context, c scaling.Cleanup) ([]scaling.CleanupResult, error) {
	all := e.marked()
	if slices.ContainsFunc(c.IDs, func(id string) bool {
		return !slices.ContainsFunc(all, func(o scaling.Orphan) bool { return o.ID == id })
	}) {
		survey, cancel := context.WithTimeout(ctx, surveyDeadline)
		all = append(all, e.leftovers(survey)...)
		cancel()
	}
	out := make([]scaling.CleanupResult, 0, len(c.IDs))
	for _, id := range c.IDs {
		res := scaling.CleanupResult{ID: id}
		found := slices.DeleteFunc(slices.Clone(all), func(o scaling.Orphan) bool { return o.ID != id })
		switch {
		case id == "" || len(found) == 0:
			res.Refused = "no such orphan is listed any more"
		case slices.ContainsFunc(out, func(r scaling.CleanupResult) bool { return r.ID == id }):
			res.Refused = "named twice"
		case len(c.Groups) > 0 && !slices.Contains(c.Groups, found[0].Group):
			res.Refused = "it is not of the group that was asked for"
		case len(found) > 1:
			res.Refused = fmt.Sprintf("%d VMs carry this id, at %s and %s: remove the wrong one by hand", len(found), found[0].Provider, found[1].Provider)
		default:
			o := found[0]
			res.Group, res.Name = o.Group, o.Name
			var err error
			switch o.Kind {
			case scaling.KindSnapshot, scaling.KindAddress:
				err = e.discard(ctx, o, c)
				res.Removed = err == nil
			case scaling.KindVM, scaling.KindMember, scaling.KindParts:
				res.Activity, err = e.clean(ctx, o, c)
			}
			if err != nil {
				var ok bool
				if res.Refused, ok = strings.CutPrefix(err.Error(), scaling.ErrRefused.Error()+": "); !ok {
					return out, fmt.Errorf("clean up %s of group %s: %w", o.Name, o.Group, err)
				}
			}
		}
		out = append(out, res)
	}
	return out, nil
}

// sure refuses an orphan that is not known to be one.
func sure(o scaling.Orphan) error {
	if o.Status == scaling.OrphanQuarantined {
		return nil
	}
	why := o.Note
	if o.Status == scaling.OrphanSeen && why == "" {
		why = fmt.Sprintf("seen in %d complete listings in a row, and %d are needed", o.Sightings, lostListings)
	}
	return fmt.Errorf("%w: %s: %s", scaling.ErrRefused, o.Status, why)
}

// clean begins the removal of one orphan. Whoever owns the VM is asked again by
// the provider, which deletes nothing without a valid mark for this id.
func (e *Engine) clean(ctx context.Context, o scaling.Orphan, c scaling.Cleanup) (activity string, err error) {
	if err := sure(o); err != nil {
		return "", err
	}
	g, err := e.group(o.Group)
	if err != nil {
		return "", err
	}
	if err := e.knownElsewhere(ctx, o.ID, g); err != nil {
		return "", err
	}
	gc := g.config()
	vm, member, err := g.cleanable(o, gc, c.Serving)
	if err != nil {
		return "", err
	}
	err = g.change(ctx, func(s *scaling.State) error {
		activity, err = s.Clean(vm, member, gc.Group, c.By, g.now(), e.opts.IDs)
		return err
	})
	if err != nil {
		return "", err
	}
	g.mu.Lock()
	delete(g.strange, o.ID)
	g.mu.Unlock()
	g.log.Warn("an orphan is removed by order", "vm", o.Name, "id", o.ID, "uuid", o.UUID, "by", c.By, "activity", activity)
	poke(g.poolWake)
	poke(g.wake)
	return activity, nil
}

// knownElsewhere refuses an id that another group answers for, by its state, be the group
// configured or not, or by its pool.
func (e *Engine) knownElsewhere(ctx context.Context, id string, of *group) error {
	names, err := e.opts.Store.Groups(ctx)
	if err != nil {
		return fmt.Errorf("read which groups the store has: %w", err)
	}
	for _, name := range names {
		if _, err := e.group(name); err == nil {
			continue // looked at below
		}
		st, err := e.opts.Store.View(ctx, name)
		if err != nil {
			return fmt.Errorf("read the state of group %q: %w", name, err)
		}
		if st.Instance(id) != nil {
			return fmt.Errorf("%w: group %s knows it as an instance of its own", scaling.ErrRefused, name)
		}
	}
	for _, g := range e.all() {
		if g == of {
			continue
		}
		g.mu.Lock()
		_, member := g.pool.status.Member(id)
		known := g.state.Instance(id) != nil
		g.mu.Unlock()
		if known {
			return fmt.Errorf("%w: group %s knows it as an instance of its own", scaling.ErrRefused, g.name)
		}
		if member {
			return fmt.Errorf("%w: it is a member of the pool of group %s", scaling.ErrRefused, g.name)
		}
	}
	return nil
}

// cleanable returns what is to be removed and the address at which it has to be
// drained, invalid if it is in no pool.
func (g *group) cleanable(o scaling.Orphan, gc GroupConfig, serving bool) (vm scaling.VM, member netip.Addr, err error) {
	refused := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", scaling.ErrRefused, fmt.Sprintf(format, args...))
	}
	if g.observing() {
		return vm, member, refused("the group observes and touches nothing (mode or --observe)")
	}
	if why := g.misplaced(); why != "" {
		return vm, member, refused("%s", why)
	}
	inv := g.eng.inventory(gc.Group.Provider)
	if inv == nil {
		return vm, member, refused("provider %s is not listed", gc.Group.Provider)
	}
	if _, err := inv.status(); err != nil {
		return vm, member, refused("provider %s cannot be listed: %v", inv.name, err)
	}
	vm, there := inv.vm(o.ID)
	switch {
	case o.Kind == scaling.KindParts && there:
		return vm, member, refused("its VM %s is listed now", vm.Name)
	case o.Kind == scaling.KindParts:
		vm = scaling.VM{ID: o.ID, Group: o.Group, Name: o.Name, Power: scaling.PowerUnknown, CreatedAt: o.CreatedAt}
	case !there || vm.UUID != o.UUID || vm.Group != g.name:
		return vm, member, refused("it is not listed any more")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !g.checked:
		return vm, member, refused("the group was not held against its provider since the start")
	case g.pool.seen.IsZero():
		return vm, member, refused("the pool was not observed since the start")
	case g.pool.err != nil:
		return vm, member, refused("the pool cannot be observed: %v", g.pool.err)
	}
	// What the state forbids is said before what could be asked for.
	st := g.state.Clone()
	if _, err := st.Clean(vm, member, gc.Group, "", g.eng.clock.steady().Add(g.offset), g.eng.opts.IDs); err != nil {
		return vm, member, err
	}
	m, ok := g.pool.status.Member(o.ID)
	if !ok {
		return vm, member, nil
	}
	if m.State == scaling.MemberReady && !serving {
		return vm, member, refused("it takes traffic in pool %s: ask for that too (--serving), and it is drained first", gc.Group.Balancer)
	}
	member = m.Addr.Addr()
	if !member.IsValid() && len(vm.Addresses) > 0 {
		member = vm.Addresses[0]
	}
	if !member.IsValid() {
		return vm, member, refused("it is in the pool and its address is not known")
	}
	return vm, member, nil
}

// cleaning reports whether the instance is an orphan that is cleaned up.
func cleaning(st *scaling.State, i scaling.Instance) bool {
	a := st.Activity(i.Activity)
	return a != nil && a.Kind == scaling.ActivityCleanup
}

// orphanProblem says for people which orphans the group has; empty: none. The
// caller holds mu.
func (g *group) orphanProblem(inv *inventory) []string {
	var names []string
	for id, n := range g.strange {
		if n < lostListings || inv == nil {
			continue
		}
		name := id
		if vm, there := inv.vm(id); there {
			name = vm.Name
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return []string{fmt.Sprintf("quarantined, since the store knows nothing of them: %s; see scalehook cleanup", strings.Join(names, ", "))}
}

// orphanCollector counts the quarantined VMs at every scrape.
type orphanCollector struct {
	eng  *Engine
	desc *prometheus.Desc
}

func newOrphanCollector(e *Engine) *orphanCollector {
	return &orphanCollector{eng: e, desc: prometheus.NewDesc("scalehook_orphans",
		"VMs that carry a configured group's mark and that the store does not know; see scalehook cleanup.", []string{"provider"}, nil)}
}

// Describe implements prometheus.Collector.
func (c *orphanCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *orphanCollector) Collect(ch chan<- prometheus.Metric) {
	n := map[string]int{}
	for _, inv := range c.eng.inventories() {
		n[inv.name] = 0
	}
	for _, g := range c.eng.all() {
		n[g.config().Group.Provider] += g.orphans()
	}
	for name, v := range n {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(v), name)
	}
}
