package libvirt

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/scalehook/scalehook/internal/scaling"
)

var _ scaling.Surveyor = (*Provider)(nil)

// Unmarked implements scaling.Surveyor: the host's domains without a valid mark of
// this owner, by name. A copied mark, another owner's and none look the same here.
func (p *Provider) Unmarked(ctx context.Context) ([]scaling.VM, error) {
	s, err := p.m.session(ctx, "list", false)
	if err != nil {
		return nil, fmt.Errorf("list the VMs that are not ours: %w", err)
	}
	defer s.release()
	all, err := machines(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("list the VMs that are not ours: %w", err)
	}
	var out []scaling.VM
	for _, d := range all {
		if !d.ours(p.owner) {
			out = append(out, scaling.VM{Name: d.name, UUID: d.uuid, Power: d.power})
		}
	}
	slices.SortFunc(out, func(a, b scaling.VM) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
