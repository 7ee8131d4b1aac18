package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
)

// Runtime is what a configuration names, built and ready to use. It is a value of
// one configuration: a reload makes the next one, which shares the drivers that
// did not change.
type Runtime struct {
	// Owner is the stable id of this installation.
	Owner string
	// Groups are the groups by name.
	Groups []scaling.Group
	// Providers are the providers by their configured name.
	Providers map[string]scaling.Provider
	// Balancers are the pools by group.
	Balancers map[string]scaling.Balancer
	// Maintenance are the maintenance windows by group.
	Maintenance map[string]Windows
	// Meter reads CPU utilisation; nil without Prometheus.
	Meter scaling.Meter
	// Confirmers are those that are configured, in the order in which they are asked.
	Confirmers []scaling.Confirmer
	// Tokens are the server's, with absolute file names.
	Tokens []Token
	// Webhooks are told of ended activities; their file names are absolute.
	Webhooks []Webhook
	// Collectors publish the metrics of simulated VMs; each is to be registered.
	Collectors []prometheus.Collector
	// Worlds are the simulated providers' worlds by the provider's name.
	Worlds map[string]*simulated.World

	cfg       *Config
	log       *slog.Logger
	providers map[string]*provider
	sources   []*source
}

// provider is an open provider. Several runtimes may hold it.
type provider struct {
	scaling.Provider

	cfg          any
	holders      int
	world        *simulated.World // nil but for a simulated one
	setTemplates func(map[string]any) error
	check        func(context.Context) (warnings []string, err error)
	close        func() error
}

// Build opens what the configuration names. Nothing is contacted: a host, a
// balancer or a source that cannot be reached is the engine's business.
func (c *Config) Build(_ context.Context, log *slog.Logger) (*Runtime, error) {
	return c.build(log, nil)
}

// Reload builds the runtime of another configuration and keeps the connections of
// what did not change. The old runtime goes on working; close it once nobody uses
// it any more, which ends only what the new one did not take over.
func (r *Runtime) Reload(_ context.Context, c *Config) (*Runtime, error) {
	if c.Owner != r.cfg.Owner {
		p := problems{at: c.lines}
		p.addf([]string{"owner"}, "changed from %q to %q: every VM would become a stranger; change it only while no VM carries a mark", r.cfg.Owner, c.Owner)
		return nil, p.err()
	}
	return c.build(r.log, r)
}

func (c *Config) build(log *slog.Logger, old *Runtime) (_ *Runtime, err error) {
	r := &Runtime{
		Owner:     c.Owner,
		Providers: map[string]scaling.Provider{}, Balancers: map[string]scaling.Balancer{}, Tokens: slices.Clone(c.Tokens),
		Webhooks:    slices.Clone(c.Webhooks),
		Maintenance: map[string]Windows{},
		Worlds:      map[string]*simulated.World{}, cfg: c, log: log, providers: map[string]*provider{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		r.Groups = append(r.Groups, c.scalingGroup(name))
		r.Maintenance[name] = c.Groups[name].Maintenance
	}
	kept := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.Providers)) {
		if kept[name], err = r.openProvider(name, old); err != nil {
			return nil, c.placed(err, "providers", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Balancers)) {
		if err := r.openBalancer(name, old); err != nil {
			return nil, c.placed(err, "balancers", name)
		}
	}
	if err := r.openSources(old); err != nil {
		return nil, err
	}
	// Last, since it also reaches the runtime that is in use.
	for name := range kept {
		if kept[name] {
			if err := r.providers[name].setTemplates(c.templates(name)); err != nil {
				return nil, c.placed(err, "providers", name)
			}
		}
	}
	return r, nil
}

// templates are those of the groups that use a provider.
func (c *Config) templates(provider string) map[string]any {
	out := map[string]any{}
	for name, g := range c.Groups {
		if g.Provider == provider && g.template != nil {
			out[name] = g.template
		}
	}
	return out
}

func (r *Runtime) openProvider(name string, old *Runtime) (kept bool, err error) {
	d, err := r.cfg.Providers[name].driver()
	if err != nil {
		return false, err
	}
	var p *provider
	if old != nil {
		p = old.providers[name]
	}
	switch {
	case p != nil && reflect.DeepEqual(p.cfg, d.config()):
		kept = true
	case p != nil && p.world != nil:
		return false, errors.New("a simulated provider cannot be changed while scalehook runs: its VMs would vanish")
	default:
		if p, err = d.open(r.cfg.Owner, r.cfg.templates(name), r.log.With("provider", name)); err != nil {
			return false, err
		}
		p.cfg = d.config()
	}
	p.holders++
	r.providers[name], r.Providers[name] = p, p.Provider
	if p.world != nil {
		r.Worlds[name] = p.world
		r.Collectors = append(r.Collectors, p.world.Collector())
	}
	return kept, nil
}

// openBalancer opens the pools of a balancer. A pool that did not change is kept,
// with what it remembers of its members.
func (r *Runtime) openBalancer(name string, old *Runtime) error {
	d, err := r.cfg.Balancers[name].driver()
	if err != nil {
		return err
	}
	pools := map[string]any{}
	for group, g := range r.cfg.Groups {
		if g.Balancer == name {
			pools[group] = g.pool
		}
	}
	opened, err := d.open(r, r.cfg.Owner, pools, r.log.With("balancer", name))
	if err != nil {
		return err
	}
	for group, pool := range opened {
		r.Balancers[group] = pool
		if old == nil || old.cfg.Groups[group] == nil || old.Balancers[group] == nil {
			continue
		}
		was := old.cfg.Groups[group]
		before, err := old.cfg.Balancers[was.Balancer].driver()
		if err == nil && was.Balancer == name && reflect.DeepEqual(before.config(), d.config()) && reflect.DeepEqual(was.pool, pools[group]) {
			r.Balancers[group] = old.Balancers[group]
		}
	}
	return nil
}

// placed says where the section is that a driver cannot be opened with.
func (c *Config) placed(err error, section ...string) error {
	p := problems{at: c.lines}
	p.place(err, nil, section)
	return p.err()
}

// A Finding is what asking one provider, pool or source found, each with the file and
// the line that it is about.
type Finding struct {
	// Section is that of the file: providers, balancers, prometheus or alertmanagers.
	Section string
	// Name is the provider's or the balancer's; Group is whose pool it is.
	Name, Group string
	// Warnings are what an operator should know, Err is what would go wrong.
	Warnings []*Problem
	Err      error
}

// atOnce is how many looks are under way at the same time.
const atOnce = 16

// Examine asks every provider whether what the groups need is there, looks at every
// pool and asks every source, side by side, and changes nothing. There is a finding of
// each, also where nothing is wrong, in the order of the names. Each look has a share
// of the time until ctx ends, so that one that hangs takes nothing from the others.
func (r *Runtime) Examine(ctx context.Context) []Finding {
	looks := r.looks()
	within := time.Duration(0)
	if deadline, ok := ctx.Deadline(); ok {
		rounds := (len(looks) + atOnce - 1) / atOnce
		// A tenth is left, so that it is the look's own time that ends.
		within = time.Until(deadline) * 9 / 10 / time.Duration(max(rounds, 1))
	}
	found, free := make([]Finding, len(looks)), make(chan struct{}, atOnce)
	var wait sync.WaitGroup
	for i, look := range looks {
		free <- struct{}{}
		wait.Go(func() {
			defer func() { <-free }()
			own, cancel := Within(ctx, within)
			defer cancel()
			found[i] = look(own)
		})
	}
	wait.Wait()
	return found
}

// Within bounds ctx by a time and says, once it is over, how long that was; 0 bounds
// nothing.
func Within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	said := d.Round(time.Second)
	if d < 10*time.Second {
		said = d.Round(100 * time.Millisecond)
	}
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("no answer within %v", said))
}

// looks are what there is to examine.
func (r *Runtime) looks() []func(context.Context) Finding {
	var all []func(context.Context) Finding
	for _, name := range slices.Sorted(maps.Keys(r.providers)) {
		all = append(all, func(ctx context.Context) Finding { return r.examineProvider(ctx, name) })
	}
	for _, group := range slices.Sorted(maps.Keys(r.Balancers)) {
		all = append(all, func(ctx context.Context) Finding { return r.examinePool(ctx, group) })
	}
	for _, c := range r.Confirmers {
		all = append(all, func(ctx context.Context) Finding { return r.examineSource(ctx, c) })
	}
	return all
}

func (r *Runtime) examineProvider(ctx context.Context, name string) Finding {
	section := []string{"providers", name}
	wrong, known := problems{at: r.cfg.lines}, problems{at: r.cfg.lines}
	said, err := r.providers[name].check(ctx)
	for _, w := range said {
		known.place(errors.New(w), nil, section)
	}
	hint := advice
	if r.cfg.Providers[name].OpenStack != nil {
		hint = nil // what is known of a cloud is known to its driver
	}
	wrong.place(err, hint, section)
	return Finding{Section: "providers", Name: name, Warnings: known.warnings(), Err: wrong.err()}
}

func (r *Runtime) examinePool(ctx context.Context, group string) Finding {
	name, wrong, known := r.cfg.Groups[group].Balancer, problems{at: r.cfg.lines}, problems{at: r.cfg.lines}
	if _, err := r.Balancers[group].Observe(ctx); err != nil {
		wrong.place(err, advice, []string{"balancers", name}, []string{"groups", group, "pool"})
	}
	if why := caveat(r.Balancers[group]); why != "" {
		known.addf([]string{"groups", group, "pool"}, "%s", why)
	}
	return Finding{Section: "balancers", Name: name, Group: group, Warnings: known.warnings(), Err: wrong.err()}
}

func (r *Runtime) examineSource(ctx context.Context, c scaling.Confirmer) Finding {
	section, wrong := c.Source(), problems{at: r.cfg.lines}
	if section == "alertmanager" {
		section = "alertmanagers"
	}
	if _, err := c.Confirm(ctx); err != nil {
		wrong.place(err, advice, []string{section})
	}
	return Finding{Section: section, Err: wrong.err()}
}

// caveat is why a balancer promises nothing of a drain, if its driver gives a reason: one
// that never drains, such as direct, was chosen for that.
func caveat(b scaling.Balancer) string {
	driver, ok := b.(interface{ Caveat() string })
	if !ok || b.Capabilities().Drain {
		return ""
	}
	return driver.Caveat()
}

// Check is Examine for those who want to know what is wrong. A source that does not
// answer is no error, since serving starts without it, and comes with the warnings.
func (r *Runtime) Check(ctx context.Context) (warnings []Problem, err error) {
	var errs []error
	for _, f := range r.Examine(ctx) {
		for _, w := range f.Warnings {
			warnings = append(warnings, *w)
		}
		switch {
		case f.Err == nil:
		case f.Section == "providers" || f.Section == "balancers":
			errs = append(errs, f.Err)
		default:
			warnings = append(warnings, Problems(f.Err)...)
		}
	}
	return warnings, errors.Join(errs...)
}

// Close ends the connections that no other runtime holds. Calls under way fail.
// The last runtime is closed after the engine has ended.
func (r *Runtime) Close() error {
	var errs []error
	for _, p := range r.providers {
		if p.holders--; p.holders == 0 {
			errs = append(errs, p.close())
		}
	}
	for _, s := range r.sources {
		if s.holders--; s.holders == 0 {
			s.close()
		}
	}
	r.providers, r.sources = map[string]*provider{}, nil
	return errors.Join(errs...)
}
