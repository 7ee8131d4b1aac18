//go:build e2e

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/scalehook/scalehook/exporter"
	"github.com/scalehook/scalehook/internal/testenv"
)

// relayTo is the environment variable that makes this test program a relay
// between its standard input and output and the UNIX socket that it names.
const relayTo = "SCALEHOOK_TEST_RELAY_TO"

// relay ends, with the program's exit status, when the daemon hangs up or
// nobody listens any more.
func relay(socket string) int {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		_ = conn.Close()
	}()
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		return 1
	}
	return 0
}

// remoteURI is a connection to the lab's libvirtd that libvirt cannot know to
// be local: it talks to it through a command.
func (h *host) remoteURI(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, socket, ok := strings.Cut(h.ReadOnlyURI(), "?socket=")
	if !ok {
		t.Fatalf("no socket in %s", h.ReadOnlyURI())
	}
	command := filepath.Join(t.TempDir(), "relay")
	script := fmt.Sprintf("#!/bin/sh\n%s='%s' exec '%s'\n", relayTo, socket, self)
	if err := os.WriteFile(command, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return "qemu+ext:///system?command=" + command
}

func TestKeepAliveEndsARemoteConnectionThatHangs(t *testing.T) {
	h := newHost(t, exporter.Collectors{})
	h.start(t, "run", 1, true)
	program, get := h.program(t, h.remoteURI(t), "--libvirt.keepalive-interval=1s", "--libvirt.keepalive-count=2",
		// Longer than the test: it is not the age of the call that ends it.
		"--libvirt.hang-timeout=1h", "--scrape.timeout=4s")
	up := func() error {
		text, err := get(t.Context(), "/metrics")
		if err != nil {
			return err
		}
		if !page(text).has("libvirt_up 1\n") || !page(text).of("libvirt_domain_cpu_time_seconds_total", "run-0") {
			return fmt.Errorf("no healthy scrape: %s", text)
		}
		return nil
	}
	testenv.Eventually(t, patience, "a healthy scrape", up)
	if err := h.Libvirtd().Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	text, err := get(t.Context(), "/metrics")
	if err != nil {
		t.Error(err)
	}
	page(text).want(t, "libvirt_up 0\n")
	testenv.Eventually(t, patience, "the connection to be given up", func() error {
		log, err := os.ReadFile(program.LogPath)
		if err != nil {
			return err
		}
		if !strings.Contains(string(log), "connection to libvirt was lost") {
			return errors.New("the log does not say so")
		}
		return nil
	})
	if err := h.Libvirtd().Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, "a healthy scrape after the hang", up)
}
