package deploy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/testenv"
)

func TestDockerComposeAcceptsItsFile(t *testing.T) {
	testenv.Need(t, testenv.Program("docker-compose"))
	run(t, "docker-compose", "--file", "../docker-compose.yml", "config", "--quiet")
}

func TestComposeMountsWhatIsThere(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Volumes []string
			Build   struct{ Dockerfile string }
		}
	}
	if err := yaml.Unmarshal(read(t, "../docker-compose.yml"), &file); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"prometheus", "alertmanager", "grafana", "haproxy", "exporter", "scalehook"} {
		service, ok := file.Services[name]
		if !ok {
			t.Errorf("no service %s", name)
		}
		paths := []string{service.Build.Dockerfile}
		for _, volume := range service.Volumes {
			host, _, _ := strings.Cut(volume, ":")
			// The token is a secret that its user makes.
			if strings.HasPrefix(host, "./") && !strings.HasSuffix(host, ".token") {
				paths = append(paths, host)
			}
		}
		for _, path := range paths {
			if _, err := os.Stat(filepath.Join("..", path)); err != nil {
				t.Errorf("service %s: %v", name, err)
			}
		}
	}
}

func TestScalehookAcceptsItsConfigurations(t *testing.T) {
	for _, path := range []string{"compose/scalehook.yml", "examples/scalehook.yml", "examples/scalehook-kvm.yml"} {
		text := read(t, path)
		if _, err := config.Parse(path, text); err != nil {
			t.Errorf("%v", err)
		}
		if !bytes.Contains(text, []byte("mode: observe")) {
			t.Errorf("%s: a group that is not in mode: observe", path)
		}
	}
}
