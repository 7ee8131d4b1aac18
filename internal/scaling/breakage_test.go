package scaling_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// blind returns a Decide that is asked about a changed input: one gate of it sees
// what is not so.
func blind(change func(in *scaling.Input, s *scaling.State)) func(*rules) {
	return func(r *rules) {
		r.decide = func(in scaling.Input) scaling.Verdict {
			s := in.State.Clone()
			in.State = &s
			in.Lookup.Evidence = slices.Clone(in.Lookup.Evidence)
			in.Lookup.Asked = maps.Clone(in.Lookup.Asked)
			change(&in, &s)
			return scaling.Decide(in)
		}
	}
}

// The properties can fail: each rule that is broken on purpose is found, by the
// invariant that it is about, within as many histories as CI tries.
func TestThePropertiesCanFail(t *testing.T) {
	forge := func(in *scaling.Input, sig scaling.Signal, at time.Time) {
		in.Lookup.Evidence = slices.DeleteFunc(in.Lookup.Evidence, func(e scaling.Evidence) bool { return e.Signal == sig })
		for _, src := range in.Group.Confirm {
			in.Lookup.Asked[src] = in.Now
			in.Lookup.Evidence = append(in.Lookup.Evidence, scaling.Evidence{Source: src, Signal: sig, State: scaling.EvidenceFiring, At: at})
		}
	}
	tests := map[string]struct {
		spoil func(*rules)
		found []string // one of these invariants
	}{
		"min is not asked": {blind(func(in *scaling.Input, _ *scaling.State) { in.Group.Min = 0 }), []string{"min"}},
		"the unwell count as healthy": {blind(func(in *scaling.Input, s *scaling.State) {
			in.Unhealthy = nil
			for k := range s.Instances {
				s.Instances[k].SuspectSince = time.Time{}
			}
		}), []string{"min", "successor"}},
		"surge is made up":        {blind(func(in *scaling.Input, _ *scaling.State) { in.Group.Surge += 2 }), []string{"limit"}},
		"max is made up":          {blind(func(in *scaling.Input, _ *scaling.State) { in.Group.Max += 2 }), []string{"limit", "desired"}},
		"orphans are not counted": {blind(func(in *scaling.Input, _ *scaling.State) { in.Orphans = 0 }), []string{"limit"}},
		"what failed to go is not counted": {blind(func(_ *scaling.Input, s *scaling.State) {
			s.Instances = slices.DeleteFunc(s.Instances, func(i scaling.Instance) bool { return i.State == scaling.StateFailed })
		}), []string{"limit"}},
		"what is leaving is not counted": {blind(func(_ *scaling.Input, s *scaling.State) {
			s.Instances = slices.DeleteFunc(s.Instances, func(i scaling.Instance) bool { return i.State.Leaving() })
		}), []string{"limit"}},
		"used evidence is used again":       {blind(func(_ *scaling.Input, s *scaling.State) { s.Consumed = nil }), []string{"evidence"}},
		"the settle time is not waited for": {blind(func(_ *scaling.Input, s *scaling.State) { s.LastActionEnd = time.Time{} }), []string{"settle"}},
		"the cooldown is not waited for":    {blind(func(_ *scaling.Input, s *scaling.State) { s.CooldownUntil = time.Time{} }), []string{"cooldown"}},
		"high does not contradict low": {blind(func(_ *scaling.Input, s *scaling.State) {
			s.Leases = slices.DeleteFunc(s.Leases, func(l scaling.Lease) bool { return l.Signal == scaling.High })
		}), []string{"contradiction"}},
		"a source's high does not contradict": {blind(func(in *scaling.Input, _ *scaling.State) {
			in.Lookup.Evidence = slices.DeleteFunc(in.Lookup.Evidence, func(e scaling.Evidence) bool { return e.Signal == scaling.High && e.State == scaling.EvidenceFiring })
		}), []string{"contradiction"}},
		"low needs no source": {blind(func(in *scaling.Input, _ *scaling.State) { forge(in, scaling.Low, in.Now) }), []string{"low"}},
		"old samples count as fresh": {blind(func(in *scaling.Input, _ *scaling.State) {
			for k := range in.Lookup.Evidence {
				in.Lookup.Evidence[k].At = in.Now
			}
		}), []string{"low", "evidence", "settle", "repeats"}},
		"one source is enough for low": {blind(func(in *scaling.Input, _ *scaling.State) {
			in.Group.Confirm = in.Group.Confirm[:min(1, len(in.Group.Confirm))]
		}), []string{"low"}},
		"evidence of the future counts": {func(r *rules) {
			r.decide = func(in scaling.Input) scaling.Verdict {
				in.Lookup.Evidence = slices.Clone(in.Lookup.Evidence)
				future := time.Time{}
				for k := range in.Lookup.Evidence {
					if e := &in.Lookup.Evidence[k]; e.At.After(in.Now.Add(scaling.MaxSkew)) {
						future, e.At = e.At, in.Now
					}
				}
				v := scaling.Decide(in)
				if v.Cause.EvidenceAt.Equal(in.Now) {
					v.Cause.EvidenceAt = future
				}
				return v
			}
		}, []string{"skew"}},
		"a lease never ends": {blind(func(_ *scaling.Input, s *scaling.State) {
			s.Leases = append(s.Leases, scaling.Lease{Signal: scaling.High, Fingerprint: "x", Expires: t0.Add(1000 * time.Hour)})
		}), []string{"lease"}},
		"silences are not heard": {blind(func(in *scaling.Input, _ *scaling.State) {
			for k := range in.Lookup.Evidence {
				if e := &in.Lookup.Evidence[k]; e.State == scaling.EvidenceSuppressed {
					e.State = scaling.EvidenceFiring
				}
			}
		}), []string{"silence", "low"}},
		"the projection is not asked": {blind(func(in *scaling.Input, _ *scaling.State) { in.Group.High = 100 }), []string{"projection"}},
		"missing readings count as idle": {blind(func(in *scaling.Input, s *scaling.State) {
			in.Lookup.Readings = map[string]scaling.Reading{}
			for _, i := range s.Instances {
				in.Lookup.Readings[i.UUID] = scaling.Reading{At: in.Now}
			}
		}), []string{"projection"}},
		"protection is not asked": {blind(func(_ *scaling.Input, s *scaling.State) {
			for k := range s.Instances {
				s.Instances[k].Protected = false
			}
		}), []string{"protected"}},
		"the budget of creations is not asked": {blind(func(in *scaling.Input, _ *scaling.State) { in.Group.CreationsPerHour = 0 }), []string{"budget"}},
		"the budget of removals is not asked":  {blind(func(in *scaling.Input, _ *scaling.State) { in.Group.RemovalsPerHour = 0 }), []string{"budget"}},
		"what was not read counts as read": {blind(func(in *scaling.Input, _ *scaling.State) {
			in.Known = scaling.Known{Listing: true, Pool: true, Signals: true}
		}), []string{"started"}},
		"the mode is not asked": {blind(func(in *scaling.Input, _ *scaling.State) {
			if in.Group.Mode == scaling.ModeScaleOutOnly {
				in.Group.Mode = scaling.ModeFull
			}
		}), []string{"mode"}},
		"observe is not asked":                {blind(func(in *scaling.Input, _ *scaling.State) { in.Group.Mode = scaling.ModeFull }), []string{"observe", "mode"}},
		"a pause is not asked":                {blind(func(_ *scaling.Input, s *scaling.State) { s.Pause, s.HoldUntil = nil, time.Time{} }), []string{"paused"}},
		"the maintenance window is not asked": {blind(func(in *scaling.Input, _ *scaling.State) { in.Maintenance = nil }), []string{"paused"}},
		"the grace time is not waited for":    {blind(func(in *scaling.Input, _ *scaling.State) { in.Group.Grace = 1 }), []string{"replace"}},
		"the brake is off":                    {blind(func(in *scaling.Input, _ *scaling.State) { in.Group.MaxUnhealthy = 100 }), []string{"replace"}},
		"launches under way are no capacity": {blind(func(_ *scaling.Input, s *scaling.State) {
			s.Instances = slices.DeleteFunc(s.Instances, func(i scaling.Instance) bool { return i.State.Launching() })
		}), []string{"limit", "activity"}},
		"Decide writes to the state": {func(r *rules) {
			r.decide = func(in scaling.Input) scaling.Verdict { in.State.Failures++; return scaling.Decide(in) }
		}, []string{"pure"}},
		"a gate does not say what would change": {func(r *rules) {
			r.decide = func(in scaling.Input) scaling.Verdict {
				v := scaling.Decide(in)
				for k := range v.Gates {
					v.Gates[k].Change = ""
				}
				return v
			}
		}, []string{"gates"}},
		"Begin does not note the evidence": {func(r *rules) {
			r.begin = func(s *scaling.State, v scaling.Verdict, g scaling.Group, now time.Time, ids scaling.IDs) {
				was := maps.Clone(s.Consumed)
				s.Begin(v, g, now, ids)
				s.Consumed = was
			}
		}, []string{"evidence"}},
		"Begin desires more than max": {func(r *rules) {
			r.begin = func(s *scaling.State, v scaling.Verdict, g scaling.Group, now time.Time, ids scaling.IDs) {
				g.Max++
				s.Begin(v, g, now, ids)
				s.Desired++
			}
		}, []string{"desired", "observe"}},
		"Begin does not note removals": {func(r *rules) {
			r.begin = func(s *scaling.State, v scaling.Verdict, g scaling.Group, now time.Time, ids scaling.IDs) {
				s.Begin(v, g, now, ids)
				s.Removals = nil
			}
		}, []string{"budget", "observe"}},
		"Begin does what only would be done": {func(r *rules) {
			r.begin = func(s *scaling.State, v scaling.Verdict, g scaling.Group, now time.Time, ids scaling.IDs) {
				v.Would = false
				s.Begin(v, g, now, ids)
			}
		}, []string{"observe"}},
		"a handover does not ask who is well": {func(r *rules) {
			r.advance = func(s *scaling.State, g scaling.Group, now time.Time) bool {
				for k := range s.Instances {
					s.Instances[k].SuspectSince = time.Time{}
				}
				g.Min = 0
				return s.Advance(g, now)
			}
		}, []string{"min"}},
		"a handover does not ask for protection": {func(r *rules) {
			r.advance = func(s *scaling.State, g scaling.Group, now time.Time) bool {
				was := s.Clone()
				for k := range s.Instances {
					s.Instances[k].Protected = false
				}
				done := s.Advance(g, now)
				for k := range s.Instances {
					s.Instances[k].Protected = was.Instances[k].Protected
				}
				return done
			}
		}, []string{"protected"}},
		"the primary stays where it is": {func(r *rules) {
			r.begin = func(s *scaling.State, v scaling.Verdict, g scaling.Group, now time.Time, ids scaling.IDs) {
				was := s.Primary
				s.Begin(v, g, now, ids)
				s.Primary = was
			}
		}, []string{"primary"}},
		"standby takes the last one": {func(r *rules) {
			r.standby = func(s *scaling.State, id string, on bool, _ scaling.Group, now time.Time, _ scaling.IDs) error {
				i := s.Instance(id)
				if on && i.State == scaling.StateInService {
					s.Enter(id, scaling.StateStandby, time.Time{}, now)
				}
				return nil
			}
		}, []string{"standby", "primary"}},
		"a step of the clock moves nothing": {func(r *rules) { r.shift = func(*scaling.State, time.Duration) {} }, []string{"budget", "evidence", "settle", "cooldown", "gates", "lease", "replace"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := theRules()
			tt.spoil(&r)
			h, n := firstFailure(r)
			if h == nil {
				t.Fatalf("not found in %d histories", n)
			}
			found, _, _ := strings.Cut(h.err.Error(), ":")
			if !slices.Contains(tt.found, found) {
				t.Errorf("found by %v, want one of %v", h.err, tt.found)
			}
			t.Logf("found after %d histories: %v", n, h.err)
		})
	}
	t.Run("every notification begins a lease of its own", func(t *testing.T) {
		r := theRules()
		k := 0
		r.notify = func(s *scaling.State, n scaling.Notification, ttl time.Duration, now time.Time) scaling.NotifyResult {
			k++
			n.StartsAt = n.StartsAt.Add(time.Duration(k) * time.Second)
			return s.Notify(n, ttl, now)
		}
		different := false
		for seed := range uint64(checksHere) {
			es := someEvents(seed)
			a, b := live(seed, es, r, nil), live(seed, es, r, func(h *history) { h.twice = true })
			if different = !slices.Equal(a.actions, b.actions); different {
				break
			}
		}
		if !different {
			t.Error("twice the notifications changed nothing")
		}
	})
}

// firstFailure lives through as many histories as the shards do in CI, always the
// same ones.
func firstFailure(r rules) (*history, int) {
	for seed := range shards * checksHere {
		if h := live(uint64(seed), someEvents(uint64(seed)), r, nil); h.err != nil {
			return h, seed + 1
		}
	}
	return nil, shards * checksHere
}

func someEvents(seed uint64) []uint64 {
	rnd := rand.New(rand.NewPCG(seed, 1))
	out := make([]uint64, 40)
	for k := range out {
		out[k] = rnd.Uint64()
	}
	return out
}

// Those same histories find nothing where nothing is broken.
func TestTheSameHistoriesHoldWhereNothingIsBroken(t *testing.T) {
	n := checksHere
	if raceDetector || testing.Short() {
		n /= 10
	}
	for seed := range n {
		if h := live(uint64(seed), someEvents(uint64(seed)), theRules(), nil); h.err != nil {
			t.Fatalf("seed %d: %v", seed, h.err)
		}
	}
}
