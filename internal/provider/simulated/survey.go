package simulated

import (
	"context"

	"github.com/scalehook/scalehook/internal/scaling"
)

var _ scaling.Surveyor = (*Provider)(nil)

// Unmarked implements scaling.Surveyor; VMs come by name. It is a listing and has
// the fault points of one.
func (p *Provider) Unmarked(ctx context.Context) (out []scaling.VM, err error) {
	err = p.call(ctx, "list", scaling.Ref{}, func() error {
		for _, v := range p.w.sorted() {
			if !v.ours(p.owner) {
				out = append(out, p.w.show(v, p.owner))
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
