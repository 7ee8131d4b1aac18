// Package box makes this system over again for a test: its files copied on write, and
// a network and processes of its own, none of which is a hypervisor's. Nothing that is
// done in it is seen outside, and it is gone with the test. dpkg finds its database as
// it is here, so that nothing has to be fetched, and apt knows of no other packages.
package box

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
)

// patience is how long a command may take.
const patience = 2 * time.Minute

// Box is a system.
type Box struct {
	pid  int
	root string // its root folder, seen from outside
}

// Its first process collects what ended. systemd is there for those who look by its
// folder alone; systemctl is the test's, in its very place, since apt has maintainer
// scripts look nowhere else, and the true one is systemctl.systemd. sudo runs what it
// is given, since everybody in here is root. Nobody is there to answer apt and dpkg:
// they go on, and keep what was edited. dpkg does not wait for the disk.
const script = `set -e
top=$1
shift
mount -t tmpfs -o mode=755 tmpfs "$top"
cd "$top"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
for dir in run tmp etc/libvirt var/lib/libvirt var/log/libvirt var/cache/libvirt var/lib/apt/lists "$@"; do
	mkdir -p "root/$dir"
	mount -t tmpfs -o mode=755 tmpfs "root/$dir"
done
chmod 1777 root/tmp
mkdir -p root/run/lock root/run/systemd/system
mount --rbind /dev root/dev
mount --rbind /sys root/sys
ip link set lo up
read -r pid rest </proc/self/stat
mount -t proc proc root/proc
rm -f root/usr/sbin/policy-rc.d root/root/.config/systemd
ln -sf /bin/true root/usr/bin/mandb # each time anew it is most of an installation
printf '#!/bin/sh\nexec "$@"\n' >root/usr/local/sbin/sudo
chmod 755 root/usr/local/sbin/sudo
mv root/usr/bin/systemctl root/usr/bin/systemctl.systemd
printf 'force-confdef\nforce-confold\nforce-unsafe-io\n' >root/etc/dpkg/dpkg.cfg.d/box
printf 'APT::Get::Assume-Yes "true";\n' >root/etc/apt/apt.conf.d/90box
echo "$pid"
exec chroot root sh -c 'while :; do sleep 600 & wait; done'
`

// Needs are what New needs, and these programs.
func Needs(programs ...string) []testenv.Requirement {
	needs := []testenv.Requirement{testenv.Root}
	for _, program := range append([]string{"unshare", "nsenter", "ip", "bash"}, programs...) {
		needs = append(needs, testenv.Program(program))
	}
	return needs
}

// New starts a box, in which these folders are empty, too.
func New(t testing.TB, empty ...string) *Box {
	t.Helper()
	said, err := os.Create(filepath.Join(t.TempDir(), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), testenv.Path(t, "unshare"), append([]string{
		"--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", script, "sh", t.TempDir(),
	}, empty...)...)
	cmd.Stdout = said
	b := &Box{}
	testenv.Start(t, cmd, func() error {
		text, err := os.ReadFile(said.Name())
		if err != nil {
			return err
		}
		if b.pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return err
		}
		b.root = filepath.Join("/proc", strconv.Itoa(b.pid), "root")
		return b.There("/run/systemd/system")()
	})
	return b
}

// PID is its first process.
func (b *Box) PID() int { return b.pid }

// Command is one to run in the box, as root.
func (b *Box) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{
		"--target", strconv.Itoa(b.pid),
		"--mount", "--net", "--pid", "--root", "--wd", "--",
	}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// Session is a bash in a folder of the box, for the commands of a page.
func (b *Box) Session(ctx context.Context, folder string) *exec.Cmd {
	return b.Command(ctx, "bash", "-c", `cd "$0" && exec bash`, folder)
}

// Try runs a command in the box, and returns what it printed.
func (b *Box) Try(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := b.Command(ctx, args...).CombinedOutput()
	return string(out), err
}

// Run is Try, and the test ends if it fails.
func (b *Box) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := b.Try(t, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// Path is a file of the box, seen from outside.
func (b *Box) Path(name string) string { return filepath.Join(b.root, name) }

// Read returns what a file of the box has in it.
func (b *Box) Read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(b.Path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Write writes a file into the box.
func (b *Box) Write(t testing.TB, name, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(b.Path(name)), 0o755), os.WriteFile(b.Path(name), []byte(text), mode), os.Chmod(b.Path(name), mode)); err != nil {
		t.Fatal(err)
	}
}

// Put copies a file of the machine's into the box.
func (b *Box) Put(t testing.TB, from, to string, mode os.FileMode) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(t, to, string(text), mode)
}

// Polkit starts the system's bus and polkit on it.
func (b *Box) Polkit(t testing.TB) {
	t.Helper()
	b.Run(t, "install", "-d", "-m", "755", "/run/dbus")
	testenv.Start(t, b.Command(context.WithoutCancel(t.Context()), "dbus-daemon", "--system", "--nofork", "--nopidfile"), b.There("/run/dbus/system_bus_socket"))
	testenv.Start(t, b.Command(context.WithoutCancel(t.Context()), "/usr/lib/polkit-1/polkitd"), func() error {
		out, err := b.Try(t, "dbus-send", "--system", "--print-reply=literal", "--dest=org.freedesktop.DBus", "/",
			"org.freedesktop.DBus.NameHasOwner", "string:org.freedesktop.PolicyKit1")
		if err == nil && !strings.Contains(out, "true") {
			err = errors.New("polkit is not on the bus")
		}
		return err
	})
}

// There returns a check, for testenv, that holds once a file of the box is there.
func (b *Box) There(name string) func() error {
	return func() error {
		_, err := os.Stat(b.Path(name))
		return err
	}
}

// Exists reports whether a file of the box is there.
func (b *Box) Exists(t testing.TB, name string) bool {
	t.Helper()
	_, err := os.Lstat(b.Path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}
