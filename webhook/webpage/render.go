package webpage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/words"
)

//go:embed templates
var templates embed.FS

var parsed = template.Must(template.New("").Funcs(template.FuncMap{
	"clock":   clock,
	"since":   func(t time.Time) template.HTML { return moment(t, "since") },
	"ago":     func(t time.Time) template.HTML { return moment(t, "ago") },
	"until":   func(t time.Time) template.HTML { return moment(t, "left") },
	"took":    func(from, to time.Time) string { return words.Span(to.Sub(from)) },
	"cause":   words.Cause,
	"reason":  words.Reason,
	"action":  words.Action,
	"human":   human,
	"key":     key,
	"path":    func(group string) string { return "/groups/" + escapePath(group) },
	"tone":    tone,
	"cpu":     instanceCPU,
	"remarks": words.Remarks,
	"subject": words.Subject,
	"pips":    pips,
	"shows":   shows,
	"sorts":   sorts,
	"rows":    func() template.HTML { return template.HTML(placeholder) }, //nolint:gosec // a constant
	"step":    newStepView,
	"row":     func(c card, i api.Instance) instanceRow { return instanceRow{c, i} },
	"act":     func(v view, a api.Activity) activityRow { return activityRow{v, a} },
	"add":     func(a, b int) int { return a + b },
	"chart":   func(c chart, s view) chartView { return chartView{c, s.Now} },
}).ParseFS(templates, "templates/*.html"))

// placeholder stands for the rows while a part is made. Nothing else can hold it:
// what comes from outside is escaped.
const placeholder = "<!--rows-->"

// What rows are made of.
type (
	instanceRow struct {
		Group card
		I     api.Instance
	}
	activityRow struct {
		V view
		A api.Activity
	}
	chartView struct {
		chart

		Now time.Time
	}
)

// part is a piece of a page that is sent again when it changed.
type part struct {
	id, shell string
	rows      []piecedRow
	// frame is the part but for what its rows say.
	frame string
}

type piecedRow struct{ id, html string }

// html is the whole part.
func (p part) html() string {
	if len(p.rows) == 0 {
		return strings.Replace(p.shell, placeholder, "", 1)
	}
	n := 0
	for _, r := range p.rows {
		n += len(r.html)
	}
	var b strings.Builder
	b.Grow(n + len(p.shell))
	before, after, _ := strings.Cut(p.shell, placeholder)
	b.WriteString(before)
	for _, r := range p.rows {
		b.WriteString(r.html)
	}
	b.WriteString(after)
	return b.String()
}

// render writes a whole page.
func (p *Page) render(w io.Writer, name string, v view) error {
	parts, err := p.parts(v)
	if err != nil {
		return err
	}
	made := map[string]template.HTML{}
	for _, part := range parts {
		made[part.id] = template.HTML(part.html()) //nolint:gosec // made by the same templates
	}
	if err := parsed.ExecuteTemplate(w, name, struct {
		view

		Parts map[string]template.HTML
	}{v, made}); err != nil {
		return fmt.Errorf("make the page %s: %w", name, err)
	}
	return nil
}

// parts makes the pieces of a page.
func (p *Page) parts(v view) ([]part, error) {
	var out []part
	var failed error
	exec := func(name string, data any) string {
		var b bytes.Buffer
		if err := parsed.ExecuteTemplate(&b, name, data); err != nil && failed == nil {
			failed = fmt.Errorf("make %s: %w", name, err)
		}
		return b.String()
	}
	add := func(id string, rows ...piecedRow) {
		made := part{id: id, shell: exec("part-"+id, v), rows: rows}
		var frame strings.Builder
		frame.WriteString(made.shell)
		for _, r := range rows {
			frame.WriteString("\x00" + r.id)
		}
		made.frame = frame.String()
		out = append(out, made)
	}
	if v.Failure != "" {
		return nil, nil
	}
	var activities []piecedRow
	for _, a := range v.Activities {
		activities = append(activities, piecedRow{key("a", a.ID), exec("row-activity", activityRow{v, a})})
	}
	if v.Group == nil {
		var rows []piecedRow
		for _, c := range v.Cards {
			rows = append(rows, piecedRow{key("g", c.Name), exec("row-group", c)})
		}
		add("summary")
		add("groups", rows...)
		add("activities", activities...)
		return out, failed
	}
	var instances []piecedRow
	for _, i := range v.G.Instances {
		instances = append(instances, piecedRow{key("i", i.ID), exec("row-instance", instanceRow{*v.Group, i})})
	}
	add("state")
	add("timers")
	add("orders")
	add("charts")
	add("instances", instances...)
	add("explain")
	add("earlier")
	add("activities", activities...)
	add("settings")
	return out, failed
}

// key is an id for what has a name from outside: in HTML an id has no spaces.
func key(kind, name string) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%s-%x", kind, sum[:8])
}

func escapePath(s string) string { return url.PathEscape(s) }

// clock is a time for people who look at the server's clock.
func clock(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// moment writes a time, which the script turns into how long ago it is, or how long
// it is to it.
func moment(t time.Time, form string) template.HTML {
	if t.IsZero() {
		return "–"
	}
	//nolint:gosec // digits, and form is a constant
	return template.HTML(fmt.Sprintf(`<time datetime="%s" data-form="%s">%s</time>`, t.UTC().Format(time.RFC3339Nano), form, clock(t)))
}

// human writes a word of the domain as people read it.
func human(s string) string { return strings.ReplaceAll(s, "_", " ") }

// tone is the class of a direction, an activity or a state.
func tone(s string) string {
	switch s {
	case "Scaling up", "failed", "undone", "degraded", "no_capacity", "down":
		return "red"
	case "Scaling down", "done", "up":
		return "green"
	case "draining", "removing", "at_max", "paused", "Scaling up and down", "Stable, paused", "Let go", "unreachable", "suppressed":
		return "yellow"
	case "Stable", "in_service":
		return "calm"
	}
	return "plain"
}

func instanceCPU(i api.Instance, s api.Settings) cpu {
	if i.Reading == nil {
		return cpuOf(0, false, s)
	}
	return cpuOf(i.Reading.Utilization, true, s)
}

// bars is how many instances are in service, wished for and allowed, as a small
// drawing.
type bars struct {
	Width           string
	Service, Wished string
	Wish            bool
}

func pips(c card) bars {
	top := float64(max(c.Settings.Max, c.Desired, c.InService, 1))
	at := func(n int) string { return unit(60 * float64(n) / top) }
	return bars{"60", at(c.InService), at(c.Desired), c.Desired != c.InService}
}

// stepView is a step of an activity.
type stepView struct {
	api.Step

	Sign, Says, Took string
}

func newStepView(s api.Step) stepView {
	v := stepView{Step: s, Sign: "▸", Says: "running"}
	if !s.Ended.IsZero() {
		v.Sign, v.Says, v.Took = "✓", "done", words.Span(s.Ended.Sub(s.Started))
	}
	return v
}
