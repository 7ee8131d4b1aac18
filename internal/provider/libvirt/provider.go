package libvirt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Provider makes VMs at one libvirt host. It is safe for concurrent use.
type Provider struct {
	owner string
	cfg   Config
	m     *manager
	log   *slog.Logger
	locks keyedLock
	// asking bounds the questions to agents that are out.
	asking  chan struct{}
	lookout *lookout

	mu        sync.RWMutex
	templates map[string]Template
	virt      map[DomainType]host // by wished domain type, as the host said
	promised  map[string]uint64   // memory of launches under way, by instance id
}

var (
	_ scaling.Provider   = (*Provider)(nil)
	_ scaling.Shutdowner = (*Provider)(nil)
	_ scaling.Adopter    = (*Provider)(nil)
	_ scaling.Releaser   = (*Provider)(nil)
)

// New returns the provider of one host for VMs of owner, a stable id that sets
// them apart from those of other installations. templates are by group. It does
// not connect: a host that cannot be reached is a Temporary error of each call.
func New(cfg Config, owner string, templates map[string]Template, log *slog.Logger) (*Provider, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if owner == "" {
		return nil, errors.New("owner: empty")
	}
	p := &Provider{
		owner: owner,
		cfg:   cfg,
		m:     newManager(cfg, log),
		log:   log,
		locks: keyedLock{held: map[string]chan struct{}{}},
		virt:  map[DomainType]host{},
		// At least one connection is never an agent's: there are two or more.
		asking:  make(chan struct{}, cfg.MaxConnections/2),
		lookout: newLookout(),

		promised: map[string]uint64{},
	}
	return p, p.SetTemplates(templates)
}

// SetTemplates replaces the templates, all or none. Calls that run keep theirs.
func (p *Provider) SetTemplates(templates map[string]Template) error {
	all := make(map[string]Template, len(templates))
	var errs []error
	for _, group := range slices.Sorted(maps.Keys(templates)) {
		t := templates[group].withDefaults()
		if err := t.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("template of group %q: %w", group, err))
		}
		all[group] = t
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.templates = all
	return nil
}

// Close closes the connections and waits a moment for calls that were left behind.
func (p *Provider) Close() error { return p.m.close() }

func (p *Provider) template(group string) (Template, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	t, ok := p.templates[group]
	if !ok {
		return t, scaling.Errorf(scaling.Permanent, "group %q has no template for libvirt", group)
	}
	return t, nil
}

// pools lists the pools in which clones are made.
func (p *Provider) pools() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	set := map[string]bool{}
	for _, t := range p.templates {
		set[t.Pool] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// keyedLock serialises operations by key, and waiting for it ends with a context.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

func (l *keyedLock) lock(ctx context.Context, key string) (unlock func(), err error) {
	for {
		l.mu.Lock()
		released, busy := l.held[key]
		if !busy {
			released = make(chan struct{})
			l.held[key] = released
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.held, key)
				l.mu.Unlock()
				close(released)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
			return nil, scaling.Errorf(scaling.Temporary, "wait for another call about %s: %w", key, context.Cause(ctx))
		}
	}
}
