//go:build e2e

package crash_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/client"
)

// buildServer builds the server with its fault points.
func buildServer(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "scalehook")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "libvirt_dlopen,faultpoints", "-o", binary,
		"github.com/scalehook/scalehook/cmd/scalehook").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// server is one run of the real program.
type server struct {
	cmd    *exec.Cmd
	url    string
	client *client.Client
	http   *http.Client
	log    *os.File
	done   chan struct{}
	err    error // of Wait, readable once done is closed
}

// errEnded says that the server is not there any more.
var errEnded = errors.New("the server ended")

// startDeadline bounds a start on a busy machine.
const startDeadline = 30 * time.Second

// startServer starts the program over the files in dir and returns without
// waiting for it.
func startServer(ctx context.Context, r *run, env ...string) (*server, error) {
	dir, address := r.dir, r.address
	log, err := os.OpenFile(filepath.Join(dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	s := &server{url: "http://" + address, log: log, done: make(chan struct{})}
	if s.client, err = client.New(client.Options{URL: s.url, HTTP: r.stage.client()}); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	s.http = r.stage.client()
	s.cmd = r.stage.command(ctx, r.program, "serve", "--config.file", filepath.Join(dir, "scalehook.yml"),
		"--storage.path", filepath.Join(dir, "data"), "--web.listen-address", address, "--web.insecure-operator", "--log.level", "debug")
	s.cmd.Env = append(s.cmd.Environ(), env...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.WaitDelay = 5 * time.Second
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go func() {
		s.err = s.cmd.Wait()
		_ = log.Close()
		close(s.done)
	}()
	return s, nil
}

// killed reports whether the server ended by a SIGKILL; it waits for the end.
func (s *server) killed() error {
	<-s.done
	if exit, ok := errors.AsType[*exec.ExitError](s.err); ok {
		if st, ok := exit.Sys().(syscall.WaitStatus); ok && st.Signaled() && st.Signal() == syscall.SIGKILL {
			return nil
		}
	}
	return fmt.Errorf("the server ended by itself: %w", s.err)
}

// stop ends the server in peace.
func (s *server) stop() error {
	select {
	case <-s.done:
		return s.err
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.done:
		return s.err
	case <-time.After(10 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
		return errors.New("the server did not end in 10 s after SIGTERM")
	}
}

// await polls until the check holds, the server ends (errEnded) or the time is
// over, then with the check's last error.
func (s *server) await(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.done:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("not after %v: %w", limit, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// ready holds once the server has looked at everything.
func (s *server) ready(ctx context.Context) error {
	return s.post(ctx, http.MethodGet, "/-/ready", "")
}

// post sends a request and wants a 2xx.
func (s *server) post(ctx context.Context, method, path, body string) error {
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return nil
}
