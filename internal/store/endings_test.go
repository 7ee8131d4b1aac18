package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// begin begins an activity, end ends it with a time of our choice.
func begin(t *testing.T, s *store.Store, group, id string) {
	t.Helper()
	if err := s.Change(t.Context(), group, func(state *scaling.State) error {
		a := scaling.Activity{ID: id, Group: group, Kind: scaling.ActivityFill, Status: scaling.ActivityPending, Cause: scaling.Cause{Kind: scaling.CauseBounds}}
		a.Enter("creating", fixtureTime)
		state.Open = append(state.Open, a)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func end(t *testing.T, s *store.Store, group, id string, at time.Time) {
	t.Helper()
	if err := s.Change(t.Context(), group, func(state *scaling.State) error {
		state.Activity(id).End(scaling.ActivityDone, "in service", at)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func endings(t *testing.T, s *store.Store, after int64, limit int) (out []string) {
	t.Helper()
	list, err := s.Endings(t.Context(), after, limit)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		out = append(out, fmt.Sprintf("%d %s %s %s", e.Position, e.Activity.Group, e.Activity.ID, e.Activity.Outcome))
	}
	return out
}

func TestEndingsAreInTheOrderOfTheirCommitsWhateverTheClockSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path)
	begin(t, s, "web", "a1")
	begin(t, s, "db", "a2")
	begin(t, s, "web", "a3")
	if got := endings(t, s, 0, 10); got != nil {
		t.Errorf("before any end: %q", got)
	}
	end(t, s, "web", "a3", fixtureTime.Add(time.Hour))
	end(t, s, "db", "a2", fixtureTime.Add(-time.Hour)) // the clock was set back
	end(t, s, "web", "a1", fixtureTime)
	want := []string{"1 web a3 in service", "2 db a2 in service", "3 web a1 in service"}
	if diff := cmp.Diff(want, endings(t, s, 0, 10)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[1:2], endings(t, s, 1, 1)); diff != "" {
		t.Errorf("after the first, one (-want +got):\n%s", diff)
	}

	// A change that fails leaves no gap, one that ends at once is counted too.
	if err := s.Change(t.Context(), "web", func(*scaling.State) error { return errors.New("planted") }); err == nil {
		t.Fatal("it was done")
	}
	if err := s.Change(t.Context(), "api", func(state *scaling.State) error {
		a := scaling.Activity{ID: "a4", Group: "api", Kind: scaling.ActivityCleanup, Status: scaling.ActivityPending}
		a.End(scaling.ActivityFailed, "at once", fixtureTime)
		state.Open = append(state.Open, a)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want = append(want, "4 api a4 at once")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	if diff := cmp.Diff(want, endings(t, s, 0, 10)); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
	if last, err := s.LastEnding(t.Context()); err != nil || last != 4 {
		t.Errorf("last: %d, %v", last, err)
	}
}

func TestAPositionIsNeverGivenTwice(t *testing.T) {
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "s.db"), store.Options{KeepActivities: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// The history keeps the one begun last, so the others are dropped as they end.
	begin(t, s, "web", "a1")
	begin(t, s, "web", "a2")
	begin(t, s, "web", "a3")
	end(t, s, "web", "a3", fixtureTime)
	end(t, s, "web", "a2", fixtureTime)
	end(t, s, "web", "a1", fixtureTime)
	begin(t, s, "web", "a4")
	end(t, s, "web", "a4", fixtureTime)
	if diff := cmp.Diff([]string{"4 web a4 in service"}, endings(t, s, 0, 10)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestHowFarReceiversWereToldIsDurable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path)
	told := func(want map[string]int64) {
		t.Helper()
		got, err := s.Told(t.Context())
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	told(map[string]int64{})
	for _, next := range []map[string]int64{{"chat": 7, "tickets": 0}, {"chat": 9}} {
		if err := s.SetTold(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		told(next)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.SetTold(t.Context(), nil); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a store that is closed: %v", err)
	}
	s = open(t, path)
	told(map[string]int64{"chat": 9})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.SetTold(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that has left: %v", err)
	}
	told(map[string]int64{"chat": 9})
}

// A poll must not read the history, which has a thousand activities of each group.
func TestEndingsAreFoundByTheirIndex(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"))
	plan, err := store.PlanOfEndings(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if want := "SEARCH activities USING INDEX activities_ending (ending>?)"; plan != want {
		t.Errorf("plan %q, want %q", plan, want)
	}
}

func TestAnEndingThatCannotBeReadKeepsBackNoOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path)
	for _, id := range []string{"a1", "a2", "a3", "a4"} {
		begin(t, s, "web", id)
		end(t, s, "web", id, fixtureTime)
	}
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for id, change := range map[string]string{"a2": "steps = 'no list'", "a3": "more = '{\"of_a_newer_program\": 1}'"} {
		if _, err := db.ExecContext(t.Context(), "UPDATE activities SET "+change+" WHERE id = ?", id); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.Endings(t.Context(), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, fmt.Sprintf("%d %s readable %t", e.Position, e.Activity.ID, e.Err == nil))
	}
	want := []string{"1 a1 readable true", "2 a2 readable false", "3 a3 readable false", "4 a4 readable true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if list[1].Err != nil && !errors.Is(list[1].Err, store.ErrCorrupt) {
		t.Errorf("the error: %v", list[1].Err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Endings(cancelled, 0, 10); err == nil {
		t.Error("a list that was broken off is no list")
	}
}
