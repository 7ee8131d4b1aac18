package delivery_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/delivery"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

// The tests of times run over a transport in memory, where an hour is no time.

const url = "http://receiver.example/scalehook?key=hunter2"

func TestADeliveryIsTriedAgainWithGrowingPausesUntilItIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		receiver := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
			if n < 5 {
				w.WriteHeader([]int{500, 503, 429, 502, 500}[n])
			}
		})
		j := newJournal()
		r := run(t, j, prepare(t, hook(t, "chat", url)).Over("chat", receiver))
		synctest.Wait()
		j.end(activity("a1", "web", time.Now()))
		list := receiver.await(6)
		for n := 1; n < len(list); n++ {
			pause, want := list[n].at.Sub(list[n-1].at), time.Second<<(n-1)
			if pause < want/2 || pause > want*3/2 {
				t.Errorf("pause %d took %v, want half to one and a half of %v", n, pause, want)
			}
			if list[n].ID != list[0].ID || list[n].body != list[0].body {
				t.Errorf("try %d is another delivery:\n%s\n%s", n, list[0].body, list[n].body)
			}
			if list[n].header.Get("X-Scalehook-Delivery") != list[0].ID {
				t.Errorf("try %d has the id %q", n, list[n].header.Get("X-Scalehook-Delivery"))
			}
		}
		if list[5].header.Get("X-Scalehook-Timestamp") == list[0].header.Get("X-Scalehook-Timestamp") {
			t.Error("the last try has the first one's timestamp")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(receiver.activities()); n != 6 {
			t.Errorf("%d requests, want 6", n)
		}
		if j.position("chat") != 1 {
			t.Errorf("position %d", j.position("chat"))
		}
		r.is(t, "delivered", 1)
		for code, want := range map[string]float64{"2xx": 1, "4xx": 1, "5xx": 4} {
			if got := r.value(t, "scalehook_delivery_tries_total", "code", code); got != want {
				t.Errorf("%s: %v tries, want %v", code, got, want)
			}
		}
		if said := r.log.String(); strings.Count(said, "tried again") != 1 || strings.Count(said, "takes deliveries again") != 1 ||
			strings.Contains(said, "hunter2") || strings.Contains(said, "level=ERROR") {
			t.Errorf("the log:\n%s", said)
		}
	})
}

// is compares what became of deliveries; results that are not named are 0.
func (r *running) is(t testing.TB, result string, want float64) {
	t.Helper()
	for _, name := range []string{"delivered", "rejected", "given_up", "dropped"} {
		w := 0.0
		if name == result {
			w = want
		}
		if got := r.value(t, "scalehook_deliveries_total", "result", name); got != w {
			t.Errorf("%v deliveries %s, want %v", got, name, w)
		}
	}
}

func TestWhatIsNotTakenIsGivenUp(t *testing.T) {
	always := func(code int) func(int, http.ResponseWriter, *http.Request) {
		return func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://elsewhere.example/")
			w.WriteHeader(code)
		}
	}
	hang := func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, c := range map[string]struct {
		answer func(int, http.ResponseWriter, *http.Request)
		change func(*delivery.Hook)
		tries  int
		result string
		said   string
	}{
		"after the last try":                      {always(500), func(h *delivery.Hook) { h.MaxTries = 3 }, 3, "given_up", "answered 500"},
		"after the only try":                      {always(503), func(h *delivery.Hook) { h.MaxTries = 1 }, 1, "given_up", "answered 503"},
		"when the time is over":                   {hang, func(h *delivery.Hook) { h.MaxTries, h.GiveUpAfter = 100, time.Minute }, -1, "given_up", "no answer within"},
		"when the time is over in a try":          {hang, func(h *delivery.Hook) { h.MaxTries, h.GiveUpAfter = 100, 10*time.Second }, 1, "given_up", "no answer within"},
		"at once where it is gone":                {always(410), nil, 1, "rejected", "answered 410 Gone"},
		"at once where it is bad":                 {always(400), nil, 1, "rejected", "answered 400"},
		"at once where it is redirected":          {always(302), nil, 1, "rejected", "redirects are not followed"},
		"at once where it is redirected for ever": {always(308), nil, 1, "rejected", "redirects are not followed"},
		"at once where the status is none":        {always(999), nil, 1, "rejected", "answered 999"},
		"where Retry-After goes past the time": {func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		}, nil, 1, "given_up", "answered 429"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				receiver := newReceiver(t, c.answer)
				j := newJournal()
				change := c.change
				if change == nil {
					change = func(*delivery.Hook) {}
				}
				h := hook(t, "chat", url, change)
				r := run(t, j, prepare(t, h).Over("chat", receiver))
				synctest.Wait()
				begun := time.Now()
				j.end(activity("a1", "web", begun))
				time.Sleep(h.GiveUpAfter + 2*time.Second)
				synctest.Wait()
				list := receiver.await(1)
				if c.tries >= 0 && len(list) != c.tries || c.tries < 0 && len(list) < 3 {
					t.Errorf("%d tries, want %d", len(list), c.tries)
				}
				r.is(t, c.result, 1)
				if said := r.log.String(); strings.Count(said, "was not told of an activity") != 1 || !strings.Contains(said, c.said) ||
					!strings.Contains(said, "a1.chat") || strings.Contains(said, "hunter2") {
					t.Errorf("the log, which should say %q:\n%s", c.said, said)
				}
				if j.position("chat") != 1 {
					t.Errorf("position %d: what follows is held up", j.position("chat"))
				}
			})
		})
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for name, text := range map[string]func(now time.Time) string{
		"in seconds":   func(time.Time) string { return "120" },
		"as a date":    func(now time.Time) string { return now.Add(2 * time.Minute).UTC().Format(http.TimeFormat) },
		"with nothing": func(time.Time) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				receiver := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
					if n == 0 {
						w.Header().Set("Retry-After", text(time.Now()))
						w.WriteHeader(http.StatusTooManyRequests)
					}
				})
				j := newJournal()
				run(t, j, prepare(t, hook(t, "chat", url)).Over("chat", receiver))
				synctest.Wait()
				j.end(activity("a1", "web", time.Now()))
				list := receiver.await(2)
				want := 2 * time.Minute
				if text(time.Now()) == "" {
					want = time.Second
				}
				if pause := list[1].at.Sub(list[0].at); pause < want/2 || pause > want*3/2 || want > time.Second && pause < want-time.Second {
					t.Errorf("pause %v, want %v", pause, want)
				}
			})
		})
	}
}

func TestRetryAfterIsReadInBothFormsAndBounded(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"7":                             7 * time.Second,
		"-7":                            0,
		"soon":                          0,
		"4294967295":                    24 * time.Hour,
		"99999999999999999999":          0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute,
		"Fri, 02 Jan 2026 03:03:05 GMT": 0,
		"Fri, 02 Jan 2099 03:03:05 GMT": 24 * time.Hour,
	} {
		if got := delivery.RetryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestAReceiverIsToldOfWhatItsFiltersLetThrough(t *testing.T) {
	now := time.Now()
	ended := func(id, group string, kind scaling.ActivityKind, status scaling.ActivityStatus) scaling.Activity {
		a := scaling.Activity{ID: id, Group: group, Kind: kind, Status: scaling.ActivityPending, Created: now}
		a.End(status, "", now)
		return a
	}
	all := []scaling.Activity{
		ended("1", "web", scaling.ActivityScaleOut, scaling.ActivityDone),
		ended("2", "web", scaling.ActivityScaleOut, scaling.ActivityFailed),
		ended("3", "web", scaling.ActivityScaleIn, scaling.ActivityUndone),
		ended("4", "db", scaling.ActivityScaleOut, scaling.ActivityFailed),
		ended("5", "db", scaling.ActivityHandover, scaling.ActivityDone),
	}
	for name, c := range map[string]struct {
		change func(*delivery.Hook)
		want   string
	}{
		"none":          {func(*delivery.Hook) {}, "12345"},
		"one group":     {func(h *delivery.Hook) { h.Groups = []string{"web"} }, "123"},
		"two groups":    {func(h *delivery.Hook) { h.Groups = []string{"db", "web"} }, "12345"},
		"another group": {func(h *delivery.Hook) { h.Groups = []string{"api"} }, ""},
		"one kind":      {func(h *delivery.Hook) { h.Kinds = []scaling.ActivityKind{scaling.ActivityScaleOut} }, "124"},
		"what went wrong": {func(h *delivery.Hook) {
			h.Statuses = []scaling.ActivityStatus{scaling.ActivityUndone, scaling.ActivityFailed}
		}, "234"},
		"all three are needed": {func(h *delivery.Hook) {
			h.Groups, h.Kinds, h.Statuses = []string{"web"}, []scaling.ActivityKind{scaling.ActivityScaleOut}, []scaling.ActivityStatus{scaling.ActivityFailed}
		}, "2"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				receiver := newReceiver(t, nil)
				j := newJournal()
				j.told["chat"] = 0
				j.end(all...)
				r := run(t, j, prepare(t, hook(t, "chat", url, c.change)).Over("chat", receiver))
				time.Sleep(time.Minute)
				synctest.Wait()
				if got := strings.Join(receiver.activities(), ""); got != c.want {
					t.Errorf("told of %q, want %q", got, c.want)
				}
				if j.position("chat") != 5 {
					t.Errorf("position %d", j.position("chat"))
				}
				r.is(t, "delivered", float64(len(c.want)))
			})
		})
	}
}

func TestAReceiverThatHangsDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := newReceiver(t, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		works := newReceiver(t, nil)
		j := newJournal()
		r := run(t, j, prepare(t, hook(t, "hangs", url), hook(t, "works", url)).Over("hangs", hangs).Over("works", works))
		synctest.Wait()
		ended := time.Now()
		var want []string
		for n := range 3 * delivery.Page {
			id := fmt.Sprintf("a%d", n)
			want = append(want, id)
			j.end(activity(id, "web", ended))
		}
		time.Sleep(2 * delivery.Every)
		synctest.Wait()
		if diff := cmp.Diff(want, works.activities()); diff != "" {
			t.Errorf("the one that works (-want +got):\n%s", diff)
		}
		waiting := func(name string) float64 { return r.value(t, "scalehook_deliveries_waiting", "webhook", name) }
		if waiting("hangs") != float64(len(want)) || waiting("works") != 0 {
			t.Errorf("waiting: %v for the one that hangs, %v for the other", waiting("hangs"), waiting("works"))
		}
		oldest := func(name string) float64 {
			return r.value(t, "scalehook_delivery_oldest_timestamp_seconds", "webhook", name)
		}
		if got := oldest("hangs"); got < float64(ended.Unix()) || got > float64(ended.Unix()+1) || oldest("works") != 0 {
			t.Errorf("the oldest that waits: %v and %v, want %v and none", got, oldest("works"), ended.Unix())
		}

		// To stop takes no longer than what is left to tries under way.
		begun := time.Now()
		r.stop()
		if took := time.Since(begun); took > delivery.Grace {
			t.Errorf("it took %v to stop", took)
		}
		if j.position("hangs") != 0 || j.position("works") != int64(len(want)) {
			t.Errorf("positions %d and %d", j.position("hangs"), j.position("works"))
		}
	})
}

func TestATryUnderWayMayEndWhenTheServerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		receiver := newReceiver(t, func(int, http.ResponseWriter, *http.Request) { time.Sleep(2 * time.Second) })
		j := newJournal()
		r := run(t, j, prepare(t, hook(t, "chat", url)).Over("chat", receiver))
		synctest.Wait()
		j.end(activity("a1", "web", time.Now()), activity("a2", "web", time.Now()))
		receiver.await(1)
		r.stop()
		if got := receiver.activities(); len(got) != 1 || j.position("chat") != 1 {
			t.Errorf("told of %v, position %d; want the first one alone", got, j.position("chat"))
		}
		r.is(t, "delivered", 1)
	})
}

func TestATryThatIsBrokenOffByTheEndIsMadeAgainAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		receiver := newReceiver(t, func(_ int, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		j := newJournal()
		r := run(t, j, prepare(t, hook(t, "chat", url, func(h *delivery.Hook) { h.MaxTries = 1 })).Over("chat", receiver))
		synctest.Wait()
		j.end(activity("a1", "web", time.Now()))
		receiver.await(1)
		r.stop()
		if j.position("chat") != 0 {
			t.Errorf("position %d: it would not be told again", j.position("chat"))
		}
		r.is(t, "", 0)
	})
}

func TestAPauseBetweenTriesDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		receiver := newReceiver(t, func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		j := newJournal()
		r := run(t, j, prepare(t, hook(t, "chat", url)).Over("chat", receiver))
		synctest.Wait()
		j.end(activity("a1", "web", time.Now()))
		receiver.await(1)
		synctest.Wait()
		begun := time.Now()
		r.stop()
		if took := time.Since(begun); took > 0 {
			t.Errorf("it took %v to stop", took)
		}
		if j.position("chat") != 0 {
			t.Errorf("position %d: it would not be told again", j.position("chat"))
		}
		r.is(t, "", 0)
	})
}

func TestTheOldestAreDroppedWhereTooManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		receiver := newReceiver(t, nil)
		j := newJournal()
		j.told["chat"] = 0
		for n := range delivery.MaxWaiting + 50 {
			j.end(activity(strconv.Itoa(n), "web", time.Now()))
		}
		r := run(t, j, prepare(t, hook(t, "chat", url)).Over("chat", receiver))
		time.Sleep(time.Minute)
		synctest.Wait()
		got := receiver.activities()
		if len(got) != delivery.MaxWaiting || got[0] != "50" {
			t.Errorf("told of %d from %s on, want the newest %d", len(got), got[0], delivery.MaxWaiting)
		}
		if n := r.value(t, "scalehook_deliveries_total", "result", "dropped"); n != 50 {
			t.Errorf("%v dropped, want 50", n)
		}
		if said := r.log.String(); strings.Count(said, "level=ERROR") != 1 || !strings.Contains(said, "10000 activities wait") {
			t.Errorf("the log:\n%s", said)
		}
	})
}

func TestWhatIsADayOldIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		receiver := newReceiver(t, nil)
		j := newJournal()
		j.told["chat"] = 0
		j.end(activity("old", "web", time.Now().Add(-delivery.MaxAge-time.Second)), activity("older", "web", time.Now().Add(-48*time.Hour)),
			activity("new", "web", time.Now().Add(-delivery.MaxAge+time.Minute)))
		r := run(t, j, prepare(t, hook(t, "chat", url)).Over("chat", receiver))
		receiver.await(1)
		synctest.Wait()
		if got := receiver.activities(); !slices.Equal(got, []string{"new"}) {
			t.Errorf("told of %v", got)
		}
		if n := r.value(t, "scalehook_deliveries_total", "result", "dropped"); n != 2 {
			t.Errorf("%v dropped, want 2", n)
		}
		if said := r.log.String(); strings.Count(said, "level=ERROR") != 1 || !strings.Contains(said, "24h0m0s ago") {
			t.Errorf("the log:\n%s", said)
		}
		// Another time is another line.
		j.end(activity("old again", "web", time.Now().Add(-25*time.Hour)))
		time.Sleep(time.Minute)
		synctest.Wait()
		if said := r.log.String(); strings.Count(said, "level=ERROR") != 2 {
			t.Errorf("the log:\n%s", said)
		}
	})
}

func TestWhatTheHistoryDroppedIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		receiver := newReceiver(t, nil)
		j := newJournal()
		j.told["chat"] = 0
		for n := range 7 {
			j.end(activity(strconv.Itoa(n+1), "web", time.Now()))
		}
		j.list = slices.Delete(j.list, 5, 7)
		j.list = slices.Delete(j.list, 0, 3)
		r := run(t, j, prepare(t, hook(t, "chat", url)).Over("chat", receiver))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := receiver.activities(); !slices.Equal(got, []string{"4", "5"}) {
			t.Errorf("told of %v", got)
		}
		if n := r.value(t, "scalehook_deliveries_total", "result", "dropped"); n != 5 {
			t.Errorf("%v dropped, want 5", n)
		}
		if j.position("chat") != 7 || r.value(t, "scalehook_deliveries_waiting") != 0 {
			t.Errorf("position %d, %v wait", j.position("chat"), r.value(t, "scalehook_deliveries_waiting"))
		}
	})
}

func TestANewReceiverIsNotToldOfThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newReceiver(t, nil), newReceiver(t, nil)
		j := newJournal()
		j.end(activity("a1", "web", time.Now()))
		a, b := hook(t, "first", url), hook(t, "second", url)
		r := run(t, j, prepare(t, a).Over("first", first))
		time.Sleep(5 * time.Second)
		j.end(activity("a2", "web", time.Now()))
		first.await(1)
		synctest.Wait()
		time.Sleep(5 * time.Second)

		// A second one comes by a reload, the first goes on as it was.
		r.Use(prepare(t, a, b).Over("first", first).Over("second", second))
		synctest.Wait()
		if j.position("second") != 2 {
			t.Errorf("the second one begins at %d", j.position("second"))
		}
		j.end(activity("a3", "web", time.Now()))
		second.await(1)
		first.await(2)

		// The first is taken out; its series go, its position is forgotten.
		r.Use(prepare(t, b).Over("second", second))
		synctest.Wait()
		j.end(activity("a4", "web", time.Now()))
		second.await(2)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if _, known := j.told["first"]; known || r.value(t, "scalehook_deliveries_total", "webhook", "first") != 0 {
			t.Error("the first one is not forgotten")
		}
		// It comes back, and is new.
		r.Use(prepare(t, a, b).Over("first", first).Over("second", second))
		time.Sleep(5 * time.Second)
		j.end(activity("a5", "web", time.Now()))
		first.await(3)
		second.await(3)
		if diff := cmp.Diff([]string{"a2", "a3", "a5"}, first.activities()); diff != "" {
			t.Errorf("the first (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"a3", "a4", "a5"}, second.activities()); diff != "" {
			t.Errorf("the second (-want +got):\n%s", diff)
		}
	})
}

func TestAReceiverWhoseSettingsChangeIsToldOfWhatItHasNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := newReceiver(t, func(n int, _ http.ResponseWriter, r *http.Request) {
			if n > 0 {
				<-r.Context().Done()
			}
		})
		right := newReceiver(t, nil)
		j := newJournal()
		r := run(t, j, prepare(t, hook(t, "chat", url)).Over("chat", wrong))
		synctest.Wait()
		j.end(activity("a0", "web", time.Now()), activity("a1", "web", time.Now()), activity("a2", "web", time.Now()))
		wrong.await(2)
		begun := time.Now()
		r.Use(prepare(t, hook(t, "chat", "http://right.example/")).Over("chat", right))
		list := right.await(2)
		if took := time.Since(begun); took > delivery.Every {
			t.Errorf("it took %v", took)
		}
		if list[0].Activity.ID != "a1" || list[1].Activity.ID != "a2" {
			t.Errorf("told of %v", right.activities())
		}
	})
}

func TestAStoreThatFailsDelaysAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		receiver := newReceiver(t, nil)
		j := newJournal()
		j.told["chat"] = 0
		j.fail(errors.New("planted"))
		r := run(t, j, prepare(t, hook(t, "chat", url)).Over("chat", receiver))
		j.end(activity("a1", "web", time.Now()))
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := receiver.activities(); got != nil {
			t.Errorf("told of %v", got)
		}
		j.fail(nil)
		receiver.await(1)
		time.Sleep(time.Minute)
		synctest.Wait()
		j.fail(errors.New("planted"))
		j.end(activity("a2", "web", time.Now()))
		time.Sleep(time.Minute)
		synctest.Wait()
		j.fail(nil)
		receiver.await(2)
		time.Sleep(time.Minute)
		synctest.Wait()
		if j.position("chat") != 2 {
			t.Errorf("position %d", j.position("chat"))
		}
		if n := strings.Count(r.log.String(), "level=ERROR"); n != 2 {
			t.Errorf("the log has %d errors, want one each time:\n%s", n, r.log.String())
		}
	})
}

func TestWithoutReceiversTheStoreIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJournal()
		j.told["gone"] = 3
		run(t, j, delivery.Prepared{})
		time.Sleep(time.Hour)
		synctest.Wait()
		if j.asked > 2 || len(j.told) != 0 {
			t.Errorf("it was asked %d times, and knows of %v", j.asked, j.told)
		}
	})
}

// A kill is a stop that notes nothing: what was told since the last note is told
// again, as the same delivery.
func TestAfterAKillWhatWasNotNotedIsToldAgainUnderTheSameID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		receiver := newReceiver(t, nil)
		j := newJournal()
		j.told["chat"] = 0
		j.end(activity("a1", "web", time.Now()), activity("a2", "web", time.Now()))
		p := prepare(t, hook(t, "chat", url)).Over("chat", receiver)
		first := run(t, j, p)
		receiver.await(2)
		j.fail(errors.New("killed"))
		first.stop()
		j.fail(nil)
		j.mu.Lock()
		j.told["chat"] = 1
		j.mu.Unlock()
		run(t, j, p)
		list := receiver.await(3)
		time.Sleep(time.Minute)
		synctest.Wait()
		if diff := cmp.Diff([]string{"a1", "a2", "a2"}, receiver.activities()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if list[1].ID != list[2].ID || list[1].body != list[2].body {
			t.Errorf("another delivery:\n%s\n%s", list[1].body, list[2].body)
		}
	})
}

func TestAMissingSecretUsesUpNoTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The second try is the last, and both are left when the secret is back.
		receiver := newReceiver(t, func(n int, w http.ResponseWriter, _ *http.Request) {
			if n == 0 {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		h := hook(t, "chat", url, func(h *delivery.Hook) { h.MaxTries = 2 })
		hide := func() {
			if err := os.Rename(h.SecretFile, h.SecretFile+".hidden"); err != nil {
				t.Fatal(err)
			}
		}
		show := func() {
			if err := os.Rename(h.SecretFile+".hidden", h.SecretFile); err != nil {
				t.Fatal(err)
			}
		}
		j := newJournal()
		j.told["chat"] = 0
		r := run(t, j, prepare(t, h).Over("chat", receiver))
		hide()
		j.end(activity("a1", "web", time.Now()))
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := receiver.activities(); got != nil {
			t.Errorf("told of %v", got)
		}
		show()
		back := time.Now()
		receiver.await(1)
		if waited := time.Since(back); waited > 5*time.Second {
			t.Errorf("it went on after %v", waited)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		r.is(t, "delivered", 1)
		for code, want := range map[string]float64{"2xx": 1, "5xx": 1, "none": 0} {
			if got := r.value(t, "scalehook_delivery_tries_total", "code", code); got != want {
				t.Errorf("%s: %v tries, want %v", code, got, want)
			}
		}
		if said := r.log.String(); strings.Count(said, "cannot be read; its deliveries wait") != 1 || strings.Contains(said, "level=ERROR") {
			t.Errorf("the log:\n%s", said)
		}

		hide()
		gone := time.Now()
		j.end(activity("a2", "web", time.Now()))
		testenv.Eventually(t, time.Hour, "it to be given up", func() error {
			if n := r.value(t, "scalehook_deliveries_total", "result", "given_up"); n != 1 {
				return fmt.Errorf("%v are", n)
			}
			return nil
		})
		if waited := time.Since(gone); waited < 14*time.Minute || waited > 16*time.Minute {
			t.Errorf("given up after %v, give_up_after is 15m", waited)
		}
	})
}

func TestAnActivityThatCannotBeReadKeepsBackNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newReceiver(t, nil), newReceiver(t, nil)
		j := newJournal()
		j.told["one"], j.told["two"] = 0, 0
		j.end(activity("a1", "web", time.Now()), scaling.Activity{ID: "broken"}, activity("a3", "web", time.Now()))
		j.list[1].Err = errors.New("its steps: planted")
		r := run(t, j, prepare(t, hook(t, "one", url), hook(t, "two", url)).Over("one", one).Over("two", two))
		one.await(2)
		two.await(2)
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, receiver := range []*receiver{one, two} {
			if got := receiver.activities(); !slices.Equal(got, []string{"a1", "a3"}) {
				t.Errorf("told of %v", got)
			}
		}
		for result, want := range map[string]float64{"delivered": 4, "unreadable": 2} {
			if got := r.value(t, "scalehook_deliveries_total", "result", result); got != want {
				t.Errorf("%s: %v, want %v", result, got, want)
			}
		}
		if said := r.log.String(); strings.Count(said, "level=ERROR") != 1 || !strings.Contains(said, "activity=broken") || !strings.Contains(said, "planted") {
			t.Errorf("the log:\n%s", said)
		}
		if j.position("one") != 3 || j.position("two") != 3 {
			t.Errorf("positions %d and %d", j.position("one"), j.position("two"))
		}
	})
}
