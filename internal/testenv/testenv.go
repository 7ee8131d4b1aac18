// Package testenv is what scalehook's tests use to touch the machine they run
// on: it states what a test needs, starts daemons and stops them again, and
// waits for conditions.
//
// A test that lacks a program or a right is skipped, and `make test` prints and
// counts the skip; in continuous integration it fails instead, because there a
// test that did not run must not look like one that passed. Nothing in here belongs in the
// product: only _test.go files and the end-to-end programs import it.
package testenv

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Requirement reports why the machine cannot run a test, or nil. It is called
// once by Need, must not block and must leave nothing behind.
type Requirement func() error

// Need skips the test, with all the reasons, unless every requirement holds.
//
// When the environment variable CI is not empty, or SCALEHOOK_NO_SKIP is 1, it
// fails the test instead. With SCALEHOOK_ROOT_LATER=1 a test that lacks root is
// skipped even then: whoever sets it runs the test again, as root.
func Need(t testing.TB, requirements ...Requirement) {
	t.Helper()
	var problems []string
	rootMissing := false
	for _, missing := range requirements {
		if err := missing(); err != nil {
			problems = append(problems, err.Error())
			rootMissing = rootMissing || errors.Is(err, errNeedsRoot)
		}
	}
	if len(problems) == 0 {
		return
	}
	reason := strings.Join(problems, "; ")
	if rootMissing && os.Getenv("SCALEHOOK_ROOT_LATER") == "1" {
		t.Skipf("left for the run as root: %s", reason)
		return
	}
	if Strict() {
		t.Fatalf("cannot run here, and nothing may be skipped: %s", reason)
		return
	}
	t.Skipf("skipped: %s", reason)
}

// Strict reports whether a test that cannot run has to fail: CI is set to
// anything, or SCALEHOOK_NO_SKIP to 1.
func Strict() bool {
	return os.Getenv("CI") != "" || os.Getenv("SCALEHOOK_NO_SKIP") == "1"
}

var errNeedsRoot = errors.New("needs root")

// Root holds when the test runs as root.
func Root() error {
	if os.Geteuid() != 0 {
		return errNeedsRoot
	}
	return nil
}

// Program holds when the named program can be found, see Path.
func Program(name string) Requirement {
	return func() error {
		_, err := find(name)
		return err
	}
}

// Library holds when a shared library such as libvirt.so.0, which is opened
// while the test runs, lies where the dynamic linker looks by default.
func Library(name string) Requirement {
	return func() error {
		for _, dir := range []string{"/usr/lib", "/usr/lib/*-linux-*", "/usr/lib64", "/usr/local/lib"} {
			if found, err := filepath.Glob(filepath.Join(dir, name)); err == nil && len(found) > 0 {
				return nil
			}
		}
		return fmt.Errorf("needs the library %s", name)
	}
}

// File holds when the path exists; why says what it is needed for, or where to
// get it from.
func File(path, why string) Requirement {
	return func() error {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("needs %s (%s)", path, why)
		}
		return nil
	}
}

// Path returns the absolute path of a program, which is searched for in PATH
// and in the sbin folders that a plain user's PATH lacks on Debian. It ends the
// test when there is none: call Need first.
func Path(t testing.TB, program string) string {
	t.Helper()
	path, err := find(program)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func find(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return filepath.Abs(path)
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("needs the program %s", program)
}

// FreePort returns a TCP port of the loopback address that nothing listened on
// a moment ago. Somebody else may take it first, so prefer port 0 where the
// daemon under test can report what it got.
func FreePort(t testing.TB) int {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("look for a free port: %v", err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatalf("give back port %d: %v", port, err)
	}
	return port
}

// FreeAddress returns a loopback address with a port that nothing listens on. The
// address is a random one of 127.64.0.0/10, so that the next test that looks for one,
// and connections from 127.0.0.1, do not take it before the program under test does.
func FreeAddress(t testing.TB) string {
	t.Helper()
	ip := [4]byte{127}
	_, _ = rand.Read(ip[1:]) // documented never to fail
	ip[1] = 64 | ip[1]&63
	host := netip.AddrFrom4(ip)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", netip.AddrPortFrom(host, 0).String())
	if err != nil {
		t.Fatalf("look for a free address: %v", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatalf("give back %s: %v", address, err)
	}
	return address
}

// Eventually polls until the check returns nil, and ends the test with the last
// error when that takes longer than the deadline. desc completes "waiting for".
// The check runs at least once, in the caller's goroutine, and must bound its
// own waits.
func Eventually(t testing.TB, deadline time.Duration, desc string, check func() error) {
	t.Helper()
	if err := poll(deadline, check, nil); err != nil {
		t.Fatalf("waiting for %s, %v: %v", desc, deadline, err)
	}
}

// errStopped is what poll reports when its stop channel closed.
var errStopped = errors.New("stopped")

// poll calls check until it succeeds, the deadline passes or stop closes. The
// pause grows, so that quick conditions are seen at once and slow ones cost little.
func poll(deadline time.Duration, check func() error, stop <-chan struct{}) error {
	const longest = 200 * time.Millisecond
	end := time.Now().Add(deadline)
	pause := 5 * time.Millisecond
	for {
		err := check()
		if err == nil {
			return nil
		}
		if !time.Now().Add(pause).Before(end) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-stop:
			timer.Stop()
			return errStopped
		case <-timer.C:
		}
		pause = min(pause*2, longest)
	}
}
