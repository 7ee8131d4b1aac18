package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/scalehook/scalehook/internal/balancer/direct"
	"github.com/scalehook/scalehook/internal/balancer/haproxy"
	"github.com/scalehook/scalehook/internal/balancer/octavia"
	"github.com/scalehook/scalehook/internal/provider/libvirt"
	"github.com/scalehook/scalehook/internal/provider/openstack"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
)

// Provider is a place where VMs are made; exactly one driver is stated.
type Provider struct {
	// Libvirt is one libvirt host.
	Libvirt *libvirt.Config `yaml:"libvirt"`
	// OpenStack is one project of one cloud.
	OpenStack *openstack.Config `yaml:"openstack"`
	// Simulated is a hypervisor in memory, for a tour without virtualization.
	Simulated *simulated.Config `yaml:"simulated"`
}

func (p Provider) all() []providerDriver {
	return []providerDriver{
		providerOf[libvirt.Config, libvirt.Template]{"libvirt", p.Libvirt, libvirt.DefaultTemplate, openLibvirt},
		providerOf[openstack.Config, openstack.Template]{"openstack", p.OpenStack, openstack.DefaultTemplate, openOpenStack},
		providerOf[simulated.Config, simulated.Template]{"simulated", p.Simulated, func() simulated.Template { return simulated.Template{} }, openSimulated},
	}
}

// Balancer spreads traffic over a group's members; exactly one driver is stated.
type Balancer struct {
	// HAProxy is driven over its Runtime API.
	HAProxy *haproxy.Config `yaml:"haproxy"`
	// Octavia is a cloud's own load balancer service.
	Octavia *octavia.Config `yaml:"octavia"`
	// Direct has no balancer: members are only checked.
	Direct *direct.Config `yaml:"direct"`
	// Simulated is the balancer inside a simulated provider.
	Simulated *SimulatedBalancer `yaml:"simulated"`
}

func (b Balancer) all() []balancerDriver {
	return []balancerDriver{
		balancerOf[haproxy.Config, haproxy.PoolConfig]{"haproxy", b.HAProxy, openHAProxy, func(p haproxy.PoolConfig) string { return "backend " + p.Backend }},
		balancerOf[octavia.Config, octavia.PoolConfig]{"octavia", b.Octavia, openOctavia, octavia.PoolConfig.Place},
		balancerOf[direct.Config, none]{"direct", b.Direct, openDirect, nil},
		balancerOf[SimulatedBalancer, none]{"simulated", b.Simulated, openSimulatedPool, nil},
	}
}

// SimulatedBalancer names the simulated provider whose VMs are the members.
type SimulatedBalancer struct {
	Provider string `yaml:"provider"`
}

// Validate reports a missing provider; whether there is one of that name is
// checked with the whole file.
func (s SimulatedBalancer) Validate() error {
	if s.Provider == "" {
		return errors.New("provider: missing: name the simulated provider")
	}
	return nil
}

// none is what there is to say where a driver takes nothing.
type none struct{}

// Validate is content.
func (none) Validate() error { return nil }

type validator interface{ Validate() error }

// providerDriver is a driver and, if the file states it, its configuration.
type providerDriver interface {
	name() string
	config() any // nil: not stated
	validate() error
	newTemplate() any // a pointer to the defaults
	checkTemplate(t any) error
	open(owner string, templates map[string]any, log *slog.Logger) (*provider, error)
}

type providerOf[C validator, T any] struct {
	driver   string
	cfg      *C
	defaults func() T
	opener   func(cfg C, owner string, templates map[string]T, log *slog.Logger) (*provider, error)
}

func (d providerOf[C, T]) name() string { return d.driver }

func (d providerOf[C, T]) config() any {
	if d.cfg == nil {
		return nil
	}
	return *d.cfg
}

func (d providerOf[C, T]) validate() error { return (*d.cfg).Validate() }

func (d providerOf[C, T]) newTemplate() any {
	t := d.defaults()
	return &t
}

func (d providerOf[C, T]) checkTemplate(t any) error {
	if v, ok := t.(validator); ok {
		return v.Validate()
	}
	return nil
}

func (d providerOf[C, T]) open(owner string, templates map[string]any, log *slog.Logger) (*provider, error) {
	return d.opener(*d.cfg, owner, typed[T](templates), log)
}

// typed gives the decoded sections their type back.
func typed[T any](templates map[string]any) map[string]T {
	out := make(map[string]T, len(templates))
	for group, t := range templates {
		if p, ok := t.(*T); ok {
			out[group] = *p
		}
	}
	return out
}

// balancerDriver is a driver and, if the file states it, its configuration.
type balancerDriver interface {
	name() string
	config() any
	validate() error
	newPool() any // a pointer to the defaults
	checkPool(pool any) error
	// place says what of the balancer a pool takes for itself; empty for nothing.
	place(pool any) string
	open(r *Runtime, owner string, pools map[string]any, log *slog.Logger) (map[string]scaling.Balancer, error)
}

type balancerOf[C, P validator] struct {
	driver string
	cfg    *C
	opener func(r *Runtime, cfg C, owner string, pools map[string]P, log *slog.Logger) (map[string]scaling.Balancer, error)
	takes  func(P) string
}

func (d balancerOf[C, P]) name() string { return d.driver }

func (d balancerOf[C, P]) config() any {
	if d.cfg == nil {
		return nil
	}
	return *d.cfg
}

func (d balancerOf[C, P]) validate() error { return (*d.cfg).Validate() }

func (d balancerOf[C, P]) newPool() any { return new(P) }

func (d balancerOf[C, P]) checkPool(pool any) error {
	if p, ok := pool.(*P); ok {
		return (*p).Validate()
	}
	return nil
}

func (d balancerOf[C, P]) place(pool any) string {
	if p, ok := pool.(*P); ok && d.takes != nil {
		return d.takes(*p)
	}
	return ""
}

func (d balancerOf[C, P]) open(r *Runtime, owner string, pools map[string]any, log *slog.Logger) (map[string]scaling.Balancer, error) {
	return d.opener(r, *d.cfg, owner, typed[P](pools), log)
}

// driver returns the one driver that is stated, or what is wrong.
func (p Provider) driver() (providerDriver, error) { return only(p.all()) }
func (b Balancer) driver() (balancerDriver, error) { return only(b.all()) }

func only[D interface {
	name() string
	config() any
}](all []D) (one D, err error) {
	var stated, names []string
	for _, d := range all {
		names = append(names, d.name())
		if d.config() != nil {
			stated = append(stated, d.name())
			one = d
		}
	}
	switch len(stated) {
	case 1:
		return one, nil
	case 0:
		return one, fmt.Errorf("no driver: state one of %s, with {} where it needs nothing", strings.Join(names, ", "))
	}
	return one, fmt.Errorf("%s: state one driver and give the other a name of its own", strings.Join(stated, " and "))
}

func (p Provider) newTemplate() any {
	if d, err := p.driver(); err == nil {
		return d.newTemplate()
	}
	return nil
}

func (b Balancer) newPool() any {
	if d, err := b.driver(); err == nil {
		return d.newPool()
	}
	return nil
}

func openLibvirt(cfg libvirt.Config, owner string, templates map[string]libvirt.Template, log *slog.Logger) (*provider, error) {
	p, err := libvirt.New(cfg, owner, templates, log)
	if err != nil {
		return nil, err
	}
	return &provider{
		Provider: p, close: p.Close, check: p.Check,
		setTemplates: func(t map[string]any) error { return p.SetTemplates(typed[libvirt.Template](t)) },
	}, nil
}

func openOpenStack(cfg openstack.Config, owner string, templates map[string]openstack.Template, log *slog.Logger) (*provider, error) {
	p, err := openstack.New(cfg, owner, templates, log)
	if err != nil {
		return nil, err
	}
	return &provider{
		Provider: p, close: p.Close, check: p.Check,
		setTemplates: func(t map[string]any) error { return p.SetTemplates(typed[openstack.Template](t)) },
	}, nil
}

func openSimulated(cfg simulated.Config, owner string, templates map[string]simulated.Template, _ *slog.Logger) (*provider, error) {
	w, err := simulated.NewWorld(cfg, simulated.Options{})
	if err != nil {
		return nil, err
	}
	p := w.Provider(owner, templates)
	return &provider{
		Provider: p, world: w,
		close: func() error { return nil },
		check: func(context.Context) ([]string, error) { return nil, nil },
		setTemplates: func(t map[string]any) error {
			p.SetTemplates(typed[simulated.Template](t))
			return nil
		},
	}, nil
}

func openHAProxy(_ *Runtime, cfg haproxy.Config, owner string, pools map[string]haproxy.PoolConfig, log *slog.Logger) (map[string]scaling.Balancer, error) {
	b, err := haproxy.New(cfg, owner, log)
	if err != nil {
		return nil, err
	}
	out := map[string]scaling.Balancer{}
	for group, pool := range pools {
		if out[group], err = b.Pool(group, pool); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func openOctavia(_ *Runtime, cfg octavia.Config, owner string, pools map[string]octavia.PoolConfig, log *slog.Logger) (map[string]scaling.Balancer, error) {
	b, err := octavia.New(cfg, owner, log)
	if err != nil {
		return nil, err
	}
	out := map[string]scaling.Balancer{}
	for group, pool := range pools {
		if out[group], err = b.Pool(group, pool); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func openDirect(_ *Runtime, cfg direct.Config, _ string, pools map[string]none, _ *slog.Logger) (map[string]scaling.Balancer, error) {
	out := map[string]scaling.Balancer{}
	for group := range pools {
		pool, err := direct.New(group, cfg)
		if err != nil {
			return nil, err
		}
		out[group] = pool
	}
	return out, nil
}

func openSimulatedPool(r *Runtime, cfg SimulatedBalancer, _ string, pools map[string]none, _ *slog.Logger) (map[string]scaling.Balancer, error) {
	p := r.providers[cfg.Provider]
	if p == nil || p.world == nil {
		return nil, fmt.Errorf("provider %q is not a simulated one", cfg.Provider)
	}
	out := map[string]scaling.Balancer{}
	for group := range pools {
		out[group] = p.world.Pool(group)
	}
	return out, nil
}
