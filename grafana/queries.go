package grafana

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Query is one question that a dashboard asks Prometheus.
type Query struct {
	// Where names it for people and in lists of exceptions, as in
	// "scalehook-group: panel CPU of the VMs, A". It is unique.
	Where string
	// Expr has Grafana's variables in it. For a variable it is the series whose
	// values of Label are listed.
	Expr  string
	Label string // empty for everything but variables
	// Instant queries are about the end of the time range, others about all of it.
	Instant bool
}

// document is what there is to ask of a dashboard, as its file has it.
type document struct {
	UID        string
	Templating struct {
		List []struct {
			Name, Type, Definition string
		}
	}
	Annotations struct {
		List []struct{ Name, Expr string }
	}
	Panels []struct {
		Title   string
		Targets []struct {
			RefID, Expr string
			Instant     bool
		}
	}
}

var labelValues = regexp.MustCompile(`^label_values\((.+), *([a-z_]+)\)$`)

// Queries returns every question of the committed dashboards: of panels, of
// annotations and of variables.
func Queries() ([]Query, error) {
	files, err := Dashboards()
	if err != nil {
		return nil, err
	}
	var out []Query
	for _, name := range slices.Sorted(maps.Keys(files)) {
		var d document
		if err := json.Unmarshal(files[name], &d); err != nil {
			return nil, fmt.Errorf("read the dashboard %s: %w", name, err)
		}
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			parts := labelValues.FindStringSubmatch(v.Definition)
			if parts == nil {
				return nil, fmt.Errorf("%s: variable %s: %q is no label_values(series, label)", d.UID, v.Name, v.Definition)
			}
			out = append(out, Query{Where: d.UID + ": variable " + v.Name, Expr: parts[1], Label: parts[2]})
		}
		for _, a := range d.Annotations.List {
			out = append(out, Query{Where: d.UID + ": annotation " + a.Name, Expr: a.Expr})
		}
		for _, p := range d.Panels {
			for _, t := range p.Targets {
				out = append(out, Query{Where: d.UID + ": panel " + p.Title + ", " + t.RefID, Expr: t.Expr, Instant: t.Instant})
			}
		}
	}
	return out, nil
}

// Choice is what somebody chose at the top of a dashboard.
type Choice struct {
	Group      string        // a group's name
	Scrape     time.Duration // the data source's scrape interval
	Begin, End time.Time     // the time range
}

// scrapesPerRate is how many scrape intervals Grafana takes for $__rate_interval.
const scrapesPerRate = 4

// Fill returns the query's expression as Grafana sends it to Prometheus. Variables
// with several values have all of them chosen.
func (q Query) Fill(c Choice) (string, error) {
	seconds := func(d time.Duration) string { return fmt.Sprintf("%ds", max(1, int(d.Round(time.Second).Seconds()))) }
	group := c.Group
	if strings.HasPrefix(q.Where, OverviewUID+":") {
		group = ".*"
	}
	filled := strings.NewReplacer(
		"$__rate_interval", seconds(scrapesPerRate*c.Scrape), "$__range", seconds(c.End.Sub(c.Begin)),
		"$group", group, "$instance", ".*",
	).Replace(q.Expr)
	if strings.Contains(filled, "$") {
		return "", fmt.Errorf("%s: a variable is left in %s", q.Where, filled)
	}
	return filled, nil
}
