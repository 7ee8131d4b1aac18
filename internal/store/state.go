package store

import (
	"context"
	"database/sql"
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

func load(ctx context.Context, q querier, group string) (snapshot, error) {
	found, err := collect(ctx, q, scanGroup, "SELECT "+groupColumns+" FROM groups WHERE name = ?", group)
	if err != nil {
		return snapshot{}, err
	}
	if len(found) == 0 {
		return snapshot{state: scaling.State{Group: group, Consumed: map[scaling.Signal]time.Time{}}}, nil
	}
	s := found[0]
	s.Group, s.Consumed = group, map[scaling.Signal]time.Time{}
	if s.Instances, err = instances().load(ctx, q, group); err != nil {
		return snapshot{}, err
	}
	for i := range s.Instances {
		s.Instances[i].Group = group
	}
	if s.Open, err = activities().load(ctx, q, group); err != nil {
		return snapshot{}, err
	}
	for i := range s.Open {
		s.Open[i].Group = group
	}
	if s.Leases, err = leases().load(ctx, q, group); err != nil {
		return snapshot{}, err
	}
	if s.Orders, err = orders().load(ctx, q, group); err != nil {
		return snapshot{}, err
	}
	if s.Answers, err = answers().load(ctx, q, group); err != nil {
		return snapshot{}, err
	}
	signals, err := consumed().load(ctx, q, group)
	if err != nil {
		return snapshot{}, err
	}
	for _, u := range signals {
		s.Consumed[u.signal] = u.at
	}
	bounds, err := budgets().load(ctx, q, group)
	if err != nil {
		return snapshot{}, err
	}
	for _, b := range bounds {
		if b.what == creation {
			s.Creations = append(s.Creations, b.at)
		} else {
			s.Removals = append(s.Removals, b.at)
		}
	}
	slices.SortFunc(s.Creations, time.Time.Compare)
	slices.SortFunc(s.Removals, time.Time.Compare)
	return snapshot{state: s, exists: true}, nil
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
// left, and what the next load will then return. after must be normal.
func plan(before snapshot, after scaling.State, keepSince time.Time) (list []statement, next snapshot, ended bool, err error) {
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
	more, after.Instances, err2 = instances().diff(group, before.state.Instances, after.Instances, func(i scaling.Instance) error {
		if i.State != scaling.StateGone {
			return stays("instance " + i.ID + ", which is " + string(i.State) + " and not gone,")
		}
		return nil
	})
	add(more, err2)
	var rows []scaling.Activity
	more, rows, err2 = activities().diff(group, before.state.Open, after.Open, func(a scaling.Activity) error {
		return stays("activity " + a.ID + ", which has not ended,")
	})
	add(more, err2)
	after.Open = slices.DeleteFunc(rows, func(a scaling.Activity) bool {
		over := a.Status.Ended()
		ended = ended || over
		return over
	})
	more, after.Leases, err2 = leases().diff(group, before.state.Leases, after.Leases, free)
	add(more, err2)
	more, after.Orders, err2 = orders().diff(group, before.state.Orders, after.Orders, free)
	add(more, err2)
	more, after.Answers, err2 = answers().diff(group, before.state.Answers, after.Answers, free)
	add(more, err2)
	more, _, err2 = consumed().diff(group, usedOf(&before.state), usedOf(&after), free)
	add(more, err2)
	more, _, err2 = budgets().diff(group, boundsOf(&before.state), boundsOf(&after), free)
	add(more, err2)
	if err != nil {
		return nil, snapshot{}, false, fmt.Errorf("change group %q: %w", group, err)
	}

	if g := groupStatement(before, &after, len(list) > 0); g.query != "" {
		list = append(list, g)
	}
	return list, snapshot{state: normal(&after), exists: before.exists || len(list) > 0}, ended, nil
}

func free[T any](T) error { return nil }

// groupStatement writes the group's own row where it is new or changed.
func groupStatement(before snapshot, after *scaling.State, rows bool) statement {
	values, old := groupValues(after), groupValues(&before.state)
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
