//go:build compose

package compose_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/testenv"
)

// world is a Docker of its own inside a lab: its network is the lab's, so that
// containers on "the host's network" reach the lab's VMs and nothing of the machine's.
type world struct {
	lab        *lab.Lab
	dir        string // Docker's data, ended with it
	repository string
	tree       string // a copy of it, in which the page's commands are typed
	env        []string
	host       *testenv.Process // has the host's users as they type
	page       *doc.Page
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
	page := doc.ReadPage(t, "../../docs/compose.md")
	repository, err := filepath.Abs(filepath.Join("..", ".."))
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
	w := &world{lab: l, dir: dir, repository: repository, tree: l.Path("scalehook"), page: page}
	socket := "unix://" + filepath.Join(dir, "docker.sock")
	w.env = append(os.Environ(), "DOCKER_HOST="+socket, "DOCKER_BUILDKIT=0", "DOCKER_CONFIG="+filepath.Join(dir, "config"),
		"COMPOSE_DOCKER_CLI_BUILD=1", "COMPOSE_HTTP_TIMEOUT=300", "COMPOSE_PROJECT_NAME=scalehook", "NO_PROXY=*")
	if err := os.Mkdir(w.tree, 0o755); err != nil {
		t.Fatal(err)
	}
	w.run(t, "sh", "-ec", `tar -C "$0" --exclude=./.git --exclude=./.cache --exclude=./bin --exclude=./dist -cf - . | tar -C "$1" -xf -`, w.repository, w.tree)
	w.startHost(t)
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

// hostScript is a host that users can be added to: /etc is copied on write.
const hostScript = `set -e
mount -t tmpfs tmpfs "$0"
mkdir "$0/upper" "$0/work"
mount -t overlay -o lowerdir=/etc,upperdir="$0/upper",workdir="$0/work" overlay /etc
echo ready >"$0/upper.ready"
exec sleep infinity
`

// standins are the programs that the page's commands find first. docker compose is
// docker-compose 1.29, which has to be told that there is no terminal, and sudo runs
// what it is given.
var standins = map[string]string{
	"sudo": "#!/bin/sh\nexec \"$@\"\n",
	"docker": `#!/bin/bash
[ "$1" = compose ] || exec /usr/bin/docker "$@"
shift
args=()
for word; do
	args+=("$word")
	if [ "$word" = exec ] && [[ " $* " != *" -T "* ]]; then args+=(-T); fi
done
exec /usr/bin/docker-compose "${args[@]}"
`,
}

// startHost makes what the page's commands are typed on.
func (w *world) startHost(t *testing.T) {
	t.Helper()
	for name, text := range standins {
		w.write(t, w.lab.Path("standin", name), text)
		if err := os.Chmod(w.lab.Path("standin", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	over := w.lab.Path("host")
	w.run(t, "mkdir", over)
	w.host = testenv.Start(t, exec.CommandContext(context.WithoutCancel(t.Context()), "unshare", "--mount", "--propagation=private", "sh", "-c", hostScript, over), nil)
	testenv.Eventually(t, 10*time.Second, "the host to have users of its own", func() error {
		_, err := os.Stat(fmt.Sprintf("/proc/%d/root%s/upper.ready", w.host.PID(), over))
		return err
	})
}

// do types the page's block that has these words.
func (w *world) do(t *testing.T, words string) string {
	t.Helper()
	session := exec.CommandContext(t.Context(), "nsenter", fmt.Sprintf("--target=%d", w.host.PID()), "--mount", "--", "bash", "-c", `cd "$0" && exec bash`, w.tree)
	session.Env = append(slices.Clone(w.env), "PATH="+w.lab.Path("standin")+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	return w.page.Run(t, session, words)
}

// openLibvirt lets the lab's libvirtd know the users that the host has, and gives its
// socket for changes to the group libvirt. There is no polkit.
func (w *world) openLibvirt(t *testing.T) {
	t.Helper()
	libvirt, err := user.LookupGroup("libvirt")
	if err != nil {
		t.Fatal(err)
	}
	socket := w.lab.Path("run", "libvirt-sock")
	w.run(t, "chgrp", libvirt.Gid, socket)
	w.run(t, "chmod", "770", socket)
	for _, name := range []string{"passwd", "group"} {
		file := w.lab.Path("etc", name)
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/etc/%s", w.host.PID(), name))
		if err != nil {
			t.Fatal(err)
		}
		w.write(t, file, string(text))
		// Seen by the lab alone.
		w.run(t, "nsenter", fmt.Sprintf("--target=%d", w.lab.Libvirtd().PID()), "--mount", "mount", "--bind", file, "/etc/"+name)
	}
}

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
