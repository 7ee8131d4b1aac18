//go:build compose

package compose_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/testenv"
)

// world is a Docker of its own inside a lab: its network is the lab's, so that
// containers on "the host's network" reach the lab's VMs and nothing of the machine's.
type world struct {
	lab  *lab.Lab
	dir  string // Docker's data, ended with it
	tree string // the repository
	env  []string
}

// dockerdScript starts dockerd as process 1 of a process-id namespace: whoever kills
// that ends every container with it. /run is its own, with the lab's libvirt in it
// where a libvirt host has its own.
const dockerdScript = `set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/libvirt /run/lock
mount --bind "$0" /run/libvirt
exec "$@"
`

func startWorld(t *testing.T) *world {
	t.Helper()
	testenv.Need(t, testenv.Root, testenv.Program("dockerd"), testenv.File("/usr/bin/docker", "Debian's docker.io"), testenv.File("/usr/bin/docker-compose", "Debian's docker-compose"), testenv.Program("debootstrap"))
	ctx := t.Context()
	tree, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.Start(ctx, lab.Options{Name: "compose"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	dir := l.Path("docker")
	w := &world{lab: l, dir: dir, tree: tree}
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	w.env = append(os.Environ(), "DOCKER_HOST="+socket, "DOCKER_BUILDKIT=0", "DOCKER_CONFIG="+filepath.Join(dir, "config"),
		"COMPOSE_DOCKER_CLI_BUILD=1", "COMPOSE_HTTP_TIMEOUT=300", "COMPOSE_PROJECT_NAME=scalehook", "NO_PROXY=*")
	w.openLibvirt(t)
	w.write(t, filepath.Join(dir, "daemon.json"), "{}\n") // in the place of the machine's
	group := filepath.Base(l.Dir())                       // of cgroups
	daemon, err := l.StartProcess(ctx, lab.ProcessSpec{
		Name: "dockerd", Path: "unshare",
		Args: []string{
			"--mount", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL", "--propagation=private", "sh", "-c", dockerdScript, l.Path("run"),
			testenv.Path(t, "dockerd"), "--host=" + socket, "--data-root=" + filepath.Join(dir, "data"), "--exec-root=" + filepath.Join(dir, "exec"),
			"--pidfile=" + filepath.Join(dir, "pid"), "--cgroup-parent=/" + group, "--config-file=" + filepath.Join(dir, "daemon.json"),
		},
		Ready: func(ctx context.Context) error { return w.command(ctx, "docker", "version").Run() },
	})
	t.Cleanup(func() {
		// The mounts are the namespace's: they are gone when its last process is.
		if daemon != nil {
			daemon.Kill()
			<-daemon.Done()
		}
		testenv.Eventually(t, 30*time.Second, "Docker's folder to be removed", func() error { return os.RemoveAll(dir) })
		removeCgroups(t, group)
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// openLibvirt makes the lab what docs/compose.md makes of a libvirt host: its libvirtd
// knows the containers' user, and its socket for changes is a group's. There is no polkit.
func (w *world) openLibvirt(t *testing.T) {
	t.Helper()
	socket := w.lab.Path("run", "libvirt-sock")
	if err := errors.Join(os.Chown(socket, 0, libvirtGID), os.Chmod(socket, 0o770)); err != nil {
		t.Fatal(err)
	}
	for name, line := range map[string]string{
		"passwd": "scalehook-container:x:%[1]d:%[1]d::/nonexistent:/usr/sbin/nologin\n",
		"group":  "scalehook-container:x:%[1]d:\n",
	} {
		text, err := os.ReadFile("/etc/" + name)
		if err != nil {
			t.Fatal(err)
		}
		file := w.lab.Path("etc", name)
		w.write(t, file, string(fmt.Appendf(text, line, scalehookUID)))
		// Seen by the lab alone.
		w.run(t, "nsenter", fmt.Sprintf("--target=%d", w.lab.Libvirtd().PID()), "--mount", "mount", "--bind", file, "/etc/"+name)
	}
}

// libvirtGID is the group of libvirt's socket on this "host".
const libvirtGID = 64055

func removeCgroups(t *testing.T, name string) {
	t.Helper()
	testenv.Eventually(t, 10*time.Second, "the control groups to be empty", func() error {
		found, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
		if err != nil {
			return err
		}
		if _, err := os.Stat("/sys/fs/cgroup/" + name); err == nil {
			found = append(found, "/sys/fs/cgroup/"+name)
		}
		for _, top := range found {
			var dirs []string
			if err := filepath.WalkDir(top, func(path string, e os.DirEntry, err error) error {
				if err == nil && e.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			}); err != nil {
				return err
			}
			for _, dir := range slices.Backward(dirs) {
				if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
					return err
				}
			}
		}
		return nil
	})
}

// command prepares a program of this machine to run in the repository. Docker's are
// Debian's: what else a machine has may be of any age.
func (w *world) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if strings.HasPrefix(name, "docker") {
		name = "/usr/bin/" + name
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = w.tree, w.env
	return cmd
}

// run runs a program to its end and returns what it printed.
func (w *world) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := w.command(t.Context(), name, args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	began := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, tail(out.String()), tail(problems.String()))
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Logf("%s %s: %.0f s", name, strings.Join(args, " "), took.Seconds())
	}
	return out.String()
}

func tail(s string) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-60):], "\n")
}

// compose runs docker-compose on the repository's own file.
func (w *world) compose(t *testing.T, args ...string) string {
	t.Helper()
	return w.run(t, "docker-compose", args...)
}

// container is what Docker says of one.
type container struct {
	ID     string `json:"Id"`
	Name   string
	Config struct {
		Image  string
		Labels map[string]string
	}
	State struct {
		Status   string
		ExitCode int
		Health   *struct {
			Status string
			Log    []struct{ Output string }
		}
	}
	Mounts []struct{ Name, Source, Destination string }
}

// containers lists those of the project, by service.
func (w *world) containers(t *testing.T) map[string]container {
	t.Helper()
	out := map[string]container{}
	ids := strings.Fields(w.run(t, "docker", "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=scalehook"))
	if len(ids) == 0 {
		return out
	}
	var list []container
	if err := json.Unmarshal([]byte(w.run(t, "docker", append([]string{"inspect"}, ids...)...)), &list); err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		out[c.Config.Labels["com.docker.compose.service"]] = c
	}
	return out
}

// logs are the ends of what the containers printed, for a test that fails.
func (w *world) logs(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	for _, args := range [][]string{{"ps", "--all"}} {
		out, _ := w.command(ctx, "docker", args...).CombinedOutput()
		t.Logf("%s", out)
	}
	ids, _ := w.command(ctx, "docker", "ps", "--all", "--quiet").Output()
	for id := range strings.FieldsSeq(string(ids)) {
		name, _ := w.command(ctx, "docker", "inspect", "--format", "{{.Name}} {{json .State}}", id).Output()
		out, _ := w.command(ctx, "docker", "logs", "--tail", "15", id).CombinedOutput()
		t.Logf("%s%s", name, out)
	}
}

// get asks a URL of the lab's network and returns the answer of 200.
func (w *world) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := w.lab.HTTPClient().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %s", url, resp.Status, body.String())
	}
	return body.Bytes(), nil
}
