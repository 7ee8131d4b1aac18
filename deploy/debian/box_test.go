package debian_test

import (
	"bytes"
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

// box is this system over again: its files copied on write, and a network, processes
// and a hypervisor of its own. Nothing that is done in it is seen outside, and it is
// gone with the test. dpkg finds its database as it is here, so that nothing has to
// be fetched.
type box struct {
	pid  int
	root string // its root folder, seen from outside
}

// The folders of a hypervisor are empty, so that none of this machine's VMs is known.
const boxScript = `set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
for dir in run tmp etc/libvirt var/lib/libvirt var/log/libvirt var/cache/libvirt; do
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
echo "$pid"
exec chroot root sh -c 'while :; do sleep 600 & wait; done' # collects what ended
`

func newBox(t *testing.T) *box {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), testenv.Path(t, "unshare"),
		"--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", boxScript, "sh", dir)
	out := &bytes.Buffer{}
	said, err := os.Create(filepath.Join(t.TempDir(), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	cmd.Stdout, cmd.Stderr = said, out
	b := &box{}
	testenv.Start(t, cmd, func() error {
		text, err := os.ReadFile(said.Name())
		if err != nil {
			return err
		}
		if b.pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return err
		}
		b.root = filepath.Join("/proc", strconv.Itoa(b.pid), "root")
		return mustExist(filepath.Join(b.root, "run/systemd/system"))
	})
	return b
}

func mustExist(path string) error {
	_, err := os.Stat(path)
	return err
}

// command is one to run in the box, as root.
func (b *box) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{
		"--target", strconv.Itoa(b.pid),
		"--mount", "--net", "--pid", "--root", "--wd", "--",
	}, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"}
	return cmd
}

// try runs a command in the box, and returns what it printed.
func (b *box) try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := b.command(ctx, args...).CombinedOutput()
	return string(out), err
}

// run is try, and the test ends if it fails.
func (b *box) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := b.try(t, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// path is a file of the box, seen from outside.
func (b *box) path(name string) string { return filepath.Join(b.root, name) }

func (b *box) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(b.path(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (b *box) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(b.path(name)), 0o755), os.WriteFile(b.path(name), []byte(text), mode), os.Chmod(b.path(name), mode)); err != nil {
		t.Fatal(err)
	}
}

func (b *box) exists(t *testing.T, name string) bool {
	t.Helper()
	_, err := os.Lstat(b.path(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// install has dpkg install or upgrade packages, keeping what was edited, as apt does
// when nobody is there to answer.
func (b *box) install(t *testing.T, files ...string) (string, error) {
	t.Helper()
	args := []string{"dpkg", "--force-confdef", "--force-confold", "--force-unsafe-io", "--install"}
	for _, file := range files {
		inside := "/tmp/" + filepath.Base(file)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		b.write(t, inside, string(text), 0o644)
		args = append(args, inside)
	}
	return b.try(t, args...)
}
