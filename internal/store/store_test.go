package store_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/scaling/scalingtest"
	"github.com/scalehook/scalehook/internal/store"
	"github.com/scalehook/scalehook/internal/testenv"
)

func TestMain(m *testing.M) {
	for name, run := range map[string]func(string){
		"STORE_TEST_CHANGER": changer,
		"STORE_TEST_OPENER":  opener,
		"STORE_TEST_LIMITED": limited,
	} {
		if path := os.Getenv(name); path != "" {
			run(path)
			return
		}
	}
	goleak.VerifyTestMain(m)
}

func open(t testing.TB, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	scalingtest.Store(t, func(t *testing.T) scalingtest.StoreUnderTest {
		path := filepath.Join(t.TempDir(), "a folder", "scalehook.db")
		return scalingtest.StoreUnderTest{
			Open:     func(t *testing.T) scaling.Store { return open(t, path) },
			OpenFile: func(t *testing.T, file string) scaling.Store { return open(t, file) },
		}
	})
}

// shell opens the database as the sqlite3 shell would.
func shell(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func set(ctx context.Context, s *store.Store, desired int) error {
	return s.Change(ctx, "web", func(state *scaling.State) error {
		state.Desired = desired
		return nil
	})
}

func TestASecondOwnerIsRefusedUntilTheFirstCloses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	first := open(t, path)
	_, err := store.Open(t.Context(), path, store.Options{})
	if !errors.Is(err, store.ErrInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Fatalf("second Open() = %v, want ErrInUse and who has it", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if second := open(t, path); second.Epoch() != first.Epoch()+1 {
		t.Errorf("epochs %d and %d, want one more", first.Epoch(), second.Epoch())
	}
}

func TestAnOvertakenOwnerIsFenced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	old := open(t, path)
	if err := set(t.Context(), old, 1); err != nil {
		t.Fatal(err)
	}
	// Somebody deletes the lock file, or the file system has no locks.
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	young := open(t, path)
	ran := false
	err := old.Change(t.Context(), "web", func(*scaling.State) error { ran = true; return nil })
	if !errors.Is(err, scaling.ErrFenced) || ran {
		t.Errorf("Change of the overtaken one = %v (function run: %v), want ErrFenced", err, ran)
	}
	if err := set(t.Context(), young, 2); err != nil {
		t.Errorf("Change of the new owner: %v", err)
	}
}

func TestWhatTheShellWroteIsSeenByTheNextChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path)
	if err := set(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := shell(t, path).Exec("UPDATE groups SET desired = 7"); err != nil {
		t.Fatal(err)
	}
	if err := s.Change(t.Context(), "web", func(state *scaling.State) error {
		if state.Desired != 7 {
			t.Errorf("desired is %d, want what was written beside us", state.Desired)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestTheDatabaseReadsWell(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := s.Change(t.Context(), "web", func(state *scaling.State) error {
		a := scaling.Activity{ID: "a1", Kind: scaling.ActivityScaleOut}
		a.Enter("creating", at)
		a.Enter("booting", at.Add(time.Second))
		state.Open = []scaling.Activity{a}
		state.Instances = []scaling.Instance{{ID: "i1", Name: "web-1", State: scaling.StateBooting, Since: at}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	db := shell(t, path)
	for query, want := range map[string]string{
		"SELECT name || ' ' || state || ' ' || since FROM instances":                       "web-1 booting 2026-01-02T03:04:05.000000000Z",
		"SELECT name || ' ' || coalesce(ended, 'runs') FROM steps ORDER BY position":       "creating 2026-01-02T03:04:06Z",
		"SELECT name || ' ' || coalesce(ended, 'runs') FROM steps ORDER BY position DESC":  "booting runs",
		"SELECT count(*) || ' ' || coalesce(deadline, 'no deadline') FROM instances":       "1 no deadline",
		"SELECT taken_by FROM fence WHERE backup_of IS NULL AND taken_by LIKE 'process %'": "",
	} {
		var got string
		if err := db.QueryRow(query).Scan(&got); err != nil || (want != "" && got != want) {
			t.Errorf("%s = %q, %v; want %q", query, got, err, want)
		}
	}
	for _, name := range []string{path, path + ".lock"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", name, info.Mode(), err)
		}
	}
}

func TestFilesThatAreNoStoreAreRefusedAndLeftAlone(t *testing.T) {
	foreign := func(t *testing.T, path string) {
		db, err := sql.Open("sqlite3", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec("CREATE TABLE other (x)"); err != nil {
			t.Fatal(err)
		}
	}
	newer := func(t *testing.T, path string) {
		s := open(t, path)
		s.Close()
		db, err := sql.Open("sqlite3", path)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Exec("PRAGMA user_version = 99"); err != nil {
			t.Fatal(err)
		}
	}
	text := func(t *testing.T, path string) {
		if err := os.WriteFile(path, []byte(strings.Repeat("this is not a database\n", 100)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damaged := func(t *testing.T, path string) {
		s := open(t, path)
		for i := range 200 {
			if err := s.Change(t.Context(), "web", func(state *scaling.State) error {
				state.Instances = append(state.Instances, scaling.Instance{ID: strconv.Itoa(i), Failure: strings.Repeat("x", 200)})
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := 4096 * 4; i < len(content); i++ {
			content[i] ^= 0x5a
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		make func(*testing.T, string)
		want error
	}{
		{"another program's database", foreign, store.ErrNotAStore},
		{"a newer scalehook's store", newer, store.ErrNewerSchema},
		{"a text file", text, store.ErrNotAStore},
		{"a damaged store", damaged, store.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s.db")
			c.make(t, path)
			before, _ := os.ReadFile(path)
			_, err := store.Open(t.Context(), path, store.Options{})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("Open() = %v, want %v and the path", err, c.want)
			}
			if after, _ := os.ReadFile(path); string(before) != string(after) {
				t.Error("the refused file was altered")
			}
		})
	}
}

func TestWhatANewerScalehookWroteIsRefusedAndNotDropped(t *testing.T) {
	for query, want := range map[string]string{
		`UPDATE instances SET more = '{"someday":1}'`:               "instance i1",
		`UPDATE groups SET pause_more = '{"someday":{"x":[true]}}'`: "group web",
		`UPDATE activities SET cause_more = '{"someday":"x"}'`:      "activity a1",
		`UPDATE instances SET state = 'someday'`:                    `it is "someday"`,
	} {
		path := filepath.Join(t.TempDir(), "s.db")
		s := open(t, path)
		if err := s.Change(t.Context(), "web", func(state *scaling.State) error {
			state.Instances = []scaling.Instance{{ID: "i1", State: scaling.StateInService}}
			state.Open = []scaling.Activity{{ID: "a1", Status: scaling.ActivityRunning}}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s.Close()
		db := shell(t, path)
		if _, err := db.Exec(query); err != nil {
			t.Fatal(err)
		}
		db.Close()
		s, err := store.Open(t.Context(), path, store.Options{})
		if !errors.Is(err, store.ErrNewerSchema) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: Open() = %v, want ErrNewerSchema and %q", query, err, want)
		}
		if err == nil {
			s.Close()
		}
	}
}

func TestOriginTellsANewStoreFromAKeptAndARestoredOne(t *testing.T) {
	dir := t.TempDir()
	path, copied := filepath.Join(dir, "s.db"), filepath.Join(dir, "copy.db")
	s := open(t, path)
	if s.Origin() != store.OriginNew {
		t.Errorf("origin %s, want new", s.Origin())
	}
	if err := errors.Join(set(t.Context(), s, 1), s.Backup(t.Context(), copied), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s = open(t, path); s.Origin() != store.OriginKept {
		t.Errorf("origin %s, want kept", s.Origin())
	}
	if s = open(t, copied); s.Origin() != store.OriginRestored {
		t.Errorf("origin %s, want restored", s.Origin())
	}
	if entries, _ := filepath.Glob(filepath.Join(dir, ".*partial*")); len(entries) != 0 {
		t.Errorf("left behind: %q", entries)
	}
	s.Close()
	if s = open(t, copied); s.Origin() != store.OriginKept {
		t.Errorf("origin %s at the second opening, want kept", s.Origin())
	}
}

func TestPathsMayBeRelative(t *testing.T) {
	t.Chdir(t.TempDir())
	s := open(t, "s.db")
	if err := errors.Join(set(t.Context(), s, 1), s.Backup(t.Context(), "copy.db"), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s = open(t, "copy.db"); s.Origin() != store.OriginRestored {
		t.Errorf("origin %s, want restored", s.Origin())
	}
}

func TestGoneInstancesAndOldActivitiesAreDropped(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"),
		store.Options{Clock: func() time.Time { return now }, KeepGone: time.Hour, KeepActivities: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	must := func(fn func(*scaling.State)) {
		t.Helper()
		if err := s.Change(t.Context(), "web", func(state *scaling.State) error { fn(state); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	must(func(state *scaling.State) {
		state.Instances = []scaling.Instance{
			{ID: "gone", State: scaling.StateGone, Since: now},
			{ID: "named", State: scaling.StateGone, Since: now},
			{ID: "here", State: scaling.StateInService, Since: now},
		}
		state.Open = []scaling.Activity{{ID: "a0", Status: scaling.ActivityRunning, Remove: "named"}}
	})
	now = now.Add(59 * time.Minute)
	must(func(state *scaling.State) {
		if len(state.Instances) != 3 {
			t.Errorf("%d instances before the hour is over, want 3", len(state.Instances))
		}
	})
	now = now.Add(2 * time.Minute)
	must(func(*scaling.State) {})
	must(func(state *scaling.State) {
		if len(state.Instances) != 2 || state.Instance("gone") != nil {
			t.Errorf("instances %+v, want the gone one dropped but not the one that an activity names", state.Instances)
		}
	})
	for i := range 6 {
		must(func(state *scaling.State) {
			a := scaling.Activity{ID: fmt.Sprintf("a%d", i+1)}
			a.End(scaling.ActivityDone, "", now)
			state.Open = append(state.Open, a)
		})
	}
	list, err := s.Activities(t.Context(), "", "", 100)
	var ids []string
	for _, a := range list {
		ids = append(ids, a.ID)
	}
	if want := "a6 a5 a4 a0"; err != nil || strings.Join(ids, " ") != want {
		t.Errorf("history %q, %v; want %s (three ended and the open one)", ids, err, want)
	}
}

func TestAWildClockOrMessageCannotBlockTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path)
	wild := time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("behind", -12*3600))
	if err := s.Change(t.Context(), "web", func(state *scaling.State) error {
		state.Leases = []scaling.Lease{{Signal: scaling.High, Fingerprint: "\xff\xfe", StartsAt: wild, Expires: wild.AddDate(-12000, 0, 0)}}
		state.Open = []scaling.Activity{{ID: "a", Status: scaling.ActivityRunning, Steps: []scaling.Step{{Started: wild, Err: "bad \xff bytes"}}}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want, _ := s.View(t.Context(), "web")
	s.Close()
	got, err := open(t, path).View(t.Context(), "web")
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("after a restart\n%v\nwant\n%v\n%v", got, want, err)
	}
}

// TestAKilledProcessKeepsWhatItWasToldIsDurable kills a process that changes the
// store as fast as it can, and compares with what it had reported.
func TestAKilledProcessKeepsWhatItWasToldIsDurable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "STORE_TEST_CHANGER="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		told := 0
		for lines.Scan() {
			if told, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatalf("the changer said %q", lines.Text())
			}
			if told%20 == 10+round {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		s := open(t, path)
		state, err := s.View(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		if n := state.NextNumber; n < told || n > told+1 || len(state.Instances) != n {
			t.Errorf("round %d: the store has number %d and %d instances, the process had been told %d", round, n, len(state.Instances), told)
		}
		s.Close()
	}
}

func changer(path string) {
	ctx := context.Background()
	s, err := store.Open(ctx, path, store.Options{})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	for {
		var n int
		if err := s.Change(ctx, "web", func(state *scaling.State) error {
			state.NextNumber++
			n = state.NextNumber
			state.Instances = append(state.Instances, scaling.Instance{ID: strconv.Itoa(n)})
			return nil
		}); err != nil {
			fmt.Fprintln(os.Stdout, err)
			return
		}
		fmt.Fprintln(os.Stdout, n)
	}
}

// TestAFullOrReadOnlyDiskIsNamedAndHarmless uses a small file system of its own.
func TestAFullOrReadOnlyDiskIsNamedAndHarmless(t *testing.T) {
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	if err := syscall.Mount("scalehook-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount a small tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	path := filepath.Join(dir, "s.db")
	s := open(t, path)
	if err := set(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	desired := 1
	fill := func() {
		t.Helper()
		file, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = file.Write(make([]byte, 4096))
		}
		file.Close()
		for err = set(t.Context(), s, desired+1); err == nil && desired < 10_000; err = set(t.Context(), s, desired+1) {
			desired++
		}
		if !errors.Is(err, store.ErrFull) || scaling.ClassOf(err) != scaling.Temporary {
			t.Fatalf("Change on a full disk = %v of class %s, want ErrFull and temporary", err, scaling.ClassOf(err))
		}
	}
	empty := func() {
		t.Helper()
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	committed := func() {
		t.Helper()
		if state, err := s.View(t.Context(), "web"); err != nil || state.Desired != desired || s.Origin() == store.OriginRestored {
			t.Errorf("the state is %d, %v, origin %s; want what was committed last, %d", state.Desired, err, s.Origin(), desired)
		}
	}
	fill()
	committed()
	if err := s.Backup(t.Context(), filepath.Join(dir, "copy")); err == nil {
		t.Error("a backup fitted on a full disk")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*partial*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	empty()
	desired++
	if err := set(t.Context(), s, desired); err != nil {
		t.Errorf("Change with room again: %v", err)
	}

	// An end and a start on a full disk lose nothing either.
	fill()
	if err := s.Close(); err != nil {
		t.Errorf("Close on a full disk: %v", err)
	}
	if s, err := store.Open(t.Context(), path, store.Options{}); err == nil {
		s.Close()
	} else if !errors.Is(err, store.ErrFull) {
		t.Errorf("Open on a full disk = %v, want ErrFull", err)
	}
	empty()
	s = open(t, path)
	committed()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatalf("remount read-only: %v", err)
	}
	if _, err := store.Open(t.Context(), path, store.Options{}); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Open on a read-only disk = %v, want ErrReadOnly", err)
	}
}

func TestAGroupThatAnEarlierBuildLetGoStaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path)
	want := &scaling.Release{By: `ops "released":{`, At: fixtureTime, Done: fixtureTime, Activity: "a1"}
	if err := s.Change(t.Context(), "web", func(state *scaling.State) error {
		state.Release, state.LetGo = want, []scaling.LetGo{{ID: "i1", Name: "web-1"}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	res, err := db.ExecContext(t.Context(), `UPDATE groups SET more = replace(more, '"release":{', '"released":{')`)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := res.RowsAffected(); n != 1 || err != nil {
		t.Fatalf("%d groups, %v", n, err)
	}
	var more string
	if err := db.QueryRowContext(t.Context(), "SELECT more FROM groups").Scan(&more); err != nil || !strings.Contains(more, `"released":{"By"`) {
		t.Fatalf("%s, %v", more, err)
	}
	got, err := open(t, path).View(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.Release); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
