package store

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/scaling"
)

func TestAMigrationCopiesTheStoreFirstAndIsAllOrNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Change(t.Context(), "web", func(state *scaling.State) error { state.Desired = 4; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	version := len(migrations())

	broken := append(migrations(), migration{what: "planted", sql: "ALTER TABLE groups ADD COLUMN extra TEXT; SELECT nonsense"})
	if _, err := open(t.Context(), path, Options{}, broken); err == nil || !strings.Contains(err.Error(), "planted") {
		t.Fatalf("a broken migration: %v, want an error that names it", err)
	}
	if s, err = Open(t.Context(), path, Options{}); err != nil {
		t.Fatalf("open after a migration that failed: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	next := append(migrations(), migration{what: "one more", sql: "ALTER TABLE groups ADD COLUMN extra TEXT"})
	if s, err = open(t.Context(), path, Options{}, next); err != nil {
		t.Fatal(err)
	}
	state, err := s.View(t.Context(), "web")
	if err != nil || state.Desired != 4 || s.Origin() != OriginKept {
		t.Errorf("after the migration: %+v, %v, %s", state, err, s.Origin())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	copies, err := filepath.Glob(path + ".schema*")
	if err != nil || len(copies) == 0 {
		t.Fatalf("no copy was made before the migration: %v", err)
	}
	old, err := Open(t.Context(), copies[0], Options{})
	if err != nil {
		t.Fatalf("open the copy with the older program: %v", err)
	}
	if old.Origin() != OriginRestored || version != len(migrations()) {
		t.Errorf("origin of the copy: %s", old.Origin())
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
}
