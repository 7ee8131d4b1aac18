//go:build e2e

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/testenv"
)

// A drain is cancelled by a confirmed high alone, so the kills around that step
// need the whole loop; all other steps are killed in e2e/crash.
func TestAKillWhileADrainIsCancelled(t *testing.T) {
	points := filepath.Join(folder(t), "scalehook")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "libvirt_dlopen,faultpoints", "-o", points, "./cmd/scalehook")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build with fault points: %v: %s", err, out)
	}
	for _, point := range []string{"step.cancel.before", "step.cancel.after"} {
		t.Run("killed at "+point+" it is back in service after the next start", func(t *testing.T) {
			t.Parallel()
			m := newMonitoring(t, 1)
			m.startAlertmanager(0)
			m.startPrometheus(time.Second)
			s := newServer(t, here(), m.server, m.draining("0.1"))
			s.start()
			s.await("web-1, the older one, is in service", serving(1))
			s.desired(2)
			s.await("low takes one out, whose sessions go on", func(g api.Group) error {
				if instance(g, "web-2").State != "draining" || g.InService != 1 {
					return fmt.Errorf("web-2 is %q", instance(g, "web-2").State)
				}
				return nil
			})
			before := uuids(s.view(group))
			if err := s.process.Stop(); err != nil {
				t.Fatal(err)
			}

			s.configure(m.draining("3.4")) // high stands from now on
			killed := exec.CommandContext(context.WithoutCancel(t.Context()), points, s.args()...)
			killed.Env = append(os.Environ(), "SCALEHOOK_FAULT="+point+":1")
			process := testenv.Start(t, killed, nil)
			select {
			case <-process.Done():
			case <-time.After(patience):
				t.Fatalf("%s was never passed: %s", point, describe(s.view(group)))
			}
			s.start()
			s.await("both serve, nothing is under way, nothing was made or removed", func(g api.Group) error {
				now := uuids(g)
				want := map[string]string{"web-1": before["web-1"], "web-2": strings.ReplaceAll(before["web-2"], "draining", "in_service")}
				if diff := cmp.Diff(want, now); diff != "" {
					return errors.New(diff)
				}
				return serving(2)(g)
			})
			var undone []string
			for _, a := range s.activities() {
				if a.Kind == "scale_in" {
					undone = append(undone, a.Status)
				}
			}
			if diff := cmp.Diff([]string{"undone"}, undone); diff != "" {
				t.Errorf("removals: %s", diff)
			}
		})
	}
}

// draining is the configuration of a group whose sessions outlast the test.
func (m *monitoring) draining(load string) string {
	config := m.config("min: 1, max: 2, drain_deadline: 30m", "1m", load)
	return strings.Replace(config, "drain_time: 100ms", "drain_time: 20m", 1)
}
