// Package kvm tests the set-up of a KVM host with stand-ins for the programs
// that change the host; e2e/setup runs it against a real libvirt.
package kvm

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/testenv"
)

// host is a pretended host. What a program would change is a file in dir: that
// an object exists, runs, starts at boot, and who is in which group.
type host struct {
	dir string
	env []string
}

const fakeVirsh = `
shift 3 # -q -c URI
command=$1 name=${2:-}
case $command in
version) [ -e "$H/service-started" ] ;;
list) cat "$H/domains" 2>/dev/null; exit 0 ;;
dumpxml) echo "<source network='default'/>" ;;
pool-list) [ ! -e "$H/pool" ] || cat "$H/pool-name" ;;
pool-dumpxml) cat "$H/pool" ;;
*-info)
	kind=${command%-info}
	[ -e "$H/$kind" ] || exit 1
	[ "$kind" = net ] || [ "$(cat "$H/pool-name")" = "$name" ] || exit 1
	word() { [ -e "$H/$kind-$1" ] && echo yes || echo no; }
	echo "Active: $(word active)"
	[ "$(word active)" = yes ] && echo "State: running" || echo "State: inactive"
	echo "Autostart: $(word autostart)"
	;;
*-uuid) sed -n 's|.*<uuid>\(.*\)</uuid>.*|\1|p' "$H/${command%-uuid}" ;;
*)
	echo "virsh $command" >>"$H/calls"
	kind=${command%%-*}
	case $command in
	*-define) cp "$name" "$H/$kind"; [ "$kind" = net ] || echo default >"$H/pool-name" ;;
	*-undefine) rm "$H/$kind" ;;
	*-start) touch "$H/$kind-active" ;;
	*-destroy) rm "$H/$kind-active" ;;
	*-autostart) if [ "${3:-}" = --disable ]; then rm "$H/$kind-autostart"; else touch "$H/$kind-autostart"; fi ;;
	esac
	;;
esac
`

// The stand-in for apt brings one more package along, as a dependency, or what
// its lists say; without lists it knows none.
const fakeApt = `
words=
for word; do case $word in -* | DPkg* | install | remove | update) ;; *) words="$words $word" ;; esac; done
case " $* " in
*" update "*) if [ -e "$H/newer-lists" ]; then mv "$H/newer-lists" "$H/lists"; fi ;;
*" -s install "*)
	if [ -e "$H/no-lists" ] && [ ! -e "$H/lists" ]; then exit 100; fi
	for p in $words $(cat "$H/lists" 2>/dev/null || echo libdependency); do echo "Inst $p (1.0)"; done
	;;
*" -s remove "*) for p in $words $(cat "$H/dependants" 2>/dev/null); do echo "Remv $p [1.0]"; done ;;
*" install "*) echo "apt install$words" >>"$H/calls"; for p in $words libdependency; do echo "installed $p" >>"$H/installed"; done ;;
*" remove "*) echo "apt remove$words" >>"$H/calls"; for p in $words; do sed -i "/^installed $p$/d" "$H/installed"; done ;;
esac
`

const fakeSystemctl = `
case $1 in
is-enabled) [ -e "$H/service-enabled" ] ;;
is-active) [ -e "$H/service-started" ] ;;
enable) touch "$H/service-enabled" ;;
start) touch "$H/service-started" ;;
disable) rm "$H/service-enabled" ;;
stop) rm "$H/service-started" ;;
esac
`

func newHost(t *testing.T) *host {
	t.Helper()
	testenv.Need(t, testenv.Program("tac"), testenv.Program("sync"))
	h := &host{dir: t.TempDir()}
	stubs := map[string]string{
		"id": `case $* in
-u) cat "$H/uid" ;;
*nobody-of-that-name*) exit 1 ;;
*) cat "$H/groups" ;;
esac`,
		"usermod":    `echo users libvirt >"$H/groups"`,
		"gpasswd":    `echo users >"$H/groups"`,
		"dpkg-query": `cat "$H/installed"`,
		"apt-get":    fakeApt,
		"systemctl":  fakeSystemctl,
		"virsh":      fakeVirsh,
	}
	for name, script := range stubs {
		h.write(t, filepath.Join("bin", name), "#!/bin/sh\n"+script+"\n", 0o755)
	}
	h.write(t, "uid", "0\n", 0o644)
	h.write(t, "groups", "users\n", 0o644)
	h.write(t, "installed", "installed qemu-utils\n", 0o644)
	h.env = append(os.Environ(), "H="+h.dir, "PATH="+filepath.Join(h.dir, "bin")+":"+os.Getenv("PATH"),
		"SCALEHOOK_SYSTEMD="+h.dir, "SUDO_USER=operator")
	return h
}

func (h *host) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// run runs the set-up and returns what it printed.
func (h *host) run(t *testing.T, args ...string) (string, error) {
	t.Helper()
	args = append([]string{"--state", filepath.Join(h.dir, "state", "kvm-setup")}, args...)
	command := exec.CommandContext(t.Context(), "./setup", args...)
	command.Env = h.env
	output, err := command.CombinedOutput()
	return string(output), err
}

func (h *host) mustRun(t *testing.T, args ...string) string {
	t.Helper()
	output, err := h.run(t, args...)
	if err != nil {
		t.Fatalf("setup %v: %v\n%s", args, err, output)
	}
	return output
}

// state is everything that a program on the host can have changed.
func (h *host) state(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name != "bin" && name != "calls" && name != "pool-name" {
			text, err := os.ReadFile(filepath.Join(h.dir, name))
			if err != nil && !entry.IsDir() {
				t.Fatal(err)
			}
			files[name] = string(text)
		}
	}
	return files
}

// complete is what a host has after the set-up, apart from the objects' XML.
func complete(t *testing.T, h *host) {
	t.Helper()
	for _, name := range []string{"service-enabled", "service-started", "net", "net-active", "net-autostart", "pool", "pool-active", "pool-autostart"} {
		if _, err := os.Stat(filepath.Join(h.dir, name)); err != nil {
			t.Errorf("not done: %s", name)
		}
	}
	groups, err := os.ReadFile(filepath.Join(h.dir, "groups"))
	if err != nil || !strings.Contains(string(groups), "libvirt") {
		t.Errorf("the user's groups are %q, %v", groups, err)
	}
}

func TestSetupAndUndoLeaveTheHostAsItWas(t *testing.T) {
	network := "<network><name>default</name>\n<uuid>1</uuid></network>\n"
	pool := "<pool><name>default</name>\n<uuid>2</uuid></pool>\n"
	tests := map[string]map[string]string{
		"a bare host": {},
		"libvirt runs, network and pool are missing": {"service-enabled": "", "service-started": ""},
		"a network that is defined but stopped":      {"service-enabled": "", "service-started": "", "net": network},
		"a pool of the same folder under another name": {
			"service-enabled": "", "service-started": "", "pool-name": "images\n",
			"pool": "<pool><name>images</name>\n<uuid>3</uuid>\n<path>/var/lib/libvirt/images</path></pool>\n",
		},
		"all but the group": {
			"service-enabled": "", "service-started": "", "net": network, "net-active": "", "net-autostart": "",
			"pool": pool, "pool-active": "", "pool-autostart": "", "pool-name": "default\n",
		},
	}
	for name, files := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			for file, text := range files {
				h.write(t, file, text, 0o644)
			}
			before := h.state(t)
			plan := h.mustRun(t, "--dry-run")
			if diff := cmp.Diff(before, h.state(t)); diff != "" {
				t.Errorf("--dry-run changed the host (-before +after):\n%s", diff)
			}
			if !strings.Contains(plan, "put the user operator into the group libvirt") {
				t.Errorf("the plan lacks the group:\n%s", plan)
			}

			if output := h.mustRun(t, "--yes"); !strings.HasPrefix(output, plan) {
				t.Errorf("did not list first what it does:\n%s", output)
			}
			complete(t, h)
			after := h.state(t)
			if output := h.mustRun(t, "--yes"); !strings.Contains(output, "Nothing to do") {
				t.Errorf("a second run had something to do:\n%s", output)
			}
			if diff := cmp.Diff(after, h.state(t)); diff != "" {
				t.Errorf("a second run changed the host (-before +after):\n%s", diff)
			}

			h.mustRun(t, "--undo", "--yes")
			if diff := cmp.Diff(before, h.state(t)); diff != "" {
				t.Errorf("--undo left or took something (-before +after):\n%s", diff)
			}
			if output := h.mustRun(t, "--undo", "--yes"); !strings.Contains(output, "Nothing to undo") {
				t.Errorf("a second --undo had something to do:\n%s", output)
			}
		})
	}
}

func TestSetupListsEveryPackageBeforeItInstallsAny(t *testing.T) {
	tests := map[string]struct {
		files    map[string]string
		dry, did string // in what order things are said
	}{
		"apt's lists say what comes along": {
			nil,
			"with them, as what they depend on: libdependency",
			"depend on: libdependency\n.*installing packages",
		},
		"apt has no lists yet": {
			map[string]string{"no-lists": "", "newer-lists": "libother\n"},
			"what they depend on, which apt's lists do not say yet",
			"Reading apt's package lists.*with them, as what they depend on: libother\n.*installing packages",
		},
		"newer lists bring something else along": {
			map[string]string{"newer-lists": "libother\n"},
			"depend on: libdependency",
			"depend on: libdependency\n.*these would be installed instead:[^\n]* libother .*installing packages",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			for file, text := range test.files {
				h.write(t, file, text, 0o644)
			}
			if plan := h.mustRun(t, "--dry-run"); !strings.Contains(plan, test.dry) {
				t.Errorf("--dry-run lacks %q:\n%s", test.dry, plan)
			}
			if output := h.mustRun(t, "--yes"); !regexp.MustCompile("(?s)" + test.did).MatchString(output) {
				t.Errorf("want %q, got:\n%s", test.did, output)
			}
		})
	}
}

func TestUndoKeepsWhatIsInUse(t *testing.T) {
	tests := map[string]struct {
		file, text string
		reason     string
	}{
		"a virtual machine on the network":       {"domains", "vm-test\n", "network default is used by: vm-test"},
		"a package that came later and needs it": {"dependants", "virt-manager\n", "would remove virt-manager as well"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			before := h.state(t)
			h.mustRun(t, "--yes")
			h.write(t, test.file, test.text, 0o644)
			output, err := h.run(t, "--undo", "--yes")
			if err == nil || !strings.Contains(output, test.reason) {
				t.Errorf("want an error with %q, got %v:\n%s", test.reason, err, output)
			}
			if err := os.Remove(filepath.Join(h.dir, test.file)); err != nil {
				t.Fatal(err)
			}
			h.mustRun(t, "--undo", "--yes")
			if diff := cmp.Diff(before, h.state(t)); diff != "" {
				t.Errorf("when the reason was gone, --undo left something (-before +after):\n%s", diff)
			}
		})
	}
}

func TestUndoLeavesAnotherNetworkOfTheSameName(t *testing.T) {
	h := newHost(t)
	h.mustRun(t, "--yes")
	theirs := "<network><name>default</name>\n<uuid>theirs</uuid></network>\n"
	h.write(t, "net", theirs, 0o644)
	// The stand-in for libvirt goes away with its package only in the real world.
	h.mustRun(t, "--undo", "--yes")
	if got := h.state(t)["net"]; got != theirs {
		t.Errorf("the network that somebody else defined is now %q", got)
	}
}

func TestSetupRefuses(t *testing.T) {
	tests := map[string]struct {
		uid  string
		args []string
		want string
	}{
		"to act without a yes":      {"0", nil, "say --yes"},
		"to act without root":       {"1000", []string{"--yes"}, "needs root"},
		"a user that is not there":  {"0", []string{"--yes", "--user", "nobody-of-that-name"}, "there is no user"},
		"an option it has not":      {"0", []string{"--force"}, "--dry-run"},
		"an option without a value": {"0", []string{"--user"}, "--dry-run"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.write(t, "uid", test.uid+"\n", 0o644)
			before := h.state(t)
			output, err := h.run(t, test.args...)
			if err == nil || !strings.Contains(output, test.want) {
				t.Errorf("want an error with %q, got %v:\n%s", test.want, err, output)
			}
			if diff := cmp.Diff(before, h.state(t)); diff != "" {
				t.Errorf("changed the host (-before +after):\n%s", diff)
			}
		})
	}
}
