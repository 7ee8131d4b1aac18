package simulated

import (
	"context"

	"github.com/scalehook/scalehook/internal/scaling"
)

var _ scaling.Surveyor = (*Provider)(nil)

// Unmarked implements scaling.Surveyor; VMs come by name.
func (p *Provider) Unmarked(ctx context.Context) (out []scaling.VM, err error) {
	if err := p.w.enter(ctx, "survey.before", scaling.Ref{}); err != nil {
		return nil, err
	}
	err = p.w.effect(func() error {
		for _, v := range p.w.sorted() {
			if !v.ours(p.owner) {
				out = append(out, p.w.show(v, p.owner))
			}
		}
		return nil
	})
	return out, err
}
