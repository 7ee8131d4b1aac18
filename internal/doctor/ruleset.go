package doctor

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/rules"
)

// The groups of rules.
const (
	scalingRules = "scalehook-scaling"
	peopleRules  = "scalehook-people"
	compatRules  = "scalehook-compat"
	guestRules   = "scalehook-guests"
)

// Rule is a rule that Prometheus has loaded, or that a file has.
type Rule struct {
	Group    string
	Interval time.Duration // of its group; 0 for Prometheus's own
	Name     string
	Alert    bool
	Expr     string
	For      time.Duration
	Labels   map[string]string
	// File is where it is from, Err why its last evaluation failed.
	File, Err string
}

// parseRules reads a rule file.
func parseRules(text []byte) ([]Rule, error) {
	var file struct {
		Groups []struct {
			Name     string         `yaml:"name"`
			Interval model.Duration `yaml:"interval"`
			Rules    []struct {
				Record string            `yaml:"record"`
				Alert  string            `yaml:"alert"`
				Expr   string            `yaml:"expr"`
				For    model.Duration    `yaml:"for"`
				Labels map[string]string `yaml:"labels"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	var all []Rule
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			one := Rule{Group: g.Name, Interval: time.Duration(g.Interval), Name: r.Record, Expr: r.Expr, For: time.Duration(r.For), Labels: r.Labels}
			if r.Alert != "" {
				one.Name, one.Alert = r.Alert, true
			}
			all = append(all, one)
		}
	}
	return all, nil
}

// rendered are the rules as this scalehook prints them.
func rendered(o rules.Options) ([]Rule, error) {
	text, err := rules.Render(o)
	if err != nil {
		return nil, err
	}
	return parseRules(text)
}

// selectorRE finds the matchers of a selector. A quoted brace ends it early, which
// only means that two expressions with one are compared as they are.
var selectorRE = regexp.MustCompile(`\{[^{}]*\}`)

// matcherRE finds one matcher with its value.
var matcherRE = regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_]*(?:=~|!~|!=|=)"(?:[^"\\]|\\.)*"`)

// normal writes an expression so that what Prometheus prints of it after parsing is
// the same: without space, and each selector's matchers in order.
func normal(expr string) string {
	expr = strings.Join(strings.Fields(expr), "")
	return selectorRE.ReplaceAllStringFunc(expr, func(s string) string {
		found := matcherRE.FindAllString(s, -1)
		if inner := strings.TrimSuffix(s[1:len(s)-1], ","); strings.Join(found, ",") != inner {
			return s // something else is in it
		}
		slices.Sort(found)
		return "{" + strings.Join(found, ",") + "}"
	})
}

// same reports whether a loaded rule is the one that it should be.
func same(got, want Rule) bool {
	return normal(got.Expr) == normal(want.Expr) && got.For == want.For && got.Interval == want.Interval && maps.Equal(got.Labels, want.Labels)
}

// ruleset looks whether the loaded rules are those of this scalehook, rendered for
// the intervals that its configuration states.
func (r *report) ruleset(loaded []Rule, o rules.Options) {
	const what = whatRules
	want, err := rendered(o)
	if err != nil {
		r.bad(0, what, "there are none for monitoring in scalehook's configuration: %v", err)
		return
	}
	missing, other := differences(loaded, want)
	command := printRules(o)
	var f findings
	switch {
	case len(missing[scalingRules]) == count(want, scalingRules):
		f.bad(0, "the scaling rules are not loaded: run %s > FILE, where rule_files finds FILE, and reload Prometheus", command)
	case len(missing[scalingRules])+len(other[scalingRules]) > 0:
		if was, ok := renderedFor(loaded); ok {
			f.bad(0, "they are for a scrape interval of %s, an evaluation interval of %s and a rate window of %s, and monitoring in scalehook's configuration says %s, %s and %s: run %s over their file and reload Prometheus, or state the others",
				short(was.ScrapeInterval), short(was.EvaluationInterval), short(was.RateWindow), short(o.ScrapeInterval), short(o.EvaluationInterval), short(o.RateWindow), command)
		} else {
			f.bad(0, "%s of this scalehook's version: run %s over their file and reload Prometheus", differ(missing[scalingRules], other[scalingRules]), command)
		}
	}
	if err := failing(loaded); err != nil {
		f.bad(0, "%v", err)
	}
	if len(f.bads) == 0 && len(missing[peopleRules])+len(other[peopleRules]) > 0 {
		f.warn(0, "of the alerts for people %s of this scalehook's version: run %s over their file and reload Prometheus", differ(missing[peopleRules], other[peopleRules]), command)
	}
	if twice := doubled(loaded); len(twice) > 0 {
		f.warn(0, "%s are loaded twice, and their group's evidence may be too: keep one file", and(twice))
	}
	r.check(what, f, "%s, as this scalehook prints them for a scrape interval of %s", plural(len(want), "rule"), short(o.ScrapeInterval))
}

func printRules(o rules.Options) string {
	command := "scalehook rules --scrape-interval " + short(o.ScrapeInterval)
	plain := rules.Options{ScrapeInterval: o.ScrapeInterval}.WithDefaults()
	if o.EvaluationInterval != plain.EvaluationInterval {
		command += " --evaluation-interval " + short(o.EvaluationInterval)
	}
	if o.RateWindow != plain.RateWindow {
		command += " --rate-window " + short(o.RateWindow)
	}
	return command
}

func count(all []Rule, group string) (n int) {
	for _, r := range all {
		if r.Group == group {
			n++
		}
	}
	return n
}

// differences are the rules that are wanted and not loaded, or loaded otherwise, by
// the group that they belong to. Where they are loaded does not matter.
func differences(loaded, want []Rule) (missing, other map[string][]string) {
	missing, other = map[string][]string{}, map[string][]string{}
	for _, w := range want {
		found, right := false, true
		for _, l := range loaded {
			if l.Name == w.Name && l.Alert == w.Alert && l.Labels[labelSignal] == w.Labels[labelSignal] {
				found, right = true, right && same(l, w)
			}
		}
		switch {
		case !found:
			missing[w.Group] = append(missing[w.Group], w.Name)
		case !right:
			other[w.Group] = append(other[w.Group], w.Name)
		}
	}
	return missing, other
}

func differ(missing, other []string) string {
	var said []string
	if len(missing) > 0 {
		said = append(said, and(missing)+" "+is(missing)+" missing")
	}
	if len(other) > 0 {
		said = append(said, and(other)+" "+is(other)+" not as those")
	}
	return strings.Join(said, ", and ")
}

func is(names []string) string {
	if len(names) == 1 {
		return "is"
	}
	return "are"
}

func failing(loaded []Rule) error {
	var errs []error
	for _, r := range loaded {
		if r.Err != "" && (r.Group == scalingRules || r.Group == compatRules || r.Group == guestRules) {
			errs = append(errs, fmt.Errorf("%s cannot be evaluated: %s", r.Name, r.Err))
		}
	}
	return errors.Join(errs...)
}

func doubled(loaded []Rule) []string {
	seen := map[string]int{}
	for _, r := range loaded {
		if r.Group == scalingRules {
			seen[r.Name]++
		}
	}
	var twice []string
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		if seen[name] > 1 {
			twice = append(twice, name)
		}
	}
	return twice
}

// rateRE and scrapeRE find the windows in the first of the rules.
var (
	rateRE   = regexp.MustCompile(`rate\(libvirt_domain_cpu_time_seconds_total\[([0-9a-z]+)\]`)
	scrapeRE = regexp.MustCompile(`present_over_time\(libvirt_domain_cpu_time_seconds_total\[([0-9a-z]+)\]`)
)

// renderedFor finds the intervals that the loaded rules were rendered for; false if
// they are not this scalehook's for any.
func renderedFor(loaded []Rule) (rules.Options, bool) {
	for _, r := range loaded {
		if r.Name != "uuid:libvirt_domain_cpu_utilization_bridged:ratio" {
			continue
		}
		rate, scrape := rateRE.FindStringSubmatch(r.Expr), scrapeRE.FindStringSubmatch(r.Expr)
		if rate == nil || scrape == nil {
			return rules.Options{}, false
		}
		window, err := model.ParseDuration(rate[1])
		interval, err2 := model.ParseDuration(scrape[1])
		if err != nil || err2 != nil {
			return rules.Options{}, false
		}
		o := rules.Options{ScrapeInterval: time.Duration(interval), EvaluationInterval: r.Interval, RateWindow: time.Duration(window)}
		want, err := rendered(o)
		if err != nil {
			return o, false
		}
		missing, other := differences(loaded, want)
		return o, len(missing[scalingRules])+len(other[scalingRules]) == 0
	}
	return rules.Options{}, false
}
