// Package grafana holds scalehook's dashboards for Grafana, the provisioning that
// loads them, and the check that every question they ask has an answer. The
// dashboards ask for their data source and groups by variables, so the same files
// serve every installation.
//
// The dashboards are described in overview.go and group.go; dashboards/ has the
// files that Grafana loads, which `go test ./grafana -update` writes.
package grafana

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
)

//go:embed dashboards/*.json
var committed embed.FS

// Dashboards returns the dashboards as Grafana loads them, by file name.
func Dashboards() (map[string][]byte, error) {
	entries, err := fs.ReadDir(committed, "dashboards")
	if err != nil {
		return nil, fmt.Errorf("list the dashboards: %w", err)
	}
	out := map[string][]byte{}
	for _, e := range entries {
		if out[e.Name()], err = fs.ReadFile(committed, path.Join("dashboards", e.Name())); err != nil {
			return nil, fmt.Errorf("read the dashboard %s: %w", e.Name(), err)
		}
	}
	return out, nil
}

// Render returns what the committed files have to be, by file name.
func Render() (map[string][]byte, error) {
	out := map[string][]byte{}
	for name, b := range map[string]*board{"overview.json": overview(), "group.json": detail()} {
		text, err := render(b)
		if err != nil {
			return nil, err
		}
		out[name] = text
	}
	return out, nil
}
