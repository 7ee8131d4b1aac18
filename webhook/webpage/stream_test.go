package webpage

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// slow answers after a while.
type slow struct {
	scaling.Viewer

	takes time.Duration
	err   error
	looks int
}

func (s *slow) Groups(ctx context.Context) ([]scaling.GroupView, error) {
	s.looks++
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(s.takes):
		return nil, s.err
	}
}

func (s *slow) Activities(context.Context, string, string, int) ([]scaling.Activity, error) {
	return nil, nil
}

func TestALookThatTookLongIsNotRepeatedSoon(t *testing.T) {
	for _, test := range []struct {
		name  string
		takes time.Duration
		err   error
		rest  time.Duration // after which it is looked again
	}{
		{"a short look is repeated with the page", time.Millisecond, nil, 900 * time.Millisecond},
		{"a look of a fifth of a second rests twenty times as long", 200 * time.Millisecond, nil, 4 * time.Second},
		{"a look of three seconds rests no longer than ten", 3 * time.Second, nil, 10 * time.Second},
		{"an error that took long is not kept", time.Second, errors.New("disk full"), 900 * time.Millisecond},
		{"no answer in time is not kept", time.Hour, nil, 900 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				viewer := &slow{takes: test.takes, err: test.err}
				p, err := New(Options{
					Viewer: viewer, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
					Group:   func(scaling.GroupView) api.Group { return api.Group{} },
					Verdict: func(scaling.Verdict) api.Verdict { return api.Verdict{} }, Activity: func(scaling.Activity) api.Activity { return api.Activity{} },
				})
				if err != nil {
					t.Fatal(err)
				}
				all := topic{query: query{Show: "all", Sort: "name", Page: 1}}
				b, release := p.watch(all)
				defer release()
				look := func() {
					t.Helper()
					if _, err := b.look(t.Context(), p, all); (err != nil) != (test.err != nil || test.takes > lookTimeout) {
						t.Fatalf("looked: %v", err)
					}
				}
				look()
				time.Sleep(test.rest - time.Nanosecond)
				look()
				if viewer.looks != 1 {
					t.Errorf("it was looked again before %s", test.rest)
				}
				time.Sleep(time.Nanosecond)
				look()
				if viewer.looks != 2 {
					t.Errorf("it was not looked again after %s", test.rest)
				}
			})
		})
	}
}

func TestNoAddressKeepsTheOthersFromTheirSeats(t *testing.T) {
	for _, test := range []struct {
		name  string
		takes []string // of four seats
		want  []string // who sits at the end, by arrival
	}{
		{"as many as there are", []string{"a", "a", "a", "a"}, []string{"a1", "a2", "a3", "a4"}},
		{"one address does not drive out itself", []string{"a", "a", "a", "a", "a"}, []string{"a1", "a2", "a3", "a4"}},
		{"another takes the oldest of the one that holds most", []string{"b", "a", "a", "a", "c"}, []string{"b1", "a3", "a4", "c5"}},
		{"until both hold as many", []string{"a", "a", "a", "a", "b", "b", "b"}, []string{"a3", "a4", "b5", "b6"}},
		{"and the first does not take it back", []string{"a", "a", "a", "a", "b", "a", "b", "a"}, []string{"a3", "a4", "b5", "b7"}},
		{"where each holds one, one more waits", []string{"a", "b", "c", "d", "e"}, []string{"a1", "b2", "c3", "d4"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newSeats(4)
			names := map[*seat]string{}
			var all []*seat
			for k, address := range test.takes {
				if s := l.take(address); s != nil {
					names[s] = address + string(rune('1'+k))
					all = append(all, s)
				}
			}
			var got []string
			for _, s := range all {
				select {
				case <-s.lost:
					l.leave(s) // as its handler does, to no effect
				default:
					got = append(got, names[s])
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(l.taken) != len(got) {
				t.Errorf("%d seats are taken by %d", len(l.taken), len(got))
			}
			l.leave(all[slices.IndexFunc(all, func(s *seat) bool { return names[s] == got[0] })])
			if l.take("z") == nil {
				t.Error("a seat that was left is not taken")
			}
		})
	}
}
