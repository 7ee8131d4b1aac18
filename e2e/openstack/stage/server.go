package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/e2e/chain"
	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/doctor"
)

// Server is scalehook, with one group.
type Server struct {
	*client.Client
	*Process

	stage   *Stage
	program string
	group   string
	address string
}

// Tokens are the files with the tokens of Alertmanager and of an operator.
type Tokens struct{ Alerts, Operator string }

// Tokens makes them.
func (s *Stage) Tokens() (t Tokens, err error) {
	if t.Alerts, err = s.Write("alerts.token", "alerts-"+s.dir+"\n", 0o600); err != nil {
		return t, err
	}
	t.Operator, err = s.Write("operator.token", "operator-"+s.dir+"\n", 0o600)
	return t, err
}

// Yaml is the part of scalehook's configuration that names them.
func (t Tokens) Yaml() string {
	return fmt.Sprintf(`tokens:
  - {name: alertmanager, role: alerts, file: %q}
  - {name: operator, role: operator, file: %q}
`, t.Alerts, t.Operator)
}

// Yaml is the part of scalehook's configuration that names the sources.
func (m Monitoring) Yaml() string {
	return fmt.Sprintf(`monitoring: {scrape_interval: %[1]s, evaluation_interval: %[1]s, rate_window: %[2]s, repeat_interval: 10s}
prometheus: {url: "http://%[3]s"}
alertmanagers: [{url: "http://%[4]s"}]
`, chain.ScrapeInterval, chain.RateWindow, m.Prometheus, m.Alertmanager)
}

// StartServer checks the configuration with the program, starts it at that address
// and waits until it is ready. Started again, it goes on with the state that it had.
func (s *Stage) StartServer(ctx context.Context, program, address, group, config string, env ...string) (*Server, error) {
	file, err := s.Write("scalehook.yml", config, 0o600)
	if err != nil {
		return nil, err
	}
	if out, err := s.Command(ctx, program, "check-config", file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("scalehook check-config: %w: %s", err, out)
	}
	c, err := client.New(client.Options{URL: "http://" + address, TokenFile: s.Path("operator.token"), HTTP: s.http})
	if err != nil {
		return nil, err
	}
	server := &Server{Client: c, stage: s, program: program, group: group, address: address}
	return server, server.Run(ctx, env...)
}

// Doctor runs "scalehook doctor" with the server's configuration while all of it runs.
func (s *Server) Doctor(ctx context.Context) ([]doctor.Check, error) {
	out, err := s.stage.Command(ctx, s.program, "doctor", "--config.file", s.stage.Path("scalehook.yml"), "--url", "http://"+s.address,
		"--token-file", s.stage.Path("operator.token"), "--service-user", "root", "-o", "json").Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && len(out) == 0 {
		return nil, fmt.Errorf("scalehook doctor: %w: %s", err, exit.Stderr)
	}
	var checks []doctor.Check
	if err := json.Unmarshal(out, &checks); err != nil {
		return nil, fmt.Errorf("scalehook doctor: %w in %q", err, out)
	}
	return checks, nil
}

// Run starts the program, which does not run, and waits until it is ready; with a
// fault in its environment it may end before and that is no error.
func (s *Server) Run(ctx context.Context, env ...string) (err error) {
	fault := slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "SCALEHOOK_FAULT=") })
	p, err := s.stage.Start(ctx, Spec{
		Name: "scalehook", Path: s.program, Env: env,
		Args: []string{
			"serve", "--config.file=" + s.stage.Path("scalehook.yml"), "--storage.path=" + s.stage.Path("state"),
			"--web.listen-address=" + s.address, "--log.level=debug",
		},
		Ready: func(ctx context.Context) error {
			if fault {
				return nil
			}
			return s.stage.answers("http://" + s.address + "/-/ready")(ctx)
		},
	})
	if err != nil {
		return err
	}
	s.Process = p
	return nil
}

// View is the group as scalehook shows it.
func (s *Server) View(ctx context.Context) (api.Group, error) { return s.Group(ctx, s.group) }

// All returns every activity of the group, oldest first.
func (s *Server) All(ctx context.Context) ([]api.Activity, error) {
	all, err := s.Activities(ctx, s.group, "", 100)
	slices.Reverse(all)
	return all, err
}

// Await polls the group until done says so; note, which may be nil, sees every look.
func (s *Server) Await(ctx context.Context, what string, limit time.Duration, done func(api.Group) error, note func(api.Group)) (api.Group, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last api.Group
	why := errors.New("the server was not asked")
	for {
		g, err := s.View(ctx)
		if err == nil {
			last = g
			if note != nil {
				note(g)
			}
			err = done(g)
		}
		if err == nil {
			return g, nil
		}
		if ctx.Err() == nil || why == nil {
			why = err
		}
		select {
		case <-ctx.Done():
			return last, fmt.Errorf("waited %s for: %s: %w; instances: %s; newest verdict: %s; problems: %s",
				limit, what, why, Short(last), last.Verdict.Reason, strings.Join(last.Problems, "; "))
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// Short is all instances of a group in a line.
func Short(g api.Group) string {
	all := slices.SortedFunc(slices.Values(g.Instances), func(a, b api.Instance) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var out []string
	for _, i := range all {
		text := i.Name + " " + i.State
		if i.Reading != nil {
			text += fmt.Sprintf(" %.0f %%", i.Reading.Utilization*100)
		}
		out = append(out, text)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// Serving lists the names of the instances in service, by age.
func Serving(g api.Group) []string {
	var out []string
	for _, i := range slices.SortedFunc(slices.Values(g.Instances), func(a, b api.Instance) int { return a.InServiceAt.Compare(b.InServiceAt) }) {
		if i.State == "in_service" {
			out = append(out, i.Name)
		}
	}
	return out
}

// Settled is a condition for Await: these are in service, by age, and nothing is
// under way.
func Settled(names ...string) func(api.Group) error {
	return func(g api.Group) error {
		if got := Serving(g); !slices.Equal(got, names) || len(g.Instances) != len(names) || len(g.Activities) > 0 {
			return fmt.Errorf("in service: %s of %d instances, %d activities under way", strings.Join(got, ", "), len(g.Instances), len(g.Activities))
		}
		return nil
	}
}

// Log is all that the server printed, of all its runs.
func (s *Server) Log() (string, error) {
	raw, err := os.ReadFile(s.stage.Path("log", "scalehook.log"))
	return string(raw), err
}
