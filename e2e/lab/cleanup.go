package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// dirPrefix starts the name of every lab's folder.
const dirPrefix = "scalehook-lab-"

// state is what a lab notes down about itself, for CleanupAll.
type state struct {
	ID           string `json:"id"`
	Owner        int    `json:"owner"` // process that started the lab
	OwnerStarted string `json:"owner_started"`
	Init         int    `json:"init"` // process 1 of the lab
	InitStarted  string `json:"init_started"`
}

// writeState is called before the first process and again when process 1 is known.
func (l *Lab) writeState() error {
	own, err := readStat(os.Getpid())
	if err != nil {
		return err
	}
	st := state{ID: l.id, Owner: os.Getpid(), OwnerStarted: own.started}
	if l.ns != nil {
		first, err := readStat(l.ns.pid())
		if err != nil {
			return err
		}
		st.Init, st.InitStarted = l.ns.pid(), first.started
	}
	raw, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("note the lab's processes: %w", err)
	}
	if err := os.WriteFile(l.Path("lab.json"), raw, 0o644); err != nil {
		return fmt.Errorf("note the lab's processes: %w", err)
	}
	return nil
}

// CleanupAll removes what crashed programs left of their labs below dir
// (Options.Dir; empty: os.TempDir()) and returns the folders removed. A lab
// whose program is alive is left alone. A process is ended only if it carries
// the lab's mark in its environment or is the lab's noted process 1. log may be nil.
func CleanupAll(ctx context.Context, dir string, log *slog.Logger) ([]string, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if dir == "" {
		dir = os.TempDir()
	}
	dirs, err := filepath.Glob(filepath.Join(dir, dirPrefix+"*"))
	if err != nil {
		return nil, fmt.Errorf("clean labs up: %w", err)
	}
	var removed []string
	var errs []error
	for _, d := range dirs {
		done, err := cleanup(ctx, d)
		if err != nil {
			errs = append(errs, fmt.Errorf("clean lab %s up: %w", d, err))
		}
		if done {
			log.Info("removed a lab that was left behind", "dir", d)
			removed = append(removed, d)
		}
	}
	return removed, errors.Join(errs...)
}

// cleanup removes one lab's folder and reports whether it did. A folder without
// a lab's notes is not ours.
func cleanup(ctx context.Context, dir string) (bool, error) {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return false, err
	}
	// The folder's notes say which processes to end: only our own are believed.
	if sys, ok := info.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
		return false, nil
	}
	var st state
	raw, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read notes: %w", err)
	}
	if err := json.Unmarshal(raw, &st); err != nil {
		return false, fmt.Errorf("read notes: %w", err)
	}
	if st.ID != filepath.Base(dir) {
		return false, nil
	}
	if alive(st.Owner, st.OwnerStarted) {
		return false, nil
	}
	for {
		left := st.processes()
		if len(left) == 0 {
			break
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("processes %v do not end: %w", left, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return false, fmt.Errorf("remove folder: %w", err)
	}
	return true, nil
}

func alive(pid int, started string) bool {
	if pid == 0 {
		return false
	}
	st, err := readStat(pid)
	return err == nil && st.started == started
}

// processes are those that are certainly of this lab.
func (s state) processes() []int {
	var out []int
	if alive(s.Init, s.InitStarted) {
		out = append(out, s.Init)
	}
	mark := []byte(markVariable + "=" + s.ID)
	for _, pid := range allProcesses() {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || pid == os.Getpid() || pid == s.Init {
			continue
		}
		for kv := range bytes.SplitSeq(raw, []byte{0}) {
			if bytes.Equal(kv, mark) {
				out = append(out, pid)
			}
		}
	}
	return out
}
