// Package stage runs what stands around a cloud, for tests and the demo: HAProxy,
// Prometheus, Alertmanager, scalehook-exporter and scalehook itself, as processes
// in the cloud's namespaces. With pretended guests that is the machine's own
// network, so every program listens on a free port of loopback.
package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
)

// Stage is a folder and the programs that were started in it. Its methods may be
// called by several goroutines.
type Stage struct {
	// Nice is the niceness of the programs. The cloud and its guests have 10.
	Nice int

	cloud *lab.Cloud
	dir   string
	http  *http.Client

	starts chan func()

	mu        sync.Mutex
	processes []*Process
}

// New makes a stage in a folder, which is the caller's to remove. It must not lie
// below /run, which the cloud's programs do not see.
func New(cloud *lab.Cloud, dir string) (*Stage, error) {
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o755); err != nil {
		return nil, fmt.Errorf("make the stage's folder: %w", err)
	}
	s := &Stage{cloud: cloud, dir: dir, starts: make(chan func()), http: &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{DialContext: cloud.Namespace().DialContext, DisableKeepAlives: true},
	}}
	go func() {
		// A program ends with the thread that started it, and threads do end: those
		// that have been in another network. This one lasts.
		runtime.LockOSThread()
		for start := range s.starts {
			start()
		}
	}()
	return s, nil
}

// Path joins elem to the stage's folder.
func (s *Stage) Path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// Write writes a file into the stage's folder and returns its path.
func (s *Stage) Write(name, text string, mode os.FileMode) (string, error) {
	file := s.Path(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		return "", fmt.Errorf("write %s: %w", file, err)
	}
	return file, nil
}

// HTTP asks control interfaces from inside the cloud's network. It opens a
// connection for each request.
func (s *Stage) HTTP() *http.Client { return s.http }

// FreeAddress returns an address of loopback that nobody listens on.
func FreeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	address := listener.Addr().String()
	return address, listener.Close()
}

// Spec is a program to keep running.
type Spec struct {
	Name string // of its log
	Path string
	Args []string
	Env  []string
	// Ready is asked every 50 ms until it returns nil. Nil: ready at once.
	Ready func(context.Context) error
}

// Process is a program that runs on the stage.
type Process struct {
	Name string
	Log  string // file

	cmd  *exec.Cmd
	done chan struct{}
	err  error // of Wait, readable once done is closed
}

// readyLimit bounds a start on a busy machine.
const readyLimit = time.Minute

// Start starts a program and waits until it is ready. It leads a process group of
// its own and ends with this program.
func (s *Stage) Start(ctx context.Context, spec Spec) (*Process, error) {
	p := &Process{Name: spec.Name, Log: s.Path("log", spec.Name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer out.Close()
	p.cmd = s.Command(context.WithoutCancel(ctx), spec.Path, spec.Args...)
	p.cmd.Env = append(p.cmd.Env, spec.Env...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	s.starts <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	s.mu.Lock()
	s.processes = append(s.processes, p)
	s.mu.Unlock()
	if spec.Ready == nil {
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	for {
		err := spec.Ready(ctx)
		if err == nil {
			return p, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("start %s: it ended: %w: %s", spec.Name, errors.Join(p.err, err), p.Tail(15))
		case <-ctx.Done():
			p.Kill()
			return nil, fmt.Errorf("start %s: not ready: %w: %s", spec.Name, err, p.Tail(15))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Command prepares a program in the cloud's namespaces.
func (s *Stage) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := s.cloud.Namespace().Command(ctx, "nice", append([]string{"-n", strconv.Itoa(s.Nice), name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Killed waits for the end of the process and returns nil if it was SIGKILL.
func (p *Process) Killed(ctx context.Context) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		return fmt.Errorf("%s has not ended: %w", p.Name, context.Cause(ctx))
	}
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() && st.Signal() == syscall.SIGKILL {
			return nil
		}
	}
	return fmt.Errorf("%s ended by itself: %w: %s", p.Name, p.err, p.Tail(15))
}

// Stop ends the program and its children with SIGTERM, and with SIGKILL after 15 s,
// which is an error.
func (p *Process) Stop() error {
	select {
	case <-p.done:
		return nil
	default:
	}
	_ = syscall.Kill(p.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(15 * time.Second):
		p.Kill()
		return fmt.Errorf("stop %s: it had to be killed", p.Name)
	}
}

// Kill ends the process group at once.
func (p *Process) Kill() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// Tail is the end of what the program printed.
func (p *Process) Tail(lines int) string {
	raw, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	return "its log ends:\n" + strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Close ends every program, the newest first. Nothing can be started any more. Not
// idempotent.
func (s *Stage) Close() {
	close(s.starts)
	s.mu.Lock()
	processes := slices.Clone(s.processes)
	s.mu.Unlock()
	for _, p := range slices.Backward(processes) {
		p.Kill()
	}
}

// Logs prints the end of every log.
func (s *Stage) Logs(out io.Writer, lines int) {
	s.mu.Lock()
	processes := slices.Clone(s.processes)
	s.mu.Unlock()
	seen := map[string]bool{}
	for _, p := range processes {
		if !seen[p.Log] {
			seen[p.Log] = true
			fmt.Fprintf(out, "--- %s: %s\n", p.Name, p.Tail(lines))
		}
	}
}

// Listen listens inside the cloud's network; the caller may accept from anywhere.
func (s *Stage) Listen(ctx context.Context, address string) (net.Listener, error) {
	var holder int
	for _, p := range s.cloud.Processes() {
		if p.Name == "namespaces" {
			holder = p.PID
		}
	}
	type result struct {
		listener net.Listener
		err      error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so that nothing else is
		// ever run in the wrong network.
		runtime.LockOSThread()
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", holder))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			_ = ns.Close()
		}
		if err != nil {
			done <- result{err: fmt.Errorf("listen on %s: enter the cloud's network: %w", address, err)}
			return
		}
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", address)
		done <- result{listener, err}
	}()
	r := <-done
	return r.listener, r.err
}

// answers is a Spec.Ready that asks a URL for a 200.
func (s *Stage) answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		response, err := s.http.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, response.Status)
		}
		return nil
	}
}
