// Command testsum reads the events of `go test -json` from standard input and
// prints what people want to see of them: one line per package, the output of
// what failed, and each skip. Standard error is not its business.
//
// It appends "passed failed skipped" to the file named by -totals, so that
// several runs can be added up, and exits 1 when anything failed or did not
// build, or when the stream ended in the middle of a package. A skip is a
// failure with -no-skips. What internal/testenv leaves for a later run as root
// is neither: its packages go to the file named by -left.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

func main() {
	totals := flag.String("totals", "", "append \"passed failed skipped\" to this `file`")
	live := flag.Bool("live", false, "print the output of tests as it comes")
	noSkips := flag.Bool("no-skips", false, "count a skipped test as a failed one")
	left := flag.String("left", "", "write the packages with tests left for a run as root to this `file`")
	flag.Parse()
	s := &summary{out: os.Stdout, live: *live, noSkips: *noSkips, output: map[test][]string{}, open: map[string]bool{}, left: map[string]bool{}}
	err := s.read(os.Stdin)
	if err == nil && *totals != "" {
		err = s.appendTotals(*totals)
	}
	if err == nil && *left != "" {
		err = s.writeLeft(*left)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "testsum: %v\n", err)
		os.Exit(1)
	}
	if s.failed > 0 {
		os.Exit(1)
	}
}

// event is what `go help test` and cmd/test2json document.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

// test names a test of a package; without a name it is the package itself.
type test struct{ pkg, name string }

type summary struct {
	out     io.Writer
	live    bool
	noSkips bool
	output  map[test][]string
	open    map[string]bool // packages whose end was not seen yet
	left    map[string]bool // packages with tests left for a run as root

	passed, failed, skipped int
}

// read consumes the stream. Lines that are no events are printed as they are.
func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if jsonErr := json.Unmarshal(line, &e); jsonErr != nil || e.Action == "" {
				fmt.Fprintf(s.out, "%s", line)
			} else {
				s.handle(e)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read test events: %w", err)
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(s.open)) {
		s.failed++
		fmt.Fprintf(s.out, "FAIL  %s: ended without a result\n%s", pkg, strings.Join(s.output[test{pkg: pkg}], ""))
	}
	return nil
}

func (s *summary) handle(e event) {
	key := test{e.Package, e.Test}
	if e.Package != "" {
		s.open[e.Package] = true
	}
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "output":
		if s.live && e.Test != "" {
			fmt.Fprint(s.out, e.Output)
		}
		s.output[key] = append(s.output[key], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
			return
		}
		s.endTest(e)
	}
}

func (s *summary) endTest(e event) {
	key := test{e.Package, e.Test}
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		why := reason(s.output[key])
		switch {
		case strings.Contains(why, "left for the run as root"):
			s.left[e.Package] = true
		case s.noSkips:
			s.failed++
			fmt.Fprintf(s.out, "FAIL  %s %s: nothing may be skipped here: %s\n", e.Package, e.Test, why)
		default:
			s.skipped++
			fmt.Fprintf(s.out, "skip  %s %s: %s\n", e.Package, e.Test, why)
		}
	case "fail":
		s.failed++
		fmt.Fprintf(s.out, "FAIL  %s %s (%.1fs)\n", e.Package, e.Test, e.Elapsed)
		if !s.live {
			fmt.Fprint(s.out, strings.Join(s.output[key], ""))
		}
	}
	delete(s.output, key)
}

func (s *summary) endPackage(e event) {
	delete(s.open, e.Package)
	key := test{pkg: e.Package}
	switch e.Action {
	case "pass":
		fmt.Fprintf(s.out, "ok    %s (%.1fs)\n", e.Package, e.Elapsed)
	case "skip":
		fmt.Fprintf(s.out, "-     %s: no tests\n", e.Package)
	case "fail":
		// The package counts as a failure of its own: a panic, a leak found by
		// TestMain or a build error may be the only one there is.
		s.failed++
		fmt.Fprintf(s.out, "FAIL  %s (%.1fs)\n%s", e.Package, e.Elapsed, strings.Join(s.output[key], ""))
		for other, lines := range s.output {
			if other.pkg == e.Package && other.name != "" {
				fmt.Fprintf(s.out, "      %s did not end:\n%s", other.name, strings.Join(lines, ""))
			}
		}
	}
	delete(s.output, key)
}

// reason finds what a skipped test said, which go test prints before the line
// with its result.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		text := strings.TrimSpace(line)
		if text != "" && !strings.HasPrefix(text, "---") && !strings.HasPrefix(text, "===") {
			return text
		}
	}
	return "gave no reason"
}

func (s *summary) appendTotals(path string) error {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // counts are no secret
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(file, "%d %d %d\n", s.passed, s.failed, s.skipped); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return file.Close()
}

func (s *summary) writeLeft(path string) error {
	var text strings.Builder
	for _, pkg := range slices.Sorted(maps.Keys(s.left)) {
		fmt.Fprintln(&text, pkg)
	}
	return os.WriteFile(path, []byte(text.String()), 0o644) //nolint:gosec // names are no secret
}
