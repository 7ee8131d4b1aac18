package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/prometheus"
	"github.com/scalehook/scalehook/internal/suggest"
)

// suggestFlags say what is looked at, and with which thresholds.
type suggestFlags struct {
	config, url, until string
	back, step         model.Duration
	launch             time.Duration
	high, low          string
	timeout            time.Duration
	output             string
}

// mostSamples bounds what is asked for: half a year at the default step.
const mostSamples = 300_000

func newSuggestCommand() *cobra.Command {
	o := suggestFlags{back: model.Duration(7 * 24 * time.Hour)}
	cmd := &cobra.Command{
		Use:   "suggest GROUP",
		Short: "Say what a group's thresholds would have done, and which would be right",
		Long: `Look back at a group's CPU, as the rules recorded it in Prometheus, and say what its
thresholds would have done: p50 and p95 of the average, the steps out and in per day,
whether low is far enough below high for every size between min and max, and the pair
that would be right.

The past is decided again by the server's own decision, with the group's times, bounds
and budgets: the work that was recorded is shared out among as many instances as there
would have been. Assumed are that a launch takes --launch and that drains end at once.
--high and --low try another pair.

Nothing is changed and no server is asked: the configuration says where Prometheus is.
Exit code 1 if too little was recorded to conclude anything.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(o.output); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), o.timeout, fmt.Errorf("not done after %s (--timeout)", o.timeout))
			defer cancel()
			report, err := o.look(ctx, args[0])
			if err != nil {
				return err
			}
			if err := show(cmd.OutOrStdout(), o.output, report, suggestion); err != nil {
				return err
			}
			if !report.Enough {
				return fmt.Errorf("group %s: %s", args[0], report.Remarks[len(report.Remarks)-1])
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.config, "config.file", defaultConfigFile, "configuration file of the server")
	f.StringVar(&o.url, "prometheus.url", "", "where Prometheus is (default: as the configuration has it)")
	f.Var(span{&o.back}, "for", "how far to look back")
	f.Var(span{&o.step}, "step", "time between two samples, no shorter than the rate window (default: the rate window)")
	f.StringVar(&o.until, "until", "", "look back from this time, like 2026-11-02T00:00:00Z (default: now)")
	f.DurationVar(&o.launch, "launch", time.Minute, "how long an instance takes from the decision into service")
	f.StringVar(&o.high, "high", "", "try another high threshold, like 75%")
	f.StringVar(&o.low, "low", "", "try another low threshold, like 25%")
	cloudFlags(cmd, &o.timeout, &o.output, 2*time.Minute)
	return cmd
}

// span is a flag for a time as Prometheus writes it, with days and weeks.
type span struct{ *model.Duration }

// Set reads the flag.
func (s span) Set(text string) error {
	d, err := model.ParseDuration(text)
	if err == nil {
		*s.Duration = d
	}
	return err
}

// Type names what is to be given.
func (span) Type() string { return "duration" }

// String is the flag's value; nothing for 0, which stands for another default.
func (s span) String() string {
	if s.Duration == nil || *s.Duration == 0 {
		return ""
	}
	return s.Duration.String()
}

// look reads the configuration, asks Prometheus and makes the report.
func (o *suggestFlags) look(ctx context.Context, name string) (suggest.Report, error) {
	g, at, err := o.group(ctx, name)
	if err != nil {
		return suggest.Report{}, err
	}
	h := suggest.History{Step: time.Duration(o.step)}
	if h.Step == 0 {
		h.Step = g.Windows.Rate
	}
	switch n := time.Duration(o.back) / max(h.Step, 1); {
	case h.Step < g.Windows.Rate:
		return suggest.Report{}, usageError{fmt.Errorf("--step %s: no shorter than the rate window %s, or two samples are made of the same counters", o.step, model.Duration(g.Windows.Rate))}
	case n < 1 || n > mostSamples:
		return suggest.Report{}, usageError{fmt.Errorf("--for %s at a step of %s is %d samples: use 1 to %d", o.back, model.Duration(h.Step), n, mostSamples)}
	case o.launch <= 0:
		return suggest.Report{}, usageError{fmt.Errorf("--launch %s: must be longer than 0s", o.launch)}
	}
	h.To = time.Now()
	if o.until != "" {
		if h.To, err = time.Parse(time.RFC3339, o.until); err != nil {
			return suggest.Report{}, usageError{fmt.Errorf("--until: %w", err)}
		}
	}
	h.To = h.To.UTC().Truncate(time.Second)
	h.From = h.To.Add(-time.Duration(o.back) / h.Step * h.Step).Add(h.Step)
	source, err := prometheus.New(at)
	if err != nil {
		return suggest.Report{}, fmt.Errorf("prometheus: %w", err)
	}
	defer source.Close()
	recorded, err := source.History(ctx, name, h.From, h.To, h.Step)
	if err != nil {
		return suggest.Report{}, err
	}
	for _, r := range recorded {
		h.Samples = append(h.Samples, suggest.Sample(r))
	}
	return suggest.Look(g, h, suggest.Model{Launch: o.launch}), nil
}

// group reads the group and where its Prometheus is out of the configuration.
func (o *suggestFlags) group(ctx context.Context, name string) (_ scaling.Group, at prometheus.Config, err error) {
	c, err := config.Load(o.config)
	if err != nil {
		return scaling.Group{}, at, err
	}
	runtime, err := c.Build(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return scaling.Group{}, at, err
	}
	defer func() { err = errors.Join(err, runtime.Close()) }()
	k := slices.IndexFunc(runtime.Groups, func(g scaling.Group) bool { return g.Name == name })
	if k < 0 {
		return scaling.Group{}, at, fmt.Errorf("no group is called %q in %s", name, o.config)
	}
	g := runtime.Groups[k]
	for _, t := range []struct {
		flag, text string
		to         *float64
	}{{"--high", o.high, &g.High}, {"--low", o.low, &g.Low}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = ratio(t.text); err != nil {
			return scaling.Group{}, at, usageError{fmt.Errorf("%s: %w", t.flag, err)}
		}
	}
	if g.Low >= g.High {
		return scaling.Group{}, at, usageError{fmt.Errorf("low %s is not below high %s", suggest.Percent(g.Low), suggest.Percent(g.High))}
	}
	at = prometheus.DefaultConfig()
	if c.Prometheus != nil {
		at = *c.Prometheus
	} else if o.url == "" {
		return scaling.Group{}, at, fmt.Errorf("%s names no prometheus: state it there, or give --prometheus.url", o.config)
	}
	if o.url != "" {
		at.URL = o.url
	}
	return g, at, nil
}

// ratio reads a share as the configuration writes it.
func ratio(text string) (float64, error) {
	var r config.Ratio
	err := r.UnmarshalYAML(func(to any) error {
		s, ok := to.(*string)
		if ok {
			*s = text
		}
		return nil
	})
	if err == nil && (r.Value <= 0 || r.Value >= 1) {
		err = fmt.Errorf("%q is not a share between 0 and 1: write 70%% or 0.7", text)
	}
	return r.Value, err
}

// suggestion is the report for people.
func suggestion(t *table, r suggest.Report) {
	t.linef("group %s from %s to %s: %d of %d samples, one per %s", r.Group, clock(r.From), clock(r.To), r.Samples, r.Expected,
		time.Duration(r.StepSeconds*float64(time.Second)))
	t.linef("")
	t.row("", "P50", "P95", "MAX")
	spread(t, "average CPU", r.CPU, suggest.Percent)
	spread(t, "instances in service", r.Instances, func(v float64) string { return strconv.Itoa(int(v)) })
	if r.Configured != nil && r.Suggested != nil {
		t.linef("")
		t.row("PAIR", "HIGH", "LOW", "OUT/DAY", "IN/DAY", "MEAN INSTANCES", "AT MAX", "SHORT")
		replayed(t, "these thresholds", r.Configured)
		word := "suggested"
		if r.Suggested.High == r.Configured.High && r.Suggested.Low == r.Configured.Low {
			word = "suggested (the same)"
		}
		replayed(t, word, r.Suggested)
	}
	if len(r.Bounds) > 0 {
		t.linef("")
		t.row("FROM", "TO", fmt.Sprintf("LOW %s BECOMES", suggest.Percent(r.Low)), "LOW MUST BE UNDER", "BETTER", "")
		for k, b := range r.Bounds {
			if k == mostBounds {
				t.linef("and so on up to %d instances: the bound grows", r.Bounds[len(r.Bounds)-1].Instances)
				break
			}
			t.row(strconv.Itoa(b.Instances), strconv.Itoa(b.Instances-1), suggest.Percent(b.After), suggest.Percent(b.Limit), suggest.Percent(b.Safe), judged(b))
		}
	}
	t.linef("")
	for _, remark := range r.Remarks {
		t.linef("- %s", remark)
	}
	t.linef("- assumed: a launch takes %s, a drain no time, and work is shared out evenly", time.Duration(r.LaunchSeconds*float64(time.Second)))
}

// mostBounds is how many of them a person is shown.
const mostBounds = 8

func judged(b suggest.Bound) string {
	switch {
	case b.Flaps:
		return "would flap"
	case b.Close:
		return "close"
	}
	return "ok"
}

func spread(t *table, what string, s *suggest.Spread, write func(float64) string) {
	if s == nil {
		t.row(what, "-", "-", "-")
		return
	}
	t.row(what, write(s.P50), write(s.P95), write(s.Max))
}

func replayed(t *table, what string, r *suggest.Replay) {
	number := func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
	t.row(what, suggest.Percent(r.High), suggest.Percent(r.Low), number(r.ScaleOutsPerDay), number(r.ScaleInsPerDay),
		number(r.Instances), suggest.Percent(r.AtMax), suggest.Percent(r.Short))
}
