package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// state is what Remove has to know and the host itself does not tell. It is
// written before anything is changed.
type state struct {
	Way Way `json:"way"`
	// Before is how forwarding was when the first Apply came.
	Before *forwarding `json:"before,omitempty"`
	// Needing are the programs that were there then and need forwarding themselves.
	Needing []string `json:"needing,omitempty"`
	// Boot is the boot in which Before was read; Kept says that it holds over a
	// reboot, because the files that keep forwarding on are ours.
	Boot string `json:"boot"`
	Kept bool   `json:"kept"`
}

// readState returns nil if there is none.
func (c Config) readState() (*state, error) {
	text, err := os.ReadFile(c.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // no state is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read what was done before: %w", err)
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("read %s: %w (move it away; then net.ipv4.ip_forward stays as it is on remove)", c.statePath(), err)
	}
	return &s, nil
}

func (c Config) writeState(s state) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write down what is done: %w", err)
	}
	return writeFile(c.statePath(), append(text, '\n'), 0o600)
}

// writeFile replaces a file in one step and makes it last.
func writeFile(path string, content []byte, mode os.FileMode) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == string(content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // /etc/systemd/system is for everybody to read
		return fmt.Errorf("write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}

// removeFile is content if there is none.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", path, err)
	}
	return nil
}

// removeState leaves nothing behind.
func (c Config) removeState() error {
	return errors.Join(removeFile(c.statePath()), removeFile(filepath.Dir(c.statePath())))
}

// bootID tells one boot from another.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read the id of this boot: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// lock keeps a second Apply or Remove out until the first ended. It waits at most
// a minute.
func (c Config) lock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandDeadline, errors.New("another scalehook host is at work"))
	defer cancel()
	path := c.path("run/scalehook-host.lock")                      // goes with a reboot
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // only missing in a test's root
		return nil, fmt.Errorf("lock: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, context.Cause(ctx)), f.Close())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
