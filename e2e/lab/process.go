package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/scalehook/scalehook/e2e/guest"
)

// markVariable is in the environment of everything that a lab starts.
const markVariable = "SCALEHOOK_LAB"

func (l *Lab) environ(extra ...string) []string {
	env := os.Environ()
	out := make([]string, 0, len(env)+len(extra)+3)
	for _, kv := range env {
		if !strings.HasPrefix(kv, markVariable+"=") && !strings.HasPrefix(kv, "PATH=") && !strings.HasPrefix(kv, "LC_ALL=") {
			out = append(out, kv)
		}
	}
	path := os.Getenv("PATH") + ":/usr/sbin:/sbin:/usr/bin:/bin"
	return append(append(out, "PATH="+strings.TrimPrefix(path, ":"), "LC_ALL=C", markVariable+"="+l.id), extra...)
}

// Command prepares a program to run in the lab's network namespace, at the
// control chain's priority. It sees the machine's files and processes. The
// process id is that of the program itself; it leads a process group of its
// own and is killed when this program dies or the lab is closed. A program that
// is not found makes Start fail.
func (l *Lab) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if p, err := guest.FindProgram(name); err == nil {
		name = p
	}
	pid := 0
	if l.ns != nil {
		pid = l.ns.pid()
	}
	// Each of these replaces itself by the next, so there is one process only.
	full := []string{"--net=/proc/" + strconv.Itoa(pid) + "/ns/net", "--", "nice", "-n", strconv.Itoa(l.opts.ControlNice), name}
	cmd := exec.CommandContext(ctx, "nsenter", append(full, args...)...)
	cmd.Env = l.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// ProcessSpec is a program to keep running in the lab.
type ProcessSpec struct {
	// Name is that of its log file, NAME.log in the lab's folder "log".
	Name string
	// Path and Args are the program.
	Path string
	Args []string
	// Env is added to the environment.
	Env []string
	// Ready is asked every 50 ms until it returns nil. Nil: ready at once.
	Ready func(ctx context.Context) error
}

// Process is a program that runs in the lab.
type Process struct {
	Name    string
	LogPath string // standard output and error, appended by later starts

	cmd  *exec.Cmd
	pid  int // of the program, which may be a child of cmd
	done chan struct{}
	err  error
}

// StartProcess starts a program and waits until it is ready. When it ends
// before, or ctx does, the error has the end of its output and it is killed.
// After that ctx has no effect.
func (l *Lab) StartProcess(ctx context.Context, spec ProcessSpec) (*Process, error) {
	cmd := l.Command(context.WithoutCancel(ctx), spec.Path, spec.Args...)
	cmd.Env = append(cmd.Env, spec.Env...)
	return l.launch(ctx, spec, cmd)
}

func (l *Lab) launch(ctx context.Context, spec ProcessSpec, cmd *exec.Cmd) (*Process, error) {
	p := &Process{Name: spec.Name, LogPath: l.Path("log", spec.Name+".log"), cmd: cmd, done: make(chan struct{})}
	out, err := os.OpenFile(p.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: open log: %w", spec.Name, err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out

	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, fmt.Errorf("start %s: the lab is closed", spec.Name)
	}
	if err := cmd.Start(); err != nil {
		l.mu.Unlock()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p.pid = cmd.Process.Pid
	l.processes = append(l.processes, p)
	l.mu.Unlock()
	go func() { p.err = cmd.Wait(); close(p.done) }()

	if spec.Ready == nil {
		return p, nil
	}
	if err := p.awaitReady(ctx, spec.Ready); err != nil {
		p.kill()
		<-p.done
		return nil, fmt.Errorf("start %s: %w; its output ends: %s", spec.Name, err, p.tail())
	}
	l.log.Debug("process is ready", "process", spec.Name, "pid", p.pid)
	return p, nil
}

func (p *Process) awaitReady(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := ready(try)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %w", errors.Join(p.err, err))
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w (%w)", err, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// PID is the process id of the program.
func (p *Process) PID() int { return p.pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the program.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return fmt.Errorf("signal %s: %w", p.Name, os.ErrProcessDone)
	default:
	}
	if err := syscall.Kill(p.pid, sig); err != nil {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Stop asks the program to end with SIGTERM and kills it when ctx ends first;
// that is an error. The program's own exit status is not. Idempotent.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.kill()
		<-p.done
		return fmt.Errorf("stop %s: had to be killed: %w", p.Name, context.Cause(ctx))
	}
}

// killDeadline bounds the wait for the end of a killed program.
const killDeadline = 10 * time.Second

// Kill ends the program at once, as a crash does, and returns when it has let go
// of its files and sockets.
func (p *Process) Kill() {
	p.kill()
	<-p.done
	if p.pid == p.cmd.Process.Pid {
		return
	}
	// nsenter has ended, its child may still be about to; process 1 reaps it later.
	for end := time.Now().Add(killDeadline); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if st, err := readStat(p.pid); err != nil || st.ended {
			return
		}
	}
}

// kill ends the process group, unless its leader was reaped already: then the
// number may belong to somebody else. What such a leader left behind in the lab
// ends with the namespaces.
func (p *Process) kill() {
	select {
	case <-p.done:
		return
	default:
	}
	if p.pid != p.cmd.Process.Pid {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
}

func (p *Process) await(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of %s: %w", p.Name, ctx.Err())
	}
}

// tail is the end of the log, for messages.
func (p *Process) tail() string {
	f, err := os.Open(p.LogPath)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > 2000 {
		_, _ = f.Seek(-2000, io.SeekEnd)
	}
	raw, _ := io.ReadAll(io.LimitReader(f, 2000))
	return strings.TrimSpace(string(raw))
}

// childOf returns the first child of a process, or 0.
func childOf(pid int) int {
	for _, p := range allProcesses() {
		if st, err := readStat(p); err == nil && st.parent == pid {
			return p
		}
	}
	return 0
}

type stat struct {
	parent  int
	started string // ticks since boot: tells a process from a later one with its number
	ended   bool   // not reaped yet
}

func readStat(pid int) (stat, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, fmt.Errorf("read process: %w", err)
	}
	// The name in parentheses may hold anything.
	_, rest, _ := strings.Cut(string(raw[strings.LastIndexByte(string(raw), ')')+1:]), " ")
	f := strings.Fields(rest)
	if len(f) < 20 {
		return stat{}, fmt.Errorf("read process %d: %d fields", pid, len(f))
	}
	parent, err := strconv.Atoi(f[1])
	if err != nil {
		return stat{}, fmt.Errorf("read process %d: %w", pid, err)
	}
	return stat{parent: parent, started: f[19], ended: f[0] == "Z" || f[0] == "X"}, nil
}

func hasDirPrefix(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}
