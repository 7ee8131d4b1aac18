package scalingtest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/scaling"
)

// StoreUnderTest is a place that a scaling.Store lives in.
type StoreUnderTest struct {
	// Open opens the store of that place: empty for the first time, as it was left
	// after a Close. The suite closes what it opens.
	Open func(t *testing.T) scaling.Store
	// OpenFile opens a file that Backup made.
	OpenFile func(t *testing.T, file string) scaling.Store
}

// Store runs the conformance suite of scaling.Store. fresh is called once per
// case and returns an empty place.
func Store(t *testing.T, fresh func(t *testing.T) StoreUnderTest) {
	cases := []struct {
		name string
		run  func(t *testing.T, place StoreUnderTest)
	}{
		{"an unknown group starts empty and is not listed by being looked at", storeStartsEmpty},
		{"every field of a state survives a restart", storeKeepsEverything},
		{"an error of the function writes nothing and is returned as it is", storeFnError},
		{"a panic of the function writes nothing and leaves the store usable", storeFnPanic},
		{"what a view or a change was given is not shared with the store", storeCopies},
		{"changes of one group are serialised", storeSerialises},
		{"an ended activity leaves the state and stays in the history", storeEndedActivity},
		{"history pages from the newest to the oldest, of one group or of all", storeHistory},
		{"an instance or an activity cannot get lost", storeLosesNothing},
		{"a cancelled context changes nothing", storeCancelled},
		{"a backup is a complete copy and never overwrites", storeBackup},
		{"a closed store refuses", storeClosed},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, fresh(t)) })
	}
}

func opened(t *testing.T, place StoreUnderTest) scaling.Store {
	t.Helper()
	s := place.Open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return s
}

func change(t *testing.T, s scaling.Store, group string, fn func(*scaling.State)) {
	t.Helper()
	err := s.Change(t.Context(), group, func(state *scaling.State) error {
		fn(state)
		return nil
	})
	if err != nil {
		t.Fatalf("Change: %v", err)
	}
}

func view(t *testing.T, s scaling.Store, group string) scaling.State {
	t.Helper()
	state, err := s.View(t.Context(), group)
	if err != nil {
		t.Fatalf("View: %v", err)
	}
	return state
}

func sameState(t *testing.T, what string, want, got scaling.State) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func storeStartsEmpty(t *testing.T, place StoreUnderTest) {
	s := opened(t, place)
	sameState(t, "view of an unknown group", scaling.State{Group: "web"}, view(t, s, "web"))
	change(t, s, "web", func(state *scaling.State) {
		sameState(t, "state given to the first change", scaling.State{Group: "web"}, *state)
	})
	if groups, err := s.Groups(t.Context()); err != nil || len(groups) != 0 {
		t.Errorf("Groups() = %q, %v; want none", groups, err)
	}
	change(t, s, "web", func(state *scaling.State) { state.Desired = 1 })
	change(t, s, "db", func(state *scaling.State) { state.Desired = 1 })
	groups, err := s.Groups(t.Context())
	slices.Sort(groups)
	if err != nil || !slices.Equal(groups, []string{"db", "web"}) {
		t.Errorf("Groups() = %q, %v; want db and web", groups, err)
	}
}

// Filled returns a state in which no field has its zero value, so that a field
// which a store forgets is noticed, also one that is added later.
func Filled(group string) scaling.State {
	f := filler{now: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)}
	var s scaling.State
	f.fill(reflect.ValueOf(&s).Elem())
	s.Group = group
	for i := range s.Instances {
		s.Instances[i].Group = group
		s.Instances[i].State = scaling.StateInService
	}
	for i := range s.Open {
		s.Open[i].Group = group
		s.Open[i].Status = scaling.ActivityRunning
	}
	s.Consumed = map[scaling.Signal]time.Time{scaling.High: f.time(), scaling.Low: f.time()}
	s.Creations = append(s.Creations, s.Creations[len(s.Creations)-1]) // two of one moment
	return s
}

type filler struct {
	now time.Time
	n   int
}

func (f *filler) time() time.Time {
	f.n++
	return f.now.Add(time.Duration(f.n) * time.Second)
}

func (f *filler) fill(v reflect.Value) {
	f.n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(f.time()))
		return
	case time.Duration:
		v.SetInt(int64(f.n)*int64(time.Millisecond) + 1)
		return
	}
	if v.Type() == reflect.TypeOf(scaling.Instance{}.Address) {
		v.Set(reflect.ValueOf(address(f.n)))
		return
	}
	//nolint:exhaustive // a kind that is not here has to be added, and says so
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			f.fill(field)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Map: // filled by the caller
	case reflect.String:
		v.SetString(fmt.Sprintf("text-%d with 'quotes', \x00 and ünïcode", f.n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int:
		v.SetInt(int64(f.n))
	default:
		panic("the filler does not know " + v.Type().String())
	}
}

func storeKeepsEverything(t *testing.T, place StoreUnderTest) {
	want := Filled("web")
	s := place.Open(t)
	change(t, s, "web", func(state *scaling.State) {
		filled := Filled("web")
		*state = filled
		// Other zones and a monotonic reading are the same moments.
		state.HoldUntil = state.HoldUntil.In(time.FixedZone("somewhere", 3600))
	})
	sameState(t, "state after the change", want, view(t, s, "web"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = place.Open(t)
	sameState(t, "state after a restart", want, view(t, s, "web"))

	// Everything changes, things come and go.
	change(t, s, "web", func(state *scaling.State) {
		state.Pause = nil
		state.Desired++
		state.Instances[0].State = scaling.StateDraining
		state.Instances = append(state.Instances, scaling.Instance{ID: "new", Group: "web"})
		state.Open[1].Enter("delete", want.HoldUntil)
		state.Leases = state.Leases[1:]
		state.Orders = append(state.Orders[:1], scaling.Order{ID: "o-new", Hold: time.Hour})
		delete(state.Consumed, scaling.Low)
		state.Creations = state.Creations[1:]
		state.Removals = append(state.Removals, want.HoldUntil)
		state.Answers = nil
	})
	want = view(t, s, "web")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = opened(t, place)
	sameState(t, "state after another restart", want, view(t, s, "web"))
	if got := want.Instances[2].ID; got != "new" {
		t.Errorf("the new instance is not the last: %q", got)
	}
}

func storeFnError(t *testing.T, place StoreUnderTest) {
	s := opened(t, place)
	change(t, s, "web", func(state *scaling.State) { state.Desired = 1 })
	wrong := errors.New("no")
	err := s.Change(t.Context(), "web", func(state *scaling.State) error {
		state.Desired = 2
		state.Instances = append(state.Instances, scaling.Instance{ID: "x"})
		return wrong
	})
	if err != wrong { //nolint:errorlint // the very error is promised
		t.Errorf("Change() = %v, want the function's error itself", err)
	}
	sameState(t, "state", scaling.State{Group: "web", Desired: 1}, view(t, s, "web"))
}

func storeFnPanic(t *testing.T, place StoreUnderTest) {
	s := opened(t, place)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = s.Change(t.Context(), "web", func(state *scaling.State) error {
			state.Desired = 2
			panic("planted")
		})
	}()
	change(t, s, "web", func(state *scaling.State) {
		if state.Desired != 0 {
			t.Error("something of the panicked change was kept")
		}
		state.Desired = 1
	})
}

func storeCopies(t *testing.T, place StoreUnderTest) {
	s := opened(t, place)
	var leaked *scaling.State
	mine := Filled("web")
	change(t, s, "web", func(state *scaling.State) {
		*state = mine
		leaked = state
	})
	want := view(t, s, "web")
	scribble := func(state *scaling.State) {
		state.Instances[0].Name = "scribble"
		state.Open[0].Steps[0].Name = "scribble"
		state.Pause.By = "scribble"
		state.Consumed[scaling.High] = time.Time{}
	}
	scribble(leaked)
	seen := view(t, s, "web")
	scribble(&seen)
	sameState(t, "state after others scribbled on theirs", want, view(t, s, "web"))
}

func storeSerialises(t *testing.T, place StoreUnderTest) {
	s := opened(t, place)
	const workers, each = 4, 10
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			group := []string{"web", "db"}[w%2]
			for range each {
				if err := s.Change(t.Context(), group, func(state *scaling.State) error {
					state.NextNumber++
					return nil
				}); err != nil {
					t.Errorf("Change: %v", err)
				}
				if _, err := s.View(t.Context(), group); err != nil {
					t.Errorf("View: %v", err)
				}
			}
		})
	}
	wait.Wait()
	for _, group := range []string{"web", "db"} {
		if got := view(t, s, group).NextNumber; got != workers/2*each {
			t.Errorf("%d changes of %s were counted, want %d", got, group, workers/2*each)
		}
	}
}

func activity(id string) scaling.Activity {
	return scaling.Activity{ID: id, Kind: scaling.ActivityScaleOut, Status: scaling.ActivityPending}
}

func storeEndedActivity(t *testing.T, place StoreUnderTest) {
	s := opened(t, place)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	change(t, s, "web", func(state *scaling.State) {
		at := activity("a3")
		at.End(scaling.ActivityDone, "at once", now)
		state.Open = []scaling.Activity{activity("a1"), activity("a2"), at}
	})
	if open := view(t, s, "web").Open; len(open) != 2 {
		t.Fatalf("%d open activities, want a1 and a2: %+v", len(open), open)
	}
	change(t, s, "web", func(state *scaling.State) {
		state.Activity("a1").Enter("creating", now)
		state.Activity("a1").End(scaling.ActivityUndone, "no room", now.Add(time.Second))
	})
	open := view(t, s, "web").Open
	if len(open) != 1 || open[0].ID != "a2" {
		t.Errorf("open activities %+v, want a2 only", open)
	}
	all, err := s.Activities(t.Context(), "web", "", 10)
	if err != nil || len(all) != 3 {
		t.Fatalf("Activities() = %+v, %v; want three", all, err)
	}
	want := activity("a1")
	want.Group, want.Status, want.Outcome = "web", scaling.ActivityUndone, "no room"
	want.Ended = now.Add(time.Second)
	want.Steps = []scaling.Step{{Name: "creating", Started: now, Ended: now.Add(time.Second)}}
	if diff := cmp.Diff(want, all[2]); diff != "" {
		t.Errorf("activity in the history (-want +got):\n%s", diff)
	}
	if err := s.Change(t.Context(), "web", func(state *scaling.State) error {
		state.Open = append(state.Open, activity("a1"))
		return nil
	}); err == nil {
		t.Error("an ended activity's id could be used again")
	}
}

func storeHistory(t *testing.T, place StoreUnderTest) {
	s := opened(t, place)
	for i, group := range []string{"web", "db", "web", "web", "db"} {
		change(t, s, group, func(state *scaling.State) {
			state.Open = append(state.Open, activity(fmt.Sprintf("a%d", i)))
		})
	}
	for _, c := range []struct {
		group, before string
		limit         int
		want          []string
	}{
		{"", "", 10, []string{"a4", "a3", "a2", "a1", "a0"}},
		{"web", "", 10, []string{"a3", "a2", "a0"}},
		{"web", "", 2, []string{"a3", "a2"}},
		{"web", "a2", 2, []string{"a0"}},
		{"", "a3", 2, []string{"a2", "a1"}},
		{"none", "", 10, nil},
		{"", "", 0, nil},
	} {
		list, err := s.Activities(t.Context(), c.group, c.before, c.limit)
		var got []string
		for _, a := range list {
			got = append(got, a.ID)
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("Activities(%q, %q, %d) = %q, %v; want %q", c.group, c.before, c.limit, got, err, c.want)
		}
	}
}

func storeLosesNothing(t *testing.T, place StoreUnderTest) {
	s := opened(t, place)
	change(t, s, "web", func(state *scaling.State) {
		state.Instances = []scaling.Instance{{ID: "i1", State: scaling.StateInService}}
		state.Open = []scaling.Activity{activity("a1")}
	})
	want := view(t, s, "web")
	for name, fn := range map[string]func(*scaling.State){
		"an instance that is not gone": func(state *scaling.State) { state.Instances = nil },
		"an activity that goes on":     func(state *scaling.State) { state.Open = nil },
		"an instance twice":            func(state *scaling.State) { state.Instances = append(state.Instances, state.Instances[0]) },
	} {
		if err := s.Change(t.Context(), "web", func(state *scaling.State) error { fn(state); return nil }); err == nil {
			t.Errorf("%s: the change was taken", name)
		}
	}
	if err := s.Change(t.Context(), "other", func(state *scaling.State) error {
		state.Instances = []scaling.Instance{{ID: "i1"}}
		return nil
	}); err == nil {
		t.Error("one instance could be in two groups")
	}
	sameState(t, "state", want, view(t, s, "web"))
}

func storeCancelled(t *testing.T, place StoreUnderTest) {
	s := opened(t, place)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Change(ctx, "web", func(*scaling.State) error {
		t.Error("the function was run")
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Change() = %v, want the context's error", err)
	}
	// A context that ends while the function runs does not tear the change.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	if err := s.Change(ctx, "web", func(state *scaling.State) error {
		state.Desired = 1
		cancel()
		return nil
	}); err == nil && view(t, s, "web").Desired != 1 {
		t.Error("a change was reported as done and is not there")
	} else if err != nil && view(t, s, "web").Desired != 0 {
		t.Error("a change was reported as failed and is there")
	}
}

func storeBackup(t *testing.T, place StoreUnderTest) {
	s := opened(t, place)
	change(t, s, "web", func(state *scaling.State) {
		state.Desired = 3
		state.Instances = []scaling.Instance{{ID: "i1", State: scaling.StateInService}}
		state.Leases = []scaling.Lease{{Signal: scaling.Low, Fingerprint: "f"}}
	})
	file := filepath.Join(t.TempDir(), "copy")
	if err := s.Backup(t.Context(), file); err != nil {
		t.Fatalf("Backup: %v", err)
	}
	change(t, s, "web", func(state *scaling.State) { state.Desired = 4 })
	if err := s.Backup(t.Context(), file); err == nil {
		t.Error("a backup was overwritten")
	}
	restored := place.OpenFile(t, file)
	t.Cleanup(func() {
		if err := restored.Close(); err != nil {
			t.Errorf("close the copy: %v", err)
		}
	})
	got := view(t, restored, "web")
	if got.Desired != 3 || len(got.Instances) != 1 {
		t.Errorf("the copy has %+v", got)
	}
	if got.Pause == nil || !got.Pause.In || !got.Pause.Out || len(got.Leases) != 0 {
		t.Errorf("a restored store must start paused and without conditions: %+v, %+v", got.Pause, got.Leases)
	}
	if now := view(t, s, "web"); now.Pause != nil || now.Desired != 4 || len(now.Leases) != 1 {
		t.Errorf("the backup altered its original: %+v", now)
	}
}

func storeClosed(t *testing.T, place StoreUnderTest) {
	s := place.Open(t)
	change(t, s, "web", func(state *scaling.State) { state.Desired = 1 })
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	if err := s.Change(t.Context(), "web", func(*scaling.State) error { return nil }); err == nil {
		t.Error("a closed store took a change")
	}
	if _, err := s.View(t.Context(), "web"); err == nil {
		t.Error("a closed store showed a group")
	}
	if _, err := s.Groups(t.Context()); err == nil {
		t.Error("a closed store listed groups")
	}
}
