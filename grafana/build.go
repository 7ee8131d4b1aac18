package grafana

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
)

// object is a JSON object of a dashboard.
type object = map[string]any

// The uids of the dashboards. They are in people's bookmarks and in links, so they
// do not change.
const (
	OverviewUID = "scalehook-overview"
	GroupUID    = "scalehook-group"
)

const (
	columns = 24
	// schema is the version of the dashboard format that is written. A newer Grafana
	// migrates it while it loads.
	schema = 39
)

// board is a dashboard before it is JSON.
type board struct {
	uid, title, description string
	variables               []object
	annotations             []object
	links                   []object
	sections                []section
}

// section is a row with its panels, which are laid out from left to right.
type section struct {
	title  string
	panels []panel
}

// panel is one visualization. kind is Grafana's name for it; unit is that of its
// values, as Grafana names units.
type panel struct {
	kind, title, description, unit string
	width, height                  int
	targets                        []object
	defaults, custom, options      object
	overrides                      []object
	transformations                []object
}

// source is the data source, which everybody chooses.
func source() object { return object{"type": "prometheus", "uid": "${datasource}"} }

// render writes a dashboard, byte for byte the same each time.
func render(b *board) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // of the links' ampersands, which people read too
	err := encoder.Encode(object{
		"uid": b.uid, "title": b.title, "description": b.description, "tags": []string{"scalehook"},
		"schemaVersion": schema, "version": 1, "editable": true, "graphTooltip": 1, "refresh": "15s",
		"time": object{"from": "now-1h", "to": "now"}, "timezone": "browser", "fiscalYearStartMonth": 0,
		"links": b.links, "annotations": object{"list": b.annotations}, "templating": object{"list": b.variables},
		"panels": b.layOut(),
	})
	if err != nil {
		return nil, fmt.Errorf("write the dashboard %s: %w", b.uid, err)
	}
	return text.Bytes(), nil
}

// layOut gives every panel its place. What does not fit beside the panel before it
// begins a new line below the highest of the line.
func (b *board) layOut() []object {
	var out []object
	id, y := 0, 0
	next := func() int { id++; return id }
	for _, s := range b.sections {
		out = append(out, object{
			"id": next(), "type": "row", "title": s.title, "collapsed": false, "panels": []object{},
			"gridPos": object{"x": 0, "y": y, "w": columns, "h": 1},
		})
		y++
		x, height := 0, 0
		for i := range s.panels {
			p := &s.panels[i]
			if x+p.width > columns {
				x, y, height = 0, y+height, 0
			}
			out = append(out, p.json(next(), object{"x": x, "y": y, "w": p.width, "h": p.height}))
			x, height = x+p.width, max(height, p.height)
		}
		y += height
	}
	return out
}

func (p panel) json(id int, place object) object {
	defaults := object{
		"unit": p.unit, "custom": p.custom, "mappings": []object{},
		"color":      object{"mode": "palette-classic"},
		"thresholds": steps(),
	}
	maps.Copy(defaults, p.defaults)
	overrides := p.overrides
	if overrides == nil {
		overrides = []object{}
	}
	targets := make([]object, len(p.targets))
	for i, t := range p.targets {
		targets[i] = object{"refId": string(rune('A' + i)), "datasource": source(), "editorMode": "code"}
		maps.Copy(targets[i], t)
	}
	out := object{
		"id": id, "type": p.kind, "title": p.title, "description": p.description, "datasource": source(), "gridPos": place,
		"targets": targets, "options": p.options,
		"fieldConfig": object{"defaults": defaults, "overrides": overrides},
	}
	if len(p.transformations) > 0 {
		out["transformations"] = p.transformations
	}
	return out
}

// over is a query over the time range; its series are named by the legend.
func over(legend, expr string) object {
	return object{"expr": squeeze(expr), "legendFormat": legend, "format": "time_series", "range": true, "instant": false}
}

// now is a query at the end of the time range.
func now(legend, expr string) object {
	return object{"expr": squeeze(expr), "legendFormat": legend, "format": "time_series", "range": false, "instant": true}
}

// cells is a query for a table, at the end of the time range.
func cells(expr string) object {
	return object{"expr": squeeze(expr), "legendFormat": "__auto", "format": "table", "range": false, "instant": true}
}

// squeeze takes line breaks and indentation out of an expression.
func squeeze(expr string) string { return strings.Join(strings.Fields(expr), " ") }

// steps are thresholds: green, then values and the colours from there on.
func steps(then ...any) object {
	list := []object{{"color": "green", "value": nil}}
	for i := 0; i+1 < len(then); i += 2 {
		list = append(list, object{"value": then[i], "color": then[i+1]})
	}
	return object{"mode": "absolute", "steps": list}
}

// stat is a number, or one for each series.
func stat(title, description, unit string, width int, targets ...object) panel {
	return panel{
		kind: "stat", title: title, description: description, unit: unit, width: width, height: 4, targets: targets,
		defaults: object{"color": object{"mode": "thresholds"}},
		custom:   object{},
		options: object{
			"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto", "textMode": "auto",
			"wideLayout": true, "showPercentChange": false,
			"reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		},
	}
}

// named shows the name beside the number even where there is one only.
func (p panel) named() panel {
	p.options = merged(p.options, object{"textMode": "value_and_name"})
	return p
}

// lines is values over time.
func lines(title, description, unit string, width int, targets ...object) panel {
	return panel{
		kind: "timeseries", title: title, description: description, unit: unit, width: width, height: 8, targets: targets,
		defaults: object{"min": 0},
		custom: object{
			"drawStyle": "line", "lineInterpolation": "linear", "lineWidth": 1, "fillOpacity": 0, "gradientMode": "none",
			"showPoints": "never", "pointSize": 5, "spanNulls": false, "insertNulls": false,
			"axisPlacement": "auto", "axisLabel": "", "axisColorMode": "text", "axisBorderShow": false, "axisCenteredZero": false,
			"barAlignment": 0, "scaleDistribution": object{"type": "linear"},
			"hideFrom":        object{"legend": false, "tooltip": false, "viz": false},
			"stacking":        object{"mode": "none", "group": "A"},
			"thresholdsStyle": object{"mode": "off"},
		},
		options: object{
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
			"tooltip": object{"mode": "multi", "sort": "desc"},
		},
	}
}

// timeline is what holds when, one lane for each series. values tells what a number
// means.
func timeline(title, description string, width int, values object, targets ...object) panel {
	return panel{
		kind: "state-timeline", title: title, description: description, unit: "short", width: width, height: 8, targets: targets,
		defaults: object{"mappings": []object{{"type": "value", "options": values}}},
		custom: object{
			"fillOpacity": 75, "lineWidth": 0,
			"hideFrom": object{"legend": false, "tooltip": false, "viz": false},
		},
		options: object{
			"mergeValues": true, "showValue": "auto", "alignValue": "left", "rowHeight": 0.9,
			"legend":  object{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
			"tooltip": object{"mode": "single", "sort": "none"},
		},
	}
}

// table has a line for each value of a label that all its queries have in common.
func table(title, description string, width int, targets ...object) panel {
	return panel{
		kind: "table", title: title, description: description, unit: "short", width: width, height: 8, targets: targets,
		custom: object{"align": "auto", "cellOptions": object{"type": "auto"}, "inspect": false, "filterable": true},
		options: object{
			"showHeader": true, "cellHeight": "sm", "frameIndex": 0, "sortBy": []object{},
		},
	}
}

// values makes a value mapping out of texts and colours, for the numbers from 0 on.
func values(textsAndColours ...string) object {
	out := object{}
	for i := 0; i+1 < len(textsAndColours); i += 2 {
		out[strconv.Itoa(i/2)] = object{"text": textsAndColours[i], "color": textsAndColours[i+1], "index": i / 2}
	}
	return out
}

// weighed is the greatest number of what holds, by label: the n-th value of the label
// counts as n, from 1 on. selector has a %s for the value.
func weighed(by, selector string, all ...string) string {
	parts := make([]string, len(all))
	for i, v := range all {
		parts[i] = fmt.Sprintf("%s * %d", fmt.Sprintf(selector, v), i+1)
	}
	return "max by (" + by + ") (" + strings.Join(parts, " or ") + ")"
}

// The variables.

func sourceVariable() object {
	return object{
		"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "regex": "",
		"description": "The Prometheus that scrapes scalehook and the exporters and has the rules.",
		"hide":        0, "multi": false, "includeAll": false, "refresh": 1, "options": []object{}, "current": object{"text": "", "value": ""},
	}
}

func labelVariable(name, label, description, series, of string, multi bool) object {
	query := "label_values(" + series + ", " + of + ")"
	v := object{
		"name": name, "label": label, "type": "query", "datasource": source(), "description": description,
		"definition": query, "query": object{"qryType": 1, "query": query, "refId": name},
		"refresh": 2, "sort": 1, "regex": "", "hide": 0, "multi": multi, "includeAll": multi, "options": []object{},
		"current": object{"text": "", "value": ""},
	}
	if multi {
		v["allValue"] = ".*"
		v["current"] = object{"text": []string{"All"}, "value": []string{"$__all"}}
	}
	return v
}

// serverVariables lead to the server's own page: where Prometheus scrapes it, by
// http unless somebody chooses https.
func serverVariables() []object {
	return []object{
		labelVariable("server", "Server", "The scalehook whose page the link at the top opens, as Prometheus scrapes it.", "scalehook_build_info", "instance", false),
		{
			"name": "scheme", "label": "Page by", "type": "custom", "query": "http,https", "description": "How the server's page is reached.",
			"hide": 0, "multi": false, "includeAll": false,
			"options": []object{{"text": "http", "value": "http", "selected": true}, {"text": "https", "value": "https", "selected": false}},
			"current": object{"text": "http", "value": "http"},
		},
	}
}

func link(title, tooltip, icon, url string, keepTime, newTab bool) object {
	return object{
		"title": title, "tooltip": tooltip, "type": "link", "icon": icon, "url": url, "tags": []string{},
		"asDropdown": false, "includeVars": false, "keepTime": keepTime, "targetBlank": newTab,
	}
}

func serverLink() object {
	return link("scalehook's page", "The server's own page: groups, verdicts and what stands in the way", "external link", "${scheme}://${server}/", false, true)
}

// toGroup opens a group where its name is clicked on; from is how Grafana reads it
// from there.
func toGroup(from string) []object {
	return []object{{
		"title": "Open the group", "targetBlank": false,
		"url": "/d/" + GroupUID + "?var-datasource=${datasource}&var-group=" + from + "&${__url_time_range}",
	}}
}

func annotation(name, colour, expr, title, text string) object {
	return object{
		"name": name, "datasource": source(), "enable": true, "hide": false, "iconColor": colour,
		"expr": squeeze(expr), "titleFormat": title, "textFormat": text, "step": "15s", "useValueForTime": false,
	}
}

// moments marks the times, in milliseconds since 1970, that the expression has as
// values. A window would have to be as long as the step, which Grafana makes longer
// the more time is shown, and not every version fills variables in here.
func moments(annotation object) object {
	annotation["useValueForTime"] = true
	return annotation
}

// Adjustments of a panel.

func merged(first, then object) object {
	out := object{}
	maps.Copy(out, first)
	maps.Copy(out, then)
	return out
}

func (p panel) tall(height int) panel { p.height = height; return p }

// like sets entries of the field's defaults.
func (p panel) like(defaults object) panel {
	p.defaults = merged(p.defaults, defaults)
	return p
}

// drawn sets entries of how a field is drawn.
func (p panel) drawn(custom object) panel {
	p.custom = merged(p.custom, custom)
	return p
}

// stepped draws whole numbers that change at once.
func (p panel) stepped() panel {
	return p.drawn(object{"lineInterpolation": "stepAfter"}).like(object{"decimals": 0})
}

// signed shows values below 0 too.
func (p panel) signed() panel {
	p.defaults = merged(p.defaults, nil)
	delete(p.defaults, "min")
	return p
}

// stacked puts the series on top of each other.
func (p panel) stacked() panel {
	return p.drawn(object{"lineInterpolation": "stepAfter", "fillOpacity": 60, "stacking": object{"mode": "normal", "group": "A"}})
}

// bars draws counts.
func (p panel) bars() panel {
	return p.drawn(object{"drawStyle": "bars", "fillOpacity": 80, "stacking": object{"mode": "normal", "group": "A"}}).like(object{"decimals": 0})
}

// dashed draws the series whose names match in a colour, dashed and without points: for
// bounds and thresholds.
func (p panel) dashed(names, colour string) panel {
	p.overrides = append(p.overrides, object{
		"matcher": object{"id": "byRegexp", "options": names},
		"properties": []object{
			{"id": "custom.lineStyle", "value": object{"fill": "dash", "dash": []int{8, 8}}},
			{"id": "custom.fillOpacity", "value": 0},
			{"id": "color", "value": object{"mode": "fixed", "fixedColor": colour}},
		},
	})
	return p
}

// column names a column of a table and says how it is shown.
func (p panel) column(name, unit string, more ...object) panel {
	properties := []object{{"id": "unit", "value": unit}}
	p.overrides = append(p.overrides, object{
		"matcher": object{"id": "byName", "options": name}, "properties": append(properties, more...),
	})
	return p
}
