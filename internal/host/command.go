package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// commandDeadline is for one call of a tool. firewalld's reload is the slowest.
const commandDeadline = time.Minute

// find looks in PATH and in the folders that a plain PATH lacks.
func find(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin"} {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", program)
}

func installed(program string) bool {
	_, err := find(program)
	return err == nil
}

// run starts a tool and returns what it printed. The error has its complaint.
func run(ctx context.Context, stdin, program string, args ...string) (string, error) {
	path, err := find(program)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, commandDeadline, fmt.Errorf("no end within %v", commandDeadline))
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...) //nolint:gosec // the programs are named in this package, without a shell
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		said := strings.TrimSpace(stderr.String() + stdout.String())
		return stdout.String(), commandError{errors.New(strings.TrimSpace(fmt.Sprintf("%s: %v: %s", line(program, args), err, said))), said, err}
	}
	return stdout.String(), nil
}

// commandError keeps what the tool said.
type commandError struct {
	text error
	said string
	err  error
}

// Error returns command, status and complaint.
func (e commandError) Error() string { return e.text.Error() }

// Unwrap returns the status.
func (e commandError) Unwrap() error { return e.err }

// line is a command as a person would type it.
func line(program string, args []string) string {
	words := []string{program}
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\"'{};$&|<>()*?#~`\\") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}
