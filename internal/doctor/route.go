package doctor

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/matcher/compat"
	"github.com/prometheus/alertmanager/pkg/labels"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// What Alertmanager does where a route and those above it say nothing.
const (
	defaultGroupWait      = 30 * time.Second
	defaultGroupInterval  = 5 * time.Minute
	defaultRepeatInterval = 4 * time.Hour
)

// amConfig is what is read of Alertmanager's configuration; it has much more, and
// more with every version.
type amConfig struct {
	Global struct {
		HTTPConfig *amHTTP `yaml:"http_config"`
	} `yaml:"global"`
	Route        *amRoute     `yaml:"route"`
	Receivers    []amReceiver `yaml:"receivers"`
	InhibitRules []amInhibit  `yaml:"inhibit_rules"`
}

// matchers are the three ways in which Alertmanager's file states them.
type matchers struct {
	Match    map[string]string `yaml:"match"`
	MatchRE  map[string]string `yaml:"match_re"`
	Matchers []string          `yaml:"matchers"`
}

// amRoute is one node of the tree as the file has it.
type amRoute struct {
	Receiver       string          `yaml:"receiver"`
	GroupBy        []string        `yaml:"group_by"`
	GroupWait      *model.Duration `yaml:"group_wait"`
	GroupInterval  *model.Duration `yaml:"group_interval"`
	RepeatInterval *model.Duration `yaml:"repeat_interval"`
	Match          matchers        `yaml:",inline"`
	Continue       bool            `yaml:"continue"`
	Muted          []string        `yaml:"mute_time_intervals"`
	Active         []string        `yaml:"active_time_intervals"`
	Routes         []*amRoute      `yaml:"routes"`

	line int
}

// UnmarshalYAML keeps the line.
func (r *amRoute) UnmarshalYAML(node *yaml.Node) error {
	type plain amRoute
	r.line = node.Line
	return node.Decode((*plain)(r))
}

// amInhibit is a rule by which one alert silences another.
type amInhibit struct {
	TargetMatch    map[string]string `yaml:"target_match"`
	TargetMatchRE  map[string]string `yaml:"target_match_re"`
	TargetMatchers []string          `yaml:"target_matchers"`

	line int
}

// UnmarshalYAML keeps the line.
func (i *amInhibit) UnmarshalYAML(node *yaml.Node) error {
	type plain amInhibit
	i.line = node.Line
	return node.Decode((*plain)(i))
}

// parse makes matchers of them, in the way in which Alertmanager does unless it is
// told otherwise.
func (m matchers) parse() (labels.Matchers, error) {
	var all labels.Matchers
	for name, value := range m.Match {
		one, err := labels.NewMatcher(labels.MatchEqual, name, value)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	for name, value := range m.MatchRE {
		one, err := labels.NewMatcher(labels.MatchRegexp, name, value)
		if err != nil {
			return nil, fmt.Errorf("match_re %s: %w", name, err)
		}
		all = append(all, one)
	}
	parse := compat.FallbackMatchersParser(slog.New(slog.DiscardHandler))
	for _, text := range m.Matchers {
		more, err := parse(text, "doctor")
		if err != nil {
			return nil, fmt.Errorf("matchers %q: %w", text, err)
		}
		all = append(all, more...)
	}
	slices.SortFunc(all, func(a, b *labels.Matcher) int { return strings.Compare(a.String(), b.String()) })
	return all, nil
}

// matchAll reports whether the alert has what they all ask for.
func matchAll(m labels.Matchers, alert map[string]string) bool {
	return !slices.ContainsFunc(m, func(one *labels.Matcher) bool { return !one.Matches(alert[one.Name]) })
}

// A route is a node with everything that it inherits.
type route struct {
	receiver                         string
	groupBy                          []string
	groupWait, groupInterval, repeat time.Duration
	matchers                         labels.Matchers
	cont                             bool
	muted, active                    []string
	parent                           *route
	routes                           []*route
	line                             int
}

// newRoute resolves the tree under a node; nil for the parent of the root.
func newRoute(from *amRoute, parent *route) (*route, error) {
	r := &route{groupWait: defaultGroupWait, groupInterval: defaultGroupInterval, repeat: defaultRepeatInterval}
	if parent != nil {
		*r = route{
			receiver: parent.receiver, groupBy: parent.groupBy,
			groupWait: parent.groupWait, groupInterval: parent.groupInterval, repeat: parent.repeat,
		}
	}
	r.parent, r.line, r.cont, r.muted, r.active = parent, from.line, from.Continue, from.Muted, from.Active
	if from.Receiver != "" {
		r.receiver = from.Receiver
	}
	if from.GroupBy != nil {
		r.groupBy = from.GroupBy
	}
	for _, d := range []struct {
		from *model.Duration
		into *time.Duration
	}{{from.GroupWait, &r.groupWait}, {from.GroupInterval, &r.groupInterval}, {from.RepeatInterval, &r.repeat}} {
		if d.from != nil {
			*d.into = time.Duration(*d.from)
		}
	}
	var err error
	if r.matchers, err = from.Match.parse(); err != nil {
		return nil, fmt.Errorf("line %d: %w", from.line, err)
	}
	for _, child := range from.Routes {
		if child == nil {
			continue
		}
		c, err := newRoute(child, r)
		if err != nil {
			return nil, err
		}
		r.routes = append(r.routes, c)
	}
	return r, nil
}

// match returns the nodes that notify of an alert, in Alertmanager's order: depth
// first, the first child that matches ends the search unless it says continue, and a
// node notifies itself if no child does.
func (r *route) match(alert map[string]string) []*route {
	if !matchAll(r.matchers, alert) {
		return nil
	}
	var all []*route
	for _, child := range r.routes {
		found := child.match(alert)
		all = append(all, found...)
		if found != nil && !child.cont {
			break
		}
	}
	if len(all) == 0 {
		return []*route{r}
	}
	return all
}

// walk visits the node and everything below it.
func (r *route) walk(visit func(*route)) {
	visit(r)
	for _, child := range r.routes {
		child.walk(visit)
	}
}

// path are the matchers that an alert passes on its way to the node.
func (r *route) path() labels.Matchers {
	var all labels.Matchers
	for ; r != nil; r = r.parent {
		all = append(all, r.matchers...)
	}
	return all
}

// name says which node it is.
func (r *route) name() string {
	if r.parent == nil {
		return "the root route"
	}
	if len(r.matchers) == 0 {
		return "a route without matchers to " + r.receiver
	}
	var texts []string
	for _, m := range r.matchers {
		texts = append(texts, m.String())
	}
	return "the route " + strings.Join(texts, ", ")
}
