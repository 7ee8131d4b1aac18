package engine

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// worker moves one instance, from requested into service or from draining to
// gone, one journalled step after the other. Every step reads the state first and
// can be begun again, so a worker that was killed is simply started anew.
type worker struct {
	g     *group
	id    string
	log   *slog.Logger
	begun time.Time // when this worker took over, in steady time
	// offset is what the times of the state that is worked on are ahead of steady
	// time; see group.offset.
	offset time.Duration
	tries  int       // of the call that is being tried
	asked  bool      // the guest was asked to stop
	quiet  time.Time // since when the draining member was seen without sessions
}

// refusals is how often a provider may refuse to delete before a person has to
// look: a conflict may be one for the moment.
const refusals = 4

// poll is how often a worker asks its provider while it waits for a guest.
const poll = 250 * time.Millisecond

func (w *worker) run(ctx context.Context) {
	w.begun = w.g.eng.clock.steady()
	for ctx.Err() == nil {
		if changed := w.g.watch(); w.g.idle() {
			w.await(ctx, changed, time.Second)
			continue
		}
		st, offset := w.g.view()
		if offset != w.offset {
			w.offset, w.quiet = offset, time.Time{}
		}
		i := st.Instance(w.id)
		if i == nil {
			return
		}
		if st.Held(i) {
			w.await(ctx, w.g.watch(), time.Second)
			continue
		}
		gc := w.g.config()
		var err error
		switch i.State {
		case scaling.StateRequested:
			// The intent to call the provider is durable before the call is made.
			err = w.change(ctx, func(s *scaling.State) { s.Enter(w.id, scaling.StateCreating, time.Time{}, w.now()) })
		case scaling.StateCreating:
			err = w.create(ctx, gc, *i)
		case scaling.StateBooting:
			err = w.boot(ctx, gc, *i)
		case scaling.StateJoining:
			err = w.join(ctx, gc, *i)
		case scaling.StateDraining:
			err = w.drain(ctx, gc, *i, &st)
		case scaling.StateRemoving:
			err = w.remove(ctx, gc, *i, &st)
		case scaling.StateFailed:
			w.clear(ctx, gc, *i)
			return
		case scaling.StateInService, scaling.StateStandby, scaling.StateGone:
			return
		}
		if err != nil && ctx.Err() == nil {
			w.pause(ctx, err)
		}
	}
}

// late reports whether a launch has passed its deadline. One that was interrupted
// by a restart gets a moment to show that it is well.
func (w *worker) late(gc GroupConfig, i scaling.Instance) bool {
	return w.now().After(i.Deadline) && w.g.eng.clock.steady().Sub(w.begun) > gc.Group.CallDeadline
}

// now is the time by which the state is read, and inside a change written.
func (w *worker) now() time.Time { return w.g.eng.clock.steady().Add(w.offset) }

func (w *worker) change(ctx context.Context, fn func(*scaling.State)) error {
	cctx, cancel := context.WithTimeout(ctx, storeDeadline)
	defer cancel()
	err := w.g.change(cctx, func(s *scaling.State) error {
		w.offset = time.Duration(w.g.written.Load())
		fn(s)
		return nil
	})
	if err != nil && ctx.Err() == nil {
		w.log.Error("the store cannot be written; the step waits", "err", err)
	}
	return err
}

// pause waits after an error, longer with each one in a row, with jitter so that
// many instances do not ask a sick provider at the same time.
func (w *worker) pause(ctx context.Context, err error) {
	d := min(250*time.Millisecond<<min(w.tries, 6), 15*time.Second)
	d = d/2 + rand.N(d/2+1) //nolint:gosec // jitter is no secret
	w.tries++
	w.log.Debug("step will be tried again", "err", err, "pause", d)
	sleep(ctx, d, nil)
}

// await waits for any change of the group, at most d.
func (w *worker) await(ctx context.Context, changed <-chan struct{}, d time.Duration) {
	sleep(ctx, d, changed)
}

// call runs one call to the provider with its deadline and notes it in the step.
func (w *worker) call(ctx context.Context, gc GroupConfig, name string, fn func(context.Context) error) error {
	cctx, cancel := context.WithTimeout(ctx, gc.Group.CallDeadline)
	defer cancel()
	err := w.g.eng.metrics.call(gc.Group.Provider, name, func() error { return fn(cctx) })
	if err != nil && ctx.Err() == nil {
		w.log.Debug("provider call", "call", name, "class", scaling.ClassOf(err).String(), "err", err)
	}
	return err
}

func (w *worker) giveUp(ctx context.Context, gc GroupConfig, why string) error {
	w.tries = 0
	err := w.change(ctx, func(s *scaling.State) { s.FailLaunch(w.id, why, gc.Group, w.now()) })
	poke(w.g.poolWake)
	return err
}

// clear forgets a failed instance of which a person removed the rest. That two
// listings lacked it is not enough for that: its VM would be nobody's if they were
// wrong, so the provider is asked for this one. Any other answer than that it is
// not there starts the count of the listings anew.
func (w *worker) clear(ctx context.Context, gc GroupConfig, i scaling.Instance) {
	err := w.call(ctx, gc, "get", func(ctx context.Context) error {
		_, err := gc.Provider.Get(ctx, i.Ref())
		return err
	})
	if scaling.ClassOf(err) == scaling.NotFound {
		err = w.change(ctx, func(s *scaling.State) { s.Cleared(w.id, w.now()) })
		if err == nil {
			return
		}
	}
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	delete(w.g.missing, w.id)
}

// create makes the VM, or adopts it.
func (w *worker) create(ctx context.Context, gc GroupConfig, i scaling.Instance) error {
	if w.late(gc, i) {
		return w.giveUp(ctx, gc, fmt.Sprintf("launch deadline of %s passed while creating", gc.Group.LaunchDeadline))
	}
	spec := scaling.LaunchSpec{ID: i.ID, Group: i.Group, Name: i.Name, Number: i.Number, UUID: i.UUID}
	var vm scaling.VM
	err := w.call(ctx, gc, w.creating(i), func(ctx context.Context) (err error) {
		if !i.Adopted {
			vm, err = gc.Provider.Create(ctx, spec)
			return err
		}
		a, ok := gc.Provider.(scaling.Adopter)
		if !ok {
			return scaling.Errorf(scaling.Permanent, "adopt %s: provider %s cannot adopt", i.Name, gc.Group.Provider)
		}
		vm, err = a.Adopt(ctx, spec)
		return err
	})
	if ctx.Err() != nil {
		return err
	}
	if err == nil {
		w.tries = 0
		w.g.room("")
		return w.change(ctx, func(s *scaling.State) {
			if x := s.Instance(w.id); x != nil {
				x.UUID = vm.UUID
			}
			s.Tried(w.id, nil)
			s.Enter(w.id, scaling.StateBooting, time.Time{}, w.now())
		})
	}
	switch scaling.ClassOf(err) {
	case scaling.Temporary, scaling.Unknown:
		// After unknown the provider answers temporary until the lost call returned;
		// Create then takes over what it left. Nothing is made twice.
		_ = w.change(ctx, func(s *scaling.State) { s.Tried(w.id, err) })
		return err
	case scaling.Quota:
		w.g.room(err.Error())
	case scaling.Conflict, scaling.NotFound, scaling.Permanent:
	}
	_ = w.change(ctx, func(s *scaling.State) {
		s.Tried(w.id, err)
		if scaling.ClassOf(err) == scaling.Conflict {
			s.Mistaken(w.id)
		}
	})
	return w.giveUp(ctx, gc, err.Error())
}

func (w *worker) creating(i scaling.Instance) string {
	if i.Adopted {
		return "adopt"
	}
	return "create"
}

// boot waits until the VM runs and has an address.
func (w *worker) boot(ctx context.Context, gc GroupConfig, i scaling.Instance) error {
	if w.late(gc, i) {
		return w.giveUp(ctx, gc, fmt.Sprintf("launch deadline of %s passed while booting: no address", gc.Group.LaunchDeadline))
	}
	var vm scaling.VM
	err := w.call(ctx, gc, "get", func(ctx context.Context) (err error) {
		vm, err = gc.Provider.Get(ctx, i.Ref())
		return err
	})
	switch {
	case ctx.Err() != nil:
		return err
	case scaling.IsNotFound(err):
		return w.giveUp(ctx, gc, "the VM vanished while booting")
	case err != nil:
		return err
	}
	w.tries = 0
	if vm.Power == scaling.PowerStopped || vm.Power == scaling.PowerCrashed {
		return w.giveUp(ctx, gc, fmt.Sprintf("the VM is %s while booting", vm.Power))
	}
	if vm.Power == scaling.PowerRunning && len(vm.Addresses) > 0 {
		err := w.change(ctx, func(s *scaling.State) {
			if x := s.Instance(w.id); x != nil {
				x.Address = vm.Addresses[0]
			}
			s.Enter(w.id, scaling.StateJoining, time.Time{}, w.now())
		})
		poke(w.g.poolWake)
		return err
	}
	sleep(ctx, poll, nil)
	return nil
}

// join waits until the balancer's own checks pass; only then it may take traffic.
func (w *worker) join(ctx context.Context, gc GroupConfig, i scaling.Instance) error {
	changed := w.g.watch()
	m, present, current := w.g.member(w.id, scaling.MemberJoining, i.Since)
	if !current && i.Adopted { // again, and its member serves
		m, present, current = w.g.member(w.id, scaling.MemberReady, i.Since)
	}
	if present && current && (m.Health == scaling.HealthUp || !gc.Balancer.Capabilities().Health) {
		err := w.change(ctx, func(s *scaling.State) { s.InService(w.id, gc.Group, w.now()) })
		poke(w.g.poolWake)
		return err
	}
	if w.late(gc, i) {
		return w.giveUp(ctx, gc, fmt.Sprintf("launch deadline of %s passed while joining: %s", gc.Group.LaunchDeadline, w.poolSays(m, present)))
	}
	w.await(ctx, changed, time.Second)
	return nil
}

func (w *worker) poolSays(m scaling.MemberStatus, present bool) string {
	w.g.mu.Lock()
	defer w.g.mu.Unlock()
	switch {
	case w.g.pool.err != nil:
		return w.g.pool.err.Error()
	case !present:
		return "not in the pool"
	}
	return "health is " + string(m.Health)
}

// settledSessions is how far apart two observations must lie that both saw no
// session: a request that was given to the member just before the drain may not
// be counted yet.
const settledSessions = 200 * time.Millisecond

// drain waits for the sessions to end, by observations that followed the drain.
// The deadline runs from the first of them: as long as the balancer cannot be
// reached the member may still get requests, and nothing is cut. Neither is while
// the group's public address still leads to it.
func (w *worker) drain(ctx context.Context, gc GroupConfig, i scaling.Instance, st *scaling.State) error {
	changed := w.g.watch()
	if i.Deadline.IsZero() && w.g.addressed(gc, st, &i) {
		if w.step(st) != "move_address" {
			return w.change(ctx, func(s *scaling.State) { s.Step(w.id, "move_address", w.now()) })
		}
		w.await(ctx, changed, time.Second)
		return nil
	}
	m, present, current := w.g.member(w.id, scaling.MemberDraining, i.Since)
	switch {
	case !current:
		w.quiet = time.Time{}
		w.await(ctx, changed, time.Second)
		return nil
	case i.Deadline.IsZero():
		return w.change(ctx, func(s *scaling.State) { s.Draining(w.id, gc.Group, w.now()) })
	case present && (m.State != scaling.MemberDraining || m.Sessions != 0):
		w.quiet = time.Time{}
	case w.quiet.IsZero():
		// A member that is not there although it was just wished has lost its
		// sessions with the balancer that forgot it.
		w.quiet = w.g.poolSeen()
	}
	drained := !w.quiet.IsZero() && w.g.poolSeen().Sub(w.quiet) >= settledSessions
	if !drained && w.now().Before(i.Deadline) {
		w.await(ctx, changed, min(time.Second, max(i.Deadline.Sub(w.now()), time.Millisecond)))
		return nil
	}
	if !drained {
		w.log.Warn("the drain deadline passed; what is left is cut", "sessions", m.Sessions, "deadline", gc.Group.DrainDeadline)
	}
	w.quiet = time.Time{}
	err := w.change(ctx, func(s *scaling.State) { s.Drained(w.id, gc.Group, w.now()) })
	poke(w.g.poolWake)
	return err
}

// remove takes the instance out of the pool, stops the guest and deletes what is
// ours of it, or lets an adopted VM go.
func (w *worker) remove(ctx context.Context, gc GroupConfig, i scaling.Instance, st *scaling.State) error {
	if i.Address.IsValid() && w.step(st) != "shutdown" && w.step(st) != "power_off" && w.step(st) != "delete" {
		changed := w.g.watch()
		m, present, current := w.g.member(w.id, scaling.MemberLeaving, i.Since)
		if (present || !current) && (!present || !stays(st, &m)) {
			if w.step(st) != "leave" {
				return w.change(ctx, func(s *scaling.State) { s.Step(w.id, "leave", w.now()) })
			}
			w.await(ctx, changed, time.Second)
			return nil
		}
	}
	launchFailed := i.Failure != ""
	if i.Adopted && (launchFailed || cleaning(st, i)) {
		// It never served, as far as we know: it is left as it was found.
		return w.release(ctx, gc, i, "let go as it was found")
	}
	if !launchFailed {
		if done, err := w.snapshot(ctx, gc, i, st); err != nil || !done {
			return err
		}
		if done, err := w.stop(ctx, gc, i, st); err != nil || !done {
			return err
		}
	}
	// A baseline that turned unwell is kept whatever the group says: somebody may
	// well be at work on it.
	if a := st.Activity(i.Activity); i.Adopted && (gc.Group.OnRemove != scaling.OnRemoveDelete || (a != nil && a.Kind == scaling.ActivityReplace)) {
		return w.release(ctx, gc, i, "shut down and kept with its disks")
	}
	if w.step(st) != "delete" {
		return w.change(ctx, func(s *scaling.State) { s.Step(w.id, "delete", w.now()) })
	}
	err := w.call(ctx, gc, "delete", func(ctx context.Context) error { return gc.Provider.Delete(ctx, i.Ref()) })
	switch {
	case ctx.Err() != nil:
		return err
	case err == nil || scaling.IsNotFound(err):
		return w.gone(ctx, gc, "removed with its disks")
	}
	switch scaling.ClassOf(err) {
	case scaling.Conflict, scaling.Permanent:
		if w.tries >= refusals {
			return w.change(ctx, func(s *scaling.State) { s.FailRemove(w.id, err.Error(), w.now()) })
		}
	case scaling.Temporary, scaling.Unknown, scaling.Quota, scaling.NotFound:
	}
	_ = w.change(ctx, func(s *scaling.State) { s.Tried(w.id, err) })
	return err
}

// step is the step that the instance's activity is in.
func (w *worker) step(st *scaling.State) string {
	i := st.Instance(w.id)
	if i == nil {
		return ""
	}
	a := st.Activity(i.Activity)
	if a == nil || len(a.Steps) == 0 {
		return ""
	}
	return a.Steps[len(a.Steps)-1].Name
}

func (w *worker) gone(ctx context.Context, gc GroupConfig, outcome string) error {
	w.tries = 0
	err := w.change(ctx, func(s *scaling.State) { s.Gone(w.id, gc.Group, outcome, w.now()) })
	poke(w.g.poolWake)
	return err
}

func (w *worker) release(ctx context.Context, gc GroupConfig, i scaling.Instance, outcome string) error {
	a, ok := gc.Provider.(scaling.Adopter)
	if !ok {
		return w.gone(ctx, gc, outcome)
	}
	err := w.call(ctx, gc, "release", func(ctx context.Context) error { return a.Release(ctx, i.Ref()) })
	if err != nil && !scaling.IsNotFound(err) {
		if c := scaling.ClassOf(err); c == scaling.Conflict || c == scaling.Permanent {
			return w.change(ctx, func(s *scaling.State) { s.FailRemove(w.id, err.Error(), w.now()) })
		}
		return err
	}
	return w.gone(ctx, gc, outcome)
}

// snapshot keeps a copy where the group asks for one. A removal whose snapshot is
// refused for good does not go on: the copy was wanted.
func (w *worker) snapshot(ctx context.Context, gc GroupConfig, i scaling.Instance, st *scaling.State) (bool, error) {
	// It was taken before the guest was asked to stop.
	step := w.step(st)
	stopping := step == "shutdown" || step == "power_off" || step == "delete"
	sn, ok := gc.Provider.(scaling.Snapshotter)
	if !gc.Group.Snapshot || !ok || i.PoweredOff || stopping {
		return true, nil
	}
	err := w.call(ctx, gc, "snapshot", func(ctx context.Context) error {
		return sn.Snapshot(ctx, i.Ref(), i.Name+"-"+i.Since.UTC().Format("20060102T150405Z"))
	})
	if err == nil && gc.Group.SnapshotsKeep > 0 {
		w.prune(ctx, gc, sn, st.SnapshotsFrom)
	}
	if err == nil || scaling.IsNotFound(err) {
		return true, nil
	}
	if c := scaling.ClassOf(err); c == scaling.Permanent || c == scaling.Conflict {
		return false, w.change(ctx, func(s *scaling.State) { s.FailRemove(w.id, err.Error(), w.now()) })
	}
	return false, err
}

// prune deletes snapshots that are too many. What could not be deleted is after the
// next snapshot: nothing waits for that.
func (w *worker) prune(ctx context.Context, gc GroupConfig, sn scaling.Snapshotter, from time.Time) {
	err := w.call(ctx, gc, "prune_snapshots", func(ctx context.Context) error {
		return sn.PruneSnapshots(ctx, w.g.name, gc.Group.SnapshotsKeep, from)
	})
	if err != nil && ctx.Err() == nil {
		w.log.Warn("old snapshots could not be deleted", "keep", gc.Group.SnapshotsKeep, "err", err)
	}
}

// stop asks the guest to shut down and cuts its power at the deadline. It reports
// whether the guest is known to be off.
func (w *worker) stop(ctx context.Context, gc GroupConfig, i scaling.Instance, st *scaling.State) (bool, error) {
	sh, ok := gc.Provider.(scaling.Shutdowner)
	if !ok || i.PoweredOff {
		return true, nil
	}
	var vm scaling.VM
	err := w.call(ctx, gc, "get", func(ctx context.Context) (err error) {
		vm, err = gc.Provider.Get(ctx, i.Ref())
		return err
	})
	asked := w.step(st) == "shutdown" || w.step(st) == "power_off"
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil && !scaling.IsNotFound(err) && asked && w.now().After(i.Deadline):
		// A guest that hangs may keep it from being seen; cutting its power ends that.
	case err != nil && !scaling.IsNotFound(err):
		return false, err
	case err != nil || vm.Power == scaling.PowerStopped || vm.Power == scaling.PowerCrashed:
		return true, w.change(ctx, func(s *scaling.State) {
			if x := s.Instance(w.id); x != nil {
				x.PoweredOff = true
			}
		})
	}
	switch step := w.step(st); {
	case step != "shutdown" && step != "power_off":
		return false, w.change(ctx, func(s *scaling.State) {
			now := w.now()
			s.Step(w.id, "shutdown", now)
			if x := s.Instance(w.id); x != nil {
				x.Deadline = now.Add(gc.Group.ShutdownDeadline)
			}
		})
	case !w.asked && step == "shutdown" && w.now().Before(i.Deadline):
		// Also after a restart: the one before may have ended between the intent and
		// the call.
		w.asked = true
		err := w.call(ctx, gc, "shutdown", func(ctx context.Context) error { return sh.Shutdown(ctx, i.Ref(), false) })
		if err != nil && !scaling.IsNotFound(err) {
			w.log.Warn("the guest could not be asked to stop; its power is cut at the deadline", "err", err, "deadline", gc.Group.ShutdownDeadline)
		}
	case w.now().After(i.Deadline) || step == "power_off":
		if step != "power_off" {
			w.log.Warn("the guest did not stop by itself; its power is cut", "deadline", gc.Group.ShutdownDeadline)
			return false, w.change(ctx, func(s *scaling.State) { s.Step(w.id, "power_off", w.now()) })
		}
		err := w.call(ctx, gc, "power_off", func(ctx context.Context) error { return sh.Shutdown(ctx, i.Ref(), true) })
		if err != nil && !scaling.IsNotFound(err) {
			return false, err
		}
	}
	sleep(ctx, poll, nil)
	return false, nil
}

// room notes whether the provider has room for another VM, and why not.
func (g *group) room(why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if why != "" && g.noRoom == "" {
		g.log.Warn("the provider has no room", "err", why)
	}
	g.noRoom = why
}
