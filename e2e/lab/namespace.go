package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scalehook/scalehook/e2e/guest"
)

// initScript is process 1 of the lab. It gives libvirt private copies of every
// path it has compiled in and hides the machine's D-Bus, systemd, cgroups and
// firewall daemon. Then it only reaps: a VM's process that ended must not stay
// as a zombie, or libvirt takes it for alive.
const initScript = `set -e
mount --make-rprivate /
mount -t proc proc /proc
umount -l /sys/fs/cgroup 2>/dev/null || true
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/libvirt /run/lock
for pair in etc:/etc/libvirt var:/var/lib/libvirt run:/run/libvirt log:/var/log/libvirt cache:/var/cache/libvirt; do
  mount --bind "$LAB_DIR/${pair%%:*}" "${pair#*:}"
done
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
echo ready
exec >/dev/null
sleep infinity &
while :; do wait || true; sleep 1; done
`

// namespace is process 1 and what it holds together.
type namespace struct {
	cmd   *exec.Cmd
	done  chan struct{}
	net   *os.File
	inode uint64 // of the network namespace: membership is proof that a process is ours
}

func startNamespace(ctx context.Context, l *Lab) (*namespace, error) {
	sh, err := guest.FindProgram("sh")
	if err != nil {
		return nil, err
	}
	logFile, err := os.Create(l.Path("log", "init.log"))
	if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	defer logFile.Close()
	ready, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer ready.Close()
	// Not CommandContext: the lab outlives the context of Start.
	cmd := exec.Command(sh, "-c", initScript)
	cmd.Env = l.environ("LAB_DIR=" + l.dir)
	cmd.Stdout, cmd.Stderr = w, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true, // Ctrl-C reaches the program, which then closes the lab
	}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	n := &namespace{cmd: cmd, done: make(chan struct{})}
	go func() { defer close(n.done); _ = cmd.Wait() }()
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })
	defer stop()
	line, err := bufio.NewReader(ready).ReadString('\n')
	if err != nil {
		n.kill()
		out, _ := os.ReadFile(logFile.Name())
		if errors.Is(err, io.EOF) {
			err = errors.New("it ended")
		}
		return nil, fmt.Errorf("set up namespaces: %w: %s", err, strings.TrimSpace(line+string(out)))
	}
	if n.net, err = os.Open(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)); err == nil {
		n.inode, err = namespaceInode(n.net.Name())
	}
	if err != nil {
		n.kill()
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	return n, nil
}

func (n *namespace) pid() int { return n.cmd.Process.Pid }

// kill ends process 1; the kernel ends the rest before it lets it go.
func (n *namespace) kill() {
	_ = n.cmd.Process.Kill()
	<-n.done
}

// close ends everything that lives in the namespaces.
func (n *namespace) close(ctx context.Context, id string) error {
	n.kill()
	defer n.net.Close()
	// Programs outside the process-id namespace that detached themselves.
	for {
		left := processesIn(n.inode)
		if len(left) == 0 {
			return nil
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end lab %s: processes %v do not go: %w", id, left, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// InNamespace runs fn on a thread inside the lab's network namespace. Sockets
// made by fn itself stay in it for life; goroutines that fn starts are outside.
func (l *Lab) InNamespace(fn func() error) error {
	if l.ns == nil {
		return errors.New("enter lab: it is not running")
	}
	return InNetwork(l.ns.net, fn)
}

// InNetwork is InNamespace for any network namespace, an open file of /proc/PID/ns.
func InNetwork(ns *os.File, fn func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter lab: open own network namespace: %w", err)
	}
	defer unix.Close(home)
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter lab: %w", err)
	}
	ferr := fn()
	if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
		// The thread stays locked: it ends with its goroutine and nobody else
		// can be put on it in the wrong namespace.
		return errors.Join(ferr, fmt.Errorf("leave lab: %w", err))
	}
	runtime.UnlockOSThread()
	return ferr
}

func namespaceInode(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("stat %s: %w", path, err)
	}
	return st.Ino, nil
}

// processesIn lists the processes in a network namespace, but never this one.
func processesIn(inode uint64) []int {
	var out []int
	for _, pid := range allProcesses() {
		if pid == os.Getpid() {
			continue
		}
		if ino, err := namespaceInode(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil && ino == inode {
			out = append(out, pid)
		}
	}
	return out
}

func allProcesses() []int {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	out := make([]int, 0, len(dirs))
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			out = append(out, pid)
		}
	}
	return out
}
