// Package tutorial does what docs/tutorial-kvm.md says, as a new user would, with a
// clock, and what other pages say to somebody with a KVM host: `make test-tutorial`.
// What is quick of it is tested always.
package tutorial

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/internal/testenv"
)

const pagePath = "../../docs/tutorial-kvm.md"

// elsewhere runs the tutorial's commands in a folder that stands for the root: what
// scalehook prints names files below it, nobody is root, and there is no libvirt.
const elsewhere = `
scalehook() {
	case "$1 $2" in
	"template import") ;;
	*) command scalehook "$@" | sed "s|/etc/|$PWD/etc/|g" ;;
	esac
}
install() {
	local args=()
	while [ $# -gt 0 ]; do
		if [ "$1" = -g ]; then shift; else args+=("$1"); fi
		shift
	done
	command install "${args[@]}"
}
export -f scalehook install
exec bash`

// The steps up to the first reload, on configurations as Debian has them, with the
// programs that read them.
func TestTheTutorialsFilesAreMergedAndChecked(t *testing.T) {
	testenv.Need(t, testenv.Program("bash"), testenv.Program("go"), testenv.Program("patch"), testenv.Program("promtool"), testenv.Program("amtool"), testenv.Program("haproxy"))
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "libvirt_dlopen", "-o", filepath.Join(dir, "bin")+"/", "../../cmd/scalehook")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	before := map[string]string{}
	for name, file := range map[string]string{"etc/prometheus/prometheus.yml": "prometheus.yml", "etc/prometheus/alertmanager.yml": "alertmanager.yml", "etc/haproxy/haproxy.cfg": "haproxy.cfg"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "internal", "merge", "testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		before[name] = string(text)
		write(name, string(text))
	}
	// As the package makes them.
	write("etc/scalehook/alerts.token", strings.Repeat("a", 64)+"\n")
	write("etc/scalehook/operator.token", strings.Repeat("b", 64)+"\n")

	var steps, back []doc.Block
	checked := false
	for _, b := range doc.Read(t, pagePath) {
		b.Text = strings.ReplaceAll(b.Text, "/etc/", filepath.Join(dir, "etc")+"/")
		if b.NotRun == "" && !checked && !strings.HasPrefix(b.Text, "apt-get ") {
			steps = append(steps, b)
		}
		checked = checked || strings.Contains(b.Text, "check-config --offline")
		for line := range strings.Lines(b.Text) {
			if strings.HasPrefix(line, "patch -R ") {
				back = append(back, doc.Block{Line: b.Line, Text: line})
			}
		}
	}
	if !checked || len(back) != len(before) {
		t.Fatalf("the page has no offline check, or takes back %d files", len(back))
	}
	session := exec.CommandContext(t.Context(), testenv.Path(t, "bash"), "-c", elsewhere)
	session.Dir = dir
	session.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if err := (doc.Runner{Command: session, Each: time.Minute}).Run(t.Context(), append(steps, back...)); err != nil {
		t.Fatal(err)
	}
	for name, want := range before {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s after it was taken back (-want +got):\n%s", name, diff)
		}
	}
}
