//go:build e2e

package crash_test

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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/testenv"
)

// memberPort is where the members of the pools serve: all of them the test itself,
// at the loopback addresses that the simulated VMs have.
const memberPort = 18977

// haproxyStage is the simulated provider with a real HAProxy for each run.
type haproxyStage struct {
	simulatedStage

	program string

	mu    sync.Mutex
	procs map[string]*exec.Cmd // by the run's folder
}

func newHAProxyStage(t *testing.T) *haproxyStage {
	t.Helper()
	testenv.Need(t, testenv.Program("haproxy"))
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("0.0.0.0:%d", memberPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	return &haproxyStage{program: testenv.Path(t, "haproxy"), procs: map[string]*exec.Cmd{}}
}

func (st *haproxyStage) socket(r *run, name string) string { return filepath.Join(r.dir, name+".sock") }

func (st *haproxyStage) prepare(r *run) error {
	err := errors.Join(os.Mkdir(filepath.Join(r.dir, "fragment"), 0o700), os.WriteFile(filepath.Join(r.dir, "web.tmpl"),
		[]byte("backend {{.Backend}}\n{{range .Servers}}  server {{.Name}} {{.Address}}\n{{end}}"), 0o600))
	if err != nil {
		return err
	}
	file := filepath.Join(r.dir, "haproxy.cfg")
	if err := os.WriteFile(file, fmt.Appendf(nil, `global
  stats socket %s mode 600 level admin
  nbthread 1
  maxconn 100
defaults
  timeout connect 1s
  timeout client 10s
  timeout server 10s
  timeout check 1s
frontend clients
  bind unix@%s
  default_backend web
backend web
  balance leastconn
`, st.socket(r, "admin"), st.socket(r, "front")), 0o600); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(r.dir, "haproxy.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(st.program, "-W", "-S", st.socket(r, "master")+",mode,600,level,admin", "-f", file)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	st.mu.Lock()
	st.procs[r.dir] = cmd
	st.mu.Unlock()
	deadline := time.Now().Add(startDeadline)
	for {
		_, err := st.servers(r)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("haproxy: %w", err), st.clean(r))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (st *haproxyStage) clean(r *run) error {
	st.mu.Lock()
	cmd := st.procs[r.dir]
	delete(st.procs, r.dir)
	st.mu.Unlock()
	err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Wait() // it was killed
	return err
}

// servers are the names of all that the backend has.
func (st *haproxyStage) servers(r *run) ([]string, error) {
	conn, err := net.DialTimeout("unix", st.socket(r, "admin"), time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, "show servers conn web\n"); err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(answer)) {
		if first, _, ok := strings.Cut(line, " "); ok && !strings.HasPrefix(first, "#") {
			if _, name, ok := strings.Cut(first, "/"); ok {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

func (st *haproxyStage) config(r *run) string {
	text := st.simulatedStage.config(r)
	text = strings.Replace(text, "  sim: {simulated: {provider: sim}}\n", fmt.Sprintf(
		"  edge: {haproxy: {sockets: [{address: %q, master_socket: %q}]}}\n", st.socket(r, "admin"), st.socket(r, "master")), 1)
	text = strings.Replace(text, "      boot_time:", "      network: 127.78.0.0/16\n      boot_time:", 1)
	return strings.Replace(text, "    port: 80\n", fmt.Sprintf(
		"    port: %d\n    drain_deadline: 5s\n    pool: {backend: web, check: {inter: 50ms, rise: 1, fall: 2}, fragment: {file: %q, template: %q}}\n",
		memberPort, filepath.Join(r.dir, "fragment", "web.cfg"), filepath.Join(r.dir, "web.tmpl")), 1)
}

func (st *haproxyStage) things(ctx context.Context, r *run, p *picture, names map[string]string, here []api.Instance) error {
	err := st.simulatedStage.things(ctx, r, p, names, here)
	states := map[string]string{}
	var serving []string
	for _, i := range here {
		if i.Member != nil {
			if i.State == "in_service" {
				serving = append(serving, i.Member.Server)
			}
			states[i.Member.Server] = fmt.Sprintf("%q %s", names[i.ID], i.Member.State)
		}
	}
	servers, askErr := st.servers(r)
	for _, name := range servers {
		state, ok := states[name]
		if !ok {
			state = "a server of nobody: " + name
		}
		p.Members = append(p.Members, state)
	}
	return errors.Join(err, askErr, st.fragment(r, serving))
}

// fragment says what is wrong with the file that the next HAProxy would start with:
// it lists what serves, and nothing is left beside it.
func (st *haproxyStage) fragment(r *run, serving []string) error {
	dir := filepath.Join(r.dir, "fragment")
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.Name() != "web.cfg" {
			err = errors.Join(err, fmt.Errorf("%s is left beside the fragment", f.Name()))
		}
	}
	content, readErr := os.ReadFile(filepath.Join(dir, "web.cfg"))
	var listed []string
	for line := range strings.Lines(string(content)) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == "server" {
			listed = append(listed, words[1])
		}
	}
	slices.Sort(listed)
	if !slices.Equal(listed, slices.Sorted(slices.Values(serving))) {
		err = errors.Join(err, fmt.Errorf("the fragment lists %q, in service are %q", listed, serving))
	}
	return errors.Join(err, readErr)
}

// TestAKillInAnyCommandToHAProxyIsFinishedOrUndone is the same over a real
// HAProxy, killed beside every command that changes something there.
func TestAKillInAnyCommandToHAProxyIsFinishedOrUndone(t *testing.T) {
	st := newHAProxyStage(t)
	program := buildServer(t)
	l := lives()[0]
	l.phases = l.phases[:len(l.phases)-1] // a backup is no matter of the balancer's
	res, points := record(t, &run{stage: st, life: l, program: program, dir: t.TempDir(), address: address(0)})
	var tries []try
	for _, name := range sorted(points) {
		if !strings.HasPrefix(name, "haproxy.") {
			continue
		}
		for _, n := range numbers(points[name]) {
			tries = append(tries, try{run: run{stage: st, life: l, program: program, want: &res}, point: name, number: n})
		}
	}
	for _, command := range []string{
		"write fragment", "add server", "enable health", "set server state drain", "set server state ready", "set server state maint", "del server",
	} {
		if points["haproxy."+command+".before"] == 0 {
			t.Errorf("the life does not %s", command)
		}
	}
	killAll(t, tries, 8)
}
