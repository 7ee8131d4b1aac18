package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/scalehook/scalehook/internal/cloud"
)

// Provisioner carries out one file at one cloud.
type Provisioner struct {
	file *File
	c    *client
}

// Open finds the credentials that the file names; nothing is contacted yet.
func Open(f *File, log *slog.Logger) (*Provisioner, error) {
	c, err := cloud.Open(f.Cloud, log)
	if err != nil {
		return nil, fmt.Errorf("%s:%d: cloud: %w", f.path, line(f.root, "cloud"), err)
	}
	return &Provisioner{file: f, c: &client{cloud: c, poll: defaultPoll}}, nil
}

// Close gives back connections.
func (p *Provisioner) Close() { p.c.cloud.Close() }

// Place names cloud and project for people.
func (p *Provisioner) Place(ctx context.Context) (string, error) { return p.c.describe(ctx) }

// Plan reads what is there and says what Apply would do. It changes nothing. The
// error is everything that stands in the way; the plan comes with it.
func (p *Provisioner) Plan(ctx context.Context) (Plan, error) {
	return p.once(ctx, func(w *World) Plan { return makePlan(p.file, w) })
}

// Apply carries out the plan, step by step, and says each step before it is taken.
// It is safe to be killed and called again at any point. What it returns is the plan
// of what is there in the end.
func (p *Provisioner) Apply(ctx context.Context, say func(step string)) (Plan, error) {
	return p.converge(ctx, func(w *World) Plan { return makePlan(p.file, w) }, say)
}

// DestroyPlan says what Destroy would do.
func (p *Provisioner) DestroyPlan(ctx context.Context, o DestroyOptions) (Plan, error) {
	return p.once(ctx, func(w *World) Plan { return destroyPlan(p.file, w, o) })
}

// Destroy removes all that was made for the file and nothing else. It is safe to be
// killed and called again at any point.
func (p *Provisioner) Destroy(ctx context.Context, o DestroyOptions, say func(step string)) (Plan, error) {
	return p.converge(ctx, func(w *World) Plan { return destroyPlan(p.file, w, o) }, say)
}

// keep is how many snapshots stay.
func (p *Provisioner) keep() int {
	if p.file.Snapshot == nil {
		return defaultKeep
	}
	return p.file.Snapshot.Keep
}

// CleanupPlan lists what nobody needs any more.
func (p *Provisioner) CleanupPlan(ctx context.Context) (Plan, error) {
	return p.once(ctx, func(w *World) Plan { return cleanupPlan(p.file, w, p.keep()) })
}

// Cleanup removes what CleanupPlan lists to be removed.
func (p *Provisioner) Cleanup(ctx context.Context, say func(step string)) (Plan, error) {
	return p.converge(ctx, func(w *World) Plan { return cleanupPlan(p.file, w, p.keep()) }, say)
}

func (p *Provisioner) once(ctx context.Context, plan func(*World) Plan) (Plan, error) {
	w, err := p.c.look(ctx, p.file)
	if err != nil {
		return Plan{}, err
	}
	out := plan(w)
	return out, out.Err()
}

// maxSteps bounds a run, in case that a cloud never shows what it was told.
const maxSteps = 500

// patience is how often a cloud is asked again that does not show yet what a step
// brought about.
const patience = 5

func (p *Provisioner) converge(ctx context.Context, plan func(*World) Plan, say func(string)) (_ Plan, err error) {
	unlock, err := p.lock()
	if err != nil {
		return Plan{}, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	w, err := p.c.look(ctx, p.file)
	if err != nil {
		return Plan{}, err
	}
	now := plan(w)
	for range maxSteps {
		if err := now.Err(); err != nil {
			return now, err
		}
		next := now.next()
		if next == nil {
			return now, nil
		}
		say(next.what)
		if err := next.do(ctx, p.c); err != nil {
			return now, err
		}
		for again := range patience {
			if again > 0 {
				if err := wait(ctx, p.c.poll); err != nil {
					return now, err
				}
			}
			if err := p.c.read(ctx, p.file, w, next.touches); err != nil {
				return now, err
			}
			now = plan(w)
			if n := now.next(); n == nil || n.what != next.what {
				break
			}
		}
		if n := now.next(); n != nil && n.what == next.what {
			return now, fmt.Errorf("%s: the cloud said that it is done, and does not show it", next.what)
		}
	}
	return now, fmt.Errorf("not done after %d steps", maxSteps)
}

// lock keeps two runs of one file from making everything twice.
func (p *Provisioner) lock() (unlock func() error, err error) {
	f, err := os.Open(p.file.path)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errors.Join(fmt.Errorf("%s: another run of this file is under way: wait for its end", p.file.path), f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", p.file.path, err), f.Close())
	}
	return f.Close, nil
}

// SnapshotOptions say what a snapshot is made of.
type SnapshotOptions struct {
	// Group makes one of every server of this scaling group, instead of the one that
	// the file names.
	Group string
	// Keep is how many stay, of the file's or of the group's. Default: the file's; for
	// a removal none.
	Keep int
}

// Snapshots is what came of it.
type Snapshots struct {
	Made    []Taken `json:"made"`
	Removed []Taken `json:"removed"`
}

// Taken is one snapshot.
type Taken struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Server string `json:"server"`
}

// Snapshot makes snapshots, waits until they are active, and then removes those that
// are not kept: only what it made itself.
func (p *Provisioner) Snapshot(ctx context.Context, o SnapshotOptions, say func(string)) (out Snapshots, err error) {
	unlock, err := p.lock()
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	w, err := p.c.look(ctx, p.file)
	if err != nil {
		return out, err
	}
	list, err := p.snapshotted(w, o.Group)
	if err != nil {
		return out, err
	}
	m, deadline := p.file.mark(), defaultSnapshot
	if s := p.file.Snapshot; s != nil {
		deadline = s.Deadline
	}
	for _, s := range list {
		say("make a snapshot of " + s.Name)
		i, err := p.c.makeSnapshot(ctx, m, s, o.Group, deadline)
		if err != nil {
			return out, err
		}
		out.Made = append(out.Made, Taken{i.ID, i.Name, s.ID})
	}
	if err := p.c.read(ctx, p.file, w, []Kind{KindSnapshot}); err != nil {
		return out, err
	}
	keep := o.Keep
	if keep == 0 {
		keep = p.keep()
	}
	for _, i := range obsolete(m.snapshots(w, o.Group), max(keep, len(list))) {
		say(removeImageStep(i).what)
		if err := p.c.removeImage(ctx, i.ID); err != nil {
			return out, err
		}
		out.Removed = append(out.Removed, Taken{i.ID, i.Name, i.Properties[propServer]})
	}
	return out, nil
}

// RemovalPlan lists the snapshots of the scaling group o.Group, and says which of them
// RemoveSnapshots would remove: all but the newest o.Keep. While the group has servers
// it is an error.
func (p *Provisioner) RemovalPlan(ctx context.Context, o SnapshotOptions) (Plan, error) {
	return p.once(ctx, func(w *World) Plan { return removalPlan(p.file, w, o.Group, o.Keep) })
}

// RemoveSnapshots removes what RemovalPlan lists to be removed. It is safe to be called
// again at any point.
func (p *Provisioner) RemoveSnapshots(ctx context.Context, o SnapshotOptions, say func(string)) (Plan, error) {
	return p.converge(ctx, func(w *World) Plan { return removalPlan(p.file, w, o.Group, o.Keep) }, say)
}

// snapshotted are the servers that a snapshot is wanted of.
func (p *Provisioner) snapshotted(w *World, of string) ([]Server, error) {
	if of != "" {
		var list []Server
		var known []string
		for _, s := range w.Servers {
			if m, ours := cloud.ParseMark(s.Tags); ours && string(m.Owner) == p.file.Owner {
				known = append(known, m.Group)
				if m.Group == of {
					list = append(list, s)
				}
			}
		}
		if len(list) == 0 {
			return nil, cloud.NotThere("group with servers", of, known)
		}
		return list, nil
	}
	if p.file.Server == nil {
		return nil, fmt.Errorf("%s: there is no server to make a snapshot of: add server, or name a group", p.file.path)
	}
	pl := newPlanner(p.file, w)
	s := one(pl, "server.name", KindServer, w.Servers, p.file.Server.Name)
	if err := pl.plan.Err(); err != nil {
		return nil, err
	}
	if s == nil {
		return nil, cloud.NotThere("server", p.file.Server.Name, names(w.Servers))
	}
	if !slices.Contains([]string{"ACTIVE", "SHUTOFF", "PAUSED", "SUSPENDED"}, s.Status) {
		return nil, fmt.Errorf("server %s (%s) is %s: no snapshot can be made of it now", s.Name, s.ID, s.Status)
	}
	return []Server{*s}, nil
}
