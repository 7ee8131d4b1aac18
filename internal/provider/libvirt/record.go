package libvirt

import (
	"context"
)

// checkRecord compares an image with what was recorded at its import.
func (p *Provider) checkRecord(_ context.Context, _ *session, _ volume) error { return nil }
