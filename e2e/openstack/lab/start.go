package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
)

// clientLimit bounds one run of the openstack client.
const clientLimit = 5 * time.Minute

// Start returns a working cloud of the wanted kind: the one that runs, if it will
// do, or one that it brings up, which takes up to a minute and a half. What it
// found it leaves as it was when the test ends: a cloud that ran runs, and one that
// it brought up is ended. Until then nobody else who uses Start ends or disturbs it.
//
// It may be called once per test, and not in parallel tests of one that has it
// Alone. Without root, or without the packages, the test is skipped (see testenv).
func Start(t testing.TB, opts Options) *Cloud {
	t.Helper()
	if err := opts.validate(); err != nil {
		t.Fatal(err)
	}
	testenv.Need(t, testenv.Root, installed(opts.Virt))
	if opts.Progress == nil || opts.Progress == (Options{}).Progress {
		opts.Progress = t.Output()
	}
	release := use(t, opts.Alone)
	if c := fitting(t, opts); c != nil {
		return c
	}
	// Something has to be started or ended, so nobody else may be there. Who shares
	// the lock would wait for himself.
	release()
	use(t, true)
	if c := fitting(t, opts); c != nil {
		return c
	}
	for _, other := range runningClouds(opts.State) {
		if other.opts.State == opts.State {
			continue // incomplete: Up starts what is missing
		}
		t.Logf("ending the cloud of %s for the time of this test", other.opts.State)
		if err := other.Down(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		other.opts.Progress = opts.Progress
		t.Cleanup(func() {
			if _, err := Up(lasting(t), other.opts); err != nil {
				t.Errorf("bring the cloud of %s back: %v", other.opts.State, err)
			}
		})
	}
	before, err := Find(opts.State)
	ran := err == nil && before.Running()
	if !ran {
		t.Cleanup(func() { end(t, opts.State, false) })
	}
	c, err := Up(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// end ends the cloud of a folder, even one that did not come up wholly.
func end(t testing.TB, state string, wipe bool) {
	t.Helper()
	c, err := Find(state)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = c.Down(lasting(t), wipe)
	}
	if err != nil {
		t.Error(err)
	}
}

// lasting is the context of something that bounds itself and is done in a test's
// clean-up too, when its own context has ended.
func lasting(t testing.TB) context.Context { return context.WithoutCancel(t.Context()) }

// installed holds when the machine has the packages.
func installed(virt Virt) testenv.Requirement {
	return func() error {
		if missing := Missing(virt); len(missing) > 0 {
			return fmt.Errorf("needs %s (deploy/setup/install openstack)", strings.Join(missing, ", "))
		}
		return nil
	}
}

// use holds the lock until the test ends, or until what it returns is called.
func use(t testing.TB, alone bool) (release func()) {
	t.Helper()
	held, err := lock(t.Context(), alone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	return func() { held.Close() }
}

// fitting is the running cloud, if it will do.
func fitting(t testing.TB, opts Options) *Cloud {
	t.Helper()
	c, err := Find(opts.State)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.opts.Virt != opts.Virt || c.opts.Private || opts.Octavia && !c.opts.Octavia || c.Check(t.Context()) != nil {
		return nil
	}
	return c
}

// runningClouds are those of the folder and of the default folders that run.
func runningClouds(state string) []*Cloud {
	var out []*Cloud
	folders := []string{state, DefaultState(Fake), DefaultState(QEMU)}
	slices.Sort(folders)
	for _, folder := range slices.Compact(folders) {
		if c, err := Find(folder); err == nil && c.Running() && !c.opts.Private {
			out = append(out, c)
		}
	}
	return out
}

// StopService ends one service, as Processes names it; when the test ends it is
// started again. Use it on a cloud that one has Alone.
func (c *Cloud) StopService(t testing.TB, name string) {
	t.Helper()
	if _, err := c.service(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.StartService(t, name) })
	if err := c.d.terminate(lasting(t), 5*time.Second, name); err != nil {
		t.Fatal(err)
	}
}

// StartService starts a service that was stopped, and returns when it works: its
// API answers, or nova-compute has reported itself.
func (c *Cloud) StartService(t testing.TB, name string) {
	t.Helper()
	if c.d.alive(name) {
		return
	}
	ctx := lasting(t)
	s, err := c.service(name)
	if err != nil {
		t.Fatal(err)
	}
	began, err := c.SQL(ctx, "select utc_timestamp()")
	if err != nil && name != database {
		t.Fatal(err)
	}
	if err := c.startServices(ctx, name); err != nil {
		t.Fatal(err)
	}
	switch {
	case s.port != 0:
		err = c.awaitAPIs(ctx, name)
	case name == novaCompute:
		err = c.await(ctx, name, 2*time.Minute, func() error {
			up, err := c.SQL(ctx, fmt.Sprintf("select count(*) from nova.services where `binary` = 'nova-compute' and deleted = 0 and last_seen_up >= '%s'", began))
			if err == nil && up == "0" {
				err = errors.New("it has not reported itself")
			}
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Pause makes a service hang: its connections are accepted and never answered. It
// goes on when the test ends, or with Resume.
func (c *Cloud) Pause(t testing.TB, name string) {
	t.Helper()
	t.Cleanup(func() {
		if c.d.alive(name) {
			c.Resume(t, name)
		}
	})
	if err := c.d.signal(name, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 30*time.Second, name+" to stand still", func() error {
		pid, ok := c.d.pid(name)
		if !ok {
			return fmt.Errorf("%s has ended", name)
		}
		return running(pid)
	})
}

// Resume lets a paused service go on.
func (c *Cloud) Resume(t testing.TB, name string) {
	t.Helper()
	if err := c.d.signal(name, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// Orders are what a pretended guest is told at any time. How it starts is told by
// the server's metadata: lab_boot (seconds until it is ACTIVE), and lab_spawn,
// "abort" (ERROR at once) or "fail" (ERROR after nova has looked for another host).
type Orders struct {
	// Util is the share of each of its CPUs that diagnostics show. Nil: 0.05.
	Util *float64 `json:"util,omitempty"`
	// State "crashed" ends it; nova sees that after at most 15 s and says SHUTOFF.
	State string `json:"state,omitempty"`
	// Console is what it printed. Empty: nova's own sample.
	Console string `json:"console,omitempty"`
}

// Orders gives a pretended guest its orders, in place of earlier ones. They are
// withdrawn when the test ends.
func (c *Cloud) Orders(t testing.TB, server string, orders Orders) {
	t.Helper()
	if c.opts.Virt != Fake {
		t.Fatalf("guests of the kind %s take no orders", c.opts.Virt)
	}
	raw, err := json.Marshal(orders)
	if err != nil {
		t.Fatal(err)
	}
	file := c.path("guests", server+".json")
	t.Cleanup(func() { _ = os.Remove(file) })
	if err := replaceFile(file, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// OpenStack runs the real openstack client, which takes about two seconds, as one
// of the clouds (Member, Admin and so on), and returns what it prints: JSON, where
// the command has something to tell. A failure ends the test. It works in a test's
// clean-up as well, as every method does that takes the test.
func (c *Cloud) OpenStack(t testing.TB, cloud string, args ...string) []byte {
	t.Helper()
	out, err := c.Client(lasting(t), cloud, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Client is OpenStack for those who expect an error, which has what the client
// printed.
func (c *Cloud) Client(ctx context.Context, cloud string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, clientLimit)
	defer cancel()
	words := append([]string{"--os-cloud", cloud}, args...)
	if tells(args) {
		words = append(words, "-f", "json")
	}
	cmd := c.Namespace().Command(ctx, "/usr/bin/openstack", words...)
	cmd.Env = append(append([]string{}, cmd.Env...), "OS_CLIENT_CONFIG_FILE="+c.CloudsFile())
	out, err := cmd.Output()
	if err != nil {
		var said []byte
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			said = exit.Stderr
		}
		return nil, fmt.Errorf("openstack %s: %w: %s", strings.Join(words, " "), err, strings.TrimSpace(string(said)))
	}
	return out, nil
}

// tells reports whether a command of the client prints something that can be had
// as JSON. What decides is the first of these words.
func tells(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "console": // its log is text
			return false
		case "create", "list", "show", "issue":
			return true
		case "add", "delete", "lock", "pause", "reboot", "remove", "resume", "save", "set", "start", "stop", "suspend", "unlock", "unpause", "unset":
			return false
		}
	}
	return false
}
