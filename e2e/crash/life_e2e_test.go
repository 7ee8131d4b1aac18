//go:build e2e

package crash_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/api"
)

const group = "web"

// life is a group's life, from an empty store to the end of its phases.
type life struct {
	name string
	// env is the server's, in both runs.
	env    []string
	phases []phase
}

// phase is something that is asked of the group, and where that leads.
type phase struct {
	name string
	ask  func(ctx context.Context, s *server, r *run) error
	// want is the number of instances in service; the rest of the picture is the
	// undisturbed life's.
	want int
	// slow is what the phase waits for on purpose, beside its calls.
	slow time.Duration
}

func count(n int) api.OrderRequest { return api.OrderRequest{Count: &n} }

// lives are what is killed. The first passes everything that goes well, a launch
// that fails (somebody else's VM has the name web-1) and a baseline that is
// adopted and let go; the second a removal that fails.
func lives() []life {
	nothing := func(context.Context, *server, *run) error { return nil }
	return []life{
		{name: "life", phases: []phase{
			{name: "fill and adopt", ask: nothing, want: 2},
			{name: "alert", want: 3, ask: notify},
			{name: "standby", want: 2, ask: func(ctx context.Context, s *server, r *run) error {
				_, err := s.client.Standby(ctx, group, r.prefix+"web-2", true)
				return err
			}},
			{name: "back from standby", want: 3, ask: func(ctx context.Context, s *server, r *run) error {
				_, err := s.client.Standby(ctx, group, r.prefix+"web-2", false)
				return err
			}},
			{name: "handover", want: 3, ask: func(ctx context.Context, s *server, _ *run) error {
				_, err := s.client.Handover(ctx, group, "key-handover", api.OrderRequest{})
				return err
			}},
			{name: "scale-out", want: 4, ask: func(ctx context.Context, s *server, _ *run) error {
				_, err := s.client.ScaleOut(ctx, group, "key-out", count(1))
				return err
			}},
			{name: "scale-in", want: 3, ask: func(ctx context.Context, s *server, _ *run) error {
				_, err := s.client.ScaleIn(ctx, group, "key-in", count(1))
				return err
			}},
			{name: "backup", want: 3, ask: backup},
		}},
		{name: "removal that fails", env: []string{"SCALEHOOK_FAULT_KEEP=web-3"}, phases: []phase{
			{name: "fill and adopt", ask: nothing, want: 2},
			{name: "scale-out", want: 3, ask: func(ctx context.Context, s *server, _ *run) error {
				_, err := s.client.ScaleOut(ctx, group, "key-out", count(1))
				return err
			}},
			{name: "scale-in", want: 2, slow: 8 * time.Second, ask: func(ctx context.Context, s *server, _ *run) error {
				_, err := s.client.ScaleIn(ctx, group, "key-in", count(1))
				return err
			}},
		}},
	}
}

// notify sends a message as Alertmanager does, and again the same one when there
// was no answer.
func notify(ctx context.Context, s *server, r *run) error {
	file := filepath.Join(r.dir, "alert.json")
	message, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		// What began to fire before the last action had its effect proves nothing.
		g, err := s.client.Group(ctx, group)
		if err != nil {
			return err
		}
		if wait := time.Until(g.LastActionEnd.Add(time.Duration(g.Settings.Settle))); wait > 0 {
			return fmt.Errorf("too early for an alert by %v", wait)
		}
		message = fmt.Appendf(nil, `{"version":"4","groupKey":"{}:{scaling_group=\"web\"}","truncatedAlerts":0,"status":"firing",
"receiver":"scalehook","groupLabels":{},"commonLabels":{},"commonAnnotations":{},"externalURL":"http://alertmanager",
"alerts":[{"status":"firing","labels":{"alertname":"GroupCPUHigh","scalehook_signal":"high","scaling_group":"web"},
"annotations":{},"startsAt":%q,"endsAt":"0001-01-01T00:00:00Z","generatorURL":"","fingerprint":"8d1c9a2b3e4f5061"}]}`,
			time.Now().UTC().Format(time.RFC3339Nano))
		if err := os.WriteFile(file, message, 0o600); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return s.post(ctx, "POST", "/api/v1/alertmanager", string(message))
}

// backup takes a copy of the store.
func backup(ctx context.Context, s *server, r *run) (err error) {
	f, err := os.Create(filepath.Join(r.dir, "backup.db"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return s.client.Backup(ctx, f)
}

// run is one run of a life.
type run struct {
	stage   stage
	life    life
	program string
	dir     string
	address string
	// prefix is put before the names of VMs where several runs share a place.
	prefix string
	// kill is where the server is killed, such as provider.create.after:1; empty:
	// nowhere.
	kill string
	// again is where the server that follows is killed too, if it gets there.
	again string
	// record is the file that gets the points that were passed; empty: none.
	record string
	// want is the undisturbed run's result; nil in that run itself.
	want *result
}

// result is what came of a run.
type result struct {
	pictures []picture // after each phase
	// kills is how often a point was reached, in phase; then took is from the moment
	// the last server was ready until the phase's picture was there.
	kills int
	phase string
	start time.Duration // from the last server's start to ready
	took  time.Duration
}

// patience bounds the wait for a picture, so that one that never comes is told
// from one that comes late.
const patience = 30 * time.Second

// realPatience is how much longer that may be where VMs are real.
const realPatience = 6

// play runs a life. A run with a kill ends with the phase in
// which it happened.
func (r *run) play(ctx context.Context) (res result, err error) {
	if err := r.stage.prepare(r); err != nil {
		return res, fmt.Errorf("prepare: %w", err)
	}
	if err := os.WriteFile(filepath.Join(r.dir, "scalehook.yml"), []byte(r.stage.config(r)), 0o600); err != nil {
		return res, err
	}
	began := time.Now()
	env := append([]string{"SCALEHOOK_FAULT=" + r.kill, "SCALEHOOK_FAULT_LOG=" + r.record}, r.life.env...)
	s, err := startServer(ctx, r, env...)
	if err != nil {
		return res, err
	}
	defer func() {
		if stopErr := s.stop(); err == nil {
			err = stopErr
		}
		if cleanErr := r.stage.clean(r); err == nil {
			err = cleanErr
		}
	}()
	var ready time.Time
	for k, ph := range r.life.phases {
		for {
			res.phase = ph.name
			var pic picture
			if err = s.await(ctx, startDeadline, s.ready); err == nil {
				if ready.IsZero() {
					ready = time.Now()
					res.start = ready.Sub(began)
				}
				pic, err = r.phase(ctx, s, k)
			}
			if err == nil {
				res.pictures = append(res.pictures, pic)
				break
			}
			if !errors.Is(err, errEnded) || res.kills > 1 {
				return res, fmt.Errorf("phase %s: %w", ph.name, err)
			}
			if err := s.killed(); err != nil {
				return res, err
			}
			env := r.life.env
			if res.kills == 0 {
				env = append([]string{"SCALEHOOK_FAULT=" + r.again}, env...)
			}
			res.kills++
			began, ready = time.Now(), time.Time{}
			if s, err = startServer(ctx, r, env...); err != nil {
				return res, err
			}
		}
		if res.kills > 0 {
			res.took = time.Since(ready)
			return res, r.stays(ctx, s, res.pictures[k])
		}
	}
	return res, nil
}

// phase asks for phase k, again as long as no answer comes, and waits for its
// picture.
func (r *run) phase(ctx context.Context, s *server, k int) (pic picture, err error) {
	ph, patience := r.life.phases[k], patience
	if r.stage.real() {
		patience *= realPatience
	}
	if err := s.await(ctx, patience, func(ctx context.Context) error { return ph.ask(ctx, s, r) }); err != nil {
		return pic, err
	}
	err = s.await(ctx, patience, func(ctx context.Context) (err error) {
		if pic, err = r.look(ctx, s); err != nil {
			return err
		}
		if err := pic.whole(ph.want); err != nil {
			return err
		}
		if r.want != nil {
			if diff := cmp.Diff(r.want.pictures[k], pic); diff != "" {
				return fmt.Errorf("not as in the undisturbed life (-want +got):\n%s", diff)
			}
		}
		return nil
	})
	return pic, err
}

// stays looks again after two decisions more: a picture that was only passed
// through is none.
func (r *run) stays(ctx context.Context, s *server, pic picture) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return errEnded
	case <-time.After(2200 * time.Millisecond):
	}
	after, err := r.look(ctx, s)
	if err != nil {
		return fmt.Errorf("a moment after it was as wished: %w", err)
	}
	if diff := cmp.Diff(pic, after); diff != "" {
		return fmt.Errorf("it did not stay (-before +after):\n%s", diff)
	}
	return nil
}
