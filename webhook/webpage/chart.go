package webpage

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/words"
)

const (
	// window is how far back a chart looks.
	window = points * every
	// chartWidth and chartHeight are the units in which a chart is drawn; it is as
	// wide as there is room.
	chartWidth, chartHeight = 1000, 100
	// rowEvery is the time from one row of a chart's table to the next.
	rowEvery = 5 * time.Minute
)

// chart is a chart as the template draws it.
type chart struct {
	ID, Title, Desc string
	Areas, Lines    []line
	Marks           []mark
	Columns         []string
	Rows            [][]string
	Empty           bool
}

// line is a path with the class that says what it is.
type line struct{ Class, Name, D string }

// mark is a horizontal line with its name.
type mark struct {
	Class, Name string
	Y           string // in the chart's units, and per cent of its height
	Below       bool   // the name stands below the line
}

// spark is a small chart without words but its description.
type spark struct{ Desc, D, Area, High, Low string }

// xy writes a point.
func xy(b *strings.Builder, verb byte, x, y float64) {
	b.WriteByte(verb)
	b.WriteString(strconv.FormatFloat(x, 'f', 1, 64))
	b.WriteByte(' ')
	b.WriteString(strconv.FormatFloat(y, 'f', 1, 64))
}

func unit(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// x is where a time lies in a chart that ends now.
func x(at, now time.Time, width float64) float64 {
	return width * (1 - float64(now.Sub(at))/float64(window))
}

// curve draws the CPU of the samples as a line, broken where there is no reading,
// and the area below it.
func curve(samples []sample, now time.Time, width, height float64) (over, area string) {
	var top, fill strings.Builder
	last, open := 0.0, false
	end := func() {
		if open {
			xy(&fill, 'L', last, height)
			fill.WriteByte('Z')
		}
		open = false
	}
	for _, s := range samples {
		at := x(s.at, now, width)
		if math.IsNaN(s.cpu) || at < 0 {
			end()
			continue
		}
		y := height * (1 - min(max(s.cpu, 0), 1))
		if !open {
			xy(&fill, 'M', at, height)
			xy(&fill, 'L', at, y)
			xy(&top, 'M', at, y)
			xy(&top, 'L', at, y) // a point of its own is seen, too
		} else {
			xy(&top, 'L', at, y)
			xy(&fill, 'L', at, y)
		}
		last, open = at, true
	}
	end()
	return top.String(), fill.String()
}

// stairs draws a number of the samples; each holds until the next.
func stairs(samples []sample, now time.Time, top int, of func(sample) int, closed bool) string {
	var b strings.Builder
	y := func(n int) float64 { return chartHeight * (1 - float64(n)/float64(top)) }
	before, open := 0.0, false
	for _, s := range samples {
		at := x(s.at, now, chartWidth)
		if at < 0 {
			continue
		}
		h := y(of(s))
		switch {
		case open && h != before:
			xy(&b, 'L', at, before)
			xy(&b, 'L', at, h)
		case !open && closed:
			xy(&b, 'M', at, chartHeight)
			xy(&b, 'L', at, h)
		case !open:
			xy(&b, 'M', at, h)
		}
		before, open = h, true
	}
	if !open {
		return ""
	}
	xy(&b, 'L', chartWidth, before)
	if closed {
		xy(&b, 'L', chartWidth, chartHeight)
		b.WriteByte('Z')
	}
	return b.String()
}

// cpuChart is the average CPU against both thresholds.
func cpuChart(g api.Group, samples []sample, now time.Time) chart {
	c := chart{ID: "cpu", Title: "Average CPU", Columns: []string{"Time", "CPU"}}
	over, area := curve(samples, now, chartWidth, chartHeight)
	c.Lines = []line{{"cpu", "average of the instances in service", over}}
	c.Areas = []line{{"cpu", "", area}}
	at := func(v float64) string { return unit(chartHeight * (1 - min(max(v, 0), 1))) }
	c.Marks = []mark{
		{"high", "high " + words.Percent(g.Settings.High), at(g.Settings.High), false},
		{"low", "low " + words.Percent(g.Settings.Low), at(g.Settings.Low), g.Settings.Low > 0.12},
	}
	c.Empty = over == ""
	c.Desc = describe(samples, g.Settings)
	for _, s := range thin(samples) {
		c.Rows = append(c.Rows, []string{s.at.Format(time.TimeOnly), ratio(s.cpu)})
	}
	return c
}

// describe says in words what a chart of the CPU shows.
func describe(samples []sample, s api.Settings) string {
	lowest, highest, first, last := math.Inf(1), math.Inf(-1), math.NaN(), math.NaN()
	var began time.Time
	for _, v := range samples {
		if math.IsNaN(v.cpu) {
			continue
		}
		if math.IsNaN(first) {
			first, began = v.cpu, v.at
		}
		lowest, highest, last = min(lowest, v.cpu), max(highest, v.cpu), v.cpu
	}
	if math.IsNaN(first) {
		return "No reading of the CPU yet."
	}
	return fmt.Sprintf("Average CPU since %s: from %s to %s, lowest %s, highest %s. Thresholds: high %s, low %s.",
		began.Format(time.TimeOnly), words.Percent(first), words.Percent(last), words.Percent(lowest), words.Percent(highest), words.Percent(s.High), words.Percent(s.Low))
}

// sizeChart is how many instances were wished for and in service, within the bounds.
func sizeChart(g api.Group, samples []sample, now time.Time) chart {
	c := chart{ID: "size", Title: "Instances", Columns: []string{"Time", "In service", "Desired", "Min", "Max"}}
	top := 1
	for _, s := range samples {
		top = max(top, s.max, s.desired, s.inService)
	}
	scale := top + max(1, top/6) // room above the highest
	c.Areas = []line{{"service", "", stairs(samples, now, scale, func(s sample) int { return s.inService }, true)}}
	c.Lines = []line{
		{"bound", "min and max", stairs(samples, now, scale, func(s sample) int { return s.max }, false)},
		{"bound", "", stairs(samples, now, scale, func(s sample) int { return s.min }, false)},
		{"service", "in service", stairs(samples, now, scale, func(s sample) int { return s.inService }, false)},
		{"desired", "desired", stairs(samples, now, scale, func(s sample) int { return s.desired }, false)},
	}
	at := func(n int) string { return unit(chartHeight * (1 - float64(n)/float64(scale))) }
	c.Marks = []mark{{"none", fmt.Sprintf("max %d", g.Settings.Max), at(g.Settings.Max), false}}
	if g.Settings.Min != g.Settings.Max {
		c.Marks = append(c.Marks, mark{"none", fmt.Sprintf("min %d", g.Settings.Min), at(g.Settings.Min), false})
	}
	c.Empty = len(samples) == 0
	c.Desc = fmt.Sprintf("%d in service, %d desired, within %d and %d.", g.InService, g.Desired, g.Settings.Min, g.Settings.Max)
	if n := len(samples); n > 1 {
		c.Desc += fmt.Sprintf(" At %s it was %d in service, %d desired.", samples[0].at.Format(time.TimeOnly), samples[0].inService, samples[0].desired)
	}
	for _, s := range thin(samples) {
		c.Rows = append(c.Rows, []string{
			s.at.Format(time.TimeOnly), strconv.Itoa(s.inService), strconv.Itoa(s.desired), strconv.Itoa(s.min), strconv.Itoa(s.max),
		})
	}
	return c
}

// thin returns the newest sample and before it one for each five minutes, newest first.
func thin(samples []sample) []sample {
	var out []sample
	for _, s := range slices.Backward(samples) {
		if n := len(out); n == 0 || out[n-1].at.Sub(s.at) >= rowEvery {
			out = append(out, s)
		}
	}
	return out
}

// ratio is a CPU utilisation for people.
func ratio(v float64) string {
	if math.IsNaN(v) {
		return "no reading"
	}
	return words.Percent(v)
}

const sparkWidth, sparkHeight = 120, 24

// sparkOf is the CPU of the window in few points; of those that fall together the
// highest stands for all.
func sparkOf(s api.Settings, samples []sample, now time.Time) spark {
	const most = 60
	step := window / most
	var few []sample
	for _, v := range samples {
		n := len(few)
		if n == 0 || v.at.Sub(few[n-1].at) >= step || math.IsNaN(v.cpu) != math.IsNaN(few[n-1].cpu) {
			few = append(few, v)
		} else {
			few[n-1].cpu = max(few[n-1].cpu, v.cpu)
		}
	}
	at := func(v float64) string { return unit(sparkHeight * (1 - min(max(v, 0), 1))) }
	over, area := curve(few, now, sparkWidth, sparkHeight)
	return spark{describe(samples, s), over, area, at(s.High), at(s.Low)}
}
