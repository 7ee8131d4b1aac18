//go:build e2e

package crash_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/scalehook/scalehook/internal/client"
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

// savedWorld is what the simulated provider keeps in its directory.
type savedWorld struct {
	VMs map[string]struct {
		Name, UUID, Power, Address string
		Mark                       *struct{ ID, UUID string }
	}
	Disks map[string]int
	Pools map[string]struct {
		Members []struct{ ID, State, Addr string }
	}
}

func readWorld(dir string) (w savedWorld, err error) {
	content, err := os.ReadFile(filepath.Join(dir, "world", "world.json"))
	if err != nil {
		return w, err
	}
	return w, json.Unmarshal(content, &w)
}

// look draws the picture once nothing is under way; before that it is an error
// that says what is.
func look(ctx context.Context, c *client.Client, dir string) (p picture, err error) {
	g, err := c.Group(ctx, group)
	if err != nil {
		return p, err
	}
	if len(g.Activities)+len(g.Orders) > 0 {
		return p, fmt.Errorf("%d activities and %d orders are under way", len(g.Activities), len(g.Orders))
	}
	ended, err := c.Activities(ctx, group, "", 100)
	if err != nil {
		return p, err
	}
	w, err := readWorld(dir)
	if err != nil {
		return p, err
	}
	names := map[string]string{} // by instance id
	for _, i := range g.Instances {
		names[i.ID] = i.Name
		if i.State == "gone" {
			continue
		}
		p.Instances = append(p.Instances, i.Name+" "+i.State)
		if vm, ok := w.VMs[i.UUID]; !ok || vm.Mark == nil || vm.Mark.ID != i.ID || vm.Mark.UUID != vm.UUID {
			err = errors.Join(err, fmt.Errorf("instance %s (%s) has no VM with its mark", i.Name, i.State))
		}
		if i.ID == g.Primary {
			p.Primary = i.Name
		}
	}
	for _, vm := range w.VMs {
		of := "nobody"
		if vm.Mark != nil {
			of = names[vm.Mark.ID]
		}
		p.VMs = append(p.VMs, fmt.Sprintf("%s %s of %q", vm.Name, vm.Power, of))
	}
	for id := range w.Disks {
		p.Disks = append(p.Disks, fmt.Sprintf("of %q", names[id]))
	}
	for _, m := range w.Pools[group].Members {
		p.Members = append(p.Members, fmt.Sprintf("%q %s", names[m.ID], m.State))
	}
	for _, a := range ended {
		p.Activities = append(p.Activities, a.Kind+" "+a.Status)
	}
	for _, list := range [][]string{p.VMs, p.Disks, p.Members, p.Instances, p.Activities} {
		slices.Sort(list)
	}
	return p, err
}
