// Package grafana holds scalehook's dashboard for Grafana and the provisioning that
// loads it. The dashboard asks for its data source and groups by variables, so the
// same file serves every installation.
package grafana

import (
	"bytes"
	_ "embed"
)

//go:embed scalehook.json
var dashboard []byte

// Dashboard returns the dashboard as JSON.
func Dashboard() []byte { return bytes.Clone(dashboard) }
