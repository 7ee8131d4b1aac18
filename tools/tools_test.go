// Package tools tests the scripts that stand between make and the machine: one
// runs things as root and must not leave root's files in the tree, the other
// brings a Go along and must not run one that is not what it should be.
package tools

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/testenv"
)

// tree is a pretended checkout with the scripts in it, on a machine that has only
// the programs in bin.
type tree struct {
	dir string
	env []string
}

// programs are what the scripts may find; the tests add stand-ins.
var programs = []string{
	"base64", "basename", "cat", "chmod", "chown", "cp", "cut", "dirname", "env", "find", "fold", "grep", "head", "id", "mkdir", "mktemp",
	"mv", "printf", "rm", "sed", "sh", "sha256sum", "sleep", "sort", "stat", "touch", "tr", "uname", "unzip", "xargs",
}

func newTree(t *testing.T, scripts ...string) *tree {
	t.Helper()
	testenv.Need(t, testenv.Program("unzip"))
	// Below a folder that everybody may enter: part of it is given to another user.
	dir, err := os.MkdirTemp("", "shtree") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	tr := &tree{dir: dir}
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		tr.write(t, "tree/tools/"+script, string(text), 0o755)
	}
	for _, program := range programs {
		tr.write(t, "bin/"+program, "", 0o755)
		if err := os.Remove(tr.path("bin", program)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(testenv.Path(t, program), tr.path("bin", program)); err != nil {
			t.Fatal(err)
		}
	}
	tr.stub(t, "cc", "")
	tr.env = []string{"PATH=" + tr.path("bin"), "D=" + dir, "CC=" + tr.path("bin", "cc"), "LC_ALL=C"}
	return tr
}

func (tr *tree) path(parts ...string) string {
	return filepath.Join(append([]string{tr.dir}, parts...)...)
}

func (tr *tree) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(tr.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tr.path(name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// stub puts a stand-in for a program on the machine.
func (tr *tree) stub(t *testing.T, name, script string) {
	t.Helper()
	if err := os.RemoveAll(tr.path("bin", name)); err != nil {
		t.Fatal(err)
	}
	tr.write(t, "bin/"+name, "#!/bin/sh\n"+script+"\n", 0o755)
}

func (tr *tree) command(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tr.path("tree/tools", script), args...)
	cmd.Env = tr.env
	return cmd
}

// run runs a script and returns what it printed and its exit code.
func (tr *tree) run(t *testing.T, script string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := tr.command(t, script, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

const (
	goVersion  = "go99.1.3"
	moduleName = "v0.0.1-" + goVersion + ".linux-amd64"
)

// toolchain is the content of a Go as a module, by path.
func toolchain() map[string]string {
	return map[string]string{
		"bin/go":                       "#!/bin/sh\necho I am " + goVersion + "\n",
		"bin/gofmt":                    "#!/bin/sh\n",
		"pkg/tool/linux_amd64/compile": "#!/bin/sh\n",
		"src/_go.mod":                  "module std\n",
		"src/cmd/_go.mod":              "module cmd\n",
		"VERSION":                      goVersion + "\n",
	}
}

// sum is the module's line in the checksum database, worked out from its definition.
func sum(files map[string]string) string {
	var list strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&list, "%x  golang.org/toolchain@%s/%s\n", sha256.Sum256([]byte(files[name])), moduleName, name)
	}
	all := sha256.Sum256([]byte(list.String()))
	return "h1:" + base64.StdEncoding.EncodeToString(all[:])
}

// proxy puts the module where a file:// proxy has it and returns the proxy's URL.
func (tr *tree) proxy(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	for _, file := range slices.Sorted(maps.Keys(files)) {
		f, err := w.Create("golang.org/toolchain@" + moduleName + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(files[file])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	tr.write(t, filepath.Join(name, "golang.org/toolchain/@v", moduleName+".zip"), packed.String(), 0o644)
	return "file://" + tr.path(name)
}

// newToolchain is a tree that needs a Go that no machine has.
func newToolchain(t *testing.T) *tree {
	t.Helper()
	tr := newTree(t, "toolchain")
	tr.write(t, "tree/tools/versions.env",
		"GO_MINIMUM=99.1\nGO_TOOLCHAIN="+goVersion+"\nGO_TOOLCHAIN_SUM_amd64="+sum(toolchain())+"\n", 0o644)
	tr.stub(t, "uname", `[ "$1" = -m ] && echo x86_64 || echo Linux`)
	tr.stub(t, "curl", `echo "curl: cannot reach $*" | sed 's|//[^/]*@|//|' >&2; exit 7`)
	return tr
}

// cached lists what is in the tree's cache, one level deep.
func (tr *tree) cached(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(tr.path("tree/.cache"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestTheToolchainIsFetchedOnceAndCheckedAgainstItsSum(t *testing.T) {
	tr := newToolchain(t)
	url := tr.proxy(t, "proxy", toolchain())
	// A proxy that cannot be reached, with a secret, and words that name none.
	tr.env = append(tr.env, "GOPROXY=https://user:secret@proxy.invalid,off|"+url+",direct")
	stdout, stderr, code := tr.run(t, "toolchain")
	if want := tr.path("tree/.cache", goVersion, "bin/go") + "\n"; code != 0 || stdout != want {
		t.Fatalf("printed %q with code %d, want %q:\n%s", stdout, code, want, stderr)
	}
	if strings.Contains(stderr, "secret") {
		t.Errorf("it shows the proxy's secret:\n%s", stderr)
	}
	if diff := cmp.Diff([]string{goVersion}, tr.cached(t)); diff != "" {
		t.Errorf("in the cache (-want +got):\n%s", diff)
	}
	root := tr.path("tree/.cache", goVersion)
	out, err := exec.CommandContext(t.Context(), filepath.Join(root, "bin/go")).CombinedOutput()
	if err != nil || string(out) != "I am "+goVersion+"\n" {
		t.Errorf("the Go that was brought along: %q, %v", out, err)
	}
	for _, name := range []string{"src/go.mod", "src/cmd/go.mod"} {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "pkg/tool/linux_amd64/compile")); err != nil || info.Mode()&0o111 == 0 {
		t.Errorf("the compiler cannot be run: %v, %v", info, err)
	}

	if err := os.RemoveAll(tr.path("proxy")); err != nil {
		t.Fatal(err)
	}
	again, stderr, code := tr.run(t, "toolchain")
	if code != 0 || again != stdout || stderr != "" {
		t.Errorf("the second time: %q, code %d:\n%s", again, code, stderr)
	}
}

func TestTheToolchainIsRefused(t *testing.T) {
	changed := toolchain()
	changed["bin/go"] += "echo and something else\n"
	more := toolchain()
	more["bin/more"] = ""
	for name, test := range map[string]struct {
		prepare func(t *testing.T, tr *tree)
		want    string
	}{
		"with a file changed": {func(t *testing.T, tr *tree) {
			t.Helper()
			tr.env = append(tr.env, "GOPROXY="+tr.proxy(t, "proxy", changed))
		}, "has the sum " + sum(changed) + ", not " + sum(toolchain()) + ": not used"},
		"with a file more": {func(t *testing.T, tr *tree) {
			t.Helper()
			tr.env = append(tr.env, "GOPROXY="+tr.proxy(t, "proxy", more))
		}, "not used"},
		"when no proxy has it": {func(_ *testing.T, tr *tree) {
			tr.env = append(tr.env, "GOPROXY=file://"+tr.path("nowhere")+",direct")
		}, "could not fetch golang.org/toolchain/@v/" + moduleName + ".zip; install Go 99.1 or newer, or set GOPROXY"},
		"when no proxy is known": {func(*testing.T, *tree) {}, "which module proxy?"},
		"on another processor": {func(t *testing.T, tr *tree) {
			t.Helper()
			tr.stub(t, "uname", `[ "$1" = -m ] && echo riscv64 || echo Linux`)
		}, "for amd64 only"},
		"without a C compiler": {func(_ *testing.T, tr *tree) {
			tr.env = append(tr.env, "CC=no-such-compiler")
		}, "needs a C compiler: apt-get install gcc libc6-dev"},
		"without anything to unpack it": {func(t *testing.T, tr *tree) {
			t.Helper()
			if err := os.Remove(tr.path("bin/unzip")); err != nil {
				t.Fatal(err)
			}
			tr.env = append(tr.env, "GOPROXY="+tr.proxy(t, "proxy", toolchain()))
		}, "needs unzip or python3"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newToolchain(t)
			test.prepare(t, tr)
			stdout, stderr, code := tr.run(t, "toolchain")
			if code != 1 || stdout != "" || !strings.Contains(stderr, test.want) {
				t.Errorf("printed %q with code %d, want 1 and %q:\n%s", stdout, code, test.want, stderr)
			}
			if left := tr.cached(t); len(left) > 0 {
				t.Errorf("left in the cache: %v", left)
			}
		})
	}
}

func TestTheMachinesGoIsUsedWhenItIsNewEnough(t *testing.T) {
	for version, used := range map[string]bool{
		"go99.1": true, "go99.1.0": true, "go99.10.2": true, "go100.0.1": true, "go99.2rc1": true,
		"go99.0.9": false, "go1.19.8": false, "go9.9.9": false, "devel +abc": false, "": false,
	} {
		tr := newToolchain(t)
		// An old Go still knows where modules come from.
		tr.stub(t, "go", `case $* in
"env GOVERSION") echo "`+version+`" ;;
"env GOPROXY") echo "`+tr.proxy(t, "proxy", toolchain())+`" ;;
esac`)
		stdout, stderr, code := tr.run(t, "toolchain")
		want := tr.path("bin/go")
		if !used {
			want = tr.path("tree/.cache", goVersion, "bin/go")
		}
		if code != 0 || stdout != want+"\n" {
			t.Errorf("with %q: printed %q, want %s, code %d:\n%s", version, stdout, want, code, stderr)
		}
	}
}

// newAsRoot is a tree whose go lies in a folder of its own.
func newAsRoot(t *testing.T) *tree {
	t.Helper()
	tr := newTree(t, "as-root")
	tr.write(t, "tree/tools/env", "#!/bin/sh\necho "+tr.path("go/bin/go")+"\n", 0o755)
	tr.write(t, "go/bin/go", "#!/bin/sh\necho the tree\\'s go\n", 0o755)
	return tr
}

func TestAsRootWithoutRootGoesThroughSudo(t *testing.T) {
	tr := newAsRoot(t)
	tr.stub(t, "id", "echo 1000")
	tr.env = append(tr.env, "CI=yes")
	if _, stderr, code := tr.run(t, "as-root", "make", "it so"); code != 1 || stderr != "needs root, or sudo: make it so\n" {
		t.Errorf("without sudo: code %d, %q", code, stderr)
	}
	tr.stub(t, "sudo", `for word; do echo "$word"; done`)
	stdout, stderr, code := tr.run(t, "as-root", "make", "it so")
	want := "--\nenv\nCI=yes\nSCALEHOOK_NO_SKIP=\n" + tr.path("tree/tools/as-root") + "\nmake\nit so\n"
	if diff := cmp.Diff(want, stdout); diff != "" || code != 0 {
		t.Errorf("sudo's arguments (-want +got), code %d, %s:\n%s", code, stderr, diff)
	}
}

func TestAsRootSaysWhetherItCan(t *testing.T) {
	for name, test := range map[string]struct {
		uid, sudo string
		code      int
	}{
		"somebody who is root":                    {"0", "", 0},
		"a user without any sudo":                 {"1000", "", 1},
		"a user with sudo that asks for nothing":  {"1000", "exit 0", 0},
		"a user with sudo, nobody to type for it": {"1000", "exit 1", 1},
	} {
		tr := newAsRoot(t)
		tr.stub(t, "id", `[ "$1" = -u ] && echo `+test.uid+` || echo sudo`)
		if test.sudo != "" {
			tr.stub(t, "sudo", test.sudo)
		}
		if _, stderr, code := tr.run(t, "as-root", "--can"); code != test.code || stderr != "" {
			t.Errorf("%s: code %d, want %d: %s", name, code, test.code, stderr)
		}
	}
}

// owners are who owns what in the tree.
func (tr *tree) owners(t *testing.T) map[string]uint32 {
	t.Helper()
	all := map[string]uint32{}
	err := filepath.WalkDir(tr.path("tree"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err == nil {
			all[strings.TrimPrefix(path, tr.path("tree"))] = info.Sys().(*syscall.Stat_t).Uid
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAsRootGivesBackWhatItLeftAndNothingElse(t *testing.T) {
	testenv.Need(t, testenv.Root)
	const owner = 54321
	prepare := func(t *testing.T) *tree {
		t.Helper()
		tr := newAsRoot(t)
		tr.write(t, "tree/old", "", 0o644)
		tr.write(t, "tree/roots", "", 0o644) // there before, and on purpose so
		tr.write(t, "outside", "", 0o644)
		for path := range tr.owners(t) {
			if path != "/roots" {
				if err := os.Lchown(tr.path("tree", path), owner, owner); err != nil {
					t.Fatal(err)
				}
			}
		}
		// Change times have ticks: what is there before must be older than what comes.
		time.Sleep(20 * time.Millisecond)
		return tr
	}
	const work = `go; mkdir $D/tree/new; touch $D/tree/new/file $D/elsewhere; ln -s ../outside $D/tree/link; `
	check := func(t *testing.T, tr *tree) {
		t.Helper()
		for path, uid := range tr.owners(t) {
			if want := uint32(owner); path != "/roots" && uid != want {
				t.Errorf("%s belongs to %d, want %d", path, uid, want)
			}
			if path == "/roots" && uid != 0 {
				t.Errorf("%s was given away to %d", path, uid)
			}
		}
		for _, name := range []string{"outside", "elsewhere"} {
			info, err := os.Stat(tr.path(name))
			if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
				t.Errorf("%s, outside of the tree: %v, %v", name, info, err)
			}
		}
	}
	for name, test := range map[string]struct {
		end  string
		code int
	}{"after success": {"true", 0}, "after a failure": {"exit 7", 7}} {
		t.Run(name, func(t *testing.T) {
			tr := prepare(t)
			tr.env = append(tr.env, "GOTOOLCHAIN=auto")
			ln(t, tr)
			stdout, stderr, code := tr.run(t, "as-root", "sh", "-c", work+`echo $GOTOOLCHAIN $GOFLAGS; `+test.end)
			if code != test.code || stdout != "the tree's go\nlocal -buildvcs=false -tags=libvirt_dlopen\n" {
				t.Errorf("code %d, want %d; printed %q, %q", code, test.code, stdout, stderr)
			}
			check(t, tr)
		})
	}
	t.Run("after Ctrl-C", func(t *testing.T) {
		tr := prepare(t)
		ln(t, tr)
		cmd := tr.command(t, "as-root", "sh", "-c", work+`trap 'touch $D/tree/last; exit 3' INT; touch $D/waiting; while :; do sleep 0.1; done`)
		process := testenv.Start(t, cmd, func() error {
			_, err := os.Stat(tr.path("waiting"))
			return err
		})
		// To the whole group, as a terminal does.
		if err := syscall.Kill(-process.PID(), syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		select {
		case <-process.Done():
		case <-time.After(20 * time.Second):
			t.Fatal("still running")
		}
		if _, err := os.Stat(tr.path("tree/last")); err != nil {
			t.Errorf("the command had no time to tidy up: %v", err)
		}
		check(t, tr)
	})
}

func ln(t *testing.T, tr *tree) {
	t.Helper()
	if err := os.Symlink(testenv.Path(t, "ln"), tr.path("bin/ln")); err != nil {
		t.Fatal(err)
	}
}
