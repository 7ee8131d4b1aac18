package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/top"
)

// topFlags are what top knows besides the way to the server.
type topFlags struct {
	interval, timeout    time.Duration
	yellow               string
	noColor, ascii, once bool
}

// shortestInterval keeps top from asking a server without a pause.
const shortestInterval = 100 * time.Millisecond

func newTopCommand(r *remote, getenv func(string) string) *cobra.Command {
	var f topFlags
	cmd := &cobra.Command{
		Use:   "top [GROUP]",
		Short: "Watch the groups in the terminal, live, and scale, pause and hand over by key",
		Long: `Watch the groups, or one of them, in the terminal: every VM's CPU against the
thresholds, what the group does and why, timers, activities as they run. "?" lists
the keys; orders are confirmed first and need an operator's token.

The CPU is red above the group's high threshold, yellow from --yellow on, and green
below. NO_COLOR is honoured. A server that goes away is asked again; until it
answers, what is shown says how old it is.`,
		Example: `  scalehook top
  scalehook top web --interval 2s --yellow 50%
  ssh -t hypervisor scalehook top`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := f.options(r, getenv)
			if err != nil {
				return err
			}
			opts.Group = strings.Join(args, "")
			return runTop(cmd.Context(), opts, f.once, cmd.OutOrStdout(), getenv)
		},
	}
	r.connection(cmd)
	cmd.Flags().DurationVar(&f.interval, "interval", time.Second, "how often to ask the server")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 5*time.Second, "how long to wait for an answer of the server")
	cmd.Flags().StringVar(&f.yellow, "yellow", "30%", "the CPU utilisation from which it is yellow")
	cmd.Flags().BoolVar(&f.noColor, "no-color", false, "paint nothing (environment: NO_COLOR)")
	cmd.Flags().BoolVar(&f.ascii, "ascii", false, "draw with ASCII characters only (default: unless the locale is UTF-8)")
	cmd.Flags().BoolVar(&f.once, "once", false, "print what is shown once, as plain text, and end")
	return cmd
}

// options checks the flags.
func (f topFlags) options(r *remote, getenv func(string) string) (top.Options, error) {
	yellow, err := parseRatio(f.yellow)
	if err != nil {
		return top.Options{}, usageError{fmt.Errorf("--yellow %q: %w", f.yellow, err)}
	}
	if f.interval < shortestInterval {
		return top.Options{}, usageError{fmt.Errorf("--interval %s: must be at least %s", f.interval, shortestInterval)}
	}
	if f.timeout <= 0 {
		return top.Options{}, usageError{fmt.Errorf("--timeout %s: must be more than 0s", f.timeout)}
	}
	var clock atomic.Pointer[time.Time]
	server := r.options()
	server.Dated = func(at time.Time) { clock.Store(&at) }
	c, err := r.open(server)
	if err != nil {
		return top.Options{}, err
	}
	return top.Options{
		Server: c, Clock: func() time.Time {
			if at := clock.Load(); at != nil {
				return *at
			}
			return time.Time{}
		},
		URL: r.url, Interval: f.interval, Timeout: f.timeout, Yellow: yellow,
		Color: !f.noColor && getenv("NO_COLOR") == "", ASCII: f.ascii || !utf8Locale(getenv),
	}, nil
}

var errNoRatio = errors.New("must be a percentage such as 30%, or a ratio such as 0.3")

// parseRatio reads "30%" or "0.3".
func parseRatio(text string) (float64, error) {
	number, isPercent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if isPercent {
		v /= 100
	}
	if err != nil || math.IsNaN(v) || v < 0 || v > 1 {
		return 0, errNoRatio
	}
	return v, nil
}

// utf8Locale reports whether the locale's characters are UTF-8, by the variables
// that decide it, in their order. Where none is set nobody said so.
func utf8Locale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToUpper(getenv(name)); v != "" {
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}

// runTop shows the dashboard, or prints it once.
func runTop(ctx context.Context, opts top.Options, once bool, stdout io.Writer, getenv func(string) string) error {
	if once {
		width := 80
		if n, err := strconv.Atoi(getenv("COLUMNS")); err == nil && n >= 20 && n <= 1000 {
			width = n
		}
		return top.Once(ctx, opts, width, stdout)
	}
	out, isFile := stdout.(*os.File)
	if !isFile || !term.IsTerminal(out.Fd()) {
		return usageError{errors.New("top draws on a terminal, and the output is none; --once prints what it would show")}
	}
	if kind := getenv("TERM"); kind == "" || kind == "dumb" {
		return usageError{fmt.Errorf("top cannot draw on a terminal of the type %q (TERM); --once prints what it would show", kind)}
	}
	return top.Run(ctx, opts, os.Stdin, out, os.Environ())
}
