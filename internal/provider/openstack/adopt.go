package openstack

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/tags"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// Adopt implements scaling.Adopter. The mark is written in one call beside the tags
// that the server has; nothing else of it changes. Where members are reached through
// floating IPs it gets one unless it has one.
func (p *Provider) Adopt(ctx context.Context, spec scaling.LaunchSpec) (scaling.VM, error) {
	vm, err := p.adopt(ctx, spec)
	if err != nil {
		return scaling.VM{}, fmt.Errorf("adopt %q as %s: %w", spec.Name, spec.ID, err)
	}
	return vm, nil
}

func (p *Provider) adopt(ctx context.Context, spec scaling.LaunchSpec) (scaling.VM, error) {
	ctx, t, done, err := p.begin(ctx, spec)
	if err != nil {
		return scaling.VM{}, err
	}
	defer done()
	s, err := p.candidate(ctx, spec)
	if err != nil {
		return scaling.VM{}, err
	}
	if spec.UUID != "" && s.ID != spec.UUID {
		return scaling.VM{}, scaling.Errorf(scaling.Conflict, "server %q is %s, and the one to adopt is %s", spec.Name, s.ID, spec.UUID)
	}
	if !s.is(p.owner, spec.ID) {
		m := cloud.Mark{Owner: p.owner, Group: spec.Group, ID: spec.ID, UUID: s.ID, Adopted: time.Now().UTC().Truncate(time.Second)}
		if err := p.setMark(ctx, s, append(cloud.OtherTags(s.Tags), m.Tags()...)); err != nil {
			return scaling.VM{}, err
		}
	}
	if t.floating() {
		port, err := p.portOf(ctx, s, t)
		if err != nil {
			return scaling.VM{}, err
		}
		if err := p.ensureFloating(ctx, scaling.Ref{ID: spec.ID, Group: spec.Group}, t, port.ID); err != nil {
			return scaling.VM{}, err
		}
	}
	return p.Get(ctx, scaling.Ref{ID: spec.ID, Group: spec.Group, Name: spec.Name, UUID: s.ID, Adopted: true})
}

// candidate finds the one server that can be meant.
func (p *Provider) candidate(ctx context.Context, spec scaling.LaunchSpec) (*server, error) {
	all, err := p.called(ctx, spec.Name)
	if err != nil {
		return nil, err
	}
	if at := slices.IndexFunc(all, func(s *server) bool { return s.is(p.owner, spec.ID) }); at >= 0 {
		return all[at], nil
	}
	switch len(all) {
	case 0:
		_, project, err := p.cloud.Project(ctx)
		if err != nil {
			return nil, err
		}
		if _, err = p.cloud.FindServer(ctx, spec.Name); err == nil {
			return nil, scaling.Errorf(scaling.Temporary, "server %q appears just now", spec.Name)
		}
		return nil, scaling.Errorf(scaling.NotFound, "project %q: %w; only servers of that project can be adopted: if it is in another one, give the provider credentials of that", project, err)
	case 1:
	default:
		ids := make([]string, len(all))
		for i, s := range all {
			ids[i] = s.ID
		}
		return nil, scaling.Errorf(scaling.Conflict, "%w", cloud.Ambiguous("server", spec.Name, ids))
	}
	s := all[0]
	if m, ok := s.mark(); ok {
		return nil, scaling.Errorf(scaling.Conflict, "server %q is instance %s of group %q of owner %q", s.Name, m.ID, m.Group, m.Owner)
	}
	return s, nil
}

// setMark replaces a server's tags.
func (p *Provider) setMark(ctx context.Context, s *server, all []string) error {
	client, err := p.cloud.Compute(ctx)
	if err != nil {
		return err
	}
	return change(ctx, "mark server", s.Name+" ("+s.ID+")", func(ctx context.Context) error {
		return tags.ReplaceAll(ctx, client, s.ID, tags.ReplaceAllOpts{Tags: all}).Err
	})
}

// Release implements scaling.Adopter.
func (p *Provider) Release(ctx context.Context, ref scaling.Ref) error {
	if err := p.release(ctx, ref); err != nil {
		return fmt.Errorf("release %q (%s): %w", ref.Name, ref.ID, err)
	}
	return nil
}

func (p *Provider) release(ctx context.Context, ref scaling.Ref) error {
	ctx, unlock, err := p.locks.lock(ctx, ref.ID)
	if err != nil {
		return err
	}
	defer unlock()
	// The floating IP that it got from us goes while the mark still says for whom it
	// was.
	if err := p.removeFloating(ctx, ref.ID); err != nil {
		return err
	}
	s, err := p.find(ctx, ref)
	if scaling.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if !s.is(p.owner, ref.ID) {
		return nil
	}
	if err := p.setMark(ctx, s, cloud.OtherTags(s.Tags)); err != nil {
		return err
	}
	p.forget(s.ID)
	return nil
}
