package scaling_test

import (
	"flag"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scalehook/scalehook/internal/scaling"
)

// checksHere is how many histories each shard lives through where nobody says
// otherwise (-rapid.checks or RAPID_CHECKS): with the two properties below, some 20 s of two cores.
const checksHere = 1500

func TestMain(m *testing.M) {
	flag.Parse()
	set := os.Getenv("RAPID_CHECKS") != ""
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "rapid.checks" })
	if !set {
		n := checksHere
		if raceDetector || testing.Short() {
			n /= 10
		}
		_ = flag.Set("rapid.checks", strconv.Itoa(n))
	}
	os.Exit(m.Run())
}

// events are what a history is made of; see history.event.
var events = rapid.SliceOfN(rapid.Uint64(), 20, 60)

// shards is how many run side by side, each with as many checks.
const shards = 2

// Whatever happens to a group, the invariants of invariants_test.go hold after
// every step. A million histories: make test-chaos, or
//
//	go test ./internal/scaling -run TestHistories -v -timeout 30m -rapid.checks=500000
func TestHistories(t *testing.T) {
	var lived, decided, acted atomic.Int64
	began := time.Now()
	t.Run("all", func(t *testing.T) {
		for n := range shards {
			t.Run(strconv.Itoa(n), func(t *testing.T) {
				t.Parallel()
				rapid.Check(t, func(t *rapid.T) {
					h := live(rapid.Uint64().Draw(t, "group"), events.Draw(t, "events"), theRules(), nil)
					lived.Add(1)
					decided.Add(int64(h.decisions))
					acted.Add(int64(len(h.actions)))
					if h.err != nil {
						t.Fatal(h.err)
					}
				})
			})
		}
	})
	took := time.Since(began)
	t.Logf("%d histories, %d decisions, %d actions in %s: %.0f histories a second", lived.Load(), decided.Load(), acted.Load(),
		took.Round(time.Millisecond), float64(lived.Load())/took.Seconds())
}

// Notifications that come twice, and whose copies come in another order, change
// nothing: the same history leads to the same actions. The one order that means
// something is kept, that of "firing" and "resolved" of one alert: a copy of
// "firing" that overtakes the "resolved" after it cannot be told from an alert
// that fires again, and is a lease like any other, which the sources refute.
func TestDuplicatesAndReorderedCopiesChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed, es := rapid.Uint64().Draw(t, "group"), events.Draw(t, "events")
		once := live(seed, es, theRules(), nil)
		for _, reversed := range []bool{false, true} {
			twice := live(seed, es, theRules(), func(h *history) { h.twice, h.reversed = true, reversed })
			if diff := cmp.Diff(once.actions, twice.actions); diff != "" {
				t.Fatalf("reversed %t: actions (-once +twice):\n%s", reversed, diff)
			}
		}
	})
}

// Repeats that get lost lead to fewer actions and never to other ones. Precisely:
// in whatever state, what would be begun with some of the repeats of an alert
// lost (a repeat says the same start) is begun with all of them too, or does not come to it because high stands,
// which the lost repeats would have said. Several alerts for one signal are left
// out: which of them is newest then depends on what was lost.
func TestLostRepeatsLeadToNoOtherAction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := live(rapid.Uint64().Draw(t, "group"), events.Draw(t, "events"), theRules(), func(h *history) { h.thin = &scaling.State{} })
		if h.err != nil {
			t.Fatal(h.err)
		}
	})
}
