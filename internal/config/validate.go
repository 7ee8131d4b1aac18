package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// The names of the sources in confirm.
const (
	sourcePrometheus   = "prometheus"
	sourceAlertmanager = "alertmanager"
)

// defaults fills in what depends on other values.
func (c *Config) defaults() {
	m := &c.Monitoring
	if m.ScrapeInterval == 0 {
		m.ScrapeInterval = 15 * time.Second
	}
	if m.EvaluationInterval == 0 {
		m.EvaluationInterval = 15 * time.Second
	}
	if m.RateWindow == 0 {
		m.RateWindow = 4 * m.ScrapeInterval
	}
	for name, g := range c.Groups {
		if g == nil {
			continue
		}
		if g.Name == "" {
			g.Name = name + "-{n}"
		}
		if g.Confirm == nil {
			g.Confirm = c.sources()
		}
		if t, ok := g.template.(interface{ SetDirectory(dir string) }); ok {
			t.SetDirectory(c.path("."))
		}
	}
	for _, p := range c.Providers {
		if p.OpenStack != nil {
			p.OpenStack.SetDirectory(c.path("."))
		}
	}
	for _, b := range c.Balancers {
		if b.Octavia != nil {
			b.Octavia.SetDirectory(c.path("."))
		}
	}
	if c.Prometheus != nil {
		c.Prometheus.SetDirectory(c.path("."))
	}
	for i := range c.Alertmanagers {
		c.Alertmanagers[i].HTTPClient.SetDirectory(c.path("."))
	}
	for i := range c.Tokens {
		c.Tokens[i].File = c.path(c.Tokens[i].File)
	}
	for i := range c.Webhooks {
		w := &c.Webhooks[i]
		w.SecretFile = c.path(w.SecretFile)
		w.HTTPClient.SetDirectory(c.path("."))
	}
}

// sources are the names of those that can confirm.
func (c *Config) sources() []string {
	var names []string
	if c.Prometheus != nil {
		names = append(names, sourcePrometheus)
	}
	if len(c.Alertmanagers) > 0 {
		names = append(names, sourceAlertmanager)
	}
	return names
}

func (c *Config) validate() error {
	p := &problems{at: c.lines}
	if c.Owner == "" {
		p.addf([]string{"owner"}, "missing: a stable id of this installation, such as the host's name; it is written into every VM's mark")
	} else {
		p.add([]string{"owner"}, scaling.ValidName(c.Owner))
	}
	c.wholeNumbers(p)
	c.validateMonitoring(p)
	c.validateSources(p)
	c.validateTokens(p)
	c.validateWebhooks(p)
	c.validateDrivers(p)
	if len(c.Groups) == 0 {
		p.addf([]string{"groups"}, "missing: state at least one group")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		path := []string{"groups", name}
		p.add(path, scaling.ValidName(name))
		if c.Groups[name] == nil {
			p.addf(path, "empty: state at least max, provider and balancer")
			continue
		}
		c.validateGroup(p, path, c.Groups[name])
	}
	c.validateShared(p)
	return p.err()
}

func (c *Config) validateMonitoring(p *problems) {
	m := c.Monitoring
	at := func(key string) []string { return []string{"monitoring", key} }
	for _, d := range []struct {
		key string
		v   time.Duration
	}{{"scrape_interval", m.ScrapeInterval}, {"evaluation_interval", m.EvaluationInterval}, {"rate_window", m.RateWindow}} {
		if d.v < time.Millisecond {
			p.addf(at(d.key), "%v: must be longer than 0s", d.v)
		}
	}
	if least := 4 * m.ScrapeInterval; m.RateWindow < least {
		p.addf(at("rate_window"), "%v is less than 4 × scrape_interval: one lost scrape would leave no reading; use %v or more", m.RateWindow, least)
	}
	if m.RepeatInterval < 0 {
		p.addf(at("repeat_interval"), "%v: must not be negative", m.RepeatInterval)
	}
}

func (c *Config) validateTokens(p *problems) {
	seen := map[string]bool{}
	for i, t := range c.Tokens {
		at := func(key string) []string { return []string{"tokens", strconv.Itoa(i), key} }
		if err := scaling.ValidName(t.Name); err != nil {
			p.add(at("name"), err)
		} else if seen[t.Name] {
			p.addf(at("name"), "a token called %q is there already", t.Name)
		}
		seen[t.Name] = true
		if t.Role != "alerts" && t.Role != "operator" {
			p.addf(at("role"), "%q: use alerts or operator", t.Role)
		}
		if t.File == "" {
			p.addf(at("file"), "missing: the file that holds the token")
		}
		for j, g := range t.Groups {
			if c.Groups[g] == nil {
				p.addf(append(at("groups"), strconv.Itoa(j)), "no group is called %q%s", g, there(c.Groups))
			}
		}
	}
}

// there lists the names that there are.
func there[T any](m map[string]T) string {
	if len(m) == 0 {
		return ": there is none"
	}
	return ": there is " + strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}

func (c *Config) validateDrivers(p *problems) {
	for _, name := range slices.Sorted(maps.Keys(c.Providers)) {
		path := []string{"providers", name}
		p.add(path, scaling.ValidName(name))
		d, err := c.Providers[name].driver()
		if err != nil {
			p.add(path, err)
			continue
		}
		p.add(append(path, d.name()), d.validate())
	}
	for _, name := range slices.Sorted(maps.Keys(c.Balancers)) {
		path := []string{"balancers", name}
		p.add(path, scaling.ValidName(name))
		b := c.Balancers[name]
		d, err := b.driver()
		if err != nil {
			p.add(path, err)
			continue
		}
		p.add(append(path, d.name()), d.validate())
		if s := b.Simulated; s != nil && s.Provider != "" && c.Providers[s.Provider].Simulated == nil {
			p.addf(append(path, "simulated", "provider"), "%q is not a simulated provider", s.Provider)
		}
	}
}

func (c *Config) validateGroup(p *problems, path []string, g *Group) {
	at := func(key string) []string { return append(slices.Clone(path), key) }
	switch g.Mode {
	case scaling.ModeObserve, scaling.ModeScaleOutOnly:
	case scaling.ModeFull:
		if len(g.Confirm) == 0 {
			p.addf(at("mode"), "full needs a source that confirms: nothing is removed on a notification alone; state prometheus or alertmanagers, or use scale_out_only")
		}
	default:
		p.addf(at("mode"), "%q: use observe, scale_out_only or full", g.Mode)
	}
	c.validateBounds(p, at, g)
	validateThresholds(p, at, g)
	c.validateTimes(p, at, g)
	switch g.Victim {
	case scaling.VictimNewest, scaling.VictimOldest:
	case scaling.VictimLeastBusy:
		if c.Prometheus == nil {
			p.addf(at("victim"), "least_busy needs readings: state prometheus, or use newest or oldest")
		}
	default:
		p.addf(at("victim"), "%q: use newest, oldest or least_busy", g.Victim)
	}
	// All of them is a choice that can be made here, other than with a threshold.
	if t := g.MaxUnhealthy.Text; t == "100%" || t == "1" {
		g.MaxUnhealthy.Value, g.MaxUnhealthy.err = 1, nil
	}
	if g.MaxUnhealthy.err != nil {
		p.add(at("max_unhealthy"), g.MaxUnhealthy.err)
	}
	if g.Grace < 0 {
		p.addf(at("grace"), "%s: state a time, or 0 to replace nothing", g.Grace)
	}
	for k := range g.Maintenance {
		p.add(at("maintenance"), g.Maintenance[k].validate())
	}
	switch g.OnRemove {
	case scaling.OnRemoveKeep, scaling.OnRemoveDelete:
	default:
		p.addf(at("on_remove"), "%q: use keep or delete", g.OnRemove)
	}
	if err := scaling.ValidName(strings.ReplaceAll(g.Name, "{n}", "1000000")); err != nil {
		p.addf(at("name"), "%q: use letters, digits, '_', '.', '-' and {n}, at most 57 characters", g.Name)
	}
	for i, name := range g.Adopt {
		p.add(append(at("adopt"), strconv.Itoa(i)), scaling.ValidName(name))
	}
	if g.Port == 0 {
		p.addf(at("port"), "0: the port on which the members serve, 1 to 65535")
	}
	for i, name := range g.Confirm {
		if !slices.Contains(c.sources(), name) {
			p.addf(append(at("confirm"), strconv.Itoa(i)), "%q is not configured%s", name, list(": there is ", c.sources(), ": state prometheus or alertmanagers first"))
		}
	}
	c.validateUse(p, at, g)
}

func list(before string, names []string, empty string) string {
	if len(names) == 0 {
		return empty
	}
	return before + strings.Join(names, ", ")
}

func (c *Config) validateBounds(p *problems, at func(string) []string, g *Group) {
	switch {
	case g.Max == 0:
		p.addf(at("max"), "missing: how many instances the group may own at most")
	case g.SnapshotsKeep < 0:
		p.addf(at("snapshots_keep"), "%d: must be 0 (keep all) or more", g.SnapshotsKeep)
	case g.Min < 0 || g.Max < 0 || g.Surge < 0:
		p.addf(at("max"), "min %d, max %d, surge %d: none may be negative", g.Min, g.Max, g.Surge)
	case g.Min > g.Max:
		p.addf(at("min"), "min %d is more than max %d", g.Min, g.Max)
	case g.Max > 1000:
		p.addf(at("max"), "%d: at most 1000", g.Max)
	case len(g.Adopt) > g.Max:
		p.addf(at("adopt"), "%d VMs to adopt and max %d", len(g.Adopt), g.Max)
	}
	for _, b := range []struct {
		key string
		v   int
	}{{"creations_per_hour", g.CreationsPerHour}, {"removals_per_hour", g.RemovalsPerHour}} {
		if b.v < 1 {
			p.addf(at(b.key), "%d: at least 1; to do nothing use mode observe", b.v)
		}
	}
}

// validateThresholds refuses a pair that must flap: after one instance of n left,
// the others carry its load, low × n / (n-1) each at most, and that has to stay
// under high, or the removal is taken back at once.
func validateThresholds(p *problems, at func(string) []string, g *Group) {
	bad := false
	for _, r := range []struct {
		key string
		v   Ratio
	}{{"high", g.High}, {"low", g.Low}} {
		if r.v.err != nil {
			p.add(at(r.key), r.v.err)
			bad = true
		}
	}
	if bad {
		return
	}
	if g.Low.Value >= g.High.Value {
		p.addf(at("low"), "low %s is not below high %s", g.Low.Text, g.High.Text)
		return
	}
	n := max(2, g.Min+1)
	if n > g.Max {
		return // never shrinks to one or more
	}
	limit := g.High.Value * float64(n-1) / float64(n)
	if g.Low.Value >= limit {
		p.addf(at("low"), "low %s is too close to high %s: going from %d to %d instances would raise %s to %s and scale out again; use less than %s",
			g.Low.Text, g.High.Text, n, n-1, g.Low.Text, percent(g.Low.Value*float64(n)/float64(n-1)), percent(limit))
	}
}

func (c *Config) validateTimes(p *problems, at func(string) []string, g *Group) {
	for _, d := range []struct {
		key   string
		v     time.Duration
		least time.Duration
	}{
		{"high_hold", g.HighHold, 0},
		{"low_hold", g.LowHold, 0},
		{"cooldown", g.Cooldown, 0},
		{"warm_up", g.WarmUp, 0},
		{"lease_ttl", g.LeaseTTL, time.Second},
		{"launch_deadline", g.LaunchDeadline, time.Second},
		{"drain_deadline", g.DrainDeadline, time.Millisecond},
		{"shutdown_deadline", g.ShutdownDeadline, time.Millisecond},
		{"call_deadline", g.CallDeadline, 100 * time.Millisecond},
		{"backoff_min", g.BackoffMin, time.Millisecond},
		{"backoff_max", g.BackoffMax, time.Millisecond},
	} {
		if d.v < d.least {
			p.addf(at(d.key), "%v: at least %v", d.v, d.least)
		}
	}
	if g.BackoffMin > g.BackoffMax {
		p.addf(at("backoff_min"), "backoff_min %v is longer than backoff_max %v", g.BackoffMin, g.BackoffMax)
	}
	if repeat := c.Monitoring.RepeatInterval; repeat > 0 && g.LeaseTTL < 2*repeat {
		p.addf(at("lease_ttl"), "%v is less than 2 × monitoring.repeat_interval: one lost notification would end a condition that stands; use %v or more",
			g.LeaseTTL, 2*repeat)
	}
}

// validateUse checks what the group uses of its drivers.
func (c *Config) validateUse(p *problems, at func(string) []string, g *Group) {
	if b, ok := c.Providers[g.Provider]; !ok {
		p.addf(at("provider"), "%s", missing("provider", g.Provider, there(c.Providers)))
	} else if d, err := b.driver(); err == nil {
		p.add(at("template"), d.checkTemplate(g.template))
	}
	if b, ok := c.Balancers[g.Balancer]; !ok {
		p.addf(at("balancer"), "%s", missing("balancer", g.Balancer, there(c.Balancers)))
	} else if d, err := b.driver(); err == nil {
		p.add(at("pool"), d.checkPool(g.pool))
	}
}

func missing(what, name, there string) string {
	if name == "" {
		return "missing: which " + what + there
	}
	return fmt.Sprintf("no %s is called %q%s", what, name, there)
}

// validateShared finds what two groups would fight over.
func (c *Config) validateShared(p *problems) {
	taken := map[string]string{}
	take := func(path []string, group, key, what string) {
		if other, is := taken[key]; is && other != group {
			p.addf(path, "%s is that of group %s too: each group needs its own", what, other)
			return
		}
		taken[key] = group
	}
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		g := c.Groups[name]
		if g == nil {
			continue
		}
		at := func(key string) []string { return []string{"groups", name, key} }
		if d, err := c.Balancers[g.Balancer].driver(); err == nil && g.pool != nil {
			if place := d.place(g.pool); place != "" {
				take(at("pool"), name, "pool "+g.Balancer+" "+place, place+" of balancer "+g.Balancer)
			}
		}
		take(at("name"), name, "name "+g.Provider+" "+g.Name, fmt.Sprintf("name %q", g.Name))
		for i, vm := range g.Adopt {
			take(append(at("adopt"), strconv.Itoa(i)), name, "adopt "+g.Provider+" "+vm, "VM "+vm)
		}
	}
}
