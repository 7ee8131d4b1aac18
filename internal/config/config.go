package config

import (
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/prometheus"
)

// Config is the configuration file.
type Config struct {
	// Owner is a stable id of this installation. It is written into the mark of
	// every VM: changing it makes all of them strangers.
	Owner string `yaml:"owner"`
	// Monitoring states the intervals of the Prometheus in front of scalehook.
	Monitoring Monitoring `yaml:"monitoring"`
	// Prometheus is asked for CPU readings and for the signals that stand.
	Prometheus *prometheus.Config `yaml:"prometheus"`
	// Alertmanagers are asked whether a signal is silenced. Every one counts.
	Alertmanagers []Alertmanager `yaml:"alertmanagers"`
	// Tokens are the bearer tokens that the server accepts.
	Tokens []Token `yaml:"tokens"`
	// Webhooks are receivers that are told of every activity that ended
	// (docs/webhooks.md).
	Webhooks []Webhook `yaml:"webhooks"`
	// Providers are the places where VMs are made, by name.
	Providers map[string]Provider `yaml:"providers"`
	// Balancers are what spreads traffic over the members, by name.
	Balancers map[string]Balancer `yaml:"balancers"`
	// Groups are the scaling groups, by name.
	Groups map[string]*Group `yaml:"groups"`

	file  string
	lines positions
}

// Monitoring is stated once and used wherever freshness matters.
type Monitoring struct {
	// ScrapeInterval is how often Prometheus scrapes the exporter. Default 15s,
	// what the rules are rendered for.
	ScrapeInterval time.Duration `yaml:"scrape_interval"`
	// EvaluationInterval is how often it evaluates the rules. Default 15s.
	EvaluationInterval time.Duration `yaml:"evaluation_interval"`
	// RateWindow is the window of rate() in the rules. Default 4 × scrape_interval,
	// so that one lost scrape does not empty it.
	RateWindow time.Duration `yaml:"rate_window"`
	// RepeatInterval is Alertmanager's repeat_interval for the signals. Where it is
	// stated, every lease_ttl is checked against it. Default: not known.
	RepeatInterval time.Duration `yaml:"repeat_interval"`
}

// Token is a bearer token.
type Token struct {
	// Name is for logs and for who gave an order; never secret.
	Name string `yaml:"name"`
	// Role is alerts (may post notifications) or operator (may give orders too).
	Role string `yaml:"role"`
	// File holds the token, or several, one a line. It is read again when it changes.
	File string `yaml:"file"`
	// Groups limits the token to these groups. Default: all.
	Groups []string `yaml:"groups"`
}

// Group is one scaling group.
type Group struct {
	// Mode is observe (decide and explain, change nothing), scale_out_only or full.
	// Default observe: trust is turned on by a person.
	Mode scaling.Mode `yaml:"mode"`
	// Min and Max bound the instances; max counts everything owned. Min defaults
	// to 1, max has to be stated: at most 1000.
	Min int `yaml:"min"`
	Max int `yaml:"max"`
	// Surge is how many more may exist for a moment during a handover or a
	// replacement. Default 0: max is never passed.
	Surge int `yaml:"surge"`
	// High and Low are the thresholds of the average CPU utilisation: 70% or 0.7.
	// Defaults 70% and 20%, far enough apart for any number of instances.
	High Ratio `yaml:"high"`
	Low  Ratio `yaml:"low"`
	// HighHold and LowHold are how long a condition must have stood beyond the
	// alert rule's own "for" before it is acted on. Default 0s.
	HighHold time.Duration `yaml:"high_hold"`
	LowHold  time.Duration `yaml:"low_hold"`
	// LeaseTTL is how long one notification keeps its condition standing. Default
	// 3m: two repeats of 1m and a bit, so that one may be lost.
	LeaseTTL time.Duration `yaml:"lease_ttl"`
	// Cooldown is the pause after an action before the next automatic one. Default 1m.
	Cooldown time.Duration `yaml:"cooldown"`
	// WarmUp is the time in service before an instance's CPU counts for the high
	// signal. Default 30s: a boot's own work is no load.
	WarmUp time.Duration `yaml:"warm_up"`
	// LaunchDeadline bounds the way into service; past it the VM is removed.
	// Default 5m.
	LaunchDeadline time.Duration `yaml:"launch_deadline"`
	// DrainDeadline is how long sessions may take to end before they are cut.
	// Default 2m.
	DrainDeadline time.Duration `yaml:"drain_deadline"`
	// ShutdownDeadline is how long a guest may take to stop before its power is
	// cut. Default 1m.
	ShutdownDeadline time.Duration `yaml:"shutdown_deadline"`
	// CallDeadline bounds one call to a driver. Default 30s.
	CallDeadline time.Duration `yaml:"call_deadline"`
	// CreationsPerHour and RemovalsPerHour are budgets over a sliding hour, against
	// a loop that nobody thought of. Default 20 each.
	CreationsPerHour int `yaml:"creations_per_hour"`
	RemovalsPerHour  int `yaml:"removals_per_hour"`
	// BackoffMin and BackoffMax bound the pause after failed launches, which
	// doubles with each. Defaults 10s and 10m.
	BackoffMin time.Duration `yaml:"backoff_min"`
	BackoffMax time.Duration `yaml:"backoff_max"`
	// Grace is how long an instance may be unwell (its VM not found, stopped or
	// paused, or its checks failing) before it is replaced. Until then it counts as
	// unknown: people shut down, migrate and redefine VMs by hand. 0 never replaces.
	// Default 5m.
	Grace time.Duration `yaml:"grace"`
	// MaxUnhealthy is the share of the instances in service that may be unwell for
	// one of them to be replaced; more at once look like a fault of something else.
	// One always may; 100% is no brake at all. Default 50%.
	MaxUnhealthy Ratio `yaml:"max_unhealthy"`
	// Maintenance lists windows in which nothing is begun by itself.
	Maintenance Windows `yaml:"maintenance"`
	// Victim is which instance a scale-in removes: newest, oldest or least_busy.
	// Default newest.
	Victim scaling.VictimPolicy `yaml:"victim"`
	// OnRemove is what becomes of an adopted VM that leaves: keep (shut down, with
	// its disks) or delete. Default keep.
	OnRemove scaling.OnRemove `yaml:"on_remove"`
	// Snapshot asks for a snapshot before a removal, where the provider makes them:
	// openstack does. Default false.
	Snapshot bool `yaml:"snapshot"`
	// SnapshotsKeep is how many such snapshots of the group are kept; older ones are
	// deleted after the next one is made. Default 0: all are kept.
	SnapshotsKeep int `yaml:"snapshots_keep"`
	// Name is the pattern of new VMs' names; {n} stands for a number that only
	// rises. Names that adopted VMs have are left out. Default "GROUP-{n}".
	Name string `yaml:"name"`
	// Adopt names existing VMs that belong to the group as baselines.
	Adopt []string `yaml:"adopt"`
	// Provider is one of providers. It may be left out where there is only one.
	Provider string `yaml:"provider"`
	// Template is what the group's VMs are like, in the words of its provider.
	Template section `yaml:"template"`
	// Balancer is one of balancers. It may be left out where there is only one.
	Balancer string `yaml:"balancer"`
	// Pool is the group's pool, in the words of its balancer.
	Pool section `yaml:"pool"`
	// Port is the port on which the members serve. Default 80.
	Port uint16 `yaml:"port"`
	// Confirm names the sources that must confirm a condition before a step:
	// prometheus, alertmanager. Default: all that are configured.
	Confirm []string `yaml:"confirm"`

	template, pool any // decoded sections
}

// UnmarshalYAML lays a group's values over the defaults.
func (g *Group) UnmarshalYAML(unmarshal func(any) error) error {
	type plainGroup Group
	*g = Group{
		Mode: scaling.ModeObserve, Min: 1, High: Ratio{Text: "70%", Value: 0.7}, Low: Ratio{Text: "20%", Value: 0.2},
		LeaseTTL: 3 * time.Minute, Cooldown: time.Minute, WarmUp: 30 * time.Second,
		LaunchDeadline: 5 * time.Minute, DrainDeadline: 2 * time.Minute, ShutdownDeadline: time.Minute, CallDeadline: 30 * time.Second,
		CreationsPerHour: 20, RemovalsPerHour: 20, BackoffMin: 10 * time.Second, BackoffMax: 10 * time.Minute,
		Grace: 5 * time.Minute, MaxUnhealthy: Ratio{Text: "50%", Value: 0.5},
		Victim: scaling.VictimNewest, OnRemove: scaling.OnRemoveKeep, Port: 80,
	}
	return unmarshal((*plainGroup)(g))
}

// section is a part of the file whose type is known only once the whole file was
// read: a template is decoded for the driver that its group names.
type section struct{ decode func(any) error }

// UnmarshalYAML keeps the decoder for later. It stays strict and counts lines.
func (s *section) UnmarshalYAML(unmarshal func(any) error) error {
	s.decode = unmarshal
	return nil
}

// scaling returns the group as the decision knows it.
func (c *Config) scalingGroup(name string) scaling.Group {
	g := c.Groups[name]
	return scaling.Group{
		Name: name, Mode: g.Mode, Min: g.Min, Max: g.Max, Surge: g.Surge, High: g.High.Value, Low: g.Low.Value,
		HighHold: g.HighHold, LowHold: g.LowHold, LeaseTTL: g.LeaseTTL, Cooldown: g.Cooldown, WarmUp: g.WarmUp,
		Windows: scaling.Windows{
			Scrape: c.Monitoring.ScrapeInterval, Evaluation: c.Monitoring.EvaluationInterval, Rate: c.Monitoring.RateWindow,
		},
		LaunchDeadline: g.LaunchDeadline, DrainDeadline: g.DrainDeadline, ShutdownDeadline: g.ShutdownDeadline, CallDeadline: g.CallDeadline,
		CreationsPerHour: g.CreationsPerHour, RemovalsPerHour: g.RemovalsPerHour, BackoffMin: g.BackoffMin, BackoffMax: g.BackoffMax,
		Grace: g.Grace, MaxUnhealthy: g.MaxUnhealthy.Value,
		Victim: g.Victim, OnRemove: g.OnRemove, Snapshot: g.Snapshot, SnapshotsKeep: g.SnapshotsKeep, NamePattern: g.Name, Adopt: g.Adopt,
		Provider: g.Provider, Balancer: g.Balancer, Port: g.Port, Confirm: g.Confirm,
		Template: digest(g.template), Pool: digest(g.pool), Place: c.Providers[g.Provider].place(),
	}
}
