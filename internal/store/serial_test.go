package store_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// An op is one Change of a random history.
type op struct {
	group string
	kind  string
	id    string // of an instance that is added

	// What became of it.
	order int    // in which its function ran, from 1; 0: it did not run
	saw   string // the state that its function was given
	err   error
}

var errOwn = errors.New("planted")

func (o *op) run(ctx context.Context, s *store.Store, order func() int) {
	defer func() {
		if o.kind == "panic" {
			if v := recover(); v != errOwn { //nolint:errorlint // the very value
				panic(v)
			}
			o.err = errOwn
		}
	}()
	if o.kind == "cancelled" {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		cancel()
	}
	o.err = s.Change(ctx, o.group, func(state *scaling.State) error {
		o.order, o.saw = order(), digest(*state)
		apply(state, o)
		switch o.kind {
		case "error":
			return errOwn
		case "panic":
			panic(errOwn)
		}
		return nil
	})
}

// apply is what an op's function does to a state.
func apply(state *scaling.State, o *op) {
	if o.kind == "nothing" {
		return
	}
	state.NextNumber++
	if strings.HasPrefix(o.id, "shared") { // what was written before the one that is refused goes too
		apply(state, &op{id: fmt.Sprintf("beside-%s-%d", o.id, state.NextNumber) + state.Group})
	}
	if o.id != "" {
		state.Instances = append(state.Instances, scaling.Instance{ID: o.id, Group: state.Group, State: scaling.StateInService, Failure: strings.Repeat("x", 3000)})
	}
}

func digest(state scaling.State) string {
	ids := []string{}
	for _, i := range state.Instances {
		ids = append(ids, i.ID)
	}
	return fmt.Sprint(state.Group, state.NextNumber, ids)
}

// TestChangesAtOnceEqualChangesOneByOne runs random changes from several callers,
// some of which fail, some while there is no room. Taken in the order in which
// their functions ran, each that is said to be done saw exactly what those before
// it left that are said to be done, and so does the store in the end, and after a
// restart.
func TestChangesAtOnceEqualChangesOneByOne(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		groups := []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(r, "groups")]
		kinds := []string{"change", "change", "change", "nothing", "error", "panic", "cancelled"}
		callers := make([][]*op, rapid.IntRange(1, 10).Draw(r, "callers"))
		for c := range callers {
			for n := range rapid.IntRange(1, 6).Draw(r, "ops") {
				o := &op{group: rapid.SampledFrom(groups).Draw(r, "group"), kind: rapid.SampledFrom(kinds).Draw(r, "kind")}
				switch rapid.IntRange(0, 3).Draw(r, "instance") {
				case 0: // one that another change may have added, in this group or another
					o.id = fmt.Sprint("shared-", rapid.IntRange(0, 2).Draw(r, "id"))
				case 1, 2:
					o.id = fmt.Sprint("own-", c, "-", n)
				}
				callers[c] = append(callers[c], o)
			}
		}
		full := rapid.Bool().Draw(r, "full")
		room := rapid.IntRange(0, 6).Draw(r, "room")

		path := filepath.Join(t.TempDir(), fmt.Sprintf("%d.db", len(callers)))
		s, err := store.Open(t.Context(), path, store.Options{})
		if err != nil {
			r.Fatal(err)
		}
		defer s.Close()
		if full {
			if err := s.Limit(t.Context(), room); err != nil {
				r.Fatal(err)
			}
		}
		var mu sync.Mutex
		ran := 0
		order := func() int {
			mu.Lock()
			defer mu.Unlock()
			ran++
			return ran
		}
		var wait sync.WaitGroup
		for _, list := range callers {
			wait.Go(func() {
				for _, o := range list {
					o.run(t.Context(), s, order)
				}
			})
		}
		wait.Wait()
		want := oneByOne(r, slices.Concat(callers...), full)
		compare(r, s, want)
		if err := s.Close(); err != nil {
			r.Fatal(err)
		}
		if s, err = store.Open(t.Context(), path, store.Options{}); err != nil {
			r.Fatal(err)
		}
		defer s.Close()
		compare(r, s, want)
	})
}

// oneByOne repeats in memory what was said to be done, and checks what each saw.
func oneByOne(r *rapid.T, ops []*op, full bool) map[string]scaling.State {
	slices.SortFunc(ops, func(a, b *op) int { return a.order - b.order })
	states := map[string]scaling.State{}
	owners := map[string]bool{} // of instances
	for _, o := range ops {
		state := states[o.group]
		state.Group = o.group
		if o.kind == "cancelled" {
			if !errors.Is(o.err, context.Canceled) || o.order != 0 {
				r.Fatalf("cancelled: %v, run %d", o.err, o.order)
			}
			continue
		}
		if full && errors.Is(o.err, store.ErrFull) {
			if scaling.ClassOf(o.err) != scaling.Temporary {
				r.Fatalf("no room is of class %s", scaling.ClassOf(o.err))
			}
			continue
		}
		if o.order == 0 {
			r.Fatalf("%s was not run: %v", o.kind, o.err)
		}
		if o.saw != digest(state) && o.kind != "panic" { // a panic is not answered
			r.Fatalf("%s number %d saw %s, and one by one it would be %s", o.kind, o.order, o.saw, digest(state))
		}
		switch taken := owners[o.id] && o.kind != "nothing"; {
		case o.kind == "error" || o.kind == "panic":
			if o.err != errOwn { //nolint:errorlint // the very error is promised
				r.Fatalf("%s: %v, want the function's own error", o.kind, o.err)
			}
			continue
		case taken:
			if o.err == nil {
				r.Fatalf("instance %s is there twice", o.id)
			}
			continue
		case o.err != nil:
			r.Fatalf("%s: %v", o.kind, o.err)
		}
		state = state.Clone()
		apply(&state, o)
		states[o.group] = state
		if o.id != "" && o.kind != "nothing" {
			owners[o.id] = true
		}
	}
	return states
}

func compare(r *rapid.T, s *store.Store, want map[string]scaling.State) {
	for group := range maps.Keys(want) {
		got, err := s.View(context.Background(), group)
		if err != nil || digest(got) != digest(want[group]) {
			r.Fatalf("the store has %s, %v; one by one it would be %s", digest(got), err, digest(want[group]))
		}
	}
}
