package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
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

	// busy is how long another program's transaction is waited for.
	busy time.Duration
}

// Origin says what Open found.
type Origin string

// The origins of an open store. After any but OriginKept nothing that the store
// lacks may be taken as proof that it does not exist.
const (
	OriginKept Origin = "kept" // as this or another process left it
	OriginNew  Origin = "new"  // there was none, or an empty file
	// OriginLost is a new store in the place of one that is gone: its mark is there,
	// its database is not.
	OriginLost Origin = "lost"
	// OriginRestored is a database that is behind the world: a backup, an older
	// copy, one without its log. Its groups were paused in both directions, its
	// conditions dropped. It says so once, to who opens it first.
	OriginRestored Origin = "restored"
)

// Store is a scaling.Store on one SQLite file.
type Store struct {
	path   string
	log    *slog.Logger
	now    func() time.Time
	opts   Options
	epoch  int64
	origin Origin
	why    string // of the origin, for people
	id     string // of the database
	lock   *lock
	mark   *markFile
	tables *tables
	reader *sql.DB // history and backups
	writer *sql.DB // one connection, which is conn once the store is open
	folder *sql.DB // one connection, which folds the log in

	requests chan *request
	closing  chan struct{}
	ended    chan struct{} // the writer has
	nudged   chan struct{}
	folded   chan struct{} // foldBehind has ended
	once     sync.Once
	closeErr error

	// The writer's own.
	conn     *sql.Conn
	fence    *sql.Stmt
	prepared map[string]*sql.Stmt
	seen     int64 // PRAGMA data_version when the cache was right
	stale    bool  // the cache has to be loaded again
	commits  int64 // since the database was made
	unmarked bool  // the mark could not be written
	wal      *os.File
	// flush brings what was committed to the disk; unflushed: it failed.
	flush     func() error
	unflushed bool

	mu     sync.RWMutex
	closed bool
	cache  map[string]snapshot // all groups; a snapshot is never altered
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
	if opts.busy <= 0 {
		opts.busy = busyTimeout
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	s := &Store{
		path: path, log: opts.Logger, now: opts.Clock, opts: opts, origin: OriginKept,
		tables: newTables(), prepared: map[string]*sql.Stmt{},
		requests: make(chan *request), closing: make(chan struct{}), ended: make(chan struct{}), nudged: make(chan struct{}, 1), folded: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.shut())
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the store's folder: %w", readOnly(err))
	}
	if s.lock, err = takeLock(path); err != nil {
		return nil, err
	}
	// The mark is read before the database, which is therefore never behind it.
	if s.mark, err = openMark(path); err != nil {
		return nil, err
	}
	if err := makePrivate(path); err != nil {
		return nil, err
	}
	removePartial(path)
	if s.writer, err = connect(path, "rw", "immediate", opts.busy); err != nil {
		return nil, err
	}
	s.writer.SetMaxOpenConns(1)
	if err := s.prepare(ctx, list); err != nil {
		return nil, err
	}
	if s.reader, err = connect(path, "rw", "deferred", opts.busy); err != nil {
		return nil, err
	}
	s.reader.SetMaxOpenConns(2)
	if s.folder, err = connect(path, "rw", "deferred", opts.busy); err != nil {
		return nil, err
	}
	s.folder.SetMaxOpenConns(1)
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	go s.foldBehind() //nolint:gosec,contextcheck // it lives until Close, not as long as ctx
	go s.write()      //nolint:gosec,contextcheck // it lives until Close, not as long as ctx
	return s, nil
}

// headerSize is the least that a SQLite database has.
const headerSize = 512

// makePrivate makes the file where there is none, since SQLite would make it
// readable for everybody that the umask lets.
func makePrivate(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return readOnly(err)
	}
	info, err := file.Stat()
	if err == nil && 0 < info.Size() && info.Size() < headerSize {
		// SQLite would take it for a new database and write over it.
		err = fmt.Errorf("%w: it has %d bytes", ErrCorrupt, info.Size())
	}
	if err == nil && info.Size() == 0 {
		err = ownAs(path, filepath.Dir(path))
	}
	return errors.Join(err, file.Close())
}

// busyTimeout is how long another program's transaction is waited for.
const busyTimeout = 5 * time.Second

// connect makes a pool of connections. Commits are flushed to the disk
// (synchronous=FULL) before they return; the writer does that by itself later.
func connect(path, mode, begin string, busy time.Duration) (*sql.DB, error) {
	query := url.Values{
		"mode":          {mode},
		"_txlock":       {begin},
		"_busy_timeout": {strconv.FormatInt(busy.Milliseconds(), 10)},
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"off"},
	}
	name := url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}
	return sql.Open("sqlite3", name.String())
}

// prepare checks the file, migrates it and takes the epoch.
func (s *Store) prepare(ctx context.Context, list []migration) error {
	version, err := look(ctx, s.path, len(list), s.opts.busy)
	if err != nil {
		return err
	}
	if version == 0 {
		s.origin = OriginNew
	}
	var journal string
	if err := s.writer.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&journal); err != nil {
		return err
	}
	if journal != "wal" {
		return fmt.Errorf("the file system does not allow a write-ahead log (journal mode %s): use a local disk", journal)
	}
	pragmas := fmt.Sprintf("PRAGMA journal_size_limit = %d; PRAGMA wal_autocheckpoint = %d", logPages*pageSize, logPages)
	if _, err := s.writer.ExecContext(ctx, pragmas); err != nil {
		return err
	}
	if err := s.migrate(ctx, version, list); err != nil {
		return err
	}
	return s.takeEpoch(ctx)
}

// look identifies and checks the file through a connection that cannot write: one
// that could would, on its end, move the log into a file that is refused.
func look(ctx context.Context, path string, newest int, busy time.Duration) (version int, err error) {
	db, err := connect(path, "ro", "deferred", busy)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	if version, err = identify(ctx, db, newest); err != nil {
		return 0, err
	}
	return version, check(ctx, db, "quick_check")
}

// start gives the writer its connection and reads all states, so that a row which
// cannot be read is an error now and not in the middle of something.
func (s *Store) start(ctx context.Context) (err error) {
	if s.conn, err = s.writer.Conn(ctx); err != nil {
		return err
	}
	if s.fence, err = s.conn.PrepareContext(ctx, "SELECT epoch, data_version FROM fence, pragma_data_version"); err != nil {
		return err
	}
	if err := s.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&s.seen); err != nil {
		return err
	}
	// SQLite flushes with fsync, whose price on a journalling file system is that of
	// everything else that the disk has to write, for a time of modification that
	// nobody needs. From here on the writer flushes the log by itself: in NORMAL
	// SQLite does so only before it moves the log into the database.
	if s.wal, err = os.OpenFile(s.path+"-wal", os.O_RDWR, 0); err != nil {
		return fmt.Errorf("open the store's log: %w", readOnly(err))
	}
	s.flush = func() error { return fdatasync(s.wal) }
	if _, err := s.conn.ExecContext(ctx, "PRAGMA synchronous = NORMAL"); err != nil {
		return err
	}
	return s.reload(ctx)
}

// fdatasync returns once the file's content is on the disk.
func fdatasync(file *os.File) error {
	for {
		if err := syscall.Fdatasync(int(file.Fd())); !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// takeEpoch makes every earlier owner outdated, and a database that is behind the
// world harmless: what it knows may be long past.
func (s *Store) takeEpoch(ctx context.Context) error {
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	var was origins
	if err := was.read(ctx, tx); err != nil {
		return err
	}
	now := stamp{s.now()}
	if s.origin, s.why = was.judge(s.origin, s.mark.found); s.origin == OriginRestored {
		if err := pauseAll(ctx, tx, s.why, now); err != nil {
			return err
		}
	}
	if s.id = was.store; s.id == "" {
		s.id = rand.Text()
	}
	// Numbers only rise, also past those of the database that was here before.
	s.epoch = max(was.epoch, s.mark.found.epoch) + 1
	s.commits = max(was.commits, s.mark.found.commits)
	host, _ := os.Hostname()
	if _, err := tx.ExecContext(ctx, "UPDATE fence SET epoch = ?, taken_by = ?, taken_at = ?, backup_of = NULL, store = ?, commits = ?",
		s.epoch, fmt.Sprintf("process %d on %s", os.Getpid(), host), now, s.id, s.commits); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	if s.why != "" {
		s.log.WarnContext(ctx, "the store is not as it was left", "store", s.path, "origin", string(s.origin), "why", s.why)
	}
	if err := s.mark.begin(mark{s.id, s.epoch, s.commits}); err != nil {
		return fmt.Errorf("write the store's mark: %w", readOnly(err))
	}
	return nil
}

// Origin says what Open found.
func (s *Store) Origin() Origin { return s.origin }

// Why explains the origin to people; empty for OriginKept and OriginNew. It is the
// reason that the groups of a restored store are paused with.
func (s *Store) Why() string { return s.why }

// Epoch is the number by which this process owns the store.
func (s *Store) Epoch() int64 { return s.epoch }
