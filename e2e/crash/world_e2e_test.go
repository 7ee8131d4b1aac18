//go:build e2e

package crash_test

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"

	"github.com/scalehook/scalehook/internal/api"
)

// picture is everything that a life leads to, in words that two lives can be
// compared by: it has names and no ids, which are random.
type picture struct {
	// VMs are all that the simulated hypervisor has, whosever they are.
	VMs []string
	// Disks are those that were made for instances.
	Disks []string
	// Members are the pool's.
	Members []string
	// Instances are those that the store has and that are not gone.
	Instances []string
	Primary   string
	// Activities are all that ended, each with how.
	Activities []string
}

// whole holds once the pool is what the instances say and so many of them are in
// service.
func (p picture) whole(want int) error {
	serving := 0
	var members []string
	for _, i := range p.Instances {
		switch name, state, _ := strings.Cut(i, " "); state {
		case "in_service":
			serving++
			members = append(members, fmt.Sprintf("%q ready", name))
		case "standby":
			members = append(members, fmt.Sprintf("%q draining", name))
		}
	}
	slices.Sort(members)
	switch {
	case serving != want:
		return fmt.Errorf("%d are in service, not %d", serving, want)
	case !slices.Equal(p.Members, members):
		return fmt.Errorf("the pool has %q, not %q", p.Members, members)
	case !slices.Contains(p.Instances, p.Primary+" in_service"):
		return fmt.Errorf("the primary is %q", p.Primary)
	}
	return nil
}

// stage is where a life is played: a place for VMs and a balancer.
type stage interface {
	// command and client run the server and reach it.
	command(ctx context.Context, program string, args ...string) *exec.Cmd
	client() *http.Client
	// prepare makes what is there before a run's group is, and clean takes away
	// what is left after it.
	prepare(r *run) error
	clean(r *run) error
	// config is the server's configuration.
	config(r *run) string
	// things adds to a picture what the place has; names are the instances', by
	// id, without the run's prefix. An instance that is not gone and has no VM
	// with its mark is an error.
	things(ctx context.Context, r *run, p *picture, names map[string]string, here []api.Instance) error
	// real says that VMs are real ones: runs share their place, and calls take time.
	real() bool
}

// look draws the picture once nothing is under way; before that it is an error
// that says what is.
func (r *run) look(ctx context.Context, s *server) (p picture, err error) {
	g, err := s.client.Group(ctx, group)
	if err != nil {
		return p, err
	}
	if len(g.Activities)+len(g.Orders) > 0 {
		return p, fmt.Errorf("%d activities and %d orders are under way", len(g.Activities), len(g.Orders))
	}
	ended, err := s.client.Activities(ctx, group, "", 100)
	if err != nil {
		return p, err
	}
	names := map[string]string{}
	var here []api.Instance
	for _, i := range g.Instances {
		names[i.ID] = strings.TrimPrefix(i.Name, r.prefix)
		if i.State == "gone" {
			continue
		}
		here = append(here, i)
		p.Instances = append(p.Instances, names[i.ID]+" "+i.State)
		if i.ID == g.Primary {
			p.Primary = names[i.ID]
		}
	}
	for _, a := range ended {
		p.Activities = append(p.Activities, a.Kind+" "+a.Status)
	}
	err = r.stage.things(ctx, r, &p, names, here)
	for _, list := range [][]string{p.VMs, p.Disks, p.Members, p.Instances, p.Activities} {
		slices.Sort(list)
	}
	return p, err
}
