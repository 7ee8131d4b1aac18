package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/scalehook/scalehook/internal/provider/libvirt"
	"github.com/scalehook/scalehook/internal/provider/openstack"
)

// digest stands for a decoded section, so that a change of it can be told without
// knowing what it means. It is short: it is compared, and proves nothing. Sections
// name files that hold secrets and hold none themselves.
func digest(v any) string {
	if v == nil {
		return ""
	}
	text, err := json.Marshal(v)
	if err != nil {
		text = fmt.Appendf(nil, "%+v", v)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:6])
}

// place stands for where a provider's VMs are; empty: not known.
func (p Provider) place() string {
	d, err := p.driver()
	if err != nil {
		return ""
	}
	switch c := d.config().(type) {
	case libvirt.Config:
		return digest(c.URI)
	case openstack.Config:
		// Not where the credentials are kept: that file may move.
		return digest([]string{c.Cloud, c.Region, c.Endpoints["compute"]})
	}
	return "" // a simulated one cannot be led elsewhere while the server runs
}
