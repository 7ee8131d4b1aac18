//go:build e2e

package crash_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/scalehook/scalehook/internal/api"
)

// simulatedStage is the simulated provider with its pool, kept in a folder that
// outlives the server.
type simulatedStage struct{}

func (simulatedStage) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// client makes a connection of its own for every request: none is left over from
// a server that was killed.
func (simulatedStage) client() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
}

func (simulatedStage) prepare(*run) error { return nil }
func (simulatedStage) clean(*run) error   { return nil }
func (simulatedStage) real() bool         { return false }

// config is one group over the simulated provider and its pool. Everything that
// takes its time in reality takes very little here.
func (simulatedStage) config(r *run) string {
	return fmt.Sprintf(`owner: crash
monitoring: {scrape_interval: 1ms, evaluation_interval: 1ms, rate_window: 4ms}
providers:
  sim:
    simulated:
      directory: %q
      boot_time: 50ms
      shutdown_time: 50ms
      drain_time: 50ms
      vms: [{name: base, vcpus: 1}, {name: web-1, vcpus: 1}]
balancers:
  sim: {simulated: {provider: sim}}
groups:
  web:
    mode: scale_out_only
    min: 2
    max: 4
    cooldown: 0s
    warm_up: 0s
    backoff_min: 100ms
    snapshot: true
    snapshots_keep: 1
    adopt: [base]
    name: "web-{n}"
    port: 80
    template: {public_address: 203.0.113.7}
`, filepath.Join(r.dir, "world"))
}

// savedWorld is what the simulated provider keeps in its directory.
type savedWorld struct {
	VMs map[string]struct {
		Name, UUID, Power, Address string
		Mark                       *struct{ ID, UUID string }
	}
	Disks  map[string]json.RawMessage
	Public map[string]string // the VMs that public addresses lead to
	Pools  map[string]struct {
		Members []struct{ ID, State, Addr string }
	}
}

func (simulatedStage) things(_ context.Context, r *run, p *picture, names map[string]string, here []api.Instance) (err error) {
	content, err := os.ReadFile(filepath.Join(r.dir, "world", "world.json"))
	if err != nil {
		return err
	}
	var w savedWorld
	if err := json.Unmarshal(content, &w); err != nil {
		return err
	}
	for _, i := range here {
		if vm, ok := w.VMs[i.UUID]; !ok || vm.Mark == nil || vm.Mark.ID != i.ID || vm.Mark.UUID != vm.UUID {
			err = errors.Join(err, fmt.Errorf("instance %s (%s) has no VM with its mark", i.Name, i.State))
		}
	}
	for _, vm := range w.VMs {
		of := "nobody"
		if vm.Mark != nil {
			of = fmt.Sprintf("%q", names[vm.Mark.ID])
		}
		public := ""
		for address, uuid := range w.Public {
			if uuid == vm.UUID {
				public = ", has " + address
			}
		}
		p.VMs = append(p.VMs, fmt.Sprintf("%s %s of %s%s", vm.Name, vm.Power, of, public))
	}
	for id := range w.Disks {
		p.Disks = append(p.Disks, fmt.Sprintf("of %q", names[id]))
	}
	for _, m := range w.Pools[group].Members {
		p.Members = append(p.Members, fmt.Sprintf("%q %s", names[m.ID], m.State))
	}
	return err
}
