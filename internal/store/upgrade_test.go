package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// TestEverySchemaInMidActivityOpens opens what each schema's last program left,
// and holds what is read against what that program was told to keep.
func TestEverySchemaInMidActivityOpens(t *testing.T) {
	newest := len(store.Migrations())
	for version := 1; version <= newest; version++ {
		t.Run(fmt.Sprintf("schema %d", version), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "scalehook.db")
			copyFile(t, filepath.Join("testdata", fmt.Sprintf("schema%d.sqlite", version)), path)
			s := open(t, path)
			if s.Origin() != store.OriginKept {
				t.Errorf("origin %s, want kept: %s", s.Origin(), s.Why())
			}
			check := func(s scaling.Store) {
				t.Helper()
				for _, want := range fixture() {
					got, err := s.View(t.Context(), want.Group)
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
						t.Errorf("group %s (-want +got):\n%s", want.Group, diff)
					}
				}
				if list, err := s.Activities(t.Context(), "web", "", 10); err != nil || len(list) != 4 {
					t.Errorf("history of web: %d activities, %v; want three that ended and the open one", len(list), err)
				}
			}
			check(s)

			// Work goes on, and the upgraded file opens again.
			if err := s.Change(t.Context(), "web", func(state *scaling.State) error {
				state.Instances[2].State = scaling.StateBooting
				state.Open[0].Enter("booting", fixtureTime)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s = open(t, path); s.Origin() != store.OriginKept {
				t.Errorf("origin %s at the second opening: %s", s.Origin(), s.Why())
			}

			copies, err := filepath.Glob(path + ".schema*")
			if err != nil {
				t.Fatal(err)
			}
			if version == newest {
				if len(copies) != 0 {
					t.Errorf("copies %q without a migration", copies)
				}
				return
			}
			if len(copies) != 1 || !strings.Contains(copies[0], fmt.Sprintf(".schema%d-", version)) {
				t.Fatalf("copies %q, want one of schema %d", copies, version)
			}
			oldCopy(t, copies[0], version)
			// The old program starts on it; of that program only the file format is
			// here, so this one does (see TestThePreviousProgramStartsOnTheCopy).
			copied := open(t, copies[0])
			if copied.Origin() != store.OriginRestored {
				t.Errorf("origin of the copy %s, want restored", copied.Origin())
			}
		})
	}
}

// oldCopy checks that the copy made before a migration is a sound database of the
// old schema, in one file.
func oldCopy(t *testing.T, path string, version int) {
	t.Helper()
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if _, err := os.Stat(path + suffix); err == nil {
			t.Errorf("%s%s is there", path, suffix)
		}
	}
	db, err := sql.Open("sqlite3", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for query, want := range map[string]string{
		"PRAGMA user_version":                            strconv.Itoa(version),
		"PRAGMA integrity_check":                         "ok",
		"SELECT count(*) FROM activities":                "12",
		"SELECT state FROM instances WHERE name='web-3'": "creating",
	} {
		var got string
		if err := db.QueryRowContext(context.Background(), query).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, %v; want %s", query, got, err, want)
		}
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyTheNewestCopiesBeforeMigrationsAreKept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s[1].db")
	copyFile(t, "testdata/schema1.sqlite", path)
	other := filepath.Join(dir, "s1.db.schema1-20200101T000000") // another store's
	for _, name := range []string{
		path + ".schema1-20260101T000000", path + ".schema10-20260102T000000",
		path + ".schema2-20260103T000000", path + ".schema9-20251231T000000", other,
	} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, e := range entries {
		if strings.Contains(e.Name(), ".schema") {
			kept = append(kept, e.Name())
		}
	}
	if len(kept) != 4 || kept[0] != filepath.Base(other) && kept[3] != filepath.Base(other) ||
		strings.Contains(strings.Join(kept, " "), "20251231") || strings.Contains(strings.Join(kept, " "), "schema1-20260101") {
		t.Errorf("kept %q, want the three newest of this store and the other's", kept)
	}
}
