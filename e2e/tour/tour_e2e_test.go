//go:build e2e

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/testenv"
)

// build puts the programs where the tour looks for them and returns the folder
// to run it in.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "libvirt_dlopen", "-o", filepath.Join(dir, "bin")+"/", "./cmd/scalehook", "./cmd/scalehook-exporter", "./e2e/tour")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	return dir
}

func TestTour(t *testing.T) {
	dir := build(t)
	for _, tt := range []struct {
		name, path string
		args       []string
		need       []testenv.Requirement
		want       []string
	}{
		{
			"with Prometheus and Alertmanager every step comes by its alert, and the dashboards have data", os.Getenv("PATH"),
			[]string{"--dashboards"},
			[]testenv.Requirement{testenv.Program("prometheus"), testenv.Program("prometheus-alertmanager"), testenv.Library("libvirt.so.0")},
			[]string{"simulated:", "real:", "alert high, confirmed by", "alert low, confirmed by", "done in", "queries of the Grafana dashboards have data in this Prometheus"},
		},
		{
			"without them it says so and takes orders by hand", "/nonexistent", nil, nil,
			[]string{"simulated:", "missing:", "manual: web-3 is in service", "manual: removed", "done in"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testenv.Need(t, tt.need...)
			cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "bin", "tour"), tt.args...)
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+tt.path)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("tour: %v\n%s", err, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("the tour does not say %q:\n%s", want, out)
				}
			}
		})
	}
}
