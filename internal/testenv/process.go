package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// startDeadline is how long a daemon may take until it is ready.
	startDeadline = 30 * time.Second
	// stopDeadline is how long a daemon may take to end after SIGTERM.
	stopDeadline = 5 * time.Second
	// keptOutput is how much of a daemon's output is kept, in bytes.
	keptOutput = 64 << 10
)

// Process is a daemon that a test started.
type Process struct {
	cmd    *exec.Cmd
	name   string
	output tail
	done   chan struct{}
	err    error // of Wait, readable once done is closed
}

// Start starts the command and waits until ready returns nil, at most 30 s; nil
// for ready waits for nothing. A command that ends before it is ready fails the
// test at once, with what it printed.
//
// The process leads a group of its own. When the test ends the group gets
// SIGTERM, and SIGKILL after 5 s; when the test binary dies the process is
// killed by the kernel. Its output is logged if the test failed. A command that
// has its own Stdout or Stderr keeps them. A command made with t.Context() is
// killed at once when the test ends, without the SIGTERM.
func Start(t testing.TB, cmd *exec.Cmd, ready func() error) *Process {
	t.Helper()
	process := &Process{cmd: cmd, name: filepath.Base(cmd.Path), done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &process.output
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &process.output
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// A grandchild that inherited the pipe must not keep Wait from returning.
	cmd.WaitDelay = stopDeadline
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", process.name, err)
	}
	go func() {
		process.err = cmd.Wait()
		close(process.done)
	}()
	t.Cleanup(func() {
		if err := process.Stop(); err != nil {
			t.Errorf("stop %s: %v", process.name, err)
		}
		if t.Failed() {
			t.Logf("output of %s (pid %d):\n%s", process.name, process.PID(), process.Output())
		}
	})
	if ready == nil {
		return process
	}
	if err := poll(startDeadline, ready, process.done); errors.Is(err, errStopped) {
		t.Fatalf("%s ended before it was ready: %v", process.name, process.err)
	} else if err != nil {
		t.Fatalf("%s is not ready after %v: %v", process.name, startDeadline, err)
	}
	return process
}

// PID is the process id, which is also that of its group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Output returns the last 64 KiB of what the process printed so far.
func (p *Process) Output() string { return p.output.String() }

// Done is closed once the process has ended and was waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the process, not to its group.
func (p *Process) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatalf("send %v to %s: %v", signal, p.name, err)
	}
}

// Kill ends the process and its group with SIGKILL, as a crash would, and waits
// until it is gone. It may be called more than once.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	if err := p.end(syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", p.name, err)
	}
}

// Stop ends the process and its group: SIGTERM, then SIGKILL after 5 s. It
// blocks until the process is gone and may be called more than once. How the
// process ended is no error.
func (p *Process) Stop() error { return p.end(syscall.SIGTERM) }

func (p *Process) end(signal syscall.Signal) error {
	// Children outlive their leader, so the group is signalled even when the
	// leader has ended already; the id stays theirs as long as one lives.
	p.signalGroup(signal)
	select {
	case <-p.done:
		p.signalGroup(syscall.SIGKILL)
		return nil
	case <-time.After(stopDeadline):
	}
	p.signalGroup(syscall.SIGKILL)
	select {
	case <-p.done:
		return nil
	case <-time.After(2 * stopDeadline):
		return fmt.Errorf("pid %d is still there after SIGKILL", p.PID())
	}
}

// signalGroup ignores the error: it says that nobody is left in the group.
func (p *Process) signalGroup(signal syscall.Signal) { _ = syscall.Kill(-p.PID(), signal) }

// Listening returns a check, for Start or Eventually, that holds once a TCP
// address accepts connections.
func Listening(address string) func() error {
	return func() error {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// OK returns a check, for Start or Eventually, that holds once a GET of the URL
// is answered 200 within a second.
func OK(url string) func() error {
	return func() error {
		client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get(url) //nolint:noctx // the client's timeout bounds it
		if err != nil {
			return err
		}
		if err := response.Body.Close(); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, response.Status)
		}
		return nil
	}
}

// tail is a writer that keeps the end of what was written to it.
type tail struct {
	mu   sync.Mutex
	data []byte
}

// Write never fails.
func (b *tail) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.data = append(b.data, p...)
	if extra := len(b.data) - keptOutput; extra > 0 {
		b.data = bytes.Clone(b.data[extra:])
	}
	return len(p), nil
}

// String returns what is kept.
func (b *tail) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.data)
}
