//go:build compose

// Package compose_test runs docker-compose.yml and deploy/compose/Dockerfile as they
// are, with docker-compose 1.29 and a Docker of its own. What is not real: the official
// images, see images.
package compose_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/testenv"
)

// scalehookUID is whom our containers run as.
const scalehookUID = 10070

func TestDockerCompose(t *testing.T) {
	w := startWorld(t)
	w.serveModules(t)
	w.makeImages(t)
	w.env = append(w.env, "GOPROXY="+w.proxy())
	w.compose(t, "build", "setup")
	w.keepBuildCache(t)

	toured := false
	if !t.Run("the tour scales out and back in and survives a restart", func(t *testing.T) {
		w.testTour(t)
		toured = true
	}) {
		return
	}
	if t.Run("a libvirt host is measured, its groups decided about and its pool observed, at other ports", w.testHost) && toured {
		w.page.AllRan(t)
	}
}

func (w *world) testTour(t *testing.T) {
	tour := func(args ...string) string { return w.compose(t, append([]string{"--profile", "tour"}, args...)...) }
	defer w.down(t, "--profile", "tour")
	w.do(t, "--profile tour up -d")
	services := []string{"tour", "tour-alertmanager", "tour-grafana", "tour-prometheus"}
	w.awaitHealthy(t, "tour-setup", services...)
	w.checkRights(t, services...)
	w.checkToken(t, "tour-alertmanager", "tour-prometheus", "tour-grafana")

	token := tour("exec", "-T", "tour", "cat", "/run/tokens/operator/operator.token")
	c := w.client(t, token, 10070)
	for _, step := range []struct {
		desc    string
		serving int
	}{{"the load to bring three instances", 3}, {"the end of the load to leave one", 1}} {
		testenv.Eventually(t, 3*time.Minute, step.desc, func() error {
			g, err := c.Group(t.Context(), "web")
			if err != nil {
				return err
			}
			if g.InService != step.serving || len(g.Activities) > 0 {
				return fmt.Errorf("%d in service, want %d; %s; %v", g.InService, step.serving, g.Verdict.Reason, g.Problems)
			}
			return nil
		})
	}
	before := w.activities(t, c)
	for kind, signal := range map[string]string{"scale_out": "high", "scale_in": "low"} {
		if !slices.ContainsFunc(before, func(a api.Activity) bool { return a.Kind == kind && a.Cause.Signal == signal && a.Status == "done" }) {
			t.Errorf("no %s by the signal %s among %+v", kind, signal, before)
		}
	}
	// The command line in the container needs no flags.
	if out := tour("exec", "-T", "tour", "scalehook", "groups"); !strings.Contains(out, "web") {
		t.Errorf("scalehook groups in the container says %q", out)
	}

	tour("down")
	if left := w.containers(t); len(left) > 0 {
		t.Errorf("down left containers: %v", left)
	}
	tour("up", "--detach")
	w.awaitHealthy(t, "tour-setup", services...)
	if now := tour("exec", "-T", "tour", "cat", "/run/tokens/operator/operator.token"); now != token {
		t.Error("the operator's token is another one after down and up")
	}
	after := w.activities(t, c)
	if len(after) < len(before) {
		t.Fatalf("%d activities after down and up, %d before", len(after), len(before))
	}
	if diff := cmp.Diff(before, after[len(after)-len(before):]); diff != "" {
		t.Errorf("what was done is told otherwise after down and up (-before +after):\n%s", diff)
	}
	w.do(t, "--profile tour down --volumes")
	if left := w.volumes(t); len(left) > 0 {
		t.Errorf("volumes are left: %q", left)
	}
}

// volumes are the names of the project's.
func (w *world) volumes(t *testing.T) []string {
	t.Helper()
	return strings.Fields(w.run(t, "docker", "volume", "ls", "--quiet", "--filter", "label=com.docker.compose.project=scalehook"))
}

func (w *world) testHost(t *testing.T) {
	// Beside an existing stack: none of the ports is the usual one.
	env := w.env
	defer func() { w.env = env }()
	w.env = append(slices.Clone(env), "SCALEHOOK_PORT=20070", "EXPORTER_PORT=20071", "PROMETHEUS_PORT=20090", "ALERTMANAGER_PORT=20093",
		"GRAFANA_PORT=23000", "HAPROXY_STATS_PORT=28404", "HAPROXY_BIND=127.0.0.1:28080")
	w.startVM(t, "vm-test")
	w.do(t, "useradd")
	w.openLibvirt(t)

	defer w.down(t)
	w.do(t, "docker compose ps")
	services := []string{"alertmanager", "exporter", "grafana", "haproxy", "prometheus", "scalehook"}
	w.awaitHealthy(t, "setup", services...)
	w.checkRights(t, services...)
	w.checkToken(t, "alertmanager", "exporter", "grafana", "haproxy", "prometheus")
	w.checkListeners(t)

	token := w.compose(t, "exec", "-T", "scalehook", "cat", "/run/tokens/operator/operator.token")
	c := w.client(t, token, 20070)
	testenv.Eventually(t, 3*time.Minute, "the VM's series and the rules in Prometheus", func() error {
		return errors.Join(
			w.series(t, 20090, `libvirt_domain_cpu_time_seconds_total * on (uuid) group_left (domain) libvirt_domain_info{domain="vm-test"}`),
			w.series(t, 20090, `scalehook_group_cpu_high_threshold_ratio{scaling_group="web"}`),
			w.series(t, 20090, `ALERTS{alertname="ScalehookHeartbeat"}`),
		)
	})
	testenv.Eventually(t, time.Minute, "a verdict on the group, with libvirt listed and HAProxy's pool observed", func() error {
		g, err := c.Group(t.Context(), "web")
		switch {
		case err != nil:
			return err
		case g.Mode != "observe" || g.ProviderSeen.IsZero() || g.PoolSeen.IsZero():
			return fmt.Errorf("mode %s, provider seen %v, pool seen %v, problems %v", g.Mode, g.ProviderSeen, g.PoolSeen, g.Problems)
		case !g.Verdict.Would || !strings.Contains(g.Verdict.Reason, "launch 1"):
			return fmt.Errorf("verdict %+v", g.Verdict)
		}
		return nil
	})
	// Ours and theirs agree: the route, the rules, the tokens, sockets and targets.
	// And Alertmanager posts with its token, or its heartbeat would not be taken.
	if out := w.do(t, "scalehook doctor"); strings.Contains(out, "WRONG") {
		t.Errorf("scalehook doctor says\n%s", out)
	}
	w.do(t, "scalehook reload")
	if got := w.do(t, "scalehook pause"); !strings.Contains(got, strings.TrimSpace(token)) {
		t.Errorf("the operator's token is not printed, but\n%s", got)
	}

	const alerts = "/run/tokens/alerts/alerts.token"
	before := w.compose(t, "exec", "-T", "scalehook", "cat", alerts)
	w.do(t, "--entrypoint rm setup")
	if after := w.compose(t, "exec", "-T", "scalehook", "cat", alerts); len(after) != len(before) || after == before {
		t.Errorf("the token was %q and is %q", before, after)
	}
	w.checkToken(t, "alertmanager", "exporter", "grafana", "haproxy", "prometheus")

	w.do(t, "up -d --build")
	w.awaitHealthy(t, "setup", services...)
	w.do(t, "scalehook backup")
	if text, err := os.ReadFile(filepath.Join(w.tree, "copy.db")); err != nil || !strings.HasPrefix(string(text), "SQLite format 3") {
		t.Errorf("the copy of the store: %v, %d bytes", err, len(text))
	}

	w.do(t, "docker compose down\n")
	if left := w.containers(t); len(left) > 0 || len(w.volumes(t)) == 0 {
		t.Errorf("down left the containers %v and the volumes %q", left, w.volumes(t))
	}
	w.do(t, "--rmi all")
	if left := w.volumes(t); len(left) > 0 {
		t.Errorf("volumes are left: %q", left)
	}
	if left := w.run(t, "docker", "images", "--quiet", "scalehook"); left != "" {
		t.Errorf("the image is left: %s", left)
	}
}

// down removes everything, and before shows what there is to see of a test that failed.
func (w *world) down(t *testing.T, args ...string) {
	t.Helper()
	if t.Failed() {
		w.logs(t)
	}
	w.compose(t, append(args, "down", "--volumes")...)
}

// startVM starts a VM, whose CPU time is to be seen, and makes the pool and the image
// that the group of deploy/compose/scalehook.yml names.
func (w *world) startVM(t *testing.T, name string) {
	t.Helper()
	img, err := guest.Build(t.Context(), guest.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.lab.UploadImage(t.Context(), "base.qcow2", img.Path); err != nil {
		t.Fatal(err)
	}
	if err := w.lab.CreateVM(t.Context(), lab.VMSpec{Name: name, Base: "base.qcow2"}); err != nil {
		t.Fatal(err)
	}
	pool := w.lab.Path("default")
	w.copy(t, img.Path, filepath.Join(pool, "base.qcow2"))
	w.run(t, "virsh", "--connect", w.lab.URI(), "pool-create-as", "default", "dir", "--target", pool)
}

// awaitHealthy waits until the setup ended well and each service's container is healthy.
func (w *world) awaitHealthy(t *testing.T, setup string, services ...string) {
	t.Helper()
	testenv.Eventually(t, 3*time.Minute, "every container to be healthy", func() error {
		all := w.containers(t)
		if s := all[setup].State; s.Status != "exited" || s.ExitCode != 0 {
			return fmt.Errorf("%s is %s with code %d", setup, s.Status, s.ExitCode)
		}
		var errs []error
		for _, name := range services {
			switch s := all[name].State; {
			case s.Health == nil:
				errs = append(errs, fmt.Errorf("%s has no health check, or is not there", name))
			case s.Health.Status != "healthy":
				errs = append(errs, fmt.Errorf("%s is %s: %v", name, s.Health.Status, s.Health.Log))
			}
		}
		if len(all) != len(services)+1 {
			errs = append(errs, fmt.Errorf("%d containers, want %d", len(all), len(services)+1))
		}
		return errors.Join(errs...)
	})
}

// checkRights asks the kernel what each container's first process may do.
func (w *world) checkRights(t *testing.T, services ...string) {
	t.Helper()
	for name, c := range w.containers(t) {
		if !slices.Contains(services, name) {
			continue
		}
		status := w.run(t, "docker", "exec", c.ID, "cat", "/proc/1/status")
		got := map[string]string{}
		for line := range strings.Lines(status) {
			key, value, _ := strings.Cut(line, ":")
			got[key] = strings.Join(strings.Fields(value), " ")
		}
		uid, _, _ := strings.Cut(got["Uid"], " ")
		if uid == "0" || got["CapEff"] != "0000000000000000" || got["NoNewPrivs"] != "1" {
			t.Errorf("%s runs as %s with capabilities %s, no_new_privs %s", name, uid, got["CapEff"], got["NoNewPrivs"])
		}
		if strings.HasPrefix(c.Config.Image, "scalehook:") && uid != strconv.Itoa(scalehookUID) {
			t.Errorf("%s runs as %s, want %d", name, uid, scalehookUID)
		}
		root := ""
		for line := range strings.Lines(w.run(t, "docker", "exec", c.ID, "cat", "/proc/mounts")) {
			if f := strings.Fields(line); f[1] == "/" {
				root = f[3]
			}
		}
		if !strings.HasPrefix(root, "ro,") && !strings.HasSuffix(name, "grafana") {
			t.Errorf("%s may write to its root file system: %s", name, root)
		}
	}
}

// checkToken proves that Alertmanager can read its token, and nobody else can.
func (w *world) checkToken(t *testing.T, alertmanager string, others ...string) {
	t.Helper()
	all := w.containers(t)
	const file = "/run/tokens/alerts/alerts.token"
	if got := strings.TrimSpace(w.run(t, "docker", "exec", all[alertmanager].ID, "cat", file)); len(got) != 64 {
		t.Errorf("the token has %d characters, want 64", len(got))
	}
	if err := w.command(t.Context(), "docker", "exec", all[alertmanager].ID, "ls", "/run/tokens/operator").Run(); err == nil {
		t.Error("Alertmanager has the operator's token")
	}
	for _, name := range others {
		if err := w.command(t.Context(), "docker", "exec", all[name].ID, "ls", file).Run(); err == nil {
			t.Errorf("%s has Alertmanager's token", name)
		}
	}
	for _, m := range all[alertmanager].Mounts {
		if m.Destination != filepath.Dir(file) {
			continue
		}
		// Whoever is nobody here as well, and has got as far as to the volume.
		for _, user := range []string{"65534:65534", "472:0", "99:99"} {
			cmd := w.command(t.Context(), "docker", "run", "--rm", "--network=none", "--user="+user, "--volume="+m.Name+":/volume:ro", "debian:bookworm-slim", "cat", "/volume/alerts.token")
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
				t.Errorf("user %s at the token: %v, want permission denied", user, err)
			}
		}
		source := filepath.Join(w.dir, "data", "volumes", m.Name, "_data", "alerts.token")
		if st, err := os.Stat(source); err != nil || st.Mode().Perm() != 0o640 {
			t.Errorf("the token on the host: %v, %v; want mode 0640", st, err)
		}
		return
	}
	t.Error("Alertmanager has no volume with its token")
}

// checkListeners proves that nothing but HAProxy's frontend can be reached from outside
// the host; in the test HAPROXY_BIND keeps that on loopback too.
func (w *world) checkListeners(t *testing.T) {
	t.Helper()
	cmd := w.lab.Command(t.Context(), "ss", "--no-header", "--listening", "--tcp", "--numeric", "--processes")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		address := fields[3]
		for _, port := range []string{"20070", "20071", "20090", "20093", "23000", "28404", "28080"} {
			if strings.HasSuffix(address, ":"+port) {
				found++
				if !strings.HasPrefix(address, "127.0.0.1:") {
					t.Errorf("a port that is open to others: %s", line)
				}
			}
		}
		for _, port := range []string{"10070", "10071", "9090", "9093", "3000", "8404", "8080"} {
			if strings.HasSuffix(address, ":"+port) {
				t.Errorf("a port that was moved is taken all the same: %s", line)
			}
		}
	}
	if found != 7 {
		t.Errorf("%d of 7 ports are listened on:\n%s", found, out)
	}
}

// series succeeds when Prometheus has an answer to the query.
func (w *world) series(t *testing.T, port int, query string) error {
	body, err := w.get(t.Context(), fmt.Sprintf("http://127.0.0.1:%d/api/v1/query?query=%s", port, url.QueryEscape(query)))
	if err != nil {
		return err
	}
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	if len(answer.Data.Result) == 0 {
		return fmt.Errorf("no series for %s", query)
	}
	return nil
}

// client asks the scalehook at a port of the lab.
func (w *world) client(t *testing.T, token string, port int) *client.Client {
	t.Helper()
	file := filepath.Join(t.TempDir(), "operator.token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Options{URL: fmt.Sprintf("http://127.0.0.1:%d", port), TokenFile: file, HTTP: w.lab.HTTPClient()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// activities are those that ended, the newest first.
func (w *world) activities(t *testing.T, c *client.Client) []api.Activity {
	t.Helper()
	all, err := c.Activities(t.Context(), "web", "", 100)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(a api.Activity) bool { return a.Ended.IsZero() })
}
