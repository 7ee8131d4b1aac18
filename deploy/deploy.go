// Package deploy holds what is needed to put scalehook beside a monitoring and a
// load balancer: complete configurations of Prometheus, Alertmanager and HAProxy in
// folders of their own, and here the snippets to merge into existing ones.
package deploy

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed examples
var examples embed.FS

// files maps the name of an example to its file.
func files() map[string]string {
	return map[string]string{
		"prometheus":   "prometheus.yml",
		"alertmanager": "alertmanager.yml",
		"haproxy":      "haproxy.cfg",
		"kvm":          "scalehook-kvm.yml",
		"scalehook":    "scalehook.yml",
		"provision":    "provision.yml",
	}
}

// Examples returns the names that Example knows, sorted.
func Examples() []string {
	names := make([]string, 0, len(files()))
	for name, file := range files() {
		if _, err := fs.Stat(examples, path.Join("examples", file)); err == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Example returns a commented snippet to merge into an existing configuration, or
// an error that lists the names there are.
func Example(name string) ([]byte, error) {
	file, ok := files()[name]
	if !ok {
		return nil, fmt.Errorf("no example %q: there are %s", name, strings.Join(Examples(), ", "))
	}
	text, err := examples.ReadFile(path.Join("examples", file))
	if err != nil {
		return nil, fmt.Errorf("read example %q: %w", name, err)
	}
	return text, nil
}
