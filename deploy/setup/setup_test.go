// Package setup tests the installation of packages that `make demo` and `make
// test` begin with: what it must never do is start or stop something on the
// user's machine.
package setup

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/testenv"
)

// machine is a pretended Debian machine: the programs that would change a real
// one are stand-ins that write down how they were called.
type machine struct {
	dir, policy string
	env         []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	testenv.Need(t, testenv.Program("flock"), testenv.Program("sh"))
	dir := t.TempDir()
	m := &machine{dir: dir, policy: filepath.Join(dir, "policy-rc.d")}
	stubs := map[string]string{
		"id":         `[ "$*" = -u ] && cat "$M/uid" || echo users`,
		"sudo":       `exit 1`,
		"apt-cache":  `echo "Package: linux-image-cloud-amd64"`,
		"dpkg-query": `cat "$M/installed"`,
		"dpkg":       `printf '/lib/systemd/system/%s.service\n/usr/lib/systemd/system/%s@.service\n/usr/share/doc/%s\n' "$2" "$2" "$2"`,
		"systemctl":  `echo "systemctl $*" >>"$M/calls"; [ "$1" = is-enabled ] && echo enabled; exit 0`,
		// What apt would run for a package's service, and what came of it.
		"apt-get": `echo "apt-get $*" >>"$M/calls"
cp "$M/stdout" "$M/stdout-before-apt"
case "$*" in *install*) ;; *) exit 0 ;; esac
sh "$SCALEHOOK_POLICY_RC_D" haproxy start; echo "policy says $?" >>"$M/calls"
[ -e "$M/fail" ] && exit 100
if [ -e "$M/hang" ]; then touch "$M/hanging"; exec sleep 300; fi
echo "installed haproxy:amd64" >>"$M/installed"
echo "installed openssh-server" >>"$M/installed"
echo "installed logrotate" >>"$M/installed"`,
	}
	for name, script := range stubs {
		m.write(t, filepath.Join("bin", name), "#!/bin/sh\n"+script+"\n", 0o755)
	}
	m.write(t, "uid", "0\n", 0o644)
	m.write(t, "installed", "installed gcc\nconfig-files prometheus\n", 0o644)
	m.write(t, "calls", "", 0o644)
	m.env = append(os.Environ(), "M="+dir, "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"),
		"SCALEHOOK_POLICY_RC_D="+m.policy, "SCALEHOOK_SETUP_LOCK="+filepath.Join(dir, "lock"), "SCALEHOOK_APT_LISTS="+filepath.Join(dir, "bin"))
	return m
}

func (m *machine) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(m.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// command is an installation that is ready to run; its output goes to stdout
// and stderr in the machine's folder.
func (m *machine) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	script, err := filepath.Abs("install")
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), script, args...)
	command.Env = m.env
	open := func(name string) *os.File {
		file, err := os.Create(filepath.Join(m.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		return file
	}
	command.Stdout, command.Stderr = open("stdout"), open("stderr")
	return command
}

// policyBefore are the states in which a policy-rc.d may be found.
func policyBefore() map[string]func(t *testing.T, m *machine) {
	return map[string]func(t *testing.T, m *machine){
		"no policy": func(*testing.T, *machine) {},
		"a policy of the machine's own": func(t *testing.T, m *machine) {
			m.write(t, "policy-rc.d", "#!/bin/sh\nexit 0\n", 0o711)
			old := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
			if err := os.Chtimes(m.policy, old, old); err != nil {
				t.Fatal(err)
			}
		},
		"a policy that is a link": func(t *testing.T, m *machine) {
			m.write(t, "elsewhere", "#!/bin/sh\nexit 0\n", 0o755)
			if err := os.Symlink("elsewhere", m.policy); err != nil {
				t.Fatal(err)
			}
		},
		"a policy that is a broken link": func(t *testing.T, m *machine) {
			if err := os.Symlink("nowhere", m.policy); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// policyState is all that can be seen of the policy, its inode included.
func (m *machine) policyState(t *testing.T) []string {
	t.Helper()
	var state []string
	entries, err := filepath.Glob(m.policy + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range entries {
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		target, _ := os.Readlink(path)
		text, _ := os.ReadFile(path)
		inode := info.Sys().(*syscall.Stat_t).Ino
		state = append(state, strings.Join([]string{
			path, info.Mode().String(), info.ModTime().String(), target, string(text),
			strconv.FormatUint(inode, 10),
		}, "|"))
	}
	return state
}

func TestInstallStartsNothingAndPutsThePolicyBack(t *testing.T) {
	for name, prepare := range policyBefore() {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			prepare(t, m)
			before := m.policyState(t)
			if err := m.command(t, "demo").Run(); err != nil {
				t.Fatalf("install: %v\n%s", err, m.read(t, "stderr"))
			}
			calls := m.read(t, "calls")
			if !strings.Contains(calls, "policy says 101\n") {
				t.Errorf("while apt ran, services could start:\n%s", calls)
			}
			if diff := cmp.Diff(before, m.policyState(t)); diff != "" {
				t.Errorf("policy-rc.d was changed (-before +after):\n%s", diff)
			}
			var touched []string
			for line := range strings.Lines(calls) {
				if strings.HasPrefix(line, "systemctl ") && !strings.HasPrefix(line, "systemctl is-enabled ") {
					touched = append(touched, strings.TrimSpace(line))
				}
			}
			if diff := cmp.Diff([]string{"systemctl disable haproxy.service", "systemctl disable openssh-server.service"}, touched); diff != "" {
				t.Errorf("calls of systemctl (-want +got):\n%s", diff)
			}
			list := m.read(t, "stdout-before-apt")
			for _, want := range []string{"missing", "haproxy", "prometheus", "qemu-system-x86"} {
				if !strings.Contains(list, want) {
					t.Errorf("the list printed before apt lacks %q:\n%s", want, list)
				}
			}
			if slices.Contains(strings.Fields(list), "gcc") {
				t.Errorf("gcc is there, but is said to be missing:\n%s", list)
			}
		})
	}
}

func TestPolicyIsPutBackWhenTheInstallationEndsBadly(t *testing.T) {
	for name, prepare := range policyBefore() {
		t.Run(name+", apt fails", func(t *testing.T) {
			m := newMachine(t)
			prepare(t, m)
			before := m.policyState(t)
			m.write(t, "fail", "", 0o644)
			if err := m.command(t, "demo").Run(); err == nil {
				t.Error("apt failed, install did not")
			}
			if diff := cmp.Diff(before, m.policyState(t)); diff != "" {
				t.Errorf("policy-rc.d was changed (-before +after):\n%s", diff)
			}
		})
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGKILL} {
			t.Run(name+", "+sig.String(), func(t *testing.T) {
				// A test that was itself started with hang-ups ignored (nohup, some CI)
				// would pass that on; a signal that is caught is not.
				caught := make(chan os.Signal, 1)
				signal.Notify(caught, syscall.SIGHUP)
				defer signal.Stop(caught)
				m := newMachine(t)
				prepare(t, m)
				before := m.policyState(t)
				m.write(t, "hang", "", 0o644)
				process := testenv.Start(t, m.command(t, "demo"), func() error {
					_, err := os.Stat(filepath.Join(m.dir, "hanging"))
					return err
				})
				// To the whole group, as a terminal does.
				if err := syscall.Kill(-process.PID(), sig); err != nil {
					t.Fatal(err)
				}
				select {
				case <-process.Done():
				case <-time.After(20 * time.Second):
					t.Fatal("still running")
				}
				if sig == syscall.SIGKILL {
					// Nobody can tidy up after that but the next run.
					if err := os.Remove(filepath.Join(m.dir, "hang")); err != nil {
						t.Fatal(err)
					}
					if err := m.command(t, "demo").Run(); err != nil {
						t.Fatalf("second run: %v\n%s", err, m.read(t, "stderr"))
					}
				}
				if diff := cmp.Diff(before, m.policyState(t)); diff != "" {
					t.Errorf("policy-rc.d was changed (-before +after):\n%s", diff)
				}
			})
		}
	}
}

func TestEverySetIsKnownAndHasWhatItIsFor(t *testing.T) {
	for set, want := range map[string][]string{
		"demo":      {"libc6-dev", "qemu-system-x86", "haproxy"},
		"test":      {"libc6-dev", "qemu-system-x86", "haproxy", "shellcheck", "openssh-server", "bash-completion", "zsh", "fish"},
		"bench":     {"libc6-dev", "qemu-system-x86", "prometheus-libvirt-exporter"},
		"openstack": {"libc6-dev", "qemu-system-x86", "haproxy", "python3-nova", "python3-octaviaclient", "mariadb-server-core", "ovn-host"},
		"compose":   {"libc6-dev", "qemu-system-x86", "docker.io", "docker-compose", "debootstrap"},
	} {
		t.Run(set, func(t *testing.T) {
			m := newMachine(t)
			if err := m.command(t, "--list", set).Run(); err != nil {
				t.Fatalf("install: %v\n%s", err, m.read(t, "stderr"))
			}
			listed := strings.Fields(m.read(t, "stdout"))
			for _, name := range want {
				if !slices.Contains(listed, name) {
					t.Errorf("the list lacks %s: %v", name, listed)
				}
			}
			// Each of these would set up a service of the machine's own.
			for _, name := range []string{"mariadb-server", "nova-common", "neutron-common", "nova-compute", "keystone", "uwsgi"} {
				if slices.Contains(listed, name) {
					t.Errorf("the list has %s", name)
				}
			}
			if calls := m.read(t, "calls"); calls != "" {
				t.Errorf("asked for the list only, but it called:\n%s", calls)
			}
		})
	}
	m := newMachine(t)
	if err := m.command(t, "everything").Run(); err == nil || !strings.Contains(m.read(t, "stderr"), "demo|test|bench|openstack|compose") {
		t.Errorf("a set that is not known: %v, %q", err, m.read(t, "stderr"))
	}
}

func TestWithoutRootItSaysWhatIsMissingAtOnce(t *testing.T) {
	m := newMachine(t)
	m.write(t, "uid", "1000\n", 0o644)
	// The best of three: other tests may have all of the processor for a while.
	fastest := time.Hour
	for range 3 {
		began := time.Now()
		if err := m.command(t, "demo").Run(); err == nil {
			t.Error("went on without root")
		}
		fastest = min(fastest, time.Since(began))
	}
	if fastest > 2*time.Second {
		t.Errorf("took %v, want at most 2 s", fastest)
	}
	if calls := m.read(t, "calls"); calls != "" {
		t.Errorf("did something without root:\n%s", calls)
	}
	output := m.read(t, "stdout") + m.read(t, "stderr")
	for _, want := range []string{"haproxy", "needs root, or sudo", "make tour"} {
		if !strings.Contains(output, want) {
			t.Errorf("output lacks %q:\n%s", want, output)
		}
	}
}

func TestWhenNothingIsMissingNothingIsDone(t *testing.T) {
	m := newMachine(t)
	if err := m.command(t, "--list", "test").Run(); err != nil {
		t.Fatal(err)
	}
	var installed bytes.Buffer
	_, list, _ := strings.Cut(m.read(t, "stdout"), ":")
	for name := range strings.FieldsSeq(list) {
		installed.WriteString("installed " + name + "\n")
	}
	installed.WriteString("installed gcc\n")
	m.write(t, "installed", installed.String(), 0o644)
	if err := m.command(t, "test").Run(); err != nil {
		t.Fatalf("install: %v\n%s", err, m.read(t, "stderr"))
	}
	if calls := m.read(t, "calls"); calls != "" {
		t.Errorf("nothing is missing, but it called:\n%s", calls)
	}
	if want := "Packages: nothing is missing.\n"; m.read(t, "stdout") != want {
		t.Errorf("printed %q, want %q", m.read(t, "stdout"), want)
	}

	// The guest's kernel comes from apt's lists, so they have to be there.
	m.write(t, "bin/apt-cache", "#!/bin/sh\nexit 100\n", 0o755)
	if err := m.command(t, "test").Run(); err != nil {
		t.Fatalf("install: %v\n%s", err, m.read(t, "stderr"))
	}
	if calls := m.read(t, "calls"); !strings.HasSuffix(calls, " update\n") || strings.Contains(calls, "install") {
		t.Errorf("with empty lists it called %q, want an update only", calls)
	}
}
