package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mark is in the environment of every process of a cloud and holds its folder.
const mark = "SCALEHOOK_OPENSTACK"

// niceness of the cloud's programs: tests and what they test go first.
const niceness = "10"

// daemons are programs that outlive the one that started them. Each is known by
// the pid and the start time in a file that it wrote itself before it became the
// program, and leads a process group.
type daemons struct {
	state   string
	environ []string
}

// environ is the whole environment of the cloud's programs: nothing of a user's
// (a proxy, another cloud's password) gets in.
func environ(state string) []string {
	return []string{
		"PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin",
		"HOME=" + filepath.Join(state, "home"), "LC_ALL=C.UTF-8",
		"OVS_RUNDIR=" + filepath.Join(state, "ovs"), "OVN_RUNDIR=" + filepath.Join(state, "ovn"),
		mark + "=" + state,
	}
}

func (d *daemons) pidFile(name string) string { return filepath.Join(d.state, "run", name+".pid") }

// Log is the file with what a daemon printed.
func (d *daemons) log(name string) string { return filepath.Join(d.state, "log", name+".log") }

// daemonScript becomes the program that its arguments name, in a session of its
// own, once it has written its pid and start time to $0. The name in
// /proc/PID/stat is "sh" until then, so the fields can be counted.
//
// A session is scheduled as a whole where the kernel groups them, and a process's
// own niceness counts only within it.
const daemonScript = `{ echo ` + niceness + ` >/proc/$$/autogroup; } 2>/dev/null
printf '%s %s\n' $$ "$(cut -d ' ' -f 22 /proc/$$/stat)" >"$0.new" && mv "$0.new" "$0" && exec nice -n ` + niceness + ` "$@"`

// start starts a program in the background unless it runs, and returns when its
// pid is known.
func (d *daemons) start(ctx context.Context, name string, env []string, args ...string) error {
	if d.alive(name) {
		return nil
	}
	file := d.pidFile(name)
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("start %s: %w", name, err)
	}
	out, err := os.OpenFile(d.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	// -f forks, so that nobody here has to wait for it.
	cmd := exec.CommandContext(ctx, "setsid", append([]string{"-f", "sh", "-c", daemonScript, file}, args...)...)
	cmd.Env = append(append([]string{}, d.environ...), env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Dir = "/"
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	return poll(ctx, 10*time.Second, func() error {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("start %s: it did not write its pid: %s", name, d.tail(name, 5))
		}
		return nil
	})
}

// pid is that of the daemon, if it is the very process that was started and lives.
func (d *daemons) pid(name string) (int, bool) {
	raw, err := os.ReadFile(d.pidFile(name))
	if err != nil {
		return 0, false
	}
	first, second, _ := strings.Cut(strings.TrimSpace(string(raw)), " ")
	pid, err := strconv.Atoi(first)
	if err != nil || pid <= 1 {
		return 0, false
	}
	stat, err := readStat(pid)
	if err != nil || stat.start != second || stat.state == "Z" {
		return 0, false
	}
	return pid, true
}

func (d *daemons) alive(name string) bool {
	_, ok := d.pid(name)
	return ok
}

// signal sends a signal to the daemon and its children.
func (d *daemons) signal(name string, signal syscall.Signal) error {
	pid, ok := d.pid(name)
	if !ok {
		return fmt.Errorf("%s does not run", name)
	}
	if err := syscall.Kill(-pid, signal); err != nil {
		return fmt.Errorf("send %v to %s (pid %d): %w", signal, name, pid, err)
	}
	return nil
}

// terminate asks daemons to end, all at the same time, and kills what is left of
// their groups after the grace.
func (d *daemons) terminate(ctx context.Context, grace time.Duration, names ...string) error {
	groups := map[string]int{}
	for _, name := range names {
		pid, ok := d.pid(name)
		if !ok {
			continue
		}
		groups[name] = pid
		_ = syscall.Kill(-pid, syscall.SIGTERM)
		_ = syscall.Kill(-pid, syscall.SIGCONT) // one that is paused hears nothing else
	}
	gone := func() error {
		var left []string
		for name, pid := range groups {
			if groupLives(pid) {
				left = append(left, fmt.Sprintf("%s (pid %d)", name, pid))
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("still there: %s", strings.Join(left, ", "))
		}
		return nil
	}
	if poll(ctx, grace, gone) != nil {
		for _, pid := range groups {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
		if err := poll(ctx, 10*time.Second, gone); err != nil {
			return fmt.Errorf("after SIGKILL: %w", err)
		}
	}
	for _, name := range names {
		if err := os.Remove(d.pidFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget %s: %w", name, err)
		}
	}
	return nil
}

// groupLives reports whether a process group has a member that is no zombie.
func groupLives(group int) bool {
	for _, pid := range processes() {
		if stat, err := readStat(pid); err == nil && stat.group == group && stat.state != "Z" {
			return true
		}
	}
	return false
}

// running names a thread of a process group that is not stopped: SIGSTOP reaches a
// thread only when it next gets a processor or returns from the kernel.
func running(group int) error {
	for _, pid := range processes() {
		if stat, err := readStat(pid); err != nil || stat.group != group {
			continue
		}
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
		if err != nil {
			return fmt.Errorf("look at process %d: %w", pid, err)
		}
		for _, thread := range threads {
			if stat, err := readStatFile(thread + "/stat"); err == nil && stat.state != "T" && stat.state != "Z" {
				return fmt.Errorf("%s is in state %s", thread, stat.state)
			}
		}
	}
	return nil
}

// tail is the end of what a daemon printed.
func (d *daemons) tail(name string, lines int) string {
	raw, err := os.ReadFile(d.log(name))
	if err != nil {
		return "(" + err.Error() + ")"
	}
	all := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return fmt.Sprintf("the end of %s:\n%s", d.log(name), strings.Join(all[max(0, len(all)-lines):], "\n"))
}

// ours lists the processes of the cloud, daemons or not: those that carry its
// mark, and those in the holder's mount namespace (a guest is started by libvirtd
// with another environment).
func (d *daemons) ours() []process {
	var namespace string
	if pid, ok := d.pid(holder); ok {
		namespace, _ = os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		if own, err := os.Readlink("/proc/self/ns/mnt"); err != nil || own == namespace {
			namespace = "" // it has not left the machine's yet
		}
	}
	want := []byte(mark + "=" + d.state)
	var out []process
	for _, pid := range processes() {
		stat, err := readStat(pid)
		if pid == os.Getpid() || err != nil || stat.state == "Z" {
			continue
		}
		p := process{pid, stat.start}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid)); err == nil && namespace != "" && ns == namespace {
			out = append(out, p)
			continue
		}
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil {
			continue
		}
		for entry := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(entry, want) {
				out = append(out, p)
				break
			}
		}
	}
	return out
}

// process is a process that cannot be taken for another one with its pid.
type process struct {
	pid   int
	start string
}

// stat is some of what /proc/PID/stat says.
type stat struct {
	state string
	group int
	start string // in clock ticks since the machine started
}

func readStat(pid int) (stat, error) { return readStatFile(fmt.Sprintf("/proc/%d/stat", pid)) }

func readStatFile(file string) (stat, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return stat{}, fmt.Errorf("look at a process: %w", err)
	}
	// The name in parentheses may have spaces and parentheses in it.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("look at %s: %d fields: %w", file, len(fields), os.ErrInvalid)
	}
	group, err := strconv.Atoi(fields[2])
	if err != nil {
		return stat{}, fmt.Errorf("look at %s: %w", file, err)
	}
	return stat{state: fields[0], group: group, start: fields[19]}, nil
}

func processes() []int {
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

// poll calls check until it returns nil; after the time, or when ctx ends, it
// returns check's last error.
func poll(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	pause := 10 * time.Millisecond
	for {
		err := check()
		if err == nil {
			return nil
		}
		if dead, ok := errors.AsType[hopeless](err); ok {
			return dead.error
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		pause = min(pause*2, 200*time.Millisecond)
	}
}

// hopeless is an error of a check that waiting does not cure.
type hopeless struct{ error }
