//go:build e2e

package e2e_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/exporter"
	"github.com/scalehook/scalehook/internal/testenv"
)

// build makes scalehook-exporter, once, and returns its file.
func (h *host) build(t *testing.T) string {
	t.Helper()
	if h.binary != "" {
		return h.binary
	}
	binary := filepath.Join(t.TempDir(), "scalehook-exporter")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags=libvirt_dlopen", "-o", binary,
		"github.com/scalehook/scalehook/cmd/scalehook-exporter").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	h.binary = binary
	return binary
}

// program builds and starts scalehook-exporter in the lab. get reads one of
// its pages.
func (h *host) program(t *testing.T, uri string, flags ...string) (program *lab.Process, get func(ctx context.Context, path string) (string, error)) {
	t.Helper()
	binary := h.build(t)
	const address = "127.0.0.1:10071"
	client := h.HTTPClient()
	get = func(ctx context.Context, path string) (string, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
		if err != nil {
			return "", err
		}
		resp, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		return "\n" + string(body), err
	}
	program, err := h.StartProcess(t.Context(), lab.ProcessSpec{
		Name: "exporter", Path: binary,
		Args: append([]string{"--libvirt.uri", uri, "--web.listen-address", address}, flags...),
		Ready: func(ctx context.Context) error {
			_, err := get(ctx, "/-/healthy")
			return err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return program, get
}

// asTheMachines is a shell of its own processes, which end with it, in which the
// lab's libvirtd is the machine's.
const asTheMachines = `mount -t tmpfs tmpfs /run
mkdir /run/libvirt
mount --bind "$1" /run/libvirt
exec bash
`

// asItsPageSays runs the commands of the page.
func (h *host) asItsPageSays(t *testing.T) {
	t.Helper()
	blocks := doc.Read(t, "../../docs/exporter.md")
	if len(blocks) < 2 {
		t.Fatalf("%d blocks of commands", len(blocks))
	}
	shell := h.Command(t.Context(), "unshare", "--mount", "--propagation=private", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-ec", asTheMachines, "sh", h.Path("run"))
	shell.Dir = t.TempDir()
	shell.Env = append(shell.Env, "PATH="+filepath.Dir(h.build(t))+":"+os.Getenv("PATH"))
	if err := (doc.Runner{Command: shell, Each: patience}).Run(t.Context(), blocks); err != nil {
		t.Error(err)
	}
}

func TestProgramServesTheLabAsItsPageSaysAndEndsCleanly(t *testing.T) {
	testenv.Need(t, testenv.Root, testenv.Program("unshare"), testenv.Program("bash"), testenv.Program("curl"))
	h := newHost(t, exporter.Collectors{})
	h.start(t, "run", 1, true)
	h.asItsPageSays(t)
	program, get := h.program(t, h.ReadOnlyURI())
	text, err := get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	page(text).want(t, "libvirt_up 1\n", `libvirt_domain_cpu_time_seconds_total{domain="run-0",uuid="`,
		`libvirt_domain_info{arch="x86_64",domain="run-0",machine="pc-i440fx-`, "scalehook_exporter_build_info{", "go_goroutines ")
	if text, err := get(t.Context(), "/"); err != nil || !strings.Contains(text, "/metrics") {
		t.Errorf("landing page: %v\n%s", err, text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := program.Stop(ctx); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}
