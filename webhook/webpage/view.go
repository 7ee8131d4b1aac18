package webpage

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/words"
)

// yellow is the utilisation from which a CPU is yellow, as in scalehook top.
const yellow = 0.3

// shell is what every page has.
type shell struct {
	Title, Events, Version, Zone, Build string
	Insecure, Home                      bool
	Now                                 time.Time
	CSS, JS, Icon                       string
}

// view is everything that a page shows, of one moment.
type view struct {
	shell

	Failure string
	// Of the overview:
	Sum   *sum
	Query query
	Found int
	Cards []card
	From  int // of the first, from 1
	Pages int
	// Of one group:
	G        api.Group
	Group    *card
	CPU      chart
	Size     chart
	Earlier  []api.Verdict
	Settings []setting
	// Of both:
	Activities []api.Activity
	Known      map[string]string // names of instances that activities may be about, by id
}

// sum is about all groups.
type sum struct{ Groups, InService, Desired, Changing, Attention, Paused int }

// card is a group on the overview and at the head of its own page.
type card struct {
	api.Group

	Word, Why string
	CPU       cpu
	Missing   int // instances in service without a reading
	Running   int
	Spark     spark
	Standing  []string
	Timers    []string
	Paused    bool // or let go, or held
	Say       string
	At        time.Time
}

// cpu is a utilisation as it is shown: with a sign and a word beside the colour.
type cpu struct {
	Text, Sign, Says, Class string
	Known                   bool
	Width                   string // of a bar of 100
}

// setting is a line of the settings.
type setting struct{ Name, Value string }

func cpuOf(v float64, known bool, s api.Settings) cpu {
	if !known || math.IsNaN(v) {
		return cpu{Text: "–", Says: "no reading", Class: "none"}
	}
	c := cpu{Text: words.Percent(v), Known: true, Width: unit(100 * min(max(v, 0), 1))}
	switch words.LevelOf(v, s, yellow) {
	case words.LevelRed:
		c.Class = "red"
	case words.LevelYellow:
		c.Class = "yellow"
	case words.LevelGreen:
		c.Class = "green"
	case words.LevelNone:
		c.Class = "none"
	}
	switch {
	case v > s.High:
		c.Sign, c.Says = "▲", "above high"
	case v < s.Low:
		c.Sign, c.Says = "▼", "below low"
	}
	return c
}

func (p *Page) shell(t topic, title string) shell {
	now := p.opts.Now()
	s := shell{
		Title: title, Version: p.assets.version, Zone: now.Format("MST"), Build: p.opts.Version, Insecure: p.opts.Insecure, Now: now,
		Home: t.group == "", CSS: p.assets.names["style.css"], JS: p.assets.names["script.js"], Icon: p.assets.names["icon.svg"],
		Events: "/events" + strings.TrimPrefix(t.query.encode(), "/"),
	}
	if t.group != "" {
		s.Events = "/events/" + escapePath(t.group)
	}
	return s
}

// look asks for what a page shows.
func (p *Page) look(ctx context.Context, t topic) (view, error) {
	if t.group != "" {
		return p.lookGroup(ctx, t)
	}
	v := view{shell: p.shell(t, "Groups"), Query: t.query, Sum: &sum{}, Known: map[string]string{}}
	all, err := p.opts.Viewer.Groups(ctx)
	if err != nil {
		return v, fmt.Errorf("ask for the groups: %w", err)
	}
	found := make([]*scaling.GroupView, 0, len(all))
	filter := strings.ToLower(t.query.Text)
	for i := range all {
		g := &all[i]
		v.Sum.add(g, v.Now)
		if strings.Contains(strings.ToLower(g.Group.Name), filter) && shown(g, t.query.Show, v.Now) {
			found = append(found, g)
		}
	}
	arrange(found, t.query.Sort, v.Now)
	v.Found = len(found)
	v.Pages = max(1, (len(found)+perPage-1)/perPage)
	v.Query.Page = min(t.query.Page, v.Pages)
	v.From = (v.Query.Page - 1) * perPage
	for _, g := range found[v.From:min(v.From+perPage, len(found))] {
		v.Cards = append(v.Cards, *p.card(g, v.Now))
	}
	v.Activities, err = p.activities(ctx, "")
	for i := range all {
		if slices.ContainsFunc(v.Activities, func(a api.Activity) bool { return a.Group == all[i].Group.Name }) {
			for _, x := range all[i].Instances {
				v.Known[x.ID] = x.Name
			}
		}
	}
	return v, err
}

func (p *Page) lookGroup(ctx context.Context, t topic) (view, error) {
	v := view{shell: p.shell(t, t.group)}
	g, err := p.opts.Viewer.Group(ctx, t.group)
	if err != nil {
		return v, fmt.Errorf("ask for group %q: %w", t.group, err)
	}
	verdicts, err := p.opts.Viewer.Verdicts(ctx, t.group)
	if err != nil {
		return v, fmt.Errorf("ask for the verdicts of group %q: %w", t.group, err)
	}
	for i, x := range verdicts {
		if i > 0 && i <= earlierVerdicts {
			v.Earlier = append(v.Earlier, p.opts.Verdict(x))
		}
	}
	v.Group = p.card(&g, v.Now)
	v.G = v.Group.Group
	samples := append(p.history.of(t.group), sampleOf(v.Now, &g))
	// The newest moment moves the chart by less than a pixel a second; it is drawn
	// anew with the samples, or when a number changes.
	end := v.Now
	if n := len(samples); n > 1 {
		end = samples[n-2].at
		if same(samples[n-1], samples[n-2]) {
			samples = samples[:n-1]
		} else {
			samples[n-1].at = end
		}
	}
	v.CPU, v.Size = cpuChart(v.G, samples, end), sizeChart(v.G, samples, end)
	v.Settings, v.Known = settings(v.G.Settings), map[string]string{}
	for _, i := range v.G.Instances {
		v.Known[i.ID] = i.Name
	}
	v.Activities, err = p.activities(ctx, t.group)
	return v, err
}

// same reports whether two samples are drawn alike.
func same(a, b sample) bool {
	return math.Abs(a.cpu-b.cpu) < 0.01 && math.IsNaN(a.cpu) == math.IsNaN(b.cpu) && a.desired == b.desired && a.inService == b.inService && a.min == b.min && a.max == b.max
}

func (p *Page) activities(ctx context.Context, group string) ([]api.Activity, error) {
	all, err := p.opts.Viewer.Activities(ctx, group, "", shownActivities)
	if err != nil {
		return nil, fmt.Errorf("ask for activities: %w", err)
	}
	out := make([]api.Activity, 0, len(all))
	for _, a := range all {
		out = append(out, p.opts.Activity(a))
	}
	return out, nil
}

func (p *Page) card(g *scaling.GroupView, now time.Time) *card {
	c := &card{Group: p.opts.Group(*g), At: now}
	c.Word, c.Why, c.Timers = words.Direction(c.Group, now), words.Why(c.Group), words.Timers(c.Group, now)
	mean, n, missing := words.Average(c.Group)
	c.CPU, c.Missing, c.Running = cpuOf(mean, n > 0, c.Settings), missing, words.Running(c.Group)
	for _, x := range c.Conditions {
		if x.Standing {
			c.Standing = append(c.Standing, x.Signal)
		}
	}
	c.Paused = words.Paused(c.Group, now) || c.Release != nil || now.Before(c.HoldUntil)
	// What is read out when it changes; it holds no number that changes by itself.
	c.Say = fmt.Sprintf("%s: %s. %d in service, %d desired.", c.Name, c.Word, c.InService, c.Desired)
	if len(c.Statuses) > 0 {
		c.Say += " " + strings.Join(c.Statuses, ", ") + "."
	}
	samples := p.history.of(c.Name)
	if len(samples) > 0 {
		c.Spark = sparkOf(c.Settings, samples, samples[len(samples)-1].at)
	} else {
		c.Spark = sparkOf(c.Settings, nil, now)
	}
	return c
}

// paused reports whether automatic steps do not begin because somebody said so.
func paused(g *scaling.GroupView, now time.Time) bool {
	p := g.State.Pause
	return p != nil && (p.Until.IsZero() || now.Before(p.Until)) || g.State.Release != nil || now.Before(g.State.HoldUntil)
}

// attention reports whether a person should look at the group.
func attention(g *scaling.GroupView) bool {
	if len(g.Problems) > 0 || g.State.Failures > 0 ||
		slices.Contains(g.Statuses, scaling.StatusDegraded) || slices.Contains(g.Statuses, scaling.StatusNoCapacity) {
		return true
	}
	if slices.Contains(g.Statuses, scaling.StatusAtMax) && slices.ContainsFunc(g.Conditions, func(c scaling.Condition) bool {
		return c.Signal == scaling.High && c.Standing
	}) {
		return true
	}
	return slices.ContainsFunc(g.Instances, func(i scaling.InstanceView) bool { return i.Suspect != "" || i.State == scaling.StateFailed })
}

func shown(g *scaling.GroupView, show string, now time.Time) bool {
	switch show {
	case "attention":
		return attention(g)
	case "changing":
		return len(g.State.Open) > 0
	case "paused":
		return paused(g, now)
	}
	return true
}

// arrange sorts groups that are sorted by name.
func arrange(groups []*scaling.GroupView, by string, now time.Time) {
	var rank func(g *scaling.GroupView) float64
	switch by {
	case "attention":
		rank = func(g *scaling.GroupView) float64 {
			switch {
			case attention(g):
				return 3
			case len(g.State.Open) > 0:
				return 2
			case paused(g, now):
				return 1
			}
			return 0
		}
	case "cpu":
		rank = func(g *scaling.GroupView) float64 {
			v, _ := average(g)
			if math.IsNaN(v) {
				return -1
			}
			return v
		}
	case "size":
		rank = func(g *scaling.GroupView) float64 { return float64(len(g.Instances)) }
	default:
		return
	}
	ranks := make(map[*scaling.GroupView]float64, len(groups))
	for _, g := range groups {
		ranks[g] = rank(g)
	}
	slices.SortStableFunc(groups, func(a, b *scaling.GroupView) int { return cmp.Compare(ranks[b], ranks[a]) })
}

func (s *sum) add(g *scaling.GroupView, now time.Time) {
	s.Groups++
	s.InService += g.State.Count(scaling.StateInService)
	s.Desired += g.State.Desired
	if len(g.State.Open) > 0 {
		s.Changing++
	}
	if attention(g) {
		s.Attention++
	}
	if paused(g, now) {
		s.Paused++
	}
}

// Say is read out when it changes.
func (s *sum) Say() string {
	return fmt.Sprintf("%d groups: %d changing, %d need attention.", s.Groups, s.Changing, s.Attention)
}

// settings are what is configured, those left out that say nothing.
func settings(s api.Settings) []setting {
	var out []setting
	add := func(name, value string) {
		if value != "" && value != "0s" && value != "0" {
			out = append(out, setting{name, value})
		}
	}
	add("bounds", fmt.Sprintf("%d to %d", s.Min, s.Max))
	add("surge", strconv.Itoa(s.Surge))
	add("thresholds", fmt.Sprintf("high %s for %s, low %s for %s", words.Percent(s.High), s.HighHold, words.Percent(s.Low), s.LowHold))
	add("confirmed by", strings.Join(s.Confirm, ", "))
	add("cooldown", s.Cooldown.String())
	add("warm-up", s.WarmUp.String())
	add("settle", s.Settle.String())
	add("lease", s.LeaseTTL.String())
	add("windows", fmt.Sprintf("rate %s, scrape %s, evaluation %s", s.RateWindow, s.ScrapeInterval, s.EvaluationInterval))
	add("deadlines", fmt.Sprintf("launch %s, drain %s, shutdown %s", s.LaunchDeadline, s.DrainDeadline, s.ShutdownDeadline))
	add("budgets per hour", fmt.Sprintf("%d creations, %d removals", s.CreationsPerHour, s.RemovalsPerHour))
	add("victim", s.Victim)
	add("on removal", s.OnRemove)
	add("grace", s.Grace.String())
	add("provider", s.Provider)
	add("balancer", s.Balancer)
	if s.Port != 0 {
		add("port", strconv.Itoa(int(s.Port)))
	}
	add("names", s.Name)
	add("adopted", strings.Join(s.Adopt, ", "))
	return out
}
