package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/scalehook/scalehook/internal/scaling"
)

// A request is one Change on its way through the writer, or statements that
// concern no group.
type request struct {
	ctx   context.Context
	what  string // for errors: what it does
	group string
	fn    func(*scaling.State) error
	list  []statement // instead of group and fn

	// turn brings the state to work on, or is closed where there is no turn any
	// more; ran takes back what fn made of it; done says what became of it.
	turn chan *scaling.State
	ran  chan outcome
	done chan error
}

// An outcome is what one function left.
type outcome struct {
	state scaling.State // normal
	err   error         // its own
}

// errPanicked stands for the error of a function that never returned one.
var errPanicked = errors.New("the function did not return")

// Change implements scaling.Store. Changes that wait at the same time are written
// in one transaction and flushed to the disk once; each sees what those before it
// left, and one that fails leaves the others alone. fn runs on the caller's
// goroutine. ctx bounds the wait until fn runs; after that the transaction is
// carried through, so that its outcome is known.
//
// Beside fn's own errors it refuses a state from which an instance vanished that
// was not gone, or an activity that had not ended: instances that are gone and
// activities that have ended are dropped by the store.
func (s *Store) Change(ctx context.Context, group string, fn func(*scaling.State) error) error {
	if err := scaling.ValidName(group); err != nil {
		return err
	}
	return s.request(&request{ctx: ctx, what: fmt.Sprintf("change group %q", group), group: group, fn: fn})
}

// request takes a request to the writer and waits for what becomes of it.
func (s *Store) request(r *request) error {
	r.turn, r.ran, r.done = make(chan *scaling.State, 1), make(chan outcome, 1), make(chan error, 1)
	err := r.ctx.Err()
	if err == nil {
		select {
		case s.requests <- r:
		case <-r.ctx.Done():
			err = r.ctx.Err()
		case <-s.closing:
			err = ErrClosed
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.what, explain(err))
	}
	if work, ok := <-r.turn; ok {
		r.run(s.tables, work)
	}
	return <-r.done
}

// run gives the writer an outcome in any case, also when fn panics or ends its
// goroutine.
func (r *request) run(t *tables, work *scaling.State) {
	out := outcome{err: errPanicked}
	defer func() { r.ran <- out }()
	if err := r.ctx.Err(); err != nil {
		out.err = fmt.Errorf("%s: %w", r.what, err)
		return
	}
	if out.err = r.fn(work); out.err != nil {
		return
	}
	work.Group = r.group
	out.state = t.normalState(work)
}

// The bounds of a batch keep the first of it from waiting for a flood.
const (
	batchSize = 512
	batchTime = 4 * time.Millisecond
)

// A batch is what one transaction writes.
type batch struct {
	members []member
	staged  map[string]snapshot // by group: what was changed and is not committed
	began   time.Time
}

type member struct {
	r   *request
	err error // its own; nil: what becomes of the batch
	// after says that it saw what others of the batch left: its own error, too, is
	// true only if they are committed.
	after bool
}

// write is the writer: the only goroutine that changes the database.
func (s *Store) write() {
	defer close(s.ended)
	ctx := context.Background()
	for {
		select {
		case <-s.closing:
			return
		case r := <-s.requests:
			b := &batch{staged: map[string]snapshot{}, began: time.Now()}
			b.finish(s.batch(ctx, b, r))
		}
	}
}

// batch runs a request and those that wait behind it in one transaction.
func (s *Store) batch(ctx context.Context, b *batch, first *request) error {
	b.members = append(b.members, member{r: first})
	if err := s.begin(ctx); err != nil {
		close(first.turn)
		// Those that wait behind it would fare no better.
		for r := s.waiting(b); r != nil; r = s.waiting(b) {
			close(r.turn)
			b.members = append(b.members, member{r: r})
		}
		return err
	}
	written := false
	for m := &b.members[0]; ; {
		wrote, err := s.one(ctx, b, m)
		written = written || wrote
		if err != nil {
			return s.undo(ctx, err)
		}
		r := s.waiting(b)
		if r == nil {
			break
		}
		b.members = append(b.members, member{r: r})
		m = &b.members[len(b.members)-1]
	}
	commits := s.commits
	if written {
		commits++
		if err := s.exec(ctx, statement{"UPDATE fence SET commits = ?", []any{commits}}); err != nil {
			return s.undo(ctx, err)
		}
	}
	if err := s.exec(ctx, statement{"COMMIT", nil}); err != nil {
		return s.undo(ctx, err)
	}
	if written {
		if err := s.flush(); err != nil {
			s.stale, s.unflushed = true, true
			return fmt.Errorf("flush the store's log: %w", err)
		}
	}
	s.mu.Lock()
	maps.Copy(s.cache, b.staged)
	s.mu.Unlock()
	if written {
		s.commits = commits
		s.remark(ctx)
		s.nudge()
	}
	return nil
}

// remark moves the mark to what is committed. A mark that stays behind does no
// harm beyond missing a later loss.
func (s *Store) remark(ctx context.Context) {
	err := s.mark.write(mark{s.id, s.epoch, s.commits})
	if err != nil && !s.unmarked {
		s.log.WarnContext(ctx, "the store's mark cannot be written", "mark", s.path+markSuffix, "err", err)
	}
	s.unmarked = err != nil
}

// waiting returns the next request that waits, or nil where none does or the
// batch is full.
func (s *Store) waiting(b *batch) *request {
	if len(b.members) >= batchSize || time.Since(b.began) > batchTime {
		return nil
	}
	select {
	case r := <-s.requests:
		return r
	default:
		return nil
	}
}

// finish tells every member what became of it.
func (b *batch) finish(err error) {
	for _, m := range b.members {
		switch {
		case m.err != nil && (err == nil || !m.after):
			m.r.done <- m.err
		case err != nil:
			m.r.done <- fmt.Errorf("%s: %w", m.r.what, explain(err))
		default:
			m.r.done <- nil
		}
	}
}

// one runs a member's function and writes what it changed. An error that is not
// the member's own ends the batch.
func (s *Store) one(ctx context.Context, b *batch, m *member) (wrote bool, err error) {
	if m.r.list != nil {
		close(m.r.turn)
		return s.attempt(ctx, m, m.r.list)
	}
	group := m.r.group
	before, staged := b.staged[group]
	if !staged {
		before = s.cached(group)
	}
	m.after = len(b.staged) > 0
	work := before.state.Clone()
	m.r.turn <- &work
	out := <-m.r.ran
	if out.err != nil {
		m.err = out.err
		return false, nil //nolint:nilerr // it is the member's own
	}
	list, next, ended, err := s.tables.plan(before, out.state, normalTime(s.now()).Add(-s.opts.KeepGone))
	if err != nil || len(list) == 0 {
		m.err = err
		return false, nil //nolint:nilerr // it is the member's own
	}
	if ended {
		list = append(list, s.trim(group))
	}
	if wrote, err = s.attempt(ctx, m, list); wrote && err == nil {
		b.staged[group] = next
	}
	return wrote, err
}

// attempt runs the statements of a member.
func (s *Store) attempt(ctx context.Context, m *member, list []statement) (wrote bool, err error) {
	own, err := s.apply(ctx, list)
	if own != nil {
		m.err = scaling.WithClass(scaling.Permanent, fmt.Errorf("%s: %w", m.r.what, own))
	}
	return own == nil, err
}

// apply runs the statements, all or none of them. own is an error that concerns
// only them, after which the transaction goes on.
func (s *Store) apply(ctx context.Context, list []statement) (own, err error) {
	// One statement undoes itself when it fails.
	if len(list) > 1 {
		if err := s.exec(ctx, statement{"SAVEPOINT one", nil}); err != nil {
			return nil, err
		}
	}
	for _, st := range list {
		err := s.exec(ctx, st)
		if err == nil {
			continue
		}
		if !ownFault(err) {
			return nil, err
		}
		if len(list) > 1 {
			return err, errors.Join(s.exec(ctx, statement{"ROLLBACK TO one", nil}), s.exec(ctx, statement{"RELEASE one", nil}))
		}
		return err, nil
	}
	if len(list) > 1 {
		return nil, s.exec(ctx, statement{"RELEASE one", nil})
	}
	return nil, nil
}

// ownFault reports whether an error is about what was to be written, and not about
// the database.
func ownFault(err error) bool {
	if _, ok := errors.AsType[unstorable](err); ok {
		return true
	}
	lite, ok := errors.AsType[sqlite3.Error](err)
	return ok && (lite.Code == sqlite3.ErrConstraint || lite.Code == sqlite3.ErrTooBig || lite.Code == sqlite3.ErrMismatch)
}

// exec runs a statement, which is prepared once and kept: there are a few dozen.
func (s *Store) exec(ctx context.Context, st statement) error {
	prepared, ok := s.prepared[st.query]
	if !ok {
		var err error
		if prepared, err = s.conn.PrepareContext(ctx, st.query); err != nil {
			return err
		}
		s.prepared[st.query] = prepared
	}
	_, err := prepared.ExecContext(ctx, st.args...)
	return err
}

// begin begins a transaction and makes sure inside it that this process still
// owns the store and that nobody else wrote to it; if somebody did (a person with
// the sqlite3 shell), what is cached is loaded again.
func (s *Store) begin(ctx context.Context) error {
	if s.unflushed {
		// A flush that failed is not made good by the next: the kernel has forgotten
		// what it could not write. All of the log goes into the database instead,
		// which is flushed too, and the log begins anew.
		if err := s.fold(ctx); err != nil {
			return err
		}
		s.unflushed = false
	}
	if err := s.exec(ctx, statement{"BEGIN IMMEDIATE", nil}); err != nil {
		return err
	}
	if err := s.own(ctx); err != nil {
		return s.undo(ctx, err)
	}
	return nil
}

func (s *Store) own(ctx context.Context) error {
	var epoch, version int64
	if err := s.fence.QueryRowContext(ctx).Scan(&epoch, &version); err != nil {
		return err
	}
	if epoch != s.epoch {
		return fmt.Errorf("%w (epoch %d, ours is %d)", scaling.ErrFenced, epoch, s.epoch)
	}
	if version == s.seen && !s.stale {
		return nil
	}
	if err := s.reload(ctx); err != nil {
		return err
	}
	s.seen, s.stale = version, false
	return nil
}

// reload makes the cache what the database has.
func (s *Store) reload(ctx context.Context) error {
	all, err := s.tables.load(ctx, s.conn)
	if err != nil {
		return err
	}
	if err := s.conn.QueryRowContext(ctx, "SELECT commits FROM fence").Scan(&s.commits); err != nil {
		return err
	}
	s.mu.Lock()
	s.cache = all
	s.mu.Unlock()
	return nil
}

// undo ends a transaction that failed, and returns why it did. SQLite has ended
// it by itself after some errors.
func (s *Store) undo(ctx context.Context, why error) error {
	_ = s.exec(ctx, statement{"ROLLBACK", nil})
	lite, ok := errors.AsType[sqlite3.Error](why)
	if ok && lite.Code != sqlite3.ErrFull && lite.Code != sqlite3.ErrBusy {
		// What the disk has after an error of its own is not known.
		s.stale = true
	}
	return why
}

func (s *Store) cached(group string) snapshot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if cached, ok := s.cache[group]; ok {
		return cached
	}
	return empty(group)
}

// View implements scaling.Store. It waits for nothing: the states are in memory.
func (s *Store) View(_ context.Context, group string) (scaling.State, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return scaling.State{}, fmt.Errorf("view group %q: %w", group, ErrClosed)
	}
	cached, ok := s.cache[group]
	if !ok {
		cached = empty(group)
	}
	return cached.state.Clone(), nil
}

// Close gives the store up, once the changes that have begun are written. Those
// that wait fail with ErrClosed. Closing again is no error.
func (s *Store) Close() error {
	s.once.Do(func() {
		close(s.closing)
		<-s.ended
		<-s.folded
		s.mu.Lock()
		s.closed, s.cache = true, nil
		s.mu.Unlock()
		s.closeErr = s.shut()
	})
	return s.closeErr
}

func (s *Store) shut() error {
	var errs []error
	if s.wal != nil {
		errs = append(errs, s.wal.Close())
	}
	if s.fence != nil {
		errs = append(errs, s.fence.Close())
	}
	for _, prepared := range s.prepared {
		errs = append(errs, prepared.Close())
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	for _, db := range []*sql.DB{s.folder, s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.mark != nil {
		errs = append(errs, s.mark.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.release())
	}
	return errors.Join(errs...)
}
