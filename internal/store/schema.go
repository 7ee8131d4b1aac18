package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// applicationID marks the file as ours in SQLite's header ("shsc").
const applicationID = 0x73687363

// A migration brings the schema from the version before it to the next one, in
// one transaction. The list only grows; what is released is never edited.
type migration struct {
	what string
	sql  string
}

// migrations are all there ever were. Times are text in UTC with nine decimals, so
// that they sort and can be read; NULL stands for none. Rows keep the order in
// which they were first written.
func migrations() []migration {
	return []migration{{what: "first schema", sql: firstSchema}, {what: "what has no column, and where the store came from", sql: `
ALTER TABLE groups     ADD COLUMN more TEXT NOT NULL DEFAULT '{}'; -- JSON: fields without a column
ALTER TABLE groups     ADD COLUMN pause_more TEXT NOT NULL DEFAULT '{}';
ALTER TABLE instances  ADD COLUMN more TEXT NOT NULL DEFAULT '{}';
ALTER TABLE activities ADD COLUMN more TEXT NOT NULL DEFAULT '{}';
ALTER TABLE activities ADD COLUMN cause_more TEXT NOT NULL DEFAULT '{}';
ALTER TABLE leases     ADD COLUMN more TEXT NOT NULL DEFAULT '{}';
ALTER TABLE orders     ADD COLUMN more TEXT NOT NULL DEFAULT '{}';
ALTER TABLE answers    ADD COLUMN more TEXT NOT NULL DEFAULT '{}';
ALTER TABLE fence      ADD COLUMN store TEXT NOT NULL DEFAULT '';       -- its identity, in its copies too
ALTER TABLE fence      ADD COLUMN commits INTEGER NOT NULL DEFAULT 0;   -- since it was made
ALTER TABLE fence      ADD COLUMN restored_from TEXT;                   -- the file, at the last restore
ALTER TABLE fence      ADD COLUMN restored_at TEXT;
`}, {what: "the order in which activities end, and who was told of them", sql: endingsSchema}}
}

const firstSchema = `
CREATE TABLE fence (
  one          INTEGER PRIMARY KEY CHECK (one = 1),
  epoch        INTEGER NOT NULL,
  taken_by     TEXT,
  taken_at     TEXT,
  backup_of    TEXT                -- when this copy was made; NULL in a live store
) STRICT;
INSERT INTO fence (one, epoch) VALUES (1, 0);

CREATE TABLE groups (
  name              TEXT PRIMARY KEY,
  provider          TEXT NOT NULL, -- with which its instances were made
  balancer          TEXT NOT NULL,
  next_number       INTEGER NOT NULL,
  primary_instance  TEXT NOT NULL,
  desired           INTEGER NOT NULL,
  adopted_names     TEXT NOT NULL, -- JSON
  paused            INTEGER NOT NULL,
  pause_out         INTEGER NOT NULL,
  pause_in          INTEGER NOT NULL,
  pause_until       TEXT,
  pause_by          TEXT NOT NULL,
  pause_reason      TEXT NOT NULL,
  paused_at         TEXT,
  hold_until        TEXT,
  last_action_end   TEXT,
  cooldown_until    TEXT,
  failures          INTEGER NOT NULL,
  backoff_until     TEXT,
  last_notification TEXT
) STRICT;

CREATE TABLE instances (
  seq           INTEGER PRIMARY KEY,
  id            TEXT NOT NULL UNIQUE,
  group_name    TEXT NOT NULL,
  name          TEXT NOT NULL,
  number        INTEGER NOT NULL,
  state         TEXT NOT NULL,
  since         TEXT,
  adopted       INTEGER NOT NULL,
  uuid          TEXT NOT NULL,
  address       TEXT NOT NULL,
  created_at    TEXT,
  in_service_at TEXT,
  deadline      TEXT,
  activity      TEXT NOT NULL,
  failure       TEXT NOT NULL,
  protected     INTEGER NOT NULL,
  powered_off   INTEGER NOT NULL
) STRICT;
CREATE INDEX instances_group ON instances (group_name);

CREATE TABLE activities (
  seq                INTEGER PRIMARY KEY,
  id                 TEXT NOT NULL UNIQUE,
  group_name         TEXT NOT NULL,
  kind               TEXT NOT NULL,
  status             TEXT NOT NULL,
  cause              TEXT NOT NULL,
  cause_signal       TEXT NOT NULL,
  cause_fingerprint  TEXT NOT NULL,
  cause_source       TEXT NOT NULL,
  cause_evidence_at  TEXT,
  cause_order        TEXT NOT NULL,
  cause_by           TEXT NOT NULL,
  cause_detail       TEXT NOT NULL,
  launch             TEXT NOT NULL,
  remove             TEXT NOT NULL,
  created            TEXT,
  ended              TEXT,
  steps              TEXT NOT NULL, -- JSON; the view steps has them as rows
  outcome            TEXT NOT NULL
) STRICT;
CREATE INDEX activities_group ON activities (group_name, id);
CREATE INDEX activities_open ON activities (group_name) WHERE status IN ('pending', 'running');

CREATE VIEW steps AS
  SELECT a.group_name, a.id AS activity, s.key AS position,
    json_extract(s.value, '$.name') AS name,
    json_extract(s.value, '$.started') AS started,
    nullif(json_extract(s.value, '$.ended'), '0001-01-01T00:00:00Z') AS ended,
    json_extract(s.value, '$.tries') AS tries,
    json_extract(s.value, '$.err') AS err
  FROM activities a, json_each(a.steps) s;

CREATE TABLE leases (
  seq         INTEGER PRIMARY KEY,
  group_name  TEXT NOT NULL,
  signal      TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  alert_name  TEXT NOT NULL,
  starts_at   TEXT,
  first_seen  TEXT,
  last_seen   TEXT,
  expires     TEXT,
  receiver    TEXT NOT NULL,
  UNIQUE (group_name, signal, fingerprint)
) STRICT;

CREATE TABLE orders (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL,
  group_name TEXT NOT NULL,
  kind       TEXT NOT NULL,
  count      INTEGER NOT NULL,
  instance   TEXT NOT NULL,
  by         TEXT NOT NULL,
  at         TEXT,
  hold       TEXT NOT NULL,
  key        TEXT NOT NULL,
  UNIQUE (group_name, id)
) STRICT;

CREATE TABLE consumed (
  seq        INTEGER PRIMARY KEY,
  group_name TEXT NOT NULL,
  signal     TEXT NOT NULL,
  at         TEXT,
  UNIQUE (group_name, signal)
) STRICT;

CREATE TABLE budgets (
  seq        INTEGER PRIMARY KEY,
  group_name TEXT NOT NULL,
  what       TEXT NOT NULL, -- creation or removal
  at         TEXT,
  nth        INTEGER NOT NULL, -- tells those of one moment apart
  UNIQUE (group_name, what, at, nth)
) STRICT;

CREATE TABLE answers (
  seq        INTEGER PRIMARY KEY,
  group_name TEXT NOT NULL,
  key        TEXT NOT NULL,
  digest     TEXT NOT NULL,
  order_id   TEXT NOT NULL,
  at         TEXT,
  UNIQUE (group_name, key)
) STRICT;
`

// Triggers count the ends, in whatever way a row gets there: the writer is the only
// one that commits, so the order of the numbers is the order of the commits. A
// clock is no such order; it may be set back.
const endingsSchema = `
ALTER TABLE activities ADD COLUMN ending INTEGER; -- its place among those that ended; NULL before
CREATE INDEX activities_ending ON activities (ending) WHERE ending IS NOT NULL;

CREATE TABLE endings (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  last INTEGER NOT NULL            -- the highest ending there was
) STRICT;
INSERT INTO endings (one, last) VALUES (1, 0);

CREATE TRIGGER activities_end AFTER UPDATE OF status ON activities
WHEN new.ending IS NULL AND new.status NOT IN ('pending', 'running') AND old.status IN ('pending', 'running')
BEGIN
  UPDATE endings SET last = last + 1;
  UPDATE activities SET ending = (SELECT last FROM endings) WHERE seq = new.seq;
END;
CREATE TRIGGER activities_end_at_once AFTER INSERT ON activities
WHEN new.ending IS NULL AND new.status NOT IN ('pending', 'running')
BEGIN
  UPDATE endings SET last = last + 1;
  UPDATE activities SET ending = (SELECT last FROM endings) WHERE seq = new.seq;
END;

CREATE TABLE webhooks (
  name     TEXT PRIMARY KEY,
  position INTEGER NOT NULL        -- the ending up to which it was told
) STRICT;
`

// identify reads the schema version and refuses what is not ours to touch. It
// writes nothing, so that a newer scalehook's file stays as it is.
func identify(ctx context.Context, db *sql.DB, newest int) (version int, err error) {
	var app, tables int
	if err := errors.Join(
		db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&app),
		db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version),
		db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables),
	); err != nil {
		return 0, err
	}
	switch {
	case app == 0 && version == 0 && tables == 0:
		return 0, nil
	case app != applicationID:
		return 0, fmt.Errorf("%w: a SQLite database of another program", ErrNotAStore)
	case version > newest:
		return 0, fmt.Errorf("%w (schema %d, this one knows %d): use that version, or the copy it made before it migrated",
			ErrNewerSchema, version, newest)
	}
	return version, nil
}

// inspect is identify with a check of the whole file, for one that is not opened
// as a store.
func inspect(ctx context.Context, db *sql.DB, how string) (version int, err error) {
	if version, err = identify(ctx, db, len(migrations())); err != nil {
		return 0, err
	}
	if version == 0 {
		return 0, fmt.Errorf("%w: the file is empty", ErrNotAStore)
	}
	return version, check(ctx, db, how)
}

// check looks at the structure of the whole file: quick_check for one that is used
// every day, integrity_check, which reads the indexes too, for one that was away.
func check(ctx context.Context, db *sql.DB, how string) error {
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA "+how+"(1)").Scan(&verdict); err != nil {
		return err
	}
	if verdict != "ok" {
		return fmt.Errorf("%w (%s)", ErrCorrupt, verdict)
	}
	return nil
}

// The copies that migrations made: path.schema1-20260102T030405 and so on.
const (
	copySuffix = ".schema"
	keptCopies = 3
)

// pruneCopies removes all but the newest copies that migrations made.
func (s *Store) pruneCopies(ctx context.Context) {
	copies, _ := filepath.Glob(globQuote(s.path) + copySuffix + "*-*T*")
	slices.SortFunc(copies, func(a, b string) int { return cmp.Compare(madeAt(a), madeAt(b)) })
	for _, old := range copies[:max(0, len(copies)-keptCopies)] {
		if err := os.Remove(old); err != nil {
			s.log.WarnContext(ctx, "an old copy of the store stays", "copy", old, "err", err)
		}
	}
}

// madeAt is the time in the name of a copy.
func madeAt(name string) string { return name[strings.LastIndexByte(name, '-')+1:] }

// globQuote makes a path a pattern that matches itself only.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// migrate brings the schema up to date. A store with anything in it is copied
// first, so that the way back to the older program is open.
func (s *Store) migrate(ctx context.Context, version int, list []migration) error {
	if version == len(list) {
		return nil
	}
	if version > 0 {
		stamp := s.now().UTC().Format("20060102T150405")
		copied := fmt.Sprintf("%s%s%d-%s", s.path, copySuffix, version, stamp)
		if err := copyTo(ctx, s.writer, copied, markBackup(s.now())); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("copy the store before its migration: %w", err)
		}
		s.log.InfoContext(ctx, "copied the store before its migration", "copy", copied, "from_schema", version, "to_schema", len(list))
		s.pruneCopies(ctx)
	}
	for i := version; i < len(list); i++ {
		tx, err := s.writer.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		script := fmt.Sprintf("%s;\nPRAGMA application_id = %d; PRAGMA user_version = %d;", list[i].sql, applicationID, i+1)
		if _, err := tx.ExecContext(ctx, script); err != nil {
			return errors.Join(fmt.Errorf("migrate the store to schema %d (%s): %w", i+1, list[i].what, err), tx.Rollback())
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("migrate the store to schema %d (%s): %w", i+1, list[i].what, err)
		}
	}
	return nil
}
