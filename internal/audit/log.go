package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// mode is the file's: whoever is in its group may read it.
const mode = 0o640

// mostWaiting bounds the refusals that wait for a disk that takes its time.
const mostWaiting = 100

// Log writes entries. Several goroutines may use it.
type Log struct {
	path string // empty: to log
	log  *slog.Logger

	written *prometheus.CounterVec
	failed  prometheus.Counter
	dropped prometheus.Counter

	// What makes things durable; tests have others.
	syncFile   func(*os.File) error
	syncFolder func(string) error

	mu    sync.Mutex // held while the disk takes its time
	file  *os.File
	named bool // the file's name is on the disk
	torn  bool // the file may end within a line
	limit limiter

	waitMu  sync.Mutex
	waiting []Entry // refusals; whoever unlocks mu writes them
}

// Open opens the file, makes it where it is missing, and proves that it can be
// written. Without a name entries go to the log, at info and with audit=true.
func Open(path string, log *slog.Logger, reg prometheus.Registerer) (*Log, error) {
	l := &Log{
		path: path, log: log, limit: newLimiter(), syncFile: (*os.File).Sync, syncFolder: syncFolder,
		written: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "scalehook_audit_entries_total",
			Help: "Entries written to the audit log, by outcome (asked, taken, refused, failed).",
		}, []string{"outcome"}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scalehook_audit_failures_total",
			Help: "Entries that could not be written to the audit log. What was asked with one of them was not done.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "scalehook_audit_unwritten_refusals_total",
			Help: "Refused requests that were not written to the audit log one by one, since there were too many.",
		}),
	}
	for _, o := range Outcomes() {
		l.written.WithLabelValues(string(o))
	}
	var errs []error
	for _, c := range []prometheus.Collector{l.written, l.failed, l.dropped} {
		errs = append(errs, reg.Register(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("register the metrics of the audit log: %w", err)
	}
	if path == "" {
		return l, nil
	}
	if err := l.reopen(); err != nil {
		return nil, err
	}
	return l, nil
}

// Write writes an entry and flushes it to the disk. An error means that it may not
// be there: what it says must not be done.
func (l *Log) Write(e Entry) error {
	defer l.catchUp()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write(&e, true)
}

// Refusal writes that somebody was turned away who proved nothing. Such entries are
// bounded in number, for each sender and for all, and not flushed: nobody may fill
// the disk, or slow it down, without a token. from is the sender's address. It does not
// wait for a flush that is under way: such an entry is written after it.
func (l *Log) Refusal(from string, now time.Time, e Entry) {
	unwritten, ok := l.limit.allow(from, now)
	if !ok {
		l.dropped.Inc()
		return
	}
	e.Unwritten = unwritten
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	l.waitMu.Lock()
	full := len(l.waiting) >= mostWaiting
	if !full {
		l.waiting = append(l.waiting, e)
	}
	l.waitMu.Unlock()
	if full {
		l.limit.skipped(unwritten + 1)
		l.dropped.Inc()
	}
	l.catchUp()
}

// catchUp writes the refusals that wait, unless somebody else is at it: who unlocks mu
// calls it again, so that none is left.
func (l *Log) catchUp() {
	for {
		l.waitMu.Lock()
		none := len(l.waiting) == 0
		l.waitMu.Unlock()
		if none || !l.mu.TryLock() {
			return
		}
		l.waitMu.Lock()
		list := l.waiting
		l.waiting = nil
		l.waitMu.Unlock()
		for k := range list {
			_ = l.write(&list[k], false) // counted and logged; nothing was done that would need it
		}
		l.mu.Unlock()
	}
}

// write is called with mu held.
func (l *Log) write(e *Entry, flush bool) error {
	e.clean()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time = e.Time.UTC()
	if l.path == "" {
		l.tell(e)
		l.written.WithLabelValues(string(e.Outcome)).Inc()
		return nil
	}
	line, err := json.Marshal(e)
	if err == nil {
		err = l.add(append(line, '\n'), flush)
	}
	if err != nil {
		l.failed.Inc()
		// The file cannot have it, so at least the log does.
		l.log.Error("an entry of the audit log could not be written", "file", l.path, "err", err)
		l.tell(e)
		return fmt.Errorf("the audit log cannot be written: %w", err)
	}
	l.written.WithLabelValues(string(e.Outcome)).Inc()
	return nil
}

// add appends a line in one call.
func (l *Log) add(line []byte, flush bool) error {
	if err := l.follow(); err != nil {
		return err
	}
	if l.torn {
		// What was cut off stays a line of its own, which no reader takes for an entry.
		line = append([]byte{'\n'}, line...)
	}
	n, err := l.file.Write(line)
	if err != nil {
		l.torn = l.torn || n > 0
		return err
	}
	l.torn = false
	if !flush {
		return nil
	}
	if err := l.syncFile(l.file); err != nil || l.named {
		return err
	}
	// The lines of a file whose name a power cut takes are lost with it.
	if err := l.syncFolder(filepath.Dir(l.path)); err != nil {
		return err
	}
	l.named = true
	return nil
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// follow opens the file again if its name means another one, or none: it was
// rotated. Nobody has to say so.
func (l *Log) follow() error {
	if l.file != nil {
		is, err := l.file.Stat()
		if err != nil {
			return err
		}
		named, err := os.Lstat(l.path)
		if err == nil && os.SameFile(is, named) {
			return nil
		}
	}
	return l.reopen()
}

// reopen replaces the open file; the old one stays if the new one cannot be used.
func (l *Log) reopen() error {
	// Not through a link: the folder may be one that others write to.
	file, err := os.OpenFile(l.path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, mode)
	if errors.Is(err, syscall.ELOOP) {
		return fmt.Errorf("audit log %s is a symbolic link: name the file itself", l.path)
	}
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("audit log %s is no ordinary file", l.path)
	}
	torn := false
	if err == nil && info.Size() > 0 {
		last := make([]byte, 1)
		if _, err = file.ReadAt(last, info.Size()-1); errors.Is(err, io.EOF) {
			err = nil
		}
		torn = !bytes.Equal(last, []byte{'\n'})
	}
	if err == nil && info.Size() == 0 {
		// Made with the process's umask, which may have taken the group's right.
		err = file.Chmod(mode)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	old := l.file
	l.file, l.named, l.torn = file, false, torn
	if old != nil {
		if err := old.Close(); err != nil {
			l.log.Warn("the audit log before its rotation did not close", "file", l.path, "err", err)
		}
	}
	return nil
}

// tell puts the entry into the log.
func (l *Log) tell(e *Entry) {
	args := []any{"audit", true, "action", e.Action, "outcome", string(e.Outcome), "id", e.ID, "by", e.By, "auth", e.Auth}
	for _, a := range []struct{ key, value string }{
		{"role", e.Role},
		{"certificate", e.Certificate},
		{"remote", e.Remote},
		{"forwarded", e.Forwarded},
		{"path", e.Path},
		{"scaling_group", e.Group},
		{"instance", e.Instance},
		{"reason", e.Reason},
		{"message", e.Message},
		{"order", e.Order},
	} {
		if a.value != "" {
			args = append(args, a.key, a.value)
		}
	}
	if e.Code != 0 {
		args = append(args, "code", e.Code)
	}
	if len(e.Asked) > 0 {
		args = append(args, "asked", e.Asked)
	}
	if len(e.Activities) > 0 {
		args = append(args, "activities", e.Activities)
	}
	if e.Unwritten > 0 {
		args = append(args, "unwritten", e.Unwritten)
	}
	l.log.Info("somebody wants to change something", args...)
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
