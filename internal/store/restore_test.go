package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// TestABackupWhileChangesRunIsOfOneMoment takes backups while several chains of
// groups change without a pause. Within a chain each number is given to one group
// after the other, so that a copy of one moment has falling numbers that differ
// by at most one from the first group to the last.
func TestABackupWhileChangesRunIsOfOneMoment(t *testing.T) {
	const chains, links = 3, 4
	dir := t.TempDir()
	s := open(t, filepath.Join(dir, "s.db"))
	name := func(chain, link int) string { return fmt.Sprintf("chain%d-group%d", chain, link) }
	step := func(group string, n int) error {
		return s.Change(t.Context(), group, func(state *scaling.State) error {
			state.NextNumber = n
			state.Instances = append(state.Instances, scaling.Instance{ID: fmt.Sprint(group, "-", n), State: scaling.StateInService, Failure: strings.Repeat("x", 400)})
			// An activity is always under way, and another one has ended.
			if len(state.Open) > 0 {
				state.Open[0].End(scaling.ActivityDone, "", time.Now())
			}
			state.Open = append(state.Open, scaling.Activity{ID: fmt.Sprintf("%s-%06d", group, n), Status: scaling.ActivityRunning, Launch: state.Instances[n-1].ID})
			return nil
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	progress := make([]int, chains)
	var mu sync.Mutex
	at := func(chain int) int {
		mu.Lock()
		defer mu.Unlock()
		return progress[chain]
	}
	for chain := range chains {
		wait.Go(func() {
			for n := 1; ctx.Err() == nil; n++ {
				for link := range links {
					if err := step(name(chain, link), n); err != nil {
						t.Error(err)
						return
					}
				}
				mu.Lock()
				progress[chain] = n // acknowledged for all links
				mu.Unlock()
			}
		})
	}
	defer wait.Wait()
	defer stop()
	type taken struct {
		file          string
		before, after [chains]int
	}
	var backups []taken
	for i := range 5 {
		b := taken{file: filepath.Join(dir, fmt.Sprintf("copy%d.db", i))}
		// More of the world between one and the next.
		for base := at(0); at(0) < base+5 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		for chain := range chains {
			b.before[chain] = at(chain)
		}
		if err := s.Backup(t.Context(), b.file); err != nil {
			t.Fatal(err)
		}
		for chain := range chains {
			b.after[chain] = at(chain) + 1
		}
		backups = append(backups, b)
	}
	stop()
	wait.Wait()
	for _, b := range backups {
		var verdict string
		if err := shell(t, b.file).QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
			t.Errorf("%s: integrity %q, %v", b.file, verdict, err)
		}
		copied := open(t, b.file)
		for chain := range chains {
			last := 0
			for link := range links {
				state, err := copied.View(t.Context(), name(chain, link))
				if err != nil {
					t.Fatal(err)
				}
				n := state.NextNumber
				if len(state.Instances) != n || len(state.Open) != 1 || state.Open[0].ID != fmt.Sprintf("%s-%06d", state.Group, n) {
					t.Errorf("%s: number %d with %d instances and activities %+v: never committed", state.Group, n, len(state.Instances), state.Open)
				}
				if link > 0 && (n > last || n < last-1) {
					t.Errorf("chain %d: link %d has %d after %d: not of one moment", chain, link, n, last)
				}
				if n < b.before[chain] || n > b.after[chain]+1 {
					t.Errorf("chain %d: %d, want what was acknowledged, %d to %d", chain, n, b.before[chain], b.after[chain])
				}
				last = n
				if state.Pause == nil || !state.Pause.In || !state.Pause.Out {
					t.Errorf("%s is not paused: %+v", state.Group, state.Pause)
				}
			}
		}
		copied.Close()
	}
}

func restoreInto(t *testing.T, path, from string) store.Restored {
	t.Helper()
	done, err := store.Restore(t.Context(), path, from, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestARestoredStoreStartsPausedWithItsReasonAndKeepsTheOldOne(t *testing.T) {
	dir := t.TempDir()
	path, backup := filepath.Join(dir, "s.db"), filepath.Join(dir, "backup.db")
	s := open(t, path)
	if err := s.Change(t.Context(), "web", func(state *scaling.State) error {
		*state = ten("web")
		state.Orders = []scaling.Order{{ID: "o1", Kind: scaling.OrderScaleIn, Count: 1}}
		state.Open = []scaling.Activity{{ID: "a1", Status: scaling.ActivityRunning}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want, err := s.View(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Backup(t.Context(), backup), set(t.Context(), s, 99)); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Restore(t.Context(), path, backup, time.Now); !errors.Is(err, store.ErrInUse) {
		t.Errorf("Restore() of a store in use = %v, want ErrInUse", err)
	}
	if state, _ := s.View(t.Context(), "web"); state.Desired != 99 || set(t.Context(), s, 100) != nil {
		t.Error("a refused restore disturbed the owner")
	}
	epoch := s.Epoch()
	s.Close()

	done := restoreInto(t, path, backup)
	if !slices.Equal(done.Groups, []string{"web"}) || done.MadeAt.IsZero() || done.Before == "" {
		t.Errorf("Restore() = %+v", done)
	}
	s = open(t, path)
	got, err := s.View(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if s.Origin() != store.OriginRestored || !strings.HasPrefix(s.Why(), "restored from "+backup+" at ") {
		t.Errorf("origin %s: %s", s.Origin(), s.Why())
	}
	if p := got.Pause; p == nil || !p.In || !p.Out || !p.Until.IsZero() || p.Reason != s.Why() || p.By != "scalehook" {
		t.Errorf("pause %+v", got.Pause)
	}
	want.Pause, want.Leases, want.Orders = got.Pause, nil, nil
	if diff := cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got)); diff != "" {
		t.Errorf("the rest of the state (-want +got):\n%s", diff)
	}
	if s.Epoch() <= epoch {
		t.Errorf("epoch %d after %d", s.Epoch(), epoch)
	}
	s.Close()
	if s = open(t, path); s.Origin() != store.OriginKept {
		t.Errorf("origin %s at the second start", s.Origin())
	}
	s.Close()

	// The way back is the same.
	restoreInto(t, path, done.Before)
	s = open(t, path)
	if got, err := s.View(t.Context(), "web"); err != nil || got.Desired != 100 || got.Pause == nil || s.Origin() != store.OriginRestored {
		t.Errorf("the old one came back as %d, %+v, %s, %v", got.Desired, got.Pause, s.Origin(), err)
	}
}

func TestADamagedStoreIsReplacedAndKeptWithItsLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	killed(t, path, 20)
	backup := path + ".backup"
	if err := store.BackupStopped(t.Context(), path, backup); err != nil {
		t.Fatal(err)
	}
	// BackupStopped folded the log in; there is one again, of a store that is then
	// made unreadable.
	killed(t, path, 40)
	garbage := []byte(strings.Repeat("garbage!", 1000))
	if err := os.WriteFile(path, garbage, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), path, store.Options{}); !errors.Is(err, store.ErrNotAStore) {
		t.Fatalf("Open() = %v", err)
	}
	done := restoreInto(t, path, backup)
	if kept, err := os.ReadFile(done.Before); err != nil || string(kept) != string(garbage) {
		t.Errorf("the damaged one was not kept as it is: %v", err)
	}
	if _, err := os.Stat(done.Before + "-wal"); err != nil {
		t.Errorf("its log was not kept: %v", err)
	}
	s := open(t, path)
	if n := number(t, s); n < 20 || s.Origin() != store.OriginRestored {
		t.Errorf("number %d, origin %s", n, s.Origin())
	}
}

func TestRestoreRefusesWhatIsNoSoundStoreAndTouchesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	s := open(t, path)
	if err := errors.Join(set(t.Context(), s, 5), s.Backup(t.Context(), filepath.Join(dir, "backup.db")), s.Close()); err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	whole, err := os.ReadFile(filepath.Join(dir, "backup.db"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := append([]byte{}, whole...)
	clear(damaged[2*4096 : 3*4096])
	foreign := filepath.Join(dir, "foreign.db")
	newer := write("newer.db", whole)
	for name, query := range map[string]string{foreign: "CREATE TABLE other (x)", newer: "PRAGMA user_version = 99"} {
		if _, err := shell(t, name).Exec(query); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "link.db")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, from, want string }{
		{"a file that is not there", filepath.Join(dir, "none.db"), "no such file"},
		{"an empty file", write("empty.db", nil), "empty"},
		{"a text", write("text.db", []byte(strings.Repeat("text\n", 500))), store.ErrNotAStore.Error()},
		{"a backup that was cut off", write("cut.db", whole[:len(whole)/2]), "this copy is damaged"},
		{"a damaged backup", write("damaged.db", damaged), "this copy is damaged"},
		{"another program's database", foreign, store.ErrNotAStore.Error()},
		{"a newer scalehook's backup", newer, "schema 99, this one knows"},
		{"the store itself", path, "the store itself"},
		{"the store itself by another name", link, "the store itself"},
	} {
		if _, err := store.Restore(t.Context(), path, c.from, time.Now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the store was altered: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*partial*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*before-restore*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if s := open(t, path); s.Origin() != store.OriginKept {
		t.Errorf("origin %s", s.Origin())
	}
}

func TestABackupOfAnOlderSchemaCanBeRestored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new folder", "s.db")
	backup := filepath.Join(t.TempDir(), "schema1.sqlite") // SQLite leaves files beside what it opens
	copyFile(t, "testdata/schema1.sqlite", backup)
	done := restoreInto(t, path, backup)
	partial := filepath.Join(filepath.Dir(path), ".s.db.partial-12345") // of a restore that was killed
	if err := os.WriteFile(partial, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(done.Groups, []string{"api", "db", "web"}) || done.Before != "" {
		t.Errorf("Restore() = %+v", done)
	}
	s := open(t, path)
	state, err := s.View(t.Context(), "web")
	if err != nil || s.Origin() != store.OriginRestored || len(state.Open) != 1 || state.Pause == nil {
		t.Errorf("origin %s, %+v, %v", s.Origin(), state, err)
	}
	if _, err := os.Stat(partial); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed restore left is still there: %v", err)
	}
}

func TestABackupOfAStoppedStoreTakesNothingFromIt(t *testing.T) {
	dir := t.TempDir()
	path, one, two := filepath.Join(dir, "s.db"), filepath.Join(dir, "one.db"), filepath.Join(dir, "two.db")
	s := open(t, path)
	if err := set(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	if err := store.BackupStopped(t.Context(), path, one); !errors.Is(err, store.ErrInUse) {
		t.Errorf("BackupStopped() of a store in use = %v", err)
	}
	epoch := s.Epoch()
	s.Close()
	if err := store.BackupStopped(t.Context(), path, one); err != nil {
		t.Fatal(err)
	}
	// A backup that was put back and backed up again before its first start is
	// still known as a backup afterwards.
	restoreInto(t, path, one)
	if err := store.BackupStopped(t.Context(), path, two); err != nil {
		t.Fatal(err)
	}
	if err := store.BackupStopped(t.Context(), filepath.Join(dir, "none.db"), two+"x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("BackupStopped() of nothing = %v", err)
	}
	if s = open(t, path); s.Origin() != store.OriginRestored || s.Epoch() != epoch+1 {
		t.Errorf("origin %s, epoch %d, want restored and %d", s.Origin(), s.Epoch(), epoch+1)
	}
}
