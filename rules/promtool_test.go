package rules_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/rules"
)

// promtool runs promtool in a folder and returns what it printed.
func promtool(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testenv.Path(t, "promtool"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestPromtoolAcceptsTheRulesAndTheirTestsPass(t *testing.T) {
	testenv.Need(t, testenv.Program("promtool"))
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", "scalehook.rules.yml", "compat.yml", "guests.yml"},
		{"test", "rules", "scaling.test.yml"},
		{"test", "rules", "people.test.yml"},
		{"test", "rules", "compat.test.yml"},
		{"test", "rules", "guests.test.yml"},
	} {
		t.Run(args[len(args)-1], func(t *testing.T) {
			t.Parallel()
			if out, err := promtool(t, ".", args...); err != nil {
				t.Errorf("promtool %v: %v\n%s", args, err, out)
			}
		})
	}
}

func TestPromtoolAcceptsTheRenderingForEveryInterval(t *testing.T) {
	testenv.Need(t, testenv.Program("promtool"))
	dir := t.TempDir()
	args := []string{"check", "rules", "--lint=all", "--lint-fatal"}
	for _, options := range []rules.Options{
		{ScrapeInterval: time.Second},
		{ScrapeInterval: 1500 * time.Millisecond},
		{ScrapeInterval: 5 * time.Second, RateWindow: 33 * time.Second},
		{ScrapeInterval: 15 * time.Second, EvaluationInterval: time.Minute},
		{ScrapeInterval: time.Minute},
	} {
		text, err := rules.Render(options)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, options.ScrapeInterval.String()+".yml")
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	if out, err := promtool(t, dir, args...); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
