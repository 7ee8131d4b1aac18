// Command mutate asks whether the tests of the pure decision would notice a
// mistake in it: it makes small mistakes in the source, one at a time, and runs
// the package's tests against each. A mistake that no test notices is a
// survivor. Survivors are explained in explained.txt, or they are an error.
//
//	go run ./tools/mutate
//
// All mistakes are compiled into one test binary, each behind a switch that an
// environment variable turns, so that a mistake costs a run of the tests and not
// a build. Nothing in the tree is changed: the compiler reads the changed files
// through an overlay.
//
// What is tried: comparisons with another operator and at another bound, && for
// || and the other way round, conditions negated, + for -, numbers and durations
// one more, "" for a text that is compared, statements and cases left out, and
// returned booleans turned. Texts for people are left alone, and so are
// declarations.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	var (
		dir       = flag.String("package", "internal/scaling", "folder of the package")
		files     = flag.String("files", "decide.go,proof.go,gates.go,gate.go,victim.go,order.go,transition.go,store.go", "files to make mistakes in")
		explained = flag.String("explained", "tools/mutate/explained.txt", "survivors with the reason why they may")
		parallel  = flag.Int("parallel", 2, "how many run at a time")
		checks    = flag.Int("checks", 150, "random histories per property and mistake")
		limit     = flag.Duration("timeout", time.Minute, "a run that takes longer has noticed")
		only      = flag.String("only", "", "only mistakes whose description has this in it")
		list      = flag.Bool("list", false, "print the mistakes and run nothing")
	)
	flag.Parse()
	r := run{dir: *dir, files: strings.Split(*files, ","), parallel: *parallel, checks: *checks, limit: *limit, only: *only, list: *list}
	if err := r.all(context.Background(), os.Stdout, *explained); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

type run struct {
	dir      string
	files    []string
	parallel int
	checks   int
	limit    time.Duration
	only     string
	list     bool
}

// variable names the mistake that is switched on.
const variable = "SCALEHOOK_MUTANT"

func (r run) all(ctx context.Context, out io.Writer, explained string) error {
	reasons, err := readReasons(explained)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return fmt.Errorf("make a folder to work in: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()
	m, err := mutate(r.dir, r.files)
	if err != nil {
		return err
	}
	if r.list {
		for _, x := range m.mutants {
			_, _ = fmt.Fprintln(out, x)
		}
		return nil
	}
	binary, err := r.build(ctx, work, m)
	if err != nil {
		return err
	}
	if said, ok := r.try(ctx, binary, 0); !ok {
		return fmt.Errorf("the tests fail without any mistake:\n%s", said)
	}
	began := time.Now()
	survivors := r.runAll(ctx, binary, m.mutants)
	return report(out, m.mutants, survivors, reasons, explained, time.Since(began))
}

// build compiles the tests with all mistakes in them.
func (r run) build(ctx context.Context, work string, m *mutation) (string, error) {
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	dir, err := filepath.Abs(r.dir)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", r.dir, err)
	}
	for name, source := range m.files {
		path := filepath.Join(work, name)
		if err := os.WriteFile(path, source, 0o600); err != nil {
			return "", fmt.Errorf("write the changed source: %w", err)
		}
		overlay.Replace[filepath.Join(dir, name)] = path
	}
	content, err := json.Marshal(overlay)
	if err != nil {
		return "", fmt.Errorf("write the overlay: %w", err)
	}
	file := filepath.Join(work, "overlay.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return "", fmt.Errorf("write the overlay: %w", err)
	}
	binary := filepath.Join(work, "tests")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay", file, "-o", binary, "./"+r.dir) //nolint:gosec // the package that the caller names
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile the tests: %w\n%s", err, out)
	}
	return binary, nil
}

// try runs the tests with one mistake, 0 for none, and reports whether they pass.
func (r run) try(ctx context.Context, binary string, id int) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	//nolint:gosec // the binary that was just built
	cmd := exec.CommandContext(ctx, binary, "-test.failfast", "-test.skip=^TestThePropertiesCanFail$", "-rapid.nofailfile", "-rapid.shrinktime=1ms",
		"-rapid.seed=1", "-rapid.checks="+strconv.Itoa(r.checks), "-test.short", "-test.cpu=1")
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), variable+"="+strconv.Itoa(id), "GOMEMLIMIT=1GiB")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err == nil
}

// runAll returns the mistakes that no test noticed, in the order of the source.
func (r run) runAll(ctx context.Context, binary string, all []mutant) []mutant {
	var mu sync.Mutex
	var wg sync.WaitGroup
	alive := map[int]bool{}
	next := make(chan mutant)
	for range r.parallel {
		wg.Go(func() {
			for x := range next {
				if _, ok := r.try(ctx, binary, x.id); ok {
					mu.Lock()
					alive[x.id] = true
					mu.Unlock()
				}
			}
		})
	}
	for _, x := range all {
		if strings.Contains(x.String(), r.only) {
			next <- x
		}
	}
	close(next)
	wg.Wait()
	var out []mutant
	for _, x := range all {
		if alive[x.id] {
			out = append(out, x)
		}
	}
	return out
}

var errUnexplained = errors.New("survivors that nobody explains, or explanations without a survivor")

func report(w io.Writer, all, survivors []mutant, reasons map[string]string, file string, took time.Duration) error {
	unexplained := 0
	used := map[string]bool{}
	for _, x := range survivors {
		used[x.key()] = true
		if reason, ok := reasons[x.key()]; ok {
			_, _ = fmt.Fprintf(w, "explained  %s\n           %s\n", x, reason)
			continue
		}
		unexplained++
		_, _ = fmt.Fprintf(w, "SURVIVOR   %s\n", x)
		_, _ = fmt.Fprintf(w, "  -%s\n  +%s\n  %s\n", x.before, x.after, x.key())
	}
	known := map[string]bool{}
	for _, x := range all {
		known[x.key()] = true
	}
	stale := 0
	for key := range reasons {
		if !known[key] {
			stale++
			_, _ = fmt.Fprintf(w, "STALE      %s: %s: there is no such mistake any more\n", file, key)
		}
	}
	_, _ = fmt.Fprintf(w, "%d mistakes, %d noticed, %d survivors explained, %d not; %s\n", len(all), len(all)-len(survivors), len(survivors)-unexplained,
		unexplained, took.Round(time.Second))
	if unexplained+stale > 0 {
		return errUnexplained
	}
	return nil
}

// readReasons reads lines of "MISTAKE ## REASON".
func readReasons(file string) (map[string]string, error) {
	content, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read what is explained: %w", err)
	}
	out := map[string]string{}
	for n, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, reason, ok := strings.Cut(line, " ## ")
		if !ok || strings.TrimSpace(reason) == "" {
			return nil, fmt.Errorf("%s:%d: want \"MISTAKE ## REASON\"", file, n+1)
		}
		out[strings.TrimSpace(key)] = strings.TrimSpace(reason)
	}
	return out, nil
}
