//go:build compose

package compose_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The official images cannot be pulled everywhere, so each has a stand-in under its
// name and tag: Debian's own programs at the paths, with the users, entry points and
// folders of the official one. grafana/grafana, which Debian does not have, is one that
// only looks whether it could read what it is provisioned with.

// image makes a stand-in; it is given the image's name.
type image struct {
	prefix string // of the name
	make   func(*testing.T, *world, string)
}

// images are in the order in which they are made: later ones are made of earlier ones.
var images = []image{
	{"debian:", func(t *testing.T, w *world, name string) {
		// What the Dockerfile installs is in it, and no list of packages: apt, without
		// a network, finds nothing to do.
		w.bootstrap(t, name, "ca-certificates,libvirt0")
	}},
	{"golang:", goImage},
	{"prom/prometheus:", func(t *testing.T, w *world, name string) {
		w.standin(t, name, "prometheus", map[string]string{"prometheus": "/usr/bin/prometheus", "busybox": "/usr/bin/busybox"})
	}},
	{"prom/alertmanager:", func(t *testing.T, w *world, name string) {
		w.standin(t, name, "alertmanager", map[string]string{
			"prometheus-alertmanager": "/usr/bin/alertmanager", "busybox": "/usr/bin/busybox",
			// Debian's has these in files; the official one in itself.
			"/usr/share/prometheus/alertmanager/default.tmpl": "/usr/share/prometheus/alertmanager/default.tmpl",
			"/usr/share/prometheus/alertmanager/email.tmpl":   "/usr/share/prometheus/alertmanager/email.tmpl",
		})
	}},
	{"haproxy:", func(t *testing.T, w *world, name string) {
		w.standin(t, name, "haproxy", map[string]string{"haproxy": "/usr/local/sbin/haproxy"})
	}},
	{"grafana/grafana:", func(t *testing.T, w *world, name string) {
		w.standin(t, name, "grafana", map[string]string{"busybox": "/usr/bin/busybox"})
	}},
}

// makeImages makes a stand-in for each image that the compose file and the Dockerfile
// name, under exactly that name.
func (w *world) makeImages(t *testing.T) {
	t.Helper()
	var names []string
	for path, pattern := range map[string]string{"docker-compose.yml": `(?m)^\s+image: (\S+)$`, "deploy/compose/Dockerfile": `(?m)^FROM (\S+)`} {
		text, err := os.ReadFile(filepath.Join(w.tree, path))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			if !strings.HasPrefix(m[1], "scalehook:") {
				names = append(names, m[1])
			}
		}
	}
	made := map[string]bool{}
	for _, i := range images {
		for _, name := range names {
			if strings.HasPrefix(name, i.prefix) && !made[name] {
				i.make(t, w, name)
				made[name] = true
			}
		}
	}
	for _, name := range names {
		if !made[name] {
			t.Fatalf("no stand-in is known for the image %s", name)
		}
	}
}

// cache is a folder that outlives the test.
func (w *world) cache(t *testing.T, elem ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{w.repository, ".cache", "compose"}, elem...)...)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// bootstrap imports a Debian with these packages, which is made once.
func (w *world) bootstrap(t *testing.T, name, packages string) {
	t.Helper()
	tar := w.cache(t, strings.ReplaceAll("bookworm,"+packages, ",", "+")+".tar")
	if _, err := os.Stat(tar); err != nil {
		root := filepath.Join(w.dir, "bootstrap")
		w.run(t, "debootstrap", "--variant=minbase", "--include="+packages, "bookworm", root)
		if err := errors.Join(
			os.WriteFile(filepath.Join(root, "etc/apt/sources.list"), nil, 0o644),
			os.RemoveAll(filepath.Join(root, "var/cache/apt/archives")),
			os.RemoveAll(filepath.Join(root, "var/lib/apt/lists")),
			os.MkdirAll(filepath.Join(root, "var/lib/apt/lists/partial"), 0o755),
			os.MkdirAll(filepath.Join(root, "var/cache/apt/archives/partial"), 0o755),
		); err != nil {
			t.Fatal(err)
		}
		w.run(t, "tar", "--one-file-system", "-C", root, "-cf", tar+".new", ".")
		if err := errors.Join(os.Rename(tar+".new", tar), os.RemoveAll(root)); err != nil {
			t.Fatal(err)
		}
	}
	w.run(t, "docker", "import", tar, name)
}

// goImage is Debian's compiler for C and this machine's Go. The build cache of the last
// run is in it, or each run would compile everything for minutes.
func goImage(t *testing.T, w *world, name string) {
	t.Helper()
	w.bootstrap(t, "scalehook-go-base:local", "ca-certificates,gcc,libc6-dev")
	goroot := strings.TrimSpace(w.run(t, "go", "env", "GOROOT"))
	if resolved, err := filepath.EvalSymlinks(goroot); err == nil {
		goroot = resolved
	}
	if err := os.MkdirAll(w.cache(t, "go-build"), 0o755); err != nil {
		t.Fatal(err)
	}
	context := filepath.Join(w.dir, "go-image")
	w.write(t, filepath.Join(context, "Dockerfile"), `FROM scalehook-go-base:local
COPY go /usr/local/go
COPY go-build /root/.cache/go-build
ENV GOPATH=/go GOTOOLCHAIN=local PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /go
`)
	for name, from := range map[string]string{"go": goroot, "go-build": w.cache(t, "go-build")} {
		// By links, where they are on one file system.
		if err := w.command(t.Context(), "cp", "-alT", from, filepath.Join(context, name)).Run(); err != nil {
			w.run(t, "rm", "-rf", filepath.Join(context, name))
			w.run(t, "cp", "-aT", from, filepath.Join(context, name))
		}
	}
	w.run(t, "docker", "build", "--quiet", "--tag", name, context)
	if err := os.RemoveAll(context); err != nil {
		t.Fatal(err)
	}
}

// keepBuildCache saves what the build stage compiled, for the next run.
func (w *world) keepBuildCache(t *testing.T) {
	t.Helper()
	var all []struct {
		ID              string `json:"Id"`
		ContainerConfig struct{ Cmd []string }
	}
	ids := strings.Fields(w.run(t, "docker", "images", "--all", "--quiet", "--no-trunc"))
	if err := json.Unmarshal([]byte(w.run(t, "docker", append([]string{"inspect"}, ids...)...)), &all); err != nil {
		t.Fatal(err)
	}
	built := ""
	for _, i := range all {
		if strings.Contains(strings.Join(i.ContainerConfig.Cmd, " "), "go build ") {
			built = i.ID
		}
	}
	if built == "" {
		t.Fatal("no layer is the result of go build")
	}
	id := strings.TrimSpace(w.run(t, "docker", "create", built, "true"))
	target := w.cache(t, "go-build")
	w.run(t, "docker", "cp", id+":/root/.cache/go-build", target+".new")
	w.run(t, "docker", "rm", id)
	if err := errors.Join(os.RemoveAll(target), os.Rename(target+".new", target)); err != nil {
		t.Fatal(err)
	}
}

// standin builds an image of a folder of standin/ and of programs and files of this
// machine.
func (w *world) standin(t *testing.T, name, folder string, files map[string]string) {
	t.Helper()
	context := filepath.Join(w.dir, "standin", folder)
	w.run(t, "mkdir", "-p", filepath.Join(context, "root"))
	for file, target := range files {
		path := w.find(t, file)
		w.copy(t, path, filepath.Join(context, "root", target))
		for _, library := range w.libraries(t, path) {
			w.copy(t, library, filepath.Join(context, "root", "usr", strings.TrimPrefix(library, "/usr")))
		}
	}
	w.run(t, "cp", "-aT", filepath.Join(w.tree, "e2e", "compose", "standin", folder), context)
	w.run(t, "docker", "build", "--quiet", "--network=none", "--tag", name, context)
}

// find returns a file's path, or that of one of Debian's programs.
func (w *world) find(t *testing.T, name string) string {
	t.Helper()
	if filepath.IsAbs(name) {
		return name
	}
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatalf("needs Debian's program %s", name)
	return ""
}

// libraries are those that a program needs beside glibc's, which the base has.
func (w *world) libraries(t *testing.T, program string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ldd", program).Output()
	if err != nil {
		return nil // a static program, or none
	}
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^\s*(\S+) => (/\S+)`).FindAllStringSubmatch(string(out), -1) {
		switch base, _, _ := strings.Cut(m[1], ".so"); base {
		case "libc", "libm", "libdl", "libpthread", "librt", "libresolv":
		default:
			list = append(list, m[2])
		}
	}
	return list
}

func (w *world) copy(t *testing.T, from, to string) {
	t.Helper()
	w.run(t, "mkdir", "-p", filepath.Dir(to))
	w.run(t, "cp", "-L", from, to)
}

func (w *world) write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// proxyPort is where the lab has this machine's Go modules.
const proxyPort = 8099

// proxy is what the build is given as GOPROXY: the lab has no way out.
func (w *world) proxy() string { return fmt.Sprintf("http://%s:%d", w.lab.Gateway(), proxyPort) }

// serveModules lets `go mod download` inside the build find what this machine has.
func (w *world) serveModules(t *testing.T) {
	t.Helper()
	w.run(t, "go", "mod", "download")
	folder := filepath.Join(strings.TrimSpace(w.run(t, "go", "env", "GOMODCACHE")), "cache", "download")
	listener, err := w.lab.Listen(t.Context(), "tcp", fmt.Sprintf("%s:%d", w.lab.Gateway(), proxyPort))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(folder))}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	t.Cleanup(func() {
		if err := server.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("end the module proxy: %v", err)
		}
		<-done
	})
}
