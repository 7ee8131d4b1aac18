//go:build e2e

package faults_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/testenv"
)

// group is the name of the scaling group of every test.
const group = "web"

// patience bounds the wait for one thing on a busy machine; most come in seconds.
const patience = 4 * time.Minute

// binVariable names the folder of the programs under test.
const binVariable = "SCALEHOOK_FAULTS_BIN"

// TestMain builds the programs once for all tests.
func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Setenv(binVariable, dir); err != nil {
		return 1, err
	}
	cmd := exec.CommandContext(context.Background(), "go", "build", "-tags", "libvirt_dlopen", "-o", dir+"/", "./cmd/scalehook", "./e2e/guest/guestd")
	cmd.Dir = filepath.Join("..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the programs: %w: %s", err, out)
	}
	// Most of a test is waiting, so that more of them run than there are CPUs.
	flag.Parse()
	if err := flag.Set("test.parallel", "6"); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// program is one of those that were built.
func program(name string) string { return filepath.Join(os.Getenv(binVariable), name) }

// folder makes a folder with a short name: the paths of sockets are limited.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "flt") //nolint:usetesting // the path of a socket must fit into 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// place is where programs run.
type place struct {
	command func(ctx context.Context, program string, args ...string) *exec.Cmd
	http    *http.Client
}

// here is this machine. Every request has a connection of its own: none is left
// over from a program that was killed.
func here() place {
	return place{exec.CommandContext, &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// run starts a program in the place; it lasts until the test ends or stops it.
func (p place) run(t *testing.T, ready func() error, path string, args ...string) *testenv.Process {
	t.Helper()
	return testenv.Start(t, p.command(context.WithoutCancel(t.Context()), path, args...), ready)
}

// ok holds once a GET of the URL is answered 200.
func (p place) ok(t *testing.T, url string) func() error {
	t.Helper()
	return func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := p.http.Do(req)
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, resp.Status)
		}
		return nil
	}
}

// server is the real server with its files.
type server struct {
	t       *testing.T
	place   place
	dir     string
	address string
	client  *client.Client
	process *testenv.Process
}

// newServer prepares a server with a configuration and starts nothing yet.
func newServer(t *testing.T, p place, address, config string) *server {
	t.Helper()
	s := &server{t: t, place: p, dir: folder(t), address: address}
	s.configure(config)
	var err error
	if s.client, err = client.New(client.Options{URL: "http://" + address, HTTP: p.http}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) configure(config string) { write(s.t, filepath.Join(s.dir, "scalehook.yml"), config) }

// start starts the server and returns once it has looked at everything.
func (s *server) start() {
	s.t.Helper()
	s.process = s.place.run(s.t, s.place.ok(s.t, "http://"+s.address+"/-/ready"), program("scalehook"), s.args()...)
}

// args are those of the server's command line.
func (s *server) args() []string {
	return []string{
		"serve", "--config.file", filepath.Join(s.dir, "scalehook.yml"), "--storage.path", filepath.Join(s.dir, "data"),
		"--web.listen-address", s.address, "--web.insecure-operator",
	}
}

// view is a group as it is now.
func (s *server) view(name string) api.Group {
	s.t.Helper()
	g, err := s.client.Group(s.t.Context(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return g
}

// await polls the group until the check holds, and returns it as it is then.
func (s *server) await(what string, check func(api.Group) error) api.Group {
	s.t.Helper()
	return s.awaitOf(group, what, check)
}

func (s *server) awaitOf(name, what string, check func(api.Group) error) (g api.Group) {
	s.t.Helper()
	begun := time.Now()
	testenv.Eventually(s.t, patience, what, func() error {
		var err error
		if g, err = s.client.Group(s.t.Context(), name); err != nil {
			return err
		}
		if err = check(g); err != nil {
			return fmt.Errorf("%w; %s", err, describe(g))
		}
		return nil
	})
	s.t.Logf("%5.1f s: %s", time.Since(begun).Seconds(), what)
	return g
}

// describe is a group in a line, for messages.
func describe(g api.Group) string {
	var all []string
	for _, i := range g.Instances {
		all = append(all, i.Name+" "+i.State+" "+i.Suspect+i.Failure)
	}
	for _, c := range g.Conditions {
		all = append(all, fmt.Sprintf("%s stands: %t", c.Signal, c.Standing))
	}
	for _, e := range g.Evidence {
		all = append(all, fmt.Sprintf("%s says %s is %s", e.Source, e.Signal, e.State))
	}
	return fmt.Sprintf("%s; statuses %v; problems %q; verdict: %s", strings.Join(all, ", "), g.Statuses, g.Problems, g.Verdict.Reason)
}

// serving holds once exactly n instances are in service and nothing is under way.
func serving(n int) func(api.Group) error {
	return func(g api.Group) error {
		if len(g.Activities)+len(g.Orders) > 0 {
			return fmt.Errorf("%d activities and %d orders are under way", len(g.Activities), len(g.Orders))
		}
		if len(g.Instances) != n || g.InService != n {
			return fmt.Errorf("%d of %d instances are in service, want %d", g.InService, len(g.Instances), n)
		}
		return nil
	}
}

// all holds once every check does.
func all(checks ...func(api.Group) error) func(api.Group) error {
	return func(g api.Group) error {
		for _, check := range checks {
			if err := check(g); err != nil {
				return err
			}
		}
		return nil
	}
}

func status(want string) func(api.Group) error {
	return func(g api.Group) error {
		if !slices.Contains(g.Statuses, want) {
			return fmt.Errorf("status %s is missing", want)
		}
		return nil
	}
}

func noStatus(unwanted string) func(api.Group) error {
	return func(g api.Group) error {
		if slices.Contains(g.Statuses, unwanted) {
			return fmt.Errorf("status %s still stands", unwanted)
		}
		return nil
	}
}

// problem holds while a problem says so.
func problem(text string) func(api.Group) error {
	return func(g api.Group) error {
		if !strings.Contains(strings.Join(g.Problems, "\n"), text) {
			return fmt.Errorf("no problem says %q", text)
		}
		return nil
	}
}

// state holds once an instance is in that state.
func state(name, want string) func(api.Group) error {
	return func(g api.Group) error {
		if got := instance(g, name).State; got != want {
			return fmt.Errorf("%s is %q, not %s", name, got, want)
		}
		return nil
	}
}

func instance(g api.Group, name string) api.Instance {
	for _, i := range g.Instances {
		if i.Name == name {
			return i
		}
	}
	return api.Instance{}
}

// uuids are those of the instances, by name.
func uuids(g api.Group) map[string]string {
	out := map[string]string{}
	for _, i := range g.Instances {
		out[i.Name] = i.UUID + " " + i.State
	}
	return out
}

// desired orders a number of instances.
func (s *server) desired(n int) { s.desiredOf(group, n) }

func (s *server) desiredOf(name string, n int) {
	s.t.Helper()
	if _, err := s.client.SetDesired(s.t.Context(), name, "", api.OrderRequest{Count: &n}); err != nil {
		s.t.Fatal(err)
	}
}

// activities are all of the group, oldest first.
func (s *server) activities() []api.Activity {
	s.t.Helper()
	list, err := s.client.Activities(s.t.Context(), group, "", 100)
	if err != nil {
		s.t.Fatal(err)
	}
	slices.Reverse(list)
	return list
}

// sinceThen are the activities that were begun after the first n.
func (s *server) sinceThen(n int) (kinds []string) {
	s.t.Helper()
	for _, a := range s.activities()[n:] {
		kinds = append(kinds, a.Kind+" "+a.Status)
	}
	return kinds
}

// last is the activity that was begun last.
func (s *server) last() api.Activity {
	s.t.Helper()
	list := s.activities()
	if len(list) == 0 {
		s.t.Fatal("no activity")
	}
	return list[len(list)-1]
}
