package store_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// testdata/schemaN.sqlite is a store of schema N with groups in mid-activity. One
// is made once, by the last code that writes schema N, before a migration is
// added, and never again:
//
//	STORE_FIXTURE=testdata/schema2.sqlite go test ./internal/store -run '^TestWriteTheFixture$'
//
// The states are in fixture() and do not change either; a state that uses what a
// later schema can keep becomes a new function for that schema's file.
func TestWriteTheFixture(t *testing.T) {
	path := os.Getenv("STORE_FIXTURE")
	if path == "" {
		path = filepath.Join(t.TempDir(), "s.db")
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), path, store.Options{Clock: func() time.Time { return fixtureTime }})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range fixture() {
		// The history that a group has had, then what goes on.
		for i := range 3 {
			if err := s.Change(t.Context(), want.Group, func(state *scaling.State) error {
				a := scaling.Activity{ID: fmt.Sprintf("a-%s-%d", want.Group, i), Kind: scaling.ActivityFill, Cause: scaling.Cause{Kind: scaling.CauseBounds}}
				a.Enter("creating", fixtureTime)
				a.End(scaling.ActivityDone, "in service", fixtureTime.Add(time.Minute))
				state.Open = append(state.Open, a)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Change(t.Context(), want.Group, func(state *scaling.State) error { *state = want.Clone(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{".lock", ".mark"} {
		if err := os.Remove(path + suffix); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
}

var fixtureTime = time.Date(2026, 11, 20, 10, 0, 0, 123456789, time.UTC)

// fixture returns groups in the middle of what a group can be in the middle of.
func fixture() []scaling.State {
	at := func(seconds int) time.Time { return fixtureTime.Add(time.Duration(seconds) * time.Second) }
	instance := func(group string, n int, state scaling.InstanceState) scaling.Instance {
		i := scaling.Instance{
			ID: fmt.Sprintf("00000000-0000-4000-8000-%s%09d", map[string]string{"web": "001", "db": "002", "api": "003"}[group], n), Group: group,
			Name: fmt.Sprintf("%s-%d", group, n), Number: n, State: state, Since: at(60 * n), CreatedAt: at(60*n - 30),
		}
		if !state.Launching() {
			i.UUID = i.ID
			i.Address = netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})
			i.InServiceAt = at(60*n + 10)
		}
		return i
	}
	activity := func(group string, kind scaling.ActivityKind, cause scaling.Cause, launch, remove string, steps ...string) scaling.Activity {
		a := scaling.Activity{
			ID: "b-" + group, Group: group, Kind: kind, Status: scaling.ActivityPending, Cause: cause, Launch: launch, Remove: remove, Created: at(600),
		}
		for i, step := range steps {
			a.Enter(step, at(600+i))
		}
		return a
	}

	web := scaling.State{
		Group: "web", Provider: "hv1", Balancer: "haproxy", NextNumber: 4, Desired: 3,
		Instances: []scaling.Instance{instance("web", 1, scaling.StateInService), instance("web", 2, scaling.StateInService), instance("web", 3, scaling.StateCreating)},
		Leases: []scaling.Lease{{
			Signal: scaling.High, Fingerprint: "f00f", AlertName: "ScalehookGroupCPUHigh",
			StartsAt: at(500), FirstSeen: at(510), LastSeen: at(590), Expires: at(4000), Receiver: "scalehook",
		}},
		Orders:    []scaling.Order{{ID: "o-1", Kind: scaling.OrderScaleOut, Count: 1, By: "ops", At: at(599), Hold: 10 * time.Minute, Key: "k1"}},
		Answers:   []scaling.Answer{{Key: "k1", Digest: "d1", Order: "o-1", At: at(599)}},
		Consumed:  map[scaling.Signal]time.Time{scaling.High: at(580)},
		Creations: []time.Time{at(-600), at(600)}, LastNotification: at(590), HoldUntil: at(1200),
	}
	web.Primary = web.Instances[0].ID
	web.Instances[2].Deadline = at(1200)
	web.Instances[2].Activity = "b-web"
	web.Open = []scaling.Activity{activity("web", scaling.ActivityScaleOut,
		scaling.Cause{Kind: scaling.CauseAlert, Signal: scaling.High, Fingerprint: "f00f", Source: "prometheus", EvidenceAt: at(580)},
		web.Instances[2].ID, "", "requested", "creating")}
	web.Open[0].Steps[1].Tries, web.Open[0].Steps[1].Err = 2, "the host did not answer"

	db := scaling.State{
		Group: "db", Provider: "hv1", Balancer: "haproxy", NextNumber: 4, Desired: 2,
		Instances: []scaling.Instance{instance("db", 1, scaling.StateInService), instance("db", 2, scaling.StateInService), instance("db", 3, scaling.StateRemoving)},
		Pause:     &scaling.Pause{In: true, By: "ops", Reason: "a migration of ours", At: at(550), Until: at(99999)},
		Consumed:  map[scaling.Signal]time.Time{scaling.Low: at(570)},
		Removals:  []time.Time{at(600)}, LastActionEnd: at(100), CooldownUntil: at(400), AdoptedNames: []string{"db-1"},
	}
	db.Primary = db.Instances[1].ID
	db.Instances[0].Adopted, db.Instances[0].Protected, db.Instances[0].Number = true, true, 0
	db.Instances[2].PoweredOff, db.Instances[2].Activity = true, "b-db"
	db.Open = []scaling.Activity{activity("db", scaling.ActivityScaleIn,
		scaling.Cause{Kind: scaling.CauseAlert, Signal: scaling.Low, Source: "prometheus", EvidenceAt: at(570)},
		"", db.Instances[2].ID, "draining", "leave", "shutdown", "delete")}

	api := scaling.State{
		Group: "api", Provider: "hv2", Balancer: "octavia", NextNumber: 3, Desired: 1, Failures: 2, BackoffUntil: at(900),
		Instances: []scaling.Instance{instance("api", 1, scaling.StateDraining), instance("api", 2, scaling.StateInService)},
		Creations: []time.Time{at(300)},
	}
	api.Primary = api.Instances[1].ID
	api.Instances[0].Deadline, api.Instances[0].Activity = at(1500), "b-api"
	api.Open = []scaling.Activity{activity("api", scaling.ActivityHandover, scaling.Cause{Kind: scaling.CauseManual, Order: "o-9", By: "ops"},
		api.Instances[1].ID, api.Instances[0].ID, "requested", "creating", "booting", "joining", "address", "draining")}
	return []scaling.State{web, db, api}
}
