package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// HAProxyOptions describe an HAProxy of the lab.
type HAProxyOptions struct {
	// Name of its folder and log. Empty: "haproxy".
	Name string
	// Files are the configuration files or folders, in order, each given with -f.
	Files []string
	// Config is the text of one more file, written before the others to
	// CONFIG/haproxy.cfg. It may say {{stats}} for the path of the admin socket.
	Config string
	// AdminSocket is the stats socket that the configuration opens with level
	// admin. Empty: admin.sock in its folder, which {{stats}} stands for.
	AdminSocket string
}

// HAProxy is a running HAProxy in master-worker mode.
type HAProxy struct {
	*Process
	Dir          string // its own folder
	AdminSocket  string // Runtime API
	MasterSocket string // "show proc", "@!PID command"

	lab   *Lab
	files []string
}

// StartHAProxy checks the configuration, starts HAProxy and waits until its
// Runtime API answers.
func (l *Lab) StartHAProxy(ctx context.Context, opts HAProxyOptions) (*HAProxy, error) {
	if opts.Name == "" {
		opts.Name = "haproxy"
	}
	h := &HAProxy{Dir: l.Path(opts.Name), lab: l, AdminSocket: opts.AdminSocket}
	if err := os.MkdirAll(h.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", opts.Name, err)
	}
	h.MasterSocket = filepath.Join(h.Dir, "master.sock")
	if h.AdminSocket == "" {
		h.AdminSocket = filepath.Join(h.Dir, "admin.sock")
	}
	if opts.Config != "" {
		file := filepath.Join(h.Dir, "haproxy.cfg")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(opts.Config, "{{stats}}", h.AdminSocket)), 0o644); err != nil {
			return nil, fmt.Errorf("start %s: %w", opts.Name, err)
		}
		h.files = append(h.files, "-f", file)
	}
	for _, f := range opts.Files {
		h.files = append(h.files, "-f", f)
	}
	if err := h.Check(ctx); err != nil {
		return nil, fmt.Errorf("start %s: %w", opts.Name, err)
	}
	p, err := l.StartProcess(ctx, ProcessSpec{
		Name: opts.Name, Path: "haproxy",
		Args: append([]string{"-W", "-S", h.MasterSocket + ",mode,600,level,admin"}, h.files...),
		Ready: func(ctx context.Context) error {
			if _, err := h.Run(ctx, "show info"); err != nil {
				return err
			}
			// The master replaces itself once more after its worker is up.
			current, _, err := h.Workers(ctx)
			if err == nil && len(current) == 0 {
				err = errors.New("the master has no worker")
			}
			return err
		},
	})
	if err != nil {
		return nil, err
	}
	h.Process = p
	l.mu.Lock()
	l.haproxies = append(l.haproxies, h)
	l.mu.Unlock()
	return h, nil
}

// Check lets HAProxy check its configuration; the error has its messages.
func (h *HAProxy) Check(ctx context.Context) error {
	out, err := h.lab.Command(ctx, "haproxy", append([]string{"-c"}, h.files...)...).CombinedOutput()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("check HAProxy's configuration: %s", strings.TrimSpace(string(out)))
	}
	if err != nil {
		return fmt.Errorf("check HAProxy's configuration: %w", err)
	}
	return nil
}

// Run sends one command to the Runtime API and returns the answer.
func (h *HAProxy) Run(ctx context.Context, command string) (string, error) {
	return ask(ctx, h.AdminSocket, command)
}

// RunMaster sends one command to the master's socket.
func (h *HAProxy) RunMaster(ctx context.Context, command string) (string, error) {
	return ask(ctx, h.MasterSocket, command)
}

// ask sends one command to a socket of HAProxy, within 5 s.
func ask(ctx context.Context, socket, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return "", fmt.Errorf("ask HAProxy: %w", err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return "", fmt.Errorf("ask HAProxy: %w", err)
		}
	}
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return "", fmt.Errorf("ask HAProxy %q: %w", command, err)
	}
	// The master ends its answer only when it sees that nothing more is asked.
	if half, ok := conn.(*net.UnixConn); ok {
		if err := half.CloseWrite(); err != nil {
			return "", fmt.Errorf("ask HAProxy %q: %w", command, err)
		}
	}
	raw, err := io.ReadAll(conn)
	if err != nil {
		return "", fmt.Errorf("ask HAProxy %q: %w", command, err)
	}
	return string(raw), nil
}

// Workers lists the process ids of the current and of the old workers, which
// still serve what was in flight when they were replaced.
func (h *HAProxy) Workers(ctx context.Context) (current, old []int, err error) {
	out, err := h.RunMaster(ctx, "show proc")
	if err != nil {
		return nil, nil, err
	}
	section := ""
	for line := range strings.SplitSeq(out, "\n") {
		if name, ok := strings.CutPrefix(line, "# "); ok {
			section = name
			continue
		}
		f := strings.Fields(line)
		if len(f) < 2 || f[1] != "worker" {
			continue
		}
		pid, err := strconv.Atoi(f[0])
		if err != nil {
			return nil, nil, fmt.Errorf("read HAProxy's processes: %w", err)
		}
		if section == "old workers" {
			old = append(old, pid)
		} else {
			current = append(current, pid)
		}
	}
	return current, old, nil
}

// Reload makes the master start new workers with the configuration on disk and
// returns when they answer. Old workers finish what is in flight.
func (h *HAProxy) Reload(ctx context.Context) error {
	if err := h.Check(ctx); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	before, _, err := h.Workers(ctx)
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	if err := h.Signal(syscall.SIGUSR2); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return h.awaitReady(ctx, func(ctx context.Context) error {
		now, _, err := h.Workers(ctx)
		if err != nil {
			return err
		}
		for _, pid := range before {
			if slices.Contains(now, pid) {
				return errors.New("reload: the old worker is still the current one")
			}
		}
		if len(now) == 0 {
			return errors.New("reload: no worker yet")
		}
		out, err := h.Run(ctx, "show info")
		if err == nil && !strings.Contains(out, fmt.Sprintf("\nPid: %d\n", now[0])) {
			err = errors.New("reload: the admin socket is not yet the new worker's")
		}
		return err
	})
}

// Servers lists "backend/server" of every server that HAProxy has.
func (h *HAProxy) Servers(ctx context.Context) ([]string, error) {
	out, err := h.Run(ctx, "show servers conn")
	if err != nil {
		return nil, err
	}
	var list []string
	for line := range strings.SplitSeq(out, "\n") {
		if name, _, ok := strings.Cut(line, " "); ok && strings.Contains(name, "/") && !strings.HasPrefix(name, "#") {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list, nil
}
