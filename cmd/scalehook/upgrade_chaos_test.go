//go:build chaos

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestThePreviousProgramStartsOnTheCopyMadeBeforeTheMigration builds the last
// program that wrote the previous schema, kills it in mid-activity, opens its
// store with this program, and starts the old program on the copy that was made.
// It needs the history of the repository.
func TestThePreviousProgramStartsOnTheCopyMadeBeforeTheMigration(t *testing.T) {
	dir := t.TempDir()
	previous, schema := previousSchema(t)
	older, newer := filepath.Join(dir, "older"), filepath.Join(dir, "newer")
	source := filepath.Join(dir, "source")
	output(t, "", "sh", "-c", `mkdir "$1" && git -C "$(git rev-parse --show-toplevel)" archive "$2" | tar -x -C "$1"`, "sh", source, previous)
	output(t, source, "go", "build", "-o", older, "./cmd/scalehook")
	output(t, "", "go", "build", "-o", newer, ".")
	if err := os.WriteFile(filepath.Join(dir, "scalehook.yml"), []byte(`owner: test
providers:
  sim:
    simulated: {boot_time: 1h}
balancers:
  pool:
    simulated: {provider: sim}
groups:
  web:
    mode: scale_out_only
    min: 1
    max: 3
`), 0o600); err != nil {
		t.Fatal(err)
	}

	// In mid-activity: the VM of the group's first instance takes an hour to boot.
	old := startServer(t, dir, older, "data")
	old.until(t, "web-1 +(creating|booting)", "instances", "web")
	instance := old.ask(t, "instances", "web", "-o", "json")
	id := regexp.MustCompile(`"id": "([^"]+)"`).FindStringSubmatch(instance)
	if id == nil {
		t.Fatalf("no id in %s", instance)
	}
	old.end(t, syscall.SIGKILL)

	now := startServer(t, dir, newer, "data")
	// The simulated VM went with the old program; what was begun is known by its id
	// and undone.
	now.until(t, `(?s)fill.*`+id[1], "activities", "web", "-o", "json")
	now.end(t, syscall.SIGTERM)
	if text := now.log(t); strings.Contains(text, "origin=") {
		t.Errorf("the store is not taken for what it is:\n%s", text)
	}

	copies, err := filepath.Glob(filepath.Join(dir, "data", fmt.Sprintf("scalehook.db.schema%d-*", schema)))
	if err != nil || len(copies) != 1 {
		t.Fatalf("copies %q, %v; want one of schema %d", copies, err, schema)
	}
	if err := os.Mkdir(filepath.Join(dir, "back"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copies[0], filepath.Join(dir, "back", "scalehook.db")); err != nil {
		t.Fatal(err)
	}
	back := startServer(t, dir, older, "back")
	back.until(t, `(?s)fill.*`+id[1], "activities", "web", "-o", "json")
	back.until(t, "paused", "groups")
	back.end(t, syscall.SIGTERM)
}

// previousSchema finds the last commit before the newest migration.
func previousSchema(t *testing.T) (commit string, version int) {
	t.Helper()
	const file = "../../internal/store/schema.go"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\{what: ("[^"]+"),`).FindAllStringSubmatch(string(text), -1)
	if len(names) < 2 {
		t.Fatalf("%d migrations in %s, want two or more", len(names), file)
	}
	found := output(t, "", "git", "log", "--reverse", "--format=%H", "-S", names[len(names)-1][1], "--", file)
	if found == "" {
		t.Fatalf("no commit adds the migration %s: is the history shallow?", names[len(names)-1][1])
	}
	return strings.Fields(found)[0] + "^", len(names) - 1
}

func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, problems.String())
	}
	return string(out)
}

// A server is a program of whatever age that serves.
type server struct {
	program, address, logFile string
	cmd                       *exec.Cmd
	done                      chan error
}

func startServer(t *testing.T, dir, program, storage string) *server {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{program: program, address: l.Addr().String(), logFile: filepath.Join(dir, storage+filepath.Base(program)+".log"), done: make(chan error, 1)}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(s.logFile)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.CommandContext(t.Context(), program, "serve", "--config.file", "scalehook.yml", "--storage.path", storage,
		"--web.listen-address", s.address, "--web.insecure-operator")
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = dir, log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait(); _ = log.Close() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(program), s.log(t))
		}
	})
	return s
}

func (s *server) ask(t *testing.T, args ...string) string {
	cmd := exec.CommandContext(t.Context(), s.program, args...)
	cmd.Env = append(os.Environ(), "SCALEHOOK_URL=http://"+s.address)
	out, _ := cmd.CombinedOutput() // what is awaited is in it or not
	return string(out)
}

// until asks until the answer has a match, at most half a minute.
func (s *server) until(t *testing.T, pattern string, args ...string) {
	t.Helper()
	want := regexp.MustCompile(pattern)
	var last string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = s.ask(t, args...); want.MatchString(last) {
			return
		}
	}
	t.Fatalf("%q: no %q in\n%s", args, pattern, last)
}

func (s *server) end(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.done:
		if signal != syscall.SIGKILL && err != nil {
			t.Errorf("%s: %v", s.program, err)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("%s does not end", s.program)
	}
}

func (s *server) log(t *testing.T) string {
	text, err := os.ReadFile(s.logFile)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}
