package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Options are what Open needs beside the path. The zero value works.
type Options struct {
	// Logger gets a line for what an operator should know. Default: none.
	Logger *slog.Logger
	// Clock tells the time. Default: time.Now.
	Clock func() time.Time
	// KeepGone is how long an instance that is gone stays in the state, for
	// people. Default: 1 h.
	KeepGone time.Duration
	// KeepActivities is how many ended activities are kept per group. Default: 1000.
	KeepActivities int
}

// Origin says what Open found.
type Origin string

// The origins of an open store. After any but OriginKept nothing that the store
// lacks may be taken as proof that it does not exist.
const (
	OriginKept     Origin = "kept"     // as this or another process left it
	OriginNew      Origin = "new"      // there was none, or an empty file
	OriginRestored Origin = "restored" // a backup: its groups were paused, its conditions dropped
)

// Store is a scaling.Store on one SQLite file.
type Store struct {
	path   string
	log    *slog.Logger
	now    func() time.Time
	opts   Options
	epoch  int64
	origin Origin
	lock   *lock
	reader *sql.DB // history and backups
	writer *sql.DB // one connection

	// turn is held by whoever changes the store; a channel, so that waiting ends
	// with a context.
	turn   chan struct{}
	seen   int64 // PRAGMA data_version of the writer when the cache was right
	closed bool

	mu    sync.RWMutex
	cache map[string]snapshot
}

var _ scaling.Store = (*Store)(nil)

// Open opens the store in the file at path, makes it if there is none (its folder
// too), brings its schema up to date after copying it, and takes the next epoch.
// ErrInUse means that another process has it. ctx bounds the opening only.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	s, err := open(ctx, path, opts, migrations())
	if err != nil {
		return nil, fmt.Errorf("open the store %s: %w", path, explain(err))
	}
	return s, nil
}

func open(ctx context.Context, path string, opts Options, list []migration) (_ *Store, err error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Clock == nil {
		opts.Clock = time.Now
	}
	if opts.KeepGone <= 0 {
		opts.KeepGone = time.Hour
	}
	if opts.KeepActivities <= 0 {
		opts.KeepActivities = 1000
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	s := &Store{
		path: path, log: opts.Logger, now: opts.Clock, opts: opts, origin: OriginKept,
		turn: make(chan struct{}, 1), cache: map[string]snapshot{},
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.shut())
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the store's folder: %w", err)
	}
	if s.lock, err = takeLock(path + ".lock"); err != nil {
		return nil, err
	}
	if err := makePrivate(path); err != nil {
		return nil, err
	}
	if s.writer, err = connect(path, "rw", "immediate"); err != nil {
		return nil, err
	}
	s.writer.SetMaxOpenConns(1)
	if err := s.prepare(ctx, list); err != nil {
		return nil, err
	}
	if s.reader, err = connect(path, "rw", "deferred"); err != nil {
		return nil, err
	}
	s.reader.SetMaxOpenConns(2)
	return s, nil
}

// makePrivate makes the file where there is none, since SQLite would make it
// readable for everybody that the umask lets.
func makePrivate(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w (%w)", ErrReadOnly, err)
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// connect makes a pool of connections. Commits are flushed to the disk
// (synchronous=FULL) before they return.
func connect(path, mode, begin string) (*sql.DB, error) {
	query := url.Values{
		"mode":          {mode},
		"_txlock":       {begin},
		"_busy_timeout": {"5000"},
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"off"},
	}
	name := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	return sql.Open("sqlite3", name.String())
}

// prepare checks the file, migrates it and takes the epoch.
func (s *Store) prepare(ctx context.Context, list []migration) error {
	version, err := identify(ctx, s.writer, len(list))
	if err != nil {
		return err
	}
	if version == 0 {
		s.origin = OriginNew
	}
	var verdict, journal string
	if err := s.writer.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w (%s)", ErrCorrupt, verdict)
	}
	if err := s.writer.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&journal); err != nil {
		return err
	}
	if journal != "wal" {
		return fmt.Errorf("the file system does not allow a write-ahead log (journal mode %s): use a local disk", journal)
	}
	if _, err := s.writer.ExecContext(ctx, "PRAGMA journal_size_limit = 16777216"); err != nil {
		return err
	}
	if err := s.migrate(ctx, version, list); err != nil {
		return err
	}
	if err := s.takeEpoch(ctx); err != nil {
		return err
	}
	return s.writer.QueryRowContext(ctx, "PRAGMA data_version").Scan(&s.seen)
}

// takeEpoch makes every earlier owner outdated, and a restored backup harmless:
// what it knows of the world may be long past.
func (s *Store) takeEpoch(ctx context.Context) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	host, _ := os.Hostname()
	var madeAt sql.NullString
	now := stamp{s.now()}
	if err := tx.QueryRowContext(ctx, "SELECT epoch + 1, backup_of FROM fence").Scan(&s.epoch, &madeAt); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE fence SET epoch = ?, taken_by = ?, taken_at = ?, backup_of = NULL",
		s.epoch, fmt.Sprintf("process %d on %s", os.Getpid(), host), now); err != nil {
		return err
	}
	if madeAt.Valid {
		s.origin = OriginRestored
		if _, err := tx.ExecContext(ctx, "DELETE FROM leases"); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, `UPDATE groups SET paused = 1, pause_out = 1, pause_in = 1, pause_until = NULL,
			pause_by = 'scalehook', pause_reason = ?, paused_at = ?`,
			"the store was restored from a backup of "+madeAt.String+": compare with what exists, then resume", now); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Origin says what Open found.
func (s *Store) Origin() Origin { return s.origin }

// Epoch is the number by which this process owns the store.
func (s *Store) Epoch() int64 { return s.epoch }

// take waits for the turn to change the store. An error leaves nothing to give.
func (s *Store) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.closed {
		s.give()
		return ErrClosed
	}
	return nil
}

func (s *Store) give() { <-s.turn }

// Change implements scaling.Store. ctx bounds the wait for other changes; once
// the transaction has begun it is carried through, so that its outcome is known.
//
// Beside fn's own errors it refuses a state from which an instance vanished that
// was not gone, or an activity that had not ended: instances that are gone and
// activities that have ended are dropped by the store.
func (s *Store) Change(ctx context.Context, group string, fn func(*scaling.State) error) error {
	if err := scaling.ValidName(group); err != nil {
		return err
	}
	if err := s.take(ctx); err != nil {
		return fmt.Errorf("change group %q: %w", group, err)
	}
	defer s.give()
	return s.change(context.WithoutCancel(ctx), group, fn)
}

// fnError sets the errors of a caller's function apart: they are returned as
// they are.
type fnError struct{ err error }

func (e fnError) Error() string { return e.err.Error() }

func (s *Store) change(ctx context.Context, group string, fn func(*scaling.State) error) error {
	err := s.transact(ctx, group, fn)
	var own fnError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own.err
	}
	// What the failed transaction left is not known: the next one loads afresh.
	s.forgetCache()
	return fmt.Errorf("change group %q: %w", group, explain(err))
}

func (s *Store) transact(ctx context.Context, group string, fn func(*scaling.State) error) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	// Also when fn panics. After a commit it does nothing.
	defer func() { _ = tx.Rollback() }()
	if err := s.own(ctx, tx); err != nil {
		return err
	}
	before, err := s.current(ctx, tx, group)
	if err != nil {
		return err
	}
	work := before.state.Clone()
	if err := fn(&work); err != nil {
		return fnError{err}
	}
	work.Group = group
	list, next, ended, err := plan(before, normal(&work), normalTime(s.now()).Add(-s.opts.KeepGone))
	if err != nil {
		return fnError{err}
	}
	if len(list) == 0 {
		return nil
	}
	for _, st := range list {
		if _, err := tx.ExecContext(ctx, st.query, st.args...); err != nil {
			return err
		}
	}
	if ended {
		if err := s.trim(ctx, tx, group); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	s.mu.Lock()
	s.cache[group] = next
	s.mu.Unlock()
	return nil
}

// own makes sure, inside the transaction, that this process still owns the store
// and that nobody else wrote to it; if somebody did (a person with the sqlite3
// shell), what is cached is loaded again.
func (s *Store) own(ctx context.Context, tx *sql.Tx) error {
	var epoch, version int64
	if err := tx.QueryRowContext(ctx, "SELECT epoch, data_version FROM fence, pragma_data_version").Scan(&epoch, &version); err != nil {
		return err
	}
	if epoch != s.epoch {
		return fmt.Errorf("%w (epoch %d, ours is %d)", scaling.ErrFenced, epoch, s.epoch)
	}
	if version != s.seen {
		s.forgetCache()
		s.seen = version
	}
	return nil
}

func (s *Store) current(ctx context.Context, q querier, group string) (snapshot, error) {
	s.mu.RLock()
	cached, ok := s.cache[group]
	s.mu.RUnlock()
	if ok {
		return cached, nil
	}
	loaded, err := load(ctx, q, group)
	if err != nil {
		return snapshot{}, err
	}
	s.mu.Lock()
	s.cache[group] = loaded
	s.mu.Unlock()
	return loaded, nil
}

func (s *Store) forgetCache() {
	s.mu.Lock()
	clear(s.cache)
	s.mu.Unlock()
}

// View implements scaling.Store. It does not wait for a change under way unless
// the group was never looked at before.
func (s *Store) View(ctx context.Context, group string) (scaling.State, error) {
	s.mu.RLock()
	cached, ok := s.cache[group]
	s.mu.RUnlock()
	if ok {
		return cached.state.Clone(), nil
	}
	if err := s.take(ctx); err != nil {
		return scaling.State{}, fmt.Errorf("view group %q: %w", group, err)
	}
	defer s.give()
	loaded, err := s.current(ctx, s.writer, group)
	if err != nil {
		return scaling.State{}, fmt.Errorf("view group %q: %w", group, explain(err))
	}
	return loaded.state.Clone(), nil
}

// Close gives the store up. Changes that wait fail with ErrClosed. Closing again
// is no error.
func (s *Store) Close() error {
	s.turn <- struct{}{}
	defer s.give()
	if s.closed {
		return nil
	}
	s.forgetCache()
	return s.shut()
}

func (s *Store) shut() error {
	s.closed = true
	var errs []error
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.release())
	}
	return errors.Join(errs...)
}
