package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// querier is what *sql.DB, *sql.Conn and *sql.Tx have in common.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// A snapshot is a group's state as last committed. It is never altered.
type snapshot struct {
	state  scaling.State
	exists bool // as a row of groups
}

// empty is the state of a group that was never changed.
func empty(group string) snapshot {
	return snapshot{state: scaling.State{Group: group, Consumed: map[scaling.Signal]time.Time{}}}
}

// load reads the states of all groups: a few passes over the tables, whatever the
// number of groups.
func (t *tables) load(ctx context.Context, q querier) (map[string]snapshot, error) {
	states := map[string]*scaling.State{}
	err := rows(ctx, q, func(scan scanner) error {
		s, err := t.scanGroup(scan)
		s.Consumed = map[scaling.Signal]time.Time{}
		states[s.Group] = &s
		return err
	}, "SELECT "+groupColumns+", name FROM groups")
	if err != nil {
		return nil, err
	}
	// Rows of a group that has none of its own are not the store's doing.
	of := func(group string) *scaling.State {
		if s := states[group]; s != nil {
			return s
		}
		return &scaling.State{Consumed: map[scaling.Signal]time.Time{}}
	}
	err = errors.Join(
		t.instances.load(ctx, q, func(group string, i scaling.Instance) {
			s := of(group)
			i.Group = s.Group
			s.Instances = append(s.Instances, i)
		}),
		t.activities.load(ctx, q, func(group string, a scaling.Activity) {
			s := of(group)
			a.Group = s.Group
			s.Open = append(s.Open, a)
		}),
		t.leases.load(ctx, q, func(group string, l scaling.Lease) { s := of(group); s.Leases = append(s.Leases, l) }),
		t.orders.load(ctx, q, func(group string, o scaling.Order) { s := of(group); s.Orders = append(s.Orders, o) }),
		t.answers.load(ctx, q, func(group string, a scaling.Answer) { s := of(group); s.Answers = append(s.Answers, a) }),
		t.consumed.load(ctx, q, func(group string, u used) { of(group).Consumed[u.signal] = u.at }),
		t.budgets.load(ctx, q, func(group string, b bound) {
			s := of(group)
			if b.what == creation {
				s.Creations = append(s.Creations, b.at)
			} else {
				s.Removals = append(s.Removals, b.at)
			}
		}),
	)
	if err != nil {
		return nil, err
	}
	all := make(map[string]snapshot, len(states))
	for group, s := range states {
		slices.SortFunc(s.Creations, time.Time.Compare)
		slices.SortFunc(s.Removals, time.Time.Compare)
		all[group] = snapshot{state: *s, exists: true}
	}
	return all, nil
}

// The values of the column budgets.what.
const (
	creation = "creation"
	removal  = "removal"
)

func boundsOf(s *scaling.State) []bound {
	list := make([]bound, 0, len(s.Creations)+len(s.Removals))
	add := func(what string, sorted []time.Time) {
		nth := 0
		for i, at := range sorted {
			nth++
			if i == 0 || !sorted[i-1].Equal(at) {
				nth = 0
			}
			list = append(list, bound{what: what, at: at, nth: nth})
		}
	}
	add(creation, s.Creations)
	add(removal, s.Removals)
	return list
}

func usedOf(s *scaling.State) []used {
	list := make([]used, 0, len(s.Consumed))
	for signal, at := range s.Consumed {
		list = append(list, used{signal: signal, at: at})
	}
	slices.SortFunc(list, func(a, b used) int { return a.at.Compare(b.at) })
	return list
}

// plan works out what has to be written to get from before to the state that fn
// left, and what the next load will then return. after must be normal and is given
// away.
func (t *tables) plan(before snapshot, after scaling.State, keepSince time.Time) (list []statement, next snapshot, ended bool, err error) {
	group := after.Group
	forget(&after, keepSince)

	add := func(more []statement, err2 error) {
		list = append(list, more...)
		if err == nil {
			err = err2
		}
	}
	stays := func(what string) error { return fmt.Errorf("%s left the state by itself", what) }

	var more []statement
	var err2 error
	more, after.Instances, err2 = t.instances.diff(group, before.state.Instances, after.Instances, func(i *scaling.Instance) error {
		if i.State != scaling.StateGone {
			return stays("instance " + i.ID + ", which is " + string(i.State) + " and not gone,")
		}
		return nil
	})
	add(more, err2)
	var rows []scaling.Activity
	more, rows, err2 = t.activities.diff(group, before.state.Open, after.Open, func(a *scaling.Activity) error {
		return stays("activity " + a.ID + ", which has not ended,")
	})
	add(more, err2)
	after.Open = slices.DeleteFunc(rows, func(a scaling.Activity) bool {
		over := a.Status.Ended()
		ended = ended || over
		return over
	})
	more, after.Leases, err2 = t.leases.diff(group, before.state.Leases, after.Leases, free)
	add(more, err2)
	more, after.Orders, err2 = t.orders.diff(group, before.state.Orders, after.Orders, free)
	add(more, err2)
	more, after.Answers, err2 = t.answers.diff(group, before.state.Answers, after.Answers, free)
	add(more, err2)
	more, _, err2 = t.consumed.diff(group, usedOf(&before.state), usedOf(&after), free)
	add(more, err2)
	more, _, err2 = t.budgets.diff(group, boundsOf(&before.state), boundsOf(&after), free)
	add(more, err2)
	if err != nil {
		return nil, snapshot{}, false, fmt.Errorf("change group %q: %w", group, err)
	}

	if g := t.groupStatement(before, &after, len(list) > 0); g.query != "" {
		list = append(list, g)
	}
	return list, snapshot{state: after, exists: before.exists || len(list) > 0}, ended, nil
}

func free[T any](*T) error { return nil }

// groupStatement writes the group's own row where it is new or changed.
func (t *tables) groupStatement(before snapshot, after *scaling.State, rows bool) statement {
	values, old := t.groupValues(after), t.groupValues(&before.state)
	if slices.Equal(values, old) && (before.exists || !rows) {
		return statement{}
	}
	return statement{
		query: "INSERT OR REPLACE INTO groups (" + groupColumns + ", name) VALUES (?" + strings.Repeat(", ?", len(values)) + ")",
		args:  append(values, after.Group),
	}
}

// forget drops the instances that have been gone for long and that no activity
// under way names.
func forget(s *scaling.State, keepSince time.Time) {
	named := map[string]bool{}
	for _, a := range s.Open {
		if !a.Status.Ended() {
			named[a.Launch], named[a.Remove] = true, true
		}
	}
	s.Instances = slices.DeleteFunc(s.Instances, func(i scaling.Instance) bool {
		return i.State == scaling.StateGone && i.Since.Before(keepSince) && !named[i.ID]
	})
}
