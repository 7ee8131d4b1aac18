package openstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// Provider makes VMs in one project of one cloud. It is safe for concurrent use.
type Provider struct {
	owner cloud.Owner
	cloud *cloud.Cloud
	log   *slog.Logger
	locks keyedLock

	mu        sync.RWMutex
	templates map[string]Template
	networks  map[string]string // names of networks by what templates call them
	seen      map[string]string // names of the servers of the last listing by uuid; nil before the first
}

var (
	_ scaling.Provider    = (*Provider)(nil)
	_ scaling.Shutdowner  = (*Provider)(nil)
	_ scaling.Adopter     = (*Provider)(nil)
	_ scaling.Releaser    = (*Provider)(nil)
	_ scaling.Snapshotter = (*Provider)(nil)
	_ scaling.Addresser   = (*Provider)(nil)
	_ scaling.Surveyor    = (*Provider)(nil)
	_ scaling.Keeper      = (*Provider)(nil)
)

// New returns the provider of one project for VMs of owner, a stable id that sets
// them apart from those of other installations. templates are by group. It contacts
// nothing: a cloud that cannot be reached is a Temporary error of each call.
func New(cfg Config, owner string, templates map[string]Template, log *slog.Logger) (*Provider, error) {
	if owner == "" {
		return nil, errors.New("owner: empty")
	}
	c, err := cloud.Open(cfg.Config, log)
	if err != nil {
		return nil, err
	}
	p := &Provider{
		owner: cloud.Owner(owner), cloud: c, log: log,
		locks:    keyedLock{held: map[string]chan struct{}{}},
		networks: map[string]string{},
	}
	return p, p.SetTemplates(templates)
}

// SetTemplates replaces the templates, all or none. Calls that run keep theirs.
func (p *Provider) SetTemplates(templates map[string]Template) error {
	var errs []error
	for _, group := range slices.Sorted(maps.Keys(templates)) {
		if err := templates[group].Validate(); err != nil {
			errs = append(errs, fmt.Errorf("template of group %q: %w", group, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.templates = maps.Clone(templates)
	clear(p.networks)
	return nil
}

// Close closes idle connections.
func (p *Provider) Close() error {
	p.cloud.Close()
	return nil
}

func (p *Provider) template(group string) (Template, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	t, ok := p.templates[group]
	if !ok {
		return t, scaling.Errorf(scaling.Permanent, "group %q has no template for openstack", group)
	}
	return t, nil
}

// templateOr returns the group's template, or the defaults for a VM whose group is
// configured no more.
func (p *Provider) templateOr(group string) Template {
	t, err := p.template(group)
	if err != nil {
		return DefaultTemplate()
	}
	return t
}

func checkSpec(spec scaling.LaunchSpec) error {
	if !uuidRE.MatchString(spec.ID) {
		return scaling.Errorf(scaling.Permanent, "instance id %q: not a uuid in lower case", spec.ID)
	}
	if err := scaling.ValidName(spec.Name); err != nil {
		return scaling.WithClass(scaling.Permanent, err)
	}
	return nil
}

// begin checks a spec, and takes its group's template and its instance's lock. If
// err is nil, done gives the lock back.
func (p *Provider) begin(ctx context.Context, spec scaling.LaunchSpec) (_ context.Context, t Template, done func(), err error) {
	if err := checkSpec(spec); err != nil {
		return nil, Template{}, nil, err
	}
	if t, err = p.template(spec.Group); err != nil {
		return nil, Template{}, nil, err
	}
	ctx, done, err = p.locks.lock(ctx, spec.ID)
	return ctx, t, done, err
}

// Get implements scaling.Provider.
func (p *Provider) Get(ctx context.Context, ref scaling.Ref) (scaling.VM, error) {
	s, err := p.find(ctx, ref)
	if err == nil && !s.is(p.owner, ref.ID) {
		err = scaling.Errorf(scaling.NotFound, "server %q carries no mark of ours for this instance", s.Name)
	}
	if err == nil {
		var vms []scaling.VM
		if vms, err = p.vms(ctx, []*server{s}); err == nil {
			return vms[0], nil
		}
	}
	return scaling.VM{}, fmt.Errorf("get %q (%s): %w", ref.Name, ref.ID, err)
}

// Shutdown implements scaling.Shutdowner. Nova asks the guest by ACPI and cuts its
// power after a time of its own (shutdown_timeout, a minute unless the image says
// otherwise), so that force has nothing to add to a request that is under way.
func (p *Provider) Shutdown(ctx context.Context, ref scaling.Ref, force bool) error {
	if err := p.shutdown(ctx, ref); err != nil {
		return fmt.Errorf("shut down %q (%s, force %t): %w", ref.Name, ref.ID, force, err)
	}
	return nil
}

func (p *Provider) shutdown(ctx context.Context, ref scaling.Ref) error {
	s, err := p.find(ctx, ref)
	if err != nil {
		return err
	}
	if !s.is(p.owner, ref.ID) {
		return scaling.Errorf(scaling.Conflict, "server %q carries no mark of ours for this instance", s.Name)
	}
	switch {
	case s.power() == scaling.PowerStopped, s.power() == scaling.PowerCrashed, s.TaskState == "powering-off":
		return nil
	case s.Status == statusPaused:
		if err := p.act(ctx, s, "unpause"); err != nil {
			return err
		}
		return scaling.Errorf(scaling.Temporary, "server %q was paused, and goes on now so that it can be stopped", s.Name)
	}
	return p.act(ctx, s, "os-stop")
}
