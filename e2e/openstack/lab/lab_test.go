package lab

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/testenv"
)

// pretended is a cloud of which only the folder is there.
func pretended(t *testing.T, opts Options) *Cloud {
	t.Helper()
	if opts.State == "" {
		// t.TempDir's names are longer than a socket's path may be.
		dir, err := os.MkdirTemp("", "oslab") //nolint:usetesting // see above
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		opts.State = dir
	}
	if err := opts.validate(); err != nil {
		t.Fatal(err)
	}
	c := newCloud(opts)
	if err := c.configure(); err != nil {
		t.Fatal(err)
	}
	if err := c.keep(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConfigurationIsFilledIn(t *testing.T) {
	for _, virt := range []Virt{Fake, QEMU} {
		t.Run(string(virt), func(t *testing.T) {
			c := pretended(t, Options{Virt: virt, Octavia: true})
			seen := 0
			err := filepath.WalkDir(c.State(), func(path string, entry fs.DirEntry, err error) error {
				if err != nil || entry.IsDir() {
					return err
				}
				seen++
				raw, err := os.ReadFile(path)
				if strings.Contains(string(raw), "{{") || strings.Contains(string(raw), "<no value>") {
					t.Errorf("%s has something that is not filled in:\n%s", path, raw)
				}
				return err
			})
			if err != nil || seen < 20 {
				t.Errorf("saw %d files: %v", seen, err)
			}
			nova, err := os.ReadFile(c.path("etc", "nova", "nova.conf"))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(string(nova), "compute_driver = pretended.PretendedDriver"); got != (virt == Fake) {
				t.Errorf("with guests of the kind %s, pretends = %v", virt, got)
			}
			for file, want := range map[string]string{"octavia.conf": "allowed_address_pairs_driver", "worker.conf": "network_noop_driver"} {
				raw, err := os.ReadFile(c.path("etc", "octavia", file))
				if err != nil || !strings.Contains(string(raw), "\nnetwork_driver = "+want+"\n") {
					t.Errorf("%s lacks the network driver %s (%v)", file, want, err)
				}
			}
		})
	}
}

func TestEveryServiceHasANameOfItsOwn(t *testing.T) {
	for _, opts := range []Options{{Virt: Fake}, {Virt: QEMU, Octavia: true}, {Virt: QEMU, Octavia: true, Private: true}} {
		c := pretended(t, opts)
		var names []string
		for _, s := range c.services() {
			names = append(names, s.name)
			if len(s.args) == 0 {
				t.Errorf("%s has no command", s.name)
			}
		}
		sorted := slices.Compact(slices.Sorted(slices.Values(names)))
		if len(sorted) != len(names) {
			t.Errorf("names are there twice: %v", names)
		}
		if got := slices.Contains(names, forwarder); got != (opts.Virt == QEMU && !opts.Private) {
			t.Errorf("%+v: forwards = %v", opts, got)
		}
	}
}

func TestACloudIsFoundByItsFolder(t *testing.T) {
	want := pretended(t, Options{Virt: QEMU, Octavia: true, Private: true})
	got, err := Find(want.State())
	if err != nil {
		t.Fatal(err)
	}
	if got.Virt() != QEMU || !got.Octavia() || !got.opts.Private || got.Running() {
		t.Errorf("found %+v", got.opts)
	}
	if _, err := Find(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
	if err := got.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "keystone does not run") {
		t.Errorf("the check says %v", err)
	}
}

func TestBadOptionsAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		opts Options
		want string
	}{
		"a kind of guests that is not known":   {Options{Virt: "kvm"}, "want fake or qemu"},
		"a folder that the services would not": {Options{State: "/run/lab"}, "do not see /run"},
		"a folder with a long name":            {Options{State: "/" + strings.Repeat("x", 60)}, "at most 60 characters"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.opts.validate(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestTheFolderOfAnotherKindIsRefused(t *testing.T) {
	testenv.Need(t, testenv.Root)
	c := pretended(t, Options{Virt: QEMU})
	if _, err := Up(t.Context(), Options{Virt: Fake, State: c.State()}); err == nil || !strings.Contains(err.Error(), "guests of the kind qemu, not fake") {
		t.Errorf("error %v", err)
	}
}

func TestDaemonsAreEndedWithTheirChildrenAndNobodyElse(t *testing.T) {
	testenv.Need(t, testenv.Program("setsid"))
	c := pretended(t, Options{})
	ctx := t.Context()
	// One that does not want to go, with a child.
	if err := c.d.start(ctx, "stubborn", nil, "sh", "-c", `trap "" TERM; sleep 300 & echo $! >"$HOME/child"; wait`); err != nil {
		t.Fatal(err)
	}
	pid, ok := c.d.pid("stubborn")
	if !ok {
		t.Fatal("it does not run")
	}
	if err := c.d.start(ctx, "stubborn", nil, "false"); err != nil {
		t.Fatal(err)
	}
	if again, _ := c.d.pid("stubborn"); again != pid {
		t.Errorf("it was started twice: %d, %d", pid, again)
	}
	var child int
	testenv.Eventually(t, 10*time.Second, "its child", func() error {
		raw, err := os.ReadFile(c.path("home", "child"))
		if err != nil {
			return err
		}
		child, err = strconv.Atoi(strings.TrimSpace(string(raw)))
		return err
	})
	if len(c.d.ours()) != 2 {
		t.Errorf("ours are %v, want it and its child", c.d.ours())
	}

	// A file that names another process: it was written before that was started.
	stranger := exec.CommandContext(ctx, "sleep", "300")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	if err := os.WriteFile(c.d.pidFile("keystone"), []byte(strconv.Itoa(stranger.Process.Pid)+" 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if c.d.alive("keystone") {
		t.Error("a process with another start time is taken for ours")
	}
	if err := c.d.terminate(ctx, 200*time.Millisecond, "stubborn", "keystone"); err != nil {
		t.Fatal(err)
	}
	if left := c.d.ours(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if stat, err := readStat(child); err == nil && stat.state != "Z" {
		t.Errorf("the child is still there: %+v", stat)
	}
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger is gone: %v", err)
	}
	if err := c.d.signal("stubborn", syscall.SIGSTOP); err == nil {
		t.Error("one that is gone could be paused")
	}
}

func TestWhatTheSweepFindsItEnds(t *testing.T) {
	testenv.Need(t, testenv.Program("setsid"))
	c := pretended(t, Options{})
	// A service's child that left its group and whose parent is gone.
	if err := c.d.start(t.Context(), "mother", nil, "sh", "-c", "setsid -f sleep 300; exec sleep 300"); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 10*time.Second, "its child", func() error {
		if n := len(c.d.ours()); n != 2 {
			return errors.New(strconv.Itoa(n) + " processes")
		}
		return nil
	})
	if err := c.d.terminate(t.Context(), 5*time.Second, "mother"); err != nil {
		t.Fatal(err)
	}
	if left := c.d.ours(); len(left) != 1 {
		t.Fatalf("left: %v, want the child", left)
	}
	if err := c.Down(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if left := c.d.ours(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := os.Stat(c.State()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder: %v", err)
	}
}

func TestADaemonThatDiesIsNotWaitedFor(t *testing.T) {
	testenv.Need(t, testenv.Program("setsid"))
	c := pretended(t, Options{})
	if err := c.d.start(t.Context(), "brief", nil, "sh", "-c", "echo no such table; exit 3"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err := c.await(t.Context(), "brief", time.Minute, func() error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "brief has ended") || !strings.Contains(err.Error(), "no such table") {
		t.Errorf("error %v", err)
	}
	if time.Since(began) > 20*time.Second {
		t.Errorf("took %v", time.Since(began))
	}
}

func TestTheFirstErrorEndsWhatRunsBesides(t *testing.T) {
	broken := errors.New("broken")
	err := parallel(
		t.Context(),
		func(context.Context) error { return broken },
		func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	)
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

func TestWhichCommandsTell(t *testing.T) {
	for command, want := range map[string]bool{
		"server list": true,
		"--os-compute-api-version 2.52 server create a":     true,
		"loadbalancer member list p":                        true,
		"token issue":                                       true,
		"server delete list":                                false,
		"server add floating ip a b":                        false,
		"console log show a":                                false,
		"router set --external-gateway public create":       false,
		"security group rule create a --proto tcp":          true,
		"server remove floating ip a 203.0.113.5":           false,
		"loadbalancer set --name create-me something":       false,
		"image show lab-guest":                              true,
		"floating ip unset --port list 203.0.113.5":         false,
		"server show --diagnostics a":                       true,
		"server stop show":                                  false,
		"server image create --name x --wait the-server":    true,
		"network unset --tag stop create":                   false,
		"server start create":                               false,
		"volume list --all-projects --long --name create-x": true,
	} {
		if got := tells(strings.Fields(command)); got != want {
			t.Errorf("%s: tells = %v", command, got)
		}
	}
}

func TestWhatMentionsAPrefix(t *testing.T) {
	got := map[string]bool{}
	for _, text := range []string{"web", "web-1 made for a test", "scalehook-owner=web-x other", "intraweb", "scalehook-id=intraweb", ""} {
		got[text] = mentions(text, "web")
	}
	want := map[string]bool{
		"web": true, "web-1 made for a test": true, "scalehook-owner=web-x other": true,
		"intraweb": false, "scalehook-id=intraweb": false, "": false,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mentions (-want +got):\n%s", diff)
	}
}

func TestWhichCallsAnAccessRuleAllows(t *testing.T) {
	for _, c := range []struct {
		rule, call string
		want       bool
	}{
		{"/v2.1/servers", "/v2.1/servers", true},
		{"/v2.1/servers", "/v2.1/servers/detail", false},
		{"/v2.1/servers/*", "/v2.1/servers/detail", true},
		{"/v2.1/servers/*", "/v2.1/servers/1/action", false},
		{"/v2.1/servers/{id}/action", "/v2.1/servers/1/action", true},
		{"/v2.1/**", "/v2.1/servers/1/action", true},
		{"/v2.1/servers/*", "/v2.1/servers/", false},
		{"/v2.1/servers", "/v2x1/servers", false},
	} {
		rule, call := Rule{"compute", "GET", c.rule}, Rule{"compute", "GET", c.call}
		if got := rule.allows(call); got != c.want {
			t.Errorf("%s allows %s = %v", rule, call, got)
		}
	}
	if (Rule{"compute", "GET", "/**"}).allows(Rule{"network", "GET", "/v2.0/ports"}) || (Rule{"compute", "GET", "/**"}).allows(Rule{"compute", "PUT", "/v2.1/servers"}) {
		t.Error("a rule allows another service or method")
	}
}
